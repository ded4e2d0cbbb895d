//! What clients and nodes say to each other: one JSON object in each message.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a client says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// First.
    Hello(Hello),
    /// A message, numbered from 1 by each client.
    Say { seq: u64, text: String },
}

/// Who it is, and what it has.
#[derive(Debug, Serialize, Deserialize)]
pub struct Hello {
    pub user: String,
    /// A random word that this run of the program has chosen. Numbers belong to it: a user has two
    /// devices, and a program that is started again begins with 1.
    pub client: String,
    /// The last entry that it has; a new one has none, and gets what comes.
    pub since: Option<Position>,
    /// It knows that its messages are stored up to this one. Redis may have forgotten.
    pub stored: u64,
}

impl Hello {
    pub fn is_valid(&self) -> bool {
        let is_word = self.client.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_word && (1..=64).contains(&self.client.len()) && (1..=64).contains(&self.user.len())
    }
}

/// What a node says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tell {
    /// The answer to the hello: which node this is, and after which entry it begins.
    Welcome { node: String, at: Position },
    /// A message of somebody's, in its place.
    Said { at: Position, from: String, client: String, seq: u64, text: String },
    /// Redis has all messages of this client up to this one.
    Stored { seq: u64 },
    /// Who is there, on all nodes.
    Online { users: Vec<String> },
    /// What followed the last entry that this client has may be gone; it goes on after `at`.
    Gap { at: Position },
}

impl Tell {
    pub fn to_json(&self) -> String {
        // strings and numbers always can be written
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A place in the stream: the id of an entry, which Redis gives, and which only grows as long as Redis
/// keeps what it has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64, pub u64);

impl Position {
    /// What the entry with this id comes after.
    pub fn before(self) -> Self {
        match self {
            Self(time, 0) => Self(time.saturating_sub(1), u64::MAX),
            Self(time, count) => Self(time, count - 1),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

impl FromStr for Position {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('-');
        let parsed =
            parts.and_then(|(time, count)| Some((time.parse().ok()?, count.parse().ok()?)));
        let (time, count) = parsed.ok_or_else(|| format!("{text:?} is no place in a stream"))?;
        Ok(Self(time, count))
    }
}

impl Serialize for Position {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_ordered_as_numbers_and_not_as_text() {
        let [nine, ten]: [Position; 2] = ["9-1", "10-0"].map(|text| text.parse().unwrap());
        assert!(nine < ten);
        assert_eq!(ten.to_string(), "10-0");
        for wrong in ["", "1", "a-1", "1-", "-1"] {
            assert!(wrong.parse::<Position>().is_err(), "{wrong:?}");
        }
    }
}

//! What clients and nodes say to each other: one JSON object in each message.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a client says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// First: who it is, and the last entry that it has; a new one has none, and gets what comes.
    Hello { user: String, since: Option<Position> },
    /// A message, numbered from 1 by each user.
    Say { seq: u64, text: String },
}

/// What a node says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tell {
    /// The answer to the hello: which node this is, and after which entry it begins.
    Welcome { node: String, at: Position },
    /// A message of somebody's, in its place.
    Said { at: Position, from: String, seq: u64, text: String },
    /// Redis has all messages of this client up to this one.
    Stored { seq: u64 },
    /// Who is there, on all nodes.
    Online { users: Vec<String> },
    /// The stream begins later than with what this client has: what is between them is gone.
    Gap { first: Position },
}

impl Tell {
    pub fn to_json(&self) -> String {
        // strings and numbers always can be written
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A place in the stream: the id of an entry, which Redis gives, and which only grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64, pub u64);

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

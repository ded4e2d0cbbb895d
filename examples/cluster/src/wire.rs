//! What clients and nodes say to each other: one JSON object in each message.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The largest message of a client's that is taken, in bytes of JSON.
pub const SAY_MOST: usize = 8 * 1024;

/// The largest message of a node's. What a client may say fits into it, with its name and place: who
/// says as much as is allowed ends nobody else's connection.
pub const TELL_MOST: usize = 2 * SAY_MOST;

/// No more users are named in one message; all are counted.
const NAMED: usize = 64;

/// The largest number of a message: those above it are not all different in Lua, nor in JavaScript.
const SEQ_MOST: u64 = (1 << 53) - 1;

/// What a client says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// First.
    Hello(Hello),
    /// A message, numbered from 1 by each client.
    Say { seq: u64, text: String },
}

/// Whether a message can have this number.
pub fn is_seq(seq: u64) -> bool {
    (1..=SEQ_MOST).contains(&seq)
}

/// Who it is, and what it has.
#[derive(Debug, Serialize, Deserialize)]
pub struct Hello {
    pub user: String,
    /// A random word that this run of the program has chosen, and that only it knows. Numbers belong
    /// to it: a user has two devices, and a program that is started again begins with 1.
    pub secret: String,
    /// The last entry that it has; a new one has none, and gets what comes.
    pub since: Option<Position>,
    /// It knows that its messages are stored up to this one. Redis may have forgotten.
    pub stored: u64,
}

impl Hello {
    pub fn is_valid(&self) -> bool {
        let is_word = self.secret.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let is_name = !self.user.chars().any(char::is_control);
        is_word
            && is_name
            && (16..=64).contains(&self.secret.len())
            && (1..=64).contains(&self.user.len())
            && self.stored <= SEQ_MOST
    }
}

/// What a node says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tell {
    /// The answer to the hello: which node this is, after which entry it begins, and what the client
    /// is called in its messages.
    Welcome { node: String, at: Position, client: String },
    /// A message of somebody's, in its place.
    Said { at: Position, from: String, client: String, seq: u64, text: String },
    /// Redis has all messages of this client up to this one.
    Stored { seq: u64 },
    /// How many are there, on all nodes, and who the first of them are.
    Online { count: usize, users: Vec<String> },
    /// What followed the last entry that this client has may be gone; it goes on after `at`.
    Gap { at: Position },
}

impl Tell {
    pub fn online(users: &[String]) -> Self {
        let named = users.iter().take(NAMED).cloned();
        Self::Online { count: users.len(), users: named.collect() }
    }

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

    fn hello(user: &str, secret: &str, stored: u64) -> Hello {
        Hello { user: user.into(), secret: secret.into(), since: None, stored }
    }

    #[test]
    fn whatever_a_client_may_say_can_be_told() {
        let secret = "0123456789abcdef";
        // what JSON makes most of: two bytes for one
        let user = "\"".repeat(64);
        assert!(hello(&user, secret, 0).is_valid());
        let empty = serde_json::to_string(&Ask::Say { seq: 1, text: String::new() }).unwrap();
        for text in ["\"", "\u{1}", "x", "é"] {
            let each = serde_json::to_string(text).unwrap().len() - 2;
            let text = text.repeat((SAY_MOST - empty.len()) / each);
            let at = Position(u64::MAX, u64::MAX);
            let (from, client) = (user.clone(), "0".repeat(40));
            let said = Tell::Said { at, from, client, seq: SEQ_MOST, text };
            assert!(said.to_json().len() <= TELL_MOST);
        }
        let users = vec![user; 10_000];
        assert!(Tell::online(&users).to_json().len() <= TELL_MOST);
    }

    #[test]
    fn numbers_have_a_range_and_words_are_long() {
        let secret = "0123456789abcdef";
        assert!(hello("ann", secret, SEQ_MOST).is_valid() && is_seq(SEQ_MOST));
        assert!(!hello("ann", secret, 1 << 53).is_valid());
        assert!(!is_seq(1 << 53) && !is_seq(0));
        assert!(!hello("ann", "short", 0).is_valid());
        assert!(!hello("an\u{1}n", secret, 0).is_valid());
    }

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

//! What travels: messages and the frame that ends them.

mod close;
mod convert;
mod iter;
#[cfg(feature = "serde")]
mod json;
mod memory;
mod payload;
mod received;

use std::fmt;

use bytes::Bytes;

pub use close::{CloseCode, CloseFrame};
pub use iter::Iter;
pub(crate) use iter::Receive;
pub(crate) use memory::{Maker, Pool};
pub use payload::{Payload, Text};
pub use received::MessageRef;

/// One message of the application, whole: never a fragment, never a control frame.
///
/// A payload of up to 40 bytes lies in the message itself; a longer one is reference-counted, so
/// cloning a message does not copy it.
///
/// ```
/// use everlink::Message;
///
/// let hello = Message::from("hello");
/// assert_eq!(hello.as_text(), Some("hello"));
/// assert_eq!(hello.len(), 5);
/// assert_eq!(Message::from(vec![1, 2, 3]).as_text(), None);
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Message {
    /// UTF-8 text (RFC 6455 section 5.6).
    Text(Text),
    /// Arbitrary bytes.
    Binary(Payload),
}

impl Message {
    /// The length of the payload in bytes.
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether the payload is empty; an empty message is legal and is delivered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether this is a text message.
    pub fn is_text(&self) -> bool {
        matches!(self, Self::Text(_))
    }

    /// The payload of either kind.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// The text of a text message; `None` for a binary one, even if it happens to be UTF-8.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    /// The payload of either kind; a long one is not copied.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Text(text) => text.into(),
            Self::Binary(bytes) => bytes.into(),
        }
    }

    /// The payload as one allocation that others can share; a short one is copied.
    pub(crate) fn to_shared(&self) -> Bytes {
        match self {
            Self::Text(text) => text.to_shared(),
            Self::Binary(bytes) => bytes.to_shared(),
        }
    }

    /// The number of the link on which the message was received, counted from 1 over the life of
    /// the client; `None` for a message that was not received. A program that watches sequence
    /// numbers starts anew where this changes. Messages that differ in nothing else are equal.
    ///
    /// [`Event::Connected`](crate::Event::Connected) carries the same number.
    pub fn link(&self) -> Option<u32> {
        let link = match self {
            Self::Text(text) => text.link(),
            Self::Binary(bytes) => bytes.link(),
        };
        (link > 0).then_some(link)
    }

    /// Marks the message as received on this link.
    pub(crate) fn on_link(mut self, link: u32) -> Self {
        match &mut self {
            Self::Text(text) => text.set_link(link),
            Self::Binary(bytes) => bytes.set_link(link),
        }
        self
    }
}

/// Shows the kind, the length and the first few bytes: payloads can be large, and logs should
/// not carry them whole.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(self.as_text(), self.as_bytes(), f)
    }
}

/// The start of a message, for `Debug`.
fn show(text: Option<&str>, bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const SHOWN: usize = 32;
    match text {
        Some(text) if text.len() <= SHOWN => write!(f, "Text({text:?})"),
        Some(text) => {
            let start: String = text.chars().take(SHOWN).collect();
            write!(f, "Text({} bytes: {start:?}...)", text.len())
        }
        None if bytes.len() <= SHOWN => write!(f, "Binary(b\"{}\")", bytes.escape_ascii()),
        None => {
            let start = bytes[..SHOWN].escape_ascii();
            write!(f, "Binary({} bytes: b\"{start}\"...)", bytes.len())
        }
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<Text> for Message {
    fn from(text: Text) -> Self {
        Self::Text(text)
    }
}

impl From<&[u8]> for Message {
    fn from(bytes: &[u8]) -> Self {
        Self::Binary(bytes.into())
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes.into())
    }
}

impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes.into())
    }
}

impl From<Payload> for Message {
    fn from(bytes: Payload) -> Self {
        Self::Binary(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_fits_into_a_cache_line() {
        assert!(size_of::<Message>() <= 64, "{}", size_of::<Message>());
    }

    #[test]
    fn short_and_long_payloads_are_alike() {
        for length in [0, 1, 39, 40, 41, 1000] {
            let text = "x".repeat(length);
            let message = Message::from(text.as_str());
            assert_eq!(message.as_text(), Some(text.as_str()));
            assert_eq!(message, Message::from(text.clone()));
            assert_eq!(message.clone().into_bytes(), text.as_bytes());
            let binary = Message::from(text.as_bytes());
            assert_eq!((binary.len(), binary.as_text()), (length, None));
            assert_eq!(binary.clone(), Message::from(Bytes::from(text.into_bytes())));
            assert_ne!(binary, message);
        }
    }

    #[test]
    fn a_received_message_knows_its_link_and_equals_one_that_was_not() {
        let message = Message::from("tick");
        assert_eq!(message.link(), None);
        let received = message.clone().on_link(7);
        assert_eq!(received.link(), Some(7));
        assert_eq!(received, message);
    }

    #[test]
    fn debug_shows_the_start_only() {
        assert_eq!(format!("{:?}", Message::from("a\n")), r#"Text("a\n")"#);
        assert_eq!(format!("{:?}", Message::from(&b"\0a"[..])), r#"Binary(b"\x00a")"#);
        let long = format!("{:?}", Message::from("ä".repeat(100)));
        assert!(long.starts_with("Text(200 bytes: \"ää") && long.len() < 100, "{long}");
    }
}

//! What travels: messages and the frame that ends them.

mod block;
mod close;
mod iter;
mod memory;
mod payload;
mod readable;
mod received;

use std::borrow::Cow;

use bytes::Bytes;

pub use close::{CloseCode, CloseFrame};
pub use iter::Iter;
pub(crate) use iter::Receive;
pub(crate) use memory::{Maker, Pool};
pub(crate) use payload::INLINE;
pub use payload::{Payload, Text};
use readable::readable;
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
    #[inline(always)]
    pub(crate) fn empty(is_text: bool) -> Self {
        if is_text { Self::Text(Text::default()) } else { Self::Binary(Payload::default()) }
    }

    /// One that is empty gets this payload, as text or as bytes, which is no longer than [`INLINE`].
    #[inline(always)]
    pub(crate) fn fill(&mut self, text: Option<&str>, bytes: &[u8], link: u32) {
        match self {
            Self::Text(payload) => payload.fill(text.unwrap_or_default(), link),
            Self::Binary(payload) => payload.fill(bytes, link),
        }
    }

    /// A text message that holds this value as JSON.
    ///
    /// ```
    /// use everlink::Message;
    /// use serde::Serialize;
    ///
    /// #[derive(Serialize)]
    /// struct Subscribe<'a> {
    ///     op: &'a str,
    ///     symbols: &'a [&'a str],
    /// }
    ///
    /// let message = Message::from_json(&Subscribe { op: "subscribe", symbols: &["BTC-EUR"] })?;
    /// assert_eq!(message, r#"{"op":"subscribe","symbols":["BTC-EUR"]}"#);
    /// // what was put together by hand needs no `?`
    /// let message = Message::from(serde_json::json!({ "op": "ping" }));
    /// assert_eq!(message, r#"{"op":"ping"}"#);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`serde_json::to_string`]: the value refuses, or is a map whose keys are no strings.
    #[cfg(feature = "serde")]
    pub fn from_json<T: serde::Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::to_string(value).map(Into::into)
    }

    /// The length of the payload in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.length(),
            Self::Binary(bytes) => bytes.len(),
        }
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

    /// Takes off the first character, which has to be ASCII; a long payload is not copied.
    fn skip_kind(&mut self) {
        match self {
            Self::Text(text) => text.skip_kind(),
            Self::Binary(bytes) => bytes.skip_kind(),
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

impl From<&String> for Message {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<Cow<'_, str>> for Message {
    fn from(text: Cow<'_, str>) -> Self {
        match text {
            Cow::Borrowed(text) => text.into(),
            Cow::Owned(text) => text.into(),
        }
    }
}

impl From<Cow<'_, [u8]>> for Message {
    fn from(bytes: Cow<'_, [u8]>) -> Self {
        match bytes {
            Cow::Borrowed(bytes) => bytes.into(),
            Cow::Owned(bytes) => bytes.into(),
        }
    }
}

impl From<&Vec<u8>> for Message {
    fn from(bytes: &Vec<u8>) -> Self {
        bytes.as_slice().into()
    }
}

impl<const N: usize> From<[u8; N]> for Message {
    fn from(bytes: [u8; N]) -> Self {
        bytes[..].into()
    }
}

impl<const N: usize> From<&[u8; N]> for Message {
    fn from(bytes: &[u8; N]) -> Self {
        bytes[..].into()
    }
}

/// The text of a text message; a binary one comes back.
impl TryFrom<Message> for String {
    type Error = Message;

    fn try_from(message: Message) -> Result<Self, Message> {
        match message {
            Message::Text(text) => Ok(text.into()),
            binary @ Message::Binary(_) => Err(binary),
        }
    }
}

/// A text message that holds this as JSON.
#[cfg(feature = "serde")]
impl From<serde_json::Value> for Message {
    fn from(value: serde_json::Value) -> Self {
        (&value).into()
    }
}

/// A text message that holds this as JSON.
#[cfg(feature = "serde")]
impl From<&serde_json::Value> for Message {
    fn from(value: &serde_json::Value) -> Self {
        value.to_string().into()
    }
}

readable!(Message);

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

    #[test]
    fn messages_are_made_from_what_programs_have() {
        let owned = "text".to_owned();
        for message in [
            Message::from(&owned),
            Message::from(Cow::Borrowed("text")),
            Message::from(Cow::<str>::Owned(owned.clone())),
        ] {
            assert_eq!(message, "text");
            assert_eq!(message.to_string(), "text");
            assert_eq!(String::try_from(message).unwrap(), "text");
        }
        let bytes = vec![1, 2, 3];
        for message in [
            Message::from([1, 2, 3]),
            Message::from(&[1, 2, 3]),
            Message::from(&bytes),
            Message::from(Cow::Borrowed(&bytes[..])),
        ] {
            assert_eq!(message.as_ref(), [1, 2, 3]);
            assert_eq!(message.to_string(), "3 bytes");
            assert_eq!(String::try_from(message.clone()).unwrap_err(), message);
        }
    }
}

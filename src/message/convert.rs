//! What messages are made from, and made into.

use std::borrow::Cow;
use std::fmt;

use super::{Message, MessageRef};

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

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl AsRef<[u8]> for MessageRef<'_> {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// A text message that consists of this.
impl PartialEq<str> for Message {
    fn eq(&self, text: &str) -> bool {
        self.as_text() == Some(text)
    }
}

impl PartialEq<&str> for Message {
    fn eq(&self, text: &&str) -> bool {
        self.as_text() == Some(*text)
    }
}

/// A text message that consists of this.
impl PartialEq<str> for MessageRef<'_> {
    fn eq(&self, text: &str) -> bool {
        self.as_text() == Some(text)
    }
}

impl PartialEq<&str> for MessageRef<'_> {
    fn eq(&self, text: &&str) -> bool {
        self.as_text() == Some(*text)
    }
}

/// The whole text as it is, whatever it holds; of a binary message how long it is.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        display(self.as_text(), self.len(), f)
    }
}

/// As that of [`Message`].
impl fmt::Display for MessageRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        display(self.as_text(), self.len(), f)
    }
}

fn display(text: Option<&str>, length: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match text {
        Some(text) => f.pad(text),
        None => write!(f, "{length} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

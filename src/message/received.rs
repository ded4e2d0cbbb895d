//! A message in the hands of a handler.

use super::Message;
use super::readable::readable;

/// A received message that is lent to a handler: a short one still lies where it was read, so
/// looking at it costs no allocation.
///
/// [`into_owned`](Self::into_owned) makes a [`Message`] of it; a message that came in several
/// pieces is one already, and is not copied then.
pub struct MessageRef<'a> {
    link: u32,
    payload: Lent<'a>,
}

enum Lent<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
    /// Boxed, so that the others stay small: they are handed on from function to function.
    Whole(Box<Message>),
}

impl<'a> MessageRef<'a> {
    pub(crate) fn text(text: &'a str) -> Self {
        Self { link: 0, payload: Lent::Text(text) }
    }

    pub(crate) fn binary(bytes: &'a [u8]) -> Self {
        Self { link: 0, payload: Lent::Binary(bytes) }
    }

    pub(crate) fn whole(message: Message) -> Self {
        Self { link: 0, payload: Lent::Whole(Box::new(message)) }
    }

    /// Marks the message as received on this link.
    pub(crate) fn on_link(mut self, link: u32) -> Self {
        self.link = link;
        self
    }

    /// Takes off the first character, which says the kind of a message; `None` if there is none,
    /// or it is not ASCII. What is left of a long payload is not copied.
    #[inline]
    pub(crate) fn split_kind(mut self) -> Option<(u8, Self)> {
        let kind = self.as_bytes().first().copied().filter(u8::is_ascii)?;
        match &mut self.payload {
            Lent::Text(text) => *text = text.get(1..)?,
            Lent::Binary(bytes) => *bytes = bytes.get(1..)?,
            Lent::Whole(message) => message.skip_kind(),
        }
        Some((kind, self))
    }

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
        self.as_text().is_some()
    }

    /// The payload of either kind.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.payload {
            Lent::Text(text) => text.as_bytes(),
            Lent::Binary(bytes) => bytes,
            Lent::Whole(message) => message.as_bytes(),
        }
    }

    /// The text of a text message; `None` for a binary one, even if it happens to be UTF-8.
    pub fn as_text(&self) -> Option<&str> {
        match &self.payload {
            Lent::Text(text) => Some(text),
            Lent::Binary(_) => None,
            Lent::Whole(message) => message.as_text(),
        }
    }

    /// The payload, if it is binary and still where it was read.
    pub(super) fn lent_binary(&self) -> Option<&[u8]> {
        if let Lent::Binary(bytes) = self.payload { Some(bytes) } else { None }
    }

    /// The number of the link on which it was received, as [`Message::link`] says.
    pub fn link(&self) -> Option<u32> {
        (self.link > 0).then_some(self.link)
    }

    /// The message itself, to keep or to send.
    #[inline]
    pub fn into_owned(self) -> Message {
        let message = match self.payload {
            Lent::Text(text) => Message::from(text),
            Lent::Binary(bytes) => Message::from(bytes),
            Lent::Whole(message) => *message,
        };
        message.on_link(self.link)
    }
}

impl From<MessageRef<'_>> for Message {
    fn from(message: MessageRef<'_>) -> Self {
        message.into_owned()
    }
}

readable!(MessageRef<'_>);

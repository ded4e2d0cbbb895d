//! Where the first packet ends.

use super::head_lines;
use crate::message::Message;
use crate::policy::{CodecError, Content, Decode, Framing, FramingKind, LengthField, Packet};
use crate::sync::{caught, drop_theirs};

/// What finds packets whose length shows before all of them has come.
pub(super) enum Splitter {
    Fixed(usize),
    Length(LengthField),
    HeadLines,
    Codec(Box<dyn Decode>),
}

/// A packet that begins: how much goes before the message, how long that is, and what comes after it.
pub(super) struct Found {
    pub(super) head: usize,
    pub(super) length: u64,
    pub(super) tail: usize,
    pub(super) is_text: bool,
    pub(super) what: What,
}

/// What of a packet is received.
pub(super) enum What {
    Payload,
    Nothing,
    Instead(Box<Message>),
}

/// What bytes are that are no packet.
pub(super) enum Wrong {
    TooLarge(String),
    Broken(String),
}

impl From<String> for Wrong {
    fn from(reason: String) -> Self {
        Self::Broken(reason)
    }
}

impl From<&str> for Wrong {
    fn from(reason: &str) -> Self {
        Self::Broken(reason.into())
    }
}

impl Splitter {
    /// `None` if it is something else that ends packets.
    pub(super) fn new(framing: &Framing, codec: Option<Box<dyn Decode>>) -> Option<Self> {
        Some(match (&framing.kind, codec) {
            (_, Some(codec)) => Self::Codec(codec),
            (FramingKind::Fixed(length), None) => Self::Fixed(*length),
            (FramingKind::Length(field), None) => Self::Length(*field),
            (FramingKind::ContentLength, None) => Self::HeadLines,
            _ => return None,
        })
    }

    /// The packet with which these bytes begin, if that shows.
    ///
    /// # Errors
    ///
    /// In words: they are no packet, or one over the limit.
    pub(super) fn first(&mut self, bytes: &[u8], limit: usize) -> Result<Option<Found>, Wrong> {
        let found = match self {
            Self::Fixed(length) => Some((0, *length as u64)),
            Self::Length(field) => field.first(bytes)?,
            Self::HeadLines => head_lines::parse(bytes)?,
            Self::Codec(codec) => return ask(&mut **codec, bytes, limit),
        };
        let Some((head, length)) = found else { return Ok(None) };
        within(length, limit)?;
        Ok(Some(Found { head, length, tail: 0, is_text: false, what: What::Payload }))
    }
}

impl Drop for Splitter {
    fn drop(&mut self) {
        if let Self::Codec(codec) = self {
            let none = |_: &[u8]| Ok::<_, CodecError>(None);
            drop_theirs("codec", std::mem::replace(codec, Box::new(none)));
        }
    }
}

fn ask(codec: &mut dyn Decode, bytes: &[u8], limit: usize) -> Result<Option<Found>, Wrong> {
    // the same however much of it has come
    let too_long =
        || Wrong::TooLarge(format!("the codec finds no packet within the limit of {limit} bytes"));
    // an error is the program's, too
    let packet = caught(|| codec.decode(bytes).map_err(|error| error.to_string()))
        .map_err(|message| format!("the codec panicked: {message}"))??;
    let Some(Packet { length, content, is_text }) = packet else {
        return if bytes.len() > limit { Err(too_long()) } else { Ok(None) };
    };
    if length > limit {
        return Err(too_long());
    }
    let (range, what) = match content {
        _ if length == 0 => return Err("the codec has found a packet of no bytes".into()),
        Content::Payload(range) => (range, What::Payload),
        Content::Nothing => (length..length, What::Nothing),
        Content::Message(_) if length > bytes.len() => {
            return Err("the codec makes a message of more than there is".into());
        }
        Content::Message(message) => {
            within(message.len() as u64, limit)?;
            (length..length, What::Instead(message))
        }
    };
    if range.start > range.end || range.end > length {
        return Err("the codec has found a message outside of its packet".into());
    }
    let (head, tail) = (range.start, length - range.end);
    Ok(Some(Found { head, length: range.len() as u64, tail, is_text, what }))
}

fn within(length: u64, limit: usize) -> Result<(), Wrong> {
    if length > limit as u64 {
        return Err(Wrong::TooLarge(format!(
            "a message of {length} bytes is announced, over the limit of {limit} bytes"
        )));
    }
    Ok(())
}

//! From messages to bytes.

use crate::message::Message;
use crate::policy::{Framing, FramingKind, LengthPrefix};
use crate::wire::output::{Output, SHARED_FROM};

/// The writing side of a framed stream.
#[derive(Debug)]
pub(crate) struct Encoder {
    kind: FramingKind,
}

impl Encoder {
    pub(crate) fn new(framing: Framing) -> Self {
        Self { kind: framing.kind }
    }

    pub(crate) fn is_raw(&self) -> bool {
        self.kind == FramingKind::Raw
    }

    /// Encodes a message that fits the framing, as [`Framing::check`] says, behind its kind.
    pub(crate) fn message(&mut self, message: &Message, kind: Option<u8>, out: &mut Output) {
        let payload = message.as_bytes();
        if let FramingKind::Length(prefix) = self.kind {
            encode_length(prefix, payload.len() + usize::from(kind.is_some()), out);
        }
        if let Some(kind) = kind {
            out.append(&[kind]);
        }
        if payload.len() >= SHARED_FROM {
            out.append_shared(message.to_shared());
        } else {
            out.append(payload);
        }
        if self.kind == FramingKind::Lines {
            out.append(b"\n");
        }
    }
}

fn encode_length(prefix: LengthPrefix, length: usize, out: &mut Output) {
    let length = length as u64 + if prefix.inclusive { prefix.size as u64 } else { 0 };
    if prefix.little_endian {
        out.append(&length.to_le_bytes()[..prefix.size]);
    } else {
        out.append(&length.to_be_bytes()[8 - prefix.size..]);
    }
}

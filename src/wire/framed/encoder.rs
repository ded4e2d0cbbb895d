//! From messages to bytes.

use std::io::{self, Write};

use crate::message::Message;
use crate::policy::{Framing, FramingKind as Kind, LengthPrefix};

/// How much is encoded before it is written to the socket.
const WRITE_BUFFER: usize = 64 * 1024;

/// The writing side of a framed stream.
#[derive(Debug)]
pub(crate) struct Encoder {
    kind: Kind,
    buffer: Vec<u8>,
    /// Bytes encoded so far, whether they have reached the stream or not.
    encoded: u64,
}

impl Encoder {
    pub(crate) fn new(framing: Framing) -> Self {
        Self { kind: framing.kind, buffer: Vec::new(), encoded: 0 }
    }

    pub(crate) fn encoded(&self) -> u64 {
        self.encoded
    }

    pub(crate) fn message(&mut self, message: &Message, stream: &mut dyn Write) -> io::Result<()> {
        let (payload, before) = (message.as_bytes(), self.buffer.len());
        if let Kind::Length(prefix) = self.kind {
            prefix.encode(payload.len(), &mut self.buffer);
        }
        self.buffer.extend_from_slice(payload);
        if self.kind == Kind::Lines {
            self.buffer.push(b'\n');
        }
        self.encoded += (self.buffer.len() - before) as u64;
        // a raw message has nothing but its write to set it off from the next
        if self.kind == Kind::Raw || self.buffer.len() >= WRITE_BUFFER {
            return self.flush(stream);
        }
        Ok(())
    }

    pub(crate) fn flush(&mut self, stream: &mut dyn Write) -> io::Result<()> {
        stream.write_all(&self.buffer)?;
        self.buffer.clear();
        self.buffer.shrink_to(2 * WRITE_BUFFER);
        stream.flush()
    }
}

impl LengthPrefix {
    /// The caller has checked that the length fits.
    fn encode(self, length: usize, buffer: &mut Vec<u8>) {
        let length = length as u64 + if self.inclusive { self.size as u64 } else { 0 };
        if self.little_endian {
            buffer.extend_from_slice(&length.to_le_bytes()[..self.size]);
        } else {
            buffer.extend_from_slice(&length.to_be_bytes()[8 - self.size..]);
        }
    }
}

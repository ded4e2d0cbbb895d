//! From bytes to messages.

use std::io;

use crate::failure::Failure;
use crate::message::{CloseCode, MessageRef};
use crate::policy::{Framing, FramingKind, LengthPrefix, MaxSizes};
use crate::transport::ReadBuffer;
use crate::wire::assembly::{Refused, Unfinished};

/// The reading side of a framed stream. A message that lies whole in the buffer is lent from
/// there; everything else is gathered.
#[derive(Debug)]
pub(crate) struct Decoder {
    framing: Framing,
    limit: usize,
    unfinished: Unfinished,
    /// How much of it is still to come, where that is known.
    left: usize,
}

impl Decoder {
    pub(crate) fn new(framing: Framing, limits: MaxSizes) -> Self {
        let limit = framing.max_received().min(limits.message);
        Self { framing, limit, unfinished: Unfinished::new(), left: 0 }
    }

    /// As [`Decoder::set_limits`](crate::wire::Decoder::set_limits).
    pub(crate) fn set_limits(&mut self, limits: MaxSizes) {
        self.limit = self.framing.max_received().min(limits.message);
    }

    pub(crate) fn unfinished(&mut self) -> &mut Unfinished {
        &mut self.unfinished
    }

    pub(crate) fn is_inside_message(&self) -> bool {
        self.unfinished.is_begun()
    }

    /// As [`Decoder::decode`](crate::wire::Decoder::decode).
    pub(crate) fn decode<'a>(
        &mut self,
        buffer: &'a mut ReadBuffer,
    ) -> Result<Option<MessageRef<'a>>, Failure> {
        if buffer.unread().is_empty() {
            return Ok(None);
        }
        match self.framing.kind {
            FramingKind::Raw => Ok(Some(MessageRef::binary(buffer.take_up_to(self.limit)))),
            FramingKind::Lines => self.decode_line(buffer),
            FramingKind::Length(prefix) => self.decode_prefixed(prefix, buffer),
        }
    }

    fn decode_prefixed<'a>(
        &mut self,
        prefix: LengthPrefix,
        buffer: &'a mut ReadBuffer,
    ) -> Result<Option<MessageRef<'a>>, Failure> {
        if !self.unfinished.is_begun() {
            let unread = buffer.unread();
            let Some(announced) = length(prefix, unread)? else { return Ok(None) };
            let length = usize::try_from(announced).ok().filter(|length| *length <= self.limit);
            let Some(length) = length else {
                let limit = self.limit;
                return Err(self.too_large(format!(
                    "a message of {announced} bytes is announced, over the limit of {limit} bytes"
                )));
            };
            let is_whole = unread.len() - prefix.size >= length;
            buffer.take(prefix.size);
            if is_whole {
                return Ok(Some(MessageRef::binary(buffer.take(length))));
            }
            self.unfinished.begin_binary(length);
            self.left = length;
        }
        let piece = buffer.take_up_to(self.left);
        self.left -= piece.len();
        self.unfinished.push(piece, self.left).map_err(refused)?;
        if self.left > 0 { Ok(None) } else { self.whole() }
    }

    fn decode_line<'a>(
        &mut self,
        buffer: &'a mut ReadBuffer,
    ) -> Result<Option<MessageRef<'a>>, Failure> {
        let unread = buffer.unread();
        let end = unread.iter().position(|byte| *byte == b'\n');
        let length = end.unwrap_or(unread.len());
        self.check_length(&unread[..length])?;
        if end.is_none() || self.unfinished.is_begun() {
            if !self.unfinished.is_begun() {
                self.unfinished.begin_line();
            }
            self.unfinished.push(buffer.take(length), 0).map_err(refused)?;
            if end.is_none() {
                return Ok(None);
            }
            buffer.take(1);
            return self.whole();
        }
        let line = &*buffer.take(length + 1);
        let line = &line[..length];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        Ok(Some(match std::str::from_utf8(line) {
            Ok(text) => MessageRef::text(text),
            Err(_) => MessageRef::binary(line),
        }))
    }

    /// What has come of a line, and then this piece. One byte more than the limit may be a carriage
    /// return that belongs to the line feed.
    fn check_length(&self, piece: &[u8]) -> Result<(), Failure> {
        let before = self.unfinished.len();
        let fits = self.limit.saturating_sub(before);
        if piece.len() <= fits || (before <= self.limit && piece[fits..] == *b"\r") {
            return Ok(());
        }
        Err(self.too_large(format!("a line is over the limit of {} bytes", self.limit)))
    }

    fn too_large(&self, reason: String) -> Failure {
        match self.framing.has_kinds() {
            true => Failure::Protocol { code: CloseCode::MESSAGE_TOO_BIG, reason },
            false => violation(reason),
        }
    }

    fn whole<'a>(&mut self) -> Result<Option<MessageRef<'a>>, Failure> {
        Ok(self.unfinished.finish().map_err(refused)?.map(MessageRef::whole))
    }
}

/// The length of the payload, or `None` if the prefix is not complete.
fn length(prefix: LengthPrefix, bytes: &[u8]) -> Result<Option<u64>, Failure> {
    let Some(bytes) = bytes.get(..prefix.size) else { return Ok(None) };
    let shift = |length: u64, byte: &u8| length << 8 | u64::from(*byte);
    let length = if prefix.little_endian {
        bytes.iter().rev().fold(0, shift)
    } else {
        bytes.iter().fold(0, shift)
    };
    if !prefix.inclusive {
        return Ok(Some(length));
    }
    match length.checked_sub(prefix.size as u64) {
        Some(length) => Ok(Some(length)),
        None => Err(violation(format!("a length of {length} does not even hold itself"))),
    }
}

/// A violation of the framing: there is no close code that the peer could be told.
fn violation(reason: String) -> Failure {
    Failure::Framing { reason }
}

/// Why a piece was not taken, without the close codes that it has on a WebSocket.
fn refused(why: Refused) -> Failure {
    match why {
        Refused::NoMemory => {
            let reason = "no memory for a message of this size";
            Failure::Io(io::Error::new(io::ErrorKind::OutOfMemory, reason))
        }
        Refused::NotUtf8 => violation("text that is not UTF-8".into()),
    }
}

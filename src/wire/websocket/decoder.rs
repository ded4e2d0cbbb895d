//! From bytes to messages.

use std::io::Cursor;
use std::sync::Arc;

use tungstenite::protocol::Role;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::mask::Mask;
use crate::failure::Failure;
use crate::message::{CloseCode, CloseFrame, Message, MessageRef, Pool};
use crate::policy::Limits;
use crate::transport::ReadBuffer;
use crate::wire::assembly::{Assembly, NotUtf8};
use crate::wire::{Item, too_big, violation};

/// The longest payload of a control frame (RFC 6455 section 5.5).
const MAX_CONTROL: usize = 125;

/// The reading side of a WebSocket.
///
/// A message whose only frame lies whole in the buffer is lent from there. Everything else is
/// gathered: what is left in the buffer is never more than the start of a header or of a control
/// frame.
#[derive(Debug)]
pub(crate) struct Decoder {
    role: Role,
    limits: Limits,
    /// The lesser of the limits.
    short_limit: usize,
    pool: Arc<Pool>,
    /// The message whose pieces are coming.
    message: Option<Assembly>,
    /// The data frame whose payload is coming.
    frame: Option<Frame>,
}

/// What is known of a data frame whose payload is coming.
#[derive(Debug)]
struct Frame {
    left: usize,
    mask: Option<Mask>,
    is_last: bool,
}

impl Decoder {
    pub(crate) fn new(role: Role, limits: Limits) -> Self {
        let short_limit = limits.message.min(limits.frame);
        Self { role, limits, short_limit, pool: Pool::new(), message: None, frame: None }
    }

    pub(crate) fn pool(&self) -> Arc<Pool> {
        Arc::clone(&self.pool)
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.message.as_ref().map_or(0, Assembly::capacity)
    }

    /// The next message, if that is one frame of less than 126 bytes, as it should be, and all of
    /// it is there: what most traffic is made of. Small enough to be part of the reader's loop.
    #[inline(always)]
    pub(crate) fn short_message(&self, buffer: &ReadBuffer) -> Option<ShortMessage> {
        const TEXT: u8 = 0x81;
        const BINARY: u8 = 0x82;
        let [first, second, rest @ ..] = buffer.unread() else { return None };
        let (mask_bit, key_length) = if self.role == Role::Server { (0x80, 4) } else { (0, 0) };
        let length = usize::from(second ^ mask_bit);
        let is_known = matches!(*first, TEXT | BINARY) && length < 126 && self.message.is_none();
        if !is_known || length > self.short_limit || rest.len() < key_length + length {
            return None;
        }
        let key = if key_length > 0 { rest.first_chunk().copied() } else { None };
        Some(ShortMessage { is_text: *first == TEXT, head: 2 + key_length, key, length })
    }

    /// As [`Decoder::decode`](crate::wire::Decoder::decode).
    pub(crate) fn decode<'a>(
        &'a mut self,
        buffer: &'a mut ReadBuffer,
    ) -> Result<Option<Item<'a>>, Failure> {
        loop {
            if self.frame.is_some() {
                match self.gather(buffer)? {
                    Gathered::Part => return Ok(None),
                    Gathered::Frame => continue,
                    Gathered::Message(message) => {
                        return Ok(Some(Item::Message(MessageRef::whole(message))));
                    }
                }
            }
            let unread = buffer.unread();
            let mut cursor = Cursor::new(unread);
            let (header, announced) = match FrameHeader::parse(&mut cursor) {
                Ok(Some(parsed)) => parsed,
                Ok(None) => return Ok(None),
                Err(error) => return Err(protocol(error.to_string())),
            };
            let (size, arrived) = (cursor.position() as usize, unread.len());
            self.check(&header, announced, size)?;
            let length = usize::try_from(announced).unwrap_or(usize::MAX);
            let is_whole = arrived - size >= length;
            let opcode = match header.opcode {
                OpCode::Control(opcode) => {
                    if !is_whole {
                        return Ok(None);
                    }
                    buffer.take(size);
                    let payload = buffer.take(length);
                    unmask(header.mask, payload);
                    return control(opcode, payload).map(Some);
                }
                OpCode::Data(opcode) => opcode,
            };
            self.begin(opcode, length)?;
            buffer.take(size);
            if header.is_final && is_whole && self.message.is_none() {
                let payload = buffer.take(length);
                unmask(header.mask, payload);
                return message(opcode == Data::Text, payload).map(Some);
            }
            self.message.get_or_insert_with(|| match opcode {
                Data::Text => Assembly::text(),
                _ => Assembly::binary(self.pool.buffer(length)),
            });
            let mask = header.mask.map(Mask::new);
            self.frame = Some(Frame { left: length, mask, is_last: header.is_final });
        }
    }

    /// What holds for every frame (RFC 6455 sections 5.1, 5.2 and 5.5).
    #[inline]
    fn check(&self, header: &FrameHeader, announced: u64, size: usize) -> Result<(), Failure> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(protocol("a reserved bit is set, and no extension was agreed on"));
        }
        if header.mask.is_some() != (self.role == Role::Server) {
            let wrong = match self.role {
                Role::Server => "a client has to mask its frames",
                Role::Client => "a server must not mask its frames",
            };
            return Err(protocol(wrong));
        }
        if size != header.len(announced) {
            return Err(protocol("the length of a frame is not written in the shortest way"));
        }
        if matches!(header.opcode, OpCode::Control(_)) {
            if !header.is_final {
                return Err(protocol("a fragmented control frame"));
            }
            if announced > MAX_CONTROL as u64 {
                return Err(protocol(format!("a control frame of {announced} bytes")));
            }
        }
        Ok(())
    }

    /// Whether this data frame may come now, and is not too long, which its header decides.
    #[inline]
    fn begin(&self, opcode: Data, length: usize) -> Result<(), Failure> {
        let gathered = match (&self.message, opcode) {
            (None, Data::Text | Data::Binary) => 0,
            (Some(message), Data::Continue) => message.len(),
            (None, _) => return Err(protocol("a continuation of nothing")),
            (Some(_), _) => return Err(protocol("a message inside a message")),
        };
        if length > self.limits.frame {
            return Err(too_big(format_args!("a frame of {length} bytes is"), self.limits.frame));
        }
        let total = gathered.saturating_add(length);
        if total > self.limits.message {
            return Err(too_big(
                format_args!("a message of {total} bytes is"),
                self.limits.message,
            ));
        }
        Ok(())
    }

    /// Goes on with a frame whose payload comes in pieces.
    fn gather(&mut self, buffer: &mut ReadBuffer) -> Result<Gathered, Failure> {
        let (Some(frame), Some(message)) = (&mut self.frame, &mut self.message) else {
            self.frame = None;
            return Ok(Gathered::Frame);
        };
        let piece = buffer.take_up_to(frame.left);
        if let Some(mask) = &mut frame.mask {
            mask.apply(piece);
        }
        frame.left -= piece.len();
        message.push(piece, frame.left)?;
        if frame.left > 0 {
            return Ok(Gathered::Part);
        }
        let is_last = frame.is_last;
        self.frame = None;
        match self.message.take_if(|_| is_last) {
            None => Ok(Gathered::Frame),
            Some(message) => Ok(Gathered::Message(message.finish(&self.pool)?)),
        }
    }
}

/// A message that lies whole in the buffer.
pub(crate) struct ShortMessage {
    is_text: bool,
    head: usize,
    key: Option<[u8; 4]>,
    length: usize,
}

impl ShortMessage {
    #[inline(always)]
    pub(crate) fn take(self, buffer: &mut ReadBuffer) -> Result<Item<'_>, Failure> {
        buffer.take(self.head);
        let payload = buffer.take(self.length);
        unmask(self.key, payload);
        message(self.is_text, payload)
    }
}

#[inline(always)]
fn message(is_text: bool, payload: &[u8]) -> Result<Item<'_>, Failure> {
    if !is_text {
        return Ok(Item::Message(MessageRef::binary(payload)));
    }
    match std::str::from_utf8(payload) {
        Ok(text) => Ok(Item::Message(MessageRef::text(text))),
        Err(_) => Err(NotUtf8.into()),
    }
}

/// How far a message in pieces has come.
enum Gathered {
    /// More bytes have to come.
    Part,
    /// A frame is whole, and another follows.
    Frame,
    Message(Message),
}

#[inline]
fn unmask(key: Option<[u8; 4]>, payload: &mut [u8]) {
    if let Some(key) = key {
        Mask::new(key).apply(payload);
    }
}

fn control(opcode: Control, payload: &[u8]) -> Result<Item<'_>, Failure> {
    match opcode {
        Control::Ping => Ok(Item::Ping(payload)),
        Control::Pong => Ok(Item::Pong(payload)),
        Control::Close => close(payload).map(Item::Close),
        // never: reading the header refuses them
        Control::Reserved(opcode) => Err(protocol(format!("the reserved opcode {opcode}"))),
    }
}

/// The body of a close frame (RFC 6455 section 5.5.1), with its code as it came.
fn close(payload: &[u8]) -> Result<Option<CloseFrame>, Failure> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [_] => return Err(protocol("a close frame of one byte")),
        [high, low, reason @ ..] => (CloseCode(u16::from_be_bytes([*high, *low])), reason),
    };
    if !code.is_sendable() {
        return Err(protocol(format!("close code {code} in a close frame")));
    }
    let reason = std::str::from_utf8(reason).map_err(|_| NotUtf8)?;
    Ok(Some(CloseFrame::new(code, reason)))
}

fn protocol(reason: impl Into<String>) -> Failure {
    violation(CloseCode::PROTOCOL_ERROR, reason)
}

impl From<NotUtf8> for Failure {
    fn from(_: NotUtf8) -> Self {
        violation(CloseCode::INVALID_PAYLOAD, "text that is not UTF-8")
    }
}

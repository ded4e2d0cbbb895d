//! From bytes to messages.

use std::io::Cursor;

use tungstenite::protocol::Role;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::deflate::Inflater;
use super::mask::Mask;
use crate::failure::Failure;
use crate::message::{CloseCode, CloseFrame, Message, MessageRef};
use crate::policy::{AgreedCompression, MaxSizes};
use crate::transport::ReadBuffer;
use crate::wire::assembly::{Refused, Unfinished};
use crate::wire::item::Item;
use crate::wire::violations::{protocol, refused, too_big};

/// The longest payload of a control frame.
const MAX_CONTROL: usize = 125;

/// A binary frame of so many bytes that is not compressed is read to where its message has them.
const LONG: usize = 32 * 1024;

/// The reading side of a WebSocket.
///
/// A message whose only frame lies whole in the buffer is lent from there. Everything else is
/// gathered: what is left in the buffer is never more than the start of a header or of a control
/// frame.
#[derive(Debug)]
pub(crate) struct Decoder {
    role: Role,
    limits: MaxSizes,
    /// The lesser of the limits.
    short_limit: usize,
    unfinished: Unfinished,
    /// The data frame whose payload is coming.
    frame: Option<Frame>,
    /// There if compression was agreed on.
    inflater: Option<Box<Inflater>>,
    /// Whether the message whose pieces are coming is compressed.
    is_compressed: bool,
}

/// What is known of a data frame whose payload is coming.
#[derive(Debug)]
struct Frame {
    left: usize,
    is_long: bool,
    mask: Option<Mask>,
    is_last: bool,
}

impl Decoder {
    pub(crate) fn new(role: Role, limits: MaxSizes) -> Self {
        Self {
            role,
            limits,
            short_limit: limits.message.min(limits.frame),
            unfinished: Unfinished::new(),
            frame: None,
            inflater: None,
            is_compressed: false,
        }
    }

    /// As [`Decoder::set_limits`](crate::wire::Decoder::set_limits).
    pub(crate) fn set_limits(&mut self, limits: MaxSizes) {
        self.limits = limits;
        self.short_limit = limits.message.min(limits.frame);
    }

    pub(crate) fn unfinished(&mut self) -> &mut Unfinished {
        &mut self.unfinished
    }

    /// Messages may come compressed.
    pub(crate) fn compressed(&mut self, agreed: AgreedCompression) {
        self.inflater = Inflater::new(agreed).map(Box::new);
    }

    /// Whether it holds on to memory that an idle link should give back.
    pub(crate) fn is_large(&self) -> bool {
        self.inflater.as_ref().is_some_and(|inflater| inflater.is_large())
    }

    /// The link is idle.
    pub(crate) fn relax(&mut self) {
        if let Some(inflater) = &mut self.inflater {
            inflater.relax();
        }
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.unfinished.capacity()
    }

    /// The next message, if that is one frame of less than 64 KiB, as it should be, and all of
    /// it is there: what most traffic is made of. Small enough to be part of the reader's loop.
    #[inline(always)]
    pub(crate) fn short_message(&self, buffer: &ReadBuffer) -> Option<ShortMessage> {
        const TEXT: u8 = 0x81;
        const BINARY: u8 = 0x82;
        let [first, second, rest @ ..] = buffer.unread() else { return None };
        let (mask_bit, key_length) = if self.role == Role::Server { (0x80, 4) } else { (0, 0) };
        let (mut head, mut length, mut rest) =
            (2 + key_length, usize::from(second ^ mask_bit), rest);
        let is_known =
            matches!(*first, TEXT | BINARY) && length <= 126 && !self.unfinished.is_begun();
        if length == 126 {
            let (long, behind) = rest.split_first_chunk()?;
            (head, length, rest) = (head + 2, usize::from(u16::from_be_bytes(*long)), behind);
            if length < 126 {
                return None;
            }
        }
        if !is_known || length > self.short_limit || rest.len() < key_length + length {
            return None;
        }
        let key = if key_length > 0 { rest.first_chunk().copied() } else { None };
        Some(ShortMessage { is_text: *first == TEXT, head, key, length })
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
            self.begin(opcode, length, header.rsv1)?;
            buffer.take(size);
            if header.is_final && is_whole && !self.unfinished.is_begun() {
                let payload = buffer.take(length);
                unmask(header.mask, payload);
                if header.rsv1 {
                    return self.inflate(opcode == Data::Text, payload).map(Some);
                }
                return message(opcode == Data::Text, payload).map(Some);
            }
            if !self.unfinished.is_begun() {
                self.is_compressed = header.rsv1;
                match opcode {
                    Data::Text => self.unfinished.begin_text(),
                    _ => self.unfinished.begin_binary(length),
                }
            }
            let mask = header.mask.map(Mask::new);
            let (is_long, is_last) = (length >= LONG, header.is_final);
            self.frame = Some(Frame { left: length, is_long, mask, is_last });
        }
    }

    /// What holds for every frame (RFC 6455 sections 5.1, 5.2 and 5.5).
    #[inline]
    fn check(&self, header: &FrameHeader, announced: u64, size: usize) -> Result<(), Failure> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            self.check_reserved(header)?;
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
        if announced >> 63 != 0 {
            return Err(protocol("the length of a frame has its highest bit set"));
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

    /// Where one reserved bit has a meaning (RFC 7692 section 6).
    fn check_reserved(&self, header: &FrameHeader) -> Result<(), Failure> {
        if self.inflater.is_none() || header.rsv2 || header.rsv3 {
            return Err(protocol("a reserved bit is set, and no extension was agreed on"));
        }
        match header.opcode {
            OpCode::Data(Data::Text | Data::Binary) => Ok(()),
            OpCode::Data(_) => Err(protocol("only the first frame of a message says compressed")),
            OpCode::Control(_) => Err(protocol("a compressed control frame")),
        }
    }

    /// Whether this data frame may come now, and is not too long, which its header decides.
    #[inline]
    fn begin(&self, opcode: Data, length: usize, is_compressed: bool) -> Result<(), Failure> {
        match (self.unfinished.is_begun(), opcode) {
            (false, Data::Text | Data::Binary) | (true, Data::Continue) => {}
            (false, _) => return Err(protocol("a continuation of nothing")),
            (true, _) => return Err(protocol("a message inside a message")),
        }
        if length > self.limits.frame {
            return Err(too_big(format_args!("a frame of {length} bytes is"), self.limits.frame));
        }
        if is_compressed || (self.is_compressed && self.unfinished.is_begun()) {
            // what comes of it is what counts, and is counted while it is inflated
            return Ok(());
        }
        let total = self.unfinished.len().saturating_add(length);
        if total > self.limits.message {
            return Err(too_big(
                format_args!("a message of {total} bytes is"),
                self.limits.message,
            ));
        }
        Ok(())
    }

    /// Inflates a message that has come in one frame.
    fn inflate(&mut self, is_text: bool, payload: &[u8]) -> Result<Item<'_>, Failure> {
        let Some(inflater) = &mut self.inflater else {
            // never: its header was refused
            return Err(protocol("a compressed message, and no extension was agreed on"));
        };
        let (limit, unfinished) = (self.limits.message, &mut self.unfinished);
        let mut spill = |inflated: &[u8]| {
            if !unfinished.is_begun() {
                if is_text { unfinished.begin_text() } else { unfinished.begin_binary(0) }
            }
            push_inflated(unfinished, inflated)
        };
        inflater.inflate(payload, limit, &mut spill)?;
        inflater.finish(limit, &mut spill)?;
        let held = inflater.take_held();
        if self.unfinished.is_begun() {
            push_inflated(&mut self.unfinished, held)?;
        }
        match self.unfinished.finish().map_err(refused)? {
            Some(whole) => Ok(Item::Message(MessageRef::whole(whole))),
            None => message(is_text, held),
        }
    }

    /// Where the next bytes may be read to: the payload of a long frame.
    pub(crate) fn space(&mut self) -> Option<&mut [u8]> {
        let frame = self.frame.as_ref().filter(|frame| frame.is_long)?;
        if self.is_compressed { None } else { self.unfinished.space(frame.left) }
    }

    /// So many have come there.
    pub(crate) fn filled(&mut self, count: usize) {
        let Some(frame) = &mut self.frame else { return };
        let piece = self.unfinished.filled(count);
        if let Some(mask) = &mut frame.mask {
            mask.apply(piece);
        }
        frame.left -= count;
    }

    /// Goes on with a frame whose payload comes in pieces.
    fn gather(&mut self, buffer: &mut ReadBuffer) -> Result<Gathered, Failure> {
        let Some(frame) = &mut self.frame else { return Ok(Gathered::Frame) };
        let piece = buffer.take_up_to(frame.left);
        if let Some(mask) = &mut frame.mask {
            mask.apply(piece);
        }
        frame.left -= piece.len();
        let (is_whole, is_last) = (frame.left == 0, frame.is_last);
        match &mut self.inflater {
            Some(inflater) if self.is_compressed => {
                let limit = self.limits.message;
                let mut push = |inflated: &[u8]| push_inflated(&mut self.unfinished, inflated);
                inflater.inflate(piece, limit, &mut push)?;
                if is_whole && is_last {
                    inflater.finish(limit, &mut push)?;
                }
                push(inflater.take_held())?;
            }
            _ => self.unfinished.push(piece, frame.left).map_err(refused)?,
        }
        if !is_whole {
            return Ok(Gathered::Part);
        }
        self.frame = None;
        let whole = if is_last { self.unfinished.finish().map_err(refused)? } else { None };
        Ok(whole.map_or(Gathered::Frame, Gathered::Message))
    }
}

/// How much will come is not known: as much again, as far as memory is concerned.
fn push_inflated(message: &mut Unfinished, inflated: &[u8]) -> Result<(), Failure> {
    message.push(inflated, message.len()).map_err(refused)
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
    match simdutf8::basic::from_utf8(payload) {
        Ok(text) => Ok(Item::Message(MessageRef::text(text))),
        Err(_) => Err(refused(Refused::NotUtf8)),
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

/// The item that a control frame is.
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
    let reason = std::str::from_utf8(reason).map_err(|_| refused(Refused::NotUtf8))?;
    Ok(Some(CloseFrame::new(code, reason)))
}

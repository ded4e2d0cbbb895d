//! From messages to bytes.

use bytes::Bytes;
use tungstenite::protocol::Role;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::deflate::Deflater;
use super::deflated_once::DeflatedOnce;
use super::mask::Mask;
use crate::message::{CloseFrame, Message};
use crate::policy::{AgreedCompression, Compression};
use crate::wire::output::{Output, SHARED_FROM};

/// The writing side of a WebSocket. A client masks what it sends with keys that cannot be
/// foreseen (RFC 6455 section 5.3).
#[derive(Debug)]
pub(crate) struct Encoder {
    role: Role,
    /// There if compression was agreed on.
    deflater: Option<Box<Deflater>>,
}

/// What a frame is that does not carry a message alone.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fragment {
    /// With the kind of the message, unless that is compressed with it.
    First {
        is_text: bool,
        is_compressed: bool,
        kind: Option<u8>,
    },
    Next,
}

fn opcode_of(message: &Message) -> Data {
    if message.is_text() { Data::Text } else { Data::Binary }
}

impl Encoder {
    pub(crate) fn new(role: Role) -> Self {
        Self { role, deflater: None }
    }

    /// Messages may go compressed.
    pub(crate) fn compressed(&mut self, agreed: AgreedCompression, compression: Compression) {
        self.deflater = Deflater::new(agreed, compression).map(Box::new);
    }

    /// Compresses a message and its kind, for [`Encoder::fragment`]: it has to be the next that is
    /// encoded. `None` if it is to go as it is.
    pub(crate) fn deflate(&mut self, message: &Message, kind: Option<u8>) -> Option<Vec<u8>> {
        self.deflater.as_mut()?.deflate(message, kind)
    }

    /// The same for a message that goes to many.
    pub(crate) fn deflate_once(
        &mut self,
        message: &Message,
        kind: Option<u8>,
        once: &DeflatedOnce,
    ) -> Option<Bytes> {
        self.deflater.as_mut()?.deflate_once(message, kind, once)
    }

    /// Encodes a message that goes to many as one frame, behind its kind.
    pub(crate) fn message_once(
        &mut self,
        message: &Message,
        kind: Option<u8>,
        once: &DeflatedOnce,
        out: &mut Output,
    ) {
        if self.deflater.as_ref().is_none_or(|deflater| deflater.has_context()) {
            return self.message(message, kind, out);
        }
        let Some(payload) = self.deflate_once(message, kind, once) else {
            return self.plain(message, kind, out);
        };
        let opcode = OpCode::Data(opcode_of(message));
        if self.role == Role::Server && payload.len() >= SHARED_FROM {
            self.header(opcode, true, true, None, payload.len(), out);
            return out.append_shared(payload);
        }
        self.frame(opcode, true, true, None, &payload, out);
    }

    /// Encodes a message as one frame, behind its kind.
    pub(crate) fn message(&mut self, message: &Message, kind: Option<u8>, out: &mut Output) {
        match self.deflate(message, kind) {
            Some(deflated) => self.deflated(opcode_of(message), deflated, out),
            None => self.plain(message, kind, out),
        }
    }

    /// Encodes a message as one frame, behind its kind, uncompressed.
    pub(crate) fn plain(&mut self, message: &Message, kind: Option<u8>, out: &mut Output) {
        let opcode = OpCode::Data(opcode_of(message));
        let payload = message.as_bytes();
        if self.role == Role::Server && payload.len() >= SHARED_FROM {
            self.header(opcode, true, false, kind, payload.len(), out);
            return out.append_shared(message.to_shared());
        }
        self.frame(opcode, true, false, kind, payload, out);
    }

    fn deflated(&mut self, opcode: Data, mut payload: Vec<u8>, out: &mut Output) {
        if payload.len() < SHARED_FROM {
            self.frame(OpCode::Data(opcode), true, true, None, &payload, out);
            if let Some(deflater) = &mut self.deflater {
                deflater.put_back(payload);
            }
            return;
        }
        let mask = self.header(OpCode::Data(opcode), true, true, None, payload.len(), out);
        if let Some(mut mask) = mask {
            mask.apply(&mut payload);
        }
        out.append_shared(payload.into());
    }

    /// Encodes part of a message as a fragment (RFC 6455 section 5.4).
    pub(crate) fn fragment(
        &mut self,
        payload: &[u8],
        fragment: Fragment,
        is_last: bool,
        out: &mut Output,
    ) {
        let (opcode, is_compressed, kind) = match fragment {
            Fragment::First { is_text, is_compressed, kind } => {
                (if is_text { Data::Text } else { Data::Binary }, is_compressed, kind)
            }
            Fragment::Next => (Data::Continue, false, None),
        };
        self.frame(OpCode::Data(opcode), is_last, is_compressed, kind, payload, out);
    }

    pub(crate) fn is_large(&self) -> bool {
        self.deflater.as_ref().is_some_and(|deflater| deflater.is_large())
    }

    /// The link is idle.
    pub(crate) fn relax(&mut self) {
        if let Some(deflater) = &mut self.deflater {
            deflater.relax();
        }
    }

    pub(crate) fn ping(&mut self, payload: &[u8], out: &mut Output) {
        self.frame(OpCode::Control(Control::Ping), true, false, None, payload, out);
    }

    pub(crate) fn pong(&mut self, payload: &[u8], out: &mut Output) {
        self.frame(OpCode::Control(Control::Pong), true, false, None, payload, out);
    }

    /// Encodes a close frame; nothing may be encoded after it.
    pub(crate) fn close(&mut self, frame: Option<&CloseFrame>, out: &mut Output) {
        let mut body = Vec::new();
        if let Some(frame) = frame {
            body.extend_from_slice(&frame.code.0.to_be_bytes());
            body.extend_from_slice(frame.reason.as_bytes());
        }
        self.frame(OpCode::Control(Control::Close), true, false, None, &body, out);
    }

    fn frame(
        &mut self,
        opcode: OpCode,
        is_final: bool,
        is_compressed: bool,
        kind: Option<u8>,
        payload: &[u8],
        out: &mut Output,
    ) {
        match self.header(opcode, is_final, is_compressed, kind, payload.len(), out) {
            None => out.append(payload),
            Some(mut mask) => out.append_changed(payload, |copy| mask.apply(copy)),
        }
    }

    /// Encodes the header of a frame, and the kind with which its payload begins. So many bytes have
    /// to follow, under the mask that is returned.
    fn header(
        &mut self,
        opcode: OpCode,
        is_final: bool,
        rsv1: bool,
        kind: Option<u8>,
        length: usize,
        out: &mut Output,
    ) -> Option<Mask> {
        let key = (self.role == Role::Client).then(rand::random);
        let header = FrameHeader { is_final, rsv1, opcode, mask: key, ..FrameHeader::default() };
        let length = length as u64 + u64::from(kind.is_some());
        // they have room for the longest header and the kind, so this cannot fail
        let (mut bytes, mut size) = ([0; 15], header.len(length));
        let _ = header.format(length, &mut &mut bytes[..]);
        let mut mask = key.map(Mask::new);
        if let Some(kind) = kind {
            bytes[size] = kind;
            if let Some(mask) = &mut mask {
                mask.apply(&mut bytes[size..=size]);
            }
            size += 1;
        }
        out.append(&bytes[..size]);
        mask
    }
}

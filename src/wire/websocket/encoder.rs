//! From messages to bytes.

use tungstenite::protocol::Role;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::deflate::Deflater;
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
    First { is_text: bool, is_compressed: bool },
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

    /// Compresses a message, for [`Encoder::fragment`]: it has to be the next that is encoded.
    /// `None` if it is to go as it is.
    pub(crate) fn deflate(&mut self, message: &Message) -> Option<Vec<u8>> {
        self.deflater.as_mut()?.deflate(message)
    }

    /// Encodes a message as one frame.
    pub(crate) fn message(&mut self, message: &Message, out: &mut Output) {
        match self.deflate(message) {
            Some(deflated) => self.deflated(opcode_of(message), deflated, out),
            None => self.plain(message, out),
        }
    }

    /// Encodes a message as one frame, as it is.
    pub(crate) fn plain(&mut self, message: &Message, out: &mut Output) {
        let opcode = opcode_of(message);
        let payload = message.as_bytes();
        if self.role == Role::Server && payload.len() >= SHARED_FROM {
            self.header(OpCode::Data(opcode), true, false, payload.len(), None, out);
            return out.append_shared(message.to_shared());
        }
        self.frame(OpCode::Data(opcode), true, false, payload, out);
    }

    fn deflated(&mut self, opcode: Data, mut payload: Vec<u8>, out: &mut Output) {
        if payload.len() < SHARED_FROM {
            self.frame(OpCode::Data(opcode), true, true, &payload, out);
            if let Some(deflater) = &mut self.deflater {
                deflater.put_back(payload);
            }
            return;
        }
        let key = self.key();
        self.header(OpCode::Data(opcode), true, true, payload.len(), key, out);
        if let Some(key) = key {
            Mask::new(key).apply(&mut payload);
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
        let (opcode, is_compressed) = match fragment {
            Fragment::First { is_text: true, is_compressed } => (Data::Text, is_compressed),
            Fragment::First { is_text: false, is_compressed } => (Data::Binary, is_compressed),
            Fragment::Next => (Data::Continue, false),
        };
        self.frame(OpCode::Data(opcode), is_last, is_compressed, payload, out);
    }

    /// The link is idle.
    pub(crate) fn relax(&mut self) {
        if let Some(deflater) = &mut self.deflater {
            deflater.relax();
        }
    }

    pub(crate) fn ping(&mut self, payload: &[u8], out: &mut Output) {
        self.frame(OpCode::Control(Control::Ping), true, false, payload, out);
    }

    pub(crate) fn pong(&mut self, payload: &[u8], out: &mut Output) {
        self.frame(OpCode::Control(Control::Pong), true, false, payload, out);
    }

    /// Encodes a close frame; nothing may be encoded after it.
    pub(crate) fn close(&mut self, frame: Option<&CloseFrame>, out: &mut Output) {
        let mut body = Vec::new();
        if let Some(frame) = frame {
            body.extend_from_slice(&frame.code.0.to_be_bytes());
            body.extend_from_slice(frame.reason.as_bytes());
        }
        self.frame(OpCode::Control(Control::Close), true, false, &body, out);
    }

    fn key(&self) -> Option<[u8; 4]> {
        (self.role == Role::Client).then(rand::random)
    }

    fn frame(
        &mut self,
        opcode: OpCode,
        is_final: bool,
        is_compressed: bool,
        payload: &[u8],
        out: &mut Output,
    ) {
        let key = self.key();
        self.header(opcode, is_final, is_compressed, payload.len(), key, out);
        match key {
            None => out.append(payload),
            Some(key) => out.append_changed(payload, |copy| Mask::new(key).apply(copy)),
        }
    }

    fn header(
        &mut self,
        opcode: OpCode,
        is_final: bool,
        rsv1: bool,
        length: usize,
        mask: Option<[u8; 4]>,
        out: &mut Output,
    ) {
        let header = FrameHeader { is_final, rsv1, opcode, mask, ..FrameHeader::default() };
        let (mut bytes, length) = ([0; 14], length as u64);
        // it has room for the longest header, so this cannot fail
        let _ = header.format(length, &mut &mut bytes[..]);
        out.append(&bytes[..header.len(length)]);
    }
}

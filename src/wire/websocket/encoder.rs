//! From messages to bytes.

use tungstenite::protocol::Role;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::mask::Mask;
use crate::message::{CloseFrame, Message};
use crate::wire::Output;
use crate::wire::output::SHARED_FROM;

/// The writing side of a WebSocket. A client masks what it sends with keys that cannot be
/// foreseen (RFC 6455 section 5.3).
#[derive(Debug)]
pub(crate) struct Encoder {
    role: Role,
}

impl Encoder {
    pub(crate) fn new(role: Role) -> Self {
        Self { role }
    }

    /// Encodes a message as one frame.
    pub(crate) fn message(&mut self, message: &Message, out: &mut Output) {
        let opcode = if message.is_text() { Data::Text } else { Data::Binary };
        let payload = message.as_bytes();
        if self.role == Role::Server && payload.len() >= SHARED_FROM {
            self.header(OpCode::Data(opcode), true, payload.len(), None, out);
            return out.append_shared(message.to_shared());
        }
        self.frame(OpCode::Data(opcode), true, payload, out);
    }

    /// Encodes part of a message as a fragment (RFC 6455 section 5.4).
    pub(crate) fn fragment(
        &mut self,
        payload: &[u8],
        is_text: bool,
        is_first: bool,
        is_last: bool,
        out: &mut Output,
    ) {
        let opcode = match (is_first, is_text) {
            (false, _) => Data::Continue,
            (true, true) => Data::Text,
            (true, false) => Data::Binary,
        };
        self.frame(OpCode::Data(opcode), is_last, payload, out);
    }

    pub(crate) fn ping(&mut self, payload: &[u8], out: &mut Output) {
        self.frame(OpCode::Control(Control::Ping), true, payload, out);
    }

    pub(crate) fn pong(&mut self, payload: &[u8], out: &mut Output) {
        self.frame(OpCode::Control(Control::Pong), true, payload, out);
    }

    /// Encodes a close frame; nothing may be encoded after it.
    pub(crate) fn close(&mut self, frame: Option<&CloseFrame>, out: &mut Output) {
        let mut body = Vec::new();
        if let Some(frame) = frame {
            body.extend_from_slice(&frame.code.0.to_be_bytes());
            body.extend_from_slice(frame.reason.as_bytes());
        }
        self.frame(OpCode::Control(Control::Close), true, &body, out);
    }

    fn frame(&mut self, opcode: OpCode, is_final: bool, payload: &[u8], out: &mut Output) {
        let key: Option<[u8; 4]> = (self.role == Role::Client).then(rand::random);
        self.header(opcode, is_final, payload.len(), key, out);
        match key {
            None => out.append(payload),
            Some(key) => out.append_changed(payload, |copy| Mask::new(key).apply(copy)),
        }
    }

    fn header(
        &mut self,
        opcode: OpCode,
        is_final: bool,
        length: usize,
        mask: Option<[u8; 4]>,
        out: &mut Output,
    ) {
        let header = FrameHeader { is_final, opcode, mask, ..FrameHeader::default() };
        let (mut bytes, length) = ([0; 14], length as u64);
        // it has room for the longest header, so this cannot fail
        let _ = header.format(length, &mut &mut bytes[..]);
        out.append(&bytes[..header.len(length)]);
    }
}

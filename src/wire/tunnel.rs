//! Packets in the binary messages of a WebSocket, which may hold part of one, one, or many.

use super::framed::{self, UNCOUNTED, Unencoded, refused};
use super::item::Item;
use super::output::Output;
use super::violations::violation;
use super::websocket;
use crate::failure::Failure;
use crate::message::{CloseCode, Message};
use crate::transport::ReadBuffer;

/// The reading side.
#[derive(Debug)]
pub(crate) struct Decoder {
    frames: websocket::Decoder,
    packets: framed::Decoder,
    /// What came in messages and is not decoded yet.
    payload: ReadBuffer,
    /// What a ping or pong carried that was received last.
    control: Vec<u8>,
}

impl Decoder {
    pub(super) fn new(frames: websocket::Decoder, packets: framed::Decoder) -> Self {
        Self { frames, packets, payload: ReadBuffer::default(), control: Vec::new() }
    }

    /// What carries the packets.
    pub(super) fn frames(&mut self) -> &mut websocket::Decoder {
        &mut self.frames
    }

    pub(super) fn packets(&mut self) -> &mut framed::Decoder {
        &mut self.packets
    }

    /// As [`Decoder::decode`](crate::wire::Decoder::decode).
    pub(super) fn decode(&mut self, buffer: &mut ReadBuffer) -> Result<Option<Item<'_>>, Failure> {
        loop {
            if let Some(whole) = self.packets.next(&mut self.payload)? {
                return Ok(Some(Item::Message(whole.take(&mut self.payload))));
            }
            match self.frames.decode(buffer)? {
                Some(Item::Message(message)) if message.is_text() => {
                    let reason = "a text message where packets come in binary ones";
                    return Err(violation(CloseCode::UNSUPPORTED_DATA, reason));
                }
                Some(Item::Message(message)) => self.payload.append(message.as_bytes()),
                Some(Item::Ping(payload)) => {
                    self.control = payload.to_vec();
                    return Ok(Some(Item::Ping(&self.control)));
                }
                Some(Item::Pong(payload)) => {
                    self.control = payload.to_vec();
                    return Ok(Some(Item::Pong(&self.control)));
                }
                Some(Item::Close(frame)) => return Ok(Some(Item::Close(frame))),
                None => return Ok(None),
            }
            self.frames.unfinished().delivered();
            self.count()?;
        }
    }

    /// What waits for its packets counts as what is unfinished does.
    fn count(&mut self) -> Result<(), Failure> {
        let waiting = self.payload.unread().len().saturating_sub(UNCOUNTED);
        self.frames.unfinished().hold(waiting).map_err(refused)
    }

    /// The link is idle.
    pub(super) fn relax(&mut self) {
        self.frames.relax();
        self.payload.relax();
        // it is no more than before
        let _ = self.count();
    }

    pub(super) fn is_large(&self) -> bool {
        self.frames.is_large() || self.payload.is_large()
    }
}

/// The writing side: each packet is a message.
#[derive(Debug)]
pub(crate) struct Encoder {
    frames: websocket::Encoder,
    packets: framed::Encoder,
    packet: Output,
}

impl Encoder {
    pub(super) fn new(frames: websocket::Encoder, packets: framed::Encoder) -> Self {
        Self { frames, packets, packet: Output::new() }
    }

    /// What carries the packets.
    pub(super) fn frames(&mut self) -> &mut websocket::Encoder {
        &mut self.frames
    }

    pub(super) fn is_large(&self) -> bool {
        self.frames.is_large() || self.packets.is_large() || self.packet.is_large()
    }

    /// The link is idle.
    pub(super) fn relax(&mut self) {
        self.frames.relax();
        self.packets.relax();
        self.packet.relax();
    }

    /// Encodes a message, compressed if that may be.
    pub(super) fn message(
        &mut self,
        message: &Message,
        kind: Option<u8>,
        may_deflate: bool,
        out: &mut Output,
    ) -> Result<(), Unencoded> {
        self.packets.message(message, kind, &mut self.packet)?;
        let packet = Message::from(self.packet.take_all());
        match may_deflate {
            true => self.frames.message(&packet, None, out),
            false => self.frames.plain(&packet, None, out),
        }
        Ok(())
    }
}

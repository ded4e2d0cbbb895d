//! From messages to bytes, in any protocol.

use super::framed::{self, Unencoded};
use super::output::Output;
use super::websocket::DeflatedOnce;
use super::{tunnel, websocket};
use crate::message::{CloseFrame, Message};
use crate::policy::{AgreedCompression, Compression};

/// The writing side of any protocol.
#[derive(Debug)]
pub(crate) enum Encoder {
    WebSocket(websocket::Encoder),
    Framed(framed::Encoder),
    Tunnel(tunnel::Encoder),
}

impl Encoder {
    /// Encodes a whole message, behind the character that says its kind, where messages have one.
    /// That is part of what the peer receives; the payload is not copied for it.
    ///
    /// # Errors
    ///
    /// The program's codec does not encode it: nothing was.
    pub(crate) fn message(
        &mut self,
        message: &Message,
        kind: Option<u8>,
        out: &mut Output,
    ) -> Result<(), Unencoded> {
        match self {
            Self::WebSocket(encoder) => encoder.message(message, kind, out),
            Self::Framed(encoder) => encoder.message(message, kind, out)?,
            Self::Tunnel(encoder) => encoder.message(message, kind, true, out)?,
        }
        Ok(())
    }

    /// The same for a message that goes to many: links that compress it alike do so once.
    ///
    /// # Errors
    ///
    /// As for [`message`](Self::message).
    pub(crate) fn message_once(
        &mut self,
        message: &Message,
        kind: Option<u8>,
        once: &DeflatedOnce,
        out: &mut Output,
    ) -> Result<(), Unencoded> {
        let Self::WebSocket(encoder) = self else { return self.message(message, kind, out) };
        encoder.message_once(message, kind, once, out);
        Ok(())
    }

    /// The same, never compressed.
    pub(crate) fn plain(
        &mut self,
        message: &Message,
        kind: Option<u8>,
        out: &mut Output,
    ) -> Result<(), Unencoded> {
        match self {
            Self::WebSocket(encoder) => encoder.plain(message, kind, out),
            Self::Framed(encoder) => encoder.message(message, kind, out)?,
            Self::Tunnel(encoder) => encoder.message(message, kind, false, out)?,
        }
        Ok(())
    }

    /// What encodes frames, where there are any.
    fn frames(&mut self) -> Option<&mut websocket::Encoder> {
        match self {
            Self::WebSocket(encoder) => Some(encoder),
            Self::Tunnel(encoder) => Some(encoder.frames()),
            Self::Framed(_) => None,
        }
    }

    /// Messages may go compressed: a WebSocket's.
    pub(crate) fn compressed(&mut self, agreed: AgreedCompression, compression: Compression) {
        if let Some(encoder) = self.frames() {
            encoder.compressed(agreed, compression);
        }
    }

    /// Whether it holds on to memory that an idle link should give back with [`Encoder::relax`].
    pub(crate) fn is_large(&self) -> bool {
        match self {
            Self::WebSocket(encoder) => encoder.is_large(),
            Self::Framed(encoder) => encoder.is_large(),
            Self::Tunnel(encoder) => encoder.is_large(),
        }
    }

    /// The link is idle.
    pub(crate) fn relax(&mut self) {
        match self {
            Self::WebSocket(encoder) => encoder.relax(),
            Self::Framed(encoder) => encoder.relax(),
            Self::Tunnel(encoder) => encoder.relax(),
        }
    }

    /// Whether nothing but a write of its own sets a message off from the next.
    pub(crate) fn needs_writes_of_its_own(&self) -> bool {
        matches!(self, Self::Framed(encoder) if encoder.is_raw())
    }

    /// Encodes a ping; nothing where the protocol has none.
    pub(crate) fn ping(&mut self, payload: &[u8], out: &mut Output) {
        if let Some(encoder) = self.frames() {
            encoder.ping(payload, out);
        }
    }

    /// Encodes a pong; nothing where the protocol has none.
    pub(crate) fn pong(&mut self, payload: &[u8], out: &mut Output) {
        if let Some(encoder) = self.frames() {
            encoder.pong(payload, out);
        }
    }

    /// Encodes a close frame, where the protocol has one; nothing may be encoded after it.
    pub(crate) fn close(&mut self, frame: Option<&CloseFrame>, out: &mut Output) {
        if let Some(encoder) = self.frames() {
            encoder.close(frame, out);
        }
    }
}

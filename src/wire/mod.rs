//! Bytes to items and back, without any I/O: a decoder takes what is in a [`ReadBuffer`], an
//! encoder appends to an [`Output`]. Neither ever sees a socket, so a read that yields half a
//! frame, a write that takes half of one, and a timeout are nothing that they could get wrong.

mod assembly;
pub(crate) mod framed;
mod output;
pub(crate) mod websocket;

use assembly::Unfinished;
pub(crate) use output::{Output, SLICES};

use std::sync::Arc;

use tungstenite::protocol::Role;

use crate::failure::Failure;
use crate::message::{CloseCode, CloseFrame, Message, MessageRef, Pool};
use crate::policy::{AgreedCompression, Compression, Framing, MaxSizes};
use crate::sync::{Budget, Share};
use crate::transport::ReadBuffer;

/// What a decoder finds in the stream.
#[derive(Debug)]
pub(crate) enum Item<'a> {
    Message(MessageRef<'a>),
    Ping(&'a [u8]),
    Pong(&'a [u8]),
    Close(Option<CloseFrame>),
}

/// How the two ends of a connection talk, and which end this is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Protocol {
    WebSocket(Role),
    Framed(Framing),
}

impl Protocol {
    pub(crate) fn decoder(self, limits: MaxSizes) -> Decoder {
        match self {
            Self::WebSocket(role) => Decoder::WebSocket(websocket::Decoder::new(role, limits)),
            Self::Framed(framing) => Decoder::Framed(framed::Decoder::new(framing, limits)),
        }
    }

    pub(crate) fn encoder(self) -> Encoder {
        match self {
            Self::WebSocket(role) => Encoder::WebSocket(websocket::Encoder::new(role)),
            Self::Framed(framing) => Encoder::Framed(framed::Encoder::new(framing)),
        }
    }

    /// Whether the message can be set off from the next, or why not.
    pub(crate) fn check(self, message: &Message) -> Result<(), &'static str> {
        match self {
            Self::WebSocket(_) => Ok(()),
            Self::Framed(framing) if message.len() > framing.limit() => {
                Err("its length is over the limit of the framing")
            }
            Self::Framed(framing) => framing.check(message),
        }
    }

    pub(crate) fn is_websocket(self) -> bool {
        matches!(self, Self::WebSocket(_))
    }

    /// Whether this side ends the stream once it has said goodbye. The client of a WebSocket
    /// leaves that to the server (RFC 6455 section 7.1.1); without close frames the end of the
    /// stream is the goodbye.
    pub(crate) fn ends_stream(self) -> bool {
        !matches!(self, Self::WebSocket(Role::Client))
    }
}

/// The reading side of either protocol.
#[derive(Debug)]
pub(crate) enum Decoder {
    WebSocket(websocket::Decoder),
    Framed(framed::Decoder),
}

impl Decoder {
    /// Where messages that come in pieces get their memory.
    pub(crate) fn pool(&self) -> Arc<Pool> {
        match self {
            Self::WebSocket(decoder) => decoder.pool(),
            Self::Framed(decoder) => decoder.pool(),
        }
    }

    fn unfinished(&mut self) -> &mut Unfinished {
        match self {
            Self::WebSocket(decoder) => decoder.unfinished(),
            Self::Framed(decoder) => decoder.unfinished(),
        }
    }

    /// What is unfinished, or not delivered yet, counts against this.
    pub(crate) fn within(&mut self, budget: &Budget) {
        self.unfinished().within(budget);
    }

    /// Nothing more is decoded, after an error: lets go of what is unfinished.
    pub(crate) fn abandon(&mut self) {
        self.unfinished().abandon();
    }

    /// Every message that was decoded is delivered.
    pub(crate) fn delivered(&mut self) {
        self.unfinished().delivered();
    }

    /// An empty share of what the messages count against.
    pub(crate) fn share(&mut self) -> Share {
        self.unfinished().share.sibling()
    }

    /// Every message that was decoded is kept elsewhere from here on, and counts there.
    pub(crate) fn hand_over(&mut self, to: &mut Share) {
        self.unfinished().hand_over(to);
    }

    /// The next item, or `None` if more bytes have to come first. Whatever there is of an
    /// unfinished message is kept.
    ///
    /// # Errors
    ///
    /// [`Failure::Protocol`] with the close code that the peer is to be told. Nothing can be
    /// decoded after it.
    #[inline(always)]
    pub(crate) fn decode<'a>(
        &'a mut self,
        buffer: &'a mut ReadBuffer,
    ) -> Result<Option<Item<'a>>, Failure> {
        match self {
            Self::WebSocket(decoder) => match decoder.short_message(buffer) {
                Some(short) => short.take(buffer).map(Some),
                None => decoder.decode(buffer),
            },
            Self::Framed(decoder) => Ok(decoder.decode(buffer)?.map(Item::Message)),
        }
    }

    /// Messages may come compressed: a WebSocket's.
    pub(crate) fn compressed(&mut self, agreed: AgreedCompression) {
        if let Self::WebSocket(decoder) = self {
            decoder.compressed(agreed);
        }
    }

    /// Whether it holds on to memory that an idle link should give back with [`Decoder::relax`].
    pub(crate) fn is_large(&self) -> bool {
        matches!(self, Self::WebSocket(decoder) if decoder.is_large())
    }

    /// The link is idle.
    pub(crate) fn relax(&mut self) {
        if let Self::WebSocket(decoder) = self {
            decoder.relax();
        }
    }

    /// What the end of the stream means at this point.
    pub(crate) fn end_of_stream(&self, buffer: &ReadBuffer) -> Failure {
        match self {
            Self::WebSocket(_) => Failure::ClosedAbnormally,
            Self::Framed(decoder) => {
                let inside_message = !buffer.unread().is_empty() || decoder.is_inside_message();
                Failure::EndOfStream { inside_message, cut_off: false }
            }
        }
    }
}

/// The writing side of either protocol.
#[derive(Debug)]
pub(crate) enum Encoder {
    WebSocket(websocket::Encoder),
    Framed(framed::Encoder),
}

impl Encoder {
    /// Encodes a whole message.
    pub(crate) fn message(&mut self, message: &Message, out: &mut Output) {
        match self {
            Self::WebSocket(encoder) => encoder.message(message, out),
            Self::Framed(encoder) => encoder.message(message, out),
        }
    }

    /// The same, never compressed.
    pub(crate) fn plain(&mut self, message: &Message, out: &mut Output) {
        match self {
            Self::WebSocket(encoder) => encoder.plain(message, out),
            Self::Framed(encoder) => encoder.message(message, out),
        }
    }

    /// Messages may go compressed: a WebSocket's.
    pub(crate) fn compressed(&mut self, agreed: AgreedCompression, compression: Compression) {
        if let Self::WebSocket(encoder) = self {
            encoder.compressed(agreed, compression);
        }
    }

    /// The link is idle.
    pub(crate) fn relax(&mut self) {
        if let Self::WebSocket(encoder) = self {
            encoder.relax();
        }
    }

    /// Whether nothing but a write of its own sets a message off from the next.
    pub(crate) fn needs_writes_of_its_own(&self) -> bool {
        matches!(self, Self::Framed(encoder) if encoder.is_raw())
    }

    /// Encodes a ping; nothing where the protocol has none.
    pub(crate) fn ping(&mut self, payload: &[u8], out: &mut Output) {
        if let Self::WebSocket(encoder) = self {
            encoder.ping(payload, out);
        }
    }

    /// Encodes a pong; nothing where the protocol has none.
    pub(crate) fn pong(&mut self, payload: &[u8], out: &mut Output) {
        if let Self::WebSocket(encoder) = self {
            encoder.pong(payload, out);
        }
    }

    /// Encodes a close frame, where the protocol has one; nothing may be encoded after it.
    pub(crate) fn close(&mut self, frame: Option<&CloseFrame>, out: &mut Output) {
        if let Self::WebSocket(encoder) = self {
            encoder.close(frame, out);
        }
    }
}

/// A violation of the protocol, for which the peer is told this code.
fn violation(code: CloseCode, reason: impl Into<String>) -> Failure {
    Failure::Protocol { code, reason: reason.into() }
}

/// The peer has done nothing wrong; it may come again (close code 1013).
fn no_memory() -> Failure {
    let code = CloseCode::TRY_AGAIN_LATER;
    Failure::ClosedHere(Some(CloseFrame::new(code, "no memory for a message of this size")))
}

fn too_big(what: impl std::fmt::Display, limit: usize) -> Failure {
    violation(CloseCode::MESSAGE_TOO_BIG, format!("{what} over the limit of {limit} bytes"))
}

//! Bytes to messages and back.

pub(crate) mod framed;
pub(crate) mod websocket;

use std::io::{self, Read, Write};

use tungstenite::Bytes;
use tungstenite::protocol::Role;

use crate::failure::Failure;
use crate::message::{CloseFrame, Message};
use crate::policy::{Framing, Limits};

/// What a decoder finds in the stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Message(Message),
    Ping(Bytes),
    Pong(Bytes),
    Close(Option<CloseFrame>),
}

/// A stream that is read, and takes the messages that were in it.
pub(crate) trait Incoming: Read {
    fn deliver(&mut self, message: Message);
}

/// How the two ends of a connection talk, and which end this is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Protocol {
    WebSocket(Role),
    Framed(Framing),
}

impl Protocol {
    /// The reading side; `read` is what was read past the opening handshake.
    pub(crate) fn decoder(self, read: Vec<u8>, limits: Limits) -> Decoder {
        match self {
            Self::WebSocket(role) => {
                Decoder::WebSocket(Box::new(websocket::Decoder::new(role, read, limits)))
            }
            Self::Framed(framing) => Decoder::Framed(framed::Decoder::new(framing, read, limits)),
        }
    }

    /// The writing side.
    pub(crate) fn encoder(self) -> Encoder {
        match self {
            Self::WebSocket(role) => Encoder::WebSocket(Box::new(websocket::Encoder::new(role))),
            Self::Framed(framing) => Encoder::Framed(framed::Encoder::new(framing)),
        }
    }

    /// Whether this side ends the stream once it has said goodbye. The client of a WebSocket
    /// leaves that to the server (RFC 6455 section 7.1.1); without close frames the end of the
    /// stream is the goodbye.
    pub(crate) fn ends_stream(self) -> bool {
        !matches!(self, Self::WebSocket(Role::Client))
    }
}

/// The reading side of either protocol. It keeps what it has read of an unfinished message, so
/// a read that times out loses nothing.
#[derive(Debug)]
pub(crate) enum Decoder {
    /// Boxed, for it is five times the size of the other.
    WebSocket(Box<websocket::Decoder>),
    Framed(framed::Decoder),
}

impl Decoder {
    /// Reads until there is something to report.
    ///
    /// # Errors
    ///
    /// [`Failure::Io`] as the stream said it, [`Failure::ClosedAbnormally`] or
    /// [`Failure::EndOfStream`] at its end, and [`Failure::Protocol`] with the close code that
    /// the peer is to be told.
    pub(crate) fn next(&mut self, stream: &mut dyn Read) -> Result<Item, Failure> {
        match self {
            Self::WebSocket(decoder) => decoder.next(stream),
            Self::Framed(decoder) => decoder.next(stream).map(Item::Message),
        }
    }

    /// The same for a stream that takes each message itself: returns what else there is to
    /// report. A message is moved once on its way, which is what a small one costs most.
    pub(crate) fn deliver(&mut self, stream: &mut impl Incoming) -> Result<Item, Failure> {
        match self {
            Self::WebSocket(decoder) => decoder.deliver(stream),
            Self::Framed(decoder) => loop {
                let message = decoder.next(stream)?;
                stream.deliver(message);
            },
        }
    }
}

/// The writing side of either protocol. It encodes into a buffer of its own, which goes to the
/// stream when it is full or flushed.
#[derive(Debug)]
pub(crate) enum Encoder {
    /// Boxed, for it is five times the size of the other.
    WebSocket(Box<websocket::Encoder>),
    Framed(framed::Encoder),
}

impl Encoder {
    /// How many bytes have been encoded, buffered ones included.
    pub(crate) fn encoded(&self) -> u64 {
        match self {
            Self::WebSocket(encoder) => encoder.encoded(),
            Self::Framed(encoder) => encoder.encoded(),
        }
    }

    pub(crate) fn message(&mut self, message: Message, stream: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::WebSocket(encoder) => encoder.message(message, stream),
            Self::Framed(encoder) => encoder.message(&message, stream),
        }
    }

    /// Encodes a message in pieces of at most `size` bytes, with `between` after each but the
    /// last; whole where the protocol has no pieces.
    pub(crate) fn fragments<S: Write>(
        &mut self,
        message: Message,
        size: usize,
        stream: &mut S,
        mut between: impl FnMut(&mut websocket::Encoder, &mut S) -> io::Result<()>,
    ) -> io::Result<()> {
        match self {
            Self::WebSocket(encoder) => {
                encoder.fragments(message, size, stream, |encoder, stream| between(encoder, stream))
            }
            Self::Framed(encoder) => encoder.message(&message, stream),
        }
    }

    /// Encodes a ping; nothing where the protocol has none.
    pub(crate) fn ping(&mut self, payload: Bytes, stream: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::WebSocket(encoder) => encoder.ping(payload, stream),
            Self::Framed(_) => Ok(()),
        }
    }

    /// Encodes a pong; nothing where the protocol has none.
    pub(crate) fn pong(&mut self, payload: Bytes, stream: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::WebSocket(encoder) => encoder.pong(payload, stream),
            Self::Framed(_) => Ok(()),
        }
    }

    /// Encodes a close frame, where the protocol has one, and flushes; nothing may be encoded
    /// after it.
    pub(crate) fn close(
        &mut self,
        frame: Option<&CloseFrame>,
        stream: &mut dyn Write,
    ) -> io::Result<()> {
        match self {
            Self::WebSocket(encoder) => encoder.close(frame, stream),
            Self::Framed(encoder) => encoder.flush(stream),
        }
    }

    /// Writes out what is buffered.
    pub(crate) fn flush(&mut self, stream: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::WebSocket(encoder) => encoder.flush(stream),
            Self::Framed(encoder) => encoder.flush(stream),
        }
    }
}

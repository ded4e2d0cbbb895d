//! What is spoken on a connection.

use tungstenite::protocol::Role;

use super::decoder::Decoder;
use super::encoder::Encoder;
use super::{framed, websocket};
use crate::message::Message;
use crate::policy::{Framing, MaxSizes};

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

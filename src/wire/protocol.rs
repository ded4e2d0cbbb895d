//! What is spoken on a connection.

use tungstenite::protocol::Role;

use super::decoder::Decoder;
use super::encoder::Encoder;
use super::{framed, tunnel, websocket};
use crate::failure::Failure;
use crate::message::Message;
use crate::policy::{Framing, MaxSizes};

/// How the two ends of a connection talk, and which end this is.
#[derive(Debug, Clone)]
pub(crate) enum Protocol {
    WebSocket(Role),
    Framed(Framing),
    /// Packets in the binary messages of a WebSocket.
    Tunnel(Role, Framing),
}

impl Protocol {
    /// A WebSocket, with packets in its messages if they have a framing.
    pub(crate) fn websocket(role: Role, framing: Option<Framing>) -> Self {
        match framing {
            None => Self::WebSocket(role),
            Some(framing) => Self::Tunnel(role, framing),
        }
    }

    /// Both directions of one link.
    ///
    /// # Errors
    ///
    /// [`Failure::Framing`]: the program's code panicked.
    pub(crate) fn halves(&self, limits: MaxSizes) -> Result<(Decoder, Encoder), Failure> {
        let frames = |role| (websocket::Decoder::new(role, limits), websocket::Encoder::new(role));
        Ok(match self {
            Self::WebSocket(role) => {
                let (decoder, encoder) = frames(*role);
                (Decoder::WebSocket(decoder), Encoder::WebSocket(encoder))
            }
            Self::Framed(framing) => {
                let (decoder, encoder) = framed::halves(framing, limits)?;
                (Decoder::Framed(decoder), Encoder::Framed(encoder))
            }
            Self::Tunnel(role, framing) => {
                let (frames, packets) = (frames(*role), framed::halves(framing, limits)?);
                (
                    Decoder::Tunnel(Box::new(tunnel::Decoder::new(
                        frames.0,
                        packets.0.on_websocket(),
                    ))),
                    Encoder::Tunnel(tunnel::Encoder::new(frames.1, packets.1)),
                )
            }
        })
    }

    #[cfg(test)]
    pub(crate) fn decoder(&self, limits: MaxSizes) -> Decoder {
        self.halves(limits).unwrap().0
    }

    #[cfg(test)]
    pub(crate) fn encoder(&self) -> Encoder {
        self.halves(MaxSizes { message: usize::MAX, frame: usize::MAX }).unwrap().1
    }

    /// Whether the message can be set off from the next, or why not.
    pub(crate) fn check(&self, message: &Message) -> Result<(), &'static str> {
        match self {
            Self::WebSocket(_) => Ok(()),
            Self::Framed(framing) | Self::Tunnel(_, framing) => framing.check(message),
        }
    }

    pub(crate) fn is_websocket(&self) -> bool {
        !matches!(self, Self::Framed(_))
    }

    /// Whether this side ends the stream once it has said goodbye. The client of a WebSocket
    /// leaves that to the server (RFC 6455 section 7.1.1); without close frames the end of the
    /// stream is the goodbye.
    pub(crate) fn ends_stream(&self) -> bool {
        !matches!(self, Self::WebSocket(Role::Client) | Self::Tunnel(Role::Client, _))
    }
}

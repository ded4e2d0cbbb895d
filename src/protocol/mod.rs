//! Bytes to messages and back.

pub(crate) mod websocket;

use tungstenite::Bytes;

use crate::message::{CloseFrame, Message};

/// What a decoder finds in the stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Message(Message),
    Ping(Bytes),
    Pong(Bytes),
    Close(Option<CloseFrame>),
}

/// The sizes that a peer may not exceed, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) message: usize,
    pub(crate) frame: usize,
}

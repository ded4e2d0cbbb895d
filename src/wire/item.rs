//! What a stream is made of.

use crate::message::{CloseFrame, MessageRef};

/// What a decoder finds in the stream.
#[derive(Debug)]
pub(crate) enum Item<'a> {
    Message(MessageRef<'a>),
    Ping(&'a [u8]),
    Pong(&'a [u8]),
    Close(Option<CloseFrame>),
}

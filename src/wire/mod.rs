//! Bytes to items and back, without any I/O: a decoder takes what is in a [`ReadBuffer`], an
//! encoder appends to an [`Output`]. Neither ever sees a socket, so a read that yields half a
//! frame, a write that takes half of one, and a timeout are nothing that they could get wrong.

mod assembly;
mod decoder;
mod encoder;
pub(crate) mod framed;
mod item;
#[cfg(test)]
mod kind_tests;
mod output;
mod protocol;
mod tunnel;
mod violations;
pub(crate) mod websocket;

pub(crate) use decoder::Decoder;
pub(crate) use encoder::Encoder;
pub(crate) use framed::Unencoded;
pub(crate) use item::Item;
pub(crate) use output::{Output, SLICES};
pub(crate) use protocol::Protocol;

//! Messages on a plain byte stream: lines, length prefixes, or whatever a read yields.

mod decoder;
mod encoder;

pub(crate) use decoder::Decoder;
pub(crate) use encoder::Encoder;

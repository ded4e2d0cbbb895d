//! Messages on a plain byte stream: lines, length prefixes, or whatever a read yields.

mod decoder;
mod encoder;
#[cfg(test)]
mod tests;

pub(crate) use decoder::Decoder;
pub(crate) use encoder::Encoder;

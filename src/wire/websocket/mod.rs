//! WebSocket frames (RFC 6455 section 5), on the frame header of tungstenite.
//!
//! Its `WebSocketContext` is not used: it reads and writes by itself, reserves what a header
//! announces, replaces close codes that it does not know, and refuses every extension. It is the
//! second opinion of the tests.

mod decoder;
mod encoder;
mod mask;
#[cfg(test)]
mod tests;

pub(crate) use decoder::Decoder;
pub(crate) use encoder::Encoder;

//! WebSocket frames (RFC 6455 section 5), compressed ones among them (RFC 7692), on the frame header
//! of tungstenite.
//!
//! Its `WebSocketContext` is not used: it reads and writes by itself, reserves what a header
//! announces, replaces close codes that it does not know, and refuses every extension. It is the
//! second opinion of the tests.

mod decoder;
#[cfg_attr(not(feature = "deflate"), path = "no_deflate.rs")]
mod deflate;
#[cfg(all(test, feature = "deflate"))]
mod deflate_tests;
#[cfg_attr(not(feature = "deflate"), allow(dead_code, reason = "nothing is compressed"))]
mod deflated_once;
mod encoder;
mod mask;
#[cfg(test)]
mod tests;

pub(crate) use decoder::Decoder;
pub(crate) use deflated_once::DeflatedOnce;
pub(crate) use encoder::{Encoder, Fragment};

//! The opening handshake of a WebSocket (RFC 6455 section 4), from either side.

mod client;
mod extensions;
mod gate;
mod origins;
mod request;
mod server;

pub(crate) use client::{Handshake, location, open, room};
#[cfg(all(any(test, fuzzing), feature = "deflate"))]
pub(crate) use extensions::{answered, choose};
pub(crate) use gate::{Gate, Names};
pub(crate) use origins::Origins;
pub use request::OpeningRequest;
pub(crate) use server::{Upgrade, accept, complaint, read_request, refuse, respond};

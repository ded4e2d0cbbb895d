//! The opening handshake of a WebSocket (RFC 6455 section 4), from either side.

mod client;
mod cookies;
mod endpoint;
mod extensions;
mod gate;
mod headers;
mod origins;
mod reference;
mod request;
mod server;

pub(crate) use client::{Handshake, location, open, room};
pub(crate) use cookies::Jar;
pub(crate) use endpoint::Endpoint;
#[cfg(all(any(test, fuzzing), feature = "deflate"))]
pub(crate) use extensions::{answered, choose};
pub(crate) use gate::{Gate, Names};
pub(crate) use headers::{Header, Headers};
pub(crate) use origins::Origins;
pub use request::OpeningRequest;
pub(crate) use request::{built_in, dialable};
pub(crate) use server::{Upgrade, accept, complaint, read_request, refuse, respond};

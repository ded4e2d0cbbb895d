//! The opening handshake of a WebSocket (RFC 6455 section 4), from either side.

mod client;
mod endpoint;
mod request;
mod server;

pub(crate) use client::open;
pub(crate) use endpoint::Endpoint;
pub use request::Request;
pub(crate) use request::{built_in, dialable};
pub(crate) use server::{accept, read_request, respond};

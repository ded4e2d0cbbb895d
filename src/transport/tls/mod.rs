//! TLS in full duplex: one rustls connection behind a mutex that is never held while a socket
//! call blocks.
//!
//! The reader reads ciphertext outside the lock and decrypts inside; the writer encrypts inside
//! and writes outside. Records have to reach the peer in the order of their sequence numbers, so
//! only the writer takes records out. Where the reader's work makes rustls want to send something
//! at once (an alert), [`ReadHalf::wants_write`](super::ReadHalf::wants_write) says so, and the
//! reader's owner wakes the writer, which writes the alert and no data after it (section 6.2). The
//! answer to a KeyUpdate goes out ahead of the next data (RFC 8446 section 4.6.3).

mod config;
mod halves;
mod handshake;
mod identities;
mod info;
mod pem;

pub use config::Tls;
pub(crate) use config::{client_connection, without_identity};
pub(crate) use handshake::{accept, open};
pub use info::TlsInfo;

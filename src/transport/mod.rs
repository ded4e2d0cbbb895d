//! Bytes in both directions at once: halves of a connection that can be read, written, hung up.

mod blocking;
mod connect;
mod duplex;
mod halves;
mod prefixed;
mod read_buffer;
mod resolve;
mod socket;
mod timed;
#[cfg(feature = "tls")]
pub(crate) mod tls;

pub use connect::Connect;
pub use duplex::Duplex;
pub use halves::{Hangup, ReadHalf, Reason, WriteHalf};
pub(crate) use read_buffer::ReadBuffer;
pub use resolve::Resolve;
#[cfg(feature = "chaos")]
pub(crate) use socket::Socket;
pub(crate) use timed::{LINGER, Stream, Timed};

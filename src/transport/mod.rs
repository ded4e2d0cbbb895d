//! Bytes in both directions at once: halves of a connection that can be read, written, hung up.

mod blocking;
mod connect;
mod duplex;
mod halves;
#[cfg(any(polled, test, not(any(target_os = "linux", target_os = "android"))))]
mod polled;
mod prefixed;
mod read_buffer;
mod resolve;
#[cfg(all(any(not(polled), test), any(target_os = "linux", target_os = "android")))]
mod socket;
#[cfg(test)]
mod socket_tests;
mod timed;
#[cfg(feature = "tls")]
pub(crate) mod tls;
mod wakeup;

pub use connect::Connect;
pub use duplex::Duplex;
pub use halves::{Hangup, ReadHalf, Reason, WriteHalf};
#[cfg(any(polled, not(any(target_os = "linux", target_os = "android"))))]
pub(crate) use polled::PolledSocket as Socket;
pub(crate) use read_buffer::ReadBuffer;
pub use resolve::Resolve;
#[cfg(not(any(polled, not(any(target_os = "linux", target_os = "android")))))]
pub(crate) use socket::Socket;
pub(crate) use timed::{LINGER, Stream, Timed};
pub(crate) use wakeup::{Wakeup, wait};

//! Bytes in both directions at once: dialing, and halves that can be read, written, hung up.

mod dial;
mod interrupt;
mod resolve;
mod tcp;
mod timed;
#[cfg(feature = "tls")]
pub(crate) mod tls;

use std::fmt::Debug;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use dial::{Dialer, SocketOptions};
pub(crate) use interrupt::Interrupt;
pub use resolve::Resolve;
pub(crate) use resolve::{Resolver, System};
pub(crate) use timed::Timed;
#[cfg(feature = "tls")]
pub use tls::Tls;

/// The half that one thread reads.
pub(crate) trait ReadHalf: Read + Send + Debug {
    /// How long one `read` may block; `None` for as long as it takes.
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> std::io::Result<()>;

    /// Whether the last reads have left something for the other half to flush. Asking takes the
    /// answer back.
    fn wants_write(&mut self) -> bool {
        false
    }
}

/// The half that one thread writes. What `write` has accepted is on its way; after an error it
/// is called again with the same bytes, or not at all.
pub(crate) trait WriteHalf: Write + Send + Debug {
    /// How long one `write` may block without taking a byte; `None` for as long as it takes.
    fn set_write_timeout(&mut self, timeout: Option<Duration>) -> std::io::Result<()>;

    /// Says that no more data follows, where the transport can say so without ending.
    fn say_goodbye(&mut self) -> std::io::Result<()> {
        Ok(())
    }

    /// Ends the stream in this direction: the peer reads all that was written, then the end.
    fn finish(&mut self) -> std::io::Result<()>;
}

/// Ends both halves from any thread.
pub(crate) trait Hangup: Send + Sync + Debug {
    /// Wakes whoever blocks in `read` or `write`. What has already arrived can still be read.
    fn hang_up(&self);

    /// Has the connection end with a reset once all its pieces are dropped: what was written
    /// and has not reached the peer yet is taken back, and a peer that is stuck in a write
    /// learns at once that nobody reads.
    fn reset_when_dropped(&self);
}

/// A connection to a peer, in pieces that different threads own.
#[derive(Debug)]
pub(crate) struct Duplex {
    pub(crate) reader: Box<dyn ReadHalf>,
    pub(crate) writer: Box<dyn WriteHalf>,
    pub(crate) hangup: Arc<dyn Hangup>,
}

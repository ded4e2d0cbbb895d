//! What the two halves of a connection can do, and what ends both.

use std::fmt::Debug;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::time::Duration;

/// The half of a connection that one thread reads.
///
/// `read` returns 0 at the end of the stream, and an error of the kind `WouldBlock` or
/// `TimedOut` when its timeout has passed. After one of the kind `Interrupted`, which a signal
/// causes, it is called again with what is left of the time; [`Reason::NoDataYet`] says besides that the peer is
/// alive. It has to block until then: a
/// connection whose `read`, or [`WriteHalf`]'s `write`, comes back at once again and again fails with an error
/// that says so.
pub trait ReadHalf: Read + Send + Debug {
    /// How long one `read` may block; `None` for as long as it takes.
    ///
    /// # Errors
    ///
    /// Whatever is in the way; the link dies of it.
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()>;

    /// Reads from what was received before, without asking the connection; 0 if there is nothing.
    /// What can be read like this is delivered together. A transport that keeps nothing back has
    /// nothing, as this says.
    ///
    /// # Errors
    ///
    /// Those of `read`.
    fn read_buffered(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let _ = buf;
        Ok(0)
    }

    /// The same into several buffers, for the sockets of this library, which ask the system for what is there. A
    /// half of the program's own is asked for one buffer at a time, so that what it says can be checked.
    ///
    /// # Errors
    ///
    /// Those of `read`.
    #[doc(hidden)]
    fn read_buffered_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let first = bufs.iter_mut().find(|buf| !buf.is_empty());
        first.map_or(Ok(0), |first| self.read_buffered(first))
    }

    /// The connection is idle: a transport that holds on to memory for a burst gives it back. One
    /// without buffers of its own has nothing to do, as this says.
    fn relax(&mut self) {}

    /// Whether the last reads have left something for the other half to flush: an alert, where
    /// `read` has failed. Asking takes the answer back. A transport without a protocol of its own
    /// says no, as this does. After a failure that leaves something, `read` is called again: it
    /// discards what still comes, and returns 0 at the end of the stream.
    fn wants_write(&mut self) -> bool {
        false
    }
}

/// Why a half did nothing that its caller could see, where [`io::ErrorKind`] has no word for it: the error of
/// a transport with a protocol of its own, such as TLS.
///
/// ```
/// use std::io;
/// use everlink::transport::Reason;
///
/// // what a `read` ends with that has received half a record
/// let error = io::Error::from(Reason::NoDataYet);
/// assert_eq!(error.kind(), io::ErrorKind::Interrupted);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// Of `read`: something came and there is no data to show for it. The peer is alive; an
    /// [`Interrupted`](io::ErrorKind::Interrupted) without this, as a signal causes it, does not say so.
    #[error("what was received is no data yet")]
    NoDataYet,
    /// Of `write` and `flush`: some of what was accepted before is handed on. The peer takes something, and the
    /// call is made again.
    #[error("some of what was accepted is written")]
    Advanced,
    /// Of `write`: the reading half has failed for good. What the transport had to say about that is
    /// written by then; the reader has the cause.
    #[error("what was received has broken the transport")]
    ReadingFailed,
}

impl Reason {
    /// The reason that an error carries.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl From<Reason> for io::Error {
    fn from(reason: Reason) -> Self {
        let kind = match reason {
            Reason::NoDataYet | Reason::Advanced => io::ErrorKind::Interrupted,
            Reason::ReadingFailed => io::ErrorKind::BrokenPipe,
        };
        Self::new(kind, reason)
    }
}

/// The half of a connection that one thread writes. What `write` has accepted is on its way;
/// after an error it is called again with the same bytes, or not at all. `Interrupted` is no more
/// an end than for a [`ReadHalf`]; [`Reason::Advanced`] says besides that the peer takes something. `write` and its brothers never return 0: the link dies of that
/// with [`WriteZero`](io::ErrorKind::WriteZero).
pub trait WriteHalf: Write + Send + Debug {
    /// How long one `write` may block without taking a byte; `None` for as long as it takes.
    ///
    /// # Errors
    ///
    /// Whatever is in the way; the link dies of it.
    fn set_write_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()>;

    /// Writes what fits without blocking; an error of the kind `WouldBlock` if that is nothing.
    /// A transport that cannot tell says that always, as this does.
    ///
    /// # Errors
    ///
    /// Those of `write`.
    fn try_write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let _ = buf;
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// The same from several buffers, of which the first ones are written first. A transport that
    /// takes one buffer at a time takes the first that is not empty, as this does.
    ///
    /// # Errors
    ///
    /// Those of `write`.
    fn try_write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let first = bufs.iter().find(|buf| !buf.is_empty());
        first.map_or(Ok(0), |first| self.try_write(first))
    }

    /// Flushes without blocking; an error of the kind `WouldBlock` if something that `write` has
    /// accepted could not be handed on. A transport that keeps nothing back has nothing to do, as
    /// this says.
    ///
    /// # Errors
    ///
    /// Those of `flush`.
    fn try_flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Says that no more data follows, where the transport can say so without ending.
    ///
    /// # Errors
    ///
    /// Those of `write`.
    fn say_goodbye(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Ends the stream in this direction: the peer reads all that was written, then the end.
    ///
    /// # Errors
    ///
    /// Those of `write`.
    fn finish(&mut self) -> io::Result<()>;
}

/// Ends both halves of a connection, from any thread.
pub trait Hangup: Send + Sync + Debug {
    /// Wakes whoever blocks in `read` or `write`, and makes both fail from here on. What has
    /// already arrived can still be read.
    fn hang_up(&self);

    /// Has the connection end with a reset once all its pieces are dropped: what was written
    /// and has not reached the peer yet is taken back, and a peer that is stuck in a write
    /// learns at once that nobody reads. A transport that cannot do that does nothing.
    fn reset_when_dropped(&self) {}

    /// Ends both halves with a reset, at once, whatever has arrived or is on its way: a peer that
    /// takes the end of the stream for a goodbye must not see one.
    fn reset(&self) {
        self.reset_when_dropped();
        self.hang_up();
    }
}

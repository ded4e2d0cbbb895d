//! A plain socket, which threads share and are blocked in. Linux wakes them when it is shut down, and has
//! timeouts of microseconds; where that is not so there is [`PolledSocket`](super::polled), with one system call
//! more for each read.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvFlags, recvmsg};

use super::{Hangup, ReadHalf, WriteHalf};

/// One descriptor, of which every piece of a connection has a clone. One thread at a time reads, and
/// others write.
///
/// It can end with a reset, and without the end of the stream before it: what `shutdown` does says the end
/// of the stream first, and what a drop does comes when the last user is gone.
#[derive(Debug, Clone)]
pub(crate) struct Socket {
    shared: Arc<SharedSocket>,
    /// The last read has filled its buffers: more may be there.
    has_more: bool,
}

#[derive(Debug)]
struct SharedSocket {
    socket: socket2::Socket,
    is_reading: AtomicBool,
    is_reset: AtomicBool,
}

impl Socket {
    pub(crate) fn new(socket: impl Into<socket2::Socket>) -> Self {
        let socket = socket.into();
        // what is no socket any more shows in its first read
        let _ = socket.set_nonblocking(false);
        let (is_reading, is_reset) = (AtomicBool::new(false), AtomicBool::new(false));
        let shared = Arc::new(SharedSocket { socket, is_reading, is_reset });
        Self { shared, has_more: false }
    }

    /// Reads, unless the socket is reset.
    fn read_with<'a>(
        &mut self,
        bufs: &mut [IoSliceMut<'a>],
        read: impl FnOnce(&socket2::Socket, &mut [IoSliceMut<'a>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let room: usize = bufs.iter().map(|buf| buf.len()).sum();
        self.shared.is_reading.store(true, SeqCst);
        let result = if self.shared.is_reset.load(SeqCst) {
            Err(io::ErrorKind::ConnectionReset.into())
        } else {
            read(&self.shared.socket, bufs)
        };
        self.shared.is_reading.store(false, SeqCst);
        if self.shared.is_reset.load(SeqCst) {
            self.send_reset();
        }
        self.has_more = result.as_ref().is_ok_and(|count| *count == room);
        result
    }

    /// The only error is a socket that is down already.
    fn shut(&self, how: Shutdown) {
        let _ = self.shared.socket.shutdown(how);
    }

    /// Sends a reset, and wakes whoever blocks.
    fn disconnect(&self) {
        self.shared.is_reset.store(true, SeqCst);
        if self.shared.is_reading.load(SeqCst) {
            // ends the read, and tells the peer nothing: whoever reads sends the reset
            self.shut(Shutdown::Read);
        } else {
            self.send_reset();
        }
    }

    /// Sends a reset, where there is such a thing: a Unix socket has none, and a kernel may refuse it
    /// while a thread waits in a read or a write (Linux of 2023 does).
    fn send_reset(&self) {
        if rustix::net::connect_unspec(&self.shared.socket).is_err() {
            // wakes whoever is stuck in a write; the end of the stream stays behind what they
            // could not send
            self.shut(Shutdown::Both);
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_vectored(&mut [IoSliceMut::new(buf)])
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.read_with(bufs, |mut socket, bufs| match bufs {
            [all] => socket.read(all),
            bufs => socket.read_vectored(bufs),
        })
    }
}

impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        // a program in C has not asked for the signal to be ignored, as Rust's runtime does
        self.shared.socket.send_with_flags(buf, libc::MSG_NOSIGNAL)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is left of a deadline is handed to the system in whole microseconds, and no time at all
/// means for ever there.
fn least(time: Duration) -> Duration {
    time.max(Duration::from_micros(1))
}

impl ReadHalf for Socket {
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.shared.socket.set_read_timeout(timeout.map(least))
    }

    fn read_buffered(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_buffered_vectored(&mut [IoSliceMut::new(buf)])
    }

    fn read_buffered_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        if !self.has_more {
            return Ok(0);
        }
        use io::ErrorKind::{Interrupted, WouldBlock};
        let result = self.read_with(bufs, |socket, bufs| {
            let mut nothing = RecvAncillaryBuffer::default();
            Ok(recvmsg(socket, bufs, &mut nothing, RecvFlags::DONTWAIT)?.bytes)
        });
        match result {
            Err(error) if matches!(error.kind(), WouldBlock | Interrupted) => Ok(0),
            result => result,
        }
    }
}

impl WriteHalf for Socket {
    fn set_write_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.shared.socket.set_write_timeout(timeout.map(least))
    }

    fn try_write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.try_write_vectored(&[IoSlice::new(buf)])
    }

    fn try_write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        self.shared.socket.send_vectored_with_flags(bufs, flags)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.shared.socket.shutdown(Shutdown::Write)
    }
}

impl Hangup for Socket {
    fn hang_up(&self) {
        self.shut(Shutdown::Both);
    }

    fn reset(&self) {
        self.reset_when_dropped();
        self.disconnect();
    }

    fn reset_when_dropped(&self) {
        // best effort: without it the kernel goes on trying for a while
        let _ = self.shared.socket.set_linger(Some(Duration::ZERO));
    }
}

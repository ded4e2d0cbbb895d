//! A socket beside which threads wait, for systems that do not wake a thread which is blocked in one.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::wakeup::{Wakeup, wait};
use super::{Hangup, ReadHalf, WriteHalf};

/// What it has come to; a later one is higher.
const WHOLE: u8 = 0;
const HUNG_UP: u8 = 1;
const RESET: u8 = 2;

#[cfg(unix)]
const NO_SIGNAL: i32 = libc::MSG_NOSIGNAL;
#[cfg(not(unix))]
const NO_SIGNAL: i32 = 0;

/// One descriptor in non-blocking mode, of which every piece of a connection has a clone. A half waits for
/// it by itself, with a deadline, and can be woken: no call depends on what `shutdown` does to threads that
/// are blocked, on how exact the system's timeouts are, nor on what is left of a socket after one.
#[derive(Debug, Clone)]
pub(crate) struct PolledSocket {
    shared: Arc<SharedPolled>,
    /// How long one read or write may take.
    timeout: Option<Duration>,
    /// The last read has filled its buffer: the next finds more without waiting.
    has_more: bool,
}

#[derive(Debug)]
struct SharedPolled {
    socket: socket2::Socket,
    /// The error, where there was no descriptor left for it: then whoever would have to wait has that.
    wakeup: io::Result<Wakeup>,
    state: AtomicU8,
}

impl PolledSocket {
    pub(crate) fn new(socket: impl Into<socket2::Socket>) -> Self {
        let socket = socket.into();
        // what is no socket any more shows in its first read
        let _ = socket.set_nonblocking(true);
        let shared = SharedPolled { socket, wakeup: Wakeup::new(), state: AtomicU8::new(WHOLE) };
        Self { shared: Arc::new(shared), timeout: None, has_more: false }
    }

    fn end(&self, state: u8) {
        self.shared.state.fetch_max(state, SeqCst);
        if let Ok(wakeup) = &self.shared.wakeup {
            wakeup.wake();
        }
    }

    fn state(&self) -> u8 {
        self.shared.state.load(SeqCst)
    }

    fn wait(&self, readiness: PollFlags) -> io::Result<()> {
        let wakeup = self.shared.wakeup.as_ref();
        let wakeup = wakeup.map_err(|error| io::Error::new(error.kind(), error.to_string()))?;
        let deadline = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        wait(&mut [PollFd::new(&self.shared.socket, readiness), wakeup.woken()], deadline)
    }

    /// Reads, unless the socket is reset; `None` if nothing is there.
    fn read_at_once(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<Option<usize>> {
        let state = self.state();
        if state == RESET {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let room: usize = bufs.iter().map(|buf| buf.len()).sum();
        let mut socket = &self.shared.socket;
        let result = match bufs {
            [all] => socket.read(all),
            bufs => socket.read_vectored(bufs),
        };
        self.has_more = result.as_ref().is_ok_and(|count| *count == room);
        match result {
            // all that had arrived is read
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Ok((state == HUNG_UP).then_some(0))
            }
            result => result.map(Some),
        }
    }

    fn send(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.state() {
            WHOLE => self.shared.socket.send_vectored_with_flags(bufs, NO_SIGNAL),
            RESET => Err(io::ErrorKind::ConnectionReset.into()),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Read for PolledSocket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_vectored(&mut [IoSliceMut::new(buf)])
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        if !self.has_more {
            self.wait(PollFlags::IN)?;
        }
        loop {
            if let Some(count) = self.read_at_once(bufs)? {
                return Ok(count);
            }
            self.wait(PollFlags::IN)?;
        }
    }
}

impl Write for PolledSocket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        loop {
            match self.send(&[IoSlice::new(buf)]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(PollFlags::OUT)?;
                }
                result => return result,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ReadHalf for PolledSocket {
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.timeout = timeout;
        Ok(())
    }

    fn read_buffered(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_buffered_vectored(&mut [IoSliceMut::new(buf)])
    }

    fn read_buffered_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        if !self.has_more {
            return Ok(0);
        }
        match self.read_at_once(bufs) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            result => Ok(result?.unwrap_or(0)),
        }
    }
}

impl WriteHalf for PolledSocket {
    fn set_write_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.timeout = timeout;
        Ok(())
    }

    fn try_write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.send(&[IoSlice::new(buf)])
    }

    fn try_write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.send(bufs)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.shared.socket.shutdown(Shutdown::Write)
    }
}

impl Hangup for PolledSocket {
    /// Only this direction of the socket is shut down: some systems discard what has arrived when the other
    /// is.
    fn hang_up(&self) {
        let _ = self.shared.socket.shutdown(Shutdown::Write);
        self.end(HUNG_UP);
    }

    /// It follows when the last of its users has dropped the socket.
    fn reset(&self) {
        self.reset_when_dropped();
        self.end(RESET);
    }

    fn reset_when_dropped(&self) {
        // best effort: without it the kernel goes on trying for a while
        let _ = self.shared.socket.set_linger(Some(Duration::ZERO));
    }
}

//! A wait for sockets that another thread can end.

use std::io;
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Hangup;

/// Some systems count a wait in milliseconds of 31 bits.
const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);

/// Ends every wait on it, those that are still to come as well: it is woken once and for all.
#[derive(Debug)]
pub(crate) struct Wakeup {
    #[cfg(unix)]
    ends: (UnixStream, UnixStream),
    /// Connected to itself: what it sends makes it readable.
    #[cfg(not(unix))]
    socket: std::net::UdpSocket,
}

#[cfg(unix)]
impl Wakeup {
    pub(crate) fn new() -> io::Result<Self> {
        UnixStream::pair().map(|ends| Self { ends })
    }

    pub(crate) fn wake(&self) {
        // the other end is at the end of its stream from here on
        let _ = self.ends.0.shutdown(std::net::Shutdown::Write);
    }

    /// What a wait has to include.
    pub(crate) fn woken(&self) -> PollFd<'_> {
        PollFd::new(&self.ends.1, PollFlags::IN)
    }
}

#[cfg(not(unix))]
impl Wakeup {
    pub(crate) fn new() -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(socket.local_addr()?)?;
        // until then anybody could have sent to it
        socket.set_nonblocking(true)?;
        while socket.recv(&mut []).is_ok() {}
        Ok(Self { socket })
    }

    pub(crate) fn wake(&self) {
        // nobody reads it: it stays readable
        let _ = self.socket.send(&[0]);
    }

    /// What a wait has to include.
    pub(crate) fn woken(&self) -> PollFd<'_> {
        PollFd::new(&self.socket, PollFlags::IN)
    }
}

/// Waits until one of them is ready. An error of the kind `WouldBlock` says that the deadline has
/// passed, one of the kind `Interrupted` comes of a signal.
pub(crate) fn wait(sockets: &mut [PollFd<'_>], deadline: Option<Instant>) -> io::Result<()> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // rounded up where only milliseconds count: never too early
        let time = left.and_then(|left| Timespec::try_from(left.min(LONGEST)).ok());
        if poll(sockets, time.as_ref())? > 0 {
            return Ok(());
        }
        if left.is_some_and(|left| left.is_zero()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
    }
}

impl Hangup for Wakeup {
    fn hang_up(&self) {
        self.wake();
    }
}

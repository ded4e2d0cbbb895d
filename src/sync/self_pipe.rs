//! A descriptor that is readable while there is something to look at.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// Two ends of a stream inside the process, neither of which blocks.
#[derive(Debug)]
pub(crate) struct SelfPipe {
    inner: UnixStream,
    outer: UnixStream,
}

impl SelfPipe {
    /// # Errors
    ///
    /// What the system says if there are no descriptors to be had.
    pub(crate) fn new() -> io::Result<Self> {
        let (inner, outer) = UnixStream::pair()?;
        inner.set_nonblocking(true)?;
        outer.set_nonblocking(true)?;
        Ok(Self { inner, outer })
    }

    /// Makes it readable. One that is full already is that.
    pub(crate) fn fill(&self) {
        let _ = (&self.inner).write(&[1]);
    }

    /// Makes it unreadable.
    pub(crate) fn empty(&self) {
        while (&self.outer).read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
    }
}

impl AsFd for SelfPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.outer.as_fd()
    }
}

//! A socket that can end with a reset, and without the end of the stream before it: what `shutdown`
//! does says the end of the stream first, and what a drop does comes when the last user is gone.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

pub(crate) trait Disconnect {
    /// Sends a reset, where there is such a thing. A kernel may refuse that while a thread waits in
    /// a read or a write (Linux of 2023 does).
    fn disconnect(&self) -> io::Result<()>;

    fn shut(&self, how: Shutdown) -> io::Result<()>;
}

impl Disconnect for TcpStream {
    fn disconnect(&self) -> io::Result<()> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        return Ok(rustix::net::connect_unspec(self)?);
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        Err(io::ErrorKind::Unsupported.into())
    }

    fn shut(&self, how: Shutdown) -> io::Result<()> {
        self.shutdown(how)
    }
}

#[cfg(unix)]
impl Disconnect for UnixStream {
    fn disconnect(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn shut(&self, how: Shutdown) -> io::Result<()> {
        self.shutdown(how)
    }
}

/// One thread at a time reads, and others write.
#[derive(Debug)]
pub(crate) struct Resettable<S> {
    socket: S,
    is_reading: AtomicBool,
    is_reset: AtomicBool,
}

impl<S: Disconnect> Resettable<S> {
    pub(crate) fn new(socket: S) -> Self {
        Self { socket, is_reading: AtomicBool::new(false), is_reset: AtomicBool::new(false) }
    }

    pub(crate) fn socket(&self) -> &S {
        &self.socket
    }

    /// Reads, unless the socket is reset.
    pub(crate) fn enter<T>(&self, read: impl FnOnce(&S) -> io::Result<T>) -> io::Result<T> {
        self.is_reading.store(true, SeqCst);
        let result = if self.is_reset.load(SeqCst) {
            Err(io::ErrorKind::ConnectionReset.into())
        } else {
            read(&self.socket)
        };
        self.is_reading.store(false, SeqCst);
        if self.is_reset.load(SeqCst) {
            self.disconnect();
        }
        result
    }

    /// Sends a reset, and wakes whoever blocks.
    pub(crate) fn reset(&self) {
        self.is_reset.store(true, SeqCst);
        if self.is_reading.load(SeqCst) {
            // ends the read, and tells the peer nothing: whoever reads sends the reset
            let _ = self.socket.shut(Shutdown::Read);
        } else {
            self.disconnect();
        }
    }

    fn disconnect(&self) {
        if self.socket.disconnect().is_err() {
            // wakes whoever is stuck in a write; the end of the stream stays behind what they
            // could not send
            let _ = self.socket.shut(Shutdown::Both);
        }
    }
}

impl Read for &Resettable<TcpStream> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.enter(|mut socket| socket.read(buf))
    }
}

impl Write for &Resettable<TcpStream> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&self.socket).write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

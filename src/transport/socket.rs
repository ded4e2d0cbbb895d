//! A plain socket: one descriptor, shared by both halves.

use std::fmt::Debug;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use socket2::SockRef;

use super::{Duplex, Hangup, ReadHalf, WriteHalf};

/// What the halves need of a stream; TCP and Unix streams have it all.
trait Socket: Send + Sync + Debug + 'static {
    fn receive(&self, buf: &mut [u8]) -> io::Result<usize>;
    fn send(&self, buf: &[u8]) -> io::Result<usize>;

    /// Sends what fits without blocking.
    fn try_send(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        #[cfg(unix)]
        return self
            .options()
            .send_vectored_with_flags(bufs, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        #[cfg(not(unix))]
        {
            let _ = bufs;
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    fn shut(&self, how: Shutdown) -> io::Result<()>;
    fn options(&self) -> SockRef<'_>;

    /// Sends a reset, with no end of the stream before it, where there is such a thing. No thread
    /// may be waiting in a read or a write: some kernels refuse that, and older ones crash.
    fn disconnect(&self) -> io::Result<()>;
}

impl Socket for TcpStream {
    fn receive(&self, buf: &mut [u8]) -> io::Result<usize> {
        (&mut &*self).read(buf)
    }

    fn send(&self, buf: &[u8]) -> io::Result<usize> {
        (&mut &*self).write(buf)
    }

    fn shut(&self, how: Shutdown) -> io::Result<()> {
        self.shutdown(how)
    }

    fn options(&self) -> SockRef<'_> {
        self.into()
    }

    fn disconnect(&self) -> io::Result<()> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        return Ok(rustix::net::connect_unspec(self)?);
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        self.shutdown(Shutdown::Both)
    }
}

#[cfg(unix)]
impl Socket for UnixStream {
    fn receive(&self, buf: &mut [u8]) -> io::Result<usize> {
        (&mut &*self).read(buf)
    }

    fn send(&self, buf: &[u8]) -> io::Result<usize> {
        (&mut &*self).write(buf)
    }

    fn shut(&self, how: Shutdown) -> io::Result<()> {
        self.shutdown(how)
    }

    fn options(&self) -> SockRef<'_> {
        self.into()
    }

    fn disconnect(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Both)
    }
}

/// What is left of a deadline is handed to the system in whole microseconds, and no time at all
/// means for ever there.
fn least(time: Duration) -> Duration {
    time.max(Duration::from_micros(1))
}

/// A socket, and who blocks in it.
#[derive(Debug)]
struct Shared<S> {
    socket: S,
    is_reading: AtomicBool,
    is_writing: AtomicBool,
    /// It is to end with a reset: nobody enters any more, and the last to leave sends it.
    is_reset: AtomicBool,
}

impl<S: Socket> Shared<S> {
    fn enter<T>(
        &self,
        is_inside: &AtomicBool,
        call: impl FnOnce(&S) -> io::Result<T>,
    ) -> io::Result<T> {
        is_inside.store(true, SeqCst);
        let result = if self.is_reset.load(SeqCst) {
            Err(io::ErrorKind::ConnectionReset.into())
        } else {
            call(&self.socket)
        };
        is_inside.store(false, SeqCst);
        if self.is_reset.load(SeqCst) {
            self.disconnect();
        }
        result
    }

    fn disconnect(&self) {
        let is_inside = |inside: &AtomicBool| inside.load(SeqCst);
        if !is_inside(&self.is_reading) && !is_inside(&self.is_writing) {
            // the only error is a system that cannot
            if self.socket.disconnect().is_err() {
                let _ = self.socket.shut(Shutdown::Both);
            }
        }
    }

    fn reset(&self) {
        self.is_reset.store(true, SeqCst);
        if self.is_writing.load(SeqCst) {
            // nothing else ends a write; the end of the stream stays behind what cannot be sent
            let _ = self.socket.shut(Shutdown::Both);
        } else if self.is_reading.load(SeqCst) {
            // ends the read, and tells the peer nothing
            let _ = self.socket.shut(Shutdown::Read);
        }
        self.disconnect();
    }
}

#[derive(Debug)]
struct Half<S>(Arc<Shared<S>>);

impl<S: Socket> Read for Half<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.enter(&self.0.is_reading, |socket| socket.receive(buf))
    }
}

impl<S: Socket> ReadHalf for Half<S> {
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.socket.options().set_read_timeout(timeout.map(least))
    }
}

impl<S: Socket> Write for Half<S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.enter(&self.0.is_writing, |socket| socket.send(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<S: Socket> WriteHalf for Half<S> {
    fn set_write_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.socket.options().set_write_timeout(timeout.map(least))
    }

    fn try_write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.socket.try_send(&[IoSlice::new(buf)])
    }

    fn try_write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.socket.try_send(bufs)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.0.socket.shut(Shutdown::Write)
    }
}

impl<S: Socket> Hangup for Half<S> {
    fn hang_up(&self) {
        // the only error is a socket that is down already
        let _ = self.0.socket.shut(Shutdown::Both);
    }

    fn reset(&self) {
        self.reset_when_dropped();
        self.0.reset();
    }

    fn reset_when_dropped(&self) {
        // best effort: without it the kernel goes on trying for a while
        let _ = self.0.socket.options().set_linger(Some(Duration::ZERO));
    }
}

fn duplex<S: Socket>(stream: S) -> Duplex {
    let shared = Arc::new(Shared {
        socket: stream,
        is_reading: AtomicBool::new(false),
        is_writing: AtomicBool::new(false),
        is_reset: AtomicBool::new(false),
    });
    let half = || Half(Arc::clone(&shared));
    Duplex { reader: Box::new(half()), writer: Box::new(half()), hangup: Arc::new(half()) }
}

impl From<TcpStream> for Duplex {
    fn from(stream: TcpStream) -> Self {
        duplex(stream)
    }
}

#[cfg(unix)]
impl From<UnixStream> for Duplex {
    fn from(stream: UnixStream) -> Self {
        duplex(stream)
    }
}

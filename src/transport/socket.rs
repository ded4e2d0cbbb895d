//! A plain socket: one descriptor, shared by both halves.

use std::fmt::Debug;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;

use super::reset::{Disconnect, Resettable};
use super::{Duplex, Hangup, ReadHalf, WriteHalf};

/// What the halves need of a stream; TCP and Unix streams have it all.
trait Socket: Disconnect + Send + Sync + Debug + 'static {
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

    fn options(&self) -> SockRef<'_>;
}

impl Socket for TcpStream {
    fn receive(&self, buf: &mut [u8]) -> io::Result<usize> {
        (&mut &*self).read(buf)
    }

    fn send(&self, buf: &[u8]) -> io::Result<usize> {
        (&mut &*self).write(buf)
    }

    fn options(&self) -> SockRef<'_> {
        self.into()
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

    fn options(&self) -> SockRef<'_> {
        self.into()
    }
}

/// What is left of a deadline is handed to the system in whole microseconds, and no time at all
/// means for ever there.
fn least(time: Duration) -> Duration {
    time.max(Duration::from_micros(1))
}

#[derive(Debug)]
struct Half<S>(Arc<Resettable<S>>);

impl<S: Socket> Read for Half<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.enter(|socket| socket.receive(buf))
    }
}

impl<S: Socket> ReadHalf for Half<S> {
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.socket().options().set_read_timeout(timeout.map(least))
    }
}

impl<S: Socket> Write for Half<S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.socket().send(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<S: Socket> WriteHalf for Half<S> {
    fn set_write_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.socket().options().set_write_timeout(timeout.map(least))
    }

    fn try_write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.socket().try_send(&[IoSlice::new(buf)])
    }

    fn try_write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.socket().try_send(bufs)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.0.socket().shut(Shutdown::Write)
    }
}

impl<S: Socket> Hangup for Half<S> {
    fn hang_up(&self) {
        // the only error is a socket that is down already
        let _ = self.0.socket().shut(Shutdown::Both);
    }

    fn reset(&self) {
        self.reset_when_dropped();
        self.0.reset();
    }

    fn reset_when_dropped(&self) {
        // best effort: without it the kernel goes on trying for a while
        let _ = self.0.socket().options().set_linger(Some(Duration::ZERO));
    }
}

/// How much of what the system has taken may wait there without being on its way.
#[cfg(any(target_os = "linux", target_os = "android"))]
const NOT_SENT: u32 = 128 * 1024;

fn duplex<S: Socket>(stream: S) -> Duplex {
    // threads wait in it; what is no socket any more shows in its first read
    let _ = stream.options().set_nonblocking(false);
    let socket = Arc::new(Resettable::new(stream));
    let half = || Half(Arc::clone(&socket));
    Duplex { reader: Box::new(half()), writer: Box::new(half()), hangup: Arc::new(half()) }
}

impl From<TcpStream> for Duplex {
    fn from(stream: TcpStream) -> Self {
        // a peer that takes what is sent is alive, and only what the system takes of us shows that: it
        // could hide megabytes, seconds of a slow peer, behind which the heartbeat's ping stands
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = SockRef::from(&stream).set_tcp_notsent_lowat(NOT_SENT);
        duplex(stream)
    }
}

#[cfg(unix)]
impl From<UnixStream> for Duplex {
    fn from(stream: UnixStream) -> Self {
        duplex(stream)
    }
}

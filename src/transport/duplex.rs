//! A connection in pieces.

#[cfg(feature = "tls")]
use std::io;
use std::net::TcpStream;
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::sync::Arc;
#[cfg(feature = "tls")]
use std::time::Duration;

use super::blocking::Blocking;
use super::prefixed::Prefixed;
use super::{Hangup, ReadHalf, Socket, WriteHalf};

/// A connection to a peer, in pieces that different threads own. A `TcpStream` converts into
/// one, and so does a `UnixStream`, in whatever mode: what an async runtime gives away (`into_std`) is in
/// non-blocking mode.
#[derive(Debug)]
#[must_use = "a connection that nobody holds is at its end"]
pub struct Duplex {
    pub(crate) reader: Box<dyn ReadHalf>,
    pub(crate) writer: Box<dyn WriteHalf>,
    pub(crate) hangup: Arc<dyn Hangup>,
}

impl Duplex {
    /// A connection of any other make.
    pub fn new(
        reader: impl ReadHalf + 'static,
        writer: impl WriteHalf + 'static,
        hangup: impl Hangup + 'static,
    ) -> Self {
        Self {
            reader: Box::new(Blocking::new(reader)),
            writer: Box::new(Blocking::new(writer)),
            hangup: Arc::new(hangup),
        }
    }

    /// Takes the connection out; what is left is none.
    #[cfg(feature = "tls")]
    pub(crate) fn take(&mut self) -> Self {
        let hangup = Arc::clone(&self.hangup);
        let nothing = Self { reader: Box::new(Nothing), writer: Box::new(Nothing), hangup };
        std::mem::replace(self, nothing)
    }

    /// Has these bytes read before any other.
    pub(crate) fn put_back(self, bytes: Vec<u8>) -> Self {
        if bytes.is_empty() {
            return self;
        }
        Self { reader: Box::new(Prefixed::new(bytes, self.reader)), ..self }
    }
}

/// No connection.
#[cfg(feature = "tls")]
#[derive(Debug)]
struct Nothing;

#[cfg(feature = "tls")]
impl std::io::Read for Nothing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::NotConnected.into())
    }
}

#[cfg(feature = "tls")]
impl ReadHalf for Nothing {
    fn set_read_timeout(&mut self, _: Option<Duration>) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(feature = "tls")]
impl std::io::Write for Nothing {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::NotConnected.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::NotConnected.into())
    }
}

#[cfg(feature = "tls")]
impl WriteHalf for Nothing {
    fn set_write_timeout(&mut self, _: Option<Duration>) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How much of what the system has taken may wait there without being on its way.
#[cfg(any(target_os = "linux", target_os = "android"))]
const NOT_SENT: u32 = 128 * 1024;

impl From<TcpStream> for Duplex {
    fn from(stream: TcpStream) -> Self {
        // a peer that takes what is sent is alive, and only what the system takes of us shows that: it
        // could hide megabytes, seconds of a slow peer, behind which the heartbeat's ping stands
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = socket2::SockRef::from(&stream).set_tcp_notsent_lowat(NOT_SENT);
        of_socket(stream)
    }
}

#[cfg(unix)]
impl From<UnixStream> for Duplex {
    fn from(stream: UnixStream) -> Self {
        of_socket(stream)
    }
}

fn of_socket(stream: impl Into<socket2::Socket>) -> Duplex {
    let socket = Socket::new(stream);
    let reader = Box::new(socket.clone());
    Duplex { reader, writer: Box::new(socket.clone()), hangup: Arc::new(socket) }
}

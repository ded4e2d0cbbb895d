//! Waiting for connections, and being told that it is enough.
//!
//! The socket may be another process's as well, so nothing that ends the wait may touch the socket.

use std::io;
#[cfg(unix)]
use std::net::Shutdown;
#[cfg(not(unix))]
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
#[cfg(unix)]
use std::os::unix::net::UnixStream;

#[cfg(unix)]
use rustix::event::{PollFd, PollFlags, poll};

use super::accepted::Accepted;
use super::listener::Listener;

#[derive(Debug)]
pub(super) struct Acceptor {
    listener: Listener,
    /// What ends a wait: the end of the stream of one of these two.
    #[cfg(unix)]
    wake: (UnixStream, UnixStream),
}

#[cfg(unix)]
impl Acceptor {
    pub(super) fn new(listener: Listener) -> io::Result<Self> {
        // another process may take the connection that this one has woken for
        listener.set_nonblocking(true)?;
        Ok(Self { listener, wake: UnixStream::pair()? })
    }

    /// Waits for the next connection; an error of the kind `Interrupted` once it is woken. From then on
    /// connections are left to others who have the socket.
    pub(super) fn accept(&self) -> io::Result<Accepted> {
        loop {
            let mut waits = [
                PollFd::new(&self.listener, PollFlags::IN),
                PollFd::new(&self.wake.1, PollFlags::IN),
            ];
            match poll(&mut waits, None) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            if !waits[1].revents().is_empty() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            match self.listener.accept() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }

    /// Has the thread that accepts return from that.
    pub(super) fn wake(&self) {
        let _ = self.wake.0.shutdown(Shutdown::Both);
    }
}

#[cfg(not(unix))]
impl Acceptor {
    pub(super) fn new(listener: Listener) -> io::Result<Self> {
        listener.set_nonblocking(false)?;
        Ok(Self { listener })
    }

    /// Waits for the next connection, or until it is woken.
    pub(super) fn accept(&self) -> io::Result<Accepted> {
        self.listener.accept()
    }

    /// Has the thread that accepts return from that.
    pub(super) fn wake(&self) {
        if let Ok(mut address) = self.listener.local_addr() {
            if address.ip().is_unspecified() {
                address.set_ip(match address {
                    SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                    SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
                });
            }
            let _ = TcpStream::connect_timeout(&address, std::time::Duration::from_secs(1));
        }
    }
}

impl Acceptor {
    pub(super) fn listener(&self) -> &Listener {
        &self.listener
    }
}

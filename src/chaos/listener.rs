//! The socket on which the proxy listens.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};

use rustix::event::{PollFd, PollFlags};
use socket2::{Domain, Socket, Type};

use crate::transport::{Wakeup, wait};

#[derive(Debug)]
pub(super) struct Listener {
    socket: TcpListener,
    wakeup: Wakeup,
}

impl Listener {
    pub(super) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        // connections of the same port may linger; on Windows this option would take it away from somebody
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(1024)?;
        // it is waited for beside it: a client that is gone again would block an accept
        socket.set_nonblocking(true)?;
        Ok(Self { socket: socket.into(), wakeup: Wakeup::new()? })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Waits for a client. An error of the kind `WouldBlock` if there is none, for this was woken or the client
    /// is gone again.
    pub(super) fn accept(&self) -> io::Result<TcpStream> {
        wait(&mut [PollFd::new(&self.socket, PollFlags::IN), self.wakeup.woken()], None)?;
        self.socket.accept().map(|(stream, _)| stream)
    }

    /// Has the thread that accepts return from that.
    pub(super) fn wake(&self) {
        self.wakeup.wake();
    }
}

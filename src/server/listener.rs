//! A socket that listens.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
#[cfg(unix)]
use std::os::fd::{AsFd, OwnedFd};
#[cfg(unix)]
use std::os::unix::net::UnixListener;

use rustix::event::{PollFd, PollFlags};
#[cfg(any(target_os = "linux", target_os = "android"))]
use socket2::SockRef;
use socket2::{Domain, Protocol, Socket, Type};

use super::accepted::Accepted;
use crate::policy::SocketOptions;

/// A socket that listens, for [`ServerBuilder::serve`](crate::ServerBuilder::serve): a
/// [`TcpListener`] or `UnixListener` that the program has made, one that systemd has
/// ([`from_systemd`](Self::from_systemd)), or one that another process has handed over.
///
/// Several processes can have the same socket: each connection goes to one of them. A server
/// puts it into non-blocking mode, which all of them share: leave it there.
///
/// # Restart without a gap
///
/// [`ServerHandle::listener`](crate::ServerHandle::listener) is the socket of a running server. Give it
/// to the next process, as its standard input say, and shut the old server down once the new one
/// serves: the kernel goes on taking connections, and none is refused.
///
/// ```no_run
/// # #[cfg(unix)] {
/// use std::os::fd::{AsFd, OwnedFd};
/// use std::process::{Command, Stdio};
/// use everlink::{Listener, Server};
///
/// # fn serve(session: everlink::Session) {}
/// # fn old(server: Server) -> Result<(), Box<dyn std::error::Error>> {
/// // the old process
/// let socket = OwnedFd::from(server.listener()?);
/// let next = Command::new("/usr/local/bin/feed").arg("--inherit").stdin(Stdio::from(socket)).spawn()?;
/// // ... once that has said that it serves
/// server.shutdown(std::time::Duration::from_secs(10));
/// # drop(next);
/// # Ok(())
/// # }
/// # fn new() -> Result<(), Box<dyn std::error::Error>> {
/// // the new process
/// let inherited = std::io::stdin().as_fd().try_clone_to_owned()?;
/// let server = Server::builder().serve(Listener::try_from(inherited)?, serve)?;
/// # drop(server);
/// # Ok(())
/// # }
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a listener that nobody serves lets its clients wait"]
pub struct Listener {
    socket: Listening,
    name: Option<String>,
}

#[derive(Debug)]
enum Listening {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

impl Listener {
    /// The sockets that systemd (or what speaks as it does) has opened for this process, in the order
    /// of the unit's `ListenStream=` lines: what `LISTEN_FDS` and `LISTEN_PID` say, as in
    /// [sd_listen_fds(3)]. None, if it was started in another way. Each is closed for programs
    /// that this one starts.
    ///
    /// It answers once: both variables are taken out of the environment, so that no child takes
    /// them for its own. Call it before threads are started that read the environment by C. A
    /// process that hands its sockets over cannot know the number of the next one, and leaves
    /// `LISTEN_PID` out.
    ///
    /// ```
    /// # #[cfg(unix)] {
    /// use everlink::{Listener, Server};
    ///
    /// # fn serve(session: everlink::Session) {}
    /// let server = match Listener::from_systemd()?.into_iter().next() {
    ///     Some(listener) => Server::builder().serve(listener, serve)?,
    ///     // started by hand
    ///     None => Server::builder().bind("127.0.0.1:0", serve)?,
    /// };
    /// # drop(server);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// [sd_listen_fds(3)]: https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html
    ///
    /// # Errors
    ///
    /// A descriptor that is no stream socket, or does not listen (`Accept=yes` hands connections
    /// over: [`ServerHandle::adopt`](crate::ServerHandle::adopt) takes those).
    #[cfg(unix)]
    pub fn from_systemd() -> io::Result<Vec<Self>> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').filter(|name| !name.is_empty()).map(str::to_owned);
        let mut passed = listenfd::ListenFd::from_env();
        let count = passed.len();
        let take = |index| {
            let socket = match passed.take_tcp_listener(index) {
                Ok(Some(socket)) => Listening::Tcp(socket),
                _ => match passed.take_unix_listener(index)? {
                    Some(socket) => Listening::Unix(socket),
                    None => return Err(io::ErrorKind::NotFound.into()),
                },
            };
            Self { socket, name: names.next() }.checked()
        };
        (0..count).map(take).collect()
    }

    /// What systemd calls it: `FileDescriptorName=` of its unit.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The address on which it listens; `[::]:0` for a Unix socket, which has a path instead.
    ///
    /// # Errors
    ///
    /// What the system says of a socket that is none.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.socket {
            Listening::Tcp(socket) => socket.local_addr(),
            #[cfg(unix)]
            Listening::Unix(_) => Ok(super::peer::NO_ADDRESS),
        }
    }

    /// Another handle to the same socket.
    ///
    /// # Errors
    ///
    /// No descriptor is left.
    pub fn try_clone(&self) -> io::Result<Self> {
        let socket = match &self.socket {
            Listening::Tcp(socket) => Listening::Tcp(socket.try_clone()?),
            #[cfg(unix)]
            Listening::Unix(socket) => Listening::Unix(socket.try_clone()?),
        };
        Ok(Self { socket, name: self.name.clone() })
    }

    /// Listens on the first of the addresses that can be had.
    pub(super) fn bind(address: impl ToSocketAddrs, backlog: u32) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::InvalidInput, "no address to listen on");
        for address in address.to_socket_addrs()? {
            match Self::bind_to(address, backlog) {
                Ok(listener) => return Ok(listener),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn bind_to(address: SocketAddr, backlog: u32) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // as std does it: a server that starts again finds connections of the last one in TIME-WAIT
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        if address.is_ipv6() && address.ip().is_unspecified() {
            // for IPv4 as well, which not every system does by itself; OpenBSD never does
            let _ = socket.set_only_v6(false);
        }
        socket.bind(&address.into())?;
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        Ok(TcpListener::from(socket).into())
    }

    /// What it is called in metrics and log records.
    pub(super) fn label(&self) -> io::Result<String> {
        #[cfg(unix)]
        if let Listening::Unix(socket) = &self.socket {
            let address = socket.local_addr()?;
            let path = address.as_pathname().map(|path| path.display().to_string());
            return Ok(path.unwrap_or_else(|| "unix".into()));
        }
        Ok(self.local_addr()?.to_string())
    }

    /// The options that have no effect on its connections.
    pub(super) fn no_effect(&self, options: SocketOptions) -> [(&'static str, bool); 2] {
        let is_tcp = matches!(self.socket, Listening::Tcp(_));
        [
            ("SocketOptions::keepalive", !is_tcp && options.keepalive.is_some()),
            ("SocketOptions::user_timeout", !is_tcp && options.user_timeout.is_some()),
        ]
    }

    /// Refuses a socket that does not listen, where the system tells.
    #[cfg(unix)]
    pub(super) fn checked(self) -> io::Result<Self> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if !SockRef::from(&self.as_fd()).is_listener()? {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket does not listen"));
        }
        Ok(self)
    }

    #[cfg(not(unix))]
    pub(super) fn checked(self) -> io::Result<Self> {
        Ok(self)
    }

    pub(super) fn set_nonblocking(&self, is_nonblocking: bool) -> io::Result<()> {
        match &self.socket {
            Listening::Tcp(socket) => socket.set_nonblocking(is_nonblocking),
            #[cfg(unix)]
            Listening::Unix(socket) => socket.set_nonblocking(is_nonblocking),
        }
    }

    /// What a wait for the next connection has to include.
    pub(super) fn ready(&self) -> PollFd<'_> {
        match &self.socket {
            Listening::Tcp(socket) => PollFd::new(socket, PollFlags::IN),
            #[cfg(unix)]
            Listening::Unix(socket) => PollFd::new(socket, PollFlags::IN),
        }
    }

    pub(super) fn accept(&self) -> io::Result<Accepted> {
        match &self.socket {
            Listening::Tcp(socket) => {
                let (stream, address) = socket.accept()?;
                Ok(Accepted::tcp(stream, address))
            }
            #[cfg(unix)]
            Listening::Unix(socket) => Ok(socket.accept()?.0.into()),
        }
    }
}

impl From<TcpListener> for Listener {
    fn from(socket: TcpListener) -> Self {
        Self { socket: Listening::Tcp(socket), name: None }
    }
}

#[cfg(unix)]
impl From<UnixListener> for Listener {
    fn from(socket: UnixListener) -> Self {
        Self { socket: Listening::Unix(socket), name: None }
    }
}

/// A descriptor that another process has handed over.
#[cfg(unix)]
impl TryFrom<OwnedFd> for Listener {
    type Error = io::Error;

    fn try_from(descriptor: OwnedFd) -> io::Result<Self> {
        let socket = Socket::from(descriptor);
        let listener: Self = match socket.local_addr()?.domain() {
            Domain::UNIX => UnixListener::from(OwnedFd::from(socket)).into(),
            Domain::IPV4 | Domain::IPV6 => TcpListener::from(socket).into(),
            _ => {
                let words = "the socket is of no kind that is served";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, words));
            }
        };
        listener.checked()
    }
}

/// To be handed to another process: whatever takes a descriptor, `Stdio` say, takes this.
#[cfg(unix)]
impl From<Listener> for OwnedFd {
    fn from(listener: Listener) -> Self {
        match listener.socket {
            Listening::Tcp(socket) => socket.into(),
            Listening::Unix(socket) => socket.into(),
        }
    }
}

#[cfg(unix)]
impl AsFd for Listener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match &self.socket {
            Listening::Tcp(socket) => socket.as_fd(),
            Listening::Unix(socket) => socket.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};
    use std::time::Duration;

    use super::*;

    /// What Linux does by itself, unless it is told otherwise, others have to be asked for.
    #[test]
    fn any_address_of_ipv6_is_any_of_ipv4_too() {
        let Ok(listener) = Listener::bind("[::]:0", 1) else {
            return println!("skipped: there is no IPv6 here");
        };
        let address =
            SocketAddr::from((Ipv4Addr::LOCALHOST, listener.local_addr().unwrap().port()));
        let connected = TcpStream::connect_timeout(&address, Duration::from_secs(10));
        // OpenBSD has no such thing
        assert!(connected.is_ok() || cfg!(target_os = "openbsd"), "{connected:?}");
    }
}

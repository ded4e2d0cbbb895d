//! From addresses to one connected socket.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::Interrupt;
use crate::failure::Failure;
use crate::policy::SocketOptions;
use crate::transport::{Wakeup, wait};

/// How long one address has before the next is tried beside it (RFC 8305 section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// Connects to the first address that answers.
///
/// One thread waits for all attempts that are under way, for the next one's turn and for `close` at once.
#[derive(Debug)]
pub(crate) struct Dialer {
    options: SocketOptions,
}

/// One that has not answered yet.
struct Attempt {
    address: SocketAddr,
    socket: Socket,
}

impl Dialer {
    pub(crate) fn new(options: SocketOptions) -> Self {
        Self { options }
    }

    /// Tries the addresses in turn, each [`STAGGER`] after the one before or as soon as that one
    /// has failed; the first to connect wins.
    ///
    /// # Errors
    ///
    /// The last failure once every address has failed or the deadline has passed.
    pub(crate) fn dial(
        &self,
        addresses: &[SocketAddr],
        deadline: Instant,
        interrupt: &Interrupt,
    ) -> Result<(TcpStream, SocketAddr), Failure> {
        let mut untried = self.reachable(addresses)?.into_iter().peekable();
        let wakeup = Arc::new(Wakeup::new()?);
        interrupt.watch(Arc::<Wakeup>::clone(&wakeup));
        let mut under_way: Vec<Attempt> = Vec::new();
        let mut last: Option<Failure> = None;
        let mut turn = Instant::now();
        while !interrupt.is_raised() {
            let now = Instant::now();
            if under_way.is_empty() || now >= turn {
                turn = now + STAGGER;
                match untried.next().map(|address| self.start(address)) {
                    Some(Ok(attempt)) => under_way.push(attempt),
                    Some(Err(failure)) => (last, turn) = (Some(failure), now),
                    None if under_way.is_empty() => break,
                    None => {}
                }
            }
            let Some(latest) = under_way.last() else { continue };
            if now >= deadline {
                let source = io::ErrorKind::TimedOut.into();
                return Err(Failure::Connect { address: latest.address, source });
            }
            let until = untried.peek().map_or(deadline, |_| deadline.min(turn));
            for ready in ready(&under_way, &wakeup, until)? {
                let Attempt { address, socket } = under_way.remove(ready);
                match into_stream(socket) {
                    Ok(stream) => return Ok((stream, address)),
                    Err(source) => (last, turn) = (Some(self.failed(address, source)), now),
                }
            }
        }
        Err(last.filter(|_| !interrupt.is_raised()).unwrap_or(Failure::Interrupted))
    }

    /// Those that can be dialed from the local address.
    fn reachable(&self, addresses: &[SocketAddr]) -> Result<Vec<SocketAddr>, Failure> {
        let Some(local) = self.options.bound_to() else { return Ok(addresses.to_vec()) };
        let is_reachable = |address: &&SocketAddr| address.is_ipv4() == local.is_ipv4();
        let reachable: Vec<_> = addresses.iter().filter(is_reachable).copied().collect();
        if reachable.is_empty() {
            let reason = "the host has no address of that family";
            let source = io::Error::new(io::ErrorKind::AddrNotAvailable, reason);
            return Err(Failure::LocalAddress { address: local, source });
        }
        Ok(reachable)
    }

    fn failed(&self, address: SocketAddr, source: io::Error) -> Failure {
        match self.options.bound_to() {
            // of a chosen port, the same two ends may still be known to the kernel
            Some(local) if source.kind() == io::ErrorKind::AddrNotAvailable => {
                Failure::LocalAddress { address: local, source }
            }
            _ => Failure::Connect { address, source },
        }
    }

    fn start(&self, address: SocketAddr) -> Result<Attempt, Failure> {
        let socket = socket(&self.options, address)
            .map_err(|source| Failure::Connect { address, source })?;
        if let Some(local) = self.options.bound_to() {
            bind(&socket, local)
                .map_err(|source| Failure::LocalAddress { address: local, source })?;
        }
        match socket.connect(&address.into()) {
            Err(error) if !is_under_way(&error) => Err(self.failed(address, error)),
            _ => Ok(Attempt { address, socket }),
        }
    }
}

/// Whether a connect in non-blocking mode has only begun.
fn is_under_way(error: &io::Error) -> bool {
    #[cfg(unix)]
    let is_begun = error.raw_os_error() == Some(libc::EINPROGRESS);
    #[cfg(not(unix))]
    let is_begun = false;
    is_begun || matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Waits until one has an answer, it is woken, or the time has come; those that have one, the last first.
fn ready(attempts: &[Attempt], wakeup: &Wakeup, until: Instant) -> io::Result<Vec<usize>> {
    let sockets = attempts.iter().map(|attempt| PollFd::new(&attempt.socket, PollFlags::OUT));
    let mut waiting: Vec<PollFd<'_>> = sockets.chain([wakeup.woken()]).collect();
    match wait(&mut waiting, Some(until)) {
        Err(error) if !is_under_way(&error) => return Err(error),
        _ => {}
    }
    let is_ready = |index: &usize| !waiting[*index].revents().is_empty();
    Ok((0..attempts.len()).rev().filter(is_ready).collect())
}

fn socket(options: &SocketOptions, address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    options.apply(SockRef::from(&socket))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn bind(socket: &Socket, local: SocketAddr) -> io::Result<()> {
    // a port that this very program has used lately is free enough; on Windows this option means
    // that the port may be taken away from somebody
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&local.into())
}

/// The stream of an attempt that has an answer, or the error that is it.
fn into_stream(socket: Socket) -> io::Result<TcpStream> {
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    socket.set_nonblocking(false)?;
    let stream = TcpStream::from(socket);
    if is_connected_to_itself(&stream) {
        // with a reset, for whoever should listen there may be about to come back
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        let reason = "nobody listens: the socket was connected to itself";
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, reason));
    }
    Ok(stream)
}

/// Whoever dials a port of its own machine often enough is one day given that very port as the
/// local one, and TCP connects the two (RFC 9293 section 3.5, simultaneous initiation).
fn is_connected_to_itself(stream: &TcpStream) -> bool {
    matches!((stream.local_addr(), stream.peer_addr()), (Ok(here), Ok(there)) if here == there)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_address_serves_when_the_first_refuses() {
        let refusing = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap()
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let works = listener.local_addr().unwrap();
        let dialer = Dialer::new(SocketOptions::default());
        let deadline = Instant::now() + Duration::from_secs(10);
        let (_, address) =
            dialer.dial(&[refusing, works], deadline, &Interrupt::new()).expect("connected");
        assert_eq!(address, works);
        let failure = dialer.dial(&[refusing], deadline, &Interrupt::new()).unwrap_err();
        assert!(matches!(failure, Failure::Connect { address, .. } if address == refusing));
    }

    #[test]
    fn a_local_address_that_cannot_be_used_is_not_the_servers_fault() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = listener.local_addr().unwrap();
        let from = |local: &str| {
            let options = SocketOptions::new().local_address(local.parse().unwrap());
            let dialer = Dialer::new(options);
            let deadline = Instant::now() + Duration::from_secs(10);
            dialer.dial(&[taken], deadline, &Interrupt::new()).map(|(_, address)| address)
        };
        for local in [taken.to_string(), "192.0.2.1:0".into(), "[::1]:0".into()] {
            let failure = from(&local).unwrap_err();
            let Failure::LocalAddress { address, .. } = &failure else { panic!("{failure:?}") };
            assert_eq!(address.to_string(), local);
            assert!(!failure.to_string().contains("could not connect"), "{failure}");
        }
        assert_eq!(from("127.0.0.1:0").unwrap(), taken);
    }
}

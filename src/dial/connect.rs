//! From addresses to one connected socket.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, select, unbounded};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::Interrupt;
use crate::failure::Failure;
use crate::policy::SocketOptions;
use crate::sync::threads::{Role, Threads};

/// How long one address has before the next is tried beside it (RFC 8305 section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// Connects to the first address that answers.
///
/// Every attempt blocks on a thread of its own, so the caller can wait for several of them, for
/// the next one's turn and for `close` at once. Attempts that are no longer wanted are shut
/// down, which ends their threads.
#[derive(Debug)]
pub(crate) struct Dialer {
    options: SocketOptions,
    threads: Threads,
}

struct Attempt {
    address: SocketAddr,
    socket: Arc<Socket>,
}

struct DialResult {
    address: SocketAddr,
    socket: Arc<Socket>,
    result: io::Result<()>,
}

impl Dialer {
    pub(crate) fn new(options: SocketOptions, threads: Threads) -> Self {
        Self { options, threads }
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
        let (sender, answers) = unbounded();
        let mut under_way = UnderWay(Vec::new());
        let mut untried = self.reachable(addresses)?.into_iter().peekable();
        let mut last: Option<Failure> = None;
        loop {
            while under_way.0.is_empty() {
                let Some(address) = untried.next() else {
                    return Err(last.unwrap_or(Failure::Interrupted));
                };
                match self.start(address, deadline, &sender) {
                    Ok(attempt) => under_way.0.push(attempt),
                    Err(failure) => last = Some(failure),
                }
            }
            let turn = if untried.peek().is_some() {
                deadline.min(Instant::now() + STAGGER)
            } else {
                deadline
            };
            select! {
                recv(answers) -> answer => {
                    // the sender lives in this function, so the channel is never disconnected
                    let Ok(DialResult { address, socket, result }) = answer else { continue };
                    under_way.0.retain(|attempt| attempt.address != address);
                    match result.and_then(|()| into_stream(socket)) {
                        Ok(stream) => return Ok((stream, address)),
                        Err(source) => last = Some(self.failed(address, source)),
                    }
                }
                recv(interrupt.raised()) -> _ => return Err(Failure::Interrupted),
                recv(crossbeam_channel::at(turn)) -> _ => {
                    if Instant::now() >= deadline {
                        let address = under_way.0[under_way.0.len() - 1].address;
                        let source = io::ErrorKind::TimedOut.into();
                        return Err(Failure::Connect { address, source });
                    }
                    if let Some(address) = untried.next() {
                        match self.start(address, deadline, &sender) {
                            Ok(attempt) => under_way.0.push(attempt),
                            Err(failure) => last = Some(failure),
                        }
                    }
                }
            }
        }
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

    fn start(
        &self,
        address: SocketAddr,
        deadline: Instant,
        answers: &Sender<DialResult>,
    ) -> Result<Attempt, Failure> {
        let socket = socket(&self.options, address)
            .map_err(|source| Failure::Connect { address, source })?;
        if let Some(local) = self.options.bound_to() {
            bind(&socket, local)
                .map_err(|source| Failure::LocalAddress { address: local, source })?;
        }
        let socket = Arc::new(socket);
        let (theirs, answers) = (Arc::clone(&socket), answers.clone());
        self.threads
            .start(Role::Connect, move || {
                let left = deadline.saturating_duration_since(Instant::now());
                let result =
                    theirs.connect_timeout(&address.into(), left.max(Duration::from_millis(1)));
                // nobody may be waiting any more
                let _ = answers.send(DialResult { address, socket: theirs, result });
            })
            .map_err(Failure::Thread)?;
        Ok(Attempt { address, socket })
    }
}

/// The attempts that have not answered yet; whatever is left at the end is shut down.
struct UnderWay(Vec<Attempt>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        for attempt in &self.0 {
            let _ = attempt.socket.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn socket(options: &SocketOptions, address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    options.apply(SockRef::from(&socket))?;
    Ok(socket)
}

fn bind(socket: &Socket, local: SocketAddr) -> io::Result<()> {
    // a port that this very program has used lately is free enough; on Windows this option means
    // that the port may be taken away from somebody
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&local.into())
}

fn into_stream(socket: Arc<Socket>) -> io::Result<TcpStream> {
    // the dialer's copy was dropped with its entry, so this one is the last
    let stream: TcpStream = match Arc::try_unwrap(socket) {
        Ok(socket) => socket.into(),
        Err(shared) => shared.try_clone()?.into(),
    };
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
    use crate::sync::threads::LEAST_STACK;

    #[test]
    fn the_second_address_serves_when_the_first_refuses() {
        let refusing = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap()
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let works = listener.local_addr().unwrap();
        let dialer = Dialer::new(SocketOptions::default(), Threads::of(0, LEAST_STACK));
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
            let dialer = Dialer::new(options, Threads::of(0, LEAST_STACK));
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

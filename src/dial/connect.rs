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
use crate::sync::threads;

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
    thread_prefix: String,
}

struct Attempt {
    address: SocketAddr,
    socket: Arc<Socket>,
}

struct Answer {
    address: SocketAddr,
    socket: Arc<Socket>,
    result: io::Result<()>,
}

impl Dialer {
    pub(crate) fn new(options: SocketOptions, thread_prefix: String) -> Self {
        Self { options, thread_prefix }
    }

    /// Tries the addresses in turn, families alternating, each [`STAGGER`] after the one before
    /// or as soon as that one has failed; the first to connect wins.
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
        let mut untried = alternate_families(addresses).into_iter().peekable();
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
                    let Ok(Answer { address, socket, result }) = answer else { continue };
                    under_way.0.retain(|attempt| attempt.address != address);
                    match result.and_then(|()| into_stream(socket)) {
                        Ok(stream) => return Ok((stream, address)),
                        Err(source) => last = Some(Failure::Connect { address, source }),
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

    fn start(
        &self,
        address: SocketAddr,
        deadline: Instant,
        answers: &Sender<Answer>,
    ) -> Result<Attempt, Failure> {
        let socket = socket(&self.options, address)
            .map(Arc::new)
            .map_err(|source| Failure::Connect { address, source })?;
        let (theirs, answers) = (Arc::clone(&socket), answers.clone());
        threads::spawn(&self.thread_prefix, "connect", threads::OWN_STACK, move || {
            let left = deadline.saturating_duration_since(Instant::now());
            let result =
                theirs.connect_timeout(&address.into(), left.max(Duration::from_millis(1)));
            // nobody may be waiting any more
            let _ = answers.send(Answer { address, socket: theirs, result });
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
    if let Some(local) = options.local_address {
        socket.bind(&local.into())?;
    }
    Ok(socket)
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

/// Keeps the resolver's order within each family and its first family first (RFC 8305 section 4),
/// and each address once.
fn alternate_families(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut different: Vec<SocketAddr> = Vec::with_capacity(addresses.len());
    for address in addresses {
        if !different.contains(address) {
            different.push(*address);
        }
    }
    let first_is_v6 = different.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<SocketAddr>, Vec<SocketAddr>) =
        different.iter().copied().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut order = Vec::with_capacity(different.len());
    while order.len() < different.len() {
        order.extend(first.next());
        order.extend(second.next());
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_alternate_and_keep_their_order_and_nothing_is_dialed_twice() {
        let order: Vec<String> = alternate_families(
            &["[::1]:1", "[::2]:1", "[::1]:1", "[::3]:1", "10.0.0.1:1", "10.0.0.2:1", "10.0.0.1:1"]
                .map(|address| address.parse().unwrap()),
        )
        .iter()
        .map(|address| address.ip().to_string())
        .collect();
        assert_eq!(order, ["::1", "10.0.0.1", "::2", "10.0.0.2", "::3"]);
    }

    #[test]
    fn the_second_address_serves_when_the_first_refuses() {
        let refusing = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap()
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let works = listener.local_addr().unwrap();
        let dialer = Dialer::new(SocketOptions::default(), "everlink-0".into());
        let deadline = Instant::now() + Duration::from_secs(10);
        let (_, address) =
            dialer.dial(&[refusing, works], deadline, &Interrupt::new()).expect("connected");
        assert_eq!(address, works);
        let failure = dialer.dial(&[refusing], deadline, &Interrupt::new()).unwrap_err();
        assert!(matches!(failure, Failure::Connect { address, .. } if address == refusing));
    }
}

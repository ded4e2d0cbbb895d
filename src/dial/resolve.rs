//! Names to addresses, off the thread that waits for them.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, select, unbounded};
use socket2::{Domain, Socket, Type};

use super::Interrupt;
use crate::failure::{Failure, guarded};
use crate::sync::threads::{Role, Threads};
use crate::transport::Resolve;

/// The system's resolver.
#[derive(Debug)]
pub(crate) struct System;

impl Resolve for System {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match (host, port).to_socket_addrs() {
            Ok(addresses) => Ok(addresses.collect()),
            // one that could not even open its files or a socket says that there is no such name
            Err(error) => match Socket::new(Domain::IPV4, Type::DGRAM, None) {
                Err(cause) => Err(cause),
                Ok(_) => Err(error),
            },
        }
    }
}

type Answer = io::Result<Vec<SocketAddr>>;

/// An answer, and which lookup's it is.
type Numbered = (u64, Answer);

/// A lookup that so many attempts have waited for in vain may never answer: another is started
/// beside it.
const WAITS: u32 = 3;

/// How many lookups of a name there are at most, those that hang included.
const MOST: usize = 4;

/// Resolves with a deadline. A lookup that hangs is left behind on its thread, which nothing can
/// stop; the next attempts wait for that same lookup, and only when it was waited for several times
/// for another besides, so there are never more than a few stuck threads for a name.
pub(crate) struct Resolver {
    resolve: Arc<dyn Resolve>,
    threads: Threads,
    /// Those that have not answered in time, by name.
    pending: Vec<Pending>,
}

struct Pending {
    host: String,
    port: u16,
    answers: (Sender<Numbered>, Receiver<Numbered>),
    /// The numbers of those that have not answered, and of the next.
    running: Vec<u64>,
    next: u64,
    /// Those before this would be old by now: another has answered since they were started.
    fresh: u64,
    /// How many attempts have waited since the last was started.
    waits: u32,
}

impl Pending {
    fn new(host: &str, port: u16) -> Self {
        let (answers, running) = (unbounded(), Vec::new());
        Self { host: host.into(), port, answers, running, next: 0, fresh: 0, waits: 0 }
    }

    fn wants_another(&mut self) -> bool {
        let has_room = self.running.len() < MOST;
        let has_fresh = self.running.iter().any(|number| *number >= self.fresh);
        if !has_room && !has_fresh {
            // then one of these has to do
            self.fresh = 0;
        }
        has_room && (!has_fresh || self.waits >= WAITS)
    }
}

impl Resolver {
    pub(crate) fn new(resolve: Arc<dyn Resolve>, threads: Threads) -> Self {
        Self { resolve, threads, pending: Vec::new() }
    }

    pub(crate) fn resolve(
        &mut self,
        host: &str,
        port: u16,
        deadline: Instant,
        interrupt: &Interrupt,
    ) -> Result<Vec<SocketAddr>, Failure> {
        let failed = |source| Failure::Dns { host: host.into(), source };
        if let Ok(address) = host.parse() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        if host.contains('%') {
            // an address, too: what only the system knows of it is the number of the interface
            return match System.resolve(host, port) {
                Ok(addresses) => Ok(addresses),
                Err(source) => Err(failed(source)),
            };
        }
        let is_same = |pending: &Pending| pending.host == host && pending.port == port;
        let mut pending = match self.pending.iter().position(is_same) {
            Some(index) => self.pending.swap_remove(index),
            None => Pending::new(host, port),
        };
        // whatever has answered meanwhile would be old by the time that it is asked for
        self.pending.retain(|pending| pending.answers.1.len() < pending.running.len());
        if pending.wants_another() {
            match self.start(&mut pending) {
                Err(failure) if pending.running.is_empty() => return Err(failure),
                Ok(()) | Err(_) => {}
            }
        }
        let answer = loop {
            select! {
                recv(pending.answers.1) -> answer => {
                    let Ok((number, answer)) = answer else { continue };
                    pending.running.retain(|running| *running != number);
                    if number >= pending.fresh {
                        break Some(answer);
                    }
                }
                recv(interrupt.raised()) -> _ => return Err(Failure::Interrupted),
                recv(crossbeam_channel::at(deadline)) -> _ => break None,
            }
        };
        match &answer {
            Some(_) => (pending.waits, pending.fresh) = (0, pending.next),
            None => pending.waits += 1,
        }
        if !pending.running.is_empty() {
            self.pending.push(pending);
        }
        let Some(answer) = answer else { return Err(failed(io::ErrorKind::TimedOut.into())) };
        match answer.map_err(failed)? {
            addresses if addresses.is_empty() => {
                Err(failed(io::Error::new(io::ErrorKind::NotFound, "the name has no address")))
            }
            addresses => Ok(addresses),
        }
    }

    fn start(&self, pending: &mut Pending) -> Result<(), Failure> {
        let (resolve, sender) = (Arc::clone(&self.resolve), pending.answers.0.clone());
        let (name, port, number) = (pending.host.clone(), pending.port, pending.next);
        self.threads
            .start(Role::Resolver, move || {
                let answer = guarded("resolver", || resolve.resolve(&name, port))
                    .unwrap_or_else(|panic| Err(io::Error::other(panic.to_string())));
                // nobody may be waiting any more
                let _ = sender.send((number, answer));
            })
            .map_err(Failure::Thread)?;
        pending.running.push(number);
        (pending.next, pending.waits) = (number + 1, 0);
        Ok(())
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("pending", &self.pending.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::threads::LEAST_STACK;
    use std::time::Duration;

    #[test]
    fn an_address_with_a_zone_is_not_looked_up() {
        let nobody = |_: &str, _: u16| -> io::Result<Vec<SocketAddr>> { panic!("looked up") };
        let mut resolver = Resolver::new(Arc::new(nobody), Threads::of(0, LEAST_STACK));
        let deadline = Instant::now() + Duration::from_secs(10);
        let zones: &[&str] = if cfg!(target_os = "linux") { &["1", "lo"] } else { &["1"] };
        for zone in zones {
            let host = format!("fe80::1%{zone}");
            let found = resolver.resolve(&host, 81, deadline, &Interrupt::new()).unwrap();
            let [SocketAddr::V6(address)] = found[..] else { panic!("{found:?}") };
            assert_eq!((address.scope_id(), address.port()), (1, 81), "{zone}");
        }
        let failure = resolver.resolve("fe80::1%no.such", 81, deadline, &Interrupt::new());
        assert!(matches!(failure, Err(Failure::Dns { .. })), "{failure:?}");
    }
}

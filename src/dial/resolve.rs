//! Names to addresses, off the thread that waits for them.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, bounded, select};

use super::Interrupt;
use crate::failure::{Failure, guarded};
use crate::sync::threads;

/// Turns a host's name into addresses; every closure of the right shape is one.
///
/// It runs on a thread of its own and may block for as long as it likes: the client waits for
/// it no longer than the [timeout of the lookup](crate::Timeouts::dns), and `close` not at all.
pub trait Resolve: Send + Sync + 'static {
    /// The addresses of `host`, the best first, each with `port`.
    ///
    /// # Errors
    ///
    /// Whatever is in the way; the client retries.
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

impl<F> Resolve for F
where
    F: Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
{
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        self(host, port)
    }
}

/// The system's resolver.
#[derive(Debug)]
pub(crate) struct System;

impl Resolve for System {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok((host, port).to_socket_addrs()?.collect())
    }
}

type Answer = io::Result<Vec<SocketAddr>>;

/// Resolves with a deadline. A lookup that hangs is left behind on its thread, which nothing
/// can stop; the next attempt waits for that same lookup instead of starting another, so there
/// is never more than one stuck thread for a name.
pub(crate) struct Resolver {
    resolve: Arc<dyn Resolve>,
    thread_prefix: String,
    /// The lookups that have not answered in time.
    pending: Vec<Pending>,
}

struct Pending {
    host: String,
    port: u16,
    answer: Receiver<Answer>,
}

impl Resolver {
    pub(crate) fn new(resolve: Arc<dyn Resolve>, thread_prefix: String) -> Self {
        Self { resolve, thread_prefix, pending: Vec::new() }
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
        let pending = match self.pending.iter().position(is_same) {
            Some(index) => self.pending.swap_remove(index),
            None => self.start(host, port)?,
        };
        // whatever has answered meanwhile would be old by the time that it is asked for
        self.pending.retain(|pending| pending.answer.is_empty());
        let answer = select! {
            recv(pending.answer) -> answer => {
                answer.unwrap_or_else(|_| Err(io::Error::other("the resolver panicked")))
            }
            recv(interrupt.raised()) -> _ => return Err(Failure::Interrupted),
            recv(crossbeam_channel::at(deadline)) -> _ => {
                self.pending.push(pending);
                return Err(failed(io::ErrorKind::TimedOut.into()));
            }
        };
        match answer.map_err(failed)? {
            addresses if addresses.is_empty() => {
                Err(failed(io::Error::new(io::ErrorKind::NotFound, "the name has no address")))
            }
            addresses => Ok(addresses),
        }
    }

    fn start(&self, host: &str, port: u16) -> Result<Pending, Failure> {
        let (sender, answer) = bounded(1);
        let resolve = Arc::clone(&self.resolve);
        let host = host.to_owned();
        let name = host.clone();
        threads::spawn(&self.thread_prefix, "resolver", threads::PASSING_STACK, move || {
            let answer = guarded("resolver", || resolve.resolve(&name, port))
                .unwrap_or_else(|panic| Err(io::Error::other(panic.to_string())));
            // nobody may be waiting any more
            let _ = sender.send(answer);
        })
        .map_err(Failure::Thread)?;
        Ok(Pending { host, port, answer })
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
    use std::time::Duration;

    #[test]
    fn an_address_with_a_zone_is_not_looked_up() {
        let nobody = |_: &str, _: u16| -> io::Result<Vec<SocketAddr>> { panic!("looked up") };
        let mut resolver = Resolver::new(Arc::new(nobody), "everlink-0".into());
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

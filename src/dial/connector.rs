//! A transport of the program's own instead of TCP.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{bounded, select};

use super::Interrupt;
use crate::failure::{Failure, guarded};
use crate::sync::threads::{Role, Threads};
use crate::transport::Duplex;

/// Makes the connection below TLS and WebSocket: a Unix socket, a tunnel, a test double. Every
/// closure of the right shape is one.
///
/// ```no_run
/// use std::os::unix::net::UnixStream;
/// use everlink::Client;
///
/// let client = Client::builder("ws://localhost/")
///     .connector(|_: &str, _: u16| Ok(UnixStream::connect("/run/feed.sock")?.into()))
///     .connect()?;
/// # Ok::<(), everlink::Error>(())
/// ```
///
/// It runs on a thread of its own. The client waits for it no longer than
/// [connect timeout](crate::Timeouts::connect), and `close` not at all; a connection
/// that comes too late is dropped.
pub trait Connect: Send + Sync + 'static {
    /// Connects to what the URL names.
    ///
    /// # Errors
    ///
    /// Whatever is in the way; the client retries.
    fn connect(&self, host: &str, port: u16) -> io::Result<Duplex>;
}

impl<F> Connect for F
where
    F: Fn(&str, u16) -> io::Result<Duplex> + Send + Sync + 'static,
{
    fn connect(&self, host: &str, port: u16) -> io::Result<Duplex> {
        self(host, port)
    }
}

/// Connects with a deadline.
pub(crate) fn connect(
    connector: &Arc<dyn Connect>,
    host: &str,
    port: u16,
    deadline: Instant,
    interrupt: &Interrupt,
    threads: &Threads,
) -> Result<Duplex, Failure> {
    let (sender, answer) = bounded(1);
    let (theirs, host) = (Arc::clone(connector), host.to_owned());
    threads
        .start(Role::Connector, move || {
            let result = guarded("connector", || theirs.connect(&host, port))
                .unwrap_or_else(|panic| Err(io::Error::other(panic.to_string())));
            // nobody may be waiting any more
            let _ = sender.send(result);
        })
        .map_err(Failure::Thread)?;
    select! {
        recv(answer) -> result => result
            .unwrap_or_else(|_| Err(io::Error::other("the connector is gone")))
            .map_err(Failure::Connector),
        recv(interrupt.raised()) -> _ => Err(Failure::Interrupted),
        recv(crossbeam_channel::at(deadline)) -> _ => {
            Err(Failure::Connector(io::ErrorKind::TimedOut.into()))
        }
    }
}

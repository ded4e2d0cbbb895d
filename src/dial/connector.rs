//! A transport of the program's own instead of TCP.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded, select};

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
/// that comes too late is dropped. Nothing can stop a call that hangs: while four do, no attempt calls
/// it again, and each fails with words that say so. Have it come back by itself, in about the connect
/// timeout.
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

/// How many calls of a connector there are at most, those that hang included.
const MOST: usize = 4;

/// Connects with a deadline. A call that hangs is left behind on its thread, which nothing can stop;
/// when a few do, the next attempts wait for one of them to return instead of making another.
pub(crate) struct Connector {
    connect: Arc<dyn Connect>,
    threads: Threads,
    /// Holds as many as there are calls.
    calls: (Sender<()>, Receiver<()>),
}

/// A call that is being made.
struct Call(Receiver<()>);

impl Drop for Call {
    fn drop(&mut self) {
        let _ = self.0.try_recv();
    }
}

impl Connector {
    pub(crate) fn new(connect: Arc<dyn Connect>, threads: Threads) -> Self {
        Self { connect, threads, calls: bounded(MOST) }
    }

    pub(crate) fn connect(
        &self,
        host: &str,
        port: u16,
        deadline: Instant,
        interrupt: &Interrupt,
    ) -> Result<Duplex, Failure> {
        let call = select! {
            send(self.calls.0, ()) -> _ => Call(self.calls.1.clone()),
            recv(interrupt.raised()) -> _ => return Err(Failure::Interrupted),
            recv(crossbeam_channel::at(deadline)) -> _ => {
                let words = format!("{MOST} earlier calls of the connector are still hanging");
                let error = io::Error::new(io::ErrorKind::TimedOut, words);
                return Err(Failure::Connector(error));
            }
        };
        let (sender, answer) = bounded(1);
        let (theirs, host) = (Arc::clone(&self.connect), host.to_owned());
        self.threads
            .start(Role::Connector, move || {
                let result = guarded("connector", || theirs.connect(&host, port))
                    .unwrap_or_else(|panic| Err(io::Error::other(panic.to_string())));
                drop(call);
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
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("calls", &self.calls.1.len()).finish_non_exhaustive()
    }
}

//! Calls of a connector of the program's own, with a deadline.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded, select};

use super::Interrupt;
use crate::failure::{Failure, guarded};
use crate::sync::threads::{Role, Threads};
use crate::transport::{Connect, Duplex};

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

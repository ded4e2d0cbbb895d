//! The accepting side: the same three threads for each connection, and a handler.

mod accept;
mod admission;
mod answer;
mod attachment;
mod builder;
mod handle;
mod incoming;
mod journal;
mod opening;
mod owner;
mod peer_info;
mod registry;
mod resumable;
mod resumption;
mod serve;
mod session;
mod session_core;
mod totals;

use std::fmt;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;

pub use answer::Answer;
pub use builder::{ServerBuilder, SlowSession};
pub use handle::ServerHandle;
pub use incoming::Incoming;
pub use session::{Session, SessionIter};

use crate::error::Error;
use crate::failure::Failure;
use crate::handshake::Gate;
use crate::message::Message;
use crate::policy::Framing;
use crate::settings::Settings;
use crate::stats::ServerStats;
use crate::sync::threads::{Threads, thread_prefix};
use crate::sync::{Mutex, Repeats, Signal};
use admission::Admission;
use registry::Registry;
use resumption::Resumption;
use totals::Totals;

/// A server of WebSockets, or of framed TCP, on threads.
///
/// Each connection gets a thread for its handler, and the reader, writer and heartbeat threads
/// that a client's link has. The handler is straight-line code: receive, send, return.
///
/// ```no_run
/// use everlink::Server;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::bind("127.0.0.1:9001", |session| {
///     for message in session.iter() {
///         if session.send(message).is_err() {
///             break;
///         }
///     }
/// })?;
/// println!("listening on {}", server.local_addr());
/// # server.shutdown(std::time::Duration::from_secs(1));
/// # Ok(())
/// # }
/// ```
///
/// # Memory
///
/// What its clients can make a server hold, by default: until the handshake is done 64 KiB of each
/// request ([`max_connections`](ServerBuilder::max_connections) of them); of each session an
/// unfinished message ([`Limits::message`](crate::config::Limits::message), 1 MiB), what waits to
/// be received ([`inbox`](ServerBuilder::inbox), 1 MiB and a message) and what waits to be sent to a
/// client that does not read ([`outbox`](ServerBuilder::outbox), 16 MiB). For 1024 connections
/// that is 3 GiB if handlers receive nothing and 16 more if they go on sending.
/// What came compressed counts as what it inflates to. A [channel](ServerBuilder::bind_with_channel) has one message
/// more in its hands.
///
/// [`memory_limit`](ServerBuilder::memory_limit) puts a bound on the sum: besides it there are 48 KiB
/// for each session that do not count, its threads and buffers, and one message in each outbox. Threads and
/// buffers are 72 KiB when a session is idle; under load 128 KiB are read at once, 64 KiB of short messages
/// are on their way to the inbox, and 512 KiB that were messages are kept to be used again, for a second.
///
/// Dropping it shuts it down like [`Server::shutdown`], with the closing timeout. A
/// [`ServerHandle`] does not.
#[must_use = "the server is shut down when this is dropped: keep it in a variable (`let _ =` drops it at once)"]
pub struct Server {
    handle: ServerHandle,
}

type Handler = Box<dyn Fn(Session) + Send + Sync>;
type OnRequest = Box<dyn Fn(&Incoming) -> Answer + Send + Sync>;

/// What a server's threads share.
pub(crate) struct ServerCore {
    id: u64,
    address: SocketAddr,
    /// Until the shutdown.
    listener: Mutex<Option<Arc<TcpListener>>>,
    accept: Mutex<Option<JoinHandle<()>>>,
    settings: Arc<Settings>,
    threads: Threads,
    framing: Option<Framing>,
    #[cfg(feature = "tls")]
    tls: Option<Arc<rustls::ServerConfig>>,
    admission: Arc<Admission>,
    slow: SlowSession,
    handler: Handler,
    on_request: Option<OnRequest>,
    gate: Gate,
    /// Those of the server, the one that it likes best first.
    subprotocols: Vec<String>,
    registry: Registry,
    /// There if sessions can be resumed.
    resumption: Option<Arc<Resumption>>,
    stop: Signal,
    /// Records of what strangers can cause.
    repeats: Repeats,
    totals: Totals,
    #[cfg(feature = "metrics")]
    outlet: crate::metrics::Outlet,
}

/// How a shutdown went, from [`Server::shutdown`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Whether every session ended within the time, goodbye included. What a handler had not taken
    /// from its inbox by then is not counted.
    pub drained: bool,
    /// Sessions whose handler has not returned even after their connection was cut. Their
    /// threads end when it does.
    pub stuck: usize,
    /// Sessions that waited for their client, without a connection: they were ended at once.
    pub detached: usize,
    /// How many messages those held for their clients.
    pub detached_messages: usize,
}

impl Default for ShutdownReport {
    /// Nothing was left to be done.
    fn default() -> Self {
        Self { drained: true, stuck: 0, detached: 0, detached_messages: 0 }
    }
}

impl Server {
    /// Listens with default settings, and serves each connection with the handler.
    ///
    /// ```
    /// use everlink::{Client, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0", |session| {
    ///     let _ = session.send("hello");
    /// })?;
    /// let client = Client::connect(&format!("ws://{}", server.local_addr()))?;
    /// assert_eq!(client.recv()?, "hello");
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`ServerBuilder::bind`].
    pub fn bind(
        address: impl ToSocketAddrs,
        handler: impl Fn(Session) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        Self::builder().bind(address, handler)
    }

    /// Every setting, with its default.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::new()
    }

    /// A handle that can be cloned, for handlers and other threads. It does not keep the server
    /// running.
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }

    /// The address on which it listens: the one to ask after binding to port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.handle.local_addr()
    }

    /// The sessions that are open at the moment.
    pub fn sessions(&self) -> Vec<Session> {
        self.handle.sessions()
    }

    /// A snapshot of the counters.
    pub fn stats(&self) -> ServerStats {
        self.handle.stats()
    }

    /// [`ServerHandle::broadcast`]: queues a message for every open session, without waiting.
    pub fn broadcast(&self, message: impl Into<Message>) -> usize {
        self.handle.broadcast(message)
    }

    /// [`ServerHandle::shutdown`]: stops accepting, says goodbye to each session, and joins every
    /// thread.
    pub fn shutdown(&self, timeout: Duration) -> ShutdownReport {
        self.handle.shutdown(timeout)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(core) = self.handle.core.get() else { return };
        if !core.stop.is_raised() {
            self.handle.shutdown(core.settings.timeouts().close);
        }
    }
}

impl ServerCore {
    fn name(&self) -> String {
        thread_prefix(self.id)
    }

    /// What metrics and log records call it.
    fn label(&self) -> &str {
        self.settings.label()
    }

    /// Logs what clients can cause as often as they like: once a second for each matter, with a count.
    fn say(&self, level: log::Level, matter: (&'static str, &'static str), line: String) {
        self.repeats.say(self.label(), level, matter, line);
    }

    /// A connection is not let in, for which this matter and line say why.
    fn refused(&self, level: log::Level, why: &'static str, line: String) {
        self.totals.counters.refused.fetch_add(1, Relaxed);
        self.say(level, ("refused", why), line);
    }

    /// Whether a client can be told something before anything was agreed on.
    fn speaks_plain_http(&self) -> bool {
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            return false;
        }
        self.framing.is_none()
    }

    fn broadcast(&self, message: &Message, is_meant: impl Fn(&Session) -> bool) -> usize {
        let mut queued = 0;
        for session in self.registry.sessions().into_iter().filter(is_meant) {
            let error = match session.try_send(message.clone()).map_err(Error::from) {
                Ok(()) => {
                    queued += 1;
                    continue;
                }
                // it has ended: nobody is there to miss anything
                Err(Error::Closed) => continue,
                Err(error) => error,
            };
            session.misses_broadcast();
            self.totals.counters.broadcasts_missed.fetch_add(1, Relaxed);
            if matches!((&error, self.slow), (Error::Full, SlowSession::Disconnect)) {
                session.kill(Failure::TooSlow);
            } else {
                log::debug!("{session:?} misses a broadcast: {error}");
            }
        }
        queued
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("handle", &self.handle).finish()
    }
}

//! The accepting side: the same three threads for each connection, and a handler.

mod accept;
mod answer;
mod builder;
mod opening;
mod places;
mod registry;
mod resumption;
mod serve;
mod session;
mod tie;

use std::fmt;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use answer::Answer;
pub use builder::{ServerBuilder, SlowSession};
pub use session::{Session, SessionIter};

use crate::error::Error;
use crate::failure::Failure;
use crate::handshake::Origins;
use crate::message::{CloseCode, CloseFrame, Message};
use crate::policy::Framing;
use crate::settings::Settings;
use crate::sync::Signal;
use crate::sync::threads::thread_prefix;
use places::Places;
use registry::Registry;
use resumption::Resumption;

/// After the time for goodbyes is over, how long the threads have to notice.
const JOIN_GRACE: Duration = Duration::from_millis(200);

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
/// unfinished message ([`Limits::message`](crate::Limits::message), 1 MiB), what waits to
/// be received ([`inbox`](ServerBuilder::inbox), 1 MiB and a message) and what waits to be sent to a
/// client that does not read ([`outbox`](ServerBuilder::outbox), 16 MiB). For 1024 connections
/// that is 3 GiB if handlers receive nothing and 16 more if they go on sending.
/// [`memory_limit`](ServerBuilder::memory_limit) puts a bound on the sum: besides it there are 48 KiB
/// for each session that do not count, its threads and read buffer (72 KiB when idle, up to 200
/// under load), and one message in each outbox.
///
/// Dropping it shuts it down like [`Server::shutdown`], with the closing timeout.
pub struct Server {
    core: Arc<ServerCore>,
    listener: Arc<TcpListener>,
    address: SocketAddr,
    accept: Option<JoinHandle<()>>,
}

type Handler = Box<dyn Fn(Session) + Send + Sync>;
type OnRequest = Box<dyn Fn(&http::Request<()>) -> Answer + Send + Sync>;

/// What a server's threads share.
pub(crate) struct ServerCore {
    id: u64,
    settings: Arc<Settings>,
    framing: Option<Framing>,
    #[cfg(feature = "tls")]
    tls: Option<Arc<rustls::ServerConfig>>,
    places: Places,
    slow: SlowSession,
    handler: Handler,
    on_request: Option<OnRequest>,
    origins: Origins,
    registry: Registry,
    /// There if sessions can be resumed.
    resumption: Option<Arc<Resumption>>,
    stop: Signal,
    accepted: AtomicU64,
    refused: AtomicU64,
    broadcasts_missed: AtomicU64,
}

/// A snapshot of a server's counters, from [`Server::stats`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Connections at the moment, those that are opening included.
    pub connections: usize,
    /// Sessions that are open at the moment, those that wait for their client included.
    pub sessions: usize,
    /// Sessions that wait for their client, without a connection
    /// ([`ServerBuilder::resume`]).
    pub detached: usize,
    /// How many bytes wait to be sent in those, or were sent and are not confirmed.
    pub detached_bytes: usize,
    /// How often a client has come back to its session since the start.
    pub resumed: u64,
    /// Sessions since the start whose client has not come back in time.
    pub expired: u64,
    /// Sessions since the start that were ended, without a connection, to make room for others.
    pub evicted: u64,
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Connections refused since the start: too many, or no thread to be had.
    pub refused: u64,
    /// Broadcasts that a session has missed since the start, once for each session, for it was too
    /// slow or they were too large: [`Stats::broadcasts_missed`](crate::Stats::broadcasts_missed)
    /// of all sessions.
    pub broadcasts_missed: u64,
}

/// How a shutdown went, from [`Server::shutdown`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Whether every session ended within the time, goodbye included.
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

    /// The address on which it listens: the one to ask after binding to port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The sessions that are open at the moment.
    pub fn sessions(&self) -> Vec<Session> {
        self.core.registry.sessions()
    }

    /// A snapshot of the counters.
    pub fn stats(&self) -> ServerStats {
        let resumption = self.core.resumption.as_ref();
        let (detached, _, detached_bytes) = resumption.map_or((0, 0, 0), |all| all.waiting());
        let count = |counter: fn(&Resumption) -> &AtomicU64| {
            resumption.map_or(0, |resumption| counter(resumption).load(Relaxed))
        };
        ServerStats {
            detached,
            detached_bytes,
            resumed: count(|resumption| &resumption.resumed),
            expired: count(|resumption| &resumption.expired),
            evicted: count(|resumption| &resumption.evicted),
            connections: self.core.registry.len(),
            sessions: self.core.registry.sessions().len(),
            accepted: self.core.accepted.load(Relaxed),
            refused: self.core.refused.load(Relaxed),
            broadcasts_missed: self.core.broadcasts_missed.load(Relaxed),
        }
    }

    /// Queues a message for every open session, those that wait for their client included, and
    /// returns for how many. It never waits: what
    /// happens to a session whose outbox is full says [`ServerBuilder::slow_session`], and
    /// [`ServerStats::broadcasts_missed`] how often that was.
    pub fn broadcast(&self, message: impl Into<Message>) -> usize {
        self.core.broadcast(&message.into())
    }

    /// Stops accepting, closes each session with 1001 after what is queued for it, and joins
    /// every thread; cuts what is left after `timeout`. Sessions that wait for their client are
    /// ended at once.
    pub fn shutdown(mut self, timeout: Duration) -> ShutdownReport {
        self.stop(timeout)
    }

    fn stop(&mut self, timeout: Duration) -> ShutdownReport {
        let Some(accept) = self.accept.take() else {
            return ShutdownReport::default();
        };
        self.core.stop.raise();
        accept::wake(&self.listener);
        if accept.join().is_err() {
            log::error!("the accept thread panicked: please report this as a bug of everlink");
        }
        let now = Instant::now();
        let deadline = now.checked_add(timeout).unwrap_or(now + crate::policy::MAX_DURATION);
        let registry = &self.core.registry;
        let waiting = self.core.resumption.as_ref().map_or((0, 0, 0), |all| all.waiting());
        let (detached, detached_messages, _) = waiting;
        registry.close(&CloseFrame::new(CloseCode::GOING_AWAY, "server going down"));
        let left = registry.wait_empty(deadline);
        if left == 0 {
            let (drained, stuck) = (true, 0);
            return ShutdownReport { drained, stuck, detached, detached_messages };
        }
        registry.kill();
        let stuck = registry.wait_empty(Instant::now() + JOIN_GRACE);
        ShutdownReport { drained: false, stuck, detached, detached_messages }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let timeout = self.core.settings.timeouts.close;
        self.stop(timeout);
    }
}

impl ServerCore {
    fn name(&self) -> String {
        thread_prefix(self.id)
    }

    /// Whether a client can be told something before anything was agreed on.
    fn speaks_plain_http(&self) -> bool {
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            return false;
        }
        self.framing.is_none()
    }

    fn broadcast(&self, message: &Message) -> usize {
        let mut queued = 0;
        for session in self.registry.sessions() {
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
            self.broadcasts_missed.fetch_add(1, Relaxed);
            if matches!((&error, self.slow), (Error::Full, SlowSession::Disconnect)) {
                session.end_with(Failure::TooSlow);
            } else {
                log::debug!("{session:?} misses a broadcast: {error}");
            }
        }
        queued
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

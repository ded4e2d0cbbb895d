//! What a server's threads share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log::Level;

use super::accepted::Accepted;
use super::acceptor::Acceptor;
use super::admission::Admission;
use super::answer::Answer;
use super::incoming::Incoming;
use super::listener::Listener;
use super::registry::Registry;
use super::resumption::Resumption;
use super::session::{ServerEnd, Session};
use super::shutdown_report::ShutdownReport;
use super::slow_session::SlowSession;
use super::totals::Totals;
use crate::error::Error;
use crate::failure::{Failure, guarded};
use crate::handshake::Gate;
use crate::message::{CloseCode, CloseFrame, Message};
use crate::settings::Settings;
use crate::stats::ServerStats;
use crate::sync::threads::{Role, Threads, thread_prefix};
use crate::sync::{Mutex, Repeats, Signal};

/// After the time for goodbyes is over, how long the threads have to notice.
const JOIN_GRACE: Duration = Duration::from_millis(200);

pub(super) type Handler = Box<dyn Fn(Session) + Send + Sync>;
pub(super) type OnRequest = Box<dyn Fn(&Incoming) -> Answer + Send + Sync>;
/// The program's say in who goes on with a session.
pub(super) type OnResume = Box<dyn Fn(&Incoming, &Session) -> bool + Send + Sync>;

pub(super) struct ServerCore {
    pub(super) id: u64,
    pub(super) address: SocketAddr,
    /// Until the shutdown.
    pub(super) acceptor: Mutex<Option<Arc<Acceptor>>>,
    /// Lets in what the program has accepted.
    pub(super) adopt: fn(&Arc<Self>, Accepted) -> Result<(), Error>,
    pub(super) accept: Mutex<Option<JoinHandle<()>>>,
    pub(super) settings: Arc<Settings>,
    pub(super) threads: Threads,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<Arc<rustls::ServerConfig>>,
    pub(super) admission: Arc<Admission>,
    /// How many are being told at the moment that they are not let in.
    pub(super) refusals: AtomicUsize,
    pub(super) slow: SlowSession,
    pub(super) handler: Handler,
    pub(super) on_request: Option<OnRequest>,
    pub(super) on_resume: Option<OnResume>,
    pub(super) gate: Gate,
    /// Those of the server, the one that it likes best first.
    pub(super) subprotocols: Vec<String>,
    pub(super) registry: Registry,
    /// There if sessions can be resumed.
    pub(super) resumption: Option<Arc<Resumption>>,
    pub(super) stop: Signal,
    /// Records of what strangers can cause.
    pub(super) repeats: Repeats,
    pub(super) totals: Totals,
    #[cfg(feature = "metrics")]
    pub(super) outlet: crate::metrics::Outlet,
}

impl ServerCore {
    pub(super) fn name(&self) -> String {
        thread_prefix(self.id)
    }

    /// What metrics and log records call it.
    pub(super) fn label(&self) -> &str {
        self.settings.label()
    }

    /// Logs what clients can cause as often as they like: once a second for each matter, with a count.
    pub(super) fn say(&self, level: Level, matter: (&'static str, &'static str), line: String) {
        self.repeats.say(self.label(), level, matter, line);
    }

    /// Logs that a closure of the program's has panicked.
    pub(super) fn say_panicked(&self, place: &'static str, panic: &Failure) {
        self.say(Level::Error, ("panicked", place), panic.to_string());
    }

    /// Counts a connection that is not let in, and logs why.
    pub(super) fn refused(&self, level: Level, why: &'static str, line: String) {
        self.totals.counters().refused.fetch_add(1, Relaxed);
        self.say(level, ("refused", why), line);
    }

    /// Whether a client can be told something before anything was agreed on.
    pub(super) fn speaks_plain_http(&self) -> bool {
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            return false;
        }
        self.settings.framing.is_none()
    }

    /// Whether a request that has the secret of a session may go on with it. `None` if the program's closure
    /// panics. On framed TCP there is no request.
    pub(super) fn may_resume(&self, request: Option<&Incoming>, session: &Session) -> Option<bool> {
        let (Some(decide), Some(request)) = (&self.on_resume, request) else { return Some(true) };
        let decided = guarded("resume closure", || decide(request, session));
        decided.inspect_err(|panic| self.say_panicked("resume closure", panic)).ok()
    }

    fn shut_down(&self, timeout: Duration) -> ShutdownReport {
        self.stop.raise();
        // the socket goes with the last of those that hold it, and the address is free again
        let acceptor = self.acceptor.lock().take();
        if let Some(acceptor) = acceptor {
            acceptor.wake();
        }
        let accept = self.accept.lock().take();
        if let Some(thread) = accept {
            let _ = thread.join();
        }
        let now = Instant::now();
        let deadline = now.checked_add(timeout).unwrap_or(now + crate::policy::MAX_DURATION);
        let (detached, _) = self.waiting();
        let unconnected =
            |session: &Session| !session.is_connected() && session.failure().is_none();
        let detached_messages = self
            .sessions()
            .into_iter()
            .filter(unconnected)
            .map(|session| session.outbox().len())
            .sum();
        self.registry.close(&CloseFrame::new(CloseCode::GOING_AWAY, "server going down"));
        if self.registry.wait_empty(deadline) == 0 {
            // what was refused lately, and handlers on their last line; a channel belongs to the program
            // until it lets go
            self.threads.join(deadline, |role| role != Role::Inbox);
            return ShutdownReport { drained: true, stuck: 0, detached, detached_messages };
        }
        self.registry.kill();
        let stuck = self.registry.wait_empty(Instant::now() + JOIN_GRACE);
        ShutdownReport { drained: false, stuck, detached, detached_messages }
    }

    /// How many sessions wait for their client, and with how many bytes.
    fn waiting(&self) -> (usize, usize) {
        self.resumption.as_ref().map(|all| all.waiting()).unwrap_or_default()
    }
}

impl ServerEnd for ServerCore {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn listener(&self) -> Result<Listener, Error> {
        let acceptor = self.acceptor.lock().clone().ok_or(Error::Closed)?;
        acceptor.listener().try_clone().map_err(Error::Bind)
    }

    fn adopt(self: Arc<Self>, accepted: Accepted) -> Result<(), Error> {
        (self.adopt)(&self, accepted)
    }

    fn sessions(&self) -> Vec<Session> {
        self.registry.sessions()
    }

    fn stats(&self) -> ServerStats {
        let sessions = self.registry.sessions();
        let (detached, detached_bytes) = self.waiting();
        ServerStats {
            detached,
            detached_bytes,
            connections: self.admission.len(),
            sessions: sessions.len(),
            ..self.totals.stats(&sessions)
        }
    }

    fn broadcast(&self, message: &Message, is_meant: &dyn Fn(&Session) -> bool) -> usize {
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
            session.counters().broadcasts_missed.fetch_add(1, Relaxed);
            self.totals.counters().broadcasts_missed.fetch_add(1, Relaxed);
            if matches!((&error, self.slow), (Error::Full, SlowSession::Disconnect)) {
                session.kill(Failure::TooSlow);
            } else {
                log::debug!("{session:?} misses a broadcast: {error}");
            }
        }
        queued
    }

    fn shutdown(&self, timeout: Duration) -> ShutdownReport {
        let report = self.shut_down(timeout);
        self.repeats.say_rest(self.label());
        #[cfg(feature = "metrics")]
        crate::metrics::Published::publish(self, crate::metrics::Extent::Last);
        report
    }

    /// For a server that nobody has shut down.
    fn shutdown_at_drop(&self) {
        if !self.stop.is_raised() {
            self.shutdown(self.settings.timeouts().close);
        }
    }
}

#[cfg(feature = "metrics")]
impl crate::metrics::Published for ServerCore {
    fn outlet(&self) -> &crate::metrics::Outlet {
        &self.outlet
    }

    fn publish(&self, extent: crate::metrics::Extent) {
        self.outlet.publish(extent, || crate::metrics::of_server(self.stats()));
    }
}

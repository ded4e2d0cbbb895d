//! What a server's threads share.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log::Level;

use super::accepted::Accepted;
use super::acceptor::Acceptor;
use super::admission::Admission;
use super::answer::Answer;
use super::incoming::Incoming;
use super::listener::Listener;
use super::presence::Presence;
use super::proxies::Proxies;
use super::registry::Registry;
use super::resumption::Resumption;
use super::session::{ServerEnd, Session};
use super::session_core::SessionCore;
use super::shutdown_report::ShutdownReport;
use super::slow_session::SlowSession;
#[cfg(feature = "tls")]
use super::tls::ServerTls;
use super::topics::Topics;
use super::totals::Totals;
use crate::error::Error;
use crate::failure::{Failure, guarded};
use crate::handshake::Gate;
use crate::message::{CloseCode, CloseFrame, Message};
use crate::queues::inbox::Handler;
use crate::settings::Settings;
use crate::stats::ServerStats;
use crate::sync::threads::{Role, Threads, thread_prefix};
use crate::sync::{Mutex, Repeats, Signal};
#[cfg(feature = "tls")]
use crate::transport::tls::Tls;
use crate::wire::websocket::DeflatedOnce;

/// After the time for goodbyes is over, how long the threads have to notice.
const JOIN_GRACE: Duration = Duration::from_millis(200);

/// By what sessions are handled.
pub(super) enum Handling {
    /// A closure that receives, on a thread of each session's own.
    Thread(Box<dyn Fn(Session) + Send + Sync>),
    /// What this makes of each session: it is called for each message, on the reader thread.
    Messages(Box<dyn Fn(Session) -> Box<dyn Handler> + Send + Sync>),
}

pub(super) type OnRequest = Box<dyn Fn(&Incoming) -> Answer + Send + Sync>;
/// The program's say in who goes on with a session.
pub(super) type OnResume = Box<dyn Fn(&Incoming, &Session) -> bool + Send + Sync>;
pub(super) type OnPresence = Box<dyn Fn(&Session, &str, Presence) + Send + Sync>;

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
    pub(super) tls: Option<ServerTls>,
    pub(super) admission: Arc<Admission>,
    /// How many are being told at the moment that they are not let in.
    pub(super) refusals: AtomicUsize,
    pub(super) slow: SlowSession,
    pub(super) handling: Handling,
    pub(super) on_request: Option<OnRequest>,
    pub(super) on_resume: Option<OnResume>,
    pub(super) on_presence: Option<OnPresence>,
    pub(super) gate: Gate,
    pub(super) proxies: Proxies,
    /// Those of the server, the one that it likes best first.
    pub(super) subprotocols: Vec<String>,
    pub(super) registry: Registry,
    pub(super) topics: Topics,
    /// There if sessions can be resumed.
    pub(super) resumption: Option<Arc<Resumption>>,
    pub(super) stop: Signal,
    pub(super) is_shut_down: AtomicBool,
    /// What was lost with the sessions that waited when it stopped: how many, and how many messages.
    pub(super) detached: OnceLock<(usize, usize)>,
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

    /// The handler of a session has panicked.
    pub(super) fn say_handler_panicked(&self, session: u64, panic: &Failure) {
        let line = format!("{}: {panic}", thread_prefix(session));
        self.say(Level::Error, ("panicked", "session handler"), line);
    }

    /// A session is over, for this reason: so is its handler, if it was called for each message.
    pub(super) fn end_handler(&self, core: &SessionCore, cause: &Failure) {
        if let (Failure::Panicked { .. }, true) = (cause, self.settings.has_handler) {
            self.say_handler_panicked(core.id(), cause);
        }
        if let Err(panic) = core.end_handler(cause) {
            self.say_handler_panicked(core.id(), &panic);
        }
    }

    /// Counts a connection that is not let in, and logs why.
    pub(super) fn refused(&self, level: Level, why: &'static str, line: String) {
        self.totals.counters().refused.fetch_add(1, Relaxed);
        self.say(level, ("refused", why), line);
    }

    /// Counts what has come of a change of certificates, and logs it.
    #[cfg(feature = "tls")]
    pub(super) fn note_reload(&self, result: &Result<(), Error>) {
        let counters = self.totals.counters();
        match result {
            Ok(()) => {
                counters.tls_reloads.fetch_add(1, Relaxed);
                let line = "certificates have changed: from now on the new ones are shown";
                self.say(Level::Info, ("tls_reloaded", ""), line.into());
            }
            Err(error) => {
                counters.tls_reload_failures.fetch_add(1, Relaxed);
                let line =
                    format!("certificates stay as they were, the new ones are wrong: {error}");
                self.say(Level::Warn, ("tls_reload_failed", ""), line);
            }
        }
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

    /// Tells the program what has become of a session and a topic.
    fn teller(&self) -> impl Fn(&Session, &str, Presence) {
        |session, topic, presence| {
            let Some(tell) = &self.on_presence else { return };
            if let Err(panic) = guarded("presence closure", || tell(session, topic, presence)) {
                self.say_panicked("presence closure", &panic);
            }
        }
    }

    /// The session of this number has ended, and its totals say so.
    pub(super) fn leave_topics(&self, id: u64) {
        self.topics.leave_all(id, &self.teller());
    }

    /// Accepts no more. The sessions that wait for their client at that moment cannot go on: returns how many,
    /// and how many messages they hold.
    fn accept_no_more(&self) -> (usize, usize) {
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
        *self.detached.get_or_init(|| {
            let unconnected =
                |session: &&Session| !session.is_connected() && session.failure().is_none();
            let open = self.registry.open();
            let messages = open.iter().filter(unconnected).map(|session| session.outbox().len());
            (self.waiting().0, messages.sum())
        })
    }

    fn shut_down(&self, timeout: Duration) -> ShutdownReport {
        let (detached, detached_messages) = self.accept_no_more();
        let deadline = until(timeout);
        self.registry.close(&going_down());
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

fn going_down() -> CloseFrame {
    CloseFrame::new(CloseCode::GOING_AWAY, "server going down")
}

fn until(timeout: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(timeout).unwrap_or(now + crate::policy::MAX_DURATION)
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

    #[cfg(feature = "tls")]
    fn set_tls(&self, tls: Tls) -> Result<(), Error> {
        if self.stop.is_raised() {
            return Err(Error::Closed);
        }
        let Some(present) = &self.tls else {
            return Error::no_effect("the server speaks no TLS", &[("set_tls", true)]);
        };
        let result = present.set(tls);
        self.note_reload(&result);
        result
    }

    fn stats(&self) -> ServerStats {
        let sessions = self.registry.open();
        let (detached, detached_bytes) = self.waiting();
        ServerStats {
            detached,
            detached_bytes,
            connections: self.admission.len(),
            openings_over_rate: self.admission.over_rate(),
            sessions: sessions.len(),
            topics: self.topics.len(),
            ..self.totals.stats(&sessions)
        }
    }

    fn join(&self, session: &Session, topic: &str) -> Result<bool, Error> {
        self.topics.join(session, topic, &self.teller())
    }

    fn leave(&self, session: &Session, topic: &str) -> bool {
        self.topics.leave(session, topic, &self.teller())
    }

    fn topics_of(&self, session: u64) -> Vec<String> {
        self.topics.of(session)
    }

    fn members(&self, topic: Option<&str>) -> Arc<Vec<Session>> {
        topic.map_or_else(|| self.registry.open(), |topic| self.topics.members(topic))
    }

    fn publish(
        &self,
        topic: Option<&str>,
        message: &Message,
        is_meant: &dyn Fn(&Session) -> bool,
    ) -> usize {
        self.totals.counters().published.fetch_add(1, Relaxed);
        let deflated = self.settings.compression.is_some().then(Arc::<DeflatedOnce>::default);
        let mut queued = 0;
        for session in self.members(topic).iter().filter(|session| is_meant(session)) {
            let error = match session.queue_shared(message.clone(), deflated.clone()) {
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
                log::debug!("{session:?} misses what is published: {error}");
            }
        }
        queued
    }

    fn drain(&self, timeout: Duration) -> usize {
        self.accept_no_more();
        self.registry.finish(&going_down());
        self.registry.wait_empty(until(timeout))
    }

    fn shutdown(&self, timeout: Duration) -> ShutdownReport {
        self.is_shut_down.store(true, Relaxed);
        let report = self.shut_down(timeout);
        self.repeats.say_rest(self.label());
        #[cfg(feature = "metrics")]
        crate::metrics::Published::publish(self, crate::metrics::Extent::Last);
        report
    }

    /// For a server that nobody has shut down.
    fn shutdown_at_drop(&self) {
        if !self.is_shut_down.load(Relaxed) {
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

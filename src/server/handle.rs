//! What a program holds of a server.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{ServerCore, Session, ShutdownReport, accept};
use crate::message::{CloseCode, CloseFrame, Message};
use crate::stats::ServerStats;
use crate::sync::Ours;
use crate::sync::threads::Role;

/// After the time for goodbyes is over, how long the threads have to notice.
const JOIN_GRACE: Duration = Duration::from_millis(200);

/// A handle to a server, from [`Server::handle`](crate::Server::handle), and of a session's
/// from [`Session::server`](crate::Session::server). It does not keep the server running: that ends
/// with the [`Server`](crate::Server), or with [`shutdown`](Self::shutdown) from anywhere.
///
/// ```no_run
/// use std::time::Duration;
/// use everlink::Server;
///
/// # fn main() -> Result<(), everlink::Error> {
/// let server = Server::bind("127.0.0.1:9001", |session| {
///     for message in &session {
///         // everybody else
///         session.server().broadcast_where(message, |other| other.id() != session.id());
///     }
/// })?;
/// let handle = server.handle();
/// let (stop, stopped) = everlink::crossbeam_channel::bounded::<()>(1);
/// std::thread::spawn(move || {
///     let _ = stopped.recv();
///     handle.shutdown(Duration::from_secs(5));
/// });
/// // from wherever it is known that it is over
/// let _ = stop.send(());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a handle does nothing by itself, and does not keep the server running"]
pub struct ServerHandle {
    pub(super) core: Ours<ServerCore>,
}

impl ServerHandle {
    /// The address on which the server listens: the one to ask after binding to port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.core.plain().address
    }

    /// The sessions that are open at the moment.
    pub fn sessions(&self) -> Vec<Session> {
        self.core.get().map(|core| core.registry.sessions()).unwrap_or_default()
    }

    /// A snapshot of the counters.
    pub fn stats(&self) -> ServerStats {
        self.core.get().map(|core| core.stats()).unwrap_or_default()
    }

    /// Queues a message for every open session, those that wait for their client included, and
    /// returns for how many. It never waits: what
    /// happens to a session whose outbox is full says
    /// [`ServerBuilder::slow_session`](crate::ServerBuilder::slow_session), and
    /// [`ServerStats::broadcasts_missed`] how often that was.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// # let client = everlink::Client::connect(&url)?;
    /// # client.send("here")?;
    /// # client.recv()?;
    /// # let handle = server.handle();
    /// // the client has said something already, so it is there
    /// assert_eq!(handle.broadcast("to all"), 1);
    /// assert_eq!(client.recv()?, "to all");
    /// # Ok::<(), everlink::Error>(())
    /// ```
    pub fn broadcast(&self, message: impl Into<Message>) -> usize {
        self.core.get().map_or(0, |core| core.broadcast(&message.into(), |_| true))
    }

    /// The same, to those sessions for which the closure says true.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// # let client = everlink::Client::connect(&url)?;
    /// # client.send("here")?;
    /// # client.recv()?;
    /// # let handle = server.handle();
    /// let path = "/news";
    /// let reached = handle.broadcast_where("to some", |session| {
    ///     session.incoming().is_some_and(|incoming| incoming.path() == path)
    /// });
    /// assert_eq!(reached, 0);
    /// # Ok::<(), everlink::Error>(())
    /// ```
    pub fn broadcast_where(
        &self,
        message: impl Into<Message>,
        is_meant: impl Fn(&Session) -> bool,
    ) -> usize {
        self.core.get().map_or(0, |core| core.broadcast(&message.into(), is_meant))
    }

    /// Stops accepting, closes each session with 1001 after what is queued for it, and joins
    /// every thread; cuts what is left after `timeout`. Sessions that wait for their client are
    /// ended at once. Whoever calls while another does waits for
    /// the same end.
    ///
    /// From here on `send` fails in handlers, while `recv` still gives them what had come: one that
    /// leaves its loop at the first `send` that fails drops the rest of its inbox. Where every message
    /// has to be answered, tell the handlers to finish, wait for them, and shut down then, as
    /// `examples/graceful_shutdown.rs` does.
    /// It waits for handlers and for the closures of
    /// [`on_request`](crate::ServerBuilder::on_request), until the timeout. Called in one of them it
    /// would wait for that one too: have another thread do it.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// # let client = everlink::Client::connect(&url)?;
    /// # client.send("here")?;
    /// # client.recv()?;
    /// # let handle = server.handle();
    /// use std::time::Duration;
    ///
    /// let report = handle.shutdown(Duration::from_secs(5));
    /// assert!(report.drained);
    /// # Ok::<(), everlink::Error>(())
    /// ```
    pub fn shutdown(&self, timeout: Duration) -> ShutdownReport {
        let Some(core) = self.core.get() else { return ShutdownReport::default() };
        let report = Self::end(core, timeout);
        core.repeats.say_rest(core.label());
        #[cfg(feature = "metrics")]
        core.publish_last();
        report
    }

    fn end(core: &ServerCore, timeout: Duration) -> ShutdownReport {
        core.stop.raise();
        // the socket goes with the last of those that hold it, and the address is free again
        let listener = core.listener.lock().take();
        if let Some(listener) = listener {
            accept::wake(&listener);
        }
        let accept = core.accept.lock().take();
        if let Some(thread) = accept {
            let _ = thread.join();
        }
        let now = Instant::now();
        let deadline = now.checked_add(timeout).unwrap_or(now + crate::policy::MAX_DURATION);
        let registry = &core.registry;
        let waiting = core.resumption.as_ref().map_or((0, 0, 0), |all| all.waiting());
        let (detached, detached_messages, _) = waiting;
        registry.close(&CloseFrame::new(CloseCode::GOING_AWAY, "server going down"));
        if registry.wait_empty(deadline) == 0 {
            // what was refused lately, and handlers on their last line; a channel belongs to the program
            // until it lets go
            core.threads.join(deadline, |role| role != Role::Inbox);
            return ShutdownReport { drained: true, stuck: 0, detached, detached_messages };
        }
        registry.kill();
        let stuck = registry.wait_empty(Instant::now() + JOIN_GRACE);
        ShutdownReport { drained: false, stuck, detached, detached_messages }
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle")
            .field("address", &self.local_addr())
            .field("stats", &self.stats())
            .finish()
    }
}

//! The handle that a program holds.

use std::fmt;
#[cfg(unix)]
use std::io;
#[cfg(unix)]
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::ClientBuilder;
use super::core::Core;
use super::events::Events;
use super::status::{ClientStatus, State};
use crate::error::{Error, close_frame};
use crate::message::{CloseCode, CloseFrame, Iter, Message, Receive};
use crate::sender::{Sender, sends};
use crate::stats::ClientStats;
use crate::sync::Ours;
use crate::sync::threads::{self, Role};

/// A WebSocket client that stays connected.
///
/// It dials, beats, notices death, backs off, dials again and logs in again; what is queued to
/// be sent waits meanwhile and keeps its order. Four threads of its own do that: a manager for
/// the whole life, and a reader, a writer and a heartbeat for each link.
///
/// A clone is another handle to the same client. Dropping the last handle closes the client
/// like [`Client::close`], within the same bound. Every method may be called from any thread.
///
/// In the child of a `fork` every handle that the parent has made is a closed one, of clients, sessions
/// and servers alike: nothing is sent or received, and neither closing nor dropping it does anything to
/// the parent's connections. A channel that was taken out of one before stays silent. The child may make
/// clients and servers of its own. A child that is made past the C library's `fork`, by the bare system call,
/// is not noticed: it must leave them alone.
///
/// ```no_run
/// use everlink::Client;
///
/// # fn main() -> Result<(), everlink::Error> {
/// let client = Client::connect("ws://localhost:9001/feed")?;
/// client.send("hello")?;
/// while let Ok(message) = client.recv() {
///     println!("{message:?}");
/// }
/// # Ok(())
/// # }
/// ```
///
/// # What is guaranteed
///
/// * Messages are sent in the order in which [`send`](Self::send) accepted them, across links.
/// * Nothing queued is lost with a link. What becomes of messages that a dead link had already
///   taken says [`Delivery`](crate::config::Delivery): by default they are not sent again, and
///   [`Event::Disconnected`](crate::Event::Disconnected) says how many the peer has not confirmed.
/// * Received messages are delivered in order, all that came before the peer ended the stream
///   included, however slow the program is. What a reset connection takes with it is up to the
///   operating system.
#[derive(Clone)]
#[must_use = "the client is closed when its last handle is dropped: keep it in a variable (`let _ =` drops it at once)"]
pub struct Client {
    sender: Sender,
    guard: Ours<Guard>,
}

impl Client {
    /// Connects with default settings; the first attempt decides.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// use everlink::{Client, Error};
    ///
    /// let client = Client::connect(&url)?;
    /// client.send("hello")?;
    /// assert_eq!(client.recv()?, "hello");
    /// client.close();
    /// // nobody listens there: the first attempt decides, and nothing is left of the client
    /// assert!(matches!(Client::connect("ws://127.0.0.1:1"), Err(Error::Connect(_))));
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Connect`] if the attempt failed, and what [`ClientBuilder::start`] may return.
    pub fn connect(url: impl AsRef<str>) -> Result<Self, Error> {
        Self::builder(url).connect()
    }

    /// Every setting, with its default.
    pub fn builder(url: impl AsRef<str>) -> ClientBuilder {
        ClientBuilder::new(url.as_ref())
    }

    /// The client and the channel that it was started with.
    pub(super) fn with_channel(self) -> (Self, Receiver<Message>) {
        let receiver = self.guard.plain().0.mailbox.receiver();
        (self, receiver)
    }

    pub(super) fn new(core: Arc<Core>) -> Self {
        Self {
            sender: Sender::new(Arc::<Core>::clone(&core)),
            guard: Ours::new(Arc::new(Guard(core))),
        }
    }

    /// Out of reach in the child of a `fork`.
    fn core(&self) -> Result<&Core, Error> {
        self.guard.get().map(|guard| &*guard.0).ok_or(Error::Closed)
    }

    /// The number in the names of this client's threads and in its log records, which no other
    /// client or session of the process has.
    pub fn id(&self) -> u64 {
        self.guard.plain().0.id
    }

    sends!();

    /// Waits for the next message, across outages.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// # let client = everlink::Client::connect(&url)?;
    /// client.send("one")?;
    /// let message = client.recv()?;
    /// assert_eq!(message.as_text(), Some("one"));
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Once every message was taken: [`Error::Closed`] if the client is closed, and
    /// [`Error::GaveUp`] while it has given up. [`Error::WouldWaitForever`], at once, with
    /// [`ClientBuilder::on_message`], whose handler has every message, and without a link in a
    /// closure that the client calls (an event's, a hook's), for which the next link waits.
    pub fn recv(&self) -> Result<Message, Error> {
        self.core()?.recv(|| None)
    }

    /// Waits for the next message, at most for `timeout`.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// # let client = everlink::Client::connect(&url)?;
    /// use std::time::Duration;
    /// use everlink::Error;
    ///
    /// // nothing comes, for nothing was asked
    /// let nothing = client.recv_timeout(Duration::from_millis(10));
    /// assert!(matches!(nothing, Err(Error::Timeout)));
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv), and [`Error::Timeout`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Message, Error> {
        self.core()?.recv(|| Instant::now().checked_add(timeout))
    }

    /// The next message if there is one now.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// # let client = everlink::Client::connect(&url)?;
    /// client.send("one")?;
    /// client.send("two")?;
    /// assert_eq!(client.recv()?, "one");
    /// // what is there already, and no more
    /// while let Some(message) = client.try_recv()? {
    ///     println!("{message}");
    /// }
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv).
    pub fn try_recv(&self) -> Result<Option<Message>, Error> {
        match self.core()?.recv(|| Some(Instant::now())) {
            Ok(message) => Ok(Some(message)),
            Err(Error::Timeout) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A descriptor that is readable when [`try_recv`](Self::try_recv) has something to say: a message, or
    /// that the client has given up or is closed; and after each event. For programs with a loop of their own
    /// (`poll`, `epoll`, glib, libuv, Qt), which must not wait in here. It stays readable until `try_recv` has said
    /// `None`: a loop that wants events looks for them after that, for one that came before does not make it readable
    /// again. Read nothing from it. It lives as long as the client has a handle, and costs nothing until it is
    /// asked for. On Unix only.
    ///
    /// ```no_run
    /// # fn poll(_: std::os::fd::BorrowedFd<'_>) {}
    /// # let client = everlink::Client::connect("ws://localhost:9001")?;
    /// let readable = client.readable_fd()?;
    /// loop {
    ///     // beside the others of the loop
    ///     poll(readable);
    ///     while let Some(message) = client.try_recv()? {
    ///         println!("{message}");
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// What the system says if there is no descriptor to be had; [`Unsupported`](io::ErrorKind::Unsupported)
    /// where a handler or a channel has every message; [`NotConnected`](io::ErrorKind::NotConnected) in the
    /// child of a `fork`.
    #[cfg(unix)]
    #[doc(alias("poll", "epoll", "eventfd", "as_fd"))]
    pub fn readable_fd(&self) -> io::Result<BorrowedFd<'_>> {
        self.core().map_err(|_| io::Error::from(io::ErrorKind::NotConnected))?.readable_fd()
    }

    /// Messages as they come, until [`recv`](Self::recv) would fail: with
    /// [`ClientBuilder::on_message`] there are none, and a log record says so.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// # let client = everlink::Client::connect(&url)?;
    /// use everlink::Message;
    ///
    /// for number in 0..3 {
    ///     client.send(number.to_string())?;
    /// }
    /// let echoes: Vec<Message> = client.iter().take(3).collect();
    /// assert_eq!(echoes[2], "2");
    /// # Ok::<(), everlink::Error>(())
    /// ```
    pub fn iter(&self) -> Iter<'_> {
        Iter::new(self)
    }

    /// Subscribes to the client's events from here on; after [`connect`](ClientBuilder::connect) the
    /// first is not the link that it made, but what becomes of that. [`ClientBuilder::on_event`] sees
    /// them all.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// # let client = everlink::Client::connect(&url)?;
    /// use everlink::Event;
    ///
    /// let events = client.subscribe();
    /// client.close();
    /// assert!(matches!(events.last(), Some(Event::Closed { clean: true, .. })));
    /// # Ok::<(), everlink::Error>(())
    /// ```
    pub fn subscribe(&self) -> Events {
        self.core().map_or_else(|_| Events::none(), |core| core.publisher.subscribe())
    }

    /// What the client is doing: its state and since when, the endpoint, the last failure, the time
    /// of the next attempt, and what was agreed on.
    ///
    /// ```no_run
    /// # let client = everlink::Client::connect("ws://localhost:9001")?;
    /// let status = client.status();
    /// println!("{} for {:.1?} at {}", status.state, status.since.elapsed(), status.endpoint);
    /// if let (Some(cause), Some(next)) = (&status.last_failure, status.next_attempt) {
    ///     let wait = next.saturating_duration_since(std::time::Instant::now());
    ///     println!("{cause}; next attempt in {wait:.1?}");
    /// }
    /// # Ok::<(), everlink::Error>(())
    /// ```
    pub fn status(&self) -> ClientStatus {
        self.core().map_or_else(|_| ClientStatus::of(State::Closed), |core| core.status.snapshot())
    }

    /// The state at this moment.
    pub fn state(&self) -> State {
        self.core().map_or(State::Closed, |core| core.status.state())
    }

    /// Waits for a link, at most for `timeout`; returns at once if there is one.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// use std::time::Duration;
    /// use everlink::Client;
    ///
    /// // does not wait, as connect() would
    /// let client = Client::builder(&url).start()?;
    /// client.wait_connected(Duration::from_secs(5))?;
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`], [`Error::Closed`], and [`Error::GaveUp`] with the last failure.
    /// [`Error::WouldWaitForever`], at once, in a handler, hook or callback of this client: no link
    /// comes up before that has returned.
    pub fn wait_connected(&self, timeout: Duration) -> Result<(), Error> {
        self.core()?.wait_connected(timeout)
    }

    /// A snapshot of the counters.
    pub fn stats(&self) -> ClientStats {
        let Ok(core) = self.core() else { return ClientStats::default() };
        core.counters.look_at();
        core.stats()
    }

    /// Makes a new link now: after giving up, during a backoff, or in place of the present link (whose
    /// cause is then
    /// [`ReconnectRequested`](crate::Failure::ReconnectRequested)). An attempt that is under way
    /// goes on; should it fail, the next follows at once, one for however many calls. Counters of
    /// failures start anew.
    ///
    /// It returns at once; [`wait_connected`](Self::wait_connected) then waits for the new link. The
    /// old one has half a second for its goodbye, during which a handler goes on with what had come;
    /// then the handler finishes the message that it has, and the rest of the old link is gone.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// # let client = everlink::Client::connect(&url)?;
    /// use std::time::Duration;
    ///
    /// // the subscription has changed, say: the login hook is to run again
    /// client.reconnect()?;
    /// client.wait_connected(Duration::from_secs(5))?;
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Closed`].
    pub fn reconnect(&self) -> Result<(), Error> {
        self.core()?.reconnect()
    }

    /// Sets the endpoints anew, in place of those of the builder and its
    /// [fallbacks](ClientBuilder::fallback): the list of a service that has moved, or that a directory has
    /// told. The present link stays, and so does an attempt that is under way; the next one goes to the first
    /// of these, or to a random one with [`shuffle_endpoints`](ClientBuilder::shuffle_endpoints).
    /// [`reconnect`](Self::reconnect) makes that now. Headers, subprotocols and TLS settings stay; a builder
    /// takes [`tls`](ClientBuilder::tls) only if one of its own endpoints may want it. A session
    /// ([`ClientBuilder::resume`]) goes on only if the attempt goes to the origin where it began, and its token
    /// goes to no other: so put that first. Where another is first, a new session begins there, and takes its
    /// place ([`SessionStart::Replaced`](crate::SessionStart::Replaced)).
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// use everlink::Client;
    ///
    /// // nobody listens there
    /// let client = Client::builder("ws://127.0.0.1:1").start()?;
    /// client.set_endpoints([&url, "ws://127.0.0.1:2"])?;
    /// client.reconnect()?;
    /// client.wait_connected(std::time::Duration::from_secs(10))?;
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`ClientBuilder::start`] for an endpoint, and [`Error::InvalidUrl`] for none at all; nothing is
    /// changed then. [`Error::Closed`].
    pub fn set_endpoints(
        &self,
        urls: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<(), Error> {
        self.core()?.set_endpoints(urls)
    }

    /// Closes with code 1000: [`close_with`](Self::close_with).
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// # let client = everlink::Client::connect(&url)?;
    /// client.send("the last word")?;
    /// let report = client.close();
    /// assert!(report.ended && report.undelivered.is_empty());
    /// # Ok::<(), everlink::Error>(())
    /// ```
    pub fn close(&self) -> CloseReport {
        self.finish(CloseFrame::new(CloseCode::NORMAL, ""))
    }

    /// Closes for good: accepts nothing more, writes what is queued, shakes hands (RFC 6455
    /// section 7.1.2) and ends all threads. Without a link it ends them at once, whatever they
    /// are doing, but for a client that has a [session](crate::ClientBuilder::resume) and has not given up: it
    /// dials until the server has what is queued and knows of the end.
    ///
    /// It returns within the [close timeout](crate::config::Timeouts::close) and 100 ms with a link or a session,
    /// and within 100 ms without, whatever hangs; what does is left behind, and
    /// [`CloseReport::ended`] says so. That time is one for all who close the client: a second call
    /// after it, and the drop of the last handle, return at once. Called on one of the client's own threads (in a handler,
    /// a hook) it starts closing and returns at once.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// # let client = everlink::Client::connect(&url)?;
    /// use everlink::CloseCode;
    ///
    /// client.close_with(CloseCode::GOING_AWAY, "shift over")?;
    /// // 1005 is only ever reported
    /// assert!(client.close_with(1005, "").is_err());
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidClose`] for a code that must not be sent, or a reason of more than 123
    /// bytes or with control characters; nothing is closed then.
    pub fn close_with(
        &self,
        code: impl Into<CloseCode>,
        reason: &str,
    ) -> Result<CloseReport, Error> {
        Ok(self.finish(close_frame(code.into(), reason)?))
    }

    fn finish(&self, frame: CloseFrame) -> CloseReport {
        let Ok(core) = self.core() else {
            return CloseReport { ended: true, undelivered: Vec::new() };
        };
        CloseReport { ended: core.close(frame), undelivered: core.take_undelivered() }
    }
}

impl Receive for Client {
    fn next(&self) -> Option<Message> {
        let logged = |error: &Error| {
            if matches!(error, Error::WouldWaitForever { .. }) {
                log::error!("{}: no message to iterate over: {error}", self.guard.plain().0.name());
            }
        };
        self.recv().inspect_err(logged).ok()
    }
}

impl<'a> IntoIterator for &'a Client {
    type Item = Message;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("id", &self.id())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

/// Closes the client with the last handle.
struct Guard(Arc<Core>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.close(CloseFrame::new(CloseCode::NORMAL, ""));
        // nobody is left who could receive
        self.0.mailbox.abandon();
        if !threads::belongs_to(self.0.id) {
            let at_once = Instant::now() + Duration::from_millis(10);
            self.0.threads.join(at_once, |role| role == Role::Inbox);
        }
    }
}

/// How closing went, from [`Client::close`](crate::Client::close).
#[derive(Debug, Default, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseReport {
    /// Whether every thread has ended, and is joined; then whatever closures the client was given are
    /// dropped, with what they had captured. False if the program's own code still holds one up (a
    /// handler, a hook or a resolver that does not return; the system's lookup of a name, too), or if
    /// one of the client's own threads called; they end as soon as they can.
    ///
    /// The thread of a [channel](crate::ClientBuilder::start_with_channel) is not waited for while messages are
    /// left in the inbox: it ends when the last of them is taken, or with the last handle.
    pub ended: bool,
    /// Messages that were accepted and not delivered, in order: those never written, and with
    /// [`Delivery::AtLeastOnce`](crate::config::Delivery::AtLeastOnce) those never confirmed. Only the
    /// first caller gets them.
    pub undelivered: Vec<Message>,
}

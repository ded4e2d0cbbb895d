//! One accepted connection, as the program sees it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::accepted::Accepted;
use super::attachment::Attachment;
use super::incoming::Incoming;
use super::listener::Listener;
use super::peer::Peer;
use super::peer_info::PeerInfo;
use super::session_core::SessionCore;
use super::shutdown_report::ShutdownReport;
use crate::error::{Error, close_frame};
use crate::failure::{Decision, Failure};
use crate::link::{CloseRequest, GOODBYE, Handle};
use crate::message::{CloseCode, CloseFrame, Iter, Message, Receive};
use crate::policy::{AgreedCompression, Heartbeat};
use crate::queues::NoMessage;
use crate::queues::outbox::Outbox;
use crate::queues::terms::{Terms, WaitFor};
use crate::sender::{End, Sender, sends};
use crate::stats::{Counters, ServerStats, SessionStats};
use crate::sync::Ours;
use crate::sync::threads::{self, thread_prefix};
#[cfg(feature = "tls")]
use crate::transport::tls::{Tls, TlsInfo};
use crate::wire::websocket::DeflatedOnce;

/// A connection that a [`Server`](crate::Server) has accepted, in the hands of its handler.
///
/// Clones are handles to the same session and may be used on other threads. The session is over
/// when the peer ends it, when it is closed, or when the handler returns, whichever is first;
/// it is never dialed again. With [`ServerBuilder::resume`](crate::ServerBuilder::resume) it
/// outlives its connection, and goes on when the client comes back in time.
#[derive(Clone)]
pub struct Session {
    sender: Sender,
    inner: Ours<Inner>,
}

/// What a session's senders hold of it.
struct Outgoing {
    core: Arc<SessionCore>,
    attachment: Arc<dyn Attachment>,
}

impl End for Outgoing {
    fn id(&self) -> u64 {
        self.core.id()
    }

    fn outbox(&self) -> &Outbox {
        self.core.outbox()
    }

    fn is_up(&self) -> bool {
        self.attachment.is_connected()
    }

    fn is_received_here_alone(&self) -> bool {
        self.core.mailbox().is_received_here_alone()
    }

    fn gave_up(&self) -> Option<Error> {
        None
    }

    fn start_close(&self, frame: CloseFrame) {
        self.core.outbox().shut();
        self.attachment.start_close(frame, Some(self.core.settings().timeouts().close));
    }

    fn end_link(&self, reason: String, _: Decision) -> Result<(), Error> {
        let request = CloseRequest::urgent(Some(CloseFrame::new(CloseCode::NORMAL, "")));
        let request = request.because(Failure::Ended(reason));
        self.link()?.close(request.by(Instant::now() + GOODBYE));
        Ok(())
    }

    fn set_heartbeat(&self, heartbeat: Heartbeat) -> Result<(), Error> {
        self.link()?.set_heartbeat(heartbeat)
    }

    fn ping(&self, timeout: Duration) -> Result<Duration, Error> {
        self.link()?.ping(timeout)
    }
}

impl Outgoing {
    fn link(&self) -> Result<Handle, Error> {
        if let Some(link) = self.attachment.link().filter(|link| link.died_at().is_none()) {
            return Ok(link);
        }
        let is_over = self.attachment.failure().is_some();
        Err(if is_over { Error::Closed } else { Error::NotConnected })
    }
}

/// What the handles of a session share.
struct Inner {
    core: Arc<SessionCore>,
    attachment: Arc<dyn Attachment>,
    peer: PeerInfo,
    server: ServerHandle,
}

impl Session {
    /// # Errors
    ///
    /// What the system says if there is no thread for its channel.
    pub(super) fn new(
        core: &Arc<SessionCore>,
        attachment: Arc<dyn Attachment>,
        peer: PeerInfo,
        server: ServerHandle,
    ) -> io::Result<Self> {
        let core = Arc::clone(core);
        let outgoing = Outgoing { core: Arc::clone(&core), attachment: Arc::clone(&attachment) };
        let sender = Sender::new(Arc::new(outgoing));
        let session =
            Self { sender, inner: Ours::new(Arc::new(Inner { core, attachment, peer, server })) };
        // its thread ends with the session
        session.core().open_channel()?;
        Ok(session)
    }

    fn core(&self) -> &SessionCore {
        &self.inner.plain().core
    }

    /// A number that no other session or client of this process has.
    pub fn id(&self) -> u64 {
        self.core().id()
    }

    /// The address of the other end of the connection: of the client, or of the proxy that is between.
    /// That of the latest connection, if the client has come back
    /// ([`ServerBuilder::resume`](crate::ServerBuilder::resume)). `[::]:0` on a Unix socket, which has
    /// none, and on a transport of the program's own.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer().address()
    }

    /// The address of the client itself, as far as it is known: what a trusted proxy says
    /// ([`ServerBuilder::proxy_protocol`](crate::ServerBuilder::proxy_protocol),
    /// [`forwarded`](crate::ServerBuilder::forwarded)), or the program of a connection
    /// that it has [given to the server](crate::Accepted::client_addr), else
    /// [`peer_addr`](Self::peer_addr).
    pub fn client_addr(&self) -> SocketAddr {
        self.peer().client()
    }

    fn peer(&self) -> Peer {
        let inner = self.inner.plain();
        match inner.peer.incoming() {
            // without a lock
            Some(incoming) if self.inner.get().is_none() => incoming.peer,
            _ => inner.attachment.peer(),
        }
    }

    /// Whether there is a connection. Without one the session is over, unless it can be resumed
    /// ([`ServerBuilder::resume`](crate::ServerBuilder::resume)): then it waits for its client,
    /// and what is sent meanwhile is queued.
    pub fn is_connected(&self) -> bool {
        self.inner.get().is_some_and(|inner| inner.attachment.is_connected())
    }

    /// Waits until there is a connection, at most for `timeout`; returns at once if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`], and [`Error::Closed`] once the session is over.
    /// [`Error::WouldWaitForever`], at once, in a handler that is called for each message: the next
    /// connection comes when that has returned.
    pub fn wait_connected(&self, timeout: Duration) -> Result<(), Error> {
        let attachment = &self.inner.get().ok_or(Error::Closed)?.attachment;
        if !threads::belongs_to(self.id()) {
            return attachment.wait_connected(timeout);
        }
        match attachment.wait_connected(Duration::ZERO) {
            Err(Error::Timeout) => Err(Error::on_own_thread()),
            result => result,
        }
    }

    /// The request that opened the session, the first if there were others: its path, headers,
    /// credentials. `None` on framed TCP.
    pub fn incoming(&self) -> Option<&Incoming> {
        self.inner.plain().peer.incoming()
    }

    /// The subprotocol that was agreed on, if any.
    pub fn subprotocol(&self) -> Option<&str> {
        self.inner.plain().peer.subprotocol()
    }

    /// What the closure of [`on_request`](crate::ServerBuilder::on_request) has given along with
    /// [`Answer::with`](crate::Answer::with), by its type.
    ///
    /// ```
    /// use everlink::{Answer, Client, Server};
    ///
    /// #[derive(Clone)]
    /// struct Room(String);
    ///
    /// let server = Server::builder()
    ///     .on_request(|incoming| Answer::accept().with(Room(incoming.path().into())))
    ///     .bind("127.0.0.1:0", |session| {
    ///         if let Some(Room(name)) = session.get() {
    ///             let _ = session.send(format!("this is {name}"));
    ///         }
    ///     })?;
    /// let client = Client::connect(format!("ws://{}/lobby", server.local_addr()))?;
    /// assert_eq!(client.recv()?, "this is /lobby");
    /// # Ok::<(), everlink::Error>(())
    /// ```
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.inner.plain().peer.value()
    }

    /// What TLS says of the connection that opened the session: who the client has proved to be, and what was
    /// agreed on. `None` without TLS, and for a request that something else has read
    /// ([`adopt`](ServerHandle::adopt)).
    #[cfg(feature = "tls")]
    pub fn tls(&self) -> Option<&TlsInfo> {
        self.inner.plain().peer.tls()
    }

    /// The server of this session.
    pub fn server(&self) -> ServerHandle {
        self.inner.plain().server.clone()
    }

    /// How messages are compressed, if both sides want that
    /// ([`ServerBuilder::compression`](crate::ServerBuilder::compression)).
    pub fn compression(&self) -> Option<AgreedCompression> {
        self.inner.get().and_then(|inner| inner.attachment.compression())
    }

    sends!();

    /// Sends a message to every session of this server, this one included, without waiting:
    /// [`ServerHandle::broadcast`](crate::ServerHandle::broadcast).
    ///
    /// ```
    /// use everlink::{Client, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0", |session| {
    ///     for message in &session {
    ///         session.broadcast(message);
    ///     }
    /// })?;
    /// let client = Client::connect(format!("ws://{}", server.local_addr()))?;
    /// client.send("to all, and to me")?;
    /// assert_eq!(client.recv()?, "to all, and to me");
    /// # Ok::<(), everlink::Error>(())
    /// ```
    pub fn broadcast(&self, message: impl Into<Message>) -> usize {
        self.inner.plain().server.broadcast(message)
    }

    /// The same, to those sessions for which the closure says true:
    /// [`ServerHandle::broadcast_where`](crate::ServerHandle::broadcast_where).
    ///
    /// ```
    /// use everlink::{Client, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0", |session| {
    ///     for message in &session {
    ///         session.broadcast_where(message, |other| other.id() != session.id());
    ///     }
    /// })?;
    /// let url = format!("ws://{}", server.local_addr());
    /// let (one, other) = (Client::connect(&url)?, Client::connect(&url)?);
    /// # while server.sessions().len() < 2 {
    /// #     std::thread::yield_now();
    /// # }
    /// one.send("to everybody else")?;
    /// assert_eq!(other.recv()?, "to everybody else");
    /// # Ok::<(), everlink::Error>(())
    /// ```
    pub fn broadcast_where(
        &self,
        message: impl Into<Message>,
        is_meant: impl Fn(&Session) -> bool,
    ) -> usize {
        self.inner.plain().server.broadcast_where(message, is_meant)
    }

    /// Joins a topic: what is [published](ServerHandle::publish) there comes to this session, too, from
    /// here on until it [leaves](Self::leave) or ends. Returns whether it was not a member already.
    ///
    /// A topic is a name of 1 to 255 bytes, chosen by the program, and exists as long as it has members. A
    /// session that can be [resumed](crate::ServerBuilder::resume) stays in its topics without a
    /// connection, and what is published meanwhile waits with it. A session has left all its topics when it
    /// has ended; one that cannot be resumed, when its handler has returned after that.
    ///
    /// If there is a closure that hears of it, [`ServerBuilder::on_presence`](crate::ServerBuilder::on_presence), this
    /// returns when that has.
    ///
    /// ```
    /// use everlink::{Client, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0", |session| {
    ///     // a client says `join lobby`, and everything else to those who are there
    ///     for message in &session {
    ///         let text = message.as_text().unwrap_or_default();
    ///         match text.split_once(' ') {
    ///             Some(("join", topic)) => match session.join(topic) {
    ///                 Ok(_) => drop(session.send(format!("in {:?}", session.topics()))),
    ///                 Err(refused) => drop(session.send(refused.to_string())),
    ///             },
    ///             Some(("leave", topic)) => drop(session.leave(topic)),
    ///             _ => session.topics().iter().for_each(|topic| {
    ///                 session.publish(topic, message.clone());
    ///             }),
    ///         }
    ///     }
    /// })?;
    /// let client = Client::connect(format!("ws://{}", server.local_addr()))?;
    /// client.send("join lobby")?;
    /// assert_eq!(client.recv()?, r#"in ["lobby"]"#);
    /// client.send("hello")?;
    /// assert_eq!(client.recv()?, "hello");
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::TopicRefused`] for a name that is too long or empty, and at the bounds:
    /// [`max_topics`](crate::ServerBuilder::max_topics),
    /// [`max_topic_bytes`](crate::ServerBuilder::max_topic_bytes). [`Error::Closed`] once the session is over.
    #[doc(alias("subscribe", "room"))]
    pub fn join(&self, topic: &str) -> Result<bool, Error> {
        let server = self.inner.get().and_then(|inner| inner.server.server.get());
        match server {
            Some(server) if self.failure().is_none() => server.join(self, topic),
            _ => Err(Error::Closed),
        }
    }

    /// Leaves a topic. Returns whether it was a member.
    #[doc(alias = "unsubscribe")]
    pub fn leave(&self, topic: &str) -> bool {
        let server = self.inner.plain().server.server.get();
        server.is_some_and(|server| server.leave(self, topic))
    }

    /// The topics that it has joined, in the order of their names.
    pub fn topics(&self) -> Vec<String> {
        let server = self.inner.plain().server.server.get();
        server.map(|server| server.topics_of(self.id())).unwrap_or_default()
    }

    /// Sends a message to everybody in a topic, without waiting; this session need not be in it:
    /// [`ServerHandle::publish`](crate::ServerHandle::publish).
    pub fn publish(&self, topic: &str, message: impl Into<Message>) -> usize {
        self.inner.plain().server.publish(topic, message)
    }

    /// The same, to those members for which the closure says true:
    /// [`ServerHandle::publish_where`](crate::ServerHandle::publish_where).
    ///
    /// ```
    /// # fn handler(session: everlink::Session) {
    /// // everybody else
    /// session.publish_where("lobby", "hello", |other| other.id() != session.id());
    /// # }
    /// ```
    pub fn publish_where(
        &self,
        topic: &str,
        message: impl Into<Message>,
        is_meant: impl Fn(&Session) -> bool,
    ) -> usize {
        self.inner.plain().server.publish_where(topic, message, is_meant)
    }

    /// Waits for the next message.
    ///
    /// ```
    /// use everlink::{Client, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0", |session| {
    ///     // until the client has gone
    ///     while let Ok(message) = session.recv() {
    ///         let _ = session.send(message);
    ///     }
    /// })?;
    /// let client = Client::connect(format!("ws://{}", server.local_addr()))?;
    /// client.send("hello")?;
    /// assert_eq!(client.recv()?, "hello");
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] once the session is over and every message was taken;
    /// [`failure`](Self::failure) says why. [`Error::WouldWaitForever`], at once, with
    /// [`ServerBuilder::bind_with_handler`](crate::ServerBuilder::bind_with_handler), whose handler has
    /// every message.
    pub fn recv(&self) -> Result<Message, Error> {
        self.recv_until(|| None)
    }

    /// `deadline` is asked for only if there is no message yet.
    fn recv_until(&self, deadline: impl FnOnce() -> Option<Instant>) -> Result<Message, Error> {
        let inner = self.inner.get().ok_or(Error::Closed)?;
        let mailbox = inner.core.mailbox();
        if let Some(message) = mailbox.next() {
            return Ok(message);
        }
        if inner.core.settings().has_handler {
            let reason = "every message goes to the handler of bind_with_handler()";
            let is_over = inner.attachment.failure().is_some();
            return Err(if is_over { Error::Closed } else { Error::WouldWaitForever { reason } });
        }
        mailbox.recv(deadline(), || false, crossbeam_channel::never).map_err(|nothing| {
            if nothing == NoMessage::TimedOut { Error::Timeout } else { Error::Closed }
        })
    }

    /// Waits for the next message, at most for `timeout`.
    ///
    /// ```
    /// use everlink::{Client, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0", |session| {
    ///     match session.recv_timeout(std::time::Duration::from_millis(10)) {
    ///         Ok(message) => drop(session.send(message)),
    ///         Err(_) => drop(session.send("say something")),
    ///     }
    /// })?;
    /// let client = Client::connect(format!("ws://{}", server.local_addr()))?;
    /// assert_eq!(client.recv()?, "say something");
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv), and [`Error::Timeout`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Message, Error> {
        self.recv_until(|| Instant::now().checked_add(timeout))
    }

    /// The next message if there is one now.
    ///
    /// ```
    /// use everlink::{Client, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0", |session| {
    ///     let Ok(first) = session.recv() else { return };
    ///     let mut lines = vec![first.to_string()];
    ///     // what is there already, and no more
    ///     while let Ok(Some(message)) = session.try_recv() {
    ///         lines.push(message.to_string());
    ///     }
    ///     let _ = session.send(lines.join(" "));
    /// })?;
    /// let client = Client::connect(format!("ws://{}", server.local_addr()))?;
    /// client.send("hello")?;
    /// assert_eq!(client.recv()?, "hello");
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv).
    pub fn try_recv(&self) -> Result<Option<Message>, Error> {
        match self.recv_until(|| Some(Instant::now())) {
            Ok(message) => Ok(Some(message)),
            Err(Error::Timeout) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Messages as they come, until the session is over. With
    /// [`ServerBuilder::bind_with_handler`](crate::ServerBuilder::bind_with_handler) there are none, and a
    /// log record says so.
    ///
    /// ```
    /// use everlink::{Client, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0", |session| {
    ///     // `for message in &session` is the same
    ///     for message in session.iter() {
    ///         let _ = session.send(message);
    ///     }
    /// })?;
    /// let client = Client::connect(format!("ws://{}", server.local_addr()))?;
    /// client.send("hello")?;
    /// assert_eq!(client.recv()?, "hello");
    /// # Ok::<(), everlink::Error>(())
    /// ```
    pub fn iter(&self) -> Iter<'_> {
        Iter::new(self)
    }

    /// The channel of received messages, if its server has them.
    pub(super) fn channel(&self) -> Receiver<Message> {
        self.inner.plain().core.mailbox().receiver()
    }

    /// Why the session is over; `None` while it is not.
    ///
    /// ```
    /// use everlink::{Client, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0", |session| {
    ///     for _ in &session {}
    ///     if let Some(cause) = session.failure() {
    ///         println!("session {} is over: {cause}", session.id());
    ///     }
    /// })?;
    /// let client = Client::connect(format!("ws://{}", server.local_addr()))?;
    /// client.close();
    /// # Ok::<(), everlink::Error>(())
    /// ```
    pub fn failure(&self) -> Option<Arc<Failure>> {
        self.inner.get().and_then(|inner| inner.attachment.failure())
    }

    /// The counters of this session.
    pub fn stats(&self) -> SessionStats {
        let Some(inner) = self.inner.get() else { return SessionStats::default() };
        let core = &inner.core;
        let end = inner.attachment.ended_at().unwrap_or_else(Instant::now);
        core.counters().look_at();
        let uptime = Some(end.saturating_duration_since(core.born()));
        let stats = core.counters().of_session(&core.outbox().tally());
        SessionStats {
            uptime,
            inbox_messages: core.mailbox().len(),
            inbox_dropped: core.mailbox().dropped(),
            // a session that cannot be resumed does not count
            connects: stats.connects.max(1),
            ..stats
        }
    }

    /// Closes with code 1000: [`close_with`](Self::close_with).
    ///
    /// ```
    /// use everlink::{Client, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0", |session| {
    ///     let _ = session.send("the last word");
    ///     session.close();
    /// })?;
    /// let client = Client::connect(format!("ws://{}", server.local_addr()))?;
    /// assert_eq!(client.recv()?, "the last word");
    /// # Ok::<(), everlink::Error>(())
    /// ```
    pub fn close(&self) {
        self.finish(CloseFrame::new(CloseCode::NORMAL, ""));
    }

    /// Accepts nothing more to be sent, writes what is queued and shakes hands (RFC 6455 section
    /// 7.1.2); returns when that is done, within the server's [close timeout](crate::config::Timeouts::close); at
    /// once on a thread of the session's own, as in a handler that is called for each message.
    ///
    /// ```
    /// use everlink::failure::Decision;
    /// use everlink::{Client, Error, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0", |session| {
    ///     let _ = session.close_with(4001, "the token has expired");
    /// })?;
    /// let client = Client::builder(format!("ws://{}", server.local_addr()))
    ///     .decide(|_, failure| match failure.close_frame() {
    ///         Some(frame) if frame.code.0 == 4001 => Decision::GiveUp,
    ///         _ => failure.decision(),
    ///     })
    ///     .start()?;
    /// let Err(Error::GaveUp(cause)) = client.recv() else { panic!() };
    /// assert_eq!(cause.close_frame().map(|frame| frame.reason.as_str()), Some("the token has expired"));
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidClose`] for a code that must not be sent, or a reason of more than 123
    /// bytes or with control characters; nothing is closed then.
    pub fn close_with(&self, code: impl Into<CloseCode>, reason: &str) -> Result<(), Error> {
        self.finish(close_frame(code.into(), reason)?);
        Ok(())
    }

    /// Ends the session at once, without a goodbye: what is queued is dropped, no close frame is
    /// sent, and the connection is reset, so that a WebSocket client sees an abnormal end (1006)
    /// and one of framed TCP, where the end of the stream is the goodbye, sees none either. (Only
    /// Linux can reset a connection that is in use; elsewhere the stream ends first.) It does not
    /// wait for the handler, which finds the session over.
    ///
    /// ```
    /// use everlink::failure::FailureKind;
    /// use everlink::{Client, Event, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0", |session| {
    ///     let _ = session.recv();
    ///     session.abort();
    /// })?;
    /// let client = Client::connect(format!("ws://{}", server.local_addr()))?;
    /// let mut events = client.subscribe();
    /// client.send("break it off")?;
    /// let lost = events.any(|event| match event {
    ///     Event::Disconnected { cause, .. } => cause.kind() == FailureKind::Lost,
    ///     _ => false,
    /// });
    /// assert!(lost);
    /// # Ok::<(), everlink::Error>(())
    /// ```
    pub fn abort(&self) {
        // first: a handler whose send fails returns, and that would be a goodbye
        self.kill(Failure::Aborted);
        if let Some(inner) = self.inner.get() {
            inner.core.outbox().shut();
        }
    }

    /// Closes and waits for the end, at most for the closing timeout.
    pub(super) fn finish(&self, frame: CloseFrame) {
        let Some(inner) = self.inner.get() else { return };
        let timeout = inner.core.settings().timeouts().close;
        inner.core.outbox().shut();
        inner.attachment.start_close(frame, Some(timeout));
        // which brings the end about once its handler has returned
        if !threads::belongs_to(self.id()) {
            inner.attachment.wait_for_end(timeout);
        }
    }

    /// The server is going down, and gives its handlers time.
    pub(super) fn finish_up(&self, farewell: CloseFrame) {
        self.inner.plain().attachment.finish_up(farewell);
    }

    /// The server is going down.
    pub(super) fn begin_close(&self, frame: CloseFrame) {
        self.core().outbox().shut();
        self.inner.plain().attachment.start_close(frame, None);
    }

    pub(super) fn peer_info(&self) -> &PeerInfo {
        &self.inner.plain().peer
    }

    pub(super) fn outbox(&self) -> &Outbox {
        self.core().outbox()
    }

    pub(super) fn counters(&self) -> &Counters {
        self.core().counters()
    }

    /// Queues a message that goes to many, with what has come of compressing it. Never waits.
    pub(super) fn queue_shared(
        &self,
        message: Message,
        deflated: Option<Arc<DeflatedOnce>>,
    ) -> Result<(), Error> {
        let terms = Terms { deflated, is_shared: true, ..Terms::default() };
        Ok(self.sender.push(message, terms, WaitFor::Nothing)?)
    }

    /// Whether the sums of its server have it.
    pub(super) fn has_ended(&self) -> bool {
        self.counters().is_in_totals.load(Relaxed)
    }

    /// Ends the session without a goodbye, if it is not over already.
    pub(super) fn kill(&self, cause: Failure) {
        if let Some(inner) = self.inner.get() {
            inner.attachment.kill(cause);
        }
    }
}

impl<'a> IntoIterator for &'a Session {
    type Item = Message;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl Receive for Session {
    fn next(&self) -> Option<Message> {
        let logged = |error: &Error| {
            if matches!(error, Error::WouldWaitForever { .. }) {
                log::error!("{}: no message to iterate over: {error}", thread_prefix(self.id()));
            }
        };
        self.recv().inspect_err(logged).ok()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // nobody is left who could receive
        self.core.mailbox().abandon();
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id())
            .field("peer", &self.peer_addr())
            .finish_non_exhaustive()
    }
}

/// What a server does for its handles.
pub(super) trait ServerEnd: Send + Sync {
    fn address(&self) -> SocketAddr;
    fn listener(&self) -> Result<Listener, Error>;
    fn adopt(self: Arc<Self>, accepted: Accepted) -> Result<(), Error>;
    #[cfg(feature = "tls")]
    fn set_tls(&self, tls: Tls) -> Result<(), Error>;
    fn stats(&self) -> ServerStats;
    fn join(&self, session: &Session, topic: &str) -> Result<bool, Error>;
    fn leave(&self, session: &Session, topic: &str) -> bool;
    fn topics_of(&self, session: u64) -> Vec<String>;
    /// Without a topic all that are open.
    fn members(&self, topic: Option<&str>) -> Arc<Vec<Session>>;
    /// To the members of a topic; without one to all that are open.
    fn publish(
        &self,
        topic: Option<&str>,
        message: &Message,
        is_meant: &dyn Fn(&Session) -> bool,
    ) -> usize;
    fn drain(&self, timeout: Duration) -> usize;
    fn shutdown(&self, timeout: Duration) -> ShutdownReport;
    fn shutdown_at_drop(&self);
}

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
    server: Ours<dyn ServerEnd>,
}

impl ServerHandle {
    pub(super) fn new<T: ServerEnd + 'static>(server: Arc<T>) -> Self {
        Self { server: Ours::new(server) }
    }

    /// The address on which the server listens: the one to ask after binding to port 0. `[::]:0` on a
    /// Unix socket, which has a path instead.
    pub fn local_addr(&self) -> SocketAddr {
        self.server.plain().address()
    }

    /// Another handle to the socket on which the server listens, to be
    /// [handed to the next process](crate::Listener#restart-without-a-gap). The socket goes on taking
    /// connections for as long as anybody has one.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] once the server is shut down, and [`Error::Bind`] if no descriptor is left.
    pub fn listener(&self) -> Result<Listener, Error> {
        self.server.get().ok_or(Error::Closed)?.listener()
    }

    /// Serves a connection that something else has accepted, as if the server had: it counts in its
    /// limits, statistics and shutdown, and begins with TLS if the server speaks that.
    /// [`Accepted`] says what is known of it. It returns at once.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if there is no room for it: it is told so, as one that the server has
    /// accepted. [`Error::Closed`] once the server is shut down, and [`Error::InvalidSetting`] for a
    /// request where the server speaks framed TCP.
    pub fn adopt(&self, connection: impl Into<Accepted>) -> Result<(), Error> {
        let server = self.server.get().ok_or(Error::Closed)?;
        Arc::clone(server).adopt(connection.into())
    }

    /// Speaks TLS with these settings from now on: another certificate, other authorities. Connections that
    /// are there, or are opening, stay as they are; one that comes again is met with a whole handshake.
    /// [`Tls::watch_files`](crate::config::Tls::watch_files) has the server find out by itself.
    ///
    /// ```no_run
    /// use everlink::Server;
    /// use everlink::config::Tls;
    ///
    /// # fn main() -> Result<(), everlink::Error> {
    /// let tls = Tls::new().identity_files("cert.pem", "key.pem");
    /// let server = Server::builder().tls(tls.clone()).bind("0.0.0.0:9001", |session| drop(session.recv()))?;
    /// // later, the files have changed
    /// server.set_tls(tls)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSetting`] for what is refused at the start, too, and for a server that speaks no TLS:
    /// nothing has changed then. [`Error::Closed`] once the server is shut down.
    #[doc(alias("reload", "rotate", "renew"))]
    #[cfg(feature = "tls")]
    pub fn set_tls(&self, tls: impl Into<Tls>) -> Result<(), Error> {
        self.server.get().ok_or(Error::Closed)?.set_tls(tls.into())
    }

    /// The sessions that are open at the moment.
    pub fn sessions(&self) -> Vec<Session> {
        self.server.get().map(|server| server.members(None).to_vec()).unwrap_or_default()
    }

    /// A snapshot of the counters.
    pub fn stats(&self) -> ServerStats {
        self.server.get().map(|server| server.stats()).unwrap_or_default()
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
        self.broadcast_where(message, |_| true)
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
        self.server.get().map_or(0, |server| server.publish(None, &message.into(), &is_meant))
    }

    /// Queues a message for every session that has [joined](Session::join) the topic, those that wait for
    /// their client included, and returns for how many. It never waits, as
    /// [`broadcast`](Self::broadcast) does not: a session that is slow is treated alike. Messages that one thread
    /// publishes come in that order to each member. A message that is
    /// [compressed](crate::ServerBuilder::compression) is so once for all members whose links keep
    /// no context ([`no_send_takeover`](crate::config::Compression::no_send_takeover)).
    ///
    /// ```
    /// use everlink::{Client, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0", |session| {
    ///     let _ = session.join("weather");
    ///     let _ = session.send("joined");
    ///     for _ in &session {}
    /// })?;
    /// let client = Client::connect(format!("ws://{}", server.local_addr()))?;
    /// assert_eq!(client.recv()?, "joined");
    /// assert_eq!(server.publish("weather", "rain at noon"), 1);
    /// assert_eq!(server.publish("sports", "nobody wants to know"), 0);
    /// assert_eq!(client.recv()?, "rain at noon");
    /// # Ok::<(), everlink::Error>(())
    /// ```
    #[doc(alias("emit", "room", "channel"))]
    pub fn publish(&self, topic: &str, message: impl Into<Message>) -> usize {
        self.publish_where(topic, message, |_| true)
    }

    /// The same, to those members for which the closure says true; it is asked for one after the other,
    /// on this thread.
    ///
    /// ```
    /// # let server = everlink::Server::bind("127.0.0.1:0", |session| drop(session.recv()))?;
    /// assert_eq!(server.publish_where("weather", "rain", |member| member.is_connected()), 0);
    /// # Ok::<(), everlink::Error>(())
    /// ```
    pub fn publish_where(
        &self,
        topic: &str,
        message: impl Into<Message>,
        is_meant: impl Fn(&Session) -> bool,
    ) -> usize {
        let Some(server) = self.server.get() else { return 0 };
        server.publish(Some(topic), &message.into(), &is_meant)
    }

    /// The sessions that are in a topic at the moment, the oldest first.
    ///
    /// ```
    /// # let server = everlink::Server::bind("127.0.0.1:0", |session| drop(session.recv()))?;
    /// assert!(server.members("weather").is_empty());
    /// # Ok::<(), everlink::Error>(())
    /// ```
    pub fn members(&self, topic: &str) -> Vec<Session> {
        let server = self.server.get();
        server.map(|server| server.members(Some(topic)).to_vec()).unwrap_or_default()
    }

    /// Stops accepting, and has every handler finish what it is at. Returns how many connections are left after
    /// `timeout`: [`shutdown`](Self::shutdown) says goodbye to them, and cuts what is left then.
    ///
    /// A handler receives what has come, may still answer, and then finds the end as if its client had closed:
    /// [`Error::Closed`] from [`recv`](Session::recv), the end of an iteration or of a channel. Its session is closed with
    /// 1001 once it has returned and all that it has said is written. A [`SessionHandler`](crate::SessionHandler)
    /// finishes the message that it has, and is closed at once if it has none. A connection whose handshake is under way
    /// gets the time for it, and the goodbye.
    ///
    /// What comes later is left to whoever takes over: it is thrown away, and nothing tells the client that it was
    /// received: its pings are answered with pings, which say no more than that somebody is there. One that [sends at least once](crate::config::Delivery::AtLeastOnce) says it again, to the next server.
    ///
    /// A handler that waits for an [answer](crate::Waiting) waits no longer: none will be taken.
    /// A session that has no connection, or loses it meanwhile, is over: its client has nowhere to come back to.
    ///
    /// A handler that never receives is not told, and is waited for until the time is over; so is a call of this in a
    /// handler.
    ///
    /// ```
    /// use std::time::Duration;
    /// use everlink::{Client, CloseCode, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0", |session| {
    ///     for message in &session {
    ///         // whatever it takes to have it done
    ///         let _ = session.send(format!("done: {message}"));
    ///     }
    /// })?;
    /// let client = Client::connect(format!("ws://{}", server.local_addr()))?;
    /// client.send("a job")?;
    /// # assert_eq!(client.recv()?, "done: a job");
    /// let left = server.drain(Duration::from_secs(10));
    /// let report = server.shutdown(Duration::from_secs(1));
    /// assert!(left == 0 && report.drained);
    /// # Ok::<(), everlink::Error>(())
    /// ```
    pub fn drain(&self, timeout: Duration) -> usize {
        self.server.get().map(|server| server.drain(timeout)).unwrap_or_default()
    }

    /// Stops accepting, closes each session with 1001 after what is queued for it, and joins
    /// every thread; cuts what is left after `timeout`. Sessions that wait for their client are
    /// ended at once. Clients of sessions that [survive their connection](crate::ServerBuilder::resume)
    /// hear that theirs is over, with 1001, and what is in doubt is settled where they answer in time. Whoever
    /// calls while another does waits for the same end.
    ///
    /// From here on `send` fails in handlers, while `recv` still gives them what had come: one that
    /// leaves its loop at the first `send` that fails drops the rest of its inbox. Where every message
    /// has to be answered, [`drain`](Self::drain) first.
    ///
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
        self.server.get().map(|server| server.shutdown(timeout)).unwrap_or_default()
    }

    pub(super) fn shutdown_at_drop(&self) {
        if let Some(server) = self.server.get() {
            server.shutdown_at_drop();
        }
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

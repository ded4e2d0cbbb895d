//! What sends, on both sides: a handle to the outbox of a client or session.

mod calls;
mod error;
mod in_order;
mod options;
mod waiting;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use calls::Calls;
pub use error::SendError;
pub use in_order::CallsInOrder;
pub use options::SendOptions;
pub use waiting::Waiting;

use crate::error::{Error, close_frame};
use crate::failure::Decision;
use crate::message::{CloseCode, CloseFrame, Message};
use crate::policy::Heartbeat;
use crate::queues::outbox::Outbox;
use crate::queues::receipt::Receipt;
use crate::queues::terms::{Refused, Terms, WaitFor};
use crate::sync::{Ours, threads};

/// Sends, of a client ([`Client::sender`](crate::Client::sender)) and of a server's session
/// ([`Session::sender`](crate::Session::sender)) alike. It does not keep either open; a clone is
/// another handle to the same.
///
/// ```no_run
/// use everlink::config::SendOptions;
/// use everlink::{Client, Error, Sender};
///
/// fn greet(sender: &Sender) -> Result<(), Error> {
///     sender.send("hello")?;
///     // does not wait for room, and comes back if there is none
///     if let Err(refused) = sender.try_send("a tick that may be missed") {
///         println!("{:?} came back: {refused}", refused.message);
///     }
///     Ok(())
/// }
///
/// # fn main() -> Result<(), Error> {
/// let client = Client::connect("ws://localhost:9001")?;
/// greet(client.sender())?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a sender does nothing by itself, and does not keep the connection open"]
pub struct Sender {
    end: Ours<dyn End>,
}

/// This end of a connection, as far as sending goes.
pub(crate) trait End: Send + Sync {
    /// The number of the client or session: its threads are marked with it.
    fn id(&self) -> u64;
    fn outbox(&self) -> &Outbox;
    /// Whether there is a link.
    fn is_up(&self) -> bool;
    /// Whether the current thread receives, and no other ever has.
    fn is_received_here_alone(&self) -> bool;
    /// Why nothing drains the outbox, if nothing does.
    fn gave_up(&self) -> Option<Error>;
    /// Accepts nothing more, and says goodbye once everything is written.
    fn start_close(&self, frame: CloseFrame);
    /// Ends the link that is up.
    fn end_link(&self, reason: String, decision: Decision) -> Result<(), Error>;
    /// The link that is up beats so from here on.
    fn set_heartbeat(&self, heartbeat: Heartbeat) -> Result<(), Error>;
    /// Pings on the link that is up; returns how long the answer took.
    fn ping(&self, timeout: Duration) -> Result<Duration, Error>;
}

impl Sender {
    pub(crate) fn new(end: Arc<dyn End>) -> Self {
        Self { end: Ours::new(end) }
    }

    /// The number of the client or session, which no other of the process has.
    pub fn id(&self) -> u64 {
        self.end.plain().id()
    }

    /// Nobody's in the child of a `fork`.
    fn end(&self) -> Result<&Arc<dyn End>, Error> {
        self.end.get().ok_or(Error::Closed)
    }

    /// Queues a message, whether there is a link or not. If the outbox is full this waits for
    /// room, as its [`Overflow`](crate::config::Overflow) policy says; on the connection's own threads (in
    /// a client's handler, say) it never waits.
    ///
    /// A message that was queued is not yet sent, and one that was sent has not yet arrived.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// # let client = everlink::Client::connect(&url)?;
    /// # let sender = client.sender();
    /// use everlink::Message;
    ///
    /// sender.send("text")?;
    /// sender.send(vec![1, 2, 3])?;
    /// sender.send(Message::from("a message"))?;
    /// # assert_eq!(client.recv()?, "text");
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::MessageTooLarge`], [`Error::Unsendable`], [`Error::Full`] and [`Error::Closed`]; if
    /// the outbox is full and the client has given up, [`Error::GaveUp`]; if it is full of messages
    /// that the peer does not confirm, [`Error::Unconfirmable`]. Nothing was queued then, and the
    /// message comes back with the error, which `?` turns into an [`Error`].
    pub fn send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.push(message.into(), Terms::default(), WaitFor::Ever)
    }

    /// Like [`send`](Self::send), and never waits.
    ///
    /// ```
    /// use everlink::config::Queue;
    /// use everlink::{Client, Error};
    ///
    /// // nobody is there, and there is room for one
    /// let client = Client::builder("ws://127.0.0.1:1").outbox(Queue::new().messages(1)).start()?;
    /// let sender = client.sender();
    /// sender.try_send("one")?;
    /// match sender.try_send("two") {
    ///     Err(refused) if matches!(refused.error, Error::Full) => assert_eq!(refused.message, "two"),
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    pub fn try_send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.push(message.into(), Terms::default(), WaitFor::Nothing)
    }

    /// Like [`send`](Self::send), and waits for room at most for `timeout`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use everlink::config::Queue;
    /// use everlink::{Client, Error};
    ///
    /// let client = Client::builder("ws://127.0.0.1:1").outbox(Queue::new().messages(1)).start()?;
    /// let sender = client.sender();
    /// sender.send("one")?;
    /// let refused = sender.send_timeout("two", Duration::from_millis(10)).unwrap_err();
    /// assert!(matches!(refused.error, Error::Timeout));
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send), and [`Error::Timeout`].
    pub fn send_timeout(
        &self,
        message: impl Into<Message>,
        timeout: Duration,
    ) -> Result<(), SendError> {
        self.push(message.into(), Terms::default(), WaitFor::timeout(timeout))
    }

    /// Like [`send`](Self::send), with options for this message.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// # let client = everlink::Client::connect(&url)?;
    /// # let sender = client.sender();
    /// use std::time::Duration;
    /// use everlink::config::SendOptions;
    ///
    /// // a price that is worthless after two seconds
    /// sender.send_with("1.0837", SendOptions::new().ttl(Duration::from_secs(2)))?;
    /// # assert_eq!(client.recv()?, "1.0837");
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send); [`Error::Timeout`], and [`Error::NotConnected`] for a message
    /// that is for the present link only.
    pub fn send_with(
        &self,
        message: impl Into<Message>,
        options: SendOptions,
    ) -> Result<(), SendError> {
        self.push(message.into(), options.terms(None), options.wait())
    }

    /// Like [`send`](Self::send), with a receipt that tells when the peer's endpoint has the
    /// message.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// # let client = everlink::Client::connect(&url)?;
    /// # let sender = client.sender();
    /// use std::time::Duration;
    ///
    /// let receipt = sender.send_confirmed("an order")?;
    /// receipt.wait(Duration::from_secs(5))?;
    /// assert!(receipt.is_confirmed());
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send), and [`Error::Unconfirmable`] on a framed TCP connection
    /// whose heartbeat has no answer. [`Error::Full`], too, while 65,536 receipts are open.
    pub fn send_confirmed(&self, message: impl Into<Message>) -> Result<Receipt, SendError> {
        self.send_confirmed_with(message, SendOptions::new())
    }

    /// Like [`send_confirmed`](Self::send_confirmed), with options for this message.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// # let client = everlink::Client::connect(&url)?;
    /// # let sender = client.sender();
    /// use std::time::Duration;
    /// use everlink::config::SendOptions;
    ///
    /// let options = SendOptions::new().ttl(Duration::from_secs(30));
    /// sender.send_confirmed_with("an order", options)?.wait(Duration::from_secs(5))?;
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`send_confirmed`](Self::send_confirmed) and [`send_with`](Self::send_with).
    pub fn send_confirmed_with(
        &self,
        message: impl Into<Message>,
        options: SendOptions,
    ) -> Result<Receipt, SendError> {
        let mut receipt = Receipt::new(self.id());
        let terms = options.terms(Some(receipt.clone()));
        if terms.expires.is_some() || self.end.plain().outbox().may_expire() {
            let sender = self.clone();
            receipt = receipt
                .expiring(move || sender.end().iter().for_each(|end| end.outbox().drop_expired()));
        }
        self.push(message.into(), terms, options.wait())?;
        Ok(receipt)
    }

    pub(crate) fn push(
        &self,
        message: Message,
        terms: Terms,
        wait: WaitFor,
    ) -> Result<(), SendError> {
        let end = match self.end() {
            Ok(end) => end,
            Err(error) => return Err(SendError { message, error }),
        };
        // a thread of the connection's own must not wait for what waits for that thread
        let wait = if threads::belongs_to(end.id()) { WaitFor::Nothing } else { wait };
        let pushed = end.outbox().push(message, terms, wait);
        pushed.map_err(|(message, refused)| SendError { message, error: self.refusal(refused) })
    }

    /// Waits until the peer's endpoint has confirmed everything that was accepted before this
    /// call, at most for `timeout`. On a healthy link that takes one round trip.
    ///
    /// With [`Delivery::AtMostOnce`](crate::config::Delivery::AtMostOnce) it knows nothing of what earlier links
    /// have lost: `Ok` then says that nothing is under way any more, not that nothing was ever lost. A
    /// [receipt](Self::send_confirmed) knows, and [`Event::Disconnected`](crate::Event::Disconnected).
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// # let client = everlink::Client::connect(&url)?;
    /// # let sender = client.sender();
    /// use std::time::Duration;
    ///
    /// for number in 0..100 {
    ///     sender.send(number.to_string())?;
    /// }
    /// // all of them are with the server's endpoint, if no link has died since the first
    /// sender.flush(Duration::from_secs(5))?;
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Unconfirmed`] says how many messages are not confirmed: at the deadline, or
    /// because they are lost, dropped or expired. [`Error::GaveUp`] while nobody dials, and
    /// [`Error::Unconfirmable`]. [`Error::WouldWaitForever`], at once, in a client's handler, which
    /// keeps the confirmations from being read, and without a link, or with an endless timeout, in any closure that
    /// the client calls.
    pub fn flush(&self, timeout: Duration) -> Result<(), Error> {
        self.check_wait_until(Instant::now().checked_add(timeout))?;
        let wait = WaitFor::timeout(timeout);
        self.end()?.outbox().flush(wait).map_err(|refused| self.refusal(refused))
    }

    /// Waits until everything accepted so far, and what is accepted meanwhile, was handed to
    /// the socket; at most for `timeout`. That does not prove that it has arrived.
    ///
    /// A handler of a client that waits for its answer to be written has it go out before anything
    /// that comes behind the message, a close frame or a violation of the protocol among them, can
    /// end the link. While it waits nothing is read, and a link that dies meanwhile is followed by
    /// the next when the timeout is over.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// # let client = everlink::Client::connect(&url)?;
    /// # let sender = client.sender();
    /// use std::time::Duration;
    ///
    /// sender.send("a line for the log")?;
    /// sender.wait_sent(Duration::from_secs(5))?;
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`], [`Error::Closed`] and [`Error::GaveUp`]: something was not written.
    /// [`Error::WouldWaitForever`], at once, without a link in a closure that the client calls: the next
    /// link comes when that has returned.
    pub fn wait_sent(&self, timeout: Duration) -> Result<(), Error> {
        let wait = WaitFor::timeout(timeout);
        let is_endless = matches!(wait, WaitFor::Ever);
        if threads::belongs_to(self.id()) && (is_endless || !self.end()?.is_up()) {
            return Err(Error::on_own_thread());
        }
        self.end()?.outbox().wait_written(wait).map_err(|refused| self.refusal(refused))
    }

    /// Takes everything out of the outbox that was never written, and returns it, in order. What is under
    /// way stays: what the writer has, and what a link that died had written and is to be sent again.
    /// Receipts of what comes back say [`Undelivered::Cleared`](crate::failure::Undelivered::Cleared), and
    /// [`on_dropped`](crate::ClientBuilder::on_dropped) does not hear of it.
    ///
    /// ```
    /// use everlink::Client;
    ///
    /// // nobody is there
    /// let client = Client::builder("ws://127.0.0.1:1").start()?;
    /// client.send("an order")?;
    /// client.send("another")?;
    /// // the market has closed meanwhile
    /// assert_eq!(client.clear_outbox(), ["an order", "another"]);
    /// assert!(client.close().undelivered.is_empty());
    /// # Ok::<(), everlink::Error>(())
    /// ```
    pub fn clear_outbox(&self) -> Vec<Message> {
        self.end().map(|end| end.outbox().clear()).unwrap_or_default()
    }

    /// The number of the last message that the peer's endpoint has confirmed, counted as
    /// [`Receipt::number`] does; 0 before the first. Everything before it is confirmed as well, but
    /// for what was dropped or has expired, was too large for the peer, or was lost with a link
    /// ([`Delivery::AtMostOnce`](crate::config::Delivery::AtMostOnce)): a write-ahead log of what is sent
    /// with [`Delivery::AtLeastOnce`](crate::config::Delivery::AtLeastOnce) can be cut there.
    ///
    /// It grows when the peer is asked: always with at-least-once, and otherwise while there are
    /// receipts or a flush.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), everlink::Error> {
    /// use everlink::config::Delivery;
    /// use everlink::Client;
    ///
    /// let client = Client::builder("ws://localhost:9001")
    ///     .delivery(Delivery::AtLeastOnce)
    ///     .connect()?;
    /// let mut log = std::collections::BTreeMap::new();
    /// for line in ["a", "b", "c"] {
    ///     let receipt = client.send_confirmed(line)?;
    ///     log.insert(receipt.number(), line);
    ///     let confirmed = client.sender().confirmed_up_to();
    ///     log.retain(|number, _| number.is_none_or(|number| number > confirmed));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn confirmed_up_to(&self) -> u64 {
        self.end().map_or(0, |end| end.outbox().confirmed_up_to())
    }

    /// Starts to close, as `close_with` of the client or session, and does not wait for the end:
    /// nothing more is accepted, what is queued is written, and the closing handshake follows (RFC
    /// 6455 section 7.1.2), all within the close timeout.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// # let client = everlink::Client::connect(&url)?;
    /// # let sender = client.sender();
    /// use everlink::Event;
    ///
    /// let events = client.subscribe();
    /// // returns at once, as a program with a window needs it
    /// sender.start_close(1000, "")?;
    /// assert!(matches!(events.last(), Some(Event::Closed { .. })));
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidClose`] for a code that must not be sent, or a reason of more than 123
    /// bytes or with control characters; nothing is closed then.
    pub fn start_close(&self, code: impl Into<CloseCode>, reason: &str) -> Result<(), Error> {
        let frame = close_frame(code.into(), reason)?;
        if let Ok(end) = self.end() {
            end.start_close(frame);
        }
        Ok(())
    }

    /// The service has said that it has the message with this [key](SendOptions::key): it is not sent again, its
    /// receipt is confirmed, and its room in the outbox is free. With
    /// [`Delivery::UntilConfirmed`](crate::config::Delivery::UntilConfirmed), in any order. Returns whether
    /// such a message was waiting for that.
    ///
    /// ```
    /// use everlink::Client;
    /// use everlink::config::{Delivery, SendOptions};
    ///
    /// let client = Client::builder("ws://localhost:9001")
    ///     .delivery(Delivery::UntilConfirmed)
    ///     .on_message(|sender, message| {
    ///         // "ack 7"
    ///         if let Some(Ok(key)) = message.as_text().and_then(|it| Some(it.strip_prefix("ack ")?.parse())) {
    ///             sender.confirm(key);
    ///         }
    ///     });
    /// # let client = client.start()?;
    /// client.send_with("7 a reading", SendOptions::new().key(7))?;
    /// # Ok::<(), everlink::Error>(())
    /// ```
    pub fn confirm(&self, key: u64) -> bool {
        self.end().is_ok_and(|end| end.outbox().confirm_key(key))
    }

    /// The same of all messages up to this number, counted from 1 in the order in which they were accepted:
    /// for services that acknowledge how far they have come.
    pub fn confirm_up_to(&self, number: u64) {
        if let Ok(end) = self.end() {
            end.outbox().confirm_number(number);
        }
    }

    /// Ends the link that is up, in order, and says why and what is to follow: for services that say so in
    /// their messages. It returns at once, and may be called from anywhere, a handler too. The reason is
    /// the cause that events show ([`Failure::Ended`](crate::Failure::Ended)). What the peer says meanwhile
    /// is still received, for half a second at most.
    ///
    /// A client does what the decision says, whatever [`decide`](crate::ClientBuilder::decide) would, and whatever
    /// else ends the link meanwhile; of several, and of [`reconnect`](crate::Client::reconnect), the last one counts. A
    /// handler that still has messages of a link that has died decides about that end, too: then
    /// [`Event::Disconnected`](crate::Event::Disconnected) may have said already what would have followed. To a
    /// server's session it does not matter: that is over with its link, or waits for its client if it
    /// can ([`ServerBuilder::resume`](crate::ServerBuilder::resume)). A session of the client's goes on, too, but not
    /// at another origin ([`Decision::RetryAt`]): its token goes nowhere else.
    ///
    /// ```
    /// use std::time::Duration;
    /// use everlink::Client;
    /// use everlink::failure::Decision;
    ///
    /// let client = Client::builder("ws://localhost:9001").on_message(|sender, message| {
    ///     match message.as_text() {
    ///         Some("reconnect") => {
    ///             let _ = sender.end_link("the service wants it", Decision::RetryAfter(Duration::ZERO));
    ///         }
    ///         Some("replaced by a new login") => {
    ///             let _ = sender.end_link("logged in elsewhere", Decision::GiveUp);
    ///         }
    ///         _ => println!("{message}"),
    ///     }
    /// });
    /// # let _ = client;
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotConnected`] without a link; [`Error::Closed`], also while the client is being closed; those of
    /// [`set_endpoints`](crate::Client::set_endpoints) for a URL. Nothing is done then.
    pub fn end_link(&self, reason: &str, decision: Decision) -> Result<(), Error> {
        self.end()?.end_link(reason.into(), decision)
    }

    /// The link that is up beats so from here on: for services that say after the opening how often they want
    /// a beat. The next link begins with what the builder was given, unless it resumes the session; in a login hook
    /// it is [`LoginSession::set_heartbeat`](crate::LoginSession::set_heartbeat). A limit that gets shorter counts
    /// from here on, not from when the peer was last heard; the interval counts from the last beat, so one that is set
    /// again with each message beats all the same.
    ///
    /// What confirms is settled at the start: on `tcp://` with [`Heartbeat::off`] a receipt stays
    /// [`Error::Unconfirmable`] when beats with an answer begin, and receipts of messages that wait when such beats
    /// end stay open. With [`Delivery::AtLeastOnce`](crate::config::Delivery::AtLeastOnce) beats without an answer are
    /// refused there.
    ///
    /// ```
    /// use std::time::Duration;
    /// use everlink::Client;
    /// use everlink::config::Heartbeat;
    ///
    /// let client = Client::builder("ws://localhost:9001").on_message(|sender, message| {
    ///     // "hello 41250"
    ///     if let Some(Ok(ms)) = message.as_text().and_then(|it| Some(it.strip_prefix("hello ")?.parse())) {
    ///         let beat = Heartbeat::every(Duration::from_millis(ms));
    ///         let _ = sender.set_heartbeat(beat.message("beat", |answer| *answer == *"ack"));
    ///     }
    /// });
    /// # let _ = client;
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSetting`] as at the start, [`Error::NotConnected`] without a link, [`Error::Closed`].
    pub fn set_heartbeat(&self, heartbeat: Heartbeat) -> Result<(), Error> {
        self.end()?.set_heartbeat(heartbeat)
    }

    /// Pings, and waits for the answer: how long that took. Whatever beats there are serve: a ping of
    /// WebSocket, a message of the heartbeat's, a session's question. Where many have no answer yet, the youngest of
    /// them serves, if it is no older than a second.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// # let client = everlink::Client::connect(&url)?;
    /// use std::time::Duration;
    ///
    /// let round_trip = client.ping(Duration::from_secs(5))?;
    /// println!("{round_trip:?} there and back");
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`]; [`Error::NotConnected`] without a link, and if it ends meanwhile;
    /// [`Error::Unconfirmable`] where the peer answers nothing; [`Error::WouldWaitForever`] on the thread that
    /// would have to receive the answer; [`Error::Closed`].
    pub fn ping(&self, timeout: Duration) -> Result<Duration, Error> {
        self.check_wait_until(Instant::now().checked_add(timeout))?;
        self.end()?.ping(timeout)
    }

    /// An error on a thread of the connection's own that would wait for itself: what it waits for
    /// comes when it has returned.
    fn check_wait(&self) -> Result<(), Error> {
        if threads::belongs_to(self.id()) && (threads::carries() || !self.end()?.is_up()) {
            return Err(Error::on_own_thread());
        }
        Ok(())
    }

    /// The same. On such a thread every wait has to end by itself: it keeps a link that dies from being joined,
    /// and so from what would end the wait.
    fn check_wait_until(&self, deadline: Option<Instant>) -> Result<(), Error> {
        if deadline.is_none() && threads::belongs_to(self.id()) {
            return Err(Error::on_own_thread());
        }
        self.check_wait()
    }

    fn refusal(&self, refused: Refused) -> Error {
        match refused {
            Refused::NobodyDrains => self.end.plain().gave_up().unwrap_or(Error::Full),
            other => other.into(),
        }
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("id", &self.id()).finish_non_exhaustive()
    }
}

/// The methods of a [`Sender`] that what holds one in a field `sender` has as well, for its `impl`.
macro_rules! sends {
    () => {
        /// What sends: the same type for clients and sessions. It does not keep either open.
        pub fn sender(&self) -> &$crate::sender::Sender {
            &self.sender
        }

        /// [`Sender::send`](crate::Sender::send): queues a message, and waits for room if that is
        /// the outbox's policy.
        ///
        /// # Errors
        ///
        /// As there; the message comes back with the error.
        pub fn send(&self, message: impl Into<Message>) -> Result<(), $crate::sender::SendError> {
            self.sender.send(message)
        }

        /// [`Sender::try_send`](crate::Sender::try_send): the same, and never waits.
        ///
        /// # Errors
        ///
        /// As there; the message comes back with the error.
        pub fn try_send(
            &self,
            message: impl Into<Message>,
        ) -> Result<(), $crate::sender::SendError> {
            self.sender.try_send(message)
        }

        /// [`Sender::send_timeout`](crate::Sender::send_timeout): the same, and waits at most for
        /// `timeout`.
        ///
        /// # Errors
        ///
        /// As there; the message comes back with the error.
        pub fn send_timeout(
            &self,
            message: impl Into<Message>,
            timeout: Duration,
        ) -> Result<(), $crate::sender::SendError> {
            self.sender.send_timeout(message, timeout)
        }

        /// [`Sender::send_with`](crate::Sender::send_with): the same, with options for this message.
        ///
        /// # Errors
        ///
        /// As there; the message comes back with the error.
        pub fn send_with(
            &self,
            message: impl Into<Message>,
            options: $crate::sender::SendOptions,
        ) -> Result<(), $crate::sender::SendError> {
            self.sender.send_with(message, options)
        }

        /// [`Sender::send_confirmed`](crate::Sender::send_confirmed): the same, with a receipt.
        ///
        /// # Errors
        ///
        /// As there; the message comes back with the error.
        pub fn send_confirmed(
            &self,
            message: impl Into<Message>,
        ) -> Result<$crate::queues::Receipt, $crate::sender::SendError> {
            self.sender.send_confirmed(message)
        }

        /// [`Sender::flush`](crate::Sender::flush): waits until the peer's endpoint has everything
        /// that was accepted before.
        ///
        /// # Errors
        ///
        /// As there.
        pub fn flush(&self, timeout: Duration) -> Result<(), $crate::error::Error> {
            self.sender.flush(timeout)
        }

        /// [`Sender::start_close`](crate::Sender::start_close): starts to close, and does not wait
        /// for the end.
        ///
        /// # Errors
        ///
        /// As there.
        pub fn start_close(
            &self,
            code: impl Into<$crate::message::CloseCode>,
            reason: &str,
        ) -> Result<(), $crate::error::Error> {
            self.sender.start_close(code, reason)
        }

        /// [`Sender::end_link`](crate::Sender::end_link): ends the link that is up, and says what is to
        /// follow.
        ///
        /// # Errors
        ///
        /// As there.
        pub fn end_link(
            &self,
            reason: &str,
            decision: $crate::failure::Decision,
        ) -> Result<(), $crate::error::Error> {
            self.sender.end_link(reason, decision)
        }

        /// [`Sender::set_heartbeat`](crate::Sender::set_heartbeat): the link that is up beats so from here
        /// on.
        ///
        /// # Errors
        ///
        /// As there.
        pub fn set_heartbeat(
            &self,
            heartbeat: $crate::policy::Heartbeat,
        ) -> Result<(), $crate::error::Error> {
            self.sender.set_heartbeat(heartbeat)
        }

        /// [`Sender::ping`](crate::Sender::ping): pings, and waits for the answer.
        ///
        /// # Errors
        ///
        /// As there.
        pub fn ping(&self, timeout: Duration) -> Result<Duration, $crate::error::Error> {
            self.sender.ping(timeout)
        }

        /// [`Sender::wait_sent`](crate::Sender::wait_sent): waits until everything is handed to the
        /// socket.
        ///
        /// # Errors
        ///
        /// As there.
        pub fn wait_sent(&self, timeout: Duration) -> Result<(), $crate::error::Error> {
            self.sender.wait_sent(timeout)
        }

        /// [`Sender::clear_outbox`](crate::Sender::clear_outbox): takes back what was never written.
        pub fn clear_outbox(&self) -> Vec<Message> {
            self.sender.clear_outbox()
        }
    };
}

pub(crate) use sends;

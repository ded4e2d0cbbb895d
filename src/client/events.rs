//! What happened to the connection, for whoever wants to know.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::held::SessionStart;
use crate::failure::{Failure, guarded};
use crate::link::Notice;
use crate::message::Message;
use crate::policy::AgreedCompression;
use crate::sync::{Mutex, Ours};

/// A step in the life of a client.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// An attempt to make a link begins.
    #[non_exhaustive]
    Connecting {
        /// The number of the client, [`Client::id`](crate::Client::id).
        client: u64,
        /// The number of the attempt, counted from 1 since the last link was lost.
        attempt: u32,
        /// The endpoint, without credentials, unless the program names another for this attempt.
        endpoint: String,
    },
    /// A link is up, the login hook included.
    #[non_exhaustive]
    Connected {
        /// The number of the client, [`Client::id`](crate::Client::id).
        client: u64,
        /// The number of the link, counted from 1: what [`Message::link`](crate::Message::link)
        /// says of the messages that come on it.
        link: u32,
        /// Which attempt succeeded, counted from 1 since the last link was lost.
        attempts: u32,
        /// How long there was no link; for the first one, since the client was started.
        downtime: Duration,
        /// The endpoint, without credentials.
        endpoint: String,
        /// The server's answer to the opening handshake, its subprotocol header included;
        /// `None` on `tcp://`, which has none.
        response: Option<Arc<http::Response<()>>>,
        /// How messages are compressed, if both sides want that
        /// ([`ClientBuilder::compression`](crate::ClientBuilder::compression)).
        compression: Option<AgreedCompression>,
        /// What this link is to the session that there was
        /// ([`ClientBuilder::resume`](crate::ClientBuilder::resume)).
        session: SessionStart,
    },
    /// The link died.
    #[non_exhaustive]
    Disconnected {
        /// The number of the client, [`Client::id`](crate::Client::id).
        client: u64,
        /// The number of the link.
        link: u32,
        /// Why: the first cause that any thread noticed.
        cause: Arc<Failure>,
        /// The endpoint, without credentials.
        endpoint: String,
        /// How long it was up.
        uptime: Duration,
        /// Messages that were written after the last answered ping: the peer may or may not
        /// have them. On a busy link pings are sent where confirmations are wanted, for
        /// [`Delivery::AtLeastOnce`](crate::Delivery::AtLeastOnce), receipts and `flush`: without any of
        /// those this may be everything since the link went quiet for the last time, most of which
        /// has arrived.
        unconfirmed: u64,
        /// Whether those are sent again on the next link:
        /// [`Delivery::AtLeastOnce`](crate::Delivery::AtLeastOnce).
        will_be_resent: bool,
        /// Whether the session can go on ([`ClientBuilder::resume`](crate::ClientBuilder::resume)): then the
        /// server says on the next link which messages it has, and the others are sent again.
        resumable: bool,
        /// What comes next.
        next: Next,
    },
    /// An attempt to make a link failed.
    #[non_exhaustive]
    AttemptFailed {
        /// The number of the client, [`Client::id`](crate::Client::id).
        client: u64,
        /// The number of the attempt, counted from 1 since the last link was lost.
        attempts: u32,
        /// The endpoint, without credentials.
        endpoint: String,
        /// Why.
        cause: Arc<Failure>,
        /// What comes next.
        next: Next,
    },
    /// The program has not taken a received message for a whole heartbeat interval, so nothing
    /// is being read. This is not held against the peer. Said once for each time it happens.
    #[non_exhaustive]
    ReceiverStalled {
        /// The number of the client, [`Client::id`](crate::Client::id).
        client: u64,
        /// How long the reader has been waiting for the program.
        waiting: Duration,
    },
    /// A call of the program's code that the client waits for has not returned for a whole heartbeat
    /// interval: [`on_event`](crate::ClientBuilder::on_event), [`decide`](crate::ClientBuilder::decide),
    /// a [`Backoff::custom`](crate::Backoff::custom),
    /// [`bearer_auth_with`](crate::ClientBuilder::bearer_auth_with),
    /// [`request`](crate::ClientBuilder::request), or [`login`](crate::ClientBuilder::login), which
    /// has its [timeout](crate::Timeouts::login) if that is longer. Until it does, nothing is dialed, and
    /// no other event comes. Said once for each such call, to subscriptions and in the log, while it lasts.
    #[non_exhaustive]
    CallbackStalled {
        /// The number of the client, [`Client::id`](crate::Client::id).
        client: u64,
        /// Which code: "event callback", "decision function", "backoff", "token closure", "request
        /// closure", "login hook".
        callback: &'static str,
        /// How long it has been running.
        waiting: Duration,
    },
    /// The peer has confirmed nothing for twice the
    /// [`dead_after`](crate::Heartbeat::dead_after), although it is alive, and messages or receipts
    /// wait for that: it answers no pings, or not with what they carry (RFC 6455 section 5.5.3).
    /// While that lasts a `send` that finds the outbox full with
    /// [`Delivery::AtLeastOnce`](crate::Delivery::AtLeastOnce) fails with
    /// [`Error::Unconfirmable`](crate::Error::Unconfirmable), for room comes with confirmations
    /// only. Said once for each time it happens, with [`Heartbeat::off`](crate::Heartbeat::off) after
    /// one to one and a half minutes.
    #[non_exhaustive]
    ConfirmationsMissing {
        /// The number of the client, [`Client::id`](crate::Client::id).
        client: u64,
        /// For how long the oldest ping has had no answer.
        waiting: Duration,
    },
    /// The peer has closed a link with 1009, "message too big" (RFC 6455 section 7.4.1), which does
    /// not say which. This was the largest that it had not confirmed, so it is one of them; it is
    /// not sent again, and its receipt says
    /// [`Undelivered::TooLarge`](crate::Undelivered::TooLarge). It comes before the event of the
    /// link's end, unless a handler was running then.
    #[non_exhaustive]
    MessageTooLarge {
        /// The number of the client, [`Client::id`](crate::Client::id).
        client: u64,
        /// Its size in bytes.
        size: usize,
        /// The message itself, unless it was written whole and would not have been sent again
        /// anyway ([`Delivery::AtMostOnce`](crate::Delivery::AtMostOnce)).
        message: Option<Message>,
    },
    /// No further attempt will be made until [`reconnect`](crate::Client::reconnect).
    #[non_exhaustive]
    GaveUp {
        /// The number of the client, [`Client::id`](crate::Client::id).
        client: u64,
        /// The last failure.
        cause: Arc<Failure>,
        /// How many attempts failed in a row.
        attempts: u32,
    },
    /// The client is closed for good. This is the last event.
    #[non_exhaustive]
    Closed {
        /// The number of the client, [`Client::id`](crate::Client::id).
        client: u64,
        /// Whether the closing handshake was completed (RFC 6455 section 7.1.4). False also
        /// when there was no link to close.
        clean: bool,
        /// Messages that were accepted and not delivered:
        /// [`CloseReport::undelivered`](crate::CloseReport::undelivered).
        undelivered: usize,
    },
}

impl Event {
    pub(crate) fn noticed(client: u64, notice: Notice) -> Self {
        match notice {
            Notice::Stalled(waiting) => Self::ReceiverStalled { client, waiting },
            Notice::Unconfirmed(waiting) => Self::ConfirmationsMissing { client, waiting },
        }
    }

    /// The number of the client, [`Client::id`](crate::Client::id): for a callback that many clients
    /// share.
    ///
    /// ```no_run
    /// use everlink::{Client, Event};
    ///
    /// fn log(event: &Event) {
    ///     println!("client {}: {event}", event.client());
    /// }
    ///
    /// let one = Client::builder("ws://localhost:9001").on_event(log).start()?;
    /// let other = Client::builder("ws://localhost:9002").on_event(log).start()?;
    /// # Ok::<(), everlink::Error>(())
    /// ```
    pub fn client(&self) -> u64 {
        match self {
            Self::Connecting { client, .. }
            | Self::Connected { client, .. }
            | Self::Disconnected { client, .. }
            | Self::AttemptFailed { client, .. }
            | Self::ReceiverStalled { client, .. }
            | Self::CallbackStalled { client, .. }
            | Self::ConfirmationsMissing { client, .. }
            | Self::MessageTooLarge { client, .. }
            | Self::GaveUp { client, .. }
            | Self::Closed { client, .. } => *client,
        }
    }

    /// What happened, in a word that does not change: `connecting`, `connected`, `disconnected`,
    /// `attempt_failed`, `receiver_stalled`, `callback_stalled`, `confirmations_missing`, `message_too_large`, `gave_up`
    /// or `closed`. For logs and labels; the `Display` of an event is for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connecting { .. } => "connecting",
            Self::Connected { .. } => "connected",
            Self::Disconnected { .. } => "disconnected",
            Self::AttemptFailed { .. } => "attempt_failed",
            Self::ReceiverStalled { .. } => "receiver_stalled",
            Self::CallbackStalled { .. } => "callback_stalled",
            Self::ConfirmationsMissing { .. } => "confirmations_missing",
            Self::MessageTooLarge { .. } => "message_too_large",
            Self::GaveUp { .. } => "gave_up",
            Self::Closed { .. } => "closed",
        }
    }
}

/// What comes after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Next {
    /// A redial after this delay.
    #[non_exhaustive]
    Redial {
        /// How long until then.
        delay: Duration,
    },
    /// Nothing, until [`reconnect`](crate::Client::reconnect).
    GiveUp,
    /// The end: the client is closing.
    Close,
}

/// A subscription to a client's events, from [`Client::subscribe`](crate::Client::subscribe).
///
/// It holds the newest 256 events that were not taken yet: whoever reads too slowly misses old
/// ones ([`Events::missed`]), and nobody's memory grows. Dropping it ends the subscription.
#[derive(Debug)]
#[must_use = "a subscription ends when it is dropped: keep it in a variable (`let _ =` drops it at once)"]
pub struct Events {
    shared: Ours<Subscription>,
    number: u64,
    /// Where it is entered.
    list: Ours<Mutex<Subscriptions>>,
}

#[derive(Debug)]
struct Subscription {
    sender: Sender<Event>,
    receiver: Receiver<Event>,
    missed: AtomicU64,
    /// Raised with the last event.
    ended: crate::sync::Signal,
}

impl Events {
    /// A subscription that has ended.
    pub(super) fn none() -> Self {
        let publisher = Publisher::default();
        publisher.subscriptions.lock().ended = true;
        publisher.subscribe()
    }

    /// How many events a subscription holds.
    pub const CAPACITY: usize = 256;

    /// Waits for the next event; `None` once the client is closed and all events were taken.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// use everlink::Client;
    ///
    /// let client = Client::builder(&url).start()?;
    /// let events = client.subscribe();
    /// client.wait_connected(std::time::Duration::from_secs(5))?;
    /// client.close();
    /// while let Some(event) = events.recv() {
    ///     println!("{event}");
    /// }
    /// # Ok::<(), everlink::Error>(())
    /// ```
    pub fn recv(&self) -> Option<Event> {
        let shared = self.shared.get()?;
        crossbeam_channel::select_biased! {
            recv(shared.receiver) -> event => event.ok(),
            recv(shared.ended.raised()) -> _ => shared.receiver.try_recv().ok(),
        }
    }

    /// Waits for the next event, at most for `timeout`.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// # let client = everlink::Client::connect(&url)?;
    /// use std::time::Duration;
    /// use everlink::Error;
    ///
    /// let events = client.subscribe();
    /// let nothing = events.recv_timeout(Duration::from_millis(10));
    /// assert!(matches!(nothing, Err(Error::Timeout)));
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`](crate::Error::Timeout) if there was none, and
    /// [`Error::Closed`](crate::Error::Closed) once the client is closed and all events were
    /// taken.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Event, crate::Error> {
        let shared = self.shared.get().ok_or(crate::Error::Closed)?;
        crossbeam_channel::select_biased! {
            recv(shared.receiver) -> event => event.map_err(|_| crate::Error::Closed),
            recv(shared.ended.raised()) -> _ => {
                shared.receiver.try_recv().map_err(|_| crate::Error::Closed)
            }
            default(timeout) => Err(crate::Error::Timeout),
        }
    }

    /// The channel behind it, for `select!`. It never disconnects: [`Event::Closed`] is the end.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// # let client = everlink::Client::connect(&url)?;
    /// use everlink::crossbeam_channel::{after, select};
    /// use everlink::Event;
    ///
    /// let events = client.subscribe();
    /// client.start_close(1000, "")?;
    /// loop {
    ///     select! {
    ///         recv(events.receiver()) -> event => match event {
    ///             Ok(Event::Closed { .. }) | Err(_) => break,
    ///             Ok(event) => println!("{event}"),
    ///         },
    ///         recv(after(std::time::Duration::from_secs(5))) -> _ => panic!("it took too long"),
    ///     }
    /// }
    /// # Ok::<(), everlink::Error>(())
    /// ```
    pub fn receiver(&self) -> &Receiver<Event> {
        &self.shared.plain().receiver
    }

    /// How many events were dropped because nobody took them.
    pub fn missed(&self) -> u64 {
        self.shared.plain().missed.load(Relaxed)
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.recv()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let Some(list) = self.list.get() else { return };
        // what it holds is dropped without the lock
        let entry = list.lock().entries.remove(&self.number);
        drop(entry);
    }
}

/// After the last event there is none.
impl std::iter::FusedIterator for Events {}

type Callback = Box<dyn FnMut(&Event) + Send>;

/// Hands events to the callback of the builder and to every subscription.
#[derive(Default)]
pub(crate) struct Publisher {
    /// Called on the manager thread only, so the lock is never contended.
    callback: Mutex<Option<Callback>>,
    subscriptions: Arc<Mutex<Subscriptions>>,
}

/// Those that have not been dropped, by their numbers.
#[derive(Debug, Default)]
struct Subscriptions {
    entries: BTreeMap<u64, Arc<Subscription>>,
    next: u64,
    ended: bool,
}

impl Publisher {
    pub(crate) fn new(callback: Option<Callback>) -> Self {
        Self { callback: Mutex::new(callback), subscriptions: Arc::default() }
    }

    pub(crate) fn subscribe(&self) -> Events {
        let (sender, receiver) = bounded(Events::CAPACITY);
        let ended = crate::sync::Signal::new();
        let shared = Arc::new(Subscription { sender, receiver, missed: AtomicU64::new(0), ended });
        let mut subscriptions = self.subscriptions.lock();
        let number = subscriptions.next;
        subscriptions.next += 1;
        if subscriptions.ended {
            shared.ended.raise();
        } else {
            subscriptions.entries.insert(number, Arc::clone(&shared));
        }
        Events {
            shared: Ours::new(shared),
            number,
            list: Ours::new(Arc::clone(&self.subscriptions)),
        }
    }

    /// Tells the callback alone. Called on the manager thread.
    pub(crate) fn call_back(&self, event: &Event) {
        let mut slot = self.callback.lock();
        if let Some(callback) = slot.as_mut() {
            if let Err(panic) = guarded("event callback", || callback(event)) {
                log::error!("{panic}");
            }
        }
        if matches!(event, Event::Closed { .. }) {
            // it may hold a handle to this very client
            let callback = slot.take();
            drop(slot);
            drop(callback);
        }
    }

    /// Whether there is a callback.
    pub(crate) fn calls_back(&self) -> bool {
        self.callback.lock().is_some()
    }

    /// Tells the subscriptions.
    pub(crate) fn publish(&self, event: Event) {
        let last = matches!(event, Event::Closed { .. });
        let mut subscriptions = self.subscriptions.lock();
        if subscriptions.ended {
            // said by another thread than the last
            return;
        }
        subscriptions.ended = last;
        let entries: Vec<_> = subscriptions.entries.values().cloned().collect();
        drop(subscriptions);
        for subscription in entries {
            subscription.put(event.clone());
            if last {
                subscription.ended.raise();
            }
        }
    }
}

impl Subscription {
    fn put(&self, mut event: Event) {
        while let Err(TrySendError::Full(back)) = self.sender.try_send(event) {
            event = back;
            if self.receiver.try_recv().is_ok() {
                self.missed.fetch_add(1, Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stalled(seconds: u64) -> Event {
        Event::ReceiverStalled { client: 1, waiting: Duration::from_secs(seconds) }
    }

    #[test]
    fn a_slow_subscriber_misses_the_oldest_and_costs_no_memory() {
        let publisher = Publisher::default();
        let events = publisher.subscribe();
        for second in 0..Events::CAPACITY as u64 + 10 {
            publisher.publish(stalled(second));
        }
        assert_eq!(events.missed(), 10);
        let first = events.recv().unwrap();
        assert!(matches!(first, Event::ReceiverStalled { waiting, .. } if waiting.as_secs() == 10));
    }

    #[test]
    fn who_is_gone_is_forgotten() {
        let publisher = Publisher::default();
        let stays = publisher.subscribe();
        drop(publisher.subscribe());
        assert_eq!(publisher.subscriptions.lock().entries.len(), 1);
        publisher.publish(stalled(1));
        assert!(stays.recv().is_some());
        drop((publisher, stays));
    }

    #[test]
    fn the_closed_event_is_the_end_for_old_and_new_subscribers() {
        let publisher = Publisher::default();
        let events = publisher.subscribe();
        publisher.publish(stalled(1));
        publisher.publish(Event::Closed { client: 1, clean: true, undelivered: 0 });
        assert_eq!(events.count(), 2);
        assert!(publisher.subscribe().recv().is_none());
    }
}

//! How a program is told of events.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, after, bounded, never, select_biased};

use super::event::Event;
use crate::error::Error;
use crate::sync::{Mutex, Ours, Signal};

/// A subscription to a client's events, from [`Client::subscribe`](crate::Client::subscribe).
///
/// It holds the newest 256 events that were not taken yet: a slow reader misses older ones
/// ([`Events::missed`]), and memory does not grow. Dropping it ends the subscription.
#[derive(Debug)]
#[must_use = "a subscription ends when it is dropped: keep it in a variable (`let _ =` drops it at once)"]
pub struct Events {
    shared: Ours<Subscription>,
}

#[derive(Debug)]
struct Subscription {
    sender: Sender<Event>,
    receiver: Receiver<Event>,
    missed: AtomicU64,
    /// Raised with the last event.
    ended: Signal,
}

impl Events {
    /// A subscription that has ended.
    pub(super) fn none() -> Self {
        let subscription = Arc::new(Subscription::new());
        subscription.ended.raise();
        Self { shared: Ours::new(subscription) }
    }

    /// How many events a subscription holds.
    pub const CAPACITY: usize = 256;

    /// Waits for the next event.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// use everlink::Client;
    ///
    /// let client = Client::builder(&url).start()?;
    /// let events = client.subscribe();
    /// client.wait_connected(std::time::Duration::from_secs(5))?;
    /// client.close();
    /// while let Ok(event) = events.recv() {
    ///     println!("{event}");
    /// }
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] once the client is closed and all events were taken.
    pub fn recv(&self) -> Result<Event, Error> {
        self.wait(&never())
    }

    /// Waits for the next event, at most for `timeout`.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// # let client = everlink::Client::connect(&url)?;
    /// use std::time::{Duration, Instant};
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
    /// [`Error::Timeout`] if there was none, and [`Error::Closed`] as [`recv`](Self::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Event, Error> {
        self.wait(&after(timeout))
    }

    fn wait(&self, timeout: &Receiver<Instant>) -> Result<Event, Error> {
        let shared = self.shared.get().ok_or(Error::Closed)?;
        select_biased! {
            recv(shared.receiver) -> event => event.map_err(|_| Error::Closed),
            recv(shared.ended.raised()) -> _ => {
                shared.receiver.try_recv().map_err(|_| Error::Closed)
            }
            recv(timeout) -> _ => Err(Error::Timeout),
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
        self.recv().ok()
    }
}

/// After the last event there is none.
impl std::iter::FusedIterator for Events {}

/// Hands events to every subscription.
#[derive(Default)]
pub(super) struct Publisher(Mutex<Subscriptions>);

#[derive(Debug, Default)]
struct Subscriptions {
    /// Each until the program has dropped it.
    entries: Vec<Weak<Subscription>>,
    ended: bool,
}

impl Publisher {
    pub(super) fn subscribe(&self) -> Events {
        let mut subscriptions = self.0.lock();
        if subscriptions.ended {
            return Events::none();
        }
        let subscription = Arc::new(Subscription::new());
        subscriptions.entries.retain(|entry| entry.strong_count() > 0);
        subscriptions.entries.push(Arc::downgrade(&subscription));
        Events { shared: Ours::new(subscription) }
    }

    pub(super) fn publish(&self, event: Event) {
        let last = matches!(event, Event::Closed { .. });
        let mut subscriptions = self.0.lock();
        if subscriptions.ended {
            // the thread that watches a callback may be late
            return;
        }
        subscriptions.ended = last;
        // what one holds is dropped without the lock
        let entries: Vec<_> = subscriptions.entries.iter().filter_map(Weak::upgrade).collect();
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
    fn new() -> Self {
        let (sender, receiver) = bounded(Events::CAPACITY);
        Self { sender, receiver, missed: AtomicU64::new(0), ended: Signal::new() }
    }

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
        Event::ReceiverStalled { waiting: Duration::from_secs(seconds) }
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
        let other = publisher.subscribe();
        assert_eq!(publisher.0.lock().entries.len(), 2);
        publisher.publish(stalled(1));
        assert!(stays.recv().is_ok());
        drop((publisher, stays, other));
    }

    #[test]
    fn the_closed_event_is_the_end_for_old_and_new_subscribers() {
        let publisher = Publisher::default();
        let events = publisher.subscribe();
        publisher.publish(stalled(1));
        publisher.publish(Event::Closed { clean: true, undelivered: 0 });
        assert_eq!(events.count(), 2);
        assert!(publisher.subscribe().recv().is_err());
    }
}

//! How a program is told of events.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::event::Event;
use crate::failure::guarded;
use crate::sync::{Mutex, Ours};

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
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Event, crate::error::Error> {
        let shared = self.shared.get().ok_or(crate::error::Error::Closed)?;
        crossbeam_channel::select_biased! {
            recv(shared.receiver) -> event => event.map_err(|_| crate::error::Error::Closed),
            recv(shared.ended.raised()) -> _ => {
                shared.receiver.try_recv().map_err(|_| crate::error::Error::Closed)
            }
            default(timeout) => Err(crate::error::Error::Timeout),
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

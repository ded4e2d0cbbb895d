//! What became of a message.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::failure::Failure;
use crate::policy::Undelivered;
use crate::sync::{Condvar, Mutex, Process, threads};

/// Follows one message to the peer's endpoint, from
/// [`Sender::send_confirmed`](crate::Sender::send_confirmed). Dropping it changes nothing.
#[derive(Debug, Clone)]
#[must_use = "only the receipt knows whether the message was confirmed; send() is for messages without one"]
pub struct Receipt {
    /// The number of the client or session.
    owner: u64,
    process: Process,
    cell: Arc<Cell>,
    /// Has the outbox look for what has expired, if the message may.
    look: Option<Look>,
}

#[derive(Clone)]
struct Look(Arc<dyn Fn() + Send + Sync>);

impl fmt::Debug for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Look")
    }
}

/// The outbox's end of a receipt.
#[derive(Debug, Default)]
pub(crate) struct Cell {
    /// Of the message, once it is accepted; 0 before that.
    number: AtomicU64,
    expires: OnceLock<Instant>,
    outcome: Mutex<Outcome>,
    changed: Condvar,
}

#[derive(Debug, Default)]
enum Outcome {
    /// It may be decided at any time.
    #[default]
    Open,
    /// Nothing comes to decide it until the client is sent off again: it has given up.
    Resting(Arc<Failure>),
    /// For good.
    Decided(Result<(), Undelivered>),
}

impl Receipt {
    pub(crate) fn new(owner: u64) -> Self {
        Self { owner, process: Process::this(), cell: Arc::default(), look: None }
    }

    /// Of a message that may expire. Nobody looks whether it has while nothing is written, so who waits calls
    /// this.
    pub(crate) fn expiring(self, look: impl Fn() + Send + Sync + 'static) -> Self {
        Self { look: Some(Look(Arc::new(look))), ..self }
    }

    pub(crate) fn cell(&self) -> Arc<Cell> {
        Arc::clone(&self.cell)
    }

    /// The number of the message among all that the client or session has accepted, counted from 1
    /// in their order; `None` if the outbox's overflow policy dropped it at once.
    /// [`Sender::confirmed_up_to`](crate::Sender::confirmed_up_to) counts the same.
    pub fn number(&self) -> Option<u64> {
        let number = self.cell.number.load(Relaxed);
        (number > 0).then_some(number)
    }

    /// Whether the peer's endpoint has confirmed the message.
    pub fn is_confirmed(&self) -> bool {
        self.process.is_this() && matches!(*self.cell.outcome.lock(), Outcome::Decided(Ok(())))
    }

    /// Waits for the confirmation, at most for `timeout`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use everlink::failure::Undelivered;
    /// use everlink::{Client, Error};
    ///
    /// let client = Client::builder("ws://127.0.0.1:1").start()?;
    /// let receipt = client.send_confirmed("nobody will read this")?;
    /// client.close();
    /// let error = receipt.wait(Duration::from_secs(1)).unwrap_err();
    /// assert!(matches!(error, Error::Undelivered(Undelivered::Closed)));
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] while nothing is known, and [`Error::Undelivered`] if the message will
    /// not be confirmed any more. [`Error::GaveUp`], at once, once the client has given up: the
    /// receipt stays good, and can be waited for again after
    /// [`reconnect`](crate::Client::reconnect). [`Error::WouldWaitForever`], at once, in a client's handler, which
    /// keeps the confirmation from being read.
    pub fn wait(&self, timeout: Duration) -> Result<(), Error> {
        if !self.process.is_this() {
            return Err(Error::Closed);
        }
        let deadline = Instant::now().checked_add(timeout);
        let mut expires = self.cell.expires.get().copied();
        let mut outcome = self.cell.outcome.lock();
        loop {
            match &*outcome {
                Outcome::Decided(outcome) => return outcome.map_err(Error::Undelivered),
                Outcome::Resting(cause) => return Err(Error::GaveUp(Arc::clone(cause))),
                Outcome::Open => {}
            }
            if threads::belongs_to(self.owner) && (threads::carries() || deadline.is_none()) {
                return Err(Error::on_own_thread());
            }
            let now = Instant::now();
            if let (Some(Look(look)), Some(_)) = (&self.look, expires.take_if(|time| *time <= now))
            {
                drop(outcome);
                look();
                outcome = self.cell.outcome.lock();
                continue;
            }
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Err(Error::Timeout);
            }
            outcome = match deadline.into_iter().chain(expires).min() {
                None => self.cell.changed.wait(outcome),
                Some(time) => {
                    self.cell.changed.wait_timeout(outcome, time.saturating_duration_since(now))
                }
            };
        }
    }
}

impl Cell {
    /// The message has this number, and expires then.
    pub(crate) fn accepted(&self, number: u64, expires: Option<Instant>) {
        self.number.store(number, Relaxed);
        expires.map(|time| self.expires.set(time));
    }

    /// The first outcome stays.
    pub(crate) fn decide(&self, outcome: Result<(), Undelivered>) {
        self.change(Outcome::Decided(outcome));
    }

    /// The client has given up, for this reason, or was sent off again.
    pub(crate) fn set_given_up(&self, cause: Option<Arc<Failure>>) {
        self.change(cause.map_or(Outcome::Open, Outcome::Resting));
    }

    fn change(&self, to: Outcome) {
        let mut outcome = self.outcome.lock();
        if !matches!(*outcome, Outcome::Decided(_)) {
            *outcome = to;
        }
        drop(outcome);
        self.changed.notify_all();
    }
}

//! What became of a message.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Error;

/// Why a message is not, or not surely, with the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Undelivered {
    /// The link died after the message was written and before the peer confirmed it, and
    /// [`Delivery::AtMostOnce`](crate::Delivery::AtMostOnce) does not send it again. The peer
    /// may or may not have it.
    #[error("lost with its link")]
    Lost,
    /// The outbox's overflow policy dropped it.
    #[error("dropped by the outbox's policy")]
    Dropped,
    /// Its time to live was over before it could be written.
    #[error("expired before it was written")]
    Expired,
    /// The client was closed before the peer confirmed it.
    #[error("not delivered before the client was closed")]
    Closed,
}

/// Follows one message to the peer's endpoint, from
/// [`Client::send_confirmed`](crate::Client::send_confirmed). Dropping it changes nothing.
#[derive(Debug, Clone)]
pub struct Receipt {
    cell: Arc<Cell>,
}

/// The outbox's end of a receipt.
#[derive(Debug, Default)]
pub(crate) struct Cell {
    outcome: Mutex<Option<Result<(), Undelivered>>>,
    decided: Condvar,
}

impl Receipt {
    pub(crate) fn new() -> Self {
        Self { cell: Arc::new(Cell::default()) }
    }

    pub(crate) fn cell(&self) -> Arc<Cell> {
        Arc::clone(&self.cell)
    }

    /// Whether the peer's endpoint has confirmed the message.
    pub fn is_confirmed(&self) -> bool {
        matches!(*self.cell.outcome.lock().unwrap_or_else(PoisonError::into_inner), Some(Ok(())))
    }

    /// Waits for the confirmation, at most for `timeout`.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] while nothing is known, and [`Error::Undelivered`] if the message will
    /// not be confirmed any more.
    pub fn wait(&self, timeout: Duration) -> Result<(), Error> {
        let deadline = Instant::now().checked_add(timeout);
        let mut outcome = self.cell.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(outcome) = *outcome {
                return outcome.map_err(Error::Undelivered);
            }
            outcome = match deadline {
                None => self.cell.decided.wait(outcome).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(Error::Timeout);
                    }
                    let waited = self.cell.decided.wait_timeout(outcome, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

impl Cell {
    /// The first outcome stays.
    pub(crate) fn decide(&self, outcome: Result<(), Undelivered>) {
        let mut slot = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert(outcome);
        drop(slot);
        self.decided.notify_all();
    }
}

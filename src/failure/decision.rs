//! What follows a failure.

use std::time::Duration;

/// What to do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Decision {
    /// Dial again after the backoff's delay.
    Retry,
    /// Dial again after the backoff's delay, and not before this much time has passed.
    RetryAfter(Duration),
    /// Stop: the client is in [`State::GaveUp`](crate::State::GaveUp) until
    /// [`reconnect`](crate::Client::reconnect).
    GiveUp,
}

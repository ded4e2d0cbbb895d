//! What follows a failure.

use std::time::Duration;

/// What to do after a failure.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Decision {
    /// Dial again after the backoff's delay.
    Retry,
    /// Dial again after the backoff's delay, and not before this much time has passed.
    RetryAfter(Duration),
    /// Dial again at this URL, after so much time: a service has said where it wants to be reached next.
    /// If that attempt fails, the endpoints of the builder follow. A URL that is none, or one of `tcp://`
    /// where the others are of `ws://`, is passed over with a record in the log.
    RetryAt {
        /// Where.
        url: String,
        /// At once if this is zero.
        delay: Duration,
    },
    /// Stop: the client is in [`State::GaveUp`](crate::State::GaveUp) until
    /// [`reconnect`](crate::Client::reconnect).
    GiveUp,
}

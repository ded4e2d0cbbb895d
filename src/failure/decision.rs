//! What follows a failure.

use std::fmt;
use std::time::Duration;

/// What to do after a failure.
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Decision {
    /// Dial again after the backoff's delay.
    Retry,
    /// Dial again after the backoff's delay, and not before this much time has passed.
    RetryAfter(Duration),
    /// Dial again at this URL, after so much time: a service has said where it wants to be reached next.
    /// If that attempt fails, the endpoints of the builder follow. A URL that is none, or one of `tcp://`
    /// where the others are of `ws://` (or the other way round), is passed over with a record in the log;
    /// [`end_link`](crate::Sender::end_link) refuses it.
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

/// Without the URL, in which there may be credentials.
impl fmt::Debug for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry => f.write_str("Retry"),
            Self::RetryAfter(delay) => f.debug_tuple("RetryAfter").field(delay).finish(),
            Self::RetryAt { delay, .. } => {
                f.debug_struct("RetryAt").field("delay", delay).finish_non_exhaustive()
            }
            Self::GiveUp => f.write_str("GiveUp"),
        }
    }
}

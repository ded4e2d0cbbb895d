//! What a client does after a failure.

use std::fmt;
use std::time::Duration;

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

impl Next {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Redial { .. } => "redial",
            Self::GiveUp => "give_up",
            Self::Close => "close",
        }
    }

    /// In seconds, before a redial.
    pub(crate) fn delay(self) -> Option<f64> {
        match self {
            Self::Redial { delay } => Some(delay.as_secs_f64()),
            Self::GiveUp | Self::Close => None,
        }
    }
}

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redial { delay } if delay.is_zero() => f.write_str("redial at once"),
            Self::Redial { delay } => write!(f, "redial in {delay:.1?}"),
            Self::GiveUp => f.write_str("no redial"),
            Self::Close => f.write_str("closing"),
        }
    }
}

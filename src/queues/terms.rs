//! What goes with a message into the outbox, and what comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::message::Message;
use crate::queues::receipt::Receipt;

/// Why a message was not accepted, or a wait ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    TooLarge {
        size: usize,
        limit: usize,
    },
    Unsendable(&'static str),
    Full,
    TimedOut,
    /// Full, and no link is to be expected.
    NobodyDrains,
    Shut,
    Unconfirmed(usize),
    Unconfirmable,
    /// There is no link, or not any more the one for which it was.
    NoLink,
}

/// How long a send may wait for room.
#[derive(Debug, Clone, Copy)]
pub(crate) enum WaitFor {
    Nothing,
    Until(Instant),
    Ever,
}

/// What goes with a message into the outbox.
#[derive(Debug, Default)]
pub(crate) struct Terms {
    pub(crate) receipt: Option<Receipt>,
    pub(crate) expires: Option<Instant>,
    /// Whether it is dropped when the link that is up ends.
    pub(crate) this_link: bool,
    pub(crate) is_uncompressed: bool,
    pub(crate) withdrawal: Option<Withdrawal>,
    /// What the program confirms it by.
    pub(crate) key: Option<u64>,
}

/// Takes one message back, wherever it is: from then on it is not written, and not again. Valid
/// before the message is accepted, too.
#[derive(Debug, Clone, Default)]
pub(crate) struct Withdrawal(Arc<Slip>);

#[derive(Debug, Default)]
struct Slip {
    /// Of the message, once it is accepted; 0 before that.
    number: AtomicU64,
    is_withdrawn: AtomicBool,
}

impl Withdrawal {
    /// The message is not wanted any more. This takes no lock; until somebody comes across the
    /// message it counts in the outbox.
    pub(crate) fn withdraw(&self) {
        self.0.is_withdrawn.store(true, Relaxed);
    }

    pub(super) fn is_withdrawn(&self) -> bool {
        self.0.is_withdrawn.load(Relaxed)
    }

    pub(super) fn accepted(&self, number: u64) {
        self.0.number.store(number, Relaxed);
    }

    pub(super) fn number(&self) -> u64 {
        self.0.number.load(Relaxed)
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::TooLarge { size, limit } => Self::MessageTooLarge { size, limit },
            Refused::Unsendable(reason) => Self::Unsendable { reason },
            Refused::TimedOut => Self::Timeout,
            Refused::Shut => Self::Closed,
            Refused::Full | Refused::NobodyDrains => Self::Full,
            Refused::Unconfirmed(count) => Self::Unconfirmed { count },
            Refused::Unconfirmable => Self::Unconfirmable,
            Refused::NoLink => Self::NotConnected,
        }
    }
}

impl WaitFor {
    pub(super) fn is_any(self) -> bool {
        !matches!(self, Self::Nothing)
    }

    /// Until this much time has passed; a time beyond all clocks is forever.
    pub(crate) fn timeout(timeout: Duration) -> Self {
        Instant::now().checked_add(timeout).map_or(Self::Ever, Self::Until)
    }
}

/// What became of messages: each that was accepted is in one of the others, but for `resent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    pub(crate) accepted: u64,
    /// Written, and confirmed where that is the delivery.
    pub(crate) passed_on: u64,
    pub(crate) waiting: usize,
    pub(crate) waiting_bytes: usize,
    pub(crate) dropped: u64,
    pub(crate) expired: u64,
    pub(crate) handed_back: u64,
    pub(crate) resent: u64,
}

/// A message that the peer found too large.
#[derive(Debug)]
pub(crate) struct TooLarge {
    pub(crate) size: usize,
    /// Itself, unless it was written and is not sent again.
    pub(crate) message: Option<Message>,
}

//! What goes with a message into the outbox, and what comes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::message::Message;
use crate::policy::Undelivered;
use crate::queues::question::Question;
use crate::queues::receipt::Receipt;
use crate::wire::websocket::DeflatedOnce;

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
    /// Whether it goes to many.
    pub(crate) is_shared: bool,
    /// What has come of compressing it, if it goes to many.
    pub(crate) deflated: Option<Arc<DeflatedOnce>>,
    /// If the peer answers it.
    pub(crate) question: Option<Arc<Question>>,
    /// What the program confirms it by.
    pub(crate) key: Option<u64>,
}

impl Terms {
    /// There is no room for the message, which goes.
    pub(super) fn drop_newest(self) {
        let why = Undelivered::Dropped;
        self.receipt.iter().for_each(|receipt| receipt.cell().decide(Err(why)));
        self.question.iter().for_each(|question| question.lost(why));
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

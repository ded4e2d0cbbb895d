//! What comes after an attempt or a link.

use std::sync::Arc;
use std::time::Duration;

use super::event::Next;
use crate::failure::Failure;

pub(super) enum After {
    Redial(Duration),
    GiveUp(Arc<Failure>),
    Close { clean: bool },
}

impl After {
    /// The same, without a delay if the ends did not agree on their session.
    pub(super) fn at_once(self, cause: &Failure) -> Self {
        match (self, cause) {
            (Self::Redial(_), Failure::NotResumed) => Self::Redial(Duration::ZERO),
            (other, _) => other,
        }
    }

    /// The same, for an event.
    pub(super) fn next(&self) -> Next {
        match self {
            Self::Redial(delay) => Next::Redial { delay: *delay },
            Self::GiveUp(_) => Next::GiveUp,
            Self::Close { .. } => Next::Close,
        }
    }
}

/// What ends the watch over a link.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The link's own.
    Death,
    /// The program wants another one.
    Wish,
    /// The program wants no more.
    Close,
}

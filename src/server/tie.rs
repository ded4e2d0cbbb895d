//! What a session hangs on: one link, or one after the other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::resumption::Resumable;
use crate::error::Error;
use crate::failure::Failure;
use crate::link::Handle;
use crate::message::CloseFrame;
use crate::policy::AgreedCompression;

#[derive(Clone)]
pub(super) enum Tie {
    /// The session ends with this link.
    Link { link: Handle, peer: SocketAddr, compression: Option<AgreedCompression> },
    /// It has an owner, which gives it one link after the other.
    Resumable(Arc<Resumable>),
}

impl Tie {
    pub(super) fn peer(&self) -> SocketAddr {
        match self {
            Self::Link { peer, .. } => *peer,
            Self::Resumable(resumable) => resumable.peer(),
        }
    }

    pub(super) fn compression(&self) -> Option<AgreedCompression> {
        match self {
            Self::Link { compression, .. } => *compression,
            Self::Resumable(resumable) => resumable.compression(),
        }
    }

    /// Why the session is over, or about to be.
    pub(super) fn failure(&self) -> Option<Arc<Failure>> {
        match self {
            Self::Link { link, .. } => link.cause(),
            Self::Resumable(resumable) => resumable.failure(),
        }
    }

    /// When it ended, if it has.
    pub(super) fn ended_at(&self) -> Option<Instant> {
        match self {
            Self::Link { link, .. } => link.died_at(),
            Self::Resumable(resumable) => resumable.ended_at(),
        }
    }

    pub(super) fn is_attached(&self) -> bool {
        match self {
            Self::Link { link, .. } => link.died_at().is_none(),
            Self::Resumable(resumable) => resumable.is_attached(),
        }
    }

    pub(super) fn wait_attached(&self, timeout: Duration) -> Result<(), Error> {
        match self {
            Self::Link { .. } if self.is_attached() => Ok(()),
            Self::Link { .. } => Err(Error::Closed),
            Self::Resumable(resumable) => {
                resumable.wait_attached(Instant::now().checked_add(timeout))
            }
        }
    }

    /// Starts to close, after what is queued.
    pub(super) fn close(&self, frame: CloseFrame, is_shutdown: bool) {
        match self {
            Self::Link { link, .. } => link.close_after_data(frame),
            Self::Resumable(resumable) => resumable.close(frame, is_shutdown),
        }
    }

    /// The same, and the time for it is over by then, whoever waits or not.
    pub(super) fn close_by(&self, timeout: Duration, frame: CloseFrame) {
        match self {
            Self::Link { link, .. } => link.close_by(Instant::now() + timeout, frame),
            // its owner watches over the time
            Self::Resumable(resumable) => resumable.close(frame, false),
        }
    }

    /// Waits for the end, for so long at most.
    pub(super) fn wait_for_end(&self, timeout: Duration, frame: CloseFrame) {
        match self {
            Self::Link { link, .. } => {
                link.wait_until(Instant::now() + timeout);
                link.end_close(frame);
            }
            Self::Resumable(resumable) => resumable.wait_over(timeout),
        }
    }

    /// The handler has returned: the same as closing, but for a peer that has closed first, which
    /// is answered.
    pub(super) fn handler_returned(&self, frame: CloseFrame) {
        if let Self::Link { link, .. } = self {
            link.answer_after_data(frame);
        }
    }

    /// Ends it without a goodbye.
    pub(super) fn kill(&self, cause: Failure) {
        match self {
            Self::Link { link, .. } => link.kill(cause),
            Self::Resumable(resumable) => resumable.end(cause),
        }
    }
}

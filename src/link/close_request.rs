//! How a link is to be closed.

use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::message::CloseFrame;

/// How long the closing handshake of a link may take that the program has no use for any more.
pub(crate) const GOODBYE: Duration = Duration::from_millis(500);

/// A link says what its close frame says, once, and ends when the peer has answered, or by the deadline.
#[derive(Debug, Default)]
pub(crate) struct CloseRequest {
    pub(super) frame: Option<CloseFrame>,
    /// Whether it goes ahead of what is queued.
    pub(super) is_urgent: bool,
    /// Whether it says what answers the peer's close frame, if one came.
    pub(super) is_answer: bool,
    /// Whether the session is over with the link, if there is one.
    pub(super) ends_session: bool,
    pub(super) deadline: Option<Instant>,
    /// Why the link ends, unless it is ending already.
    pub(super) cause: Option<Failure>,
}

impl CloseRequest {
    /// Behind everything that is queued, and for good. What is received from now on and finds no room
    /// is dropped.
    pub(crate) fn after_data(frame: CloseFrame) -> Self {
        Self { is_urgent: false, ends_session: true, ..Self::urgent(Some(frame)) }
    }

    /// Ahead of everything that is queued.
    pub(crate) fn urgent(frame: Option<CloseFrame>) -> Self {
        Self { frame, is_urgent: true, ..Self::default() }
    }

    /// The session is over, too.
    pub(super) fn ending_session(mut self, ends: bool) -> Self {
        self.ends_session = ends;
        self
    }

    /// With the code that answers the peer's, if the peer has closed first.
    pub(crate) fn answering(mut self) -> Self {
        self.is_answer = true;
        self
    }

    /// The link ends by then, whether the peer has answered or not.
    pub(crate) fn by(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Why the link ends, unless it is ending already.
    pub(crate) fn because(mut self, cause: Failure) -> Self {
        self.cause = Some(cause);
        self
    }
}

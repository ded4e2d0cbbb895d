//! How a link is to be closed.

use std::time::Instant;

use crate::failure::Failure;
use crate::message::CloseFrame;

/// A link says what its close frame says, once, and ends when the peer has answered, or by the deadline.
#[derive(Debug)]
pub(crate) struct CloseRequest {
    frame: Option<CloseFrame>,
    is_urgent: bool,
    is_answer: bool,
    deadline: Option<Instant>,
    cause: Option<Failure>,
}

impl CloseRequest {
    /// Behind everything that is queued. What is received from now on and finds no room is dropped.
    pub(crate) fn after_data(frame: CloseFrame) -> Self {
        Self { is_urgent: false, ..Self::urgent(Some(frame)) }
    }

    /// Ahead of everything that is queued.
    pub(crate) fn urgent(frame: Option<CloseFrame>) -> Self {
        Self { frame, is_urgent: true, is_answer: false, deadline: None, cause: None }
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

    /// Where the protocol has no close frames, nobody is told why.
    pub(super) fn without_frame(mut self) -> Self {
        self.frame = None;
        self
    }

    pub(super) fn take_cause(&mut self) -> Option<Failure> {
        self.cause.take()
    }

    /// The peer's close frame has come, and is to be answered with this.
    pub(super) fn answer(&mut self, frame: &Option<CloseFrame>) {
        if self.is_answer {
            self.frame.clone_from(frame);
        }
    }

    /// Another request has come: the first one stays, unless the other is more urgent. The first
    /// deadline stays in any case.
    pub(super) fn join(&mut self, other: Self) {
        let deadline = self.deadline.or(other.deadline);
        if other.is_urgent {
            *self = other;
        }
        self.deadline = deadline;
    }

    pub(super) fn is_urgent(&self) -> bool {
        self.is_urgent
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(super) fn frame(&self) -> Option<CloseFrame> {
        self.frame.clone()
    }
}

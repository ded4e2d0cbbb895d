//! What a decoder refuses.

use crate::failure::Failure;
use crate::message::{CloseCode, CloseFrame};

/// A violation of the protocol, for which the peer is told this code.
pub(super) fn violation(code: CloseCode, reason: impl Into<String>) -> Failure {
    Failure::Protocol { code, reason: reason.into() }
}

/// The peer has done nothing wrong; it may come again (close code 1013).
pub(super) fn no_memory() -> Failure {
    let code = CloseCode::TRY_AGAIN_LATER;
    Failure::ClosedHere(Some(CloseFrame::new(code, "no memory for a message of this size")))
}

pub(super) fn too_big(what: impl std::fmt::Display, limit: usize) -> Failure {
    violation(CloseCode::MESSAGE_TOO_BIG, format!("{what} over the limit of {limit} bytes"))
}

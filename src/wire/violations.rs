//! What a decoder refuses.

use super::assembly::Refused;
use crate::failure::Failure;
use crate::message::{CloseCode, CloseFrame};

/// A violation of the protocol, for which the peer is told this code.
pub(super) fn violation(code: CloseCode, reason: impl Into<String>) -> Failure {
    Failure::Protocol { code, reason: reason.into() }
}

pub(super) fn protocol(reason: impl Into<String>) -> Failure {
    violation(CloseCode::PROTOCOL_ERROR, reason)
}

/// Why a piece of a WebSocket's message was not taken.
pub(super) fn refused(why: Refused) -> Failure {
    match why {
        Refused::NotUtf8 => violation(CloseCode::INVALID_PAYLOAD, "text that is not UTF-8"),
        // the peer has done nothing wrong, and may come again
        Refused::NoMemory => Failure::ClosedHere(Some(CloseFrame::new(
            CloseCode::TRY_AGAIN_LATER,
            "no memory for a message of this size",
        ))),
    }
}

pub(super) fn too_big(what: impl std::fmt::Display, limit: usize) -> Failure {
    violation(CloseCode::MESSAGE_TOO_BIG, format!("{what} over the limit of {limit} bytes"))
}

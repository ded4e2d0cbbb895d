//! What follows a failure.

use std::ffi::{CString, c_char, c_int};
use std::ptr;
use std::time::Duration;

use everlink_rs::Failure;
use everlink_rs::failure::Decision;

use crate::code::{EverlinkCode as Code, Wrong};
use crate::memory::optional_text;

/// What follows a failure. Zeroes are another attempt after the usual delay.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct EverlinkDecision {
    /// Not 0: no more attempts until `everlink_reconnect()`.
    pub give_up: c_int,
    /// At least this long until the next attempt, in milliseconds.
    pub delay_ms: u64,
    /// Where the next attempt goes, if that is not null. It is read after the callback has returned: let it not
    /// be on its stack.
    pub url: *const c_char,
    /// Not 0: the delay is as it says also if it is 0, and not the usual one.
    pub has_delay: c_int,
}

/// Why a link died or an attempt failed. Lent to a callback until that returns.
#[repr(C)]
#[derive(Debug)]
pub struct EverlinkFailure {
    /// In a word that does not change: "dns", "connect", "tls", "handshake", "rejected", "login", "lost",
    /// "closed_by_peer", "closed_here", "silent", "stuck", "protocol", "program", "system".
    pub kind: *const c_char,
    /// In words, one line.
    pub text: *const c_char,
    /// The code of the peer's close frame, also if it came during the login; 0 if there was none.
    pub close_code: u16,
    /// The status of the server's answer to the opening handshake; 0 if it was none.
    pub http_status: u16,
}

impl EverlinkFailure {
    pub fn with<T>(failure: &Failure, run: impl FnOnce(&Self) -> T) -> T {
        let kind = CString::new(failure.kind().as_str()).unwrap_or_default();
        let text = CString::new(failure.to_string()).unwrap_or_default();
        let inner = match failure {
            Failure::Login { source, .. } => source.downcast_ref().unwrap_or(failure),
            _ => failure,
        };
        let close_code = match inner {
            Failure::Closed(Some(frame)) => frame.code.0,
            _ => 0,
        };
        let http_status = match failure {
            Failure::Rejected { status, .. } => status.as_u16(),
            _ => 0,
        };
        run(&Self { kind: kind.as_ptr(), text: text.as_ptr(), close_code, http_status })
    }
}

pub fn of(decision: &Decision) -> EverlinkDecision {
    let give_up = c_int::from(*decision == Decision::GiveUp);
    let delay = match decision {
        Decision::RetryAfter(delay) => Some(*delay),
        _ => None,
    };
    EverlinkDecision {
        give_up,
        delay_ms: delay.map_or(0, |delay| delay.as_millis() as u64),
        url: ptr::null(),
        has_delay: c_int::from(delay.is_some()),
    }
}

pub fn decision(decision: *const EverlinkDecision) -> Result<Decision, Wrong> {
    // SAFETY: null, or one of the program's
    let Some(decision) = (unsafe { decision.as_ref() }) else { return Ok(Decision::Retry) };
    let delay = Duration::from_millis(decision.delay_ms);
    Ok(match optional_text(decision.url)? {
        _ if decision.give_up != 0 => Decision::GiveUp,
        Some("") => return Err(Wrong::new(Code::InvalidUrl, "the url is empty")),
        Some(url) => Decision::RetryAt { url: url.into(), delay },
        None if decision.has_delay != 0 || decision.delay_ms > 0 => Decision::RetryAfter(delay),
        None => Decision::Retry,
    })
}

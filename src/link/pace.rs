//! How fast the peer may be.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::shared::Shared;
use crate::failure::Failure;
use crate::message::CloseCode;
use crate::policy::RateMeter;

/// What counts how fast the peer is, where that is limited: over all links of a session.
pub(super) fn meter(shared: &Shared) -> Option<RateMeter> {
    let rate = shared.settings.receive_rate?;
    let kept = shared.session.as_ref().and_then(|counts| counts.take_meter());
    Some(kept.unwrap_or_else(|| RateMeter::new(rate, Instant::now())))
}

#[inline]
pub(super) fn is_too_fast(meter: Option<&RateMeter>) -> bool {
    meter.is_some_and(|meter| meter.excess().is_some())
}

#[inline]
pub(super) fn closes(meter: Option<&RateMeter>) -> bool {
    meter.is_some_and(RateMeter::closes)
}

/// A message of the peer's has come.
#[inline]
pub(super) fn count(meter: Option<&mut RateMeter>, shared: &Shared) -> Result<(), Failure> {
    let Some(meter) = meter else { return Ok(()) };
    meter.message();
    if meter.closes() && meter.excess().is_some() { Err(too_fast(shared)) } else { Ok(()) }
}

/// The peer is closed for what it sends in a second.
pub(super) fn too_fast(shared: &Shared) -> Failure {
    shared.counters.over_rate.fetch_add(1, Relaxed);
    let reason = "it sends more than it may in a second".into();
    Failure::Protocol { code: CloseCode::POLICY_VIOLATION, reason }
}

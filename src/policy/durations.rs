//! How long anything may take.

use std::time::Duration;

/// No timeout is longer than this: a thousand days. It keeps every deadline representable.
pub(crate) const MAX_DURATION: Duration = Duration::from_secs(1000 * 24 * 3600);

/// No timeout and no interval is shorter than this: a shorter one is over before a thread has woken.
const MIN_DURATION: Duration = Duration::from_millis(1);

/// Refuses what is shorter than a millisecond or longer than a thousand days.
pub(crate) fn in_range(time: Duration) -> Result<(), String> {
    if time < MIN_DURATION {
        return Err(format!("{time:?} is under the least of {MIN_DURATION:?}"));
    }
    not_too_long(time)
}

/// Refuses what is longer than a thousand days.
pub(crate) fn not_too_long(time: Duration) -> Result<(), String> {
    if time > MAX_DURATION {
        return Err(format!("{time:?} is over the limit of {MAX_DURATION:?}"));
    }
    Ok(())
}

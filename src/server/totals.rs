//! What all sessions of a server have counted.

use std::sync::atomic::Ordering::Relaxed;

use super::session::Session;
use crate::failure::Failure;
use crate::stats::{Counters, ServerCounters, ServerStats};
use crate::sync::Mutex;

/// What a server counts, and the sums of sessions that have ended. Each session is in those from the
/// moment on that its own mark says so, which the lock protects too: then none is counted twice, or
/// not at all, and sums never go back.
#[derive(Debug, Default)]
pub(super) struct Totals {
    counters: ServerCounters,
    ended: Mutex<ServerStats>,
}

impl Totals {
    pub(super) fn counters(&self) -> &ServerCounters {
        &self.counters
    }

    /// A link of a session with these counters has ended, for this reason; the session may go on.
    pub(super) fn link_ended(&self, counters: &Counters, cause: &Failure) {
        counters.disconnects.add(cause.kind());
        self.counters.disconnects.add(cause.kind());
    }

    /// A session with these counters has ended.
    pub(super) fn session_ended(&self, counters: &Counters) {
        let mut ended = self.ended.lock();
        ended.add(counters);
        counters.is_in_totals.store(true, Relaxed);
    }

    /// What is counted here, with the sums of these sessions and of those that have ended.
    pub(super) fn stats(&self, sessions: &[Session]) -> ServerStats {
        let ended = self.ended.lock();
        let mut sums = *ended;
        for counters in sessions.iter().map(Session::counters) {
            if !counters.is_in_totals.load(Relaxed) {
                sums.add(counters);
            }
        }
        sums.read(&self.counters)
    }
}

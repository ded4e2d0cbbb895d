//! What all sessions of a server have sent and received.

use std::ops::AddAssign;
use std::sync::atomic::Ordering::Relaxed;

use super::session::Session;
use crate::failure::{Failure, FailureCounts, FailureTally};
use crate::link::stats::Counters;
use crate::sync::Mutex;

/// Messages and bytes of payload, both ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) messages_sent: u64,
    pub(super) bytes_sent: u64,
    pub(super) messages_received: u64,
    pub(super) bytes_received: u64,
}

impl Traffic {
    fn of(counters: &Counters) -> Self {
        Self {
            messages_sent: counters.messages_sent.load(Relaxed),
            bytes_sent: counters.bytes_sent.load(Relaxed),
            messages_received: counters.messages_received.load(Relaxed),
            bytes_received: counters.bytes_received.load(Relaxed),
        }
    }
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.messages_sent += other.messages_sent;
        self.bytes_sent += other.bytes_sent;
        self.messages_received += other.messages_received;
        self.bytes_received += other.bytes_received;
    }
}

/// Sessions that have ended. Each is counted here from the moment on that its own mark says so,
/// which the lock protects too: then no session is counted twice, or not at all, and sums never go
/// back.
#[derive(Debug, Default)]
pub(super) struct Totals {
    ended: Mutex<Traffic>,
    disconnects: FailureTally,
}

impl Totals {
    /// A link of a session with these counters has ended, for this reason; the session may go on.
    pub(super) fn link_ended(&self, counters: &Counters, cause: &Failure) {
        counters.disconnects.add(cause.kind());
        self.disconnects.add(cause.kind());
    }

    /// A session with these counters has ended.
    pub(super) fn session_ended(&self, counters: &Counters) {
        let mut ended = self.ended.lock();
        *ended += Traffic::of(counters);
        counters.is_in_totals.store(true, Relaxed);
    }

    pub(super) fn disconnects(&self) -> FailureCounts {
        self.disconnects.counts()
    }

    /// These sessions, and those that have ended.
    pub(super) fn traffic(&self, sessions: &[Session]) -> Traffic {
        let ended = self.ended.lock();
        let mut sum = *ended;
        for counters in sessions.iter().map(Session::counters) {
            if !counters.is_in_totals.load(Relaxed) {
                sum += Traffic::of(counters);
            }
        }
        sum
    }
}

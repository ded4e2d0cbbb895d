//! What of the present link is not confirmed yet.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::table::Source;

/// Two counts of one link's messages, each written by one thread at a time.
#[derive(Debug, Default)]
pub(crate) struct UnconfirmedCount {
    written: AtomicU64,
    confirmed: AtomicU64,
}

impl UnconfirmedCount {
    /// A link begins.
    pub(crate) fn begin(&self) {
        self.written.store(0, Relaxed);
        self.confirmed.store(0, Relaxed);
    }

    /// So many more messages were written.
    pub(crate) fn add(&self, messages: usize) {
        self.written.fetch_add(messages as u64, Relaxed);
    }

    /// The peer has confirmed the first so many; returns how many of these it had not before.
    pub(crate) fn confirm(&self, messages: u64) -> u64 {
        let before = self.confirmed.fetch_max(messages, Relaxed);
        messages.saturating_sub(before)
    }

    pub(crate) fn count(&self) -> u64 {
        // a pong can be faster than the writer's bookkeeping
        self.written.load(Relaxed).saturating_sub(self.confirmed.load(Relaxed))
    }
}

impl Source for UnconfirmedCount {
    type Value = u64;

    fn read(&self) -> u64 {
        self.count()
    }
}

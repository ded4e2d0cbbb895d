//! The heartbeat of one link: what the settings say, until the program has learnt better.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};

use crate::policy::Heartbeat;
use crate::sync::{AtomicU64, Mutex};

/// What holds now. Set by the program, read by the link's threads.
#[derive(Debug)]
pub(super) struct Beats {
    present: Mutex<Arc<Heartbeat>>,
    /// Grows with each change: it is asked for each message, so without the lock.
    version: AtomicU64,
}

/// What one thread has last seen of it.
#[derive(Debug)]
pub(super) struct SeenBeats {
    heartbeat: Arc<Heartbeat>,
    version: u64,
}

impl Beats {
    pub(super) fn new(heartbeat: Heartbeat) -> Self {
        Self { present: Mutex::new(Arc::new(heartbeat)), version: AtomicU64::new(0) }
    }

    pub(super) fn present(&self) -> Arc<Heartbeat> {
        Arc::clone(&self.present.lock())
    }

    pub(super) fn set(&self, heartbeat: Heartbeat) {
        *self.present.lock() = Arc::new(heartbeat);
        self.version.fetch_add(1, Release);
    }

    pub(super) fn look(&self) -> SeenBeats {
        // in this order: what is newer than its version is looked at again
        let version = self.version.load(Acquire);
        SeenBeats { heartbeat: self.present(), version }
    }
}

impl SeenBeats {
    pub(super) fn heartbeat(&self) -> &Arc<Heartbeat> {
        &self.heartbeat
    }

    #[inline]
    pub(super) fn is_stale(&self, beats: &Beats) -> bool {
        self.version != beats.version.load(Acquire)
    }
}

//! Whether the reader takes in what comes.

use std::sync::atomic::Ordering::{AcqRel, Relaxed};

use crate::sync::AtomicU64;

/// The reader waits for bytes, and has nothing in its hands.
const IDLE: u64 = 1;
/// It takes no more messages than those that it has.
const STOPPED: u64 = 1 << 1;
/// Its handler gets no more than the message that it has.
const LET_GO: u64 = 1 << 2;

/// Where the reader and whoever stops it meet: the second of the two knows that nothing is in the reader's hands and
/// that nothing follows.
#[derive(Debug, Default)]
pub(super) struct Intake {
    state: AtomicU64,
}

impl Intake {
    /// The reader is about to wait for bytes; returns whether it was stopped before.
    pub(super) fn rest(&self) -> bool {
        self.state.fetch_or(IDLE, AcqRel) & STOPPED != 0
    }

    /// It has some.
    pub(super) fn go_on(&self) {
        self.state.fetch_and(!IDLE, AcqRel);
    }

    /// Returns whether the reader has nothing in its hands.
    pub(super) fn stop(&self) -> bool {
        self.state.fetch_or(STOPPED, AcqRel) & IDLE != 0
    }

    pub(super) fn let_go(&self) {
        self.state.fetch_or(LET_GO, Relaxed);
    }

    /// Asked for each message.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.state.load(Relaxed) & (STOPPED | LET_GO) == 0
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.state.load(Relaxed) & STOPPED != 0
    }

    pub(super) fn is_let_go(&self) -> bool {
        self.state.load(Relaxed) & LET_GO != 0
    }
}

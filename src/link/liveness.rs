//! How long the peer has been silent, as far as the peer is to blame.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The memory of a burst is given back once no other has come for this long.
pub(super) const IDLE: Duration = Duration::from_secs(1);

/// A thread that wakes this much too late was held up with the whole process (stopped, frozen, migrated
/// with its machine), and has not asked the peer meanwhile.
pub(super) const HELD_UP: Duration = Duration::from_secs(1);

/// What the reader does, and since when. Written by the reader, read by the other two.
#[derive(Debug)]
pub(super) struct Liveness {
    origin: Instant,
    /// Microseconds since `origin`, shifted left by one; the low bit says whether the reader
    /// waits for the peer (1) or for the program (0).
    state: AtomicU64,
    /// When the current silence was first asked about, in microseconds since `origin`.
    asked: AtomicU64,
    /// Since when silence counts, in microseconds since `origin`: when the socket last took something after
    /// having been full, which is a sign of life, or when the limit became shorter.
    excused: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    /// The reader blocks in `read`, and nothing has come for this long.
    ForPeer(Duration),
    /// The reader waits to deliver, and the program has been busy for this long. The peer cannot be
    /// judged meanwhile.
    ForProgram(Duration),
}

impl Liveness {
    pub(super) fn new() -> Self {
        Self {
            origin: Instant::now(),
            state: AtomicU64::new(1),
            asked: AtomicU64::new(0),
            excused: AtomicU64::new(0),
        }
    }

    /// When the link began.
    pub(super) fn origin(&self) -> Instant {
        self.origin
    }

    fn now(&self) -> u64 {
        self.origin.elapsed().as_micros() as u64
    }

    /// The reader is about to block in `read`.
    pub(super) fn reading(&self) {
        self.state.store(self.now() << 1 | 1, Relaxed);
    }

    /// Bytes have come.
    pub(super) fn heard(&self) {
        self.state.store(self.now() << 1, Relaxed);
    }

    pub(super) fn waiting(&self) -> Waiting {
        let state = self.state.load(Relaxed);
        let time = Duration::from_micros(self.now().saturating_sub(state >> 1));
        if state & 1 == 1 { Waiting::ForPeer(time) } else { Waiting::ForProgram(time) }
    }

    /// The peer is asked for a sign of life.
    pub(super) fn ask(&self) {
        if self.asked.load(Relaxed) <= self.state.load(Relaxed) >> 1 {
            self.asked.store(self.now(), Relaxed);
        }
    }

    /// Whether the peer was asked in its present silence, at least this long ago.
    pub(super) fn had_to_answer(&self, time: Duration) -> bool {
        let (silent_since, asked) = (self.state.load(Relaxed) >> 1, self.asked.load(Relaxed));
        asked > silent_since && Duration::from_micros(self.now().saturating_sub(asked)) >= time
    }

    /// The silence so far does not count: the socket was full and has taken something, or the limit is
    /// a shorter one.
    pub(super) fn excuse(&self) {
        self.excused.store(self.now(), Relaxed);
    }

    /// How long the peer has given no sign of life although somebody listened.
    pub(super) fn silence(&self) -> Duration {
        match self.waiting() {
            Waiting::ForPeer(time) => {
                let excused = self.excused.load(Relaxed);
                if excused == 0 {
                    return time;
                }
                time.min(Duration::from_micros(self.now().saturating_sub(excused)))
            }
            Waiting::ForProgram(_) => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listening_counts_as_silence() {
        let liveness = Liveness::new();
        liveness.reading();
        assert!(matches!(liveness.waiting(), Waiting::ForPeer(_)));
        liveness.heard();
        assert!(matches!(liveness.waiting(), Waiting::ForProgram(_)));
        assert_eq!(liveness.silence(), Duration::ZERO);
    }

    #[test]
    fn a_question_counts_for_the_silence_in_which_it_was_put() {
        let liveness = Liveness::new();
        let pass = || std::thread::park_timeout(Duration::from_millis(1));
        pass();
        liveness.ask();
        assert!(liveness.had_to_answer(Duration::ZERO));
        assert!(!liveness.had_to_answer(Duration::from_secs(100)));
        let first = liveness.asked.load(Relaxed);
        pass();
        liveness.ask();
        assert_eq!(liveness.asked.load(Relaxed), first, "asking again gives no time");
        liveness.reading();
        assert!(!liveness.had_to_answer(Duration::ZERO));
    }
}

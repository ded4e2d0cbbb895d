//! Which pings are out, and what their pongs prove.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::stats::Counters;
use crate::sync::{Condvar, Mutex, MutexGuard};

/// How many unanswered pings are remembered; older ones are only counted.
const REMEMBERED: usize = 64;

/// With so many unanswered, and one of them this young, that one serves whoever wants another: the answers of
/// beats are told apart by their order alone, so none that may still be answered must be forgotten.
const MANY: usize = REMEMBERED / 2;
const YOUNG: Duration = Duration::from_secs(1);

/// Numbers the pings of one link and matches them with their answers.
///
/// Pongs come in the order of the pings, so the answer to a ping proves that the peer's
/// endpoint has taken everything that was written before it.
#[derive(Debug)]
pub(super) struct PingLedger {
    state: Mutex<PingState>,
    /// Signalled at each answer, and when none comes any more.
    changed: Condvar,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct PingState {
    pings: u64,
    out: VecDeque<Ping>,
    unanswered: u64,
    /// The number of the last one that was answered, and how long that took.
    answered: Option<(u64, Duration)>,
    /// No answer comes any more.
    is_abandoned: bool,
}

/// What went out before a ping.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Covered {
    /// How many messages of the outbox were encoded on this link.
    pub(super) messages: u64,
    /// The position of the last message that was encoded whole.
    pub(super) position: u64,
}

#[derive(Debug)]
struct Ping {
    number: u64,
    sent: Instant,
    covers: Covered,
    /// Whether it is a beat of the application, whose answer carries no number.
    is_beat: bool,
}

impl PingLedger {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        counters.unanswered_pings.store(0, Relaxed);
        counters.unconfirmed.begin();
        Self { state: Mutex::default(), changed: Condvar::new(), counters }
    }

    fn state(&self) -> MutexGuard<'_, PingState> {
        self.state.lock()
    }

    /// For how long the oldest ping has had no answer, if there is one.
    pub(super) fn waiting(&self) -> Option<Duration> {
        self.state().out.front().map(|ping| ping.sent.elapsed())
    }

    /// How many of those without an answer went out so lately. Before that the peer may have answered in a
    /// way that the program does not recognise.
    pub(super) fn sent_within(&self, time: Duration) -> u64 {
        self.state().out.iter().filter(|ping| ping.sent.elapsed() <= time).count() as u64
    }

    /// The number of the ping to wait for, and whether it is yet to go out.
    pub(super) fn next(&self) -> (u64, bool) {
        let state = self.state();
        let is_young = |ping: &Ping| ping.sent.elapsed() < YOUNG;
        let serves = state.out.len() >= MANY && state.out.back().is_some_and(is_young);
        (state.pings + u64::from(!serves), !serves)
    }

    /// Waits until the ping of this number, or a later one, is answered; returns how long that took.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`], and [`Error::NotConnected`] once the link is dead.
    pub(super) fn wait(&self, number: u64, timeout: Duration) -> Result<Duration, Error> {
        let deadline = Instant::now().checked_add(timeout);
        let mut state = self.state();
        loop {
            if let Some((_, time)) = state.answered.filter(|(last, _)| *last >= number) {
                return Ok(time);
            }
            if state.is_abandoned {
                return Err(Error::NotConnected);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            state = match left {
                Some(Duration::ZERO) => return Err(Error::Timeout),
                Some(left) => self.changed.wait_timeout(state, left),
                None => self.changed.wait(state),
            };
        }
    }

    /// The link is dead.
    pub(super) fn abandon(&self) {
        self.state().is_abandoned = true;
        self.changed.notify_all();
    }

    /// Whether any answer has come.
    pub(super) fn is_answered(&self) -> bool {
        self.state().answered.is_some()
    }

    /// A ping goes out now, or a beat of the application, behind all that; returns the payload that
    /// a ping carries.
    pub(super) fn sent(&self, covers: Covered, is_beat: bool) -> [u8; 8] {
        let mut state = self.state();
        state.pings += 1;
        state.unanswered += 1;
        let number = state.pings;
        if state.out.len() == REMEMBERED {
            state.out.pop_front();
        }
        state.out.push_back(Ping { number, sent: Instant::now(), covers, is_beat });
        self.counters.pings_sent.fetch_add(1, Relaxed);
        self.counters.unanswered_pings.store(state.unanswered, Relaxed);
        number.to_be_bytes()
    }

    /// A pong came. One that answers no ping of ours is ignored (RFC 6455 section 5.5.3); one
    /// that answers the latest of several answers them all. Returns what went out before that.
    pub(super) fn pong(&self, payload: &[u8]) -> Option<Covered> {
        let number = u64::from_be_bytes(payload.try_into().ok()?);
        self.answered(|ping| !ping.is_beat && ping.number == number)
    }

    /// An application-level answer came, which carries no number: it is for the oldest beat.
    pub(super) fn answer(&self) -> Option<Covered> {
        self.answered(|ping| ping.is_beat)
    }

    fn answered(&self, is_meant: impl Fn(&Ping) -> bool) -> Option<Covered> {
        let mut state = self.state();
        let index = state.out.iter().position(is_meant)?;
        let ping = state.out.drain(..=index).next_back()?;
        state.unanswered = state.out.len() as u64;
        state.answered = Some((ping.number, ping.sent.elapsed()));
        let confirmed = self.counters.unconfirmed.confirm(ping.covers.messages);
        self.counters.confirmed.fetch_add(confirmed, Relaxed);
        self.counters.unanswered_pings.store(state.unanswered, Relaxed);
        drop(state);
        self.changed.notify_all();
        // without our lock: this takes one of its own
        self.counters.round_trip(ping.sent.elapsed());
        Some(ping.covers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queues::terms::Tally;

    fn pings() -> (PingLedger, Arc<Counters>) {
        let counters = Arc::new(Counters::default());
        (PingLedger::new(Arc::clone(&counters)), counters)
    }

    fn covers(messages: u64, position: u64) -> Covered {
        Covered { messages, position }
    }

    #[test]
    fn a_pong_confirms_what_was_written_before_its_ping() {
        let (pings, counters) = pings();
        counters.unconfirmed.add(3);
        let ping = pings.sent(covers(3, 13), false);
        counters.unconfirmed.add(2);
        assert_eq!(counters.unconfirmed.count(), 5);
        assert_eq!(pings.pong(&ping), Some(covers(3, 13)));
        assert_eq!(counters.unconfirmed.count(), 2);
        assert_eq!(counters.unanswered_pings.load(Relaxed), 0);
        assert!(counters.of_session(&Tally::default()).last_round_trip.is_some());
    }

    #[test]
    fn the_latest_pong_answers_all_pings_before_it_and_strangers_nothing() {
        let (pings, counters) = pings();
        let first = pings.sent(covers(0, 0), false);
        let second = pings.sent(covers(0, 0), false);
        let third = pings.sent(covers(0, 0), false);
        pings.pong(b"hello");
        pings.pong(&99_u64.to_be_bytes());
        assert_eq!(counters.unanswered_pings.load(Relaxed), 3);
        pings.pong(&second);
        assert_eq!(counters.unanswered_pings.load(Relaxed), 1);
        pings.pong(&first);
        pings.pong(&third);
        assert_eq!(counters.unanswered_pings.load(Relaxed), 0);
    }

    #[test]
    fn a_peer_that_never_answers_costs_no_memory_and_is_counted() {
        let (pings, counters) = pings();
        for _ in 0..1000 {
            pings.sent(covers(0, 0), false);
        }
        assert_eq!(pings.state().out.len(), REMEMBERED);
        assert_eq!(counters.unanswered_pings.load(Relaxed), 1000);
    }
}

//! Which pings are out, and what their pongs prove.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tungstenite::Bytes;

use crate::stats::Counters;

/// How many unanswered pings are remembered; beyond that the oldest is only counted.
const REMEMBERED: usize = 64;

/// Numbers the pings of one link and matches them with their answers.
///
/// Pongs come in the order of the pings, so the answer to a ping proves that the peer's
/// endpoint has taken everything that was written before it.
#[derive(Debug)]
pub(super) struct Progress {
    state: Mutex<State>,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct State {
    pings: u64,
    out: VecDeque<Ping>,
    unanswered: u64,
    written: u64,
    confirmed: u64,
}

#[derive(Debug)]
struct Ping {
    number: u64,
    sent: Instant,
    /// How many messages were encoded before it.
    after: u64,
}

impl Progress {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        counters.unanswered_pings.store(0, Relaxed);
        counters.unconfirmed.store(0, Relaxed);
        Self { state: Mutex::default(), counters }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A ping goes out now, after `after` messages; returns the payload that it carries.
    pub(super) fn ping(&self, after: u64) -> Bytes {
        let mut state = self.state();
        state.pings += 1;
        state.unanswered += 1;
        let number = state.pings;
        if state.out.len() == REMEMBERED {
            state.out.pop_front();
        }
        state.out.push_back(Ping { number, sent: Instant::now(), after });
        self.counters.pings_sent.fetch_add(1, Relaxed);
        self.counters.unanswered_pings.store(state.unanswered, Relaxed);
        Bytes::copy_from_slice(&number.to_be_bytes())
    }

    /// A pong came. One that answers no ping of ours is ignored (RFC 6455 section 5.5.3); one
    /// that answers the latest of several answers them all.
    pub(super) fn pong(&self, payload: &[u8]) {
        let Ok(number) = payload.try_into().map(u64::from_be_bytes) else { return };
        let mut state = self.state();
        if let Some(index) = state.out.iter().position(|ping| ping.number == number) {
            self.answered(&mut state, index);
        }
    }

    /// An application-level answer came, which carries no number: it is for the oldest beat.
    pub(super) fn answer(&self) {
        let mut state = self.state();
        if !state.out.is_empty() {
            self.answered(&mut state, 0);
        }
    }

    fn answered(&self, state: &mut State, index: usize) {
        let Some(ping) = state.out.drain(..=index).next_back() else { return };
        state.unanswered = state.out.len() as u64;
        state.confirmed = state.confirmed.max(ping.after);
        self.counters.round_trip(ping.sent.elapsed());
        self.counters.unanswered_pings.store(state.unanswered, Relaxed);
        self.publish(state);
    }

    /// So many more messages were handed to the socket whole.
    pub(super) fn written(&self, messages: usize) {
        let mut state = self.state();
        state.written += messages as u64;
        self.publish(&state);
    }

    fn publish(&self, state: &State) {
        // a pong can be faster than the writer's bookkeeping
        let unconfirmed = state.written.saturating_sub(state.confirmed);
        self.counters.unconfirmed.store(unconfirmed, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress() -> (Progress, Arc<Counters>) {
        let counters = Arc::new(Counters::default());
        (Progress::new(Arc::clone(&counters)), counters)
    }

    #[test]
    fn a_pong_confirms_what_was_written_before_its_ping() {
        let (progress, counters) = progress();
        progress.written(3);
        let ping = progress.ping(3);
        progress.written(2);
        assert_eq!(counters.unconfirmed.load(Relaxed), 5);
        progress.pong(&ping);
        assert_eq!(counters.unconfirmed.load(Relaxed), 2);
        assert_eq!(counters.unanswered_pings.load(Relaxed), 0);
        assert!(counters.snapshot().last_round_trip.is_some());
    }

    #[test]
    fn the_latest_pong_answers_all_pings_before_it_and_strangers_nothing() {
        let (progress, counters) = progress();
        let first = progress.ping(0);
        let second = progress.ping(0);
        let third = progress.ping(0);
        progress.pong(b"hello");
        progress.pong(&99_u64.to_be_bytes());
        assert_eq!(counters.unanswered_pings.load(Relaxed), 3);
        progress.pong(&second);
        assert_eq!(counters.unanswered_pings.load(Relaxed), 1);
        progress.pong(&first);
        progress.pong(&third);
        assert_eq!(counters.unanswered_pings.load(Relaxed), 0);
    }

    #[test]
    fn a_peer_that_never_answers_costs_no_memory_and_is_counted() {
        let (progress, counters) = progress();
        for _ in 0..1000 {
            progress.ping(0);
        }
        assert_eq!(progress.state().out.len(), REMEMBERED);
        assert_eq!(counters.unanswered_pings.load(Relaxed), 1000);
    }
}

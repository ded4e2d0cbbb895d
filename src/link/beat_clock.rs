//! What the heartbeat has to do next: a pure step from what is seen of a link, without clocks of its own.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::liveness::{HELD_UP, Waiting};
use crate::policy::{Beat, Heartbeat};

/// The heartbeat waits for this part of the limit longer than the reader, whose timeout knows the
/// exact silence.
const SECOND_WATCH: u32 = 20;

/// A beat may be early by this part of the interval: the answer to the last one came a moment
/// after it, and waiting for that moment again would cost every beat another wake-up.
const EARLY: u32 = 64;

/// A reader that is late has this long to read what is there already, before a peer is given up.
const LAST_LOOK: Duration = Duration::from_millis(100);

/// How long a peer has to say something once the machine has slept: three intervals, within these.
/// One that was only held up gives it no less than the limit.
const GRACE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(5);

/// What is seen of a link at one moment.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) now: Instant,
    /// Whether the machine has slept since the last look.
    pub(super) slept: bool,
    pub(super) waiting: Waiting,
    /// For how long the peer has given no sign of life although somebody listened.
    pub(super) silence: Duration,
    /// For how long the oldest ping has had no answer, if there is one.
    pub(super) unanswered: Option<Duration>,
    /// Whether the program has looked at the round trips since the last beat.
    pub(super) is_looked_at: bool,
}

/// What is to be done; waiting, or declaring the peer dead, is the last of a step.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// The last beat had no answer until the next one was due.
    CountMiss,
    /// Ask the peer for a sign of life.
    Beat,
    /// The program has received nothing for so long: say so.
    SayStalled(Duration),
    /// See whether the peer has left a question unanswered for so long.
    SeekConfirmations(Duration),
    /// The peer has been silent for so long.
    Dead(Duration),
    Wait(Instant),
}

#[derive(Debug)]
pub(super) struct BeatClock {
    heartbeat: Arc<Heartbeat>,
    last_beat: Instant,
    /// Until when the last step said to wait.
    due: Instant,
    is_stall_said: bool,
    /// When the program was last seen to be slow to receive.
    busy_at: Option<Instant>,
    grace: Option<Grace>,
    /// Whether the reader was given its time to look.
    is_last_look: bool,
}

/// The peer is given time, although it may have been silent for the limit already: nobody has asked.
#[derive(Debug, Clone, Copy)]
struct Grace {
    since: Instant,
    time: Duration,
    /// Whether it has no more than that, even if the limit is longer.
    is_final: bool,
}

impl BeatClock {
    pub(super) fn new(heartbeat: Arc<Heartbeat>, born: Instant) -> Self {
        Self {
            heartbeat,
            last_beat: born,
            due: born,
            is_stall_said: false,
            busy_at: None,
            grace: None,
            is_last_look: false,
        }
    }

    /// From here on these are the beats. The last one counts for them, too.
    pub(super) fn change(&mut self, heartbeat: Arc<Heartbeat>) {
        self.heartbeat = heartbeat;
    }

    pub(super) fn step(&mut self, seen: &Seen) -> Vec<Action> {
        let heartbeat = Arc::clone(&self.heartbeat);
        let Heartbeat { interval, dead_after, beat, .. } = &*heartbeat;
        let (now, interval, mut actions) = (seen.now, *interval, Vec::new());
        let since = |time: Instant| now.saturating_duration_since(time);
        let seek = Action::SeekConfirmations(dead_after.saturating_mul(2));
        let Some(limit) = self.heartbeat.limit() else {
            // neither beats nor deaths, but a peer that does not confirm is still said to be one
            if matches!(seen.waiting, Waiting::ForPeer(_)) {
                actions.push(seek);
            }
            actions.push(Action::Wait(now + *dead_after));
            return actions;
        };
        let limit = limit + limit / SECOND_WATCH;
        let is_woken = seen.slept || since(self.due) >= HELD_UP;
        if is_woken {
            log::debug!(
                "the machine slept, or this process did: the peer gets time to say something"
            );
            let asks = heartbeat.asks();
            // one that is not asked speaks when it likes to
            let time =
                if asks { (interval * 3).clamp(*GRACE.start(), *GRACE.end()) } else { limit };
            let (time, is_final) = (time.min(limit), seen.slept && asks);
            self.grace = Some(Grace { since: now, time, is_final });
        }
        let (Waiting::ForPeer(quiet) | Waiting::ForProgram(quiet)) = seen.waiting;
        let is_about_due = |time: Duration| time + interval / EARLY >= interval;
        let mut wait = interval.saturating_sub(since(self.last_beat));
        // a busy link carries no pings, unless somebody looks at its round trips; a service's own
        // beats go out all the same, unless it wants them when idle
        if matches!(beat, Beat::Ping | Beat::Message { when_idle: true, .. })
            && !(is_about_due(since(self.last_beat)) && seen.is_looked_at)
        {
            wait = wait.max(interval.saturating_sub(quiet));
        }
        if is_woken || wait <= interval / EARLY {
            let is_missed = matches!(seen.waiting, Waiting::ForPeer(_))
                && is_about_due(quiet)
                && seen.unanswered.is_some_and(is_about_due);
            if is_missed && !is_woken {
                actions.push(Action::CountMiss);
            }
            // also while the program is to blame: the peer should see that somebody is here
            actions.push(Action::Beat);
            self.last_beat = now;
            wait = interval;
        }
        match seen.waiting {
            Waiting::ForProgram(time) => {
                // answers may have come, and lie unread
                self.busy_at = Some(now);
                if time >= interval && !self.is_stall_said {
                    self.is_stall_said = true;
                    actions.push(Action::SayStalled(time));
                }
            }
            Waiting::ForPeer(_) => {
                self.is_stall_said = false;
                let has_listened =
                    self.busy_at.is_none_or(|at| since(at) >= dead_after.saturating_mul(2));
                if !is_woken && quiet < *dead_after / 2 && has_listened {
                    actions.push(seek);
                }
                self.grace = self.grace.filter(|grace| seen.silence >= since(grace.since));
                let left = limit.saturating_sub(seen.silence);
                let left = self.grace.map_or(left, |grace| {
                    let granted = grace.time.saturating_sub(since(grace.since));
                    if grace.is_final { granted } else { granted.max(left) }
                });
                let is_last_look = left.is_zero();
                if is_last_look && self.is_last_look {
                    actions.push(Action::Dead(seen.silence));
                    return actions;
                }
                self.is_last_look = is_last_look;
                wait = wait.min(if is_last_look { LAST_LOOK } else { left });
            }
        }
        self.due = now + wait.max(Duration::from_millis(1));
        actions.push(Action::Wait(self.due));
        actions
    }
}

#[cfg(test)]
mod tests {
    use super::Action::{Beat, CountMiss, Dead, SayStalled, SeekConfirmations, Wait};
    use super::*;

    const fn ms(time: u64) -> Duration {
        Duration::from_millis(time)
    }

    /// Times are in milliseconds since the link began.
    struct Walk {
        clock: BeatClock,
        born: Instant,
    }

    impl Walk {
        fn new(heartbeat: &Heartbeat) -> Self {
            let born = Instant::now();
            let mut walk = Self { clock: BeatClock::new(Arc::new(heartbeat.clone()), born), born };
            walk.step(0, 0);
            walk
        }

        fn at(&self, time: u64) -> Instant {
            self.born + ms(time)
        }

        /// The reader has waited for the peer for `quiet`.
        fn seen(&self, time: u64, quiet: u64) -> Seen {
            let (now, silence) = (self.at(time), ms(quiet));
            let waiting = Waiting::ForPeer(silence);
            Seen { now, slept: false, waiting, silence, unanswered: None, is_looked_at: false }
        }

        fn step(&mut self, time: u64, quiet: u64) -> Vec<Action> {
            let seen = self.seen(time, quiet);
            self.clock.step(&seen)
        }
    }

    fn beats() -> Heartbeat {
        Heartbeat::every(ms(20_000)).dead_after(ms(30_000))
    }

    const SEEK: Action = SeekConfirmations(ms(60_000));

    #[test]
    fn a_silent_peer_is_asked_after_the_interval_and_dead_after_the_limit() {
        let heartbeat = beats();
        let mut walk = Walk::new(&heartbeat);
        assert_eq!(walk.step(0, 0), [SEEK, Wait(walk.at(20_000))]);
        assert_eq!(walk.step(20_000, 20_000), [Beat, Wait(walk.at(31_500))]);
        // the reader may be late, and bytes of the peer's unread
        assert_eq!(walk.step(31_500, 31_500), [Wait(walk.at(31_600))]);
        assert_eq!(walk.step(31_600, 31_600), [Dead(ms(31_600))]);
        let mut walk = Walk::new(&heartbeat);
        walk.step(20_000, 20_000);
        walk.step(31_500, 31_500);
        assert_eq!(walk.step(31_600, 50)[0], SEEK, "they were there");
        walk.step(51_600, 20_050);
        assert_eq!(walk.step(63_050, 31_500), [Wait(walk.at(63_150))], "and the same again");
    }

    #[test]
    fn an_answer_puts_the_next_beat_off() {
        let heartbeat = beats();
        let mut walk = Walk::new(&heartbeat);
        assert_eq!(walk.step(20_000, 20_000)[0], Beat);
        assert_eq!(walk.step(31_500, 11_400), [SEEK, Wait(walk.at(40_100))]);
        // a moment early, so that the answer to the last one costs no wake-up of its own
        assert_eq!(walk.step(40_000, 19_900)[0], Beat);
    }

    #[test]
    fn a_busy_link_is_asked_only_if_somebody_looks_at_its_round_trips() {
        let heartbeat = beats();
        let mut walk = Walk::new(&heartbeat);
        assert_eq!(walk.step(20_000, 1000), [SEEK, Wait(walk.at(39_000))]);
        let seen = Seen { is_looked_at: true, ..walk.seen(20_000, 1000) };
        assert_eq!(walk.clock.step(&seen), [Beat, SEEK, Wait(walk.at(40_000))]);
        let always = beats().always();
        assert_eq!(Walk::new(&always).step(20_000, 1000)[0], Beat);
    }

    #[test]
    fn a_beat_without_an_answer_is_a_miss_when_the_next_is_due() {
        let heartbeat = Heartbeat::every(ms(10_000)).dead_after(ms(50_000));
        let mut walk = Walk::new(&heartbeat);
        assert_eq!(walk.step(10_000, 10_000)[0], Beat);
        let seen = Seen { unanswered: Some(ms(10_000)), ..walk.seen(20_000, 20_000) };
        assert_eq!(walk.clock.step(&seen)[..2], [CountMiss, Beat]);
        // other things have come
        let seen = Seen { unanswered: Some(ms(20_000)), ..walk.seen(30_000, 500) };
        assert!(!walk.clock.step(&seen).contains(&CountMiss));
    }

    #[test]
    fn after_a_sleep_the_peer_is_asked_at_once_and_has_little_time() {
        let heartbeat = Heartbeat::every(ms(20_000)).dead_after(ms(7_200_000));
        let mut walk = Walk::new(&heartbeat);
        let seen = Seen { slept: true, ..walk.seen(1000, 1000) };
        assert_eq!(walk.clock.step(&seen), [Beat, Wait(walk.at(6000))]);
        assert_eq!(walk.step(6000, 6000).last(), Some(&Wait(walk.at(6100))));
        assert_eq!(walk.step(6100, 6100).last(), Some(&Dead(ms(6100))));
        let seen = Seen { slept: true, ..walk.seen(1000, 1000) };
        walk.clock.step(&seen);
        assert_eq!(walk.step(6000, 100).last(), Some(&Wait(walk.at(25_900))), "it has answered");
    }

    #[test]
    fn a_process_that_was_held_up_asks_before_it_believes_in_a_death() {
        let heartbeat = beats();
        let mut walk = Walk::new(&heartbeat);
        assert_eq!(walk.step(100_000, 100_000), [Beat, Wait(walk.at(105_000))]);
        assert_eq!(walk.step(105_000, 105_000), [Wait(walk.at(105_100))]);
        assert_eq!(walk.step(105_100, 105_100), [Dead(ms(105_100))]);
    }

    #[test]
    fn a_process_that_was_held_up_and_only_listens_waits_for_the_limit_once_more() {
        for slept in [false, true] {
            let listens = Heartbeat::listen(ms(30_000));
            let mut walk = Walk::new(&listens);
            let seen = Seen { slept, ..walk.seen(100_000, 100_000) };
            let due = walk.clock.step(&seen).pop();
            assert_eq!(due, Some(Wait(walk.at(110_000))), "when it would beat");
            walk.step(110_000, 110_000);
            walk.step(120_000, 120_000);
            walk.step(130_000, 130_000);
            assert_eq!(walk.step(131_500, 131_500).last(), Some(&Wait(walk.at(131_600))));
            assert_eq!(walk.step(131_600, 131_600).last(), Some(&Dead(ms(131_600))));
        }
    }

    #[test]
    fn while_the_program_is_busy_nobody_dies_and_that_is_said_once() {
        let heartbeat = beats();
        let mut walk = Walk::new(&heartbeat);
        let busy = |walk: &Walk, time: u64, since: u64| Seen {
            waiting: Waiting::ForProgram(ms(since)),
            silence: Duration::ZERO,
            ..walk.seen(time, 0)
        };
        let seen = busy(&walk, 20_000, 20_000);
        assert_eq!(walk.clock.step(&seen), [Beat, SayStalled(ms(20_000)), Wait(walk.at(40_000))]);
        let seen = busy(&walk, 40_000, 40_000);
        assert_eq!(walk.clock.step(&seen), [Beat, Wait(walk.at(60_000))]);
        // what has come meanwhile is read first
        assert_eq!(walk.step(60_000, 0), [Wait(walk.at(80_000))]);
        assert_eq!(walk.step(80_000, 0), [Wait(walk.at(100_000))]);
        assert_eq!(walk.step(100_000, 0)[0], SEEK);
        let seen = busy(&walk, 120_000, 20_000);
        assert!(walk.clock.step(&seen).contains(&SayStalled(ms(20_000))), "again");
    }

    #[test]
    fn without_a_heartbeat_only_confirmations_are_looked_for() {
        let heartbeat = Heartbeat::off();
        let mut walk = Walk::new(&heartbeat);
        assert_eq!(walk.step(30_000, 30_000), [SEEK, Wait(walk.at(60_000))]);
        assert_eq!(walk.step(1_000_000, 1_000_000), [SEEK, Wait(walk.at(1_030_000))]);
    }
}

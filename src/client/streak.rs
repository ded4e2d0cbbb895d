//! Failures in a row, and what they have to do with the wait before the next attempt.

use std::time::{Duration, Instant};

use crate::failure::Failure;

/// What has happened since the last link that stayed up.
#[derive(Debug, Default)]
pub(super) struct FailureStreak {
    /// Attempts in a row that led to no stable link.
    failed: u32,
    /// Redials in a row.
    retries: u32,
    /// When it began: with the death of a link that had stayed up, or the first failed attempt.
    began: Option<Instant>,
    /// Whether it began with a link that had stayed up.
    is_of_stable: bool,
}

impl FailureStreak {
    /// It begins with the death of a link that had stayed up.
    pub(super) fn of_stable_link(died: Instant) -> Self {
        Self { began: Some(died), is_of_stable: true, ..Self::default() }
    }

    /// An attempt has failed, or an unstable link died.
    pub(super) fn fail(&mut self, at: Instant) {
        self.failed += 1;
        self.began.get_or_insert(at);
    }

    pub(super) fn failed(&self) -> u32 {
        self.failed
    }

    /// Whether it began with a link that had stayed up.
    pub(super) fn is_of_stable_link(&self) -> bool {
        self.is_of_stable
    }

    /// A redial follows. Returns which it is, and how long the outage has lasted by then.
    pub(super) fn retry(&mut self, at: Instant) -> (u32, Duration) {
        self.retries += 1;
        let outage = self.began.map(|began| at.saturating_duration_since(began));
        (self.retries, outage.unwrap_or_default())
    }
}

/// The bounds of the random time that is added to a server's `Retry-After`.
const SPREAD: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Adds up to half of it to a wait that the server has asked for: it asks all of its clients for the
/// same. A wait that the program has decided on stays as it is.
pub(super) fn spread(wait: Duration, cause: &Failure) -> Duration {
    match cause {
        Failure::Rejected { waits: Some(asked), .. } if *asked == wait => {
            wait + (wait / 2).clamp(SPREAD.0, SPREAD.1).mul_f64(fastrand::f64())
        }
        _ => wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Body;

    fn asked_to_wait(seconds: u64) -> Failure {
        let wait = Some(Duration::from_secs(seconds));
        Failure::Rejected {
            status: http::StatusCode::SERVICE_UNAVAILABLE,
            headers: Box::default(),
            retry_after: wait,
            waits: wait,
            body: Body::default(),
        }
    }

    #[test]
    fn nobody_comes_before_the_time_and_a_herd_comes_spread_out() {
        for (seconds, window) in [(0, 1.0), (1, 1.0), (10, 5.0), (300, 30.0)] {
            let wait = Duration::from_secs(seconds);
            let cause = asked_to_wait(seconds);
            let late: Vec<f64> =
                (0..1000).map(|_| (spread(wait, &cause) - wait).as_secs_f64()).collect();
            assert!(late.iter().all(|late| (0.0..=window).contains(late)), "after {seconds} s");
            for tenth in 0..10 {
                let (from, to) =
                    (f64::from(tenth) * window / 10.0, f64::from(tenth + 1) * window / 10.0);
                let hits = late.iter().filter(|late| (from..to).contains(*late)).count();
                // 100 expected, standard deviation 9.5
                assert!((50..150).contains(&hits), "{hits} in tenth {tenth} after {seconds} s");
            }
        }
    }

    #[test]
    fn what_the_program_decides_is_kept() {
        let wait = Duration::from_secs(7);
        assert_eq!(spread(wait, &Failure::ClosedAbnormally), wait);
        assert_eq!(spread(wait, &asked_to_wait(3)), wait);
    }

    #[test]
    fn an_outage_lasts_from_the_first_failure_on() {
        let (first, second) = (Instant::now(), Instant::now() + Duration::from_secs(3));
        let mut streak = FailureStreak::default();
        assert_eq!(streak.retry(first), (1, Duration::ZERO));
        streak.fail(first);
        streak.fail(second);
        assert_eq!(streak.retry(second), (2, second - first));
    }
}

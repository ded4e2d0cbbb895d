//! How long round trips took lately.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Half the window: it slides by as much.
const HALF: Duration = Duration::from_secs(300);

/// Half the window too, for a connection that asks all the time: a count must not overflow.
const HALF_COUNT: u64 = u16::MAX as u64;

/// A longer round trip counts as one of this length.
const LONGEST_MICROS: u64 = 600_000_000;

/// Values are told apart to one significant digit, which takes 0.7 KiB where round trips take
/// 30 ms; two digits would take eight times that, on each connection.
const DIGITS: u8 = 1;

/// The round trips of the last five to ten minutes, from a ping (or a beat of the application) to
/// its answer, over all links. Times are within 3.2 %, but for the shortest, which are within a
/// microsecond.
///
/// A connection that is asked more than 65,535 times in five minutes forgets sooner: it knows its
/// last 65,535 round trips, and up to as many before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct RoundTrips {
    /// How many there were.
    pub count: u64,
    /// Half of them were no longer than this.
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds"))]
    pub p50: Duration,
    /// Nine of ten were no longer than this.
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds"))]
    pub p90: Duration,
    /// Ninety-nine of a hundred were no longer than this.
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds"))]
    pub p99: Duration,
    /// The longest.
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds"))]
    pub max: Duration,
}

/// Two histograms of half a window each: when the younger one is as old as that, it takes the place
/// of the other. Besides, the last round trip, and the sum of all.
#[derive(Debug, Default)]
pub(super) struct Window {
    last: Option<Duration>,
    sum: Duration,
    count: u32,
    /// Made with the first round trip.
    younger: Option<Half>,
    older: Option<Half>,
}

#[derive(Debug)]
struct Half {
    since: Instant,
    histogram: Histogram<u16>,
}

impl Window {
    pub(super) fn record(&mut self, round_trip: Duration, now: Instant) {
        self.slide(now);
        self.last = Some(round_trip);
        self.sum = self.sum.saturating_add(round_trip);
        self.count = self.count.saturating_add(1);
        let micros = u64::try_from(round_trip.as_micros()).unwrap_or(LONGEST_MICROS);
        if self.younger.is_none() {
            // it grows with what it is given
            let Ok(mut histogram) = Histogram::new(DIGITS) else { return };
            histogram.auto(true);
            self.younger = Some(Half { since: now, histogram });
        }
        if let Some(half) = &mut self.younger {
            // never an error: it grows up to the longest
            let _ = half.histogram.record(micros.min(LONGEST_MICROS));
        }
    }

    /// Forgets what is too old.
    fn slide(&mut self, now: Instant) {
        let age = |half: &Half| now.saturating_duration_since(half.since);
        if let Some(half) = &self.younger {
            if age(half) >= HALF || half.histogram.len() >= HALF_COUNT {
                self.older = self.younger.take();
            }
        }
        if self.older.as_ref().is_some_and(|half| age(half) >= 2 * HALF) {
            self.older = None;
        }
    }

    /// The last one, the mean of all, and those of the window.
    pub(super) fn read(&mut self) -> (Option<Duration>, Option<Duration>, Option<RoundTrips>) {
        (self.last, self.sum.checked_div(self.count), self.summary(Instant::now()))
    }

    fn summary(&mut self, now: Instant) -> Option<RoundTrips> {
        self.slide(now);
        let halves = [&self.younger, &self.older].into_iter().flatten();
        let mut whole: Option<Histogram<u32>> = None;
        for half in halves {
            let Ok(empty) = Histogram::new(DIGITS) else { return None };
            let whole = whole.get_or_insert(empty);
            whole.auto(true);
            for value in half.histogram.iter_recorded() {
                let count = u32::from(value.count_at_value());
                whole.record_n(value.value_iterated_to(), count).ok()?;
            }
        }
        let whole = whole?;
        let middle = |micros| Duration::from_micros(whole.median_equivalent(micros));
        let at = |quantile| middle(whole.value_at_quantile(quantile));
        Some(RoundTrips {
            count: whole.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            max: middle(whole.max()),
        })
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        let halves = [&self.younger, &self.older].into_iter().flatten();
        halves.map(|half| half.histogram.distinct_values() * size_of::<u16>()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn is_near(measured: Duration, truth: Duration) -> bool {
        measured.abs_diff(truth) <= truth.mul_f64(0.032)
    }

    #[test]
    fn percentiles_are_as_near_as_is_said() {
        let (mut window, now) = (Window::default(), Instant::now());
        for micros in 1..=10_000 {
            window.record(Duration::from_micros(micros * 37), now);
        }
        let trips = window.summary(now).unwrap();
        assert_eq!(trips.count, 10_000);
        let expected = [(trips.p50, 185), (trips.p90, 333), (trips.p99, 366), (trips.max, 370)];
        for (measured, truth) in expected {
            assert!(is_near(measured, ms(truth)), "{trips:?}");
        }
        // each time by itself, from the shortest on
        for micros in (1..=100).chain((100..300_000).step_by(61)) {
            let (mut window, truth) = (Window::default(), Duration::from_micros(micros));
            window.record(truth, now);
            let max = window.summary(now).unwrap().max;
            assert!(
                is_near(max, truth) || max.abs_diff(truth) <= Duration::from_micros(1),
                "{max:?} {truth:?}"
            );
        }
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let (mut window, start) = (Window::default(), Instant::now());
        assert_eq!(window.summary(start), None);
        for second in 0..3600 {
            let slow = if second < 1800 { ms(500) } else { ms(5) };
            window.record(slow, start + Duration::from_secs(second));
        }
        let end = start + Duration::from_secs(3600);
        let trips = window.summary(end).unwrap();
        assert!(is_near(trips.max, ms(5)), "{trips:?}");
        assert!((300..=600).contains(&trips.count), "{trips:?}");
        assert_eq!(window.summary(end + 3 * HALF), None);
    }

    #[test]
    fn a_flood_of_answers_overflows_no_count() {
        let (mut window, now) = (Window::default(), Instant::now());
        for _ in 0..300_000 {
            window.record(ms(1), now);
        }
        window.record(ms(900), now);
        let trips = window.summary(now).unwrap();
        assert!(trips.count >= HALF_COUNT && is_near(trips.max, ms(900)), "{trips:?}");
    }

    #[test]
    fn it_is_small_whatever_it_is_given() {
        let (mut window, start) = (Window::default(), Instant::now());
        for second in 0..700 {
            window.record(ms(20 + second % 20), start + Duration::from_secs(second));
        }
        assert!(window.bytes() <= 1024, "{} bytes", window.bytes());
        window.record(Duration::MAX, start + Duration::from_secs(701));
        assert!(window.bytes() <= 2048, "{} bytes", window.bytes());
    }
}

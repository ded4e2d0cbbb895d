//! What travels in a second.

use std::time::Duration;

/// How much a count has grown in each second of this time; zero if none has passed.
pub(super) fn per_second(now: u64, then: u64, time: Duration) -> f64 {
    if time == Duration::ZERO {
        return 0.0;
    }
    now.saturating_sub(then) as f64 / time.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::stats::{ClientStats, Rates};

    #[test]
    fn rates_are_what_was_counted_over_the_time_between() {
        let second = Duration::from_secs(1);
        let earlier = ClientStats { age: 3 * second, messages_sent: 10, ..ClientStats::default() };
        let later = ClientStats {
            age: 5 * second,
            messages_sent: 30,
            bytes_received: 7,
            ..ClientStats::default()
        };
        let rates = later.rates_since(&earlier);
        assert_eq!((rates.messages_sent, rates.bytes_received), (10.0, 3.5));
        assert_eq!(later.rates_since(&later), Rates::default());
        assert_eq!(earlier.rates_since(&later), Rates::default());
        assert_eq!(later.rates_since(&ClientStats::default()).messages_sent, 6.0);
    }
}

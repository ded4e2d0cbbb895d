//! How often connections are opened from one network.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::subnet::Subnet;

/// As many networks are remembered. Beyond that, new ones are let in as they come: a crowd of that size
/// is no business of a limit for each.
const MOST: usize = 1 << 16;

/// So many openings in each period from one network, as a bucket that fills evenly. Of a network
/// the moment is remembered at which its bucket will be full again.
#[derive(Debug)]
pub(super) struct OpeningRate {
    /// How long one opening takes to be forgotten.
    each: Duration,
    period: Duration,
    full_at: HashMap<Subnet, Instant>,
    /// When those whose bucket is full are forgotten.
    sweep_at: Instant,
}

impl OpeningRate {
    pub(super) fn new(count: u32, period: Duration) -> Self {
        let (each, full_at) = (period / count.max(1), HashMap::new());
        Self { each, period, full_at, sweep_at: Instant::now() + period }
    }

    /// Whether one more may come at this moment; it is counted if it may.
    pub(super) fn admits(&mut self, network: Subnet, now: Instant) -> bool {
        if now >= self.sweep_at {
            self.full_at.retain(|_, full_at| *full_at > now);
            self.sweep_at = now + self.period;
        }
        let known = self.full_at.get(&network).copied();
        if known.is_none() && self.full_at.len() >= MOST {
            return true;
        }
        let full_at = known.map_or(now, |at| at.max(now)) + self.each;
        if full_at.saturating_duration_since(now) > self.period {
            return false;
        }
        self.full_at.insert(network, full_at);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn network(number: u32) -> Subnet {
        Subnet::of(Ipv4Addr::from(number).into())
    }

    #[test]
    fn so_many_come_at_once_and_then_one_after_the_other() {
        let mut rate = OpeningRate::new(5, Duration::from_secs(1));
        let mut now = Instant::now();
        let burst = |rate: &mut OpeningRate, now| {
            std::iter::repeat_with(|| rate.admits(network(1), now)).take_while(|it| *it).count()
        };
        assert_eq!(burst(&mut rate, now), 5);
        assert!(rate.admits(network(2), now), "others have a bucket of their own");
        for _ in 0..10 {
            now += Duration::from_millis(200);
            assert_eq!(burst(&mut rate, now), 1);
        }
        now += Duration::from_secs(60);
        assert_eq!(burst(&mut rate, now), 5);
    }

    #[test]
    fn strangers_do_not_make_the_table_grow_without_end() {
        let mut rate = OpeningRate::new(1, Duration::from_secs(1));
        let mut now = Instant::now();
        for number in 0..3 * MOST as u32 {
            assert!(rate.admits(network(number), now));
        }
        assert!(rate.full_at.len() <= MOST);
        assert!(!rate.admits(network(1), now), "those that are known are still bounded");
        now += Duration::from_secs(2);
        assert!(rate.admits(network(1), now));
        assert!(rate.full_at.len() < 2, "{}", rate.full_at.len());
    }
}

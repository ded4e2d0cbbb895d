//! How fast the peer sends, beside how fast it may.

use std::time::{Duration, Instant};

use super::receive_rate::{Excess, ReceiveRate};

/// So much may come at once.
const BURST: Duration = Duration::from_secs(1);

/// Two buckets that fill evenly. Of each the moment is known at which it is full again.
#[derive(Debug)]
pub(crate) struct RateMeter {
    rate: ReceiveRate,
    messages_full_at: Instant,
    bytes_full_at: Instant,
}

impl RateMeter {
    pub(crate) fn new(rate: ReceiveRate, now: Instant) -> Self {
        Self { rate, messages_full_at: now, bytes_full_at: now }
    }

    /// Whether it is closed when it is too fast.
    pub(crate) fn closes(&self) -> bool {
        self.rate.excess.unwrap_or_default() == Excess::Close
    }

    /// The most to be read at once, so that no wait for it is longer than a second.
    pub(crate) fn most(&self) -> usize {
        self.rate.bytes.map_or(usize::MAX, |bytes| bytes as usize)
    }

    pub(crate) fn message(&mut self) {
        self.message_at(Instant::now());
    }

    fn message_at(&mut self, now: Instant) {
        if let Some(rate) = self.rate.messages {
            let one = BURST / rate;
            self.messages_full_at = self.messages_full_at.max(now) + one;
        }
    }

    pub(crate) fn bytes(&mut self, count: usize) {
        self.bytes_at(count, Instant::now());
    }

    fn bytes_at(&mut self, count: usize, now: Instant) {
        if let Some(rate) = self.rate.bytes {
            let these = BURST.mul_f64(count as f64 / f64::from(rate));
            self.bytes_full_at = self.bytes_full_at.max(now) + these;
        }
    }

    /// How long it has to be read no further, if it was too fast.
    pub(crate) fn excess(&self) -> Option<Duration> {
        self.excess_at(Instant::now())
    }

    fn excess_at(&self, now: Instant) -> Option<Duration> {
        let full_at = self.messages_full_at.max(self.bytes_full_at);
        let excess = full_at.saturating_duration_since(now).saturating_sub(BURST);
        (!excess.is_zero()).then_some(excess)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seconds_worth_may_come_at_once() {
        let now = Instant::now();
        let mut meter = RateMeter::new(ReceiveRate::new().messages(10).bytes(1000), now);
        (0..10).for_each(|_| meter.message_at(now));
        meter.bytes_at(1000, now);
        assert_eq!(meter.excess_at(now), None);
        meter.message_at(now);
        assert_eq!(meter.excess_at(now), Some(Duration::from_millis(100)));
        meter.bytes_at(500, now);
        assert_eq!(meter.excess_at(now), Some(Duration::from_millis(500)));
        let later = now + Duration::from_millis(500);
        assert_eq!(meter.excess_at(later), None);
        // a long silence is worth no more
        let later = now + Duration::from_secs(60);
        meter.bytes_at(1001, later);
        assert_eq!(meter.excess_at(later), Some(Duration::from_millis(1)));
    }
}

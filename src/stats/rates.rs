//! What travels in a second.

use std::time::Duration;

use super::Stats;

/// What has travelled in each second between two snapshots, from [`Stats::rates_since`].
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct Rates {
    /// Messages handed to the socket.
    pub messages_sent: f64,
    /// Bytes of payload handed to the socket.
    pub bytes_sent: f64,
    /// Messages received.
    pub messages_received: f64,
    /// Bytes of payload received.
    pub bytes_received: f64,
}

impl Stats {
    /// Messages and bytes for each second since an earlier snapshot of the same client or session;
    /// zero if no time has passed. With [`Stats::default`] it is since the beginning.
    ///
    /// ```no_run
    /// # let client = everlink::Client::connect("ws://localhost:9001")?;
    /// let before = client.stats();
    /// client.recv_timeout(std::time::Duration::from_secs(1))?;
    /// println!("{:.1} messages/s", client.stats().rates_since(&before).messages_received);
    /// # Ok::<(), everlink::Error>(())
    /// ```
    pub fn rates_since(&self, earlier: &Self) -> Rates {
        let time = self.age.saturating_sub(earlier.age);
        let rate = |now: u64, then: u64| {
            if time == Duration::ZERO {
                return 0.0;
            }
            now.saturating_sub(then) as f64 / time.as_secs_f64()
        };
        Rates {
            messages_sent: rate(self.messages_sent, earlier.messages_sent),
            bytes_sent: rate(self.bytes_sent, earlier.bytes_sent),
            messages_received: rate(self.messages_received, earlier.messages_received),
            bytes_received: rate(self.bytes_received, earlier.bytes_received),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_what_was_counted_over_the_time_between() {
        let second = Duration::from_secs(1);
        let earlier = Stats { age: 3 * second, messages_sent: 10, ..Stats::default() };
        let later =
            Stats { age: 5 * second, messages_sent: 30, bytes_received: 7, ..Stats::default() };
        let rates = later.rates_since(&earlier);
        assert_eq!((rates.messages_sent, rates.bytes_received), (10.0, 3.5));
        assert_eq!(later.rates_since(&later), Rates::default());
        assert_eq!(earlier.rates_since(&later), Rates::default());
        assert_eq!(later.rates_since(&Stats::default()).messages_sent, 6.0);
    }
}

//! How long to wait before a redial.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long to wait before each redial.
///
/// The default is [`Backoff::exponential`]: 1 s, doubling, at most 30 s, with full jitter, so
/// that thousands of clients that lose the same server come back spread over the whole window.
/// The row starts anew once a link has stayed up for
/// [`stable_after`](crate::Builder::stable_after).
///
/// ```
/// use std::time::Duration;
/// use everlink::Backoff;
///
/// // 1 s, 2 s, 4 s, ... 30 s, each a random share of that
/// let default = Backoff::exponential();
/// // three seconds, always
/// let fixed = Backoff::fixed(Duration::from_secs(3));
/// // at once the first time, then every ten seconds
/// let own = Backoff::custom(|retry| Duration::from_secs(if retry == 1 { 0 } else { 10 }));
/// # let _ = (default, fixed, own);
/// ```
#[derive(Clone)]
pub struct Backoff(Kind);

#[derive(Clone)]
enum Kind {
    Exponential { initial: Duration, max: Duration, jitter: bool },
    Fixed(Duration),
    Custom(Arc<dyn Fn(u32) -> Duration + Send + Sync>),
}

impl Backoff {
    /// 1 s, doubling with each retry, at most 30 s, with full jitter.
    #[must_use]
    pub fn exponential() -> Self {
        Self(Kind::Exponential {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(30),
            jitter: true,
        })
    }

    /// Always the same delay, without jitter. Zero redials at once.
    #[must_use]
    pub fn fixed(delay: Duration) -> Self {
        Self(Kind::Fixed(delay))
    }

    /// A delay of the program's own. The closure gets the number of the retry, counted from 1
    /// since the last stable link, and runs on the manager thread.
    #[must_use]
    pub fn custom(delay: impl Fn(u32) -> Duration + Send + Sync + 'static) -> Self {
        Self(Kind::Custom(Arc::new(delay)))
    }

    /// The delay before the first retry; exponential only. Default 1 s.
    #[must_use]
    pub fn initial(mut self, delay: Duration) -> Self {
        if let Kind::Exponential { initial, .. } = &mut self.0 {
            *initial = delay;
        }
        self
    }

    /// The longest delay; exponential only. Default 30 s.
    #[must_use]
    pub fn max(mut self, delay: Duration) -> Self {
        if let Kind::Exponential { max, .. } = &mut self.0 {
            *max = delay;
        }
        self
    }

    /// Whether each delay is drawn at random between zero and its full length; exponential
    /// only. Default true.
    #[must_use]
    pub fn jitter(mut self, on: bool) -> Self {
        if let Kind::Exponential { jitter, .. } = &mut self.0 {
            *jitter = on;
        }
        self
    }

    /// The delay before retry number `retry`, counted from 1.
    pub(crate) fn delay(&self, retry: u32) -> Duration {
        match &self.0 {
            Kind::Exponential { initial, max, jitter } => {
                let doublings = retry.saturating_sub(1).min(31);
                let full = initial.saturating_mul(1 << doublings).min(*max);
                if *jitter { full.mul_f64(fastrand::f64()) } else { full }
            }
            Kind::Fixed(delay) => *delay,
            Kind::Custom(delay) => delay(retry),
        }
    }

    /// What is wrong with the values, if anything is.
    pub(crate) fn check(&self) -> Result<(), String> {
        let longest = match &self.0 {
            Kind::Exponential { initial, .. } if initial.is_zero() => {
                return Err("a doubled zero stays zero; use Backoff::fixed for no delay".into());
            }
            Kind::Exponential { initial, max, .. } if initial > max => {
                return Err(format!("the first delay {initial:?} is over the longest {max:?}"));
            }
            Kind::Exponential { max, .. } => *max,
            Kind::Fixed(delay) => *delay,
            Kind::Custom(_) => Duration::ZERO,
        };
        if longest > super::MAX_DURATION {
            return Err(format!("{longest:?} is over the limit of {:?}", super::MAX_DURATION));
        }
        Ok(())
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::exponential()
    }
}

impl fmt::Debug for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Exponential { initial, max, jitter } => f
                .debug_struct("Exponential")
                .field("initial", initial)
                .field("max", max)
                .field("jitter", jitter)
                .finish(),
            Kind::Fixed(delay) => f.debug_tuple("Fixed").field(delay).finish(),
            Kind::Custom(_) => f.write_str("Custom"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn doubles_up_to_the_longest() {
        let backoff = Backoff::exponential().jitter(false);
        let seconds: Vec<u64> = (1..=8).map(|retry| backoff.delay(retry).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30, 30]);
    }

    #[test]
    fn full_jitter_uses_the_whole_window() {
        let backoff = Backoff::exponential().initial(Duration::from_secs(8));
        let delays: Vec<f64> = (0..2000).map(|_| backoff.delay(1).as_secs_f64()).collect();
        for eighth in 0..8 {
            let inside = |delay: &&f64| (eighth as f64..(eighth + 1) as f64).contains(*delay);
            let hits = delays.iter().filter(inside).count();
            // 250 expected, standard deviation 15
            assert!((150..350).contains(&hits), "{hits} delays in second {eighth}");
        }
    }

    #[test]
    fn senseless_values_are_refused() {
        let second = Duration::from_secs(1);
        assert!(Backoff::exponential().initial(Duration::ZERO).check().is_err());
        assert!(Backoff::exponential().initial(2 * second).max(second).check().is_err());
        assert!(Backoff::fixed(Duration::MAX).check().is_err());
        assert!(Backoff::fixed(Duration::ZERO).check().is_ok());
    }

    proptest! {
        #[test]
        fn never_over_the_longest_and_never_a_panic(
            retry in any::<u32>(), initial in 1..u64::MAX / 2, max in 1..u64::MAX / 2
        ) {
            let max = Duration::from_millis(max);
            let backoff = Backoff::exponential().initial(Duration::from_millis(initial)).max(max);
            prop_assert!(backoff.delay(retry) <= max);
        }
    }
}

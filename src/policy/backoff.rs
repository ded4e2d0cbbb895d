//! How long to wait before a redial.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::durations::not_too_long;

/// How long to wait before each redial.
///
/// The default is [`Backoff::exponential`]: 1 s, doubling, at most 30 s, with full jitter, so
/// that thousands of clients that lose the same server come back spread over the whole window.
/// The delays start anew once a link has stayed up for
/// [`stable_after`](crate::ClientBuilder::stable_after).
///
/// No delay of it is longer than the first one and the outage so far together. Without jitter that
/// changes nothing; with it, nobody who happens to draw short delays is at the long ones at once,
/// and **no client is away for longer than twice the outage and the first delay**. A thousand
/// clients that lose their server at the same moment, simulated with the default:
///
/// | outage | back after: half of them | 99 % | all | attempts each: mean, most | most attempts in 100 ms |
/// | --- | --- | --- | --- | --- | --- |
/// | 0.5 s | 0.8 s | 1.8 s | 1.9 s | 1.7, 5 | 167 |
/// | 3 s | 3.9 s | 6.5 s | 6.9 s | 4.2, 8 | 212 |
/// | 10 s | 12.6 s | 19.5 s | 20.7 s | 6.8, 12 | 219 |
/// | 60 s | 69.3 s | 87.3 s | 89.9 s | 11.6, 18 | 212 |
/// | 600 s | 608.4 s | 627.0 s | 628.7 s | 47.5, 62 | 191 |
///
/// ```
/// use std::time::Duration;
/// use everlink::config::Backoff;
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
pub struct Backoff {
    kind: BackoffKind,
    /// The delay before the first retry after a stable link, if that has one of its own.
    first: Option<Duration>,
    /// An option that this kind does not have.
    misplaced: Option<&'static str>,
}

/// How much of a delay is left to chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Jitter {
    /// Each delay is drawn at random between zero and its full length (the default).
    #[default]
    Full,
    /// Each delay has its full length: clients that lose the same server come back together.
    None,
}

#[derive(Clone)]
enum BackoffKind {
    Exponential { initial: Duration, max: Duration, jitter: Jitter },
    Fixed(Duration),
    Custom(Arc<dyn Fn(u32) -> Duration + Send + Sync>),
}

impl Backoff {
    /// 1 s, doubling with each retry, at most 30 s, with full jitter.
    #[must_use]
    pub fn exponential() -> Self {
        let (initial, max) = (Duration::from_secs(1), Duration::from_secs(30));
        Self::new(BackoffKind::Exponential { initial, max, jitter: Jitter::Full })
    }

    /// Always the same delay, without jitter. Zero redials at once.
    #[must_use]
    pub fn fixed(delay: Duration) -> Self {
        Self::new(BackoffKind::Fixed(delay))
    }

    /// A delay of the program's own. The closure gets the number of the retry, counted from 1
    /// since the last stable link, and runs on the manager thread.
    #[must_use]
    pub fn custom(delay: impl Fn(u32) -> Duration + Send + Sync + 'static) -> Self {
        Self::new(BackoffKind::Custom(Arc::new(delay)))
    }

    fn new(kind: BackoffKind) -> Self {
        Self { kind, first: None, misplaced: None }
    }

    /// The delay before the first redial after a link that had stayed up for
    /// [`stable_after`](crate::ClientBuilder::stable_after) was lost; the others follow as if it had not
    /// been. Zero redials at once: most links are lost alone, by a network that changes or a proxy that
    /// was restarted, and come back at the first attempt (SignalR and Phoenix begin so, too). Default: the
    /// same delays for all.
    ///
    /// An attempt that has failed, and a link that died young, are not redialed so: a server that accepts
    /// and hangs up would be dialed without a pause. The jitter holds for it, too; with zero all clients of a
    /// server that restarts come back at the same moment. What the server asks for with `Retry-After` goes
    /// before it. Refused at the start with a custom delay, which knows the number of the retry.
    ///
    /// ```
    /// use std::time::Duration;
    /// use everlink::config::Backoff;
    ///
    /// // at once, then within 1 s, 2 s, 4 s and so on
    /// let backoff = Backoff::exponential().first(Duration::ZERO);
    /// # let _ = backoff;
    /// ```
    #[must_use]
    pub fn first(mut self, delay: Duration) -> Self {
        if self.is_custom() {
            self.misplaced = Some("first");
        }
        self.first = Some(delay);
        self
    }

    /// The delay before the first retry; exponential only, refused at the start elsewhere. Default
    /// 1 s.
    #[must_use]
    pub fn initial(self, delay: Duration) -> Self {
        self.with("initial", |initial, _, _| *initial = delay)
    }

    /// The longest delay, the first one included; exponential only, refused at the start elsewhere.
    /// Default 30 s.
    #[must_use]
    pub fn max(self, delay: Duration) -> Self {
        self.with("max", |_, max, _| *max = delay)
    }

    /// How much of each delay is left to chance; exponential only, refused at the start elsewhere.
    /// Default [`Jitter::Full`].
    #[must_use]
    pub fn jitter(self, jitter: Jitter) -> Self {
        self.with("jitter", |_, _, of| *of = jitter)
    }

    fn with(
        mut self,
        option: &'static str,
        set: impl FnOnce(&mut Duration, &mut Duration, &mut Jitter),
    ) -> Self {
        match &mut self.kind {
            BackoffKind::Exponential { initial, max, jitter } => set(initial, max, jitter),
            BackoffKind::Fixed(_) | BackoffKind::Custom(_) => self.misplaced = Some(option),
        }
        self
    }

    /// The delay before retry number `retry`, counted from 1, since the loss of a stable link, after so long
    /// an outage.
    pub(crate) fn delay_after_loss(&self, retry: u32, outage: Duration) -> Duration {
        match (self.first, &self.kind) {
            (None, _) => self.delay(retry, outage),
            (Some(first), BackoffKind::Exponential { jitter: Jitter::Full, .. }) if retry <= 1 => {
                first.mul_f64(fastrand::f64())
            }
            (Some(first), _) if retry <= 1 => first,
            (Some(_), _) => self.delay(retry - 1, outage),
        }
    }

    /// The delay before retry number `retry`, counted from 1, after so long an outage.
    pub(crate) fn delay(&self, retry: u32, outage: Duration) -> Duration {
        match &self.kind {
            BackoffKind::Exponential { initial, max, jitter } => {
                let first = *initial.min(max);
                let doublings = retry.saturating_sub(1).min(31);
                let doubled = initial.saturating_mul(1 << doublings).min(*max);
                let full = doubled.min(first.saturating_add(outage));
                match jitter {
                    Jitter::Full => full.mul_f64(fastrand::f64()),
                    Jitter::None => full,
                }
            }
            BackoffKind::Fixed(delay) => *delay,
            BackoffKind::Custom(delay) => delay(retry),
        }
    }

    /// Whether it is the program's.
    pub(crate) fn is_custom(&self) -> bool {
        matches!(self.kind, BackoffKind::Custom(_))
    }

    /// What is wrong with the values, if anything is.
    pub(crate) fn check(&self) -> Result<(), String> {
        if let Some(option) = self.misplaced {
            let kind = if matches!(self.kind, BackoffKind::Fixed(_)) { "fixed" } else { "custom" };
            return Err(format!("{option}() can have no effect on a {kind} delay"));
        }
        let longest = match &self.kind {
            BackoffKind::Exponential { initial, max, .. } if initial.is_zero() || max.is_zero() => {
                return Err("every delay is zero; use Backoff::fixed for no delay".into());
            }
            BackoffKind::Exponential { initial, max, .. } => *initial.max(max),
            BackoffKind::Fixed(delay) => *delay,
            BackoffKind::Custom(_) => Duration::ZERO,
        };
        not_too_long(longest.max(self.first.unwrap_or_default()))
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::exponential()
    }
}

impl fmt::Debug for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            BackoffKind::Exponential { initial, max, jitter } => f
                .debug_struct("Exponential")
                .field("first", &self.first)
                .field("initial", initial)
                .field("max", max)
                .field("jitter", jitter)
                .finish(),
            BackoffKind::Fixed(delay) => {
                f.debug_struct("Fixed").field("first", &self.first).field("delay", delay).finish()
            }
            BackoffKind::Custom(_) => f.write_str("Custom"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn doubles_up_to_the_longest() {
        let backoff = Backoff::exponential().jitter(Jitter::None);
        let mut outage = Duration::ZERO;
        let mut next = |retry| {
            let delay = backoff.delay(retry, outage);
            outage += delay;
            delay.as_secs()
        };
        let seconds: Vec<u64> = (1..=8).map(&mut next).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30, 30]);
    }

    #[test]
    fn the_longest_delay_holds_for_the_first_too() {
        let longest = Duration::from_millis(500);
        let backoff = Backoff::exponential().max(longest).jitter(Jitter::None);
        assert_eq!(backoff.check(), Ok(()));
        for retry in 1..5 {
            assert_eq!(backoff.delay(retry, Duration::ZERO), longest);
        }
    }

    #[test]
    fn full_jitter_uses_the_whole_window() {
        let backoff = Backoff::exponential().initial(Duration::from_secs(8));
        let delays: Vec<f64> =
            (0..2000).map(|_| backoff.delay(1, Duration::ZERO).as_secs_f64()).collect();
        for eighth in 0..8 {
            let inside = |delay: &&f64| (eighth as f64..(eighth + 1) as f64).contains(*delay);
            let hits = delays.iter().filter(inside).count();
            // 250 expected, standard deviation 15
            assert!((150..350).contains(&hits), "{hits} delays in second {eighth}");
        }
    }

    /// What becomes of clients that lose their server at the same moment.
    #[derive(Debug)]
    struct Simulated {
        /// How long each was away, in order.
        away: Vec<f64>,
        /// How many attempts each made.
        attempts: Vec<u32>,
        /// The most attempts of all clients in any 100 ms.
        peak: usize,
    }

    fn simulate(backoff: &Backoff, clients: usize, outage: f64) -> Simulated {
        let (mut away, mut attempts, mut times) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..clients {
            let (mut now, mut retry) = (Duration::ZERO, 0);
            while retry == 0 || now.as_secs_f64() < outage {
                retry += 1;
                now += backoff.delay(retry, now);
                times.push(now.as_secs_f64());
            }
            away.push(now.as_secs_f64());
            attempts.push(retry);
        }
        away.sort_by(f64::total_cmp);
        times.sort_by(f64::total_cmp);
        let within = |(index, from): (usize, &f64)| {
            times[index..].partition_point(|time| *time < from + 0.1)
        };
        let peak = times.iter().enumerate().map(within).max().unwrap_or_default();
        Simulated { away, attempts, peak }
    }

    #[test]
    fn no_client_is_away_for_much_longer_than_the_outage() {
        fastrand::seed(7);
        let backoff = Backoff::exponential();
        // the most that 99 of 100 may be away, attempts of any client, and attempts in any 100 ms
        for (outage, p99, attempts, peak) in [
            (0.5, 2.0, 20, 300),
            (3.0, 7.0, 25, 300),
            (10.0, 21.0, 30, 300),
            (60.0, 90.0, 40, 300),
            (600.0, 630.0, 100, 300),
        ] {
            let clients = 1000;
            let simulated = simulate(&backoff, clients, outage);
            let Simulated { away, attempts: made, peak: most } = &simulated;
            let mean = made.iter().sum::<u32>() as f64 / clients as f64;
            let highest = *made.iter().max().unwrap();
            println!(
                "/// | {outage} s | {:.1} s | {:.1} s | {:.1} s | {mean:.1}, {highest} | {most} |",
                away[clients / 2],
                away[clients * 99 / 100],
                away[clients - 1],
            );
            assert!(away[clients - 1] <= 2.0 * outage + 1.0, "{outage} s: {}", away[clients - 1]);
            assert!(away[clients * 99 / 100] <= p99, "{outage} s: {}", away[clients * 99 / 100]);
            assert!(highest <= attempts, "{outage} s: {highest} attempts");
            assert!(*most <= peak, "{outage} s: {most} attempts in 100 ms");
        }
    }

    #[test]
    fn senseless_values_are_refused() {
        let second = Duration::from_secs(1);
        assert!(Backoff::exponential().initial(Duration::ZERO).check().is_err());
        assert!(Backoff::exponential().max(Duration::ZERO).check().is_err());
        assert!(Backoff::exponential().initial(Duration::MAX).check().is_err());
        assert!(Backoff::fixed(Duration::MAX).check().is_err());
        assert!(Backoff::fixed(Duration::ZERO).check().is_ok());
        assert!(Backoff::fixed(second).jitter(Jitter::Full).check().is_err());
        assert!(Backoff::fixed(second).initial(second).check().is_err());
        assert!(Backoff::custom(|_| Duration::ZERO).max(second).check().is_err());
        assert!(Backoff::custom(|_| Duration::ZERO).first(second).check().is_err());
        assert!(Backoff::fixed(second).first(Duration::MAX).check().is_err());
        assert!(Backoff::fixed(second).first(Duration::ZERO).check().is_ok());
    }

    #[test]
    fn the_first_after_a_loss_has_a_delay_of_its_own_and_the_second_is_the_initial() {
        let [zero, second] = [0, 1].map(Duration::from_secs);
        let exponential = Backoff::exponential().jitter(Jitter::None);
        let after_loss = |backoff: &Backoff| -> Vec<u64> {
            let mut outage = zero;
            let delays = (1..=4).map(|retry| {
                let delay = backoff.delay_after_loss(retry, outage);
                outage += delay;
                delay.as_secs()
            });
            delays.collect()
        };
        assert_eq!(after_loss(&exponential), [1, 2, 4, 8]);
        let exponential = exponential.first(zero);
        assert_eq!(after_loss(&exponential), [0, 1, 2, 4]);
        // no stable link was lost
        assert_eq!(exponential.delay(1, zero), second);
        assert_eq!(after_loss(&Backoff::fixed(second * 3).first(second)), [1, 3, 3, 3]);
        // the jitter holds for it too
        let jittered = Backoff::exponential().first(second * 8);
        let delays: Vec<_> = (0..100).map(|_| jittered.delay_after_loss(1, zero)).collect();
        assert!(delays.iter().all(|delay| *delay <= second * 8));
        assert!(delays.iter().any(|delay| *delay < second * 2));
    }

    proptest! {
        #[test]
        fn never_over_the_longest_and_never_a_panic(
            retry in any::<u32>(),
            initial in 1..u64::MAX / 2,
            max in 1..u64::MAX / 2,
            outage in any::<u64>(),
        ) {
            let outage = Duration::from_millis(outage);
            let max = Duration::from_millis(max);
            let backoff = Backoff::exponential().initial(Duration::from_millis(initial)).max(max);
            prop_assert!(backoff.delay(retry, outage) <= max);
        }
    }
}

//! When to ask the peer for a sign of life, and when to stop believing in one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::message::{Message, MessageRef};

/// No timeout is longer than this: a thousand days. It keeps every deadline representable.
pub(crate) const MAX_DURATION: Duration = Duration::from_secs(1000 * 24 * 3600);

/// How a link proves that the peer is alive.
///
/// Any byte received is proof. If none came for the interval, a ping goes out (RFC 6455 section
/// 5.5.2), so a busy link carries no pings; if none came for the limit, the link is dead. Time
/// in which the program is slow to receive does not count against the peer.
///
/// When the machine has slept, the first beat is not put off (it comes within what was left of
/// the interval), and the peer has at most 5 s to answer it. The same goes for a process that was
/// held up while time went on, stopped or frozen or migrated: it asks before it gives a peer up.
///
/// The default is a ping after 20 s and death after 30 s. On `tcp://` the default beat is the
/// text `ping` each interval, answered with `pong`.
///
/// ```
/// use std::time::Duration;
/// use everlink::Heartbeat;
///
/// let brisk = Heartbeat::every(Duration::from_secs(2)).dead_after(Duration::from_secs(5));
/// // a service that wants beats of its own
/// let service = Heartbeat::every(Duration::from_secs(20))
///     .message(r#"{"op":"ping"}"#, |answer| answer.as_text() == Some(r#"{"op":"pong"}"#));
/// # let _ = (brisk, service);
/// ```
#[derive(Clone)]
pub struct Heartbeat {
    pub(crate) interval: Duration,
    pub(crate) dead_after: Duration,
    pub(crate) beat: Beat,
    /// What the peer's own beats look like, and what they are answered with.
    pub(crate) answer: Option<(Bytes, Message)>,
    /// Whether a limit was set where nothing is watched.
    limit_is_misplaced: bool,
}

type Predicate = Arc<dyn Fn(&MessageRef<'_>) -> bool + Send + Sync>;

#[derive(Clone)]
pub(crate) enum Beat {
    /// Nothing is sent and nothing is watched.
    Off,
    /// Nothing is sent, but silence is watched.
    Listen,
    /// A protocol ping after an idle interval.
    Ping,
    /// A message of the application, each interval, whatever else travels.
    Message { payload: Arc<dyn Fn() -> Message + Send + Sync>, is_answer: Predicate },
}

impl Heartbeat {
    /// A ping whenever nothing was received for `interval`; death after three times that,
    /// unless [`dead_after`](Self::dead_after) says otherwise.
    #[must_use]
    pub fn every(interval: Duration) -> Self {
        let dead_after = interval.saturating_mul(3);
        Self { interval, dead_after, beat: Beat::Ping, answer: None, limit_is_misplaced: false }
    }

    /// No pings and no limit: a peer that falls silent is never noticed.
    #[must_use]
    pub fn off() -> Self {
        Self { beat: Beat::Off, ..Self::default() }
    }

    /// No pings, but death after `limit` of silence: for the side whose peer does the beating.
    #[must_use]
    pub fn listen(limit: Duration) -> Self {
        Self { beat: Beat::Listen, ..Self::every(limit / 3).dead_after(limit) }
    }

    /// How long nothing may come before the link is dead. It must be longer than the interval.
    /// Where nothing is watched ([`off`](Self::off)) it is refused at the start.
    #[must_use]
    pub fn dead_after(mut self, limit: Duration) -> Self {
        self.dead_after = limit;
        self.limit_is_misplaced = matches!(self.beat, Beat::Off);
        self
    }

    /// Sends `payload` each interval instead of a protocol ping, busy or idle, and swallows
    /// every message for which `is_answer` is true. The predicate runs on the reader thread.
    #[must_use]
    pub fn message(
        self,
        payload: impl Into<Message>,
        is_answer: impl Fn(&MessageRef<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        let payload = payload.into();
        self.message_with(move || payload.clone(), is_answer)
    }

    /// Like [`message`](Self::message), with a payload made anew for each beat. The closure
    /// runs on the heartbeat thread.
    #[must_use]
    pub fn message_with(
        mut self,
        payload: impl Fn() -> Message + Send + Sync + 'static,
        is_answer: impl Fn(&MessageRef<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.beat = Beat::Message { payload: Arc::new(payload), is_answer: Arc::new(is_answer) };
        self
    }

    /// Answers the peer's beats as well: every message that equals `ping` is swallowed, and
    /// `pong` goes out ahead of all data.
    #[must_use]
    pub fn answer(mut self, ping: impl Into<Message>, pong: impl Into<Message>) -> Self {
        self.answer = Some((ping.into().into_bytes(), pong.into()));
        self
    }

    /// What this means where the protocol has no pings of its own: the texts `ping` and `pong`.
    pub(crate) fn for_framed(self) -> Self {
        match self.beat {
            Beat::Ping => self.message("ping", |answer| answer.as_bytes() == b"pong"),
            _ => self,
        }
    }

    /// How long nothing may come; `None` if that is not watched.
    pub(crate) fn limit(&self) -> Option<Duration> {
        (!matches!(self.beat, Beat::Off)).then_some(self.dead_after)
    }

    /// Whether a peer that is silent is asked for a sign of life.
    pub(crate) fn asks(&self) -> bool {
        matches!(self.beat, Beat::Ping | Beat::Message { .. })
    }

    /// Whether an answer comes back on a connection that has no pings of its own.
    pub(crate) fn has_answer(&self) -> bool {
        matches!(self.beat, Beat::Message { .. })
    }

    /// What is wrong with the values, if anything is.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Some(limit) = self.limit() else {
            let wrong = "dead_after() can have no effect: nothing is watched";
            return if self.limit_is_misplaced { Err(wrong.into()) } else { Ok(()) };
        };
        if self.interval.is_zero() {
            return Err("the interval is zero".into());
        }
        if limit <= self.interval {
            let interval = self.interval;
            return Err(format!("dead_after {limit:?} leaves no time after {interval:?} idle"));
        }
        if limit > MAX_DURATION {
            return Err(format!("{limit:?} is over the limit of {MAX_DURATION:?}"));
        }
        Ok(())
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self::every(Duration::from_secs(20)).dead_after(Duration::from_secs(30))
    }
}

/// Without what is sent and answered: a beat may carry a token.
impl fmt::Debug for Heartbeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heartbeat")
            .field("interval", &self.interval)
            .field("dead_after", &self.dead_after)
            .field("beat", &self.beat)
            .field("answer", &self.answer.is_some())
            .finish()
    }
}

impl fmt::Debug for Beat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("Off"),
            Self::Listen => f.write_str("Listen"),
            Self::Ping => f.write_str("Ping"),
            Self::Message { .. } => f.write_str("Message"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senseless_values_are_refused() {
        let second = Duration::from_secs(1);
        assert!(Heartbeat::default().check().is_ok());
        assert!(Heartbeat::every(Duration::ZERO).check().is_err());
        assert!(Heartbeat::every(second).dead_after(second).check().is_err());
        assert!(Heartbeat::every(second).dead_after(Duration::MAX).check().is_err());
        assert!(Heartbeat::off().check().is_ok());
        assert!(Heartbeat::off().dead_after(second).check().is_err());
        assert!(Heartbeat::listen(second).check().is_ok());
    }
}

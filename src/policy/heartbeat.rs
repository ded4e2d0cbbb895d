//! When to ask the peer for a sign of life, and when to stop believing in one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::durations::{in_range, not_too_long};
use crate::message::{Message, MessageRef};

/// How a link proves that the peer is alive.
///
/// Any byte received is proof. If none came for the interval, a ping goes out (RFC 6455 section
/// 5.5.2), so a busy link carries no pings unless asked to ([`always`](Self::always)), or while
/// somebody looks at [`stats`](crate::Client::stats), where round trips are; if none came for the
/// limit, the link is dead. Time in which the program is slow to receive does not count against
/// the peer.
///
/// When the machine has slept, the first beat is not put off (it comes within what was left of
/// the interval), and the peer has three intervals to answer it, but 1 s at least and 5 s at most. A
/// process that was held up while time went on, stopped or frozen or overloaded, first reads what
/// waits in its socket, and asks, before it gives a peer up that has been silent for the limit; where nothing
/// is asked ([`listen`](Self::listen)), the peer has its limit once more.
///
/// | | what is sent | what is watched | where |
/// | --- | --- | --- | --- |
/// | [`every`](Self::every) | a ping after an idle interval | silence | `ws://`, `wss://`; the default there: 20 s, dead after 30 s |
/// | [`ping_pong`](Self::ping_pong) | the text `ping` each interval; `pong` for the peer's | silence | framed TCP, and services with texts of that kind |
/// | [`message`](Self::message) | a message of the program's each interval | silence | anywhere |
/// | [`listen`](Self::listen) | nothing | silence | anywhere: for the side whose peer beats |
/// | [`off`](Self::off) | nothing | nothing | anywhere |
///
/// **Framed TCP has no default.** `tcp://` has no pings of its own, so every beat is a message that
/// the peer has to know; a client or server that was given no heartbeat there is refused at the
/// start. Only [sessions](crate::ClientBuilder::resume) have a question that serves as a ping: there
/// [`every`](Self::every) is the default on framed TCP, too.
///
/// ```
/// use std::time::Duration;
/// use everlink::config::Heartbeat;
///
/// let brisk = Heartbeat::every(Duration::from_secs(2)).dead_after(Duration::from_secs(5));
/// // a service that wants beats of its own
/// let service = Heartbeat::every(Duration::from_secs(20))
///     .message(r#"{"op":"ping"}"#, |answer| answer.as_text() == Some(r#"{"op":"pong"}"#));
/// // raw TCP, either side
/// let text = Heartbeat::ping_pong();
/// # let _ = (brisk, service, text);
/// ```
///
/// # What a pong proves
///
/// That the endpoint which answers is there. A gateway that answers pings itself proves nothing of
/// the service behind it: if that is what stands between, beat with messages that the service itself
/// answers. A service that answers no pings, or not with what they carry, is alive as long as it
/// sends anything else; what it lacks are confirmations
/// ([`Event::ConfirmationsMissing`](crate::Event::ConfirmationsMissing)).
#[derive(Clone)]
#[must_use]
pub struct Heartbeat {
    pub(crate) interval: Duration,
    pub(crate) dead_after: Duration,
    pub(crate) beat: Beat,
    /// What the peer's own beats are answered with.
    pub(crate) answer: Option<Answerer>,
    /// The beat and the answer that are always the same, which can be looked at before they go out.
    same: [Option<Message>; 2],
    /// An option that can have no effect on what was chosen before.
    misplaced: Option<&'static str>,
}

type Predicate = Arc<dyn Fn(&MessageRef<'_>) -> bool + Send + Sync>;

/// Makes an answer to a message that is a beat of the peer's.
pub(crate) type Answerer = Arc<dyn Fn(&MessageRef<'_>) -> Option<Message> + Send + Sync>;

#[derive(Clone)]
pub(crate) enum Beat {
    /// Nothing is sent and nothing is watched.
    Off,
    /// Nothing is sent, but silence is watched.
    Listen,
    /// A protocol ping after an idle interval.
    Ping,
    /// A protocol ping each interval, whatever else travels.
    PingAlways,
    /// A message of the application, each interval: whatever else travels, or after an idle one.
    Message {
        payload: Arc<dyn Fn() -> Message + Send + Sync>,
        is_answer: Predicate,
        when_idle: bool,
    },
}

impl Heartbeat {
    /// What is said where a heartbeat has to be chosen.
    pub(crate) const CHOICES: &str = "framed TCP has no pings of its own, so a heartbeat has to be chosen: \
         Heartbeat::ping_pong() for the texts ping and pong, Heartbeat::every(interval).message(..) \
         for messages of the program's own, Heartbeat::listen(limit) if the peer does the beating, \
         Heartbeat::off() for none";

    /// A ping whenever nothing was received for `interval`, at least 1 ms; death after three times that,
    /// unless [`dead_after`](Self::dead_after) says otherwise. Not on framed TCP, unless
    /// [`message`](Self::message) says what to send there.
    pub fn every(interval: Duration) -> Self {
        let dead_after = interval.saturating_mul(3);
        Self {
            interval,
            dead_after,
            beat: Beat::Ping,
            answer: None,
            same: [None, None],
            misplaced: None,
        }
    }

    /// The text `ping` each interval, answered with the text `pong`, for a peer that does the same:
    /// a `ping` of the peer's is answered with `pong`. Neither is ever received by the program. It
    /// goes out after 20 s, and the link is dead after 30 s of silence, unless
    /// [`interval`](Self::interval) and [`dead_after`](Self::dead_after) say otherwise.
    ///
    /// ```no_run
    /// use everlink::config::{Framing, Heartbeat};
    /// use everlink::{Client, Server};
    ///
    /// # fn main() -> Result<(), everlink::Error> {
    /// let server = Server::builder()
    ///     .framing(Framing::lines())
    ///     .heartbeat(Heartbeat::ping_pong())
    ///     .bind("127.0.0.1:9002", |session| for _ in &session {})?;
    /// let client = Client::builder("tcp://127.0.0.1:9002")
    ///     .heartbeat(Heartbeat::ping_pong())
    ///     .connect()?;
    /// # let _ = (server, client);
    /// # Ok(())
    /// # }
    /// ```
    pub fn ping_pong() -> Self {
        Self::default()
            .message("ping", |answer| answer.as_bytes() == b"pong")
            .answer("ping", "pong")
    }

    /// No pings and no limit: a peer that falls silent is never noticed.
    pub fn off() -> Self {
        Self { beat: Beat::Off, ..Self::default() }
    }

    /// No pings, but death after `limit` of silence, at least 1 ms: for the side whose peer does the beating.
    ///
    /// ```
    /// use std::time::Duration;
    /// use everlink::config::{Framing, Heartbeat};
    /// use everlink::Server;
    ///
    /// // trackers beat each minute; one that is silent for three is gone
    /// let server = Server::builder()
    ///     .framing(Framing::lines())
    ///     .heartbeat(Heartbeat::listen(Duration::from_secs(180)).answer("beat", "ok"));
    /// # let _ = server;
    /// ```
    pub fn listen(limit: Duration) -> Self {
        Self { beat: Beat::Listen, ..Self::every(limit / 3).dead_after(limit) }
    }

    /// How long between beats, and how long nothing may come before a ping; the limit becomes three
    /// times that. At least 1 ms. Where nothing is sent ([`listen`](Self::listen), [`off`](Self::off)) it
    /// is refused at the start.
    pub fn interval(mut self, interval: Duration) -> Self {
        (self.interval, self.dead_after) = (interval, interval.saturating_mul(3));
        if matches!(self.beat, Beat::Off | Beat::Listen) {
            self.misplaced = Some("interval() can have no effect: nothing is sent");
        }
        self
    }

    /// How long nothing may come before the link is dead, at most 1000 days. It must be longer than
    /// the interval. Where nothing is watched ([`off`](Self::off)) it is refused at the start.
    pub fn dead_after(mut self, limit: Duration) -> Self {
        self.dead_after = limit;
        if matches!(self.beat, Beat::Off) {
            self.misplaced = Some("dead_after() can have no effect: nothing is watched");
        }
        self
    }

    /// Sends a ping each interval, on a busy link too: some services want one every so often,
    /// whatever travels. For pings only; elsewhere it is refused at the start.
    pub fn always(mut self) -> Self {
        match self.beat {
            Beat::Ping | Beat::PingAlways => self.beat = Beat::PingAlways,
            _ => self.misplaced = Some("always() can have no effect: no pings are sent"),
        }
        self
    }

    /// Sends `payload` each interval instead of a protocol ping, busy or idle, and swallows
    /// every message for which `is_answer` is true. The predicate runs on the reader thread, for each message
    /// that is no beat of the peer's. A payload that the framing cannot carry is refused at the start.
    ///
    /// What is swallowed answers nothing else. Where answers have no key ([`CallsInOrder`](crate::CallsInOrder)), choose
    /// a beat whose answer no question has, or ask it as a question:
    /// [heartbeats](crate::guide::heartbeats#beats-and-questions).
    pub fn message(
        self,
        payload: impl Into<Message>,
        is_answer: impl Fn(&MessageRef<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        let payload = payload.into();
        let same = Some(payload.clone());
        let mut heartbeat = self.message_with(move || payload.clone(), is_answer);
        heartbeat.same[0] = same;
        heartbeat
    }

    /// Like [`message`](Self::message), with a payload made anew for each beat. The closure
    /// runs on the heartbeat thread, on the writer thread where a beat asks for confirmations, and on the thread
    /// that calls [`ping`](crate::Sender::ping). One that the
    /// framing cannot carry is logged and not sent.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    /// use std::time::Duration;
    /// use everlink::config::Heartbeat;
    ///
    /// // OCPP: a call with a number of its own each time
    /// let number = AtomicU64::new(1);
    /// let heartbeat = Heartbeat::every(Duration::from_secs(60)).message_with(
    ///     move || format!(r#"[2,"beat-{}","Heartbeat",{{}}]"#, number.fetch_add(1, Relaxed)).into(),
    ///     |answer| answer.as_text().is_some_and(|text| text.starts_with(r#"[3,"beat-"#)),
    /// );
    /// # let _ = heartbeat;
    /// ```
    pub fn message_with(
        mut self,
        payload: impl Fn() -> Message + Send + Sync + 'static,
        is_answer: impl Fn(&MessageRef<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        let (payload, is_answer) = (Arc::new(payload), Arc::new(is_answer));
        self.beat = Beat::Message { payload, is_answer, when_idle: false };
        self.same[0] = None;
        self
    }

    /// Sends messages as beats only when nothing was received for the interval, as pings are. For
    /// [`message`](Self::message) and [`message_with`](Self::message_with); elsewhere it is refused at the
    /// start.
    pub fn when_idle(mut self) -> Self {
        match &mut self.beat {
            Beat::Message { when_idle, .. } => *when_idle = true,
            _ => self.misplaced = Some("when_idle() can have no effect: no messages are beats"),
        }
        self
    }

    /// Answers the peer's beats as well: every message that equals `ping` is swallowed, and
    /// `pong` goes out ahead of all data.
    pub fn answer(self, ping: impl Into<Message>, pong: impl Into<Message>) -> Self {
        let (ping, pong) = (ping.into().into_bytes(), pong.into());
        let same = Some(pong.clone());
        let mut heartbeat =
            self.answer_with(move |message| (message.as_bytes() == ping).then(|| pong.clone()));
        heartbeat.same[1] = same;
        heartbeat
    }

    /// Answers the peer's beats with what the closure makes of them: a message for which it has an
    /// answer is swallowed, and the answer goes out ahead of all data. It runs on the reader thread
    /// for **each** message, answers to the own beats among them, and before anything else sees it; so it has
    /// to be quick, and to know the peer's beats from all else.
    ///
    /// ```
    /// use everlink::config::Heartbeat;
    ///
    /// // {"ping":1492420473027} wants {"pong":1492420473027}
    /// let heartbeat = Heartbeat::default().answer_with(|message| {
    ///     let number = message.as_text()?.strip_prefix(r#"{"ping":"#)?;
    ///     Some(format!(r#"{{"pong":{number}"#).into())
    /// });
    /// # let _ = heartbeat;
    /// ```
    pub fn answer_with(
        mut self,
        answer: impl Fn(&MessageRef<'_>) -> Option<Message> + Send + Sync + 'static,
    ) -> Self {
        self.answer = Some(Arc::new(answer));
        self.same[1] = None;
        self
    }

    /// How long nothing may come; `None` if that is not watched.
    pub(crate) fn limit(&self) -> Option<Duration> {
        (!matches!(self.beat, Beat::Off)).then_some(self.dead_after)
    }

    /// Whether a peer that is silent is asked for a sign of life.
    pub(crate) fn asks(&self) -> bool {
        matches!(self.beat, Beat::Ping | Beat::PingAlways | Beat::Message { .. })
    }

    /// Whether it has to see what comes.
    #[inline]
    pub(crate) fn looks_at_messages(&self) -> bool {
        self.answer.is_some() || self.has_answer()
    }

    /// Whether an answer comes back on a connection that has no pings of its own.
    pub(crate) fn has_answer(&self) -> bool {
        matches!(self.beat, Beat::Message { .. })
    }

    /// What is wrong with the values, if anything is, where a message fits if this says so.
    pub(crate) fn check(
        &self,
        has_pings: bool,
        fits: impl Fn(&Message) -> Result<(), &'static str>,
    ) -> Result<(), String> {
        if let Some(wrong) = self.misplaced {
            return Err(wrong.into());
        }
        for message in self.same.iter().flatten() {
            fits(message).map_err(|why| format!("a beat of it is never sent: {why}"))?;
        }
        if !has_pings && matches!(self.beat, Beat::Ping | Beat::PingAlways) {
            return Err(Self::CHOICES.into());
        }
        let Some(limit) = self.limit() else { return Ok(()) };
        let (what, least) = match self.beat {
            Beat::Listen => ("limit", limit),
            _ => ("interval", self.interval),
        };
        in_range(least).map_err(|reason| format!("the {what} of {reason}"))?;
        if limit <= self.interval {
            let interval = self.interval;
            return Err(format!("dead_after {limit:?} leaves no time after {interval:?} idle"));
        }
        not_too_long(limit)
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
            Self::PingAlways => f.write_str("PingAlways"),
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
        let is_fine = |heartbeat: Heartbeat| heartbeat.check(true, |_| Ok(())).is_ok();
        assert!(is_fine(Heartbeat::default()));
        assert!(!is_fine(Heartbeat::every(Duration::ZERO)));
        let ms = Duration::from_millis(1);
        for short in [Duration::from_nanos(1), ms - Duration::from_nanos(1)] {
            assert!(!is_fine(Heartbeat::every(short)));
            assert!(!is_fine(Heartbeat::every(short).dead_after(second)));
            assert!(!is_fine(Heartbeat::listen(short)));
        }
        assert!(is_fine(Heartbeat::every(ms)) && is_fine(Heartbeat::listen(ms)));
        assert!(!is_fine(Heartbeat::every(second).dead_after(second)));
        assert!(!is_fine(Heartbeat::every(second).dead_after(Duration::MAX)));
        assert!(is_fine(Heartbeat::off()));
        assert!(!is_fine(Heartbeat::off().dead_after(second)));
        assert!(!is_fine(Heartbeat::off().interval(second)));
        assert!(is_fine(Heartbeat::listen(second)));
        assert!(!is_fine(Heartbeat::listen(second).interval(second)));
        assert!(!is_fine(Heartbeat::listen(second).always()));
        assert!(is_fine(Heartbeat::every(second).always()));
    }

    #[test]
    fn framed_tcp_takes_what_it_can_carry() {
        let second = Duration::from_secs(1);
        let is_fine = |heartbeat: Heartbeat| heartbeat.check(false, |_| Ok(())).is_ok();
        assert!(is_fine(Heartbeat::ping_pong()));
        assert!(is_fine(Heartbeat::every(second).message("beat", |_| false)));
        assert!(is_fine(Heartbeat::listen(second)));
        assert!(is_fine(Heartbeat::off()));
        assert!(!is_fine(Heartbeat::every(second)));
        assert!(!is_fine(Heartbeat::every(second).always()));
    }
}

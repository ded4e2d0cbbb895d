//! What the threads of a link share.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::beats::Beats;
use super::close_request::CloseRequest;
use super::control::ControlSlots;
use super::intake::Intake;
use super::life::{Life, Parting};
use super::liveness::Liveness;
use super::pings::{Covered, PingLedger};
use crate::failure::{Failure, Manner, guarded};
use crate::message::CloseFrame;
use crate::policy::{Beat, Heartbeat};
use crate::queues::mailbox::Mailbox;
use crate::queues::outbox::Outbox;
use crate::resume::Counts;
use crate::settings::{Settings, Side};
use crate::stats::Counters;
use crate::sync::threads::thread_prefix;
use crate::transport::Hangup;
use crate::wire::Protocol;

/// What the owner is told while the link lives.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Notice {
    /// The program has received nothing for so long.
    Stalled(Duration),
    /// The peer has confirmed nothing for so long.
    Unconfirmed(Duration),
}

/// A record with the number and the name of the owner, which are `client` and `name`, or `session` and
/// `server`.
macro_rules! record {
    ($level:expr, $shared:expr, $event:expr, $($key:ident = $value:expr),*; $($line:tt)*) => {
        match $shared.settings.side {
            Side::Client => log::log!(
                $level, client = $shared.id, name = $shared.settings.label(), event = $event,
                $($key = $value),*; $($line)*
            ),
            Side::Session => log::log!(
                $level, session = $shared.id, server = $shared.settings.label(), event = $event,
                $($key = $value),*; $($line)*
            ),
        }
    };
}

/// What the three threads share.
pub(super) struct Shared {
    pub(super) protocol: Protocol,
    pub(super) link: u32,
    pub(super) settings: Arc<Settings>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) counters: Arc<Counters>,
    pub(super) session: Option<Arc<Counts>>,
    /// The number up to which the session had come when the link began.
    pub(super) first: u64,
    pub(super) hangup: Arc<dyn Hangup>,
    pub(super) life: Arc<Life>,
    pub(super) intake: Intake,
    /// With what a handler on the reader thread closes once nothing more is taken in.
    pub(super) farewell: OnceLock<CloseFrame>,
    pub(super) control: ControlSlots,
    pub(super) liveness: Liveness,
    pub(super) beats: Beats,
    pub(super) pings: PingLedger,
    pub(super) notices: Sender<Notice>,
    pub(super) id: u64,
}

impl Shared {
    /// The link is dead, and this is why unless that was noted before.
    pub(super) fn fail(&self, cause: Failure) {
        let Some(cause) = self.life.die(cause) else { return };
        if matches!(*cause, Failure::HeartbeatTimeout { .. }) && self.pings.waiting().is_some() {
            // the last beat: no other follows that would count it as missed
            self.counters.heartbeat_misses.fetch_add(1, Relaxed);
        }
        // a transport can be the program's own
        let hung_up = guarded("transport", || match cause.manner() {
            Manner::Orderly => self.hangup.hang_up(),
            // a reset takes back what has not arrived, and a peer that is stuck in a write learns at
            // once that nobody reads
            Manner::Broken => {
                self.hangup.reset_when_dropped();
                self.hangup.hang_up();
            }
            Manner::Aborted => self.hangup.reset(),
        });
        if let Err(panic) = hung_up {
            log::error!("{panic}");
        }
        self.pings.abandon();
        if self.is_the_last() {
            self.outbox.shut();
        }
        self.outbox.link_lost();
        self.mailbox.wake_all();
    }

    /// From here on it beats so, and so does the next link of the session.
    pub(super) fn set_heartbeat(&self, heartbeat: Heartbeat) {
        if let Some(counts) = &self.session {
            counts.beats_so(heartbeat.clone());
        }
        let limit = |heartbeat: &Heartbeat| heartbeat.limit().unwrap_or(Duration::MAX);
        if limit(&heartbeat) < limit(&self.beats.present()) {
            // the peer did not know of this limit in the silence so far
            self.liveness.excuse();
        }
        self.beats.set(heartbeat);
        self.life.beats_anew();
    }

    /// Has a ping go out, or what serves as one: whatever beats there are.
    ///
    /// # Errors
    ///
    /// The panic of the closure that makes a beat.
    pub(super) fn beat(&self) -> Result<(), Failure> {
        match &self.beats.present().beat {
            Beat::Message { payload, .. } => {
                self.control.beat(guarded("heartbeat payload", || payload())?);
            }
            _ => self.control.ping(),
        }
        self.outbox.ring();
        Ok(())
    }

    /// Whether there is anything that the peer answers.
    pub(super) fn has_pings(&self) -> bool {
        let is_message = matches!(self.beats.present().beat, Beat::Message { .. });
        self.protocol.is_websocket() || self.session.is_some() || is_message
    }

    /// The link is to be closed.
    pub(super) fn close(&self, request: CloseRequest) {
        let carries =
            self.protocol.is_websocket() || request.ends_session && self.session.is_some();
        let frame = request.frame.filter(|_| carries);
        self.life.close(CloseRequest { frame, ..request });
        self.mailbox.wake_all();
        self.outbox.ring();
    }

    /// No more messages are taken in than those that the reader has.
    pub(super) fn finish(&self, farewell: CloseFrame) {
        self.farewell.get_or_init(|| farewell);
        if self.intake.stop() {
            self.finished();
        }
    }

    /// Everything that was taken in is delivered, and nothing follows: the program receives what is left, answers,
    /// and returns. A handler on the reader thread has done so. May be said twice.
    pub(super) fn finished(&self) {
        if let Some(counts) = &self.session {
            counts.end();
        }
        self.mailbox.end();
        self.outbox.end_questions();
        if let (true, Some(frame)) = (self.settings.has_handler, self.farewell.get()) {
            self.outbox.shut();
            let deadline = Instant::now() + self.settings.timeouts().close;
            self.close(CloseRequest::after_data(frame.clone()).by(deadline));
        }
    }

    /// Once everything is written, that follows.
    pub(super) fn part(&self, parting: Parting) {
        self.life.part(parting);
        self.outbox.ring();
    }

    /// The link ends now, and a handler gets no more of what had come than the message that it has.
    pub(super) fn end(&self, cause: Failure) {
        self.intake.let_go();
        self.fail(cause);
    }

    /// The time for closing is over.
    pub(super) fn end_close(&self) {
        self.end(Failure::ClosedHere(self.life.close_frame()));
    }

    pub(super) fn silent(&self, silence: Duration) -> Failure {
        let unanswered = self.pings.sent_within(silence);
        Failure::HeartbeatTimeout { silence, unanswered }
    }

    /// Tells the program, once for each time that it happens.
    pub(super) fn tell(&self, notice: Notice) {
        let name = thread_prefix(self.id);
        match notice {
            Notice::Stalled(waiting) => record!(
                log::Level::Warn, self, "receiver_stalled", waiting = waiting.as_secs_f64();
                "{name}: the program has taken no message for {waiting:.1?}, and nothing is read meanwhile"
            ),
            Notice::Unconfirmed(waiting) => record!(
                log::Level::Warn, self, "confirmations_missing", waiting = waiting.as_secs_f64();
                "{name}: the peer has answered no ping of the last {waiting:.1?}"
            ),
        }
        // a full channel takes no more: nothing piles up
        let _ = self.notices.try_send(notice);
    }

    /// Whether no other link can follow: a server's session that cannot be resumed. Outbox and inbox
    /// end with it then.
    pub(super) fn is_the_last(&self) -> bool {
        self.settings.side == Side::Session && self.session.is_none()
    }

    /// Whether the peer's first message is a report: a client's, when its session goes on. In a new one it came
    /// before the link.
    pub(super) fn begins_with_report(&self) -> bool {
        self.settings.side == Side::Session && self.session.is_some() && self.link > 1
    }

    /// The peer of a session has counted up to this number.
    pub(super) fn reported(&self, received: u64) {
        if !self.protocol.is_websocket() {
            // the question was the beat
            self.pings.answer();
        }
        let of_link = received.saturating_sub(self.first);
        let confirmed = self.counters.unconfirmed.confirm(of_link);
        self.counters.confirmed.fetch_add(confirmed, Relaxed);
        self.outbox.confirmed(received);
        self.ask_on();
    }

    /// A pong has come, or the answer to an application-level beat. It answers what was sent after what
    /// `covered` says. In a session it confirms nothing: some gateways answer pings themselves.
    pub(super) fn answered(&self, covered: Option<Covered>) {
        if let (Some(covered), None) = (covered, &self.session) {
            self.outbox.confirmed(covered.position);
            self.ask_on();
        }
    }

    /// So many messages that the login hook did not take are lost with this link, for lack of room. The peer was
    /// told that they are received, so a session cannot go on.
    pub(super) fn lose_kept(&self, messages: usize) {
        self.mailbox.lose(messages);
        if let Some(counts) = &self.session {
            counts.give_up();
        }
    }

    fn ask_on(&self) {
        if self.outbox.wants_confirmation().0 {
            // the writer may have to ask about what was written since
            self.outbox.ring();
        }
    }

    /// Whether another link takes over: then the reader stops, and the peer sends again what was not
    /// counted here.
    pub(super) fn is_taken_over(&self) -> bool {
        let is_interrupted = |cause: Arc<Failure>| matches!(*cause, Failure::Interrupted);
        self.session.is_some()
            && self.life.is_dead()
            && self.life.cause().is_some_and(is_interrupted)
    }

    /// One record for each control frame, at `debug`; never what it carries.
    pub(super) fn log_control(&self, direction: &str, frame: &str) {
        record!(
            log::Level::Debug, self, "control_frame", direction = direction, frame = frame;
            "{}: {frame} {direction}", thread_prefix(self.id)
        );
    }
}

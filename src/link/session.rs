//! A link that carries a session: counting, reports, and a peer that turns out to be two.

use super::Owner;
use super::Shared;
use super::pen::Pen;
use super::pings::Covered;
use crate::failure::Failure;
use crate::message::{CloseCode, Message};
use crate::resume::{Counts, Report};

impl Shared {
    /// Whether outbox and inbox end with this link: a server's, without a session that may go on.
    pub(super) fn is_all_there_is(&self) -> bool {
        self.owner == Owner::Session && self.session.is_none()
    }

    /// Whether a beat or its answer can be set off from the next message. One that cannot would put
    /// the whole stream out of step.
    pub(super) fn can_carry(&self, message: &Message) -> bool {
        match self.protocol.check(message) {
            Ok(()) => true,
            Err(why) => {
                log::error!("{}: a beat is not sent: {why}", self.name);
                false
            }
        }
    }

    /// The counts of the session, as long as its peer's reports are what confirms.
    fn reporting(&self) -> Option<&Counts> {
        self.session.as_deref().filter(|counts| !counts.is_given_up())
    }

    /// The peer says what it has.
    ///
    /// # Errors
    ///
    /// It cannot have that much.
    pub(super) fn reported(&self, Report(received): Report) -> Result<(), Failure> {
        let Some(counts) = self.reporting() else { return Ok(()) };
        if !counts.report(received) {
            let sent = counts.sent();
            return Err(Failure::Protocol {
                code: CloseCode::PROTOCOL_ERROR,
                reason: format!("a report of {received} messages, of which {sent} were sent"),
            });
        }
        self.outbox.reported(received);
        Ok(())
    }

    /// A pong has come, which answers the ping behind all that. In a session it confirms nothing:
    /// some gateways answer pings themselves.
    pub(super) fn answered(&self, covered: Option<Covered>) {
        let Some(covered) = covered else { return };
        match self.reporting() {
            None => self.outbox.confirmed(covered.number),
            // the report comes before the pong
            Some(counts) if covered.position > counts.confirmed() => {
                log::warn!(
                    "{}: a pong without the report that goes before it: something between the two \
                     ends answers pings, and what the peer has cannot be known; the session will \
                     not be resumed",
                    self.name
                );
                counts.give_up();
                self.outbox.give_up_session();
                self.outbox.confirmed(covered.number);
            }
            Some(_) => {}
        }
        self.ask_on();
    }

    /// The answer to an application-level beat has come.
    pub(super) fn beat_answered(&self, covered: Option<Covered>) {
        let Some(covered) = covered else { return };
        if self.reporting().is_none() {
            self.outbox.confirmed(covered.number);
        }
        self.ask_on();
    }

    /// So much of what the login hook has left to the program is lost with this link: nobody has made room
    /// for it. A session has said that it is received, so that can not go on.
    pub(super) fn lose_kept(&self, messages: usize) {
        self.mailbox.lose(messages);
        if let Some(counts) = self.reporting() {
            counts.give_up();
            self.outbox.give_up_session();
        }
    }

    fn ask_on(&self) {
        if self.outbox.wants_confirmation().0 {
            // there may be something more to ask
            self.outbox.ring();
        }
    }

    /// Whether the reader is to leave what has come where it is: another link takes over, and the
    /// peer sends again what was not counted here.
    pub(super) fn is_taken_over(&self) -> bool {
        self.session.is_some()
            && self
                .life
                .ask(|state| state.is_dead && matches!(state.cause(), Some(Failure::Interrupted)))
    }
}

impl Pen {
    /// A message begins to be encoded; returns its position in the session.
    pub(super) fn begin_message(&self, shared: &Shared) -> u64 {
        shared.session.as_ref().map_or(0, |counts| counts.send())
    }

    /// Encodes how many messages this end has received, if that has not been said.
    pub(super) fn report(&mut self, shared: &Shared) {
        let Some(counts) = &shared.session else { return };
        let received = counts.received();
        if self.reported.replace(received) != Some(received) {
            self.encoder.pong(&Report(received).payload(), &mut self.out);
        }
    }
}

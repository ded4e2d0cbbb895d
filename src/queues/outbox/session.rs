//! The outbox of a session that survives its links.

use super::Outbox;
use crate::message::Message;
use crate::policy::Unconfirmed;
use crate::sync::{Budget, Holding};

impl Outbox {
    /// Its session waits from here on: what is kept here counts against this budget, too.
    pub(crate) fn wait_within(&self, budget: &Budget) -> Holding {
        let mut state = self.state();
        let bytes = state.bytes();
        state.share.wait_within(budget, bytes)
    }

    /// Its session does not wait any more.
    pub(crate) fn wait_no_more(&self) {
        let mut state = self.state();
        let bytes = state.bytes();
        state.share.wait_no_more(bytes);
    }

    /// How many messages are kept here.
    pub(crate) fn len(&self) -> usize {
        self.state().messages()
    }

    /// From here on what is encoded is kept until the peer reports that it has it, within these
    /// bounds. `login` is what the login hook has sent already.
    pub(crate) fn begin_session(&self, limits: Unconfirmed, login: Vec<Message>) {
        self.state().begin_session(limits, login);
    }

    /// The peer has reported that it has everything up to this position.
    pub(crate) fn reported(&self, position: u64) {
        let mut state = self.state();
        let confirmed = state.reported(position);
        let goes_on = state.is_paused();
        self.wake_if_ample(state);
        drop(confirmed);
        if goes_on {
            self.ring();
        }
    }

    /// The link is buried, and the session waits for another one.
    pub(crate) fn detached(&self) {
        self.state().detached();
        self.room.notify_all();
    }

    /// The session goes on, and the peer has everything up to this position: the rest goes first.
    /// Returns how many messages that are. To be called while there is no link.
    pub(crate) fn resumed(&self, position: u64) -> usize {
        let rest = self.state().resumed(position);
        self.room.notify_all();
        self.tell();
        rest
    }

    /// The session is over, and its link is buried. Returns for how many messages nobody knows
    /// whether the peer has them.
    pub(crate) fn end_session(&self) -> usize {
        let in_doubt = self.state().end_session(self.delivery);
        self.room.notify_all();
        self.tell();
        in_doubt
    }

    /// The session is over, and its link goes on without it.
    pub(crate) fn give_up_session(&self) {
        let mut state = self.state();
        let left = state.give_up_session(self.delivery);
        drop(state);
        self.room.notify_all();
        self.ring();
        drop(left);
    }

    /// Whether there is something that the peer may not have.
    pub(crate) fn is_left(&self) -> bool {
        self.state().messages() > 0
    }
}

//! What a session that can be resumed keeps: everything that was encoded, until the peer has said
//! that it has it.

use std::collections::VecDeque;

use super::{Entry, State};
use crate::message::Message;
use crate::policy::{Delivery, Unconfirmed, Undelivered};

/// As long as there is one, positions decide and not numbers: the peer counts what was on the
/// wire.
#[derive(Debug)]
pub(super) struct Session {
    limits: Unconfirmed,
    /// The peer has everything up to this position.
    confirmed: u64,
    /// Whether something was not taken because too much is unconfirmed.
    is_paused: bool,
}

impl State {
    pub(in crate::queues::outbox) fn has_session(&self) -> bool {
        self.session.is_some()
    }

    /// How many messages and bytes the bounds of the outbox are for. What a session keeps has
    /// bounds of its own.
    pub(in crate::queues::outbox) fn bounded(&self) -> (usize, usize) {
        match self.session {
            None => (self.messages(), self.bytes()),
            Some(_) => (self.queue.len() + self.taken, self.queue_bytes + self.taken_bytes),
        }
    }

    /// Whether nothing may be taken until the peer has confirmed something.
    pub(super) fn must_pause(&mut self) -> bool {
        let Some(session) = &mut self.session else { return false };
        session.is_paused = !self.queue.is_empty()
            && (self.kept.len() + self.taken >= session.limits.messages
                || self.kept_bytes + self.taken_bytes >= session.limits.bytes);
        session.is_paused
    }

    pub(in crate::queues::outbox) fn is_paused(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.is_paused)
    }

    /// A session begins, in which these were sent by the login hook.
    pub(in crate::queues::outbox) fn begin_session(
        &mut self,
        limits: Unconfirmed,
        login: Vec<Message>,
    ) {
        self.session = Some(Session { limits, confirmed: 0, is_paused: false });
        // no message of the program's is settled with one of these
        let number = self.queue.front().map_or(self.last, |next| next.number.saturating_sub(1));
        self.accepted += login.len() as u64;
        for (message, position) in login.into_iter().zip(1..) {
            self.kept_bytes += message.len();
            self.kept.push_back(Entry {
                number,
                message,
                position,
                expires: None,
                again: false,
                begun: false,
                links_ended: 0,
                is_suspect: false,
                this_link: false,
                is_uncompressed: false,
                withdrawal: None,
                is_login: true,
            });
        }
    }

    pub(super) fn written_in_session(&mut self, entry: Entry) {
        let confirmed = self.session.as_ref().map_or(0, |session| session.confirmed);
        if entry.position > confirmed {
            self.kept_bytes += entry.message.len();
            self.kept.push_back(entry);
        } else {
            // the report was faster than the bookkeeping
            self.passed_on += 1;
            self.settle(entry.number);
        }
    }

    /// What was encoded, and may be with the peer in part. It was taken and is not written.
    pub(in crate::queues::outbox) fn keep_begun(&mut self, entries: &mut VecDeque<Entry>) {
        for mut entry in entries.drain(..) {
            let size = entry.message.len();
            self.taken -= 1;
            self.taken_bytes -= size;
            self.kept_bytes += size;
            entry.begun = true;
            self.kept.push_back(entry);
        }
    }

    /// The peer has everything up to this position. Returns what need not be kept any more.
    pub(in crate::queues::outbox) fn reported(&mut self, position: u64) -> VecDeque<Entry> {
        let Some(session) = &mut self.session else { return VecDeque::new() };
        session.confirmed = session.confirmed.max(position);
        self.is_unconfirmed = false;
        let count = self.kept.partition_point(|entry| entry.position <= position);
        let confirmed = self.pass_on(count);
        if let Some(last) = confirmed.back() {
            self.settle(last.number);
        }
        confirmed
    }

    /// There is a link. What is for one link only is for one session, if there is a session.
    pub(in crate::queues::outbox) fn begin_link(&mut self) {
        if self.session.is_none() || self.link.is_none() {
            self.links += 1;
            self.link = Some(self.links);
        }
        // of this one nothing is written yet
        self.queue.iter_mut().take_while(|entry| entry.begun).for_each(|entry| entry.begun = false);
    }

    pub(in crate::queues::outbox) fn link_lost(&mut self) {
        if self.session.is_none() {
            self.link = None;
        }
    }

    /// The link is gone, the session is not.
    pub(in crate::queues::outbox) fn detached(&mut self) {
        self.largest = None;
        self.is_unconfirmed = false;
    }

    /// The session goes on, and the peer has everything up to this position: the rest is to be
    /// sent before anything else. Returns how much that is.
    pub(in crate::queues::outbox) fn resumed(&mut self, position: u64) -> usize {
        drop(self.reported(position));
        if let Some(session) = &mut self.session {
            session.confirmed = position;
            session.is_paused = false;
        }
        let rest = self.kept.len();
        while let Some(entry) = self.kept.pop_back() {
            self.send_again(entry);
        }
        rest
    }

    fn send_again(&mut self, mut entry: Entry) {
        self.kept_bytes -= entry.message.len();
        entry.again = !entry.begun;
        self.last_written = self.last_written.min(entry.number.saturating_sub(1));
        self.put_back(entry);
    }

    /// The session is over, with the link or after it. Returns for how many messages nobody knows
    /// whether the peer has them; they are lost, or sent again, as the delivery says.
    pub(in crate::queues::outbox) fn end_session(&mut self, delivery: Delivery) -> usize {
        if self.session.take().is_none() {
            return 0;
        }
        self.detached();
        self.drop_login();
        let (mut in_doubt, mut lost_to) = (0, 0);
        while let Some(entry) = self.kept.pop_back() {
            // one that was cut off never became a message at the peer
            in_doubt += usize::from(!entry.begun);
            if entry.begun || delivery == Delivery::AtLeastOnce {
                self.send_again(entry);
            } else {
                lost_to = entry.number.max(lost_to);
                self.kept_bytes -= entry.message.len();
                self.passed_on += 1;
                self.remember(entry.message, Undelivered::Lost);
            }
        }
        self.lose_up_to(lost_to);
        self.drop_this_link();
        self.link = None;
        in_doubt
    }

    /// What was written up to this number may or may not be with the peer, and nobody will know.
    pub(super) fn lose_up_to(&mut self, to: u64) {
        let from = self.settled;
        for flush in &mut self.flushes {
            flush.lost += self.gaps.outside(from, flush.up_to.min(to));
        }
        self.settled = from.max(to);
        self.gaps.forget(self.settled);
        self.decide(to, Err(Undelivered::Lost));
    }

    /// The session is over and its link goes on as an ordinary one, where pongs confirm. Returns
    /// what need not be kept any more.
    pub(in crate::queues::outbox) fn give_up_session(&mut self, delivery: Delivery) -> Vec<Entry> {
        if self.session.take().is_none() {
            return Vec::new();
        }
        self.drop_login();
        if delivery == Delivery::AtLeastOnce {
            return Vec::new();
        }
        let count = self.kept.len();
        self.pass_on(count).into()
    }

    /// What the login hook has sent is of no use any more.
    pub(super) fn drop_login(&mut self) {
        for (queue, bytes) in
            [(&mut self.queue, &mut self.queue_bytes), (&mut self.kept, &mut self.kept_bytes)]
        {
            while queue.front().is_some_and(|entry| entry.is_login) {
                if let Some(entry) = queue.pop_front() {
                    *bytes -= entry.message.len();
                    self.passed_on += 1;
                }
            }
        }
    }
}

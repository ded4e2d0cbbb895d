//! A message of the outbox.

use std::borrow::Borrow;
use std::sync::Arc;
use std::time::Instant;

use super::question::Question;
use super::terms::Terms;
use crate::message::Message;
use crate::policy::Undelivered;
use crate::wire::websocket::DeflatedOnce;

/// A message on its way.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Counted from 1 in the order of acceptance.
    pub(crate) number: u64,
    pub(crate) message: Message,
    /// What confirms it, given when it is first encoded and 0 before that: its number, or in a session
    /// that which it has there, for good.
    pub(crate) position: u64,
    pub(crate) is_uncompressed: bool,
    /// What has come of compressing it, for all to whom it goes.
    pub(crate) deflated: Option<Arc<DeflatedOnce>>,
    /// Whether any link has died with this as the first message that the peer had not confirmed.
    pub(crate) is_suspect: bool,
    /// How many sound links have.
    pub(super) links_ended: u32,
    pub(super) expires: Option<Instant>,
    /// Whether a link that died had written it.
    pub(super) again: bool,
    /// Whether the peer may have it from a link or a session that is over, and nobody will know.
    pub(super) is_in_doubt: bool,
    /// Whether the link that died last had begun to write it.
    pub(super) begun: bool,
    /// Whether the login hook has sent it: it is of use in this session only.
    pub(super) is_login: bool,
    /// Whether it is for the link that was up when it was accepted, and no other.
    pub(super) this_link: bool,
    pub(super) has_receipt: bool,
    pub(super) question: Option<Arc<Question>>,
    pub(super) key: Option<u64>,
}

impl Entry {
    pub(super) fn new(number: u64, message: Message, terms: Terms) -> Self {
        Self {
            number,
            message,
            position: 0,
            is_uncompressed: terms.is_uncompressed,
            deflated: terms.deflated,
            is_suspect: false,
            links_ended: 0,
            expires: terms.expires,
            again: false,
            is_in_doubt: false,
            begun: false,
            is_login: false,
            this_link: terms.this_link,
            has_receipt: terms.receipt.is_some(),
            question: terms.question,
            key: terms.key,
        }
    }

    /// Whether it may be with the peer already. What a session sends again is not.
    pub(crate) fn is_again(&self) -> bool {
        self.is_in_doubt
    }

    /// Whether a session does not count it: nobody asks what becomes of it, and it has no other link.
    pub(crate) fn is_outside(&self) -> bool {
        self.this_link && !self.has_receipt
    }

    pub(super) fn size(&self) -> usize {
        self.message.len()
    }

    /// Whether nobody waits for its answer any more.
    pub(super) fn is_withdrawn(&self) -> bool {
        self.question.as_ref().is_some_and(|question| !question.is_open())
    }

    /// Whether the question that it is has its last answer.
    pub(super) fn is_answered(&self) -> bool {
        self.question.as_ref().is_some_and(|question| question.is_answered())
    }

    /// Whether no link and no session has had anything of it.
    pub(super) fn is_new(&self) -> bool {
        !(self.is_login || self.again || self.is_in_doubt) && self.position == 0
    }

    /// The writer of the link of this number has it.
    pub(super) fn taken(&self, link: u32) {
        self.question.iter().for_each(|question| question.taken(link));
    }

    /// The link died first.
    pub(super) fn came_back(&self) {
        self.question.iter().for_each(|question| question.came_back());
    }

    /// It will not be written, or not again.
    pub(super) fn lost(&self, why: Undelivered) {
        self.question.iter().for_each(|question| question.lost(why));
    }

    pub(super) fn is_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|time| time <= now)
    }
}

impl Borrow<Message> for Entry {
    fn borrow(&self) -> &Message {
        &self.message
    }
}

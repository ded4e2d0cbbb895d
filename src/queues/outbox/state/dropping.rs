//! Messages that will not be sent any more.

use std::collections::VecDeque;
use std::time::Instant;

use super::{Entry, State};
use crate::message::Message;
use crate::policy::Undelivered;
use crate::queues::outbox::Terms;

impl State {
    /// Makes room by taking out what has expired; returns whether anything has.
    pub(in crate::queues::outbox) fn drop_expired(&mut self) -> bool {
        let now = Instant::now();
        if self.next_expiry.is_none_or(|time| time > now) {
            return false;
        }
        let is_over = |entry: &Entry| entry.expires.is_some_and(|time| time <= now);
        let expired = self.take_out(is_over);
        self.next_expiry = self.queue.iter().filter_map(|entry| entry.expires).min();
        let has_expired = !expired.is_empty();
        expired.into_iter().for_each(|entry| self.lose(entry, Undelivered::Expired));
        self.give_back();
        has_expired
    }

    /// Takes those out of the queue for which this holds.
    pub(super) fn take_out(&mut self, is_meant: impl Fn(&Entry) -> bool) -> VecDeque<Entry> {
        if !self.queue.iter().any(&is_meant) {
            return VecDeque::new();
        }
        let (out, stay): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.queue).into_iter().partition(&is_meant);
        self.queue = stay;
        self.queue_bytes -= out.iter().map(|entry| entry.message.len()).sum::<usize>();
        out
    }

    /// Accepts a message for which there is no room, and drops it.
    pub(in crate::queues::outbox) fn drop_newest(&mut self, message: Message, terms: Terms) {
        self.accepted += 1;
        self.dropped += 1;
        if let Some(receipt) = terms.receipt {
            receipt.cell().decide(Err(Undelivered::Dropped));
        }
        self.remember(message, Undelivered::Dropped);
    }

    /// The program is to be told of it.
    pub(super) fn remember(&mut self, message: Message, why: Undelivered) {
        if self.keeps_lost {
            self.lost.push((message, why));
        }
    }

    /// A message that was taken out of the queue will never be written, or not again: of one that a
    /// link which died had written, nobody knows whether the peer has it, whatever the occasion. In
    /// a session that is known, and what is in its queue the peer has not.
    pub(super) fn lose(&mut self, entry: Entry, occasion: Undelivered) {
        let is_in_doubt = entry.again && self.session.is_none();
        let why = match occasion {
            Undelivered::Poison => occasion,
            _ if is_in_doubt => Undelivered::Lost,
            _ => occasion,
        };
        match why {
            Undelivered::Expired => self.expired += 1,
            _ => self.dropped += 1,
        }
        self.fail_one(entry.number, why);
        self.remember(entry.message, why);
    }

    /// What was for one link, or for one session, has no other.
    pub(super) fn drop_this_link(&mut self) {
        for entry in self.take_out(|entry| entry.this_link) {
            self.lose(entry, Undelivered::LinkEnded);
        }
    }

    /// Takes a message that was withdrawn out of the queue, if it is there; returns whether it was.
    pub(in crate::queues::outbox) fn drop_withdrawn(&mut self, number: u64) -> bool {
        let index = self.queue.partition_point(|entry| entry.number < number);
        if !self.queue.get(index).is_some_and(Entry::is_withdrawn) {
            return false;
        }
        let Some(entry) = self.queue.remove(index) else { return false };
        self.queue_bytes -= entry.message.len();
        self.lose(entry, Undelivered::Withdrawn);
        self.give_back();
        true
    }

    /// Makes room; returns whether there was anything to drop.
    pub(in crate::queues::outbox) fn drop_oldest(&mut self) -> bool {
        let oldest = self.queue.iter().position(|entry| !entry.is_login);
        let Some(oldest) = oldest.and_then(|index| self.queue.remove(index)) else { return false };
        self.queue_bytes -= oldest.message.len();
        self.lose(oldest, Undelivered::Dropped);
        self.give_back();
        true
    }

    /// A message that was never written, or not again, is out of the row.
    pub(super) fn fail_one(&mut self, number: u64, why: Undelivered) {
        self.settle_receipt(number, why);
        for flush in &mut self.flushes {
            flush.lost += usize::from(number <= flush.up_to);
        }
        self.gaps.add(number);
    }

    pub(super) fn settle_receipt(&mut self, number: u64, why: Undelivered) {
        if let Ok(index) = self.receipts.binary_search_by_key(&number, |(of, _)| *of) {
            if let Some((_, cell)) = self.receipts.remove(index) {
                cell.decide(Err(why));
            }
        }
    }
}

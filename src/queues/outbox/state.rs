//! The state behind the outbox's lock: plain bookkeeping, no waiting.

mod dropping;
mod poison;
mod session;
mod too_large;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use self::session::Session;
pub(crate) use self::too_large::TooLarge;
use super::gaps::Gaps;
use super::{Terms, Withdrawal};
use crate::failure::Failure;
use crate::message::Message;
use crate::policy::Delivery;
use crate::policy::Undelivered;
use crate::queues::receipt::Cell;
use crate::sync::Share;

/// No more receipts than this wait for their outcome: the oldest is given up for the next.
const MAX_RECEIPTS: usize = 64 * 1024;

/// A message on its way.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Counted from 1 in the order of acceptance.
    pub(crate) number: u64,
    pub(crate) message: Message,
    /// Its place among all messages of the session, beats included; set when it is encoded.
    pub(crate) position: u64,
    expires: Option<Instant>,
    /// Whether a link that died had taken it before.
    again: bool,
    /// Whether the link that died last had begun to write it.
    begun: bool,
    /// How many sound links have died with this as the first message that the peer had not
    /// confirmed.
    links_ended: u32,
    /// Whether any link has.
    pub(crate) is_suspect: bool,
    /// Whether the login hook has sent it: it is of use in this session only.
    is_login: bool,
    /// Whether it is for the link that was up when it was accepted, and no other.
    this_link: bool,
    pub(crate) is_uncompressed: bool,
    withdrawal: Option<Withdrawal>,
}

impl Entry {
    fn is_withdrawn(&self) -> bool {
        self.withdrawal.as_ref().is_some_and(Withdrawal::is_withdrawn)
    }
}

/// What a send meets.
#[derive(Debug, Default)]
pub(super) enum Gate {
    #[default]
    Open,
    /// The client has given up, for this reason: messages are still queued while there is room, but
    /// there is no point in waiting.
    NobodyDrains(Arc<Failure>),
    /// Nothing more is accepted.
    Shut,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// To be written, in order.
    pub(super) queue: VecDeque<Entry>,
    queue_bytes: usize,
    /// Nothing in the queue expires before this; `None` if nothing does.
    next_expiry: Option<Instant>,
    /// What the writer holds: counted, but out of reach of the overflow policy.
    pub(super) taken: usize,
    taken_bytes: usize,
    /// Written and kept until confirmed, in order; empty unless that is the delivery, or there is
    /// a session. What a session's link had only begun to write when it died is kept, too.
    kept: VecDeque<Entry>,
    kept_bytes: usize,
    /// There while the peer reports what it has.
    session: Option<Session>,
    /// Receipts that wait for their outcome, by number.
    pub(super) receipts: VecDeque<(u64, Arc<Cell>)>,
    flushes: Vec<Flush>,
    /// The number of the message accepted last.
    last: u64,
    /// The number of the message written last, on any link.
    last_written: u64,
    /// The largest message that was written and is neither kept nor settled: number and size.
    largest: Option<(u64, usize)>,
    /// Everything up to this number is confirmed, or past confirming.
    settled: u64,
    /// The number of the last message that the peer has confirmed.
    pub(super) confirmed: u64,
    /// The number of the link that is up.
    pub(super) link: Option<u64>,
    /// How many links there have been.
    links: u64,
    /// Messages of which the program is yet to be told, if it wants to know.
    pub(super) lost: Vec<(Message, Undelivered)>,
    pub(super) keeps_lost: bool,
    /// What is out of the row above that.
    gaps: Gaps,
    /// How many threads wait for room, and how many of them for more than that.
    pub(super) waiting: usize,
    pub(super) eager: usize,
    pub(super) gate: Gate,
    /// What of the memory that all sessions share is taken for all this.
    pub(super) share: Share,
    /// Whether the peer does not confirm what it is asked to.
    pub(super) is_unconfirmed: bool,
    /// Whether something was taken out that will never be written.
    pub(super) drained: bool,
    pub(super) accepted: u64,
    pub(super) passed_on: u64,
    pub(super) dropped: u64,
    pub(super) expired: u64,
    pub(super) handed_back: u64,
    pub(super) resent: u64,
}

/// Somebody waits for everything up to a number.
#[derive(Debug)]
struct Flush {
    id: u64,
    up_to: u64,
    /// How many of those will not be confirmed any more.
    lost: usize,
}

impl State {
    pub(super) fn messages(&self) -> usize {
        self.queue.len() + self.taken + self.kept.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.queue_bytes + self.taken_bytes + self.kept_bytes
    }

    pub(super) fn is_shut(&self) -> bool {
        matches!(self.gate, Gate::Shut)
    }

    /// The client has given up, for this reason, or was sent off again.
    pub(super) fn rest(&mut self, cause: Option<Arc<Failure>>) {
        if self.is_shut() {
            return;
        }
        self.receipts.iter().for_each(|(_, cell)| cell.rest(cause.clone()));
        self.gate = cause.map_or(Gate::Open, Gate::NobodyDrains);
    }

    /// Lets others have what it does not need any more.
    pub(super) fn give_back(&mut self) {
        self.share.shrink(self.bytes());
    }

    pub(super) fn accept(&mut self, message: Message, terms: Terms) {
        self.accepted += 1;
        self.last += 1;
        let number = self.last;
        if let Some(receipt) = terms.receipt {
            if self.receipts.len() >= MAX_RECEIPTS {
                // of a peer that confirms nothing
                if let Some((_, oldest)) = self.receipts.pop_front() {
                    oldest.decide(Err(Undelivered::Lost));
                }
            }
            let cell = receipt.cell();
            cell.accepted(number);
            if let Gate::NobodyDrains(cause) = &self.gate {
                cell.rest(Some(Arc::clone(cause)));
            }
            self.receipts.push_back((number, cell));
        }
        if let Some(withdrawal) = &terms.withdrawal {
            withdrawal.accepted(number);
        }
        self.queue_bytes += message.len();
        self.share.charge(self.bytes());
        self.expect_expiry(terms.expires);
        self.queue.push_back(Entry {
            number,
            message,
            position: 0,
            expires: terms.expires,
            again: false,
            begun: false,
            links_ended: 0,
            is_suspect: false,
            is_login: false,
            this_link: terms.this_link,
            is_uncompressed: terms.is_uncompressed,
            withdrawal: terms.withdrawal,
        });
    }

    fn expect_expiry(&mut self, expires: Option<Instant>) {
        if let Some(time) = expires {
            self.next_expiry = Some(self.next_expiry.map_or(time, |next| next.min(time)));
        }
    }

    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.next_expiry
    }

    /// What was taken from the queue comes back to its front.
    fn put_back(&mut self, entry: Entry) {
        if entry.is_withdrawn() {
            return self.lose(entry, Undelivered::Withdrawn);
        }
        self.queue_bytes += entry.message.len();
        self.expect_expiry(entry.expires);
        self.queue.push_front(entry);
    }

    /// Returns whether something was taken out that is not to be written.
    pub(super) fn take(&mut self, batch: &mut VecDeque<Entry>, bytes: usize) -> bool {
        let (mut moved, mut has_lost) = (0, false);
        while moved < bytes && !self.must_pause() {
            let Some(mut entry) = self.queue.pop_front() else { break };
            entry.begun = false;
            let size = entry.message.len();
            self.queue_bytes -= size;
            let why = match &entry {
                entry if entry.is_withdrawn() => Some(Undelivered::Withdrawn),
                entry if entry.expires.is_some_and(|time| time <= Instant::now()) => {
                    Some(Undelivered::Expired)
                }
                _ => None,
            };
            if let Some(why) = why {
                self.lose(entry, why);
                has_lost = true;
                continue;
            }
            // small messages cost more than their payload: count some overhead, so that a
            // batch of tiny ones stays short
            moved += size + 48;
            self.taken_bytes += size;
            self.taken += 1;
            batch.push_back(entry);
        }
        has_lost
    }

    pub(super) fn written(&mut self, mut entry: Entry, delivery: Delivery) {
        let size = entry.message.len();
        self.taken -= 1;
        self.taken_bytes -= size;
        self.last_written = self.last_written.max(entry.number);
        self.resent += u64::from(entry.again);
        if self.session.is_some() {
            self.written_in_session(entry);
        } else if delivery == Delivery::AtLeastOnce && entry.number > self.settled {
            entry.again = true;
            self.kept_bytes += size;
            self.kept.push_back(entry);
        } else {
            self.passed_on += 1;
            let is_largest = self.largest.is_none_or(|(_, largest)| size > largest);
            if is_largest && entry.number > self.settled {
                self.largest = Some((entry.number, size));
            }
        }
    }

    /// Returns what need not be kept any more, for the caller to drop without the lock.
    pub(super) fn confirm(&mut self, number: u64) -> VecDeque<Entry> {
        if number <= self.settled {
            return VecDeque::new();
        }
        let confirmed = self.kept.partition_point(|entry| entry.number <= number);
        let confirmed = self.pass_on(confirmed);
        self.settle(number);
        confirmed
    }

    /// So many of those that are kept need not be any more.
    fn pass_on(&mut self, count: usize) -> VecDeque<Entry> {
        let rest = self.kept.split_off(count);
        let confirmed = std::mem::replace(&mut self.kept, rest);
        self.passed_on += confirmed.len() as u64;
        self.kept_bytes -= confirmed.iter().map(|entry| entry.message.len()).sum::<usize>();
        confirmed
    }

    /// The peer has everything up to this number.
    fn settle(&mut self, number: u64) {
        self.is_unconfirmed = false;
        if number > self.settled {
            self.settled = number;
            self.confirmed = number;
            self.largest = self.largest.filter(|(of, _)| *of > number);
            self.gaps.forget(number);
            self.decide(number, Ok(()));
        }
    }

    /// Settles the receipts of everything up to this number.
    fn decide(&mut self, number: u64, outcome: Result<(), Undelivered>) {
        let decided = self.receipts.partition_point(|(of, _)| *of <= number);
        for (_, cell) in self.receipts.drain(..decided) {
            cell.decide(outcome);
        }
    }

    /// What was taken and not written, but maybe begun.
    pub(super) fn restore(&mut self, batch: &mut VecDeque<Entry>, begun: bool) {
        while let Some(mut entry) = batch.pop_back() {
            entry.begun |= begun;
            let size = entry.message.len();
            self.taken -= 1;
            self.taken_bytes -= size;
            self.put_back(entry);
        }
    }

    pub(super) fn link_buried(&mut self, delivery: Delivery) {
        self.largest = None;
        self.is_unconfirmed = false;
        match delivery {
            Delivery::AtLeastOnce => {
                self.kept_bytes = 0;
                while let Some(entry) = self.kept.pop_back() {
                    self.put_back(entry);
                }
            }
            Delivery::AtMostOnce => self.lose_up_to(self.last_written),
        }
        self.drop_this_link();
    }

    /// Gives back what a burst took.
    pub(super) fn relax(&mut self) {
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        if self.kept.is_empty() {
            self.kept = VecDeque::new();
        }
        if self.receipts.is_empty() {
            self.receipts = VecDeque::new();
        }
    }

    /// Everything that was never confirmed and could be sent again.
    pub(super) fn drain(&mut self) -> Vec<Message> {
        self.drop_login();
        self.drained |= !self.queue.is_empty();
        (self.queue_bytes, self.kept_bytes) = (0, 0);
        self.give_back();
        for (_, cell) in self.receipts.drain(..) {
            cell.decide(Err(Undelivered::Closed));
        }
        let left = self.kept.drain(..).chain(self.queue.drain(..));
        let left: Vec<Message> = left.map(|entry| entry.message).collect();
        self.handed_back += left.len() as u64;
        left
    }

    pub(super) fn begin_flush(&mut self) -> u64 {
        self.eager += 1;
        let id = self.flushes.last().map_or(0, |flush| flush.id + 1);
        self.flushes.push(Flush { id, up_to: self.last, lost: 0 });
        id
    }

    /// How many messages of a flush may still be confirmed, and how many may not.
    pub(super) fn flush_progress(&self, id: u64) -> (usize, usize) {
        let Some(flush) = self.flushes.iter().find(|flush| flush.id == id) else { return (0, 0) };
        let of_login = self.queue.iter().take_while(|entry| entry.is_login).count();
        let queued = self.queue.partition_point(|entry| entry.number <= flush.up_to);
        let queued = queued.saturating_sub(of_login);
        // what the writer has and what is written lie between what is settled and what is queued
        let next = self.queue.front().map_or(self.last + 1, |entry| entry.number);
        let under_way = self.gaps.outside(self.settled, next.saturating_sub(1).min(flush.up_to));
        (queued + under_way, flush.lost)
    }

    pub(super) fn end_flush(&mut self, id: u64) {
        self.eager -= 1;
        self.flushes.retain(|flush| flush.id != id);
    }

    /// Whether something that is written has to be confirmed, for its delivery or its receipt.
    pub(super) fn waits_for_confirmation(&self) -> bool {
        let has_receipt = |(of, _): &(u64, _)| *of <= self.last_written;
        !self.kept.is_empty() || self.receipts.front().is_some_and(has_receipt)
    }

    /// Whether somebody waits for the confirmation of something that is written.
    pub(super) fn wants_flush(&self) -> bool {
        self.flushes.iter().any(|flush| self.settled < flush.up_to.min(self.last_written))
    }

    /// Whether somebody waits for confirmations, of what is written or will be.
    pub(super) fn is_flushing(&self) -> bool {
        self.flushes.iter().any(|flush| self.settled < flush.up_to)
    }
}

//! What the outbox has accepted and is not done with: plain bookkeeping, no waiting.

#[cfg(test)]
mod simulation_tests;

use std::collections::VecDeque;
use std::iter;
use std::sync::Arc;
use std::time::Instant;

use super::byte_queue::ByteQueue;
use super::confirmations::Confirmations;
use super::culprits;
use super::entry::Entry;
use super::held::Held;
use super::send_gate::SendGate;
use super::terms::{Refused, Tally, Terms, TooLarge};
use crate::failure::Failure;
use crate::message::Message;
use crate::policy::{Bounds, Delivery, Unconfirmed, Undelivered};
use crate::sync::{Budget, Holding, Share};

/// What a session that can be resumed keeps: everything that was encoded, until the peer has said
/// that it has it.
#[derive(Debug)]
struct SessionBounds {
    limits: Unconfirmed,
    /// The peer has everything up to this position.
    confirmed: u64,
    /// Whether something was not taken because too much is unconfirmed.
    is_paused: bool,
}

#[derive(Debug, Default)]
pub(super) struct Backlog {
    delivery: Delivery,
    /// To be written, in order.
    queue: ByteQueue<Entry>,
    /// Nothing in the queue expires before this; `None` if nothing does.
    next_expiry: Option<Instant>,
    /// How many messages and bytes the writer holds: counted, but out of reach of the overflow policy.
    taken: (usize, usize),
    /// Written and kept until confirmed, in order; empty unless that is the delivery, or there is
    /// a session. What a session's link had only begun to write when it died is kept, too.
    kept: ByteQueue<Entry>,
    /// What of that the program may confirm, if that is the delivery.
    held: Held,
    /// Whether the program has confirmed anything on this link.
    is_link_sound: bool,
    /// There while the peer reports what it has.
    session: Option<SessionBounds>,
    confirmations: Confirmations,
    /// The largest message that was written and is neither kept nor settled: number and size.
    largest: Option<(u64, usize)>,
    /// The number of the link that is up.
    link: Option<u64>,
    /// How many links there have been.
    links: u64,
    /// What the present one, or the last one, is called in messages that come on it.
    link_number: u32,
    /// Messages of which the program is yet to be told, if it wants to know.
    lost: Vec<(Message, Undelivered)>,
    keeps_lost: bool,
    gate: SendGate,
    /// What of the memory that all sessions share is taken for all this.
    share: Share,
    /// Whether the peer does not confirm what it is asked to.
    is_unconfirmed: bool,
    /// Whether something was taken out that will never be written.
    drained: bool,
    /// What became of everything that was accepted; what waits is counted in the queues.
    tally: Tally,
}

impl Backlog {
    pub(super) fn new(delivery: Delivery) -> Self {
        Self { delivery, ..Self::default() }
    }

    /// What it holds counts against this, too.
    pub(super) fn hold_within(&mut self, budget: &Budget) {
        self.share = budget.share();
    }

    /// The same while its session waits.
    pub(super) fn wait_within(&mut self, budget: &Budget) -> Holding {
        self.share.wait_within(budget, self.bytes())
    }

    pub(super) fn wait_no_more(&mut self) {
        self.share.wait_no_more(self.bytes());
    }

    /// Messages that are lost are kept for [`Backlog::take_lost`].
    pub(super) fn keep_lost(&mut self) {
        self.keeps_lost = true;
    }

    pub(super) fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    pub(super) fn take_lost(&mut self) -> Vec<(Message, Undelivered)> {
        std::mem::take(&mut self.lost)
    }

    pub(super) fn messages(&self) -> usize {
        self.queue.len() + self.taken.0 + self.kept.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.queue.bytes() + self.taken.1 + self.kept.bytes()
    }

    /// What became of everything that was accepted, at this moment.
    pub(super) fn tally(&self) -> Tally {
        Tally { waiting: self.messages(), waiting_bytes: self.bytes(), ..self.tally }
    }

    /// How many messages and bytes the bounds of the outbox are for. What a session keeps has
    /// bounds of its own, also when it is to be sent again.
    fn bounded(&self) -> (usize, usize) {
        if self.session.is_none() {
            return (self.messages(), self.bytes());
        }
        let again = self.queue.iter().take_while(|entry| entry.position > 0);
        let (messages, bytes) = again.fold((0, 0), |sum, it| (sum.0 + 1, sum.1 + it.size()));
        (self.queue.len() - messages + self.taken.0, self.queue.bytes() - bytes + self.taken.1)
    }

    /// Whether a message of this size may come in. One passes alone, whatever others hold.
    pub(super) fn has_room(&mut self, limits: &Bounds, size: usize) -> bool {
        let (messages, bytes) = self.bounded();
        messages < limits.messages
            && bytes + size <= limits.bytes
            && (self.messages() == 0 || self.share.covers(self.bytes() + size))
    }

    /// Whether at least a quarter of that is free.
    pub(super) fn has_ample_room(&self, limits: &Bounds) -> bool {
        let (messages, bytes) = self.bounded();
        messages <= limits.messages - limits.messages.div_ceil(4)
            && bytes <= limits.bytes - limits.bytes.div_ceil(4)
    }

    /// Lets others have what it does not need any more.
    pub(super) fn give_back(&mut self) {
        self.share.shrink(self.bytes());
    }

    pub(super) fn shut(&mut self) {
        self.gate = SendGate::Shut;
    }

    pub(super) fn is_shut(&self) -> bool {
        matches!(self.gate, SendGate::Shut)
    }

    /// Whether the client has given up.
    pub(super) fn is_resting(&self) -> bool {
        matches!(self.gate, SendGate::NobodyDrains(_))
    }

    /// The client has given up, for this reason, or was sent off again.
    pub(super) fn set_given_up(&mut self, cause: Option<Arc<Failure>>) {
        if self.is_shut() {
            return;
        }
        self.confirmations.set_given_up(cause.as_ref());
        self.gate = cause.map_or(SendGate::Open, SendGate::NobodyDrains);
    }

    /// Whether nothing waits to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn accept(&mut self, message: Message, terms: Terms) {
        self.tally.accepted += 1;
        let resting = if let SendGate::NobodyDrains(why) = &self.gate { Some(why) } else { None };
        let number = self.confirmations.accept(&terms, resting);
        self.expect_expiry(terms.expires);
        self.queue.push_back(Entry::new(number, message, terms));
        self.share.charge(self.bytes());
    }

    fn expect_expiry(&mut self, expires: Option<Instant>) {
        self.next_expiry = self.next_expiry.into_iter().chain(expires).min();
    }

    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.next_expiry
    }

    /// Moves messages to `batch` until it holds `bytes` or the queue is empty. Returns whether
    /// something was taken out that is not to be written.
    pub(super) fn take(&mut self, batch: &mut VecDeque<Entry>, bytes: usize) -> bool {
        let (mut moved, mut has_lost) = (0, false);
        while moved < bytes && !self.must_pause() {
            let Some(mut entry) = self.queue.pop_front() else { break };
            entry.begun = false;
            let why = if entry.is_withdrawn() {
                Some(Undelivered::Withdrawn)
            } else if entry.expires.is_some() && entry.is_expired(Instant::now()) {
                Some(Undelivered::Expired)
            } else {
                None
            };
            if let Some(why) = why {
                self.lose(entry, why);
                has_lost = true;
                continue;
            }
            // small messages cost more than their payload: count some overhead, so that a
            // batch of tiny ones stays short
            moved += entry.size() + 48;
            entry.taken(self.link_number);
            if !self.is_confirmed_by_pings() {
                self.held.add(&entry);
            }
            self.taken.0 += 1;
            self.taken.1 += entry.size();
            batch.push_back(entry);
        }
        has_lost
    }

    /// The writer does not hold this any more. Returns whether the program has confirmed it meanwhile; it is
    /// done with then.
    fn count_in(&mut self, entry: &Entry) -> bool {
        self.taken.0 -= 1;
        self.taken.1 -= entry.size();
        let is_confirmed = self.held.remove(entry);
        if is_confirmed {
            self.tally.passed_on += 1;
            self.confirmations.confirm_one(entry.number);
        }
        is_confirmed
    }

    /// The writer cannot encode this.
    pub(super) fn refuse(&mut self, entry: Entry) {
        self.count_in(&entry);
        self.lose(entry, Undelivered::Refused);
    }

    /// The writer has handed this to the socket whole.
    pub(super) fn written(&mut self, mut entry: Entry) {
        self.tally.resent += u64::from(entry.again);
        if self.count_in(&entry) {
            self.confirmations.written(entry.number);
            return self.settle_before_first();
        }
        let is_open = match &self.session {
            None => self.confirmations.is_open(entry.number),
            Some(_) if entry.is_outside() => {
                // nothing confirms it, and nobody waits for that
                self.tally.passed_on += 1;
                return self.confirmations.pass(entry.number);
            }
            Some(session) => entry.position > session.confirmed,
        };
        self.confirmations.written(entry.number);
        if is_open && self.keeps() {
            entry.again |= self.session.is_none();
            entry.is_in_doubt |= self.session.is_none();
            if !entry.is_withdrawn() || self.is_confirmed_by_pings() {
                return self.kept.push_back(entry);
            }
            // nothing else would take it out
            return self.withdraw(entry);
        }
        self.tally.passed_on += 1;
        let is_largest = self.largest.is_none_or(|(_, largest)| entry.size() > largest);
        if self.session.is_some() {
            // the report was faster than the bookkeeping
            self.settle(entry.number);
        } else if is_open && is_largest {
            self.largest = Some((entry.number, entry.size()));
        }
    }

    /// The program says that the peer has the message with this key. Returns whether there is one that it
    /// may have.
    pub(super) fn confirm_key(&mut self, key: u64) -> bool {
        let is_it = |entry: &Entry| entry.key == Some(key);
        let confirmed = if let Some(index) = self.kept.iter().position(is_it) {
            self.kept.remove(index)
        } else if let Some(index) = self.queue.iter().position(|it| it.again && is_it(it)) {
            self.queue.remove(index)
        } else {
            return self.held.confirm_key(key);
        };
        self.is_link_sound = true;
        if let Some(entry) = &confirmed {
            self.tally.passed_on += 1;
            self.confirmations.confirm_one(entry.number);
        }
        self.settle_before_first();
        true
    }

    /// Everything before the first that is not confirmed is settled.
    fn settle_before_first(&mut self) {
        let first = self.kept.front().or_else(|| self.queue.front().filter(|_| self.taken.0 == 0));
        match first.map(|first| first.number - 1) {
            Some(settled) => self.settle(settled),
            None if self.taken.0 == 0 => self.settle(self.confirmations.last()),
            None => {}
        }
    }

    /// The program says that the peer has everything up to this number.
    pub(super) fn confirm_number(&mut self, number: u64) -> ByteQueue<Entry> {
        self.is_link_sound = true;
        let number = number.min(self.confirmations.last());
        self.held.confirm_number(number);
        let count = self.kept.partition_point(|entry| entry.number <= number);
        let mut confirmed = self.pass_on(count);
        let again = self.queue.iter().take_while(|it| it.again && it.number <= number).count();
        self.tally.passed_on += again as u64;
        self.queue.move_front(again, &mut confirmed);
        let queued = self.queue.front().map_or(u64::MAX, |next| next.number - 1);
        self.settle(number.min(queued));
        self.settle_before_first();
        confirmed
    }

    /// Whether pings tell what the peer has.
    fn is_confirmed_by_pings(&self) -> bool {
        self.delivery != Delivery::UntilConfirmed
    }

    /// What was taken and not written, but maybe begun.
    pub(super) fn restore(&mut self, batch: &mut VecDeque<Entry>, begun: bool) {
        while let Some(mut entry) = batch.pop_back() {
            entry.begun |= begun;
            if !self.count_in(&entry) {
                self.put_back(entry);
            }
        }
    }

    /// What was encoded, and may be with the peer in part. It was taken and is not written.
    pub(super) fn restore_begun(&mut self, entries: &mut VecDeque<Entry>) {
        if self.session.is_none() {
            return self.restore(entries, true);
        }
        for mut entry in entries.drain(..) {
            if self.count_in(&entry) {
                continue;
            }
            if entry.is_outside() {
                // it has no number by which it could be kept, and no other link
                self.lose(entry, Undelivered::LinkEnded);
                continue;
            }
            entry.begun = true;
            self.kept.push_back(entry);
        }
    }

    /// What was taken from the queue comes back to its front.
    fn put_back(&mut self, mut entry: Entry) {
        if entry.is_withdrawn() {
            return self.withdraw(entry);
        }
        entry.came_back();
        self.expect_expiry(entry.expires);
        if self.session.is_none() {
            // it gets one of its next link
            entry.position = 0;
        }
        self.queue.push_front(entry);
    }

    /// The peer has confirmed everything up to this position. Returns what need not be kept any more,
    /// for the caller to drop without the lock.
    pub(super) fn confirm(&mut self, position: u64) -> ByteQueue<Entry> {
        let is_news = self.confirmations.is_open(position) && self.is_confirmed_by_pings();
        if self.session.is_none() && !is_news {
            return ByteQueue::default();
        }
        let confirmed = self.kept.partition_point(|entry| entry.position <= position);
        let confirmed = self.pass_on(confirmed);
        let number = match &mut self.session {
            None => position,
            Some(session) => {
                session.confirmed = session.confirmed.max(position);
                confirmed.back().map_or(0, |last| last.number)
            }
        };
        self.settle(number);
        confirmed
    }

    /// So many of those that are kept need not be any more.
    fn pass_on(&mut self, count: usize) -> ByteQueue<Entry> {
        self.tally.passed_on += count as u64;
        self.kept.split_front(count)
    }

    /// The peer has everything up to this number.
    fn settle(&mut self, number: u64) {
        self.is_unconfirmed = false;
        self.largest = self.largest.filter(|(of, _)| *of > number);
        self.confirmations.confirm(number);
    }

    /// Whether a message for this link only can go with the one that was up at some moment.
    pub(super) fn is_still(&self, link: Option<u64>) -> bool {
        link.is_some() && self.link == link
    }

    /// The number of the link that is up.
    pub(super) fn link(&self) -> Option<u64> {
        self.link
    }

    /// There is a link, of this number.
    pub(super) fn link_started(&mut self, number: u32) {
        self.link_number = number;
        self.links += 1;
        self.link = Some(self.links);
        self.is_link_sound = false;
        // of this one nothing is written yet
        let begun = self.queue.iter_mut().take_while(|entry| entry.begun);
        begun.for_each(|entry| entry.begun = false);
    }

    pub(super) fn link_lost(&mut self) {
        self.link = None;
    }

    pub(super) fn link_buried(&mut self) {
        self.settle_nothing();
        self.confirmations.end_link(false);
        if self.delivery.resends() {
            while let Some(entry) = self.kept.pop_back() {
                self.put_back(entry);
            }
        } else {
            self.confirmations.lose_written();
        }
        self.drop_this_link();
    }

    /// The link is gone, the session is not: what was for the link only and has no number yet has no
    /// other.
    pub(super) fn detached(&mut self) {
        self.settle_nothing();
        self.confirmations.end_link(true);
        self.drop_this_link();
    }

    fn settle_nothing(&mut self) {
        self.largest = None;
        self.is_unconfirmed = false;
    }

    /// A session begins, in which these were sent by the login hook.
    pub(super) fn begin_session(&mut self, limits: Unconfirmed, login: Vec<Message>) {
        self.session = Some(SessionBounds { limits, confirmed: 0, is_paused: false });
        // no message of the program's is settled with one of these
        let number = self.queue.front().map(|next| next.number.saturating_sub(1));
        let number = number.unwrap_or_else(|| self.confirmations.last());
        self.tally.accepted += login.len() as u64;
        for (message, position) in login.into_iter().zip(1..) {
            let entry = Entry::new(number, message, Terms::default());
            self.kept.push_back(Entry { position, is_login: true, ..entry });
        }
    }

    /// Whether nothing may be taken until the peer has confirmed something.
    fn must_pause(&mut self) -> bool {
        let Some(session) = &mut self.session else { return false };
        session.is_paused = !self.queue.is_empty()
            && (self.kept.len() + self.taken.0 >= session.limits.messages
                || self.kept.bytes() + self.taken.1 >= session.limits.bytes);
        session.is_paused
    }

    pub(super) fn has_session(&self) -> bool {
        self.session.is_some()
    }

    pub(super) fn is_paused(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.is_paused)
    }

    /// The session goes on. The peer has confirmed everything up to the position `received`, and has
    /// everything up to `has`: the rest is to be sent before anything else, each with its number. Returns
    /// how much that is.
    pub(super) fn resumed(&mut self, received: u64, has: u64) -> usize {
        drop(self.confirm(received));
        if let Some(session) = &mut self.session {
            session.is_paused = false;
        }
        while self.kept.back().is_some_and(|last| last.position > has) {
            if let Some(entry) = self.kept.pop_back() {
                self.send_again(entry);
            }
        }
        self.drop_this_link();
        self.queue.iter().take_while(|entry| entry.position > 0).count()
    }

    /// The position of what is written next, if it has one already.
    pub(super) fn next_position(&self) -> Option<u64> {
        self.queue.front().map(|entry| entry.position).filter(|position| *position > 0)
    }

    fn send_again(&mut self, mut entry: Entry) {
        entry.again = !entry.begun;
        self.confirmations.written_again_from(entry.number);
        self.put_back(entry);
    }

    /// The session is over, with the link or after it. Returns for how many messages nobody knows
    /// whether the peer has them; they are lost, or sent again, as the delivery says. If `is_known`, the
    /// peer has said what it has, and has nothing else.
    pub(super) fn end_session(&mut self, is_known: bool) -> usize {
        if self.session.take().is_none() {
            return 0;
        }
        self.settle_nothing();
        self.confirmations.end_link(false);
        self.drop_login();
        // what was to be sent again is for another session, which gives it a number
        self.queue.iter_mut().for_each(|entry| entry.position = 0);
        let (mut in_doubt, mut lost_to, mut lost) = (0, 0, Vec::new());
        while let Some(mut entry) = self.kept.pop_back() {
            // one that was cut off never became a message at the peer
            entry.begun |= is_known;
            in_doubt += usize::from(!entry.begun);
            entry.is_in_doubt |= !entry.begun;
            if entry.begun || self.delivery.resends() {
                self.send_again(entry);
            } else {
                lost_to = entry.number.max(lost_to);
                self.tally.passed_on += 1;
                lost.push(entry.message);
            }
        }
        // the oldest first
        lost.into_iter().rev().for_each(|message| self.remember(message, Undelivered::Lost));
        self.confirmations.lose(lost_to);
        self.drop_this_link();
        self.link = None;
        in_doubt
    }

    /// What the login hook has sent is of no use any more.
    fn drop_login(&mut self) {
        for queue in [&mut self.queue, &mut self.kept] {
            let count = queue.iter().take_while(|entry| entry.is_login).count();
            self.tally.passed_on += count as u64;
            drop(queue.split_front(count));
        }
    }

    /// A message that was taken out of the queue will never be written, or not again: of one that is in
    /// doubt nobody knows whether the peer has it, whatever the occasion. What a session has written is
    /// not, as long as the session goes on: what is in its queue the peer has not.
    fn lose(&mut self, entry: Entry, occasion: Undelivered) {
        let why = match occasion {
            Undelivered::Poison => occasion,
            _ if entry.is_in_doubt => Undelivered::Lost,
            _ => occasion,
        };
        match why {
            Undelivered::Expired => self.tally.expired += 1,
            _ => self.tally.dropped += 1,
        }
        self.confirmations.fail(entry.number, why);
        if !self.is_confirmed_by_pings() {
            self.settle_before_first();
        }
        entry.lost(why);
        self.remember(entry.message, why);
    }

    /// The program is to be told of it.
    fn remember(&mut self, message: Message, why: Undelivered) {
        if self.keeps_lost {
            self.lost.push((message, why));
        }
    }

    /// Accepts a message for which there is no room, and drops it.
    pub(super) fn drop_newest(&mut self, message: Message, terms: Terms) {
        self.tally.accepted += 1;
        self.tally.dropped += 1;
        terms.drop_newest();
        self.remember(message, Undelivered::Dropped);
    }

    /// Makes room; returns whether there was anything to drop.
    pub(super) fn drop_oldest(&mut self) -> bool {
        // what a session sends again takes no room from others
        let is_new = |entry: &Entry| self.session.is_none() || entry.position == 0;
        let oldest = self.queue.iter().position(|entry| !entry.is_login && is_new(entry));
        let Some(oldest) = oldest.and_then(|index| self.queue.remove(index)) else { return false };
        self.lose(oldest, Undelivered::Dropped);
        self.give_back();
        true
    }

    /// Makes room by taking out what has expired; returns whether anything has.
    pub(super) fn drop_expired(&mut self) -> bool {
        let now = Instant::now();
        if self.next_expiry.is_none_or(|time| time > now) {
            return false;
        }
        let has_expired = self.drop_all(Undelivered::Expired, |entry| entry.is_expired(now));
        self.next_expiry = self.queue.iter().filter_map(|entry| entry.expires).min();
        self.give_back();
        has_expired
    }

    /// What was for one link, or for one session, has no other.
    fn drop_this_link(&mut self) {
        self.drop_all(Undelivered::LinkEnded, |entry| entry.this_link);
    }

    /// Takes those out of the queue for which this holds; returns whether there were any.
    fn drop_all(&mut self, why: Undelivered, is_meant: impl Fn(&Entry) -> bool) -> bool {
        let out = self.queue.take_out(is_meant);
        let is_any = !out.is_empty();
        out.into_iter().for_each(|entry| self.lose(entry, why));
        is_any
    }

    /// Nobody waits for an answer to the message of this number any more: takes it out, if it is in the
    /// queue, or waits for the program to confirm it. Returns whether it was.
    pub(super) fn drop_withdrawn(&mut self, number: u64) -> bool {
        let is_kept_for_it = !self.is_confirmed_by_pings() && self.session.is_none();
        let kept = is_kept_for_it.then_some(&mut self.kept);
        let entry = iter::once(&mut self.queue).chain(kept).find_map(|queue| {
            let index = queue.partition_point(|entry| entry.number < number);
            let is_it = |entry: &Entry| entry.number == number && entry.is_withdrawn();
            if queue.get(index).is_some_and(is_it) { queue.remove(index) } else { None }
        });
        let was_there = entry.is_some();
        entry.into_iter().for_each(|entry| self.withdraw(entry));
        self.give_back();
        was_there
    }

    /// Nobody waits for an answer to a message that was taken out. Nothing confirms more than an answer.
    fn withdraw(&mut self, entry: Entry) {
        if !entry.is_answered() {
            return self.lose(entry, Undelivered::Withdrawn);
        }
        self.tally.passed_on += 1;
        self.confirmations.confirm_one(entry.number);
        if !self.is_confirmed_by_pings() {
            self.settle_before_first();
        }
    }

    /// The peer found a message on this link too large. It does not say which; the largest one that
    /// it has not confirmed is certainly too large: that one is not sent again. Returns its size, and
    /// itself if it is still here.
    pub(super) fn take_too_large(&mut self) -> Option<TooLarge> {
        let gone = self.largest.take();
        let (size, entry) = culprits::take_largest(&mut self.queue, &mut self.kept, gone)?;
        match (&entry, gone) {
            (Some(entry), _) => {
                self.tally.dropped += 1;
                self.confirmations.fail(entry.number, Undelivered::TooLarge);
                entry.lost(Undelivered::TooLarge);
            }
            (None, Some((number, _))) => {
                self.confirmations.fail_receipt(number, Undelivered::TooLarge)
            }
            (None, None) => {}
        }
        Some(TooLarge { size, message: entry.map(|entry| entry.message) })
    }

    /// A link has died of what a message can cause: the first one that the peer has not confirmed is
    /// the suspect. To be called before the link is buried. If that message was the suspect of
    /// `limit` links that were sound it is not sent again: returns its number and size.
    pub(super) fn suspect_first(&mut self, was_sound: bool, limit: u32) -> Option<(u64, usize)> {
        let was_sound = was_sound || self.is_link_sound;
        let first = culprits::suspect(&mut self.queue, &mut self.kept, was_sound, limit)?;
        let known = (first.number, first.size());
        self.lose(first, Undelivered::Poison);
        self.give_back();
        Some(known)
    }

    /// Everything that was never written, on any link.
    pub(super) fn clear(&mut self) -> Vec<Message> {
        self.drop_all(Undelivered::Withdrawn, Entry::is_withdrawn);
        let cleared = self.queue.take_out(Entry::is_new);
        self.tally.handed_back += cleared.len() as u64;
        let clear = |entry: Entry| {
            self.confirmations.fail(entry.number, Undelivered::Cleared);
            entry.lost(Undelivered::Cleared);
            entry.message
        };
        cleared.into_iter().map(clear).collect()
    }

    /// Everything that was never confirmed and could be sent again.
    pub(super) fn drain(&mut self) -> Vec<Message> {
        self.drop_login();
        self.drop_expired();
        let withdrawn = self.kept.take_out(Entry::is_withdrawn).into_iter();
        withdrawn
            .chain(self.queue.take_out(Entry::is_withdrawn))
            .for_each(|entry| self.withdraw(entry));
        self.drained |= !self.queue.is_empty();
        self.confirmations.close();
        let (kept, queue) = (std::mem::take(&mut self.kept), std::mem::take(&mut self.queue));
        self.give_back();
        let left = kept.into_iter().chain(queue);
        let left: Vec<Message> = left.map(|entry| entry.message).collect();
        self.tally.handed_back += left.len() as u64;
        left
    }

    /// Gives back what a burst took.
    pub(super) fn relax(&mut self) {
        self.queue.relax();
        self.kept.relax();
        self.confirmations.relax();
    }

    /// Whether everything that was accepted has been written, if it ever will be.
    pub(super) fn all_written(&self) -> Option<Result<(), Refused>> {
        let is_done = self.queue.is_empty() && self.taken.0 == 0;
        match (is_done, self.is_shut()) {
            (true, _) if !self.drained => Some(Ok(())),
            (true, _) | (_, true) => Some(Err(Refused::Shut)),
            _ => None,
        }
    }

    pub(super) fn confirmations(&mut self) -> &mut Confirmations {
        &mut self.confirmations
    }

    /// How many messages of a flush may still be confirmed, and how many may not.
    pub(super) fn flush_progress(&self, id: u64) -> (usize, usize) {
        let of_login = self.queue.iter().take_while(|entry| entry.is_login).count();
        let next = self.queue.get(of_login).map(|entry| entry.number);
        let queued = |up_to| self.queue.partition_point(|entry| entry.number <= up_to);
        let queued = |up_to| queued(up_to).saturating_sub(of_login);
        self.confirmations.flush_progress(id, next, queued)
    }

    /// Whether written messages are kept until they are confirmed.
    pub(super) fn keeps(&self) -> bool {
        self.delivery.resends() || self.session.is_some()
    }

    /// Whether there is something that the peer may be asked to confirm.
    pub(super) fn wants_confirmation(&self) -> bool {
        self.is_confirmed_by_pings() && (self.keeps() || self.confirmations.has_receipts())
    }

    /// Whether somebody waits for what the peer may be asked to confirm.
    pub(super) fn is_urgent(&self) -> bool {
        self.is_paused() || self.is_confirmed_by_pings() && self.confirmations.wants_flush()
    }

    pub(super) fn is_flushing(&self) -> bool {
        self.is_confirmed_by_pings() && self.confirmations.is_flushing()
    }

    /// Whether the writer has nothing to do: nothing to write, nothing to ask.
    pub(super) fn is_quiet(&self) -> bool {
        self.is_empty() && !self.wants_confirmation() && !self.is_urgent()
    }

    /// Whether the peer does not confirm what it is asked to.
    pub(super) fn is_unconfirmed(&self) -> bool {
        self.is_unconfirmed
    }

    /// Notes that it does not, if anything waits for it; returns whether that was not known.
    pub(super) fn leave_unconfirmed(&mut self) -> bool {
        let is_awaited = self.is_confirmed_by_pings()
            && (!self.kept.is_empty() || self.confirmations.has_receipt_written());
        is_awaited && !std::mem::replace(&mut self.is_unconfirmed, true)
    }
}

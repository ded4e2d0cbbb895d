//! What the peer has of what was accepted, as far as that is known.

use std::collections::VecDeque;
use std::sync::Arc;

use super::gaps::Gaps;
use super::question::{Lasts, Questions};
use super::receipt::Cell;
use super::terms::Terms;
use crate::failure::Failure;
use crate::policy::Undelivered;

/// No more receipts than this wait for their outcome.
const MAX_RECEIPTS: usize = 64 * 1024;

/// Messages are known by their numbers, counted from 1 in the order of acceptance.
#[derive(Debug, Default)]
pub(super) struct Confirmations {
    accepted: u64,
    /// The number of the message written last, on any link.
    written: u64,
    /// Everything up to this number is confirmed, or past confirming.
    settled: u64,
    /// Numbers above that which are not under way: dropped, or expired.
    gaps: Gaps,
    /// The number of the last message that the peer has confirmed.
    confirmed: u64,
    /// Receipts that wait for their outcome, by number.
    receipts: VecDeque<(u64, Arc<Cell>)>,
    /// Those that the peer answers, which says more than that it has them.
    questions: Questions,
    flushes: Vec<Flush>,
}

/// Somebody waits for everything up to a number.
#[derive(Debug)]
struct Flush {
    id: u64,
    up_to: u64,
    /// How many of those will not be confirmed any more.
    lost: usize,
}

impl Confirmations {
    /// A message is accepted: returns its number. `resting` says why nobody sends it for now.
    pub(super) fn accept(&mut self, terms: &Terms, resting: Option<&Arc<Failure>>) -> u64 {
        self.accepted += 1;
        if let Some(question) = &terms.question {
            question.accepted(self.accepted, terms.expires, resting.cloned());
            self.questions.add(question);
        }
        if let Some(receipt) = &terms.receipt {
            let cell = receipt.cell();
            cell.accepted(self.accepted, terms.expires);
            if resting.is_some() {
                cell.set_given_up(resting.cloned());
            }
            self.receipts.push_back((self.accepted, cell));
        }
        self.accepted
    }

    /// The number of the message accepted last.
    pub(super) fn last(&self) -> u64 {
        self.accepted
    }

    pub(super) fn written(&mut self, number: u64) {
        self.written = self.written.max(number);
    }

    /// The message with this number will be written again, and all behind it.
    pub(super) fn written_again_from(&mut self, number: u64) {
        self.written = self.written.min(number.saturating_sub(1));
    }

    /// Whether what becomes of this number is still open.
    pub(super) fn is_open(&self, number: u64) -> bool {
        number > self.settled
    }

    /// The number of the last message that the peer has confirmed.
    pub(super) fn confirmed_up_to(&self) -> u64 {
        self.confirmed
    }

    /// The peer has everything up to this number.
    pub(super) fn confirm(&mut self, number: u64) {
        if self.is_open(number) {
            self.settled = number;
            self.confirmed = number;
            self.gaps.forget(number);
            self.decide(number, Ok(()));
        }
    }

    /// The peer has this one, whatever else it has.
    pub(super) fn confirm_one(&mut self, number: u64) {
        if self.is_open(number) {
            self.settle_receipt(number, Ok(()));
            self.gaps.add(number);
        }
    }

    /// What was written may or may not be with the peer, and nobody will know.
    pub(super) fn lose_written(&mut self) {
        self.lose(self.written);
    }

    /// The same for everything up to this number.
    pub(super) fn lose(&mut self, number: u64) {
        let from = self.settled;
        for flush in &mut self.flushes {
            flush.lost += self.gaps.outside(from, flush.up_to.min(number));
        }
        self.settled = from.max(number);
        self.gaps.forget(self.settled);
        self.decide(number, Err(Undelivered::Lost));
    }

    /// Settles the receipts of everything up to this number.
    fn decide(&mut self, number: u64, outcome: Result<(), Undelivered>) {
        let decided = self.receipts.partition_point(|(of, _)| *of <= number);
        for (_, cell) in self.receipts.drain(..decided) {
            cell.decide(outcome);
        }
    }

    /// A message was written that nothing confirms.
    pub(super) fn pass(&mut self, number: u64) {
        if self.is_open(number) {
            self.gaps.add(number);
        }
    }

    /// A message was never written, or will not be written again.
    pub(super) fn fail(&mut self, number: u64, why: Undelivered) {
        self.fail_receipt(number, why);
        for flush in &mut self.flushes {
            flush.lost += usize::from(number <= flush.up_to);
        }
        self.gaps.add(number);
    }

    pub(super) fn fail_receipt(&mut self, number: u64, why: Undelivered) {
        self.settle_receipt(number, Err(why));
    }

    fn settle_receipt(&mut self, number: u64, outcome: Result<(), Undelivered>) {
        if let Ok(index) = self.receipts.binary_search_by_key(&number, |(of, _)| *of) {
            if let Some((_, cell)) = self.receipts.remove(index) {
                cell.decide(outcome);
            }
        }
    }

    /// Nothing is sent any more.
    pub(super) fn close(&mut self) {
        for (_, cell) in self.receipts.drain(..) {
            cell.decide(Err(Undelivered::Closed));
        }
        self.end_questions();
    }

    /// No answers come any more.
    pub(super) fn end_questions(&mut self) {
        self.questions.close();
    }

    /// The link is gone on which questions were written, and the session too unless that goes on.
    pub(super) fn end_link(&self, session_goes_on: bool) {
        self.questions.link_ended(|lasts| match lasts {
            Lasts::UntilAnswered => false,
            Lasts::WithItsLink => !session_goes_on,
            Lasts::WithThisLink => true,
        });
    }

    /// The client has given up, for this reason, or was sent off again.
    pub(super) fn set_given_up(&self, cause: Option<&Arc<Failure>>) {
        self.receipts.iter().for_each(|(_, cell)| cell.set_given_up(cause.cloned()));
        self.questions.set_given_up(cause);
    }

    pub(super) fn begin_flush(&mut self) -> u64 {
        let id = self.flushes.last().map_or(0, |flush| flush.id + 1);
        self.flushes.push(Flush { id, up_to: self.accepted, lost: 0 });
        id
    }

    /// How many messages of a flush may still be confirmed, and how many may not. `next` is the number
    /// of the message that is written next, `queued` says how many up to a number wait to be written.
    pub(super) fn flush_progress(
        &self,
        id: u64,
        next: Option<u64>,
        queued: impl FnOnce(u64) -> usize,
    ) -> (usize, usize) {
        let Some(flush) = self.flushes.iter().find(|flush| flush.id == id) else { return (0, 0) };
        // what the writer has and what is written lie between what is settled and what is queued
        let taken = next.map_or(self.accepted, |next| next.saturating_sub(1));
        let under_way = self.gaps.outside(self.settled, taken.min(flush.up_to));
        (queued(flush.up_to) + under_way, flush.lost)
    }

    pub(super) fn end_flush(&mut self, id: u64) {
        self.flushes.retain(|flush| flush.id != id);
    }

    /// Whether somebody waits for the confirmation of something that is written.
    pub(super) fn wants_flush(&self) -> bool {
        self.flushes.iter().any(|flush| self.settled < flush.up_to.min(self.written))
    }

    /// Whether somebody waits for confirmations, of what is written or will be.
    pub(super) fn is_flushing(&self) -> bool {
        self.flushes.iter().any(|flush| self.settled < flush.up_to)
    }

    /// Whether there are so many that the peer seems to confirm nothing.
    pub(super) fn has_most_receipts(&self) -> bool {
        self.receipts.len() >= MAX_RECEIPTS
    }

    pub(super) fn has_receipts(&self) -> bool {
        !self.receipts.is_empty()
    }

    /// Whether there is a receipt of something that is written.
    pub(super) fn has_receipt_written(&self) -> bool {
        self.receipts.front().is_some_and(|(number, _)| *number <= self.written)
    }

    /// Gives back what a burst took.
    pub(super) fn relax(&mut self) {
        if self.receipts.is_empty() {
            self.receipts = VecDeque::new();
        }
        self.questions.relax();
    }
}

#[cfg(test)]
impl Confirmations {
    pub(super) fn receipts(&self) -> usize {
        self.receipts.len()
    }
}

//! What waits to be sent, and what waits to be confirmed. It outlives every link.

mod state;

use std::collections::VecDeque;
use std::sync::Weak;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::message::Message;
use crate::policy::Framing;
use crate::policy::Undelivered;
use crate::policy::{Delivery, Overflow, Queue};
use crate::queues::receipt::Receipt;
use crate::sync::{AtomicBool, Condvar, Doorbell, Mutex, MutexGuard};
pub(crate) use state::{Entry, TooLarge};
use state::{Gate, State};

/// The queue between the threads that send and the one thread that writes.
///
/// Invariants: messages leave in the order in which they were accepted; what the writer has
/// taken and not yet written, and what is kept until it is confirmed, counts against the bounds;
/// whoever pushes onto an empty queue rings the doorbell, so a writer that saw it empty under the
/// lock can sleep on the doorbell without missing anything.
#[derive(Debug)]
pub(crate) struct Outbox {
    limits: Queue,
    /// The largest message that the connection carries.
    max_message: usize,
    /// On `tcp://` only.
    framing: Option<Framing>,
    delivery: Delivery,
    /// Whether the peer can be asked what it has.
    confirmable: bool,
    state: Mutex<State>,
    /// Signalled when room appears, something is confirmed, or the outbox shuts.
    room: Condvar,
    doorbell: Doorbell,
    shortcut: Mutex<Option<Weak<dyn Shortcut>>>,
    /// Whether something was received since the shortcut was last taken.
    turn: AtomicBool,
}

/// A way to the socket past the writer thread.
pub(crate) trait Shortcut: Send + Sync {
    /// Writes the next message, if the writer sleeps and nobody has to wait for the socket.
    /// Returns whether there is nothing to wake the writer for.
    fn write_one(&self) -> bool;
}

/// Why a message was not accepted, or a wait ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    TooLarge {
        size: usize,
        limit: usize,
    },
    Unsendable(&'static str),
    Full,
    TimedOut,
    /// Full, and no link is to be expected.
    NobodyDrains,
    Shut,
    Unconfirmed(usize),
    Unconfirmable,
}

/// What became of messages: each that was accepted is in one of the others, but for `resent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) accepted: u64,
    /// Written, and confirmed where that is the delivery.
    pub(crate) passed_on: u64,
    pub(crate) waiting: usize,
    pub(crate) waiting_bytes: usize,
    pub(crate) dropped: u64,
    pub(crate) expired: u64,
    pub(crate) handed_back: u64,
    pub(crate) resent: u64,
}

/// How long a send may wait for room.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Patience {
    None,
    Until(Instant),
    Forever,
}

/// What goes with a message into the outbox.
#[derive(Debug, Default)]
pub(crate) struct Terms {
    pub(crate) receipt: Option<Receipt>,
    pub(crate) expires: Option<Instant>,
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::TooLarge { size, limit } => Self::MessageTooLarge { size, limit },
            Refused::Unsendable(reason) => Self::Unsendable { reason },
            Refused::TimedOut => Self::Timeout,
            Refused::Shut => Self::Closed,
            Refused::Full | Refused::NobodyDrains => Self::Full,
            Refused::Unconfirmed(count) => Self::Unconfirmed { count },
            Refused::Unconfirmable => Self::Unconfirmable,
        }
    }
}

impl Patience {
    fn is_any(self) -> bool {
        !matches!(self, Self::None)
    }

    /// Until this much time has passed; a time beyond all clocks is forever.
    pub(crate) fn timeout(timeout: Duration) -> Self {
        Instant::now().checked_add(timeout).map_or(Self::Forever, Self::Until)
    }
}

impl Outbox {
    pub(crate) fn new(
        limits: Queue,
        max_message: usize,
        framing: Option<Framing>,
        delivery: Delivery,
        confirmable: bool,
    ) -> Self {
        let max_message =
            max_message.min(limits.bytes).min(framing.as_ref().map_or(usize::MAX, Framing::limit));
        let (state, room) = (Mutex::new(State::default()), Condvar::new());
        let doorbell = Doorbell::new();
        let (shortcut, turn) = (Mutex::new(None), AtomicBool::new(true));
        Self {
            limits,
            max_message,
            framing,
            delivery,
            confirmable,
            state,
            room,
            doorbell,
            shortcut,
            turn,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Accepts a message, or says why not. No patience turns waiting into `Full`.
    pub(crate) fn push(
        &self,
        message: Message,
        terms: Terms,
        patience: Patience,
    ) -> Result<(), Refused> {
        if terms.receipt.is_some() && !self.confirmable {
            return Err(Refused::Unconfirmable);
        }
        let (size, limit) = (message.len(), self.max_message);
        if size > limit {
            return Err(Refused::TooLarge { size, limit });
        }
        if let Some(framing) = &self.framing {
            framing.check(&message).map_err(Refused::Unsendable)?;
        }
        let mut state = self.state();
        while state.gate != Gate::Shut && !self.has_room(&state, size) {
            if state.drop_expired() {
                // others may have waited for that room, or for those messages
                self.room.notify_all();
                continue;
            }
            match self.limits.overflow {
                // room comes with confirmations here, and none come
                Overflow::Wait if state.is_unconfirmed && self.keeps() && patience.is_any() => {
                    return Err(Refused::Unconfirmable);
                }
                Overflow::Wait => {
                    let expiry = state.next_expiry();
                    state = self.wait(state, patience, expiry)?;
                }
                Overflow::Fail => return Err(Refused::Full),
                Overflow::DropOldest if state.drop_oldest() => {}
                // or all of it is written already: that is past dropping
                Overflow::DropOldest | Overflow::DropNewest => {
                    state.drop_newest();
                    if let Some(receipt) = terms.receipt {
                        receipt.cell().decide(Err(Undelivered::Dropped));
                    }
                    return Ok(());
                }
            }
        }
        if state.gate == Gate::Shut {
            return Err(Refused::Shut);
        }
        let was_empty = state.queue.is_empty();
        state.accept(message, terms);
        drop(state);
        if was_empty && !self.take_shortcut() {
            self.ring();
        }
        Ok(())
    }

    /// Writes what was just accepted, if that is likely to be all for now: one message for each
    /// time that something was received. A program that sends without end is better served by
    /// the writer, which takes many at a time.
    fn take_shortcut(&self) -> bool {
        if !self.turn.load(Relaxed) || !self.turn.swap(false, Relaxed) {
            return false;
        }
        let shortcut = self.shortcut.lock().clone();
        shortcut.and_then(|link| link.upgrade()).is_some_and(|link| link.write_one())
    }

    /// The link that is up, for those who may write to it themselves.
    pub(crate) fn offer_shortcut(&self, link: Weak<dyn Shortcut>) {
        *self.shortcut.lock() = Some(link);
    }

    /// Something was received.
    pub(crate) fn heard(&self) {
        if !self.turn.load(Relaxed) {
            self.turn.store(true, Relaxed);
        }
    }

    fn has_room(&self, state: &State, size: usize) -> bool {
        state.messages() < self.limits.messages && state.bytes() + size <= self.limits.bytes
    }

    /// Waits for a signal, or until then.
    fn wait<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        patience: Patience,
        until: Option<Instant>,
    ) -> Result<MutexGuard<'a, State>, Refused> {
        if state.gate == Gate::NobodyDrains {
            return Err(Refused::NobodyDrains);
        }
        let deadline = match patience {
            Patience::None => return Err(Refused::Full),
            Patience::Forever => None,
            Patience::Until(deadline) => Some(deadline),
        };
        let now = Instant::now();
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Err(Refused::TimedOut);
        }
        state.waiting += 1;
        let mut state = match deadline.into_iter().chain(until).min() {
            None => self.room.wait(state),
            Some(time) => {
                let left = time.saturating_duration_since(now);
                self.room.wait_timeout(state, left)
            }
        };
        state.waiting -= 1;
        Ok(state)
    }

    /// Waits until everything that was accepted has been written.
    pub(crate) fn wait_written(&self, deadline: Option<Instant>) -> Result<(), Refused> {
        let patience = deadline.map_or(Patience::Forever, Patience::Until);
        let mut state = self.state();
        state.eager += 1;
        let result = loop {
            if state.queue.is_empty() && state.taken == 0 {
                break if state.drained { Err(Refused::Shut) } else { Ok(()) };
            }
            if state.gate == Gate::Shut {
                break Err(Refused::Shut);
            }
            match self.wait(state, patience, None) {
                Ok(again) => state = again,
                Err(refused) => {
                    self.state().eager -= 1;
                    return Err(refused);
                }
            }
        };
        state.eager -= 1;
        result
    }

    /// Waits until the peer has confirmed everything that was accepted before this call.
    pub(crate) fn flush(&self, deadline: Option<Instant>) -> Result<(), Refused> {
        if !self.confirmable {
            return Err(Refused::Unconfirmable);
        }
        let patience = deadline.map_or(Patience::Forever, Patience::Until);
        let mut state = self.state();
        let id = state.begin_flush();
        // the writer is to ask now, not when it is time
        self.ring();
        let outcome = loop {
            let (outstanding, lost) = state.flush_progress(id);
            if outstanding == 0 || state.gate == Gate::Shut {
                break Ok(outstanding + lost);
            }
            match self.wait(state, patience, None) {
                Ok(again) => state = again,
                Err(Refused::TimedOut) => {
                    state = self.state();
                    let (outstanding, lost) = state.flush_progress(id);
                    break Ok(outstanding + lost);
                }
                Err(refused) => {
                    state = self.state();
                    break Err(refused);
                }
            }
        };
        state.end_flush(id);
        match outcome {
            Ok(0) => Ok(()),
            Ok(count) => Err(Refused::Unconfirmed(count)),
            Err(refused) => Err(refused),
        }
    }

    /// Moves messages to `batch` until it holds `bytes` or the queue is empty, leaving out what
    /// has expired.
    pub(crate) fn take(&self, batch: &mut VecDeque<Entry>, bytes: usize) {
        let mut state = self.state();
        let wake = state.take(batch, bytes) && state.waiting > 0;
        drop(state);
        if wake {
            self.room.notify_all();
        }
    }

    /// The writer has handed these to the socket whole.
    pub(crate) fn written(&self, entries: impl Iterator<Item = Entry>) {
        let mut state = self.state();
        for entry in entries {
            state.written(entry, self.delivery);
        }
        self.wake_if_ample(state);
    }

    /// The peer has confirmed everything up to this number.
    pub(crate) fn confirmed(&self, number: u64) {
        let mut state = self.state();
        let confirmed = state.confirm(number);
        self.wake_if_ample(state);
        drop(confirmed);
    }

    /// Wakes those who wait when it is worth it: for a quarter of the queue at a time, not every
    /// message; a sender that is faster than the socket would otherwise be woken for each. Those
    /// who wait for more than room are eager.
    fn wake_if_ample(&self, state: MutexGuard<'_, State>) {
        let (messages, bytes) = (self.limits.messages, self.limits.bytes);
        let ample = state.messages() <= messages - messages.div_ceil(4)
            && state.bytes() <= bytes - bytes.div_ceil(4);
        let wake = state.waiting > 0 && (ample || state.eager > 0);
        drop(state);
        if wake {
            self.room.notify_all();
        }
    }

    /// The link died first: what was taken and not written goes back to the front.
    pub(crate) fn restore(&self, batch: &mut VecDeque<Entry>) {
        if !batch.is_empty() {
            self.state().restore(batch, false);
        }
    }

    /// The same with what the link had begun to write.
    pub(crate) fn restore_begun(&self, entries: &mut VecDeque<Entry>) {
        self.state().restore(entries, true);
    }

    /// The peer of a link that is about to be buried has found a message too large.
    pub(crate) fn take_too_large(&self) -> Option<TooLarge> {
        self.state().take_too_large()
    }

    /// Nothing more is written for a while: whatever room there is, is all there will be.
    pub(crate) fn link_lost(&self) {
        self.room.notify_all();
        self.ring();
    }

    /// The link is buried: what it had taken and the peer has not confirmed goes back to the
    /// front, or is lost.
    pub(crate) fn link_buried(&self) {
        self.state().link_buried(self.delivery);
        self.room.notify_all();
    }

    /// Whether written messages are kept until they are confirmed.
    fn keeps(&self) -> bool {
        self.delivery == Delivery::AtLeastOnce
    }

    /// The peer does not answer what confirms: notes that, if anything waits for it, and returns
    /// whether it did not know. It holds until something is confirmed, or the link is buried.
    pub(crate) fn is_left_unconfirmed(&self) -> bool {
        let mut state = self.state();
        let is_news = !state.is_unconfirmed && state.waits_for_confirmation();
        state.is_unconfirmed |= is_news;
        drop(state);
        if is_news {
            self.room.notify_all();
        }
        is_news
    }

    /// Whether anybody wants to know what the peer has, and whether somebody waits for it.
    pub(crate) fn wants_confirmation(&self) -> (bool, bool) {
        let state = self.state();
        let urgent = state.wants_flush();
        (self.is_confirmation_wanted(&state) || urgent, urgent)
    }

    fn is_confirmation_wanted(&self, state: &State) -> bool {
        self.delivery == Delivery::AtLeastOnce || !state.receipts.is_empty()
    }

    /// Whether the writer has nothing to do here: nothing to write, nothing to ask.
    pub(crate) fn is_quiet(&self) -> bool {
        let state = self.state();
        state.queue.is_empty() && !self.is_confirmation_wanted(&state) && !state.wants_flush()
    }

    /// Wakes the writer.
    pub(crate) fn ring(&self) {
        self.doorbell.ring();
    }

    /// What the writer sleeps on. A token says "look again", no more.
    pub(crate) fn doorbell(&self) -> &Doorbell {
        &self.doorbell
    }

    /// Whether threads may wait for room. They may not once the client has given up.
    pub(crate) fn set_drained(&self, drained: bool) {
        let mut state = self.state();
        if state.gate != Gate::Shut {
            state.gate = if drained { Gate::Open } else { Gate::NobodyDrains };
        }
        drop(state);
        self.room.notify_all();
    }

    /// Accepts nothing from here on; what is queued stays until it is written or drained.
    pub(crate) fn shut(&self) {
        self.state().gate = Gate::Shut;
        self.room.notify_all();
    }

    /// Takes out everything that is left, for good.
    pub(crate) fn drain(&self) -> Vec<Message> {
        let left = self.state().drain();
        self.room.notify_all();
        left
    }

    /// The connection is idle: gives back what a burst took.
    pub(crate) fn relax(&self) {
        self.state().relax();
    }

    /// How many messages and bytes wait, are being written or are kept.
    #[cfg(test)]
    pub(crate) fn depth(&self) -> (usize, usize) {
        let state = self.state();
        (state.messages(), state.bytes())
    }

    /// What became of everything that was accepted, at one moment.
    pub(crate) fn tally(&self) -> Tally {
        let state = self.state();
        Tally {
            accepted: state.accepted,
            passed_on: state.passed_on,
            waiting: state.messages(),
            waiting_bytes: state.bytes(),
            dropped: state.dropped,
            expired: state.expired,
            handed_back: state.handed_back,
            resent: state.resent,
        }
    }

    /// What was dropped by the policy, has expired, and was sent again.
    #[cfg(test)]
    pub(crate) fn counts(&self) -> [u64; 3] {
        let state = self.state();
        [state.dropped, state.expired, state.resent]
    }
}

#[cfg(test)]
mod accounting_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn outbox(messages: usize, overflow: Overflow) -> Outbox {
        let limits = Queue::new().messages(messages).overflow(overflow);
        Outbox::new(limits, usize::MAX, None, Delivery::AtMostOnce, true)
    }

    fn push(outbox: &Outbox, text: &str, patience: Patience) -> Result<(), Refused> {
        outbox.push(text.into(), Terms::default(), patience)
    }

    fn fill(outbox: &Outbox, numbers: std::ops::Range<u32>) {
        for number in numbers {
            push(outbox, &number.to_string(), Patience::None).unwrap();
        }
    }

    fn texts(messages: Vec<Message>) -> Vec<String> {
        messages.iter().map(|message| message.as_text().unwrap_or("?").to_owned()).collect()
    }

    /// Takes one message and writes it.
    fn write_one(outbox: &Outbox) -> Option<Message> {
        let mut batch = VecDeque::new();
        outbox.take(&mut batch, 1);
        let message = batch.front().map(|entry| entry.message.clone());
        outbox.written(batch.into_iter());
        message
    }

    #[test]
    fn each_policy_at_the_bound() {
        let full = outbox(2, Overflow::Fail);
        fill(&full, 0..2);
        assert_eq!(push(&full, "2", Patience::Forever), Err(Refused::Full));
        assert_eq!(texts(full.drain()), ["0", "1"]);

        let oldest = outbox(2, Overflow::DropOldest);
        fill(&oldest, 0..5);
        assert_eq!((oldest.counts()[0], texts(oldest.drain())), (3, vec!["3".into(), "4".into()]));

        let newest = outbox(2, Overflow::DropNewest);
        fill(&newest, 0..5);
        assert_eq!((newest.counts()[0], texts(newest.drain())), (3, vec!["0".into(), "1".into()]));
    }

    #[test]
    fn bytes_bound_it_too() {
        let limits = Queue::new().bytes(10).overflow(Overflow::Fail);
        let small = Outbox::new(limits, 100, None, Delivery::AtMostOnce, true);
        let huge = push(&small, "12345678901", Patience::None);
        assert_eq!(huge, Err(Refused::TooLarge { size: 11, limit: 10 }));
        push(&small, "123456", Patience::None).unwrap();
        assert_eq!(push(&small, "12345", Patience::None), Err(Refused::Full));
        push(&small, "1234", Patience::None).unwrap();
        assert_eq!(small.depth(), (2, 10));
    }

    #[test]
    fn waiting_ends_with_room_with_the_deadline_and_with_the_end() {
        let outbox = Arc::new(outbox(1, Overflow::Wait));
        fill(&outbox, 0..1);
        let soon = Patience::timeout(Duration::from_millis(10));
        assert_eq!(push(&outbox, "late", soon), Err(Refused::TimedOut));
        let push_elsewhere = |text: &'static str| {
            let outbox = Arc::clone(&outbox);
            std::thread::spawn(move || push(&outbox, text, Patience::Forever))
        };
        let waiter = push_elsewhere("next");
        write_one(&outbox);
        assert_eq!(waiter.join().unwrap(), Ok(()));
        let waiter = push_elsewhere("never");
        outbox.shut();
        assert_eq!(waiter.join().unwrap(), Err(Refused::Shut));
        assert_eq!(texts(outbox.drain()), ["next"]);
    }

    #[test]
    fn what_has_expired_is_in_nobodys_way() {
        let push = |outbox: &Outbox, text: &str, ttl: Option<u64>, patience| {
            let expires = ttl.map(|millis| Instant::now() + Duration::from_millis(millis));
            outbox.push(text.into(), Terms { receipt: None, expires }, patience)
        };
        for overflow in [Overflow::Fail, Overflow::DropOldest, Overflow::DropNewest] {
            let outbox = outbox(3, overflow);
            push(&outbox, "lasting", None, Patience::None).unwrap();
            push(&outbox, "stale", Some(0), Patience::None).unwrap();
            push(&outbox, "lasting too", Some(1 << 30), Patience::None).unwrap();
            push(&outbox, "fresh", Some(1 << 30), Patience::None).unwrap();
            assert_eq!(outbox.counts(), [0, 1, 0], "{overflow:?}");
            assert_eq!(outbox.depth(), (3, "lastinglasting toofresh".len()));
            assert_eq!(texts(outbox.drain()), ["lasting", "lasting too", "fresh"]);
        }
        // nobody has to say so to who waits already
        let outbox = outbox(1, Overflow::Wait);
        push(&outbox, "soon stale", Some(20), Patience::None).unwrap();
        push(&outbox, "fresh", None, Patience::Forever).unwrap();
        assert_eq!(texts(outbox.drain()), ["fresh"]);
        // what a link gives back expires as well
        push(&outbox, "soon stale", Some(20), Patience::None).unwrap();
        let mut batch = VecDeque::new();
        outbox.take(&mut batch, 1);
        outbox.restore(&mut batch);
        push(&outbox, "fresh", None, Patience::Forever).unwrap();
        assert_eq!(texts(outbox.drain()), ["fresh"]);
    }

    #[test]
    fn nobody_waits_for_a_client_that_gave_up() {
        let outbox = outbox(1, Overflow::Wait);
        outbox.set_drained(false);
        fill(&outbox, 0..1);
        assert_eq!(push(&outbox, "1", Patience::Forever), Err(Refused::NobodyDrains));
    }

    #[test]
    fn every_receipt_learns_what_became_of_its_message() {
        let outbox = outbox(3, Overflow::DropOldest);
        let send = |expires: Option<Instant>| {
            let receipt = Receipt::new();
            let terms = Terms { receipt: Some(receipt.clone()), expires };
            outbox.push("x".into(), terms, Patience::None).unwrap();
            receipt
        };
        let outcome = |receipt: &Receipt| match receipt.wait(Duration::ZERO) {
            Ok(()) => "confirmed".into(),
            Err(error) => error.to_string(),
        };
        let confirmed = send(None);
        write_one(&outbox);
        outbox.confirmed(1);
        let lost = send(None);
        write_one(&outbox);
        assert_eq!(outcome(&lost), "timed out");
        outbox.link_buried();
        let expired = send(Some(Instant::now()));
        assert!(write_one(&outbox).is_none());
        let dropped = send(None);
        let closed = [send(None), send(None), send(None)];
        outbox.shut();
        assert_eq!(outbox.drain().len(), 3);
        assert!(confirmed.is_confirmed() && !lost.is_confirmed());
        assert_eq!(outcome(&confirmed), "confirmed");
        for (receipt, undelivered) in [
            (&lost, Undelivered::Lost),
            (&expired, Undelivered::Expired),
            (&dropped, Undelivered::Dropped),
            (&closed[0], Undelivered::Closed),
        ] {
            let error = receipt.wait(Duration::ZERO).unwrap_err();
            assert!(matches!(error, Error::Undelivered(why) if why == undelivered), "{error:?}");
        }
        assert_eq!(outbox.counts(), [1, 1, 0]);
    }

    #[test]
    fn flush_counts_what_is_not_confirmed() {
        let outbox = outbox(10, Overflow::Wait);
        let now = || Some(Instant::now());
        assert_eq!(outbox.flush(now()), Ok(()));
        fill(&outbox, 0..3);
        assert_eq!(outbox.flush(now()), Err(Refused::Unconfirmed(3)));
        write_one(&outbox);
        write_one(&outbox);
        outbox.confirmed(1);
        assert_eq!(outbox.flush(now()), Err(Refused::Unconfirmed(2)));
        write_one(&outbox);
        outbox.confirmed(3);
        assert_eq!(outbox.flush(now()), Ok(()));
    }

    proptest! {
        /// Whatever dies in between: without confirmations every message is written at most
        /// once, and in order; with them, first arrivals are in order and nothing is missing.
        #[test]
        fn order_survives_any_row_of_links(
            delivery in prop::sample::select(vec![Delivery::AtMostOnce, Delivery::AtLeastOnce]),
            steps in prop::collection::vec((0..6_usize, 0..6_usize, 0..200_usize), 1..60),
        ) {
            let limits = Queue::new().messages(10_000).overflow(Overflow::Fail);
            let outbox = Outbox::new(limits, usize::MAX, None, delivery, true);
            let (mut pushed, mut arrived) = (0_u32, Vec::new());
            for (written, confirmed, budget) in steps {
                fill(&outbox, pushed..pushed + 3);
                pushed += 3;
                let mut batch = VecDeque::new();
                outbox.take(&mut batch, budget);
                let whole: Vec<Entry> = batch.drain(..written.min(batch.len())).collect();
                arrived.extend(whole.iter().map(|entry| entry.message.clone()));
                let last = whole.get(confirmed.min(whole.len()).wrapping_sub(1));
                let number = last.map(|entry| entry.number);
                outbox.written(whole.into_iter());
                if let Some(number) = number {
                    outbox.confirmed(number);
                }
                outbox.restore(&mut batch);
                outbox.link_buried();
            }
            arrived.extend(outbox.drain());
            let numbers: Vec<u32> = texts(arrived).iter().map(|text| text.parse().unwrap()).collect();
            let mut firsts = Vec::new();
            for number in &numbers {
                if !firsts.contains(number) {
                    firsts.push(*number);
                }
            }
            prop_assert_eq!(&firsts, &(0..pushed).collect::<Vec<_>>());
            if delivery == Delivery::AtMostOnce {
                prop_assert_eq!(numbers, firsts);
            }
            prop_assert_eq!(outbox.depth(), (0, 0));
        }
    }
}

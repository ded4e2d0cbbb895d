//! What waits to be sent, and what waits to be confirmed. It outlives every link.

#[cfg(test)]
mod accounting_tests;
mod gaps;
mod session;
mod state;
mod telling;
mod terms;
#[cfg(test)]
mod tests;
mod waits;

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Instant;

use crate::failure::Failure;
use crate::message::Message;
use crate::policy::{Bounds, Delivery, Framing, OnDropped, Overflow};
use crate::sync::{AtomicBool, Budget, Condvar, Doorbell, Mutex, MutexGuard};
pub(crate) use state::{Entry, TooLarge};
use state::{Gate, State};
pub(crate) use terms::{Patience, Refused, Tally, Terms, Withdrawal};

/// The queue between the threads that send and the one thread that writes.
///
/// Invariants: messages leave in the order in which they were accepted; what the writer has
/// taken and not yet written, and what is kept until it is confirmed, counts against the bounds;
/// whoever pushes onto an empty queue rings the doorbell, so a writer that saw it empty under the
/// lock can sleep on the doorbell without missing anything.
pub(crate) struct Outbox {
    limits: Bounds,
    /// The largest message that the connection carries.
    max_message: usize,
    /// On `tcp://` only.
    framing: Option<Framing>,
    delivery: Delivery,
    /// How often a message may be the first that is not confirmed when its link dies.
    max_deliveries: u32,
    /// Whether the peer can be asked what it has.
    confirmable: bool,
    state: Mutex<State>,
    /// Signalled when room appears, something is confirmed, or the outbox shuts.
    room: Condvar,
    doorbell: Doorbell,
    shortcut: Mutex<Option<Weak<dyn Shortcut>>>,
    /// Whether something was received since the shortcut was last taken.
    turn: AtomicBool,
    /// What the program does with what will not be sent any more. Never called with the lock.
    on_dropped: Option<Mutex<Option<OnDropped>>>,
}

/// What becomes of a message that is not refused.
enum Admission {
    Accepted,
    /// There is no room, and the policy drops it.
    Dropped,
}

/// A way to the socket past the writer thread.
pub(crate) trait Shortcut: Send + Sync {
    /// Writes the next message, if the writer sleeps and nobody has to wait for the socket.
    /// Returns whether there is nothing to wake the writer for.
    fn write_one(&self) -> bool;
}

impl Outbox {
    pub(crate) fn new(
        limits: impl Into<Bounds>,
        max_message: usize,
        framing: Option<Framing>,
        delivery: Delivery,
        confirmable: bool,
    ) -> Self {
        let limits = limits.into();
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
            max_deliveries: u32::MAX,
            confirmable,
            state,
            room,
            doorbell,
            shortcut,
            turn,
            on_dropped: None,
        }
    }

    /// Tells the program of what will not be sent any more.
    pub(crate) fn telling(mut self, on_dropped: Option<OnDropped>) -> Self {
        self.state().keeps_lost = on_dropped.is_some();
        self.on_dropped = on_dropped.map(|callback| Mutex::new(Some(callback)));
        self
    }

    /// Hands a message back that has been under way so often when its link died.
    pub(crate) fn giving_up_after(mut self, max_deliveries: u32) -> Self {
        self.max_deliveries = max_deliveries;
        self
    }

    /// What it holds counts against this, too.
    pub(crate) fn within(self, budget: &Budget) -> Self {
        self.state().share = budget.share();
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Accepts a message, or gives it back and says why. No patience turns waiting into `Full`.
    pub(crate) fn push(
        &self,
        message: Message,
        mut terms: Terms,
        patience: Patience,
    ) -> Result<(), (Message, Refused)> {
        if let (None, Some(ttl)) = (terms.expires, self.limits.message_ttl) {
            terms.expires = Instant::now().checked_add(ttl);
        }
        let admitted = self.admit(&message, &terms, patience);
        let result = match admitted {
            Err(refused) => Err((message, refused)),
            Ok((mut state, Admission::Accepted)) => {
                let was_empty = state.queue.is_empty();
                state.accept(message, terms);
                drop(state);
                if was_empty && !self.take_shortcut() {
                    self.ring();
                }
                Ok(())
            }
            Ok((mut state, Admission::Dropped)) => {
                state.drop_newest(message, terms);
                drop(state);
                Ok(())
            }
        };
        self.tell();
        result
    }

    /// Waits for room, or makes some, as the policy says.
    fn admit(
        &self,
        message: &Message,
        terms: &Terms,
        patience: Patience,
    ) -> Result<(MutexGuard<'_, State>, Admission), Refused> {
        if terms.receipt.is_some() && !self.confirmable {
            return Err(Refused::Unconfirmable);
        }
        let (size, limit) = (message.len(), self.max_message);
        if size > limit {
            return Err(Refused::TooLarge { size, limit });
        }
        if let Some(framing) = &self.framing {
            framing.check(message).map_err(Refused::Unsendable)?;
        }
        let mut state = self.state();
        let link = state.link;
        while !state.is_shut() && !self.has_room(&mut state, size) {
            if state.drop_expired() {
                // others may have waited for that room, or for those messages
                self.room.notify_all();
                continue;
            }
            // one dropped message would be told of by dropping the next, without end; and to wait in
            // there would hold up what makes room
            if self.is_telling_here() {
                return Err(Refused::Full);
            }
            match self.limits.overflow {
                // room comes with confirmations here, and none come
                Overflow::Wait
                    if state.is_unconfirmed && self.keeps(&state) && patience.is_any() =>
                {
                    return Err(Refused::Unconfirmable);
                }
                Overflow::Wait => {
                    if terms.this_link && (link.is_none() || state.link != link) {
                        return Err(Refused::NoLink);
                    }
                    let expiry = state.next_expiry();
                    state = self.wait(state, patience, expiry)?;
                }
                Overflow::Fail => return Err(Refused::Full),
                Overflow::DropOldest if state.drop_oldest() => {
                    // somebody may have waited for that one
                    if state.eager > 0 {
                        self.room.notify_all();
                    }
                }
                // or all of it is written already and cannot be dropped any more
                Overflow::DropOldest | Overflow::DropNewest => {
                    return Ok((state, Admission::Dropped));
                }
            }
        }
        if state.is_shut() {
            return Err(Refused::Shut);
        }
        if terms.this_link && (link.is_none() || state.link != link) {
            return Err(Refused::NoLink);
        }
        Ok((state, Admission::Accepted))
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

    /// One message passes alone, whatever others hold.
    fn has_room(&self, state: &mut State, size: usize) -> bool {
        let (messages, bytes) = state.bounded();
        messages < self.limits.messages
            && bytes + size <= self.limits.bytes
            && (state.messages() == 0 || state.share.covers(state.bytes() + size))
    }

    /// Waits for a signal, or until then.
    fn wait<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        patience: Patience,
        until: Option<Instant>,
    ) -> Result<MutexGuard<'a, State>, Refused> {
        if matches!(state.gate, Gate::NobodyDrains(_)) {
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

    /// Moves messages to `batch` until it holds `bytes` or the queue is empty, leaving out what
    /// has expired or was withdrawn.
    pub(crate) fn take(&self, batch: &mut VecDeque<Entry>, bytes: usize) {
        if self.take_untold(batch, bytes) {
            self.tell();
        }
    }

    /// The same for who tells later, for he holds something: returns whether there is something to
    /// tell.
    pub(crate) fn take_untold(&self, batch: &mut VecDeque<Entry>, bytes: usize) -> bool {
        let mut state = self.state();
        let has_lost = state.take(batch, bytes);
        let wake = has_lost && state.waiting > 0;
        drop(state);
        if wake {
            self.room.notify_all();
        }
        has_lost
    }

    /// A message is not wanted any more. One that waits makes room at once; one that the writer has,
    /// or that may have to be written again, is dropped if it ever comes back.
    pub(crate) fn withdraw(&self, withdrawal: &Withdrawal) {
        withdrawal.withdraw();
        if self.state().drop_withdrawn(withdrawal.number()) {
            self.room.notify_all();
            self.tell();
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
    fn wake_if_ample(&self, mut state: MutexGuard<'_, State>) {
        state.give_back();
        let (messages, bytes) = (self.limits.messages, self.limits.bytes);
        let held = state.bounded();
        let ample =
            held.0 <= messages - messages.div_ceil(4) && held.1 <= bytes - bytes.div_ceil(4);
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

    /// The same with what the link had begun to write; a session keeps that.
    pub(crate) fn restore_begun(&self, entries: &mut VecDeque<Entry>) {
        let mut state = self.state();
        if state.has_session() {
            state.keep_begun(entries);
        } else {
            state.restore(entries, true);
        }
    }

    /// The peer of a link that is about to be buried has found a message too large.
    pub(crate) fn take_too_large(&self) -> Option<TooLarge> {
        self.state().take_too_large()
    }

    /// A link that is about to be buried has died of this, which a message may have caused: a
    /// message that seems to end link after link is not sent again. A link on which no ping was
    /// answered may have been cut before the message came to the peer, and says nothing.
    pub(crate) fn suspect_first(&self, cause: &Failure, is_answered: bool) {
        if !cause.may_come_of_a_message() {
            return;
        }
        let suspect = self.state().suspect_first(is_answered, self.max_deliveries);
        if let Some((number, size)) = suspect {
            log::warn!(
                "message {number} of {size} bytes is not sent again: {} links have ended with it as \
                 the first that was not confirmed, the last one: {cause}",
                self.max_deliveries
            );
            self.room.notify_all();
            self.tell();
        }
    }

    /// There is a link.
    pub(crate) fn link_started(&self) {
        self.state().begin_link();
    }

    /// Nothing more is written for a while: whatever room there is, is all there will be.
    pub(crate) fn link_lost(&self) {
        self.state().link_lost();
        self.room.notify_all();
        self.ring();
    }

    /// The link is buried: what it had taken and the peer has not confirmed goes back to the
    /// front, or is lost. What was for that link only is dropped.
    pub(crate) fn link_buried(&self) {
        self.state().link_buried(self.delivery);
        self.room.notify_all();
        self.tell();
    }

    /// The number of the last message that the peer has confirmed.
    pub(crate) fn confirmed_up_to(&self) -> u64 {
        self.state().confirmed
    }

    /// Whether written messages are kept until they are confirmed.
    fn keeps(&self, state: &State) -> bool {
        self.delivery == Delivery::AtLeastOnce || state.has_session()
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
        let urgent = state.wants_flush() || state.is_paused();
        (self.is_confirmation_wanted(&state) || urgent, urgent)
    }

    fn is_confirmation_wanted(&self, state: &State) -> bool {
        self.keeps(state) || !state.receipts.is_empty()
    }

    /// Whether anybody waits to know what the peer has, or will once something is written.
    pub(crate) fn is_confirmation_awaited(&self) -> bool {
        let state = self.state();
        self.is_confirmation_wanted(&state) || state.is_flushing()
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

    /// The client has given up, for this reason, and nobody may wait here until it is sent off again
    /// (`None`).
    pub(crate) fn rest(&self, cause: Option<Arc<Failure>>) {
        self.state().rest(cause);
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

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("tally", &self.tally()).finish_non_exhaustive()
    }
}

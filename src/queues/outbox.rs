//! The queue between the threads that send and the one that writes. It outlives every link.

#[cfg(test)]
mod accounting_tests;
#[cfg(test)]
mod session_tests;
#[cfg(test)]
mod simulation_tests;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::backlog::Backlog;
use super::entry::Entry;
use super::on_dropped::DropHook;
use super::question::Question;
use super::terms::{Refused, Tally, Terms, TooLarge, WaitFor};
use crate::failure::Failure;
use crate::message::Message;
use crate::policy::{Bounds, Delivery, Framing, OnDropped, Overflow, Unconfirmed};
use crate::sync::{AtomicBool, Budget, Condvar, Doorbell, Holding, Mutex, MutexGuard};

/// What waits to be sent, and what waits to be confirmed.
///
/// Invariants: messages leave in the order in which they were accepted; what the writer has
/// taken and not yet written, and what is kept until it is confirmed, counts against the bounds;
/// whoever pushes onto an empty queue rings the doorbell, so a writer that saw it empty under the
/// lock can sleep on the doorbell without missing anything.
pub(crate) struct Outbox {
    limits: Bounds,
    /// The largest message that the connection carries.
    max_message: usize,
    /// Unless messages are those of a WebSocket.
    framing: Option<Framing>,
    /// How often a message may be the first that is not confirmed when its link dies.
    max_deliveries: u32,
    /// Whether the peer can be asked what it has.
    confirmable: bool,
    inside: Mutex<Inside>,
    /// Signalled when room appears, something is confirmed, or the outbox shuts.
    room: Condvar,
    doorbell: Doorbell,
    /// Whether something was received since the shortcut was last taken.
    turn: AtomicBool,
    /// What the program does with what will not be sent any more. Never called with the lock.
    on_dropped: Option<DropHook>,
}

/// What the lock protects.
struct Inside {
    backlog: Backlog,
    /// How many threads wait for room, and how many of them for more than that.
    waiting: usize,
    eager: usize,
    /// The link that is up, if others than its writer thread may write to it.
    shortcut: Option<Weak<dyn Shortcut>>,
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
        let inside =
            Inside { backlog: Backlog::new(delivery), waiting: 0, eager: 0, shortcut: None };
        Self {
            limits,
            max_message,
            framing,
            max_deliveries: u32::MAX,
            confirmable,
            inside: Mutex::new(inside),
            room: Condvar::new(),
            doorbell: Doorbell::new(),
            turn: AtomicBool::new(true),
            on_dropped: None,
        }
    }

    /// Tells the program of what will not be sent any more.
    pub(crate) fn telling(mut self, on_dropped: Option<OnDropped>) -> Self {
        if let Some(callback) = on_dropped {
            self.lock().backlog.keep_lost();
            self.on_dropped = Some(DropHook::new(callback));
        }
        self
    }

    /// Hands a message back that has been under way so often when its link died.
    pub(crate) fn giving_up_after(mut self, max_deliveries: u32) -> Self {
        self.max_deliveries = max_deliveries;
        self
    }

    /// What it holds counts against this, too.
    pub(crate) fn within(self, budget: &Budget) -> Self {
        self.lock().backlog.hold_within(budget);
        self
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock()
    }

    /// Accepts a message, or gives it back and says why. One that must not wait is refused as `Full`.
    pub(crate) fn push(
        &self,
        message: Message,
        mut terms: Terms,
        wait: WaitFor,
    ) -> Result<(), (Message, Refused)> {
        if let (None, Some(ttl)) = (terms.expires, self.limits.message_ttl) {
            terms.expires = Instant::now().checked_add(ttl);
        }
        let result = match self.admit(&message, &terms, wait) {
            Err(refused) => Err((message, refused)),
            Ok((mut inside, true)) => {
                let (was_empty, is_shared) = (inside.backlog.is_empty(), terms.is_shared);
                inside.backlog.accept(message, terms);
                let shortcut = if was_empty { self.shortcut(&inside, is_shared) } else { None };
                drop(inside);
                if was_empty && !shortcut.is_some_and(|link| link.write_one()) {
                    self.ring();
                }
                Ok(())
            }
            Ok((mut inside, false)) => {
                inside.backlog.drop_newest(message, terms);
                Ok(())
            }
        };
        self.tell();
        result
    }

    /// Whether this can be sent at all.
    pub(crate) fn check(&self, message: &Message) -> Result<(), Refused> {
        let (size, limit) = (message.len(), self.max_message);
        if size > limit {
            return Err(Refused::TooLarge { size, limit });
        }
        let framing = self.framing.as_ref();
        framing.map_or(Ok(()), |framing| framing.check(message).map_err(Refused::Unsendable))
    }

    /// Waits for room, or makes some, as the policy says. Returns whether there is room: if not, the
    /// policy drops the message.
    fn admit(
        &self,
        message: &Message,
        terms: &Terms,
        wait: WaitFor,
    ) -> Result<(MutexGuard<'_, Inside>, bool), Refused> {
        if terms.receipt.is_some() && !self.confirmable {
            return Err(Refused::Unconfirmable);
        }
        self.check(message)?;
        let size = message.len();
        let mut inside = self.lock();
        let link = inside.backlog.link();
        let is_homeless = |backlog: &Backlog| terms.this_link && !backlog.is_still(link);
        while !inside.backlog.is_shut() && !inside.backlog.has_room(&self.limits, size) {
            let backlog = &mut inside.backlog;
            if backlog.drop_expired() {
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
                Overflow::Wait if backlog.is_unconfirmed() && backlog.keeps() && wait.is_any() => {
                    return Err(Refused::Unconfirmable);
                }
                Overflow::Wait if is_homeless(backlog) => return Err(Refused::NoLink),
                // before a wait that may be long
                Overflow::Wait if backlog.has_lost() => {
                    drop(inside);
                    self.tell();
                    inside = self.lock();
                }
                Overflow::Wait => {
                    let expiry = backlog.next_expiry();
                    inside = self.wait(inside, wait, expiry)?;
                }
                Overflow::Fail => return Err(Refused::Full),
                Overflow::DropOldest if backlog.drop_oldest() => {
                    // somebody may have waited for that one
                    if inside.eager > 0 {
                        self.room.notify_all();
                    }
                }
                // or all of it is written already and cannot be dropped any more
                Overflow::DropOldest | Overflow::DropNewest => return Ok((inside, false)),
            }
        }
        if inside.backlog.is_shut() {
            return Err(Refused::Shut);
        }
        if is_homeless(&inside.backlog) {
            return Err(Refused::NoLink);
        }
        if terms.receipt.is_some() && inside.backlog.confirmations().has_most_receipts() {
            return Err(Refused::Full);
        }
        Ok((inside, true))
    }

    /// Waits for a signal, or until then.
    fn wait<'a>(
        &'a self,
        mut inside: MutexGuard<'a, Inside>,
        wait: WaitFor,
        until: Option<Instant>,
    ) -> Result<MutexGuard<'a, Inside>, Refused> {
        if inside.backlog.is_resting() {
            return Err(Refused::NobodyDrains);
        }
        let deadline = match wait {
            WaitFor::Nothing => return Err(Refused::Full),
            WaitFor::Ever => None,
            WaitFor::Until(deadline) => Some(deadline),
        };
        let now = Instant::now();
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Err(Refused::TimedOut);
        }
        inside.waiting += 1;
        let mut inside = match deadline.into_iter().chain(until).min() {
            None => self.room.wait(inside),
            Some(time) => {
                let left = time.saturating_duration_since(now);
                self.room.wait_timeout(inside, left)
            }
        };
        inside.waiting -= 1;
        Ok(inside)
    }

    /// Waits until everything that was accepted has been written.
    pub(crate) fn wait_written(&self, wait: WaitFor) -> Result<(), Refused> {
        let mut inside = self.lock();
        inside.eager += 1;
        let result = loop {
            inside.backlog.drop_expired();
            if let Some(result) = inside.backlog.all_written() {
                break result;
            }
            let expiry = inside.backlog.next_expiry();
            match self.wait(inside, wait, expiry) {
                Ok(again) => inside = again,
                Err(refused) => {
                    inside = self.lock();
                    break Err(refused);
                }
            }
        };
        inside.eager -= 1;
        drop(inside);
        self.tell();
        result
    }

    /// Waits until the peer has confirmed everything that was accepted before this call.
    pub(crate) fn flush(&self, wait: WaitFor) -> Result<(), Refused> {
        if !self.confirmable {
            return Err(Refused::Unconfirmable);
        }
        let mut inside = self.lock();
        inside.eager += 1;
        let id = inside.backlog.confirmations().begin_flush();
        // the writer is to ask now, not when it is time
        self.ring();
        let result = loop {
            inside.backlog.drop_expired();
            let (outstanding, lost) = inside.backlog.flush_progress(id);
            if outstanding == 0 || inside.backlog.is_shut() {
                break Ok(outstanding + lost);
            }
            let expiry = inside.backlog.next_expiry();
            match self.wait(inside, wait, expiry) {
                Ok(again) => inside = again,
                Err(refused) => {
                    inside = self.lock();
                    let (outstanding, lost) = inside.backlog.flush_progress(id);
                    break match refused {
                        Refused::TimedOut => Ok(outstanding + lost),
                        refused => Err(refused),
                    };
                }
            }
        };
        inside.eager -= 1;
        inside.backlog.confirmations().end_flush(id);
        drop(inside);
        self.tell();
        match result? {
            0 => Ok(()),
            count => Err(Refused::Unconfirmed(count)),
        }
    }

    /// The way past the writer, if what was just accepted is likely to be all for now: for one message
    /// each time that something was received, and for one that goes to many: to wake a thread for each of them
    /// costs more than to write. A program that sends without end is better served by
    /// the writer, which takes many at a time.
    fn shortcut(&self, inside: &Inside, is_shared: bool) -> Option<Arc<dyn Shortcut>> {
        let is_its_turn = is_shared || self.turn.load(Relaxed) && self.turn.swap(false, Relaxed);
        inside.shortcut.as_ref().filter(|_| is_its_turn)?.upgrade()
    }

    /// The link that is up, for those who may write to it themselves.
    pub(crate) fn offer_shortcut(&self, link: Weak<dyn Shortcut>) {
        self.lock().shortcut = Some(link);
    }

    /// Something was received.
    pub(crate) fn heard(&self) {
        if !self.turn.load(Relaxed) {
            self.turn.store(true, Relaxed);
        }
    }

    /// Its session waits from here on: what is kept here counts against this budget, too.
    pub(crate) fn wait_within(&self, budget: &Budget) -> Holding {
        self.lock().backlog.wait_within(budget)
    }

    /// Its session does not wait any more.
    pub(crate) fn wait_no_more(&self) {
        self.lock().backlog.wait_no_more();
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
        let mut inside = self.lock();
        let has_lost = inside.backlog.take(batch, bytes);
        let wake = has_lost && inside.waiting > 0;
        drop(inside);
        if wake {
            self.room.notify_all();
        }
        has_lost
    }

    /// The writer cannot encode this. A thread that sends tells of it later, for it holds something.
    pub(crate) fn refuse(&self, entry: Entry, may_tell: bool) {
        self.lock().backlog.refuse(entry);
        self.room.notify_all();
        if may_tell {
            self.tell();
        }
    }

    /// Nobody waits for the answer any more. A message that waits makes room at once; one that the
    /// writer has, or that may have to be written again, is dropped if it ever comes back.
    pub(crate) fn withdraw(&self, question: &Question) {
        if self.lock().backlog.drop_withdrawn(question.number()) {
            self.room.notify_all();
            self.tell();
        }
    }

    /// The writer has handed these to the socket whole. Returns whether there is nothing more for it
    /// to do here.
    pub(crate) fn written(&self, entries: impl Iterator<Item = Entry>) -> bool {
        let mut inside = self.lock();
        for entry in entries {
            inside.backlog.written(entry);
        }
        let is_quiet = inside.backlog.is_quiet();
        self.wake_if_ample(inside);
        is_quiet
    }

    /// The peer has confirmed everything up to this position.
    pub(crate) fn confirmed(&self, position: u64) {
        let mut inside = self.lock();
        let confirmed = inside.backlog.confirm(position);
        let goes_on = inside.backlog.is_paused();
        self.wake_if_ample(inside);
        drop(confirmed);
        if goes_on {
            self.ring();
        }
    }

    /// The program says that the peer has the message with this key. Returns whether there was one.
    pub(crate) fn confirm_key(&self, key: u64) -> bool {
        let mut inside = self.lock();
        let was_there = inside.backlog.confirm_key(key);
        self.wake(inside);
        was_there
    }

    /// The same of all messages up to this number.
    pub(crate) fn confirm_number(&self, number: u64) {
        let mut inside = self.lock();
        let confirmed = inside.backlog.confirm_number(number);
        self.wake(inside);
        drop(confirmed);
    }

    /// Wakes those who wait when it is worth it: for a quarter of the queue at a time, not every
    /// message; a sender that is faster than the socket would otherwise be woken for each. Those
    /// who wait for more than room are eager.
    fn wake_if_ample(&self, mut inside: MutexGuard<'_, Inside>) {
        inside.backlog.give_back();
        let is_worth_it = inside.eager > 0 || inside.backlog.has_ample_room(&self.limits);
        let wake = inside.waiting > 0 && is_worth_it;
        drop(inside);
        if wake {
            self.room.notify_all();
        }
    }

    /// Wakes those who wait for whatever room there is: nobody knows when there is more.
    fn wake(&self, mut inside: MutexGuard<'_, Inside>) {
        inside.backlog.give_back();
        drop(inside);
        self.room.notify_all();
    }

    /// Drops what has expired, for who waits for one of those.
    pub(crate) fn drop_expired(&self) {
        let has_expired = self.lock().backlog.drop_expired();
        if has_expired {
            self.room.notify_all();
            self.tell();
        }
    }

    /// Whether what it sends is kept for a session that can be resumed.
    pub(crate) fn has_session(&self) -> bool {
        self.lock().backlog.has_session()
    }

    /// Whether a message may expire that does not say so itself.
    pub(crate) fn may_expire(&self) -> bool {
        self.limits.message_ttl.is_some()
    }

    /// The link died first: what was taken and not written goes back to the front.
    pub(crate) fn restore(&self, batch: &mut VecDeque<Entry>) {
        if !batch.is_empty() {
            self.lock().backlog.restore(batch, false);
        }
    }

    /// The same with what the link had begun to write; a session keeps that.
    pub(crate) fn restore_begun(&self, entries: &mut VecDeque<Entry>) {
        self.lock().backlog.restore_begun(entries);
    }

    /// The peer of a link that is about to be buried has found a message too large.
    pub(crate) fn take_too_large(&self) -> Option<TooLarge> {
        self.lock().backlog.take_too_large()
    }

    /// A link that is about to be buried has died of this, which a message may have caused: a
    /// message that seems to end link after link is not sent again. A link on which no ping was
    /// answered may have been cut before the message came to the peer, and says nothing.
    pub(crate) fn suspect_first(&self, cause: &Failure, is_answered: bool) {
        if !cause.may_come_of_a_message() {
            return;
        }
        let suspect = self.lock().backlog.suspect_first(is_answered, self.max_deliveries);
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

    /// There is a link, of this number.
    pub(crate) fn link_started(&self, number: u32) {
        self.lock().backlog.link_started(number);
    }

    /// Nothing more is written for a while: whatever room there is, is all there will be.
    pub(crate) fn link_lost(&self) {
        self.lock().backlog.link_lost();
        self.room.notify_all();
        self.ring();
    }

    /// The link is buried: what it had taken and the peer has not confirmed goes back to the
    /// front, or is lost. What was for that link only is dropped.
    pub(crate) fn link_buried(&self) {
        self.lock().backlog.link_buried();
        self.room.notify_all();
        self.tell();
    }

    /// From here on what is encoded is kept until the peer reports that it has it, within these
    /// bounds. `login` is what the login hook has sent already.
    pub(crate) fn begin_session(&self, limits: Unconfirmed, login: Vec<Message>) {
        self.lock().backlog.begin_session(limits, login);
    }

    /// The link is buried, and the session waits for another one.
    pub(crate) fn detached(&self) {
        self.lock().backlog.detached();
        self.room.notify_all();
        self.tell();
    }

    /// The position of what is taken next, if it has one already.
    pub(crate) fn next_position(&self) -> Option<u64> {
        self.lock().backlog.next_position()
    }

    /// The session goes on. The peer has confirmed everything up to the position `received`, and has
    /// everything up to `has`: the rest goes first. Returns how many messages that are. To be called while
    /// there is no link.
    pub(crate) fn resumed(&self, received: u64, has: u64) -> usize {
        let rest = self.lock().backlog.resumed(received, has);
        self.room.notify_all();
        self.tell();
        rest
    }

    /// The session is over, and its link is buried. Returns for how many messages nobody knows
    /// whether the peer has them: none if `is_known`, for it has said what it has, and that it is over.
    pub(crate) fn end_session(&self, is_known: bool) -> usize {
        let in_doubt = self.lock().backlog.end_session(is_known);
        self.room.notify_all();
        self.tell();
        in_doubt
    }

    /// The number of the last message that the peer has confirmed.
    pub(crate) fn confirmed_up_to(&self) -> u64 {
        self.lock().backlog.confirmations().confirmed_up_to()
    }

    /// The peer does not answer what confirms: notes that, if anything waits for it, and returns
    /// whether it did not know. It holds until something is confirmed, or the link is buried.
    pub(crate) fn is_left_unconfirmed(&self) -> bool {
        let is_news = self.lock().backlog.leave_unconfirmed();
        if is_news {
            self.room.notify_all();
        }
        is_news
    }

    /// Whether anybody wants to know what the peer has, and whether somebody waits for it.
    pub(crate) fn wants_confirmation(&self) -> (bool, bool) {
        let backlog = &mut self.lock().backlog;
        let urgent = backlog.is_urgent();
        (backlog.wants_confirmation() || urgent, urgent)
    }

    /// Whether anybody waits to know what the peer has, or will once something is written.
    pub(crate) fn is_confirmation_awaited(&self) -> bool {
        let backlog = &mut self.lock().backlog;
        backlog.wants_confirmation() || backlog.is_flushing()
    }

    /// Wakes the writer.
    pub(crate) fn ring(&self) {
        self.doorbell.ring();
    }

    /// What the writer sleeps on. A token says "look again", no more.
    pub(crate) fn doorbell(&self) -> &Doorbell {
        &self.doorbell
    }

    /// Whether more is queued than may be written before the peer has confirmed something.
    pub(crate) fn is_paused(&self) -> bool {
        self.lock().backlog.is_paused()
    }

    /// While the client has given up, for this reason, no sender waits here. `None`: it dials again.
    pub(crate) fn set_given_up(&self, cause: Option<Arc<Failure>>) {
        self.lock().backlog.set_given_up(cause);
        self.room.notify_all();
    }

    /// Accepts nothing from here on; what is queued stays until it is written or drained.
    pub(crate) fn shut(&self) {
        self.lock().backlog.shut();
        self.room.notify_all();
    }

    /// No answers come any more.
    pub(crate) fn end_questions(&self) {
        self.lock().backlog.confirmations().end_questions();
    }

    /// Takes out what was never written.
    pub(crate) fn clear(&self) -> Vec<Message> {
        let mut inside = self.lock();
        let cleared = inside.backlog.clear();
        inside.backlog.give_back();
        drop(inside);
        self.room.notify_all();
        self.tell();
        cleared
    }

    /// Takes out everything that is left, for good.
    pub(crate) fn drain(&self) -> Vec<Message> {
        let left = self.lock().backlog.drain();
        self.room.notify_all();
        self.tell();
        left
    }

    /// The connection is idle: gives back what a burst took.
    pub(crate) fn relax(&self) {
        self.lock().backlog.relax();
    }

    /// What became of everything that was accepted, at one moment.
    pub(crate) fn tally(&self) -> Tally {
        self.lock().backlog.tally()
    }

    /// How many messages are kept here.
    pub(crate) fn len(&self) -> usize {
        self.lock().backlog.messages()
    }

    /// Tells of everything that was lost.
    fn tell(&self) {
        if let Some(on_dropped) = &self.on_dropped {
            on_dropped.tell(|| self.lock().backlog.take_lost());
        }
    }

    /// Whether the program is being told of that on this thread.
    fn is_telling_here(&self) -> bool {
        self.on_dropped.as_ref().is_some_and(DropHook::runs_here)
    }

    /// Lets go of the program's callback.
    pub(crate) fn tell_no_more(&self) {
        self.on_dropped.iter().for_each(DropHook::let_go);
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("tally", &self.tally()).finish_non_exhaustive()
    }
}

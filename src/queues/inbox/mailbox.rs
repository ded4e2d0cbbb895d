//! The queue of received messages.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crossbeam_channel::{Receiver, never};

use super::channel::Channel;
use super::state::{Held, State};
use super::{Batch, Room};
use crate::message::Message;
use crate::policy::{Bounds, Overflow};
use crate::sync::threads::{self, Threads};
use crate::sync::{Budget, Condvar, Mutex, MutexGuard, Signal};

/// No more messages than this are taken to the front at once: the locks are cheap by then.
const MOST_AT_FRONT: usize = 256;

/// Stands for more than one receiving thread.
const SEVERAL: u64 = u64::MAX;

/// The queue of received messages. The reader fills it once for each read of the socket, under
/// one lock and with one wake-up, however many messages that read held; a program that receives
/// takes a quarter of the room at a time to a list of its own, so that the two rarely meet. For a
/// program that wants a channel to select on ([`Mailbox::open_channel`]) a thread receives.
///
/// Whoever needs both locks takes `front` before `state`; nobody waits with `front` locked.
#[derive(Debug)]
pub(crate) struct Mailbox {
    limits: Bounds,
    /// Messages that were received and thrown away.
    dropped: AtomicU64,
    /// What programs receive next.
    front: Mutex<VecDeque<Message>>,
    state: Mutex<State>,
    /// Signalled when there is something to receive, or never will be.
    filled: Condvar,
    /// Signalled when there is room, or the bounds may not count any more.
    room: Condvar,
    channel: OnceLock<Channel>,
    /// Raised when the program has let go of all that could receive.
    abandoned: Signal,
    /// The number of the thread that has received, or [`SEVERAL`]; 0 before the first.
    receiver: AtomicU64,
}

/// What a receiver finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoMessage {
    /// Not yet.
    TimedOut,
    /// Not any more.
    Ended,
    /// The caller's own condition came true.
    Interrupted,
}

impl Mailbox {
    pub(crate) fn new(limits: impl Into<Bounds>) -> Self {
        Self {
            limits: limits.into(),
            dropped: AtomicU64::new(0),
            front: Mutex::default(),
            state: Mutex::default(),
            filled: Condvar::new(),
            room: Condvar::new(),
            channel: OnceLock::new(),
            abandoned: Signal::new(),
            receiver: AtomicU64::new(0),
        }
    }

    /// What it holds counts against this, too.
    pub(crate) fn within(self, budget: &Budget) -> Self {
        self.state().share = budget.share();
        self
    }

    fn front(&self) -> MutexGuard<'_, VecDeque<Message>> {
        self.front.lock()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(super) fn push(&self, batch: &mut Batch, room: impl Fn() -> Room) {
        let mut state = self.state();
        state.share.take_over(&mut batch.share);
        while !batch.is_empty() {
            let before = state.held.messages;
            self.fill(&mut state, batch);
            if state.held.messages > before && std::mem::take(&mut state.is_receiver_waiting) {
                // whoever wakes wants the lock first thing
                drop(state);
                self.filled.notify_all();
                if batch.is_empty() {
                    return;
                }
                state = self.state();
                continue;
            }
            if batch.is_empty() {
                return;
            }
            match (self.limits.overflow, room()) {
                (Overflow::DropOldest, _) if state.pop().is_some() => {
                    self.dropped.fetch_add(1, Relaxed);
                }
                (Overflow::DropNewest | Overflow::Fail | Overflow::DropOldest, _)
                | (Overflow::Wait, Room::None) => return self.drop_all(&mut state, batch),
                (Overflow::Wait, Room::Beyond) => {
                    state.append(batch);
                    state.at_door = 0;
                    if std::mem::take(&mut state.is_receiver_waiting) {
                        drop(state);
                        self.filled.notify_all();
                    }
                    return;
                }
                (Overflow::Wait, Room::Within) => {
                    state.is_reader_waiting = true;
                    state = self.room.wait(state);
                }
            }
        }
    }

    /// Moves what there is room for.
    fn fill(&self, state: &mut State, batch: &mut Batch) {
        let all_but_one = Held { messages: batch.messages.len() - 1, bytes: batch.bytes };
        if state.has_room(&self.limits, all_but_one) && state.covers(batch.bytes) {
            state.append(batch);
        } else {
            while state.has_room(&self.limits, Held::default())
                && batch.messages.front().is_some_and(|next| state.admits(next.len()))
            {
                let Some(message) = batch.pop() else { break };
                state.push(message);
            }
        }
        state.at_door = batch.bytes;
        state.settle();
    }

    fn drop_all(&self, state: &mut State, batch: &mut Batch) {
        self.dropped.fetch_add(batch.messages.len() as u64, Relaxed);
        batch.clear();
        state.at_door = 0;
        state.settle();
    }

    /// Waits until another message may come in; returns whether one may.
    pub(super) fn wait_for_room(&self, room: impl Fn() -> Room) -> bool {
        if self.limits.overflow != Overflow::Wait {
            return true;
        }
        let mut state = self.state();
        loop {
            let has_room = state.has_room(&self.limits, Held::default()) && state.admits(1);
            if has_room || room() != Room::Within {
                return has_room;
            }
            state.is_reader_waiting = true;
            state = self.room.wait(state);
        }
    }

    /// So many messages were received and find no room any more.
    pub(crate) fn lose(&self, messages: usize) {
        self.dropped.fetch_add(messages as u64, Relaxed);
    }

    /// Receives the next message; `interrupted` is asked whenever somebody says
    /// [`Mailbox::wake_all`], and `alarm` has to disconnect when it comes true.
    pub(crate) fn recv(
        &self,
        deadline: Option<Instant>,
        interrupted: impl Fn() -> bool,
        alarm: impl Fn() -> Receiver<Infallible>,
    ) -> Result<Message, NoMessage> {
        let (here, before) = (threads::here(), self.receiver.load(Relaxed));
        if before != here && before != SEVERAL {
            let first = self.receiver.compare_exchange(0, here, Relaxed, Relaxed);
            if first.is_err_and(|other| other != here) {
                self.receiver.store(SEVERAL, Relaxed);
            }
        }
        match self.channel.get() {
            None => self.take(deadline, interrupted),
            Some(channel) => channel.recv(deadline, interrupted, alarm),
        }
    }

    /// The same, past the channel.
    pub(super) fn take(
        &self,
        deadline: Option<Instant>,
        interrupted: impl Fn() -> bool,
    ) -> Result<Message, NoMessage> {
        loop {
            let mut front = self.front();
            if let Some(message) = front.pop_front() {
                return Ok(message);
            }
            let mut state = self.state();
            let first = self.advance(&mut front, &mut state);
            drop(front);
            if std::mem::take(&mut state.is_reader_waiting) {
                // whatever the front held is out, even if nothing came in
                drop(state);
                self.room.notify_one();
                match first {
                    Some(message) => return Ok(message),
                    None => continue,
                }
            }
            if let Some(message) = first {
                return Ok(message);
            }
            if state.ended {
                return Err(NoMessage::Ended);
            }
            if interrupted() {
                return Err(NoMessage::Interrupted);
            }
            let left = deadline.map(|time| time.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(NoMessage::TimedOut);
            }
            state.is_receiver_waiting = true;
            drop(match left {
                None => self.filled.wait(state),
                Some(left) => self.filled.wait_timeout(state, left),
            });
        }
    }

    /// Fills the empty front with the next messages, but for the first of them, which it
    /// returns. Some stay behind for the reader to go on while they are received; with
    /// [`Overflow::DropOldest`] all do, for those at the front cannot be dropped any more.
    fn advance(&self, front: &mut VecDeque<Message>, state: &mut State) -> Option<Message> {
        (state.at_front, state.offered) = (Held::default(), 0);
        state.settle();
        let first = state.pop()?;
        if state.has_channel {
            state.offered = first.len();
        }
        if self.limits.overflow == Overflow::DropOldest {
            return Some(first);
        }
        let most = self.limits.messages.div_ceil(4).min(MOST_AT_FRONT);
        let mut taken = Held { messages: 0, bytes: first.len() };
        for message in state.queue.iter().take(most.saturating_sub(1)) {
            if taken.bytes >= self.limits.bytes / 4 {
                break;
            }
            taken.add(message);
        }
        taken.bytes -= first.len();
        front.extend(state.queue.drain(..taken.messages));
        state.held.remove(taken);
        state.at_front = taken;
        Some(first)
    }

    /// Whether the current thread has received here, and no other has or can: through a channel
    /// anybody can.
    pub(crate) fn is_received_here_alone(&self) -> bool {
        self.receiver.load(Relaxed) == threads::here() && self.channel.get().is_none()
    }

    /// Has everything be received through a channel.
    ///
    /// # Errors
    ///
    /// What the system says if there is no thread to be had.
    pub(crate) fn open_channel(self: &Arc<Self>, threads: &Threads) -> io::Result<()> {
        self.state().has_channel = true;
        let abandoned = self.abandoned.raised().clone();
        let channel = Channel::start(threads, Arc::clone(self), abandoned)?;
        // there is only one: nobody else has the mailbox yet
        let _ = self.channel.set(channel);
        Ok(())
    }

    /// The channel; one in which nothing comes if there is none.
    pub(crate) fn receiver(&self) -> Receiver<Message> {
        self.channel.get().map_or_else(never, |channel| channel.receiver().clone())
    }

    /// Has everybody who waits here look at the conditions again.
    pub(crate) fn wake_all(&self) {
        // in order: whoever has looked and not yet waits holds the lock
        drop(self.state());
        self.filled.notify_all();
        self.room.notify_all();
    }

    /// Nothing more will come.
    pub(crate) fn end(&self) {
        self.state().ended = true;
        self.wake_all();
    }

    /// Nobody will receive any more: what is left goes, and with it the channel's thread.
    pub(crate) fn abandon(&self) {
        self.abandoned.raise();
        self.end();
    }

    /// Whether nobody receives any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.is_raised()
    }

    /// How many received messages were thrown away: by the policy, or because nobody wants them
    /// any more.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// How many messages wait.
    pub(crate) fn len(&self) -> usize {
        let in_channel = self.channel.get().map_or(0, Channel::len);
        let front = self.front();
        in_channel + front.len() + self.state().queue.len()
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.front().capacity() + self.state().queue.capacity()
    }

    /// The connection is idle: gives back what a burst took.
    pub(crate) fn relax(&self) {
        let mut front = self.front();
        let mut state = self.state();
        if front.is_empty() && state.queue.is_empty() {
            (*front, state.queue) = (VecDeque::new(), VecDeque::new());
        }
    }
}

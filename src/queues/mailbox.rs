//! The queue of received messages.

use std::convert::Infallible;
use std::io;
#[cfg(unix)]
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, never};

use super::byte_queue::ByteQueue;
use super::channel::{Channel, NoMessage};
use crate::message::Message;
use crate::policy::{Bounds, Overflow};
#[cfg(unix)]
use crate::sync::SelfPipe;
use crate::sync::threads::{self, Threads};
use crate::sync::{Budget, Condvar, Holding, Mutex, MutexGuard, Share, Signal};

/// No more messages than this are taken to the front at once: the locks are cheap by then.
const MOST_AT_FRONT: usize = 256;

/// A reader that waits for half of the room goes on after so long with what there is.
const LONG: Duration = Duration::from_millis(100);

/// For so many messages, or bytes, a receiver is woken, whatever the bounds are.
const MANY: usize = 1024;
const MANY_BYTES: usize = 256 * 1024;

/// An idle connection keeps room for so many.
const SMALL: usize = 32;

/// Stands for more than one receiving thread.
const SEVERAL: u64 = u64::MAX;

/// The queue of received messages. The reader fills it with many at a time, under one lock, and wakes
/// whoever waits once it has nothing more at hand, or when they are [`MANY`]; a program that receives
/// takes a quarter of the room at a time to a list of its own, so that the two rarely meet. What it has taken from there
/// is counted out when somebody has to know: before messages are thrown away, and before the reader waits. For a
/// program that wants a channel to select on ([`Mailbox::open_channel`]) a thread receives.
///
/// Whoever needs both locks takes `front` before `inside`; nobody waits with `front` locked.
#[derive(Debug)]
pub(crate) struct Mailbox {
    limits: Bounds,
    /// Messages that were received and thrown away.
    dropped: AtomicU64,
    /// What programs receive next.
    front: Mutex<Front>,
    inside: Mutex<Inside>,
    /// Signalled when there is something to receive, or never will be.
    filled: Condvar,
    /// Signalled when there is room, or the bounds may not count any more.
    room: Condvar,
    channel: OnceLock<Channel>,
    /// For a program that waits for a descriptor: readable since something came, until a receiver has
    /// found nothing.
    #[cfg(unix)]
    readable: OnceLock<SelfPipe>,
    /// Raised when the program has let go of all that could receive.
    abandoned: Signal,
    /// The number of the thread that has received, or [`SEVERAL`]; 0 before the first.
    receiver: AtomicU64,
}

/// How much a full mailbox takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// What its bounds allow: the reader waits, if that is the policy.
    Within,
    /// Whatever is left, over its bounds: nothing follows it on this link.
    Beyond,
    /// What its bounds allow, and the rest is dropped: nobody wants it.
    None,
}

/// What programs receive next.
#[derive(Debug, Default)]
struct Front {
    queue: ByteQueue<Message>,
    /// Whether the reader waits for whatever room comes with the next message that is taken.
    is_watched: bool,
}

/// What the reader waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Wanted {
    #[default]
    Nothing,
    /// Half of the room, so that it has something to do before it waits again.
    Half,
    /// Room for a message of this size.
    Any(usize),
}

/// What the lock protects.
#[derive(Debug, Default)]
struct Inside {
    /// What follows on the front.
    queue: ByteQueue<Message>,
    /// How many messages and bytes the front held when somebody looked: since then it can only have lost some.
    at_front: (usize, usize),
    /// Bytes that wait for room in the reader's hands, and for the program in the channel's.
    at_door: usize,
    offered: usize,
    /// Whether a channel receives.
    has_channel: bool,
    /// What of the memory that all sessions share is taken for all that.
    share: Share,
    /// Whether somebody has to be woken; whoever does takes it back.
    is_receiver_waiting: bool,
    /// What the reader waits for; whoever wakes it takes it back.
    wanted: Wanted,
    /// Memory is to be given back once it is empty.
    gives_back: bool,
    /// Nothing more will come.
    ended: bool,
}

impl Inside {
    /// Whether so many messages and bytes may come in besides another message. A message larger than
    /// the bound passes alone.
    fn has_room(&self, limits: &Bounds, messages: usize, bytes: usize) -> bool {
        self.queue.len() + self.at_front.0 + messages < limits.messages
            && self.bytes() + bytes < limits.bytes
    }

    /// Whether somebody has to be woken for what is there; whoever asks does.
    fn wakes_receiver(&mut self) -> bool {
        !self.queue.is_empty() && std::mem::take(&mut self.is_receiver_waiting)
    }

    /// Whether a receiver that waits should begin, whatever follows.
    fn holds_many(&self, limits: &Bounds) -> bool {
        self.queue.len() >= MANY.min(limits.messages / 4)
            || self.queue.bytes() >= MANY_BYTES.min(limits.bytes / 4)
    }

    /// Whether a reader that waits is to be woken, which whoever asks does.
    fn wakes_reader(&mut self, limits: &Bounds) -> bool {
        let wakes = match self.wanted {
            Wanted::Nothing => false,
            Wanted::Half => {
                self.queue.is_empty()
                    || self.has_room(limits, limits.messages / 2, limits.bytes / 2)
            }
            Wanted::Any(size) => self.lets_in(limits, size),
        };
        if wakes {
            self.wanted = Wanted::Nothing;
        }
        wakes
    }

    /// Whether a message of this size may come in.
    fn lets_in(&mut self, limits: &Bounds, size: usize) -> bool {
        self.has_room(limits, 0, 0) && self.admits(0, 0, size)
    }

    /// What the front holds, while it is locked.
    fn look_at(&mut self, front: &ByteQueue<Message>) {
        self.at_front = (front.len(), front.bytes());
        self.settle(self.at_door);
    }

    /// Whether the memory that all sessions share has room for so many bytes more.
    fn covers(&mut self, bytes: usize) -> bool {
        self.share.covers(self.memory() + bytes)
    }

    /// Whether a message of this size may come in besides so many with so many bytes, as far as that memory
    /// goes: it passes alone.
    fn admits(&mut self, messages: usize, bytes: usize, size: usize) -> bool {
        self.covers(bytes + size) || self.queue.len() + self.at_front.0 + messages == 0
    }

    fn bytes(&self) -> usize {
        self.queue.bytes() + self.at_front.1
    }

    /// What it keeps, beside what waits for room.
    fn memory(&self) -> usize {
        self.bytes() + self.offered
    }

    /// Moves what there is room for.
    fn fill(&mut self, limits: &Bounds, batch: &mut ByteQueue<Message>) {
        if self.has_room(limits, batch.len() - 1, batch.bytes()) && self.covers(batch.bytes()) {
            self.queue.append(batch);
        } else {
            let (mut count, mut bytes) = (0, 0);
            for next in batch.iter() {
                if !self.has_room(limits, count, bytes) || !self.admits(count, bytes, next.len()) {
                    break;
                }
                (count, bytes) = (count + 1, bytes + next.len());
            }
            batch.move_front(count, &mut self.queue);
        }
        self.settle(batch.bytes());
    }

    /// Takes as much of the shared memory as it needs, with so many bytes that wait for room.
    fn settle(&mut self, at_door: usize) {
        self.at_door = at_door;
        self.share.charge(self.memory());
        self.share.shrink(self.memory() + at_door);
    }
}

impl Mailbox {
    pub(crate) fn new(limits: impl Into<Bounds>) -> Self {
        Self {
            limits: limits.into(),
            dropped: AtomicU64::new(0),
            front: Mutex::default(),
            inside: Mutex::default(),
            filled: Condvar::new(),
            room: Condvar::new(),
            channel: OnceLock::new(),
            #[cfg(unix)]
            readable: OnceLock::new(),
            abandoned: Signal::new(),
            receiver: AtomicU64::new(0),
        }
    }

    /// What it holds counts against this, too.
    pub(crate) fn within(self, budget: &Budget) -> Self {
        self.lock().share = budget.share();
        self
    }

    /// Its session waits from here on: what is kept here counts against this budget, too.
    pub(crate) fn wait_within(&self, budget: &Budget) -> Holding {
        let mut inside = self.lock();
        let memory = inside.memory();
        inside.share.wait_within(budget, memory)
    }

    /// Its session does not wait any more.
    pub(crate) fn wait_no_more(&self) {
        let mut inside = self.lock();
        let memory = inside.memory();
        inside.share.wait_no_more(memory);
    }

    fn front(&self) -> MutexGuard<'_, Front> {
        self.front.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock()
    }

    /// Takes all of these in. Waits for room if that is the policy: `room` is asked whenever it is
    /// full, and again at each [`Mailbox::wake_all`]. Whoever waits for them is woken once they are many, or by
    /// [`Mailbox::ring`]. Returns whether it has taken more memory for them than an idle connection should hold.
    pub(super) fn push(
        &self,
        batch: &mut ByteQueue<Message>,
        share: &mut Share,
        room: impl Fn() -> Room,
    ) -> bool {
        let mut inside = self.lock();
        inside.share.take_over(share);
        // what was to be given back is looked at again
        let mut is_large = std::mem::take(&mut inside.gives_back);
        while !batch.is_empty() {
            inside.fill(&self.limits, batch);
            if !batch.is_empty() && inside.at_front.0 > 0 {
                inside = self.look(inside);
                inside.fill(&self.limits, batch);
            }
            is_large |= inside.queue.capacity() > SMALL;
            let wants_receiver = !batch.is_empty() || inside.holds_many(&self.limits);
            if wants_receiver && inside.wakes_receiver() {
                // whoever wakes wants the lock first thing
                drop(inside);
                self.wake_receivers();
                if batch.is_empty() {
                    return is_large;
                }
                inside = self.lock();
                continue;
            }
            if batch.is_empty() {
                break;
            }
            match (self.limits.overflow, room()) {
                (Overflow::DropOldest, _) if inside.queue.pop_front().is_some() => {
                    self.lose(1);
                }
                (Overflow::DropNewest | Overflow::Fail | Overflow::DropOldest, _)
                | (Overflow::Wait, Room::None) => {
                    self.lose(batch.len());
                    batch.clear();
                    inside.settle(0);
                }
                (Overflow::Wait, Room::Beyond) => {
                    inside.queue.append(batch);
                    inside.settle(0);
                }
                (Overflow::Wait, Room::Within) => {
                    inside = self.wait(inside, batch.front().map_or(0, Message::len));
                }
            }
        }
        is_large
    }

    /// Counts what is left at the front.
    fn look<'a>(&'a self, inside: MutexGuard<'a, Inside>) -> MutexGuard<'a, Inside> {
        drop(inside);
        let front = self.front();
        let mut inside = self.lock();
        inside.look_at(&front.queue);
        inside
    }

    /// The reader waits for room for a message of this size; there may be some, or not, when this returns. A program
    /// that is fast makes half of all room in a moment, and one that is slow is waited for without looking again and
    /// again.
    fn wait<'a>(
        &'a self,
        mut inside: MutexGuard<'a, Inside>,
        size: usize,
    ) -> MutexGuard<'a, Inside> {
        inside.wanted = Wanted::Half;
        inside = self.room.wait_timeout(inside, LONG);
        if inside.wanted == Wanted::Half {
            drop(inside);
            let mut front = self.front();
            inside = self.lock();
            inside.look_at(&front.queue);
            // `wake_all` takes it back, and may have come while nothing was locked
            if inside.wanted == Wanted::Half && !inside.lets_in(&self.limits, size) {
                inside.wanted = Wanted::Any(size);
                front.is_watched = true;
                drop(front);
                inside = self.room.wait(inside);
            }
        }
        inside.wanted = Wanted::Nothing;
        inside
    }

    /// Something was taken from the front, and the reader waits for that.
    #[cold]
    fn let_read(&self) {
        let mut front = self.front();
        let mut inside = self.lock();
        inside.look_at(&front.queue);
        let wakes = inside.wakes_reader(&self.limits);
        front.is_watched = matches!(inside.wanted, Wanted::Any(_));
        drop(inside);
        drop(front);
        if wakes {
            self.room.notify_one();
        }
    }

    /// Wakes whoever waits for what was pushed.
    pub(super) fn ring(&self) {
        if self.lock().wakes_receiver() {
            self.wake_receivers();
        }
    }

    /// Waits until another message may come in; returns whether one may.
    pub(super) fn wait_for_room(&self, room: impl Fn() -> Room) -> bool {
        if self.limits.overflow != Overflow::Wait {
            return true;
        }
        let mut inside = self.lock();
        loop {
            let mut has_room = inside.lets_in(&self.limits, 1);
            if !has_room && inside.at_front.0 > 0 {
                inside = self.look(inside);
                has_room = inside.lets_in(&self.limits, 1);
            }
            if has_room || room() != Room::Within {
                return has_room;
            }
            inside = self.wait(inside, 1);
        }
    }

    /// So many messages were received and find no room any more.
    pub(crate) fn lose(&self, messages: usize) {
        self.dropped.fetch_add(messages as u64, Relaxed);
    }

    /// The next message of those that were taken to the front; that there is none says nothing.
    #[inline(always)]
    pub(crate) fn next(&self) -> Option<Message> {
        if self.channel.get().is_some() {
            return None;
        }
        let message = self.pop()?;
        self.note_receiver();
        Some(message)
    }

    #[inline(always)]
    fn pop(&self) -> Option<Message> {
        let mut front = self.front();
        let message = front.queue.pop_front()?;
        let is_watched = front.is_watched;
        drop(front);
        if is_watched {
            self.let_read();
        }
        Some(message)
    }

    /// Whoever receives is known from here on.
    #[inline]
    fn note_receiver(&self) {
        let (here, before) = (threads::here(), self.receiver.load(Relaxed));
        if before != here && before != SEVERAL {
            let first = self.receiver.compare_exchange(0, here, Relaxed, Relaxed);
            if first.is_err_and(|other| other != here) {
                self.receiver.store(SEVERAL, Relaxed);
            }
        }
    }

    /// Receives the next message; `interrupted` is asked whenever somebody says
    /// [`Mailbox::wake_all`], and `alarm` has to disconnect when it comes true.
    pub(crate) fn recv(
        &self,
        deadline: Option<Instant>,
        interrupted: impl Fn() -> bool,
        alarm: impl Fn() -> Receiver<Infallible>,
    ) -> Result<Message, NoMessage> {
        self.note_receiver();
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
            if let Some(message) = self.pop() {
                return Ok(message);
            }
            let mut front = self.front();
            let mut inside = self.lock();
            if !front.queue.is_empty() {
                continue;
            }
            let first = self.advance(&mut front.queue, &mut inside);
            // another receiver may wait for what is left, before whoever has brought it rings
            let wakes = !front.queue.is_empty() && std::mem::take(&mut inside.is_receiver_waiting);
            let lets_read = inside.wakes_reader(&self.limits);
            if first.is_none() && std::mem::take(&mut inside.gives_back) {
                front.queue.relax();
                inside.queue.relax();
            }
            drop(front);
            if first.is_some() || lets_read {
                drop(inside);
                if wakes {
                    self.wake_receivers();
                }
                if lets_read {
                    self.room.notify_one();
                }
                match first {
                    Some(message) => return Ok(message),
                    None => continue,
                }
            }
            if inside.ended {
                return Err(NoMessage::Ended);
            }
            if interrupted() {
                return Err(NoMessage::Interrupted);
            }
            let left = deadline.map(|time| time.saturating_duration_since(Instant::now()));
            inside.is_receiver_waiting |= self.is_watched();
            if left.is_some_and(|left| left.is_zero()) {
                return Err(NoMessage::TimedOut);
            }
            inside.is_receiver_waiting = true;
            drop(match left {
                None => self.filled.wait(inside),
                Some(left) => self.filled.wait_timeout(inside, left),
            });
        }
    }

    /// Fills the empty front with the next messages, but for the first of them, which it
    /// returns. Some stay behind for the reader to go on while they are received; with
    /// [`Overflow::DropOldest`] all do, for those at the front cannot be dropped any more.
    fn advance(&self, front: &mut ByteQueue<Message>, inside: &mut Inside) -> Option<Message> {
        (inside.at_front, inside.offered) = ((0, 0), 0);
        inside.settle(inside.at_door);
        let first = inside.queue.pop_front()?;
        if inside.has_channel {
            inside.offered = first.len();
        }
        if self.limits.overflow == Overflow::DropOldest {
            return Some(first);
        }
        let most = self.limits.messages.div_ceil(4).min(MOST_AT_FRONT);
        let (mut count, mut bytes) = (0, first.len());
        for message in inside.queue.iter().take(most.saturating_sub(1)) {
            if bytes >= self.limits.bytes / 4 {
                break;
            }
            (count, bytes) = (count + 1, bytes + message.len());
        }
        inside.queue.move_front(count, front);
        inside.at_front = (count, front.bytes());
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
        self.lock().has_channel = true;
        let mailbox = Arc::clone(self);
        let take = move || mailbox.take(None, || mailbox.abandoned.is_raised()).ok();
        let channel = Channel::start(threads, take, self.abandoned.raised().clone())?;
        // there is only one: nobody else has the mailbox yet
        let _ = self.channel.set(channel);
        Ok(())
    }

    /// Whether everything is received through a channel.
    #[cfg(unix)]
    pub(crate) fn has_channel(&self) -> bool {
        self.channel.get().is_some()
    }

    /// The channel; one in which nothing comes if there is none.
    pub(crate) fn receiver(&self) -> Receiver<Message> {
        self.channel.get().map_or_else(never, |channel| channel.receiver().clone())
    }

    /// A descriptor that is readable since something came or changed, until [`Mailbox::recv`] has found
    /// nothing. Not with a channel.
    ///
    /// # Errors
    ///
    /// What the system says if there is none to be had.
    #[cfg(unix)]
    pub(crate) fn readable(&self) -> io::Result<BorrowedFd<'_>> {
        if self.readable.get().is_none() {
            let pipe = SelfPipe::new()?;
            // something may be there
            pipe.fill();
            let _ = self.readable.set(pipe);
        }
        let pipe = self.readable.get().ok_or(io::ErrorKind::Other)?;
        Ok(pipe.as_fd())
    }

    /// Nothing is there: a descriptor is not readable any more. Returns whether there is one, which wants
    /// to be filled then.
    fn is_watched(&self) -> bool {
        #[cfg(unix)]
        if let Some(pipe) = self.readable.get() {
            pipe.empty();
            return true;
        }
        false
    }

    fn wake_receivers(&self) {
        self.filled.notify_all();
        self.wake_loop();
    }

    /// Has a program look that waits for the descriptor.
    pub(crate) fn wake_loop(&self) {
        #[cfg(unix)]
        if let Some(pipe) = self.readable.get() {
            pipe.fill();
        }
    }

    /// Has everybody who waits here look at the conditions again.
    pub(crate) fn wake_all(&self) {
        // in order: whoever has looked and not yet waits holds the lock
        self.lock().wanted = Wanted::Nothing;
        self.wake_receivers();
        self.room.notify_all();
    }

    /// Nothing more will come.
    pub(crate) fn end(&self) {
        self.lock().ended = true;
        self.wake_all();
    }

    /// Nobody will receive any more: what is left goes, and with it the channel's thread.
    pub(crate) fn abandon(&self) {
        self.abandoned.raise();
        self.end();
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
        in_channel + front.queue.len() + self.lock().queue.len()
    }

    #[cfg(test)]
    pub(super) fn has_reader_waiting(&self, for_any: bool) -> bool {
        match self.lock().wanted {
            Wanted::Nothing => false,
            Wanted::Half => !for_any,
            Wanted::Any(_) => true,
        }
    }

    #[cfg(test)]
    pub(super) fn has_receiver_waiting(&self) -> bool {
        self.lock().is_receiver_waiting
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.front().queue.capacity() + self.lock().queue.capacity()
    }

    /// The connection is idle: gives back what a burst took, at once or as soon as all of it was received.
    pub(super) fn relax(&self) {
        let mut front = self.front();
        let mut inside = self.lock();
        inside.gives_back = !front.queue.is_empty() || !inside.queue.is_empty();
        if !inside.gives_back {
            front.queue.relax();
            inside.queue.relax();
        }
    }
}

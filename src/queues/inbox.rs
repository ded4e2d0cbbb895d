//! Where received messages go: into the program's mailbox or through its handler.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded, select};

use crate::message::Message;
use crate::policy::{Overflow, Queue};
use crate::sync::{Condvar, Mutex, MutexGuard};

/// No more messages than this are taken to the front at once: the locks are cheap by then.
const MOST_AT_FRONT: usize = 256;

/// What the program does with a received message, on the reader thread.
pub(crate) type Handler = Box<dyn FnMut(Message) + Send>;

/// The receiving end of the program, as the reader sees it. One reader holds it at a time; it
/// outlives every link.
pub(crate) enum Inbox {
    Mailbox(Arc<Mailbox>),
    Handler(Handler),
}

impl Inbox {
    /// Takes a message in: a handler gets it now, a mailbox with the rest of the batch. The
    /// handler may panic.
    #[inline(always)]
    pub(crate) fn take(&mut self, message: Message, batch: &mut VecDeque<Message>) {
        match self {
            Self::Handler(handler) => handler(message),
            Self::Mailbox(_) => batch.push_back(message),
        }
    }

    /// Delivers the batch, waiting for room if that is the policy. Raising `abandon`, and then
    /// [`Mailbox::look_again`], ends the waiting and drops the rest.
    pub(crate) fn deliver(&self, batch: &mut VecDeque<Message>, abandon: &Receiver<Infallible>) {
        if let Self::Mailbox(mailbox) = self {
            mailbox.push(batch, abandon);
        }
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mailbox(_) => "Mailbox",
            Self::Handler(_) => "Handler",
        })
    }
}

/// The queue of received messages. The reader fills it once for each read of the socket, under
/// one lock and with one wake-up, however many messages that read held; a program that receives
/// takes a quarter of the room at a time to a list of its own, so that the two rarely meet. The
/// first program that wants a channel to select on ([`Mailbox::receiver`]) has everything put
/// into one from there on, message by message.
///
/// Whoever needs both locks takes `front` before `state`; nobody waits with `front` locked.
#[derive(Debug)]
pub(crate) struct Mailbox {
    limits: Queue,
    /// Messages that were received and thrown away.
    dropped: AtomicU64,
    /// What programs receive next.
    front: Mutex<VecDeque<Message>>,
    state: Mutex<State>,
    /// Signalled when there is something to receive, or never will be.
    filled: Condvar,
    /// Signalled when there is room, or nobody who makes any.
    room: Condvar,
    channel: OnceLock<Channel>,
}

#[derive(Debug, Default)]
struct State {
    /// What follows on the front.
    queue: VecDeque<Message>,
    /// How much the queue holds, and how much the front did when it was filled: that counts
    /// against the bounds until the front is empty.
    held: Held,
    at_front: Held,
    /// Whether somebody has to be woken; whoever does takes it back.
    is_receiver_waiting: bool,
    is_reader_waiting: bool,
    /// Nothing more will come.
    ended: bool,
}

#[derive(Debug, Default, Clone, Copy)]
struct Held {
    messages: usize,
    bytes: usize,
}

impl Held {
    fn add(&mut self, message: &Message) {
        self.messages += 1;
        self.bytes += message.len();
    }

    fn remove(&mut self, message: &Message) {
        self.messages -= 1;
        self.bytes -= message.len();
    }
}

impl State {
    /// Whether another message may come in. A message larger than the bound passes alone.
    fn has_room(&self, limits: &Queue) -> bool {
        self.held.messages + self.at_front.messages < limits.messages
            && self.held.bytes + self.at_front.bytes < limits.bytes
    }

    fn push(&mut self, message: Message) {
        self.held.add(&message);
        self.queue.push_back(message);
    }

    fn pop(&mut self) -> Option<Message> {
        let message = self.queue.pop_front()?;
        self.held.remove(&message);
        Some(message)
    }
}

#[derive(Debug)]
struct Channel {
    /// Taken out at the end, so that the receiver disconnects.
    sender: Mutex<Option<Sender<Message>>>,
    receiver: Receiver<Message>,
}

/// What a receiver finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Nothing {
    /// Not yet.
    TimedOut,
    /// Not any more.
    Ended,
    /// The caller's own condition came true.
    Interrupted,
}

impl Mailbox {
    pub(crate) fn new(limits: Queue) -> Self {
        Self {
            limits,
            dropped: AtomicU64::new(0),
            front: Mutex::default(),
            state: Mutex::default(),
            filled: Condvar::new(),
            room: Condvar::new(),
            channel: OnceLock::new(),
        }
    }

    fn front(&self) -> MutexGuard<'_, VecDeque<Message>> {
        self.front.lock()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn push(&self, batch: &mut VecDeque<Message>, abandon: &Receiver<Infallible>) {
        let mut state = self.state();
        while !batch.is_empty() {
            if let Some(channel) = self.channel.get() {
                drop(state);
                return self.send(channel, batch, abandon);
            }
            let before = state.held.messages;
            while state.has_room(&self.limits) {
                let Some(message) = batch.pop_front() else { break };
                state.push(message);
            }
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
            match self.limits.overflow {
                Overflow::DropOldest if state.pop().is_some() => {
                    self.dropped.fetch_add(1, Relaxed);
                }
                Overflow::DropNewest | Overflow::Fail | Overflow::DropOldest => {
                    return self.drop_all(batch);
                }
                Overflow::Wait => {
                    if abandon.try_recv() == Err(TryRecvError::Disconnected) {
                        return self.drop_all(batch);
                    }
                    state.is_reader_waiting = true;
                    state = self.room.wait(state);
                }
            }
        }
    }

    fn drop_all(&self, batch: &mut VecDeque<Message>) {
        self.dropped.fetch_add(batch.len() as u64, Relaxed);
        batch.clear();
    }

    fn send(
        &self,
        channel: &Channel,
        batch: &mut VecDeque<Message>,
        abandon: &Receiver<Infallible>,
    ) {
        let sender = channel.sender.lock().clone();
        let Some(sender) = sender else { return self.drop_all(batch) };
        let dropped = || self.dropped.fetch_add(1, Relaxed);
        while let Some(mut message) = batch.pop_front() {
            while let Err(TrySendError::Full(back)) = sender.try_send(message) {
                message = back;
                match self.limits.overflow {
                    Overflow::DropNewest | Overflow::Fail => {
                        dropped();
                        break;
                    }
                    Overflow::DropOldest => {
                        if channel.receiver.try_recv().is_ok() {
                            dropped();
                        }
                    }
                    Overflow::Wait => {
                        select! {
                            send(sender, message) -> _ => {}
                            recv(abandon) -> _ => { dropped(); }
                        }
                        break;
                    }
                }
            }
        }
    }

    /// Receives the next message; `interrupted` is asked whenever somebody says
    /// [`Mailbox::look_again`], and `alarm` has to disconnect when it comes true.
    pub(crate) fn recv(
        &self,
        deadline: Option<Instant>,
        interrupted: impl Fn() -> bool,
        alarm: impl Fn() -> Receiver<Infallible>,
    ) -> Result<Message, Nothing> {
        loop {
            let mut front = self.front();
            if let Some(message) = front.pop_front() {
                return Ok(message);
            }
            let mut state = self.state();
            if let Some(channel) = self.channel.get() {
                drop(state);
                drop(front);
                return channel.recv(deadline, interrupted, alarm);
            }
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
                return Err(Nothing::Ended);
            }
            if interrupted() {
                return Err(Nothing::Interrupted);
            }
            state.is_receiver_waiting = true;
            match deadline {
                None => drop(self.filled.wait(state)),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(Nothing::TimedOut);
                    }
                    drop(self.filled.wait_timeout(state, left));
                }
            }
        }
    }

    /// Fills the empty front with the next messages, but for the first of them, which it
    /// returns. Some stay behind for the reader to go on while they are received; with
    /// [`Overflow::DropOldest`] all do, for those at the front are past dropping.
    fn advance(&self, front: &mut VecDeque<Message>, state: &mut State) -> Option<Message> {
        state.at_front = Held::default();
        let first = state.pop();
        if self.limits.overflow != Overflow::DropOldest && first.is_some() {
            let quarter = Held {
                messages: self.limits.messages.div_ceil(4).min(MOST_AT_FRONT),
                bytes: self.limits.bytes / 4,
            };
            let mut taken = Held { messages: 1, bytes: first.as_ref().map_or(0, Message::len) };
            while taken.messages < quarter.messages && taken.bytes < quarter.bytes {
                let Some(message) = state.pop() else { break };
                taken.add(&message);
                state.at_front.add(&message);
                front.push_back(message);
            }
        }
        first
    }

    /// The channel, from here on the only place where messages are put.
    pub(crate) fn receiver(&self) -> &Receiver<Message> {
        // under both locks, so that no message is queued beside it
        let mut front = self.front();
        let mut state = self.state();
        let channel = self.channel.get_or_init(|| {
            let (sender, receiver) = bounded(self.limits.messages);
            for message in front.drain(..).chain(state.queue.drain(..)) {
                // it has the room that the queue had
                let _ = sender.try_send(message);
            }
            (state.held, state.at_front) = (Held::default(), Held::default());
            let sender = if state.ended { None } else { Some(sender) };
            Channel { sender: Mutex::new(sender), receiver }
        });
        drop((front, state));
        self.look_again();
        &channel.receiver
    }

    /// Has everybody who waits here look at the conditions again.
    pub(crate) fn look_again(&self) {
        // in order: whoever has looked and not yet waits holds the lock
        drop(self.state());
        self.filled.notify_all();
        self.room.notify_all();
    }

    /// Nothing more will come.
    pub(crate) fn end(&self) {
        self.state().ended = true;
        if let Some(channel) = self.channel.get() {
            channel.sender.lock().take();
        }
        self.look_again();
    }

    /// How many received messages were thrown away: by the policy, or because nobody wants them
    /// any more.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// How many messages wait.
    pub(crate) fn len(&self) -> usize {
        match self.channel.get() {
            Some(channel) => channel.receiver.len(),
            None => {
                let front = self.front();
                front.len() + self.state().queue.len()
            }
        }
    }
}

impl Channel {
    fn recv(
        &self,
        deadline: Option<Instant>,
        interrupted: impl Fn() -> bool,
        alarm: impl Fn() -> Receiver<Infallible>,
    ) -> Result<Message, Nothing> {
        loop {
            match self.receiver.try_recv() {
                Ok(message) => return Ok(message),
                Err(TryRecvError::Disconnected) => return Err(Nothing::Ended),
                Err(TryRecvError::Empty) => {}
            }
            let alarm = alarm();
            if interrupted() {
                // what came in last was there before
                return self.receiver.try_recv().map_err(|_| Nothing::Interrupted);
            }
            let timeout = deadline.map_or_else(crossbeam_channel::never, crossbeam_channel::at);
            select! {
                recv(self.receiver) -> message => {
                    return message.map_err(|_| Nothing::Ended);
                }
                recv(alarm) -> _ => {}
                recv(timeout) -> _ => {
                    return self.receiver.try_recv().map_err(|_| Nothing::TimedOut);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Signal;

    fn mailbox(overflow: Overflow) -> (Inbox, Arc<Mailbox>) {
        let limits = Queue::new().messages(2).overflow(overflow);
        let mailbox = Arc::new(Mailbox::new(limits));
        (Inbox::Mailbox(Arc::clone(&mailbox)), mailbox)
    }

    fn numbers(range: std::ops::Range<u32>) -> VecDeque<Message> {
        range.map(|number| number.to_string().into()).collect()
    }

    fn receive_all(mailbox: &Mailbox) -> Vec<Message> {
        let next = || mailbox.recv(Some(Instant::now()), || false, crossbeam_channel::never);
        std::iter::from_fn(|| next().ok()).collect()
    }

    #[test]
    fn each_policy_at_the_bound_of_queue_and_channel() {
        let quiet = Signal::new();
        for as_channel in [false, true] {
            for (overflow, kept) in
                [(Overflow::DropOldest, ["3", "4"]), (Overflow::DropNewest, ["0", "1"])]
            {
                let (inbox, mailbox) = mailbox(overflow);
                if as_channel {
                    mailbox.receiver();
                }
                inbox.deliver(&mut numbers(0..5), quiet.raised());
                assert_eq!(receive_all(&mailbox), kept.map(Message::from));
                assert_eq!(mailbox.dropped(), 3);
            }
        }
    }

    #[test]
    fn bytes_bound_it_too_and_a_huge_message_passes_alone() {
        let limits = Queue::new().bytes(10).overflow(Overflow::DropNewest);
        let mailbox = Mailbox::new(limits);
        let quiet = Signal::new();
        let put = |sizes: &[usize]| {
            let mut batch = sizes.iter().map(|size| Message::from("x".repeat(*size))).collect();
            mailbox.push(&mut batch, quiet.raised());
        };
        put(&[100, 1]);
        assert_eq!((mailbox.len(), mailbox.dropped()), (1, 1));
        assert_eq!(receive_all(&mailbox).len(), 1);
        put(&[4, 5, 6, 7]);
        assert_eq!((mailbox.len(), mailbox.dropped()), (3, 2));
    }

    #[test]
    fn what_was_taken_to_the_front_counts_until_it_is_received() {
        let limits = Queue::new().messages(16).overflow(Overflow::DropNewest);
        let mailbox = Mailbox::new(limits);
        let quiet = Signal::new();
        let mut next = 0..;
        let mut received = Vec::new();
        for _ in 0..40 {
            let fill: Vec<u32> = next.by_ref().take(20).collect();
            let kept = 16 - mailbox.len();
            let mut batch = fill.iter().map(|number| number.to_string().into()).collect();
            mailbox.push(&mut batch, quiet.raised());
            assert!(mailbox.len() <= 16, "{} are in it", mailbox.len());
            // those of the front that were received are made up for at the next advance
            assert!(mailbox.len() > 16 - kept.min(4) - 4);
            for _ in 0..3 {
                received.push(mailbox.recv(None, || false, crossbeam_channel::never).unwrap());
            }
        }
        let numbers: Vec<u32> =
            received.iter().map(|message| message.as_text().unwrap().parse().unwrap()).collect();
        assert!(numbers.is_sorted_by(|one, two| one < two), "{numbers:?}");
    }

    #[test]
    fn abandoning_ends_the_wait_and_counts_the_loss() {
        for as_channel in [false, true] {
            let (inbox, mailbox) = mailbox(Overflow::Wait);
            if as_channel {
                mailbox.receiver();
            }
            let abandon = Signal::new();
            let raised = abandon.raised().clone();
            let reader = std::thread::spawn(move || inbox.deliver(&mut numbers(0..3), &raised));
            abandon.raise();
            mailbox.look_again();
            reader.join().unwrap();
            assert_eq!(mailbox.len(), 2);
            assert_eq!(mailbox.dropped(), 1);
        }
    }

    #[test]
    fn a_reader_that_waits_goes_on_when_there_is_room_also_across_the_switch() {
        let (inbox, mailbox) = mailbox(Overflow::Wait);
        let quiet = Signal::new();
        let reader =
            std::thread::spawn(move || inbox.deliver(&mut numbers(0..100), quiet.raised()));
        let mut received = Vec::new();
        while received.len() < 100 {
            if received.len() == 50 {
                mailbox.receiver();
            }
            received.push(mailbox.recv(None, || false, crossbeam_channel::never).unwrap());
        }
        reader.join().unwrap();
        assert_eq!(received, Vec::from(numbers(0..100)));
    }

    #[test]
    fn the_end_reaches_whoever_waits() {
        for as_channel in [false, true] {
            let (_inbox, mailbox) = mailbox(Overflow::Wait);
            if as_channel {
                mailbox.receiver();
            }
            std::thread::scope(|scope| {
                let waiting =
                    scope.spawn(|| mailbox.recv(None, || false, crossbeam_channel::never));
                mailbox.end();
                assert_eq!(waiting.join().unwrap(), Err(Nothing::Ended));
            });
            assert!(mailbox.receiver().recv().is_err(), "the channel disconnects");
        }
    }
}

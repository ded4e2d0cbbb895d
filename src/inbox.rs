//! Where received messages go: into the program's mailbox or through its handler.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded, select};

use crate::failure::{Failure, HANDLER, guarded};
use crate::message::Message;
use crate::policy::{Overflow, Queue};
use crate::stats::Counters;

/// What the program does with a received message, on the reader thread.
pub(crate) type Handler = Box<dyn FnMut(Message) + Send>;

/// The receiving end of the program, as the reader sees it. One reader holds it at a time; it
/// outlives every link.
pub(crate) enum Inbox {
    Mailbox(Arc<Mailbox>),
    Handler(Handler),
}

impl Inbox {
    /// Takes a message in: a handler gets it now, a mailbox with the rest of the batch.
    ///
    /// # Errors
    ///
    /// The handler panicked.
    pub(crate) fn take(
        &mut self,
        message: Message,
        batch: &mut VecDeque<Message>,
    ) -> Result<(), Failure> {
        match self {
            Self::Handler(handler) => guarded(HANDLER, || handler(message)),
            Self::Mailbox(_) => {
                batch.push_back(message);
                Ok(())
            }
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
/// one lock and with one wake-up, however many messages that read held. The first program that
/// wants a channel to select on ([`Mailbox::receiver`]) has everything put into one from there
/// on, message by message.
#[derive(Debug)]
pub(crate) struct Mailbox {
    limits: Queue,
    counters: Arc<Counters>,
    state: Mutex<State>,
    /// Signalled when there is something to receive, or never will be.
    filled: Condvar,
    /// Signalled when there is room, or nobody who makes any.
    room: Condvar,
    channel: OnceLock<Channel>,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Message>,
    receivers_waiting: usize,
    is_reader_waiting: bool,
    /// Nothing more will come.
    ended: bool,
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
    pub(crate) fn new(limits: Queue, counters: Arc<Counters>) -> Self {
        Self {
            limits,
            counters,
            state: Mutex::default(),
            filled: Condvar::new(),
            room: Condvar::new(),
            channel: OnceLock::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, batch: &mut VecDeque<Message>, abandon: &Receiver<Infallible>) {
        let mut state = self.state();
        while !batch.is_empty() {
            if let Some(channel) = self.channel.get() {
                drop(state);
                return self.send(channel, batch, abandon);
            }
            let room = self.limits.messages.saturating_sub(state.queue.len());
            let fitting = batch.len().min(room);
            state.queue.extend(batch.drain(..fitting));
            if fitting > 0 && state.receivers_waiting > 0 {
                self.filled.notify_all();
            }
            if batch.is_empty() {
                return;
            }
            match self.limits.overflow {
                Overflow::DropNewest | Overflow::Fail => return self.drop_all(batch),
                Overflow::DropOldest => {
                    state.queue.pop_front();
                    self.counters.inbox_dropped.fetch_add(1, Relaxed);
                }
                Overflow::Wait => {
                    if abandon.try_recv() == Err(TryRecvError::Disconnected) {
                        return self.drop_all(batch);
                    }
                    state.is_reader_waiting = true;
                    state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    fn drop_all(&self, batch: &mut VecDeque<Message>) {
        self.counters.inbox_dropped.fetch_add(batch.len() as u64, Relaxed);
        batch.clear();
    }

    fn send(
        &self,
        channel: &Channel,
        batch: &mut VecDeque<Message>,
        abandon: &Receiver<Infallible>,
    ) {
        let sender = channel.sender.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(sender) = sender else { return self.drop_all(batch) };
        let dropped = || self.counters.inbox_dropped.fetch_add(1, Relaxed);
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
        let mut state = self.state();
        loop {
            if let Some(channel) = self.channel.get() {
                drop(state);
                return channel.recv(deadline, interrupted, alarm);
            }
            if let Some(message) = state.queue.pop_front() {
                // a quarter of the room at a time, or the reader would be woken for each message
                let ample = state.queue.len() <= self.limits.messages * 3 / 4;
                if ample && std::mem::take(&mut state.is_reader_waiting) {
                    drop(state);
                    self.room.notify_one();
                }
                return Ok(message);
            }
            if state.ended {
                return Err(Nothing::Ended);
            }
            if interrupted() {
                return Err(Nothing::Interrupted);
            }
            state.receivers_waiting += 1;
            state = match deadline {
                None => self.filled.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        state.receivers_waiting -= 1;
                        return Err(Nothing::TimedOut);
                    }
                    self.filled.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.receivers_waiting -= 1;
        }
    }

    /// The channel, from here on the only place where messages are put.
    pub(crate) fn receiver(&self) -> &Receiver<Message> {
        // under the lock, so that no message is queued beside it
        let mut state = self.state();
        let channel = self.channel.get_or_init(|| {
            let (sender, receiver) = bounded(self.limits.messages);
            for message in state.queue.drain(..) {
                // it has the room that the queue had
                let _ = sender.try_send(message);
            }
            let sender = if state.ended { None } else { Some(sender) };
            Channel { sender: Mutex::new(sender), receiver }
        });
        drop(state);
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
            channel.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        self.look_again();
    }

    /// How many messages wait.
    pub(crate) fn len(&self) -> usize {
        match self.channel.get() {
            Some(channel) => channel.receiver.len(),
            None => self.state().queue.len(),
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
    use crate::signal::Signal;

    fn mailbox(overflow: Overflow) -> (Inbox, Arc<Mailbox>, Arc<Counters>) {
        let counters = Arc::new(Counters::default());
        let limits = Queue::new().messages(2).overflow(overflow);
        let mailbox = Arc::new(Mailbox::new(limits, Arc::clone(&counters)));
        (Inbox::Mailbox(Arc::clone(&mailbox)), mailbox, counters)
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
                let (inbox, mailbox, counters) = mailbox(overflow);
                if as_channel {
                    mailbox.receiver();
                }
                inbox.deliver(&mut numbers(0..5), quiet.raised());
                assert_eq!(receive_all(&mailbox), kept.map(Message::from));
                assert_eq!(counters.inbox_dropped.load(Relaxed), 3);
            }
        }
    }

    #[test]
    fn abandoning_ends_the_wait_and_counts_the_loss() {
        for as_channel in [false, true] {
            let (inbox, mailbox, counters) = mailbox(Overflow::Wait);
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
            assert_eq!(counters.inbox_dropped.load(Relaxed), 1);
        }
    }

    #[test]
    fn a_reader_that_waits_goes_on_when_there_is_room_also_across_the_switch() {
        let (inbox, mailbox, _) = mailbox(Overflow::Wait);
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
            let (_inbox, mailbox, _) = mailbox(Overflow::Wait);
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

    #[test]
    fn a_handler_that_panics_is_a_failure() {
        let mut inbox = Inbox::Handler(Box::new(|_| panic!("boom")));
        let failure = inbox.take("x".into(), &mut VecDeque::new()).unwrap_err();
        assert_eq!(failure.to_string(), "handler panicked: boom");
    }
}

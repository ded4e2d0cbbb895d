//! What waits to be sent. It outlives every link.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::error::Error;
use crate::message::Message;
use crate::policy::{Overflow, Queue};
use crate::protocol::Framing;

/// The queue between the threads that send and the one thread that writes.
///
/// Invariants: messages leave in the order in which they were accepted; what the writer has
/// taken and not yet written still counts against the bounds; whoever pushes onto an empty
/// queue rings the doorbell, so a writer that saw it empty under the lock can sleep on the
/// doorbell without missing anything.
#[derive(Debug)]
pub(crate) struct Outbox {
    limits: Queue,
    /// The largest message that the connection carries.
    max_message: usize,
    /// On `tcp://` only.
    framing: Option<Framing>,
    state: Mutex<State>,
    /// Signalled when room appears or the outbox shuts.
    room: Condvar,
    doorbell: (Sender<()>, Receiver<()>),
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Message>,
    /// Payload bytes of `queue`.
    bytes: usize,
    /// What the writer holds: counted, but out of reach of the overflow policy.
    taken: usize,
    taken_bytes: usize,
    /// How many threads wait for room; with none, making room signals nobody.
    waiting: usize,
    gate: Gate,
    /// Whether something was taken out that will never be written.
    drained: bool,
    dropped: u64,
}

/// What a send meets.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Gate {
    #[default]
    Open,
    /// Messages are still queued while there is room, but waiting for room is pointless.
    NobodyDrains,
    /// Nothing more is accepted.
    Shut,
}

/// Why a message was not accepted.
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
}

/// How long a send may wait for room.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Patience {
    None,
    Until(Instant),
    Forever,
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::TooLarge { size, limit } => Self::MessageTooLarge { size, limit },
            Refused::Unsendable(reason) => Self::Unsendable { reason },
            Refused::TimedOut => Self::Timeout,
            Refused::Shut => Self::Closed,
            Refused::Full | Refused::NobodyDrains => Self::Full,
        }
    }
}

impl Patience {
    /// Until this much time has passed; a time beyond all clocks is forever.
    pub(crate) fn timeout(timeout: Duration) -> Self {
        Instant::now().checked_add(timeout).map_or(Self::Forever, Self::Until)
    }
}

impl Outbox {
    pub(crate) fn new(limits: Queue, max_message: usize, framing: Option<Framing>) -> Self {
        let max_message =
            max_message.min(limits.bytes).min(framing.as_ref().map_or(usize::MAX, Framing::limit));
        let (state, room) = (Mutex::default(), Condvar::new());
        Self { limits, max_message, framing, state, room, doorbell: bounded(1) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts a message, or says why not. `None` patience turns waiting into `Full`.
    pub(crate) fn push(&self, message: Message, patience: Patience) -> Result<(), Refused> {
        let (size, limit) = (message.len(), self.max_message);
        if size > limit {
            return Err(Refused::TooLarge { size, limit });
        }
        if let Some(framing) = &self.framing {
            framing.check(&message).map_err(Refused::Unsendable)?;
        }
        let mut state = self.state();
        while state.gate != Gate::Shut && !self.has_room(&state, message.len()) {
            match self.limits.overflow {
                Overflow::Wait => state = self.wait_for_room(state, patience)?,
                Overflow::Fail => return Err(Refused::Full),
                Overflow::DropNewest => {
                    state.dropped += 1;
                    return Ok(());
                }
                Overflow::DropOldest => {
                    let Some(oldest) = state.queue.pop_front() else {
                        // all of it is being written this moment: that is past dropping
                        state.dropped += 1;
                        return Ok(());
                    };
                    state.bytes -= oldest.len();
                    state.dropped += 1;
                }
            }
        }
        if state.gate == Gate::Shut {
            return Err(Refused::Shut);
        }
        let was_empty = state.queue.is_empty();
        state.bytes += message.len();
        state.queue.push_back(message);
        drop(state);
        if was_empty {
            self.ring();
        }
        Ok(())
    }

    fn has_room(&self, state: &State, size: usize) -> bool {
        state.queue.len() + state.taken < self.limits.messages
            && state.bytes + state.taken_bytes + size <= self.limits.bytes
    }

    fn wait_for_room<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        patience: Patience,
    ) -> Result<MutexGuard<'a, State>, Refused> {
        if state.gate == Gate::NobodyDrains {
            return Err(Refused::NobodyDrains);
        }
        state.waiting += 1;
        let mut state = match patience {
            Patience::None => {
                state.waiting -= 1;
                return Err(Refused::Full);
            }
            Patience::Forever => self.room.wait(state).unwrap_or_else(PoisonError::into_inner),
            Patience::Until(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    state.waiting -= 1;
                    return Err(Refused::TimedOut);
                }
                self.room.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
            }
        };
        state.waiting -= 1;
        Ok(state)
    }

    /// Waits until everything that was accepted has been written.
    pub(crate) fn wait_empty(&self, deadline: Option<Instant>) -> Result<(), Refused> {
        let patience = deadline.map_or(Patience::Forever, Patience::Until);
        let mut state = self.state();
        while state.queue.len() + state.taken > 0 && state.gate != Gate::Shut {
            state = self.wait_for_room(state, patience)?;
        }
        if state.queue.len() + state.taken > 0 || state.drained {
            return Err(Refused::Shut);
        }
        Ok(())
    }

    /// Moves messages to `batch` until it holds `bytes` or the queue is empty.
    pub(crate) fn take(&self, batch: &mut VecDeque<Message>, bytes: usize) {
        let mut state = self.state();
        let mut moved = 0;
        while moved < bytes {
            let Some(message) = state.queue.pop_front() else { break };
            // small messages cost more than their payload: count some overhead, so that a
            // batch of tiny ones stays short enough for the control lane
            moved += message.len() + 16;
            state.bytes -= message.len();
            state.taken_bytes += message.len();
            state.taken += 1;
            batch.push_back(message);
        }
    }

    /// The writer has handed `messages` with `bytes` of payload to the socket.
    pub(crate) fn written(&self, messages: usize, bytes: usize) {
        let mut state = self.state();
        state.taken -= messages;
        state.taken_bytes -= bytes;
        let wake = state.waiting > 0 && self.has_ample_room(&state);
        drop(state);
        if wake {
            self.room.notify_all();
        }
    }

    /// Whether it is worth waking those who wait. A quarter of the queue at a time, not every
    /// message: a sender that is faster than the socket would otherwise be woken for each.
    fn has_ample_room(&self, state: &State) -> bool {
        let (messages, bytes) = (self.limits.messages, self.limits.bytes);
        state.queue.len() + state.taken <= messages - messages.div_ceil(4)
            && state.bytes + state.taken_bytes <= bytes - bytes.div_ceil(4)
    }

    /// The link died first: what was taken and not written goes back to the front.
    pub(crate) fn restore(&self, batch: &mut VecDeque<Message>) {
        if batch.is_empty() {
            return;
        }
        let mut state = self.state();
        while let Some(message) = batch.pop_back() {
            state.taken -= 1;
            state.taken_bytes -= message.len();
            state.bytes += message.len();
            state.queue.push_front(message);
        }
    }

    /// Nothing more is written for a while: whatever room there is, is all there will be.
    pub(crate) fn link_lost(&self) {
        self.room.notify_all();
        self.ring();
    }

    /// Wakes the writer.
    pub(crate) fn ring(&self) {
        let _ = self.doorbell.0.try_send(());
    }

    /// What the writer sleeps on. A token says "look again", no more.
    pub(crate) fn doorbell(&self) -> &Receiver<()> {
        &self.doorbell.1
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

    /// Takes out everything that is left.
    pub(crate) fn drain(&self) -> Vec<Message> {
        let mut state = self.state();
        state.bytes = 0;
        state.drained |= !state.queue.is_empty();
        std::mem::take(&mut state.queue).into()
    }

    /// How many messages and bytes wait or are being written.
    pub(crate) fn depth(&self) -> (usize, usize) {
        let state = self.state();
        (state.queue.len() + state.taken, state.bytes + state.taken_bytes)
    }

    /// How many messages the overflow policy has dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.state().dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn outbox(messages: usize, overflow: Overflow) -> Outbox {
        Outbox::new(Queue::new().messages(messages).overflow(overflow), usize::MAX, None)
    }

    fn fill(outbox: &Outbox, numbers: std::ops::Range<u32>) {
        for number in numbers {
            outbox.push(number.to_string().into(), Patience::None).unwrap();
        }
    }

    fn texts(messages: Vec<Message>) -> Vec<String> {
        messages.iter().map(|message| message.as_text().unwrap_or("?").to_owned()).collect()
    }

    #[test]
    fn each_policy_at_the_bound() {
        let full = outbox(2, Overflow::Fail);
        fill(&full, 0..2);
        assert_eq!(full.push("2".into(), Patience::Forever), Err(Refused::Full));
        assert_eq!(texts(full.drain()), ["0", "1"]);

        let oldest = outbox(2, Overflow::DropOldest);
        fill(&oldest, 0..5);
        assert_eq!((oldest.dropped(), texts(oldest.drain())), (3, vec!["3".into(), "4".into()]));

        let newest = outbox(2, Overflow::DropNewest);
        fill(&newest, 0..5);
        assert_eq!((newest.dropped(), texts(newest.drain())), (3, vec!["0".into(), "1".into()]));
    }

    #[test]
    fn bytes_bound_it_too() {
        let small = Outbox::new(Queue::new().bytes(10).overflow(Overflow::Fail), 100, None);
        let huge = small.push("12345678901".into(), Patience::None);
        assert_eq!(huge, Err(Refused::TooLarge { size: 11, limit: 10 }));
        small.push("123456".into(), Patience::None).unwrap();
        assert_eq!(small.push("12345".into(), Patience::None), Err(Refused::Full));
        small.push("1234".into(), Patience::None).unwrap();
        assert_eq!(small.depth(), (2, 10));
    }

    #[test]
    fn waiting_ends_with_room_with_the_deadline_and_with_the_end() {
        let outbox = Arc::new(outbox(1, Overflow::Wait));
        fill(&outbox, 0..1);
        let soon = Patience::Until(Instant::now() + Duration::from_millis(10));
        assert_eq!(outbox.push("late".into(), soon), Err(Refused::TimedOut));

        let waiter = {
            let outbox = Arc::clone(&outbox);
            std::thread::spawn(move || outbox.push("next".into(), Patience::Forever))
        };
        let mut batch = VecDeque::new();
        outbox.take(&mut batch, 1);
        outbox.written(1, 1);
        assert_eq!(waiter.join().unwrap(), Ok(()));

        let waiter = {
            let outbox = Arc::clone(&outbox);
            std::thread::spawn(move || outbox.push("never".into(), Patience::Forever))
        };
        outbox.shut();
        assert_eq!(waiter.join().unwrap(), Err(Refused::Shut));
        assert_eq!(texts(outbox.drain()), ["next"]);
    }

    #[test]
    fn nobody_waits_for_a_client_that_gave_up() {
        let outbox = outbox(1, Overflow::Wait);
        outbox.set_drained(false);
        fill(&outbox, 0..1);
        assert_eq!(outbox.push("1".into(), Patience::Forever), Err(Refused::NobodyDrains));
    }

    proptest! {
        /// Whatever dies in between, what is written is what was pushed, in that order.
        #[test]
        fn order_survives_any_row_of_links(steps in prop::collection::vec((0..6_usize, 0..200_usize), 1..60)) {
            let outbox = outbox(1000, Overflow::Fail);
            let (mut pushed, mut written) = (0_u32, Vec::new());
            for (written_before_death, budget) in steps {
                fill(&outbox, pushed..pushed + 3);
                pushed += 3;
                let mut batch = VecDeque::new();
                outbox.take(&mut batch, budget);
                for message in batch.drain(..written_before_death.min(batch.len())) {
                    outbox.written(1, message.len());
                    written.push(message);
                }
                outbox.restore(&mut batch);
            }
            written.extend(outbox.drain());
            let expected: Vec<String> = (0..pushed).map(|number| number.to_string()).collect();
            prop_assert_eq!(texts(written), expected);
            prop_assert_eq!(outbox.depth(), (0, 0));
        }
    }
}

//! The state behind the mailbox's lock: plain bookkeeping, no waiting.

use std::collections::VecDeque;

use super::Batch;
use crate::message::Message;
use crate::policy::Bounds;
use crate::sync::Share;

#[derive(Debug, Default)]
pub(super) struct State {
    /// What follows on the front.
    pub(super) queue: VecDeque<Message>,
    /// How much the queue holds, and how much the front did when it was filled: that counts
    /// against the bounds until the front is empty.
    pub(super) held: Held,
    pub(super) at_front: Held,
    /// Bytes that wait for room in the reader's hands, and for the program in the channel's.
    pub(super) at_door: usize,
    pub(super) offered: usize,
    /// Whether a channel receives.
    pub(super) has_channel: bool,
    /// What of the memory that all sessions share is taken for all that.
    pub(super) share: Share,
    /// Whether somebody has to be woken; whoever does takes it back.
    pub(super) is_receiver_waiting: bool,
    pub(super) is_reader_waiting: bool,
    /// Nothing more will come.
    pub(super) ended: bool,
}

#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Held {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl Held {
    pub(super) fn add(&mut self, message: &Message) {
        self.messages += 1;
        self.bytes += message.len();
    }

    pub(super) fn remove(&mut self, other: Held) {
        self.messages -= other.messages;
        self.bytes -= other.bytes;
    }
}

impl State {
    /// Whether so much may come in besides another message. A message larger than the bound
    /// passes alone.
    pub(super) fn has_room(&self, limits: &Bounds, more: Held) -> bool {
        let messages = self.held.messages + self.at_front.messages + more.messages;
        messages < limits.messages && self.bytes() + more.bytes < limits.bytes
    }

    /// Whether the memory that all sessions share has room for so many bytes more.
    pub(super) fn covers(&mut self, bytes: usize) -> bool {
        self.share.covers(self.memory() + bytes)
    }

    /// Whether a message of this size may come in, as far as that memory goes: it passes alone.
    pub(super) fn admits(&mut self, size: usize) -> bool {
        self.covers(size) || self.held.messages + self.at_front.messages == 0
    }

    fn bytes(&self) -> usize {
        self.held.bytes + self.at_front.bytes
    }

    /// What it keeps, beside what waits for room.
    fn memory(&self) -> usize {
        self.bytes() + self.offered
    }

    /// Gives back what of the shared memory is not needed any more.
    pub(super) fn settle(&mut self) {
        self.share.shrink(self.memory() + self.at_door);
    }

    pub(super) fn push(&mut self, message: Message) {
        self.held.add(&message);
        self.share.charge(self.memory());
        self.queue.push_back(message);
    }

    pub(super) fn append(&mut self, batch: &mut Batch) {
        self.held.messages += batch.messages.len();
        self.held.bytes += std::mem::take(&mut batch.bytes);
        self.share.charge(self.memory());
        if self.queue.is_empty() {
            std::mem::swap(&mut self.queue, &mut batch.messages);
        } else {
            self.queue.append(&mut batch.messages);
        }
    }

    pub(super) fn pop(&mut self) -> Option<Message> {
        let message = self.queue.pop_front()?;
        self.held.remove(Held { messages: 1, bytes: message.len() });
        Some(message)
    }
}

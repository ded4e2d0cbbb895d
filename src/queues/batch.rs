//! What was received and is not delivered yet.

use std::sync::Arc;

use super::byte_queue::ByteQueue;
use crate::message::{INLINE, Maker, Message, MessageRef, Pool};
use crate::sync::Share;

/// No more messages than this are delivered at once: a hundred kilobytes of messages that hold
/// nothing.
const FULL: usize = 1024;

/// Nor more bytes, and one message: what inflates from one read can be a thousand times as much.
const FULL_BYTES: usize = 64 * 1024;

/// An idle connection keeps room for so many.
const SMALL: usize = 32;

/// The messages of one read, or of part of a large one.
#[derive(Debug)]
pub(crate) struct Batch {
    messages: ByteQueue<Message>,
    /// With what the maker holds.
    bytes: usize,
    maker: Maker,
    /// What of the memory that all sessions share is taken for the large ones.
    share: Share,
    /// Whether the mailbox that takes them holds on to more memory than an idle connection should.
    mailbox_is_large: bool,
}

impl Batch {
    /// `pool` is where the messages get their memory, `share` what they hold of what is shared.
    pub(crate) fn new(pool: Arc<Pool>, share: Share) -> Self {
        Self {
            messages: ByteQueue::default(),
            bytes: 0,
            maker: Maker::new(pool),
            share,
            mailbox_is_large: false,
        }
    }

    /// Who has gathered the messages hands over what was taken for them.
    pub(crate) fn share(&mut self) -> &mut Share {
        &mut self.share
    }

    #[inline]
    pub(crate) fn push(&mut self, message: MessageRef<'_>) {
        self.bytes += message.len();
        if message.len() <= INLINE && !self.maker.is_waiting() {
            return self.messages.push_short(&message);
        }
        self.maker.push(message, |message| self.messages.push_back(message));
    }

    /// All of them, which are to be taken out, and what was taken of the shared memory for them.
    pub(super) fn finish(&mut self) -> (&mut ByteQueue<Message>, &mut Share) {
        self.maker.finish(|message| self.messages.push_back(message));
        self.bytes = 0;
        (&mut self.messages, &mut self.share)
    }

    /// About how much memory it takes.
    pub(crate) fn size(&self) -> usize {
        self.bytes + self.messages.len() * size_of::<Message>()
    }

    /// Whether it is worth delivering before more is decoded.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.messages.len() >= FULL || self.bytes >= FULL_BYTES
    }

    pub(super) fn note_mailbox(&mut self, is_large: bool) {
        self.mailbox_is_large |= is_large;
    }

    /// Whether it holds on to more memory than an idle connection should, or the mailbox that it went to does.
    pub(crate) fn is_large(&self) -> bool {
        self.messages.capacity() > SMALL || self.maker.is_large() || self.mailbox_is_large
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0 && self.messages.is_empty()
    }

    /// Gives back what a burst took, as the mailbox is to do.
    pub(crate) fn relax(&mut self) {
        self.mailbox_is_large = false;
        if self.is_empty() {
            self.messages.relax();
            self.maker.relax();
        }
    }
}

//! Where received messages go: into the program's mailbox or through its handler.

mod channel;
mod mailbox;
mod state;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

pub(crate) use mailbox::{Mailbox, NoMessage};

use crate::message::{Maker, Message, MessageRef, Pool};
use crate::sync::Share;

/// What the program does with a received message, on the reader thread.
pub(crate) type Handler = Box<dyn FnMut(MessageRef<'_>) + Send>;

/// The receiving end of the program, as the reader sees it. One reader holds it at a time; it
/// outlives every link.
pub(crate) enum Inbox {
    Mailbox(Arc<Mailbox>),
    Handler(Handler),
}

/// How much a full inbox takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// What its bounds allow: the reader waits, if that is the policy.
    Within,
    /// Whatever is left, over its bounds: nothing follows it on this link.
    Beyond,
    /// What its bounds allow, and the rest is dropped: nobody wants it.
    None,
}

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
    messages: VecDeque<Message>,
    bytes: usize,
    maker: Maker,
    /// What of the memory that all sessions share is taken for the large ones.
    share: Share,
}

impl Batch {
    /// `pool` is where the messages get their memory, `share` what they hold of what is shared.
    pub(crate) fn new(pool: Arc<Pool>, share: Share) -> Self {
        Self { messages: VecDeque::new(), bytes: 0, maker: Maker::new(pool), share }
    }

    /// Who has gathered the messages hands over what was taken for them.
    pub(crate) fn share(&mut self) -> &mut Share {
        &mut self.share
    }

    #[inline]
    pub(crate) fn push(&mut self, message: MessageRef<'_>) {
        self.bytes += message.len();
        self.maker.push(message, |message| self.messages.push_back(message));
    }

    fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.len();
        Some(message)
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

    /// Whether it holds on to more memory than an idle connection should.
    pub(crate) fn is_large(&self) -> bool {
        self.messages.capacity() > SMALL || self.maker.is_large()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0 && self.messages.is_empty()
    }

    fn clear(&mut self) {
        self.messages.clear();
        self.bytes = 0;
    }

    /// Gives back what a burst took.
    pub(crate) fn relax(&mut self) {
        if self.is_empty() {
            self.messages = VecDeque::new();
            self.maker.relax();
        }
    }
}

impl Inbox {
    /// Takes a message in: a handler gets it now, a mailbox with the rest of the batch. The
    /// handler may panic.
    #[inline(always)]
    pub(crate) fn take(&mut self, message: MessageRef<'_>, batch: &mut Batch) {
        match self {
            Self::Handler(handler) => handler(message),
            Self::Mailbox(_) => batch.push(message),
        }
    }

    pub(crate) fn is_handler(&self) -> bool {
        matches!(self, Self::Handler(_))
    }

    /// Delivers the batch, waiting for room if that is the policy. `room` is asked whenever the
    /// inbox is full, and again at each [`Mailbox::wake_all`].
    pub(crate) fn deliver(&self, batch: &mut Batch, room: impl Fn() -> Room) {
        if let Self::Mailbox(mailbox) = self {
            batch.maker.finish(|message| batch.messages.push_back(message));
            mailbox.push(batch, room);
        }
    }

    /// Whether another message may come in at once.
    pub(crate) fn has_room(&self) -> bool {
        self.wait_for_room(|| Room::None)
    }

    /// Waits until the inbox is within its bounds, or its bounds do not count; returns whether it is.
    pub(crate) fn wait_for_room(&self, room: impl Fn() -> Room) -> bool {
        match self {
            Self::Mailbox(mailbox) => mailbox.wait_for_room(room),
            Self::Handler(_) => true,
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

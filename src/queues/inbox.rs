//! Where received messages go: into the program's mailbox or through its handler.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use super::batch::Batch;
use super::mailbox::{Mailbox, Room};
use crate::failure::Failure;
use crate::message::MessageRef;

/// What the program does with received messages, on the reader thread. Each call may panic.
pub(crate) trait Handler: Send {
    /// A link begins.
    fn begin(&mut self) {}

    fn message(&mut self, message: MessageRef<'_>);

    /// Nothing more will come, for this reason.
    fn end(&mut self, _: &Failure) {}
}

impl<F: FnMut(MessageRef<'_>) + Send> Handler for F {
    fn message(&mut self, message: MessageRef<'_>) {
        self(message);
    }
}

/// The receiving end of the program, as the reader sees it. One reader holds it at a time; it
/// outlives every link.
pub(crate) enum Inbox {
    Mailbox(Arc<Mailbox>),
    Handler(Box<dyn Handler>),
}

impl Inbox {
    /// A link begins. Runs the program's code, which may panic.
    pub(crate) fn begin(&mut self) {
        if let Self::Handler(handler) = self {
            handler.begin();
        }
    }

    /// Takes a message in: a handler gets it now, a mailbox with the rest of the batch. The
    /// handler may panic.
    #[inline(always)]
    pub(crate) fn take(&mut self, message: MessageRef<'_>, batch: &mut Batch) {
        match self {
            Self::Handler(handler) => handler.message(message),
            Self::Mailbox(_) => batch.push(message),
        }
    }

    pub(crate) fn is_handler(&self) -> bool {
        matches!(self, Self::Handler(_))
    }

    /// Delivers the batch, waiting for room if that is the policy. `room` is asked whenever the
    /// inbox is full, and again at each [`Mailbox::wake_all`]. [`Inbox::ring`] is to follow before long.
    pub(crate) fn deliver(&self, batch: &mut Batch, room: impl Fn() -> Room) {
        if let Self::Mailbox(mailbox) = self {
            let (messages, share) = batch.finish();
            let holds_much = mailbox.push(messages, share, room);
            batch.note_mailbox(holds_much);
        }
    }

    /// The connection is idle.
    pub(crate) fn relax(&self) {
        if let Self::Mailbox(mailbox) = self {
            mailbox.relax();
        }
    }

    /// Nothing follows what was delivered at once.
    pub(crate) fn ring(&self) {
        if let Self::Mailbox(mailbox) = self {
            mailbox.ring();
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

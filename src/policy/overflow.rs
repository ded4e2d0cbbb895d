//! What happens to a message for which a queue has no room.

/// What happens to a message for which a full queue has no room.
///
/// Whatever is dropped is counted in [`Stats`](crate::Stats).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Overflow {
    /// Wait for room (the default). Sending waits in the calling thread; receiving stops
    /// reading, so that TCP pushes back on the peer.
    #[default]
    Wait,
    /// Refuse the new message: sending fails with [`Error::Full`](crate::Error::Full). A
    /// received message cannot be refused, so in an inbox this is [`Overflow::DropNewest`].
    Fail,
    /// Drop the oldest queued message to make room.
    DropOldest,
    /// Drop the new message.
    DropNewest,
}

/// The bounds of a queue and what happens at them.
///
/// ```
/// use everlink::{Overflow, Queue};
///
/// // the newest thousand matter, the rest is history
/// let ticks = Queue::new().messages(1000).overflow(Overflow::DropOldest);
/// # let _ = ticks;
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Queue {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    /// Whether the program has said how many.
    pub(crate) bytes_are_chosen: bool,
    pub(crate) overflow: Overflow,
}

impl Queue {
    /// 8192 messages, 64 MiB, [`Overflow::Wait`].
    #[must_use]
    pub fn new() -> Self {
        Self::default_of(8192, 64 << 20)
    }

    /// A default whose bytes may grow with the largest message.
    pub(crate) fn default_of(messages: usize, bytes: usize) -> Self {
        Self { messages, bytes, bytes_are_chosen: false, overflow: Overflow::Wait }
    }

    /// The most messages it holds; at least 1.
    #[must_use]
    pub fn messages(mut self, limit: usize) -> Self {
        self.messages = limit;
        self
    }

    /// The most bytes of payload it holds; at least 1.
    ///
    /// A message larger than this can never be queued to be sent: the outbox refuses it with
    /// [`Error::MessageTooLarge`](crate::Error::MessageTooLarge). An outbox for which this is not
    /// called has room for a message of `max_message_size`, however large; one for which it is
    /// called, with less than a `max_message_size` that is set too, is refused at the start. An inbox takes another message
    /// in as long as it holds less than this, so it holds at most one message more. The channel
    /// of [`Client::receiver`](crate::Client::receiver) counts messages only.
    #[must_use]
    pub fn bytes(mut self, limit: usize) -> Self {
        self.bytes = limit;
        self.bytes_are_chosen = true;
        self
    }

    /// What happens when it is full.
    #[must_use]
    pub fn overflow(mut self, policy: Overflow) -> Self {
        self.overflow = policy;
        self
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        if self.messages == 0 || self.bytes == 0 {
            return Err("a queue of nothing holds nothing".into());
        }
        Ok(())
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self::new()
    }
}

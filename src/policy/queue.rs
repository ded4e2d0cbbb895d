//! How much a queue holds, and what happens to a message for which it has no room.

use std::time::Duration;

use super::durations::not_too_long;
use super::options::options;

/// What happens to a message for which a full queue has no room.
///
/// Whatever is dropped is counted in [`ClientStats`](crate::stats::ClientStats) and [`SessionStats`](crate::stats::SessionStats).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
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

options! {
    /// The bounds of a queue and what happens at them, for either builder.
    ///
    /// What is not said is the default of that queue:
    ///
    /// | | a client's outbox | a client's inbox | a session's outbox | a session's inbox |
    /// | --- | --- | --- | --- | --- |
    /// | [`messages`](Self::messages) | 8192 | 4096 | 1024 | 64 |
    /// | [`bytes`](Self::bytes) | 64 MiB | 1 MiB | 16 MiB | 1 MiB |
    /// | [`message_ttl`](Self::message_ttl) | none | has no effect | none | has no effect |
    /// | [`overflow`](Self::overflow) | wait | wait | wait | wait |
    ///
    /// ```
    /// use everlink::config::{Overflow, Queue};
    ///
    /// // the newest thousand matter, the rest is history
    /// let ticks = Queue::new().messages(1000).overflow(Overflow::DropOldest);
    /// # let _ = ticks;
    /// ```
    Queue {
        /// The most messages it holds; at least 1.
        messages: usize, set(limit);

        /// The most bytes of payload it holds; at least 1.
        ///
        /// A message larger than this can never be queued to be sent: the outbox refuses it with
        /// [`Error::MessageTooLarge`](crate::Error::MessageTooLarge). An outbox for which this is not
        /// called has room for a message of [`Limits::message`](crate::config::Limits::message), however large;
        /// one for which it is called, with less than a `Limits::message` that is set too, is refused at
        /// the start. An inbox takes another message in as long as it holds less than this, so it holds
        /// at most one message more.
        bytes: usize, set(limit);

        /// How long a message may wait in an outbox, over 0 and at most 1000 days: one that could not be
        /// written in that time is dropped, which makes room.
        /// [`SendOptions::ttl`](crate::config::SendOptions::ttl) says so for a single message. For an inbox,
        /// where it can have no effect, it is refused at the start. Default: for as long as it takes.
        message_ttl: Duration, set(time), serde with "crate::seconds::optional";

        /// What happens when it is full. Default: [`Overflow::Wait`].
        overflow: Overflow, set(policy);
    }
}

/// The bounds of a queue, with the defaults filled in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    pub(crate) message_ttl: Option<Duration>,
    pub(crate) overflow: Overflow,
}

impl Queue {
    /// With these bounds where none were set.
    pub(crate) fn bounds(&self, messages: usize, bytes: usize) -> Bounds {
        Bounds {
            messages: self.messages.unwrap_or(messages),
            bytes: self.bytes.unwrap_or(bytes),
            message_ttl: self.message_ttl,
            overflow: self.overflow.unwrap_or_default(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        if self.messages == Some(0) || self.bytes == Some(0) {
            return Err("a queue of nothing holds nothing".into());
        }
        match self.message_ttl {
            Some(ttl) if ttl.is_zero() => Err("a message_ttl of zero leaves no time at all".into()),
            Some(ttl) => not_too_long(ttl).map_err(|reason| format!("message_ttl {reason}")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
impl From<Queue> for Bounds {
    fn from(queue: Queue) -> Self {
        queue.bounds(8192, 64 << 20)
    }
}

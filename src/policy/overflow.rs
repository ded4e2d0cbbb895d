//! What happens to a message for which a queue has no room.

use std::time::Duration;

/// What happens to a message for which a full queue has no room.
///
/// Whatever is dropped is counted in [`Stats`](crate::stats::Stats).
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(from = "form::Form", into = "form::Form"))]
#[must_use]
pub struct Queue {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    pub(crate) message_ttl: Option<Duration>,
    pub(crate) overflow: Overflow,
    /// Whether the program has said how many.
    are_messages_chosen: bool,
    are_bytes_chosen: bool,
}

impl Queue {
    /// The defaults.
    pub fn new() -> Self {
        Self::default_of(8192, 64 << 20)
    }

    /// A default.
    pub(crate) fn default_of(messages: usize, bytes: usize) -> Self {
        Self {
            messages,
            bytes,
            message_ttl: None,
            overflow: Overflow::Wait,
            are_messages_chosen: false,
            are_bytes_chosen: false,
        }
    }

    /// The most messages it holds; at least 1.
    pub fn messages(mut self, limit: usize) -> Self {
        self.messages = limit;
        self.are_messages_chosen = true;
        self
    }

    /// The most bytes of payload it holds; at least 1.
    ///
    /// A message larger than this can never be queued to be sent: the outbox refuses it with
    /// [`Error::MessageTooLarge`](crate::Error::MessageTooLarge). An outbox for which this is not
    /// called has room for a message of [`Limits::message`](crate::config::Limits::message), however large;
    /// one for which it is called, with less than a `Limits::message` that is set too, is refused at
    /// the start. An inbox takes another message in as long as it holds less than this, so it holds
    /// at most one message more.
    pub fn bytes(mut self, limit: usize) -> Self {
        self.bytes = limit;
        self.are_bytes_chosen = true;
        self
    }

    /// How long a message may wait in an outbox, over 0 and at most 1000 days: what could not be
    /// written in that time is not written any more, and makes room for who wants to send.
    /// [`SendOptions::ttl`](crate::config::SendOptions::ttl) says so for a single message. For an inbox,
    /// where it can have no effect, it is refused at the start. Default: for as long as it takes.
    pub fn message_ttl(mut self, time: Duration) -> Self {
        self.message_ttl = Some(time);
        self
    }

    /// What happens when it is full. Default: [`Overflow::Wait`].
    pub fn overflow(mut self, policy: Overflow) -> Self {
        self.overflow = policy;
        self
    }

    /// Whether the program has said how many bytes it holds.
    pub(crate) fn are_bytes_chosen(&self) -> bool {
        self.are_bytes_chosen
    }

    /// The same, with these defaults for what was not said.
    pub(crate) fn or(self, default: Self) -> Self {
        Self {
            messages: if self.are_messages_chosen { self.messages } else { default.messages },
            bytes: if self.are_bytes_chosen { self.bytes } else { default.bytes },
            ..self
        }
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        if self.messages == 0 || self.bytes == 0 {
            return Err("a queue of nothing holds nothing".into());
        }
        match self.message_ttl {
            Some(ttl) if ttl.is_zero() => Err("a message_ttl of zero leaves no time at all".into()),
            Some(ttl) if ttl > super::MAX_DURATION => {
                Err(format!("message_ttl {ttl:?} is over the limit of {:?}", super::MAX_DURATION))
            }
            _ => Ok(()),
        }
    }
}

/// A queue in a configuration: what was said of it.
#[cfg(feature = "serde")]
mod form {
    use std::time::Duration;

    use super::{Overflow, Queue};

    #[derive(Default, serde::Serialize, serde::Deserialize)]
    #[serde(default, deny_unknown_fields, rename = "Queue")]
    pub(super) struct Form {
        #[serde(skip_serializing_if = "Option::is_none")]
        messages: Option<usize>,
        #[serde(skip_serializing_if = "Option::is_none")]
        bytes: Option<usize>,
        #[serde(with = "crate::seconds::optional", skip_serializing_if = "Option::is_none")]
        message_ttl: Option<Duration>,
        overflow: Overflow,
    }

    impl From<Form> for Queue {
        fn from(form: Form) -> Self {
            let Form { messages, bytes, message_ttl, overflow } = form;
            let mut queue = Self { message_ttl, overflow, ..Self::new() };
            if let Some(limit) = messages {
                queue = queue.messages(limit);
            }
            if let Some(limit) = bytes {
                queue = queue.bytes(limit);
            }
            queue
        }
    }

    impl From<Queue> for Form {
        fn from(queue: Queue) -> Self {
            Self {
                messages: queue.are_messages_chosen.then_some(queue.messages),
                bytes: queue.are_bytes_chosen.then_some(queue.bytes),
                message_ttl: queue.message_ttl,
                overflow: queue.overflow,
            }
        }
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self::new()
    }
}

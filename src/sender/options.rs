//! How a single message is sent.

use std::time::{Duration, Instant};

use crate::queues::question::Lasts;
use crate::queues::receipt::Receipt;
use crate::queues::terms::{Terms, WaitFor};

/// How a single message is sent, for [`Sender::send_with`](crate::Sender::send_with).
///
/// ```
/// use std::time::Duration;
/// use everlink::config::SendOptions;
///
/// // a price is worthless after two seconds
/// let price = SendOptions::new().ttl(Duration::from_secs(2));
/// // the login hook subscribes anew on the next link, so this must not wait for that
/// let subscription = SendOptions::new().this_link_only();
/// # let _ = (price, subscription);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[must_use]
pub struct SendOptions {
    ttl: Option<Duration>,
    timeout: Option<Duration>,
    this_link: bool,
    is_uncompressed: bool,
    key: Option<u64>,
}

impl SendOptions {
    /// Waits for room as long as it takes, lives as long as
    /// [`Queue::message_ttl`](crate::config::Queue::message_ttl) says, goes with whichever link there is,
    /// and compressed if that was agreed on.
    pub fn new() -> Self {
        Self::default()
    }

    /// The message is not written any more after this time: a stale order, an old position. Any
    /// length; zero never waits for a link.
    pub fn ttl(mut self, time: Duration) -> Self {
        self.ttl = Some(time);
        self
    }

    /// How long to wait for room in the outbox, where waiting is its policy. Default: as long as it
    /// takes.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout = Some(time);
        self
    }

    /// The message goes with the link that is up, or not at all: without a link it is refused with
    /// [`Error::NotConnected`](crate::Error::NotConnected), and if the link ends before the message
    /// is written it is dropped
    /// ([`Undelivered::LinkEnded`](crate::failure::Undelivered::LinkEnded)). For what the login hook repeats
    /// on each link anyway: a subscription that waited in the outbox would come twice.
    ///
    /// In a session that [survives its connection](crate::ClientBuilder::resume) it is not counted: it is
    /// lost with its link, is not sent again, and may come before messages that were sent before it. With
    /// a [receipt](crate::Sender::send_confirmed) it is counted as any other.
    pub fn this_link_only(mut self) -> Self {
        self.this_link = true;
        self
    }

    /// The message is not compressed, whatever was agreed on: it is compressed already, or holds a
    /// [secret](crate::config::Compression#secrets).
    pub fn uncompressed(mut self) -> Self {
        self.is_uncompressed = true;
        self
    }

    /// What the message is known by when it is confirmed
    /// ([`Sender::confirm`](crate::Sender::confirm), with
    /// [`Delivery::UntilConfirmed`](crate::config::Delivery::UntilConfirmed)): a number that it carries, an
    /// identifier of MQTT, say. No two messages that wait to be confirmed should have the same.
    pub fn key(mut self, key: u64) -> Self {
        self.key = Some(key);
        self
    }

    /// At most so much time for everything.
    pub(super) fn within(mut self, time: Duration) -> Self {
        self.ttl = Some(self.ttl.map_or(time, |ttl| ttl.min(time)));
        self.timeout = Some(self.timeout.map_or(time, |timeout| timeout.min(time)));
        self
    }

    /// Whether it is not to go with another link than the present one.
    pub(super) fn is_for_this_link(&self) -> bool {
        self.this_link
    }

    /// How long a question can be answered, if nothing else is said.
    pub(super) fn lasts(&self, usual: Lasts) -> Lasts {
        if self.this_link { Lasts::WithThisLink } else { usual }
    }

    pub(super) fn terms(&self, receipt: Option<Receipt>) -> Terms {
        Terms {
            receipt,
            expires: self.ttl.and_then(|ttl| Instant::now().checked_add(ttl)),
            this_link: self.this_link,
            is_uncompressed: self.is_uncompressed,
            is_shared: false,
            deflated: None,
            question: None,
            key: self.key,
        }
    }

    pub(super) fn wait(&self) -> WaitFor {
        self.timeout.map_or(WaitFor::Ever, WaitFor::timeout)
    }
}

//! Sessions that survive their connection: for how long, and within which bounds.

use std::time::Duration;

use super::MAX_DURATION;

/// How a server keeps sessions whose connection is lost, for
/// [`ServerBuilder::resume`](crate::ServerBuilder::resume).
///
/// ```
/// use std::time::Duration;
/// use everlink::config::Resume;
///
/// let resume = Resume::within(Duration::from_secs(60)).sessions(500).bytes(64 << 20);
/// # let _ = resume;
/// ```
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct Resume {
    pub(crate) window: Duration,
    pub(crate) sessions: Option<usize>,
    pub(crate) bytes: usize,
    pub(crate) unconfirmed: Unconfirmed,
}

impl Resume {
    /// For so long after its connection was lost a session waits for its client. At least a
    /// second; clients are told whole ones.
    pub fn within(window: Duration) -> Self {
        Self { window, sessions: None, bytes: 256 << 20, unconfirmed: Unconfirmed::default() }
    }

    /// How many sessions may wait without a connection. One more ends the one that has waited
    /// longest, with [`Failure::Evicted`](crate::Failure::Evicted). Default: as many as there may
    /// be connections. Of one address no more wait than it may have connections
    /// ([`max_connections_per_address`](crate::ServerBuilder::max_connections_per_address)).
    pub fn sessions(mut self, limit: usize) -> Self {
        self.sessions = Some(limit);
        self
    }

    /// How many bytes may wait to be sent in all sessions without a connection together, those
    /// included that were sent and not confirmed. More ends the session that has waited longest.
    /// Default: 256 MiB.
    pub fn bytes(mut self, limit: usize) -> Self {
        self.bytes = limit;
        self
    }

    /// How much a session may have sent that its client has not confirmed yet; it is kept beside
    /// the outbox's bounds. More waits in the outbox. At least 1 each; a message that is larger
    /// goes alone. Default: 4096 messages, 4 MiB.
    pub fn unconfirmed(mut self, messages: usize, bytes: usize) -> Self {
        self.unconfirmed = Unconfirmed { messages, bytes };
        self
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        if self.window < Duration::from_secs(1) {
            return Err(format!("{:?} is less than a second", self.window));
        }
        if self.window > MAX_DURATION {
            return Err(format!("{:?} is over the limit of {MAX_DURATION:?}", self.window));
        }
        if self.sessions == Some(0) || self.bytes == 0 {
            return Err("zero lets no session wait".into());
        }
        self.unconfirmed.check()
    }
}

impl Default for Resume {
    /// [`Resume::within`] two minutes.
    fn default() -> Self {
        Self::within(Duration::from_secs(120))
    }
}

/// How much may be written and not confirmed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unconfirmed {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

impl Unconfirmed {
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.messages == 0 || self.bytes == 0 {
            return Err("zero unconfirmed lets nothing through".into());
        }
        Ok(())
    }
}

impl Default for Unconfirmed {
    fn default() -> Self {
        Self { messages: 4096, bytes: 4 << 20 }
    }
}

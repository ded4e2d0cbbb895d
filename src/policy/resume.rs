//! Sessions that survive their connection: for how long, and within which bounds.

use std::time::Duration;

use super::durations::not_too_long;

/// How sessions survive their connection, for either builder.
///
/// | | default | range | has an effect |
/// | --- | --- | --- | --- |
/// | [`within`](Self::within) | 2 minutes | 1 s to 1000 days | for a server, which tells its clients |
/// | [`sessions`](Self::sessions) | as many as there may be connections | 1 and up | for a server |
/// | [`bytes`](Self::bytes) | 256 MiB | 1 and up | for a server |
/// | [`unconfirmed`](Self::unconfirmed) | 4096 messages, 4 MiB | 1 and up each | for both |
///
/// ```
/// use std::time::Duration;
/// use everlink::config::Resume;
/// use everlink::{Client, Server};
///
/// let resume = Resume::within(Duration::from_secs(60)).sessions(500).bytes(64 << 20);
/// let server = Server::builder().resume(resume);
/// let client = Client::builder("ws://localhost:9001").resume(Resume::new());
/// # let _ = (server, client);
/// ```
#[derive(Debug, Clone, Copy, Default)]
#[must_use]
pub struct Resume {
    pub(crate) within: Option<Duration>,
    pub(crate) sessions: Option<usize>,
    pub(crate) bytes: Option<usize>,
    unconfirmed: Option<Unconfirmed>,
}

impl Resume {
    /// The longest message that a session has of its own has room in so many bytes: an answer with all its
    /// numbers and a token of 64 characters, or the end with a reason of 123 bytes.
    pub(crate) const LEAST_LIMIT: usize = 160;

    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// For so long after its connection was lost a session waits for its client, whether or not its
    /// handler has returned. At least a second; clients are told whole ones. Default: two minutes.
    pub fn within(window: Duration) -> Self {
        Self { within: Some(window), ..Self::default() }
    }

    /// How many sessions may wait without a connection. One more makes another go: first one that was
    /// offered and never begun, of which no handler has heard; then one of the same address; then
    /// the one that has waited longest. It ends with [`Failure::Evicted`](crate::Failure::Evicted). Of one
    /// address no more wait than it may have connections
    /// ([`max_connections_per_address`](crate::ServerBuilder::max_connections_per_address)). A session that
    /// has its connection never goes for others. As many again are remembered that have ended, for clients
    /// that have not heard so. Default: as many as there may be connections.
    pub fn sessions(mut self, limit: usize) -> Self {
        self.sessions = Some(limit);
        self
    }

    /// How many bytes may wait in all sessions without a connection together: to be sent, sent and
    /// not confirmed, and received and not taken by a handler yet. More ends the session that has waited
    /// longest of those that keep any. Default: 256 MiB.
    pub fn bytes(mut self, limit: usize) -> Self {
        self.bytes = Some(limit);
        self
    }

    /// How much a session may have sent that the peer has not confirmed yet; it is kept beside
    /// the outbox's bounds. More waits in the outbox. At least 1 each; a message that is larger
    /// goes alone. Default: 4096 messages, 4 MiB.
    pub fn unconfirmed(mut self, messages: usize, bytes: usize) -> Self {
        self.unconfirmed = Some(Unconfirmed { messages, bytes });
        self
    }

    /// How long a session waits.
    pub(crate) fn window(&self) -> Duration {
        self.within.unwrap_or(Duration::from_secs(120))
    }

    /// How many bytes may wait in all sessions without a connection.
    pub(crate) fn max_bytes(&self) -> usize {
        self.bytes.unwrap_or(256 << 20)
    }

    /// How much a session may have sent that is not confirmed.
    pub(crate) fn max_unconfirmed(&self) -> Unconfirmed {
        self.unconfirmed.unwrap_or(Unconfirmed { messages: 4096, bytes: 4 << 20 })
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        let window = self.window();
        if window < Duration::from_secs(1) {
            return Err(format!("{window:?} is less than a second"));
        }
        not_too_long(window)?;
        if self.sessions == Some(0) || self.bytes == Some(0) {
            return Err("zero lets no session wait".into());
        }
        let Unconfirmed { messages, bytes } = self.max_unconfirmed();
        if messages == 0 || bytes == 0 {
            return Err("zero unconfirmed lets nothing through".into());
        }
        Ok(())
    }
}

/// How much may be written and not confirmed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unconfirmed {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

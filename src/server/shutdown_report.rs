//! How a server has ended.

/// How a shutdown went, from [`ServerHandle::shutdown`](crate::ServerHandle::shutdown).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Whether every session ended within the time, goodbye included. What a handler had not taken
    /// from its inbox by then is not counted.
    pub drained: bool,
    /// Sessions whose handler has not returned even after their connection was cut. Their
    /// threads end when it does.
    pub stuck: usize,
    /// Sessions that waited for their client, without a connection: they were ended at once.
    pub detached: usize,
    /// How many messages those held for their clients.
    pub detached_messages: usize,
}

impl Default for ShutdownReport {
    /// Nothing was left to be done.
    fn default() -> Self {
        Self { drained: true, stuck: 0, detached: 0, detached_messages: 0 }
    }
}

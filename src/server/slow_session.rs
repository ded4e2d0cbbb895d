//! What a broadcast does to those who are slow.

/// What a broadcast, to all or to a topic, does to a session whose outbox is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum SlowSession {
    /// The session misses this message (the default).
    #[default]
    Miss,
    /// The session is ended: better no feed than one with gaps.
    Disconnect,
}

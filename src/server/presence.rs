//! What the program is told of a member of a topic.

/// What has become of a session and a topic, for the closure of
/// [`ServerBuilder::on_presence`](crate::ServerBuilder::on_presence).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Presence {
    /// The session has [joined](crate::Session::join) the topic.
    Joined,
    /// It has [left](crate::Session::leave) the topic, or has ended.
    Left,
}

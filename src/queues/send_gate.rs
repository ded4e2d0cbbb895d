//! Whether messages are accepted.

use std::sync::Arc;

use crate::failure::Failure;

/// What a send meets.
#[derive(Debug, Default)]
pub(super) enum SendGate {
    #[default]
    Open,
    /// The client has given up, for this reason: messages are still queued while there is room, but
    /// there is no point in waiting.
    NobodyDrains(Arc<Failure>),
    /// Nothing more is accepted.
    Shut,
}

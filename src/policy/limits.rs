//! What a peer may send at most.

/// The sizes that a peer may not exceed, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) message: usize,
    pub(crate) frame: usize,
}

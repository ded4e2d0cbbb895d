//! Sessions that survive their connection: for how long, and within which bounds.

/// How much may be written and not confirmed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unconfirmed {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

impl Default for Unconfirmed {
    fn default() -> Self {
        Self { messages: 4096, bytes: 4 << 20 }
    }
}

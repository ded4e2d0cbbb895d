//! What outlives a link: messages to be sent, messages received, and what became of them.

pub(crate) mod inbox;
pub(crate) mod outbox;
pub(crate) mod receipt;

pub use receipt::Receipt;

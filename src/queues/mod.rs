//! What outlives a link: messages to be sent, messages received, and what became of them.

mod backlog;
pub(crate) mod batch;
mod byte_queue;
mod channel;
mod confirmations;
mod culprits;
mod entry;
mod gaps;
mod held;
pub(crate) mod inbox;
pub(crate) mod mailbox;
mod on_dropped;
pub(crate) mod outbox;
pub(crate) mod question;
pub(crate) mod receipt;
mod send_gate;
pub(crate) mod terms;

pub(crate) use channel::NoMessage;
pub(crate) use entry::Entry;
pub use receipt::Receipt;

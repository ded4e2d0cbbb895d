//! One live connection: a reader, a writer and a heartbeat thread that are born together, die
//! together and are joined together.
//!
//! What they share, each with its reason:
//!
//! | what | why |
//! | --- | --- |
//! | `Life`: a lock, its condition and one signal | how far the link has come and why it ends |
//! | `ControlSlots`: a lock | what goes out ahead of data; filled by all, emptied by whoever writes |
//! | `Writer`: a lock and its condition | the `FrameWriter`, lent while the writer sleeps |
//! | `PingLedger`: a lock | which pings are out; the writer asks, the reader hears the answer |
//! | `Liveness`: four atomics | since when the peer is silent; hot, so without a lock |
//! | the outbox and its doorbell, the mailbox | they outlive the link |
//! | a channel for a few `Notice`s | the manager selects on it |
//!
//! Locks are held for a few lines, none while another of them is taken but `Life`'s, which is
//! innermost: the mailbox asks it how much room there is.
//!
//! Whoever notices death calls `Shared::fail`: the cause is kept, the socket is hung up, and the
//! other two wake and end.

mod beat_clock;
mod close_request;
mod confirmation;
mod control;
mod frame_writer;
mod handle;
mod handoff;
mod heartbeat;
mod life;
#[allow(clippy::module_inception, reason = "one type, one file")]
mod link;
#[cfg(test)]
mod link_tests;
mod liveness;
#[cfg(all(test, shuttle))]
mod model;
mod opened;
mod pings;
mod reader;
mod shared;
mod suspension;
mod writer;

pub(crate) use close_request::CloseRequest;
pub(crate) use handle::Handle;
pub(crate) use link::{Ended, Link, Parts};
pub(crate) use opened::Opened;
pub(crate) use reader::InboxSlot;
pub(crate) use shared::Notice;

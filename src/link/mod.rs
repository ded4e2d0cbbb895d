//! One live connection: a reader, a writer and a heartbeat thread that are born together, die
//! together and are joined together.
//!
//! What they share, each with its reason:
//!
//! | what | why |
//! | --- | --- |
//! | `Life`: a lock, its condition and two signals | how far the link has come and why it ends |
//! | `ControlSlots`: a lock, and a flag that spares it | what goes out ahead of data; filled by reader and heartbeat, emptied by the writer |
//! | `Handoff`: a lock | the `FrameWriter`, lent while the writer sleeps |
//! | `Beats`: a lock, and a version that spares it | the heartbeat, which the program may change |
//! | `PingLedger`: a lock | which pings are out; the writer asks, the reader hears the answer |
//! | `Liveness`: three atomics | since when the peer is silent; hot, so without a lock |
//! | the outbox and its doorbell, the mailbox | they outlive the link |
//! | a channel for a few `Notice`s | the manager selects on it |
//!
//! # Locks
//!
//! Locks are held for a few lines, and no call that may block is made meanwhile; the program's transport and
//! logger are called with `Handoff` held, and are told not to. In the whole crate these are held
//! while others are taken, the outermost first; what is not in this table is taken alone.
//!
//! | while this is held | these are taken | why |
//! | --- | --- | --- |
//! | the order of publishing metrics | whatever a snapshot reads: status, outbox, mailbox, round trips, registry, admission, resumption, totals | one publication at a time |
//! | a resumable session's state | `Life` | whether its link is about to end |
//! | `Handoff`, by a thread that sends or beats | the outbox, `PingLedger`, a TLS session | it writes without waiting, where the frame writer lies |
//! | the registry, and the list of threads | what starting a thread takes; where that fails, admission | a thread and its entry are one step |
//! | the mailbox's front | the mailbox's state | received messages keep their order |
//! | the mailbox's state | `Life`, a client's status, a `Signal`; resumption's table | how much room there is, and whether anything still comes; sessions that wait are evicted where memory is short |
//! | the outbox's state | a receipt's outcome; resumption's table | receipts are decided in order; the same |
//! | a client's status, its list of subscribers | a `Signal` | a change and its signal are one step |
//! | the fault proxy's state | a connection's budget | what goes wrong next |
//!
//! Whoever notices death calls `Shared::fail`: the cause is kept, the socket is hung up, and the
//! other two wake and end.

mod beat_clock;
mod beats;
mod close_request;
mod confirmation;
mod control;
mod delivery;
mod frame_writer;
mod handle;
mod handoff;
mod heartbeat;
mod intake;
mod life;
#[allow(clippy::module_inception, reason = "one type, one file")]
mod link;
#[cfg(test)]
mod link_tests;
mod liveness;
#[cfg(all(test, shuttle))]
mod model;
mod opened;
mod pace;
mod pings;
mod reader;
mod shared;
#[cfg(all(test, not(shuttle)))]
mod simulation_tests;
mod sorted;
mod suspension;
mod talk;
mod writer;

pub(crate) use close_request::{CloseRequest, GOODBYE};
pub(crate) use handle::Handle;
pub(crate) use link::{Ended, Link, Parts, Reading};
pub(crate) use opened::Opened;
pub(crate) use reader::InboxSlot;
pub(crate) use shared::Notice;
pub(crate) use sorted::{COUNTED, Sorted, sort};
pub(crate) use talk::Talk;

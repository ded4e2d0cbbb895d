//! Plain values that say how a client behaves; no thread and no socket is named here.

mod backoff;
mod delivery;
mod heartbeat;
mod overflow;

pub use backoff::Backoff;
pub use delivery::Delivery;
pub use heartbeat::Heartbeat;
pub(crate) use heartbeat::{Beat, MAX_DURATION};
pub use overflow::{Overflow, Queue};

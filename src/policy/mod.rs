//! Plain values that say how a client behaves; no thread and no socket is named here.

mod backoff;
mod delivery;
mod framing;
mod heartbeat;
mod limits;
mod overflow;
mod socket;

pub use backoff::Backoff;
pub use delivery::{Delivery, Undelivered};
pub use framing::{Framing, Prefix};
pub(crate) use framing::{FramingKind, LengthPrefix};
pub use heartbeat::Heartbeat;
pub(crate) use heartbeat::{Beat, MAX_DURATION};
pub(crate) use limits::Limits;
pub use overflow::{Overflow, Queue};
pub(crate) use socket::SocketOptions;

//! Plain values that say how a client behaves; no thread and no socket is named here.

mod backoff;
mod codec;
#[cfg_attr(not(feature = "deflate"), allow(dead_code, reason = "nothing makes a value of it"))]
mod compression;
mod delivery;
mod durations;
mod framing;
mod heartbeat;
mod length_field;
mod limits;
mod options;
mod queue;
mod rate_meter;
mod receive_rate;
mod resume;
mod socket;
mod timeouts;

pub use backoff::{Backoff, Jitter};
pub(crate) use codec::Content;
pub use codec::{CodecError, Decode, Encode, Packet};
pub use compression::{AgreedCompression, Compression};
pub(crate) use compression::{SENDABLE_BITS, WINDOW_BITS};
pub use delivery::{Delivery, Undelivered};
pub(crate) use delivery::{OnDropped, OnResend};
pub(crate) use durations::{MAX_DURATION, not_too_long};
pub use framing::Framing;
pub(crate) use framing::{Delimiter, FramingKind};
pub(crate) use heartbeat::Beat;
pub use heartbeat::Heartbeat;
pub(crate) use length_field::Sends;
pub use length_field::{LengthField, Prefix};
pub use limits::Limits;
pub(crate) use limits::MaxSizes;
pub(crate) use queue::Bounds;
pub use queue::{Overflow, Queue};
pub(crate) use rate_meter::RateMeter;
pub use receive_rate::{Excess, ReceiveRate};
pub use resume::Resume;
pub(crate) use resume::Unconfirmed;
pub use socket::{SocketOptions, Writes};
pub(crate) use timeouts::Resolved;
pub use timeouts::Timeouts;

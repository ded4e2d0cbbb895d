//! Why a link died, an attempt failed or a message came back, and what to do about it.

pub(crate) mod cause;
mod counts;
mod decision;
mod handshake;
mod kind;
mod next;
mod proxy;
mod secrets;
mod text;
mod tls;

pub(crate) use cause::{Failure, HANDLER, Manner, guarded};
pub use counts::FailureCounts;
pub(crate) use counts::FailureTally;
pub use decision::Decision;
pub use handshake::{Body, HandshakeError};
pub use kind::FailureKind;
pub use next::Next;
pub use proxy::ProxyError;
pub(crate) use secrets::Secrets;
pub(crate) use text::{Chain, OneLine, quote};
pub use tls::TlsError;

pub use crate::policy::Undelivered;

//! What goes wrong at a proxy.

use std::error::Error as StdError;
use std::io;

use http::StatusCode;

use super::handshake::{Body, HandshakeError};
use super::text::Chain;
use super::text::quote;

/// What went wrong at a proxy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// An HTTP proxy answered CONNECT with this status.
    #[error("it answered {}", refusal(*.status, .reason, .schemes))]
    #[non_exhaustive]
    Rejected {
        /// The status; 407 asks for credentials.
        status: StatusCode,
        /// The words beside the status, as the proxy chose them; often empty.
        reason: String,
        /// The schemes by which a 407 lets a client in (`Proxy-Authenticate`): `Basic` is the one
        /// that this crate speaks.
        schemes: Vec<String>,
        /// What else the proxy said.
        body: Body,
    },
    /// A SOCKS5 proxy refused.
    #[error("it refused: {reason}")]
    #[non_exhaustive]
    Socks {
        /// The code of RFC 1928 section 6.
        code: u8,
        /// What the code means.
        reason: &'static str,
    },
    /// A SOCKS5 proxy wants credentials, or other ones.
    #[error("it wants (other) credentials")]
    Credentials,
    /// The connection broke, or the time was over.
    #[error("connection lost: {}", Chain(.0))]
    Io(#[from] io::Error),
    /// What it said makes no sense.
    #[error("it does not speak its protocol: {}", Chain(.0.as_ref()))]
    Malformed(#[source] Box<dyn StdError + Send + Sync>),
    /// The settings of the environment name a proxy that cannot be used.
    #[error("the environment names one that cannot be used: {}", Chain(.0.as_ref()))]
    Unusable(#[source] Box<dyn StdError + Send + Sync>),
}

impl ProxyError {
    pub(crate) fn malformed(reason: &'static str) -> Self {
        Self::Malformed(reason.into())
    }
}

/// Every way in which a head can fail to come, so that a broken connection is never taken for a
/// proxy that does not know its protocol.
impl From<HandshakeError> for ProxyError {
    fn from(error: HandshakeError) -> Self {
        match error {
            HandshakeError::Io(error) => Self::Io(error),
            HandshakeError::TimedOut { .. } => Self::Io(io::ErrorKind::TimedOut.into()),
            HandshakeError::Eof => Self::Io(io::ErrorKind::UnexpectedEof.into()),
            HandshakeError::NotHttp(_)
            | HandshakeError::HeadersTooLarge { .. }
            | HandshakeError::TooManyHeaders { .. }
            | HandshakeError::BadUpgrade(_)
            | HandshakeError::NoAnswer
            | HandshakeError::BadRedirect(_) => Self::Malformed(Box::new(error)),
        }
    }
}

/// `407 Proxy Authentication Required ("log in first"; it offers "Basic", "NTLM")`
fn refusal(status: StatusCode, reason: &str, schemes: &[String]) -> String {
    let mut more = Vec::new();
    if !reason.is_empty() && Some(reason) != status.canonical_reason() {
        more.push(quote(reason));
    }
    if !schemes.is_empty() {
        let names: Vec<String> = schemes.iter().map(quote).collect();
        more.push(format!("it offers {}", names.join(", ")));
    }
    if more.is_empty() { status.to_string() } else { format!("{status} ({})", more.join("; ")) }
}

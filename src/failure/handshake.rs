//! What goes wrong in an opening handshake.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::time::Duration;

use super::text::Chain;

/// What went wrong in the opening handshake.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The whole opening, redirects included, was not done in time.
    #[error("not done within {timeout:?}")]
    #[non_exhaustive]
    TimedOut {
        /// The time it had.
        timeout: Duration,
    },
    /// The connection broke.
    #[error("connection lost: {}", Chain(.0))]
    Io(#[source] io::Error),
    /// The stream ended.
    #[error("the peer ended the stream")]
    Eof,
    /// What the peer said is not HTTP/1.1.
    #[error("the peer does not speak HTTP/1.1: {0}")]
    NotHttp(String),
    /// The peer's headers go over 64 KiB.
    #[error("headers over {limit} bytes")]
    #[non_exhaustive]
    HeadersTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The peer has sent too many headers.
    #[error("more than {limit} headers")]
    #[non_exhaustive]
    TooManyHeaders {
        /// The limit.
        limit: usize,
    },
    /// The answer is a 101 that does not upgrade to this WebSocket (RFC 6455 section 4.1), or the
    /// request asks for none.
    #[error("{0}")]
    BadUpgrade(String),
    /// The server has agreed on a session, and its first message is no answer to the offer of one: some
    /// servers agree on every subprotocol. The session that there is stays.
    #[error("the first message is no answer to the offer of a session")]
    NoAnswer,
    /// A redirect that cannot or must not be followed.
    #[error("redirect not followed: {0}")]
    BadRedirect(String),
}

impl HandshakeError {
    pub(crate) fn not_http(reason: impl fmt::Display) -> Self {
        Self::NotHttp(reason.to_string())
    }
}

/// The beginning of the body of an answer that is no upgrade: at most 4 KiB, as it was sent. It
/// is there to be read by a program or a person; `Debug` shows how long it is and nothing else,
/// for it may hold a secret.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Body(Vec<u8>);

impl Body {
    /// The most that is kept, in bytes.
    pub const LIMIT: usize = 4096;

    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The body as text, with what is not UTF-8 replaced.
    pub fn to_text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes)", self.0.len())
    }
}

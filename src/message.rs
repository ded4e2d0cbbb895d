//! What travels: messages and the frame that ends them.

use std::fmt;

use tungstenite::{Bytes, Utf8Bytes};

/// One message of the application, whole: never a fragment, never a control frame.
///
/// Both kinds are reference-counted, so cloning a message does not copy its payload.
///
/// ```
/// use everlink::Message;
///
/// let hello = Message::from("hello");
/// assert_eq!(hello.as_text(), Some("hello"));
/// assert_eq!(hello.len(), 5);
/// assert_eq!(Message::from(vec![1, 2, 3]).as_text(), None);
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Message {
    /// UTF-8 text (RFC 6455 section 5.6).
    Text(Utf8Bytes),
    /// Arbitrary bytes.
    Binary(Bytes),
}

impl Message {
    /// The length of the payload in bytes.
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether the payload is empty; an empty message is legal and is delivered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether this is a text message.
    pub fn is_text(&self) -> bool {
        matches!(self, Self::Text(_))
    }

    /// The payload of either kind.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// The text of a text message; `None` for a binary one, even if it happens to be UTF-8.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    /// The payload of either kind, without copying it.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Text(text) => text.into(),
            Self::Binary(bytes) => bytes,
        }
    }
}

/// Shows the kind, the length and the first few bytes: payloads can be large, and logs should
/// not carry them whole.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 32;
        match self {
            Self::Text(text) if text.len() <= SHOWN => write!(f, "Text({:?})", text.as_str()),
            Self::Text(text) => {
                let start: String = text.chars().take(SHOWN).collect();
                write!(f, "Text({} bytes: {start:?}...)", text.len())
            }
            Self::Binary(bytes) if bytes.len() <= SHOWN => write!(f, "Binary({bytes:?})"),
            Self::Binary(bytes) => {
                write!(f, "Binary({} bytes: {:?}...)", bytes.len(), bytes.slice(..SHOWN))
            }
        }
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<Utf8Bytes> for Message {
    fn from(text: Utf8Bytes) -> Self {
        Self::Text(text)
    }
}

impl From<&[u8]> for Message {
    fn from(bytes: &[u8]) -> Self {
        Self::Binary(Bytes::copy_from_slice(bytes))
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes.into())
    }
}

impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }
}

/// A close code (RFC 6455 section 7.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// 1000: the purpose of the connection has been fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: the endpoint is going away (a server going down, a page left).
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: a protocol error.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: a kind of data that the endpoint cannot accept.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// 1007: data inconsistent with the type of the message (text that is not UTF-8).
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: a message that violates the endpoint's policy.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// 1009: a message too big to process.
    pub const MESSAGE_TOO_BIG: Self = Self(1009);
    /// 1010: the client expected an extension that the server did not negotiate.
    pub const MANDATORY_EXTENSION: Self = Self(1010);
    /// 1011: an unexpected condition at the server.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// 1012: the service restarts.
    pub const SERVICE_RESTART: Self = Self(1012);
    /// 1013: try again later.
    pub const TRY_AGAIN_LATER: Self = Self(1013);

    /// Whether an endpoint may put this code into a close frame: 1000 to 1003, 1007 to 1014 and
    /// 3000 to 4999. 1005, 1006 and 1015 are only ever reported, never sent.
    pub fn is_sendable(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

impl From<u16> for CloseCode {
    fn from(code: u16) -> Self {
        Self(code)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The body of a close frame: a code and a reason (RFC 6455 section 5.5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseFrame {
    /// Why the connection is closed.
    pub code: CloseCode,
    /// Text for people, at most 123 bytes; often empty.
    pub reason: String,
}

impl CloseFrame {
    /// The longest reason that fits into a control frame beside the code, in bytes.
    pub const MAX_REASON: usize = 123;

    pub(crate) fn new(code: CloseCode, reason: &str) -> Self {
        Self { code, reason: reason.into() }
    }
}

impl fmt::Display for CloseFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if !self.reason.is_empty() {
            // quoted and escaped: it is the peer's, and logs have lines
            write!(f, " ({:?})", self.reason)?;
        }
        Ok(())
    }
}

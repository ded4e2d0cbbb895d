//! How large messages and frames may be.

/// How large messages and frames may be, both ways, for either builder.
///
/// | | default of a client | default of a server | range |
/// | --- | --- | --- | --- |
/// | [`message`](Self::message) | 64 MiB | 1 MiB | 1 byte and more |
/// | [`frame`](Self::frame) | none but that of messages | none but that of messages | 1 byte and more; WebSocket only |
/// | [`fragment`](Self::fragment) | none: every message is one frame | none | 1 byte and more; WebSocket only |
///
/// ```
/// use everlink::{Client, Limits, Server};
///
/// let small = Limits::new().message(4096).frame(4096);
/// let client = Client::builder("ws://localhost:9001").limits(small);
/// let server = Server::builder().limits(small);
/// # let _ = (client, server);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[must_use]
pub struct Limits {
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    message: Option<usize>,
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    frame: Option<usize>,
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    fragment: Option<usize>,
}

impl Limits {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The largest message that may be sent or received, in bytes. A peer that goes over it is
    /// told so with close code 1009 (RFC 6455 section 7.4.1). A server's default is small, for as
    /// much as this can be unfinished in each of its sessions.
    pub fn message(mut self, bytes: usize) -> Self {
        self.message = Some(bytes);
        self
    }

    /// The largest frame that may be received, in bytes. Memory is taken for what has come of it, so
    /// a whole message in one frame costs no more than its fragments.
    pub fn frame(mut self, bytes: usize) -> Self {
        self.frame = Some(bytes);
        self
    }

    /// Sends messages of more than this many bytes as fragments of that size (RFC 6455 section
    /// 5.4), so that pings and pongs pass between them.
    pub fn fragment(mut self, bytes: usize) -> Self {
        self.fragment = Some(bytes);
        self
    }

    /// The size of fragments that are sent.
    pub(crate) fn fragment_size(&self) -> Option<usize> {
        self.fragment
    }

    /// What may be received, where the defaults are these.
    pub(crate) fn sizes(&self, default: MaxSizes) -> MaxSizes {
        MaxSizes {
            message: self.message.unwrap_or(default.message),
            frame: self.frame.unwrap_or(default.frame),
        }
    }

    /// Every option, and its value if it was set.
    pub(crate) fn options(&self) -> [(&'static str, Option<usize>); 3] {
        [
            ("Limits::message", self.message),
            ("Limits::frame", self.frame),
            ("Limits::fragment", self.fragment),
        ]
    }
}

/// The sizes that a peer may not exceed, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MaxSizes {
    pub(crate) message: usize,
    pub(crate) frame: usize,
}

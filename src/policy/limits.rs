//! How large messages and frames may be.

use super::options::options;

options! {
    /// How large messages and frames may be, both ways, for either builder.
    ///
    /// | | default of a client | default of a server | range |
    /// | --- | --- | --- | --- |
    /// | [`message`](Self::message) | 64 MiB | 1 MiB | 1 byte and more |
    /// | [`frame`](Self::frame) | none but that of messages | none but that of messages | 1 byte and more; WebSocket only |
    /// | [`fragment`](Self::fragment) | none: every message is one frame | none | 1 byte and more; WebSocket only |
    ///
    /// ```
    /// use everlink::config::Limits;
    /// use everlink::{Client, Server};
    ///
    /// let small = Limits::new().message(4096).frame(4096);
    /// let client = Client::builder("ws://localhost:9001").limits(small);
    /// let server = Server::builder().limits(small);
    /// # let _ = (client, server);
    /// ```
    Limits {
        /// The largest message that may be sent or received, in bytes. A peer that goes over it is
        /// told so with close code 1009 (RFC 6455 section 7.4.1). A server's default is small, for as
        /// much as this can be unfinished in each of its sessions.
        message: usize, set(bytes);

        /// The largest frame that may be received, in bytes. Memory is taken for what has come of it, so
        /// a whole message in one frame costs no more than its fragments.
        frame: usize, set(bytes);

        /// Sends messages of more than this many bytes as fragments of that size (RFC 6455 section
        /// 5.4), so that pings and pongs pass between them.
        fragment: usize, set(bytes);
    }
}

impl Limits {
    /// What may be received, where the defaults are these.
    pub(crate) fn sizes(&self, default: MaxSizes) -> MaxSizes {
        MaxSizes {
            message: self.message.unwrap_or(default.message),
            frame: self.frame.unwrap_or(default.frame),
        }
    }

    /// The first option that is out of its range, and why.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        for (option, value) in [
            ("Limits::message", self.message),
            ("Limits::frame", self.frame),
            ("Limits::fragment", self.fragment),
        ] {
            if value == Some(0) {
                return Err((option, "zero lets nothing through".into()));
            }
        }
        Ok(())
    }
}

/// The sizes that a peer may not exceed, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MaxSizes {
    pub(crate) message: usize,
    pub(crate) frame: usize,
}

impl MaxSizes {
    /// The same where each message comes behind the character that says its kind.
    pub(crate) fn with_kind(self) -> Self {
        Self { message: self.message.saturating_add(1), frame: self.frame.saturating_add(1) }
    }
}

//! Whether and how messages are compressed.

use std::fmt;
use std::sync::Arc;

use crate::message::Message;

/// The window sizes that RFC 7692 has names for, and what can be compressed with.
pub(crate) const WINDOW_BITS: std::ops::RangeInclusive<u8> = 8..=15;
pub(crate) const SENDABLE_BITS: std::ops::RangeInclusive<u8> = 9..=15;

/// Says of each message whether it may be compressed.
type Filter = Arc<dyn Fn(&Message) -> bool + Send + Sync>;

/// How messages are compressed on a WebSocket, if the peer does that too: permessage-deflate,
/// [RFC 7692](https://www.rfc-editor.org/rfc/rfc7692). Both builders take it
/// ([`ClientBuilder::compression`](crate::ClientBuilder::compression),
/// [`ServerBuilder::compression`](crate::ServerBuilder::compression)); without it nothing is
/// compressed, and nothing is offered.
///
/// A client offers it in the opening handshake; if the server declines, messages go as they are.
/// What was agreed on says [`Event::Connected`](crate::Event::Connected) and
/// [`Session::compression`](crate::Session::compression).
///
/// ```
/// use everlink::config::Compression;
/// use everlink::{Client, Server};
///
/// // as small as can be
/// let client = Client::builder("ws://localhost:9001/feed").compression(Compression::new());
/// // many sessions: no memory is held between messages
/// let lean = Compression::new().no_send_takeover().no_receive_takeover();
/// let server = Server::builder().compression(lean);
/// # let _ = (client, server);
/// ```
///
/// # Secrets
///
/// **The length of a compressed message tells of its content.** Where one message holds a secret
/// (a token, a cookie, a name) together with text that somebody else chooses, the lengths of many such
/// messages give the secret away piece by piece, although they are encrypted: the attacks CRIME
/// and BREACH. With takeover the same holds across the messages of a connection.
/// Send such messages uncompressed ([`only_if`](Self::only_if)), which keeps them out of the
/// shared context too, or do not compress at all. What a login hook sends is never compressed.
///
/// # What it costs
///
/// Memory for each connection, from the first compressed message in that direction on: 310 KiB to
/// send with 15 window bits (200 with 12, 185 with 9), 40 KiB to receive, and 16 KiB more while
/// messages come (resident, measured). With takeover it is held as long as the link lives;
/// without, it goes back to the allocator when the link is idle: what receives after a second,
/// what sends with the next beat.
///
/// Time: a feed of JSON messages of 200 bytes takes 0.6 us a message to compress at level 1 and
/// 4.6 us at level 6, with takeover, and is 0.28 and 0.22 of its length then; without takeover, 2
/// and 7 us and 0.81 and 0.72. Inflating takes 0.2 us, or 1.2 without takeover.
///
/// A received message is checked against [`Limits::message`](crate::config::Limits::message) while it is being inflated: one that
/// would become too large is refused (close code 1009) before it takes more memory than that.
#[derive(Clone)]
#[must_use]
pub struct Compression {
    pub(crate) level: u32,
    pub(crate) threshold: usize,
    pub(crate) send_takeover: bool,
    pub(crate) receive_takeover: bool,
    pub(crate) send_bits: u8,
    pub(crate) receive_bits: u8,
    pub(crate) filter: Option<Filter>,
}

#[cfg(feature = "deflate")]
impl Compression {
    /// Level 1, 15 window bits and takeover both ways, messages of 128 bytes and more.
    pub fn new() -> Self {
        Self {
            level: 1,
            threshold: 128,
            send_takeover: true,
            receive_takeover: true,
            send_bits: 15,
            receive_bits: 15,
            filter: None,
        }
    }

    /// How hard to try, from 1 (fast) to 9 (small). Default 1, which is not far behind on small
    /// messages and eight times as fast; 6 is what most other libraries take.
    pub fn level(mut self, level: u32) -> Self {
        self.level = level;
        self
    }

    /// Messages with fewer bytes go uncompressed. Default 128. Alone, messages of less than 64 bytes
    /// do not get smaller; with takeover, ones that resemble those before them do from 16 bytes on,
    /// to half.
    pub fn threshold(mut self, bytes: usize) -> Self {
        self.threshold = bytes;
        self
    }

    /// A message that is sent may not refer to those sent before it (no context takeover, RFC 7692
    /// section 7.1.1): no memory is held between messages. By default it may, if the peer lets it:
    /// small messages that resemble each other become much smaller, and the memory for it is held
    /// as long as the link.
    pub fn no_send_takeover(mut self) -> Self {
        self.send_takeover = false;
        self
    }

    /// A message that is received may not refer to those received before it. The peer is told so; a
    /// server that does not answer that it obeys fails the handshake. By default it may.
    pub fn no_receive_takeover(mut self) -> Self {
        self.receive_takeover = false;
        self
    }

    /// How far back, in bytes as a power of two, a message that is sent may refer: 9 to 15.
    /// Default 15, which is 32 KiB; the peer can ask for less.
    pub fn send_window_bits(mut self, bits: u8) -> Self {
        self.send_bits = bits;
        self
    }

    /// How far back a message that is received may refer: 9 to 15. Default 15. With less, a peer
    /// that cannot limit itself is not compressed with.
    pub fn receive_window_bits(mut self, bits: u8) -> Self {
        self.receive_bits = bits;
        self
    }

    /// Asks the closure for each message of at least the threshold whether it may be compressed:
    /// what is compressed already (images, archives), or holds [secrets](Self#secrets), should
    /// not be. It runs on the thread that writes, so it has to be quick. A message for which it
    /// panics goes uncompressed, and the panic is logged.
    pub fn only_if(
        mut self,
        may_compress: impl Fn(&Message) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.filter = Some(Arc::new(may_compress));
        self
    }
}

#[cfg(feature = "deflate")]
impl Default for Compression {
    fn default() -> Self {
        Self::new()
    }
}

impl Compression {
    /// Whether to compress this message.
    pub(crate) fn wants(&self, message: &Message) -> bool {
        message.len() >= self.threshold.max(1)
            && self.filter.as_ref().is_none_or(|may_compress| may_compress(message))
    }

    /// Refuses what cannot work.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !(1..=9).contains(&self.level) {
            return Err(format!("level {} is not within 1 to 9", self.level));
        }
        for bits in [self.send_bits, self.receive_bits] {
            if !SENDABLE_BITS.contains(&bits) {
                return Err(format!("{bits} window bits are not within 9 to 15"));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compression")
            .field("level", &self.level)
            .field("threshold", &self.threshold)
            .field("send_takeover", &self.send_takeover)
            .field("receive_takeover", &self.receive_takeover)
            .field("send_bits", &self.send_bits)
            .field("receive_bits", &self.receive_bits)
            .finish_non_exhaustive()
    }
}

/// What both sides of a WebSocket have agreed on (RFC 7692 section 7.1), as this side sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct AgreedCompression {
    /// Whether a message that is sent may refer to those before it.
    pub send_takeover: bool,
    /// Whether a message that is received may refer to those before it.
    pub receive_takeover: bool,
    /// The size of the window to send with, as a power of two. A server may ask for 8, with which
    /// this crate cannot compress: then only received messages are compressed.
    pub send_window_bits: u8,
    /// The size of the window to receive with.
    pub receive_window_bits: u8,
}

impl AgreedCompression {
    /// Whether anything that is sent can be compressed.
    pub(crate) fn can_send(&self) -> bool {
        SENDABLE_BITS.contains(&self.send_window_bits)
    }
}

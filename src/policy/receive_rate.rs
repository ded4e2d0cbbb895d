//! How fast a client of a server may send.

use super::options::options;

options! {
    /// How fast each client of a server may send: a second's worth at once, and then evenly. A session is
    /// measured over all its links.
    ///
    /// | | default | range |
    /// | --- | --- | --- |
    /// | [`messages`](Self::messages) | no limit | 1 and more a second |
    /// | [`bytes`](Self::bytes) | no limit | 1 and more a second |
    /// | [`excess`](Self::excess) | [`Excess::Close`] | |
    ///
    /// ```
    /// use everlink::Server;
    /// use everlink::config::{Excess, ReceiveRate};
    ///
    /// let chat = ReceiveRate::new().messages(20).bytes(64 * 1024);
    /// let server = Server::builder().receive_rate(chat);
    /// // whoever sends faster is read at this pace
    /// let uploads = ReceiveRate::new().bytes(1 << 20).excess(Excess::Slow);
    /// # let _ = (server, uploads);
    /// ```
    ReceiveRate {
        /// Messages a second, and pings. Fragments, pongs and what a session says by itself do not count: bound
        /// the bytes, too.
        messages: u32, set(count);

        /// Bytes a second, as they come: with the heads of frames, decrypted, and before anything is inflated.
        /// With [`Excess::Close`] let it be more than the largest message, which may come all at once.
        bytes: u32, set(count);

        /// What becomes of one that is faster.
        excess: Excess, set(excess);
    }
}

/// What becomes of a client that sends faster than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Excess {
    /// Its session is closed with 1008 (the default).
    #[default]
    Close,
    /// It is read no faster, so that its own sending comes to wait; nothing is lost. Its pings and
    /// its goodbye are behind what it has sent.
    Slow,
}

impl ReceiveRate {
    /// What is wrong with it, if anything.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        match (self.messages, self.bytes) {
            (None, None) => Err("it can have no effect: neither messages nor bytes are limited"),
            (Some(0), _) | (_, Some(0)) => Err("zero lets nothing through"),
            _ => Ok(()),
        }
    }
}

//! Failures in a word, for labels.

use std::fmt;

/// The kinds, each with its word, once: the order, the number and the words of them all are made of
/// this list, so that none can be left out of one of them.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $word:literal,)*) => {
        /// What kind of a [`Failure`](crate::Failure) it is, in a word that does not change: for labels of metrics and
        /// columns of logs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
        #[non_exhaustive]
        pub enum FailureKind {
            $($(#[$doc])* $kind,)*
        }

        impl FailureKind {
            /// Every kind, in the order of the variants.
            pub(super) const ALL: [Self; [$($word),*].len()] = [$(Self::$kind),*];

            /// The word.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $word,)*
                }
            }
        }
    };
}

kinds! {
    /// `dns`: the name lookup.
    Dns = "dns",
    /// `connect`: the connection, by TCP, a connector or a proxy.
    Connect = "connect",
    /// `tls`: TLS.
    Tls = "tls",
    /// `handshake`: the opening handshake, before there was a status.
    Handshake = "handshake",
    /// `rejected`: the server's answer was a refusal.
    Rejected = "rejected",
    /// `login`: the login hook, or the closure that makes the request.
    Login = "login",
    /// `lost`: the connection was reset, or ended without a goodbye; or a session could not be
    /// resumed.
    Lost = "lost",
    /// `closed_by_peer`: the peer closed the connection in order.
    ClosedByPeer = "closed_by_peer",
    /// `closed_here`: this side closed it, or asked for another one.
    ClosedHere = "closed_here",
    /// `silent`: nothing was heard from the peer for too long.
    Silent = "silent",
    /// `stuck`: the peer took nothing for too long.
    Stuck = "stuck",
    /// `protocol`: the peer broke the protocol, or the framing.
    Protocol = "protocol",
    /// `program`: code of the program panicked.
    Program = "program",
    /// `system`: the system refused a thread or a local address.
    System = "system",
}

impl FailureKind {
    /// Its place in `ALL`.
    pub(super) fn index(self) -> usize {
        self as usize
    }

    /// What this word says, if it is one that this version knows.
    #[cfg(feature = "serde")]
    pub(super) fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

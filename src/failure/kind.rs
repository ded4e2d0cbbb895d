//! Failures in a word, for labels.

use std::fmt;

use super::Failure;

/// What kind of a [`Failure`] it is, in a word that does not change: for labels of metrics and
/// columns of logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum FailureKind {
    /// `dns`: the name lookup.
    Dns,
    /// `connect`: the connection, by TCP, a connector or a proxy.
    Connect,
    /// `tls`: TLS.
    Tls,
    /// `handshake`: the opening handshake, before there was a status.
    Handshake,
    /// `rejected`: the server's answer was a refusal.
    Rejected,
    /// `login`: the login hook, or the closure that makes the request.
    Login,
    /// `lost`: the connection was reset, or ended without a goodbye; or a session could not be
    /// resumed.
    Lost,
    /// `closed_by_peer`: the peer closed the connection in order.
    ClosedByPeer,
    /// `closed_here`: this side closed it, or asked for another one.
    ClosedHere,
    /// `silent`: nothing was heard from the peer for too long.
    Silent,
    /// `stuck`: the peer took nothing for too long.
    Stuck,
    /// `protocol`: the peer broke the protocol.
    Protocol,
    /// `program`: code of the program panicked.
    Program,
    /// `system`: the system refused a thread or a local address.
    System,
}

impl FailureKind {
    /// Every kind, in the order of the variants.
    pub(super) const ALL: [Self; 14] = [
        Self::Dns,
        Self::Connect,
        Self::Tls,
        Self::Handshake,
        Self::Rejected,
        Self::Login,
        Self::Lost,
        Self::ClosedByPeer,
        Self::ClosedHere,
        Self::Silent,
        Self::Stuck,
        Self::Protocol,
        Self::Program,
        Self::System,
    ];

    /// Its place in `ALL`.
    pub(super) fn index(self) -> usize {
        self as usize
    }

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Handshake => "handshake",
            Self::Rejected => "rejected",
            Self::Login => "login",
            Self::Lost => "lost",
            Self::ClosedByPeer => "closed_by_peer",
            Self::ClosedHere => "closed_here",
            Self::Silent => "silent",
            Self::Stuck => "stuck",
            Self::Protocol => "protocol",
            Self::Program => "program",
            Self::System => "system",
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Failure {
    /// What kind of a failure it is, for labels.
    ///
    /// ```
    /// use everlink::{Failure, FailureKind};
    ///
    /// let kind = Failure::ClosedAbnormally.kind();
    /// assert_eq!(kind, FailureKind::Lost);
    /// assert_eq!(kind.as_str(), "lost");
    /// ```
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Dns { .. } => FailureKind::Dns,
            Self::Connect { .. } | Self::Connector(_) | Self::Proxy(_) => FailureKind::Connect,
            Self::Tls(_) => FailureKind::Tls,
            Self::Handshake(_) => FailureKind::Handshake,
            Self::Rejected { .. } => FailureKind::Rejected,
            Self::Login { .. } | Self::Request(_) => FailureKind::Login,
            Self::Io(_)
            | Self::ClosedAbnormally
            | Self::EndOfStream { .. }
            | Self::NotResumed
            | Self::Evicted => FailureKind::Lost,
            Self::Closed(_) => FailureKind::ClosedByPeer,
            Self::ClosedHere(_) | Self::ReconnectRequested | Self::Interrupted | Self::Aborted => {
                FailureKind::ClosedHere
            }
            Self::HeartbeatTimeout { .. } => FailureKind::Silent,
            Self::WriteTimeout { .. } | Self::TooSlow => FailureKind::Stuck,
            Self::Protocol { .. } => FailureKind::Protocol,
            Self::Panicked { .. } => FailureKind::Program,
            Self::Thread(_) | Self::LocalAddress { .. } => FailureKind::System,
        }
    }
}

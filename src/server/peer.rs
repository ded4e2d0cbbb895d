//! Where a connection comes from.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// What stands for the address of a Unix socket: `[::]:0`, which nobody else has.
pub(super) const NO_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

/// The other end of a connection, and the client behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer {
    /// A Unix socket has none, and neither has a transport of the program's own.
    address: Option<SocketAddr>,
    /// If that is known to be somebody else.
    client: Option<SocketAddr>,
}

impl Peer {
    pub(super) fn new(address: Option<SocketAddr>, client: Option<SocketAddr>) -> Self {
        Self { address, client }
    }

    /// The address of the other end.
    pub(super) fn address(self) -> SocketAddr {
        self.address.unwrap_or(NO_ADDRESS)
    }

    /// The address of the client.
    pub(super) fn client(self) -> SocketAddr {
        self.client.unwrap_or(self.address())
    }

    /// The same address, if it is known.
    pub(super) fn known(self) -> Option<SocketAddr> {
        self.client.or(self.address)
    }

    /// Whether somebody else has said who the client is.
    pub(super) fn is_told(self) -> bool {
        self.client.is_some()
    }

    /// This is who the client is.
    pub(super) fn told(self, client: Option<SocketAddr>) -> Self {
        Self { client, ..self }
    }

    /// By which address its connections are counted, if it has any.
    pub(super) fn counted_as(self) -> Option<IpAddr> {
        self.known().map(|address| address.ip())
    }
}

/// As log records name it.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.client().fmt(f)
    }
}

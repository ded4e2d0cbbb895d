//! Whom this server believes who a client is.

use std::net::SocketAddr;

use http::HeaderMap;

use super::forwarded::ForwardedHeader;
use super::networks::Networks;
use super::peer::Peer;
use crate::error::Error;

/// The proxies that the program trusts, and how they say whose connections they hand on.
#[derive(Debug, Default)]
pub(super) struct Proxies {
    proxy_protocol: Networks,
    forwarded: Option<(ForwardedHeader, Networks)>,
}

impl Proxies {
    pub(super) fn new(
        proxy_protocol: Option<&[String]>,
        forwarded: Option<(ForwardedHeader, &[String])>,
    ) -> Result<Self, Error> {
        let parse = |setting, names| {
            Networks::parse(names).map_err(|reason| Error::setting(setting, reason))
        };
        let proxy_protocol = proxy_protocol.map(|names| parse("proxy_protocol", names));
        let forwarded = forwarded
            .map(|(header, names)| parse("forwarded", names).map(|networks| (header, networks)));
        Ok(Self {
            proxy_protocol: proxy_protocol.transpose()?.unwrap_or_default(),
            forwarded: forwarded.transpose()?,
        })
    }

    /// Whether its connections begin with a PROXY header.
    pub(super) fn speak_proxy_protocol(&self, peer: Peer) -> bool {
        !peer.is_told() && self.proxy_protocol.contain(peer.counted_as())
    }

    /// Whether it is still to say whose connection it hands on.
    pub(super) fn speak_for_others(&self, peer: Peer) -> bool {
        let is_forwarding = |(_, trusted): &(_, Networks)| trusted.contain(peer.counted_as());
        self.speak_proxy_protocol(peer) || self.forwarded.as_ref().is_some_and(is_forwarding)
    }

    /// Whose request it is.
    pub(super) fn client(&self, peer: Peer, headers: &HeaderMap) -> Option<SocketAddr> {
        match &self.forwarded {
            Some((header, trusted)) => header.client(headers, trusted, peer.known()),
            None => peer.known(),
        }
    }
}

//! What is known of a peer.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use super::incoming::{Incoming, Secured};
#[cfg(feature = "tls")]
use crate::transport::tls::TlsInfo;

/// What a connection is for, as a hash with the server's own key: a path is as long as its client likes, and a
/// token is kept for a window though nobody ever reports on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Purpose(u64);

/// Who has come, as far as that is known, and on what terms.
#[derive(Clone, Default)]
pub(super) struct PeerInfo {
    /// On a WebSocket. Without the session's token.
    incoming: Option<Incoming>,
    subprotocol: Option<String>,
    /// What the request closure has given along.
    values: http::Extensions,
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "nothing is shown"))]
    secured: Secured,
}

impl PeerInfo {
    /// Of a peer that has said nothing of itself but what TLS shows.
    pub(super) fn of_framed(secured: Secured) -> Self {
        Self { secured, ..Self::default() }
    }

    pub(super) fn of_websocket(
        incoming: Incoming,
        subprotocol: Option<String>,
        values: http::Extensions,
    ) -> Self {
        let secured = incoming.secured.clone();
        Self { incoming: Some(incoming), subprotocol, values, secured }
    }

    pub(super) fn incoming(&self) -> Option<&Incoming> {
        self.incoming.as_ref()
    }

    pub(super) fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    pub(super) fn value<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.values.get()
    }

    #[cfg(feature = "tls")]
    pub(super) fn tls(&self) -> Option<&TlsInfo> {
        self.secured.0.as_deref()
    }

    /// What it wants: a session is for one purpose.
    pub(super) fn purpose(&self, key: &RandomState) -> Purpose {
        Purpose(key.hash_one((self.incoming().map(Incoming::path), self.subprotocol())))
    }
}

//! A server's counters as others see them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::resumption::Resumption;
use super::{ServerCore, ServerStats};

impl ServerCore {
    pub(super) fn stats(&self) -> ServerStats {
        let sessions = self.registry.sessions();
        let traffic = self.totals.traffic(&sessions);
        let resumption = self.resumption.as_ref();
        let (detached, _, detached_bytes) = resumption.map_or((0, 0, 0), |all| all.waiting());
        let count = |counter: fn(&Resumption) -> &AtomicU64| {
            resumption.map_or(0, |resumption| counter(resumption).load(Relaxed))
        };
        ServerStats {
            detached,
            detached_bytes,
            resumed: count(|resumption| &resumption.resumed),
            expired: count(|resumption| &resumption.expired),
            evicted: count(|resumption| &resumption.evicted),
            connections: self.admission.len(),
            sessions: sessions.len(),
            accepted: self.accepted.load(Relaxed),
            refused: self.refused.load(Relaxed),
            broadcasts_missed: self.broadcasts_missed.load(Relaxed),
            messages_sent: traffic.messages_sent,
            bytes_sent: traffic.bytes_sent,
            messages_received: traffic.messages_received,
            bytes_received: traffic.bytes_received,
            disconnects: self.totals.disconnects(),
        }
    }
}

#[cfg(feature = "metrics")]
impl crate::metrics::Source for ServerCore {
    fn publish(&self) {
        self.publish_to(crate::metrics::Extent::Whole);
    }
}

#[cfg(feature = "metrics")]
impl ServerCore {
    /// It is shut down.
    pub(super) fn publish_last(&self) {
        self.publish_to(crate::metrics::Extent::Last);
    }

    fn publish_to(&self, extent: crate::metrics::Extent) {
        self.outlet.publish(extent, || crate::metrics::of_server(self.stats().fields()));
    }
}

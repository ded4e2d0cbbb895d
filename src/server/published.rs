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
            connections: self.registry.len(),
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
        use ::metrics::Unit::{Bytes, Count};
        let stats = self.stats();
        let of = crate::metrics::OfServer {
            now: [
                ("everlink_server_connections", "Connections", stats.connections),
                ("everlink_server_sessions", "Sessions that are open", stats.sessions),
                ("everlink_server_detached_sessions", "Sessions without a link", stats.detached),
                ("everlink_server_detached_bytes", "Payload kept for those", stats.detached_bytes),
            ],
            totals: [
                ("everlink_server_accepted_total", Count, "Connections accepted", stats.accepted),
                ("everlink_server_refused_total", Count, "Connections refused", stats.refused),
                ("everlink_server_resumed_total", Count, "Sessions that went on", stats.resumed),
                ("everlink_server_expired_total", Count, "Sessions not resumed", stats.expired),
                ("everlink_server_evicted_total", Count, "Sessions made room of", stats.evicted),
                (
                    "everlink_server_broadcasts_missed_total",
                    Count,
                    "Broadcasts that a session has missed",
                    stats.broadcasts_missed,
                ),
                (
                    "everlink_server_messages_sent_total",
                    Count,
                    "Messages sent",
                    stats.messages_sent,
                ),
                ("everlink_server_sent_bytes_total", Bytes, "Payload sent", stats.bytes_sent),
                (
                    "everlink_server_messages_received_total",
                    Count,
                    "Messages received",
                    stats.messages_received,
                ),
                (
                    "everlink_server_received_bytes_total",
                    Bytes,
                    "Payload received",
                    stats.bytes_received,
                ),
            ],
            disconnects: stats.disconnects,
        };
        crate::metrics::publish_server(&self.label(), &of);
    }
}

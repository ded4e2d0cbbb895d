//! What a server has counted.

use std::sync::atomic::AtomicU64;

use super::Counters;
use super::table::counted;
use crate::failure::{FailureCounts, FailureTally};

counted! {
    /// The counters that a server's threads write.
    pub(crate) struct ServerCounters + Counters {}

    /// A snapshot of a server's counters, from [`ServerHandle::stats`](crate::ServerHandle::stats).
    #[derive(Copy)]
    pub struct ServerStats {
        /// Connections at the moment, those that are opening included.
        connections: now(usize), "everlink_server_connections" "Connections";
        /// Sessions that are open at the moment, those that wait for their client included.
        sessions: now(usize), "everlink_server_sessions" "Sessions that are open";
        /// Sessions that wait for their client, without a connection
        /// ([`ServerBuilder::resume`](crate::ServerBuilder::resume)).
        detached: now(usize), "everlink_server_detached_sessions" "Sessions without a link";
        /// How many bytes those keep: to be sent, sent and not confirmed, received and not taken by their handler.
        detached_bytes: now(usize), "everlink_server_detached_bytes" "Payload kept for those";
        /// How often a client has come back to its session since the start.
        resumed: total(u64) = AtomicU64, "everlink_server_resumed_total" "Sessions that went on";
        /// Sessions since the start whose client has not come back in time.
        expired: total(u64) = AtomicU64, "everlink_server_expired_total" "Sessions not resumed";
        /// Sessions since the start that were ended, without a connection, to make room for others.
        evicted: total(u64) = AtomicU64, "everlink_server_evicted_total" "Sessions made room of";
        /// Connections accepted since the start.
        accepted: total(u64) = AtomicU64, "everlink_server_accepted_total" "Connections accepted";
        /// Connections refused since the start: too many, too often, without the header that their proxy has to
        /// write, or no thread to be had. One that was accepted can be
        /// refused later, when its session gets no thread.
        refused: total(u64) = AtomicU64, "everlink_server_refused_total" "Connections refused";
        /// Those of them that came too soon after others of their address:
        /// [`max_openings_per_address`](crate::ServerBuilder::max_openings_per_address).
        openings_over_rate: total(u64),
            "everlink_server_openings_over_rate_total" "Connections refused since they came too often";
        /// How often other certificates were taken since the start, by call or from files that have changed
        /// (`Tls::watch_files`).
        tls_reloads: total(u64) = AtomicU64,
            "everlink_server_tls_reloads_total" "Changes of certificates";
        /// How often some were not, for they were wrong: those before stay. Files that stay wrong count once.
        tls_reload_failures: total(u64) = AtomicU64,
            "everlink_server_tls_reload_failures_total" "Changes of certificates that were refused";
        /// Topics that have members.
        topics: now(usize), "everlink_server_topics" "Topics that have members";
        /// Messages published since the start, whether anybody was there or not; broadcasts are among them.
        published: total(u64) = AtomicU64, "everlink_server_published_total" "Messages published";
        /// Broadcasts, to all or to a topic, that a session has missed since the start, once for each session, for it was too
        /// slow or they were too large:
        /// [`SessionStats::broadcasts_missed`](crate::stats::SessionStats::broadcasts_missed) of all sessions.
        broadcasts_missed: total(u64) = AtomicU64,
            "everlink_server_broadcasts_missed_total" "Broadcasts that a session has missed";
        /// How often clients were faster than they may be ([`ServerBuilder::receive_rate`](crate::ServerBuilder::receive_rate)).
        over_rate: total(u64) + over_rate,
            "everlink_server_over_rate_total" "Clients that sent too fast";
        /// Messages sent by all sessions, those that have ended included.
        messages_sent: total(u64) + messages_sent,
            "everlink_server_messages_sent_total" "Messages sent";
        /// Bytes of payload sent by all sessions.
        bytes_sent: total(u64) + bytes_sent, "everlink_server_sent_bytes_total" "Payload sent";
        /// Messages received by all sessions.
        messages_received: total(u64) + messages_received,
            "everlink_server_messages_received_total" "Messages received";
        /// Bytes of payload received by all sessions.
        bytes_received: total(u64) + bytes_received,
            "everlink_server_received_bytes_total" "Payload received";
        /// Links of sessions that have ended, by why. One that can be resumed has a link after the other;
        /// what became of those that were never resumed say `expired` and `evicted`.
        disconnects: by_kind(FailureCounts) = FailureTally,
            "everlink_server_disconnects_total" "Links that ended";
    }
}

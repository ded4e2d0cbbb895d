//! Everything that is counted, through the facade of the `metrics` crate (feature `metrics`).
//!
//! [`names`] says what each value is called outside, [`outlet`] hands values over to the recorder of
//! the program.

mod names;
mod outlet;

pub(crate) use names::{of_client, of_server};
pub(crate) use outlet::{Extent, Outlet, Published, register};

/// Brings the metrics of every client and server of this process up to date, through the recorder
/// that the program has installed (feature `metrics`).
///
/// Nothing is published while messages travel: that costs them nothing. At each step of its life a
/// client publishes `everlink_up` and the counters that have changed; everything else, and all that a
/// server has, is as fresh as the last call of this. Call it where the metrics are handed out, as
/// `examples/health_and_metrics.rs` does, or every few seconds for an exporter that pushes.
///
/// | a client, label `client` | type | |
/// | --- | --- | --- |
/// | `everlink_up` | gauge | 1 while the link is up, else 0 |
/// | `everlink_connects_total`, `everlink_reconnects_total` | counter | links made; after the first |
/// | `everlink_disconnects_total` | counter | links that ended; label `kind`, a [`FailureKind`](crate::failure::FailureKind) |
/// | `everlink_failed_attempts_total` | counter | label `kind` |
/// | `everlink_uptime_seconds` | gauge | of the present link; 0 without one |
/// | `everlink_downtime_seconds`, `everlink_age_seconds` | gauge | without a link, in all; since the start |
/// | `everlink_messages_sent_total`, `everlink_messages_received_total` | counter | |
/// | `everlink_sent_bytes_total`, `everlink_received_bytes_total` | counter | payload |
/// | `everlink_outbox_messages`, `everlink_outbox_bytes`, `everlink_inbox_messages` | gauge | what waits |
/// | `everlink_messages_accepted_total`, `…_passed_on_total`, `…_handed_back_total`, `…_expired_total`, `…_resent_total`, `…_confirmed_total` | counter | as in [`ClientStats`](crate::stats::ClientStats) |
/// | `everlink_outbox_dropped_total`, `everlink_inbox_dropped_total` | counter | |
/// | `everlink_unconfirmed_messages`, `everlink_unanswered_pings` | gauge | |
/// | `everlink_sessions_resumed_total`, `…_replaced_total`, `everlink_messages_in_doubt_total` | counter | with [`resume`](crate::ClientBuilder::resume) |
/// | `everlink_pings_sent_total`, `everlink_heartbeat_misses_total` | counter | |
/// | `everlink_round_trip_seconds` | gauge | label `quantile`: 0.5, 0.9, 0.99, 1; of the last minutes |
/// | `everlink_last_round_trip_seconds`, `everlink_mean_round_trip_seconds` | gauge | |
///
/// | a server, label `server` | type | |
/// | --- | --- | --- |
/// | `everlink_server_connections`, `everlink_server_sessions` | gauge | open now, with those that are opening; without |
/// | `everlink_server_detached_sessions`, `everlink_server_detached_bytes` | gauge | waiting for their clients; what is kept for them |
/// | `everlink_server_resumed_total`, `…_expired_total`, `…_evicted_total` | counter | with [`resume`](crate::ServerBuilder::resume) |
/// | `everlink_server_accepted_total`, `everlink_server_refused_total` | counter | connections |
/// | `everlink_server_disconnects_total` | counter | links of sessions that ended; label `kind` |
/// | `everlink_server_messages_sent_total`, `everlink_server_messages_received_total` | counter | |
/// | `everlink_server_sent_bytes_total`, `everlink_server_received_bytes_total` | counter | payload |
/// | `everlink_server_published_total`, `everlink_server_broadcasts_missed_total` | counter | to all or to a topic |
/// | `everlink_server_topics` | gauge | that have members |
///
/// A time that is not known is not a number (NaN).
///
/// # Names
///
/// The label is what [`ClientBuilder::name`](crate::ClientBuilder::name) or
/// [`ServerBuilder::name`](crate::ServerBuilder::name) says. Two clients, or two servers, of one name
/// share their series, at the same time or one after the other: counters add up, and gauges are
/// those of the one that was started last.
///
/// Name clients if there are many in a row: each number of an unnamed one is a series of its own,
/// which most recorders keep for good.
///
/// # The end
///
/// A client publishes for the last time when it is closed, and a server at the end of its shutdown:
/// counters say what was counted to the end, and gauges become NaN, so that no rule for an alert
/// compares them any more (`NaN == 0` is false). The facade cannot take a series back; an exporter may
/// drop those that are not brought up to date any more. For `metrics-exporter-prometheus` that is
/// `PrometheusBuilder::idle_timeout(MetricKindMask::ALL, Some(time))`, with a time that is longer than the
/// one between two calls of this.
///
/// # The recorder
///
/// It is called on the thread that publishes: that of the caller, and each client's manager
/// thread. One that is slow holds these up, and one that panics is logged, and ends nothing. It must not
/// call this. Counters are handed over as differences to what this same recorder was given before; one that is
/// installed late is given everything. A recorder is known by its address: one that is made anew for each scrape, in the
/// same place, is taken for the one before.
pub fn publish_metrics() {
    for source in outlet::sources() {
        source.publish(Extent::Whole);
    }
}

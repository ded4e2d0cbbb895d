//! Everything that is counted, through the facade of the `metrics` crate (feature `metrics`).

use std::sync::{LazyLock, Weak};

use ::metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use crate::failure::FailureCounts;
use crate::link::{Field, FieldValue, Stats};
use crate::sync::Mutex;

/// What has something to publish, for as long as it lives.
pub(crate) trait Source: Send + Sync {
    fn publish(&self);
}

static SOURCES: LazyLock<Mutex<Vec<Weak<dyn Source>>>> = LazyLock::new(Mutex::default);

/// From here on it is published with the others.
pub(crate) fn register(source: Weak<dyn Source>) {
    let mut sources = SOURCES.lock();
    sources.retain(|source| source.strong_count() > 0);
    sources.push(source);
}

/// Brings the metrics of every client and server of this process up to date, through the recorder
/// that the program has installed (feature `metrics`).
///
/// Nothing is published while messages travel: that costs them nothing. A client publishes at each
/// step of its life, so that its state is always right; everything else, and all that a server has,
/// is as fresh as the last call of this. Call it where the metrics are handed out, as
/// `examples/health_and_metrics.rs` does, or every few seconds for an exporter that pushes.
///
/// | a client, label `client` | type | |
/// | --- | --- | --- |
/// | `everlink_up` | gauge | 1 while the link is up, else 0 |
/// | `everlink_connects_total`, `everlink_reconnects_total` | counter | links made; after the first |
/// | `everlink_disconnects_total` | counter | links that ended; label `kind`, a [`FailureKind`](crate::FailureKind) |
/// | `everlink_failed_attempts_total` | counter | label `kind` |
/// | `everlink_uptime_seconds` | gauge | of the present link; 0 without one |
/// | `everlink_downtime_seconds`, `everlink_age_seconds` | gauge | without a link, in all; since the start |
/// | `everlink_messages_sent_total`, `everlink_messages_received_total` | counter | |
/// | `everlink_sent_bytes_total`, `everlink_received_bytes_total` | counter | payload |
/// | `everlink_outbox_messages`, `everlink_outbox_bytes`, `everlink_inbox_messages` | gauge | what waits |
/// | `everlink_messages_accepted_total`, `…_passed_on_total`, `…_handed_back_total`, `…_expired_total`, `…_resent_total`, `…_confirmed_total` | counter | as in [`Stats`] |
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
/// | `everlink_server_disconnects_total` | counter | sessions that ended; label `kind` |
/// | `everlink_server_messages_sent_total`, `everlink_server_messages_received_total` | counter | |
/// | `everlink_server_sent_bytes_total`, `everlink_server_received_bytes_total` | counter | payload |
/// | `everlink_server_broadcasts_missed_total` | counter | |
///
/// A time that is not known is not a number. The label is what [`ClientBuilder::name`](crate::ClientBuilder::name)
/// or [`ServerBuilder::name`](crate::ServerBuilder::name) says. Name clients if there are many in
/// a row: each number of an unnamed one is a series of its own, which most recorders keep for good.
pub fn publish_metrics() {
    let sources: Vec<_> = SOURCES.lock().iter().filter_map(Weak::upgrade).collect();
    for source in sources {
        source.publish();
    }
}

/// What a field of [`Stats`] is called outside, and what it is measured in.
const CLIENT: [(&str, &str, Unit, &str); 30] = [
    ("accepted", "everlink_messages_accepted_total", Unit::Count, "Messages accepted to be sent"),
    ("passed_on", "everlink_messages_passed_on_total", Unit::Count, "Messages that are done with"),
    ("handed_back", "everlink_messages_handed_back_total", Unit::Count, "Messages left at closing"),
    ("messages_sent", "everlink_messages_sent_total", Unit::Count, "Messages sent"),
    ("bytes_sent", "everlink_sent_bytes_total", Unit::Bytes, "Payload sent"),
    ("messages_received", "everlink_messages_received_total", Unit::Count, "Messages received"),
    ("bytes_received", "everlink_received_bytes_total", Unit::Bytes, "Payload received"),
    ("outbox_messages", "everlink_outbox_messages", Unit::Count, "Messages waiting to be sent"),
    ("outbox_bytes", "everlink_outbox_bytes", Unit::Bytes, "Payload waiting to be sent"),
    ("inbox_messages", "everlink_inbox_messages", Unit::Count, "Messages waiting to be received"),
    ("outbox_dropped", "everlink_outbox_dropped_total", Unit::Count, "Messages dropped unsent"),
    ("expired", "everlink_messages_expired_total", Unit::Count, "Messages whose time was over"),
    ("resent", "everlink_messages_resent_total", Unit::Count, "Messages sent again"),
    ("confirmed", "everlink_messages_confirmed_total", Unit::Count, "Messages confirmed"),
    ("inbox_dropped", "everlink_inbox_dropped_total", Unit::Count, "Messages dropped unread"),
    ("connects", "everlink_connects_total", Unit::Count, "Links made"),
    ("reconnects", "everlink_reconnects_total", Unit::Count, "Links made after the first"),
    ("failures", "everlink_failed_attempts_total", Unit::Count, "Attempts that failed"),
    ("disconnects", "everlink_disconnects_total", Unit::Count, "Links that ended"),
    ("resumed", "everlink_sessions_resumed_total", Unit::Count, "Sessions that went on"),
    ("replaced", "everlink_sessions_replaced_total", Unit::Count, "Sessions that were over"),
    ("in_doubt", "everlink_messages_in_doubt_total", Unit::Count, "Messages of those in doubt"),
    ("pings_sent", "everlink_pings_sent_total", Unit::Count, "Pings or beats sent"),
    ("unanswered_pings", "everlink_unanswered_pings", Unit::Count, "Pings without an answer"),
    ("heartbeat_misses", "everlink_heartbeat_misses_total", Unit::Count, "Beats not answered"),
    ("unconfirmed", "everlink_unconfirmed_messages", Unit::Count, "Messages not confirmed"),
    ("last_round_trip", "everlink_last_round_trip_seconds", Unit::Seconds, "The last round trip"),
    ("mean_round_trip", "everlink_mean_round_trip_seconds", Unit::Seconds, "The mean round trip"),
    ("round_trips", "everlink_round_trip_seconds", Unit::Seconds, "Round trips by quantile"),
    ("total_downtime", "everlink_downtime_seconds", Unit::Seconds, "Time without a link"),
];

/// Publishes what a client has counted.
pub(crate) fn publish_client(client: &str, is_up: bool, stats: &Stats) {
    let label = ("client", client);
    set_gauge("everlink_up", Unit::Count, "Whether the link is up", label, None, f64::from(is_up));
    let uptime = stats.uptime.unwrap_or_default().as_secs_f64();
    set_gauge("everlink_uptime_seconds", Unit::Seconds, "Age of the link", label, None, uptime);
    let age = stats.age.as_secs_f64();
    set_gauge("everlink_age_seconds", Unit::Seconds, "Age of the client", label, None, age);
    for Field { name, label: of, value } in stats.fields() {
        let Some((_, metric, unit, help)) = CLIENT.iter().find(|(field, ..)| *field == name) else {
            continue;
        };
        match value {
            FieldValue::Total(count) => set_counter(metric, *unit, help, label, of, count),
            value => {
                let value = value.as_f64().unwrap_or(f64::NAN);
                set_gauge(metric, *unit, help, label, of, value);
            }
        }
    }
}

/// What a server has to publish.
pub(crate) struct OfServer {
    /// Name, explanation and value of what there is now.
    pub(crate) now: [(&'static str, &'static str, usize); 4],
    /// The same of what never goes back.
    pub(crate) totals: [(&'static str, Unit, &'static str, u64); 10],
    pub(crate) disconnects: FailureCounts,
}

pub(crate) fn publish_server(server: &str, of: &OfServer) {
    let label = ("server", server);
    for (name, help, value) in of.now {
        set_gauge(name, Unit::Count, help, label, None, value as f64);
    }
    for (name, unit, help, value) in of.totals {
        set_counter(name, unit, help, label, None, value);
    }
    let name = "everlink_server_disconnects_total";
    for (kind, count) in of.disconnects.iter() {
        let kind = Some(("kind", kind.as_str()));
        set_counter(name, Unit::Count, "Sessions that ended", label, kind, count);
    }
}

type Label<'a> = (&'static str, &'a str);

fn set_counter(
    name: &'static str,
    unit: Unit,
    help: &'static str,
    (key, owner): Label<'_>,
    of: Option<(&'static str, &'static str)>,
    value: u64,
) {
    describe_counter!(name, unit, help);
    match of {
        None => counter!(name, key => owner.to_owned()).absolute(value),
        Some((which, of)) => counter!(name, key => owner.to_owned(), which => of).absolute(value),
    }
}

fn set_gauge(
    name: &'static str,
    unit: Unit,
    help: &'static str,
    (key, owner): Label<'_>,
    of: Option<(&'static str, &'static str)>,
    value: f64,
) {
    describe_gauge!(name, unit, help);
    match of {
        None => gauge!(name, key => owner.to_owned()).set(value),
        Some((which, of)) => gauge!(name, key => owner.to_owned(), which => of).set(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_that_a_client_has_is_published() {
        // these stand for themselves, for their sum, or are a session's
        let others = ["uptime", "age", "failed_attempts", "broadcasts_missed"];
        for field in Stats::default().fields() {
            let known = CLIENT.iter().any(|(name, ..)| *name == field.name);
            assert_ne!(known, others.contains(&field.name), "{}", field.name);
        }
    }

    #[test]
    fn names_say_what_they_are_measured_in() {
        for (_, metric, unit, _) in CLIENT {
            let words = metric.trim_end_matches("_total");
            match unit {
                Unit::Seconds => assert!(words.ends_with("_seconds"), "{metric}"),
                Unit::Bytes => assert!(words.ends_with("_bytes"), "{metric}"),
                _ => {}
            }
        }
        for field in Stats::default().fields() {
            let Some((_, metric, ..)) = CLIENT.iter().find(|(name, ..)| *name == field.name) else {
                continue;
            };
            let grows = matches!(field.value, FieldValue::Total(_));
            assert_eq!(metric.ends_with("_total"), grows, "{metric}");
        }
    }
}

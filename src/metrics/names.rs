//! What each value is called outside, and what it is measured in.

use ::metrics::Unit;

use crate::link::{Field, FieldValue, Stats};

pub(super) struct Metric {
    /// The field of `Stats` or `ServerStats`.
    field: &'static str,
    pub(super) name: &'static str,
    pub(super) unit: Unit,
    pub(super) help: &'static str,
}

/// The value of one series.
pub(crate) struct Sample {
    pub(super) metric: &'static Metric,
    /// Where a metric has more than one series, which of them this is.
    pub(super) of: Option<(&'static str, &'static str)>,
    pub(super) value: Value,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Value {
    /// What was counted in all.
    Counter(u64),
    Gauge(f64),
}

const fn metric(field: &'static str, name: &'static str, unit: Unit, help: &'static str) -> Metric {
    Metric { field, name, unit, help }
}

/// The one gauge that is published at each step, too. No field of `Stats`: the state says it.
pub(super) static UP: Metric = metric("", "everlink_up", Unit::Count, "Whether the link is up");

static CLIENT: [Metric; 32] = [
    metric(
        "accepted",
        "everlink_messages_accepted_total",
        Unit::Count,
        "Messages accepted to be sent",
    ),
    metric(
        "passed_on",
        "everlink_messages_passed_on_total",
        Unit::Count,
        "Messages that are done with",
    ),
    metric(
        "handed_back",
        "everlink_messages_handed_back_total",
        Unit::Count,
        "Messages left at closing",
    ),
    metric("messages_sent", "everlink_messages_sent_total", Unit::Count, "Messages sent"),
    metric("bytes_sent", "everlink_sent_bytes_total", Unit::Bytes, "Payload sent"),
    metric(
        "messages_received",
        "everlink_messages_received_total",
        Unit::Count,
        "Messages received",
    ),
    metric("bytes_received", "everlink_received_bytes_total", Unit::Bytes, "Payload received"),
    metric(
        "outbox_messages",
        "everlink_outbox_messages",
        Unit::Count,
        "Messages waiting to be sent",
    ),
    metric("outbox_bytes", "everlink_outbox_bytes", Unit::Bytes, "Payload waiting to be sent"),
    metric(
        "inbox_messages",
        "everlink_inbox_messages",
        Unit::Count,
        "Messages waiting to be received",
    ),
    metric(
        "outbox_dropped",
        "everlink_outbox_dropped_total",
        Unit::Count,
        "Messages dropped unsent",
    ),
    metric(
        "expired",
        "everlink_messages_expired_total",
        Unit::Count,
        "Messages whose time was over",
    ),
    metric("resent", "everlink_messages_resent_total", Unit::Count, "Messages sent again"),
    metric("confirmed", "everlink_messages_confirmed_total", Unit::Count, "Messages confirmed"),
    metric("inbox_dropped", "everlink_inbox_dropped_total", Unit::Count, "Messages dropped unread"),
    metric("connects", "everlink_connects_total", Unit::Count, "Links made"),
    metric("reconnects", "everlink_reconnects_total", Unit::Count, "Links made after the first"),
    metric("failures", "everlink_failed_attempts_total", Unit::Count, "Attempts that failed"),
    metric("disconnects", "everlink_disconnects_total", Unit::Count, "Links that ended"),
    metric("resumed", "everlink_sessions_resumed_total", Unit::Count, "Sessions that went on"),
    metric("replaced", "everlink_sessions_replaced_total", Unit::Count, "Sessions that were over"),
    metric(
        "in_doubt",
        "everlink_messages_in_doubt_total",
        Unit::Count,
        "Messages of those in doubt",
    ),
    metric("pings_sent", "everlink_pings_sent_total", Unit::Count, "Pings or beats sent"),
    metric("unanswered_pings", "everlink_unanswered_pings", Unit::Count, "Pings without an answer"),
    metric(
        "heartbeat_misses",
        "everlink_heartbeat_misses_total",
        Unit::Count,
        "Beats not answered",
    ),
    metric("unconfirmed", "everlink_unconfirmed_messages", Unit::Count, "Messages not confirmed"),
    metric(
        "last_round_trip",
        "everlink_last_round_trip_seconds",
        Unit::Seconds,
        "The last round trip",
    ),
    metric(
        "mean_round_trip",
        "everlink_mean_round_trip_seconds",
        Unit::Seconds,
        "The mean round trip",
    ),
    metric("round_trips", "everlink_round_trip_seconds", Unit::Seconds, "Round trips by quantile"),
    metric("uptime", "everlink_uptime_seconds", Unit::Seconds, "Age of the link"),
    metric("total_downtime", "everlink_downtime_seconds", Unit::Seconds, "Time without a link"),
    metric("age", "everlink_age_seconds", Unit::Seconds, "Age of the client"),
];

static SERVER: [Metric; 15] = [
    metric("connections", "everlink_server_connections", Unit::Count, "Connections"),
    metric("sessions", "everlink_server_sessions", Unit::Count, "Sessions that are open"),
    metric("detached", "everlink_server_detached_sessions", Unit::Count, "Sessions without a link"),
    metric(
        "detached_bytes",
        "everlink_server_detached_bytes",
        Unit::Bytes,
        "Payload kept for those",
    ),
    metric("resumed", "everlink_server_resumed_total", Unit::Count, "Sessions that went on"),
    metric("expired", "everlink_server_expired_total", Unit::Count, "Sessions not resumed"),
    metric("evicted", "everlink_server_evicted_total", Unit::Count, "Sessions made room of"),
    metric("accepted", "everlink_server_accepted_total", Unit::Count, "Connections accepted"),
    metric("refused", "everlink_server_refused_total", Unit::Count, "Connections refused"),
    metric(
        "broadcasts_missed",
        "everlink_server_broadcasts_missed_total",
        Unit::Count,
        "Broadcasts that a session has missed",
    ),
    metric("messages_sent", "everlink_server_messages_sent_total", Unit::Count, "Messages sent"),
    metric("bytes_sent", "everlink_server_sent_bytes_total", Unit::Bytes, "Payload sent"),
    metric(
        "messages_received",
        "everlink_server_messages_received_total",
        Unit::Count,
        "Messages received",
    ),
    metric(
        "bytes_received",
        "everlink_server_received_bytes_total",
        Unit::Bytes,
        "Payload received",
    ),
    metric("disconnects", "everlink_server_disconnects_total", Unit::Count, "Links that ended"),
];

/// Every metric that there is, and whether it only grows.
pub(super) fn all() -> impl Iterator<Item = (&'static Metric, bool)> {
    let all = std::iter::once(&UP).chain(&CLIENT).chain(&SERVER);
    all.map(|metric| (metric, metric.name.ends_with("_total")))
}

/// What a client has to publish.
pub(crate) fn of_client(is_up: bool, stats: &Stats) -> Vec<Sample> {
    let stats = Stats { uptime: Some(stats.uptime.unwrap_or_default()), ..stats.clone() };
    let up = Sample { metric: &UP, of: None, value: Value::Gauge(f64::from(is_up)) };
    std::iter::once(up).chain(samples(&CLIENT, stats.fields())).collect()
}

/// What a server has to publish.
pub(crate) fn of_server(fields: impl Iterator<Item = Field>) -> Vec<Sample> {
    samples(&SERVER, fields).collect()
}

fn samples(
    metrics: &'static [Metric],
    fields: impl Iterator<Item = Field>,
) -> impl Iterator<Item = Sample> {
    fields.filter_map(move |Field { name, label: of, value }| {
        let metric = metrics.iter().find(|metric| metric.field == name)?;
        let value = match value {
            FieldValue::Total(count) => Value::Counter(count),
            value => Value::Gauge(value.as_f64().unwrap_or(f64::NAN)),
        };
        Some(Sample { metric, of, value })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_that_a_client_has_is_published() {
        // the one is the sum of another, the other is a session's
        let others = ["failed_attempts", "broadcasts_missed"];
        for field in Stats::default().fields() {
            let known = CLIENT.iter().any(|metric| metric.field == field.name);
            assert_ne!(known, others.contains(&field.name), "{}", field.name);
        }
    }

    #[test]
    fn names_say_what_they_are_measured_in() {
        for (metric, _) in all() {
            let words = metric.name.trim_end_matches("_total");
            match metric.unit {
                Unit::Seconds => assert!(words.ends_with("_seconds"), "{words}"),
                Unit::Bytes => assert!(words.ends_with("_bytes"), "{words}"),
                _ => {}
            }
        }
        for sample in of_client(true, &Stats::default()) {
            let grows = matches!(sample.value, Value::Counter(_));
            assert_eq!(sample.metric.name.ends_with("_total"), grows, "{}", sample.metric.name);
        }
    }
}

//! What each value is called outside, and what it is measured in: from the tables of [`stats`](crate::stats).

use ::metrics::Unit;

use crate::stats::{ClientStats, Counters, Field, FieldValue, Metric, ServerCounters, ServerStats};

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

/// The one gauge that is published at each step, too. No field of `ClientStats`: the state says it.
pub(super) static UP: Metric =
    Metric { field: "", name: "everlink_up", help: "Whether the link is up" };

/// Every metric that there is.
pub(super) fn all() -> impl Iterator<Item = &'static Metric> {
    std::iter::once(&UP).chain(Counters::METRICS).chain(ServerCounters::METRICS)
}

/// Whether it only grows.
pub(super) fn grows(metric: &Metric) -> bool {
    metric.name.ends_with("_total")
}

pub(super) fn unit(metric: &Metric) -> Unit {
    match metric.name.trim_end_matches("_total").rsplit('_').next() {
        Some("bytes") => Unit::Bytes,
        Some("seconds") => Unit::Seconds,
        _ => Unit::Count,
    }
}

/// What a client has to publish.
pub(crate) fn of_client(is_up: bool, stats: &ClientStats) -> Vec<Sample> {
    let stats = ClientStats { uptime: Some(stats.uptime.unwrap_or_default()), ..stats.clone() };
    let up = Sample { metric: &UP, of: None, value: Value::Gauge(f64::from(is_up)) };
    std::iter::once(up).chain(samples(Counters::METRICS, stats.fields())).collect()
}

/// What a server has to publish.
pub(crate) fn of_server(stats: ServerStats) -> Vec<Sample> {
    samples(ServerCounters::METRICS, stats.fields()).collect()
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
    fn every_field_is_published() {
        for field in ClientStats::default().fields() {
            let known = Counters::METRICS.iter().any(|metric| metric.field == field.name);
            // the sum of another
            assert_ne!(known, field.name == "failed_attempts", "{}", field.name);
        }
        let stats = ServerStats::default();
        assert_eq!(of_server(stats).len(), stats.fields().count());
    }

    #[test]
    fn names_say_what_kind_of_value_they_are() {
        let client = ClientStats::default().fields().chain(ServerStats::default().fields());
        for field in client {
            let is_time = matches!(field.value, FieldValue::Time(_) | FieldValue::TotalTime(_));
            let metrics = all().filter(|metric| metric.field == field.name);
            for metric in metrics {
                assert_eq!(unit(metric) == Unit::Seconds, is_time, "{}", metric.name);
                let is_size = metric.field.contains("bytes");
                assert_eq!(unit(metric) == Unit::Bytes, is_size, "{}", metric.name);
            }
        }
        let samples = of_client(true, &ClientStats::default());
        for sample in samples.into_iter().chain(of_server(ServerStats::default())) {
            let grows = matches!(sample.value, Value::Counter(_));
            assert_eq!(super::grows(sample.metric), grows, "{}", sample.metric.name);
        }
    }
}

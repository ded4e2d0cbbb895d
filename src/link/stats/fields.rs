//! Everything that was counted as names and values.

use std::fmt;
use std::time::Duration;

use super::Stats;
use crate::failure::FailureCounts;

/// One of the values of a [`Stats`] or a [`ServerStats`](crate::ServerStats), from [`Stats::fields`] or
/// [`ServerStats::fields`](crate::ServerStats::fields).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Field {
    /// The name of the field.
    pub name: &'static str,
    /// Where a field has more than one value, which of them this is: a name and a value, as
    /// `("kind", "silent")` or `("quantile", "0.99")`.
    pub label: Option<(&'static str, &'static str)>,
    /// The value.
    pub value: FieldValue,
}

/// The value of a [`Field`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FieldValue {
    /// It never goes back.
    Total(u64),
    /// What there is now.
    Now(u64),
    /// A time that never goes back.
    TotalTime(Duration),
    /// A time; `None` while there is none to be said.
    Time(Option<Duration>),
}

impl FieldValue {
    /// As a number, times in seconds; `None` for a time that there is not.
    pub fn as_f64(self) -> Option<f64> {
        match self {
            Self::Total(count) | Self::Now(count) => Some(count as f64),
            Self::TotalTime(time) => Some(time.as_secs_f64()),
            Self::Time(time) => time.map(|time| time.as_secs_f64()),
        }
    }
}

/// A count, or a time as `12.3ms`, or `-`.
impl fmt::Display for FieldValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Total(count) | Self::Now(count) => write!(f, "{count}"),
            Self::TotalTime(time) | Self::Time(Some(time)) => write!(f, "{time:.1?}"),
            Self::Time(None) => f.write_str("-"),
        }
    }
}

/// `messages_sent=3`, `disconnects{kind=silent}=1`.
impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        if let Some((name, value)) = self.label {
            write!(f, "{{{name}={value}}}")?;
        }
        write!(f, "={}", self.value)
    }
}

impl Stats {
    /// Every field by its name, those with more than one value once for each: for log lines and
    /// exporters that need not know what there is.
    ///
    /// ```
    /// # let stats = everlink::Stats::default();
    /// for field in stats.fields() {
    ///     println!("{field}");
    /// }
    /// ```
    pub fn fields(&self) -> impl Iterator<Item = Field> + use<> {
        use FieldValue::{Now, Time, Total, TotalTime};
        let single = |name, value| Field { name, label: None, value };
        let trips = self.round_trips;
        let trip = |quantile, time| Field {
            name: "round_trips",
            label: Some(("quantile", quantile)),
            value: Time(time),
        };
        [
            single("accepted", Total(self.accepted)),
            single("passed_on", Total(self.passed_on)),
            single("handed_back", Total(self.handed_back)),
            single("messages_sent", Total(self.messages_sent)),
            single("bytes_sent", Total(self.bytes_sent)),
            single("messages_received", Total(self.messages_received)),
            single("bytes_received", Total(self.bytes_received)),
            single("outbox_messages", Now(self.outbox_messages as u64)),
            single("outbox_bytes", Now(self.outbox_bytes as u64)),
            single("inbox_messages", Now(self.inbox_messages as u64)),
            single("outbox_dropped", Total(self.outbox_dropped)),
            single("expired", Total(self.expired)),
            single("resent", Total(self.resent)),
            single("confirmed", Total(self.confirmed)),
            single("inbox_dropped", Total(self.inbox_dropped)),
            single("connects", Total(self.connects)),
            single("reconnects", Total(self.reconnects)),
            single("failed_attempts", Total(self.failed_attempts)),
            single("pings_sent", Total(self.pings_sent)),
            single("unanswered_pings", Now(self.unanswered_pings)),
            single("heartbeat_misses", Total(self.heartbeat_misses)),
            single("unconfirmed", Now(self.unconfirmed)),
            single("last_round_trip", Time(self.last_round_trip)),
            single("mean_round_trip", Time(self.mean_round_trip)),
            single("resumed", Total(self.resumed)),
            single("replaced", Total(self.replaced)),
            single("in_doubt", Total(self.in_doubt)),
            single("broadcasts_missed", Total(self.broadcasts_missed)),
            single("uptime", Time(self.uptime)),
            single("total_downtime", TotalTime(self.total_downtime)),
            single("age", TotalTime(self.age)),
            trip("0.5", trips.map(|trips| trips.p50)),
            trip("0.9", trips.map(|trips| trips.p90)),
            trip("0.99", trips.map(|trips| trips.p99)),
            trip("1", trips.map(|trips| trips.max)),
        ]
        .into_iter()
        .chain(by_kind("disconnects", self.disconnects))
        .chain(by_kind("failures", self.failures))
    }
}

pub(crate) fn by_kind(name: &'static str, counts: FailureCounts) -> impl Iterator<Item = Field> {
    let counts: Vec<_> = counts.iter().collect();
    counts.into_iter().map(move |(kind, count)| Field {
        name,
        label: Some(("kind", kind.as_str())),
        value: FieldValue::Total(count),
    })
}

/// The names of a structure's fields, as `Debug` prints them at the first level.
#[cfg(test)]
pub(crate) fn fields_of(value: &impl std::fmt::Debug) -> std::collections::BTreeSet<String> {
    let printed = format!("{value:#?}");
    let fields = printed.lines().filter_map(|line| line.strip_prefix("    "));
    let names = fields.filter_map(|line| line.split_once(": ").map(|(name, _)| name));
    names.filter(|name| !name.starts_with(' ')).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_field_is_forgotten() {
        let stats = Stats::default();
        let named: BTreeSet<String> = stats.fields().map(|field| field.name.to_owned()).collect();
        let fields = fields_of(&stats);
        assert!(fields.len() > 20, "{fields:?}");
        assert_eq!(named, fields);
    }

    #[test]
    fn no_value_has_the_name_and_label_of_another() {
        let mut seen = BTreeSet::new();
        for field in Stats::default().fields() {
            assert!(seen.insert((field.name, field.label)), "{field}");
        }
    }

    #[test]
    fn a_field_is_a_word_and_its_value() {
        let stats = Stats { messages_sent: 3, ..Stats::default() };
        let lines: Vec<String> = stats.fields().map(|field| field.to_string()).collect();
        assert!(lines.contains(&"messages_sent=3".to_owned()), "{lines:?}");
        assert!(lines.contains(&"disconnects{kind=silent}=0".to_owned()), "{lines:?}");
        assert!(lines.contains(&"last_round_trip=-".to_owned()), "{lines:?}");
    }
}

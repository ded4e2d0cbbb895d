//! Everything that was counted as names and values.

use std::fmt;
use std::time::Duration;

use super::RoundTrips;
use crate::failure::FailureCounts;

/// One of the values of a snapshot, from [`ClientStats::fields`](crate::stats::ClientStats::fields),
/// [`SessionStats::fields`](crate::stats::SessionStats::fields) or
/// [`ServerStats::fields`](crate::stats::ServerStats::fields).
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

/// The fields of a snapshot, put one after the other: a function for each kind of value.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<Field>);

impl Fields {
    pub(super) fn into_iter(self) -> impl Iterator<Item = Field> + use<> {
        self.0.into_iter()
    }

    fn single(&mut self, name: &'static str, value: FieldValue) {
        self.0.push(Field { name, label: None, value });
    }

    pub(super) fn total(&mut self, name: &'static str, count: u64) {
        self.single(name, FieldValue::Total(count));
    }

    pub(super) fn now(&mut self, name: &'static str, count: impl TryInto<u64>) {
        self.single(name, FieldValue::Now(count.try_into().unwrap_or(u64::MAX)));
    }

    pub(super) fn total_time(&mut self, name: &'static str, time: Duration) {
        self.single(name, FieldValue::TotalTime(time));
    }

    pub(super) fn time(&mut self, name: &'static str, time: Option<Duration>) {
        self.single(name, FieldValue::Time(time));
    }

    pub(super) fn quantiles(&mut self, name: &'static str, trips: Option<RoundTrips>) {
        let times = trips.map(|trips| [trips.p50, trips.p90, trips.p99, trips.max]);
        for (index, quantile) in ["0.5", "0.9", "0.99", "1"].into_iter().enumerate() {
            let value = FieldValue::Time(times.map(|times| times[index]));
            self.0.push(Field { name, label: Some(("quantile", quantile)), value });
        }
    }

    pub(super) fn by_kind(&mut self, name: &'static str, counts: FailureCounts) {
        self.0.extend(counts.iter().map(|(kind, count)| Field {
            name,
            label: Some(("kind", kind.as_str())),
            value: FieldValue::Total(count),
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::stats::{ClientStats, ServerStats, SessionStats};

    #[test]
    fn no_value_has_the_name_and_label_of_another() {
        let client: Vec<_> = ClientStats::default().fields().collect();
        let session = SessionStats::default().fields().collect();
        let server = ServerStats::default().fields().collect();
        for fields in [client, session, server] {
            let mut seen = BTreeSet::new();
            for field in fields {
                assert!(seen.insert((field.name, field.label)), "{field}");
            }
        }
    }

    #[test]
    fn a_field_is_a_word_and_its_value() {
        let stats = ClientStats { messages_sent: 3, ..ClientStats::default() };
        let lines: Vec<String> = stats.fields().map(|field| field.to_string()).collect();
        assert!(lines.contains(&"messages_sent=3".to_owned()), "{lines:?}");
        assert!(lines.contains(&"disconnects{kind=silent}=0".to_owned()), "{lines:?}");
        assert!(lines.contains(&"last_round_trip=-".to_owned()), "{lines:?}");
    }
}

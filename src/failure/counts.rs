//! How often something failed, by kind.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::FailureKind;

/// How often something has failed, by [`FailureKind`].
///
/// With the feature `serde` it is an object of kinds and counts. A kind that is missing there counts
/// zero, and one that this version does not know, from a newer one, is left out.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct FailureCounts([u64; FailureKind::ALL.len()]);

impl FailureCounts {
    /// How often for this reason.
    pub fn of(&self, kind: FailureKind) -> u64 {
        self.0[kind.index()]
    }

    /// How often in all.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Every kind with its count, those of zero included: a series that begins with its first
    /// failure hides that failure from whoever looks at rates.
    pub fn iter(&self) -> impl Iterator<Item = (FailureKind, u64)> + '_ {
        FailureKind::ALL.into_iter().zip(self.0)
    }
}

/// Without quotation marks.
struct Word(&'static str);

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Those that have happened: `{dns: 2, silent: 1}`.
impl fmt::Debug for FailureCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let happened = self.iter().filter(|(_, count)| *count > 0);
        f.debug_map().entries(happened.map(|(kind, count)| (Word(kind.as_str()), count))).finish()
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for FailureCounts {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.iter())
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for FailureCounts {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let by_word = std::collections::BTreeMap::<String, u64>::deserialize(from)?;
        let mut counts = Self::default();
        for (word, count) in by_word {
            if let Some(kind) = FailureKind::named(&word) {
                counts.0[kind.index()] = count;
            }
        }
        Ok(counts)
    }
}

/// The counters behind them.
#[derive(Debug, Default)]
pub(crate) struct FailureTally([AtomicU64; FailureKind::ALL.len()]);

impl FailureTally {
    pub(crate) fn add(&self, kind: FailureKind) {
        self.0[kind.index()].fetch_add(1, Relaxed);
    }

    pub(crate) fn read(&self) -> FailureCounts {
        FailureCounts(FailureKind::ALL.map(|kind| self.0[kind.index()].load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_counted_for_itself() {
        let tally = FailureTally::default();
        for (index, kind) in FailureKind::ALL.into_iter().enumerate() {
            (0..=index).for_each(|_| tally.add(kind));
        }
        let counts = tally.read();
        for (index, (kind, count)) in counts.iter().enumerate() {
            assert_eq!((count, counts.of(kind)), (index as u64 + 1, index as u64 + 1), "{kind}");
        }
        let kinds = FailureKind::ALL.len() as u64;
        assert_eq!(counts.total(), kinds * (kinds + 1) / 2);
    }

    #[test]
    fn debug_shows_what_has_happened_by_its_word() {
        let tally = FailureTally::default();
        assert_eq!(format!("{:?}", tally.read()), "{}");
        for kind in [FailureKind::Dns, FailureKind::Silent, FailureKind::Dns] {
            tally.add(kind);
        }
        assert_eq!(format!("{:?}", tally.read()), "{dns: 2, silent: 1}");
    }

    #[cfg(feature = "serde")]
    #[test]
    fn counts_of_a_newer_version_can_be_read() {
        let text = r#"{"disconnects":{"silent":3,"abducted":1},"connects":4}"#;
        let stats: crate::stats::ClientStats = serde_json::from_str(text).unwrap();
        assert_eq!((stats.disconnects.of(FailureKind::Silent), stats.connects), (3, 4));
        assert_eq!(stats.disconnects.total(), 3);
        let written = serde_json::to_string(&stats.disconnects).unwrap();
        assert_eq!(serde_json::from_str::<FailureCounts>(&written).unwrap(), stats.disconnects);
        for kind in FailureKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }
}

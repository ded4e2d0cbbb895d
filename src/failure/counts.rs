//! How often something failed, by kind.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::FailureKind;

/// How often something has failed, by [`FailureKind`].
///
/// With the feature `serde` it is an object of kinds and counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(from = "ByKind", into = "ByKind"))]
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

#[cfg(feature = "serde")]
type ByKind = std::collections::BTreeMap<FailureKind, u64>;

#[cfg(feature = "serde")]
impl From<FailureCounts> for ByKind {
    fn from(counts: FailureCounts) -> Self {
        counts.iter().collect()
    }
}

#[cfg(feature = "serde")]
impl From<ByKind> for FailureCounts {
    fn from(counts: ByKind) -> Self {
        Self(FailureKind::ALL.map(|kind| counts.get(&kind).copied().unwrap_or(0)))
    }
}

/// The counters behind them.
#[derive(Debug, Default)]
pub(crate) struct FailureTally([AtomicU64; FailureKind::ALL.len()]);

impl FailureTally {
    pub(crate) fn add(&self, kind: FailureKind) {
        self.0[kind.index()].fetch_add(1, Relaxed);
    }

    pub(crate) fn counts(&self) -> FailureCounts {
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
        let counts = tally.counts();
        for (index, (kind, count)) in counts.iter().enumerate() {
            assert_eq!((count, counts.of(kind)), (index as u64 + 1, index as u64 + 1), "{kind}");
        }
        let kinds = FailureKind::ALL.len() as u64;
        assert_eq!(counts.total(), kinds * (kinds + 1) / 2);
    }
}

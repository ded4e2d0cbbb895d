//! Bytes that many holders share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What each holder has for nothing, and in what steps it takes more.
const STEP: usize = 16 * 1024;

/// A bound over what many holders have together; the default is none.
///
/// Nobody waits for it: who finds it used up does with what is free, or does without. So no holder
/// ever waits for another to let go.
#[derive(Debug, Clone, Default)]
pub(crate) struct Budget(Option<Arc<Total>>);

#[derive(Debug)]
struct Total {
    limit: usize,
    taken: AtomicUsize,
}

impl Budget {
    pub(crate) fn of(limit: usize) -> Self {
        Self(Some(Arc::new(Total { limit, taken: AtomicUsize::new(0) })))
    }

    /// The part of one holder. Given back when it is dropped.
    pub(crate) fn share(&self) -> Share {
        let covered = if self.0.is_some() { STEP } else { usize::MAX };
        Share { total: self.0.clone(), covered }
    }

    pub(crate) fn limit(&self) -> Option<usize> {
        self.0.as_ref().map(|total| total.limit)
    }

    /// How much of it is taken.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> usize {
        self.0.as_ref().map_or(0, |total| total.taken.load(Relaxed))
    }
}

#[derive(Debug)]
pub(crate) struct Share {
    total: Option<Arc<Total>>,
    /// How much the holder may have at the moment.
    covered: usize,
}

impl Share {
    /// Whether the holder may have so much in all. What it takes for that stays taken until
    /// [`Share::shrink`].
    #[inline]
    pub(crate) fn covers(&mut self, bytes: usize) -> bool {
        bytes <= self.covered || self.grow(bytes, false)
    }

    /// The holder has so much, whether it may or not.
    #[inline]
    pub(crate) fn charge(&mut self, bytes: usize) {
        if bytes > self.covered {
            self.grow(bytes, true);
        }
    }

    #[cold]
    fn grow(&mut self, bytes: usize, is_forced: bool) -> bool {
        let Some(total) = &self.total else { return true };
        let more = (bytes - self.covered).div_ceil(STEP).saturating_mul(STEP);
        let fits = |taken: usize| {
            let sum = taken.saturating_add(more);
            (is_forced || sum <= total.limit).then_some(sum)
        };
        let is_taken = total.taken.fetch_update(Relaxed, Relaxed, fits).is_ok();
        if is_taken {
            self.covered += more;
        }
        is_taken
    }

    /// An empty share of the same budget, for who takes over what this one holds.
    pub(crate) fn sibling(&self) -> Self {
        Budget(self.total.clone()).share()
    }

    /// What the other holds is held here from now on.
    pub(crate) fn take_over(&mut self, other: &mut Self) {
        if self.total.is_some() && other.total.is_some() {
            self.covered += std::mem::replace(&mut other.covered, STEP) - STEP;
        }
    }

    /// The holder has no more than this now.
    #[inline]
    pub(crate) fn shrink(&mut self, bytes: usize) {
        if let Some(total) = &self.total {
            let needed = bytes.div_ceil(STEP).max(1) * STEP;
            if needed < self.covered {
                total.taken.fetch_sub(self.covered - needed, Relaxed);
                self.covered = needed;
            }
        }
    }
}

impl Default for Share {
    fn default() -> Self {
        Budget::default().share()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_of_each_are_free_and_the_rest_is_shared() {
        let budget = Budget::of(4 * STEP);
        let (mut first, mut second) = (budget.share(), budget.share());
        assert!(first.covers(STEP));
        assert_eq!(budget.taken(), 0);
        assert!(first.covers(STEP + 1));
        assert!(first.covers(4 * STEP));
        assert_eq!(budget.taken(), 3 * STEP);
        assert!(!second.covers(3 * STEP), "there is no room for two steps");
        assert!(second.covers(2 * STEP), "and for one");
        assert!(second.covers(STEP), "what is free is always there");
        first.shrink(STEP + 1);
        assert!(second.covers(3 * STEP));
        assert_eq!(budget.taken(), 3 * STEP);
        second.charge(100 * STEP);
        assert_eq!(budget.taken(), 100 * STEP, "over the limit, and counted");
        assert!(!first.covers(3 * STEP));
        drop(second);
        assert_eq!(budget.taken(), STEP);
        drop(first);
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn what_changes_hands_is_counted_once() {
        let budget = Budget::of(4 * STEP);
        let mut from = budget.share();
        let mut to = from.sibling();
        assert!(from.covers(4 * STEP) && to.covers(2 * STEP));
        to.take_over(&mut from);
        assert_eq!(budget.taken(), 4 * STEP);
        assert!(to.covers(5 * STEP), "both had some for nothing");
        drop(from);
        assert_eq!(budget.taken(), 4 * STEP);
        to.shrink(0);
        assert_eq!(budget.taken(), 0);
        let (mut from, mut to) = (Share::default(), Share::default());
        to.take_over(&mut from);
        assert!(to.covers(usize::MAX) && from.covers(usize::MAX));
    }

    #[test]
    fn without_a_budget_everything_is_covered() {
        let mut share = Share::default();
        assert!(share.covers(usize::MAX));
        share.shrink(0);
        assert!(share.covers(usize::MAX));
    }
}

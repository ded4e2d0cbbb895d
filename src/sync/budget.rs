//! Bytes that many holders share.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};

/// What each holder has for nothing, and in what steps it takes more.
const STEP: usize = 16 * 1024;

/// What a part covers that is counted no more.
const WRITTEN_OFF: usize = usize::MAX;

/// A bound over what many holders have together; the default is none.
///
/// Nobody waits for it. Where it is used up, holders that can be done without are evicted; without
/// those, who asks does with what is free, or does without. So no holder ever waits for another to
/// let go.
#[derive(Debug, Clone, Default)]
pub(crate) struct Budget(Option<Arc<Total>>);

struct Total {
    limit: usize,
    step: usize,
    free: usize,
    taken: AtomicUsize,
    evicts: OnceLock<Weak<dyn Evict>>,
}

/// Knows holders that can be done without. It is asked with locks of other holders held, and must
/// not take one of theirs.
pub(crate) trait Evict: Send + Sync {
    /// Writes off what one of them holds of this budget; returns whether there was any.
    fn evict(&self, budget: &Budget) -> bool;
}

impl Budget {
    pub(crate) fn of(limit: usize) -> Self {
        Self::new(limit, STEP, STEP)
    }

    /// One that counts every byte.
    pub(crate) fn exact(limit: usize) -> Self {
        Self::new(limit, 1, 0)
    }

    fn new(limit: usize, step: usize, free: usize) -> Self {
        let (taken, evicts) = (AtomicUsize::new(0), OnceLock::new());
        Self(Some(Arc::new(Total { limit, step, free, taken, evicts })))
    }

    /// Has holders evicted where there is want. To be said once.
    pub(crate) fn evict_from(&self, evicts: Weak<dyn Evict>) {
        if let Some(total) = &self.0 {
            let _ = total.evicts.set(evicts);
        }
    }

    /// The part of one holder. Given back when it is dropped.
    pub(crate) fn share(&self) -> Share {
        Share { part: self.part(), waiting: None }
    }

    fn part(&self) -> Option<Arc<Part>> {
        let total = Arc::clone(self.0.as_ref()?);
        Some(Arc::new(Part { covered: AtomicUsize::new(total.free), total }))
    }

    pub(crate) fn limit(&self) -> Option<usize> {
        self.0.as_ref().map(|total| total.limit)
    }

    /// How much of it is taken.
    pub(crate) fn taken(&self) -> usize {
        self.0.as_ref().map_or(0, |total| total.taken.load(Relaxed))
    }

    /// Evicts as long as more is taken than there is.
    pub(crate) fn settle(&self) {
        while self.limit().is_some_and(|limit| self.taken() > limit) && self.evict() {}
    }

    fn evict(&self) -> bool {
        let evicts = self.0.as_ref().and_then(|total| total.evicts.get()?.upgrade());
        evicts.is_some_and(|evicts| evicts.evict(self))
    }
}

/// What a holder has of one budget. Only the holder changes it, but for writing it off.
#[derive(Debug)]
struct Part {
    total: Arc<Total>,
    /// How much the holder may have at the moment.
    covered: AtomicUsize,
}

impl Part {
    #[inline]
    fn covered(&self) -> usize {
        self.covered.load(Relaxed)
    }

    fn budget(&self) -> Budget {
        Budget(Some(Arc::clone(&self.total)))
    }

    #[inline]
    fn covers(&self, bytes: usize, may_evict: bool) -> bool {
        bytes <= self.covered() || self.grow(bytes, false, may_evict)
    }

    #[inline]
    fn charge(&self, bytes: usize) {
        if bytes > self.covered() {
            self.grow(bytes, true, false);
            self.budget().settle();
        }
    }

    #[cold]
    fn grow(&self, bytes: usize, is_forced: bool, may_evict: bool) -> bool {
        let (total, covered) = (&self.total, self.covered());
        // nobody is evicted for what could never fit
        let may_evict = may_evict && bytes.saturating_sub(total.free) <= total.limit;
        let more = bytes.saturating_sub(covered).div_ceil(total.step).saturating_mul(total.step);
        let fits = |taken: usize| {
            let sum = taken.saturating_add(more);
            (is_forced || sum <= total.limit).then_some(sum)
        };
        while total.taken.fetch_update(Relaxed, Relaxed, fits).is_err() {
            // it may itself be what is evicted
            if !may_evict || !self.budget().evict() || bytes <= self.covered() {
                return bytes <= self.covered();
            }
        }
        self.change(covered, covered.saturating_add(more), more);
        true
    }

    #[inline]
    fn shrink(&self, bytes: usize) {
        let (covered, step) = (self.covered(), self.total.step);
        let needed = (bytes.div_ceil(step) * step).max(self.total.free);
        if needed < covered && self.change(covered, needed, 0) {
            self.total.taken.fetch_sub(covered - needed, Relaxed);
        }
    }

    /// Covers so much from here on, for which so much was taken, unless it is written off.
    fn change(&self, from: usize, to: usize, taken: usize) -> bool {
        let is_counted = from != WRITTEN_OFF
            && self.covered.compare_exchange(from, to, Relaxed, Relaxed).is_ok();
        if !is_counted {
            self.total.taken.fetch_sub(taken, Relaxed);
        }
        is_counted
    }

    fn write_off(&self) {
        let covered = self.covered.swap(WRITTEN_OFF, Relaxed);
        if covered != WRITTEN_OFF {
            self.total.taken.fetch_sub(covered - self.total.free, Relaxed);
        }
    }

    /// Whether it holds something of this budget.
    fn holds_of(&self, budget: &Budget) -> bool {
        let is_of = budget.0.as_ref().is_some_and(|total| Arc::ptr_eq(total, &self.total));
        is_of && (self.total.free + 1..WRITTEN_OFF).contains(&self.covered())
    }
}

/// What one holder has of the budget that all share, and while it waits of another.
#[derive(Debug, Default)]
pub(crate) struct Share {
    /// Nothing if there is no bound.
    part: Option<Arc<Part>>,
    waiting: Option<Arc<Part>>,
}

impl Share {
    /// Whether the holder may have so much in all. What it takes for that stays taken until
    /// [`Share::shrink`].
    #[inline]
    pub(crate) fn covers(&mut self, bytes: usize) -> bool {
        // who waits itself has nobody evicted
        let may_evict = self.waiting.is_none();
        self.part.as_ref().is_none_or(|part| part.covers(bytes, may_evict))
    }

    /// The holder has so much, whether it may or not.
    #[inline]
    pub(crate) fn charge(&mut self, bytes: usize) {
        for part in self.part.iter().chain(&self.waiting) {
            part.charge(bytes);
        }
    }

    /// The holder has no more than this now.
    #[inline]
    pub(crate) fn shrink(&mut self, bytes: usize) {
        for part in self.part.iter().chain(&self.waiting) {
            part.shrink(bytes);
        }
    }

    /// An empty share of the same budget, for who takes over what this one holds.
    pub(crate) fn sibling(&self) -> Self {
        self.part.as_ref().map(|part| part.budget().share()).unwrap_or_default()
    }

    /// What the other holds is held here from now on.
    pub(crate) fn take_over(&mut self, other: &mut Self) {
        if let (Some(part), Some(other)) = (&self.part, &other.part) {
            let more = other.covered.swap(other.total.free, Relaxed) - other.total.free;
            part.change(part.covered(), part.covered().saturating_add(more), more);
        }
    }

    /// The holder, who has so much, waits from here on, within this budget too. What is returned
    /// evicts it.
    pub(crate) fn wait_within(&mut self, budget: &Budget, bytes: usize) -> Holding {
        self.waiting = budget.part();
        if let Some(waiting) = &self.waiting {
            waiting.grow(bytes, true, false);
        }
        Holding(self.part.iter().chain(&self.waiting).cloned().collect())
    }

    /// The holder, who has so much, does not wait any more. By then nobody else has its [`Holding`].
    pub(crate) fn wait_no_more(&mut self, bytes: usize) {
        if let Some(waiting) = self.waiting.take() {
            waiting.shrink(0);
        }
        if let Some(part) = &self.part {
            // evicted, and back in time all the same
            if part.covered() == WRITTEN_OFF {
                part.covered.store(part.total.free, Relaxed);
                part.charge(bytes);
            }
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

/// What a holder has that waits.
pub(crate) struct Holding(Vec<Arc<Part>>);

impl Holding {
    /// Whether it is something of this budget.
    pub(crate) fn is_of(&self, budget: &Budget) -> bool {
        self.0.iter().any(|part| part.holds_of(budget))
    }

    /// Counts it no more: it is about to be given back.
    pub(crate) fn write_off(&self) {
        self.0.iter().for_each(|part| part.write_off());
    }
}

impl fmt::Debug for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let taken = self.taken.load(Relaxed);
        f.debug_struct("Total").field("limit", &self.limit).field("taken", &taken).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

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

    /// Evicts those that wait, the first one first.
    struct Waiting(Mutex<Vec<Holding>>);

    impl Evict for Waiting {
        fn evict(&self, budget: &Budget) -> bool {
            let mut waiting = self.0.lock().unwrap();
            let oldest = waiting.iter().position(|holding| holding.is_of(budget));
            oldest.map(|oldest| waiting.remove(oldest).write_off()).is_some()
        }
    }

    #[test]
    fn who_waits_makes_room_for_who_does_not() {
        let (memory, kept) = (Budget::of(4 * STEP), Budget::exact(3 * STEP));
        let waiting = Arc::new(Waiting(Mutex::default()));
        for budget in [&memory, &kept] {
            budget.evict_from(Arc::downgrade(&waiting) as Weak<dyn Evict>);
        }
        let shares = [0, 2 * STEP, STEP + 1].map(|bytes| {
            let mut share = memory.share();
            assert!(share.covers(bytes));
            let holding = share.wait_within(&kept, bytes);
            waiting.0.lock().unwrap().push(holding);
            share
        });
        assert_eq!((memory.taken(), kept.taken()), (2 * STEP, 3 * STEP + 1));
        kept.settle();
        assert_eq!((memory.taken(), kept.taken()), (STEP, STEP + 1), "the oldest that has any");
        let mut other = memory.share();
        assert!(other.covers(4 * STEP));
        assert_eq!(waiting.0.lock().unwrap().len(), 2, "there was room");
        assert!(other.covers(5 * STEP), "and now there is");
        assert_eq!((memory.taken(), kept.taken()), (4 * STEP, 0));
        assert!(!other.covers(6 * STEP), "the last one holds nothing that is counted");
        assert_eq!(waiting.0.lock().unwrap().len(), 1);
        let [mut first, mut second, third] = shares;
        assert!(second.covers(100 * STEP), "it is on its way out");
        second.charge(100 * STEP);
        second.shrink(STEP);
        first.charge(10);
        assert_eq!((memory.taken(), kept.taken()), (4 * STEP, 10));
        first.wait_no_more(10);
        assert_eq!(kept.taken(), 0);
        other.shrink(0);
        second.wait_no_more(2 * STEP);
        assert_eq!(memory.taken(), STEP, "it is back");
        drop((first, second, third, other));
        assert_eq!((memory.taken(), kept.taken()), (0, 0));
    }

    #[test]
    fn without_a_budget_everything_is_covered() {
        let mut share = Share::default();
        assert!(share.covers(usize::MAX));
        share.shrink(0);
        assert!(share.covers(usize::MAX));
    }
}

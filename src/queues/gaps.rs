//! Numbers that will never be confirmed.

use std::collections::VecDeque;

/// No more ranges than this are remembered, for a peer that never confirms anything.
const MOST: usize = 1024;

/// Numbers that were dropped or have expired, as ranges: a queue that drops its oldest all day
/// makes one long gap.
#[derive(Debug, Default)]
pub(super) struct Gaps(VecDeque<(u64, u64)>);

impl Gaps {
    pub(super) fn add(&mut self, number: u64) {
        let at = self.0.partition_point(|(_, to)| *to < number);
        let joins_next = self.0.get(at).is_some_and(|(from, _)| *from == number + 1);
        let joins_last = at > 0 && self.0[at - 1].1 + 1 == number;
        match (joins_last, joins_next) {
            (true, true) => {
                self.0[at - 1].1 = self.0[at].1;
                self.0.remove(at);
            }
            (true, false) => self.0[at - 1].1 = number,
            (false, true) => self.0[at].0 = number,
            (false, false) => self.0.insert(at, (number, number)),
        }
        if self.0.len() > MOST {
            // its numbers count as under way again, until something behind them is confirmed
            self.0.pop_front();
        }
    }

    /// Everything up to this number is settled.
    pub(super) fn forget(&mut self, number: u64) {
        let gone = self.0.partition_point(|(_, to)| *to <= number);
        self.0.drain(..gone);
    }

    /// How many numbers after `from` and up to `to` are in no gap.
    pub(super) fn outside(&self, from: u64, to: u64) -> usize {
        let all = to.saturating_sub(from);
        let inside: u64 = self
            .0
            .iter()
            .map(|(first, last)| ((*last).min(to) + 1).saturating_sub((*first).max(from + 1)))
            .sum();
        all.saturating_sub(inside) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn gaps_are_counted_like_a_set(
            numbers in prop::collection::btree_set(1..60_u64, 0..40),
            order in any::<u64>(),
            from in 0..60_u64,
            to in 0..60_u64,
        ) {
            let mut shuffled: Vec<u64> = numbers.iter().copied().collect();
            fastrand::Rng::with_seed(order).shuffle(&mut shuffled);
            let mut gaps = Gaps::default();
            shuffled.iter().for_each(|number| gaps.add(*number));
            let expected = (from + 1..=to).filter(|number| !numbers.contains(number)).count();
            prop_assert_eq!(gaps.outside(from, to), expected);
            gaps.forget(from);
            prop_assert_eq!(gaps.outside(from, to), expected);
        }
    }
}

//! What the program confirms while the writer still holds it.

use std::collections::VecDeque;

use super::entry::Entry;

/// What the writer holds and the program may confirm: the answer may be faster than the bookkeeping.
#[derive(Debug, Default)]
pub(super) struct Held(VecDeque<HeldEntry>);

#[derive(Debug)]
struct HeldEntry {
    number: u64,
    key: Option<u64>,
    is_confirmed: bool,
}

impl Held {
    /// The writer has taken this.
    pub(super) fn add(&mut self, entry: &Entry) {
        self.0.push_back(HeldEntry { number: entry.number, key: entry.key, is_confirmed: false });
    }

    /// The writer does not hold this any more; returns whether it was confirmed meanwhile.
    pub(super) fn remove(&mut self, entry: &Entry) -> bool {
        let index = self.0.iter().position(|held| held.number == entry.number);
        index.and_then(|index| self.0.remove(index)).is_some_and(|held| held.is_confirmed)
    }

    /// The message with this key is confirmed; returns whether the writer holds one.
    pub(super) fn confirm_key(&mut self, key: u64) -> bool {
        let is_it = |held: &&mut HeldEntry| held.key == Some(key) && !held.is_confirmed;
        let held = self.0.iter_mut().find(is_it);
        held.map(|held| held.is_confirmed = true).is_some()
    }

    /// All up to this number are confirmed.
    pub(super) fn confirm_number(&mut self, number: u64) {
        for held in self.0.iter_mut().filter(|held| held.number <= number) {
            held.is_confirmed = true;
        }
    }
}

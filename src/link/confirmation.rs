//! When the peer is asked what it has received.

use std::time::{Duration, Instant};

/// After so many messages, so many bytes or so much time with something written, whichever is
/// first, and only when no answer is outstanding. A link that has just begun asks sooner: see
/// [`Unasked::is_early_due`].
const ASK_AFTER_MESSAGES: u64 = 256;
const ASK_AFTER_BYTES: usize = 256 * 1024;
const ASK_AFTER: Duration = Duration::from_millis(10);

/// What was encoded since the peer was last asked.
#[derive(Debug)]
pub(super) struct Unasked {
    messages: u64,
    bytes: usize,
    since: Option<Instant>,
    /// How many messages go before the next question while the link is young: 1, 2, 4 and so on,
    /// until that is no less than usual.
    early: u64,
}

impl Unasked {
    pub(super) fn new() -> Self {
        Self { messages: 0, bytes: 0, since: None, early: 1 }
    }

    /// A message of this size was encoded.
    pub(super) fn add(&mut self, size: usize) {
        self.messages += 1;
        self.bytes += size;
        self.since.get_or_insert_with(Instant::now);
    }

    /// The peer is asked.
    pub(super) fn clear(&mut self) {
        *self = Self { early: self.early, ..Self::new() };
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Whether a question belongs behind the first few messages of a link. A peer that ends each
    /// link after a few messages would otherwise never come to a question that stands behind a
    /// whole batch, and the same messages would be sent again and again.
    pub(super) fn is_early_due(&self) -> bool {
        self.early < ASK_AFTER_MESSAGES && self.messages >= self.early
    }

    /// An early question was due: the next one comes after twice as many messages.
    pub(super) fn defer_early(&mut self) {
        self.early *= 2;
    }

    /// When it is time for the next question: at once, if that is not in the future.
    pub(super) fn due(&self) -> Option<Instant> {
        let since = self.since?;
        let is_enough = self.messages >= ASK_AFTER_MESSAGES || self.bytes >= ASK_AFTER_BYTES;
        Some(if is_enough { since } else { since + ASK_AFTER })
    }
}

#[cfg(test)]
impl Unasked {
    /// Where the clock must not decide.
    pub(super) fn set_due(&mut self, is_due: bool) {
        const HOUR: Duration = Duration::from_secs(3600);
        let since = if is_due { Instant::now() - ASK_AFTER } else { Instant::now() + HOUR };
        self.since = self.since.map(|_| since);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_questions_come_after_one_message_then_two_then_four() {
        let mut unasked = Unasked::new();
        let mut asked_after = Vec::new();
        for number in 1..=600 {
            unasked.add(1);
            if unasked.is_early_due() {
                unasked.defer_early();
                unasked.clear();
                asked_after.push(number);
            }
        }
        assert_eq!(asked_after, [1, 3, 7, 15, 31, 63, 127, 255]);
        assert!(unasked.due().is_some_and(|due| due <= Instant::now()), "over 256 messages");
    }

    #[test]
    fn a_question_is_due_after_so_many_bytes_or_a_moment() {
        let mut unasked = Unasked::new();
        assert_eq!(unasked.due(), None);
        let before = Instant::now();
        unasked.add(1);
        assert!(unasked.due().is_some_and(|due| due >= before + ASK_AFTER));
        unasked.add(ASK_AFTER_BYTES);
        assert!(unasked.due().is_some_and(|due| due <= Instant::now()));
        unasked.clear();
        assert!(unasked.is_empty() && unasked.due().is_none());
    }
}

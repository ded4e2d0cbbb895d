//! Which message a link has died of.

use super::Backlog;
use crate::policy::Undelivered;
use crate::queues::entry::Entry;
use crate::queues::terms::TooLarge;

impl Backlog {
    /// The peer found a message on this link too large. It does not say which; the largest one that
    /// it has not confirmed is certainly too large: that one is not sent again. Returns its size, and
    /// itself if it is still here.
    pub(in crate::queues) fn take_too_large(&mut self) -> Option<TooLarge> {
        let largest = |entries: &mut dyn Iterator<Item = (usize, &Entry)>| {
            let largest = entries.max_by_key(|(_, entry)| entry.size());
            largest.map(|(index, entry)| (entry.size(), index))
        };
        let begun = largest(&mut self.queue.iter().take_while(|entry| entry.begun).enumerate());
        let kept = largest(&mut self.kept.iter().enumerate().filter(|(_, entry)| !entry.is_login));
        let gone = self.largest.take();
        let size = [begun.map(|b| b.0), kept.map(|k| k.0), gone.map(|g| g.1)];
        let size = size.into_iter().flatten().max()?;
        let entry = match (begun, kept) {
            (Some((of, index)), _) if of == size => self.queue.remove(index),
            (_, Some((of, index))) if of == size => self.kept.remove(index),
            _ => None,
        };
        match (&entry, gone) {
            (Some(entry), _) => {
                self.tally.dropped += 1;
                self.confirmations.fail(entry.number, Undelivered::TooLarge);
                entry.lost(Undelivered::TooLarge);
            }
            (None, Some((number, _))) => {
                self.confirmations.fail_receipt(number, Undelivered::TooLarge)
            }
            (None, None) => {}
        }
        Some(TooLarge { size, message: entry.map(|entry| entry.message) })
    }

    /// A link has died of what a message can cause: the first one that the peer has not confirmed is
    /// the suspect. To be called before the link is buried. If that message was the suspect of
    /// `limit` links that were sound it is not sent again: returns its number and size.
    pub(in crate::queues) fn suspect_first(
        &mut self,
        was_sound: bool,
        limit: u32,
    ) -> Option<(u64, usize)> {
        let is_kept = !self.kept.is_empty();
        // one that was cut off goes back to the queue
        let queue = if is_kept { &mut self.kept } else { &mut self.queue };
        let first = queue.iter_mut().next().filter(|first| is_kept || first.begun)?;
        if first.is_login {
            return None;
        }
        first.is_suspect = true;
        first.links_ended += u32::from(was_sound || self.is_link_sound);
        if first.links_ended < limit {
            return None;
        }
        let first = queue.pop_front()?;
        let (number, size) = (first.number, first.size());
        self.lose(first, Undelivered::Poison);
        self.give_back();
        Some((number, size))
    }
}

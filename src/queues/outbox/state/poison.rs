//! A message that ends its links.

use super::State;
use crate::policy::Undelivered;

impl State {
    /// A link has died of what a message can cause: the first one that the peer has not confirmed is
    /// the suspect. To be called before the link is buried. If that message was the suspect of
    /// `limit` links that were sound it is not sent again: returns its number and size.
    pub(in crate::queues::outbox) fn suspect_first(
        &mut self,
        was_sound: bool,
        limit: u32,
    ) -> Option<(u64, usize)> {
        let is_kept = !self.kept.is_empty();
        let (queue, bytes) = if is_kept {
            (&mut self.kept, &mut self.kept_bytes)
        } else {
            // one that was cut off goes back to the queue
            (&mut self.queue, &mut self.queue_bytes)
        };
        let first = queue.front_mut().filter(|first| is_kept || first.begun)?;
        if first.is_login {
            return None;
        }
        first.is_suspect = true;
        first.links_ended += u32::from(was_sound);
        if first.links_ended < limit {
            return None;
        }
        let first = queue.pop_front()?;
        let (number, size) = (first.number, first.message.len());
        *bytes -= size;
        self.lose(first, Undelivered::Poison);
        self.give_back();
        Some((number, size))
    }
}

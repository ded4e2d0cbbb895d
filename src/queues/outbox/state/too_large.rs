//! What becomes of a message that the peer does not take for its size.

use super::State;
use crate::message::Message;
use crate::policy::Undelivered;

/// A message that the peer found too large.
#[derive(Debug)]
pub(crate) struct TooLarge {
    pub(crate) size: usize,
    /// Unless it was written, and not to be sent again anyway.
    pub(crate) message: Option<Message>,
}

impl State {
    /// The peer has found a message on this link too large. Whichever it was, the largest that it
    /// has not confirmed is too large as well: that one is not sent again. Returns its size, and
    /// itself if it is still here.
    pub(in crate::queues::outbox) fn take_too_large(&mut self) -> Option<TooLarge> {
        let begun = self.queue.iter().take_while(|entry| entry.begun).enumerate();
        let begun = begun.max_by_key(|(_, entry)| entry.message.len());
        let begun = begun.map(|(index, entry)| (entry.message.len(), index));
        let kept = self.kept.iter().enumerate().filter(|(_, entry)| !entry.is_login);
        let kept = kept.max_by_key(|(_, entry)| entry.message.len());
        let kept = kept.map(|(index, entry)| (entry.message.len(), index));
        let gone = self.largest.take();
        let size = [begun.map(|b| b.0), kept.map(|k| k.0), gone.map(|g| g.1)];
        let size = size.into_iter().flatten().max()?;
        let entry = match (begun, kept) {
            (Some((of, index)), _) if of == size => {
                self.queue_bytes -= size;
                self.queue.remove(index)
            }
            (_, Some((of, index))) if of == size => {
                self.kept_bytes -= size;
                self.kept.remove(index)
            }
            _ => None,
        };
        let message = match entry {
            Some(entry) => {
                self.dropped += 1;
                self.fail_one(entry.number, Undelivered::TooLarge);
                Some(entry.message)
            }
            None => {
                gone.into_iter().for_each(|(number, _)| {
                    self.settle_receipt(number, Undelivered::TooLarge);
                });
                None
            }
        };
        Some(TooLarge { size, message })
    }
}

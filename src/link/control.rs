//! What goes out ahead of all data.

use std::collections::VecDeque;

use crate::message::{Message, Payload};
use crate::sync::{Mutex, MutexGuard};

/// No more replies to beats of the application wait than this: each of them is counted on, where
/// the latest pong stands for all.
const MAX_REPLIES: usize = 1024;

/// No more pongs wait than this. A peer that sends pings faster than pongs
/// can be written gets answers to the latest ones (RFC 6455 section 5.5.3), and costs no memory.
const MAX_PONGS: usize = 16;

/// Slots that the reader and the heartbeat fill and the writer empties. There is a bounded number of everything, so
/// nobody ever waits to put something in. Whoever fills a slot rings the outbox's doorbell.
///
/// A reader fills a slot before it delivers what came after the ping; whoever writes takes the
/// messages first and then looks here: so an answer never overtakes the pong before it.
#[derive(Debug, Default)]
pub(super) struct ControlSlots(Mutex<Slots>);

#[derive(Debug, Default)]
pub(super) struct Slots {
    pub(super) pongs: VecDeque<Payload>,
    /// Answers to the peer's application-level beats.
    pub(super) replies: VecDeque<Message>,
    pub(super) ping: bool,
    pub(super) beat: Option<Message>,
}

impl ControlSlots {
    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.0.lock()
    }

    pub(super) fn pong(&self, payload: &[u8]) {
        push_bounded(&mut self.slots().pongs, payload.into(), MAX_PONGS);
    }

    pub(super) fn reply(&self, message: Message) {
        push_bounded(&mut self.slots().replies, message, MAX_REPLIES);
    }

    pub(super) fn ping(&self) {
        self.slots().ping = true;
    }

    pub(super) fn beat(&self, message: Message) {
        self.slots().beat = Some(message);
    }

    pub(super) fn take(&self) -> Slots {
        std::mem::take(&mut *self.slots())
    }

    /// Takes what may stand inside a message (RFC 6455 section 5.4): pongs, and whether a ping is wanted.
    /// Replies and beats are messages themselves; they stay where they are, in their order.
    pub(super) fn take_control_frames(&self) -> (VecDeque<Payload>, bool) {
        let mut slots = self.slots();
        (std::mem::take(&mut slots.pongs), std::mem::take(&mut slots.ping))
    }

    pub(super) fn is_empty(&self) -> bool {
        let slots = self.slots();
        slots.pongs.is_empty() && slots.replies.is_empty() && !slots.ping && slots.beat.is_none()
    }
}

fn push_bounded<T>(queue: &mut VecDeque<T>, item: T, most: usize) {
    if queue.len() == most {
        queue.pop_front();
    }
    queue.push_back(item);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_pings_costs_no_memory_and_the_latest_are_answered() {
        let control = ControlSlots::default();
        for number in 0..1000_u32 {
            control.pong(number.to_string().as_bytes());
        }
        let pongs = control.take().pongs;
        assert_eq!(pongs.len(), MAX_PONGS);
        assert_eq!(pongs.back(), Some(&Payload::from(&b"999"[..])));
    }

    #[test]
    fn between_fragments_messages_stay_in_their_order() {
        let control = ControlSlots::default();
        for number in 0..MAX_REPLIES + 1 {
            control.reply(number.to_string().into());
        }
        control.beat("older".into());
        control.ping();
        control.pong(b"now");
        let (pongs, ping) = control.take_control_frames();
        assert_eq!((pongs.len(), ping), (1, true));
        control.reply("newest".into());
        control.beat("newer".into());
        let Slots { replies, beat, pongs, ping } = control.take();
        let replies: Vec<Message> = replies.into();
        assert_eq!(replies.len(), MAX_REPLIES);
        assert_eq!((&replies[0], &replies[MAX_REPLIES - 1]), (&"2".into(), &"newest".into()));
        assert_eq!(beat, Some("newer".into()));
        assert!(pongs.is_empty() && !ping);
    }
}

//! What goes out ahead of all data.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Acquire, Release};

use crate::message::{Message, Payload};
use crate::sync::{AtomicBool, Mutex};

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
pub(super) struct ControlSlots {
    slots: Mutex<Slots>,
    /// Whether there is anything. It is asked for each message, so without the lock.
    is_filled: AtomicBool,
}

#[derive(Debug, Default)]
pub(super) struct Slots {
    pub(super) pongs: VecDeque<Payload>,
    /// Answers to the peer's application-level beats.
    pub(super) replies: VecDeque<Message>,
    pub(super) ping: bool,
    pub(super) beat: Option<Message>,
    /// The peer of a session wants to know what this end has counted.
    pub(super) report: bool,
}

impl ControlSlots {
    fn fill(&self, fill: impl FnOnce(&mut Slots)) {
        let mut slots = self.slots.lock();
        fill(&mut slots);
        self.is_filled.store(true, Release);
    }

    pub(super) fn pong(&self, payload: &[u8]) {
        self.fill(|slots| push_bounded(&mut slots.pongs, payload.into(), MAX_PONGS));
    }

    pub(super) fn reply(&self, message: Message) {
        self.fill(|slots| push_bounded(&mut slots.replies, message, MAX_REPLIES));
    }

    pub(super) fn ping(&self) {
        self.fill(|slots| slots.ping = true);
    }

    pub(super) fn report(&self) {
        self.fill(|slots| slots.report = true);
    }

    pub(super) fn beat(&self, message: Message) {
        self.fill(|slots| slots.beat = Some(message));
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.is_filled.load(Acquire)
    }

    /// Empties the slots.
    pub(super) fn take(&self) -> Slots {
        if self.is_empty() {
            return Slots::default();
        }
        let mut slots = self.slots.lock();
        self.is_filled.store(false, Release);
        std::mem::take(&mut *slots)
    }

    /// Takes what may stand inside a message (RFC 6455 section 5.4): pongs, and whether a ping is wanted.
    /// Replies, beats and reports are messages themselves; they stay where they are, in their order.
    pub(super) fn take_control_frames(&self) -> (VecDeque<Payload>, bool) {
        if self.is_empty() {
            return Default::default();
        }
        let mut slots = self.slots.lock();
        let is_left = slots.beat.is_some() || slots.report || !slots.replies.is_empty();
        self.is_filled.store(is_left, Release);
        (std::mem::take(&mut slots.pongs), std::mem::take(&mut slots.ping))
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
        let Slots { replies, beat, pongs, ping, .. } = control.take();
        let replies: Vec<Message> = replies.into();
        assert_eq!(replies.len(), MAX_REPLIES);
        assert_eq!((&replies[0], &replies[MAX_REPLIES - 1]), (&"2".into(), &"newest".into()));
        assert_eq!(beat, Some("newer".into()));
        assert!(pongs.is_empty() && !ping);
    }
}

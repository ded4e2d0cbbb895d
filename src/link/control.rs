//! What goes out ahead of all data.

use std::collections::VecDeque;

use crate::message::{CloseFrame, Message, Payload};
use crate::sync::{Mutex, MutexGuard};

/// No more replies to beats of the application wait than this: each of them is counted on, where
/// the latest pong stands for all.
const MAX_REPLIES: usize = 1024;

/// No more pongs wait than this. A peer that sends pings faster than pongs
/// can be written gets answers to the latest ones (RFC 6455 section 5.5.3), and costs no memory.
const MAX_PONGS: usize = 16;

/// Slots that the reader, the heartbeat and the owner fill and whoever writes empties. There is a
/// bounded number of everything, so nobody ever waits to put something in. Whoever fills a slot
/// rings the outbox's doorbell.
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
    pub(super) close: Option<Close>,
    /// What answers the peer's close frame, whenever we come to answer it.
    answer: Option<Option<CloseFrame>>,
    /// The transport is to say that no data follows.
    pub(super) goodbye: bool,
    /// The stream is to be ended once all is written.
    pub(super) end: bool,
}

/// A close frame to be sent. It is the last thing that is sent.
#[derive(Debug)]
pub(super) enum Close {
    Now(Option<CloseFrame>),
    AfterData(Option<CloseFrame>),
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

    /// A close frame ahead of all data.
    pub(super) fn close_now(&self, frame: Option<CloseFrame>) {
        self.slots().close = Some(Close::Now(frame));
    }

    /// Does nothing if an immediate close was asked for before.
    pub(super) fn close_after_data(&self, frame: CloseFrame) {
        let mut slots = self.slots();
        slots.close.get_or_insert(Close::AfterData(Some(frame)));
    }

    /// The same with what answers the peer's close frame, if one came.
    pub(super) fn answer_after_data(&self, frame: CloseFrame) {
        let mut slots = self.slots();
        let frame = slots.answer.take().unwrap_or(Some(frame));
        slots.close.get_or_insert(Close::AfterData(frame));
    }

    /// What is to answer the peer's close frame, in time.
    pub(super) fn answer(&self, frame: Option<CloseFrame>) {
        self.slots().answer = Some(frame);
    }

    pub(super) fn goodbye(&self) {
        self.slots().goodbye = true;
    }

    pub(super) fn end(&self) {
        self.slots().end = true;
    }

    /// Empties the slots, but for a close that waits for data and for the end of the stream; the
    /// other close stays too unless it can be waited for.
    pub(super) fn take(&self, may_wait: bool) -> Slots {
        let mut slots = self.slots();
        let close = slots.close.take_if(|close| may_wait && matches!(close, Close::Now(_)));
        Slots {
            pongs: std::mem::take(&mut slots.pongs),
            replies: std::mem::take(&mut slots.replies),
            ping: std::mem::take(&mut slots.ping),
            beat: slots.beat.take(),
            close,
            answer: None,
            goodbye: may_wait && std::mem::take(&mut slots.goodbye),
            end: slots.end,
        }
    }

    /// Takes what may stand inside a message (RFC 6455 section 5.4): pongs, and whether a ping is wanted.
    /// Replies and beats are messages themselves; they stay where they are, in their order.
    pub(super) fn take_control_frames(&self) -> (VecDeque<Payload>, bool) {
        let mut slots = self.slots();
        (std::mem::take(&mut slots.pongs), std::mem::take(&mut slots.ping))
    }

    /// The close that waited for data, once there is none.
    pub(super) fn take_close(&self) -> Option<Close> {
        self.slots().close.take()
    }

    pub(super) fn is_empty(&self) -> bool {
        let slots = self.slots();
        slots.pongs.is_empty()
            && slots.replies.is_empty()
            && !slots.ping
            && slots.beat.is_none()
            && slots.close.is_none()
            && !slots.goodbye
            && !slots.end
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
    use crate::message::CloseCode;

    #[test]
    fn a_flood_of_pings_costs_no_memory_and_the_latest_are_answered() {
        let control = ControlSlots::default();
        for number in 0..1000_u32 {
            control.pong(number.to_string().as_bytes());
        }
        let pongs = control.take(true).pongs;
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
        let Slots { replies, beat, pongs, ping, .. } = control.take(false);
        let replies: Vec<Message> = replies.into();
        assert_eq!(replies.len(), MAX_REPLIES);
        assert_eq!((&replies[0], &replies[MAX_REPLIES - 1]), (&"2".into(), &"newest".into()));
        assert_eq!(beat, Some("newer".into()));
        assert!(pongs.is_empty() && !ping);
    }

    #[test]
    fn an_immediate_close_goes_before_one_that_waits() {
        let control = ControlSlots::default();
        control.close_after_data(CloseFrame::new(CloseCode::NORMAL, ""));
        assert!(control.take(true).close.is_none());
        control.close_now(None);
        control.close_after_data(CloseFrame::new(CloseCode::NORMAL, ""));
        assert!(matches!(control.take(true).close, Some(Close::Now(None))));
        assert!(control.take_close().is_none());
    }

    #[test]
    fn who_has_nothing_to_say_answers_the_peers_close_frame() {
        let theirs = || Some(CloseFrame::new(CloseCode(4000), "bye"));
        let ours = || CloseFrame::new(CloseCode::NORMAL, "");
        let frame = |control: &ControlSlots| match control.take_close() {
            Some(Close::AfterData(frame)) => frame,
            other => panic!("{other:?}"),
        };
        let control = ControlSlots::default();
        control.answer(theirs());
        control.answer_after_data(ours());
        assert_eq!(frame(&control), theirs());
        let control = ControlSlots::default();
        control.answer(theirs());
        control.close_after_data(ours());
        assert_eq!(frame(&control), Some(ours()), "the program has something to say");
    }
}

//! The control lane: what goes out ahead of all data.

use std::collections::VecDeque;

use tungstenite::Bytes;

use crate::message::{CloseFrame, Message};
use crate::sync::{Mutex, MutexGuard};

/// No more pongs and no more replies wait than this. A peer that sends pings faster than pongs can be written gets
/// answers to the latest ones (RFC 6455 section 5.5.3), and costs no memory.
const MAX_PONGS: usize = 16;

/// Slots that the reader, the heartbeat and the owner fill and the writer empties. There is a
/// bounded number of everything, so nobody ever waits to put something in. Whoever fills a slot
/// rings the outbox's doorbell.
#[derive(Debug)]
pub(super) struct Lane(Mutex<Slots>);

#[derive(Debug, Default)]
pub(super) struct Slots {
    pub(super) pongs: VecDeque<Bytes>,
    /// Answers to the peer's application-level beats.
    pub(super) replies: VecDeque<Message>,
    pub(super) ping: bool,
    pub(super) beat: Option<Message>,
    pub(super) close: Option<Close>,
}

/// A close frame to be sent. It is the last thing that is sent.
#[derive(Debug)]
pub(super) enum Close {
    Now(Option<CloseFrame>),
    AfterData(CloseFrame),
}

impl Lane {
    pub(super) fn new() -> Self {
        Self(Mutex::default())
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.0.lock()
    }

    pub(super) fn pong(&self, payload: Bytes) {
        push_bounded(&mut self.slots().pongs, payload);
    }

    pub(super) fn reply(&self, message: Message) {
        push_bounded(&mut self.slots().replies, message);
    }

    pub(super) fn ping(&self) {
        self.slots().ping = true;
    }

    pub(super) fn beat(&self, message: Message) {
        self.slots().beat = Some(message);
    }

    pub(super) fn close_now(&self, frame: Option<CloseFrame>) {
        self.slots().close = Some(Close::Now(frame));
    }

    /// Does nothing if an immediate close was asked for before.
    pub(super) fn close_after_data(&self, frame: CloseFrame) {
        self.slots().close.get_or_insert(Close::AfterData(frame));
    }

    /// Empties the slots, but for a close that has to wait for data.
    pub(super) fn take(&self) -> Slots {
        let mut slots = self.slots();
        let waits = matches!(slots.close, Some(Close::AfterData(_)));
        let waiting = if waits { slots.close.take() } else { None };
        let taken = std::mem::take(&mut *slots);
        slots.close = waiting;
        taken
    }

    /// The close that waited for data, once there is none.
    pub(super) fn take_close(&self) -> Option<Close> {
        self.slots().close.take()
    }
}

fn push_bounded<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() == MAX_PONGS {
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
        let lane = Lane::new();
        for number in 0..1000_u32 {
            lane.pong(number.to_string().into());
        }
        let pongs = lane.take().pongs;
        assert_eq!(pongs.len(), MAX_PONGS);
        assert_eq!(pongs.back(), Some(&"999".to_string().into()));
    }

    #[test]
    fn an_immediate_close_goes_before_one_that_waits() {
        let lane = Lane::new();
        lane.close_after_data(CloseFrame::new(CloseCode::NORMAL, ""));
        assert!(lane.take().close.is_none());
        lane.close_now(None);
        lane.close_after_data(CloseFrame::new(CloseCode::NORMAL, ""));
        assert!(matches!(lane.take().close, Some(Close::Now(None))));
        assert!(lane.take_close().is_none());
    }
}

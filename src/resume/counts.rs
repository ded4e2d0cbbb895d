//! What one end of a session has counted, over all its links.

use std::sync::atomic::Ordering::{Acquire, Release};

use crate::sync::{AtomicBool, AtomicU64};

/// Each number is written by one thread at a time: `sent` by whoever holds the frame writer, `received` and
/// `confirmed` by the reader, and by the owner of the session while there is no link. All begin
/// with 0, and only [`Counts::resume`] ever takes one back.
///
/// `confirmed <= the peer's received <= sent`
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Messages that this end has begun to encode, whoever made them.
    sent: AtomicU64,
    /// Messages that this end has decoded.
    received: AtomicU64,
    /// How many messages the peer has received, as far as it has said.
    confirmed: AtomicU64,
    /// Whether it has ever said so.
    is_reported: AtomicBool,
    /// The session will not be resumed, whatever the peer thinks.
    is_given_up: AtomicBool,
}

impl Counts {
    /// A message begins to be encoded; returns its position in the session, counted from 1.
    pub(crate) fn send(&self) -> u64 {
        let position = self.sent() + 1;
        self.sent.store(position, Release);
        position
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Acquire)
    }

    /// A message was decoded.
    #[inline]
    pub(crate) fn receive(&self) {
        self.received.store(self.received() + 1, Release);
    }

    #[inline]
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Acquire)
    }

    pub(crate) fn confirmed(&self) -> u64 {
        self.confirmed.load(Acquire)
    }

    /// The peer says how many messages it has received; returns whether that can be.
    pub(crate) fn report(&self, received: u64) -> bool {
        if received > self.sent() {
            return false;
        }
        if received > self.confirmed() {
            self.confirmed.store(received, Release);
        }
        self.is_reported.store(true, Release);
        true
    }

    /// Whether a report has come, on any link: then the peer knows that there is a session.
    pub(crate) fn is_reported(&self) -> bool {
        self.is_reported.load(Acquire)
    }

    /// Whether the peer can have received so many messages.
    pub(crate) fn is_possible(&self, received: u64) -> bool {
        (self.confirmed()..=self.sent()).contains(&received)
    }

    /// The session goes on, and the peer has received so many messages: the next gets the number
    /// behind that.
    pub(crate) fn resume(&self, received: u64) {
        self.sent.store(received, Release);
        self.confirmed.store(received, Release);
    }

    pub(crate) fn give_up(&self) {
        self.is_given_up.store(true, Release);
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.is_given_up.load(Acquire)
    }
}

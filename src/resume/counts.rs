//! What one end of a session has counted, over all its links.

use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Acquire, Release};

use super::number::MAX_NUMBER;
use crate::message::CloseFrame;
use crate::policy::{Heartbeat, RateMeter};
use crate::sync::{AtomicBool, AtomicU64, Mutex};

/// This end has said that the session is over, and counts nothing any more.
const ENDED: u64 = 1 << 63;

/// Each number is written by one thread at a time: `sent` and `at` by whoever holds the frame writer,
/// `received` and `confirmed` by the reader, all of them by the owner of the session while there is no
/// link. None is ever taken back but `at`, with which each link begins anew.
///
/// `confirmed <= the peer's received <= at <= sent`
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// The number of the latest offer of this client's, or of the last that this server has accepted.
    attempt: AtomicU64,
    /// The last number that was given to a message. It is given when the message is first encoded, and for good.
    sent: AtomicU64,
    /// Everything up to this number is encoded on the present link, or need not be.
    at: AtomicU64,
    /// What this end has counted, and whether it still counts.
    received: AtomicU64,
    /// The peer has counted everything up to this number, as far as it has said.
    confirmed: AtomicU64,
    /// The peer was asked on this link, and has not answered.
    is_asked: AtomicBool,
    /// With what the peer has said that the session is over.
    peers_end: OnceLock<CloseFrame>,
    /// The session will not go on, whatever the peer thinks.
    is_given_up: AtomicBool,
    /// How its links beat, if the program has learnt that in it.
    heartbeat: Mutex<Option<Heartbeat>>,
    /// Between two links: how fast its client has been.
    meter: Mutex<Option<RateMeter>>,
}

/// What a peer cannot say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Impossible;

impl Counts {
    /// Of a session whose first offers were numbered up to this.
    pub(crate) fn accepted(attempt: u64) -> Self {
        Self { attempt: AtomicU64::new(attempt), ..Self::default() }
    }

    /// Its links beat so from here on.
    pub(crate) fn beats_so(&self, heartbeat: Heartbeat) {
        *self.heartbeat.lock() = Some(heartbeat);
    }

    /// A link ends, up to which its client has been so fast.
    pub(crate) fn keep_meter(&self, meter: RateMeter) {
        *self.meter.lock() = Some(meter);
    }

    /// The next begins.
    pub(crate) fn take_meter(&self) -> Option<RateMeter> {
        self.meter.lock().take()
    }

    pub(crate) fn heartbeat(&self) -> Option<Heartbeat> {
        self.heartbeat.lock().clone()
    }

    /// The number of the next message, which is about to be encoded for the first time.
    pub(crate) fn number(&self) -> u64 {
        let number = self.sent() + 1;
        self.sent.store(number, Release);
        number
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Acquire)
    }

    /// The next that is encoded on this link is the message of this number. Returns how many numbers before it
    /// are empty: what had them will never come.
    pub(crate) fn reach(&self, number: u64) -> u64 {
        let before = self.at.load(Acquire);
        self.at.store(number.max(before), Release);
        number.saturating_sub(before + 1)
    }

    /// Everything up to this number is encoded on this link, or need not be.
    pub(crate) fn at(&self) -> u64 {
        self.at.load(Acquire)
    }

    /// A message was decoded; returns whether it counts, and so is the program's.
    ///
    /// # Errors
    ///
    /// There are no more numbers.
    #[inline]
    pub(crate) fn receive(&self) -> Result<bool, Impossible> {
        self.skip(1)
    }

    /// The same of so many numbers that are empty.
    ///
    /// # Errors
    ///
    /// There are not so many.
    #[inline]
    pub(crate) fn skip(&self, numbers: u64) -> Result<bool, Impossible> {
        let before = self.received.load(Acquire);
        if before & ENDED != 0 {
            return Ok(false);
        }
        let after = before.saturating_add(numbers);
        if after > MAX_NUMBER {
            return Err(Impossible);
        }
        // nobody else counts, so this fails only if the end has come
        Ok(self.received.compare_exchange(before, after, Release, Acquire).is_ok())
    }

    #[inline]
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Acquire) & !ENDED
    }

    /// This end is about to say that the session is over: it counts nothing from here on, on no link. Returns
    /// what it has counted.
    pub(crate) fn end(&self) -> u64 {
        self.received.fetch_or(ENDED, Release) & !ENDED
    }

    /// Whether it has said so.
    pub(crate) fn is_ended(&self) -> bool {
        self.received.load(Acquire) & ENDED != 0
    }

    pub(crate) fn confirmed(&self) -> u64 {
        self.confirmed.load(Acquire)
    }

    /// The peer says what it has counted.
    ///
    /// # Errors
    ///
    /// It is more than was encoded for it.
    pub(crate) fn report(&self, received: u64) -> Result<(), Impossible> {
        if received > self.at() {
            return Err(Impossible);
        }
        if received > self.confirmed() {
            self.confirmed.store(received, Release);
        }
        self.is_asked.store(false, Release);
        Ok(())
    }

    /// The peer is about to be asked for a report.
    pub(crate) fn ask(&self) {
        self.is_asked.store(true, Release);
    }

    /// Whether it was asked on this link, and has not answered.
    pub(crate) fn is_asked(&self) -> bool {
        self.is_asked.load(Acquire)
    }

    /// Whether the peer can have counted so much, and have so much.
    pub(crate) fn is_possible(&self, received: u64, has: u64) -> bool {
        self.confirmed() <= received && received <= has && has <= self.sent()
    }

    /// The number of the next offer.
    pub(crate) fn offer(&self) -> u64 {
        let attempt = self.attempt() + 1;
        self.attempt.store(attempt, Release);
        attempt
    }

    pub(crate) fn attempt(&self) -> u64 {
        self.attempt.load(Acquire)
    }

    /// Whether an offer is one that this session's client can make now. One that is late is none.
    pub(crate) fn admits(&self, attempt: u64, received: u64, has: u64) -> bool {
        attempt > self.attempt() && self.is_possible(received, has)
    }

    /// The offer of this number is accepted: none before it is from here on.
    pub(crate) fn accept(&self, attempt: u64) {
        self.attempt.store(attempt, Release);
    }

    /// A link begins whose peer has counted so much, and has so much. Returns how much of that it had not
    /// said before.
    pub(crate) fn resume(&self, received: u64, has: u64) -> u64 {
        let confirmed = received.saturating_sub(self.confirmed());
        self.confirmed.store(received, Release);
        self.at.store(has, Release);
        self.is_asked.store(false, Release);
        confirmed
    }

    /// The peer has said that the session is over. The first time counts.
    pub(crate) fn peer_ended(&self, with: &CloseFrame) {
        self.peers_end.get_or_init(|| with.clone());
    }

    /// With what it has, if it has.
    pub(crate) fn peers_end(&self) -> Option<&CloseFrame> {
        self.peers_end.get()
    }

    /// Whether it has.
    pub(crate) fn is_over(&self) -> bool {
        self.peers_end().is_some()
    }

    pub(crate) fn give_up(&self) {
        self.is_given_up.store(true, Release);
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.is_given_up.load(Acquire)
    }
}

#[cfg(test)]
impl Counts {
    /// Numbers are used again: an error.
    pub(crate) fn set_back(&self, sent: u64) {
        self.sent.store(sent, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_good_and_holes_are_told() {
        let counts = Counts::default();
        for number in 1..=5 {
            assert_eq!(counts.number(), number);
            assert_eq!(counts.reach(number), 0);
        }
        assert_eq!(counts.report(2), Ok(()));
        // 3 was lost with its link, and will not come
        counts.resume(2, 2);
        assert_eq!(counts.report(3), Err(Impossible), "it was not written on this link");
        assert_eq!(counts.reach(4), 1);
        assert_eq!(counts.reach(5), 0);
        assert_eq!((counts.number(), counts.reach(6)), (6, 0));
        assert_eq!(counts.report(6), Ok(()));
        assert_eq!(counts.report(1), Ok(()), "one that was overtaken");
        assert_eq!(counts.confirmed(), 6);
    }

    #[test]
    fn after_its_own_end_it_counts_nothing() {
        let counts = Counts::default();
        assert_eq!(counts.receive(), Ok(true));
        assert_eq!(counts.end(), 1);
        assert_eq!((counts.receive(), counts.skip(3)), (Ok(false), Ok(false)));
        assert_eq!((counts.received(), counts.end()), (1, 1));
    }

    #[test]
    fn there_are_no_more_numbers_than_a_script_can_count() {
        let counts = Counts::default();
        assert_eq!(counts.skip(MAX_NUMBER - 1), Ok(true));
        assert_eq!(counts.skip(2), Err(Impossible));
        assert_eq!(counts.receive(), Ok(true));
        assert_eq!(counts.receive(), Err(Impossible));
        assert_eq!(counts.skip(u64::MAX), Err(Impossible));
    }

    #[test]
    fn a_late_offer_is_none() {
        let counts = Counts::accepted(0);
        for number in 1..=9 {
            counts.number();
            counts.reach(number);
        }
        assert!(counts.admits(1, 0, 0) && counts.admits(7, 3, 9));
        assert!(!counts.admits(0, 0, 0), "the first is 1");
        assert!(!counts.admits(1, 4, 3) && !counts.admits(1, 0, 10));
        counts.accept(3);
        assert!(!counts.admits(3, 0, 0) && counts.admits(4, 0, 0));
        assert_eq!(counts.report(5), Ok(()));
        assert!(!counts.admits(4, 4, 9) && counts.admits(4, 5, 5));
    }
}

//! What was counted.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A snapshot of a client's counters, from [`Client::stats`](crate::Client::stats).
///
/// Counts run over the whole life of the client, all links together, unless said otherwise.
/// They are read one by one while threads go on counting, so two of them may differ by what
/// happened in between.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Messages handed to the socket.
    pub messages_sent: u64,
    /// Bytes of payload handed to the socket.
    pub bytes_sent: u64,
    /// Messages received, answers to application-level beats not included.
    pub messages_received: u64,
    /// Bytes of payload received.
    pub bytes_received: u64,
    /// Messages in the outbox now, those being written included.
    pub outbox_messages: usize,
    /// Bytes of payload in the outbox now.
    pub outbox_bytes: usize,
    /// Received messages that wait for the program now.
    pub inbox_messages: usize,
    /// Messages to be sent that the outbox's overflow policy dropped.
    pub outbox_dropped: u64,
    /// Messages whose time to live was over before they could be written.
    pub expired: u64,
    /// Messages that a link which died had taken, and that were written again.
    pub resent: u64,
    /// Messages that the peer has confirmed, duplicates included.
    pub confirmed: u64,
    /// Received messages that were dropped: by the inbox's overflow policy, or because the
    /// client was closed while its inbox was full.
    pub inbox_dropped: u64,
    /// Links made, the first one included.
    pub connects: u64,
    /// Links made after the first one.
    pub reconnects: u64,
    /// Attempts that did not lead to a link.
    pub failed_attempts: u64,
    /// Pings (or application-level beats) sent.
    pub pings_sent: u64,
    /// Pings of the present link, or of the last one, that have no answer yet.
    pub unanswered_pings: u64,
    /// Messages of the present link, or of the last one, that were written after the last ping
    /// that was answered: the peer may or may not have them.
    pub unconfirmed: u64,
    /// From the last answered ping to its pong.
    pub last_round_trip: Option<Duration>,
    /// The mean over all answered pings.
    pub mean_round_trip: Option<Duration>,
    /// How long the present link has been up; `None` without one.
    pub uptime: Option<Duration>,
    /// How long there was no link, from the first attempt on.
    pub total_downtime: Duration,
}

/// The counters that the link's threads and the manager write; every one is written by one
/// thread at a time and read by anybody.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) messages_sent: AtomicU64,
    pub(crate) bytes_sent: AtomicU64,
    pub(crate) messages_received: AtomicU64,
    pub(crate) bytes_received: AtomicU64,
    pub(crate) connects: AtomicU64,
    pub(crate) failed_attempts: AtomicU64,
    pub(crate) pings_sent: AtomicU64,
    pub(crate) unanswered_pings: AtomicU64,
    pub(crate) unconfirmed: AtomicU64,
    pub(crate) confirmed: AtomicU64,
    pongs: AtomicU64,
    round_trip_micros: AtomicU64,
    last_round_trip_micros: AtomicU64,
}

/// Adds to a counter that nobody else writes at the moment: twice for each message, a locked
/// instruction would be a fifth of what receiving a small one costs.
fn advance(counter: &AtomicU64, by: usize) {
    counter.store(counter.load(Relaxed) + by as u64, Relaxed);
}

impl Counters {
    pub(crate) fn sent(&self, messages: usize, bytes: usize) {
        advance(&self.messages_sent, messages);
        advance(&self.bytes_sent, bytes);
    }

    pub(crate) fn received(&self, bytes: usize) {
        advance(&self.messages_received, 1);
        advance(&self.bytes_received, bytes);
    }

    pub(crate) fn round_trip(&self, time: Duration) {
        let micros = time.as_micros() as u64;
        self.last_round_trip_micros.store(micros, Relaxed);
        self.round_trip_micros.fetch_add(micros, Relaxed);
        self.pongs.fetch_add(1, Relaxed);
    }

    /// Everything that is counted here; the rest is the caller's.
    pub(crate) fn snapshot(&self) -> Stats {
        let connects = self.connects.load(Relaxed);
        let pongs = self.pongs.load(Relaxed);
        let micros = |counter: &AtomicU64| Duration::from_micros(counter.load(Relaxed));
        Stats {
            messages_sent: self.messages_sent.load(Relaxed),
            bytes_sent: self.bytes_sent.load(Relaxed),
            messages_received: self.messages_received.load(Relaxed),
            bytes_received: self.bytes_received.load(Relaxed),
            connects,
            reconnects: connects.saturating_sub(1),
            failed_attempts: self.failed_attempts.load(Relaxed),
            pings_sent: self.pings_sent.load(Relaxed),
            unanswered_pings: self.unanswered_pings.load(Relaxed),
            unconfirmed: self.unconfirmed.load(Relaxed),
            confirmed: self.confirmed.load(Relaxed),
            last_round_trip: (pongs > 0).then(|| micros(&self.last_round_trip_micros)),
            mean_round_trip: micros(&self.round_trip_micros)
                .checked_div(u32::try_from(pongs).unwrap_or(u32::MAX)),
            ..Stats::default()
        }
    }
}

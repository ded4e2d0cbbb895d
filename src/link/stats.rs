//! What was counted.

mod fields;
mod rates;
mod round_trips;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

pub(crate) use fields::by_kind;
#[cfg(test)]
pub(crate) use fields::fields_of;
pub use fields::{Field, FieldValue};
pub use rates::Rates;
pub use round_trips::RoundTrips;

use crate::failure::{FailureCounts, FailureTally};
use crate::queues::inbox::Mailbox;
use crate::queues::outbox::Outbox;
use crate::sync::Mutex;
use round_trips::Window;

/// A snapshot of a client's counters, from [`Client::stats`](crate::Client::stats).
///
/// Counts run over the whole life of the client, all links together, unless said otherwise, and
/// never go back. They are read one by one while threads go on counting, so two of them may differ
/// by what happened in between.
///
/// These are read at one moment, and at every moment each message that was accepted is in one of
/// the others:
///
/// `accepted = passed_on + outbox_messages + outbox_dropped + expired + handed_back`
///
/// With [`Delivery::AtMostOnce`](crate::Delivery::AtMostOnce) `passed_on` is `messages_sent`.
///
/// With the feature `serde` it is an object with these names; times are in seconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default))]
#[non_exhaustive]
pub struct Stats {
    /// Messages that were accepted to be sent, those that the login hook sends included.
    pub accepted: u64,
    /// Messages that the outbox is done with: handed to the socket whole, and with
    /// [`Delivery::AtLeastOnce`](crate::Delivery::AtLeastOnce) confirmed by the peer.
    pub passed_on: u64,
    /// Messages that were left when the client was closed:
    /// [`CloseReport::undelivered`](crate::CloseReport::undelivered). For a session those that it
    /// could not send any more.
    pub handed_back: u64,
    /// Messages handed to the socket, each time that they were.
    pub messages_sent: u64,
    /// Bytes of payload handed to the socket.
    pub bytes_sent: u64,
    /// Messages received, those that the login hook receives included, answers to
    /// application-level beats not.
    pub messages_received: u64,
    /// Bytes of payload received.
    pub bytes_received: u64,
    /// Messages in the outbox now, those being written included.
    pub outbox_messages: usize,
    /// Bytes of payload in the outbox now.
    pub outbox_bytes: usize,
    /// Received messages that wait for the program now.
    pub inbox_messages: usize,
    /// Messages to be sent that were dropped: by the outbox's overflow policy, because their link
    /// ended, because the peer has found them too large, or because their time to live was over
    /// after a link that died had written them.
    pub outbox_dropped: u64,
    /// Messages whose time to live was over before they were written.
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
    /// The same attempts by why they failed.
    pub failures: FailureCounts,
    /// Links that have ended, by why: what reconnects are owed to. A `silent` one is a peer that the
    /// heartbeat has given up.
    pub disconnects: FailureCounts,
    /// Pings (or application-level beats) sent.
    pub pings_sent: u64,
    /// Pings of the present link, or of the last one, that have no answer yet.
    pub unanswered_pings: u64,
    /// Pings (or application-level beats) that had no answer when the next one was due or when the link
    /// died of silence, while nothing else had come either: what happens before a peer is given up, or to one
    /// that is slow. With a limit of less than two [intervals](crate::Heartbeat::every), as by default,
    /// it is the last sign of one that is given up.
    pub heartbeat_misses: u64,
    /// Messages of the present link, or of the last one, that were written after the last ping
    /// that was answered: the peer may or may not have them.
    pub unconfirmed: u64,
    /// From the last answered ping to its pong.
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds::optional"))]
    pub last_round_trip: Option<Duration>,
    /// The mean over all answered pings.
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds::optional"))]
    pub mean_round_trip: Option<Duration>,
    /// Round trips of the last minutes; `None` if there were none. A link on which something comes
    /// all the time carries no pings: while somebody takes snapshots it does, one for each
    /// [interval](crate::Heartbeat::every) at most.
    pub round_trips: Option<RoundTrips>,
    /// Broadcasts that a session has missed, for it was too slow or they were too large. A client
    /// has none.
    pub broadcasts_missed: u64,
    /// How often a session went on over a new connection
    /// ([`ClientBuilder::resume`](crate::ClientBuilder::resume)).
    pub resumed: u64,
    /// How often a session was over, and another one or none took its place. A server's sessions
    /// have none of these.
    pub replaced: u64,
    /// For how many messages of those sessions nobody knows whether the peer has them.
    pub in_doubt: u64,
    /// How long the present link has been up; `None` without one. For a session that has ended,
    /// how long it was.
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds::optional"))]
    pub uptime: Option<Duration>,
    /// How long there was no link, from the first attempt on and until the client was closed.
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds"))]
    pub total_downtime: Duration,
    /// How long ago the client was started, or the session opened: what
    /// [`rates_since`](Stats::rates_since) divides by.
    #[cfg_attr(feature = "serde", serde(with = "crate::seconds"))]
    pub age: Duration,
}

/// The counters that the link's threads and the manager write; every one is written by one
/// thread at a time and read by anybody.
#[derive(Debug)]
pub(crate) struct Counters {
    born: Instant,
    pub(crate) messages_sent: AtomicU64,
    pub(crate) bytes_sent: AtomicU64,
    pub(crate) messages_received: AtomicU64,
    pub(crate) bytes_received: AtomicU64,
    pub(crate) connects: AtomicU64,
    /// Attempts that failed.
    pub(crate) failures: FailureTally,
    /// Links that died.
    pub(crate) disconnects: FailureTally,
    pub(crate) pings_sent: AtomicU64,
    pub(crate) unanswered_pings: AtomicU64,
    pub(crate) unconfirmed: AtomicU64,
    pub(crate) confirmed: AtomicU64,
    /// What was sent past the outbox.
    pub(crate) sent_at_login: AtomicU64,
    pub(crate) broadcasts_missed: AtomicU64,
    pub(crate) resumed: AtomicU64,
    pub(crate) replaced: AtomicU64,
    pub(crate) in_doubt: AtomicU64,
    pub(crate) heartbeat_misses: AtomicU64,
    /// A server's totals have these. Written and read under their lock.
    pub(crate) is_in_totals: AtomicBool,
    /// Somebody has looked at these since the last beat.
    was_looked_at: AtomicBool,
    pongs: AtomicU64,
    round_trip_micros: AtomicU64,
    last_round_trip_micros: AtomicU64,
    round_trips: Mutex<Window>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            born: Instant::now(),
            messages_sent: AtomicU64::default(),
            bytes_sent: AtomicU64::default(),
            messages_received: AtomicU64::default(),
            bytes_received: AtomicU64::default(),
            connects: AtomicU64::default(),
            failures: FailureTally::default(),
            disconnects: FailureTally::default(),
            pings_sent: AtomicU64::default(),
            unanswered_pings: AtomicU64::default(),
            unconfirmed: AtomicU64::default(),
            confirmed: AtomicU64::default(),
            sent_at_login: AtomicU64::default(),
            broadcasts_missed: AtomicU64::default(),
            heartbeat_misses: AtomicU64::default(),
            is_in_totals: AtomicBool::default(),
            resumed: AtomicU64::default(),
            replaced: AtomicU64::default(),
            in_doubt: AtomicU64::default(),
            was_looked_at: AtomicBool::default(),
            pongs: AtomicU64::default(),
            round_trip_micros: AtomicU64::default(),
            last_round_trip_micros: AtomicU64::default(),
            round_trips: Mutex::default(),
        }
    }
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

    /// A message that the login hook has sent is no business of the outbox.
    pub(crate) fn is_sent_at_login(&self) {
        advance(&self.sent_at_login, 1);
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
        self.round_trips.lock().record(time, Instant::now());
    }

    /// Somebody looks at these: the next beat is worth a ping, busy or not.
    pub(crate) fn look_at(&self) {
        self.was_looked_at.store(true, Relaxed);
    }

    /// Whether somebody has looked at these since this was asked last: then a busy link is worth a
    /// ping.
    pub(super) fn take_looked_at(&self) -> bool {
        self.was_looked_at.load(Relaxed) && self.was_looked_at.swap(false, Relaxed)
    }

    /// Everything that is counted here and in the queues; the rest is the caller's.
    pub(crate) fn stats(&self, outbox: &Outbox, mailbox: &Mailbox) -> Stats {
        let (tally, at_login) = (outbox.tally(), self.sent_at_login.load(Relaxed));
        Stats {
            accepted: tally.accepted + at_login,
            passed_on: tally.passed_on + at_login,
            handed_back: tally.handed_back,
            outbox_messages: tally.waiting,
            outbox_bytes: tally.waiting_bytes,
            outbox_dropped: tally.dropped,
            expired: tally.expired,
            resent: tally.resent,
            inbox_messages: mailbox.len(),
            inbox_dropped: mailbox.dropped(),
            ..self.snapshot()
        }
    }

    /// What is counted here.
    pub(super) fn snapshot(&self) -> Stats {
        let connects = self.connects.load(Relaxed);
        let pongs = self.pongs.load(Relaxed);
        let micros = |counter: &AtomicU64| Duration::from_micros(counter.load(Relaxed));
        let failures = self.failures.counts();
        let now = Instant::now();
        Stats {
            resumed: self.resumed.load(Relaxed),
            replaced: self.replaced.load(Relaxed),
            in_doubt: self.in_doubt.load(Relaxed),
            broadcasts_missed: self.broadcasts_missed.load(Relaxed),
            messages_sent: self.messages_sent.load(Relaxed),
            bytes_sent: self.bytes_sent.load(Relaxed),
            messages_received: self.messages_received.load(Relaxed),
            bytes_received: self.bytes_received.load(Relaxed),
            connects,
            reconnects: connects.saturating_sub(1),
            failed_attempts: failures.total(),
            failures,
            disconnects: self.disconnects.counts(),
            heartbeat_misses: self.heartbeat_misses.load(Relaxed),
            round_trips: self.round_trips.lock().summary(now),
            age: now.saturating_duration_since(self.born),
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

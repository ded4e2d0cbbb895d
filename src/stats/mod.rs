//! What was counted, of a client, a session or a server: snapshots, and their values by name.

// Each field of a snapshot is a row of a table, `table::counted`: what it is read from, its name, and
// how it is published are made from that.

mod field;
mod rates;
mod round_trips;
mod server;
mod table;
mod unconfirmed;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

pub use field::{Field, FieldValue};
pub use round_trips::RoundTrips;
pub(crate) use server::ServerCounters;
pub use server::ServerStats;
#[cfg(feature = "metrics")]
pub(crate) use table::Metric;

use crate::failure::{FailureCounts, FailureTally};
use crate::queues::terms::Tally;
use crate::sync::Mutex;
use round_trips::Window;
use table::{Source, counted};
use unconfirmed::UnconfirmedCount;

counted! {
    /// The counters that the link's threads and the manager write; every one is written by one
    /// thread at a time and read by anybody.
    pub(crate) struct Counters + Tally {
        /// What was sent past the outbox.
        pub(crate) sent_at_login: AtomicU64,
        /// A server's totals have these. Written and read under their lock.
        pub(crate) is_in_totals: AtomicBool,
        /// Somebody has looked at these since the last beat.
        was_looked_at: AtomicBool,
        round_trips: Mutex<Window>,
    }

    /// What has travelled in each second between two snapshots, from [`ClientStats::rates_since`] or
    /// [`SessionStats::rates_since`].
    pub struct Rates from {
        /// Messages handed to the socket, each time that they were.
        messages_sent: total(u64) = AtomicU64, "everlink_messages_sent_total" "Messages sent";
        /// Bytes of payload handed to the socket.
        bytes_sent: total(u64) = AtomicU64, "everlink_sent_bytes_total" "Payload sent";
        /// Messages received, those that the login hook receives included, answers to
        /// application-level beats not.
        messages_received: total(u64) = AtomicU64,
            "everlink_messages_received_total" "Messages received";
        /// Bytes of payload received.
        bytes_received: total(u64) = AtomicU64, "everlink_received_bytes_total" "Payload received";
    }

    each {
        /// Messages that were accepted to be sent, those that the login hook sends included.
        accepted: total(u64) + accepted,
            "everlink_messages_accepted_total" "Messages accepted to be sent";
        /// Messages that the outbox is done with: handed to the socket whole, and with
        /// [`Delivery::AtLeastOnce`](crate::config::Delivery::AtLeastOnce) confirmed by the peer.
        passed_on: total(u64) + passed_on,
            "everlink_messages_passed_on_total" "Messages that are done with";
        /// Messages that were left when the client was closed:
        /// [`CloseReport::undelivered`](crate::CloseReport::undelivered). For a session those that it
        /// could not send any more.
        handed_back: total(u64) + handed_back,
            "everlink_messages_handed_back_total" "Messages left at closing";
        /// Messages in the outbox now, those being written included.
        outbox_messages: now(usize) + waiting,
            "everlink_outbox_messages" "Messages waiting to be sent";
        /// Bytes of payload in the outbox now.
        outbox_bytes: now(usize) + waiting_bytes,
            "everlink_outbox_bytes" "Payload waiting to be sent";
        /// Received messages that wait for the program now.
        inbox_messages: now(usize), "everlink_inbox_messages" "Messages waiting to be received";
        /// Messages to be sent that were dropped: by the outbox's overflow policy, because their link
        /// ended, because the peer has found them too large, or because their time to live was over
        /// after a link that died had written them.
        outbox_dropped: total(u64) + dropped,
            "everlink_outbox_dropped_total" "Messages dropped unsent";
        /// Messages whose time to live was over before they were written.
        expired: total(u64) + expired,
            "everlink_messages_expired_total" "Messages whose time was over";
        /// Messages that a link which died had taken, and that were written again.
        resent: total(u64) + resent, "everlink_messages_resent_total" "Messages sent again";
        /// Messages that the peer has confirmed, duplicates included.
        confirmed: total(u64) = AtomicU64, "everlink_messages_confirmed_total" "Messages confirmed";
        /// Received messages that were dropped: by the inbox's overflow policy, or because the
        /// client was closed while its inbox was full.
        inbox_dropped: total(u64), "everlink_inbox_dropped_total" "Messages dropped unread";
        /// Links made, the first one included.
        connects: total(u64) = AtomicU64, "everlink_connects_total" "Links made";
        /// Pings (or application-level beats) sent.
        pings_sent: total(u64) = AtomicU64, "everlink_pings_sent_total" "Pings or beats sent";
        /// Pings of the present link, or of the last one, that have no answer yet.
        unanswered_pings: now(u64) = AtomicU64,
            "everlink_unanswered_pings" "Pings without an answer";
        /// Pings (or application-level beats) that had no answer when the next one was due or when the link
        /// died of silence, while nothing else had come either: what happens before a peer is given up, or to one
        /// that is slow. With a limit of less than two [intervals](crate::config::Heartbeat::every), as by default,
        /// it is the last sign of one that is given up.
        heartbeat_misses: total(u64) = AtomicU64,
            "everlink_heartbeat_misses_total" "Beats not answered";
        /// Messages of the present link, or of the last one, that were written after the last ping
        /// that was answered: the peer may or may not have them.
        unconfirmed: now(u64) = UnconfirmedCount, "everlink_unconfirmed_messages" "Messages not confirmed";
        /// From the last answered ping to its pong.
        #[cfg_attr(feature = "serde", serde(with = "crate::seconds::optional"))]
        last_round_trip: time(Option<Duration>),
            "everlink_last_round_trip_seconds" "The last round trip";
        /// The mean over all answered pings.
        #[cfg_attr(feature = "serde", serde(with = "crate::seconds::optional"))]
        mean_round_trip: time(Option<Duration>),
            "everlink_mean_round_trip_seconds" "The mean round trip";
        /// How often a session went on over a new connection
        /// ([`ClientBuilder::resume`](crate::ClientBuilder::resume)).
        resumed: total(u64) = AtomicU64, "everlink_sessions_resumed_total" "Sessions that went on";
        /// How long the present link has been up; `None` without one. For a session that has ended,
        /// how long it was.
        #[cfg_attr(feature = "serde", serde(with = "crate::seconds::optional"))]
        uptime: time(Option<Duration>), "everlink_uptime_seconds" "Age of the link";
        /// How long ago the client was started, or the session opened: what `rates_since` divides by.
        #[cfg_attr(feature = "serde", serde(with = "crate::seconds"))]
        age: total_time(Duration) = Born, "everlink_age_seconds" "Age of the client";
        /// Round trips of the last minutes; `None` if there were none. A link on which something comes
        /// all the time carries no pings: while somebody takes snapshots it does, one for each
        /// [interval](crate::config::Heartbeat::every) at most.
        round_trips: quantiles(Option<RoundTrips>),
            "everlink_round_trip_seconds" "Round trips by quantile";
        /// Links that have ended, by why: what reconnects are owed to. A `silent` one is a peer that the
        /// heartbeat has given up.
        disconnects: by_kind(FailureCounts) = FailureTally,
            "everlink_disconnects_total" "Links that ended";
    }

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
    /// With [`Delivery::AtMostOnce`](crate::config::Delivery::AtMostOnce) `passed_on` is `messages_sent`.
    ///
    /// With the feature `serde` it is an object with these names; times are in seconds.
    pub struct ClientStats {
        /// Links made after the first one.
        reconnects: total(u64), "everlink_reconnects_total" "Links made after the first";
        /// Attempts that did not lead to a link.
        failed_attempts: total(u64);
        /// Attempts that did not lead to a link, by why they failed.
        failures: by_kind(FailureCounts) = FailureTally,
            "everlink_failed_attempts_total" "Attempts that failed";
        /// How often a session was over, and another one or none took its place.
        replaced: total(u64) = AtomicU64,
            "everlink_sessions_replaced_total" "Sessions that were over";
        /// For how many messages of those sessions nobody knows whether the peer has them.
        in_doubt: total(u64) = AtomicU64,
            "everlink_messages_in_doubt_total" "Messages of those in doubt";
        /// How long there was no link, from the first attempt on and until the client was closed.
        #[cfg_attr(feature = "serde", serde(with = "crate::seconds"))]
        total_downtime: total_time(Duration), "everlink_downtime_seconds" "Time without a link";
    }

    /// A snapshot of a session's counters, from [`Session::stats`](crate::Session::stats). What is said
    /// of [`ClientStats`] holds for these, too.
    pub struct SessionStats {
        /// Broadcasts, to all or to a topic, that the session has missed, for it was too slow or they were too large.
        broadcasts_missed: total(u64) = AtomicU64;
        /// How often the client was faster than it may be
        /// ([`ServerBuilder::receive_rate`](crate::ServerBuilder::receive_rate)): closed for that, or kept waiting.
        over_rate: total(u64) = AtomicU64;
    }
}

#[derive(Debug)]
pub(crate) struct Born(Instant);

impl Default for Born {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Source for Born {
    type Value = Duration;

    fn read(&self) -> Duration {
        self.0.elapsed()
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
        self.round_trips.lock().record(time, Instant::now());
    }

    /// Somebody looks at these: the next beat is worth a ping, busy or not.
    pub(crate) fn look_at(&self) {
        self.was_looked_at.store(true, Relaxed);
    }

    /// Whether somebody has looked at these since the last beat.
    pub(crate) fn is_looked_at(&self) -> bool {
        self.was_looked_at.load(Relaxed)
    }

    /// A beat goes out.
    pub(crate) fn begin_beat(&self) {
        self.was_looked_at.store(false, Relaxed);
    }

    /// A client's snapshot of what is counted here and in its outbox; the rest is the caller's.
    pub(crate) fn of_client(&self, outbox: &Tally) -> ClientStats {
        let at_login = self.sent_at_login.load(Relaxed);
        let (last_round_trip, mean_round_trip, round_trips) = self.round_trips.lock().read();
        let mut stats = ClientStats {
            accepted: at_login,
            passed_on: at_login,
            last_round_trip,
            mean_round_trip,
            round_trips,
            ..Default::default()
        }
        .read(self);
        stats.add(outbox);
        stats.reconnects = stats.connects.saturating_sub(1);
        stats.failed_attempts = stats.failures.total();
        stats
    }

    /// The same for a session.
    pub(crate) fn of_session(&self, outbox: &Tally) -> SessionStats {
        let (last_round_trip, mean_round_trip, round_trips) = self.round_trips.lock().read();
        let mut stats =
            SessionStats { last_round_trip, mean_round_trip, round_trips, ..Default::default() };
        stats.add(outbox);
        stats.read(self)
    }
}

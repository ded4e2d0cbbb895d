//! One log record for each step in the life of a session, as a line and as key-values.

use std::time::Duration;

use log::Level;

use super::peer::Peer;
use crate::failure::Failure;
use crate::sync::threads::thread_prefix;

/// Logs what happens to one session.
pub(super) struct Journal<'a> {
    /// What log records call the server.
    server: &'a str,
    session: u64,
    /// Where its connection came from.
    peer: Peer,
}

/// Writes a record with the keys that all have, and more.
macro_rules! record {
    ($journal:expr, $level:expr, $event:literal $(, [$($more:tt)+])?; $($text:tt)+) => {
        log::log!(
            $level,
            session = $journal.session, server = $journal.server, event = $event,
            peer:% = $journal.peer $(, $($more)+)?;
            "{}: {} {}",
            thread_prefix($journal.session), $journal.peer, format_args!($($text)+)
        )
    };
}

impl<'a> Journal<'a> {
    pub(super) fn new(server: &'a str, session: u64, peer: Peer) -> Self {
        Self { server, session, peer }
    }

    /// A connection has not become a session. An operator has nothing to learn from one that ends
    /// without a byte, as the health checks of load balancers do all day.
    pub(super) fn not_opened(&self, failure: &Failure, has_spoken: bool) {
        let level = if has_spoken { Level::Info } else { Level::Debug };
        let (kind, cause) = (failure.kind().as_str(), failure);
        record!(self, level, "not_opened", [kind, cause:%]; "did not open: {cause}");
    }

    pub(super) fn opened(&self) {
        record!(self, Level::Info, "opened"; "connected");
    }

    /// The session waits for its client: its link is gone, which was up for so long.
    pub(super) fn lost(&self, cause: &Failure, uptime: Duration) {
        let (kind, cause, uptime) = (cause.kind().as_str(), cause, uptime.as_secs_f64());
        record!(self, Level::Info, "lost", [kind, cause:%, uptime]; "lost: {cause}");
    }

    /// The client is back.
    pub(super) fn resumed(&self, resent: usize) {
        record!(self, Level::Info, "resumed", [resent]; "resumed, {resent} messages are sent again");
    }

    /// `uptime` is that of its last link, and `age` its own, with all the time that it waited.
    pub(super) fn ended(&self, cause: &Failure, uptime: Duration, age: Duration) {
        let (kind, cause) = (cause.kind().as_str(), cause);
        let (uptime, age) = (uptime.as_secs_f64(), age.as_secs_f64());
        record!(self, Level::Info, "ended", [kind, cause:%, uptime, age]; "ended: {cause}");
    }
}

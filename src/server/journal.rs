//! One log record for each step in the life of a session, as a line and as key-values.

use std::net::SocketAddr;
use std::time::Duration;

use super::ServerCore;
use crate::failure::Failure;
use crate::sync::threads::thread_prefix;

/// Whose record it is: the number of the session, and where its connection came from.
pub(super) struct Journal<'a> {
    pub(super) server: &'a ServerCore,
    pub(super) id: u64,
    pub(super) peer: SocketAddr,
}

impl Journal<'_> {
    /// A connection has not become a session. An operator has nothing to learn from one that ends
    /// without a byte, as the health checks of load balancers do all day.
    pub(super) fn not_opened(&self, failure: &Failure, has_spoken: bool) {
        let Self { server, id, peer } = self;
        let level = if has_spoken { log::Level::Info } else { log::Level::Debug };
        log::log!(
            level,
            session = *id, server = server.label(), event = "not_opened", peer:% = peer,
            kind = failure.kind().as_str(), cause:% = failure.report();
            "{}: {peer} did not open: {}", thread_prefix(*id), failure.report()
        );
    }

    pub(super) fn opened(&self) {
        let Self { server, id, peer } = self;
        log::info!(
            session = *id, server = server.label(), event = "opened", peer:% = peer;
            "{}: {peer} connected", thread_prefix(*id)
        );
    }

    /// The session waits for its client: its link is gone, which was up for so long.
    pub(super) fn lost(&self, cause: &Failure, uptime: Duration) {
        let Self { server, id, peer } = self;
        log::info!(
            session = *id, server = server.label(), event = "lost", peer:% = peer,
            kind = cause.kind().as_str(), cause:% = cause.report(), uptime = uptime.as_secs_f64();
            "{}: {peer} lost: {}", thread_prefix(*id), cause.report()
        );
    }

    /// The client is back.
    pub(super) fn resumed(&self, resent: usize) {
        let Self { server, id, peer } = self;
        log::info!(
            session = *id, server = server.label(), event = "resumed", peer:% = peer,
            resent;
            "{}: {peer} resumed, {resent} messages are sent again", thread_prefix(*id)
        );
    }

    /// `uptime` is that of its last link, and `age` its own, with all the time that it waited.
    pub(super) fn ended(&self, cause: &Failure, uptime: Duration, age: Duration) {
        let Self { server, id, peer } = self;
        log::info!(
            session = *id, server = server.label(), event = "ended", peer:% = peer,
            kind = cause.kind().as_str(), cause:% = cause.report(), uptime = uptime.as_secs_f64(), age = age.as_secs_f64();
            "{}: {peer} ended: {}", thread_prefix(*id), cause.report()
        );
    }
}

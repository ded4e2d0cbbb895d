//! Settings of time: how long, how often, how many times.

use std::time::Duration;

use super::Builder;
use crate::policy::{Backoff, Heartbeat};

impl Builder {
    /// How long to wait before each redial. Default: 1 s, doubling, at most 30 s, full jitter.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.settings.chosen.add("backoff");
        self.settings.backoff = backoff;
        self
    }

    /// How many attempts in a row may fail before the client gives up, at least 1; an attempt
    /// that leads to a link which dies before it is stable counts as failed. Default: no limit.
    pub fn max_attempts(mut self, limit: u32) -> Self {
        self.settings.chosen.add("max_attempts");
        self.settings.max_attempts = Some(limit);
        self
    }

    /// How long a link must have been up for the backoff and the count of failed attempts to
    /// start anew. Zero: at once. Default 10 s.
    pub fn stable_after(mut self, time: Duration) -> Self {
        self.settings.chosen.add("stable_after");
        self.settings.stable_after = time;
        self
    }

    /// How the link proves that the peer is alive. Default: a ping after 20 s idle, death after
    /// 30 s of silence.
    pub fn heartbeat(mut self, heartbeat: Heartbeat) -> Self {
        self.settings.chosen.add("heartbeat");
        self.settings.heartbeat = heartbeat;
        self
    }

    /// How long the peer may take no byte at all before the link is dead, if it sends none
    /// either. Default 10 s.
    pub fn write_timeout(mut self, timeout: Duration) -> Self {
        self.settings.chosen.add("write_timeout");
        self.settings.write_timeout = timeout;
        self
    }

    /// How long closing may take: writing what is queued and the closing handshake (RFC 6455
    /// section 7.1.2) together. Default 5 s. A peer that has sent its own close frame gets at
    /// most 1 s of it to end the stream.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.settings.chosen.add("close_timeout");
        self.settings.close_timeout = timeout;
        self
    }

    /// How long the name lookup may take. Default 10 s.
    pub fn dns_timeout(mut self, timeout: Duration) -> Self {
        self.settings.chosen.add("dns_timeout");
        self.settings.dns_timeout = timeout;
        self
    }

    /// How long the TCP connection may take, all addresses of the host together. Default 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.settings.chosen.add("connect_timeout");
        self.settings.connect_timeout = timeout;
        self
    }

    /// How long the whole opening may take from the first connection on: a proxy's answer, TLS, the
    /// opening handshake, and every redirect that is followed. Default 10 s.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.settings.chosen.add("handshake_timeout");
        self.settings.handshake_timeout = timeout;
        self
    }

    /// How long the login hook's calls may take, all together. Default 10 s.
    pub fn login_timeout(mut self, timeout: Duration) -> Self {
        self.settings.chosen.add("login_timeout");
        self.settings.login_timeout = timeout;
        self
    }

    /// The longest wait before a redial that a server may ask for with `Retry-After`; what it asks
    /// beyond that is not granted, and the failure says so. Default 5 minutes. Since it asks all of
    /// its clients for the same, each comes up to half as late again (1 s to 30 s), at random.
    pub fn max_retry_after(mut self, limit: Duration) -> Self {
        self.settings.chosen.add("max_retry_after");
        self.settings.max_retry_after = limit;
        self
    }
}

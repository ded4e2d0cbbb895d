//! Settings of time: how long, how often, how many times.

use std::time::Duration;

use super::ClientBuilder;
use crate::policy::Backoff;

impl ClientBuilder {
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

    /// The longest wait before a redial that a server may ask for with `Retry-After`; what it asks
    /// beyond that is not granted, and the failure says so. Default 5 minutes. Since it asks all of
    /// its clients for the same, each comes up to half as late again (1 s to 30 s), at random.
    pub fn max_retry_after(mut self, limit: Duration) -> Self {
        self.settings.chosen.add("max_retry_after");
        self.settings.max_retry_after = limit;
        self
    }
}

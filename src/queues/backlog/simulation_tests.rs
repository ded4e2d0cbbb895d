//! What simulations do with a backlog, and no program can.

use std::time::{Duration, Instant};

use super::Backlog;
use crate::policy::Undelivered;

impl Backlog {
    pub(crate) fn pass_time(&mut self, time: Duration) {
        let now = Instant::now();
        for entry in self.queue.iter_mut().chain(self.kept.iter_mut()) {
            let left = entry.expires.map(|expires| expires.saturating_duration_since(now));
            entry.expires = left.map(|left| now + left.saturating_sub(time));
        }
        self.next_expiry = self.queue.iter().filter_map(|entry| entry.expires).min();
    }

    pub(crate) fn expire_kept(&mut self) {
        let now = Instant::now();
        let expired = self.kept.take_out(|entry| entry.is_expired(now));
        expired.into_iter().for_each(|entry| self.lose(entry, Undelivered::Expired));
    }

    pub(crate) fn forget_positions(&mut self) {
        self.queue.iter_mut().for_each(|entry| entry.position = 0);
    }
}

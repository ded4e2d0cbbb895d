//! What simulations do with an outbox, and no program can.

use std::time::Duration;

use super::Outbox;

impl Outbox {
    /// So much time passes for all times to live.
    pub(crate) fn pass_time(&self, time: Duration) {
        self.lock().backlog.pass_time(time);
    }

    /// As a thread does that has sent something.
    pub(crate) fn tell_now(&self) {
        self.tell();
    }

    /// What waits for a confirmation may expire: an error, for the peer may have it.
    pub(crate) fn expire_kept(&self) {
        self.lock().backlog.expire_kept();
        self.tell();
    }

    /// What is sent again gets other numbers: an error.
    pub(crate) fn forget_positions(&self) {
        self.lock().backlog.forget_positions();
    }
}

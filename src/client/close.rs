//! How a client is closed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::core::Core;
use crate::message::{CloseCode, CloseFrame, Message};
use crate::sync::threads::{self, Role};

/// Closes the client with the last handle.
pub(super) struct Guard(pub(super) Arc<Core>);

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.0.done.is_raised() {
            self.0.close(CloseFrame::new(CloseCode::NORMAL, ""));
        }
        // nobody is left who could receive
        self.0.mailbox.abandon();
        if !threads::belongs_to(self.0.id) {
            let at_once = Instant::now() + Duration::from_millis(10);
            self.0.threads.join(at_once, |role| role == Role::Inbox);
        }
    }
}

/// How closing went, from [`Client::close`](crate::Client::close).
#[derive(Debug, Default, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseReport {
    /// Whether every thread has ended, and is joined; then whatever closures the client was given are
    /// dropped, with what they had captured. False if the program's own code still holds one up (a
    /// handler, a hook or a resolver that does not return; the system's lookup of a name, too), or if
    /// one of the client's own threads called; they end as soon as they can.
    ///
    /// The thread of a [channel](crate::ClientBuilder::start_with_channel) is not waited for while messages are
    /// left in the inbox: it ends when the last of them is taken, or with the last handle.
    pub ended: bool,
    /// Messages that were accepted and not delivered, in order: those never written, and with
    /// [`Delivery::AtLeastOnce`](crate::config::Delivery::AtLeastOnce) those never confirmed. Only the
    /// first caller gets them.
    pub undelivered: Vec<Message>,
}

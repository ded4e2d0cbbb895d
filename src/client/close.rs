//! How a client is closed.

use std::sync::Arc;

use super::core::Core;
use crate::message::{CloseCode, CloseFrame, Message};

/// Closes the client with the last handle.
pub(super) struct Guard(pub(super) Arc<Core>);

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.0.done.is_raised() {
            self.0.close(CloseFrame::new(CloseCode::NORMAL, ""));
        }
        // nobody is left who could receive
        self.0.mailbox.abandon();
    }
}

/// How closing went, from [`Client::close`](crate::Client::close).
#[derive(Debug, Default, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseReport {
    /// Whether all threads have ended. False if the program's own code still holds one up (a
    /// handler or a login hook that does not return), or if one of the client's own threads
    /// called; they end as soon as they can.
    pub ended: bool,
    /// Messages that were accepted and not delivered, in order: those never written, and with
    /// [`Delivery::AtLeastOnce`](crate::Delivery::AtLeastOnce) those never confirmed. Only the
    /// first caller gets them.
    pub undelivered: Vec<Message>,
}

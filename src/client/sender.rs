//! The sending half of a client's handle.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::core::Core;
use crate::error::Error;
use crate::message::{CloseCode, Message, close_frame};
use crate::outbox::Patience;
use crate::status::State;

/// Sends and closes, and does not keep the client open. A handler gets one to answer with.
#[derive(Clone)]
pub struct Sender {
    core: Arc<Core>,
}

impl Sender {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// [`Client::send`](crate::Client::send).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send(&self, message: impl Into<Message>) -> Result<(), Error> {
        self.core.send(message.into(), Patience::Forever)
    }

    /// [`Client::try_send`](crate::Client::try_send).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_send(&self, message: impl Into<Message>) -> Result<(), Error> {
        self.core.send(message.into(), Patience::None)
    }

    /// [`Client::send_timeout`](crate::Client::send_timeout).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send_timeout(
        &self,
        message: impl Into<Message>,
        timeout: Duration,
    ) -> Result<(), Error> {
        self.core.send(message.into(), Patience::timeout(timeout))
    }

    /// [`Client::state`](crate::Client::state).
    pub fn state(&self) -> State {
        self.core.status.state()
    }

    /// [`Client::close_with`](crate::Client::close_with), without waiting for the threads when
    /// called on one of them, as a handler does.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn close_with(&self, code: impl Into<CloseCode>, reason: &str) -> Result<(), Error> {
        self.core.close(close_frame(code.into(), reason)?);
        Ok(())
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("id", &self.core.id).finish_non_exhaustive()
    }
}

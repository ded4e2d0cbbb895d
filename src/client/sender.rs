//! The sending half of a client's handle.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::core::Core;
use super::status::State;
use crate::error::{Error, close_frame};
use crate::message::{CloseCode, Message};
use crate::queues::outbox::{Patience, Terms};
use crate::queues::receipt::Receipt;

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
        self.core.send(message.into(), Terms::default(), Patience::Forever)
    }

    /// [`Client::try_send`](crate::Client::try_send).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_send(&self, message: impl Into<Message>) -> Result<(), Error> {
        self.core.send(message.into(), Terms::default(), Patience::None)
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
        self.core.send(message.into(), Terms::default(), Patience::timeout(timeout))
    }

    /// [`Client::send_confirmed`](crate::Client::send_confirmed).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send_confirmed(&self, message: impl Into<Message>) -> Result<Receipt, Error> {
        self.send_with(message, SendOptions::new())
    }

    /// [`Client::send_with`](crate::Client::send_with).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send_with(
        &self,
        message: impl Into<Message>,
        options: SendOptions,
    ) -> Result<Receipt, Error> {
        let receipt = Receipt::new();
        let expires = options.ttl.and_then(|ttl| Instant::now().checked_add(ttl));
        let terms = Terms { receipt: Some(receipt.clone()), expires };
        let patience = options.timeout.map_or(Patience::Forever, Patience::timeout);
        self.core.send(message.into(), terms, patience)?;
        Ok(receipt)
    }

    /// [`Client::wait_sent`](crate::Client::wait_sent). A handler that waits for its answer to be
    /// written has it go out before anything that comes behind the message, a close frame or a
    /// violation of the protocol among them, can end the link. While it waits nothing is read,
    /// and a link that dies meanwhile is followed by the next when the timeout is over.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn wait_sent(&self, timeout: Duration) -> Result<(), Error> {
        self.core.wait_sent(Instant::now().checked_add(timeout))
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

/// How a single message is sent, for [`Client::send_with`](crate::Client::send_with).
#[derive(Debug, Clone, Copy, Default)]
#[must_use]
pub struct SendOptions {
    ttl: Option<Duration>,
    timeout: Option<Duration>,
}

impl SendOptions {
    /// Waits for room as long as it takes, and lives as long as
    /// [`Builder::message_ttl`](crate::Builder::message_ttl) says.
    pub fn new() -> Self {
        Self::default()
    }

    /// The message is not written any more after this time: a stale order, an old position.
    pub fn ttl(mut self, time: Duration) -> Self {
        self.ttl = Some(time);
        self
    }

    /// How long to wait for room in the outbox.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout = Some(time);
        self
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("id", &self.core.id).finish_non_exhaustive()
    }
}

//! What others hold of a link.

use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::close_request::CloseRequest;
use super::life::Life;
use super::shared::Shared;
use crate::error::Error;
use crate::failure::Failure;
use crate::message::{CloseFrame, Message};
use crate::policy::Heartbeat;

/// What can be done to a link from anywhere.
#[derive(Clone)]
pub(crate) struct Handle {
    life: Arc<Life>,
    shared: Weak<Shared>,
}

impl Handle {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self { life: Arc::clone(&shared.life), shared: Arc::downgrade(shared) }
    }

    fn with(&self, act: impl FnOnce(&Shared)) {
        if let Some(shared) = self.shared.upgrade() {
            act(&shared);
        }
    }

    /// Disconnects when the link dies.
    pub(crate) fn died(&self) -> &Receiver<Infallible> {
        self.life.died()
    }

    /// Has the link closed in order.
    pub(crate) fn close(&self, request: CloseRequest) {
        self.with(|shared| shared.close(request));
    }

    /// Has no more messages taken in than those that its reader has. A handler on the reader thread has this frame
    /// sent then, behind what it has said.
    pub(crate) fn finish(&self, farewell: CloseFrame) {
        self.with(|shared| shared.finish(farewell));
    }

    /// Waits for the end of a link that is being closed, and ends it when the time for that is over.
    pub(crate) fn wait_closed(&self) {
        self.life.wait_closed();
        self.with(Shared::end_close);
    }

    /// Ends the link at once. A handler gets no more of what had come than the message that it has.
    pub(crate) fn end(&self, cause: Failure) {
        self.with(|shared| shared.end(cause));
    }

    fn alive(&self) -> Result<Arc<Shared>, Error> {
        let shared = self.shared.upgrade().filter(|_| self.died_at().is_none());
        shared.ok_or(Error::NotConnected)
    }

    /// From here on it beats so.
    ///
    /// # Errors
    ///
    /// [`Error::NotConnected`], and [`Error::InvalidSetting`] as at the start.
    pub(crate) fn set_heartbeat(&self, heartbeat: Heartbeat) -> Result<(), Error> {
        let shared = self.alive()?;
        let has_pings = shared.protocol.is_websocket() || shared.session.is_some();
        let fits = |beat: &Message| shared.protocol.check(beat);
        shared.settings.check_learnt(&heartbeat, has_pings, fits)?;
        shared.set_heartbeat(heartbeat);
        Ok(())
    }

    /// Has a ping go out, or a beat of the program's, and waits for the answer. Returns how long that took.
    ///
    /// # Errors
    ///
    /// [`Error::NotConnected`], [`Error::Timeout`], and [`Error::Unconfirmable`] where the peer answers nothing.
    pub(crate) fn ping(&self, timeout: Duration) -> Result<Duration, Error> {
        let shared = self.alive()?;
        if !shared.has_pings() {
            return Err(Error::Unconfirmable);
        }
        let (number, is_next) = shared.pings.next();
        if is_next {
            if let Err(panic) = shared.beat() {
                shared.fail(panic);
            }
        }
        shared.pings.wait(number, timeout)
    }

    /// When the link died; `None` while it lives.
    pub(crate) fn died_at(&self) -> Option<Instant> {
        self.life.died_at()
    }

    /// Why the link has died, or is about to.
    pub(crate) fn cause(&self) -> Option<Arc<Failure>> {
        self.life.cause()
    }
}

//! What others hold of a link.

use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Instant;

use crossbeam_channel::Receiver;

use super::life::Life;
use super::shared::Shared;
use crate::failure::Failure;
use crate::message::CloseFrame;

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

    /// Starts the closing handshake once everything queued is written. What is received from now
    /// on and finds no room is dropped.
    pub(crate) fn close_after_data(&self, frame: CloseFrame) {
        self.with(|shared| {
            shared.control.close_after_data(frame);
            shared.outbox.ring();
        });
        self.leave();
    }

    /// The same, and the time for it is over by then, whoever waits or not.
    pub(crate) fn close_by(&self, deadline: Instant, frame: CloseFrame) {
        self.close_after_data(frame.clone());
        self.life.close_by(deadline, frame);
    }

    /// The same, with the code that answers the peer's if the peer has closed first.
    pub(crate) fn answer_after_data(&self, frame: CloseFrame) {
        self.with(|shared| {
            shared.control.answer_after_data(frame);
            shared.outbox.ring();
        });
        self.leave();
    }

    /// Starts the closing handshake ahead of everything queued.
    pub(crate) fn close_now(&self, frame: CloseFrame) {
        self.with(|shared| {
            shared.control.close_now(Some(frame));
            shared.outbox.ring();
        });
    }

    /// Says beforehand why the link will die.
    pub(crate) fn expect(&self, cause: Failure) {
        self.life.note(cause);
    }

    /// Ends the link for a reason of the owner's.
    pub(crate) fn kill(&self, cause: Failure) {
        self.with(|shared| shared.fail(cause));
    }

    /// The same, and a handler gets no more of what had come than the message that it has: another
    /// link is wanted.
    pub(crate) fn replace(&self, cause: Failure) {
        self.let_go();
        self.kill(cause);
    }

    /// A handler gets no more than the message that it has.
    pub(crate) fn let_go(&self) {
        self.life.let_go();
    }

    /// The time for closing is over, for a handler too.
    pub(crate) fn end_close(&self, frame: CloseFrame) {
        self.life.let_go();
        self.with(|shared| shared.end_close(frame));
    }

    /// Nobody waits for received messages any more.
    pub(crate) fn leave(&self) {
        self.life.leave();
        self.with(|shared| shared.mailbox.look_again());
    }

    /// When the link died; `None` while it lives.
    pub(crate) fn died_at(&self) -> Option<Instant> {
        self.life.ask(|state| state.died_at)
    }

    /// Why the link has died, or is about to.
    pub(crate) fn cause(&self) -> Option<Arc<Failure>> {
        self.life.cause()
    }

    /// Waits for the end of the link.
    pub(crate) fn wait_until(&self, deadline: Instant) {
        self.life.wait(Some(deadline), |_| false);
    }
}

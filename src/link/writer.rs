//! The writer thread: control slots and outbox -> frame writer -> socket.
//!
//! Only this thread ever waits for the socket. While it sleeps, a thread that has one small message or
//! a beat to send borrows its [`FrameWriter`] and writes without waiting, which saves two switches of
//! threads. Frames never interleave, for there is only one frame writer.

use std::io::{self, ErrorKind::WouldBlock};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::frame_writer::{FrameWriter, WriterStep};
use super::handoff::Handoff;
use super::liveness::IDLE;
use super::shared::{Notice, Shared};
use crate::failure::{Failure, guarded};
use crate::queues::outbox::Shortcut;
use crate::sync::threads::carrying;
use crate::transport::Reason;

/// The writing side of a link.
pub(super) struct Writer {
    shared: Arc<Shared>,
    frames: Handoff<Box<FrameWriter>>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, frames: Handoff::new() }
    }

    /// The writer thread.
    pub(super) fn run(&self, mut frames: Box<FrameWriter>) {
        let shared = &*self.shared;
        let (mut due, mut idle_at) = (Some(Instant::now()), None);
        let result = loop {
            self.frames.put(frames);
            shared.outbox.doorbell().wait(due);
            // always there: nobody else takes it out
            let Some(taken) = self.frames.take() else { return };
            frames = taken;
            // a transport can be the program's own
            match guarded("writer", || frames.write()) {
                Ok(Ok(WriterStep::Sleep(until))) => {
                    if idle_at.is_none_or(|at| at <= Instant::now()) {
                        let goes_on = frames.goes_on();
                        let is_over = idle_at.is_some() && !goes_on;
                        if is_over {
                            shared.outbox.relax();
                            frames.relax();
                        }
                        let holds_much = !is_over && frames.is_large();
                        idle_at = holds_much.then(|| Instant::now() + IDLE);
                    }
                    due = until.into_iter().chain(idle_at).min();
                }
                Ok(Ok(WriterStep::End)) => break Ok(()),
                Ok(Err(error)) => break Err(self.failure(error)),
                Err(panic) => {
                    log::error!("{panic}");
                    break Err(panic);
                }
            }
        };
        let failed = result.map_err(|failure| shared.life.note(failure));
        frames.give_back();
        if failed.is_err() {
            // the cause is noted
            shared.fail(Failure::ClosedAbnormally);
        }
    }

    fn failure(&self, error: io::Error) -> Failure {
        if error.kind() == io::ErrorKind::TimedOut {
            return Failure::WriteTimeout { timeout: self.shared.settings.timeouts().write };
        }
        Failure::from(error)
    }

    /// On another thread, while the writer sleeps: writes without waiting. Returns whether that
    /// was all; if not, the writer has to be woken.
    fn write_now(&self, write: impl FnOnce(&mut FrameWriter) -> io::Result<bool>) -> bool {
        let result = self.frames.lend(|frames| {
            carrying(self.shared.id, || {
                let result = guarded("writer", || write(frames));
                frames.account();
                result
            })
        });
        let Some(result) = result else { return false };
        match result {
            Ok(Ok(is_all)) => return is_all,
            // left to the writer, which may wait, and which ends the stream after the reader's failure
            Ok(Err(error))
                if error.kind() == WouldBlock
                    || Reason::of(&error) == Some(Reason::ReadingFailed) => {}
            // not left to the writer: a socket reports a reset only once
            Ok(Err(error)) => self.shared.fail(error.into()),
            Err(panic) => {
                log::error!("{panic}");
                self.shared.fail(panic);
            }
        }
        false
    }

    /// Writes a ping, if the writer sleeps; returns whether that was possible.
    pub(super) fn ping_now(&self) -> bool {
        self.write_now(FrameWriter::ping_now)
    }

    /// Says once that a peer which is alive does not confirm what somebody wants confirmed: it has
    /// not answered for so long after it was asked, and what it was asked has gone out.
    pub(super) fn seek_confirmations(&self, limit: Duration) {
        let shared = &self.shared;
        let is_long = |waiting: &Duration| *waiting >= limit;
        let Some(waiting) = shared.pings.waiting().filter(is_long) else { return };
        let is_drained = self.frames.lend(|frames| frames.is_drained());
        if is_drained == Some(true) && shared.outbox.is_left_unconfirmed() {
            shared.tell(Notice::Unconfirmed(waiting));
        }
    }

    /// The connection is idle: gives back what a burst took.
    pub(super) fn relax(&self) {
        self.shared.outbox.relax();
        self.frames.lend(|frames| frames.relax());
    }
}

impl Shortcut for Writer {
    fn write_one(&self) -> bool {
        self.write_now(FrameWriter::write_one)
    }
}

//! The writer thread: control slots and outbox -> pen -> socket.
//!
//! It is the only one that ever waits for the socket to take something. While it sleeps its
//! [`Pen`] can be taken by a thread that has one small message to send, or a beat, to write
//! without waiting: that saves two switches of threads. Nobody writes without the pen, so frames
//! never interleave.

use std::io;
use std::time::Instant;

use super::pen::Pen;
use super::{Owner, Shared};
use crate::failure::{Failure, guarded};
use crate::transport::ReadingFailed;

/// How much is taken from the outbox at once.
const BATCH: usize = 64 * 1024;

/// What comes after writing.
enum NextStep {
    /// Sleep until somebody rings, or until then.
    Sleep(Option<Instant>),
    /// Nothing more is to be written.
    End,
}

/// The writer thread.
pub(super) fn run(shared: &Shared, mut pen: Box<Pen>) {
    let mut due = Some(Instant::now());
    if shared.owner == Owner::Client {
        // ahead of everything: the server learns that its client knows the session
        pen.report(shared);
    }
    let result = loop {
        shared.pen.put(pen);
        shared.outbox.doorbell().wait(due);
        pen = shared.pen.take();
        pen.may_wait = true;
        // a transport can be the program's own
        match guarded("writer", || write_or_part(shared, &mut pen)) {
            Ok(Ok(NextStep::Sleep(until))) => due = until,
            Ok(Ok(NextStep::End)) => break Ok(()),
            Ok(Err(error)) => break Err(failure(shared, error)),
            Err(panic) => {
                log::error!("{panic}");
                break Err(panic);
            }
        }
    };
    pen.give_back(shared);
    if let Err(failure) = result {
        shared.fail(failure);
    }
}

fn failure(shared: &Shared, error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::TimedOut {
        return Failure::WriteTimeout { timeout: shared.settings.timeouts().write };
    }
    Failure::from(error)
}

/// Writes, and ends the stream once the reader's half of the transport has failed. The reader has
/// the cause, and ends the link when the peer has had the time to read what that was.
fn write_or_part(shared: &Shared, pen: &mut Pen) -> io::Result<NextStep> {
    match write(shared, pen) {
        Err(error) if ReadingFailed::is_in(&error) => {
            pen.end(shared)?;
            Ok(NextStep::End)
        }
        result => result,
    }
}

/// Writes until there is nothing left to write.
fn write(shared: &Shared, pen: &mut Pen) -> io::Result<NextStep> {
    while !shared.life.is_dead() {
        // what was encoded before, also by another thread that could not finish
        pen.drain(shared)?;
        pen.account(shared);
        if !pen.is_closed {
            shared.outbox.take(&mut pen.batch, BATCH);
        }
        // in this order: see `ControlSlots`
        let control = shared.control.take(true);
        let is_over = control.end;
        pen.control(control, shared)?;
        if pen.is_closed {
            shared.outbox.restore(&mut pen.batch);
        }
        let was_idle = pen.batch.is_empty();
        pen.encode_batch(shared)?;
        if was_idle && !pen.is_closed {
            if let Some(close) = shared.control.take_close() {
                pen.close(close, shared)?;
                continue;
            }
        }
        // one write carries both
        let due = pen.ask_if_due(shared)?;
        if !pen.is_drained() {
            continue;
        }
        // what had to be written by itself is written by now
        pen.account(shared);
        if is_over {
            pen.end(shared)?;
            return Ok(NextStep::End);
        }
        return Ok(NextStep::Sleep(due));
    }
    Ok(NextStep::End)
}

/// On another thread, while the writer sleeps: writes without waiting. Returns whether that was
/// all; if not, the writer has to be woken.
pub(super) fn write_now(shared: &Shared, write: impl FnOnce(&mut Pen) -> io::Result<bool>) -> bool {
    let Some(mut pen) = shared.pen.try_take() else { return false };
    pen.may_wait = false;
    let result = guarded("writer", || write(&mut pen));
    pen.account(shared);
    shared.pen.put(pen);
    match result {
        Ok(Ok(is_all)) => is_all,
        // the writer meets the same error, or waits where this one could not
        Ok(Err(_)) => false,
        Err(panic) => {
            log::error!("{panic}");
            shared.fail(panic);
            false
        }
    }
}

/// Writes the next message if it is a small one, behind the control slots. Returns whether
/// nothing is left to do.
pub(super) fn write_one(shared: &Shared, pen: &mut Pen) -> io::Result<bool> {
    if pen.is_closed || !pen.is_drained() {
        return Ok(false);
    }
    // whoever sends tells of what was lost when the pen is back
    shared.outbox.take_untold(&mut pen.batch, 1);
    if !pen.is_small(shared) {
        shared.outbox.restore(&mut pen.batch);
        return Ok(false);
    }
    // in this order: see `ControlSlots`
    let control = shared.control.take(false);
    pen.control(control, shared)?;
    pen.encode_batch(shared)?;
    pen.drain(shared)?;
    // the writer knows when it is time to ask, and others may have queued something behind it
    Ok(shared.outbox.is_quiet() && shared.control.is_empty())
}

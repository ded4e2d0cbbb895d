//! What a client's handles and its manager share.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::error::Error;
use crate::event::Publisher;
use crate::inbox::{Mailbox, Nothing};
use crate::manager::Command;
use crate::message::{CloseFrame, Message};
use crate::outbox::{Outbox, Patience, Refused, Terms};
use crate::settings::Settings;
use crate::signal::Signal;
use crate::stats::{Counters, Stats};
use crate::status::Status;
use crate::threads;
use crate::transport::Interrupt;

/// How much longer than the closing handshake `close` waits for the threads.
const JOIN_GRACE: Duration = Duration::from_millis(100);

pub(crate) struct Core {
    pub(crate) id: u64,
    pub(crate) settings: Arc<Settings>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) status: Status,
    pub(crate) publisher: Publisher,
    pub(crate) commands: Sender<Command>,
    pub(crate) interrupt: Arc<Interrupt>,
    /// Raised when the manager has ended, and everything with it.
    pub(crate) done: Signal,
    pub(crate) undelivered: Mutex<Vec<Message>>,
}

/// A number for the threads of the next client.
pub(crate) fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Relaxed)
}

/// How the threads of the client with this number begin their names.
pub(crate) fn thread_prefix(id: u64) -> String {
    format!("everlink-{id}")
}

impl Core {
    pub(crate) fn name(&self) -> String {
        thread_prefix(self.id)
    }

    pub(crate) fn send(
        &self,
        message: Message,
        mut terms: Terms,
        patience: Patience,
    ) -> Result<(), Error> {
        if terms.expires.is_none() {
            let ttl = self.settings.message_ttl;
            terms.expires = ttl.and_then(|ttl| Instant::now().checked_add(ttl));
        }
        // a thread of the client's own must not wait for a link that waits for that thread
        let patience = if threads::belongs_to(self.id) { Patience::None } else { patience };
        self.outbox.push(message, terms, patience).map_err(|refused| self.refusal(refused))
    }

    pub(crate) fn wait_sent(&self, deadline: Option<Instant>) -> Result<(), Error> {
        self.outbox.wait_written(deadline).map_err(|refused| self.refusal(refused))
    }

    pub(crate) fn flush(&self, deadline: Option<Instant>) -> Result<(), Error> {
        self.outbox.flush(deadline).map_err(|refused| self.refusal(refused))
    }

    fn refusal(&self, refused: Refused) -> Error {
        match refused {
            Refused::NobodyDrains => self.status.end().unwrap_or(Error::Full),
            other => other.into(),
        }
    }

    pub(crate) fn recv(&self, deadline: Option<Instant>) -> Result<Message, Error> {
        let ended = || self.status.end().is_some();
        loop {
            return match self.mailbox.recv(deadline, ended, || self.status.ended()) {
                Ok(message) => Ok(message),
                Err(Nothing::TimedOut) => Err(Error::Timeout),
                Err(Nothing::Ended) => Err(Error::Closed),
                Err(Nothing::Interrupted) => match self.status.end() {
                    Some(error) => Err(error),
                    // it was sent off again in between
                    None => continue,
                },
            };
        }
    }

    pub(crate) fn reconnect(&self) -> Result<(), Error> {
        // first, for by the time that this thread goes on the manager may have given up again
        self.status.resume();
        self.outbox.set_drained(true);
        self.command(Command::Reconnect)
    }

    fn command(&self, command: Command) -> Result<(), Error> {
        if self.done.is_raised() {
            return Err(Error::Closed);
        }
        self.commands.send(command).map_err(|_| Error::Closed)
    }

    /// Closes, and waits until everything has ended; returns whether it has. A thread of the
    /// client's own does not wait: it would wait for itself.
    pub(crate) fn close(&self, frame: CloseFrame) -> bool {
        self.outbox.shut();
        let _ = self.command(Command::Close(frame));
        self.interrupt.raise();
        if threads::belongs_to(self.id) {
            return false;
        }
        let bound = self.settings.close_timeout + JOIN_GRACE;
        let ended = self.done.raised().recv_timeout(bound);
        matches!(ended, Err(crossbeam_channel::RecvTimeoutError::Disconnected))
    }

    /// Puts aside what was not delivered and could be sent again; returns how much it is.
    pub(crate) fn keep_undelivered(&self) -> usize {
        let left = self.outbox.drain();
        let count = left.len();
        self.undelivered.lock().unwrap_or_else(PoisonError::into_inner).extend(left);
        count
    }

    pub(crate) fn stats(&self) -> Stats {
        let (outbox_messages, outbox_bytes) = self.outbox.depth();
        let [outbox_dropped, expired, resent] = self.outbox.counts();
        let (uptime, total_downtime) = self.status.times();
        Stats {
            outbox_messages,
            outbox_bytes,
            inbox_messages: self.mailbox.len(),
            outbox_dropped,
            expired,
            resent,
            uptime,
            total_downtime,
            ..self.counters.snapshot()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;
    use crate::policy::Delivery;
    use crate::status::State;

    #[test]
    fn a_client_is_sent_off_before_its_manager_hears_of_it() {
        // a manager that hears of it first may have given up again by then, and what the caller
        // changes after that would have everybody wait for an attempt that nobody makes
        let settings = Arc::new(Settings::default());
        let counters = Arc::new(Counters::default());
        let (commands, heard) = crossbeam_channel::bounded(0);
        let core = Core {
            id: next_id(),
            outbox: Arc::new(Outbox::new(
                settings.outbox,
                settings.limits.message,
                None,
                Delivery::default(),
                true,
            )),
            mailbox: Arc::new(Mailbox::new(settings.inbox, Arc::clone(&counters))),
            counters,
            status: Status::new(),
            publisher: Publisher::new(None),
            commands,
            interrupt: Arc::new(Interrupt::new()),
            done: Signal::new(),
            undelivered: Mutex::default(),
            settings,
        };
        core.status.enter(State::GaveUp, Some(Arc::new(Failure::ClosedAbnormally)));
        std::thread::scope(|scope| {
            let caller = scope.spawn(|| core.reconnect());
            // it is held up until somebody listens
            let deadline = Instant::now() + Duration::from_secs(30);
            while core.status.state() == State::GaveUp && Instant::now() < deadline {
                std::thread::yield_now();
            }
            let state = core.status.state();
            heard.recv().unwrap();
            caller.join().unwrap().unwrap();
            assert_eq!(state, State::Connecting);
        });
    }
}

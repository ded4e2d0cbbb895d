//! What a client's handles and its manager share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender as Commands;

use super::events::Publisher;
use super::status::Status;
use crate::dial::Interrupt;
use crate::error::Error;
use crate::link::stats::{Counters, Stats};
use crate::link::{InboxSlot, Opened, Owner, Parts};
use crate::message::{CloseFrame, Message};
use crate::queues::inbox::{Mailbox, NoMessage};
use crate::queues::outbox::Outbox;
use crate::resume::Counts;
use crate::sender::End;
use crate::settings::Settings;
use crate::sync::Mutex;
use crate::sync::Signal;
use crate::sync::threads::{self, thread_prefix};

/// How much longer than the closing handshake `close` waits for the threads.
const JOIN_GRACE: Duration = Duration::from_millis(100);

/// What a program asks of a manager. [`Core::close`] raises the interrupt as well, for a
/// manager that is not listening at the moment.
#[derive(Debug)]
pub(crate) enum Command {
    Reconnect,
    Close(CloseFrame),
}

pub(crate) struct Core {
    pub(crate) id: u64,
    pub(crate) settings: Arc<Settings>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) status: Status,
    pub(crate) publisher: Publisher,
    pub(crate) commands: Commands<Command>,
    pub(crate) interrupt: Arc<Interrupt>,
    /// Raised when the manager has ended, and everything with it.
    pub(crate) done: Signal,
    pub(crate) undelivered: Mutex<Vec<Message>>,
    /// Whether everything received goes to a handler.
    pub(crate) has_handler: bool,
    #[cfg(feature = "metrics")]
    pub(crate) outlet: crate::metrics::Outlet,
}

impl Core {
    /// What a link of this client is made of.
    pub(crate) fn link_parts(
        &self,
        inbox: &InboxSlot,
        link: u32,
        opened: Opened,
        session: Option<Arc<Counts>>,
    ) -> Parts {
        Parts {
            opened,
            settings: Arc::clone(&self.settings),
            outbox: Arc::clone(&self.outbox),
            inbox: Arc::clone(inbox),
            mailbox: Arc::clone(&self.mailbox),
            counters: Arc::clone(&self.counters),
            session,
            owner: Owner::Client,
            id: self.id,
            link,
        }
    }

    pub(crate) fn name(&self) -> String {
        thread_prefix(self.id)
    }

    /// What metrics and log records call it.
    pub(crate) fn label(&self) -> &str {
        self.settings.label()
    }

    pub(crate) fn recv(&self, deadline: Option<Instant>) -> Result<Message, Error> {
        if self.has_handler {
            let reason = "every message goes to the handler of on_message()";
            return Err(Error::WouldWaitForever { reason });
        }
        let now = Instant::now();
        let would_wait = deadline.is_none_or(|deadline| deadline > now);
        let is_in_vain = would_wait && self.is_awaited_here();
        let deadline = if is_in_vain { Some(now) } else { deadline };
        let ended = || self.status.end().is_some();
        loop {
            return match self.mailbox.recv(deadline, ended, || self.status.ended()) {
                Ok(message) => Ok(message),
                Err(NoMessage::TimedOut) if is_in_vain => Err(Error::on_own_thread()),
                Err(NoMessage::TimedOut) => Err(Error::Timeout),
                Err(NoMessage::Ended) => Err(Error::Closed),
                Err(NoMessage::Interrupted) => match self.status.end() {
                    Some(error) => Err(error),
                    // it was sent off again in between
                    None => continue,
                },
            };
        }
    }

    /// Whether the current thread has to go on before there can be a link.
    fn is_awaited_here(&self) -> bool {
        threads::belongs_to(self.id) && !self.status.is_up_now()
    }

    pub(crate) fn wait_connected(&self, timeout: Duration) -> Result<(), Error> {
        let now = Instant::now();
        if !threads::belongs_to(self.id) {
            return self.status.wait_connected(now.checked_add(timeout));
        }
        match self.status.wait_connected(Some(now)) {
            Err(Error::Timeout) => Err(Error::on_own_thread()),
            result => result,
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
        self.start_close(frame);
        if threads::belongs_to(self.id) {
            return false;
        }
        let bound = self.settings.timeouts.close + JOIN_GRACE;
        let ended = self.done.raised().recv_timeout(bound);
        matches!(ended, Err(crossbeam_channel::RecvTimeoutError::Disconnected))
    }

    /// Puts aside what was not delivered and could be sent again; returns how much it is.
    pub(crate) fn keep_undelivered(&self) -> usize {
        let left = self.outbox.drain();
        let count = left.len();
        self.undelivered.lock().extend(left);
        count
    }

    pub(crate) fn stats(&self) -> Stats {
        let (uptime, total_downtime) = self.status.times();
        Stats { uptime, total_downtime, ..self.counters.stats(&self.outbox, &self.mailbox) }
    }
}

#[cfg(feature = "metrics")]
impl crate::metrics::Source for Core {
    fn publish(&self) {
        self.counters.look_at();
        self.publish_to(crate::metrics::Extent::Whole);
    }
}

#[cfg(feature = "metrics")]
impl Core {
    /// A step in its life is published. Nobody has asked: no ping is owed for that.
    pub(crate) fn publish_step(&self, is_last: bool) {
        use crate::metrics::Extent;
        self.publish_to(if is_last { Extent::Last } else { Extent::Step });
    }

    fn publish_to(&self, extent: crate::metrics::Extent) {
        self.outlet
            .publish(extent, || crate::metrics::of_client(self.status.is_up_now(), &self.stats()));
    }
}

impl End for Core {
    fn id(&self) -> u64 {
        self.id
    }

    fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    fn is_up(&self) -> bool {
        self.status.is_up_now()
    }

    fn is_received_here_alone(&self) -> bool {
        self.mailbox.is_received_here_alone()
    }

    fn rests(&self) -> Option<Error> {
        self.status.end()
    }

    fn start_close(&self, frame: CloseFrame) {
        self.outbox.shut();
        let _ = self.command(Command::Close(frame));
        self.interrupt.raise();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::State;
    use crate::client::status::Step;
    use crate::failure::Failure;
    use crate::policy::Delivery;
    use crate::sync::threads::next_id;

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
            mailbox: Arc::new(Mailbox::new(settings.inbox)),
            counters,
            status: Status::new(),
            publisher: Publisher::new(None),
            commands,
            interrupt: Arc::new(Interrupt::new()),
            done: Signal::new(),
            undelivered: Mutex::default(),
            has_handler: false,
            #[cfg(feature = "metrics")]
            outlet: crate::metrics::Outlet::new("client", String::new()),
            settings,
        };
        core.status.enter(Step::GaveUp(Arc::new(Failure::ClosedAbnormally)));
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

//! What a client's handles and its manager share.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender as Commands;

use super::events::Publisher;
use super::status::Status;
use crate::dial::Interrupt;
use crate::error::Error;
use crate::link::{InboxSlot, Opened, Owner, Parts};
use crate::message::{CloseFrame, Message};
use crate::queues::inbox::{Mailbox, NoMessage};
use crate::queues::outbox::Outbox;
use crate::resume::Counts;
use crate::sender::End;
use crate::settings::Settings;
use crate::stats::{Counters, Stats};
use crate::sync::Mutex;
use crate::sync::Signal;
use crate::sync::threads::{self, Role, Threads, thread_prefix};

/// How long `close` waits for threads that have nothing to wait for: most of the 100 ms that it
/// promises.
const AT_ONCE: Duration = Duration::from_millis(80);

/// What a program asks of a manager. [`Core::close`] raises the interrupt as well, for a
/// manager that is not listening at the moment.
#[derive(Debug)]
pub(crate) enum Command {
    Reconnect,
    Close(CloseFrame),
}

/// Nothing of the program's that the builder was given is kept here but its callbacks for events and
/// dropped messages, which go with the manager: handles outlive the client.
pub(crate) struct Core {
    pub(crate) id: u64,
    pub(crate) threads: Threads,
    /// What metrics and log records call it.
    pub(crate) label: String,
    pub(crate) close_timeout: Duration,
    /// How long the program may hold the manager up before that is said.
    pub(crate) patience: Duration,
    /// Since when it is being closed: all who close it have one time for that.
    pub(crate) closing_since: Mutex<Option<Instant>>,
    /// Whether there is a link that is not buried.
    pub(crate) has_link: AtomicBool,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) status: Status,
    pub(crate) publisher: Publisher,
    pub(crate) commands: Commands<Command>,
    pub(crate) interrupt: Interrupt,
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
        settings: &Arc<Settings>,
        inbox: &InboxSlot,
        link: u32,
        opened: Opened,
        session: Option<Arc<Counts>>,
    ) -> Parts {
        Parts {
            opened,
            settings: Arc::clone(settings),
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
        &self.label
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
        self.outbox.rest(None);
        self.command(Command::Reconnect)
    }

    fn command(&self, command: Command) -> Result<(), Error> {
        if self.done.is_raised() {
            return Err(Error::Closed);
        }
        self.commands.send(command).map_err(|_| Error::Closed)
    }

    /// Closes, and waits until every thread has ended; returns whether all have. A thread of the
    /// client's own does not wait: it would wait for itself.
    pub(crate) fn close(&self, frame: CloseFrame) -> bool {
        let had_link = self.has_link.load(SeqCst);
        let since = self.begin_close(frame);
        if threads::belongs_to(self.id) {
            return false;
        }
        let join = |deadline| {
            self.threads.join(deadline, |role| role != Role::Inbox)
                // the one that offers messages to the program ends with the last of them
                && (self.mailbox.len() > 0
                    || self.threads.join(deadline, |role| role == Role::Inbox))
        };
        // without a link nothing is waited for but what hangs in the program's own code
        join(since + AT_ONCE)
            || (had_link || self.has_link.load(SeqCst))
                && join(since + self.close_timeout + AT_ONCE)
    }

    /// Starts to close; returns when that was first done.
    fn begin_close(&self, frame: CloseFrame) -> Instant {
        let since = *self.closing_since.lock().get_or_insert_with(Instant::now);
        self.outbox.shut();
        let _ = self.command(Command::Close(frame));
        self.interrupt.raise();
        since
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
        self.begin_close(frame);
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
                settings.outbox(),
                settings.limits().message,
                None,
                Delivery::default(),
                true,
            )),
            mailbox: Arc::new(Mailbox::new(settings.inbox())),
            counters,
            status: Status::new(),
            publisher: Publisher::new(None),
            commands,
            interrupt: Interrupt::new(),
            done: Signal::new(),
            undelivered: Mutex::default(),
            has_handler: false,
            #[cfg(feature = "metrics")]
            outlet: crate::metrics::Outlet::new("client", String::new()),
            threads: Threads::of(0, threads::LEAST_STACK),
            label: String::new(),
            close_timeout: settings.timeouts().close,
            patience: settings.heartbeat().interval,
            closing_since: Mutex::default(),
            has_link: AtomicBool::new(false),
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

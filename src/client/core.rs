//! What a client's handles and its manager share.

use std::convert::Infallible;
#[cfg(unix)]
use std::io;
#[cfg(unix)]
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use log::kv::Value;

use super::endpoints::Endpoints;
use super::event::Event;
use super::events::Publisher;
use super::status::{State, Status};
use crate::dial::Interrupt;
use crate::error::Error;
use crate::failure::{Decision, Failure, guarded};
use crate::http1::Endpoint;
use crate::link::Handle;
use crate::message::{CloseFrame, Message};
use crate::policy::Heartbeat;
use crate::queues::NoMessage;
use crate::queues::mailbox::Mailbox;
use crate::queues::outbox::Outbox;
use crate::sender::End;
use crate::settings::Settings;
use crate::stats::{ClientStats, Counters};
use crate::sync::threads::{self, Role, Threads, thread_prefix};
use crate::sync::{AtomicBool, Mutex};

/// How long `close` waits for threads that have nothing to wait for: most of the 100 ms that it
/// promises.
const AT_ONCE: Duration = Duration::from_millis(80);

/// What a manager is woken for. [`Core::close`] raises the interrupt as well, for a
/// manager that is not listening at the moment.
#[derive(Debug)]
pub(super) enum Command {
    /// There is a [`Wish`].
    Wish,
    Close,
}

/// What the program wants to come next. It is kept until the manager takes it where it decides that, so none is
/// lost, and the last one counts.
#[derive(Debug, Clone)]
pub(super) enum Wish {
    Reconnect,
    /// The link is to end, for this reason, and that is to follow.
    End(String, Decision),
}

#[derive(Default)]
struct Present {
    /// The link that is up, or one that is dead and not yet joined: its handler may still decide.
    link: Option<Handle>,
    wish: Option<Wish>,
}

/// Nothing of the program's that the builder was given is kept here but its callback for dropped
/// messages, which goes with the manager: handles outlive the client.
pub(super) struct Core {
    pub(super) id: u64,
    pub(super) threads: Threads,
    /// What metrics and log records call it.
    label: String,
    close_timeout: Duration,
    /// A callback that runs longer is said to have stalled.
    pub(super) stalled_after: Duration,
    /// When closing began, and what it says: all callers of `close` share one timeout.
    closing: OnceLock<(Instant, CloseFrame)>,
    /// Whether there is a session whose server is to be told of the end, with a link or without.
    has_session: AtomicBool,
    pub(super) outbox: Arc<Outbox>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) counters: Arc<Counters>,
    pub(super) status: Status,
    present: Mutex<Present>,
    pub(super) publisher: Publisher,
    commands: Sender<Command>,
    pub(super) endpoints: Endpoints,
    pub(super) interrupt: Interrupt,
    undelivered: Mutex<Vec<Message>>,
    /// Whether everything received goes to a handler.
    has_handler: bool,
    #[cfg(feature = "metrics")]
    outlet: crate::metrics::Outlet,
}

impl Core {
    /// The commands are for the manager.
    pub(super) fn new(
        id: u64,
        settings: &Settings,
        outbox: Outbox,
        endpoints: Endpoints,
        has_handler: bool,
    ) -> (Self, Receiver<Command>) {
        let (commands, received) = unbounded();
        let core = Self {
            id,
            threads: Threads::of(id, settings.stack_size()),
            label: settings.label().to_owned(),
            close_timeout: settings.timeouts().close,
            stalled_after: settings.heartbeat().interval,
            closing: OnceLock::new(),
            has_session: AtomicBool::new(false),
            outbox: Arc::new(outbox),
            mailbox: Arc::new(Mailbox::new(settings.inbox())),
            counters: Arc::default(),
            status: Status::new(),
            present: Mutex::default(),
            publisher: Publisher::default(),
            commands,
            endpoints,
            interrupt: Interrupt::new(),
            undelivered: Mutex::default(),
            has_handler,
            #[cfg(feature = "metrics")]
            outlet: crate::metrics::Outlet::new("client", settings.label().to_owned()),
        };
        (core, received)
    }

    pub(super) fn name(&self) -> String {
        thread_prefix(self.id)
    }

    /// The next message; `deadline` is asked for only if there is none yet.
    #[inline(always)]
    pub(super) fn recv(
        &self,
        deadline: impl FnOnce() -> Option<Instant>,
    ) -> Result<Message, Error> {
        match self.mailbox.next() {
            Some(message) => Ok(message),
            None => self.wait_for_message(deadline()),
        }
    }

    fn wait_for_message(&self, deadline: Option<Instant>) -> Result<Message, Error> {
        if self.has_handler {
            let reason = "every message goes to the handler of on_message()";
            return Err(self.status.end().unwrap_or(Error::WouldWaitForever { reason }));
        }
        // a wait without end would outlast the link, for which the manager waits then
        let is_in_vain = threads::belongs_to(self.id)
            && deadline.is_none_or(|time| time > Instant::now() && !self.status.is_up_now());
        let deadline = if is_in_vain { Some(Instant::now()) } else { deadline };
        let ended = || self.status.end().is_some();
        loop {
            return match self.mailbox.recv(deadline, ended, || self.status.ended()) {
                Ok(message) => Ok(message),
                Err(NoMessage::TimedOut) if is_in_vain => Err(Error::on_own_thread()),
                Err(NoMessage::TimedOut) => Err(Error::Timeout),
                Err(NoMessage::Ended) => Err(Error::Closed),
                Err(NoMessage::Interrupted) => match self.status.end() {
                    Some(error) => Err(error),
                    // `reconnect()` came in between
                    None => continue,
                },
            };
        }
    }

    #[cfg(unix)]
    pub(super) fn readable_fd(&self) -> io::Result<BorrowedFd<'_>> {
        if self.has_handler || self.mailbox.has_channel() {
            let why = "what is received goes to the handler or through the channel";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        self.mailbox.readable()
    }

    pub(super) fn wait_connected(&self, timeout: Duration) -> Result<(), Error> {
        let now = Instant::now();
        if !threads::belongs_to(self.id) {
            return self.status.wait_connected(now.checked_add(timeout));
        }
        match self.status.wait_connected(Some(now)) {
            Err(Error::Timeout) => Err(Error::on_own_thread()),
            result => result,
        }
    }

    pub(super) fn reconnect(&self) -> Result<(), Error> {
        // before the command: after it the manager may have given up again, and this would undo that
        self.status.resume();
        self.outbox.set_given_up(None);
        self.present.lock().wish = Some(Wish::Reconnect);
        self.command(Command::Wish)
    }

    pub(super) fn set_endpoints(
        &self,
        urls: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<(), Error> {
        if self.status.state() == State::Closed {
            return Err(Error::Closed);
        }
        self.endpoints.set(urls)
    }

    fn command(&self, command: Command) -> Result<(), Error> {
        if self.status.state() == State::Closed {
            return Err(Error::Closed);
        }
        self.commands.send(command).map_err(|_| Error::Closed)
    }

    fn link(&self) -> Result<Handle, Error> {
        let link = self.present.lock().link.clone();
        link.ok_or_else(|| self.no_link())
    }

    fn no_link(&self) -> Error {
        self.status.end().unwrap_or(Error::NotConnected)
    }

    /// This link is up from here on, which satisfies a `reconnect()` that came before.
    pub(super) fn link_up(&self, link: Handle) {
        *self.present.lock() = Present { link: Some(link), wish: None };
    }

    /// There is none any more whose end could be decided on.
    pub(super) fn link_gone(&self) {
        self.present.lock().link = None;
    }

    pub(super) fn wish(&self) -> Option<Wish> {
        self.present.lock().wish.clone()
    }

    pub(super) fn take_wish(&self) -> Option<Wish> {
        self.present.lock().wish.take()
    }

    /// Closes, and waits until every thread has ended; returns whether all have. A thread of the
    /// client's own does not wait: it would wait for itself.
    pub(super) fn close(&self, frame: CloseFrame) -> bool {
        let had_link = self.status.has_link();
        let since = self.begin_close(frame);
        if threads::belongs_to(self.id) {
            return false;
        }
        let join = |deadline| {
            self.threads.join(deadline, |role| role != Role::Inbox)
                // the thread of a channel ends when the last message is taken
                && (self.mailbox.len() > 0
                    || self.threads.join(deadline, |role| role == Role::Inbox))
        };
        // without a link and a session only the program's own code can take longer
        let may_take_time = had_link || self.has_session.load(Relaxed);
        join(since + AT_ONCE)
            || (may_take_time || self.status.has_link())
                && join(since + self.close_timeout + AT_ONCE)
    }

    /// Starts to close; returns when that was first done.
    fn begin_close(&self, frame: CloseFrame) -> Instant {
        let since = self.closing.get_or_init(|| (Instant::now(), frame)).0;
        self.outbox.shut();
        let _ = self.command(Command::Close);
        self.interrupt.raise();
        since
    }

    /// When the time for closing is over, and what is said; `None` if the program has not closed it.
    pub(super) fn closing(&self) -> Option<(Instant, &CloseFrame)> {
        self.closing.get().map(|(since, frame)| (*since + self.close_timeout, frame))
    }

    /// Whether there is a session whose server is to be told of the end.
    pub(super) fn set_session(&self, is_held: bool) {
        self.has_session.store(is_held, Relaxed);
    }

    /// Keeps the messages that were not delivered for `close`. Returns how many.
    pub(super) fn keep_undelivered(&self) -> usize {
        let left = self.outbox.drain();
        let count = left.len();
        self.undelivered.lock().extend(left);
        count
    }

    /// What [`keep_undelivered`](Self::keep_undelivered) has put aside, for the first who asks.
    pub(super) fn take_undelivered(&self) -> Vec<Message> {
        std::mem::take(&mut *self.undelivered.lock())
    }

    pub(super) fn stats(&self) -> ClientStats {
        let (uptime, total_downtime) = self.status.times();
        ClientStats {
            uptime,
            total_downtime,
            inbox_messages: self.mailbox.len(),
            inbox_dropped: self.mailbox.dropped(),
            ..self.counters.of_client(&self.outbox.tally())
        }
    }

    /// Runs code of the program's on the manager thread, or on one for which that waits.
    ///
    /// # Errors
    ///
    /// [`Failure::Panicked`].
    pub(super) fn call<T>(
        self: &Arc<Self>,
        callback: &'static str,
        code: impl FnOnce() -> T,
    ) -> Result<T, Failure> {
        self.call_within(self.stalled_after, callback, code)
    }

    /// The same. Nothing goes on while the code runs, so another thread says if it takes so long; if
    /// there is no thread to be had, nobody does.
    pub(super) fn call_within<T>(
        self: &Arc<Self>,
        waiting: Duration,
        callback: &'static str,
        code: impl FnOnce() -> T,
    ) -> Result<T, Failure> {
        let (returns, returned) = bounded::<Infallible>(0);
        let core = Arc::clone(self);
        let _ = self.threads.start(Role::Watch, move || {
            if returned.recv_timeout(waiting) == Err(RecvTimeoutError::Timeout) {
                let event = Event::CallbackStalled { callback, waiting };
                core.record(&event);
                core.publish_event(event);
            }
        });
        let result = guarded(callback, code);
        drop(returns);
        result
    }

    /// Tells those who have subscribed; one of them may wait in a loop of its own.
    pub(super) fn publish_event(&self, event: Event) {
        self.publisher.publish(event);
        self.mailbox.wake_loop();
    }

    /// Logs an event, and brings the metrics up to date. Nobody has asked for the counters: no ping is
    /// sent for them.
    #[inline(never)]
    pub(super) fn note(&self, event: &Event) {
        self.record(event);
        #[cfg(feature = "metrics")]
        crate::metrics::Published::publish(
            self,
            match event {
                Event::Closed { .. } => crate::metrics::Extent::Last,
                _ => crate::metrics::Extent::Step,
            },
        );
    }

    /// Logs a step. What a link itself says while it lives is logged there.
    fn record(&self, event: &Event) {
        let level = event.level();
        // the link has logged these two itself
        let is_said =
            matches!(event, Event::ReceiverStalled { .. } | Event::ConfirmationsMissing { .. });
        if is_said || !log::log_enabled!(level) {
            return;
        }
        let mut fields: Vec<(&str, Value<'_>)> = vec![
            ("client", self.id.into()),
            ("name", self.label.as_str().into()),
            ("event", event.name().into()),
        ];
        fields.extend(event.fields());
        let (thread, module) = (self.name(), module_path!());
        log::logger().log(
            &log::Record::builder()
                .level(level)
                .target(module)
                .module_path_static(Some(module))
                .file_static(Some(file!()))
                .line(Some(line!()))
                .key_values(&fields.as_slice())
                .args(format_args!("{thread}: {event}"))
                .build(),
        );
    }
}

#[cfg(feature = "metrics")]
impl crate::metrics::Published for Core {
    fn outlet(&self) -> &crate::metrics::Outlet {
        &self.outlet
    }

    fn publish(&self, extent: crate::metrics::Extent) {
        if extent == crate::metrics::Extent::Whole {
            self.counters.look_at();
        }
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

    fn gave_up(&self) -> Option<Error> {
        self.status.end()
    }

    fn start_close(&self, frame: CloseFrame) {
        self.begin_close(frame);
    }

    fn end_link(&self, reason: String, decision: Decision) -> Result<(), Error> {
        if let Decision::RetryAt { url, .. } = &decision {
            self.endpoints.requests([Endpoint::parse(url)])?;
        }
        if self.closing.get().is_some() {
            return Err(Error::Closed);
        }
        {
            let mut present = self.present.lock();
            if present.link.is_none() {
                drop(present);
                return Err(self.no_link());
            }
            present.wish = Some(Wish::End(reason, decision));
        }
        self.command(Command::Wish)
    }

    fn set_heartbeat(&self, heartbeat: Heartbeat) -> Result<(), Error> {
        self.link()?.set_heartbeat(heartbeat)
    }

    fn ping(&self, timeout: Duration) -> Result<Duration, Error> {
        self.link()?.ping(timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::status::Step;
    use crate::handshake::OpeningRequest;
    use crate::http1::Endpoint;
    use crate::policy::Delivery;
    use crate::sync::threads::next_id;

    #[test]
    fn a_client_is_sent_off_before_its_manager_hears_of_it() {
        // if the manager heard of it first, it could give up again before the caller changes the state,
        // and everybody would wait for an attempt that nobody makes
        let settings = Settings::default();
        let (outbox, delivery) = (settings.outbox(), Delivery::default());
        let outbox = Outbox::new(outbox, settings.limits().message, None, delivery, true);
        let home = OpeningRequest::new(Endpoint::parse("ws://home").unwrap());
        let endpoints = Endpoints::new(home, None, false);
        let (mut core, _) = Core::new(next_id(), &settings, outbox, endpoints, false);
        let (commands, heard) = bounded(0);
        core.commands = commands;
        core.status.enter(Step::GaveUp(Arc::new(Failure::ClosedAbnormally)));
        std::thread::scope(|scope| {
            let caller = scope.spawn(|| core.reconnect());
            // `reconnect` blocks until the command is received
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

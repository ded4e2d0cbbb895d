//! The life cycle of a client, on a thread of its own: dial, open, serve, join, back off.
//!
//! [`Manager::live`] is the whole of it, [`Manager::serve`] what becomes of a link that is up. Where
//! the delay before a redial is decided: [`Manager::delay_after`].

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvError, RecvTimeoutError, Sender, bounded, select};

use super::attempt::{Opener, Success};
use super::client_handle::ClientHandle;
use super::core::{Command, Core, Wish};
use super::event::Event;
use super::session::{ClientSession, SessionStart};
use super::status::Step;
use super::streak::{FailureStreak, spread};
use crate::failure::{Decision, Failure, Next, guarded};
use crate::link::{CloseRequest, Ended, GOODBYE, InboxSlot, Link, Parts};
use crate::message::{CloseCode, CloseFrame};
use crate::policy::MAX_DURATION;
use crate::queues::inbox::Inbox;
use crate::queues::terms::TooLarge;
use crate::settings::Settings;
use crate::sync::Mutex;
use crate::sync::threads::Role;

/// How long the end of a link is held back for received messages to be delivered.
const MOMENT: Duration = Duration::from_millis(50);

const EVENT: &str = "event callback";
const DECISION: &str = "decision function";
const BACKOFF: &str = "backoff";

/// Told of each event.
pub(super) type EventHook = Box<dyn FnMut(&ClientHandle, &Event) + Send>;

/// Decides what to do after a failure.
pub(super) type Decide = Box<dyn FnMut(&ClientHandle, &Failure) -> Decision + Send>;

pub(super) struct Manager {
    core: Arc<Core>,
    settings: Arc<Settings>,
    opener: Opener,
    session: ClientSession,
    inbox: InboxSlot,
    commands: Receiver<Command>,
    /// Lent to the two callbacks.
    handle: ClientHandle,
    on_event: Option<EventHook>,
    decide: Option<Decide>,
    /// Gets the result of the first attempt, which then decides.
    first: Option<Sender<Result<(), Arc<Failure>>>>,
    /// When the last attempt failed or the last link died.
    since: Instant,
    /// The number of the present link, or of the last one.
    link: u32,
    /// Attempts since the last link was lost.
    attempts: u32,
    streak: FailureStreak,
}

/// A link that has just come up, and what there is to say of that.
struct Up {
    link: Link,
    response: Option<http::Response<()>>,
    session: SessionStart,
}

/// What comes after an attempt or a link.
enum NextStep {
    Redial(Duration),
    GiveUp(Arc<Failure>),
    Close { clean: bool },
}

impl NextStep {
    /// The same, for an event.
    fn shown(&self) -> Next {
        match self {
            Self::Redial(delay) => Next::Redial { delay: *delay },
            Self::GiveUp(_) => Next::GiveUp,
            Self::Close { .. } => Next::Close,
        }
    }
}

impl Manager {
    pub(super) fn new(
        core: Arc<Core>,
        settings: Arc<Settings>,
        opener: Opener,
        inbox: Inbox,
        commands: Receiver<Command>,
        on_event: Option<EventHook>,
        decide: Option<Decide>,
    ) -> Self {
        Self {
            handle: ClientHandle::new(&core),
            session: ClientSession::new(core.id, &settings, &core.counters, &core.outbox),
            core,
            settings,
            opener,
            inbox: Arc::new(Mutex::new(Some(inbox))),
            commands,
            on_event,
            decide,
            first: None,
            since: Instant::now(),
            link: 0,
            attempts: 0,
            streak: FailureStreak::default(),
        }
    }

    /// Has the first attempt decide: if it fails, the client is closed. Its result comes here.
    pub(super) fn first_decides(&mut self) -> Receiver<Result<(), Arc<Failure>>> {
        let (sender, first) = bounded(1);
        self.first = Some(sender);
        first
    }

    /// Runs until the client is closed.
    pub(super) fn run(&mut self) {
        let clean = match guarded("manager", || self.live()) {
            Ok(clean) => clean,
            Err(panic) => {
                log::error!("{panic}: please report this as a bug of everlink");
                false
            }
        };
        self.core.outbox.shut();
        let undelivered = self.core.keep_undelivered();
        self.core.outbox.tell_no_more();
        self.core.status.enter(Step::Closed);
        drop(self.inbox.lock().take());
        self.core.mailbox.end();
        self.make_known(Event::Closed { clean, undelivered });
    }

    /// The life cycle; returns whether it ended with a closing handshake.
    // the stack of this frame stays resident while the client waits, so short steps have frames of
    // their own
    fn live(&mut self) -> bool {
        loop {
            self.attempts += 1;
            self.adopt_endpoints();
            self.say_connecting();
            let next = match self.open(None) {
                Ok(up) => {
                    let close = self.commands.try_iter().find(|c| matches!(c, Command::Close));
                    let link = self.announce(up);
                    self.serve(link, close)
                }
                Err(Failure::Interrupted) => NextStep::Close { clean: false },
                Err(failure) => self.attempt_failed(failure),
            };
            let next = match next {
                NextStep::Redial(delay) => self.back_off(delay),
                NextStep::GiveUp(cause) => match self.give_up(cause) {
                    // there is no point in another attempt
                    NextStep::Close { clean } => return clean,
                    next => next,
                },
                close @ NextStep::Close { .. } => close,
            };
            if let NextStep::Close { clean } = next {
                return clean || self.finish_session();
            }
        }
    }

    /// Logs an event, brings the metrics up to date and tells the program.
    // not inlined: `live` waits with its own frame on the stack, and this one's would add to it
    #[inline(never)]
    fn make_known(&mut self, event: Event) {
        self.core.note(&event);
        self.call_back(&event);
        self.core.publish_event(event);
    }

    fn call_back(&mut self, event: &Event) {
        let Some(callback) = &mut self.on_event else { return };
        if let Err(panic) = self.core.call(EVENT, || callback(&self.handle, event)) {
            log::error!("{panic}");
        }
        // it may have kept the event for a loop of the program's
        self.core.mailbox.wake_loop();
    }

    fn adopt_endpoints(&mut self) {
        if let Some(requests) = self.core.endpoints.take() {
            self.opener.adopt(requests);
        }
    }

    #[inline(never)]
    fn say_connecting(&mut self) {
        let (attempt, endpoint) = (self.attempts, self.opener.upcoming());
        self.core.status.enter(Step::Connecting(endpoint.clone()));
        self.make_known(Event::Connecting { attempt, endpoint });
    }

    /// Makes an attempt on a thread of its own: opening a connection touches many times the stack that
    /// watching over one does, and it goes with the thread.
    #[inline(never)]
    fn open(&mut self, latest: Option<Instant>) -> Result<Up, Failure> {
        let Self { opener, session, core, settings, inbox, .. } = self;
        let (link, attempt) = (self.link + 1, self.attempts);
        let threads = core.threads.clone();
        thread::scope(|scope| {
            let open = move || {
                let Success { opened, response, start, .. } =
                    opener.open(attempt, core, latest, session)?;
                let start = session.begin(start);
                let parts = Parts {
                    opened,
                    settings: Arc::clone(settings),
                    outbox: Arc::clone(&core.outbox),
                    inbox: Arc::clone(inbox),
                    mailbox: Arc::clone(&core.mailbox),
                    counters: Arc::clone(&core.counters),
                    session: session.counts(),
                    id: core.id,
                    link,
                };
                // a link that lacks a thread may have written already
                let link = Link::start(parts)
                    .inspect_err(|failure| session.link_ended(failure, latest.is_some()))?;
                Ok(Up { link, response, session: start })
            };
            let thread = threads.spawn_scoped(scope, Role::Opening, open);
            let thread = thread.map_err(Failure::Thread)?;
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    #[inline(never)]
    fn announce(&mut self, up: Up) -> Link {
        let Up { link, response, session } = up;
        self.core.counters.connects.fetch_add(1, Relaxed);
        self.core.link_up(link.handle());
        self.link += 1;
        let attempts = std::mem::take(&mut self.attempts);
        let (response, compression) = (response.map(Arc::new), link.compression());
        let (endpoint, shown) = (self.opener.endpoint(), response.clone());
        let step = Step::Connected { endpoint: endpoint.clone(), response: shown, compression };
        let downtime = self.core.status.enter(step);
        self.core.set_session(self.session.is_held());
        link.announce();
        let event = Event::Connected {
            link: self.link,
            attempts,
            downtime,
            endpoint,
            response,
            compression,
            session,
        };
        match self.first.take() {
            None => self.make_known(event),
            // not published: there is no client yet that anybody could have subscribed to
            Some(first) => {
                self.core.note(&event);
                let _ = first.send(Ok(()));
                self.call_back(&event);
            }
        }
        link
    }

    #[inline(never)]
    fn attempt_failed(&mut self, failure: Failure) -> NextStep {
        self.since = Instant::now();
        self.core.counters.failures.add(failure.kind());
        self.streak.fail(self.since);
        let attempts = self.attempts;
        let (cause, mut step) = self.judge(Arc::new(failure), None);
        if let Some(first) = self.first.take() {
            let _ = first.send(Err(Arc::clone(&cause)));
            step = NextStep::Close { clean: false };
        }
        let next = step.shown();
        let endpoint = self.opener.endpoint();
        self.opener.next_endpoint();
        self.core.status.failed(endpoint.clone(), Arc::clone(&cause));
        self.make_known(Event::AttemptFailed { attempts, endpoint, cause, next });
        step
    }

    /// Decides what comes after a failure, and when.
    fn judge(
        &mut self,
        cause: Arc<Failure>,
        decided: Option<Decision>,
    ) -> (Arc<Failure>, NextStep) {
        let give_up = |cause: Arc<Failure>| (Arc::clone(&cause), NextStep::GiveUp(cause));
        match self.delay_after(&cause, decided) {
            Ok(Some(delay)) => (cause, NextStep::Redial(delay)),
            Ok(None) => give_up(cause),
            // without a policy there is no telling what a retry would do
            Err(panic) => give_up(Arc::new(panic)),
        }
    }

    /// The delay before the redial after a failure; `None` if the client gives up.
    ///
    /// # Errors
    ///
    /// The panic of the code of the program's that decides.
    fn delay_after(
        &mut self,
        cause: &Failure,
        decided: Option<Decision>,
    ) -> Result<Option<Duration>, Failure> {
        // a server says the end of a session in it: a close frame may be of anybody on the way
        let is_of_the_link =
            matches!(cause, Failure::Closed(_)) && self.session.is_resumable(cause);
        let decision = match (decided, &mut self.decide) {
            (Some(decision), _) => decision,
            (None, None) if is_of_the_link => Decision::Retry,
            (None, None) => self.opener.decision(cause),
            (None, Some(decide)) => self.core.call(DECISION, || decide(&self.handle, cause))?,
        };
        let not_before = match decision {
            Decision::Retry => Duration::ZERO,
            Decision::RetryAfter(delay) => spread(delay, cause),
            Decision::RetryAt { url, delay } => {
                // those that are set from here on go before it
                self.adopt_endpoints();
                self.opener.go_to(&url);
                return Ok(Some(delay.min(MAX_DURATION)));
            }
            Decision::GiveUp => return Ok(None),
        };
        if self.settings.max_attempts.is_some_and(|most| self.streak.failed() >= most) {
            return Ok(None);
        }
        let (retry, outage) = self.streak.retry(self.since);
        let backoff = &self.settings.backoff();
        let delay = || match self.streak.is_of_stable_link() {
            true => backoff.delay_after_loss(retry, outage),
            false => backoff.delay(retry, outage),
        };
        let delay = if backoff.is_custom() { self.core.call(BACKOFF, delay)? } else { delay() };
        Ok(Some(delay.max(not_before).min(MAX_DURATION)))
    }

    /// Lets the delay pass, which began with the failure, unless the program wants something else.
    fn back_off(&mut self, delay: Duration) -> NextStep {
        let due = self.since + delay;
        self.core.status.enter(Step::BackingOff(due));
        loop {
            select! {
                recv(self.commands) -> command => if let Some(next) = self.obey(command) {
                    return next;
                },
                recv(crossbeam_channel::at(due)) -> _ => return NextStep::Redial(Duration::ZERO),
            }
        }
    }

    /// Does nothing until the program wants something.
    fn give_up(&mut self, cause: Arc<Failure>) -> NextStep {
        let attempts = self.streak.failed();
        self.core.status.enter(Step::GaveUp(Arc::clone(&cause)));
        self.core.mailbox.wake_all();
        self.core.outbox.set_given_up(Some(Arc::clone(&cause)));
        self.make_known(Event::GaveUp { cause, attempts });
        let next = loop {
            let command = self.commands.recv();
            if let Some(next) = self.obey(command) {
                break next;
            }
        };
        // again: a `reconnect()` that came before the first of these calls has told the outbox too early
        self.core.outbox.set_given_up(None);
        next
    }

    /// Does what the program wants of a client without a link. One attempt answers all requests to
    /// reconnect that have come by now; a request to close goes before them. `None` if there is nothing to
    /// do: that was done when the link ended.
    fn obey(&mut self, command: Result<Command, RecvError>) -> Option<NextStep> {
        // no error comes: the core holds a sender as long as this manager runs
        let Ok(Command::Wish) = command else { return Some(NextStep::Close { clean: false }) };
        if self.commands.try_iter().any(|command| matches!(command, Command::Close)) {
            return Some(NextStep::Close { clean: false });
        }
        self.core.take_wish().map(|_| self.redial_at_once())
    }

    /// The program wants to start over.
    fn redial_at_once(&mut self) -> NextStep {
        self.streak = FailureStreak::default();
        NextStep::Redial(Duration::ZERO)
    }

    /// Watches over a link until it is dead and joined.
    fn serve(&mut self, link: Link, close: Option<Command>) -> NextStep {
        let born = Instant::now();
        if self.watch(&link, close) {
            let ended = self.join(link);
            self.core.counters.disconnects.add(ended.cause.kind());
            return NextStep::Close { clean: ended.is_clean };
        }
        self.since = Instant::now();
        let uptime = self.since.duration_since(born);
        let cause = link.ended().cause;
        self.core.status.enter(Step::Disconnected(self.opener.endpoint(), cause));
        // what the reader still delivers can tell more of the cause; a handler that is running may take
        // long, and the end is made known without waiting for it
        if link.read().recv_deadline(self.since + MOMENT) == Err(RecvTimeoutError::Disconnected) {
            let ended = self.join(link);
            return self.link_ended(ended, uptime);
        }
        let next = self.link_ended(link.ended(), uptime);
        let is_closed = self.outlast_handler(&link);
        self.join(link);
        match self.core.take_wish() {
            _ if is_closed => NextStep::Close { clean: false },
            // a handler that had messages left has decided meanwhile
            Some(wish) => self.fulfil(wish).1,
            None => next,
        }
    }

    /// Decides what comes next as the program wants it, and why.
    fn fulfil(&mut self, wish: Wish) -> (Arc<Failure>, NextStep) {
        match wish {
            Wish::Reconnect => (Arc::new(Failure::ReconnectRequested), self.redial_at_once()),
            Wish::End(reason, decision) => {
                self.judge(Arc::new(Failure::Ended(reason)), Some(decision))
            }
        }
    }

    /// The client is closed, and the server has not said that it knows that its session is over: it is told,
    /// behind what is queued, on links of their own while there is time. Returns whether it has heard it.
    #[inline(never)]
    fn finish_session(&mut self) -> bool {
        let core = Arc::clone(&self.core);
        let Some((deadline, frame)) = core.closing() else { return false };
        let since = Instant::now();
        for retry in 1.. {
            let backoff = self.settings.backoff();
            let delay = || backoff.delay(retry, since.elapsed());
            let delay = if backoff.is_custom() { core.call(BACKOFF, delay) } else { Ok(delay()) };
            let due = delay.ok().and_then(|delay| Instant::now().checked_add(delay));
            let Some(due) = due.filter(|due| self.session.is_held() && *due < deadline) else {
                return false;
            };
            let _ = crossbeam_channel::at(due).recv();
            core.status.enter(Step::Connecting(self.opener.upcoming()));
            let Ok(Up { link, .. }) = self.open(Some(deadline)) else { continue };
            link.announce();
            link.handle().close(CloseRequest::after_data(frame.clone()).by(deadline));
            link.handle().wait_closed();
            if self.join(link).is_clean {
                return true;
            }
        }
        false
    }

    /// The next link has the same handler, so it waits until the handler has had what came on this link,
    /// or until the program wants to reconnect, or to close, which it returns.
    fn outlast_handler(&mut self, link: &Link) -> bool {
        let is_closed = loop {
            select! {
                recv(link.read()) -> _ => return false,
                recv(self.commands) -> command => match (command, self.core.wish()) {
                    (Ok(Command::Close) | Err(_), _) => break true,
                    (Ok(Command::Wish), Some(Wish::Reconnect)) => break false,
                    (Ok(Command::Wish), _) => {}
                },
            }
        };
        if is_closed {
            // as much time as if the link were alive
            let _ = link.read().recv_timeout(self.settings.timeouts().close);
        }
        link.handle().end(Failure::Interrupted);
        is_closed
    }

    /// Joins the threads of a dead link, and settles with outbox and session what it had taken.
    fn join(&mut self, link: Link) -> Ended {
        self.core.link_gone();
        let ended = link.join();
        if matches!(&*ended.cause, Failure::Closed(Some(frame)) if frame.code.0 == 1009) {
            if let Some(TooLarge { size, message }) = self.core.outbox.take_too_large() {
                self.make_known(Event::MessageTooLarge { size, message });
            }
        }
        self.core.outbox.suspect_first(&ended.cause, ended.is_answered);
        self.session.link_ended(&ended.cause, self.core.closing().is_some());
        self.core.set_session(self.session.is_held());
        ended
    }

    /// Waits for the end of a link, or brings it about. Returns whether the client is closed with it.
    fn watch(&mut self, link: &Link, close: Option<Command>) -> bool {
        let Some(command) = close.or_else(|| self.next_command(link)) else { return false };
        let handle = link.handle();
        let is_closed = matches!(command, Command::Close);
        if is_closed {
            self.core.status.enter(Step::Closing);
            // always there: whoever closes says when and how first
            if let Some((deadline, frame)) = self.core.closing() {
                handle.close(CloseRequest::after_data(frame.clone()).by(deadline));
            }
        } else {
            let cause = match self.core.wish() {
                Some(Wish::End(reason, _)) => Failure::Ended(reason),
                _ => Failure::ReconnectRequested,
            };
            let frame = CloseFrame::new(CloseCode::NORMAL, "");
            let request = CloseRequest::urgent(Some(frame)).because(cause);
            handle.close(request.by(Instant::now() + GOODBYE));
        }
        handle.wait_closed();
        is_closed
    }

    /// Waits for a command. `None` if the link dies before.
    fn next_command(&mut self, link: &Link) -> Option<Command> {
        let handle = link.handle();
        loop {
            select! {
                // no error comes: the core holds a sender as long as this manager runs
                recv(self.commands) -> command => match command {
                    // of one that an attempt has satisfied
                    Ok(Command::Wish) if self.core.wish().is_none() => {}
                    command => return command.ok(),
                },
                recv(handle.died()) -> _ => return None,
                recv(link.notices()) -> notice => if let Ok(notice) = notice {
                    self.make_known(Event::noticed(notice));
                }
            }
        }
    }

    /// Decides what comes after a link, and makes it known.
    fn link_ended(&mut self, ended: Ended, uptime: Duration) -> NextStep {
        if uptime >= self.settings.stable_after() {
            self.streak = FailureStreak::of_stable_link(self.since);
        } else {
            self.streak.fail(self.since);
        }
        let resumable = self.session.is_resumable(&ended.cause);
        let (cause, step) = match self.core.take_wish() {
            // even if something else ended the link meanwhile
            Some(Wish::Reconnect) => (ended.cause, self.redial_at_once()),
            Some(wish) => self.fulfil(wish),
            None => self.judge(ended.cause, None),
        };
        self.core.counters.disconnects.add(cause.kind());
        let endpoint = self.opener.endpoint();
        if !resumable {
            self.opener.next_endpoint();
        }
        self.core.status.failed(endpoint.clone(), Arc::clone(&cause));
        self.make_known(Event::Disconnected {
            link: self.link,
            cause,
            endpoint,
            uptime,
            unconfirmed: ended.unconfirmed,
            will_be_resent: self.settings.delivery().resends(),
            resumable,
            next: step.shown(),
        });
        step
    }
}

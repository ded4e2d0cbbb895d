//! The life cycle of a client, on a thread of its own: dial, open, serve, bury, back off.
//!
//! [`Manager::live`] is the whole of it. Where a delay before a redial is decided:
//! [`Manager::judge`].

use std::fmt;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvError, Sender, select};

use super::after::{After, Ending};
use super::attempt::{Opener, Success};
use super::core::{Command, Core};
use super::events::Event;
use super::status::{Details, State};
use super::streak::{FailureStreak, spread};
use crate::failure::{Decision, Failure, guarded};
use crate::link::{Ended, InboxSlot, Link};
use crate::message::{CloseCode, CloseFrame};
use crate::policy::{Delivery, MAX_DURATION};
use crate::queues::outbox::TooLarge;
use crate::sync::threads;

/// Decides what to do after a failure.
pub(crate) type Decide = Box<dyn FnMut(&Failure) -> Decision + Send>;

/// How long the end of a link may wait for what had come to be delivered.
const MOMENT: Duration = Duration::from_millis(50);

/// How long a link that is given up on request has for its goodbye.
const GOODBYE: Duration = Duration::from_millis(500);

pub(crate) struct Manager {
    pub(crate) core: Arc<Core>,
    pub(crate) opener: Opener,
    pub(crate) inbox: InboxSlot,
    pub(crate) commands: Receiver<Command>,
    pub(crate) decide: Option<Decide>,
    /// Gets the result of the first attempt, which then decides.
    pub(crate) first: Option<Sender<Result<(), Arc<Failure>>>>,
    /// When the last attempt failed or the last link died.
    pub(crate) since: Instant,
    /// The number of the present link, or of the last one.
    pub(crate) link: u32,
    pub(crate) streak: FailureStreak,
}

/// A link that has just come up, and what there is to say of that.
struct Up {
    link: Link,
    response: Option<http::Response<()>>,
    endpoint: String,
}

impl Manager {
    /// Runs until the client is closed.
    pub(crate) fn run(&mut self) {
        let clean = match guarded("manager", || self.live()) {
            Ok(clean) => clean,
            Err(panic) => {
                log::error!("{panic}: please report this as a bug of everlink");
                false
            }
        };
        self.core.outbox.shut();
        let undelivered = self.core.keep_undelivered();
        self.core.status.enter(State::Closed, None);
        drop(self.inbox.lock().take());
        self.core.mailbox.end();
        self.say(|client| Event::Closed { client, clean, undelivered });
        self.core.done.raise();
    }

    /// The life cycle; returns whether it ended with a closing handshake.
    // what it touches of the stack stays resident while it waits: what comes and goes has frames of
    // its own
    fn live(&mut self) -> bool {
        loop {
            self.core.status.enter(State::Connecting, None);
            self.streak.attempts += 1;
            self.say_connecting();
            let attempt = self.open();
            let has_lost = self.opener.has_lost_session(&self.core.outbox);
            let after = match attempt {
                Ok(mut up) => {
                    // a `reconnect()` queued before this link came up is satisfied by it
                    let close = self.commands.try_iter().find(|c| matches!(c, Command::Close(_)));
                    self.announce(&mut up);
                    self.serve(up.link, close)
                }
                Err(Failure::Interrupted) => After::Close { clean: false },
                Err(failure) => self.attempt_failed(failure, has_lost),
            };
            let after = match after {
                After::Redial(delay) => self.back_off(delay),
                After::GiveUp(cause) => self.rest(cause),
                close @ After::Close { .. } => close,
            };
            if let After::Close { clean } = after {
                return clean;
            }
        }
    }

    /// Makes an event known that carries the number of this client.
    fn say(&self, event: impl FnOnce(u64) -> Event) {
        self.core.make_known(event(self.core.id));
    }

    #[inline(never)]
    fn say_connecting(&self) {
        let (attempt, endpoint) = (self.streak.attempts, self.opener.upcoming());
        self.core.status.dials(endpoint.clone());
        self.say(|client| Event::Connecting { client, attempt, endpoint });
    }

    /// Makes an attempt, on a thread of its own, whose stack goes with it: to open a connection
    /// touches many times of it what watching over one does.
    #[inline(never)]
    fn open(&mut self) -> Result<Box<Up>, Failure> {
        let Self { opener, core, inbox, link, streak, .. } = self;
        let (core, inbox, link, attempt) = (&**core, &*inbox, *link + 1, streak.attempts);
        thread::scope(|scope| {
            let open = move || {
                threads::belong_to(core.id);
                let Success { opened, response, endpoint, start } = opener.open(attempt)?;
                opener.begin_session(&core.outbox, start);
                let session = opener.counts();
                let link = Link::start(core.link_parts(inbox, link, opened, session))?;
                Ok(Box::new(Up { link, response, endpoint }))
            };
            let (prefix, stack) = (threads::thread_prefix(core.id), threads::PASSING_STACK);
            let thread = threads::spawn_scoped(scope, &prefix, "opening", stack, open)
                .map_err(Failure::Thread)?;
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    #[inline(never)]
    fn announce(&mut self, up: &mut Up) {
        self.core.counters.connects.fetch_add(1, Relaxed);
        self.link += 1;
        let downtime = self.core.status.enter(State::Connected, None);
        up.link.announce();
        let endpoint = std::mem::take(&mut up.endpoint);
        let attempts = std::mem::take(&mut self.streak.attempts);
        let (response, compression) = (up.response.take().map(Arc::new), up.link.compression());
        let details = Details { response: response.clone(), compression };
        self.core.status.is_up(endpoint.clone(), details);
        let (client, link) = (self.core.id, self.link);
        let session = self.opener.session_start();
        let event = Event::Connected {
            client,
            link,
            attempts,
            downtime,
            endpoint,
            response,
            compression,
            session,
        };
        match self.first.take() {
            None => self.core.make_known(event),
            // nobody can have subscribed before this; later subscribers start with what follows
            Some(first) => {
                self.core.note(&event);
                let _ = first.send(Ok(()));
                self.core.publisher.call_back(&event);
            }
        }
    }

    /// Watches over a link until it is dead and buried.
    fn serve(&mut self, link: Link, close: Option<Command>) -> After {
        let born = Instant::now();
        let ending = self.watch(&link, close);
        if ending == Ending::Close {
            let ended = link.bury();
            self.core.counters.disconnects.add(ended.cause.kind());
            return After::Close { clean: ended.is_clean };
        }
        self.since = Instant::now();
        let uptime = self.since.duration_since(born);
        self.core.status.enter(State::Disconnected, None);
        // what had come is delivered in a moment, and can tell more of the cause; unless a handler
        // is running, and the end is made known without waiting for that
        if link.wait_read(self.since + MOMENT) {
            let ended = self.bury(link);
            return self.link_ended(ending, ended, uptime);
        }
        let after = self.link_ended(ending, link.ended(), uptime);
        // the handler is the next link's too, so that waits for it
        self.bury(link);
        after
    }

    fn bury(&mut self, link: Link) -> Ended {
        let (ended, outbox) = (link.bury(), &self.core.outbox);
        if matches!(&*ended.cause, Failure::Closed(Some(frame)) if frame.code.0 == 1009) {
            if let Some(TooLarge { size, message }) = outbox.take_too_large() {
                self.say(|client| Event::MessageTooLarge { client, size, message });
            }
        }
        self.opener.link_buried(outbox, &ended.cause);
        ended
    }

    /// Waits for the end of a link, or brings it about.
    fn watch(&mut self, link: &Link, mut close: Option<Command>) -> Ending {
        let handle = link.handle();
        loop {
            let command = match close.take() {
                Some(command) => command,
                None => select! {
                    recv(self.commands) -> command => match command {
                        Ok(command) => command,
                        // the core holds a sender as long as this manager runs
                        Err(_) => continue,
                    },
                    recv(handle.died()) -> _ => return Ending::Death,
                    recv(link.notices()) -> notice => {
                        if let Ok(notice) = notice {
                            self.say(|client| Event::noticed(client, notice));
                        }
                        continue;
                    }
                },
            };
            match command {
                Command::Close(frame) => {
                    self.core.status.enter(State::Closing, None);
                    handle.close_after_data(frame.clone());
                    handle.wait_until(Instant::now() + self.core.settings.timeouts.close);
                    handle.end_close(frame);
                    return Ending::Close;
                }
                Command::Reconnect => {
                    handle.expect(Failure::ReconnectRequested);
                    // a close frame would end the session
                    if !self.opener.is_resumable(&Failure::ReconnectRequested) {
                        handle.close_now(CloseFrame::new(CloseCode::NORMAL, ""));
                        handle.wait_until(Instant::now() + GOODBYE);
                    }
                    handle.replace(Failure::ReconnectRequested);
                    return Ending::Wish;
                }
            }
        }
    }

    /// Decides what comes after a link, and makes it known.
    fn link_ended(&mut self, ending: Ending, ended: Ended, uptime: Duration) -> After {
        self.streak.failed += 1;
        if uptime >= self.core.settings.stable_after {
            self.streak = FailureStreak::default();
        }
        self.streak.goes_on(self.since);
        let resumable = self.opener.is_resumable(&ended.cause);
        let (cause, after) = match ending {
            // whatever else ended it meanwhile
            Ending::Wish => (ended.cause, self.redial_at_once()),
            _ => self.judge(ended.cause),
        };
        self.core.counters.disconnects.add(cause.kind());
        let endpoint = self.opener.endpoint();
        self.opener.move_on(resumable);
        self.core.status.failed(endpoint.clone(), Arc::clone(&cause));
        self.core.make_known(Event::Disconnected {
            client: self.core.id,
            link: self.link,
            cause,
            endpoint,
            uptime,
            unconfirmed: ended.unconfirmed,
            will_be_resent: self.core.settings.delivery == Delivery::AtLeastOnce,
            resumable,
            next: after.next(),
        });
        after
    }

    /// Once the session is lost there is no reason to wait with the attempt that asks for another.
    #[inline(never)]
    fn attempt_failed(&mut self, failure: Failure, has_lost: bool) -> After {
        self.since = Instant::now();
        self.core.counters.failures.add(failure.kind());
        self.streak.failed += 1;
        self.streak.goes_on(self.since);
        let attempts = self.streak.attempts;
        let (cause, after) = self.judge(Arc::new(failure));
        let mut after = if has_lost { after.at_once(&cause) } else { after };
        if let Some(first) = self.first.take() {
            let _ = first.send(Err(Arc::clone(&cause)));
            after = After::Close { clean: false };
        }
        let next = after.next();
        let endpoint = self.opener.endpoint();
        self.opener.next_endpoint();
        self.core.status.failed(endpoint.clone(), Arc::clone(&cause));
        self.say(|client| Event::AttemptFailed { client, attempts, endpoint, cause, next });
        after
    }

    /// Decides what comes after a failure, and when.
    fn judge(&mut self, cause: Arc<Failure>) -> (Arc<Failure>, After) {
        let decision = match &mut self.decide {
            None => Ok(cause.decision()),
            Some(decide) => guarded("decision function", || decide(&cause)),
        };
        let not_before = match decision {
            Ok(Decision::Retry) => Duration::ZERO,
            Ok(Decision::RetryAfter(delay)) => spread(delay, &cause),
            Ok(Decision::GiveUp) => return (Arc::clone(&cause), After::GiveUp(cause)),
            // without a policy there is no telling what a retry would do
            Err(panic) => {
                let cause = Arc::new(panic);
                return (Arc::clone(&cause), After::GiveUp(cause));
            }
        };
        if self.core.settings.max_attempts.is_some_and(|most| self.streak.failed >= most) {
            return (Arc::clone(&cause), After::GiveUp(cause));
        }
        self.streak.retries += 1;
        let (retry, outage) = (self.streak.retries, self.streak.outage(self.since));
        match guarded("backoff", || self.core.settings.backoff.delay(retry, outage)) {
            Ok(delay) => (cause, After::Redial(delay.max(not_before).min(MAX_DURATION))),
            Err(panic) => {
                let cause = Arc::new(panic);
                (Arc::clone(&cause), After::GiveUp(cause))
            }
        }
    }

    /// Lets the delay pass, which began with the failure, unless the program wants something else.
    fn back_off(&mut self, delay: Duration) -> After {
        let due = self.since + delay;
        self.core.status.enter(State::BackingOff, None);
        self.core.status.waits_until(due);
        select! {
            recv(self.commands) -> command => self.obey(command),
            recv(crossbeam_channel::at(due)) -> _ => After::Redial(Duration::ZERO),
        }
    }

    /// Does nothing until the program wants something.
    fn rest(&mut self, cause: Arc<Failure>) -> After {
        let attempts = self.streak.failed;
        self.core.status.enter(State::GaveUp, Some(Arc::clone(&cause)));
        self.core.mailbox.look_again();
        self.core.outbox.set_drained(false);
        self.say(|client| Event::GaveUp { client, cause, attempts });
        let after = self.obey(self.commands.recv());
        // once more: it may have come before this client gave up
        self.core.outbox.set_drained(true);
        after
    }

    /// Does what the program wants of a client without a link. One attempt is the answer to
    /// however many wishes there are for one by now; a close goes before them all.
    fn obey(&mut self, command: Result<Command, RecvError>) -> After {
        let closes = |command| matches!(command, Command::Close(_));
        // no error comes: the core holds a sender as long as this manager runs
        if command.map_or(true, closes) || self.commands.try_iter().any(closes) {
            return After::Close { clean: false };
        }
        self.redial_at_once()
    }

    /// The program wants to start over.
    fn redial_at_once(&mut self) -> After {
        self.streak.start_over();
        After::Redial(Duration::ZERO)
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").field("streak", &self.streak).finish_non_exhaustive()
    }
}

//! The life cycle of a client, on a thread of its own: dial, open, serve, bury, back off.
//!
//! [`Manager::live`] is the whole of it; what becomes of a link that is up is in `watch.rs`. Where
//! a delay before a redial is decided: [`Manager::judge`].

use std::fmt;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvError, Sender, select};

use super::after::After;
use super::attempt::{Opener, Success};
use super::core::{Command, Core};
use super::event::Event;
use super::status::{Details, Step};
use super::streak::{FailureStreak, spread};
use crate::failure::{Decision, Failure, guarded};
use crate::link::{InboxSlot, Link};
use crate::policy::MAX_DURATION;
use crate::sync::threads::Role;

/// Decides what to do after a failure.
pub(crate) type Decide = Box<dyn FnMut(&Failure) -> Decision + Send>;

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

/// Says that the manager has ended, and everything with it, however that came about.
struct Done(Arc<Core>);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.done.raise();
    }
}

impl Manager {
    /// Runs until the client is closed.
    pub(crate) fn run(&mut self) {
        let _done = Done(Arc::clone(&self.core));
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
        self.say(|client| Event::Closed { client, clean, undelivered });
    }

    /// The life cycle; returns whether it ended with a closing handshake.
    // what it touches of the stack stays resident while it waits: what comes and goes has frames of
    // its own
    fn live(&mut self) -> bool {
        loop {
            self.streak.attempts += 1;
            self.say_connecting();
            let attempt = self.open();
            let has_lost = self.opener.has_lost_session(&self.core.outbox);
            let after = match attempt {
                Ok(mut up) => {
                    self.core.has_link.store(true, SeqCst);
                    // a `reconnect()` queued before this link came up is satisfied by it
                    let close = self.commands.try_iter().find(|c| matches!(c, Command::Close(_)));
                    self.announce(&mut up);
                    let after = self.serve(up.link, close);
                    self.core.has_link.store(false, SeqCst);
                    after
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
    pub(super) fn say(&self, event: impl FnOnce(u64) -> Event) {
        self.core.make_known(event(self.core.id));
    }

    #[inline(never)]
    fn say_connecting(&self) {
        let (attempt, endpoint) = (self.streak.attempts, self.opener.upcoming());
        self.core.status.enter(Step::Connecting(endpoint.clone()));
        self.say(|client| Event::Connecting { client, attempt, endpoint });
    }

    /// Makes an attempt, on a thread of its own, whose stack goes with it: to open a connection
    /// touches many times of it what watching over one does.
    #[inline(never)]
    fn open(&mut self) -> Result<Box<Up>, Failure> {
        let Self { opener, core, inbox, link, streak, .. } = self;
        let (core, inbox, link, attempt) = (&*core, &*inbox, *link + 1, streak.attempts);
        let threads = opener.threads.clone();
        thread::scope(|scope| {
            let open = move || {
                let Success { opened, response, endpoint, start } = opener.open(attempt, core)?;
                opener.begin_session(&core.outbox, start);
                let session = opener.counts();
                let parts = core.link_parts(&opener.settings, inbox, link, opened, session);
                // one without a thread may have written already
                let link = Link::start(parts)
                    .inspect_err(|failure| opener.link_buried(&core.outbox, failure))?;
                Ok(Box::new(Up { link, response, endpoint }))
            };
            let thread = threads.spawn_scoped(scope, Role::Opening, open);
            let thread = thread.map_err(Failure::Thread)?;
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    #[inline(never)]
    fn announce(&mut self, up: &mut Up) {
        self.core.counters.connects.fetch_add(1, Relaxed);
        self.link += 1;
        let endpoint = std::mem::take(&mut up.endpoint);
        let attempts = std::mem::take(&mut self.streak.attempts);
        let (response, compression) = (up.response.take().map(Arc::new), up.link.compression());
        let details = Details { response: response.clone(), compression };
        let downtime = self.core.status.enter(Step::Connected(endpoint.clone(), details));
        up.link.announce();
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
                self.core.call_back(&event);
            }
        }
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
    pub(super) fn judge(&mut self, cause: Arc<Failure>) -> (Arc<Failure>, After) {
        let decision = match &mut self.decide {
            None => Ok(self.opener.decision(&cause)),
            Some(decide) => {
                let decide = || guarded("decision function", || decide(&cause));
                self.core.watched("decision function", decide)
            }
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
        if self.opener.settings.max_attempts.is_some_and(|most| self.streak.failed >= most) {
            return (Arc::clone(&cause), After::GiveUp(cause));
        }
        self.streak.retries += 1;
        let (retry, outage) = (self.streak.retries, self.streak.outage(self.since));
        let backoff = &self.opener.settings.backoff();
        let delay = || guarded("backoff", || backoff.delay(retry, outage));
        let delay = if backoff.is_custom() { self.core.watched("backoff", delay) } else { delay() };
        match delay {
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
        self.core.status.enter(Step::BackingOff(due));
        select! {
            recv(self.commands) -> command => self.obey(command),
            recv(crossbeam_channel::at(due)) -> _ => After::Redial(Duration::ZERO),
        }
    }

    /// Does nothing until the program wants something.
    fn rest(&mut self, cause: Arc<Failure>) -> After {
        let attempts = self.streak.failed;
        self.core.status.enter(Step::GaveUp(Arc::clone(&cause)));
        self.core.mailbox.look_again();
        self.core.outbox.rest(Some(Arc::clone(&cause)));
        self.say(|client| Event::GaveUp { client, cause, attempts });
        let after = self.obey(self.commands.recv());
        // once more: it may have come before this client gave up
        self.core.outbox.rest(None);
        after
    }

    /// Does what the program wants of a client without a link. One attempt is the answer to
    /// however many wishes there are for one by now; a close goes before them all.
    pub(super) fn obey(&mut self, command: Result<Command, RecvError>) -> After {
        let closes = |command| matches!(command, Command::Close(_));
        // no error comes: the core holds a sender as long as this manager runs
        if command.map_or(true, closes) || self.commands.try_iter().any(closes) {
            return After::Close { clean: false };
        }
        self.redial_at_once()
    }

    /// The program wants to start over.
    pub(super) fn redial_at_once(&mut self) -> After {
        self.streak.start_over();
        After::Redial(Duration::ZERO)
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").field("streak", &self.streak).finish_non_exhaustive()
    }
}

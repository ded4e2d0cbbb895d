//! The life cycle of a client, on a thread of its own: dial, open, serve, bury, back off.
//!
//! [`Manager::live`] is the whole of it. Where a delay before a redial is decided:
//! [`Manager::judge`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvError, Sender, select};

use super::attempt::{Opened, Opener};
use super::core::{Command, Core};
use super::events::{Event, Next};
use super::status::State;
use crate::failure::{Decision, Failure, guarded};
use crate::link::{InboxSlot, Link, Parts};
use crate::message::{CloseCode, CloseFrame};
use crate::policy::{Delivery, MAX_DURATION};
use crate::transport::Duplex;
use crate::wire::{Decoder, Protocol};

/// Decides what to do after a failure.
pub(crate) type Decide = Box<dyn FnMut(&Failure) -> Decision + Send>;

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
    pub(crate) row: Row,
}

/// What has happened since the last link that stayed up.
#[derive(Debug, Default)]
pub(crate) struct Row {
    /// Attempts since the last link was lost.
    attempts: u32,
    /// Attempts in a row that led to no stable link.
    failed: u32,
    /// Redials in a row.
    retries: u32,
}

/// What comes after an attempt or a link.
enum After {
    Redial(Duration),
    GiveUp(Arc<Failure>),
    Close { clean: bool },
}

/// What ends the watch over a link.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    /// The link's own.
    Death,
    /// The program wants another one.
    Wish,
    /// The program wants no more.
    Close,
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
        log::info!("{}: closed", self.core.name());
        self.core.publisher.publish(Event::Closed { clean, undelivered });
        self.core.done.raise();
    }

    /// The life cycle; returns whether it ended with a closing handshake.
    fn live(&mut self) -> bool {
        loop {
            self.core.status.enter(State::Connecting, None);
            self.row.attempts += 1;
            let opened = self.opener.open(self.row.attempts).and_then(|opened| {
                let Opened { duplex, decoder, protocol, response, endpoint } = opened;
                let link = Link::start(self.parts(duplex, decoder, protocol))?;
                Ok((link, response, endpoint))
            });
            let after = match opened {
                Ok((link, response, endpoint)) => {
                    // whoever wished for a link before it was announced has it
                    let close = self.commands.try_iter().find(|c| matches!(c, Command::Close(_)));
                    self.announce(response, endpoint);
                    self.serve(link, close)
                }
                Err(Failure::Interrupted) => After::Close { clean: false },
                Err(failure) => self.attempt_failed(failure),
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

    fn parts(&self, duplex: Duplex, decoder: Decoder, protocol: Protocol) -> Parts {
        Parts {
            duplex,
            decoder,
            protocol,
            settings: Arc::clone(&self.core.settings),
            outbox: Arc::clone(&self.core.outbox),
            inbox: Arc::clone(&self.inbox),
            mailbox: Arc::clone(&self.core.mailbox),
            counters: Arc::clone(&self.core.counters),
            owner: self.core.id,
            thread_prefix: self.core.name(),
            only: false,
        }
    }

    fn announce(&mut self, response: Option<http::Response<()>>, endpoint: String) {
        self.core.counters.connects.fetch_add(1, Relaxed);
        let downtime = self.core.status.enter(State::Connected, None);
        let attempts = std::mem::take(&mut self.row.attempts);
        log::info!("{}: connected to {endpoint} (attempt {attempts})", self.core.name());
        let response = response.map(Arc::new);
        let event = Event::Connected { attempts, downtime, endpoint, response };
        match self.first.take() {
            None => self.core.publisher.publish(event),
            // nobody can have subscribed before this, and who does next is told what comes next
            Some(first) => {
                let _ = first.send(Ok(()));
                self.core.publisher.call_back(&event);
            }
        }
    }

    /// Watches over a link until it is dead and buried.
    fn serve(&mut self, link: Link, mut close: Option<Command>) -> After {
        let born = Instant::now();
        let handle = link.handle();
        let ending = loop {
            let command = match close.take() {
                Some(command) => command,
                None => select! {
                    recv(self.commands) -> command => match command {
                        Ok(command) => command,
                        // the core holds a sender as long as this manager runs
                        Err(_) => continue,
                    },
                    recv(handle.died()) -> _ => break Ending::Death,
                    recv(link.stalls()) -> waiting => {
                        if let Ok(waiting) = waiting {
                            self.core.publisher.publish(Event::ReceiverStalled { waiting });
                        }
                        continue;
                    }
                },
            };
            match command {
                Command::Close(frame) => {
                    self.core.status.enter(State::Closing, None);
                    handle.close_after_data(frame);
                    handle.wait_until(Instant::now() + self.core.settings.close_timeout);
                    handle.kill(Failure::Interrupted);
                    handle.abandon();
                    break Ending::Close;
                }
                Command::Reconnect => {
                    handle.expect(Failure::ReconnectRequested);
                    handle.close_now(CloseFrame::new(CloseCode::NORMAL, ""));
                    handle.wait_until(Instant::now() + GOODBYE);
                    handle.kill(Failure::ReconnectRequested);
                    break Ending::Wish;
                }
            }
        };
        let uptime = born.elapsed();
        if ending != Ending::Close {
            self.core.status.enter(State::BackingOff, None);
        }
        // the reader first delivers what had arrived, and the program may be slow
        select! {
            recv(link.reader_ended()) -> _ => {}
            recv(self.core.interrupt.raised()) -> _ => handle.abandon(),
        }
        let ended = link.bury();
        if ending == Ending::Close {
            return After::Close { clean: ended.is_clean() };
        }
        self.core.outbox.link_buried();
        self.row.failed += 1;
        if uptime >= self.core.settings.stable_after {
            self.row = Row::default();
        }
        let (cause, after) = match ending {
            // whatever else ended it meanwhile
            Ending::Wish => (ended.cause, self.redial_at_once()),
            _ => self.judge(ended.cause),
        };
        log::warn!("{}: disconnected after {uptime:.1?}: {}", self.core.name(), cause.report());
        let (unconfirmed, next) = (ended.unconfirmed, next(&after));
        let endpoint = self.opener.endpoint();
        self.opener.next_endpoint();
        let event = Event::Disconnected {
            cause: Arc::clone(&cause),
            endpoint,
            uptime,
            unconfirmed,
            will_be_resent: self.core.settings.delivery == Delivery::AtLeastOnce,
            next,
        };
        self.core.publisher.publish(event);
        after
    }

    fn attempt_failed(&mut self, failure: Failure) -> After {
        self.core.counters.failed_attempts.fetch_add(1, Relaxed);
        self.row.failed += 1;
        let attempts = self.row.attempts;
        let (cause, mut after) = self.judge(Arc::new(failure));
        log::warn!("{}: attempt {attempts} failed: {}", self.core.name(), cause.report());
        if let Some(first) = self.first.take() {
            let _ = first.send(Err(Arc::clone(&cause)));
            after = After::Close { clean: false };
        }
        let next = next(&after);
        let endpoint = self.opener.endpoint();
        self.opener.next_endpoint();
        self.core.publisher.publish(Event::AttemptFailed { attempts, endpoint, cause, next });
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
            Ok(Decision::RetryAfter(delay)) => delay,
            Ok(Decision::GiveUp) => return (Arc::clone(&cause), After::GiveUp(cause)),
            // without a policy there is no telling what a retry would do
            Err(panic) => {
                let cause = Arc::new(panic);
                return (Arc::clone(&cause), After::GiveUp(cause));
            }
        };
        if self.core.settings.max_attempts.is_some_and(|most| self.row.failed >= most) {
            return (Arc::clone(&cause), After::GiveUp(cause));
        }
        self.row.retries += 1;
        let retry = self.row.retries;
        match guarded("backoff", || self.core.settings.backoff.delay(retry)) {
            Ok(delay) => (cause, After::Redial(delay.max(not_before).min(MAX_DURATION))),
            Err(panic) => {
                let cause = Arc::new(panic);
                (Arc::clone(&cause), After::GiveUp(cause))
            }
        }
    }

    /// Lets the delay pass, unless the program wants something else.
    fn back_off(&mut self, delay: Duration) -> After {
        log::info!("{}: redial in {delay:.1?}", self.core.name());
        self.core.status.enter(State::BackingOff, None);
        select! {
            recv(self.commands) -> command => self.obey(command),
            recv(crossbeam_channel::after(delay)) -> _ => After::Redial(Duration::ZERO),
        }
    }

    /// Does nothing until the program wants something.
    fn rest(&mut self, cause: Arc<Failure>) -> After {
        log::error!("{}: gave up: {}", self.core.name(), cause.report());
        let attempts = self.row.failed;
        self.core.status.enter(State::GaveUp, Some(Arc::clone(&cause)));
        self.core.mailbox.look_again();
        self.core.outbox.set_drained(false);
        self.core.publisher.publish(Event::GaveUp { cause, attempts });
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
        self.row = Row { attempts: self.row.attempts, ..Row::default() };
        After::Redial(Duration::ZERO)
    }
}

fn next(after: &After) -> Next {
    match after {
        After::Redial(delay) => Next::Redial { delay: *delay },
        After::GiveUp(_) => Next::GiveUp,
        After::Close { .. } => Next::Close,
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").field("row", &self.row).finish_non_exhaustive()
    }
}

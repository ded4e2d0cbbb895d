//! A link that is up: until it ends, for whatever reason, and what comes after.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, select};

use super::after::{After, Ending};
use super::core::Command;
use super::event::Event;
use super::life::Manager;
use super::status::Step;
use super::streak::FailureStreak;
use crate::failure::Failure;
use crate::link::{Ended, Link};
use crate::message::{CloseCode, CloseFrame};
use crate::policy::Delivery;
use crate::queues::outbox::TooLarge;

/// How long the end of a link may wait for what had come to be delivered.
const MOMENT: Duration = Duration::from_millis(50);

/// How long a link that is given up on request has for its goodbye.
const GOODBYE: Duration = Duration::from_millis(500);

impl Manager {
    /// Watches over a link until it is dead and buried.
    pub(super) fn serve(&mut self, link: Link, close: Option<Command>) -> After {
        let born = Instant::now();
        let ending = self.watch(&link, close);
        if ending == Ending::Close {
            let ended = link.bury();
            self.core.counters.disconnects.add(ended.cause.kind());
            return After::Close { clean: ended.is_clean };
        }
        self.since = Instant::now();
        let uptime = self.since.duration_since(born);
        let cause = link.ended().cause;
        self.core.status.enter(Step::Disconnected(self.opener.endpoint(), cause));
        // what had come is delivered in a moment, and can tell more of the cause; unless a handler
        // is running, and the end is made known without waiting for that
        if link.read().recv_deadline(self.since + MOMENT) == Err(RecvTimeoutError::Disconnected) {
            let ended = self.bury(link);
            return self.link_ended(ending, ended, uptime);
        }
        let after = self.link_ended(ending, link.ended(), uptime);
        let wish = self.outlast(&link);
        self.bury(link);
        match wish {
            Some(command) => self.obey(Ok(command)),
            None => after,
        }
    }

    /// The handler is the next link's too, so that waits until it has had what came on this one, or
    /// until the program wants something else.
    fn outlast(&mut self, link: &Link) -> Option<Command> {
        let command = select! {
            recv(link.read()) -> _ => return None,
            recv(self.commands) -> command => command.ok()?,
        };
        if matches!(command, Command::Close(_)) {
            // as much time as if the link were alive
            let _ = link.read().recv_timeout(self.opener.settings.timeouts().close);
        }
        link.handle().let_go();
        Some(command)
    }

    fn bury(&mut self, link: Link) -> Ended {
        let (ended, outbox) = (link.bury(), &self.core.outbox);
        if matches!(&*ended.cause, Failure::Closed(Some(frame)) if frame.code.0 == 1009) {
            if let Some(TooLarge { size, message }) = outbox.take_too_large() {
                self.say(|client| Event::MessageTooLarge { client, size, message });
            }
        }
        outbox.suspect_first(&ended.cause, ended.is_answered);
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
                    self.core.status.enter(Step::Closing);
                    handle.close_after_data(frame.clone());
                    handle.wait_until(Instant::now() + self.opener.settings.timeouts().close);
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
        if uptime >= self.opener.settings.stable_after() {
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
            will_be_resent: self.opener.settings.delivery() == Delivery::AtLeastOnce,
            resumable,
            next: after.next(),
        });
        after
    }
}

//! One log record for each step of the life cycle, as a line and as key-values.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};

use super::core::Core;
use super::events::{Event, Next};
use super::held::SessionStart;
use crate::sync::threads::Role;

impl Core {
    /// Logs an event, brings the metrics up to date and tells the program.
    // on the manager thread: what it takes of the stack is not to stay resident
    #[inline(never)]
    pub(super) fn make_known(self: &Arc<Self>, event: Event) {
        self.note(&event);
        self.call_back(&event);
        self.publisher.publish(event);
    }

    /// Tells the callback of the program alone.
    pub(super) fn call_back(self: &Arc<Self>, event: &Event) {
        if self.publisher.calls_back() {
            self.watched("event callback", || self.publisher.call_back(event));
        }
    }

    /// Runs code of the program's on the manager thread, or on one for which that waits. Nothing goes
    /// on while it does, so another thread says when that takes long. If there is none to be had,
    /// nobody does.
    pub(super) fn watched<T>(
        self: &Arc<Self>,
        callback: &'static str,
        code: impl FnOnce() -> T,
    ) -> T {
        self.watched_after(self.patience, callback, code)
    }

    /// The same; so much time is not long.
    pub(super) fn watched_after<T>(
        self: &Arc<Self>,
        waiting: Duration,
        callback: &'static str,
        code: impl FnOnce() -> T,
    ) -> T {
        let (returns, returned) = bounded::<Infallible>(0);
        let core = Arc::clone(self);
        let _ = self.threads.start(Role::Watch, move || {
            if returned.recv_timeout(waiting) == Err(RecvTimeoutError::Timeout) {
                let event = Event::CallbackStalled { client: core.id, callback, waiting };
                record(&core, &event);
                core.publisher.publish(event);
            }
        });
        let result = code();
        drop(returns);
        result
    }

    /// The same without the program.
    #[inline(never)]
    pub(super) fn note(&self, event: &Event) {
        record(self, event);
        #[cfg(feature = "metrics")]
        self.publish_step(matches!(event, Event::Closed { .. }));
    }
}

/// Logs a step. What a link itself says while it lives is logged there.
fn record(core: &Core, event: &Event) {
    let (client, name, thread) = (core.id, core.label(), core.name());
    match event {
        Event::Connecting { attempt, endpoint, .. } => log::info!(
            client, name, event = event.name(), endpoint = endpoint.as_str(), attempt = *attempt;
            "{thread}: {event}"
        ),
        Event::Connected { link, attempts, downtime, endpoint, session, .. } => {
            let (session_start, resent, in_doubt) = start(*session);
            log::info!(
                client, name, event = event.name(), endpoint = endpoint.as_str(), link = *link,
                attempts = *attempts, downtime = downtime.as_secs_f64(), session_start, resent,
                in_doubt;
                "{thread}: {event}"
            );
        }
        Event::Disconnected {
            link,
            cause,
            endpoint,
            uptime,
            unconfirmed,
            will_be_resent,
            resumable,
            next,
            ..
        } => log::warn!(
            client, name, event = event.name(), endpoint = endpoint.as_str(), link = *link,
            kind = cause.kind().as_str(), cause:% = cause.report(), uptime = uptime.as_secs_f64(),
            unconfirmed = *unconfirmed, will_be_resent = *will_be_resent, resumable = *resumable,
            next = word(*next), delay = delay(*next);
            "{thread}: {event}"
        ),
        Event::AttemptFailed { attempts, endpoint, cause, next, .. } => log::warn!(
            client, name, event = event.name(), endpoint = endpoint.as_str(),
            attempts = *attempts, kind = cause.kind().as_str(), cause:% = cause.report(),
            next = word(*next), delay = delay(*next);
            "{thread}: {event}"
        ),
        Event::GaveUp { cause, attempts, .. } => log::error!(
            client, name, event = event.name(), attempts = *attempts, kind = cause.kind().as_str(),
            cause:% = cause.report();
            "{thread}: {event}"
        ),
        Event::CallbackStalled { callback, waiting, .. } => log::warn!(
            client, name, event = event.name(), callback = *callback,
            waiting = waiting.as_secs_f64();
            "{thread}: {event}"
        ),
        Event::MessageTooLarge { size, .. } => log::error!(
            client, name, event = event.name(), size = *size;
            "{thread}: {event}"
        ),
        Event::Closed { clean, undelivered, .. } => log::info!(
            client, name, event = event.name(), clean = *clean, undelivered = *undelivered;
            "{thread}: {event}"
        ),
        // the link has said so, where the wait was seen
        Event::ReceiverStalled { .. } | Event::ConfirmationsMissing { .. } => {}
    }
}

fn word(next: Next) -> &'static str {
    match next {
        Next::Redial { .. } => "redial",
        Next::GiveUp => "give_up",
        Next::Close => "close",
    }
}

/// In seconds, before a redial.
fn delay(next: Next) -> Option<f64> {
    match next {
        Next::Redial { delay } => Some(delay.as_secs_f64()),
        Next::GiveUp | Next::Close => None,
    }
}

/// How the session of a link began, in a word, and how many messages are sent again or in doubt.
fn start(session: SessionStart) -> (&'static str, Option<usize>, Option<usize>) {
    match session {
        SessionStart::None => ("none", None, None),
        SessionStart::New => ("new", None, None),
        SessionStart::Resumed { resent } => ("resumed", Some(resent), None),
        SessionStart::Replaced { in_doubt } => ("replaced", None, Some(in_doubt)),
    }
}

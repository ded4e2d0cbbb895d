//! One log record for each step of the life cycle, as a line and as key-values.

use super::core::Core;
use super::events::{Event, Next};
use super::held::SessionStart;

impl Core {
    /// Logs an event, brings the metrics up to date and tells the program.
    // on the manager thread: what it takes of the stack is not to stay resident
    #[inline(never)]
    pub(super) fn make_known(&self, event: Event) {
        self.note(&event);
        self.publisher.publish(event);
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

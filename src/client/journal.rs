//! One log record for each step of the life cycle, as a line and as key-values.

use super::core::Core;
use super::events::{Event, Next};

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
        Event::Connected { link, attempts, downtime, endpoint, .. } => log::info!(
            client, name, event = event.name(), endpoint = endpoint.as_str(), link = *link,
            attempts = *attempts, downtime = downtime.as_secs_f64();
            "{thread}: {event}"
        ),
        Event::Disconnected { link, cause, endpoint, uptime, unconfirmed, next, .. } => log::warn!(
            client, name, event = event.name(), endpoint = endpoint.as_str(), link = *link,
            kind = cause.kind().as_str(), uptime = uptime.as_secs_f64(),
            unconfirmed = *unconfirmed, next = word(next);
            "{thread}: {event}"
        ),
        Event::AttemptFailed { attempts, endpoint, cause, next, .. } => log::warn!(
            client, name, event = event.name(), endpoint = endpoint.as_str(),
            attempts = *attempts, kind = cause.kind().as_str(), next = word(next);
            "{thread}: {event}"
        ),
        Event::GaveUp { cause, attempts, .. } => log::error!(
            client, name, event = event.name(), attempts = *attempts, kind = cause.kind().as_str();
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
        Event::ReceiverStalled { .. } | Event::ConfirmationsMissing { .. } => {}
    }
}

fn word(next: &Next) -> &'static str {
    match next {
        Next::Redial { .. } => "redial",
        Next::GiveUp => "give_up",
        Next::Close => "close",
    }
}

//! One log record for each step of the life cycle, as a line and as key-values.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};
use log::kv::Value;

use super::core::Core;
use super::event::Event;
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
    let level = event.level();
    // the link has said so, where the wait was seen
    let is_said =
        matches!(event, Event::ReceiverStalled { .. } | Event::ConfirmationsMissing { .. });
    if is_said || !log::log_enabled!(level) {
        return;
    }
    let whose = [("client", core.id.into()), ("name", core.label().into())];
    let mut fields: Vec<(&str, Value<'_>)> = whose.into();
    fields.push(("event", event.name().into()));
    fields.extend(event.fields());
    let (thread, module) = (core.name(), module_path!());
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

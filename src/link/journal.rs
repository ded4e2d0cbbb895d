//! What a link itself says in the log, as a line and as key-values: of its control frames, and while
//! it waits.

use std::time::Duration;

use super::{Owner, Shared};

/// A record with the number and the name of the owner, which are `client` and `name`, or `session` and
/// `server`.
macro_rules! record {
    ($level:expr, $shared:expr, $event:expr, $($key:ident = $value:expr),*; $($line:tt)*) => {
        match $shared.owner {
            Owner::Client => log::log!(
                $level, client = $shared.id, name = $shared.settings.label(), event = $event,
                $($key = $value),*; $($line)*
            ),
            Owner::Session => log::log!(
                $level, session = $shared.id, server = $shared.settings.label(), event = $event,
                $($key = $value),*; $($line)*
            ),
        }
    };
}

impl Shared {
    /// One record for each control frame, at `debug`; never what it carries.
    pub(super) fn log_control(&self, direction: &str, frame: &str) {
        record!(
            log::Level::Debug, self, "control_frame", direction = direction, frame = frame;
            "{}: {frame} {direction}", self.name
        );
    }

    pub(super) fn log_stalled(&self, waiting: Duration) {
        record!(
            log::Level::Warn, self, "receiver_stalled", waiting = waiting.as_secs_f64();
            "{}: the program has taken no message for {waiting:.1?}, and nothing is read meanwhile", self.name
        );
    }

    pub(super) fn log_unconfirmed(&self, waiting: Duration) {
        record!(
            log::Level::Warn, self, "confirmations_missing", waiting = waiting.as_secs_f64();
            "{}: the peer has answered no ping of the last {waiting:.1?}", self.name
        );
    }
}

//! What the program has chosen: each setting is filled in, and refused if it cannot have an effect,
//! when the client or server starts.

use crate::error::Error;
use crate::policy::{Heartbeat, Limits, Queue, SocketOptions, Timeouts};

/// What the program has set: the setters that it has called, by name, and the values with options
/// that it has passed to them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chosen {
    setters: Vec<&'static str>,
    pub(crate) timeouts: Timeouts,
    pub(crate) limits: Limits,
    pub(crate) socket: SocketOptions,
    pub(crate) heartbeat: Option<Heartbeat>,
    pub(crate) outbox: Option<Queue>,
    pub(crate) inbox: Option<Queue>,
}

impl Chosen {
    pub(crate) fn add(&mut self, setter: &'static str) {
        self.setters.push(setter);
    }

    /// Setters, and the options of values: `Timeouts::dns`.
    fn settings(&self) -> Vec<&'static str> {
        let timeouts = self.timeouts.options().map(|(name, value)| (name, value.is_some()));
        let limits = self.limits.options().map(|(name, value)| (name, value.is_some()));
        let options = timeouts.into_iter().chain(limits).chain(self.socket.options());
        let options = options.filter_map(|(name, is_set)| is_set.then_some(name));
        self.setters.iter().copied().chain(options).collect()
    }

    pub(crate) fn is_set(&self, setting: &str) -> bool {
        self.settings().contains(&setting)
    }

    /// Refuses the first setting in whose way something is.
    pub(crate) fn check(
        &self,
        obstacle: impl Fn(&str) -> Option<&'static str>,
    ) -> Result<(), Error> {
        for setting in self.settings() {
            if let Some(obstacle) = obstacle(setting) {
                let reason = format!("it can have no effect: {obstacle}");
                return Err(Error::InvalidSetting { setting, reason });
            }
        }
        Ok(())
    }
}

//! Every setting of a client or server as a plain value, with its default.

mod chosen;
mod setters;

use std::time::Duration;

pub(crate) use chosen::Chosen;
pub(crate) use setters::shared_setters;

use crate::error::Error;
use crate::policy::{
    Backoff, Compression, Delivery, Framing, Heartbeat, MAX_DURATION, MIN_DURATION, MaxSizes,
    OnDropped, Queue, Resolved, SocketOptions, Unconfirmed,
};
use crate::sync::Budget;
use crate::sync::threads::{LEAST_STACK, usual_stack};

#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) chosen: Chosen,
    /// What metrics and log records call it.
    pub(crate) name: Option<String>,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) timeouts: Resolved,
    pub(crate) backoff: Backoff,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) stable_after: Duration,
    pub(crate) max_redirects: u32,
    /// The longest wait that a server may ask for.
    pub(crate) max_retry_after: Duration,
    pub(crate) limits: MaxSizes,
    pub(crate) fragment_size: Option<usize>,
    /// What all sessions of a server may hold together.
    pub(crate) budget: Budget,
    /// What a WebSocket offers or accepts, if anything.
    pub(crate) compression: Option<Compression>,
    /// How messages are set off on `tcp://`.
    pub(crate) framing: Framing,
    pub(crate) socket: SocketOptions,
    pub(crate) delivery: Delivery,
    /// How many links may end with the same message as the first that is not confirmed.
    pub(crate) max_deliveries: u32,
    /// Whether a client asks for sessions that survive their connection.
    pub(crate) resume: bool,
    /// How much such a session of a client's keeps.
    pub(crate) unconfirmed: Unconfirmed,
    pub(crate) outbox: Queue,
    pub(crate) inbox: Queue,
    pub(crate) on_dropped: Option<OnDropped>,
    /// The stack of threads that run code of the program's.
    pub(crate) stack: usize,
    /// Whether received messages come through a channel.
    pub(crate) has_channel: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            chosen: Chosen::default(),
            name: None,
            heartbeat: Heartbeat::default(),
            timeouts: Resolved::default(),
            backoff: Backoff::default(),
            max_attempts: None,
            stable_after: Duration::from_secs(10),
            max_redirects: 5,
            max_retry_after: Duration::from_secs(300),
            limits: MaxSizes { message: 64 << 20, frame: usize::MAX },
            fragment_size: None,
            budget: Budget::default(),
            compression: None,
            framing: Framing::lines(),
            socket: SocketOptions::default(),
            delivery: Delivery::default(),
            max_deliveries: 10,
            resume: false,
            unconfirmed: Unconfirmed::default(),
            outbox: Queue::default_of(8192, 64 << 20),
            inbox: Queue::default_of(4096, 1 << 20),
            on_dropped: None,
            stack: usual_stack(),
            has_channel: false,
        }
    }
}

impl Settings {
    /// Fills in what was chosen, refuses what cannot work, and has the outbox hold every message
    /// that may be sent.
    /// What metrics and log records call it. Its owner has given it a name by default.
    pub(crate) fn label(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn settled(mut self, is_websocket: bool) -> Result<Self, Error> {
        let chosen = &self.chosen;
        self.timeouts = chosen.timeouts.resolved();
        self.fragment_size = chosen.limits.fragment_size();
        self.limits = chosen.limits.sizes(self.limits);
        self.outbox = chosen.outbox.map_or(self.outbox, |queue| queue.or(self.outbox));
        self.inbox = chosen.inbox.map_or(self.inbox, |queue| queue.or(self.inbox));
        self.heartbeat = match &chosen.heartbeat {
            Some(heartbeat) => heartbeat.clone(),
            None if is_websocket => Heartbeat::default(),
            None => return Err(invalid("heartbeat", Heartbeat::CHOICES)),
        };
        self.check(is_websocket)?;
        let (bytes, message) = (self.outbox.bytes, self.limits.message);
        if bytes < message {
            if !self.outbox.are_bytes_chosen() {
                self.outbox.bytes = message;
            } else if self.chosen.is_set("Limits::message") {
                let reason = format!(
                    "its {bytes} bytes hold no message of the {message} bytes of Limits::message"
                );
                return Err(invalid("outbox", reason));
            }
        }
        Ok(self)
    }

    fn check(&self, is_websocket: bool) -> Result<(), Error> {
        for (setting, value) in self.chosen.timeouts.options() {
            let Some(value) = value else { continue };
            if value < MIN_DURATION {
                let reason = format!("{value:?} is under the least of {MIN_DURATION:?}");
                return Err(invalid(setting, reason));
            }
            if value > MAX_DURATION {
                let reason = format!("{value:?} is over the limit of {MAX_DURATION:?}");
                return Err(invalid(setting, reason));
            }
        }
        self.socket.check().map_err(|(setting, reason)| invalid(setting, reason))?;
        if self.max_retry_after > MAX_DURATION {
            let reason = format!("over the limit of {MAX_DURATION:?}");
            return Err(invalid("max_retry_after", reason));
        }
        let zero = |setting| Err(invalid(setting, "zero lets nothing through"));
        for (setting, value) in self.chosen.limits.options() {
            if value == Some(0) {
                return zero(setting);
            }
        }
        match () {
            () if self.max_attempts == Some(0) => return zero("max_attempts"),
            () if self.max_deliveries == 0 => return zero("max_deliveries"),
            () if self.framing.limit() == 0 => return zero("framing"),
            () => {}
        }
        if let Some(compression) = &self.compression {
            compression.check().map_err(|reason| invalid("compression", reason))?;
        }
        if self.stack < LEAST_STACK {
            let reason = format!("{} bytes are under the least of {LEAST_STACK}", self.stack);
            return Err(invalid("stack_size", reason));
        }
        self.unconfirmed.check().map_err(|reason| invalid("unconfirmed", reason))?;
        self.framing.check_options().map_err(|reason| invalid("framing", reason))?;
        self.heartbeat.check(is_websocket).map_err(|reason| invalid("heartbeat", reason))?;
        self.backoff.check().map_err(|reason| invalid("backoff", reason))?;
        self.outbox.check().map_err(|reason| invalid("outbox", reason))?;
        if self.inbox.message_ttl.is_some() {
            let reason = "message_ttl() can have no effect: what was received does not expire";
            return Err(invalid("inbox", reason));
        }
        self.inbox.check().map_err(|reason| invalid("inbox", reason))
    }

    /// Whether the peer can be asked what it has: its answers come in order.
    pub(crate) fn is_confirmable(&self, is_websocket: bool) -> bool {
        is_websocket || self.heartbeat.has_answer() && self.framing.keeps_boundaries()
    }
}

fn invalid(setting: &'static str, reason: impl Into<String>) -> Error {
    Error::InvalidSetting { setting, reason: reason.into() }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("chosen", &self.chosen).finish_non_exhaustive()
    }
}

//! Every setting of a client as a plain value, with its default.

use std::time::Duration;

use crate::error::Error;
use crate::policy::{
    Backoff, Compression, Delivery, Framing, Heartbeat, Limits, MAX_DURATION, Queue, SocketOptions,
    Unconfirmed,
};
use crate::sync::Budget;

/// No timeout of the kernel's is longer: what `TCP_KEEPIDLE` takes, in seconds (tcp(7)).
const MAX_KERNEL: Duration = Duration::from_secs(32_767);

/// What the kernel is told in whole seconds cannot be shorter.
const MIN_KERNEL: Duration = Duration::from_secs(1);

/// The sizes of a socket's buffers: a positive `int`.
const MAX_SOCKET_BUFFER: usize = i32::MAX as usize;

/// The setters that the program has called, by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chosen(Vec<&'static str>);

impl Chosen {
    pub(crate) fn add(&mut self, setting: &'static str) {
        self.0.push(setting);
    }

    fn has(&self, setting: &str) -> bool {
        self.0.contains(&setting)
    }

    /// Refuses the first setting in whose way something is.
    pub(crate) fn check(
        &self,
        obstacle: impl Fn(&str) -> Option<&'static str>,
    ) -> Result<(), Error> {
        for setting in &self.0 {
            if let Some(obstacle) = obstacle(setting) {
                let reason = format!("it can have no effect: {obstacle}");
                return Err(Error::InvalidSetting { setting, reason });
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) chosen: Chosen,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) write_timeout: Duration,
    pub(crate) close_timeout: Duration,
    pub(crate) dns_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) handshake_timeout: Duration,
    pub(crate) login_timeout: Duration,
    pub(crate) backoff: Backoff,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) stable_after: Duration,
    pub(crate) max_redirects: u32,
    /// The longest wait that a server may ask for.
    pub(crate) max_retry_after: Duration,
    pub(crate) limits: Limits,
    /// What all sessions of a server may hold together.
    pub(crate) budget: Budget,
    /// What a WebSocket offers or accepts, if anything.
    pub(crate) compression: Option<Compression>,
    /// How messages are set off on `tcp://`.
    pub(crate) framing: Framing,
    pub(crate) socket: SocketOptions,
    /// Whether threads that send may write to the socket themselves.
    pub(crate) send_directly: bool,
    pub(crate) fragment_size: Option<usize>,
    pub(crate) delivery: Delivery,
    /// Whether a client asks for sessions that survive their connection.
    pub(crate) resume: bool,
    /// How much such a session of a client's keeps.
    pub(crate) unconfirmed: Unconfirmed,
    /// How long a message may wait to be written; `None` for as long as it takes.
    pub(crate) message_ttl: Option<Duration>,
    pub(crate) outbox: Queue,
    pub(crate) inbox: Queue,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            chosen: Chosen::default(),
            heartbeat: Heartbeat::default(),
            write_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
            dns_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            login_timeout: Duration::from_secs(10),
            backoff: Backoff::default(),
            max_attempts: None,
            stable_after: Duration::from_secs(10),
            max_redirects: 5,
            max_retry_after: Duration::from_secs(300),
            limits: Limits { message: 64 << 20, frame: 16 << 20 },
            budget: Budget::default(),
            compression: None,
            framing: Framing::lines(),
            socket: SocketOptions::default(),
            send_directly: true,
            fragment_size: None,
            delivery: Delivery::default(),
            resume: false,
            unconfirmed: Unconfirmed::default(),
            message_ttl: None,
            outbox: Queue::new(),
            inbox: Queue::new().messages(4096).bytes(1 << 20),
        }
    }
}

impl Settings {
    /// Refuses what cannot work, with the name of the builder's method, and has the outbox hold
    /// every message that may be sent.
    pub(crate) fn settled(mut self) -> Result<Self, Error> {
        self.check()?;
        let (bytes, message) = (self.outbox.bytes, self.limits.message);
        if bytes < message {
            if !self.outbox.bytes_are_chosen {
                self.outbox.bytes = message;
            } else if self.chosen.has("max_message_size") {
                let reason = format!(
                    "its {bytes} bytes hold no message of the {message} bytes of max_message_size"
                );
                return Err(invalid("outbox", reason));
            }
        }
        Ok(self)
    }

    fn check(&self) -> Result<(), Error> {
        for (setting, value) in [
            ("write_timeout", self.write_timeout),
            ("close_timeout", self.close_timeout),
            ("dns_timeout", self.dns_timeout),
            ("connect_timeout", self.connect_timeout),
            ("handshake_timeout", self.handshake_timeout),
            ("login_timeout", self.login_timeout),
            ("message_ttl", self.message_ttl.unwrap_or(MAX_DURATION)),
        ] {
            if value.is_zero() {
                return Err(invalid(setting, "zero leaves no time at all"));
            }
            if value > MAX_DURATION {
                let reason = format!("{value:?} is over the limit of {MAX_DURATION:?}");
                return Err(invalid(setting, reason));
            }
        }
        for (setting, value) in [
            ("tcp_keepalive", self.socket.keepalive),
            ("tcp_user_timeout", self.socket.user_timeout),
        ] {
            if value.is_some_and(|value| !(MIN_KERNEL..=MAX_KERNEL).contains(&value)) {
                let reason = format!(
                    "{:?} is not within {MIN_KERNEL:?} and {MAX_KERNEL:?}",
                    value.unwrap_or_default()
                );
                return Err(invalid(setting, reason));
            }
        }
        for size in [self.socket.send_buffer, self.socket.receive_buffer].into_iter().flatten() {
            if !(1..=MAX_SOCKET_BUFFER).contains(&size) {
                let reason = format!("{size} bytes are not within 1 and {MAX_SOCKET_BUFFER}");
                return Err(invalid("socket_buffers", reason));
            }
        }
        if self.max_retry_after > MAX_DURATION {
            let reason = format!("over the limit of {MAX_DURATION:?}");
            return Err(invalid("max_retry_after", reason));
        }
        let zero = |setting| Err(invalid(setting, "zero lets nothing through"));
        match () {
            () if self.max_attempts == Some(0) => return zero("max_attempts"),
            () if self.limits.message == 0 => return zero("max_message_size"),
            () if self.framing.limit() == 0 => return zero("framing"),
            () if self.limits.frame == 0 => return zero("max_frame_size"),
            () if self.fragment_size == Some(0) => return zero("fragment_size"),
            () => {}
        }
        if let Some(compression) = &self.compression {
            compression.check().map_err(|reason| invalid("compression", reason))?;
        }
        self.unconfirmed.check().map_err(|reason| invalid("unconfirmed", reason))?;
        self.framing.check_options().map_err(|reason| invalid("framing", reason))?;
        self.heartbeat.check().map_err(|reason| invalid("heartbeat", reason))?;
        self.backoff.check().map_err(|reason| invalid("backoff", reason))?;
        self.outbox.check().map_err(|reason| invalid("outbox", reason))?;
        self.inbox.check().map_err(|reason| invalid("inbox", reason))
    }
}

fn invalid(setting: &'static str, reason: impl Into<String>) -> Error {
    Error::InvalidSetting { setting, reason: reason.into() }
}

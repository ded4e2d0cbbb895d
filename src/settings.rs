//! Every setting of a client as a plain value, with its default.

use std::time::Duration;

use crate::error::Error;
use crate::policy::{
    Backoff, Compression, Delivery, Framing, Heartbeat, Limits, MAX_DURATION, Queue, SocketOptions,
};

#[derive(Debug, Clone)]
pub(crate) struct Settings {
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
    /// What a WebSocket offers or accepts, if anything.
    pub(crate) compression: Option<Compression>,
    /// How messages are set off on `tcp://`.
    pub(crate) framing: Framing,
    pub(crate) socket: SocketOptions,
    /// Whether threads that send may write to the socket themselves.
    pub(crate) send_directly: bool,
    pub(crate) fragment_size: Option<usize>,
    pub(crate) delivery: Delivery,
    /// How long a message may wait to be written; `None` for as long as it takes.
    pub(crate) message_ttl: Option<Duration>,
    pub(crate) outbox: Queue,
    pub(crate) inbox: Queue,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
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
            compression: None,
            framing: Framing::lines(),
            socket: SocketOptions::default(),
            send_directly: true,
            fragment_size: None,
            delivery: Delivery::default(),
            message_ttl: None,
            outbox: Queue::new(),
            inbox: Queue::new().messages(4096).bytes(1 << 20),
        }
    }
}

impl Settings {
    /// Refuses what cannot work, with the name of the builder's method.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let invalid = |setting, reason| Error::InvalidSetting { setting, reason };
        for (setting, value) in [
            ("write_timeout", self.write_timeout),
            ("close_timeout", self.close_timeout),
            ("dns_timeout", self.dns_timeout),
            ("connect_timeout", self.connect_timeout),
            ("handshake_timeout", self.handshake_timeout),
            ("login_timeout", self.login_timeout),
            ("tcp_keepalive", self.socket.keepalive.unwrap_or(MAX_DURATION)),
            ("message_ttl", self.message_ttl.unwrap_or(MAX_DURATION)),
            ("tcp_user_timeout", self.socket.user_timeout.unwrap_or(MAX_DURATION)),
        ] {
            if value.is_zero() {
                return Err(invalid(setting, "zero leaves no time at all".into()));
            }
            if value > MAX_DURATION {
                let reason = format!("{value:?} is over the limit of {MAX_DURATION:?}");
                return Err(invalid(setting, reason));
            }
        }
        if self.max_retry_after > MAX_DURATION {
            let reason = format!("over the limit of {MAX_DURATION:?}");
            return Err(invalid("max_retry_after", reason));
        }
        let zero = |setting| Err(invalid(setting, "zero lets nothing through".into()));
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
        self.heartbeat.check().map_err(|reason| invalid("heartbeat", reason))?;
        self.backoff.check().map_err(|reason| invalid("backoff", reason))?;
        self.outbox.check().map_err(|reason| invalid("outbox", reason))?;
        self.inbox.check().map_err(|reason| invalid("inbox", reason))
    }
}

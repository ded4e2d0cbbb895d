//! Every setting as a value that the program may have set, its default, and what is refused.

use std::sync::LazyLock;
use std::time::Duration;

use crate::error::Error;
use crate::message::Message;
use crate::policy::{
    Backoff, Bounds, Compression, Delivery, Framing, Heartbeat, Limits, MaxSizes, OnDropped,
    OnResend, Queue, ReceiveRate, Resolved, Resume, SocketOptions, Timeouts, not_too_long,
};
use crate::sync::Budget;
use crate::sync::threads::{LEAST_STACK, usual_stack};

/// Makes of a table of settings
/// * [`Settings`], with an option for each: `None` as long as the program has not set it;
/// * a function of `Settings` for each that has a default, of the same name;
/// * a macro of setters for each section, for the `impl` of a builder with a field `settings`.
macro_rules! settings {
    ($($setters:ident {$(
        $(#[$meta:meta])*
        $name:ident: $type:ty $(= $default:expr)?, set($value:ident: $taken:ty) => $stored:expr;
    )*})*) => {
        #[derive(Clone, Default)]
        pub(crate) struct Settings {
            pub(crate) side: Side,
            /// What all sessions of a server may hold together.
            pub(crate) budget: Budget,
            /// How messages are set off from each other in those of a WebSocket, if they are not those.
            pub(crate) packets: Option<Framing>,
            /// Whether received messages come through a channel.
            pub(crate) has_channel: bool,
            /// Whether a server gives every message to a handler as it comes.
            pub(crate) has_handler: bool,
            /// How fast each client of a server may send.
            pub(crate) receive_rate: Option<ReceiveRate>,
            $($(pub(crate) $name: Option<$type>,)*)*
        }

        impl Settings {$($($(
            pub(crate) fn $name(&self) -> $type {
                self.$name.clone().unwrap_or_else(|| $default)
            }
        )?)*)*}

        $(
            macro_rules! $setters {
                () => {$(
                    $(#[$meta])*
                    pub fn $name(mut self, $value: $taken) -> Self {
                        self.settings.$name = Some($stored);
                        self
                    }
                )*};
            }
            pub(crate) use $setters;
        )*
    };
}

settings! {
    // of both builders
    shared_setters {
        /// What it is called: the label of its metrics and a key of its log records. Default: a
        /// client's number, [`Client::id`](crate::Client::id), and a server's address.
        ///
        /// Two clients, or two servers, of one name share their metrics: counters add up, and gauges are
        /// those of the one that was started last.
        #[doc(alias = "label")]
        name: String, set(name: impl Into<String>) => name.into();

        /// How long each step may take. Default: 5 s to close, 10 s for everything else. A value
        /// that is set again replaces the one before, whole.
        #[doc(alias("connect_timeout", "handshake_timeout", "write_timeout", "close_timeout"))]
        timeouts: Timeouts, set(timeouts: crate::policy::Timeouts) => timeouts;

        /// How large messages and frames may be. Default: messages of 64 MiB for a client and 1 MiB
        /// for a server, in frames of whatever size.
        #[doc(alias("max_message_size", "max_frame_size", "max_payload"))]
        limits: Limits, set(limits: crate::policy::Limits) => limits;

        /// What is set on sockets. Default: what the system chooses.
        #[doc(alias("keepalive", "nodelay", "send_buffer_size"))]
        socket: SocketOptions, set(options: crate::policy::SocketOptions) => options;

        /// How the peer proves that it is alive. Default on a WebSocket: a ping after 20 s idle,
        /// death after 30 s of silence. On framed TCP, which has no pings of its own, there is no
        /// default: see [`Heartbeat`](crate::config::Heartbeat).
        #[doc(alias("ping_interval", "ping_timeout", "pong_timeout", "keep_alive"))]
        heartbeat: Heartbeat, set(heartbeat: crate::policy::Heartbeat) => heartbeat;

        /// The bounds of the queue to be sent: a client's, which outlives links, or each session's.
        /// Default: 8192 messages and 64 MiB for a client, 1024 and 16 MiB for a session, or a
        /// message of [`Limits::message`](crate::config::Limits::message) if that is more; wait when full.
        #[doc(alias("send_queue", "send_buffer", "queue"))]
        outbox: Queue, set(queue: crate::policy::Queue) => queue;

        /// The bounds of the queue of received messages: a client's, or each session's. Default:
        /// 4096 messages for a client, 64 for a session, 1 MiB, and reading stops when it is full.
        /// Without effect for a client with a handler.
        #[doc(alias("receive_queue", "receive_buffer"))]
        inbox: Queue, set(queue: crate::policy::Queue) => queue;

        /// How much stack the threads have that run code of the program's: closures, its logger, its
        /// recorder of metrics ([which they are](crate::guide::threads)). At least 256 KiB. Default:
        /// as much as std gives, which is 2 MiB, or what `RUST_MIN_STACK` says. It is reserved, and takes
        /// memory only where it is used; less of it is for machines where address space is short.
        #[doc(alias = "thread_stack_size")]
        stack_size: usize = usual_stack(), set(bytes: usize) => bytes;

        /// Compresses messages, if the peer does too; see [`Compression`](crate::config::Compression) for
        /// what that does to secrets. Default: nothing is compressed, and nothing offered.
        #[cfg(feature = "deflate")]
        #[doc(alias("permessage_deflate", "deflate"))]
        compression: Compression, set(compression: crate::policy::Compression) => compression;

        /// Lets sessions survive their connection, if the peer does too: then nothing is lost and nothing
        /// comes twice, in order, both ways, whatever happens to connections meanwhile. On WebSocket and
        /// on framed TCP, but for `raw`. The peer may be of this crate, a page in a browser, or a program in
        /// any language that speaks the protocol, which also says what is not guaranteed:
        /// [`resumption`](crate::resumption). The guide: [sessions](crate::guide::sessions). Default: a
        /// session ends with its connection.
        ///
        /// On WebSocket the two agree by subprotocol: `everlink.1`, or `everlink.1.NAME` where the
        /// program's own is NAME; the program sees its own only. With a peer that has no such sessions it
        /// is an ordinary connection. On framed TCP both ends have to be set to it. Heartbeats need not be
        /// chosen there, for a session has a question of its own that serves as a ping, and what
        /// [`Heartbeat`](crate::config::Heartbeat) sends is not counted. A session says things of its own, so
        /// the limits of messages and frames have to be 160 bytes or more, and a framing has to carry that:
        /// of length fields those that go first, of delimiters those that begin with a control character.
        ///
        /// **A client** offers a session. With a server that has none the
        /// [`delivery`](crate::ClientBuilder::delivery) holds, which also says what becomes of messages
        /// in doubt when a session is over; [`Event::Connected`](crate::Event::Connected) says which it
        /// is. The login hook is called for a new session only, and what it sends belongs to that session.
        ///
        /// **A server** starts the handler when the client has said that it has its session. When the
        /// connection is lost the handler does not notice; what it sends is queued, and its client comes
        /// back to it or the time is over ([`Resume::within`](crate::config::Resume::within)). A session
        /// waits that long also when its handler has returned, for what that has sent last. Each such session has
        /// a thread more than others. A client names its session with a secret that only the two know,
        /// and anybody who learns it can take the session over:
        /// [`on_request`](crate::ServerBuilder::on_request) decides about each connection,
        /// and [`on_resume`](crate::ServerBuilder::on_resume) about the session that it asks for.
        ///
        /// A session ends when either end says so (`close`, a handler that returns or panics, a shutdown),
        /// with a violation of the protocol, with a message over the size limit, and when it has waited for
        /// its client for too long. A close frame, a reset and silence say nothing about it, and with
        /// [`reconnect`](crate::Client::reconnect) it goes on. The end is answered: `close` waits for that,
        /// and dials again for it if the connection is lost, within
        /// [`Timeouts::close`](crate::config::Timeouts::close). With the answer nothing is in doubt.
        #[doc(alias("reattach", "session_recovery"))]
        resume: Resume, set(resume: crate::policy::Resume) => resume;

        /// How many links may end with the same message under way, at least 1. Default 10.
        ///
        /// Some messages end the peer each time that they come: it closes with 1011, crashes, or
        /// something before it resets the connection. Where such a message is sent again on the next
        /// link ([`Delivery::AtLeastOnce`](crate::config::Delivery::AtLeastOnce), a session that resumes, and
        /// everywhere one that was cut off), nothing behind it would ever arrive. So the first message
        /// that the peer has not confirmed is counted when a link ends with an end of the stream, a
        /// reset or a close frame; not with the codes 1000, 1001, 1012 and 1013, which are about
        /// the peer itself, and not with a silence. Nor does a link count that ends before the peer
        /// has answered any ping: the message may not have come to the peer. (Where no beat has an answer and the
        /// program confirms, on `tcp://` with
        /// [`Delivery::UntilConfirmed`](crate::config::Delivery::UntilConfirmed), each does.) At this limit the message is handed back,
        /// [`Undelivered::Poison`](crate::failure::Undelivered::Poison), to [`on_dropped`](Self::on_dropped)
        /// and its receipt, and the rest goes on. `u32::MAX` never hands one back.
        ///
        /// A message that is always the first is not always the cause: a peer that answers a ping and
        /// resets each link before it confirms a message has one handed back after so many links.
        max_deliveries: u32 = 10, set(limit: u32) => limit;

        /// Calls this with each accepted message that will not be sent any more, because the
        /// outbox's overflow policy took it out, its time to live was over, it was for a link that
        /// has ended, link after link has ended with it
        /// ([`max_deliveries`](Self::max_deliveries)), or its call has failed
        /// ([`Calls`](crate::Calls)): for programs that keep a journal. It runs on the thread that found out: one
        /// that sends, or one of the connection's own, perhaps on several at once. It should be quick. A
        /// panic in it is logged.
        ///
        /// It may send. A message for which there is no room in the very outbox that it is told of is
        /// then refused with [`Error::Full`](crate::Error::Full), whatever the overflow policy is, and
        /// comes back: to make room would be to drop the next message. It is never called inside
        /// itself.
        ///
        /// It is not called for messages that a dead link had taken and that are not sent again: no copy
        /// of them is kept. [`Event::Disconnected`](crate::Event::Disconnected) says how many they are at
        /// most, and a [receipt](crate::Sender::send_confirmed) tells of one message.
        /// A session keeps what it has sent: when it is over, this is called for each message of which nobody
        /// knows whether the peer has it and that is not sent again, the oldest first
        /// ([`Undelivered::Lost`](crate::failure::Undelivered::Lost)).
        ///
        /// What is left when a client closes is in
        /// [`CloseReport::undelivered`](crate::CloseReport::undelivered) instead.
        ///
        /// ```
        /// use everlink::Client;
        /// use everlink::config::{Overflow, Queue};
        ///
        /// let client = Client::builder("ws://localhost:9001")
        ///     .outbox(Queue::new().messages(100).overflow(Overflow::DropOldest))
        ///     .on_dropped(|message, why| eprintln!("{message:?} will not be sent: {why}"));
        /// # let _ = client;
        /// ```
        #[doc(alias = "on_undelivered")]
        on_dropped: OnDropped,
            set(callback: impl Fn(crate::message::Message, crate::policy::Undelivered) + Send + Sync + 'static)
            => std::sync::Arc::new(callback);
    }

    client_setters {
        /// How long to wait before each redial. Default: 1 s, doubling, at most 30 s, full jitter.
        #[doc(alias("reconnect_interval", "reconnect_delay", "retry_interval"))]
        backoff: Backoff, set(backoff: crate::policy::Backoff) => backoff;

        /// How many attempts in a row may fail before the client gives up, at least 1; an attempt
        /// that leads to a link which dies before it is stable counts as failed. Default: no limit.
        #[doc(alias("max_retries", "max_reconnects"))]
        max_attempts: u32, set(limit: u32) => limit;

        /// How long a link must have been up for the backoff and the count of failed attempts to
        /// start anew. Zero: at once. Default 10 s.
        stable_after: Duration = Duration::from_secs(10), set(time: std::time::Duration) => time;

        /// How many redirects of an opening handshake are followed (never from TLS to none). To another
        /// origin the headers of the request go along, but for `Authorization`, `Proxy-Authorization`,
        /// `Cookie` and `Host`; the credentials of the URL and the client's certificate stay, too.
        /// Default 5.
        #[doc(alias = "follow_redirects")]
        max_redirects: u32 = 5, set(limit: u32) => limit;

        /// The longest wait before a redial that a server may ask for with `Retry-After`; what it asks
        /// beyond that is not granted, and the failure says so. Default 5 minutes. Since it asks all of
        /// its clients for the same, each comes up to half as late again (1 s to 30 s), at random.
        max_retry_after: Duration = Duration::from_secs(300), set(limit: std::time::Duration) => limit;

        /// What becomes of messages that a dead link had taken. Default:
        /// [`Delivery::AtMostOnce`](crate::config::Delivery::AtMostOnce).
        ///
        /// On `tcp://` [`Delivery::AtLeastOnce`](crate::config::Delivery::AtLeastOnce) needs a heartbeat with an answer and a framing that
        /// keeps boundaries.
        #[doc(alias("qos", "at_least_once"))]
        delivery: Delivery = Delivery::default(), set(delivery: crate::policy::Delivery) => delivery;

        /// What is sent again goes out as this makes it: MQTT wants a mark on it, say. It runs on the writer
        /// thread for each message that a link which died had written, each time that it is written again; the
        /// outbox keeps the message as it was. What it makes has to fit the limits: otherwise the message is handed
        /// back. A panic in it hands the message back, too, and ends the link. What a session sends again goes
        /// out as it was, for the peer lacks it; only what was in doubt when a session was over does not.
        ///
        /// ```
        /// use everlink::{Client, Message};
        /// use everlink::config::Delivery;
        ///
        /// let client = Client::builder("ws://localhost:9001")
        ///     .delivery(Delivery::UntilConfirmed)
        ///     .on_resend(|message| Message::from(format!("again {message}")));
        /// # let _ = client;
        /// ```
        on_resend: OnResend,
            set(change: impl Fn(&crate::message::Message) -> crate::message::Message + Send + Sync + 'static)
            => std::sync::Arc::new(change);

        /// How messages are set off from each other on `tcp://`. Default: [`Framing::lines`](crate::config::Framing::lines).
        ///
        /// On a WebSocket with this each message is a packet of the framing instead of the WebSocket's own, as
        /// in MQTT over WebSocket: packets come in binary messages, joined and cut as the peer likes, and
        /// go out in one each. A text message is a violation there, 1003. Without it messages are those of
        /// the WebSocket.
        #[doc(alias("codec", "delimiter"))]
        framing: Framing = Framing::lines(), set(framing: crate::policy::Framing) => framing;
    }
}

/// Which side of a connection it is: their defaults differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Side {
    #[default]
    Client,
    /// Each of a server's sessions.
    Session,
}

impl Settings {
    /// The name in metrics and log records. A client or server that was given none names itself at the
    /// start.
    pub(crate) fn label(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn timeouts(&self) -> Resolved {
        self.timeouts.unwrap_or_default().resolved()
    }

    /// What may be received.
    pub(crate) fn limits(&self) -> MaxSizes {
        let message = match self.side {
            Side::Client => 64 << 20,
            // as many bytes as this can be unfinished in each of the sessions
            Side::Session => 1 << 20,
        };
        self.limits.unwrap_or_default().sizes(MaxSizes { message, frame: usize::MAX })
    }

    /// The same on the wire, where a session says of each message what kind it is.
    pub(crate) fn limits_with(&self, has_session: bool) -> MaxSizes {
        if has_session { self.limits().with_kind() } else { self.limits() }
    }

    /// How messages are set off on the wire of framed TCP.
    pub(crate) fn spoken_framing(&self) -> Framing {
        if self.resume.is_some() { self.framing().with_kinds() } else { self.framing() }
    }

    /// What a message has to fit.
    pub(crate) fn framing_of(&self, is_websocket: bool) -> Option<Framing> {
        if is_websocket { self.packets.clone() } else { Some(self.spoken_framing()) }
    }

    /// The size of fragments that are sent.
    pub(crate) fn fragment(&self) -> Option<usize> {
        self.limits?.fragment
    }

    pub(crate) fn socket(&self) -> SocketOptions {
        self.socket.unwrap_or_default()
    }

    /// That of a WebSocket, unless the program has chosen one.
    pub(crate) fn heartbeat(&self) -> &Heartbeat {
        static USUAL: LazyLock<Heartbeat> = LazyLock::new(Heartbeat::default);
        self.heartbeat.as_ref().unwrap_or(&USUAL)
    }

    /// It has room for every message that may be sent, unless the program has said how many bytes.
    pub(crate) fn outbox(&self) -> Bounds {
        let (messages, bytes) = match self.side {
            Side::Client => (8192, 64 << 20),
            Side::Session => (1024, 16 << 20),
        };
        self.outbox.unwrap_or_default().bounds(messages, bytes.max(self.limits().message))
    }

    pub(crate) fn inbox(&self) -> Bounds {
        let messages = match self.side {
            Side::Client => 4096,
            Side::Session => 64,
        };
        self.inbox.unwrap_or_default().bounds(messages, 1 << 20)
    }

    pub(crate) fn backoff(&self) -> Backoff {
        self.backoff.clone().unwrap_or_default()
    }

    /// Whether the peer's answers tell what it has received: they come in order.
    pub(crate) fn is_confirmable(&self, is_websocket: bool) -> bool {
        self.is_confirmed_by(self.heartbeat(), is_websocket || self.resume.is_some())
    }

    fn is_confirmed_by(&self, heartbeat: &Heartbeat, has_pings: bool) -> bool {
        has_pings || heartbeat.has_answer() && self.framing().keeps_boundaries()
    }

    /// Refuses a heartbeat of a link on which nothing would confirm what has to be confirmed.
    pub(crate) fn check_learnt(
        &self,
        heartbeat: &Heartbeat,
        has_pings: bool,
        fits: impl Fn(&Message) -> Result<(), &'static str>,
    ) -> Result<(), Error> {
        let wrong = |reason| Error::setting("heartbeat", reason);
        heartbeat.check(has_pings, fits).map_err(wrong)?;
        let needs_answers = self.delivery() == Delivery::AtLeastOnce;
        if needs_answers && !self.is_confirmed_by(heartbeat, has_pings) {
            return Err(wrong(Error::Unconfirmable.to_string()));
        }
        Ok(())
    }

    /// Refuses what can have no effect, what cannot work, and what contradicts each other.
    pub(crate) fn check(&self, is_websocket: bool) -> Result<(), Error> {
        if !is_websocket {
            let limits = self.limits.unwrap_or_default();
            Error::no_effect(
                "framed TCP has no opening handshake",
                &[
                    ("max_redirects", self.max_redirects.is_some()),
                    ("max_retry_after", self.max_retry_after.is_some()),
                ],
            )?;
            Error::no_effect(
                "framed TCP has no frames",
                &[
                    ("compression", self.compression.is_some()),
                    ("Limits::frame", limits.frame.is_some()),
                    ("Limits::fragment", limits.fragment.is_some()),
                ],
            )?;
        }
        if let Some(packets) = &self.packets {
            let fragment = self.limits.is_some_and(|limits| limits.fragment.is_some());
            let why = "with a framing each packet is sent in one frame";
            Error::no_effect(why, &[("Limits::fragment", fragment)])?;
            let why = "the messages of a WebSocket are set off already";
            Error::no_effect(why, &[("framing", !packets.keeps_boundaries())])?;
            if self.resume.is_some() {
                let reason =
                    "a session counts the messages of a WebSocket, not the packets in them";
                return Err(Error::setting("resume", reason));
            }
        }
        let framing = self.framing_of(is_websocket);
        let sizes = self.limits();
        let longest = framing.as_ref().map_or(usize::MAX, Framing::limit).min(sizes.message);
        if self.resume.is_some() {
            let checked = framing.as_ref().map_or(Ok(()), Framing::check_session);
            checked.map_err(|reason| Error::setting("resume", reason))?;
        }
        // a session has a question that serves as a ping
        let has_pings = is_websocket || self.resume.is_some();
        if !has_pings && self.heartbeat.is_none() {
            return Err(Error::setting("heartbeat", Heartbeat::CHOICES));
        }
        let wrong = |(option, reason)| Error::setting(option, reason);
        let named = |name| move |reason: String| Error::setting(name, reason);
        self.timeouts.unwrap_or_default().check().map_err(wrong)?;
        self.limits.unwrap_or_default().check().map_err(wrong)?;
        self.socket().check().map_err(wrong)?;
        not_too_long(self.max_retry_after()).map_err(named("max_retry_after"))?;
        let zero = "zero lets nothing through";
        if self.max_attempts == Some(0) {
            return Err(Error::setting("max_attempts", zero));
        }
        if self.max_deliveries() == 0 {
            return Err(Error::setting("max_deliveries", zero));
        }
        if let Some(framing) = &framing {
            if framing.limit() == 0 {
                return Err(Error::setting("framing", zero));
            }
            framing.check_options(longest).map_err(|reason| Error::setting("framing", reason))?;
        }
        if self.stack_size() < LEAST_STACK {
            let reason =
                format!("{} bytes are under the least of {LEAST_STACK}", self.stack_size());
            return Err(Error::setting("stack_size", reason));
        }
        if let Some(compression) = &self.compression {
            compression.check().map_err(named("compression"))?;
        }
        if let Some(resume) = &self.resume {
            if longest.min(sizes.frame) < Resume::LEAST_LIMIT {
                let least = Resume::LEAST_LIMIT;
                let reason = format!("a session has messages of its own, of up to {least} bytes");
                return Err(Error::setting("resume", reason));
            }
            resume.check().map_err(named("resume"))?;
        }
        let fits = |beat: &Message| framing.as_ref().map_or(Ok(()), |framing| framing.check(beat));
        self.heartbeat().check(has_pings, fits).map_err(named("heartbeat"))?;
        self.backoff().check().map_err(named("backoff"))?;
        let (outbox, inbox) = (self.outbox.unwrap_or_default(), self.inbox.unwrap_or_default());
        outbox.check().map_err(named("outbox"))?;
        inbox.check().map_err(named("inbox"))?;
        let (bytes, message) = (self.outbox().bytes, self.limits().message);
        if bytes < message && self.limits.is_some_and(|limits| limits.message.is_some()) {
            let reason = format!(
                "its {bytes} bytes hold no message of the {message} bytes of Limits::message"
            );
            return Err(Error::setting("outbox", reason));
        }
        if inbox.message_ttl.is_some() {
            let reason = "message_ttl() can have no effect: what was received does not expire";
            return Err(Error::setting("inbox", reason));
        }
        Ok(())
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("timeouts", &self.timeouts)
            .field("limits", &self.limits)
            .field("socket", &self.socket)
            .field("heartbeat", &self.heartbeat)
            .field("outbox", &self.outbox)
            .field("inbox", &self.inbox)
            .finish_non_exhaustive()
    }
}

//! Every setting of a server.

use std::fmt;
use std::io;
use std::net::ToSocketAddrs;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::Receiver;

use super::acceptor::Acceptor;
use super::admission::{Admission, ConnectionLimits};
use super::answer::Answer;
use super::core::{Handling, OnPresence, OnRequest, OnResume, ServerCore};
use super::forwarded::ForwardedHeader;
use super::listener::Listener;
use super::opening_rate::OpeningRate;
use super::presence::Presence;
use super::proxies::Proxies;
use super::registry::Registry;
use super::resumption::Resumption;
use super::session::{ServerHandle, Session};
use super::session_handler::{Attended, SessionHandler};
use super::slow_session::SlowSession;
#[cfg(feature = "tls")]
use super::tls::ServerTls;
use super::topics::{LONGEST_NAME, Topics};
use super::totals::Totals;
use super::{Incoming, Server, accept};
use crate::error::Error;
use crate::failure::quote;
use crate::handshake::{Gate, Names, Origins};
use crate::http1::head::is_token;
use crate::message::Message;
use crate::policy::{Framing, MAX_DURATION, Overflow, ReceiveRate};
use crate::settings::{Settings, Side, shared_setters};
use crate::sync::threads::{Role, Threads, next_id};
use crate::sync::{Budget, Mutex, Repeats, Signal};
#[cfg(feature = "tls")]
use crate::transport::tls::Tls;

/// Every setting of a [`Server`], from [`Server::builder`].
///
/// Ranges are those of a client's [`ClientBuilder`](crate::ClientBuilder#ranges), and here too what can have no
/// effect is refused at the start: with a [`framing`](Self::framing) that is `on_request`, `forwarded`,
/// `subprotocols`, `origins`, `any_origin`, `host_names`, `compression`, `Limits::frame` and `Limits::fragment`, and `Timeouts::handshake`
/// unless there is TLS; `slow_session` with an outbox that drops messages; whatever is about dialing
/// and logging in (`Timeouts::dns`, `connect` and `login`, `SocketOptions::local_address`).
#[must_use = "a builder does nothing until bind() or serve()"]
pub struct ServerBuilder {
    settings: Settings,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
    connections: ConnectionLimits,
    backlog: Option<u32>,
    slow: Option<SlowSession>,
    on_request: Option<OnRequest>,
    subprotocols: Option<Vec<String>>,
    on_resume: Option<OnResume>,
    on_presence: Option<OnPresence>,
    max_topics: usize,
    max_topic_bytes: usize,
    origins: Option<Vec<String>>,
    any_origin: bool,
    names: Option<Vec<String>>,
    proxy_protocol: Option<Vec<String>>,
    forwarded: Option<(ForwardedHeader, Vec<String>)>,
    openings: Option<(u32, Duration)>,
}

impl ServerBuilder {
    pub(super) fn new() -> Self {
        Self {
            settings: Settings { side: Side::Session, ..Settings::default() },
            #[cfg(feature = "tls")]
            tls: None,
            connections: ConnectionLimits { total: 1024, per_network: None },
            backlog: None,
            slow: None,
            on_request: None,
            subprotocols: None,
            on_resume: None,
            on_presence: None,
            max_topics: 100,
            max_topic_bytes: 1 << 20,
            origins: None,
            any_origin: false,
            names: None,
            proxy_protocol: None,
            forwarded: None,
            openings: None,
        }
    }

    shared_setters!();

    /// Speaks plain TCP with this framing instead of WebSocket.
    ///
    /// ```
    /// use everlink::config::{Framing, Heartbeat};
    /// use everlink::{Client, Server};
    ///
    /// let server = Server::builder()
    ///     .framing(Framing::lines())
    ///     .heartbeat(Heartbeat::ping_pong())
    ///     .bind("127.0.0.1:0", |session| {
    ///         for line in &session {
    ///             let _ = session.send(line);
    ///         }
    ///     })?;
    /// let client = Client::builder(format!("tcp://{}", server.local_addr()))
    ///     .heartbeat(Heartbeat::ping_pong())
    ///     .connect()?;
    /// client.send("a line")?;
    /// assert_eq!(client.recv()?, "a line");
    /// # Ok::<(), everlink::Error>(())
    /// ```
    pub fn framing(mut self, framing: Framing) -> Self {
        self.settings.framing = Some(framing);
        self
    }

    /// Each message is a packet of this framing instead of the WebSocket's own, as in MQTT over
    /// WebSocket: packets come in binary messages, joined and cut as the peer likes, and go out in
    /// one each. A text message is a violation there, 1003.
    ///
    /// ```
    /// use everlink::config::{Framing, LengthField, Prefix};
    /// use everlink::{Client, Server};
    ///
    /// let mqtt = Framing::length_field(LengthField::new(Prefix::Varint).offset(1).strip(0));
    /// let server = Server::builder()
    ///     .websocket_framing(mqtt.clone())
    ///     .subprotocols(["mqtt"])
    ///     .bind("127.0.0.1:0", |session| {
    ///         for packet in &session {
    ///             let _ = session.send(packet);
    ///         }
    ///     })?;
    /// let client = Client::builder(format!("ws://{}", server.local_addr()))
    ///     .framing(mqtt)
    ///     .subprotocols(["mqtt"])
    ///     .connect()?;
    /// client.send(b"\xc0\x00")?;
    /// assert_eq!(client.recv()?.as_bytes(), b"\xc0\x00");
    /// # Ok::<(), everlink::Error>(())
    /// ```
    pub fn websocket_framing(mut self, framing: Framing) -> Self {
        self.settings.packets = Some(framing);
        self
    }

    /// Speaks TLS, `wss://` or `tcps://` with a framing, and shows the certificate that is given
    /// here. Its handshake is part of the opening handshake and has the same deadline. While the server runs
    /// [`set_tls`](ServerHandle::set_tls) replaces it. Default: no TLS.
    ///
    /// ```no_run
    /// use everlink::Server;
    /// use everlink::config::Tls;
    ///
    /// let tls = Tls::new().identity_files("cert.pem", "key.pem");
    /// let server = Server::builder().tls(tls).bind("0.0.0.0:9001", |session| drop(session.recv()))?;
    /// # Ok::<(), everlink::Error>(())
    /// ```
    #[doc(alias("ssl", "certificate"))]
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: impl Into<Tls>) -> Self {
        self.tls = Some(tls.into());
        self
    }

    /// Decides what to say to each request: which subprotocol, which headers, or something else
    /// than an upgrade. It runs on the thread of the connection. Default: every proper request
    /// is upgraded, without a subprotocol.
    ///
    /// Requests that come from a page of another host are refused before this is asked:
    /// [`origins`](Self::origins). What it finds out about a client goes along to the session with
    /// [`Answer::with`].
    ///
    /// ```
    /// use everlink::http::StatusCode;
    /// use everlink::{Answer, Server};
    ///
    /// #[derive(Clone)]
    /// struct User(String);
    ///
    /// let server = Server::builder().on_request(|incoming| match incoming.bearer_auth() {
    ///     Some("t0ken") => Answer::accept().with(User("alice".into())),
    ///     _ => Answer::reject(StatusCode::UNAUTHORIZED),
    /// });
    /// # let _ = server;
    /// // and in the handler: session.get::<User>()
    /// ```
    #[doc(alias("authorize", "on_handshake", "on_upgrade"))]
    pub fn on_request(
        mut self,
        decide: impl Fn(&Incoming) -> Answer + Send + Sync + 'static,
    ) -> Self {
        self.on_request = Some(Box::new(decide));
        self
    }

    /// The subprotocols that the server speaks, the preferred one first: the first that a
    /// client offers too is chosen (RFC 6455 section 1.9), unless the closure of
    /// [`on_request`](Self::on_request) chooses one. A client that offers none of them is let in
    /// without one; [`Incoming::choose_subprotocol`](crate::Incoming::choose_subprotocol) is there
    /// for a closure that refuses it. [`Session::subprotocol`](crate::Session::subprotocol) says which
    /// was chosen.
    ///
    /// ```
    /// let server = everlink::Server::builder().subprotocols(["ocpp2.0.1", "ocpp1.6"]);
    /// # let _ = server;
    /// ```
    #[doc(alias = "protocols")]
    pub fn subprotocols(mut self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.subprotocols = Some(owned(names));
        self
    }

    /// Lets pages of these origins in, like `https://app.example.org`. A browser sends the origin
    /// of the page along (RFC 6455 section 10.2), and cookies for this server with it: a page of
    /// anybody's could act for its visitor. Always let in are pages of the host that is asked, and
    /// programs, which send no origin. Others are answered with 403: pages of `http://` too where this
    /// server speaks [`tls`](Self::tls) itself, and whatever has a scheme of its own (`file://`, a
    /// browser's extensions) unless it is listed. `null` stands for pages that have no origin to show:
    /// files, sandboxes, some apps. Behind a proxy that puts a name of its own into `Host`, list the
    /// origins that browsers see.
    ///
    /// A server that is reached by name, without TLS, wants [`host_names`](Self::host_names) as well.
    ///
    /// ```
    /// let server = everlink::Server::builder().origins(["https://app.example.org"]);
    /// # let _ = server;
    /// ```
    #[doc(alias("cors", "allowed_origins"))]
    pub fn origins(mut self, allowed: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.origins.get_or_insert_default().extend(owned(allowed));
        self
    }

    /// The names that the server is known by, with a port or (any port) without: requests for others
    /// are answered with 421, whatever they ask for. Addresses are always let in, and requests without
    /// a host. Default: every name.
    ///
    /// This is against *DNS rebinding*: somebody has a page of `evil.example` open, and lets that name
    /// lead to this server, on the visitor's own machine or in the company's network, which the page's
    /// owner cannot reach. To the browser, and to this server, the page is then one of the very host
    /// that is asked; only the name gives it away. Behind TLS the browser notices, for the certificate
    /// is of another name. So it is for servers that speak plain HTTP, on `localhost` above all.
    ///
    /// ```
    /// let server = everlink::Server::builder().host_names(["localhost", "feed.lan:9001"]);
    /// # let _ = server;
    /// ```
    #[doc(alias = "allowed_hosts")]
    pub fn host_names(mut self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.names = Some(owned(names));
        self
    }

    /// Lets pages of every origin in: for services that are public, and trust no cookie.
    pub fn any_origin(mut self) -> Self {
        self.any_origin = true;
        self
    }

    /// How many connections there may be from one address (for IPv6: from one /64, which is what one
    /// customer has), those that are opening included; one more is treated as with
    /// [`max_connections`](Self::max_connections). Default: half of those that there may be in all, and all of them from this machine
    /// and from private networks, where a reverse proxy has everybody's connections.
    pub fn max_connections_per_address(mut self, limit: usize) -> Self {
        self.connections.per_network = Some(limit);
        self
    }

    /// How many connections one address (or IPv6 /64) may open in each `period`, 1 ms and more: so many at
    /// once, and then one after the other in the same measure. One more is treated as with
    /// [`max_connections`](Self::max_connections), and counted in
    /// [`ServerStats::openings_over_rate`](crate::stats::ServerStats::openings_over_rate). Default: no limit.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let server = everlink::Server::builder().max_openings_per_address(20, Duration::from_secs(10));
    /// # let _ = server;
    /// ```
    ///
    /// 65,536 addresses are remembered; if more than that come within a period, the rest is let in.
    #[doc(alias("rate_limit", "throttle"))]
    pub fn max_openings_per_address(mut self, count: u32, period: Duration) -> Self {
        self.openings = Some((count, period));
        self
    }

    /// Has these proxies say whose connections they hand on, by the [PROXY protocol], version 1 or 2,
    /// ahead of everything else, TLS too: `send-proxy` and `send-proxy-v2` of haproxy, `proxy_protocol on` of
    /// nginx's streams, and what load balancers have. [`Session::client_addr`](crate::Session::client_addr)
    /// is what they say, and limits by address count it. `trusted` are addresses and networks
    /// (`"10.0.0.0/8"`, `"fd00::/8"`), and `"unix:"` for whoever connects to a Unix socket. Default:
    /// nobody.
    ///
    /// A connection of theirs without such a header is refused, and so is one whose header has more than 4096
    /// bytes; the time for it is that of the opening handshake. A header of anybody else is none:
    /// it is what the client says, and no HTTP. A connection that is the proxy's own, by `LOCAL`
    /// or `UNKNOWN`, is counted as the proxy's, and so is one for which it has no internet address. Type-length-value
    /// fields are skipped.
    ///
    /// Until the header has come a connection counts in
    /// [`max_connections`](Self::max_connections) only.
    ///
    /// ```
    /// let server = everlink::Server::builder().proxy_protocol(["10.0.0.0/24"]);
    /// # let _ = server;
    /// ```
    ///
    /// [PROXY protocol]: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt
    #[doc(alias = "real_ip")]
    pub fn proxy_protocol(mut self, trusted: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.proxy_protocol = Some(owned(trusted));
        self
    }

    /// Believes what these proxies say in this header of a request about who has sent it:
    /// [`Session::client_addr`](crate::Session::client_addr), and limits by address count that.
    /// `trusted` is as with [`proxy_protocol`](Self::proxy_protocol), which may come first. Default:
    /// nobody is believed.
    ///
    /// The list in the header is read from its end, as long as the one who has written it is trusted: what a
    /// client has put into it is further left. An address without a port has port 0. If a proxy says nothing, or hides who it was
    /// (`unknown`), the connection is the proxy's. Until the request has come it counts in
    /// [`max_connections`](Self::max_connections) only.
    ///
    /// Name the header that your proxies write, and no other: they hand on what a client has written into the
    /// other one.
    ///
    /// ```
    /// use everlink::Server;
    /// use everlink::config::ForwardedHeader;
    ///
    /// let server = Server::builder().forwarded(ForwardedHeader::XForwardedFor, ["127.0.0.1", "::1"]);
    /// # let _ = server;
    /// ```
    #[doc(alias("x_forwarded_for", "trust_proxy", "real_ip"))]
    pub fn forwarded(
        mut self,
        header: ForwardedHeader,
        trusted: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Self {
        self.forwarded = Some((header, owned(trusted)));
        self
    }

    /// How many connections there may be, those that are opening included. One more is answered
    /// with 503, or cut at once on plain TCP. Default 1024.
    #[doc(alias = "connection_limit")]
    pub fn max_connections(mut self, limit: usize) -> Self {
        self.connections.total = limit;
        self
    }

    /// How many connections may wait in the kernel to be accepted, at most what the system allows
    /// (`net.core.somaxconn` on Linux). Default 1024.
    pub fn backlog(mut self, connections: u32) -> Self {
        self.backlog = Some(connections);
        self
    }

    /// Decides whether a client that has a session's secret may go on with it: whether it is
    /// the user whose session it is, say. One that may not gets a session of its own, and the session is
    /// left alone. If the closure panics nobody knows: the client is told to try again (1013), and keeps its
    /// session. It runs on the thread of the connection. Default: it may.
    /// It is asked about sessions that have begun and are not over.
    ///
    /// ```no_run
    /// use everlink::config::Resume;
    /// use everlink::Server;
    ///
    /// # fn user(request: &everlink::Incoming) -> Option<String> { None }
    /// let server = Server::builder()
    ///     .resume(Resume::new())
    ///     .on_resume(|request, session| user(request) == session.incoming().and_then(user));
    /// # let _ = server;
    /// ```
    pub fn on_resume(
        mut self,
        decide: impl Fn(&Incoming, &Session) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.on_resume = Some(Box::new(decide));
        self
    }

    /// The most memory, in bytes, that all sessions together may hold for messages: what has come of
    /// unfinished ones, what waits to be received, and what waits to be sent (a broadcast counts in
    /// each outbox that it waits in, although they share it). Default: no bound but those of each
    /// session, which is the sum under [limits](crate::Server#memory).
    ///
    /// The first 16 KiB of each of the three do not count, so small messages always pass. When the rest is used up, sessions that [wait for their client](Self::resume) make room, the one
    /// that has waited longest first ([`Failure::Evicted`](crate::Failure::Evicted)). Where none of
    /// them keeps anything to be sent, a session whose client sends a longer message is closed
    /// with 1013 (try again later; on framed TCP without a word), an inbox that holds more is full, and so is an outbox; one
    /// message passes alone into either.
    ///
    /// At least a [`Limits::message`](crate::config::Limits::message).
    pub fn memory_limit(mut self, bytes: usize) -> Self {
        self.settings.budget = Budget::of(bytes);
        self
    }

    /// How many topics a session may be in at once. At least 1. Default 100.
    pub fn max_topics(mut self, topics: usize) -> Self {
        self.max_topics = topics;
        self
    }

    /// How many bytes the names of all topics may have together, each counted once. At least 255, which is one
    /// name. Default 1 MiB. Besides its name a topic takes about 300 bytes, and about 100 for each member.
    pub fn max_topic_bytes(mut self, bytes: usize) -> Self {
        self.max_topic_bytes = bytes;
        self
    }

    /// Is told who [joins](Session::join) and leaves which topic, also at a session's end: what is called
    /// presence. It runs on the thread of whoever joins or leaves, before that call returns, once at a time and in the
    /// order in which it happened; others who join or leave wait for it, so it should be quick, and not wait
    /// for them. It may publish, and join and leave for any session, which it is told after it has returned. A panic in it
    /// is logged.
    ///
    /// ```
    /// use everlink::{Client, Presence, Server};
    ///
    /// let server = Server::builder()
    ///     .on_presence(|session, topic, presence| {
    ///         session.server().publish(topic, format!("{} {presence:?}", session.id()));
    ///     })
    ///     .bind("127.0.0.1:0", |session| {
    ///         let _ = session.join("lobby");
    ///         for _ in &session {}
    ///     })?;
    /// let client = Client::connect(format!("ws://{}", server.local_addr()))?;
    /// // a member hears of itself
    /// assert!(client.recv()?.as_text().is_some_and(|text| text.ends_with(" Joined")));
    /// # Ok::<(), everlink::Error>(())
    /// ```
    #[doc(alias("on_join", "on_leave", "on_subscribe"))]
    pub fn on_presence(
        mut self,
        tell: impl Fn(&Session, &str, Presence) + Send + Sync + 'static,
    ) -> Self {
        self.on_presence = Some(Box::new(tell));
        self
    }

    /// How fast each client may send, and what becomes of one that is faster:
    /// [`ReceiveRate`](crate::config::ReceiveRate).
    /// [`SessionStats::over_rate`](crate::stats::SessionStats::over_rate) counts it. Default: no limit.
    ///
    /// ```
    /// use everlink::Server;
    /// use everlink::config::ReceiveRate;
    ///
    /// let server = Server::builder().receive_rate(ReceiveRate::new().messages(20).bytes(64 * 1024));
    /// # let _ = server;
    /// ```
    #[doc(alias("rate_limit", "throttle"))]
    pub fn receive_rate(mut self, rate: ReceiveRate) -> Self {
        self.settings.receive_rate = Some(rate);
        self
    }

    /// What a broadcast, or what is published in a topic, does to a session whose outbox is full. Default: it misses the message. With
    /// an outbox that drops messages it is refused at the start.
    pub fn slow_session(mut self, policy: SlowSession) -> Self {
        self.slow = Some(policy);
        self
    }

    /// [`bind`](Self::bind), where everything that a session receives comes through a crossbeam
    /// channel, for `select!`. It disconnects at the session's end. The [inbox](Self::inbox) keeps its
    /// bounds. Each session has a thread more, which hands messages over one by one; without it they
    /// are handed over in batches, which is several times as fast for small messages.
    ///
    /// ```
    /// use std::time::Duration;
    /// use everlink::crossbeam_channel::{select, tick};
    /// use everlink::{Client, Server};
    ///
    /// let server = Server::builder().bind_with_channel("127.0.0.1:0", |session, messages| {
    ///     let timer = tick(Duration::from_millis(10));
    ///     loop {
    ///         select! {
    ///             recv(messages) -> message => if message.is_err() { return },
    ///             recv(timer) -> _ => drop(session.try_send("tick")),
    ///         }
    ///     }
    /// })?;
    /// let client = Client::connect(format!("ws://{}", server.local_addr()))?;
    /// assert_eq!(client.recv()?, "tick");
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`bind`](Self::bind).
    #[doc(alias("channel", "receiver"))]
    pub fn bind_with_channel(
        mut self,
        address: impl ToSocketAddrs,
        handler: impl Fn(Session, Receiver<Message>) + Send + Sync + 'static,
    ) -> Result<Server, Error> {
        self.settings.has_channel = true;
        self.bind(address, move |session| {
            let messages = session.channel();
            handler(session, messages);
        })
    }

    /// [`bind`](Self::bind), where each session has a handler that is called for each message as it comes, on the
    /// reader thread, as with a client's [`on_message`](crate::ClientBuilder::on_message). A session costs a
    /// thread less then, a message no wake-up, and a short one is not even copied. For handlers that wait
    /// for nothing: while one runs nothing of its session is read.
    ///
    /// The closure makes the handler when the session begins, before the first message: it may send, and what
    /// it returns keeps the session's state. That lasts as long as the session, over all its connections
    /// ([`resume`](Self::resume)). [`SessionHandler::on_close`] says when it is over: when the peer or
    /// [`close`](Session::close) ends it, or a shutdown. After `close` there may be more messages, which the peer
    /// had sent before it heard of that. If the handler panics, it gets no more messages, and the session
    /// is closed with 1011.
    ///
    /// ```
    /// use everlink::{Client, MessageRef, Server, Session};
    ///
    /// let server = Server::builder().bind_with_handler("127.0.0.1:0", |session: &Session| {
    ///     let _ = session.send("hello");
    ///     let mut sum = 0.0;
    ///     move |session: &Session, message: MessageRef<'_>| {
    ///         sum += message.as_text().and_then(|text| text.parse().ok()).unwrap_or(0.0);
    ///         let _ = session.send(sum.to_string());
    ///     }
    /// })?;
    /// let client = Client::connect(format!("ws://{}", server.local_addr()))?;
    /// assert_eq!(client.recv()?, "hello");
    /// client.send("2.5")?;
    /// client.send("4")?;
    /// assert_eq!((client.recv()?, client.recv()?), ("2.5".into(), "6.5".into()));
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`bind`](Self::bind). [`inbox`](Self::inbox) can have no effect here.
    #[doc(alias("on_message", "on_open", "callback"))]
    pub fn bind_with_handler<H: SessionHandler>(
        self,
        address: impl ToSocketAddrs,
        on_open: impl Fn(&Session) -> H + Send + Sync + 'static,
    ) -> Result<Server, Error> {
        let (builder, handling) = self.attended(on_open)?;
        builder.listen(address, handling)
    }

    fn is_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }

    /// Refuses what was set and cannot have an effect; what both builders have is refused by
    /// [`Settings::check`].
    fn check_effects(&self) -> Result<(), Error> {
        let settings = &self.settings;
        let timeouts = settings.timeouts.unwrap_or_default();
        Error::no_effect(
            "a server dials nobody and logs in nowhere",
            &[
                ("Timeouts::dns", timeouts.dns.is_some()),
                ("Timeouts::connect", timeouts.connect.is_some()),
                ("Timeouts::login", timeouts.login.is_some()),
            ],
        )?;
        let why = "a server listens where bind() or serve() says";
        Error::no_effect(
            why,
            &[("SocketOptions::local_address", settings.socket().local_address.is_some())],
        )?;
        let overflow = settings.outbox().overflow;
        if matches!(overflow, Overflow::DropOldest | Overflow::DropNewest) {
            let why = "no outbox is ever full, since it drops messages";
            Error::no_effect(why, &[("slow_session", self.slow.is_some())])?;
        }
        if settings.resume.is_none() {
            let why = "without resume no session is resumed";
            Error::no_effect(why, &[("on_resume", self.on_resume.is_some())])?;
            let why = "without resume nothing is sent again";
            Error::no_effect(why, &[("max_deliveries", settings.max_deliveries.is_some())])?;
        }
        if settings.framing.is_some() {
            Error::no_effect(
                "with a framing there is no opening handshake",
                &[
                    ("websocket_framing", settings.packets.is_some()),
                    ("on_request", self.on_request.is_some()),
                    ("subprotocols", self.subprotocols.is_some()),
                    ("origins", self.origins.is_some()),
                    ("any_origin", self.any_origin),
                    ("host_names", self.names.is_some()),
                    ("forwarded", self.forwarded.is_some()),
                    ("on_resume", self.on_resume.is_some()),
                ],
            )?;
            if !self.is_tls() {
                let why = "with a framing and without TLS there is no handshake";
                let handshake = timeouts.handshake.is_some() && settings.resume.is_none();
                Error::no_effect(why, &[("Timeouts::handshake", handshake)])?;
            }
        }
        Ok(())
    }

    /// Listens, and serves each connection with the handler, on a thread of its own. When the
    /// handler returns the session is closed with 1000; when it panics, with 1011.
    ///
    /// ```
    /// use everlink::config::Limits;
    /// use everlink::Server;
    ///
    /// let server = Server::builder()
    ///     .limits(Limits::new().message(4096))
    ///     .bind("127.0.0.1:0", |session| for _ in &session {})?;
    /// assert_ne!(server.local_addr().port(), 0);
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSetting`], [`Error::Bind`] and [`Error::Thread`].
    #[doc(alias = "listen")]
    pub fn bind(
        self,
        address: impl ToSocketAddrs,
        handler: impl Fn(Session) + Send + Sync + 'static,
    ) -> Result<Server, Error> {
        self.listen(address, Handling::Thread(Box::new(handler)))
    }

    /// The same on a socket that listens already: one that the program has made, or systemd, or
    /// another process. [`backlog`](Self::backlog) can have no effect there.
    ///
    /// On a Unix socket a session has no [`peer_addr`](Session::peer_addr), nobody's connections are
    /// limited by address, and the socket options of TCP can have no effect. The file of the socket is
    /// the program's.
    ///
    /// ```
    /// use std::net::TcpListener;
    /// use everlink::Server;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let address = listener.local_addr()?;
    /// let server = Server::builder().serve(listener, |session| for _ in &session {})?;
    /// assert_eq!(server.local_addr(), address);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`bind`](Self::bind); [`Error::Bind`] for a socket that does not listen.
    #[doc(alias("systemd", "socket_activation"))]
    pub fn serve(
        self,
        listener: impl Into<Listener>,
        handler: impl Fn(Session) + Send + Sync + 'static,
    ) -> Result<Server, Error> {
        self.take_over(listener.into(), Handling::Thread(Box::new(handler)))
    }

    /// [`bind_with_handler`](Self::bind_with_handler) on a socket that [listens already](Self::serve).
    ///
    /// # Errors
    ///
    /// Those of the two.
    pub fn serve_with_handler<H: SessionHandler>(
        self,
        listener: impl Into<Listener>,
        on_open: impl Fn(&Session) -> H + Send + Sync + 'static,
    ) -> Result<Server, Error> {
        let (builder, handling) = self.attended(on_open)?;
        builder.take_over(listener.into(), handling)
    }

    fn attended<H: SessionHandler>(
        mut self,
        on_open: impl Fn(&Session) -> H + Send + Sync + 'static,
    ) -> Result<(Self, Handling), Error> {
        let why = "what comes goes to a handler, and nothing is queued to be received";
        Error::no_effect(why, &[("inbox", self.settings.inbox.is_some())])?;
        self.settings.has_handler = true;
        let on_open = Arc::new(on_open);
        let attend = move |session| Box::new(Attended::new(session, Arc::clone(&on_open))) as _;
        Ok((self, Handling::Messages(Box::new(attend))))
    }

    fn listen(self, address: impl ToSocketAddrs, handling: Handling) -> Result<Server, Error> {
        self.start(|backlog| Listener::bind(address, backlog.unwrap_or(1024)), handling)
    }

    fn take_over(self, listener: Listener, handling: Handling) -> Result<Server, Error> {
        let why = "the socket listens already";
        Error::no_effect(why, &[("backlog", self.backlog.is_some())])?;
        let why = "a Unix socket has nothing of TCP";
        Error::no_effect(why, &listener.no_effect(self.settings.socket()))?;
        self.start(|_| listener.checked(), handling)
    }

    fn start(
        self,
        listen: impl FnOnce(Option<u32>) -> io::Result<Listener>,
        handling: Handling,
    ) -> Result<Server, Error> {
        let is_tls = self.is_tls();
        let is_framed = self.settings.framing.is_some();
        self.check_effects()?;
        self.settings.check(!is_framed)?;
        if self.connections.total == 0 {
            return Err(Error::setting("max_connections", "zero lets nobody in"));
        }
        if let Some(Err(reason)) = self.settings.receive_rate.map(|rate| rate.check()) {
            return Err(Error::setting("receive_rate", reason));
        }
        if let Some((count, period)) = self.openings {
            if count == 0 || !(Duration::from_millis(1)..=MAX_DURATION).contains(&period) {
                let reason = format!("{count} in {period:?}: neither may be zero");
                return Err(Error::setting("max_openings_per_address", reason));
            }
        }
        let forwarded = self.forwarded.as_ref().map(|(header, names)| (*header, names.as_slice()));
        let proxies = Proxies::new(self.proxy_protocol.as_deref(), forwarded)?;
        if self.connections.per_network == Some(0) {
            return Err(Error::setting("max_connections_per_address", "zero lets nobody in"));
        }
        if self.max_topics == 0 {
            return Err(Error::setting("max_topics", "zero lets nobody join"));
        }
        if self.max_topic_bytes < LONGEST_NAME {
            let reason = format!("a name may have {LONGEST_NAME} bytes");
            return Err(Error::setting("max_topic_bytes", reason));
        }
        let least = self.settings.limits().message;
        if let Some(limit) = self.settings.budget.limit().filter(|limit| *limit < least) {
            let reason = format!("{limit} bytes hold no message of {least} bytes");
            return Err(Error::setting("memory_limit", reason));
        }
        let named = |setting| move |reason: String| Error::setting(setting, reason);
        let mut origins = if self.any_origin { Origins::any() } else { Origins::default() };
        let listed = self.origins.iter().flatten().map(String::as_str);
        origins.allow(listed).map_err(named("origins"))?;
        let names = self.names.iter().flatten().map(String::as_str);
        let names = Names::new(names).map_err(named("host_names"))?;
        let subprotocols = self.subprotocols.unwrap_or_default();
        if let Some(wrong) = subprotocols.iter().find(|name| !is_token(name)) {
            let reason = format!("{} is not an http token", quote(wrong));
            return Err(Error::setting("subprotocols", reason));
        }
        #[cfg(feature = "tls")]
        let tls = self.tls.map(ServerTls::new).transpose()?;
        let listener = listen(self.backlog).map_err(Error::Bind)?;
        let (address, label) = (listener.local_addr(), listener.label());
        let (address, label) = (address.map_err(Error::Bind)?, label.map_err(Error::Bind)?);
        let acceptor = Arc::new(Acceptor::new(listener).map_err(Error::Bind)?);
        let mut settings = self.settings;
        settings.name.get_or_insert(label);
        let id = next_id();
        let core = Arc::new(ServerCore {
            id,
            threads: Threads::of(id, settings.stack_size()),
            address,
            acceptor: Mutex::new(Some(Arc::clone(&acceptor))),
            adopt: accept::adopt,
            accept: Mutex::default(),
            #[cfg(feature = "tls")]
            tls,
            admission: Admission::new(
                self.connections,
                self.openings.map(|(count, period)| OpeningRate::new(count, period)),
            ),
            proxies,
            refusals: AtomicUsize::new(0),
            slow: self.slow.unwrap_or_default(),
            handling,
            on_request: self.on_request,
            on_resume: self.on_resume,
            topics: Topics::new(self.max_topics, self.max_topic_bytes, self.on_presence.is_some()),
            on_presence: self.on_presence,
            gate: Gate { origins, names, is_tls },
            subprotocols,
            registry: Registry::default(),
            resumption: settings
                .resume
                .map(|resume| Resumption::new(resume, self.connections, &settings.budget)),
            stop: Signal::new(),
            is_shut_down: AtomicBool::new(false),
            detached: OnceLock::new(),
            repeats: Repeats::new(),
            totals: Totals::default(),
            #[cfg(feature = "metrics")]
            outlet: crate::metrics::Outlet::new("server", settings.label().to_owned()),
            settings: Arc::new(settings),
        });
        #[cfg(feature = "metrics")]
        crate::metrics::register(&core);
        let server = Arc::clone(&core);
        let accept = core.threads.spawn(Role::Accept, move || accept::run(&server, &acceptor));
        let accept = accept.map_err(Error::Thread)?;
        *core.accept.lock() = Some(accept);
        Ok(Server::new(ServerHandle::new(core)))
    }
}

fn owned(names: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<String> {
    names.into_iter().map(|name| name.as_ref().to_owned()).collect()
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("settings", &self.settings)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

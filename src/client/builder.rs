//! Every setting of a client, and how a client is made of them.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::attempt::{Hooks, Opener};
use super::client_handle::ClientHandle;
use super::core::Core;
use super::endpoints::Endpoints;
use super::event::Event;
use super::handle::Client;
use super::life::{Decide, EventHook, Manager};
use super::login::{HookResult, LoginSession};
use super::network::Network;
use super::route::Route;
use crate::dial::{Connector, Dialer, Environment, Proxy, Resolver, System};
use crate::error::Error;
use crate::failure::{Decision, Failure};
use crate::handshake::OpeningRequest;
use crate::http1::{Endpoint, Jar};
use crate::message::{Message, MessageRef};
use crate::policy::Delivery;
use crate::queues::inbox::{Handler, Inbox};
use crate::queues::outbox::Outbox;
use crate::sender::Sender;
use crate::settings::{Settings, client_setters, shared_setters};
use crate::sync::threads::{Role, next_id};
#[cfg(feature = "tls")]
use crate::transport::tls::Tls;
use crate::transport::{Connect, Resolve};

/// Makes the handler, once there is a sender for it to answer with.
type MessageHook = Box<dyn FnOnce(Sender) -> Box<dyn Handler> + Send>;

/// Every setting of a [`Client`](crate::Client), from [`Client::builder`](crate::Client::builder).
///
/// What is wrong with a value is said by [`start`](Self::start) and [`connect`](Self::connect),
/// before a thread is started or a byte sent.
///
/// ```no_run
/// use std::time::{Duration, Instant};
/// use everlink::Client;
/// use everlink::config::{Backoff, Heartbeat};
///
/// # fn main() -> Result<(), everlink::Error> {
/// let client = Client::builder("ws://localhost:9001/feed")
///     .header("X-Api-Key", "...")
///     .heartbeat(Heartbeat::every(Duration::from_secs(5)).dead_after(Duration::from_secs(12)))
///     // five attempts, three seconds apart, then hand back to the program
///     .backoff(Backoff::fixed(Duration::from_secs(3))).max_attempts(5)
///     .start()?;
/// # Ok(())
/// # }
/// ```
///
/// # Ranges
///
/// | setting | range | has an effect |
/// | --- | --- | --- |
/// | [`timeouts`](Self::timeouts) | see [`Timeouts`](crate::config::Timeouts) | |
/// | [`limits`](Self::limits) | see [`Limits`](crate::config::Limits) | `frame` and `fragment` on `ws://` and `wss://` |
/// | [`socket`](Self::socket) | see [`SocketOptions`](crate::config::SocketOptions) | unless there is a connector, but for `writes` |
/// | `outbox`, `inbox`: messages, bytes | 1 and up; the outbox's bytes not under a `Limits::message` that is set too | always; the inbox without `on_message` |
/// | `heartbeat`: interval and limit | 1 ms to 1000 days; the limit is over the interval | always; the limit unless it is `off()` |
/// | `compression`: level, window bits | 1 to 9, 9 to 15 | on `ws://` and `wss://` |
/// | `on_message` | | without a channel |
/// | `resume` | see [`Resume`](crate::config::Resume) | always, but not with `Framing::raw` |
/// | `max_retry_after` | 0 to 1000 days | on `ws://` and `wss://` |
/// | `stable_after` | any | always |
/// | `backoff`: `initial`, `max` | over 0 to 1000 days | `exponential()`, as `jitter` |
/// | `backoff`: `fixed`, `first` | 0 to 1000 days | always; `first` unless it is `custom()` |
/// | `max_attempts`, `max_deliveries` | 1 and up | always |
/// | `max_redirects` | any | on `ws://` and `wss://` |
/// | `header`, `subprotocols`, `keep_cookies` | what HTTP allows | on `ws://` and `wss://` |
/// | `framing`: `max_length` | 1 and up | everywhere but `raw` on a WebSocket; `little_endian` and `inclusive` with a length, `keep_delimiter` with a delimiter |
/// | `connect_to`, `proxy`, `proxy_from_env` | | unless there is a connector |
/// | `resolver` | | unless there is a connector or `connect_to` |
/// | `stack_size` | 256 KiB and up | always |
/// | `tls` | | where an endpoint wants it, or a redirect or `on_request` may lead to one that does |
///
/// A value out of its range, and a setting that can have no effect, is refused at the start with
/// [`Error::InvalidSetting`]; headers and subprotocols on `tcp://` with [`Error::InvalidHeader`].
#[must_use = "a builder does nothing until start() or connect()"]
pub struct ClientBuilder {
    settings: Settings,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
    request: Result<OpeningRequest, Error>,
    hooks: Hooks,
    decide: Option<Decide>,
    on_message: Option<MessageHook>,
    on_event: Option<EventHook>,
    resolve: Option<Arc<dyn Resolve>>,
    connect_to: Option<SocketAddr>,
    connector: Option<Arc<dyn Connect>>,
    route: Route,
    fallbacks: Vec<String>,
    shuffle: bool,
    cookies: bool,
}

impl ClientBuilder {
    pub(crate) fn new(url: &str) -> Self {
        Self {
            settings: Settings::default(),
            #[cfg(feature = "tls")]
            tls: None,
            request: Endpoint::parse(url).and_then(Endpoint::dialable).map(OpeningRequest::new),
            hooks: Hooks::default(),
            decide: None,
            on_message: None,
            on_event: None,
            resolve: None,
            connect_to: None,
            connector: None,
            route: Route::Straight,
            fallbacks: Vec::new(),
            shuffle: false,
            cookies: false,
        }
    }

    shared_setters!();
    client_setters!();

    /// The first thing that is wrong with the request is what is reported.
    fn edit(mut self, edit: impl FnOnce(&mut OpeningRequest) -> Result<(), Error>) -> Self {
        self.request = self.request.and_then(|mut request| {
            edit(&mut request)?;
            Ok(request)
        });
        self
    }

    /// Sends this header in the opening handshake. See [`OpeningRequest::set_header`].
    ///
    /// ```
    /// let client = everlink::Client::builder("wss://localhost:9001").header("X-Api-Key", "...");
    /// # let _ = client;
    /// ```
    #[doc(alias("headers", "extra_headers", "custom_header"))]
    pub fn header(self, name: &str, value: &str) -> Self {
        self.edit(|request| request.set_header(name, value))
    }

    /// Sends user and password with the opening handshake (Basic authentication, RFC 7617), as the
    /// userinfo of the URL does. Over `ws://` everybody on the way can read them. They do not go along
    /// to another origin.
    ///
    /// ```
    /// let client = everlink::Client::builder("wss://localhost:9001").basic_auth("user", "password");
    /// # let _ = client;
    /// ```
    #[doc(alias("username", "password"))]
    pub fn basic_auth(self, user: &str, password: &str) -> Self {
        self.edit(|request| request.basic_auth(user, password))
    }

    /// Sends this token with the opening handshake (`Authorization: Bearer`, RFC 6750 section 2.1).
    #[doc(alias("token", "authorization"))]
    pub fn bearer_auth(self, token: &str) -> Self {
        self.edit(|request| request.bearer_auth(token))
    }

    /// The same with a token that is made for each attempt, on its thread: one that expires. An error
    /// fails the attempt with [`Failure::Request`], which is retried, and so is a 401 then, which is
    /// permanent otherwise: the next token may be a better one.
    /// ([`decide`](Self::decide) replaces both; a server that ends a link with 1008 because the token
    /// is too old is not dialed again without that.)
    ///
    /// ```
    /// use everlink::Client;
    ///
    /// fn fresh_token() -> std::io::Result<String> {
    ///     std::fs::read_to_string("/run/secrets/token")
    /// }
    ///
    /// let client =
    ///     Client::builder("wss://localhost:9001").bearer_auth_with(|| Ok(fresh_token()?));
    /// # let _ = client;
    /// ```
    pub fn bearer_auth_with(
        mut self,
        make: impl FnMut() -> HookResult<String> + Send + 'static,
    ) -> Self {
        self.hooks.token = Some(Box::new(make));
        self
    }

    /// The subprotocols that are offered, the one that is liked best first (RFC 6455 section 1.9).
    /// What the server chose is in the response of [`Event::Connected`]; it may choose none. Set
    /// again, it replaces those before. Default: none.
    ///
    /// ```
    /// let client =
    ///     everlink::Client::builder("ws://localhost:9001").subprotocols(["ocpp2.0.1", "ocpp1.6"]);
    /// # let _ = client;
    /// ```
    #[doc(alias = "protocols")]
    pub fn subprotocols(self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.edit(|request| request.set_subprotocols(names))
    }

    /// Calls this before each attempt with the request as the builder made it: for a fresh
    /// token, or for the next endpoint of a list. It runs on the thread of the attempt; an error
    /// fails that with [`Failure::Request`], which is retried.
    ///
    /// ```
    /// use everlink::Client;
    ///
    /// let client = Client::builder("wss://localhost:9001").on_request(|request| {
    ///     // the number of the attempt, so that the server's log shows it
    ///     let attempt = request.attempt().to_string();
    ///     Ok(request.set_header("X-Attempt", &attempt)?)
    /// });
    /// # let _ = client;
    /// ```
    #[doc(alias("request", "before_connect"))]
    pub fn on_request(
        mut self,
        make: impl FnMut(&mut OpeningRequest) -> HookResult + Send + 'static,
    ) -> Self {
        self.hooks.request = Some(Box::new(make));
        self
    }

    /// Calls this on each fresh link, before anything queued is sent: to authenticate, to
    /// subscribe. It runs on the thread of the attempt. See [`LoginSession`].
    /// Any error may end the hook: it fails the attempt, which is retried, unless it is a
    /// [`LoginError`](crate::LoginError) that says otherwise.
    ///
    /// ```
    /// use everlink::{Client, Server};
    ///
    /// let server = Server::bind("127.0.0.1:0", |session| {
    ///     for message in &session {
    ///         let _ = session.send(format!("echo of {message}"));
    ///     }
    /// })?;
    /// let client = Client::builder(format!("ws://{}", server.local_addr()))
    ///     .login(|session| {
    ///         session.send("let me in")?;
    ///         session.recv_matching(|answer| answer == "echo of let me in")?;
    ///         Ok(())
    ///     })
    ///     .connect()?;
    /// // goes out after what the hook has sent
    /// client.send("hello")?;
    /// assert_eq!(client.recv()?, "echo of hello");
    /// # Ok::<(), everlink::Error>(())
    /// ```
    #[doc(alias("authenticate", "subscribe", "handshake"))]
    pub fn login(
        mut self,
        hook: impl FnMut(&mut LoginSession<'_>) -> HookResult + Send + 'static,
    ) -> Self {
        self.hooks.login = Some(Box::new(hook));
        self
    }

    /// Calls this with each message on the reader thread, instead of queueing it: the lowest
    /// latency, and a short message is not even copied. While it runs nothing is read, and `send`
    /// on that thread does not wait. If it panics, the client gives up.
    ///
    /// There is no order between this and [`on_event`](Self::on_event), which runs on another thread:
    /// the first messages of a link may come before the event that it is up has been handled, or even
    /// told. (To wait for that would be to hang where the event's callback waits for an answer.)
    /// [`MessageRef::link`](crate::MessageRef::link) says on which link a message came, the number in
    /// [`Event::Connected`](crate::Event::Connected).
    ///
    /// ```no_run
    /// use everlink::Client;
    ///
    /// let client = Client::builder("ws://localhost:9001")
    ///     .on_message(|sender, message| match message.as_text() {
    ///         Some("time?") => drop(sender.send("12:00")),
    ///         _ => println!("{message:?}"),
    ///     })
    ///     .connect()?;
    /// # Ok::<(), everlink::Error>(())
    /// ```
    #[doc(alias("on_text", "on_binary", "message_handler"))]
    pub fn on_message(
        mut self,
        mut handler: impl FnMut(&Sender, MessageRef<'_>) + Send + 'static,
    ) -> Self {
        self.on_message = Some(Box::new(|sender| {
            Box::new(move |message: MessageRef<'_>| handler(&sender, message))
        }));
        self
    }

    /// Calls this with the client and each event, on the manager thread: keep it short. Messages may be
    /// received before it is told of their link, see [`on_message`](Self::on_message).
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// use everlink::{Client, Event};
    ///
    /// let client = Client::builder(&url)
    ///     .on_event(|client, event| match event {
    ///         Event::Disconnected { cause, unconfirmed, .. } => {
    ///             eprintln!("lost: {cause}; {unconfirmed} messages may have to be sent again");
    ///         }
    ///         // this program ends with its feed
    ///         Event::GaveUp { .. } => drop(client.start_close(1001, "no feed")),
    ///         other => eprintln!("{other}"),
    ///     })
    ///     .connect()?;
    /// # let _ = client;
    /// # Ok::<(), everlink::Error>(())
    /// ```
    #[doc(alias("on_connect", "on_open", "on_close", "on_disconnect", "on_error", "on_reconnect"))]
    pub fn on_event(
        mut self,
        callback: impl FnMut(&ClientHandle, &Event) + Send + 'static,
    ) -> Self {
        self.on_event = Some(Box::new(callback));
        self
    }

    /// Decides what to do after a failure, instead of [`Failure::decision`]. It is lent the client, as
    /// [`on_event`](Self::on_event) is, and runs on the manager thread too.
    ///
    /// ```
    /// use everlink::failure::Decision;
    /// use everlink::{Client, Failure};
    ///
    /// let client = Client::builder("ws://localhost:9001").decide(|_, failure| match failure {
    ///     // this service closes with 4001 when the token has expired for good
    ///     Failure::Closed(Some(frame)) if frame.code.0 == 4001 => Decision::GiveUp,
    ///     // a normal close is the end of the feed
    ///     Failure::Closed(Some(frame)) if frame.code.0 == 1000 => Decision::GiveUp,
    ///     // and its load balancer says 404 while it starts
    ///     Failure::Rejected { status, .. } if status.as_u16() == 404 => Decision::Retry,
    ///     other => other.decision(),
    /// });
    /// # let _ = client;
    /// ```
    #[doc(alias("should_reconnect", "retry_if"))]
    pub fn decide(
        mut self,
        decide: impl FnMut(&ClientHandle, &Failure) -> Decision + Send + 'static,
    ) -> Self {
        self.decide = Some(Box::new(decide));
        self
    }

    /// Keeps the cookies that the server sets in an answer to an opening handshake, of whatever
    /// status, and sends them along with redirects and redials: load balancers find the same machine
    /// again by one. A cookie is sent to the very host that has set it. At most 50 are kept, of 4096 bytes
    /// each, and no more of them are sent, the newest, than make a request of 64 KiB, which is what a
    /// server of this crate takes. Default: none is kept.
    #[doc(alias = "cookie_jar")]
    pub fn keep_cookies(mut self) -> Self {
        self.cookies = true;
        self
    }

    /// Another endpoint of the same service, which is tried after those before it: each failure
    /// moves on to the next, and after the last comes the first. Headers and subprotocols are
    /// sent to all of them. A permanent failure of one ends the search, unless
    /// [`decide`](Self::decide) says otherwise.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// use everlink::Client;
    ///
    /// // nobody listens at the first: the second attempt goes to the other
    /// let client = Client::builder("ws://127.0.0.1:1").fallback(&url).start()?;
    /// client.wait_connected(std::time::Duration::from_secs(10))?;
    /// # Ok::<(), everlink::Error>(())
    /// ```
    #[doc(alias("endpoints", "servers", "urls"))]
    pub fn fallback(mut self, url: impl AsRef<str>) -> Self {
        self.fallbacks.push(url.as_ref().into());
        self
    }

    /// Tries the endpoints in an order that is drawn at the start, so that many clients spread
    /// over them.
    pub fn shuffle_endpoints(mut self) -> Self {
        self.shuffle = true;
        self
    }

    /// Whom to trust and who to be on `wss://` and `tcps://`. Default: Mozilla's root
    /// certificates, and no certificate of our own.
    #[doc(alias("ssl", "certificate", "root_certificates"))]
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: impl Into<Tls>) -> Self {
        self.tls = Some(tls.into());
        self
    }

    /// Resolves names with this instead of the system's resolver. It is asked for names only: an
    /// address in a URL or a redirect is dialed as it is. [`connect_to`](Self::connect_to) holds for
    /// addresses, too.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// use everlink::Client;
    ///
    /// let address = server.local_addr();
    /// let client = Client::builder("ws://feed.internal")
    ///     .resolver(move |_host: &str, _port| Ok(vec![address]))
    ///     .connect()?;
    /// # let _ = client;
    /// # Ok::<(), everlink::Error>(())
    /// ```
    #[doc(alias = "dns")]
    pub fn resolver(mut self, resolve: impl Resolve) -> Self {
        self.resolve = Some(Arc::new(resolve));
        self
    }

    /// Connects to this address and port, whatever the URL says, be it a name or an address: for tests
    /// and tunnels. It holds for fallbacks, redirects and URLs of [`on_request`](Self::on_request), too, and
    /// with a proxy in place of the proxy's address. The `Host` header and the name that a certificate
    /// is checked for stay those of the URL.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// use everlink::Client;
    ///
    /// let client = Client::builder("ws://feed.internal").connect_to(server.local_addr()).connect()?;
    /// # let _ = client;
    /// # Ok::<(), everlink::Error>(())
    /// ```
    pub fn connect_to(mut self, address: SocketAddr) -> Self {
        self.connect_to = Some(address);
        self
    }

    /// Connects through this proxy, which resolves the names.
    ///
    /// ```no_run
    /// use everlink::Client;
    /// use everlink::config::Proxy;
    ///
    /// let proxy = Proxy::new("http://user:password@proxy.internal:3128")?;
    /// let client = Client::builder("wss://feed.example.org").proxy(proxy).connect()?;
    /// # let _ = client;
    /// # Ok::<(), everlink::Error>(())
    /// ```
    #[doc(alias("http_proxy", "socks5"))]
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.route = Route::Through(proxy);
        self
    }

    /// Connects through the proxy that the environment names for the endpoint, if it names one:
    /// `HTTPS_PROXY`, `HTTP_PROXY` or `ALL_PROXY`, unless `NO_PROXY` excepts the host: by its name
    /// or a domain above it, by its address or a range (`10.0.0.0/8`), each with or without a port.
    /// The environment is read here, and one that names a proxy that cannot be used is refused at
    /// the start.
    pub fn proxy_from_env(mut self) -> Self {
        let environment = Environment::read(|name| std::env::var_os(name));
        self.route = Route::AsTheEnvironmentSays(Box::new(environment));
        self
    }

    /// Makes connections with this instead of TCP. Whatever concerns names, proxies and sockets is
    /// its own business, and refused at the start here.
    #[doc(alias("dialer", "transport"))]
    pub fn connector(mut self, connector: impl Connect) -> Self {
        self.connector = Some(Arc::new(connector));
        self
    }

    /// Starts the client and returns at once; it keeps trying in the background.
    ///
    /// ```
    /// use everlink::{Client, State};
    ///
    /// // nobody listens there, and the client goes on trying
    /// let client = Client::builder("ws://127.0.0.1:1").start()?;
    /// client.send("for later")?;
    /// assert_ne!(client.state(), State::Connected);
    /// assert_eq!(client.close().undelivered, ["for later"]);
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUrl`], [`Error::TlsUnavailable`], [`Error::InvalidHeader`],
    /// [`Error::InvalidSetting`] and [`Error::Thread`].
    pub fn start(self) -> Result<Client, Error> {
        let (core, manager) = self.build()?;
        launch(core, manager)
    }

    /// The same, and everything received comes through a crossbeam channel, for `select!`. It
    /// disconnects when the client is closed; that a client gave up shows in its
    /// [events](Client::subscribe) only. The [inbox](Self::inbox) keeps its bounds. The client has a
    /// thread more, which hands messages over one by one; without it they are handed over in batches,
    /// which is several times as fast for small messages.
    ///
    /// # Errors
    ///
    /// Those of [`start`](Self::start), and [`Error::InvalidSetting`] with
    /// [`on_message`](Self::on_message).
    #[doc(alias("channel", "receiver"))]
    pub fn start_with_channel(mut self) -> Result<(Client, Receiver<Message>), Error> {
        self.settings.has_channel = true;
        self.start().map(Client::with_channel)
    }

    /// Starts the client and waits for the first attempt, which decides: if it succeeds the
    /// client stays connected from here on, if it fails nothing is left of it.
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// use everlink::{Client, Error, State};
    ///
    /// let client = Client::builder(&url).connect()?;
    /// assert_eq!(client.state(), State::Connected);
    /// let nobody = Client::builder("ws://127.0.0.1:1").connect();
    /// assert!(matches!(nobody, Err(Error::Connect(_))));
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Connect`] if the attempt failed, and those of [`start`](Self::start).
    pub fn connect(self) -> Result<Client, Error> {
        let (core, mut manager) = self.build()?;
        let first = manager.first_decides();
        let client = launch(core, manager)?;
        match first.recv() {
            Ok(Ok(())) => Ok(client),
            Ok(Err(cause)) => Err(Error::Connect(cause)),
            // an event callback has closed the client
            Err(_) => Err(Error::Closed),
        }
    }

    /// [`connect`](Self::connect) with the channel of
    /// [`start_with_channel`](Self::start_with_channel).
    ///
    /// ```no_run
    /// use everlink::crossbeam_channel::{select, tick};
    /// use everlink::Client;
    ///
    /// let (client, messages) = Client::builder("ws://localhost:9001").connect_with_channel()?;
    /// let timer = tick(std::time::Duration::from_secs(1));
    /// loop {
    ///     select! {
    ///         recv(messages) -> message => match message {
    ///             Ok(message) => println!("{message:?}"),
    ///             Err(_) => break,
    ///         },
    ///         recv(timer) -> _ => client.send("tick")?,
    ///     }
    /// }
    /// # Ok::<(), everlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`connect`](Self::connect) and [`start_with_channel`](Self::start_with_channel).
    #[doc(alias("channel", "receiver"))]
    pub fn connect_with_channel(mut self) -> Result<(Client, Receiver<Message>), Error> {
        self.settings.has_channel = true;
        self.connect().map(Client::with_channel)
    }

    fn build(mut self) -> Result<(Arc<Core>, Manager), Error> {
        let request = std::mem::replace(&mut self.request, Err(Error::Closed))?;
        let route = self.connector.is_none().then(|| self.route.clone());
        let endpoints = Endpoints::new(request.clone(), route, self.shuffle);
        let fallbacks = self.fallbacks.iter().map(|url| Endpoint::parse(url));
        let requests =
            endpoints.requests(std::iter::once(Ok(request.endpoint.clone())).chain(fallbacks))?;
        let is_websocket = request.endpoint.scheme.is_websocket();
        let is_tls = requests.iter().any(|request| request.endpoint.scheme.is_tls());
        if !is_websocket {
            request.check_bare()?;
        }
        self.check_effects(is_websocket, is_tls)?;
        let mut settings = self.settings;
        if is_websocket {
            settings.packets = settings.framing.take();
        }
        settings.check(is_websocket)?;
        let delivery = settings.delivery();
        let confirmable =
            settings.is_confirmable(is_websocket) || delivery == Delivery::UntilConfirmed;
        if delivery.resends() && !confirmable {
            return Err(Error::setting("delivery", Error::Unconfirmable.to_string()));
        }
        let id = next_id();
        settings.name.get_or_insert_with(|| id.to_string());
        let settings = Arc::new(settings);
        let outbox = Outbox::new(
            settings.outbox(),
            settings.limits().message,
            settings.framing_of(is_websocket),
            settings.delivery(),
            confirmable,
        )
        .telling(settings.on_dropped.clone())
        .giving_up_after(settings.max_deliveries());
        let (has_channel, has_handler) = (settings.has_channel, self.on_message.is_some());
        let (core, commands) = Core::new(id, &settings, outbox, endpoints, has_handler);
        let core = Arc::new(core);
        #[cfg(feature = "metrics")]
        crate::metrics::register(&core);
        let inbox = match self.on_message {
            Some(handler) => Inbox::Handler(handler(Sender::new(Arc::<Core>::clone(&core)))),
            None => Inbox::Mailbox(Arc::clone(&core.mailbox)),
        };
        let resolve = self.resolve.unwrap_or_else(|| Arc::new(System));
        let network = Network::new(
            Resolver::new(resolve, core.threads.clone()),
            Dialer::new(settings.socket()),
            self.route,
            self.connect_to,
            self.connector.map(|connect| Connector::new(connect, core.threads.clone())),
            #[cfg(feature = "tls")]
            self.tls.unwrap_or_default().client(is_websocket)?,
        );
        let jar = self.cookies.then(Jar::default);
        let opener = Opener::new(Arc::clone(&settings), network, jar, requests, self.hooks);
        let shared = Arc::clone(&core);
        let (on_event, decide) = (self.on_event, self.decide);
        let manager = Manager::new(shared, settings, opener, inbox, commands, on_event, decide);
        // last: nothing that is refused leaves a thread behind
        if has_channel {
            core.mailbox.open_channel(&core.threads).map_err(Error::Thread)?;
        }
        Ok((core, manager))
    }

    /// Refuses what was set and cannot have an effect; `is_tls` says whether one of the endpoints
    /// wants TLS. Headers on `tcp://` are refused before, and what both builders have is refused by
    /// [`Settings::check`].
    fn check_effects(&self, is_websocket: bool, is_tls: bool) -> Result<(), Error> {
        let settings = &self.settings;
        let timeouts = settings.timeouts.unwrap_or_default();
        let socket = settings.socket();
        let goes_through = matches!(self.route, Route::Through(_));
        let goes_as_env_says = matches!(self.route, Route::AsTheEnvironmentSays(_));
        // a program may name another endpoint before each attempt, or begin TLS at login
        let may_be_tls = is_tls
            || self.hooks.request.is_some()
            || !is_websocket && self.hooks.login.is_some()
            || is_websocket && settings.max_redirects() > 0;
        let has_proxy = self.connector.is_none() && (goes_through || goes_as_env_says);
        if !is_websocket {
            let why = "tcp:// has no opening handshake";
            Error::no_effect(
                why,
                &[("bearer_auth_with", self.hooks.token.is_some()), ("keep_cookies", self.cookies)],
            )?;
        }
        #[cfg(feature = "tls")]
        if !may_be_tls {
            let why = "no endpoint wants TLS, and nothing leads to one that does";
            Error::no_effect(why, &[("tls", self.tls.is_some())])?;
        }
        if !(is_websocket || may_be_tls || has_proxy) {
            let why = "plain tcp:// without a proxy shakes no hands";
            let handshake = timeouts.handshake.is_some() && settings.resume.is_none();
            Error::no_effect(why, &[("Timeouts::handshake", handshake)])?;
        }
        let lookup =
            [("resolver", self.resolve.is_some()), ("Timeouts::dns", timeouts.dns.is_some())];
        if self.connect_to.is_some() {
            Error::no_effect("connect_to says which address is dialed", &lookup)?;
        }
        if self.connector.is_some() {
            let why = "the connector makes the connections, and knows nothing of it";
            Error::no_effect(why, &lookup)?;
            Error::no_effect(
                why,
                &[
                    ("connect_to", self.connect_to.is_some()),
                    ("proxy", goes_through),
                    ("proxy_from_env", goes_as_env_says),
                    ("SocketOptions::keepalive", socket.keepalive.is_some()),
                    ("SocketOptions::user_timeout", socket.user_timeout.is_some()),
                    ("SocketOptions::send_buffer", socket.send_buffer.is_some()),
                    ("SocketOptions::receive_buffer", socket.receive_buffer.is_some()),
                    ("SocketOptions::local_address", socket.local_address.is_some()),
                ],
            )?;
        }
        if self.hooks.login.is_none() {
            let why = "there is no login hook";
            Error::no_effect(why, &[("Timeouts::login", timeouts.login.is_some())])?;
        }
        if settings.has_channel {
            let why = "everything received comes through the channel";
            Error::no_effect(why, &[("on_message", self.on_message.is_some())])?;
        }
        if self.on_message.is_some() {
            let why = "with on_message nothing is queued to be received";
            Error::no_effect(why, &[("inbox", settings.inbox.is_some())])?;
        }
        if settings.resume.is_some() {
            let why = "a session confirms by itself, and nothing comes twice";
            let by_program = settings.delivery() == Delivery::UntilConfirmed;
            Error::no_effect(why, &[("Delivery::UntilConfirmed", by_program)])?;
        }
        if !settings.delivery().resends() {
            let why = "nothing is sent again";
            Error::no_effect(why, &[("on_resend", settings.on_resend.is_some())])?;
        }
        let resume = settings.resume.unwrap_or_default();
        Error::no_effect(
            "the server decides how long a session waits, and how much",
            &[
                ("Resume::within", resume.within.is_some()),
                ("Resume::sessions", resume.sessions.is_some()),
                ("Resume::bytes", resume.bytes.is_some()),
            ],
        )?;
        Ok(())
    }
}

fn launch(core: Arc<Core>, manager: Manager) -> Result<Client, Error> {
    // not by value through the frames that start a thread: its stack is what an idle client costs
    let mut manager = Box::new(manager);
    let threads = core.threads.clone();
    threads
        .start(Role::Manager, move || {
            manager.run();
        })
        .map_err(|error| {
            // with it ends the thread of a channel
            core.mailbox.abandon();
            Error::Thread(error)
        })?;
    Ok(Client::new(core))
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("request", &self.request)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

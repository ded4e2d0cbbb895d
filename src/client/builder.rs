//! Every setting of a client.

use std::error::Error as StdError;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, unbounded};

use super::attempt::{Opener, RequestHook};
use super::core::Core;
use super::events::{Event, Publisher};
use super::life::{Decide, Manager};
use super::login::{Hook, LoginError, LoginSession};
use super::route::Route;
use super::status::Status;
use super::streak::FailureStreak;
use super::{Client, Sender};
use crate::dial::{
    Addresses, Connect, Dialer, Environment, Interrupt, Proxy, Resolve, Resolver, System,
};
use crate::error::Error;
use crate::failure::{Decision, Failure};
use crate::handshake::{Jar, Request, dialable};
use crate::link::stats::Counters;
use crate::message::MessageRef;
use crate::policy::Framing;
use crate::policy::{Backoff, Delivery, Heartbeat, Queue};
use crate::queues::inbox::{Handler, Inbox, Mailbox};
use crate::queues::outbox::Outbox;
use crate::settings::Settings;
use crate::sync::Mutex;
use crate::sync::Signal;
use crate::sync::threads;
use crate::sync::threads::{next_id, thread_prefix};

/// Makes the handler, once there is a sender for it to answer with.
type MessageHook = Box<dyn FnOnce(Sender) -> Handler + Send>;
type EventHook = Box<dyn FnMut(&Event) + Send>;

/// Every setting of a [`Client`], from [`Client::builder`].
///
/// What is wrong with a value is said by [`start`](Self::start) and [`connect`](Self::connect),
/// before a thread is started or a byte sent.
///
/// ```no_run
/// use std::time::{Duration, Instant};
/// use everlink::{Backoff, Client, Heartbeat};
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
#[must_use = "a builder does nothing until start() or connect()"]
pub struct Builder {
    settings: Settings,
    #[cfg(feature = "tls")]
    tls: crate::transport::Tls,
    request: Result<Request, Error>,
    request_hook: Option<RequestHook>,
    login_hook: Option<Hook>,
    decide: Option<Decide>,
    on_message: Option<MessageHook>,
    on_event: Option<EventHook>,
    resolve: Arc<dyn Resolve>,
    connector: Option<Arc<dyn Connect>>,
    route: Route,
    fallbacks: Vec<String>,
    shuffle: bool,
    cookies: bool,
}

impl Builder {
    pub(crate) fn new(url: &str) -> Self {
        Self {
            settings: Settings::default(),
            #[cfg(feature = "tls")]
            tls: crate::transport::Tls::default(),
            request: dialable(url).map(Request::new),
            request_hook: None,
            login_hook: None,
            decide: None,
            on_message: None,
            on_event: None,
            resolve: Arc::new(System),
            connector: None,
            route: Route::Straight,
            fallbacks: Vec::new(),
            shuffle: false,
            cookies: false,
        }
    }

    /// The first thing that is wrong with the request is what is reported.
    fn edit(mut self, edit: impl FnOnce(&mut Request) -> Result<(), Error>) -> Self {
        self.request = self.request.and_then(|mut request| {
            edit(&mut request)?;
            Ok(request)
        });
        self
    }

    /// Sends this header in the opening handshake. See [`Request::set_header`].
    pub fn header(self, name: &str, value: &str) -> Self {
        self.edit(|request| request.set_header(name, value))
    }

    /// Offers a subprotocol; the first one offered is the one liked best. What the server chose
    /// is in the response of [`Event::Connected`]; it may choose none.
    pub fn subprotocol(self, name: &str) -> Self {
        self.edit(|request| request.add_subprotocol(name))
    }

    /// Calls this before each attempt with the request as the builder made it: for a fresh
    /// token, or for the next endpoint of a list. It runs on the manager thread; an error fails
    /// the attempt with [`Failure::Request`], which is retried.
    pub fn request(
        mut self,
        make: impl FnMut(&mut Request) -> Result<(), Box<dyn StdError + Send + Sync>> + Send + 'static,
    ) -> Self {
        self.request_hook = Some(Box::new(make));
        self
    }

    /// Calls this on each fresh link, before anything queued is sent: to authenticate, to
    /// subscribe. It runs on the manager thread. See [`LoginSession`] and [`LoginError`].
    pub fn login(
        mut self,
        hook: impl FnMut(&mut LoginSession<'_>) -> Result<(), LoginError> + Send + 'static,
    ) -> Self {
        self.login_hook = Some(Box::new(hook));
        self
    }

    /// Calls this with each message on the reader thread, instead of queueing it: the lowest
    /// latency, and a short message is not even copied. While it runs nothing is read, and `send`
    /// on that thread does not wait. If it panics, the client gives up.
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
    pub fn on_message(
        mut self,
        mut handler: impl FnMut(&Sender, MessageRef<'_>) + Send + 'static,
    ) -> Self {
        self.on_message = Some(Box::new(|sender| {
            Box::new(move |message: MessageRef<'_>| handler(&sender, message))
        }));
        self
    }

    /// Calls this with each event, on the manager thread: keep it short.
    pub fn on_event(mut self, callback: impl FnMut(&Event) + Send + 'static) -> Self {
        self.on_event = Some(Box::new(callback));
        self
    }

    /// Decides what to do after a failure, instead of [`Failure::decision`]. It runs on the
    /// manager thread.
    ///
    /// ```
    /// use everlink::{Client, Decision, Failure};
    ///
    /// let client = Client::builder("ws://localhost:9001").decide(|failure| match failure {
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
    pub fn decide(mut self, decide: impl FnMut(&Failure) -> Decision + Send + 'static) -> Self {
        self.decide = Some(Box::new(decide));
        self
    }

    /// How long to wait before each redial. Default: 1 s, doubling, at most 30 s, full jitter.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.settings.backoff = backoff;
        self
    }

    /// How many attempts in a row may fail before the client gives up, at least 1; an attempt
    /// that leads to a link which dies before it is stable counts as failed. Default: no limit.
    pub fn max_attempts(mut self, limit: u32) -> Self {
        self.settings.max_attempts = Some(limit);
        self
    }

    /// How long a link must have been up for the backoff and the count of failed attempts to
    /// start anew. Zero: at once. Default 10 s.
    pub fn stable_after(mut self, time: Duration) -> Self {
        self.settings.stable_after = time;
        self
    }

    /// How the link proves that the peer is alive. Default: a ping after 20 s idle, death after
    /// 30 s of silence.
    pub fn heartbeat(mut self, heartbeat: Heartbeat) -> Self {
        self.settings.heartbeat = heartbeat;
        self
    }

    /// How long the peer may take no byte at all before the link is dead, if it sends none
    /// either. Default 10 s.
    pub fn write_timeout(mut self, timeout: Duration) -> Self {
        self.settings.write_timeout = timeout;
        self
    }

    /// How long closing may take: writing what is queued and the closing handshake (RFC 6455
    /// section 7.1.2) together. Default 5 s. A peer that has sent its own close frame gets at
    /// most 1 s of it to end the stream.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.settings.close_timeout = timeout;
        self
    }

    /// How long the name lookup may take. Default 10 s.
    pub fn dns_timeout(mut self, timeout: Duration) -> Self {
        self.settings.dns_timeout = timeout;
        self
    }

    /// How long the TCP connection may take, all addresses of the host together. Default 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.settings.connect_timeout = timeout;
        self
    }

    /// How long the whole opening may take from the first connection on: a proxy's answer, TLS, the
    /// opening handshake, and every redirect that is followed. Default 10 s.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.settings.handshake_timeout = timeout;
        self
    }

    /// How long the login hook's calls may take, all together. Default 10 s.
    pub fn login_timeout(mut self, timeout: Duration) -> Self {
        self.settings.login_timeout = timeout;
        self
    }

    /// How many redirects of an opening handshake are followed (never from TLS to none). To another
    /// origin the headers of the request go along, but for `Authorization`, `Proxy-Authorization`,
    /// `Cookie` and `Host`; the credentials of the URL and the client's certificate stay, too.
    /// Default 5.
    pub fn max_redirects(mut self, limit: u32) -> Self {
        self.settings.max_redirects = limit;
        self
    }

    /// The longest wait before a redial that a server may ask for with `Retry-After`; what it asks
    /// beyond that is not granted, and the failure says so. Default 5 minutes. Since it asks all of
    /// its clients for the same, each comes up to half as late again (1 s to 30 s), at random.
    pub fn max_retry_after(mut self, limit: Duration) -> Self {
        self.settings.max_retry_after = limit;
        self
    }

    /// Whether the cookies that the server sets in an answer to an opening handshake, of whatever
    /// status, are sent along by redirects and redials: load balancers find the same machine again
    /// by one. A cookie is sent to the very host that has set it. Default: false.
    pub fn cookies(mut self, keep: bool) -> Self {
        self.cookies = keep;
        self
    }

    /// The largest message that may be sent or received, in bytes. A peer that goes over it is
    /// told so with close code 1009. Default 64 MiB.
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.settings.limits.message = bytes;
        self
    }

    /// The largest frame that may be received, in bytes. Default 16 MiB.
    pub fn max_frame_size(mut self, bytes: usize) -> Self {
        self.settings.limits.frame = bytes;
        self
    }

    /// Sends messages of more than this many bytes as fragments of that size (RFC 6455 section
    /// 5.4), so that pings and pongs pass between them. Default: every message is one frame.
    pub fn fragment_size(mut self, bytes: usize) -> Self {
        self.settings.fragment_size = Some(bytes);
        self
    }

    /// Whether a thread that sends may write to the socket itself, when the writer thread has
    /// nothing to do, the message is small (at most 16 KiB) and the write cannot block. It does
    /// so at most once for each time that something was received, so a burst is still written
    /// by the writer thread in large pieces. It saves an answer two switches of threads; without
    /// it sending never costs the caller a system call. Plain sockets on Linux only. Default:
    /// true.
    pub fn send_directly(mut self, allowed: bool) -> Self {
        self.settings.send_directly = allowed;
        self
    }

    /// What becomes of messages that a dead link had taken. Default:
    /// [`Delivery::AtMostOnce`].
    ///
    /// On `tcp://` [`Delivery::AtLeastOnce`] needs a heartbeat with an answer and a framing that
    /// keeps boundaries.
    pub fn delivery(mut self, delivery: Delivery) -> Self {
        self.settings.delivery = delivery;
        self
    }

    /// How long a message may wait in the outbox: what could not be written in that time is not
    /// written any more, and makes room for who wants to send. Default: for as long as it takes.
    /// [`Client::send_with`] says so for a single message.
    pub fn message_ttl(mut self, time: Duration) -> Self {
        self.settings.message_ttl = Some(time);
        self
    }

    /// The bounds of the queue to be sent, which outlives links. Default: 8192 messages, 64
    /// MiB, wait when full.
    pub fn outbox(mut self, queue: Queue) -> Self {
        self.settings.outbox = queue;
        self
    }

    /// The bounds of the queue of received messages. Default: 4096 messages, 1 MiB, and reading
    /// stops when it is full. Not used with [`on_message`](Self::on_message).
    pub fn inbox(mut self, queue: Queue) -> Self {
        self.settings.inbox = queue;
        self
    }

    /// How messages are set off from each other on `tcp://`. Default: [`Framing::lines`].
    pub fn framing(mut self, framing: Framing) -> Self {
        self.settings.framing = framing;
        self
    }

    /// Whom to trust and who to be on `wss://` and `tcps://`. Default: Mozilla's root
    /// certificates, and no certificate of our own.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: crate::Tls) -> Self {
        self.tls = tls;
        self
    }

    /// Has the kernel probe a connection that was idle for this long, and then as often again
    /// (`SO_KEEPALIVE`). It notices peers that are gone, not peers that hang: the heartbeat does
    /// both. Default: off.
    pub fn tcp_keepalive(mut self, time: Duration) -> Self {
        self.settings.socket.keepalive = Some(time);
        self
    }

    /// Has the kernel end a connection whose written data was not acknowledged for this long
    /// (`TCP_USER_TIMEOUT`, RFC 5482). Linux only; elsewhere it does nothing. Default: off.
    pub fn tcp_user_timeout(mut self, time: Duration) -> Self {
        self.settings.socket.user_timeout = Some(time);
        self
    }

    /// Resolves names with this instead of the system's resolver.
    pub fn resolver(mut self, resolve: impl Resolve) -> Self {
        self.resolve = Arc::new(resolve);
        self
    }

    /// Another endpoint of the same service, which is tried after those before it: each failure
    /// moves on to the next, and after the last comes the first. Headers and subprotocols are
    /// sent to all of them. A permanent failure of one ends the search, unless
    /// [`decide`](Self::decide) says otherwise.
    pub fn fallback(mut self, url: &str) -> Self {
        self.fallbacks.push(url.into());
        self
    }

    /// Tries the endpoints in an order that is drawn at the start, so that many clients spread
    /// over them.
    pub fn shuffle_endpoints(mut self) -> Self {
        self.shuffle = true;
        self
    }

    /// Connects through this proxy, which resolves the names.
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
        let environment = Environment::read(|name| std::env::var(name).ok());
        self.route = Route::AsTheEnvironmentSays(Box::new(environment));
        self
    }

    /// Makes connections with this instead of TCP; resolver and proxy are not used then.
    pub fn connector(mut self, connector: impl Connect) -> Self {
        self.connector = Some(Arc::new(connector));
        self
    }

    /// Dials from this local address. Default: the system chooses.
    pub fn local_address(mut self, address: SocketAddr) -> Self {
        self.settings.socket.local_address = Some(address);
        self
    }

    /// The sizes of the socket's buffers in bytes, to send and to receive. Default: the system
    /// chooses, and adapts them.
    pub fn socket_buffers(mut self, send: usize, receive: usize) -> Self {
        self.settings.socket.send_buffer = Some(send);
        self.settings.socket.receive_buffer = Some(receive);
        self
    }

    /// Dials this address, whatever the name in the URL: for tests and tunnels.
    pub fn address(self, address: SocketAddr) -> Self {
        self.resolver(move |_: &str, _| Ok(vec![address]))
    }

    /// Starts the client and returns at once; it keeps trying in the background.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUrl`], [`Error::TlsUnavailable`], [`Error::InvalidHeader`],
    /// [`Error::InvalidSetting`] and [`Error::Thread`].
    pub fn start(self) -> Result<Client, Error> {
        let (core, manager) = self.build()?;
        launch(core, manager)
    }

    /// Starts the client and waits for the first attempt, which decides: if it succeeds the
    /// client stays connected from here on, if it fails nothing is left of it.
    ///
    /// # Errors
    ///
    /// [`Error::Connect`] if the attempt failed, and those of [`start`](Self::start).
    pub fn connect(self) -> Result<Client, Error> {
        let (core, mut manager) = self.build()?;
        let (sender, first) = bounded(1);
        manager.first = Some(sender);
        let client = launch(core, manager)?;
        match first.recv() {
            Ok(Ok(())) => Ok(client),
            Ok(Err(cause)) => Err(Error::Connect(cause)),
            // an event callback has closed the client
            Err(_) => Err(Error::Closed),
        }
    }

    fn build(self) -> Result<(Arc<Core>, Manager), Error> {
        let request = self.request?;
        let mut endpoints = vec![request.endpoint.clone()];
        for url in &self.fallbacks {
            let endpoint = dialable(url)?;
            request.check_kind(&endpoint)?;
            endpoints.push(endpoint);
        }
        if self.shuffle {
            fastrand::shuffle(&mut endpoints);
        }
        if self.connector.is_none() {
            for endpoint in &endpoints {
                self.route.proxy(endpoint)?;
            }
        }
        let requests =
            endpoints.into_iter().map(|endpoint| Request { endpoint, ..request.clone() }).collect();
        let mut settings = self.settings;
        let is_framed = !request.endpoint.scheme.is_websocket();
        if is_framed {
            request.check_bare()?;
            if self.cookies {
                let reason = "tcp:// has no opening handshake".into();
                return Err(Error::InvalidSetting { setting: "cookies", reason });
            }
            settings.heartbeat = settings.heartbeat.for_framed();
        }
        settings.check()?;
        let confirmable =
            !is_framed || settings.heartbeat.has_answer() && settings.framing.keeps_boundaries();
        if settings.delivery == Delivery::AtLeastOnce && !confirmable {
            let reason = Error::Unconfirmable.to_string();
            return Err(Error::InvalidSetting { setting: "delivery", reason });
        }
        let settings = Arc::new(settings);
        let id = next_id();
        let counters = Arc::new(Counters::default());
        let interrupt = Arc::new(Interrupt::new());
        let (commands, inbound_commands) = unbounded();
        let mailbox = Arc::new(Mailbox::new(settings.inbox));
        let core = Arc::new(Core {
            id,
            outbox: Arc::new(Outbox::new(
                settings.outbox,
                settings.limits.message,
                is_framed.then_some(settings.framing),
                settings.delivery,
                confirmable,
            )),
            mailbox: Arc::clone(&mailbox),
            counters,
            status: Status::new(),
            publisher: Publisher::new(self.on_event),
            commands,
            interrupt: Arc::clone(&interrupt),
            done: Signal::new(),
            undelivered: Mutex::default(),
            settings: Arc::clone(&settings),
        });
        let inbox = match self.on_message {
            Some(handler) => Inbox::Handler(handler(Sender::new(Arc::clone(&core)))),
            None => Inbox::Mailbox(mailbox),
        };
        let opener = Opener {
            counters: Arc::clone(&core.counters),
            #[cfg(feature = "tls")]
            tls: self.tls.build(!is_framed)?,
            resolver: Resolver::new(self.resolve, thread_prefix(id)),
            dialer: Dialer::new(settings.socket.clone(), thread_prefix(id)),
            interrupt,
            settings,
            connector: self.connector,
            route: self.route,
            thread_prefix: thread_prefix(id),
            requests,
            addresses: Addresses::default(),
            jar: self.cookies.then(Jar::default),
            dialed: None,
            request_hook: self.request_hook,
            login_hook: self.login_hook,
        };
        let manager = Manager {
            core: Arc::clone(&core),
            opener,
            inbox: Arc::new(Mutex::new(Some(inbox))),
            commands: inbound_commands,
            decide: self.decide,
            first: None,
            since: Instant::now(),
            link: 0,
            streak: FailureStreak::default(),
        };
        Ok((core, manager))
    }
}

fn launch(core: Arc<Core>, manager: Manager) -> Result<Client, Error> {
    let id = core.id;
    // not by value through the frames that start a thread: its stack is what an idle client costs
    let mut manager = Box::new(manager);
    threads::spawn(&thread_prefix(id), "manager", threads::PROGRAM_STACK, move || {
        threads::belong_to(id);
        manager.run();
    })
    .map_err(Error::Thread)?;
    Ok(Client::new(core))
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("request", &self.request)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

//! Every setting of a client.

mod effect;
mod route;
mod start;
mod traffic;

use std::error::Error as StdError;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use super::attempt::{RequestHook, TokenHook};
use super::event::Event;
use super::life::Decide;
use super::login::{Hook, LoginSession};
use super::route::Route;
use crate::dial::{Connect, Resolve};
use crate::error::Error;
use crate::failure::{Decision, Failure};
use crate::handshake::{OpeningRequest, dialable};
use crate::message::MessageRef;
use crate::queues::inbox::Handler;
use crate::sender::Sender;
use crate::settings::Settings;

/// Makes the handler, once there is a sender for it to answer with.
type MessageHook = Box<dyn FnOnce(Sender) -> Handler + Send>;
type EventHook = Box<dyn FnMut(&Event) + Send>;

/// Every setting of a [`Client`](crate::Client), from [`Client::builder`](crate::Client::builder).
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
///
/// # Ranges
///
/// | setting | range | has an effect |
/// | --- | --- | --- |
/// | [`timeouts`](Self::timeouts) | see [`Timeouts`](crate::Timeouts) | |
/// | [`limits`](Self::limits) | see [`Limits`](crate::Limits) | `frame` and `fragment` on `ws://` and `wss://` |
/// | [`socket`](Self::socket) | see [`SocketOptions`](crate::SocketOptions) | unless there is a connector, but for `writes` |
/// | `outbox`, `inbox`: messages, bytes | 1 and up; the outbox's bytes not under a `Limits::message` that is set too | always; the inbox without `on_message` |
/// | `heartbeat`: interval and limit | 1 ms to 1000 days; the limit is over the interval | always; the limit unless it is `off()` |
/// | `compression`: level, window bits | 1 to 9, 9 to 15 | on `ws://` and `wss://` |
/// | `channel` | | without `on_message` |
/// | `max_retry_after` | 0 to 1000 days | on `ws://` and `wss://` |
/// | `stable_after` | any | always |
/// | `backoff`: `initial`, `max` | over 0 to 1000 days | `exponential()`, as `jitter` |
/// | `backoff`: `fixed` | 0 to 1000 days | always |
/// | `max_attempts` | 1 and up | always |
/// | `max_redirects` | any | on `ws://` and `wss://` |
/// | `header`, `subprotocol`, `keep_cookies` | what HTTP allows | on `ws://` and `wss://` |
/// | `framing`: `max_length` | 1 and up | on `tcp://` and `tcps://`; `little_endian` and `inclusive` with a length prefix |
/// | `connect_to`, `proxy`, `proxy_from_env` | | unless there is a connector |
/// | `resolver` | | unless there is a connector or `connect_to` |
/// | `stack_size` | 256 KiB and up | always |
/// | `tls` | | where an endpoint wants it, or a redirect or `request` may lead to one that does |
///
/// A value out of its range, and a setting that can have no effect, is refused at the start with
/// [`Error::InvalidSetting`]; headers and subprotocols on `tcp://` with [`Error::InvalidHeader`].
#[must_use = "a builder does nothing until start() or connect()"]
pub struct ClientBuilder {
    settings: Settings,
    #[cfg(feature = "tls")]
    tls: Option<crate::transport::Tls>,
    request: Result<OpeningRequest, Error>,
    token_hook: Option<TokenHook>,
    request_hook: Option<RequestHook>,
    login_hook: Option<Hook>,
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
            request: dialable(url).map(OpeningRequest::new),
            token_hook: None,
            request_hook: None,
            login_hook: None,
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
    pub fn basic_auth(self, user: &str, password: &str) -> Self {
        self.edit(|request| request.basic_auth(user, password))
    }

    /// Sends this token with the opening handshake (`Authorization: Bearer`, RFC 6750 section 2.1).
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
        make: impl FnMut() -> Result<String, Box<dyn StdError + Send + Sync>> + Send + 'static,
    ) -> Self {
        self.token_hook = Some(Box::new(make));
        self
    }

    /// Offers a subprotocol; the first one offered is the one liked best. What the server chose
    /// is in the response of [`Event::Connected`]; it may choose none.
    pub fn subprotocol(self, name: &str) -> Self {
        self.edit(|request| request.add_subprotocol(name))
    }

    /// Calls this before each attempt with the request as the builder made it: for a fresh
    /// token, or for the next endpoint of a list. It runs on the thread of the attempt; an error
    /// fails that with [`Failure::Request`], which is retried.
    ///
    /// ```
    /// use everlink::Client;
    ///
    /// let client = Client::builder("wss://localhost:9001").request(|request| {
    ///     // the number of the attempt, so that the server's log shows it
    ///     let attempt = request.attempt().to_string();
    ///     Ok(request.set_header("X-Attempt", &attempt)?)
    /// });
    /// # let _ = client;
    /// ```
    pub fn request(
        mut self,
        make: impl FnMut(&mut OpeningRequest) -> Result<(), Box<dyn StdError + Send + Sync>>
        + Send
        + 'static,
    ) -> Self {
        self.request_hook = Some(Box::new(make));
        self
    }

    /// Calls this on each fresh link, before anything queued is sent: to authenticate, to
    /// subscribe. It runs on the thread of the attempt. See [`LoginSession`].
    /// An error of the hook's fails the attempt and is retried, unless it is a
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
    /// let client = Client::builder(&format!("ws://{}", server.local_addr()))
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
    pub fn login(
        mut self,
        hook: impl FnMut(&mut LoginSession<'_>) -> Result<(), Box<dyn StdError + Send + Sync>>
        + Send
        + 'static,
    ) -> Self {
        self.login_hook = Some(Box::new(hook));
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
    pub fn on_message(
        mut self,
        mut handler: impl FnMut(&Sender, MessageRef<'_>) + Send + 'static,
    ) -> Self {
        self.on_message = Some(Box::new(|sender| {
            Box::new(move |message: MessageRef<'_>| handler(&sender, message))
        }));
        self
    }

    /// Calls this with each event, on the manager thread: keep it short. Messages may be received before
    /// it is told of their link, see [`on_message`](Self::on_message).
    ///
    /// ```
    /// # let (server, url) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/echo.rs"));
    /// use everlink::{Client, Event};
    ///
    /// let client = Client::builder(&url)
    ///     .on_event(|event| match event {
    ///         Event::Disconnected { cause, unconfirmed, .. } => {
    ///             eprintln!("lost: {cause}; {unconfirmed} messages may have to be sent again");
    ///         }
    ///         other => eprintln!("{other}"),
    ///     })
    ///     .connect()?;
    /// # let _ = client;
    /// # Ok::<(), everlink::Error>(())
    /// ```
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

    /// Keeps the cookies that the server sets in an answer to an opening handshake, of whatever
    /// status, and sends them along with redirects and redials: load balancers find the same machine
    /// again by one. A cookie is sent to the very host that has set it. At most 50 are kept, of 4096 bytes
    /// each, and no more of them are sent, the newest, than make a request of 64 KiB, which is what a
    /// server of this crate takes. Default: none is kept.
    pub fn keep_cookies(mut self) -> Self {
        self.cookies = true;
        self
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("request", &self.request)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

//! One attempt to make a link: resolve, connect, shake hands, log in. Each step has its
//! deadline, and `close()` interrupts every one of them.

use std::collections::VecDeque;
use std::error::Error as StdError;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tungstenite::protocol::Role;

use super::core::Core;
use super::held::{Held, Start};
use super::login::{self, Hook, LoginSession, timed_out};
use super::route::Route;
use crate::dial::{Addresses, Connector, Dialer, Interrupt, Resolver};
use crate::failure::{Decision, Failure, HandshakeError, ProxyError, guarded};
use crate::handshake;
use crate::handshake::{Endpoint, Handshake, Jar, OpeningRequest, built_in};
use crate::link::Opened;
use crate::settings::Settings;
use crate::stats::Counters;
use crate::sync::threads::Threads;
use crate::transport::{Duplex, Timed};
use crate::wire::Protocol;

const TOKEN: &str = "token closure";
const REQUEST: &str = "request closure";
const LOGIN: &str = "login hook";

/// The program's say in the request of each attempt.
pub(crate) type RequestHook =
    Box<dyn FnMut(&mut OpeningRequest) -> Result<(), Box<dyn StdError + Send + Sync>> + Send>;

/// Makes the token of each attempt.
pub(crate) type TokenHook =
    Box<dyn FnMut() -> Result<String, Box<dyn StdError + Send + Sync>> + Send>;

/// Makes one link after the other, each on a thread that ends with the attempt.
pub(crate) struct Opener {
    /// The number of the client.
    pub(crate) id: u64,
    pub(crate) settings: Arc<Settings>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) resolver: Resolver,
    /// The one address that is dialed, whatever is named.
    pub(crate) connect_to: Option<SocketAddr>,
    pub(crate) dialer: Dialer,
    pub(crate) interrupt: Arc<Interrupt>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Arc<rustls::ClientConfig>,
    pub(crate) connector: Option<Connector>,
    pub(crate) route: Route,
    pub(crate) threads: Threads,
    pub(crate) addresses: Addresses,
    /// Where cookies are kept, if they are.
    pub(crate) jar: Option<Jar>,
    /// One for each endpoint; the present one is first.
    pub(crate) requests: VecDeque<OpeningRequest>,
    /// Where the last attempt went, or would have gone: the program may have named another
    /// endpoint, and a server may have redirected it.
    pub(crate) dialed: Option<String>,
    pub(crate) token_hook: Option<TokenHook>,
    pub(crate) request_hook: Option<RequestHook>,
    pub(crate) login_hook: Option<Hook>,
    /// The session that outlived the last link, or that the present one carries.
    pub(crate) held: Option<Held>,
    /// Whether the present attempt has found that session to be over.
    pub(crate) has_lost: bool,
    /// Whether the next attempt goes to where the session is, the first after a link was lost.
    pub(crate) returns: bool,
    /// How many messages of a session that goes on are sent again, until that is said.
    pub(crate) resent: Option<usize>,
    /// How many messages of sessions that are over are in doubt, until that is said.
    pub(crate) in_doubt: Option<usize>,
}

/// An attempt that has succeeded.
pub(crate) struct Success {
    pub(crate) opened: Opened,
    /// What the server said to the opening handshake, where there is one.
    pub(crate) response: Option<http::Response<()>>,
    /// For events and logs.
    pub(crate) endpoint: String,
    pub(crate) start: Start,
}

impl Opener {
    /// What to do after a failure, if the program does not say: a token that was refused is not the
    /// last one of a closure.
    pub(crate) fn decision(&self, cause: &Failure) -> Decision {
        match cause {
            Failure::Rejected { status, .. }
                if self.token_hook.is_some() && status.as_u16() == 401 =>
            {
                Decision::Retry
            }
            _ => cause.decision(),
        }
    }

    /// The endpoint that was dialed last, or is dialed first, for events.
    pub(crate) fn endpoint(&self) -> String {
        self.dialed.clone().unwrap_or_else(|| self.requests[0].endpoint.to_string())
    }

    /// The endpoint that the next attempt goes to, unless the program names another.
    pub(crate) fn upcoming(&self) -> String {
        self.requests[0].endpoint.to_string()
    }

    /// Moves on to the next endpoint.
    pub(crate) fn next_endpoint(&mut self) {
        self.requests.rotate_left(1);
    }

    /// Makes an attempt, the `attempt`-th in a row.
    pub(crate) fn open(&mut self, attempt: u32, core: &Arc<Core>) -> Result<Success, Failure> {
        let mut request = OpeningRequest { attempt, ..self.requests[0].clone() };
        self.dialed = Some(request.endpoint.to_string());
        if let Some(make) = &mut self.token_hook {
            let token = core.watched(TOKEN, || guarded(TOKEN, make))?.map_err(Failure::Request)?;
            request.bearer_auth(&token).map_err(|error| Failure::Request(error.into()))?;
        }
        if let Some(hook) = &mut self.request_hook {
            let code = || guarded(REQUEST, || hook(&mut request));
            core.watched(REQUEST, code)?.map_err(Failure::Request)?;
        }
        let mut opening =
            Opening::new(self.settings.timeouts().handshake, request.endpoint.clone());
        let first = self.first_hop(&request);
        let result =
            self.follow(request, first, &mut opening).and_then(|opened| self.log_in(opened, core));
        self.interrupt.unwatch();
        if self.interrupt.is_raised() {
            return Err(Failure::Interrupted);
        }
        match (&result, opening.address) {
            (Ok(_), address) => {
                self.addresses.succeeded(address.filter(|_| self.settings.resume()));
            }
            (Err(_), Some(address)) => self.addresses.has_failed(address),
            (Err(_), None) => {}
        }
        result
    }

    /// Where an attempt begins: where the request says, or after the loss of a link where the
    /// session is, to which a redirect may have led.
    fn first_hop(&mut self, home: &OpeningRequest) -> OpeningRequest {
        let returns = std::mem::take(&mut self.returns);
        match &self.held {
            Some(held) if returns && home.endpoint == self.requests[0].endpoint => {
                home.redirected(held.endpoint.clone())
            }
            _ => home.clone(),
        }
    }

    /// Opens what the request names, or what the server there redirects to.
    fn follow(
        &mut self,
        home: OpeningRequest,
        first: OpeningRequest,
        opening: &mut Opening,
    ) -> Result<Success, Failure> {
        let mut redirects = 0;
        // a server may lead on to what it was told
        let secrets = home.secrets(None);
        let mut request = first;
        loop {
            self.dialed = Some(match redirects {
                0 => request.endpoint.to_string(),
                _ => secrets.clean(&request.endpoint.to_string()),
            });
            let failure = match self.shake_hands(&request, opening) {
                Ok(opened) => return Ok(opened),
                Err(Failure::Dns { host, source }) if redirects > 0 => {
                    Failure::Dns { host: secrets.clean(&host), source }
                }
                Err(failure) => failure,
            };
            let failure = opening.blame_the_clock(failure, redirects);
            let Some(location) = handshake::location(&failure) else { return Err(failure) };
            let bad = |what: String| {
                Failure::Handshake(HandshakeError::BadRedirect(secrets.clean(&what)))
            };
            redirects += 1;
            if redirects > self.settings.max_redirects() {
                return Err(bad(format!("more than {} of them", self.settings.max_redirects())));
            }
            let endpoint = request.endpoint.join(location);
            let endpoint = endpoint.map_err(|error| bad(error.to_string()))?;
            if !endpoint.scheme.is_websocket() {
                return Err(bad(format!("{endpoint} is no WebSocket")));
            }
            if request.endpoint.scheme.is_tls() && !endpoint.scheme.is_tls() {
                return Err(bad(format!("from TLS to {endpoint}, which has none")));
            }
            log::debug!("redirected to {}", secrets.clean(&endpoint.to_string()));
            let endpoint = built_in(endpoint).map_err(|error| bad(error.to_string()))?;
            request = home.redirected(endpoint);
        }
    }

    fn shake_hands(
        &mut self,
        request: &OpeningRequest,
        opening: &mut Opening,
    ) -> Result<Success, Failure> {
        let endpoint = &request.endpoint;
        let mut duplex = self.connect(endpoint, opening)?;
        let (deadline, timeout) = (opening.deadline(), opening.timeout);
        if endpoint.scheme.is_tls() {
            let is_home = endpoint.is_same_origin(&opening.home);
            duplex = self
                .secure(duplex, endpoint, is_home, deadline)
                .map_err(|failure| failure.in_time(timeout))?;
        }
        let (name, limits) = (self.endpoint(), self.settings.limits());
        if !endpoint.scheme.is_websocket() {
            let protocol = Protocol::Framed(self.settings.framing());
            let opened = Opened::new(duplex, protocol, limits, Vec::new());
            return Ok(Success { opened, response: None, endpoint: name, start: Start::Ordinary });
        }
        let protocol = Protocol::WebSocket(Role::Client);
        let (compression, offer) = (self.settings.compression.as_ref(), self.offer(endpoint));
        let with_cookies = self
            .jar
            .as_ref()
            .map(|jar| jar.applied(request, handshake::room(request, compression, offer.as_ref())));
        let mut opened = handshake::open(
            &mut Timed::new(&mut duplex, deadline),
            with_cookies.as_ref().unwrap_or(request),
            compression,
            offer.as_ref(),
        );
        if let Err(Failure::Rejected { retry_after, waits, .. }) = &mut opened {
            *waits = retry_after.map(|asked| asked.min(self.settings.max_retry_after()));
        }
        if let Some(jar) = &mut self.jar {
            match &opened {
                Ok(opened) => jar.store(endpoint, opened.response.headers()),
                Err(Failure::Rejected { headers, .. }) => jar.store(endpoint, headers),
                Err(_) => {}
            }
        }
        let Handshake { response, compression, session, read, secrets } =
            opened.map_err(|failure| failure.in_time(timeout))?;
        let start = self.start(offer.as_ref(), session, endpoint)?;
        let mut opened = Opened::new(duplex, protocol, limits, read).compressed(compression);
        opened.secrets = secrets;
        Ok(Success { opened, response: Some(response), endpoint: name, start })
    }

    /// Connects to the endpoint: with the program's connector, through a proxy, or straight.
    fn connect(&mut self, endpoint: &Endpoint, opening: &mut Opening) -> Result<Duplex, Failure> {
        let settings = Arc::clone(&self.settings);
        opening.address = None;
        if let Some(connector) = &self.connector {
            let deadline = opening.within(settings.timeouts().connect);
            let host = endpoint.dialed_host();
            let duplex = connector.connect(&host, endpoint.port, deadline, &self.interrupt)?;
            self.interrupt.watch(Arc::clone(&duplex.hangup));
            return Ok(duplex);
        }
        let proxy = self
            .route
            .proxy(endpoint)
            .map_err(|error| Failure::Proxy(ProxyError::Unusable(Box::new(error))))?;
        let (host, port) = match proxy {
            Some(proxy) => (proxy.host.clone(), proxy.port),
            None => (endpoint.dialed_host(), endpoint.port),
        };
        let deadline = opening.within(settings.timeouts().dns);
        let resolved = match self.connect_to {
            Some(address) => vec![address],
            None => self.resolver.resolve(&host, port, deadline, &self.interrupt)?,
        };
        let addresses = self.addresses.in_order(&resolved);
        let deadline = opening.within(settings.timeouts().connect);
        let (stream, address) = self.dialer.dial(&addresses, deadline, &self.interrupt)?;
        log::trace!("connected to {address}");
        opening.address = Some(address);
        let mut duplex = Duplex::from(stream);
        self.interrupt.watch(Arc::clone(&duplex.hangup));
        if let Some(proxy) = proxy {
            let mut timed = Timed::new(&mut duplex, opening.deadline());
            let early = proxy.open(&mut timed, &endpoint.host, endpoint.port)?;
            duplex = duplex.put_back(early);
        }
        Ok(duplex)
    }

    #[cfg(feature = "tls")]
    fn secure(
        &self,
        duplex: Duplex,
        endpoint: &Endpoint,
        is_home: bool,
        deadline: Instant,
    ) -> Result<Duplex, Failure> {
        use crate::transport::tls;
        let anonymous = (!is_home).then(|| tls::without_identity(&self.tls));
        let config = anonymous.as_ref().unwrap_or(&self.tls);
        tls::open(duplex, tls::client_connection(config, &endpoint.host)?, deadline)
    }

    /// An endpoint that needs TLS does not get here without it.
    #[cfg(not(feature = "tls"))]
    fn secure(&self, duplex: Duplex, _: &Endpoint, _: bool, _: Instant) -> Result<Duplex, Failure> {
        Ok(duplex)
    }

    fn log_in(&mut self, mut success: Success, core: &Arc<Core>) -> Result<Success, Failure> {
        let Some(hook) = &mut self.login_hook else { return Ok(success) };
        let (deadline, inbox) =
            (Instant::now() + self.settings.timeouts().login, self.settings.inbox());
        let Success { opened, response, start, .. } = &mut success;
        let counts = match start {
            // the server remembers
            Start::Resumed(_) => return Ok(success),
            Start::New { held, .. } => Some(Arc::clone(&held.counts)),
            Start::Ordinary => None,
        };
        let mut session =
            LoginSession::new(opened, deadline, response.as_ref(), &self.counters, inbox, counts);
        // a hook that waits for the server is let be until its time is over
        let patience = core.patience.max(self.settings.timeouts().login);
        let code = || guarded(LOGIN, || hook(&mut session));
        let mut result = core.watched_after(patience, LOGIN, code)?;
        if result.is_ok() {
            result = session.check_kept().map_err(Into::into);
        }
        if result.is_ok() && Instant::now() >= deadline {
            result = Err(timed_out());
        }
        let sent = session.end(result.is_ok());
        match result {
            Ok(()) => {
                if let Start::New { login, .. } = start {
                    *login = sent;
                }
                Ok(success)
            }
            Err(error) => Err(login::failure(error)),
        }
    }
}

/// One opening, over all its redirects.
struct Opening {
    /// What the program has asked for: whatever proves who it is stays there.
    home: Endpoint,
    timeout: Duration,
    /// Known once there was a connection: from there on there is one time for everything.
    deadline: Option<Instant>,
    /// The address that the last connection led to.
    address: Option<SocketAddr>,
}

impl Opening {
    fn new(timeout: Duration, home: Endpoint) -> Self {
        Self { home, timeout, deadline: None, address: None }
    }

    /// When all of it has to be done. The first to ask has the clock started.
    fn deadline(&mut self) -> Instant {
        *self.deadline.get_or_insert_with(|| Instant::now() + self.timeout)
    }

    /// The deadline of a step with a time of its own.
    fn within(&self, own: Duration) -> Instant {
        let own = Instant::now() + own;
        self.deadline.map_or(own, |deadline| deadline.min(own))
    }

    /// A step behind a redirect that had less than its own time says so.
    fn blame_the_clock(&self, failure: Failure, redirects: u32) -> Failure {
        let is_over = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
        let is_about_time = matches!(
            failure,
            Failure::Dns { .. } | Failure::Connect { .. } | Failure::Connector(_)
        );
        if redirects > 0 && is_over && is_about_time {
            return HandshakeError::TimedOut { timeout: self.timeout }.into();
        }
        failure
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").field("requests", &self.requests).finish_non_exhaustive()
    }
}

//! One attempt to make a link: resolve, connect, shake hands, log in. Each step has its
//! deadline, and `close()` interrupts every one of them.

use std::collections::VecDeque;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use http::header;
use tungstenite::protocol::Role;

use super::login::{Hook, LoginError, LoginSession, timed_out};
use crate::dial::{Connect, Dialer, Interrupt, Proxy, Resolver, connect};
use crate::failure::{Failure, HandshakeError, ProxyError, guarded};
use crate::handshake;
use crate::handshake::Endpoint;
use crate::handshake::{Request, built_in};
use crate::link::Opened;
use crate::settings::Settings;
use crate::transport::{Duplex, Timed};
use crate::wire::Protocol;

/// The program's say in the request of each attempt.
pub(crate) type RequestHook =
    Box<dyn FnMut(&mut Request) -> Result<(), Box<dyn StdError + Send + Sync>> + Send>;

/// Makes one link after the other, on the manager thread.
pub(crate) struct Opener {
    pub(crate) settings: Arc<Settings>,
    pub(crate) resolver: Resolver,
    pub(crate) dialer: Dialer,
    pub(crate) interrupt: Arc<Interrupt>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Arc<rustls::ClientConfig>,
    pub(crate) connector: Option<Arc<dyn Connect>>,
    pub(crate) route: Route,
    pub(crate) thread_prefix: String,
    /// One for each endpoint; the present one is first.
    pub(crate) requests: VecDeque<Request>,
    pub(crate) request_hook: Option<RequestHook>,
    pub(crate) login_hook: Option<Hook>,
}

/// Whether and through what a connection goes.
#[derive(Debug, Clone, Default)]
pub(crate) enum Route {
    #[default]
    Straight,
    Through(Proxy),
    AsTheEnvironmentSays,
}

impl Route {
    fn proxy(&self, endpoint: &Endpoint) -> Result<Option<Proxy>, Failure> {
        match self {
            Self::Straight => Ok(None),
            Self::Through(proxy) => Ok(Some(proxy.clone())),
            Self::AsTheEnvironmentSays => {
                let (host, scheme) = (&endpoint.host, endpoint.scheme.as_str());
                Proxy::from_env(host, endpoint.port, scheme, |name| std::env::var(name).ok())
                    .map_err(|error| Failure::Proxy(ProxyError::Malformed(Box::new(error))))
            }
        }
    }
}

/// An attempt that has succeeded.
pub(crate) struct Success {
    pub(crate) opened: Opened,
    /// What the server said to the opening handshake, where there is one.
    pub(crate) response: Option<http::Response<()>>,
    /// For events and logs.
    pub(crate) endpoint: String,
}

impl Opener {
    /// The endpoint that is tried next, or has just been, for events.
    pub(crate) fn endpoint(&self) -> String {
        self.requests[0].endpoint.to_string()
    }

    /// Moves on to the next endpoint.
    pub(crate) fn next_endpoint(&mut self) {
        self.requests.rotate_left(1);
    }

    /// Makes an attempt, the `attempt`-th in a row.
    // what it needs of the stack is not kept while the link lives
    #[inline(never)]
    pub(crate) fn open(&mut self, attempt: u32) -> Result<Success, Failure> {
        let mut request = Request { attempt, ..self.requests[0].clone() };
        if let Some(hook) = &mut self.request_hook {
            guarded("request closure", || hook(&mut request))?.map_err(Failure::Request)?;
        }
        let result = self.follow(request).and_then(|success| self.log_in(success));
        self.interrupt.unwatch();
        if self.interrupt.is_raised() {
            return Err(Failure::Interrupted);
        }
        result
    }

    /// Opens what the request names, or what the server there redirects to.
    fn follow(&mut self, mut request: Request) -> Result<Success, Failure> {
        let mut redirects = 0;
        loop {
            let failure = match self.shake_hands(&request) {
                Ok(success) => return Ok(success),
                Err(failure) => failure,
            };
            let Some(location) = location(&failure) else { return Err(failure) };
            let bad = |what: String| Failure::Handshake(HandshakeError::BadRedirect(what));
            redirects += 1;
            if redirects > self.settings.max_redirects {
                return Err(bad(format!("more than {} of them", self.settings.max_redirects)));
            }
            let endpoint = request.endpoint.join(&location);
            let endpoint = endpoint.map_err(|error| bad(error.to_string()))?;
            if !endpoint.scheme.is_websocket() {
                return Err(bad(format!("{endpoint} is no WebSocket")));
            }
            if request.endpoint.scheme.is_tls() && !endpoint.scheme.is_tls() {
                return Err(bad(format!("from TLS to {endpoint}, which has none")));
            }
            log::debug!("redirected to {endpoint}");
            let endpoint = built_in(endpoint).map_err(|error| bad(error.to_string()))?;
            request = request.redirected(endpoint);
        }
    }

    fn shake_hands(&mut self, request: &Request) -> Result<Success, Failure> {
        let endpoint = &request.endpoint;
        let mut duplex = self.connect(endpoint)?;
        let timeout = self.settings.handshake_timeout;
        let deadline = Instant::now() + timeout;
        if endpoint.scheme.is_tls() {
            duplex = self
                .secure(duplex, endpoint, deadline)
                .map_err(|failure| failure.in_time(timeout))?;
        }
        let (endpoint, limits) = (endpoint.to_string(), self.settings.limits);
        if !request.endpoint.scheme.is_websocket() {
            let protocol = Protocol::Framed(self.settings.framing);
            let opened = Opened::new(duplex, protocol, limits, Vec::new());
            return Ok(Success { opened, response: None, endpoint });
        }
        let protocol = Protocol::WebSocket(Role::Client);
        let mut timed = Timed::new(&mut duplex, deadline);
        let (response, read) =
            handshake::open(&mut timed, request).map_err(|failure| failure.in_time(timeout))?;
        let opened = Opened::new(duplex, protocol, limits, read);
        Ok(Success { opened, response: Some(response), endpoint })
    }

    /// Connects to the endpoint: with the program's connector, through a proxy, or straight.
    fn connect(&mut self, endpoint: &Endpoint) -> Result<Duplex, Failure> {
        let settings = Arc::clone(&self.settings);
        if let Some(connector) = &self.connector {
            let deadline = Instant::now() + settings.connect_timeout;
            let (host, prefix) = (&endpoint.host, &self.thread_prefix);
            let duplex =
                connect(connector, host, endpoint.port, deadline, &self.interrupt, prefix)?;
            self.interrupt.watch(Arc::clone(&duplex.hangup));
            return Ok(duplex);
        }
        let proxy = self.route.proxy(endpoint)?;
        let (host, port) = match &proxy {
            Some(proxy) => (&proxy.host, proxy.port),
            None => (&endpoint.host, endpoint.port),
        };
        let deadline = Instant::now() + settings.dns_timeout;
        let addresses = self.resolver.resolve(host, port, deadline, &self.interrupt)?;
        let deadline = Instant::now() + settings.connect_timeout;
        let (stream, address) = self.dialer.dial(&addresses, deadline, &self.interrupt)?;
        log::trace!("connected to {address}");
        let mut duplex = Duplex::from(stream);
        self.interrupt.watch(Arc::clone(&duplex.hangup));
        if let Some(proxy) = &proxy {
            let deadline = Instant::now() + settings.handshake_timeout;
            let mut timed = Timed::new(&mut duplex, deadline);
            proxy.open(&mut timed, &endpoint.host, endpoint.port)?;
        }
        Ok(duplex)
    }

    #[cfg(feature = "tls")]
    fn secure(
        &self,
        duplex: Duplex,
        endpoint: &Endpoint,
        deadline: Instant,
    ) -> Result<Duplex, Failure> {
        use crate::transport::tls;
        tls::open(duplex, tls::client_connection(&self.tls, &endpoint.host)?, deadline)
    }

    /// An endpoint that needs TLS does not get here without it.
    #[cfg(not(feature = "tls"))]
    fn secure(&self, duplex: Duplex, _: &Endpoint, _: Instant) -> Result<Duplex, Failure> {
        Ok(duplex)
    }

    fn log_in(&mut self, mut success: Success) -> Result<Success, Failure> {
        let Some(hook) = &mut self.login_hook else { return Ok(success) };
        let deadline = Instant::now() + self.settings.login_timeout;
        let Success { opened, response, .. } = &mut success;
        let mut session = LoginSession::new(opened, deadline, response.as_ref());
        let mut result = guarded("login hook", || hook(&mut session))?;
        if result.is_ok() && Instant::now() >= deadline {
            result = Err(timed_out());
        }
        match result {
            Ok(()) => Ok(success),
            Err(LoginError { permanent, source }) => Err(Failure::Login { permanent, source }),
        }
    }
}

/// Where the server wants the client to go instead.
fn location(failure: &Failure) -> Option<String> {
    let Failure::Rejected { status, headers, .. } = failure else { return None };
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    headers.get(header::LOCATION)?.to_str().ok().map(str::to_owned)
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").field("requests", &self.requests).finish_non_exhaustive()
    }
}

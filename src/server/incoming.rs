//! What a client asks for when it connects.

use std::fmt;
use std::net::SocketAddr;
#[cfg(feature = "tls")]
use std::sync::Arc;

use data_encoding::BASE64;
use http::{HeaderMap, header};

use super::peer::Peer;
use crate::http1::head::tokens;
use crate::resume::subprotocol;
#[cfg(feature = "tls")]
use crate::transport::tls::TlsInfo;

/// The request with which a client asks for a WebSocket, or for a page: what the closure of
/// [`ServerBuilder::on_request`](crate::ServerBuilder::on_request) decides about, and what
/// [`Session::incoming`](crate::Session::incoming) remembers.
///
/// Its `Debug` shows the method and the names of the headers, never their values, nor the path: it
/// may hold a token.
///
/// ```
/// use everlink::http::StatusCode;
/// use everlink::{Answer, Incoming, Server};
///
/// fn answer(incoming: &Incoming) -> Answer {
///     match incoming.basic_auth() {
///         Some((user, password)) if password == "secret" => Answer::accept().with(user),
///         _ => Answer::reject(StatusCode::UNAUTHORIZED)
///             .header("WWW-Authenticate", "Basic realm=\"chargers\""),
///     }
/// }
///
/// let server = Server::builder().on_request(answer);
/// # let _ = server;
/// ```
#[derive(Clone)]
pub struct Incoming {
    pub(super) request: http::Request<()>,
    pub(super) peer: Peer,
    pub(super) secured: Secured,
    /// Whether the server has sessions.
    pub(super) has_sessions: bool,
}

/// What TLS says of a connection, if that speaks it.
#[derive(Clone, Default)]
pub(super) struct Secured(#[cfg(feature = "tls")] pub(super) Option<Arc<TlsInfo>>);

impl Incoming {
    /// The request itself.
    pub fn request(&self) -> &http::Request<()> {
        &self.request
    }

    /// The address of the other end of the connection: of the client, or of the proxy that is between.
    /// `[::]:0` on a Unix socket, which has none.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer.address()
    }

    /// The address of the client itself, as far as it is known:
    /// [`Session::client_addr`](crate::Session::client_addr).
    pub fn client_addr(&self) -> SocketAddr {
        self.peer.client()
    }

    /// The path, as it was sent: `/chat`.
    pub fn path(&self) -> &str {
        self.request.uri().path()
    }

    /// What follows the path behind a question mark, as it was sent: `room=7&name=x`.
    pub fn query(&self) -> Option<&str> {
        self.request.uri().query()
    }

    /// All headers.
    pub fn headers(&self) -> &HeaderMap {
        self.request.headers()
    }

    /// The first header of this name, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// The page that the client runs in, as a browser says it (RFC 6455 section 10.2):
    /// `https://app.example.org`. A program sends none.
    pub fn origin(&self) -> Option<&str> {
        self.header(header::ORIGIN.as_str())
    }

    /// The subprotocols that the client offers, the one that it likes best first (RFC 6455 section
    /// 1.9). Those of [sessions](crate::ServerBuilder::resume) are under the program's own names, if the
    /// server has sessions.
    pub fn subprotocols(&self) -> impl Iterator<Item = &str> {
        self.offered().filter_map(|offered| match subprotocol::parse(offered) {
            None => Some(offered),
            // one that is offered with a session and without is one
            Some(name) => name
                .filter(|name| self.has_sessions && self.offered().all(|offered| offered != *name)),
        })
    }

    fn offered(&self) -> impl Iterator<Item = &str> {
        tokens(self.headers(), &header::SEC_WEBSOCKET_PROTOCOL)
    }

    /// Whether the client offers a session, and the server has them.
    pub(super) fn wants_session(&self) -> bool {
        self.has_sessions && self.offered().any(|offered| subprotocol::parse(offered).is_some())
    }

    /// The subprotocol of a session of this name, if the client offers that.
    pub(super) fn of_session(&self, name: Option<&str>) -> Option<String> {
        let wanted = subprotocol::of(name);
        (self.has_sessions && self.offered().any(|offered| offered == wanted)).then_some(wanted)
    }

    /// The first of the server's subprotocols that the client offers as well.
    pub fn choose_subprotocol<'a>(
        &self,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Option<&'a str> {
        known.into_iter().find(|name| self.subprotocols().any(|offered| offered == *name))
    }

    /// User and password of Basic authentication (RFC 7617), if the client sends them properly.
    pub fn basic_auth(&self) -> Option<(String, String)> {
        let decoded = BASE64.decode(self.credentials("basic")?.as_bytes()).ok()?;
        let (user, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
        Some((user.into(), password.into()))
    }

    /// The bearer token (RFC 6750 section 2.1), if the client sends one.
    pub fn bearer_auth(&self) -> Option<&str> {
        self.credentials("bearer")
    }

    /// What follows this scheme in `Authorization`.
    fn credentials(&self, scheme: &str) -> Option<&str> {
        let (said, credentials) =
            self.header(header::AUTHORIZATION.as_str())?.trim().split_once(' ')?;
        said.eq_ignore_ascii_case(scheme).then(|| credentials.trim_start())
    }

    /// What TLS says of the connection: who the client has proved to be, and what was agreed on. `None` without
    /// TLS, and for a request that something else has read.
    #[cfg(feature = "tls")]
    pub fn tls(&self) -> Option<&TlsInfo> {
        self.secured.0.as_deref()
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("peer", &self.peer.client())
            .field("method", self.request.method())
            .field("headers", &self.headers().keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

//! What the client says in the opening handshake.

use std::fmt;

use data_encoding::BASE64;
use http::header::{self, HeaderName};
use percent_encoding::percent_decode_str;

use crate::error::Error;
use crate::failure::Secrets;
use crate::http1::head::is_token;
use crate::http1::{Endpoint, Header, Headers};

/// The request of one opening handshake, given anew for each attempt to the closure of
/// [`ClientBuilder::on_request`](crate::ClientBuilder::on_request).
///
/// Its `Debug` shows the names of the headers, never their values.
#[derive(Clone)]
pub struct OpeningRequest {
    pub(crate) endpoint: Endpoint,
    pub(crate) headers: Headers,
    pub(crate) subprotocols: Vec<String>,
    pub(crate) attempt: u32,
}

/// Set by the handshake itself, or meaningless in it.
const RESERVED: [HeaderName; 8] = [
    header::CONNECTION,
    header::UPGRADE,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::SEC_WEBSOCKET_EXTENSIONS,
    header::SEC_WEBSOCKET_ACCEPT,
];

impl OpeningRequest {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, headers: Headers::default(), subprotocols: Vec::new(), attempt: 1 }
    }

    /// Which attempt this is, counted from 1 since the last link was lost.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Dials this URL instead, this time.
    ///
    /// ```
    /// let client = everlink::Client::builder("wss://localhost:9001").on_request(|request| {
    ///     // where to connect to changes each day
    ///     let url = std::fs::read_to_string("/run/feed/url")?;
    ///     Ok(request.set_url(url.trim())?)
    /// });
    /// # let _ = client;
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUrl`] and [`Error::TlsUnavailable`].
    pub fn set_url(&mut self, url: impl AsRef<str>) -> Result<(), Error> {
        let url = url.as_ref();
        let endpoint = Endpoint::parse(url)?.dialable()?;
        self.check_kind(&endpoint)?;
        self.endpoint = endpoint;
        Ok(())
    }

    /// Sets a header, replacing one of the same name. The name is sent as it is written here.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidHeader`] for a name or value that HTTP does not allow (a line break among
    /// them) and for the headers that the handshake sets itself.
    pub fn set_header(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let invalid =
            |reason: &str| Error::InvalidHeader { name: name.into(), reason: reason.into() };
        let header = Header::new(name, value).map_err(invalid)?;
        if RESERVED.contains(header.name()) {
            return Err(invalid("set by the opening handshake itself"));
        }
        if *header.name() == header::SEC_WEBSOCKET_PROTOCOL {
            return Err(invalid("use subprotocols() instead"));
        }
        self.headers.set(header);
        Ok(())
    }

    /// Sends user and password (Basic authentication, RFC 7617).
    ///
    /// # Errors
    ///
    /// [`Error::InvalidHeader`] for a user with a colon.
    pub fn basic_auth(&mut self, user: &str, password: &str) -> Result<(), Error> {
        if user.contains(':') {
            let (name, reason) = ("Authorization".into(), "a user cannot have a colon".into());
            return Err(Error::InvalidHeader { name, reason });
        }
        let credentials = BASE64.encode(format!("{user}:{password}").as_bytes());
        self.set_header("Authorization", &format!("Basic {credentials}"))
    }

    /// Sends this token (`Authorization: Bearer`, RFC 6750 section 2.1).
    ///
    /// # Errors
    ///
    /// [`Error::InvalidHeader`] for a token that HTTP does not allow.
    pub fn bearer_auth(&mut self, token: &str) -> Result<(), Error> {
        self.set_header("Authorization", &format!("Bearer {token}"))
    }

    /// Offers a subprotocol, after those offered before (RFC 6455 section 1.9).
    ///
    /// # Errors
    ///
    /// [`Error::InvalidHeader`] for a name that is not an HTTP token, or that was offered before.
    pub fn add_subprotocol(&mut self, name: &str) -> Result<(), Error> {
        if !is_token(name) || self.subprotocols.iter().any(|known| known == name) {
            let reason = if is_token(name) { "offered twice" } else { "not an http token" };
            let name = format!("Sec-WebSocket-Protocol: {name}");
            return Err(Error::InvalidHeader { name, reason: reason.into() });
        }
        self.subprotocols.push(name.into());
        Ok(())
    }

    /// Offers these subprotocols and no others.
    pub(crate) fn set_subprotocols(
        &mut self,
        names: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<(), Error> {
        self.subprotocols.clear();
        names.into_iter().try_for_each(|name| self.add_subprotocol(name.as_ref()))
    }

    /// Refuses an endpoint that the client cannot take turns with.
    pub(crate) fn check_kind(&self, endpoint: &Endpoint) -> Result<(), Error> {
        if endpoint.scheme.is_websocket() == self.endpoint.scheme.is_websocket() {
            return Ok(());
        }
        let reason = "a client speaks WebSocket or framed TCP, not one after the other".into();
        Err(Error::InvalidUrl { reason })
    }

    /// Refuses what only an opening handshake could carry.
    pub(crate) fn check_bare(&self) -> Result<(), Error> {
        let name = match (self.headers.names().next(), self.subprotocols.first()) {
            (Some(name), _) => name.to_string(),
            (None, Some(subprotocol)) => format!("Sec-WebSocket-Protocol: {subprotocol}"),
            (None, None) => return Ok(()),
        };
        Err(Error::InvalidHeader { name, reason: "tcp:// has no opening handshake".into() })
    }

    /// This request at a place that a redirect leads to, from here or from a place between.
    /// Whatever authenticates stays with its origin: it goes along there, and nowhere else.
    pub(crate) fn redirected(&self, endpoint: Endpoint) -> Self {
        let mut request = Self { endpoint, ..self.clone() };
        if self.endpoint.is_same_origin(&request.endpoint) {
            request.endpoint.credentials = self.endpoint.credentials.clone();
        } else {
            request.endpoint.credentials = None;
            for name in
                [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE, header::HOST]
            {
                request.headers.remove(&name);
            }
        }
        request
    }
}

/// Headers of the program's that are nobody's secret.
const PUBLIC: [HeaderName; 3] = [header::HOST, header::ORIGIN, header::USER_AGENT];

impl OpeningRequest {
    /// What is said to the server in confidence: whatever of the URL its `Display` leaves out, and
    /// the headers.
    pub(crate) fn secrets(&self) -> Secrets {
        let mut secrets = Secrets::default();
        let Endpoint { path, query, credentials, .. } = &self.endpoint;
        // the first one is shown
        let segments: Vec<&str> = path.split('/').skip(2).filter(|part| !part.is_empty()).collect();
        if !segments.is_empty() || query.is_some() {
            secrets.add(self.endpoint.path_and_query());
        }
        for segment in segments {
            secrets.add_of_answers(segment);
            secrets.add_of_answers(percent_decode_str(segment).collect::<Vec<u8>>());
        }
        let query = query.as_deref().unwrap_or_default();
        let values = query.split('&').filter_map(|pair| Some(pair.split_once('=')?.1));
        for part in [query].into_iter().chain(values) {
            secrets.add_value(part);
            secrets.add_value(percent_decode_str(part).collect::<Vec<u8>>());
        }
        if let Some(credentials) = credentials {
            credentials.keep_secret(&mut secrets);
        }
        for header in self.headers.iter() {
            match header.name() {
                name if PUBLIC.contains(name) => {}
                &header::AUTHORIZATION | &header::PROXY_AUTHORIZATION => {
                    let value = header.value().as_bytes();
                    secrets.add_credentials(value);
                    secrets.add(basic_password(value).unwrap_or_default());
                }
                _ => secrets.add_header(header.value().as_bytes()),
            }
        }
        secrets
    }
}

impl fmt::Debug for OpeningRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpeningRequest")
            .field("endpoint", &self.endpoint)
            .field("headers", &self.headers.names().collect::<Vec<_>>())
            .field("subprotocols", &self.subprotocols)
            .field("attempt", &self.attempt)
            .finish()
    }
}

/// The password in the value of an `Authorization` of RFC 7617.
fn basic_password(value: &[u8]) -> Option<Vec<u8>> {
    let (scheme, encoded) = value.split_at_checked(6)?;
    let both = BASE64.decode(encoded).ok().filter(|_| scheme.eq_ignore_ascii_case(b"basic "))?;
    let colon = both.iter().position(|byte| *byte == b':')?;
    Some(both[colon + 1..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> OpeningRequest {
        OpeningRequest::new(Endpoint::parse("ws://user:pw@host/").unwrap())
    }

    #[test]
    fn nothing_can_be_injected() {
        let mut request = request();
        for (name, value) in [
            ("X-A\r\nX-B", "1"),
            ("X-A", "1\r\nX-B: 2"),
            ("X-A", "1\n"),
            ("", "1"),
            ("X A", "1"),
            ("Sec-WebSocket-Key", "x"),
            ("upgrade", "x"),
            ("Content-Length", "5"),
        ] {
            let error = request.set_header(name, value).unwrap_err();
            assert!(matches!(error, Error::InvalidHeader { .. }), "{name:?}: {error}");
        }
        for name in ["", "a b", "a,b", "a\r\nb", "é"] {
            assert!(request.add_subprotocol(name).is_err(), "{name:?} was accepted");
        }
        request.add_subprotocol("chat.v2").unwrap();
        assert!(request.add_subprotocol("chat.v2").is_err());
        assert_eq!(request.headers.names().count(), 0);
    }

    #[test]
    fn the_password_of_basic_credentials_is_a_secret_however_they_are_given() {
        let mut request = request();
        request.basic_auth("user", "hunter2").unwrap();
        let secrets = request.secrets();
        assert_eq!(secrets.clean("no hunter2 for user"), "no ... for user");
        assert_eq!(basic_password(b"basic dTpwOnE="), Some(b"p:q".to_vec()));
        for other in [&b"Bearer dTpwOnE="[..], b"Basic", b"Basic !", b"Basic dQ=="] {
            assert_eq!(basic_password(other), None);
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut request = request();
        request.set_header("Authorization", "Bearer hunter2").unwrap();
        let shown = format!("{request:?}");
        assert!(shown.contains("Authorization"), "{shown}");
        assert!(!shown.contains("hunter2") && !shown.contains("pw"), "{shown}");
    }

    #[test]
    fn credentials_stay_with_their_origin_and_only_there() {
        let mut request = request();
        for name in ["Authorization", "Proxy-Authorization", "Cookie", "Host", "X-Tenant"] {
            request.set_header(name, "hunter2").unwrap();
        }
        let names =
            |request: &OpeningRequest| request.headers.names().collect::<Vec<_>>().join(" ");
        let at = |from: &OpeningRequest, location: &str| {
            request.redirected(from.endpoint.join(location.as_bytes()).unwrap())
        };
        for location in ["/other", "ws://host/other", "ws://HOST:80/", "ws://mallory:x@host/"] {
            let same = at(&request, location);
            assert_eq!(names(&same), names(&request), "{location}");
            assert_eq!(same.endpoint.credentials, request.endpoint.credentials, "{location}");
        }
        for location in ["ws://elsewhere/", "ws://u:p@elsewhere/", "wss://host/", "ws://host:81/"] {
            let other = at(&request, location);
            assert_eq!(names(&other), "X-Tenant", "{location}");
            assert_eq!(other.endpoint.credentials, None, "{location}");
        }
        // and back again
        let elsewhere = at(&request, "ws://elsewhere/");
        assert_eq!(at(&elsewhere, "/x").endpoint.credentials, None);
        assert_eq!(names(&at(&elsewhere, "ws://host/")), names(&request));
    }
}

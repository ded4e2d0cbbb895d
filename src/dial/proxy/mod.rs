//! Through a proxy: HTTP CONNECT (RFC 9110 section 9.3.6) and SOCKS5 (RFC 1928, RFC 1929).
//!
//! The crate that speaks SOCKS5 over blocking sockets dials by itself and knows no deadline, so
//! it cannot be interrupted; the few bytes of either handshake are spoken here.

mod env;
mod http;
mod socks5;
#[cfg(test)]
mod tests;

use std::fmt;

pub(crate) use env::Environment;

use crate::error::Error;
use crate::failure::{Failure, ProxyError, quote};
use crate::http1::{Authority, Credentials, absolute, split};
use crate::transport::Stream;

/// A proxy between the client and the server. Names are resolved by the proxy.
///
/// Its `Debug` leaves the credentials out.
///
/// ```
/// use everlink::config::Proxy;
///
/// let http = Proxy::new("http://user:password@proxy.internal:3128")?;
/// let socks = Proxy::new("socks5://127.0.0.1:1080")?;
/// # Ok::<(), everlink::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
#[must_use = "a proxy is used by what it is given to: ClientBuilder::proxy()"]
pub struct Proxy {
    kind: ProxyKind,
    /// With the zone, where there is one: what to dial.
    pub(crate) host: String,
    pub(crate) port: u16,
    credentials: Option<Credentials>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProxyKind {
    Http,
    Socks5,
}

impl Proxy {
    /// Parses `http://` (port 80 unless said otherwise) or `socks5://`, `socks5h://` (1080),
    /// each with an optional `user:password@`. Without a scheme it is `http://`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUrl`], also for kinds of proxies that this crate does not speak with:
    /// `https://` (TLS to the proxy itself), `socks4://` and `socks://`.
    pub fn new(url: impl AsRef<str>) -> Result<Self, Error> {
        Self::parse(url.as_ref())
            .map_err(|reason| Error::InvalidUrl { reason: format!("proxy: {reason}") })
    }

    fn parse(url: &str) -> Result<Self, String> {
        let with_scheme =
            if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let parts = split(&with_scheme);
        let (scheme, authority) = absolute(&parts)?;
        let (kind, default_port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (ProxyKind::Http, 80),
            "socks5" | "socks5h" => (ProxyKind::Socks5, 1080),
            "https" => {
                return Err("no TLS is spoken with a proxy itself: use http://, through which \
                            wss:// is as secret as without a proxy"
                    .into());
            }
            "socks" => return Err("socks:// does not say which version: use socks5://".into()),
            other => return Err(format!("{} is neither http nor socks5", quote(other))),
        };
        let authority = Authority::parse(authority)?;
        let is_too_long = |text: &[u8]| text.len() > 255;
        if let Some(Credentials { user, password }) = &authority.credentials {
            if is_too_long(user) || is_too_long(password) {
                return Err("credentials of more than 255 bytes".into());
            }
        }
        let (host, port) = (authority.dialed(), authority.port.unwrap_or(default_port));
        Ok(Self { kind, host, port, credentials: authority.credentials })
    }

    /// Has the proxy connect to the host; after that the stream is the host's. Returns what the
    /// host has said already.
    pub(crate) fn open(
        &self,
        stream: &mut impl Stream,
        host: &str,
        port: u16,
    ) -> Result<Vec<u8>, Failure> {
        let credentials = self.credentials.as_ref();
        let result: Result<Vec<u8>, ProxyError> = match self.kind {
            ProxyKind::Http => http::open(stream, host, port, credentials),
            ProxyKind::Socks5 => socks5::open(stream, host, port, credentials).map(|()| Vec::new()),
        };
        result.map_err(Failure::Proxy)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({:?} {}:{})", self.kind, self.host, self.port)
    }
}

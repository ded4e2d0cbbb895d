//! From which pages a WebSocket may be asked for (RFC 6454, RFC 6455 section 10.2).

use http::Request;
use http::header::{self, HeaderMap};

use crate::dial::url::{Authority, split};

/// The pages whose requests are upgraded. What is no page, and says no `Origin`, always is; so is
/// a page of the very host that is asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origins {
    listed: Vec<Origin>,
    any: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    /// Of a page that has none to show: from a file, in a sandbox.
    Null,
    Page {
        scheme: String,
        host: String,
        port: Option<u16>,
    },
}

impl Origin {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "null" {
            return Ok(Self::Null);
        }
        let parts = split(text);
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err("an origin is like https://example.org".into());
        };
        if !parts.path.is_empty() || parts.query.is_some() || parts.fragment.is_some() {
            return Err("an origin ends after the host and the port".into());
        }
        let Authority { host, port, credentials, .. } = Authority::parse(authority)?;
        if credentials.is_some() {
            return Err("an origin has no credentials".into());
        }
        let scheme = scheme.to_ascii_lowercase();
        let port = port.or_else(|| default_port(&scheme));
        Ok(Self::Page { scheme, host: host.to_ascii_lowercase(), port })
    }

    /// Whether it is a page of the host that is asked, on whatever port the page's scheme has if
    /// neither names one. The schemes differ where TLS ends before this server.
    fn is_at(&self, asked: &Authority) -> bool {
        match self {
            Self::Null => false,
            Self::Page { scheme, host, port } => {
                host.eq_ignore_ascii_case(&asked.host)
                    && *port == asked.port.or_else(|| default_port(scheme))
            }
        }
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

impl Origins {
    pub(crate) fn any() -> Self {
        Self { any: true, ..Self::default() }
    }

    /// Allows the pages of these origins as well; an error says what is wrong with one.
    pub(crate) fn allow<'a>(
        &mut self,
        origins: impl Iterator<Item = &'a str>,
    ) -> Result<(), String> {
        for origin in origins {
            self.listed.push(Origin::parse(origin)?);
        }
        Ok(())
    }

    pub(super) fn allows(&self, request: &Request<()>) -> bool {
        let mut origins = request.headers().get_all(header::ORIGIN).iter();
        let origin = match (origins.next(), origins.next()) {
            (None, _) => return true,
            (Some(_), None) if self.any => return true,
            (Some(origin), None) => origin,
            (Some(_), Some(_)) => return false,
        };
        let Ok(Ok(origin)) = origin.to_str().map(|text| Origin::parse(text.trim())) else {
            return false;
        };
        self.listed.contains(&origin) || asked_host(request).is_some_and(|host| origin.is_at(&host))
    }
}

/// The host that a request is for: the target's, else that of the one `Host` (RFC 9112 section
/// 3.2.2).
fn asked_host(request: &Request<()>) -> Option<Authority> {
    match request.uri().authority() {
        Some(authority) => Authority::parse_foreign(authority.as_str()).ok(),
        None => host(request.headers()),
    }
}

pub(super) fn host(headers: &HeaderMap) -> Option<Authority> {
    let host = headers.get(header::HOST)?.to_str().ok()?;
    Authority::parse_foreign(host.trim()).ok().filter(|authority| authority.credentials.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(listed: &[&str], host: &str, origins: &[&str]) -> bool {
        let mut allowed = Origins::default();
        allowed.allow(listed.iter().copied()).unwrap();
        let mut request = Request::new(());
        request.headers_mut().insert(header::HOST, host.parse().unwrap());
        for origin in origins {
            request.headers_mut().append(header::ORIGIN, origin.parse().unwrap());
        }
        allowed.allows(&request)
    }

    #[test]
    fn without_a_word_only_pages_of_the_same_host_are_let_in() {
        assert!(allows(&[], "h", &[]));
        for (host, origin) in [
            ("example.org", "https://example.org"),
            ("example.org", "http://EXAMPLE.org:80"),
            ("example.org:443", "https://example.org"),
            ("localhost:9001", "http://localhost:9001"),
            ("example.org:", "https://example.org"),
            ("[::1]:9001", "http://[::1]:9001"),
        ] {
            assert!(allows(&[], host, &[origin]), "{origin} at {host}");
        }
        for (host, origin) in [
            ("example.org", "https://evil.example"),
            ("example.org", "https://example.org.evil.example"),
            ("example.org", "https://example.org:8443"),
            ("localhost:9001", "http://localhost"),
            ("example.org", "null"),
            ("example.org", "https://user@example.org"),
            ("example.org", "example.org"),
            ("example.org", ""),
            ("ex ample", "https://example.org"),
        ] {
            assert!(!allows(&[], host, &[origin]), "{origin} at {host}");
        }
        assert!(!allows(&[], "h", &["http://h", "http://h"]), "two are none");
    }

    #[test]
    fn what_is_listed_is_let_in() {
        let listed = ["https://app.example", "capacitor://localhost", "null"];
        for origin in ["https://APP.example:443", "capacitor://localhost", "null", "http://h"] {
            assert!(allows(&listed, "h", &[origin]), "{origin}");
        }
        for origin in ["http://app.example", "https://app.example:1", "https://x.app.example"] {
            assert!(!allows(&listed, "h", &[origin]), "{origin}");
        }
        for wrong in ["app.example", "https://app.example/", "https://u@h", "https://", "*"] {
            assert!(Origins::default().allow([wrong].into_iter()).is_err(), "{wrong}");
        }
        let mut request = Request::new(());
        request.headers_mut().insert(header::ORIGIN, "https://anywhere".parse().unwrap());
        assert!(Origins::any().allows(&request));
    }
}

//! From which pages a WebSocket may be asked for (RFC 6454, RFC 6455 section 10.2).

use http::header::{self, HeaderMap};

use crate::http1::{Authority, split};

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
    /// neither names one. A page of a scheme that is not the web's (`file`, an extension's) is none
    /// of that host. Without TLS here either scheme may be the page's: TLS may end before this server.
    fn is_at(&self, asked: &Authority, is_tls: bool) -> bool {
        let Self::Page { scheme, host, port } = self else { return false };
        let has_tls = match scheme.as_str() {
            "http" | "ws" => false,
            "https" | "wss" => true,
            _ => return false,
        };
        (has_tls || !is_tls)
            && host.eq_ignore_ascii_case(&asked.host)
            && *port == asked.port.or_else(|| default_port(scheme))
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

    /// Whether the page that a request comes from is let in, if it comes from one.
    pub(super) fn allow_page(
        &self,
        headers: &HeaderMap,
        asked: Option<&Authority>,
        is_tls: bool,
    ) -> bool {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let origin = match (origins.next(), origins.next()) {
            (None, _) => return true,
            (Some(_), None) if self.any => return true,
            (Some(origin), None) => origin,
            (Some(_), Some(_)) => return false,
        };
        let Ok(Ok(origin)) = origin.to_str().map(|text| Origin::parse(text.trim())) else {
            return false;
        };
        self.listed.contains(&origin) || asked.is_some_and(|host| origin.is_at(host, is_tls))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(listed: &[&str], host: &str, origins: &[&str]) -> bool {
        allows_at(listed, host, origins, false)
    }

    fn allows_at(listed: &[&str], host: &str, origins: &[&str], is_tls: bool) -> bool {
        let mut allowed = Origins::default();
        allowed.allow(listed.iter().copied()).unwrap();
        let mut headers = HeaderMap::new();
        for origin in origins {
            headers.append(header::ORIGIN, origin.parse().unwrap());
        }
        allowed.allow_page(&headers, Authority::parse(host).ok().as_ref(), is_tls)
    }

    #[test]
    fn the_scheme_counts() {
        for scheme in ["file", "chrome-extension", "moz-extension", "capacitor", "ftp"] {
            let origin = format!("{scheme}://example.org");
            for host in ["example.org", "example.org:80"] {
                assert!(!allows(&[], host, &[&origin]), "{origin}");
            }
            assert!(allows(&[&origin], "example.org", &[&origin]), "{origin} is listed");
        }
        for (origin, with_tls) in [
            ("http://example.org", false),
            ("http://example.org:443", false),
            ("https://example.org", true),
            ("https://example.org:443", true),
        ] {
            assert_eq!(allows_at(&[], "example.org", &[origin], true), with_tls, "{origin}");
        }
        // TLS may end before this server
        assert!(allows(&[], "example.org", &["https://example.org"]));
        assert!(allows(&[], "example.org", &["http://example.org"]));
        assert!(allows_at(&["http://example.org"], "example.org", &["http://example.org"], true));
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
        let mut headers = HeaderMap::new();
        headers.insert(header::ORIGIN, "https://anywhere".parse().unwrap());
        assert!(Origins::any().allow_page(&headers, None, true));
    }
}

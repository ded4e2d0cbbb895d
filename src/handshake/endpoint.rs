//! What a URL says: where to dial and what to ask for there.

use std::fmt;

use http::Uri;
use http::uri::PathAndQuery;
use percent_encoding::percent_decode_str;

use crate::error::Error;

/// A parsed URL. Its `Display` and `Debug` leave the credentials out.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) scheme: Scheme,
    /// Without the brackets of an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path_and_query: PathAndQuery,
    /// User and password, percent-decoded.
    pub(crate) credentials: Option<(String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Ws,
    Wss,
    Tcp,
    Tcps,
}

impl Scheme {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Tcp => "tcp",
            Self::Tcps => "tcps",
        }
    }

    fn default_port(self) -> Option<u16> {
        match self {
            Self::Ws => Some(80),
            Self::Wss => Some(443),
            Self::Tcp | Self::Tcps => None,
        }
    }

    /// Whether messages travel in WebSocket frames; otherwise the program chooses the framing.
    pub(crate) fn is_websocket(self) -> bool {
        !matches!(self, Self::Tcp | Self::Tcps)
    }

    pub(crate) fn is_tls(self) -> bool {
        matches!(self, Self::Wss | Self::Tcps)
    }
}

impl Endpoint {
    /// Parses `ws://host:port/path?query`. A fragment is dropped: it is not part of what a
    /// WebSocket URL names (RFC 6455 section 3).
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        let invalid = |reason: &str| Error::InvalidUrl { reason: reason.into() };
        let (scheme, _) = url.split_once("://").ok_or_else(|| invalid("no scheme"))?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            // a server's redirect names http where a program would say ws
            "ws" | "http" => Scheme::Ws,
            "wss" | "https" => Scheme::Wss,
            "tcp" => Scheme::Tcp,
            "tcps" => Scheme::Tcps,
            other => return Err(invalid(&format!("unknown scheme {other:?}"))),
        };
        let uri: Uri =
            url.parse().map_err(|error: http::uri::InvalidUri| invalid(&error.to_string()))?;
        let authority = uri.authority().ok_or_else(|| invalid("no host"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(invalid("no host"));
        }
        let (userinfo, host_and_port) = match authority.as_str().rsplit_once('@') {
            Some((userinfo, rest)) => (Some(userinfo), rest),
            None => (None, authority.as_str()),
        };
        let after_host = host_and_port.rsplit_once(']').map_or(host_and_port, |(_, rest)| rest);
        let port = match after_host.split_once(':') {
            None => scheme.default_port().ok_or_else(|| invalid("no port"))?,
            Some((_, port)) => match port.parse() {
                Ok(port) if port != 0 => port,
                _ => return Err(invalid("the port is not a number from 1 to 65535")),
            },
        };
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let credentials = userinfo.map(|userinfo| {
            let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
            (decode(user), decode(password))
        });
        let path_and_query = match uri.path_and_query() {
            Some(given) if given.as_str().starts_with('/') => given.clone(),
            Some(query) => format!("/{}", query.as_str())
                .parse()
                .map_err(|_| invalid("the path or query cannot be sent"))?,
            None => PathAndQuery::from_static("/"),
        };
        if !scheme.is_websocket() && (path_and_query != "/" || credentials.is_some()) {
            return Err(invalid("tcp:// and tcps:// take a host and a port, nothing else"));
        }
        Ok(Self { scheme, host: host.into(), port, path_and_query, credentials })
    }

    /// Where a `Location` header leads from here (RFC 9110 section 10.2.2).
    pub(crate) fn join(&self, location: &str) -> Result<Self, Error> {
        if location.contains("://") {
            return Self::parse(location);
        }
        let origin = format!("{}://{}", self.scheme.as_str(), self.authority());
        let location = location.split('#').next().unwrap_or_default();
        if let Some(rest) = location.strip_prefix("//") {
            return Self::parse(&format!("{}://{rest}", self.scheme.as_str()));
        }
        let path = if location.starts_with('/') {
            location.to_owned()
        } else if location.starts_with('?') {
            format!("{}{location}", self.path_and_query.path())
        } else {
            let path = self.path_and_query.path();
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{folder}/{location}")
        };
        Ok(Self {
            credentials: self.credentials.clone(),
            ..Self::parse(&format!("{origin}{path}"))?
        })
    }

    pub(crate) fn is_same_origin(&self, other: &Self) -> bool {
        (self.scheme, self.port) == (other.scheme, other.port)
            && self.host.eq_ignore_ascii_case(&other.host)
    }

    /// `host:port` as the `Host` header wants it: an IPv6 address in brackets, no default port.
    pub(crate) fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if Some(self.port) == self.scheme.default_port() {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // a query often carries a token
        let query = if self.path_and_query.query().is_some() { "?..." } else { "" };
        let (scheme, authority) = (self.scheme.as_str(), self.authority());
        if !self.scheme.is_websocket() {
            return write!(f, "{scheme}://{authority}");
        }
        write!(f, "{scheme}://{authority}{}{query}", self.path_and_query.path())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Endpoint {
        Endpoint::parse(url).unwrap()
    }

    #[test]
    fn what_a_url_says() {
        let plain = parse("ws://example.org");
        assert_eq!((plain.host.as_str(), plain.port), ("example.org", 80));
        assert_eq!(plain.path_and_query.as_str(), "/");
        assert_eq!(parse("WSS://example.org").port, 443);
        assert_eq!(parse("ws://h?a=1").path_and_query.as_str(), "/?a=1");
        assert_eq!(parse("ws://h/p?a=1#part").path_and_query.as_str(), "/p?a=1");
        let v6 = parse("ws://[::1]:9001/");
        assert_eq!((v6.host.as_str(), v6.port), ("::1", 9001));
        assert_eq!(v6.authority(), "[::1]:9001");
        assert_eq!(parse("ws://[::1]/").authority(), "[::1]");
    }

    #[test]
    fn credentials_are_decoded_and_never_shown() {
        let endpoint = parse("ws://us%40er:p%3Ass@host:81/chat?token=secret");
        assert_eq!(endpoint.credentials, Some(("us@er".into(), "p:ss".into())));
        assert_eq!(endpoint.to_string(), "ws://host:81/chat?...");
        assert_eq!(format!("{endpoint:?}"), "Endpoint(ws://host:81/chat?...)");
        assert_eq!(endpoint.authority(), "host:81");
    }

    #[test]
    fn what_cannot_be_dialed_is_refused() {
        for url in [
            "",
            "host",
            "ws:/host",
            "ws://",
            "ws:///path",
            "ftp://host",
            "ws://host:0",
            "ws://host:99999",
            "ws://host:",
            "ws://ho st/",
            "ws://[::1",
            "ws://host:port",
            "ws://user@",
            "tcp://host",
            "tcp://host:1/path",
            "tcp://user@host:1",
            "ws://@/",
            "ws://[::1]:99999/",
            "://host",
        ] {
            assert!(Endpoint::parse(url).is_err(), "{url:?} was accepted");
        }
    }

    #[test]
    fn a_location_is_relative_to_where_it_came_from() {
        let from = parse("ws://user:pw@host:81/a/b?q=1");
        let to = |location| from.join(location).unwrap();
        assert_eq!(to("/c").path_and_query.as_str(), "/c");
        assert_eq!(to("c?x=2").path_and_query.as_str(), "/a/c?x=2");
        assert_eq!(to("?x=2").path_and_query.as_str(), "/a/b?x=2");
        assert_eq!(to("/c").credentials, from.credentials);
        let elsewhere = to("wss://other/c#part");
        assert_eq!((elsewhere.host.as_str(), elsewhere.port), ("other", 443));
        assert_eq!(elsewhere.credentials, None);
        assert_eq!(to("//other/c").scheme, Scheme::Ws);
        assert_eq!(to("http://other/").scheme, Scheme::Ws);
    }

    #[test]
    fn arbitrary_text_is_no_panic() {
        use proptest::prelude::*;
        proptest!(|(url in "(ws|wss|x)?(://)?[ -~é]{0,40}", location in ".{0,40}")| {
            if let Ok(endpoint) = Endpoint::parse(&url) {
                let _ = endpoint.join(&location);
                prop_assert!(endpoint.port != 0);
            }
        });
    }
}

//! What a URL says: where to dial and what to ask for there.

use std::fmt;

use percent_encoding::{AsciiSet, percent_encode};

use super::reference::{encode_path, encode_query, resolve};
use super::url::{Authority, Credentials, UrlParts, absolute, dialed, split};
use crate::error::Error;
use crate::failure::quote;

/// Nothing of ASCII; everything else is encoded by whoever uses a set.
const BEYOND_ASCII: &AsciiSet = &AsciiSet::EMPTY;

/// A parsed URL. Its `Display` and `Debug` leave the credentials and the query out, and of the path
/// all but the first segment: some services want a token there.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) scheme: Scheme,
    /// Without the brackets of an IPv6 address.
    pub(crate) host: String,
    /// Through which interface a link-local address is dialed.
    pub(crate) zone: Option<String>,
    pub(crate) port: u16,
    /// From the first slash on, encoded.
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) credentials: Option<Credentials>,
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
    /// WebSocket URL names (RFC 6455 section 3). What cannot stand in a path or a query as it is,
    /// is percent-encoded.
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        Self::from_parts(url).map_err(|reason| Error::InvalidUrl { reason })
    }

    /// Lets through what this build can dial.
    pub(crate) fn dialable(self) -> Result<Self, Error> {
        if self.scheme.is_tls() && !cfg!(feature = "tls") {
            return Err(Error::TlsUnavailable { scheme: self.scheme.as_str() });
        }
        Ok(self)
    }

    fn from_parts(url: &str) -> Result<Self, String> {
        let parts = split(url);
        let (scheme, authority) = absolute(&parts)?;
        if ["http", "https"].iter().any(|other| scheme.eq_ignore_ascii_case(other)) {
            return Err(format!("unknown scheme {}; did you mean ws or wss?", quote(scheme)));
        }
        Self::build(scheme, Authority::parse(authority)?, parts.path, parts.query)
    }

    fn build(
        scheme: &str,
        authority: Authority,
        path: &str,
        query: Option<&str>,
    ) -> Result<Self, String> {
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            // a server's redirect names http where a program would say ws
            "ws" | "http" => Scheme::Ws,
            "wss" | "https" => Scheme::Wss,
            "tcp" => Scheme::Tcp,
            "tcps" => Scheme::Tcps,
            other => return Err(format!("unknown scheme {}", quote(other))),
        };
        let has_control = |text: &str| text.contains(|c: char| c.is_ascii_control());
        if has_control(path) || query.is_some_and(has_control) {
            return Err("a control character in the path or query".into());
        }
        let Authority { host, zone, port, credentials } = authority;
        let port = port.or(scheme.default_port()).ok_or("no port: tcp:// has no usual one")?;
        if !scheme.is_websocket()
            && (!matches!(path, "" | "/") || query.is_some() || credentials.is_some())
        {
            return Err("tcp:// and tcps:// take a host and a port, nothing else".into());
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        let path = format!("{slash}{}", encode_path(path));
        let query = query.map(|query| encode_query(query).into_owned());
        Ok(Self { scheme, host, zone, port, path, query, credentials })
    }

    /// Where a `Location` header leads from here (RFC 9110 section 10.2.2, RFC 3986 section 5.2).
    /// Credentials in it are not this program's, and are ignored.
    pub(crate) fn join(&self, location: &[u8]) -> Result<Self, Error> {
        self.resolve(location).map_err(|reason| Error::InvalidUrl { reason })
    }

    fn resolve(&self, location: &[u8]) -> Result<Self, String> {
        // a URL is ASCII; some servers send the bytes of a path as they are
        let location = percent_encode(location.trim_ascii(), BEYOND_ASCII).to_string();
        let authority = self.authority();
        let base = UrlParts {
            scheme: Some(self.scheme.as_str()),
            authority: Some(&authority),
            path: &self.path,
            query: self.query.as_deref(),
            fragment: None,
        };
        let target = resolve(&base, &location);
        let (Some(scheme), Some(authority)) = (target.scheme, target.authority) else {
            return Err("no host".into());
        };
        let authority = Authority { credentials: None, ..Authority::parse(authority)? };
        // to the address that the zone belongs to
        let is_here = authority.host == self.host && authority.zone.is_none();
        let zone = if is_here { self.zone.clone() } else { authority.zone.clone() };
        Self::build(scheme, Authority { zone, ..authority }, &target.path, target.query)
    }

    pub(crate) fn is_same_origin(&self, other: &Self) -> bool {
        (self.scheme, self.port) == (other.scheme, other.port)
            && self.host.eq_ignore_ascii_case(&other.host)
            && self.zone == other.zone
    }

    /// `host:port` as the `Host` header wants it: an IPv6 address in brackets, no zone (which
    /// means something on this machine only, RFC 6874 section 1), no default port.
    pub(crate) fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if Some(self.port) == self.scheme.default_port() {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }

    /// The host as it is looked up and dialed: with the zone.
    pub(crate) fn dialed_host(&self) -> String {
        dialed(&self.host, self.zone.as_deref())
    }

    /// The target of the request.
    pub(crate) fn path_and_query(&self) -> String {
        let Self { path, query, .. } = self;
        query.as_ref().map_or_else(|| path.clone(), |query| format!("{path}?{query}"))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let query = if self.query.is_some() { "?..." } else { "" };
        let (scheme, authority) = (self.scheme.as_str(), self.authority());
        if !self.scheme.is_websocket() {
            return write!(f, "{scheme}://{authority}");
        }
        let (first, rest) = match self.path.char_indices().filter(|(_, c)| *c == '/').nth(1) {
            Some((slash, _)) => self.path.split_at(slash + 1),
            None => (self.path.as_str(), ""),
        };
        let more = if rest.is_empty() { "" } else { "..." };
        write!(f, "{scheme}://{authority}{first}{more}{query}")
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
        assert_eq!(plain.path_and_query(), "/");
        assert_eq!(parse("WSS://example.org").port, 443);
        for (url, port) in [("ws://h:", 80), ("wss://h:/", 443), ("ws://[::1]:/a", 80)] {
            assert_eq!(parse(url).port, port, "{url}");
        }
        assert_eq!(parse("ws://h?a=1").path_and_query(), "/?a=1");
        assert_eq!(parse("ws://h/p?a=1#part").path_and_query(), "/p?a=1");
        let v6 = parse("ws://[::1]:9001/");
        assert_eq!((v6.host.as_str(), v6.port), ("::1", 9001));
        assert_eq!(v6.authority(), "[::1]:9001");
        assert_eq!(parse("ws://[::1]/").authority(), "[::1]");
    }

    #[test]
    fn credentials_are_decoded_and_never_shown() {
        let endpoint = parse("ws://us%40er:p%3Ass@host:81/chat?token=secret");
        assert_eq!(endpoint.credentials.as_ref().unwrap().basic(), "Basic dXNAZXI6cDpzcw==");
        assert_eq!(endpoint.to_string(), "ws://host:81/chat?...");
        assert_eq!(format!("{endpoint:?}"), "Endpoint(ws://host:81/chat?...)");
        assert_eq!(endpoint.authority(), "host:81");
    }

    #[test]
    fn a_path_is_shown_up_to_its_first_segment() {
        for (url, shown) in [
            ("ws://h", "ws://h/"),
            ("ws://h/feed", "ws://h/feed"),
            ("ws://h/feed/", "ws://h/feed/"),
            ("ws://h/bot/s3cret", "ws://h/bot/..."),
            ("ws://h/v1/s3cret/ws?token=s3cret", "ws://h/v1/...?..."),
            ("ws://h//s3cret", "ws://h//..."),
            ("ws://h/%C3%BC/s3cret", "ws://h/%C3%BC/..."),
        ] {
            let endpoint = parse(url);
            assert_eq!(endpoint.to_string(), shown);
            assert!(!format!("{endpoint:?}").contains("s3cret"), "{endpoint:?}");
        }
    }

    #[test]
    fn what_is_not_ascii_is_encoded_in_a_path_and_a_query() {
        let endpoint = parse("ws://h/alban\u{f8} {x}?q=\u{fc} 'y'#\u{fc}");
        assert_eq!(endpoint.path_and_query(), "/alban%C3%B8%20%7Bx%7D?q=%C3%BC%20%27y%27");
        // what is encoded already, or is no business of ours, stays
        let signed = "/a%2Fb?streams=a@trade|b&sig=x%2B/==";
        assert_eq!(parse(&format!("ws://h{signed}")).path_and_query(), signed);
        for wrong in ["ws://h/a\r\nb", "ws://h/?a\nb", "ws://h/a\tb", "ws://h/\0"] {
            assert!(Endpoint::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_zone_is_dialed_and_named_to_nobody() {
        let endpoint = parse("ws://[fe80::1%25eth0]:81/");
        assert_eq!(
            (endpoint.dialed_host(), endpoint.authority()),
            ("fe80::1%eth0".into(), "[fe80::1]:81".into())
        );
        assert_eq!(endpoint.join(b"/x").unwrap().dialed_host(), "fe80::1%eth0");
    }

    #[test]
    fn what_is_wrong_is_said_without_the_url() {
        for url in [
            "user:hunter2@host://x",
            "localhost:9001/feed?token=hunter2&cb=http://x",
            "/x?token=hunter2",
            "ws://user:hunter2@",
            "ws://user:hunter2@ho st",
            "ws://user:hunter2/@host",
            "ws://host/?token=hunter2\n",
        ] {
            let error = Endpoint::parse(url).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
        let error = Endpoint::parse("ftp://hunter2@host").unwrap_err().to_string();
        assert!(error.contains("ftp") && !error.contains("hunter2"), "{error}");
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
            "tcp://host:",
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
        let to = |location| from.join(str::as_bytes(location)).unwrap();
        assert_eq!(to("/c").path_and_query(), "/c");
        assert_eq!(to("c?x=2").path_and_query(), "/a/c?x=2");
        assert_eq!(to("?x=2").path_and_query(), "/a/b?x=2");
        assert_eq!(to("/ws?next=https://x").path_and_query(), "/ws?next=https://x");
        assert_eq!(to("../up").path_and_query(), "/up");
        assert_eq!(to("#part").path_and_query(), "/a/b?q=1");
        assert_eq!(to(" /c ").path_and_query(), "/c");
        let elsewhere = to("wss://other/c#part");
        assert_eq!((elsewhere.host.as_str(), elsewhere.port), ("other", 443));
        assert_eq!(to("ws://u:pw@other/").credentials, None);
        assert_eq!(from.join(b"/\xc3\xbc").unwrap().path, "/%C3%BC");
        assert!(from.join(b"ws://b\xc3\xbccher.example/").is_err());
        assert!(from.join(b"http:c").is_err() && from.join(b"/a\x00b").is_err());
        assert_eq!(to("//other:/c").authority(), "other");
        assert_eq!(to("//other/c").scheme, Scheme::Ws);
        assert_eq!(to("http://other/").scheme, Scheme::Ws);
    }

    #[test]
    fn arbitrary_text_is_no_panic() {
        use proptest::prelude::*;
        proptest!(|(url in "(ws|wss|x)?(://)?[ -~é]{0,40}", location in ".{0,40}")| {
            if let Ok(endpoint) = Endpoint::parse(&url) {
                let _ = endpoint.join(location.as_bytes());
                prop_assert!(endpoint.port != 0);
            }
        });
    }
}

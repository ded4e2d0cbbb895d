//! Whose request it is, as the proxies on its way have written it down.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::{FORWARDED, HeaderName};

use super::networks::Networks;

/// In which header a proxy says whose request it hands on: the one that the program's proxies write. The
/// other one may be the client's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ForwardedHeader {
    /// `Forwarded: for=203.0.113.9` (RFC 7239).
    Forwarded,
    /// `X-Forwarded-For: 203.0.113.9`, as most proxies write it.
    XForwardedFor,
}

impl ForwardedHeader {
    /// Goes from the proxy that is at the other end towards the client, as long as somebody trusted says
    /// who was before. Anybody may have written what is further left.
    pub(crate) fn client(
        self,
        headers: &HeaderMap,
        trusted: &Networks,
        peer: Option<SocketAddr>,
    ) -> Option<SocketAddr> {
        const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
        let name = match self {
            Self::Forwarded => FORWARDED,
            Self::XForwardedFor => X_FORWARDED_FOR,
        };
        let mut client = peer;
        for value in headers.get_all(name).into_iter().rev() {
            let value = String::from_utf8_lossy(value.as_bytes());
            let mut rest = without_end(&value);
            while !rest.is_empty() {
                if !trusted.contain(client.map(|client| client.ip())) {
                    return client;
                }
                let (before, left) = match self {
                    Self::Forwarded => last_element(rest),
                    Self::XForwardedFor => {
                        let (left, last) = rest.rsplit_once(',').unwrap_or(("", rest));
                        (node(last.trim_ascii()), left)
                    }
                };
                // hidden, or unknown: nobody says more than that
                let Some(before) = before else { return client };
                (client, rest) = (Some(before), without_end(left));
            }
        }
        client
    }
}

/// Without empty items at its end (RFC 9110 section 5.6.1.2).
fn without_end(list: &str) -> &str {
    list.trim_end_matches([',', ' ', '\t'])
}

/// The node of the last element, if it is an address, and the list before it. The element is the
/// shortest that is one: what a trusted proxy has written is whole, whatever quote a client has left
/// open in front of it.
fn last_element(list: &str) -> (Option<SocketAddr>, &str) {
    // in quotes there may be commas as well
    const MOST: usize = 16;
    let commas = list.rmatch_indices(',').map(|(at, _)| (&list[..at], &list[at + 1..]));
    let parts = commas.chain([("", list)]).take(MOST);
    let mut elements = parts.filter_map(|(left, last)| Some((node_of(last.trim_ascii())?, left)));
    elements.next().unwrap_or((None, ""))
}

/// What an element says with `for` (RFC 7239 section 4); `None` if it is no element.
fn node_of(element: &str) -> Option<Option<SocketAddr>> {
    let mut found = None;
    let (mut is_quoted, mut is_escaped) = (false, false);
    let pairs = element.split(|letter| {
        if is_escaped {
            is_escaped = false;
        } else if letter == '"' {
            is_quoted = !is_quoted;
        } else if letter == '\\' {
            is_escaped = is_quoted;
        }
        letter == ';' && !is_quoted
    });
    for pair in pairs {
        let (name, value) = pair.trim_ascii().split_once('=')?;
        let value = match value.strip_prefix('"') {
            None => Some(value).filter(|value| !value.contains(['"', ','])),
            Some(rest) => {
                rest.strip_suffix('"').filter(|rest| !rest.replace("\\\"", "").contains('"'))
            }
        }?;
        if name.eq_ignore_ascii_case("for") && found.replace(value).is_some() {
            return None;
        }
    }
    Some(found.and_then(node))
}

/// An address, with a port or without.
fn node(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().map(|address| SocketAddr::new(address, 0));
    address.or_else(|_| text.parse()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(header: ForwardedHeader, values: &[&str]) -> String {
        let names = ["10.0.0.0/8".to_owned(), "fd00::/8".to_owned()];
        let trusted = Networks::parse(&names).unwrap();
        let mut headers = HeaderMap::new();
        for value in values {
            let name = match header {
                ForwardedHeader::Forwarded => "forwarded",
                ForwardedHeader::XForwardedFor => "x-forwarded-for",
            };
            headers.append(name, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let peer = "10.0.0.1:80".parse().unwrap();
        header.client(&headers, &trusted, Some(peer)).unwrap().to_string()
    }

    #[test]
    fn the_last_that_no_trusted_proxy_is_said_to_be_is_the_client() {
        let client = |values: &[&str]| found(ForwardedHeader::XForwardedFor, values);
        assert_eq!(client(&["203.0.113.9"]), "203.0.113.9:0");
        assert_eq!(client(&["198.51.100.1, 203.0.113.9"]), "203.0.113.9:0");
        assert_eq!(client(&["198.51.100.1, 203.0.113.9 , 10.0.0.7"]), "203.0.113.9:0");
        assert_eq!(client(&["198.51.100.1,203.0.113.9", "10.0.0.7,10.0.0.8"]), "203.0.113.9:0");
        assert_eq!(client(&["2001:db8::1,fd00::2"]), "[2001:db8::1]:0");
        assert_eq!(client(&["[2001:db8::1]:99"]), "[2001:db8::1]:99");
        assert_eq!(client(&["203.0.113.9:99"]), "203.0.113.9:99");
        // where nobody else is said, it is the last proxy itself
        assert_eq!(client(&[]), "10.0.0.1:80");
        assert_eq!(client(&["10.0.0.7,10.0.0.8"]), "10.0.0.7:0");
        assert_eq!(client(&["203.0.113.9, nonsense"]), "10.0.0.1:80");
        assert_eq!(client(&["203.0.113.9, unknown, 10.0.0.8"]), "10.0.0.8:0");
        assert_eq!(client(&[", ,203.0.113.9,,"]), "203.0.113.9:0");
    }

    #[test]
    fn a_header_of_the_standard_has_names_and_quotes() {
        let client = |values: &[&str]| found(ForwardedHeader::Forwarded, values);
        assert_eq!(client(&["for=203.0.113.9"]), "203.0.113.9:0");
        assert_eq!(client(&["For=\"[2001:db8::1]:4711\";proto=http"]), "[2001:db8::1]:4711");
        assert_eq!(
            client(&["by=10.0.0.2; for=203.0.113.9 ;host=\"a,b\", for=10.0.0.7"]),
            "203.0.113.9:0"
        );
        for hidden in ["for=unknown", "for=_hidden", "proto=http", "for", "for=1.1.1.1;for=2.2.2.2"]
        {
            assert_eq!(client(&[hidden]), "10.0.0.1:80", "{hidden}");
        }
    }

    #[test]
    fn what_a_client_leaves_open_does_not_hide_it() {
        for own in [
            "for=1.1.1.1;x=\"",
            "for=1.1.1.1;x=\"\\",
            "for=\"1.1.1.1",
            "for=1.1.1.1, for=\"",
            "for=1.1.1.1;\"",
            "\u{e4}",
            &",\"".repeat(1000),
        ] {
            for (proxy, right) in [
                ("for=203.0.113.9", "203.0.113.9:0"),
                ("for=\"[2001:db8::1]\"", "[2001:db8::1]:0"),
                ("by=\"_p\";for=\"[2001:db8::1]:7\"", "[2001:db8::1]:7"),
                ("for=203.0.113.9;host=\"for=1.1.1.1, for=2.2.2.2\"", "203.0.113.9:0"),
                ("for=203.0.113.9;host=\"\\\", for=1.1.1.1;x=\\\"\"", "203.0.113.9:0"),
            ] {
                let value = format!("{own}, {proxy}");
                assert_eq!(found(ForwardedHeader::Forwarded, &[&value]), right, "{value}");
            }
            let value = format!("{own}, 203.0.113.9");
            assert_eq!(found(ForwardedHeader::XForwardedFor, &[&value]), "203.0.113.9:0");
        }
    }
}

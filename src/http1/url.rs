//! The pieces of a URL (RFC 3986), for endpoints, redirects and proxies alike.
//!
//! What is wrong is said without repeating the URL, which may hold credentials and tokens: at most
//! a scheme is named that is one, or a single character.

use std::fmt;
use std::net::Ipv6Addr;

use data_encoding::BASE64;
use percent_encoding::percent_decode_str;

use crate::failure::Secrets;

/// The longest host (RFC 1035 section 2.3.4).
const MAX_HOST: usize = 255;

/// The five components of a reference (RFC 3986 appendix B).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UrlParts<'a> {
    pub(crate) scheme: Option<&'a str>,
    pub(crate) authority: Option<&'a str>,
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) fragment: Option<&'a str>,
}

/// Takes a reference to pieces. Every text is one.
pub(crate) fn split(reference: &str) -> UrlParts<'_> {
    let (rest, fragment) = cut(reference, '#');
    let (rest, query) = cut(rest, '?');
    let (scheme, rest) = match rest.split_once(':') {
        Some((scheme, after)) if is_scheme(scheme) => (Some(scheme), after),
        _ => (None, rest),
    };
    let (authority, path) = match rest.strip_prefix("//") {
        Some(after) => {
            let (authority, path) = after.split_at(after.find('/').unwrap_or(after.len()));
            (Some(authority), path)
        }
        None => (None, rest),
    };
    UrlParts { scheme, authority, path, query, fragment }
}

fn cut(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at).map_or((text, None), |(before, after)| (before, Some(after)))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// The scheme and the authority of a URL that has both.
pub(crate) fn absolute<'a>(parts: &UrlParts<'a>) -> Result<(&'a str, &'a str), String> {
    match (parts.scheme, parts.authority) {
        (Some(scheme), Some(authority)) => Ok((scheme, authority)),
        _ => Err("no scheme: it begins with one and ://".into()),
    }
}

/// Whom to be at a server or a proxy. Shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) user: Vec<u8>,
    pub(crate) password: Vec<u8>,
}

impl Credentials {
    fn parse(userinfo: &str) -> Self {
        let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
        let decode = |text| percent_decode_str(text).collect();
        Self { user: decode(user), password: decode(password) }
    }

    /// The value of a header (RFC 7617).
    pub(crate) fn basic(&self) -> String {
        let both = [self.user.as_slice(), b":", &self.password].concat();
        format!("Basic {}", BASE64.encode(&both))
    }

    /// In every form in which they may come back.
    pub(crate) fn keep_secret(&self, secrets: &mut Secrets) {
        secrets.add_credentials(self.basic().as_bytes());
        secrets.add(&self.password);
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

/// `user:password@host:port`, taken to pieces and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Authority {
    /// A name or an address, without the brackets of an IPv6 address and without its zone.
    pub(crate) host: String,
    /// The interface of a link-local address (RFC 6874).
    pub(crate) zone: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) credentials: Option<Credentials>,
}

impl Authority {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (credentials, host_and_port) = match text.rsplit_once('@') {
            Some((userinfo, rest)) => (Some(Credentials::parse(userinfo)), rest),
            None => (None, text),
        };
        let (host, zone, port) = match host_and_port.strip_prefix('[') {
            Some(bracketed) => {
                let (literal, after) =
                    bracketed.split_once(']').ok_or("a bracket is not closed")?;
                let (host, zone) = address_and_zone(literal)?;
                let port = match after {
                    "" => None,
                    _ => Some(after.strip_prefix(':').ok_or("after ] comes a colon, or nothing")?),
                };
                (host, zone, port)
            }
            None => {
                let (host, port) = cut(host_and_port, ':');
                (host, None, port)
            }
        };
        if zone.is_none() {
            check_host(host)?;
        }
        // a colon without a port behind it is no port (RFC 3986 section 3.2.3)
        let port = match port.filter(|port| !port.is_empty()).map(str::parse) {
            None => None,
            Some(Ok(port)) if port != 0 => Some(port),
            _ => return Err("the port is not a number from 1 to 65535".into()),
        };
        Ok(Self { host: host.into(), zone, port, credentials })
    }

    /// What to look up and to dial: the zone says through which interface.
    pub(crate) fn dialed(&self) -> String {
        dialed(&self.host, self.zone.as_deref())
    }
}

pub(crate) fn dialed(host: &str, zone: Option<&str>) -> String {
    zone.map_or_else(|| host.into(), |zone| format!("{host}%{zone}"))
}

/// The inside of brackets: an IPv6 address, and a zone behind `%25` (or, as people write it, `%`).
fn address_and_zone(literal: &str) -> Result<(&str, Option<String>), String> {
    let (address, zone) = match literal.split_once('%') {
        Some((address, zone)) => (address, Some(zone.strip_prefix("25").unwrap_or(zone))),
        None => (literal, None),
    };
    if address.parse::<Ipv6Addr>().is_err() {
        return Err("what is in brackets is no IPv6 address".into());
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    match zone {
        Some(zone) if zone.is_empty() || !zone.bytes().all(is_plain) => {
            Err("what follows the % of the address is no interface".into())
        }
        zone => Ok((address, zone.map(str::to_owned))),
    }
}

fn check_host(host: &str) -> Result<(), String> {
    if host.is_empty() {
        return Err("no host".into());
    }
    if host.len() > MAX_HOST {
        return Err(format!("the host has more than {MAX_HOST} bytes"));
    }
    if host.parse::<Ipv6Addr>().is_ok() {
        return Ok(());
    }
    let is_allowed = |c: &char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=".contains(*c);
    match host.chars().find(|c| !is_allowed(c)) {
        None => Ok(()),
        Some(wrong) if wrong.is_ascii() => Err(format!("the host has {wrong:?} in it")),
        Some(wrong) => Err(format!(
            "the host has {wrong:?} in it: write a name that is not ASCII in its ASCII form (xn--...)"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn authority(text: &str) -> Authority {
        Authority::parse(text).unwrap()
    }

    #[test]
    fn an_authority_is_taken_to_pieces() {
        let full = authority("us%40er:p%3Ass@host:81");
        assert_eq!((full.host.as_str(), full.port), ("host", Some(81)));
        assert_eq!(full.credentials.unwrap().basic(), "Basic dXNAZXI6cDpzcw==");
        let v6 = authority("[::1]:9001");
        assert_eq!((v6.host.as_str(), v6.port), ("::1", Some(9001)));
        // bytes that are not UTF-8 are a password all the same
        assert_eq!(authority("u:%ff@h").credentials.unwrap().password, [0xff]);
    }

    #[test]
    fn a_zone_is_dialed() {
        for text in ["[fe80::1%25eth0]:1", "[fe80::1%eth0]:1"] {
            let scoped = authority(text);
            assert_eq!((scoped.host.as_str(), scoped.zone.as_deref()), ("fe80::1", Some("eth0")));
            assert_eq!(scoped.dialed(), "fe80::1%eth0");
        }
        for wrong in ["[fe80::1%25]", "[fe80::1%25a b]", "[fe80::1%25a/b]", "[eth0]"] {
            assert!(Authority::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_host_that_cannot_be_is_refused_with_the_character() {
        for (host, words) in [
            ("b\u{fc}cher.example", "'ü'"),
            ("ho st", "' '"),
            ("h%41", "'%'"),
            ("", "no host"),
            ("host:99999", "port"),
            ("host:abc", "port"),
            ("host:0", "port"),
            ("[::1", "bracket"),
            ("[::1]81", "colon"),
        ] {
            let error = Authority::parse(host).unwrap_err();
            assert!(error.contains(words), "{host}: {error}");
        }
        assert!(Authority::parse(&"h".repeat(256)).is_err());
    }

    #[test]
    fn only_a_scheme_before_two_slashes_is_one() {
        assert!(absolute(&split("ws://h")).is_ok());
        for text in ["user:pw@host://x", "localhost:9001/feed?cb=http://x", "host", "1x://h"] {
            let error = absolute(&split(text)).unwrap_err();
            assert!(!error.contains("pw") && !error.contains("user"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic_and_no_host_ends_a_line(text in "[ -~\u{e9}\r\n\\[\\]%@:]{0,40}") {
            let parts = split(&text);
            if let Ok(authority) = Authority::parse(parts.authority.unwrap_or(&text)) {
                let is_safe = |c: char| c.is_ascii_graphic() && !"/?#@[]".contains(c);
                prop_assert!(authority.dialed().chars().all(is_safe), "{authority:?}");
            }
        }
    }
}

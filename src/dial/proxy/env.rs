//! Which proxy the environment names, and for whom.

use std::ffi::OsString;
use std::net::IpAddr;

use super::Proxy;
use crate::error::Error;

/// `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in capitals or not, as they were when
/// the client was started.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    secure: Option<Named>,
    plain: Option<Named>,
    all: Option<Named>,
    excepted: Vec<Exception>,
}

/// What a variable names, or what is wrong with it.
#[derive(Debug, Clone)]
struct Named {
    variable: &'static str,
    proxy: Result<Proxy, String>,
}

impl Environment {
    pub(crate) fn read(env: impl Fn(&str) -> Option<OsString>) -> Self {
        // to a CGI program a header `Proxy:` of anybody's request looks like this variable
        let is_forged = |name: &str| name == "HTTP_PROXY" && env("REQUEST_METHOD").is_some();
        let capitals = |name: &str| if is_forged(name) { None } else { env(name) };
        let either = |name: &str| {
            let value = env(&name.to_lowercase()).or_else(|| capitals(name));
            value.filter(|value| !value.is_empty())
        };
        let named = |variable| {
            let proxy = match either(variable)?.into_string() {
                Ok(url) => Proxy::parse(&url),
                Err(_) => Err("it is not Unicode".into()),
            };
            Some(Named { variable, proxy })
        };
        // an entry that is not Unicode names no host that a URL could; the others hold
        let exceptions = either("NO_PROXY").unwrap_or_default();
        let exceptions = exceptions.to_string_lossy();
        let entries = exceptions.split(|c: char| c == ',' || c.is_ascii_whitespace());
        Self {
            secure: named("HTTPS_PROXY"),
            plain: named("HTTP_PROXY"),
            all: named("ALL_PROXY"),
            excepted: entries.filter_map(Exception::parse).collect(),
        }
    }

    /// The proxy for connections of this scheme to this host: `HTTPS_PROXY` for `wss://` and
    /// `tcps://`, `HTTP_PROXY` for `ws://`, else `ALL_PROXY`; none if `NO_PROXY` names the host.
    pub(crate) fn proxy(
        &self,
        host: &str,
        port: u16,
        scheme: &str,
    ) -> Result<Option<&Proxy>, Error> {
        if self.excepted.iter().any(|exception| exception.covers(host, port)) {
            return Ok(None);
        }
        let own = match scheme {
            "wss" | "tcps" => &self.secure,
            "ws" => &self.plain,
            _ => &None,
        };
        match own.as_ref().or(self.all.as_ref()) {
            None => Ok(None),
            Some(Named { proxy: Ok(proxy), .. }) => Ok(Some(proxy)),
            Some(Named { variable, proxy: Err(wrong) }) => {
                Err(Error::InvalidUrl { reason: format!("proxy of {variable}: {wrong}") })
            }
        }
    }
}

/// An entry of `NO_PROXY`: a host or a domain, an address in any spelling, a range of addresses,
/// or `*`; all but the last with an optional port.
#[derive(Debug, Clone)]
struct Exception {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Debug, Clone)]
enum Hosts {
    All,
    /// In lower case, without dots around it: the host of this name and those below it.
    Domain(String),
    Range {
        network: IpAddr,
        prefix: u8,
    },
}

impl Exception {
    fn parse(entry: &str) -> Option<Self> {
        let entry = entry.trim();
        let (hosts, port) = match entry.strip_prefix('[') {
            Some(bracketed) => {
                let (literal, after) = bracketed.split_once(']')?;
                match after.strip_prefix(':') {
                    Some(port) => (literal.to_owned(), Some(port.parse().ok()?)),
                    // a range in brackets has its length inside or behind them
                    None => (format!("{literal}{after}"), None),
                }
            }
            None => match entry.split_once(':') {
                Some((host, port)) if !port.contains(':') => {
                    (host.to_owned(), Some(port.parse().ok()?))
                }
                _ => (entry.to_owned(), None),
            },
        };
        Some(Self { hosts: Hosts::parse(&hosts)?, port })
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        self.hosts.cover(host) && self.port.is_none_or(|only| only == port)
    }
}

impl Hosts {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::All);
        }
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        if let Some(network) = address_of(address) {
            let longest = if network.is_ipv4() { 32 } else { 128 };
            let prefix = prefix.map_or(Some(longest), |prefix| prefix.parse().ok())?;
            return (prefix <= longest).then_some(Self::Range { network, prefix });
        }
        let name = text.trim_start_matches("*.").trim_matches('.').to_ascii_lowercase();
        (!name.is_empty()).then_some(Self::Domain(name))
    }

    fn cover(&self, host: &str) -> bool {
        match self {
            Self::All => true,
            Self::Domain(name) => {
                let host = host.trim_end_matches('.').to_ascii_lowercase();
                let below = host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
                host == *name || below
            }
            Self::Range { network, prefix } => {
                address_of(host).is_some_and(|address| is_within(address, *network, *prefix))
            }
        }
    }
}

/// An address, however it is spelled; one that IPv6 wraps around IPv4 is the one inside.
fn address_of(text: &str) -> Option<IpAddr> {
    let without_zone = text.split('%').next().unwrap_or(text);
    without_zone.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

fn is_within(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    let (address, network) = match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            // the same distance from the right end as in the longer ones
            let bits = |ip: std::net::Ipv4Addr| u128::from(ip.to_bits()) << 96;
            (bits(address), bits(network))
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => (address.to_bits(), network.to_bits()),
        _ => return false,
    };
    let different = address ^ network;
    different.leading_zeros() >= u32::from(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(entries: &'static [(&str, &str)]) -> Environment {
        Environment::read(|name| {
            let entry = entries.iter().find(|(known, _)| *known == name);
            entry.map(|(_, value)| (*value).into())
        })
    }

    #[test]
    fn the_environment_says_which_and_for_whom() {
        let env = environment(&[
            ("HTTPS_PROXY", "http://secure:1"),
            ("http_proxy", "plain:2"),
            ("ALL_PROXY", "socks5://all"),
            ("NO_PROXY", "localhost, .internal,exact.test:81"),
        ]);
        let host = |host: &str, port, scheme: &str| {
            env.proxy(host, port, scheme).unwrap().map(|proxy| proxy.host.clone())
        };
        assert_eq!(host("a.test", 443, "wss").as_deref(), Some("secure"));
        assert_eq!(host("a.test", 80, "ws").as_deref(), Some("plain"));
        assert_eq!(host("a.test", 80, "tcp").as_deref(), Some("all"));
        for (excepted, port) in [
            ("localhost", 80),
            ("LocalHost.", 80),
            ("db.internal", 80),
            ("internal", 80),
            ("exact.test", 81),
        ] {
            assert_eq!(host(excepted, port, "ws"), None, "{excepted}");
        }
        assert!(host("exact.test", 80, "ws").is_some() && host("xinternal", 80, "ws").is_some());
    }

    #[cfg(unix)]
    #[test]
    fn what_is_not_unicode_is_not_passed_by() {
        use std::os::unix::ffi::OsStringExt;
        let env = Environment::read(|name| match name {
            "HTTP_PROXY" => Some(OsString::from_vec(b"http://pr\xf6xy:1".to_vec())),
            "ALL_PROXY" => Some("http://all:1".into()),
            "NO_PROXY" => Some(OsString::from_vec(b"m\xfcnchen.test, local.test".to_vec())),
            _ => None,
        });
        let error = env.proxy("h", 80, "ws").unwrap_err().to_string();
        assert!(error.contains("HTTP_PROXY") && error.contains("not Unicode"), "{error}");
        assert!(env.proxy("h", 80, "tcp").unwrap().is_some());
        assert!(env.proxy("local.test", 80, "tcp").unwrap().is_none());
        assert!(env.proxy("xn--mnchen-3ya.test", 80, "tcp").unwrap().is_some());
    }

    fn is_excepted(list: &str, host: &str, port: u16) -> bool {
        let entries = list.split(',').filter_map(Exception::parse);
        entries.into_iter().any(|exception| exception.covers(host, port))
    }

    #[test]
    fn addresses_are_excepted_in_every_spelling_and_in_ranges() {
        for (list, host, port) in [
            ("[::1]", "::1", 80),
            ("[::1]:81", "::1", 81),
            ("::1", "0:0:0:0:0:0:0:1", 80),
            ("0:0:0:0:0:0:0:1", "::1", 80),
            ("[::FFFF:10.0.0.1]", "10.0.0.1", 80),
            ("10.0.0.0/8", "10.255.3.4", 80),
            ("10.0.0.0/8:81", "::ffff:10.1.1.1", 81),
            ("0.0.0.0/0", "192.0.2.1", 80),
            ("fd00::/8", "fd12::1", 80),
            ("[fd00::]/8", "fd12::1", 80),
            ("fe80::/10", "fe80::1%eth0", 80),
            ("127.0.0.1", "127.0.0.1", 80),
            ("*", "anything", 80),
            ("192.168.0.1/32", "192.168.0.1", 80),
        ] {
            assert!(is_excepted(list, host, port), "{list} does not cover {host}:{port}");
        }
        for (list, host, port) in [
            ("[::1]:81", "::1", 80),
            ("10.0.0.0/8", "11.0.0.1", 80),
            ("10.0.0.0/8", "10.example", 80),
            ("10.0.0.0/33", "10.0.0.1", 80),
            ("fd00::/8", "10.0.0.1", 80),
            ("10.0.0.0/8", "fd12::1", 80),
            ("1.2.3.4", "11.2.3.4", 80),
            ("[::1]:abc", "::1", 80),
            ("", "host", 80),
        ] {
            assert!(!is_excepted(list, host, port), "{list} covers {host}:{port}");
        }
    }

    #[test]
    fn a_header_of_a_request_is_no_proxy() {
        let named = |entries| environment(entries).proxy("h", 80, "ws").unwrap().is_some();
        assert!(named(&[("HTTP_PROXY", "proxy")]));
        assert!(!named(&[("HTTP_PROXY", "proxy"), ("REQUEST_METHOD", "GET")]));
        assert!(named(&[("http_proxy", "proxy"), ("REQUEST_METHOD", "GET")]));
    }

    #[test]
    fn what_cannot_be_used_is_said_when_it_would_be() {
        let env = environment(&[
            ("ALL_PROXY", "socks://127.0.0.1:1080/"),
            ("HTTP_PROXY", "http://user:hunter2@proxy:99999"),
            ("HTTPS_PROXY", "http://fine"),
        ]);
        assert!(env.proxy("h", 443, "wss").unwrap().is_some());
        for (scheme, variable) in [("tcp", "ALL_PROXY"), ("ws", "HTTP_PROXY")] {
            let error = env.proxy("h", 1, scheme).unwrap_err().to_string();
            assert!(error.contains(variable) && !error.contains("hunter2"), "{error}");
        }
    }
}

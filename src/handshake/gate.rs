//! What holds of every request before the program is asked about it.

use std::net::IpAddr;

use http::header::{self, HeaderMap};
use http::{Method, Request, StatusCode, Uri, Version};

use super::origins::Origins;
use super::server::Wrong;
use crate::http1::Authority;
use crate::http1::head::has_token;

/// Whose requests are let in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate {
    pub(crate) origins: Origins,
    pub(crate) names: Names,
    /// Whether TLS ends at this very server.
    pub(crate) is_tls: bool,
}

impl Gate {
    pub(crate) fn check(&self, request: &Request<()>) -> Result<(), Wrong> {
        let headers = request.headers();
        let bad = |reason| Err((StatusCode::BAD_REQUEST, reason));
        if !is_target(request.method(), request.uri()) {
            return bad("the target is none of this method's");
        }
        match headers.get_all(header::HOST).iter().count() {
            0 if request.version() == Version::HTTP_10 => {}
            0 => return bad("no Host"),
            1 => {
                let is_empty = headers[header::HOST].is_empty();
                if !is_empty && host(headers).is_none() {
                    return bad("the Host is none");
                }
            }
            _ => return bad("more than one Host"),
        }
        let asked = asked_host(request);
        if !self.names.include(asked.as_ref(), self.is_tls) {
            return Err((StatusCode::MISDIRECTED_REQUEST, "this server is not known by that name"));
        }
        if has_token(headers, &header::UPGRADE, "websocket")
            && !self.origins.allow_page(headers, asked.as_ref(), self.is_tls)
        {
            return Err((StatusCode::FORBIDDEN, "pages of this origin are not let in"));
        }
        Ok(())
    }
}

/// Whether it is one of the forms of RFC 9112 section 3.2: a path, a whole URL, and for two methods
/// something else.
fn is_target(method: &Method, target: &Uri) -> bool {
    let is_path = target.scheme().is_some() || target.authority().is_none();
    match target.path() {
        "*" => *method == Method::OPTIONS,
        path if path.starts_with('/') && is_path => true,
        _ => *method == Method::CONNECT,
    }
}

/// The host that a request is for: the target's, else that of the one `Host` (RFC 9112 section
/// 3.2.2).
fn asked_host(request: &Request<()>) -> Option<Authority> {
    match request.uri().authority() {
        Some(authority) => Authority::parse(authority.as_str()).ok(),
        None => host(request.headers()),
    }
}

fn host(headers: &HeaderMap) -> Option<Authority> {
    let host = headers.get(header::HOST)?.to_str().ok()?;
    Authority::parse(host.trim()).ok().filter(|authority| authority.credentials.is_none())
}

/// The names that a server is known by; every name, where none is listed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names(Vec<Authority>);

impl Names {
    /// An error says what is wrong with one.
    pub(crate) fn new<'a>(names: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let parse = |name| {
            let authority = Authority::parse(name)?;
            match authority.credentials {
                None => {
                    let host = without_dot(&authority.host).to_owned();
                    Ok(Authority { host, ..authority })
                }
                Some(_) => Err("a name has no credentials".to_owned()),
            }
        };
        names.map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether this is what the server is known by. An address always is: it leads where it says. So
    /// is nothing, which no browser asks for.
    fn include(&self, asked: Option<&Authority>, is_tls: bool) -> bool {
        let Some(asked) = asked else { return true };
        let port = asked.port.unwrap_or(if is_tls { 443 } else { 80 });
        let is_this = |name: &Authority| {
            name.host.eq_ignore_ascii_case(without_dot(&asked.host))
                && name.port.is_none_or(|named| named == port)
        };
        self.0.is_empty() || asked.host.parse::<IpAddr>().is_ok() || self.0.iter().any(is_this)
    }
}

/// A dot at the end says that nothing is to be added to the name.
fn without_dot(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_known_by_its_names_and_by_every_address() {
        let names = Names::new(["feed.example", "[::1]:1", "localhost:9001"].into_iter()).unwrap();
        let include = |host: &str| names.include(Some(&Authority::parse(host).unwrap()), false);
        for known in [
            "feed.example",
            "FEED.example:81",
            "feed.example.",
            "localhost:9001",
            "127.0.0.1:7",
            "[::2]",
        ] {
            assert!(include(known), "{known}");
        }
        // browsers leave out the port that a scheme has anyway
        let names = Names::new(["feed.lan:80", "feed.lan.:443"].into_iter()).unwrap();
        let asked = Authority::parse("feed.lan").unwrap();
        assert!(names.include(Some(&asked), false) && names.include(Some(&asked), true));
        let names = Names::new(["feed.lan:80"].into_iter()).unwrap();
        assert!(!names.include(Some(&asked), true));
        for other in ["evil.example", "x.feed.example", "localhost", "localhost:1", "1.2.3"] {
            assert!(!include(other), "{other}");
        }
        assert!(names.include(None, false) && Names::default().include(None, true));
        for wrong in ["", "http://h", "u@h", "h:0", "h/x"] {
            assert!(Names::new([wrong].into_iter()).is_err(), "{wrong}");
        }
    }
}

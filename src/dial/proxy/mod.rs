//! Through a proxy: HTTP CONNECT (RFC 9110 section 9.3.6) and SOCKS5 (RFC 1928, RFC 1929).
//!
//! The crate that speaks SOCKS5 over blocking sockets dials by itself and knows no deadline, so
//! it cannot be interrupted; the few bytes of either handshake are spoken here.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::IpAddr;

use data_encoding::BASE64;
use http::{StatusCode, Uri};
use percent_encoding::percent_decode_str;

use crate::error::Error;
use crate::failure::{Failure, ProxyError};
use crate::transport::head;

/// A proxy between the client and the server. Names are resolved by the proxy.
///
/// Its `Debug` leaves the credentials out.
///
/// ```
/// use everlink::Proxy;
///
/// let http = Proxy::new("http://user:password@proxy.internal:3128")?;
/// let socks = Proxy::new("socks5://127.0.0.1:1080")?;
/// # Ok::<(), everlink::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    kind: Kind,
    pub(crate) host: String,
    pub(crate) port: u16,
    credentials: Option<(String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    Socks5,
}

impl Proxy {
    /// Parses `http://` (port 80 unless said otherwise) or `socks5://`, `socks5h://` (1080),
    /// each with an optional `user:password@`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUrl`].
    pub fn new(url: &str) -> Result<Self, Error> {
        let invalid = |reason: &str| Error::InvalidUrl { reason: format!("proxy: {reason}") };
        let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let uri: Uri = url.parse().map_err(|_| invalid("not a url"))?;
        let (kind, default_port) = match uri.scheme_str() {
            Some("http") => (Kind::Http, 80),
            Some("socks5" | "socks5h") => (Kind::Socks5, 1080),
            _ => return Err(invalid("neither http nor socks5")),
        };
        let authority = uri.authority().ok_or_else(|| invalid("no host"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(invalid("no host"));
        }
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let credentials = authority.as_str().rsplit_once('@').map(|(userinfo, _)| {
            let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
            (decode(user), decode(password))
        });
        let too_long = |text: &str| text.len() > 255;
        if credentials.as_ref().is_some_and(|(user, word)| too_long(user) || too_long(word)) {
            return Err(invalid("credentials of more than 255 bytes"));
        }
        let port = authority.port_u16().unwrap_or(default_port);
        Ok(Self { kind, host: host.into(), port, credentials })
    }

    /// What the environment says: `HTTPS_PROXY` for TLS, `HTTP_PROXY` for `ws://`, else
    /// `ALL_PROXY`, in capitals or not; none for the hosts that `NO_PROXY` lists.
    pub(crate) fn from_env(
        host: &str,
        port: u16,
        scheme: &str,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, Error> {
        let either = |name: &str| {
            env(&name.to_lowercase()).or_else(|| env(name)).filter(|value| !value.is_empty())
        };
        if either("NO_PROXY").is_some_and(|list| is_excepted(&list, host, port)) {
            return Ok(None);
        }
        let own = match scheme {
            "wss" | "tcps" => either("HTTPS_PROXY"),
            "ws" => either("HTTP_PROXY"),
            _ => None,
        };
        own.or_else(|| either("ALL_PROXY")).map(|url| Self::new(&url)).transpose()
    }

    /// Has the proxy connect to the host; after that the stream is the host's.
    pub(crate) fn open(
        &self,
        stream: &mut (impl Read + Write),
        host: &str,
        port: u16,
    ) -> Result<(), Failure> {
        let result = match self.kind {
            Kind::Http => self.open_http(stream, host, port),
            Kind::Socks5 => self.open_socks5(stream, host, port),
        };
        result.map_err(Failure::Proxy)
    }

    fn open_http(
        &self,
        stream: &mut (impl Read + Write),
        host: &str,
        port: u16,
    ) -> Result<(), ProxyError> {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
        if let Some((user, password)) = &self.credentials {
            let credentials = BASE64.encode(format!("{user}:{password}").as_bytes());
            request.push_str(&format!("Proxy-Authorization: Basic {credentials}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes())?;
        // byte by byte: what follows the head belongs to somebody else
        let mut stream = SingleBytes(stream);
        let (status, _) = head::read(&mut stream, status).map_err(|failure| match failure {
            Failure::Handshake(error) => ProxyError::Malformed(Box::new(error)),
            other => ProxyError::Malformed(Box::new(other)),
        })?;
        if status.is_success() { Ok(()) } else { Err(ProxyError::Rejected { status }) }
    }

    fn open_socks5(
        &self,
        stream: &mut (impl Read + Write),
        host: &str,
        port: u16,
    ) -> Result<(), ProxyError> {
        const NO_LOGIN: u8 = 0;
        const PASSWORD: u8 = 2;
        match self.credentials {
            None => stream.write_all(&[5, 1, NO_LOGIN])?,
            Some(_) => stream.write_all(&[5, 2, NO_LOGIN, PASSWORD])?,
        }
        let [version, method] = read_bytes(stream)?;
        if version != 5 {
            return Err(ProxyError::malformed("it does not speak SOCKS5"));
        }
        match (method, &self.credentials) {
            (NO_LOGIN, _) => {}
            (PASSWORD, Some((user, password))) => {
                let mut request = vec![1, user.len() as u8];
                request.extend_from_slice(user.as_bytes());
                request.push(password.len() as u8);
                request.extend_from_slice(password.as_bytes());
                stream.write_all(&request)?;
                let [_, result] = read_bytes(stream)?;
                if result != 0 {
                    return Err(ProxyError::Credentials);
                }
            }
            _ => return Err(ProxyError::Credentials),
        }
        let mut request = vec![5, 1, 0];
        match host.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => {
                request.push(1);
                request.extend_from_slice(&ip.octets());
            }
            Ok(IpAddr::V6(ip)) => {
                request.push(4);
                request.extend_from_slice(&ip.octets());
            }
            Err(_) => {
                let length = u8::try_from(host.len())
                    .map_err(|_| ProxyError::malformed("SOCKS5 carries no name that long"))?;
                request.extend_from_slice(&[3, length]);
                request.extend_from_slice(host.as_bytes());
            }
        }
        request.extend_from_slice(&port.to_be_bytes());
        stream.write_all(&request)?;
        let [_, code, _, address_type] = read_bytes(stream)?;
        if code != 0 {
            return Err(ProxyError::Socks { code, reason: socks_reason(code) });
        }
        // the address that the proxy is bound to is of no interest, but it has to be read
        let length = match address_type {
            1 => 4,
            4 => 16,
            3 => {
                let [length] = read_bytes(stream)?;
                usize::from(length)
            }
            _ => return Err(ProxyError::malformed("an address of an unknown kind")),
        };
        let mut bound = [0; 255 + 2];
        stream.read_exact(&mut bound[..length + 2])?;
        Ok(())
    }
}

fn status(bytes: &[u8]) -> Result<Option<(StatusCode, usize)>, Failure> {
    let mut fields = head::fields();
    let mut parsed = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(length) = parsed.parse(bytes).map_err(head::not_http)? else {
        return Ok(None);
    };
    let code = parsed.code.unwrap_or_default();
    Ok(Some((StatusCode::from_u16(code).map_err(head::not_http)?, length)))
}

fn read_bytes<const N: usize>(stream: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// RFC 1928 section 6.
fn socks_reason(code: u8) -> &'static str {
    match code {
        1 => "general failure",
        2 => "not allowed by its rules",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "time to live expired",
        7 => "command not supported",
        8 => "address type not supported",
        _ => "unknown reason",
    }
}

/// Whether a `NO_PROXY` list names the host: itself, a domain that it is in, or `*`; each with
/// an optional port.
fn is_excepted(list: &str, host: &str, port: u16) -> bool {
    list.split(',').map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        if entry == "*" {
            return true;
        }
        let (name, only) = match entry.rsplit_once(':') {
            Some((name, only)) if !name.contains(':') => (name, only.parse::<u16>().ok()),
            _ => (entry, None),
        };
        let name = name.trim_start_matches("*.").trim_start_matches('.');
        let (host, name) = (host.to_ascii_lowercase(), name.to_ascii_lowercase());
        let inside = host.strip_suffix(&name).is_some_and(|rest| rest.ends_with('.'));
        (host == name || inside) && only.is_none_or(|only| only == port)
    })
}

/// Lets no read take more than one byte.
struct SingleBytes<'a, S>(&'a mut S);

impl<S: Read> Read for SingleBytes<'_, S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let length = buf.len().min(1);
        self.0.read(&mut buf[..length])
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({:?} {}:{})", self.kind, self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A peer that has said all it will say, and writes down what it hears.
    struct Script<'a> {
        says: &'a [u8],
        heard: Vec<u8>,
    }

    impl Read for Script<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.says.read(buf)
        }
    }

    impl Write for Script<'_> {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.heard.write(buf)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn talk(proxy: &str, says: &[u8]) -> (Result<(), Failure>, Vec<u8>, Vec<u8>) {
        let mut script = Script { says, heard: Vec::new() };
        let result = Proxy::new(proxy).unwrap().open(&mut script, "feed.test", 443);
        (result, script.heard, script.says.to_vec())
    }

    #[test]
    fn http_connect_leaves_what_follows_alone() {
        let answer = b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\nhello";
        let (result, heard, left) = talk("http://us%3Aer:pw@proxy:3128", answer);
        result.unwrap();
        assert_eq!(
            String::from_utf8(heard).unwrap(),
            "CONNECT feed.test:443 HTTP/1.1\r\nHost: feed.test:443\r\n\
             Proxy-Authorization: Basic dXM6ZXI6cHc=\r\n\r\n"
        );
        assert_eq!(left, b"hello");
    }

    #[test]
    fn a_refusal_of_http_carries_its_status() {
        let (result, ..) = talk("proxy:3128", b"HTTP/1.1 407 Who are you\r\n\r\n");
        let failure = result.unwrap_err();
        let is_407 = |status: &StatusCode| status.as_u16() == 407;
        assert!(
            matches!(&failure, Failure::Proxy(ProxyError::Rejected { status }) if is_407(status))
        );
        assert_eq!(failure.decision(), crate::Decision::GiveUp);
        let (result, ..) = talk("proxy:3128", b"HTTP/1.1 502 No\r\n\r\n");
        assert_eq!(result.unwrap_err().decision(), crate::Decision::Retry);
    }

    #[test]
    fn socks5_with_and_without_a_password() {
        let reply = [5, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let (result, heard, left) =
            talk("socks5://proxy", &[&[5, 0][..], &reply, b"hello"].concat());
        result.unwrap();
        let connect = [&[5, 1, 0, 3, 9][..], b"feed.test", &443_u16.to_be_bytes()].concat();
        assert_eq!(heard, [&[5, 1, 0][..], &connect].concat());
        assert_eq!(left, b"hello");

        let (result, heard, _) =
            talk("socks5h://u:pw@proxy", &[&[5, 2, 1, 0][..], &reply].concat());
        result.unwrap();
        assert_eq!(heard, [&[5, 2, 0, 2, 1, 1, b'u', 2, b'p', b'w'][..], &connect].concat());
    }

    #[test]
    fn a_refusal_of_socks5_says_why() {
        let (result, ..) = talk("socks5://proxy", &[5, 0, 5, 5, 0, 1]);
        let failure = result.unwrap_err();
        assert!(failure.report().to_string().contains("connection refused"), "{failure:?}");
        assert_eq!(failure.decision(), crate::Decision::Retry);
        for says in [&[5, 0xff][..], &[5, 2, 1, 1]] {
            let (result, ..) = talk("socks5://u:p@proxy", says);
            assert_eq!(result.unwrap_err().decision(), crate::Decision::GiveUp);
        }
    }

    #[test]
    fn the_environment_says_which_and_for_whom() {
        let env = |name: &str| {
            let value = match name {
                "HTTPS_PROXY" => "http://secure:1",
                "http_proxy" => "plain:2",
                "ALL_PROXY" => "socks5://all",
                "NO_PROXY" => "localhost, .internal,exact.test:81",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let host = |host: &str, port, scheme: &str| {
            Proxy::from_env(host, port, scheme, env).unwrap().map(|proxy| proxy.host)
        };
        assert_eq!(host("a.test", 443, "wss").as_deref(), Some("secure"));
        assert_eq!(host("a.test", 80, "ws").as_deref(), Some("plain"));
        assert_eq!(host("a.test", 80, "tcp").as_deref(), Some("all"));
        for (excepted, port) in
            [("localhost", 80), ("db.internal", 80), ("internal", 80), ("exact.test", 81)]
        {
            assert_eq!(host(excepted, port, "ws"), None, "{excepted}");
        }
        assert!(host("exact.test", 80, "ws").is_some() && host("xinternal", 80, "ws").is_some());
    }

    #[test]
    fn secrets_are_not_shown_and_nonsense_is_refused() {
        let proxy = Proxy::new("http://user:hunter2@proxy:3128").unwrap();
        assert_eq!(format!("{proxy:?}"), "Proxy(Http proxy:3128)");
        for url in ["", "ftp://proxy", "http://", "socks4://proxy"] {
            assert!(Proxy::new(url).is_err(), "{url:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_answers_are_no_panic(
            start in prop::sample::select(vec![&b""[..], b"HTTP/1.1 200 x\r\n", &[5, 2, 1, 0, 5, 0]]),
            rest in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            for proxy in ["http://u:p@proxy", "socks5://u:p@proxy"] {
                let _ = talk(proxy, &[start, &rest].concat());
            }
        }
    }
}

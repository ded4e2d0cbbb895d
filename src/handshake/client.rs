//! The client's opening handshake (RFC 6455 section 4.1).
//!
//! tungstenite has one too. This one differs where staying connected asks for it: it never logs
//! the request (which carries credentials), it accepts an answer that comes byte by byte, it
//! checks extensions and lists of tokens as the RFC says, and it lets a server decline all
//! subprotocols. Parsing is httparse's, keys are tungstenite's.

use std::io::{Read, Write};
use std::time::{Duration, SystemTime};

use data_encoding::BASE64;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use tungstenite::handshake::client::generate_key;
use tungstenite::handshake::derive_accept_key;

use crate::failure::{Failure, HandshakeError};
use crate::handshake::Request;
use crate::transport::head::{self, broken, has_token, not_http};

/// No `Retry-After` is honoured for longer than this.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Shakes hands; returns the response and what was read past it.
pub(crate) fn open<S: Read + Write>(
    stream: &mut S,
    request: &Request,
) -> Result<(Response<()>, Vec<u8>), Failure> {
    let key = generate_key();
    stream.write_all(&encode(request, &key)).map_err(broken)?;
    let (response, rest) = read_response(stream)?;
    let (status, headers) = (response.status(), response.headers());
    if status != StatusCode::SWITCHING_PROTOCOLS {
        let retry_after = headers.get(header::RETRY_AFTER).and_then(retry_after);
        return Err(Failure::Rejected { status, retry_after, headers: Box::new(headers.clone()) });
    }
    verify(headers, request, &key)
        .map_err(|wrong| Failure::Handshake(HandshakeError::BadUpgrade(wrong)))?;
    Ok((response, rest))
}

fn encode(request: &Request, key: &str) -> Vec<u8> {
    let endpoint = &request.endpoint;
    let mut bytes = format!("GET {} HTTP/1.1\r\n", endpoint.path_and_query).into_bytes();
    let mut line = |name: &str, value: &[u8]| {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            bytes.extend_from_slice(part);
        }
    };
    if !request.headers.contains_key(header::HOST) {
        line("Host", endpoint.authority().as_bytes());
    }
    line("Upgrade", b"websocket");
    line("Connection", b"Upgrade");
    line("Sec-WebSocket-Key", key.as_bytes());
    line("Sec-WebSocket-Version", b"13");
    if !request.subprotocols.is_empty() {
        line("Sec-WebSocket-Protocol", request.subprotocols.join(", ").as_bytes());
    }
    if let Some((user, password)) = &endpoint.credentials {
        if !request.headers.contains_key(header::AUTHORIZATION) {
            let encoded = BASE64.encode(format!("{user}:{password}").as_bytes());
            line("Authorization", format!("Basic {encoded}").as_bytes());
        }
    }
    for (name, value) in &request.headers {
        line(&title_case(name), value.as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// `x-api-key` as `X-Api-Key`: some servers compare the names as they are written.
fn title_case(name: &HeaderName) -> String {
    let mut start = true;
    let upper = |letter: char| {
        let cased = if start { letter.to_ascii_uppercase() } else { letter };
        start = letter == '-';
        cased
    };
    name.as_str().chars().map(upper).collect()
}

fn read_response(stream: &mut impl Read) -> Result<(Response<()>, Vec<u8>), Failure> {
    head::read(stream, parse)
}

/// The response and its length, or `None` if it is not complete.
fn parse(bytes: &[u8]) -> Result<Option<(Response<()>, usize)>, Failure> {
    let mut fields = head::fields();
    let mut parsed = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(length) = parsed.parse(bytes).map_err(not_http)? else {
        return Ok(None);
    };
    let mut response = Response::new(());
    *response.status_mut() =
        StatusCode::from_u16(parsed.code.unwrap_or_default()).map_err(not_http)?;
    if parsed.version != Some(1) && response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(not_http("an upgrade needs version 1.1"));
    }
    *response.headers_mut() = head::headers(parsed.headers)?;
    Ok(Some((response, length)))
}

/// The checks of section 4.1, in its order; an error says which one failed.
fn verify(headers: &HeaderMap, request: &Request, key: &str) -> Result<(), String> {
    if !has_token(headers, &header::UPGRADE, "websocket") {
        return Err("no \"Upgrade: websocket\" in the answer".into());
    }
    if !has_token(headers, &header::CONNECTION, "upgrade") {
        return Err("no \"Connection: Upgrade\" in the answer".into());
    }
    let accept = headers.get(header::SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
    if accept.map(<[u8]>::trim_ascii) != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
        return Err("Sec-WebSocket-Accept does not match the key".into());
    }
    if let Some(extensions) = headers.get(header::SEC_WEBSOCKET_EXTENSIONS) {
        return Err(format!("extension {extensions:?} was not asked for"));
    }
    if let Some(chosen) = headers.get(header::SEC_WEBSOCKET_PROTOCOL) {
        let offered = request.subprotocols.iter().any(|offered| chosen == offered.as_str());
        if !offered {
            return Err(format!("subprotocol {chosen:?} was not asked for"));
        }
    }
    Ok(())
}

/// Seconds or a date (RFC 9110 section 10.2.3); a date in the past is zero.
#[allow(
    clippy::disallowed_methods,
    reason = "asked once, and what comes of it is a length of time"
)]
fn retry_after(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    let delay = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = httpdate::parse_http_date(text).ok()?;
            date.duration_since(SystemTime::now()).unwrap_or_default()
        }
    };
    Some(delay.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::Endpoint;
    use proptest::prelude::*;

    fn request() -> Request {
        let mut request = Request::new(Endpoint::parse("ws://user:pw@host:81/chat?a=1").unwrap());
        request.set_header("x-api-key", "k").unwrap();
        request.add_subprotocol("a").unwrap();
        request.add_subprotocol("b").unwrap();
        request
    }

    #[test]
    fn the_request_says_all_that_it_must() {
        let text = String::from_utf8(encode(&request(), "KEY")).unwrap();
        assert_eq!(
            text,
            "GET /chat?a=1 HTTP/1.1\r\nHost: host:81\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: KEY\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Protocol: a, b\r\nAuthorization: Basic dXNlcjpwdw==\r\n\
             X-Api-Key: k\r\n\r\n"
        );
    }

    fn check(lines: &str) -> Result<(), String> {
        let accept = derive_accept_key(b"KEY");
        let text = format!("HTTP/1.1 101 x\r\n{}\r\n\r\n", lines.replace("ACCEPT", &accept));
        let (response, _) = parse(text.as_bytes()).unwrap().unwrap();
        verify(response.headers(), &request(), "KEY")
    }

    #[test]
    fn the_answer_is_checked_as_the_rfc_says() {
        const GOOD: &str = "Upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
                            Sec-WebSocket-Accept: ACCEPT";
        check(GOOD).unwrap();
        check(&format!("{GOOD}\r\nSec-WebSocket-Protocol: b")).unwrap();
        for (wrong, word) in [
            (GOOD.replace("WebSocket\r", "h2c\r"), "Upgrade: websocket"),
            (GOOD.replace("keep-alive, Upgrade", "close"), "Connection: Upgrade"),
            (GOOD.replace("ACCEPT", "AAAA"), "Sec-WebSocket-Accept"),
            (format!("{GOOD}\r\nSec-WebSocket-Protocol: c"), "subprotocol"),
            (format!("{GOOD}\r\nSec-WebSocket-Extensions: permessage-deflate"), "extension"),
        ] {
            let error = check(&wrong).unwrap_err();
            assert!(error.contains(word), "{error:?} does not say {word:?}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let parse = |text| retry_after(&HeaderValue::from_str(text).unwrap());
        assert_eq!(parse("7"), Some(Duration::from_secs(7)));
        assert_eq!(parse("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(parse("99999999999"), Some(MAX_RETRY_AFTER));
        assert_eq!(parse("soon"), None);
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        let delay = parse(&date).unwrap();
        assert!((98..=100).contains(&delay.as_secs()), "{delay:?}");
    }

    #[test]
    fn endless_headers_are_cut() {
        let mut endless = b"HTTP/1.1 200 OK\r\nX: "[..].chain(std::io::repeat(b'a'));
        let failure = read_response(&mut endless).unwrap_err();
        assert!(matches!(failure, Failure::Handshake(HandshakeError::HeadersTooLarge { .. })));
        let mut many = b"HTTP/1.1 200 OK\r\n".to_vec();
        many.extend(b"X: 1\r\n".repeat(5000));
        let failure = read_response(&mut &many[..]).unwrap_err();
        assert!(matches!(failure, Failure::Handshake(HandshakeError::NotHttp(_))));
    }

    #[test]
    fn another_protocol_is_told_by_its_first_line() {
        let failure = read_response(&mut &b"SSH-2.0-OpenSSH_9.2\r\n"[..]).unwrap_err();
        assert!(matches!(failure, Failure::Handshake(HandshakeError::NotHttp(_))), "{failure:?}");
    }

    proptest! {
        #[test]
        fn arbitrary_answers_are_no_panic(
            start in prop::sample::select(vec!["", "HTTP/1.1 101 x\r\n", "HTTP/1.1 301 x\r\n"]),
            rest in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let bytes = [start.as_bytes(), &rest].concat();
            let _ = read_response(&mut &bytes[..]);
        }
    }
}

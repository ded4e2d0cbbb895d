//! The client's opening handshake (RFC 6455 section 4.1).
//!
//! tungstenite has one too. This one differs where staying connected asks for it: it never logs
//! the request (which carries credentials), it accepts an answer that comes byte by byte, it
//! checks extensions and lists of tokens as the RFC says, and it lets a server decline all
//! subprotocols. Parsing is httparse's, keys are tungstenite's.

use std::time::{Duration, SystemTime};

use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use tungstenite::handshake::client::generate_key;
use tungstenite::handshake::derive_accept_key;

use super::{OpeningRequest, extensions};
use crate::failure::{Body, Failure, HandshakeError, Secrets, quote};
use crate::http1::head::{HeadReader, MAX_SIZE, has_token};
use crate::http1::{line, read_body};
use crate::policy::{AgreedCompression, Compression, MAX_DURATION};
use crate::resume::subprotocol;
use crate::transport::Stream;

/// A handshake that has succeeded.
#[derive(Debug)]
pub(crate) struct Handshake {
    pub(crate) response: Response<()>,
    pub(crate) compression: Option<AgreedCompression>,
    /// Whether the server has agreed on a session.
    pub(crate) has_session: bool,
    /// What was read past the response.
    pub(crate) read: Vec<u8>,
    /// What the server was told, and may say back when it closes.
    pub(crate) secrets: Secrets,
}

/// Shakes hands, and offers compression and a session if there are any.
pub(crate) fn open(
    stream: &mut impl Stream,
    request: &OpeningRequest,
    compression: Option<&Compression>,
    wants_session: bool,
) -> Result<Handshake, Failure> {
    let key = generate_key();
    let secrets = request.secrets();
    let mut reader = HeadReader::new();
    let sent = stream
        .write_all(&encode(request, &key, compression, wants_session))
        .map_err(HandshakeError::Io);
    let head = match (sent, reader.response(stream, &secrets)) {
        (Ok(()), head) => head?,
        // the server may have said why before it hung up
        (Err(_), Ok(head)) if head.status != StatusCode::SWITCHING_PROTOCOLS => head,
        (Err(lost), Err(error)) => {
            let verdict = Failure::from(error);
            return Err(if matches!(verdict, Failure::Tls(_)) { verdict } else { lost.into() });
        }
        (Err(lost), Ok(_)) => return Err(lost.into()),
    };
    let (status, mut headers) = (head.status, head.headers);
    // nobody else sees it
    if status != StatusCode::SWITCHING_PROTOCOLS {
        let retry_after = headers.get(header::RETRY_AFTER).and_then(retry_after);
        let body = if leads_on(status, &headers) {
            Body::default()
        } else {
            read_body(stream, status, &headers, reader.into_rest())
        };
        let headers = Box::new(headers);
        return Err(Failure::Rejected { status, retry_after, waits: retry_after, headers, body });
    }
    if !head.is_http_11 {
        return Err(HandshakeError::not_http("an upgrade needs version 1.1").into());
    }
    let offered = offered(request, wants_session);
    let verified = verify(&headers, &offered, &key, compression);
    let Verified { compression, subprotocol } = verified.map_err(HandshakeError::BadUpgrade)?;
    // the program is shown the name that is its own
    let of_session = subprotocol.as_deref().filter(|_| wants_session).and_then(subprotocol::parse);
    let (has_session, shown) = match of_session {
        Some(name) => (true, name.map(str::to_owned)),
        None => (false, subprotocol),
    };
    let shown = shown.and_then(|name| HeaderValue::from_str(&name).ok());
    // an empty one is none, for whoever asks later
    headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    headers.extend(shown.map(|chosen| (header::SEC_WEBSOCKET_PROTOCOL, chosen)));
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(Handshake { response, compression, has_session, read: reader.into_rest(), secrets })
}

/// Whether it says where to go instead: then nobody reads what else it says.
fn leads_on(status: StatusCode, headers: &HeaderMap) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) && headers.contains_key(header::LOCATION)
}

/// Where the server wants the client to go instead (RFC 9110 section 15.4).
pub(crate) fn location(failure: &Failure) -> Option<&[u8]> {
    let Failure::Rejected { status, headers, .. } = failure else { return None };
    let location = headers.get(header::LOCATION).map(HeaderValue::as_bytes);
    location.filter(|_| leads_on(*status, headers))
}

/// How many bytes more the request may have: a head that is longer is refused by a server of this crate.
pub(crate) fn room(
    request: &OpeningRequest,
    compression: Option<&Compression>,
    wants_session: bool,
) -> usize {
    MAX_SIZE.saturating_sub(encode(request, &generate_key(), compression, wants_session).len())
}

fn encode(
    request: &OpeningRequest,
    key: &str,
    compression: Option<&Compression>,
    wants_session: bool,
) -> Vec<u8> {
    let endpoint = &request.endpoint;
    let mut bytes = format!("GET {} HTTP/1.1\r\n", endpoint.path_and_query()).into_bytes();
    let out = &mut bytes;
    if !request.headers.contains(&header::HOST) {
        line(out, "Host", endpoint.authority().as_bytes());
    }
    line(out, "Upgrade", b"websocket");
    line(out, "Connection", b"Upgrade");
    line(out, "Sec-WebSocket-Key", key.as_bytes());
    line(out, "Sec-WebSocket-Version", b"13");
    let subprotocols = offered(request, wants_session);
    if !subprotocols.is_empty() {
        line(out, "Sec-WebSocket-Protocol", subprotocols.join(", ").as_bytes());
    }
    if let Some(compression) = compression {
        line(out, "Sec-WebSocket-Extensions", extensions::offer(compression).as_bytes());
    }
    if let Some(credentials) = &endpoint.credentials {
        if !request.headers.contains(&header::AUTHORIZATION) {
            line(out, "Authorization", credentials.basic().as_bytes());
        }
    }
    request.headers.write(out);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// The subprotocols that are offered: those of a session first, if one is wanted.
fn offered(request: &OpeningRequest, wants_session: bool) -> Vec<String> {
    let names = || request.subprotocols.iter().map(String::as_str);
    let of_session = names().map(Some).chain([None]).map(subprotocol::of);
    let of_session = of_session.filter(|_| wants_session);
    of_session.chain(names().map(str::to_owned)).collect()
}

/// What was agreed on.
#[derive(Debug)]
struct Verified {
    compression: Option<AgreedCompression>,
    subprotocol: Option<String>,
}

/// The checks of section 4.1, in its order; an error says which one failed.
fn verify(
    headers: &HeaderMap,
    offered: &[String],
    key: &str,
    compression: Option<&Compression>,
) -> Result<Verified, String> {
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
    let compression = extensions::answered(headers, compression).map_err(|error| {
        let mut values = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS).iter();
        if values.any(HeaderValue::is_sensitive) {
            "the extensions repeat what the server was told".into()
        } else {
            error
        }
    })?;
    Ok(Verified { compression, subprotocol: chosen_subprotocol(headers, offered)? })
}

/// The subprotocol that was chosen. An empty header is a list of nothing, which some servers send
/// (Kubernetes) when they choose none.
fn chosen_subprotocol(headers: &HeaderMap, offered: &[String]) -> Result<Option<String>, String> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let is_echo = values.iter().any(HeaderValue::is_sensitive);
    let items = values.iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let chosen: Vec<&[u8]> =
        items.map(<[u8]>::trim_ascii).filter(|item| !item.is_empty()).collect();
    // one by one: a list that repeats ours says nothing that was not offered
    let is_offered = |item: &[u8]| offered.iter().any(|offered| offered.as_bytes() == item);
    if let Some(other) = chosen.iter().find(|item| !is_offered(item)) {
        let name = if is_echo { "\"...\"".into() } else { quote(other) };
        return Err(format!("subprotocol {name} was not asked for"));
    }
    match chosen[..] {
        [] => Ok(None),
        [one] => Ok(std::str::from_utf8(one).ok().map(str::to_owned)),
        _ => Err("more than one subprotocol was chosen".into()),
    }
}

/// Seconds or a date (RFC 9110 section 10.2.3); a date in the past is zero.
#[allow(
    clippy::disallowed_methods,
    reason = "asked once, and what comes of it is a length of time"
)]
fn retry_after(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let delay = if is_number {
        // more than there are numbers for is long, not nothing
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let date = httpdate::parse_http_date(text).ok()?;
        date.duration_since(SystemTime::now()).unwrap_or_default()
    };
    Some(delay.min(MAX_DURATION))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::Endpoint;
    use proptest::prelude::*;
    use std::io::Read;

    fn request() -> OpeningRequest {
        let mut request =
            OpeningRequest::new(Endpoint::parse("ws://user:pw@host:81/chat?a=1").unwrap());
        request.set_header("x-API-key", "k").unwrap();
        request.add_subprotocol("a").unwrap();
        request.add_subprotocol("b").unwrap();
        request
    }

    #[test]
    fn the_request_says_all_that_it_must() {
        let text = String::from_utf8(encode(&request(), "KEY", None, false)).unwrap();
        assert_eq!(
            text,
            "GET /chat?a=1 HTTP/1.1\r\nHost: host:81\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: KEY\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Protocol: a, b\r\nAuthorization: Basic dXNlcjpwdw==\r\n\
             x-API-key: k\r\n\r\n"
        );
    }

    fn check(lines: &str) -> Result<Verified, String> {
        let accept = derive_accept_key(b"KEY");
        let text = format!("HTTP/1.1 101 x\r\n{}\r\n\r\n", lines.replace("ACCEPT", &accept));
        let secrets = request().secrets();
        let head = HeadReader::new().response(&mut text.as_bytes(), &secrets).unwrap();
        verify(&head.headers, &offered(&request(), false), "KEY", None)
    }

    #[test]
    fn the_answer_is_checked_as_the_rfc_says() {
        const GOOD: &str = "Upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
                            Sec-WebSocket-Accept: ACCEPT";
        check(GOOD).unwrap();
        for (lines, chosen) in [
            ("Sec-WebSocket-Protocol: b", Some("b")),
            ("Sec-WebSocket-Protocol:\r\nSec-WebSocket-Extensions: ", None),
            ("Sec-WebSocket-Protocol: ,\t", None),
            ("Sec-WebSocket-Protocol:\r\nSec-WebSocket-Protocol: a", Some("a")),
        ] {
            let verified = check(&format!("{GOOD}\r\n{lines}")).unwrap();
            assert_eq!(verified.subprotocol.as_deref(), chosen, "{lines}");
        }
        for (wrong, word) in [
            (GOOD.replace("WebSocket\r", "h2c\r"), "Upgrade: websocket"),
            (GOOD.replace("keep-alive, Upgrade", "close"), "Connection: Upgrade"),
            (GOOD.replace("ACCEPT", "AAAA"), "Sec-WebSocket-Accept"),
            (format!("{GOOD}\r\nSec-WebSocket-Protocol: c"), "subprotocol"),
            (format!("{GOOD}\r\nSec-WebSocket-Protocol: b, c"), "subprotocol"),
            (
                format!("{GOOD}\r\nSec-WebSocket-Protocol: b\r\nSec-WebSocket-Protocol: c"),
                "subprotocol",
            ),
            (
                format!("{GOOD}\r\nSec-WebSocket-Protocol: b\r\nSec-WebSocket-Protocol: a"),
                "more than one",
            ),
            (format!("{GOOD}\r\nSec-WebSocket-Extensions: permessage-deflate"), "extension"),
        ] {
            let error = check(&wrong).unwrap_err();
            assert!(error.contains(word), "{error:?} does not say {word:?}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let parse = |text: &str| retry_after(&HeaderValue::from_str(text).unwrap());
        assert_eq!(parse("7"), Some(Duration::from_secs(7)));
        assert_eq!(parse("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(parse("99999999999"), Some(MAX_DURATION));
        assert_eq!(parse(&"9".repeat(30)), Some(MAX_DURATION));
        for none in ["soon", "", "-1", "+5", "1.5"] {
            assert_eq!(parse(none), None, "{none:?}");
        }
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        let delay = parse(&date).unwrap();
        assert!((98..=100).contains(&delay.as_secs()), "{delay:?}");
    }

    fn read(stream: &mut impl Read) -> HandshakeError {
        HeadReader::new().response(stream, &Secrets::default()).unwrap_err()
    }

    #[test]
    fn endless_headers_are_cut() {
        let mut endless = b"HTTP/1.1 200 OK\r\nX: "[..].chain(std::io::repeat(b'a'));
        assert!(matches!(read(&mut endless), HandshakeError::HeadersTooLarge { .. }));
        let many = [b"HTTP/1.1 200 OK\r\n".to_vec(), b"X: 1\r\n".repeat(5000), b"\r\n".to_vec()];
        let error = read(&mut many.concat().as_slice());
        assert!(matches!(error, HandshakeError::TooManyHeaders { .. }), "{error:?}");
    }

    #[test]
    fn what_is_quoted_of_an_answer_is_short() {
        for header in ["Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"] {
            let error = check(&format!(
                "Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: ACCEPT\r\n\
                 {header}: {}",
                "x".repeat(60_000)
            ))
            .unwrap_err();
            assert!(error.len() < 300, "{} bytes", error.len());
        }
    }

    proptest! {
        #[test]
        fn arbitrary_answers_are_no_panic(
            start in prop::sample::select(vec!["", "HTTP/1.1 101 x\r\n", "HTTP/1.1 301 x\r\n"]),
            rest in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let bytes = [start.as_bytes(), &rest].concat();
            let _ = HeadReader::new().response(&mut &bytes[..], &request().secrets());
        }
    }
}

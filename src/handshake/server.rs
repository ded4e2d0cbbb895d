//! The server's opening handshake (RFC 6455 section 4.2).

use std::io::{Read, Write};

use data_encoding::BASE64;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, StatusCode, Uri, Version};
use tungstenite::handshake::derive_accept_key;

use crate::failure::{Failure, HandshakeError};
use crate::transport::head::{self, broken, has_token, not_http, tokens};

/// Reads a request; returns it and what was read past it.
pub(crate) fn read_request(stream: &mut impl Read) -> Result<(Request<()>, Vec<u8>), Failure> {
    head::read(stream, parse)
}

fn parse(bytes: &[u8]) -> Result<Option<(Request<()>, usize)>, Failure> {
    let mut fields = head::fields();
    let mut parsed = httparse::Request::new(&mut fields);
    let httparse::Status::Complete(length) = parsed.parse(bytes).map_err(not_http)? else {
        return Ok(None);
    };
    let mut request = Request::new(());
    *request.method_mut() =
        parsed.method.unwrap_or_default().parse::<Method>().map_err(not_http)?;
    *request.uri_mut() = parsed.path.unwrap_or_default().parse::<Uri>().map_err(not_http)?;
    *request.version_mut() =
        if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    *request.headers_mut() = head::headers(parsed.headers)?;
    Ok(Some((request, length)))
}

/// Upgrades the connection, or answers with what is wrong with the request. A subprotocol that
/// the client did not offer is left out.
pub(crate) fn accept(
    stream: &mut impl Write,
    request: &Request<()>,
    subprotocol: Option<&str>,
    headers: &HeaderMap,
) -> Result<(), Failure> {
    let key = match upgrade_key(request) {
        Ok(key) => key,
        Err((status, wrong)) => {
            let mut headers = HeaderMap::new();
            if status == StatusCode::UPGRADE_REQUIRED {
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            respond(stream, status, &headers, wrong.as_bytes())?;
            return Err(Failure::Handshake(HandshakeError::BadUpgrade(wrong.into())));
        }
    };
    let mut response = b"HTTP/1.1 101 Switching Protocols\r\n".to_vec();
    let accept = derive_accept_key(key);
    line(&mut response, "Upgrade", b"websocket");
    line(&mut response, "Connection", b"Upgrade");
    line(&mut response, "Sec-WebSocket-Accept", accept.as_bytes());
    if let Some(chosen) = subprotocol {
        if tokens(request.headers(), &header::SEC_WEBSOCKET_PROTOCOL).any(|name| name == chosen) {
            line(&mut response, "Sec-WebSocket-Protocol", chosen.as_bytes());
        } else {
            log::warn!("subprotocol {chosen:?} was chosen, but the client did not offer it");
        }
    }
    finish(response, headers, b"", stream)
}

/// Answers with something else than an upgrade; the connection is to be ended after it.
pub(crate) fn respond(
    stream: &mut impl Write,
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(), Failure> {
    let mut response = format!("HTTP/1.1 {status}\r\n").into_bytes();
    line(&mut response, "Connection", b"close");
    line(&mut response, "Content-Length", body.len().to_string().as_bytes());
    finish(response, headers, body, stream)
}

fn line(response: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        response.extend_from_slice(part);
    }
}

fn finish(
    mut response: Vec<u8>,
    headers: &HeaderMap,
    body: &[u8],
    stream: &mut impl Write,
) -> Result<(), Failure> {
    for (name, value) in headers {
        line(&mut response, name.as_str(), value.as_bytes());
    }
    response.extend_from_slice(b"\r\n");
    response.extend_from_slice(body);
    stream.write_all(&response).map_err(broken)
}

/// The checks of section 4.2.1; an error is the status and the reason for the client.
fn upgrade_key(request: &Request<()>) -> Result<&[u8], (StatusCode, &'static str)> {
    let headers = request.headers();
    let bad = |wrong| Err((StatusCode::BAD_REQUEST, wrong));
    if request.method() != Method::GET {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "a WebSocket is asked for with GET"));
    }
    if request.version() != Version::HTTP_11 {
        return bad("a WebSocket needs HTTP/1.1");
    }
    if !has_token(headers, &header::UPGRADE, "websocket") {
        return Err((StatusCode::UPGRADE_REQUIRED, "this is a WebSocket endpoint"));
    }
    if !has_token(headers, &header::CONNECTION, "upgrade") {
        return bad("no \"Connection: Upgrade\"");
    }
    if !has_token(headers, &header::SEC_WEBSOCKET_VERSION, "13") {
        return Err((StatusCode::UPGRADE_REQUIRED, "only version 13 is spoken here"));
    }
    let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes) else {
        return bad("no Sec-WebSocket-Key");
    };
    match BASE64.decode(key) {
        Ok(nonce) if nonce.len() == 16 => Ok(key),
        _ => bad("the Sec-WebSocket-Key is not 16 bytes in base64"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "GET /chat HTTP/1.1\r\nHost: h\r\nUpgrade: WebSocket\r\n\
                        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                        Sec-WebSocket-Protocol: a, b\r\n\r\n";

    fn answer(request: &str, subprotocol: Option<&str>) -> String {
        let (request, rest) = read_request(&mut request.as_bytes()).unwrap();
        assert!(rest.is_empty());
        let mut response = Vec::new();
        let _ = accept(&mut response, &request, subprotocol, &HeaderMap::new());
        String::from_utf8(response).unwrap()
    }

    #[test]
    fn the_example_of_the_rfc_is_answered_as_there() {
        let response = answer(GOOD, Some("b"));
        assert_eq!(
            response,
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
             Sec-WebSocket-Protocol: b\r\n\r\n"
        );
        assert!(!answer(GOOD, Some("c")).contains("Protocol:"), "c was not offered");
    }

    #[test]
    fn a_wrong_request_is_answered_with_what_is_wrong() {
        for (from, to, status) in [
            ("GET", "POST", "405"),
            ("HTTP/1.1", "HTTP/1.0", "400"),
            ("Upgrade: WebSocket\r\n", "", "426"),
            ("keep-alive, Upgrade", "close", "400"),
            ("Version: 13", "Version: 8", "426"),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhl", "400"),
        ] {
            let response = answer(&GOOD.replacen(from, to, 1), None);
            assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "{to:?}: {response}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_requests_are_no_panic(
            start in prop::sample::select(vec!["", "GET / HTTP/1.1\r\n", GOOD]),
            rest in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let bytes = [start.as_bytes(), &rest].concat();
            if let Ok((request, _)) = read_request(&mut &bytes[..]) {
                let _ = accept(&mut Vec::new(), &request, None, &HeaderMap::new());
            }
        }
    }
}

//! The server's opening handshake (RFC 6455 section 4.2).

use std::io::{Read, Write};
use std::time::SystemTime;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode, Uri, Version};
use tungstenite::handshake::derive_accept_key;

use super::extensions;
use crate::failure::{Failure, HandshakeError, Secrets};
use crate::http1::head::{self, HeadReader, has_token, is_token, tokens};
use crate::http1::{Headers, line};
use crate::policy::{AgreedCompression, Compression};

/// Reads a request; returns it and what was read past it.
pub(crate) fn read_request(
    stream: &mut impl Read,
) -> Result<(Request<()>, Vec<u8>), HandshakeError> {
    let mut reader = HeadReader::new();
    let request = reader.read(stream, parse)?;
    Ok((request, reader.into_rest()))
}

fn parse(bytes: &[u8]) -> Result<Option<Request<()>>, HandshakeError> {
    let mut fields = head::fields();
    let mut parsed = httparse::Request::new(&mut fields);
    // what was said is not repeated: a path may hold a token
    let protocol = bytes.get(..4).filter(|start| !start.is_ascii()).unwrap_or_default();
    let said = if bytes.starts_with(&[0x16, 3]) { bytes } else { protocol };
    let complete = parsed
        .parse(bytes)
        .map_err(|error| head::wrong(error, "a request", said, &Secrets::default()))?;
    if complete.is_partial() {
        return Ok(None);
    }
    let wrong = HandshakeError::not_http;
    let mut request = Request::new(());
    *request.method_mut() = parsed
        .method
        .unwrap_or_default()
        .parse::<Method>()
        .map_err(|_| wrong("the method is none"))?;
    *request.uri_mut() =
        parsed.path.unwrap_or_default().parse::<Uri>().map_err(|_| wrong("the path is none"))?;
    *request.version_mut() =
        if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    *request.headers_mut() = head::headers(parsed.headers)?;
    Ok(Some(request))
}

/// What to say to a client whose request could not be read, if there is anything to say.
pub(crate) fn complaint(error: &HandshakeError) -> Option<StatusCode> {
    match error {
        HandshakeError::NotHttp(_) => Some(StatusCode::BAD_REQUEST),
        HandshakeError::HeadersTooLarge { .. } | HandshakeError::TooManyHeaders { .. } => {
            Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
        }
        _ => None,
    }
}

/// A request that is not granted: the status, and the reason for the client.
pub(crate) type Wrong = (StatusCode, &'static str);

fn bad<T>(reason: &'static str) -> Result<T, Wrong> {
    Err((StatusCode::BAD_REQUEST, reason))
}

/// The answer that upgrades a connection, and what was agreed on with it.
#[derive(Debug)]
pub(crate) struct Upgrade {
    head: Vec<u8>,
    pub(crate) compression: Option<AgreedCompression>,
}

impl Upgrade {
    /// Answers.
    pub(crate) fn write(&self, stream: &mut impl Write) -> Result<(), Failure> {
        Ok(stream.write_all(&self.head).map_err(HandshakeError::Io)?)
    }
}

/// Upgrades the connection, or says what is wrong with the request. A subprotocol that the client
/// did not offer is left out. The client of a session keeps no compression context.
pub(crate) fn accept(
    request: &Request<()>,
    subprotocol: Option<&str>,
    headers: &Headers,
    compression: Option<&Compression>,
    is_session: bool,
) -> Result<Upgrade, Wrong> {
    let key = upgrade_key(request)?;
    let compression = extensions::choose(request.headers(), compression, is_session)
        .map_err(|reason| (StatusCode::BAD_REQUEST, reason))?;
    let mut response = b"HTTP/1.1 101 Switching Protocols\r\n".to_vec();
    line(&mut response, "Upgrade", b"websocket");
    line(&mut response, "Connection", b"Upgrade");
    line(&mut response, "Sec-WebSocket-Accept", derive_accept_key(key).as_bytes());
    let offered = |name: &&str| {
        tokens(request.headers(), &header::SEC_WEBSOCKET_PROTOCOL).any(|offered| offered == *name)
    };
    if let Some(chosen) = subprotocol.filter(offered) {
        line(&mut response, "Sec-WebSocket-Protocol", chosen.as_bytes());
    }
    if let Some((answer, _)) = &compression {
        line(&mut response, "Sec-WebSocket-Extensions", answer.as_bytes());
    }
    headers.write(&mut response);
    response.extend_from_slice(b"\r\n");
    let compression = compression.map(|(_, agreed)| agreed);
    Ok(Upgrade { head: response, compression })
}

/// Says what is wrong with the request; returns why there is no WebSocket.
pub(crate) fn refuse(
    stream: &mut impl Write,
    request: &Request<()>,
    (status, reason): Wrong,
) -> Failure {
    match respond(stream, request.method(), status, &Headers::default(), reason.as_bytes()) {
        Ok(()) => HandshakeError::BadUpgrade(reason.into()).into(),
        Err(failure) => failure,
    }
}

/// Answers with something else than an upgrade; the connection is to be ended after it.
pub(crate) fn respond(
    stream: &mut impl Write,
    method: &Method,
    status: StatusCode,
    headers: &Headers,
    body: &[u8],
) -> Result<(), Failure> {
    let mut response = format!("HTTP/1.1 {status}\r\n").into_bytes();
    let out = &mut response;
    if !headers.contains(&header::DATE) {
        line(out, "Date", date().as_bytes());
    }
    match status {
        StatusCode::UPGRADE_REQUIRED => {
            line(out, "Connection", b"Upgrade, close");
            line(out, "Upgrade", b"websocket");
            line(out, "Sec-WebSocket-Version", b"13");
        }
        _ => line(out, "Connection", b"close"),
    }
    if status == StatusCode::METHOD_NOT_ALLOWED && !headers.contains(&header::ALLOW) {
        line(out, "Allow", b"GET");
    }
    // RFC 9110 sections 8.6 and 15.4.5
    let has_body = !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if has_body {
        line(out, "Content-Length", body.len().to_string().as_bytes());
    }
    headers.write(out);
    response.extend_from_slice(b"\r\n");
    if has_body && method != Method::HEAD {
        response.extend_from_slice(body);
    }
    Ok(stream.write_all(&response).map_err(HandshakeError::Io)?)
}

#[allow(clippy::disallowed_methods, reason = "it is said to the client, and decides nothing")]
fn date() -> String {
    httpdate::fmt_http_date(SystemTime::now())
}

/// The checks of section 4.2.1.
fn upgrade_key(request: &Request<()>) -> Result<&[u8], Wrong> {
    let headers = request.headers();
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
    // what it announces would be taken for frames
    let has_length = headers.get_all(header::CONTENT_LENGTH).iter().any(|length| length != "0");
    if has_length || headers.contains_key(header::TRANSFER_ENCODING) {
        return bad("a request for a WebSocket has no body");
    }
    match only(headers, &header::SEC_WEBSOCKET_VERSION) {
        Ok(Some(version)) if version.as_bytes().trim_ascii() == b"13" => {}
        Ok(_) => return Err((StatusCode::UPGRADE_REQUIRED, "only version 13 is spoken here")),
        Err(()) => return bad("more than one Sec-WebSocket-Version"),
    }
    if !offers_tokens(headers) {
        return bad("a Sec-WebSocket-Protocol that is no token");
    }
    match only(headers, &header::SEC_WEBSOCKET_KEY) {
        Ok(Some(key)) if is_16_bytes(key.as_bytes().trim_ascii()) => {
            Ok(key.as_bytes().trim_ascii())
        }
        Ok(Some(_)) => bad("the Sec-WebSocket-Key is not 16 bytes in base64"),
        Ok(None) => bad("no Sec-WebSocket-Key"),
        Err(()) => bad("more than one Sec-WebSocket-Key"),
    }
}

/// A header that there must not be two of.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(()),
    }
}

/// Whether every subprotocol that is offered is one (empty items of a list are none at all, RFC
/// 9110 section 5.6.1.2).
fn offers_tokens(headers: &HeaderMap) -> bool {
    headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().all(|value| {
        let Ok(value) = value.to_str() else { return false };
        value.split(',').map(str::trim).all(|item| item.is_empty() || is_token(item))
    })
}

/// Whether it is base64 of 16 bytes. The four bits that are left over in the last letter may be
/// anything: they are in RFC 6455's own example, and in what some clients send.
fn is_16_bytes(key: &[u8]) -> bool {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    key.len() == 24 && key.ends_with(b"==") && key[..22].iter().all(is_base64)
}

#[cfg(test)]
mod tests;

//! Reading the head of an HTTP message from a stream, within bounds.

use std::io::{self, Read};

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::failure::{Failure, HandshakeError};

/// The most that a peer may say before the handshake is over.
const MAX_SIZE: usize = 64 * 1024;
const MAX_HEADERS: usize = 128;

/// Reads until `parse` has found a whole head; returns it and what was read past it. `parse`
/// returns the head and its length, or `None` if there is more to come.
pub(crate) fn read<T>(
    stream: &mut impl Read,
    parse: impl Fn(&[u8]) -> Result<Option<(T, usize)>, Failure>,
) -> Result<(T, Vec<u8>), Failure> {
    let mut bytes = Vec::new();
    // not on the stack: pages that a thread has once touched there stay for as long as it lives
    let mut chunk = vec![0; 4096];
    loop {
        let room = chunk.len().min(MAX_SIZE + 1 - bytes.len());
        let read = stream.read(&mut chunk[..room]).map_err(broken)?;
        if read == 0 {
            return Err(Failure::Handshake(HandshakeError::Eof));
        }
        // a head is only complete with a line: between lines there is nothing new to parse
        let worth_parsing = bytes.is_empty() || chunk[..read].contains(&b'\n');
        bytes.extend_from_slice(&chunk[..read]);
        if worth_parsing {
            if let Some((head, length)) = parse(&bytes)? {
                return Ok((head, bytes.split_off(length)));
            }
        }
        if bytes.len() > MAX_SIZE {
            return Err(Failure::Handshake(HandshakeError::HeadersTooLarge { limit: MAX_SIZE }));
        }
    }
}

pub(crate) fn broken(error: io::Error) -> Failure {
    Failure::Handshake(HandshakeError::Io(error))
}

pub(crate) fn not_http(what: impl ToString) -> Failure {
    Failure::Handshake(HandshakeError::NotHttp(what.to_string()))
}

/// Room for parsed header fields.
pub(crate) fn fields<'a>() -> Vec<httparse::Header<'a>> {
    vec![httparse::EMPTY_HEADER; MAX_HEADERS]
}

/// Moves parsed header fields over.
pub(crate) fn headers(fields: &[httparse::Header<'_>]) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_bytes(field.value);
        match (name, value) {
            (Ok(name), Ok(value)) => headers.append(name, value),
            _ => return Err(not_http(format!("header {:?}", field.name))),
        };
    }
    Ok(headers)
}

/// Whether a comma-separated header holds the token (RFC 9110 section 5.6.1).
pub(crate) fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|item| item.eq_ignore_ascii_case(token))
}

/// The items of a comma-separated header.
pub(crate) fn tokens<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a str> + use<'a> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

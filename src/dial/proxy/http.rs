//! HTTP CONNECT (RFC 9110 section 9.3.6).

use ::http::header::{HeaderMap, PROXY_AUTHENTICATE};

use crate::failure::{ProxyError, Secrets};
use crate::http1::head::{HeadReader, is_token};
use crate::http1::{Credentials, read_body};
use crate::transport::Stream;

/// How many schemes of a 407 are remembered.
const MAX_SCHEMES: usize = 8;

/// Returns what was read past the answer: it is the host's.
pub(super) fn open(
    stream: &mut impl Stream,
    host: &str,
    port: u16,
    credentials: Option<&Credentials>,
) -> Result<Vec<u8>, ProxyError> {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
    let mut secrets = Secrets::default();
    if let Some(credentials) = credentials {
        credentials.keep_secret(&mut secrets);
        request.push_str(&format!("Proxy-Authorization: {}\r\n", credentials.basic()));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes())?;
    let mut reader = HeadReader::new();
    let head = reader.response(stream, &secrets)?;
    let rest = reader.into_rest();
    if head.status.is_success() {
        return Ok(rest);
    }
    let body = read_body(stream, head.status, &head.headers, rest);
    let schemes = schemes(&head.headers).iter().map(|scheme| secrets.clean(scheme)).collect();
    Err(ProxyError::Rejected { status: head.status, reason: head.reason, schemes, body })
}

/// The schemes of the challenges (RFC 9110 section 11.6.1). A list of challenges and the list of
/// one challenge's parameters are separated alike; a parameter is what has an `=` in it.
fn schemes(headers: &HeaderMap) -> Vec<String> {
    let mut schemes: Vec<String> = Vec::new();
    let values = headers.get_all(PROXY_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    for item in values.flat_map(|value| value.split(',')) {
        let item = item.trim();
        let (scheme, parameter) = item.split_once(' ').unwrap_or((item, ""));
        let is_parameter = parameter.trim_start().starts_with('=');
        let is_known = schemes.iter().any(|known| known.eq_ignore_ascii_case(scheme));
        if is_token(scheme) && !is_parameter && !is_known && schemes.len() < MAX_SCHEMES {
            schemes.push(scheme.into());
        }
    }
    schemes
}

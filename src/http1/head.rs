//! Reading the head of an HTTP message from a stream, within bounds.
//!
//! The end of the head is looked for byte by byte, once; only then it is parsed. So a head costs
//! the same whether it comes in one piece or in sixty thousand.

use std::borrow::Cow;
use std::io::Read;

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::failure::{HandshakeError, Secrets, quote};

/// The most that a peer may say before the handshake is over.
pub(crate) const MAX_SIZE: usize = 64 * 1024;
const MAX_HEADERS: usize = 128;

/// How many empty lines may stand before the first line (RFC 9112 section 2.2 asks for one).
const MAX_BLANK_LINES: usize = 4;

/// The status line and headers of a response.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: StatusCode,
    pub(crate) reason: String,
    pub(crate) is_http_11: bool,
    pub(crate) headers: HeaderMap,
}

/// Reads heads from a stream, one after the other, and keeps what was read past them.
#[derive(Debug)]
pub(crate) struct HeadReader {
    bytes: Vec<u8>,
    /// How much may still come: over all heads, since nobody needs many.
    left: usize,
}

impl HeadReader {
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::new(), left: MAX_SIZE }
    }

    /// What was read past the last head.
    pub(crate) fn into_rest(self) -> Vec<u8> {
        self.bytes
    }

    /// Reads until the head is whole. `parse` is asked about the first bytes and the first line,
    /// so that another protocol is known by them, and then about the whole head; it returns
    /// `None` if there is more to come.
    pub(crate) fn read<T>(
        &mut self,
        stream: &mut impl Read,
        parse: impl Fn(&[u8]) -> Result<Option<T>, HandshakeError>,
    ) -> Result<T, HandshakeError> {
        let mut scan = Scan::default();
        // not on the stack: pages that a thread has once touched there stay for as long as it lives
        let mut chunk = vec![0; 4096];
        let mut lines_checked = None;
        loop {
            if let Some(length) = scan.end(&self.bytes)? {
                let rest = self.bytes.split_off(length);
                let head = std::mem::replace(&mut self.bytes, rest);
                let whole = parse(&head)?;
                return whole.ok_or_else(|| HandshakeError::not_http("its headers have no end"));
            }
            let lines = scan.lines.min(1);
            if !self.bytes.is_empty() && lines_checked != Some(lines) {
                lines_checked = Some(lines);
                parse(&self.bytes)?;
            }
            if self.left == 0 {
                return Err(HandshakeError::HeadersTooLarge { limit: MAX_SIZE });
            }
            let room = chunk.len().min(self.left);
            let read = stream.read(&mut chunk[..room]).map_err(HandshakeError::Io)?;
            if read == 0 {
                return Err(HandshakeError::Eof);
            }
            self.left -= read;
            self.bytes.extend_from_slice(&chunk[..read]);
        }
    }

    /// Reads the response that counts: interim ones before it are skipped (RFC 9110 section 15.2).
    /// What the peer was told in confidence is neither quoted of it nor shown by its `Debug`.
    pub(crate) fn response(
        &mut self,
        stream: &mut impl Read,
        secrets: &Secrets,
    ) -> Result<ResponseHead, HandshakeError> {
        loop {
            let head = self.read(stream, |bytes| response(bytes, secrets))?;
            let is_interim =
                head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS;
            if !is_interim {
                return Ok(head);
            }
            log::debug!("skipped an interim response: {}", head.status);
        }
    }
}

/// Looks for the empty line that ends a head, and never at a byte twice.
#[derive(Debug, Default)]
struct Scan {
    at: usize,
    /// Lines that were not empty.
    lines: usize,
    blank_lines: usize,
    is_inside_line: bool,
}

impl Scan {
    /// The length of the head, once all of it is there.
    fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, HandshakeError> {
        while let Some(byte) = bytes.get(self.at) {
            self.at += 1;
            match byte {
                b'\n' if self.is_inside_line => {
                    self.is_inside_line = false;
                    self.lines += 1;
                }
                b'\n' if self.lines > 0 => return Ok(Some(self.at)),
                b'\n' if self.blank_lines == MAX_BLANK_LINES => {
                    return Err(HandshakeError::not_http("it begins with empty lines"));
                }
                b'\n' => self.blank_lines += 1,
                b'\r' => {}
                _ => self.is_inside_line = true,
            }
        }
        Ok(None)
    }
}

/// Takes what other clients take (RFC 9112 section 5 has servers be strict, and clients put up with
/// it): a folded line, a space before a colon; a header whose name is none is passed over.
fn response(bytes: &[u8], secrets: &Secrets) -> Result<Option<ResponseHead>, HandshakeError> {
    let mut fields = fields();
    let mut parsed = httparse::Response::new(&mut fields);
    let mut config = httparse::ParserConfig::default();
    config.allow_obsolete_multiline_headers_in_responses(true);
    config.allow_spaces_after_header_name_in_responses(true);
    config.ignore_invalid_headers_in_responses(true);
    let complete = config
        .parse_response(&mut parsed, bytes)
        .map_err(|error| wrong(error, "the answer", first_line(bytes), secrets))?;
    if complete.is_partial() {
        return Ok(None);
    }
    let code = parsed.code.unwrap_or_default();
    let status = StatusCode::from_u16(code)
        .map_err(|_| HandshakeError::not_http(format!("{code} is no status")))?;
    let mut headers: HeaderMap = parsed.headers.iter().filter_map(header).collect();
    let echoes = headers.values_mut().filter(|value| secrets.are_in(value.as_bytes()));
    echoes.for_each(|value| value.set_sensitive(true));
    Ok(Some(ResponseHead {
        status,
        reason: secrets.clean(parsed.reason.unwrap_or_default().trim()),
        is_http_11: parsed.version == Some(1),
        headers,
    }))
}

fn first_line(bytes: &[u8]) -> &[u8] {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.trim_ascii_end()
}

/// What is wrong with a head; `said` is repeated, so it must be something that may be shown when it
/// is cleaned of the secrets.
pub(crate) fn wrong(
    error: httparse::Error,
    place: &str,
    said: &[u8],
    secrets: &Secrets,
) -> HandshakeError {
    if error == httparse::Error::TooManyHeaders {
        return HandshakeError::TooManyHeaders { limit: MAX_HEADERS };
    }
    match said {
        [0x14..=0x17, 3, ..] => HandshakeError::not_http("it speaks TLS"),
        [0, 0, _, 4, ..] => HandshakeError::not_http("it speaks HTTP/2"),
        [] => HandshakeError::not_http(error),
        _ => HandshakeError::not_http(format!("{error} in {place} {}", secrets.quote(said))),
    }
}

/// Room for parsed header fields.
pub(crate) fn fields<'a>() -> Vec<httparse::Header<'a>> {
    vec![httparse::EMPTY_HEADER; MAX_HEADERS]
}

/// Those whose values nobody is shown: a redirect's target often carries a token, too.
const SECRET: [HeaderName; 5] = [
    header::SET_COOKIE,
    header::COOKIE,
    header::LOCATION,
    header::AUTHORIZATION,
    header::PROXY_AUTHORIZATION,
];

/// The header fields of a request; one that is none is refused.
pub(crate) fn headers(fields: &[httparse::Header<'_>]) -> Result<HeaderMap, HandshakeError> {
    let wrong = |name| HandshakeError::not_http(format!("the header {}", quote(name)));
    fields.iter().map(|field| header(field).ok_or_else(|| wrong(field.name))).collect()
}

fn header(field: &httparse::Header<'_>) -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
    let mut value = HeaderValue::from_bytes(&unfolded(field.value)).ok()?;
    value.set_sensitive(SECRET.contains(&name));
    Some((name, value))
}

/// A folded value is one line, with a space for each fold (RFC 9112 section 5.2).
fn unfolded(value: &[u8]) -> Cow<'_, [u8]> {
    if !value.contains(&b'\n') {
        return value.into();
    }
    let lines: Vec<&[u8]> = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).collect();
    lines.join(&b' ').into()
}

/// Whether a comma-separated header holds the token (RFC 9110 section 5.6.1).
pub(crate) fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|item| item.eq_ignore_ascii_case(token))
}

/// The items of a comma-separated header. Empty ones are none at all (RFC 9110 section 5.6.1.2).
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
        .filter(|item| !item.is_empty())
}

/// Whether it is a token of HTTP (RFC 9110 section 5.6.2).
pub(crate) fn is_token(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::io;

    /// Yields a byte for each read, and counts them.
    struct Dribble<'a>(&'a [u8]);

    impl Read for Dribble<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(buf.len()).min(1);
            buf[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn read(bytes: &[u8]) -> Result<(ResponseHead, Vec<u8>), HandshakeError> {
        let mut reader = HeadReader::new();
        let head = reader.response(&mut &bytes[..], &Secrets::default())?;
        Ok((head, reader.into_rest()))
    }

    #[test]
    fn a_head_is_parsed_three_times_however_it_comes() {
        let many = "X-Header: 1\r\n".repeat(100);
        let text = format!("\r\nHTTP/1.1 200 OK\r\n{many}\r\nrest");
        for is_dribbled in [false, true] {
            let parsed = Cell::new(0);
            let parse = |bytes: &[u8]| {
                parsed.set(parsed.get() + 1);
                response(bytes, &Secrets::default())
            };
            let mut reader = HeadReader::new();
            let head = if is_dribbled {
                reader.read(&mut Dribble(text.as_bytes()), parse)
            } else {
                reader.read(&mut text.as_bytes(), parse)
            };
            assert_eq!(head.unwrap().headers.len(), 100);
            assert!(parsed.get() <= 3, "parsed {} times", parsed.get());
        }
    }

    #[test]
    fn empty_items_of_a_list_are_none() {
        let mut headers = HeaderMap::new();
        for value in ["v2,", ",, v1 , ,", "", " "] {
            headers.append("X-List", value.parse().unwrap());
        }
        let name = HeaderName::from_static("x-list");
        assert_eq!(tokens(&headers, &name).collect::<Vec<_>>(), ["v2", "v1"]);
    }

    #[test]
    fn a_few_empty_lines_are_skipped_and_many_are_refused() {
        let head = "HTTP/1.1 204 No\r\n\r\n";
        read(format!("\r\n\n{head}").as_bytes()).unwrap();
        let endless = "\n".repeat(65_000) + head;
        assert!(matches!(read(endless.as_bytes()), Err(HandshakeError::NotHttp(_))));
    }

    #[test]
    fn interim_responses_are_skipped() {
        let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
                       HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
        let text = format!("{interim}HTTP/1.1 101 Switching\r\nA: b\r\n\r\nrest");
        let (head, rest) = read(text.as_bytes()).unwrap();
        assert_eq!((head.status.as_u16(), rest.as_slice()), (101, &b"rest"[..]));
        // but not without end
        let endless = "HTTP/1.1 100 Continue\r\n\r\n".repeat(4000);
        assert!(matches!(
            read(endless.as_bytes()),
            Err(HandshakeError::HeadersTooLarge { limit: MAX_SIZE })
        ));
    }

    #[test]
    fn what_other_clients_take_in_an_answer_is_taken() {
        let text = "HTTP/1.1 101 x\r\nServer : a\r\nX-B\t: b\r\nno header\r\nX C: c\r\n\u{e9}: d\r\n\
                    : e\r\nX-F: f\r\n\r\nrest";
        let (head, rest) = read(text.as_bytes()).unwrap();
        let headers: Vec<_> = head.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((headers, rest.as_slice()), (vec!["server", "x-b", "x-f"], &b"rest"[..]));
        assert_eq!(
            (&head.headers["server"], &head.headers["x-f"]),
            (&"a".parse().unwrap(), &"f".parse().unwrap())
        );
    }

    #[test]
    fn a_folded_line_is_one_line() {
        let text = "HTTP/1.1 101 x\r\nUpgrade:\r\n websocket\r\nX: a\r\n\t b\n  c\r\n\r\n";
        let (head, _) = read(text.as_bytes()).unwrap();
        assert_eq!(head.headers["upgrade"].to_str().unwrap().trim(), "websocket");
        assert_eq!(head.headers["x"], "a b c");
    }

    #[test]
    fn another_protocol_is_named_by_its_first_bytes() {
        for (bytes, word) in [
            (&b"SSH-2.0-OpenSSH_9.2\r\n"[..], "SSH-2.0-OpenSSH_9.2"),
            (&[0x15, 3, 3, 0, 2, 2, 40], "TLS"),
            (&[0, 0, 18, 4, 0, 0, 0, 0, 0, 0], "HTTP/2"),
        ] {
            let Err(HandshakeError::NotHttp(text)) = read(bytes) else { panic!("{bytes:?}") };
            assert!(text.contains(word), "{text}");
        }
        let long = [b"SSH-".repeat(10_000), b"\r\n".to_vec()].concat();
        let Err(error) = read(&long) else { panic!("accepted") };
        assert!(error.to_string().len() < 400, "{error}");
    }

    #[test]
    fn values_that_are_secrets_are_not_shown() {
        let text = "HTTP/1.1 302 x\r\nSet-Cookie: id=hunter2\r\nLocation: /x?t=hunter2\r\n\r\n";
        let (head, _) = read(text.as_bytes()).unwrap();
        assert!(!format!("{head:?}").contains("hunter2"), "{head:?}");
    }
}

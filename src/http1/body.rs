//! The beginning of the body of an HTTP response, for people to read.

use std::time::Duration;

use http::StatusCode;
use http::header::{self, HeaderMap};

use super::head::has_token;
use crate::failure::Body;
use crate::transport::Stream;

/// What the framing of chunks may add to a body of which nothing more is wanted.
const MAX_RAW: usize = 2 * Body::LIMIT;

/// How a body ends (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyFraming {
    None,
    Length(usize),
    Chunked,
    EndOfStream,
}

impl BodyFraming {
    fn of(status: StatusCode, headers: &HeaderMap) -> Self {
        if status.is_informational() || matches!(status.as_u16(), 204 | 304) {
            return Self::None;
        }
        if has_token(headers, &header::TRANSFER_ENCODING, "chunked") {
            return Self::Chunked;
        }
        let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        match length.map(|text| text.trim().parse()) {
            Some(Ok(length)) => Self::Length(length),
            _ => Self::EndOfStream,
        }
    }

    /// Whether nothing that is still to come would be kept.
    fn is_done(self, raw: &[u8]) -> bool {
        match self {
            Self::None => true,
            Self::Length(length) => raw.len() >= length.min(Body::LIMIT),
            Self::Chunked => {
                let (body, is_whole) = unchunk(raw);
                is_whole || body.len() >= Body::LIMIT || raw.len() >= MAX_RAW
            }
            Self::EndOfStream => raw.len() >= Body::LIMIT,
        }
    }

    fn cut(self, mut raw: Vec<u8>) -> Vec<u8> {
        let length = match self {
            Self::None => 0,
            Self::Length(length) => length,
            Self::Chunked => {
                raw = unchunk(&raw).0;
                usize::MAX
            }
            Self::EndOfStream => usize::MAX,
        };
        raw.truncate(length.min(Body::LIMIT));
        raw.shrink_to_fit();
        raw
    }
}

/// How long a peer that has refused may take to say more about it.
const PATIENCE: Duration = Duration::from_millis(500);

/// Reads on until the beginning of the body is there. An error, or the end of the stream, is the
/// end of what there is to know. Nothing else can be done with the stream after this.
pub(crate) fn read(
    stream: &mut impl Stream,
    status: StatusCode,
    headers: &HeaderMap,
    mut raw: Vec<u8>,
) -> Body {
    let framing = BodyFraming::of(status, headers);
    stream.hurry(PATIENCE);
    let mut chunk = [0; 1024];
    while !framing.is_done(&raw) {
        match stream.read(&mut chunk) {
            Ok(count @ 1..) => raw.extend_from_slice(&chunk[..count]),
            Ok(0) | Err(_) => break,
        }
    }
    Body::new(framing.cut(raw))
}

/// The content of as many chunks as there are (RFC 9112 section 7.1), and whether the last is
/// among them.
fn unchunk(mut raw: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Ok(httparse::Status::Complete((start, size))) = httparse::parse_chunk_size(raw) {
        if size == 0 {
            return (body, true);
        }
        let content = raw.get(start..).unwrap_or_default();
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        body.extend_from_slice(&content[..size.min(content.len())]);
        // behind each chunk there is the end of a line
        let Some(next) = size.checked_add(2).and_then(|end| content.get(end..)) else { break };
        raw = next;
    }
    (body, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{self, Read, Write};

    struct Script<'a>(&'a [u8]);

    impl Read for Script<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.0.read(buf)
        }
    }

    impl Write for Script<'_> {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            Ok(buf.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Stream for Script<'_> {
        fn hurry(&mut self, _: Duration) {}
    }

    fn body(headers: &[(&str, &str)], raw: &[u8]) -> (Body, usize) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(name.parse::<header::HeaderName>().unwrap(), value.parse().unwrap());
        }
        let mut script = Script(raw);
        let body = read(&mut script, StatusCode::FORBIDDEN, &map, Vec::new());
        (body, script.0.len())
    }

    #[test]
    fn a_body_ends_as_its_headers_say() {
        assert_eq!(body(&[("content-length", "5")], b"hello").0.as_bytes(), b"hello");
        assert_eq!(body(&[("content-length", "5")], b"hello, more").0.as_bytes(), b"hello");
        assert_eq!(body(&[("content-length", "9")], b"hel").0.as_bytes(), b"hel");
        assert_eq!(body(&[], b"to the end").0.as_bytes(), b"to the end");
        let chunked = b"5;x=y\r\nhello\r\n2\r\n, \r\n3\r\nyou\r\n0\r\n\r\n";
        assert_eq!(body(&[("transfer-encoding", "chunked")], chunked).0.as_bytes(), b"hello, you");
        let cut = b"5\r\nhello\r\nff\r\nwor";
        assert_eq!(body(&[("transfer-encoding", "chunked")], cut).0.as_bytes(), b"hellowor");
        let none = read(&mut Script(b"x"), StatusCode::NO_CONTENT, &HeaderMap::new(), Vec::new());
        assert!(none.is_empty());
    }

    #[test]
    fn no_more_than_4_kib_is_kept_and_little_more_is_read() {
        let endless = vec![b'x'; 1 << 20];
        for headers in [&[][..], &[("content-length", "1048576")]] {
            let (body, left) = body(headers, &endless);
            assert_eq!(body.len(), 4096);
            assert!((1 << 20) - left <= 8192);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_chunks_are_no_panic(raw in prop::collection::vec(any::<u8>(), 0..200),
                                         text in "[0-9a-fA-F]{0,18}(\r\n)?.{0,20}") {
            unchunk(&raw);
            unchunk(text.as_bytes());
        }
    }
}

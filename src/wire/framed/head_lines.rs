//! Header lines before a message, of which one says how long it is.

use crate::failure::quote;

const CONTENT_LENGTH: &str = "Content-Length";

/// How many bytes, and how many lines, the headers of a message may be.
pub(super) const MOST: usize = 8 * 1024;
const MOST_LINES: usize = 16;

/// How long the headers are with the empty line behind them, and the message; `None` if they are not
/// there yet.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(usize, u64)>, String> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_LINES];
    let shown = &bytes[..bytes.len().min(MOST)];
    let (size, headers) = match httparse::parse_headers(shown, &mut headers) {
        Ok(httparse::Status::Complete(parsed)) => parsed,
        Ok(httparse::Status::Partial) if bytes.len() >= MOST => {
            return Err(format!("header lines of more than {MOST} bytes"));
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(format!("not the header lines of a message: {error}")),
    };
    let is_length =
        |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case(CONTENT_LENGTH);
    let mut lengths = headers.iter().filter(is_length).map(|header| header.value);
    let (Some(length), None) = (lengths.next(), lengths.next()) else {
        return Err("the header lines of a message have not one Content-Length".into());
    };
    let digits = std::str::from_utf8(length).ok();
    let digits = digits.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.and_then(|digits| digits.parse().ok()) {
        Some(length) => Ok(Some((size, length))),
        None => Err(format!("a Content-Length of {}", quote(length))),
    }
}

/// The headers of a message of this length.
pub(super) fn of(length: usize) -> String {
    format!("{CONTENT_LENGTH}: {length}\r\n\r\n")
}

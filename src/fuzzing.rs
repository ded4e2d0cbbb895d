//! Everything that takes bytes from outside, as functions of bytes: for the fuzz targets in
//! `tests/fuzz`, and for property tests of the same. None may panic, and none may hold more than
//! its limits allow.

use std::io::{self, Read, Write};
use std::time::Duration;

use tungstenite::protocol::Role;

use crate::dial::Proxy;
use crate::failure::Failure;
use crate::handshake;
use crate::handshake::{Gate, OpeningRequest};
use crate::http1::{Endpoint, Headers, Jar};
use crate::message::Message;
use crate::policy::{CodecError, Framing, LengthField, MaxSizes, Packet, Prefix};
use crate::transport::{ReadBuffer, Stream};
use crate::wire::{Decoder, Encoder, Item, Output, Protocol};

const LIMITS: MaxSizes = MaxSizes { message: 1000, frame: 500 };

/// Yields the bytes in small pieces, then the end; takes whatever is written.
#[derive(Clone)]
struct Peer<'a> {
    bytes: &'a [u8],
    piece: usize,
}

impl Read for Peer<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.piece.min(buf.len()).min(self.bytes.len());
        buf[..count].copy_from_slice(&self.bytes[..count]);
        self.bytes = &self.bytes[count..];
        Ok(count)
    }
}

impl Write for Peer<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Peer<'_> {
    fn hurry(&mut self, _: Duration) {}
}

/// A peer for all but the first byte, which says how large its pieces are, and that byte.
fn peer(bytes: &[u8]) -> (u8, Peer<'_>) {
    let (first, bytes) = bytes.split_first().unwrap_or((&0, &[]));
    (*first, Peer { bytes, piece: usize::from(*first / 8) + 1 })
}

fn halves(protocol: &Protocol, limits: MaxSizes) -> (Decoder, Encoder) {
    protocol.halves(limits).expect("the codecs here do not panic when they are made")
}

fn decode(protocol: Protocol, mut peer: Peer<'_>) {
    let mut left = peer.bytes.len();
    let (mut decoder, mut buffer) = (halves(&protocol, LIMITS).0, ReadBuffer::default());
    loop {
        match decoder.decode(&mut buffer) {
            Ok(Some(Item::Message(message))) => {
                assert!(message.len() <= LIMITS.message);
                left = left.checked_sub(message.len()).expect("more came out than went in");
                continue;
            }
            Ok(Some(_)) => continue,
            Ok(None) => {}
            Err(_) => return,
        }
        match peer.read(buffer.space()) {
            Ok(0) | Err(_) => return,
            Ok(count) => buffer.filled(count),
        }
    }
}

/// The reading side of a WebSocket, as client or as server.
pub fn websocket(bytes: &[u8]) {
    let (first, peer) = peer(bytes);
    let role = if first % 2 == 0 { Role::Client } else { Role::Server };
    decode(Protocol::WebSocket(role), peer);
}

/// The reading side of a WebSocket whose messages may be compressed; the bytes compressed and
/// inflated again, as two messages; and the same bytes as what a peer says about
/// extensions.
#[cfg(feature = "deflate")]
pub fn deflate(bytes: &[u8]) {
    use crate::policy::{AgreedCompression, Compression};

    let (first, mut peer) = peer(bytes);
    let agreed = AgreedCompression {
        send_takeover: first % 2 == 0,
        receive_takeover: first % 2 == 0,
        send_window_bits: 9 + first % 7,
        receive_window_bits: 9 + first % 7,
    };
    let (mut decoder, mut buffer) =
        (halves(&Protocol::WebSocket(Role::Client), LIMITS).0, ReadBuffer::default());
    decoder.compressed(agreed);
    loop {
        match decoder.decode(&mut buffer) {
            Ok(Some(Item::Message(message))) => assert!(message.len() <= LIMITS.message),
            Ok(Some(_)) => {}
            Ok(None) => match peer.read(buffer.space()) {
                Ok(0) | Err(_) => break,
                Ok(count) => buffer.filled(count),
            },
            Err(_) => break,
        }
    }

    let limits = MaxSizes { message: usize::MAX, frame: usize::MAX };
    let (_, mut encoder) = halves(&Protocol::WebSocket(Role::Server), limits);
    encoder.compressed(agreed, Compression::new().threshold(0).level(1 + u32::from(first % 9)));
    let (mut decoder, _) = halves(&Protocol::WebSocket(Role::Client), limits);
    decoder.compressed(agreed);
    for part in bytes.chunks(bytes.len() / 2 + 1) {
        let (message, mut out) = (Message::from(part), Output::new());
        encoder.message(&message, None, &mut out).expect("no codec refuses it");
        let mut buffer = ReadBuffer::new(out.take_all());
        match decoder.decode(&mut buffer) {
            Ok(Some(Item::Message(inflated))) => assert_eq!(inflated.as_bytes(), part),
            other => panic!("{other:?}"),
        }
    }

    if let Ok(value) = http::HeaderValue::from_bytes(bytes) {
        let mut headers = http::HeaderMap::new();
        headers.insert(http::header::SEC_WEBSOCKET_EXTENSIONS, value);
        let compression = Compression::new();
        let _ = handshake::answered(&headers, Some(&compression));
        let _ = handshake::choose(&headers, Some(&compression), bytes.len() % 2 == 0);
    }
}

/// The reading side of each framing, the second byte says which: on TCP, and in the messages of a WebSocket
/// (with the frames as the first bytes say). What can be sent comes out as it went in.
pub fn framed(bytes: &[u8]) {
    let ((first, mut peer), second) = (peer(bytes), bytes.get(1).copied().unwrap_or(0));
    peer.bytes = bytes.get(2..).unwrap_or(&[]);
    let width = [Prefix::U8, Prefix::U16, Prefix::U24, Prefix::U32, Prefix::U64, Prefix::Varint];
    let field = LengthField::new(width[usize::from(first) % width.len()]);
    let adjusted = field.offset(usize::from(first % 5)).adjustment(i64::from(first % 7) - 3);
    let framing = match second % 14 {
        0 => Framing::lines(),
        1 => Framing::raw(),
        2 => Framing::length_field(field.little_endian()),
        3 => Framing::length_field(field.inclusive()).text(),
        4 => Framing::length_field(field),
        5 => Framing::length_field(adjusted),
        6 => Framing::length_field(adjusted.strip(0)),
        7 => Framing::length_field(adjusted.strip(usize::from(first % 11)).inclusive()),
        8 => Framing::delimited(
            bytes.iter().take(usize::from(first % 4)).copied().collect::<Vec<u8>>(),
        ),
        9 => Framing::lines().keep_delimiter(),
        10 => Framing::fixed(usize::from(first % 50) + 1),
        11 => Framing::content_length(),
        // both say what they are told, lies too
        12 => Framing::packets(|bytes| Ok(bytes.first().map(|length| usize::from(*length)))),
        _ => Framing::custom(|| (said, |_: &Message, _: &mut Vec<u8>| Ok(()))),
    };
    if framing.check_options(200).is_err() {
        return;
    }
    let framing = framing.max_length(200);
    let limits = MaxSizes { message: usize::MAX, frame: usize::MAX };
    let message = Message::from(peer.bytes);
    let is_sendable = second % 14 < 12 && second % 14 != 1 && framing.check(&message).is_ok();
    if is_sendable && message.len() <= framing.limit() {
        let (mut decoder, mut encoder) = halves(&Protocol::Framed(framing.clone()), limits);
        let mut out = Output::new();
        encoder.message(&message, None, &mut out).expect("no codec refuses it");
        let mut buffer = ReadBuffer::new(out.take_all());
        match decoder.decode(&mut buffer) {
            Ok(Some(Item::Message(came))) => {
                let sent = message.as_bytes();
                let ends_lines = second % 14 == 0 && sent.ends_with(b"\r");
                assert_eq!(came.as_bytes(), &sent[..sent.len() - usize::from(ends_lines)]);
            }
            other => panic!("{other:?}"),
        }
        assert!(buffer.unread().is_empty());
    }
    let again = peer.clone();
    decode(Protocol::Framed(framing.clone()), peer);
    if framing.keeps_boundaries() {
        decode(Protocol::websocket(Role::Client, Some(framing)), again);
    }
}

/// A packet of which the first bytes say everything.
fn said(bytes: &[u8]) -> Result<Option<Packet>, CodecError> {
    let Some([what, length, start, end]) = bytes.first_chunk() else { return Ok(None) };
    let packet = Packet::new(usize::from(*length));
    let range = usize::from(*start)..usize::from(*end);
    match what % 6 {
        0 => Err("no packet".into()),
        1 => Ok(Some(packet.skipped())),
        2 => Ok(Some(packet.message(&bytes[1..3]))),
        3 => Ok(Some(packet.payload(range).text())),
        _ => Ok(Some(packet)),
    }
}

/// What a server says to the opening handshake.
pub fn response(bytes: &[u8]) {
    let (_, mut peer) = peer(bytes);
    let request = OpeningRequest::new(Endpoint::parse("ws://localhost/").expect("a url"));
    let opened = handshake::open(&mut peer, &request, None, true);
    // nobody guesses the key
    assert!(matches!(opened, Err(Failure::Handshake(_) | Failure::Rejected { .. })));
}

/// What a client says to a server.
pub fn request(bytes: &[u8]) {
    let (_, mut peer) = peer(bytes);
    if let Ok((request, _)) = handshake::read_request(&mut peer) {
        if Gate::default().check(&request).is_ok() {
            let headers = Headers::default();
            match handshake::accept(&request, Some("chat"), &headers, None, false) {
                Ok(upgrade) => drop(upgrade.write(&mut peer)),
                Err(wrong) => drop(handshake::refuse(&mut peer, &request, wrong)),
            }
        }
    }
}

/// What is said about a session: what is understood is written, and understood as the same.
pub fn session(bytes: &[u8]) {
    use crate::resume::subprotocol;
    use crate::resume::{Answer, Note, Offer};

    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(offer) = Offer::parse(text) {
        assert_eq!(Offer::parse(&offer.to_string()), Some(offer));
    }
    if let Some(answer) = Answer::parse(text) {
        assert_eq!(Answer::parse(&answer.to_string()), Some(answer));
    }
    if let Some(note) = Note::parse(text) {
        assert_eq!(Note::parse(&note.to_string()), Some(note));
    }
    if let Some(name) = subprotocol::parse(text) {
        assert_eq!(subprotocol::of(name), text);
    }
}

/// What an HTTP or a SOCKS5 proxy answers.
pub fn proxy(bytes: &[u8]) {
    let (first, mut peer) = peer(bytes);
    let url = if first % 2 == 0 { "http://u:p@localhost" } else { "socks5://u:p@localhost" };
    let proxy = Proxy::new(url).expect("a url");
    let _ = proxy.open(&mut peer, "example.org", 80);
}

/// URLs, of endpoints and proxies, and where a redirect leads: whatever is accepted cannot end
/// a line of the request.
pub fn url(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let home = Endpoint::parse("ws://user:word@localhost:1/a?b").expect("a url");
    let endpoints = [Endpoint::parse(text), home.join(text.as_bytes())];
    for endpoint in endpoints.into_iter().flatten() {
        let line = format!("{} {}", endpoint.authority(), endpoint.path_and_query());
        assert!(!line.contains(['\r', '\n']) && line.split(' ').count() == 2, "{line:?}");
        let shown = endpoint.to_string();
        assert!(!shown.contains("word") || text.contains("word"), "{shown:?}");
    }
    let _ = Proxy::new(text);
}

/// Names and values of headers: what is accepted cannot add another. The same as a cookie.
pub fn header(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (name, value) = text.split_once(':').unwrap_or((text, text));
    let mut request = OpeningRequest::new(Endpoint::parse("ws://localhost/").expect("a url"));
    if request.set_header(name, value).is_ok() {
        assert!(!name.contains(['\r', '\n']) && !value.contains(['\r', '\n']), "{text:?}");
    }
    let _ = Message::from(text);
    let mut answer = http::HeaderMap::new();
    if let Ok(cookie) = http::HeaderValue::from_bytes(bytes) {
        let mut jar = Jar::default();
        answer.append(http::header::SET_COOKIE, cookie);
        jar.store(&request.endpoint, &answer);
        let _ = jar.header(&request.endpoint, &request.headers, 1000);
    }
}

/// What a reverse proxy says of a client: a PROXY header, which no cut makes another one, and the
/// headers of a request. Whoever is not trusted names nobody.
pub fn client(bytes: &[u8]) {
    use crate::server::{ForwardedHeader, networks::Networks, proxy_protocol};

    if let Ok(Some((client, length))) = proxy_protocol::parse(bytes) {
        assert_eq!(proxy_protocol::parse(&bytes[..length]), Ok(Some((client, length))));
        for cut in 0..length {
            assert_eq!(proxy_protocol::parse(&bytes[..cut]), Ok(None));
        }
    }
    let trusted = Networks::parse(&["10.0.0.0/8".into()]).expect("a network");
    let (near, far) = ("10.0.0.1:1", "192.0.2.1:1");
    let [near, far] = [near, far].map(|address| address.parse().expect("an address"));
    let proxys_own = b", for=203.0.113.9";
    for (header, name, own) in [
        (ForwardedHeader::Forwarded, "forwarded", &proxys_own[..]),
        (ForwardedHeader::XForwardedFor, "x-forwarded-for", b", 203.0.113.9"),
    ] {
        let mut headers = http::HeaderMap::new();
        let Ok(value) = http::HeaderValue::from_bytes(bytes) else { continue };
        headers.insert(name, value);
        let _ = header.client(&headers, &trusted, Some(near));
        assert_eq!(header.client(&headers, &trusted, Some(far)), Some(far));
        let Ok(value) = http::HeaderValue::from_bytes(&[bytes, own].concat()) else { continue };
        headers.insert(name, value);
        let client = header.client(&headers, &trusted, Some(near)).map(|client| client.to_string());
        assert_eq!(client.as_deref(), Some("203.0.113.9:0"), "{bytes:?}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    fn arbitrary() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..400)
    }

    /// Bytes that look like something: pieces of what the parsers know.
    fn plausible() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            any::<u8>().prop_map(|byte| vec![byte]),
            prop::sample::select(
                &[
                    "HTTP/1.1 ",
                    "101 ",
                    "200 OK",
                    "\r\n",
                    "GET / ",
                    "Upgrade: websocket",
                    "Connection: ",
                    "Sec-WebSocket-Key: ",
                    "Retry-After: ",
                    "Location: ",
                    "ws://",
                    "wss://",
                    "@",
                    ":",
                    "/",
                    "?",
                    "[::1]",
                    "\u{5}\0",
                    "\u{5}\u{2}",
                    "\u{1}\0",
                    "\u{81}",
                    "\n",
                    "PROXY ",
                    "TCP4 ",
                    "192.0.2.1 ",
                    "80 ",
                    "80\r\n",
                    "\r\n\r\n\0\r\nQUIT\n",
                    "\u{21}\u{11}\0\u{c}",
                    "for=",
                    "192.0.2.1",
                    "\"",
                    ",",
                    ";",
                    "\\",
                ][..]
            )
            .prop_map(|text| text.as_bytes().to_vec()),
        ];
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    /// What nearly fits the grammar of sessions.
    const SESSION: &str = "(s new|s [a-z]{22}( attempt=[0-9]{1,16})?( received=[0-9]{1,16})?\
        ( has=[0-9]{1,16})?|[rg] [0-9]{0,16}|e [1-4][0-9]{3}( .{0,3})?|everlink\\.1|a)\
        ( [a-z]{0,2}=?[0-9]{0,2}|\\..?|.)?";

    proptest! {
        #[test]
        fn text_about_a_session_is_no_panic(text in prop_oneof![SESSION, ".{0,100}"]) {
            super::session(text.as_bytes());
        }

        #[test]
        fn bytes_from_outside_are_no_panic(bytes in prop_oneof![arbitrary(), plausible()]) {
            super::websocket(&bytes);
            #[cfg(feature = "deflate")]
            super::deflate(&bytes);
            super::framed(&bytes);
            super::response(&bytes);
            super::request(&bytes);
            super::proxy(&bytes);
            super::url(&bytes);
            super::header(&bytes);
            super::client(&bytes);
        }
    }
}

//! From bytes to messages.

use std::io::Read;

use tungstenite::{Bytes, Utf8Bytes};

use crate::failure::Failure;
use crate::message::{CloseCode, Message};
use crate::policy::Limits;
use crate::policy::{Framing, FramingKind as Kind, LengthPrefix};

/// How much is read from the socket at once.
const READ_BUFFER: usize = 16 * 1024;

/// The reading side of a framed stream. Its buffer holds at most one unfinished message and one
/// read: it grows with what has come, never with what was announced.
#[derive(Debug)]
pub(crate) struct Decoder {
    kind: Kind,
    limit: usize,
    buffer: Vec<u8>,
    /// Bytes before this were decoded.
    start: usize,
    /// Bytes before this hold no end of a line.
    searched: usize,
}

impl Decoder {
    pub(crate) fn new(framing: Framing, read: Vec<u8>, limits: Limits) -> Self {
        let limit = framing.max_length.min(limits.message);
        Self { kind: framing.kind, limit, buffer: read, start: 0, searched: 0 }
    }

    /// Reads until there is a message.
    pub(crate) fn next(&mut self, stream: &mut dyn Read) -> Result<Message, Failure> {
        loop {
            if let Some(message) = self.decode()? {
                return Ok(message);
            }
            self.compact();
            let filled = self.buffer.len();
            self.buffer.resize(filled + READ_BUFFER, 0);
            let result = stream.read(&mut self.buffer[filled..]);
            self.buffer.truncate(filled + result.as_ref().copied().unwrap_or(0));
            if result? == 0 {
                return Err(Failure::EndOfStream { inside_message: !self.buffer.is_empty() });
            }
        }
    }

    /// Drops what was decoded, and the room that a large message took.
    fn compact(&mut self) {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        if self.buffer.is_empty() && self.buffer.capacity() > 4 * READ_BUFFER {
            self.buffer = Vec::new();
        }
    }

    fn take(&mut self, skip: usize, length: usize, after: usize) -> Bytes {
        let from = self.start + skip;
        let bytes = Bytes::copy_from_slice(&self.buffer[from..from + length]);
        self.start = from + length + after;
        self.searched = self.searched.max(self.start);
        bytes
    }

    fn decode(&mut self) -> Result<Option<Message>, Failure> {
        let rest = &self.buffer[self.start..];
        match self.kind {
            Kind::Raw if rest.is_empty() => Ok(None),
            Kind::Raw => {
                let length = rest.len().min(self.limit);
                Ok(Some(Message::Binary(self.take(0, length, 0))))
            }
            Kind::Lines => self.decode_line(),
            Kind::Length(prefix) => {
                let Some(length) = prefix.decode(rest)? else { return Ok(None) };
                if length > self.limit as u64 {
                    return Err(too_long(&format!("{length} bytes are announced"), self.limit));
                }
                let length = length as usize;
                if rest.len() - prefix.size < length {
                    return Ok(None);
                }
                Ok(Some(Message::Binary(self.take(prefix.size, length, 0))))
            }
        }
    }

    fn decode_line(&mut self) -> Result<Option<Message>, Failure> {
        let found = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
        let Some(found) = found else {
            self.searched = self.buffer.len();
            // a carriage return may still turn out to be part of the end
            if self.buffer.len() - self.start > self.limit + 1 {
                return Err(too_long("a line has no end", self.limit));
            }
            return Ok(None);
        };
        let line = &self.buffer[self.start..self.searched + found];
        let ending = if line.ends_with(b"\r") { 2 } else { 1 };
        let length = line.len() + 1 - ending;
        if length > self.limit {
            return Err(too_long(&format!("a line has {length} bytes"), self.limit));
        }
        Utf8Bytes::try_from(self.take(0, length, ending))
            .map(|text| Some(Message::Text(text)))
            .map_err(|_| violation(CloseCode::INVALID_PAYLOAD, "a line that is not UTF-8"))
    }
}

impl LengthPrefix {
    /// The length of the payload, or `None` if the prefix is not complete.
    fn decode(self, bytes: &[u8]) -> Result<Option<u64>, Failure> {
        let Some(prefix) = bytes.get(..self.size) else { return Ok(None) };
        let shift = |length: u64, byte: &u8| length << 8 | u64::from(*byte);
        let length = if self.little_endian {
            prefix.iter().rev().fold(0, shift)
        } else {
            prefix.iter().fold(0, shift)
        };
        if !self.inclusive {
            return Ok(Some(length));
        }
        match length.checked_sub(self.size as u64) {
            Some(length) => Ok(Some(length)),
            None => {
                let reason = format!("a length of {length} does not even hold itself");
                Err(violation(CloseCode::PROTOCOL_ERROR, &reason))
            }
        }
    }
}

fn violation(code: CloseCode, reason: &str) -> Failure {
    Failure::Protocol { code, reason: reason.into() }
}

fn too_long(what: &str, limit: usize) -> Failure {
    violation(CloseCode::MESSAGE_TOO_BIG, &format!("{what}; the limit is {limit} bytes"))
}

#[cfg(test)]
mod tests {
    use super::super::Encoder;
    use super::*;
    use crate::policy::Prefix;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { message: 1000, frame: usize::MAX };

    /// Yields its bytes in pieces of the given sizes, then the end.
    struct Pieces<'a> {
        bytes: &'a [u8],
        sizes: std::iter::Cycle<std::slice::Iter<'a, usize>>,
    }

    impl Read for Pieces<'_> {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            let size = self.sizes.next().copied().unwrap_or(1);
            let size = size.min(buf.len()).min(self.bytes.len());
            buf[..size].copy_from_slice(&self.bytes[..size]);
            self.bytes = &self.bytes[size..];
            Ok(size)
        }
    }

    fn decode(framing: Framing, bytes: &[u8], sizes: &[usize]) -> (Vec<Message>, Failure) {
        let mut decoder = Decoder::new(framing, Vec::new(), LIMITS);
        let mut stream = Pieces { bytes, sizes: sizes.iter().cycle() };
        let mut messages = Vec::new();
        loop {
            match decoder.next(&mut stream) {
                Ok(message) => messages.push(message),
                Err(failure) => return (messages, failure),
            }
        }
    }

    fn every_framing() -> Vec<Framing> {
        let mut all = vec![Framing::lines()];
        for prefix in [Prefix::U16, Prefix::U32, Prefix::U64] {
            let plain = Framing::length_prefixed(prefix);
            all.extend([plain, plain.little_endian(), plain.inclusive()]);
            all.push(plain.little_endian().inclusive());
        }
        all
    }

    #[test]
    fn lines_end_with_a_line_feed_and_lose_a_carriage_return() {
        let (lines, end) = decode(Framing::lines(), "a\r\n\nb\rc\nrest".as_bytes(), &[100]);
        assert_eq!(lines, ["a", "", "b\rc"].map(Message::from));
        assert!(matches!(end, Failure::EndOfStream { inside_message: true }));
        let (_, end) = decode(Framing::lines(), b"a\n", &[100]);
        assert!(matches!(end, Failure::EndOfStream { inside_message: false }));
    }

    #[test]
    fn what_is_too_long_or_senseless_is_refused_before_it_takes_memory() {
        let code = |framing, bytes: &[u8]| match decode(framing, bytes, &[100]).1 {
            Failure::Protocol { code, .. } => code.0,
            other => panic!("{other:?}"),
        };
        let u32 = Framing::length_prefixed(Prefix::U32);
        let u64 = Framing::length_prefixed(Prefix::U64);
        assert_eq!(code(u32, &[0xff; 4]), 1009, "4 GiB announced");
        assert_eq!(code(u64, &[0xff; 8]), 1009, "minus one, if it were signed");
        assert_eq!(code(u64.little_endian(), &[0, 0, 0, 0, 0, 0, 0, 0x80]), 1009);
        assert_eq!(code(u32, &1001_u32.to_be_bytes()), 1009, "one byte over the limit");
        assert_eq!(code(u32.inclusive(), &3_u32.to_be_bytes()), 1002);
        assert_eq!(code(Framing::lines(), &[b'x'; 5000]), 1009, "a line without end");
        assert_eq!(code(Framing::lines().max_length(3), b"four\n"), 1009);
        assert_eq!(code(Framing::lines(), b"\xc3\x28\n"), 1007, "a line that is not UTF-8");
    }

    #[test]
    fn an_announced_length_takes_no_memory_before_it_comes() {
        let limits = Limits { message: 1 << 30, frame: usize::MAX };
        let framing = Framing::length_prefixed(Prefix::U32);
        let mut decoder = Decoder::new(framing, Vec::new(), limits);
        let mut stream = &(1_u32 << 30).to_be_bytes()[..];
        assert!(decoder.next(&mut stream).is_err());
        assert!(decoder.buffer.capacity() < 1 << 20, "{}", decoder.buffer.capacity());
    }

    #[test]
    fn raw_yields_what_was_read() {
        let (messages, _) = decode(Framing::raw(), b"pingpong!", &[4, 4, 100]);
        assert_eq!(messages, [&b"ping"[..], b"pong", b"!"].map(Message::from));
    }

    proptest! {
        /// What was encoded comes out whatever the reads.
        #[test]
        fn any_split_of_the_stream_gives_the_same_messages(
            texts in prop::collection::vec("[^\n\r]{0,80}", 0..12),
            sizes in prop::collection::vec(1..60_usize, 1..6),
        ) {
            for framing in every_framing() {
                let (mut encoder, mut bytes) = (Encoder::new(framing), Vec::new());
                for text in &texts {
                    encoder.message(&Message::from(text.as_str()), &mut bytes).unwrap();
                }
                encoder.flush(&mut bytes).unwrap();
                prop_assert_eq!(encoder.encoded(), bytes.len() as u64);
                let (messages, end) = decode(framing, &bytes, &sizes);
                let decoded: Vec<&[u8]> = messages.iter().map(Message::as_bytes).collect();
                let expected: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
                prop_assert_eq!(decoded, expected);
                let whole = matches!(end, Failure::EndOfStream { inside_message: false });
                prop_assert!(whole, "{end:?}");
            }
        }

        /// Whatever a peer sends, there is an end and no panic, and the split does not matter.
        #[test]
        fn arbitrary_bytes_are_no_panic(
            bytes in prop::collection::vec(prop_oneof![Just(0_u8), Just(b'\n'), any::<u8>()], 0..400),
            sizes in prop::collection::vec(1..60_usize, 1..6),
        ) {
            for framing in every_framing() {
                let (whole, end) = decode(framing, &bytes, &[10_000]);
                let (split, split_end) = decode(framing, &bytes, &sizes);
                // how a line that is too long is told depends on when it is noticed
                if !matches!(end, Failure::Protocol { code: CloseCode::MESSAGE_TOO_BIG, .. }) {
                    prop_assert_eq!(end.to_string(), split_end.to_string());
                }
                prop_assert_eq!(whole, split);
            }
        }
    }
}

//! From bytes to messages.

use std::io::{self, Cursor, Read, Write};

use tungstenite::error::{CapacityError, ProtocolError};
use tungstenite::protocol::{Role, WebSocketContext};
use tungstenite::{Error, Message as Wire};

use crate::failure::Failure;
use crate::message::{CloseCode, CloseFrame, Message};
use crate::wire::{Incoming, Item, Limits};

/// The reading side of a WebSocket. It keeps what it has read of an unfinished message, so a
/// read that times out loses nothing.
#[derive(Debug)]
pub(crate) struct Decoder {
    context: WebSocketContext,
    /// What was read past the opening handshake, and how much of it is decoded.
    early: Cursor<Vec<u8>>,
}

/// What tungstenite sees: a stream that is read, and that takes every automatic answer without
/// sending it.
struct Source<'a> {
    early: &'a mut Cursor<Vec<u8>>,
    stream: &'a mut dyn Read,
}

impl Read for Source<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.early.read(buf)? {
            0 => self.stream.read(buf),
            count => Ok(count),
        }
    }
}

impl Write for Source<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Decoder {
    /// `read` is what was read past the opening handshake.
    pub(crate) fn new(role: Role, read: Vec<u8>, limits: Limits) -> Self {
        // a context that is given what was read starts with a buffer of that size, and goes back
        // to it whenever a message still holds the larger one: a read for each few bytes
        let context = WebSocketContext::new(role, Some(super::config(limits)));
        Self { context, early: Cursor::new(read) }
    }

    /// Reads until there is something to report.
    ///
    /// # Errors
    ///
    /// [`Failure::Io`] as the stream said it, [`Failure::ClosedAbnormally`] at its end, and
    /// [`Failure::Protocol`] with the close code that the peer is to be told.
    pub(crate) fn next(&mut self, stream: &mut dyn Read) -> Result<Item, Failure> {
        item(self.context.read(&mut Source { early: &mut self.early, stream }))
    }

    /// The same for a stream that takes each message itself.
    pub(crate) fn deliver(&mut self, stream: &mut impl Incoming) -> Result<Item, Failure> {
        loop {
            match self.context.read(&mut Source { early: &mut self.early, stream }) {
                Ok(Wire::Text(text)) => stream.deliver(Message::Text(text)),
                Ok(Wire::Binary(bytes)) => stream.deliver(Message::Binary(bytes)),
                other => return item(other),
            }
        }
    }
}

fn item(read: Result<Wire, Error>) -> Result<Item, Failure> {
    match read {
        Ok(Wire::Text(text)) => Ok(Item::Message(Message::Text(text))),
        Ok(Wire::Binary(bytes)) => Ok(Item::Message(Message::Binary(bytes))),
        Ok(Wire::Ping(payload)) => Ok(Item::Ping(payload)),
        Ok(Wire::Pong(payload)) => Ok(Item::Pong(payload)),
        Ok(Wire::Close(frame)) => Ok(Item::Close(frame.map(|frame| CloseFrame {
            code: CloseCode(frame.code.into()),
            reason: frame.reason.as_str().into(),
        }))),
        Ok(Wire::Frame(_)) => Err(violation(CloseCode::PROTOCOL_ERROR, "a bare frame")),
        Err(error) => Err(failure(error)),
    }
}

fn failure(error: Error) -> Failure {
    match error {
        Error::Io(error) => Failure::Io(error),
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Failure::ClosedAbnormally,
        Error::Utf8(_) => violation(CloseCode::INVALID_PAYLOAD, "text that is not UTF-8"),
        Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => violation(
            CloseCode::MESSAGE_TOO_BIG,
            &format!("{size} bytes are over the limit of {max_size}"),
        ),
        other => violation(CloseCode::PROTOCOL_ERROR, &other.to_string()),
    }
}

fn violation(code: CloseCode, reason: &str) -> Failure {
    Failure::Protocol { code, reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { message: 1000, frame: 500 };

    /// Yields its bytes in pieces of the given sizes, then the end.
    struct Pieces<'a> {
        bytes: &'a [u8],
        sizes: std::iter::Cycle<std::slice::Iter<'a, usize>>,
    }

    impl Read for Pieces<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let size = self.sizes.next().copied().unwrap_or(1);
            let size = size.min(buf.len()).min(self.bytes.len());
            buf[..size].copy_from_slice(&self.bytes[..size]);
            self.bytes = &self.bytes[size..];
            Ok(size)
        }
    }

    fn decode(bytes: &[u8], sizes: &[usize]) -> (Vec<Item>, Failure) {
        let mut decoder = Decoder::new(Role::Client, Vec::new(), LIMITS);
        let mut stream = Pieces { bytes, sizes: sizes.iter().cycle() };
        let mut items = Vec::new();
        loop {
            match decoder.next(&mut stream) {
                Ok(item) => items.push(item),
                Err(failure) => return (items, failure),
            }
        }
    }

    fn code_of(bytes: &[u8]) -> Option<u16> {
        match decode(bytes, &[64]).1 {
            Failure::Protocol { code, .. } => Some(code.0),
            _ => None,
        }
    }

    #[test]
    fn each_violation_has_its_close_code() {
        assert_eq!(code_of(&[0x81, 2, 0xc3, 0x28]), Some(1007), "text that is not UTF-8");
        assert_eq!(
            code_of(&[0x01, 1, 0xc3, 0x80, 1, 0x28]),
            Some(1007),
            "the same, split across fragments"
        );
        assert_eq!(code_of(&[0xc1, 0]), Some(1002), "a reserved bit");
        assert_eq!(code_of(&[0x83, 0]), Some(1002), "a reserved opcode");
        assert_eq!(code_of(&[0x81, 0x80, 0, 0, 0, 0]), Some(1002), "masked by a server");
        assert_eq!(code_of(&[0x09, 0]), Some(1002), "a fragmented ping");
        assert_eq!(code_of(&[0x80, 0]), Some(1002), "a continuation of nothing");
        assert_eq!(code_of(&[0x01, 0, 0x81, 0]), Some(1002), "a message inside a message");
        assert_eq!(code_of(&[0x88, 1, 0]), Some(1002), "a close frame of one byte");
        let mut long_ping = vec![0x89, 126, 0, 126];
        long_ping.resize(4 + 126, 0);
        assert_eq!(code_of(&long_ping), Some(1002), "a ping of 126 bytes");
    }

    #[test]
    fn both_limits_hold_as_soon_as_the_size_is_known() {
        assert_eq!(code_of(&[0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0]), Some(1009), "4 GiB announced");
        assert_eq!(code_of(&[0x82, 126, 1, 245]), Some(1009), "one byte over the frame's limit");
        let mut fragments = Vec::new();
        for opcode in [0x02, 0x00, 0x00] {
            fragments.extend([opcode, 126, 1, 144]);
            fragments.resize(fragments.len() + 400, 0);
        }
        assert_eq!(code_of(&fragments), Some(1009), "reached by fragments");
    }

    #[test]
    fn an_end_without_a_close_frame_is_abnormal_between_frames_and_inside_one() {
        for bytes in [&[0x81, 1, b'a'][..], &[0x81, 5, b'a'][..], &[0x01, 1, b'a'][..], &[][..]] {
            let (_, failure) = decode(bytes, &[64]);
            assert!(matches!(failure, Failure::ClosedAbnormally), "{failure:?}");
        }
    }

    proptest! {
        /// Whatever a peer sends, there is an end and no panic.
        #[test]
        fn arbitrary_bytes_are_no_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..600),
            sizes in prop::collection::vec(1..40_usize, 1..5),
        ) {
            let _ = decode(&bytes, &sizes);
        }

        /// Where the reads are cut does not matter.
        #[test]
        fn any_split_into_reads_gives_the_same_items(
            bytes in prop::collection::vec(
                prop_oneof![Just(0x81_u8), Just(0x01), Just(0x80), Just(0x89), Just(2), Just(1), any::<u8>()],
                0..120,
            ),
            sizes in prop::collection::vec(1..9_usize, 1..5),
        ) {
            let (whole, end) = decode(&bytes, &[1000]);
            let (split, split_end) = decode(&bytes, &sizes);
            prop_assert_eq!(whole, split);
            prop_assert_eq!(end.to_string(), split_end.to_string());
        }
    }
}

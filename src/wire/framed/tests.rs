use proptest::prelude::*;

use super::*;
use crate::failure::Failure;
use crate::message::Message;
use crate::policy::{Framing, MaxSizes, Prefix};
use crate::sync::Budget;
use crate::transport::ReadBuffer;
use crate::wire::Output;

const LIMITS: MaxSizes = MaxSizes { message: 1000, frame: usize::MAX };

/// Decodes bytes that come in pieces of the given sizes. Without a violation of the protocol it is
/// said whether the end is inside a message.
fn decode(
    framing: Framing,
    mut bytes: &[u8],
    sizes: &[usize],
) -> (Vec<Message>, Result<bool, Failure>) {
    let (mut decoder, mut buffer) = (Decoder::new(framing, LIMITS), ReadBuffer::new(Vec::new()));
    let mut messages = Vec::new();
    for size in sizes.iter().cycle() {
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(message)) => messages.push(message.into_owned()),
                Ok(None) => break,
                Err(failure) => return (messages, Err(failure)),
            }
        }
        if bytes.is_empty() {
            break;
        }
        let space = buffer.space();
        let count = (*size).min(space.len()).min(bytes.len());
        space[..count].copy_from_slice(&bytes[..count]);
        buffer.filled(count);
        bytes = &bytes[count..];
    }
    let is_inside = decoder.is_inside_message() || !buffer.unread().is_empty();
    (messages, Ok(is_inside))
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
    for sizes in [&[100][..], &[1], &[2]] {
        let (lines, end) = decode(Framing::lines(), "a\r\n\nb\rc\nrest".as_bytes(), sizes);
        assert_eq!(lines, ["a", "", "b\rc"].map(Message::from));
        assert!(end.unwrap(), "inside a line");
        let (_, end) = decode(Framing::lines(), b"a\n", sizes);
        assert!(!end.unwrap());
    }
}

#[test]
fn what_is_too_long_or_senseless_is_refused_before_it_takes_memory() {
    let u32 = Framing::length_prefixed(Prefix::U32);
    let u64 = Framing::length_prefixed(Prefix::U64);
    let lines = Framing::lines();
    for (framing, bytes, words) in [
        (u32, &[0xff; 4][..], "4294967295 bytes is announced, over the limit of 1000"),
        (u64, &[0xff; 8], "18446744073709551615 bytes"),
        (u64.little_endian(), &[0, 0, 0, 0, 0, 0, 0, 0x80], "over the limit"),
        (u32, &1001_u32.to_be_bytes(), "over the limit"),
        (u32.inclusive(), &3_u32.to_be_bytes(), "does not even hold itself"),
        (lines, &[b'x'; 5000], "a line is over the limit of 1000"),
        (lines.max_length(3), b"four\n", "over the limit of 3"),
        (lines.max_length(3), b"\xff\xff\xff\xff\n", "over the limit of 3"),
    ] {
        match decode(framing, bytes, &[100]).1 {
            Err(Failure::Framing { reason }) => assert!(reason.contains(words), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_line_that_is_no_text_is_binary_however_it_comes() {
    // Latin-1, half a character, half a character before the carriage return, and text again
    let stream = b"na\xefve\n\xe2\x82\n\xe2\x82\r\n\xff\r\n\xe2\x82\xac\r\n";
    let expected = [
        Message::from(b"na\xefve"),
        Message::from(b"\xe2\x82"),
        Message::from(b"\xe2\x82"),
        Message::from(b"\xff"),
        Message::from("\u{20ac}"),
    ];
    for sizes in [&[100][..], &[1], &[2], &[3, 1]] {
        let (lines, end) = decode(Framing::lines(), stream, sizes);
        assert_eq!((lines.as_slice(), end.unwrap()), (&expected[..], false), "{sizes:?}");
    }
}

#[test]
fn no_memory_is_no_fault_of_the_peers_and_has_no_close_code() {
    for (framing, start) in [
        (Framing::lines(), &[b'x'; 100_000][..]),
        (Framing::length_prefixed(Prefix::U32), &[0, 2, 0, 0]),
    ] {
        let limits = MaxSizes { message: 1 << 20, frame: usize::MAX };
        let mut decoder = Decoder::new(framing, limits);
        let budget = Budget::of(0);
        decoder.unfinished().within(&budget);
        let bytes = [start, &[b'x'; 100_000]].concat();
        match decoder.decode(&mut ReadBuffer::new(bytes)) {
            Err(Failure::Io(error)) => assert!(error.to_string().contains("no memory")),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_line_of_just_the_limit_passes_whatever_ends_it() {
    for sizes in [&[100][..], &[1]] {
        for line in [&b"abc\n"[..], b"abc\r\n"] {
            let (lines, end) = decode(Framing::lines().max_length(3), line, sizes);
            assert_eq!((lines, end.unwrap()), (vec![Message::from("abc")], false));
        }
    }
}

#[test]
fn a_limit_without_bound_overflows_nowhere() {
    let limits = MaxSizes { message: usize::MAX, frame: usize::MAX };
    for framing in every_framing() {
        let (mut decoder, mut buffer) =
            (Decoder::new(framing, limits), ReadBuffer::new(b"\x01\x01ab".to_vec()));
        while let Ok(Some(_)) = decoder.decode(&mut buffer) {}
    }
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
            let (mut encoder, mut out) = (Encoder::new(framing), Output::new());
            for text in &texts {
                encoder.message(&Message::from(text.as_str()), None, &mut out);
            }
            let (messages, end) = decode(framing, out.first(usize::MAX), &sizes);
            let decoded: Vec<&[u8]> = messages.iter().map(Message::as_bytes).collect();
            let expected: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
            prop_assert_eq!(decoded, expected);
            prop_assert!(matches!(end, Ok(false)), "{end:?}");
        }
    }

    /// Lines are bytes, and those that are UTF-8 are text.
    #[test]
    fn a_line_of_any_bytes_comes_out_as_it_went_in(
        lines in prop::collection::vec(
            prop::collection::vec(any::<u8>(), 0..80)
                .prop_map(|line| line.into_iter().filter(|byte| !b"\r\n".contains(byte)).collect()),
            0..12,
        ),
        sizes in prop::collection::vec(1..60_usize, 1..6),
    ) {
        let lines: Vec<Vec<u8>> = lines;
        let (mut encoder, mut out) = (Encoder::new(Framing::lines()), Output::new());
        for line in &lines {
            let message = Message::from(line.as_slice());
            prop_assert_eq!(Framing::lines().check(&message), Ok(()));
            encoder.message(&message, None, &mut out);
        }
        let (messages, end) = decode(Framing::lines(), out.first(usize::MAX), &sizes);
        let expected: Vec<Message> = lines
            .iter()
            .map(|line| match std::str::from_utf8(line) {
                Ok(text) => Message::from(text),
                Err(_) => Message::from(line.as_slice()),
            })
            .collect();
        prop_assert_eq!(messages, expected);
        prop_assert!(matches!(end, Ok(false)), "{end:?}");
    }

    /// Whatever a peer sends, there is an end and no panic, and the split does not matter.
    #[test]
    fn arbitrary_bytes_are_no_panic(
        bytes in prop::collection::vec(
            prop_oneof![Just(0_u8), Just(b'\n'), Just(b'\r'), b'a'..=b'z', any::<u8>()],
            0..400,
        ),
        limit in prop_oneof![0..40_usize, Just(LIMITS.message)],
        sizes in prop::collection::vec(1..60_usize, 1..6),
    ) {
        for framing in every_framing() {
            let framing = framing.max_length(limit);
            let (whole, end) = decode(framing, &bytes, &[10_000]);
            let (split, split_end) = decode(framing, &bytes, &sizes);
            let text = |end: Result<bool, Failure>| end.map_err(|failure| failure.to_string());
            prop_assert!(matches!(&end, Ok(_) | Err(Failure::Framing { .. })), "{end:?}");
            prop_assert_eq!(text(end), text(split_end));
            prop_assert_eq!(whole, split);
        }
    }
}

use proptest::prelude::*;

use super::*;
use crate::failure::Failure;
use crate::message::Message;
use crate::policy::{Framing, MaxSizes, Prefix};
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
    let code = |framing, bytes: &[u8]| match decode(framing, bytes, &[100]).1 {
        Err(Failure::Protocol { code, .. }) => code.0,
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
    assert_eq!(code(Framing::lines(), b"\xff"), 1007, "as soon as it comes");
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
                encoder.message(&Message::from(text.as_str()), &mut out);
            }
            let (messages, end) = decode(framing, out.first(usize::MAX), &sizes);
            let decoded: Vec<&[u8]> = messages.iter().map(Message::as_bytes).collect();
            let expected: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
            prop_assert_eq!(decoded, expected);
            prop_assert!(matches!(end, Ok(false)), "{end:?}");
        }
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
            prop_assert_eq!(text(end), text(split_end));
            prop_assert_eq!(whole, split);
        }
    }
}

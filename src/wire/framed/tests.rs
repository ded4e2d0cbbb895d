use proptest::prelude::*;

use super::*;
use crate::message::Message;
use crate::policy::{CodecError, Decode, Delimiter, Encode, LengthField, Packet, Prefix};
use crate::sync::Budget;
use crate::transport::ReadBuffer;
use crate::wire::Output;

const LIMITS: MaxSizes = MaxSizes { message: 1000, frame: usize::MAX };

#[test]
fn what_a_codec_has_encoded_last_is_given_back_when_the_link_is_idle() {
    let decode = |_: &[u8]| -> Result<Option<Packet>, CodecError> { Ok(None) };
    let encode = |message: &Message, out: &mut Vec<u8>| -> Result<(), CodecError> {
        out.extend_from_slice(message.as_bytes());
        Ok(())
    };
    let framing = Framing::custom(move || (decode, encode));
    let (_, mut encoder) = halves(&framing, MaxSizes { message: 10_000, ..LIMITS }).unwrap();
    encoder.message(&Message::from(vec![7; 8000]), None, &mut Output::new()).unwrap();
    assert!(encoder.is_large());
    encoder.relax();
    assert!(!encoder.is_large(), "the writer would look again each second");
}

/// Decodes bytes that come in pieces of the given sizes. Without a violation of the protocol it is
/// said whether the end is inside a message.
fn decode(
    framing: &Framing,
    mut bytes: &[u8],
    sizes: &[usize],
) -> (Vec<Message>, Result<bool, Failure>) {
    let (mut decoder, _) = halves(framing, LIMITS).unwrap();
    let mut buffer = ReadBuffer::default();
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

/// A framing, and what makes a message that it carries of any bytes.
struct Case {
    framing: Framing,
    fit: fn(Vec<u8>) -> Vec<u8>,
}

/// `5:hello,`, with line feeds between packets that nobody receives.
fn netstring(received: &[u8]) -> Result<Option<Packet>, CodecError> {
    if received.starts_with(b"\n") {
        return Ok(Some(Packet::new(1).skipped()));
    }
    let Some(colon) = received.iter().take(9).position(|byte| *byte == b':') else {
        return if received.len() < 9 { Ok(None) } else { Err("no netstring".into()) };
    };
    let length: usize = std::str::from_utf8(&received[..colon])?.parse()?;
    Ok(Some(Packet::new(colon + length + 2).payload(colon + 1..colon + 1 + length)))
}

fn to_netstring(message: &Message, out: &mut Vec<u8>) -> Result<(), CodecError> {
    if message.as_bytes() == b"unspeakable" {
        return Err("nobody says that".into());
    }
    assert_ne!(message.as_bytes(), b"bug");
    out.extend_from_slice(format!("\n{}:", message.len()).as_bytes());
    out.extend_from_slice(message.as_bytes());
    out.push(b',');
    Ok(())
}

/// Packets end with a zero, and inside `\\` stands before `\\`, and before an `o` that is a zero; each ends
/// with the number of the packet on the link.
fn escaped() -> (impl Decode, impl Encode) {
    let (mut received, mut sent) = (0_u8, 0_u8);
    let decode = move |bytes: &[u8]| {
        let Some(end) = bytes.iter().position(|byte| *byte == 0) else { return Ok(None) };
        let mut message = Vec::new();
        let mut escaped = bytes[..end].iter();
        while let Some(byte) = escaped.next() {
            message.push(match byte {
                b'\\' if *escaped.next().ok_or("half an escape")? == b'o' => 0,
                byte => *byte,
            });
        }
        if message.pop() != Some(received) {
            return Err("out of step".into());
        }
        received = received.wrapping_add(1);
        Ok(Some(Packet::new(end + 1).message(message)))
    };
    let encode = move |message: &Message, out: &mut Vec<u8>| {
        for byte in message.as_bytes().iter().chain([&sent]) {
            match byte {
                0 => out.extend_from_slice(b"\\o"),
                b'\\' => out.extend_from_slice(b"\\\\"),
                byte => out.push(*byte),
            }
        }
        sent = sent.wrapping_add(1);
        out.push(0);
        Ok(())
    };
    (decode, encode)
}

fn custom() -> [Framing; 2] {
    [Framing::custom(|| (netstring, to_netstring)), Framing::custom(escaped)]
}

fn every_case() -> Vec<Case> {
    let case = |framing, fit| Case { framing, fit };
    let mut all = vec![
        case(Framing::lines(), |bytes| bytes),
        case(Framing::lines().keep_delimiter(), |mut bytes| {
            bytes.retain(|byte| *byte != b'\n');
            bytes.push(b'\n');
            bytes
        }),
        case(Framing::delimited(b"\0"), |bytes| bytes),
        case(Framing::delimited("\r\n"), |bytes| bytes),
        case(Framing::delimited("aab"), |bytes| bytes),
        case(Framing::delimited("\r\n").keep_delimiter(), |mut bytes| {
            bytes.retain(|byte| *byte != b'\r');
            bytes.extend(b"\r\n");
            bytes
        }),
        case(Framing::fixed(7), |mut bytes| {
            bytes.resize(7, b'-');
            bytes
        }),
        case(Framing::content_length(), |bytes| bytes),
        case(Framing::length_field(LengthField::new(Prefix::Varint).offset(1).strip(0)), |bytes| {
            [
                &[0x30],
                &LengthField::new(Prefix::Varint).head(bytes.len()).0
                    [..1 + usize::from(bytes.len() > 127)],
                &bytes,
            ]
            .concat()
        }),
        case(
            Framing::length_field(LengthField::new(Prefix::U8).offset(2).adjustment(2).strip(0)),
            |bytes| [b"xx", &[bytes.len() as u8][..], &bytes, b"ck"].concat(),
        ),
        case(
            Framing::packets(|bytes| Ok(bytes.first().map(|length| 1 + usize::from(*length)))),
            |bytes| [&[bytes.len() as u8][..], &bytes].concat(),
        ),
    ];
    all.extend(custom().map(|framing| case(framing, |bytes| bytes)));
    for prefix in [Prefix::U8, Prefix::U16, Prefix::U24, Prefix::U32, Prefix::U64, Prefix::Varint] {
        let plain = Framing::length_prefixed(prefix);
        let field = LengthField::new(prefix);
        for framing in [
            plain.clone(),
            plain.clone().little_endian(),
            plain.clone().inclusive().text(),
            plain.little_endian().inclusive(),
            Framing::length_field(field.adjustment(-3)),
            Framing::length_field(field.adjustment(1).inclusive()),
        ] {
            all.push(case(framing, |bytes| bytes));
        }
    }
    all
}

fn every_framing() -> impl Iterator<Item = Framing> {
    every_case().into_iter().map(|case| case.framing)
}

#[test]
fn lines_end_with_a_line_feed_and_lose_a_carriage_return() {
    for sizes in [&[100][..], &[1], &[2]] {
        let (lines, end) = decode(&Framing::lines(), "a\r\n\nb\rc\nrest".as_bytes(), sizes);
        assert_eq!(lines, ["a", "", "b\rc"].map(Message::from));
        assert!(end.unwrap(), "inside a line");
        let (_, end) = decode(&Framing::lines(), b"a\n", sizes);
        assert!(!end.unwrap());
    }
}

#[test]
fn what_is_too_long_or_senseless_is_refused_before_it_takes_memory() {
    let u32 = Framing::length_prefixed(Prefix::U32);
    let u64 = Framing::length_prefixed(Prefix::U64);
    let lines = Framing::lines();
    for (framing, bytes, words) in [
        (u32.clone(), &[0xff; 4][..], "4294967295 bytes is announced, over the limit of 1000"),
        (u64.clone(), &[0xff; 8], "18446744073709551615 bytes"),
        (u64.little_endian(), &[0, 0, 0, 0, 0, 0, 0, 0x80], "over the limit"),
        (u32.clone(), &1001_u32.to_be_bytes(), "over the limit"),
        (u32.inclusive(), &3_u32.to_be_bytes(), "does not even hold itself"),
        (lines.clone(), &[b'x'; 5000], "a line is over the limit of 1000"),
        (lines.clone().max_length(3), b"four\n", "over the limit of 3"),
        (lines.max_length(3), b"\xff\xff\xff\xff\n", "over the limit of 3"),
    ] {
        match decode(&framing, bytes, &[100]).1 {
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
        let (lines, end) = decode(&Framing::lines(), stream, sizes);
        assert_eq!((lines.as_slice(), end.unwrap()), (&expected[..], false), "{sizes:?}");
    }
}

#[test]
fn no_memory_is_no_fault_of_the_peers_and_has_no_close_code() {
    for (framing, start) in [
        (Framing::lines(), &[b'x'; 100_000][..]),
        (Framing::length_prefixed(Prefix::U32), &[0, 2, 0, 0]),
        (Framing::packets(|_| Ok(Some(200_000))), b""),
        (Framing::packets(|_| Ok(None)), &[b'x'; 100_000]),
    ] {
        let limits = MaxSizes { message: 1 << 20, frame: usize::MAX };
        let (mut decoder, _) = halves(&framing, limits).unwrap();
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
            let (lines, end) = decode(&Framing::lines().max_length(3), line, sizes);
            assert_eq!((lines, end.unwrap()), (vec![Message::from("abc")], false));
        }
    }
}

#[test]
fn a_limit_without_bound_overflows_nowhere() {
    let limits = MaxSizes { message: usize::MAX, frame: usize::MAX };
    for framing in every_framing() {
        let (mut decoder, _) = halves(&framing, limits).unwrap();
        let mut buffer = ReadBuffer::new(b"\x01\x01ab".to_vec());
        while let Ok(Some(_)) = decoder.decode(&mut buffer) {}
    }
}

#[test]
fn raw_yields_what_was_read() {
    let (messages, _) = decode(&Framing::raw(), b"pingpong!", &[4, 4, 100]);
    assert_eq!(messages, [&b"ping"[..], b"pong", b"!"].map(Message::from));
}

proptest! {
    /// What was encoded comes out whatever the reads.
    #[test]
    fn any_split_of_the_stream_gives_the_same_messages(
        messages in prop::collection::vec(
            prop_oneof![
                "[^\n\r]{0,80}".prop_map(String::into_bytes),
                "[ab\r\n]{0,12}".prop_map(String::into_bytes),
                prop::collection::vec(any::<u8>(), 0..200),
            ],
            0..12,
        ),
        sizes in prop::collection::vec(1..60_usize, 1..6),
    ) {
        for Case { framing, fit } in every_case() {
            let (_, mut encoder) = halves(&framing, LIMITS).unwrap();
            let (mut out, mut expected) = (Output::new(), Vec::new());
            for message in &messages {
                let message = Message::from(fit(message.clone()));
                if framing.check(&message).is_err() {
                    continue;
                }
                encoder.message(&message, None, &mut out).unwrap();
                let mut bytes = message.as_bytes();
                if let FramingKind::Delimited(Delimiter { ends_lines: true, is_kept: false, .. }) = framing.kind {
                    bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
                }
                expected.push(match std::str::from_utf8(bytes) {
                    Ok(text) if framing.is_text() => Message::from(text),
                    _ => Message::from(bytes),
                });
            }
            let (messages, end) = decode(&framing, &out.take_all(), &sizes);
            prop_assert_eq!(messages, expected, "{:?}", framing);
            prop_assert!(matches!(end, Ok(false)), "{framing:?}: {end:?}");
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
        let (_, mut encoder) = halves(&Framing::lines(), LIMITS).unwrap();
        let mut out = Output::new();
        for line in &lines {
            let message = Message::from(line.as_slice());
            prop_assert_eq!(Framing::lines().check(&message), Ok(()));
            encoder.message(&message, None, &mut out).unwrap();
        }
        let (messages, end) = decode(&Framing::lines(), out.first(usize::MAX), &sizes);
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
            prop_oneof![
                Just(0_u8),
                prop::sample::select(b"\n\raab\\o:,01289".to_vec()),
                b'a'..=b'z',
                any::<u8>(),
            ],
            0..400,
        ),
        limit in prop_oneof![0..40_usize, Just(LIMITS.message)],
        sizes in prop::collection::vec(1..60_usize, 1..6),
    ) {
        for framing in every_framing() {
            let framing = framing.max_length(limit);
            let (whole, end) = decode(&framing, &bytes, &[10_000]);
            let (split, split_end) = decode(&framing, &bytes, &sizes);
            // a codec of the program's may see early or late what is wrong
            let has_words =
                !matches!(framing.kind, FramingKind::Packets(_) | FramingKind::Custom(_));
            let text = |end: Result<bool, Failure>| {
                end.map_err(|failure| has_words.then(|| failure.to_string()))
            };
            prop_assert!(matches!(&end, Ok(_) | Err(Failure::Framing { .. })), "{end:?}");
            prop_assert_eq!(text(end), text(split_end), "{:?}", framing);
            prop_assert_eq!(whole, split, "{:?}", framing);
        }
    }
}

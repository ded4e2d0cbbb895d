//! What RFC 7692 says, any messages in any split, and what a peer can do wrong.

use flate2::{Compress, FlushCompress};
use proptest::prelude::*;
use tungstenite::protocol::Role;

use super::*;
use crate::failure::Failure;
use crate::message::{CloseCode, Message};
use crate::policy::{AgreedCompression, Compression, MaxSizes};
use crate::transport::ReadBuffer;
use crate::wire::{Item, Output};

const LIMITS: MaxSizes = MaxSizes { message: 1 << 20, frame: 1 << 20 };

fn agreed(takeover: bool, bits: u8) -> AgreedCompression {
    AgreedCompression {
        send_takeover: takeover,
        receive_takeover: takeover,
        send_window_bits: bits,
        receive_window_bits: bits,
    }
}

fn decoder(limits: MaxSizes, takeover: bool) -> Decoder {
    let mut decoder = Decoder::new(Role::Client, limits);
    decoder.compressed(agreed(takeover, 15));
    decoder
}

/// Decodes bytes that come in pieces of the given sizes. Control frames are named by their payload.
fn decode_from(
    decoder: &mut Decoder,
    mut bytes: &[u8],
    sizes: &[usize],
) -> Result<Vec<Message>, CloseCode> {
    let (mut buffer, mut found) = (ReadBuffer::new(Vec::new()), Vec::new());
    for size in sizes.iter().cycle() {
        loop {
            let item = match decoder.short_message(&buffer) {
                Some(short) => short.take(&mut buffer).map(Some),
                None => decoder.decode(&mut buffer),
            };
            match item {
                Ok(Some(Item::Message(message))) => found.push(message.into_owned()),
                Ok(Some(Item::Ping(payload) | Item::Pong(payload))) => found.push(payload.into()),
                Ok(Some(Item::Close(_))) => {}
                Ok(None) => break,
                Err(Failure::Protocol { code, .. }) => return Err(code),
                Err(other) => panic!("{other:?}"),
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
    Ok(found)
}

/// The same whole and byte by byte.
fn decode(takeover: bool, bytes: &[u8]) -> Result<Vec<Message>, CloseCode> {
    let whole = decode_from(&mut decoder(LIMITS, takeover), bytes, &[100_000]);
    for size in [1, 3] {
        assert_eq!(decode_from(&mut decoder(LIMITS, takeover), bytes, &[size]), whole, "{size}");
    }
    whole
}

/// What a peer makes of a payload, in a stream of its own.
fn deflated(payload: &[u8]) -> Vec<u8> {
    let mut stream = Compress::new(flate2::Compression::new(9), false);
    let mut out = Vec::with_capacity(payload.len() + 1000);
    stream.compress_vec(payload, &mut out, FlushCompress::Sync).unwrap();
    out.truncate(out.len() - 4);
    out
}

/// An unmasked frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(length as u8),
        length @ 126..65_536 => {
            frame.push(126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

fn written(output: &mut Output) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !output.is_empty() {
        let first = output.first(usize::MAX);
        bytes.extend_from_slice(first);
        let count = first.len();
        output.advance(count);
    }
    bytes
}

const HELLO: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];

#[test]
fn the_examples_of_the_rfc_are_understood() {
    let hello = || vec![Message::from("Hello")];
    // 7.2.3.1, as one frame and as two
    assert_eq!(decode(true, &frame(0xc1, &HELLO)), Ok(hello()));
    let fragments = [frame(0x41, &HELLO[..3]), frame(0x80, &HELLO[3..])].concat();
    assert_eq!(decode(true, &fragments), Ok(hello()));
    // 7.2.3.2: the second refers to the first
    let again = [frame(0xc1, &HELLO), frame(0xc1, &[0xf2, 0x00, 0x11, 0x00, 0x00])].concat();
    assert_eq!(decode(true, &again), Ok([hello(), hello()].concat()));
    assert_eq!(decode(false, &again), Err(CloseCode::INVALID_PAYLOAD), "without takeover");
    // 7.2.3.3: not compressed
    let stored = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
    assert_eq!(decode(true, &frame(0xc1, &stored)), Ok(hello()));
    // 7.2.3.4: the stream is ended, with and without an empty block behind it, and goes on
    for end in [
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00][..],
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
    ] {
        let twice = [frame(0xc1, end), frame(0xc1, &HELLO)].concat();
        assert_eq!(decode(true, &twice), Ok([hello(), hello()].concat()));
    }
    // 7.2.3.5: two blocks in one message
    let blocks = [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
    assert_eq!(decode(true, &frame(0xc1, &blocks)), Ok(hello()));
    // 7.2.3.6, and nothing at all
    for empty in [&[0x00][..], &[]] {
        let bytes = [frame(0xc2, empty), frame(0x42, empty), frame(0x80, &[])].concat();
        let nothing = Message::from(Vec::new());
        assert_eq!(decode(true, &bytes), Ok(vec![nothing.clone(), nothing]));
    }
}

#[test]
fn control_frames_and_plain_messages_pass_between() {
    let bytes = [
        frame(0x41, &HELLO[..4]),
        frame(0x89, b"ping"),
        frame(0x00, &[]),
        frame(0x8a, b"pong"),
        frame(0x80, &HELLO[4..]),
        frame(0x81, b"plain"),
        frame(0x01, b"pla"),
        frame(0x80, b"in"),
        frame(0xc1, &[0xf2, 0x00, 0x11, 0x00, 0x00]),
    ];
    let expected: Vec<Message> = vec![
        b"ping"[..].into(),
        b"pong"[..].into(),
        "Hello".into(),
        "plain".into(),
        "plain".into(),
        "Hello".into(),
    ];
    assert_eq!(decode(true, &bytes.concat()), Ok(expected));
}

#[test]
fn a_reserved_bit_in_the_wrong_place_is_a_violation() {
    let start = frame(0x41, &HELLO[..4]);
    for wrong in [
        [start.clone(), frame(0xc0, &HELLO[4..])].concat(),
        [start.clone(), frame(0x40, &HELLO[4..])].concat(),
        [start, frame(0xc9, b"")].concat(),
        frame(0xc8, &[]),
        frame(0xca, &[]),
        frame(0xa1, b""),
        frame(0x91, b""),
        frame(0xe1, &HELLO),
    ] {
        assert_eq!(decode(true, &wrong), Err(CloseCode::PROTOCOL_ERROR), "{wrong:x?}");
    }
    let mut plain = Decoder::new(Role::Client, LIMITS);
    let unagreed = decode_from(&mut plain, &frame(0xc1, &HELLO), &[100]);
    assert_eq!(unagreed, Err(CloseCode::PROTOCOL_ERROR));
}

#[test]
fn what_does_not_inflate_is_refused() {
    for wrong in [
        &[0xff, 0xff, 0xff][..],
        // the reserved type of a block
        &[0x06, 0x00],
        // back to before the beginning
        &[0xf2, 0x00, 0x11, 0x00, 0x00],
        // a length that its complement contradicts
        &[0x00, 0x05, 0x00, 0xfa, 0xfe, 0x48],
    ] {
        assert_eq!(
            decode(true, &frame(0xc2, wrong)),
            Err(CloseCode::INVALID_PAYLOAD),
            "{wrong:x?}"
        );
    }
}

#[test]
fn inflated_text_is_checked_as_it_comes() {
    let bad = deflated(&[b"fine "[..].to_vec(), vec![0xff], vec![b'x'; 10]].concat());
    assert_eq!(decode(true, &frame(0xc1, &bad)), Err(CloseCode::INVALID_PAYLOAD));
    // the rest of the message has not come
    let mut decoder = decoder(LIMITS, true);
    let start = frame(0x41, &bad);
    assert_eq!(decode_from(&mut decoder, &start, &[100]), Err(CloseCode::INVALID_PAYLOAD));
    assert_eq!(decode(true, &frame(0xc1, &deflated("κόσμε".as_bytes()))), Ok(vec!["κόσμε".into()]));
    // half a character at the end
    let cut = deflated(&"κόσμε".as_bytes()[..9]);
    assert_eq!(decode(true, &frame(0xc1, &cut)), Err(CloseCode::INVALID_PAYLOAD));
}

#[test]
fn a_bomb_takes_no_more_memory_than_the_limit() {
    let limits = MaxSizes { message: 100_000, frame: 1 << 20 };
    let bomb = deflated(&vec![0; 64 << 20]);
    assert!(bomb.len() < (64 << 20) / 900, "{}", bomb.len());
    for bytes in [frame(0xc2, &bomb), frame(0x42, &bomb)] {
        let mut decoder = decoder(limits, true);
        let refused = decode_from(&mut decoder, &bytes, &[1000]);
        assert_eq!(refused, Err(CloseCode::MESSAGE_TOO_BIG));
        let capacity = decoder.capacity();
        assert!(capacity <= 2 * limits.message, "{capacity}");
    }
    for (length, is_allowed) in [(100_000, true), (100_001, false)] {
        let bytes = frame(0xc2, &deflated(&vec![7; length]));
        let result = decode_from(&mut decoder(limits, true), &bytes, &[100_000]);
        assert_eq!(result.is_ok(), is_allowed, "{length}: {result:?}");
    }
    // what cannot be compressed becomes longer, and the limit is not for that
    let random: Vec<u8> = (0..100_000).map(|_| rand::random()).collect();
    let bytes = frame(0xc2, &deflated(&random));
    assert!(bytes.len() > 100_000);
    let result = decode_from(&mut decoder(limits, true), &bytes, &[100_000]);
    assert_eq!(result, Ok(vec![random.into()]));
}

#[test]
fn an_idle_link_gives_back_what_no_message_refers_to() {
    let mut encoder = Encoder::new(Role::Server);
    for takeover in [true, false] {
        let mut decoder = decoder(LIMITS, takeover);
        assert!(!decoder.is_large());
        encoder.compressed(agreed(takeover, 15), Compression::new());
        let mut out = Output::new();
        for _ in 0..2 {
            encoder.message(&"x".repeat(200).into(), None, &mut out);
            let bytes = written(&mut out);
            let found = decode_from(&mut decoder, &bytes, &[1000]);
            assert_eq!(found, Ok(vec!["x".repeat(200).into()]));
            assert!(decoder.is_large());
            decoder.relax();
            encoder.relax();
            assert!(!decoder.is_large());
        }
        // in the middle of a message nothing can be given back
        let half = frame(0x42, &HELLO[..4]);
        assert_eq!(decode_from(&mut decoder, &half, &[10]), Ok(vec![]));
        decoder.relax();
        let rest = frame(0x80, &HELLO[4..]);
        let found = decode_from(&mut decoder, &rest, &[10]);
        assert_eq!(found, Ok(vec![Message::from(&b"Hello"[..])]));
    }
}

#[test]
fn the_threshold_and_the_closure_keep_messages_as_they_are() {
    let compression = Compression::new().threshold(100).only_if(|message| {
        assert!(!message.as_bytes().starts_with(b"panic"), "on purpose");
        message.is_text()
    });
    let mut encoder = Encoder::new(Role::Server);
    encoder.compressed(agreed(true, 15), compression);
    let mut first_byte = |message: Message| {
        let mut out = Output::new();
        encoder.message(&message, None, &mut out);
        out.first(1)[0]
    };
    assert_eq!(first_byte("x".repeat(100).into()), 0xc1);
    assert_eq!(first_byte("x".repeat(99).into()), 0x81);
    assert_eq!(first_byte(vec![0; 1000].into()), 0x82);
    assert_eq!(first_byte(format!("panic{}", "x".repeat(100)).into()), 0x81);
    let mut encoder = Encoder::new(Role::Server);
    encoder.compressed(agreed(true, 8), Compression::new());
    let mut out = Output::new();
    encoder.message(&"x".repeat(1000).into(), None, &mut out);
    assert_eq!(out.first(1), [0x81], "a window that nothing can be compressed with");
    // without takeover what does not get smaller goes as it is
    for (takeover, expected) in [(false, 0x82), (true, 0xc2)] {
        let mut encoder = Encoder::new(Role::Server);
        encoder.compressed(agreed(takeover, 15), Compression::new());
        let (mut out, random) = (Output::new(), (0..500).map(|_| rand::random::<u8>()));
        encoder.message(&random.collect::<Vec<_>>().into(), None, &mut out);
        assert_eq!(out.first(1), [expected]);
    }
}

fn lone_encoder(bits: u8) -> Encoder {
    let mut encoder = Encoder::new(Role::Server);
    encoder.compressed(agreed(false, bits), Compression::new());
    encoder
}

#[test]
fn a_message_for_many_is_compressed_by_the_first_and_shared_by_those_who_send_it_alike() {
    for length in [1000, 200_000] {
        let random = (0..length).map(|_| char::from(b'a' + rand::random::<u8>() % 4));
        let message = Message::from(random.collect::<String>());
        let once = DeflatedOnce::default();
        let made = |bits, kind| lone_encoder(bits).deflate_once(&message, kind, &once).unwrap();
        let first = made(15, None);
        assert_eq!(first.as_ptr(), made(15, None).as_ptr(), "the very same bytes");
        let others = [made(9, None), made(12, None), made(15, Some(b'm'))];
        assert!(others.iter().all(|other| other.as_ptr() != first.as_ptr()));
        // each can be read by whom it is for, also one who keeps a context
        for (bits, kind, takeover) in
            [(15, None, false), (9, None, false), (15, Some(b'm'), false), (15, None, true)]
        {
            let mut encoder = lone_encoder(bits);
            if takeover {
                encoder.compressed(agreed(true, bits), Compression::new());
            }
            let (mut out, mut decoder) = (Output::new(), decoder(LIMITS, takeover));
            for _ in 0..3 {
                encoder.message_once(&message, kind, &once, &mut out);
                let found = decode_from(&mut decoder, &written(&mut out), &[5000]).unwrap();
                let kind = kind.map(char::from).map(String::from).unwrap_or_default();
                assert_eq!(found, [Message::from(kind + message.as_text().unwrap())]);
            }
        }
    }
    // what does not get smaller goes as it is, for all
    let random = Message::from((0..500).map(|_| rand::random::<u8>()).collect::<Vec<_>>());
    let once = DeflatedOnce::default();
    for _ in 0..2 {
        let mut out = Output::new();
        lone_encoder(15).message_once(&random, None, &once, &mut out);
        assert_eq!(out.first(1), [0x82]);
    }
}

/// Messages of which some resemble each other.
fn messages() -> impl Strategy<Value = Vec<Message>> {
    let message = prop_oneof![
        4 => "[ab]{0,300}".prop_map(Message::from),
        2 => "\\PC{0,100}".prop_map(Message::from),
        1 => (0..400_000_usize).prop_map(|length| Message::from("abc".repeat(length / 3))),
        1 => prop::collection::vec(any::<u8>(), 0..60_000).prop_map(Message::from),
        1 => Just(Message::from("")),
    ];
    prop::collection::vec(message, 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any messages, fragmented or not, with control frames between, in any split of the stream.
    #[test]
    fn what_is_deflated_is_inflated(
        messages in messages(),
        (is_client, takeover, bits, level) in (any::<bool>(), any::<bool>(), 9..=15_u8, 1..=9_u32),
        threshold in prop::sample::select(vec![0, 1, 128]),
        fragment in prop::option::of(1..5000_usize),
        sizes in prop::collection::vec(1..5000_usize, 1..6),
        relaxes in any::<bool>(),
    ) {
        let (ours, peer) =
            if is_client { (Role::Client, Role::Server) } else { (Role::Server, Role::Client) };
        let (mut encoder, mut out) = (Encoder::new(ours), Output::new());
        let compression = Compression::new().threshold(threshold).level(level);
        encoder.compressed(agreed(takeover, bits), compression);
        let mut decoder = Decoder::new(peer, LIMITS);
        decoder.compressed(agreed(takeover, bits));
        for message in &messages {
            let mut expected = Vec::new();
            match fragment.filter(|size| message.len() > *size) {
                None => encoder.message(message, None, &mut out),
                Some(size) => {
                    let deflated = encoder.deflate(message, None);
                    let payload = deflated.as_deref().unwrap_or(message.as_bytes());
                    let first = Fragment::First {
                        is_text: message.is_text(),
                        is_compressed: deflated.is_some(),
                        kind: None,
                    };
                    let count = payload.len().div_ceil(size);
                    for (index, piece) in payload.chunks(size).enumerate() {
                        let kind = if index == 0 { first } else { Fragment::Next };
                        encoder.fragment(piece, kind, index + 1 == count, &mut out);
                        if index < 3 {
                            encoder.ping(b"p", &mut out);
                            expected.push(Message::from(&b"p"[..]));
                        }
                    }
                    // the ping behind the last fragment
                    if count <= 3 {
                        expected.pop();
                    }
                    expected.push(message.clone());
                    if count <= 3 {
                        expected.push(Message::from(&b"p"[..]));
                    }
                }
            }
            if expected.is_empty() {
                expected.push(message.clone());
            }
            let bytes = written(&mut out);
            prop_assert_eq!(decode_from(&mut decoder, &bytes, &sizes), Ok(expected));
            if relaxes {
                encoder.relax();
                decoder.relax();
            }
        }
    }

    /// Whatever is said to be compressed, it is no panic, no more than the limit comes of it, and
    /// how it was cut changes nothing.
    #[test]
    fn arbitrary_bytes_are_no_panic(
        payload in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            faulty_payload(),
        ],
        (takeover, is_text, cut) in (any::<bool>(), any::<bool>(), 0..200_usize),
        sizes in prop::collection::vec(1..50_usize, 1..4),
    ) {
        let limits = MaxSizes { message: 500, frame: 2000 };
        let (opcode, cut) = (if is_text { 1 } else { 2 }, cut.min(payload.len()));
        let stream = [
            frame(0xc0 | opcode, &payload),
            frame(0x40 | opcode, &payload[..cut]),
            frame(0x80, &payload[cut..]),
        ].concat();
        let fragments = decode_from(&mut decoder(limits, takeover), &stream, &[5000]);
        let pieces = decode_from(&mut decoder(limits, takeover), &stream, &sizes);
        prop_assert_eq!(&fragments, &pieces);
        for message in fragments.unwrap_or_default() {
            prop_assert!(message.len() <= 500);
        }
    }
}

/// What inflates to something near the limit, with bytes in it that are no text and bytes that do
/// not inflate.
fn faulty_payload() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof!["[aé]{0,300}", "\\PC{0,200}"];
    let faults = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    (text, faults.clone(), faults).prop_map(|(text, faults_inside, faults)| {
        let spoil = |mut bytes: Vec<u8>, faults: &[(prop::sample::Index, u8)]| {
            for (place, byte) in faults {
                if !bytes.is_empty() {
                    let place = place.index(bytes.len());
                    bytes[place] = *byte;
                }
            }
            bytes
        };
        spoil(deflated(&spoil(text.into_bytes(), &faults_inside)), &faults)
    })
}

/// Of two violations in one message the first counts, also where one read has brought both.
#[test]
fn the_first_violation_counts_however_it_was_cut() {
    let limits = MaxSizes { message: 500, frame: 1000 };
    let no_text = |at: usize| {
        let mut bytes = vec![b'a'; 600];
        bytes[at] = 0xff;
        deflated(&bytes)
    };
    let mut broken = deflated(&[b'a'; 600]);
    broken.extend([0xff; 8]);
    let mut character = vec![b'a'; 600];
    character[499..501].copy_from_slice("é".as_bytes());
    for (case, opcode, payload, code) in [
        ("no text, then too long", 1, no_text(499), 1007),
        ("too long, then no text", 1, no_text(500), 1009),
        ("too long by half a character", 1, deflated(&character), 1009),
        ("too long, then nothing that inflates", 2, broken, 1009),
    ] {
        for size in [1, 7, 1000] {
            let stream = frame(0xc0 | opcode, &payload);
            let got = decode_from(&mut decoder(limits, true), &stream, &[size]);
            assert_eq!(got, Err(CloseCode(code)), "{case}, in pieces of {size}");
        }
    }
}

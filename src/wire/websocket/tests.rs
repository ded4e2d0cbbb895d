//! What the RFC says, any split of the stream, and tungstenite as the second opinion.

use std::io::{self, Cursor, Read, Write};

use proptest::prelude::*;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message as Theirs};

use super::*;
use crate::failure::Failure;
use crate::message::{CloseCode, CloseFrame, Message};
use crate::policy::MaxSizes;
use crate::transport::ReadBuffer;
use crate::wire::{Item, Output, Protocol, SLICES};

const LIMITS: MaxSizes = MaxSizes { message: 1000, frame: 500 };

/// An item that keeps its bytes.
#[derive(Debug, Clone, PartialEq)]
enum Found {
    Message(Message),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<CloseFrame>),
}

impl From<Item<'_>> for Found {
    fn from(item: Item<'_>) -> Self {
        match item {
            Item::Message(message) => Self::Message(message.into_owned()),
            Item::Ping(payload) => Self::Ping(payload.to_vec()),
            Item::Pong(payload) => Self::Pong(payload.to_vec()),
            Item::Close(frame) => Self::Close(frame),
        }
    }
}

/// Decodes bytes that come in pieces of the given sizes; the close code if they break the
/// protocol. A close frame ends it.
fn decode_with(
    role: Role,
    limits: MaxSizes,
    mut bytes: &[u8],
    sizes: &[usize],
) -> (Vec<Found>, Option<u16>) {
    let mut decoder = Protocol::WebSocket(role).decoder(limits);
    let mut buffer = ReadBuffer::new(Vec::new());
    let mut found = Vec::new();
    for size in sizes.iter().cycle() {
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(item)) => found.push(item.into()),
                Ok(None) => break,
                Err(Failure::Protocol { code, .. }) => return (found, Some(code.0)),
                Err(other) => panic!("{other:?}"),
            }
            if matches!(found.last(), Some(Found::Close(_))) {
                return (found, None);
            }
        }
        if bytes.is_empty() {
            break;
        }
        let mut piece = &bytes[..(*size).min(bytes.len())];
        bytes = &bytes[piece.len()..];
        while !piece.is_empty() {
            // what has come is not decoded before all of it was read, as a read may be cut anywhere
            decoder.read(&mut buffer, usize::MAX, |bufs| piece.read_vectored(bufs)).unwrap();
        }
    }
    (found, None)
}

fn decode(bytes: &[u8], sizes: &[usize]) -> (Vec<Found>, Option<u16>) {
    decode_with(Role::Client, LIMITS, bytes, sizes)
}

fn code_of(bytes: &[u8]) -> Option<u16> {
    let whole = decode(bytes, &[1000]).1;
    assert_eq!(decode(bytes, &[1]).1, whole, "byte by byte");
    whole
}

fn written(output: &mut Output) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !output.is_empty() {
        let mut slices = [io::IoSlice::new(&[]); SLICES];
        let count = output.slices(&mut slices);
        slices[..count].iter().for_each(|slice| bytes.extend_from_slice(slice));
        let taken = bytes.len() as u64 - output.taken();
        output.advance(taken as usize);
    }
    bytes
}

/// A buffer that is used again still holds what it held before: none of that is ever shown.
#[test]
fn what_a_used_buffer_held_is_in_no_other_message() {
    let limits = MaxSizes { message: 2_000_000, frame: 2_000_000 };
    let mut decoder = Protocol::WebSocket(Role::Client).decoder(limits);
    let mut buffer = ReadBuffer::new(Vec::new());
    let lengths = [100_000, 90_000, 99_999, 60_000, 100_000, 70_001, 64_000, 100_000];
    for (number, length) in (1_u8..).zip(lengths) {
        for piece in [1000, 20_000, 33_333, length] {
            let mut bytes = Vec::new();
            let frame = Frame::message(vec![number; length], OpCode::Data(Data::Binary), true);
            frame.format(&mut bytes).unwrap();
            let (mut rest, mut seen) = (&bytes[..], None);
            while !rest.is_empty() {
                let (mut now, after) = rest.split_at(piece.min(rest.len()));
                let count =
                    decoder.read(&mut buffer, usize::MAX, |bufs| now.read_vectored(bufs)).unwrap();
                rest = if now.is_empty() { after } else { &rest[count..] };
                if let Some(Item::Message(message)) = decoder.decode(&mut buffer).unwrap() {
                    // dropped here: its memory goes back to the link's
                    seen = Some(message.as_bytes().iter().all(|byte| *byte == number));
                    assert_eq!(message.len(), length);
                }
            }
            assert_eq!(seen, Some(true), "{number}, in pieces of {piece}");
        }
    }
}

#[test]
fn each_violation_has_its_close_code() {
    assert_eq!(code_of(&[0x81, 2, 0xc3, 0x28]), Some(1007), "text that is not UTF-8");
    assert_eq!(code_of(&[0x01, 1, 0xc3, 0x80, 1, 0x28]), Some(1007), "split across fragments");
    assert_eq!(code_of(&[0x01, 1, 0xff]), Some(1007), "in the first fragment");
    assert_eq!(code_of(&[0x81, 100, 0xff]), Some(1007), "in the first byte of a frame");
    for bit in [0x40, 0x20, 0x10] {
        assert_eq!(code_of(&[0x81 | bit, 0]), Some(1002), "a reserved bit");
    }
    for opcode in [3, 7, 0xb, 0xf] {
        assert_eq!(code_of(&[0x80 | opcode, 0]), Some(1002), "a reserved opcode");
    }
    assert_eq!(code_of(&[0x81, 0x80, 0, 0, 0, 0]), Some(1002), "masked by a server");
    assert_eq!(code_of(&[0x09, 0]), Some(1002), "a fragmented ping");
    assert_eq!(code_of(&[0x80, 0]), Some(1002), "a continuation of nothing");
    assert_eq!(code_of(&[0x01, 0, 0x81, 0]), Some(1002), "a message inside a message");
    assert_eq!(code_of(&[0x88, 1, 0]), Some(1002), "a close frame of one byte");
    assert_eq!(code_of(&[0x88, 3, 3, 0xe8, 0xff]), Some(1007), "a reason that is not UTF-8");
    assert_eq!(code_of(&[0x89, 126, 0, 126]), Some(1002), "a ping of 126 bytes");
    assert_eq!(code_of(&[0x82, 126, 0, 125]), Some(1002), "125 in two bytes");
    assert_eq!(code_of(&[0x82, 127, 0, 0, 0, 0, 0, 0, 1, 0]), Some(1002), "256 in eight bytes");
    let unmasked = decode_with(Role::Server, LIMITS, &[0x81, 0], &[1]);
    assert_eq!(unmasked.1, Some(1002), "not masked by a client");
}

#[test]
fn a_close_code_is_taken_as_it_came() {
    for code in [1000, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999_u16] {
        let [high, low] = code.to_be_bytes();
        let (found, _) = decode(&[0x88, 3, high, low, b'x'], &[1]);
        assert_eq!(found, [Found::Close(Some(CloseFrame::new(CloseCode(code), "x")))]);
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, u16::MAX] {
        let [high, low] = code.to_be_bytes();
        let (mut decoder, mut buffer) =
            (Decoder::new(Role::Client, LIMITS), ReadBuffer::new(vec![0x88, 2, high, low]));
        let failure = decoder.decode(&mut buffer).unwrap_err();
        assert!(failure.to_string().contains(&format!("close code {code} in")), "{failure}");
    }
    assert_eq!(decode(&[0x88, 0], &[1]).0, [Found::Close(None)]);
}

#[test]
fn both_limits_hold_as_soon_as_the_size_is_announced() {
    assert_eq!(code_of(&[0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0]), Some(1009), "4 GiB");
    assert_eq!(code_of(&[0x82, 126, 1, 245]), Some(1009), "one byte over the frame's limit");
    let mut fragments = Vec::new();
    for opcode in [0x02, 0x00] {
        fragments.extend([opcode, 126, 1, 244]);
        fragments.resize(fragments.len() + 500, 0);
    }
    assert_eq!(code_of(&fragments), None, "as much as is allowed");
    fragments.extend([0x80, 1]);
    assert_eq!(code_of(&fragments), Some(1009), "reached by the header of the last fragment");
    // nothing overflows anywhere near
    let limits = MaxSizes { message: usize::MAX, frame: usize::MAX };
    let bytes = [0x02, 1, 0, 0x80, 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 7];
    assert_eq!(decode_with(Role::Client, limits, &bytes, &[3]), (vec![], None));
}

#[test]
fn the_highest_bit_of_a_length_is_not_set() {
    let limits = MaxSizes { message: usize::MAX, frame: usize::MAX };
    let bytes = [0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 1];
    let (items, failure) = decode_with(Role::Client, limits, &bytes, &[3]);
    assert_eq!((items, failure), (vec![], Some(1002)));
}

#[test]
fn what_is_announced_takes_no_memory() {
    let limits = MaxSizes { message: usize::MAX, frame: usize::MAX };
    let mut decoder = Decoder::new(Role::Client, limits);
    let mut buffer = ReadBuffer::new(vec![0x82, 127, 0, 0, 0x10, 0, 0, 0, 0, 0, 1, 2, 3]);
    assert!(decoder.decode(&mut buffer).unwrap().is_none());
    let capacity = decoder.capacity();
    assert!(capacity <= 65 * 1024, "{capacity} bytes for three");
}

#[test]
fn a_million_empty_fragments_need_no_stack() {
    let mut bytes = vec![0x01, 0];
    bytes.extend([0x00, 0].repeat(1_000_000));
    bytes.extend([0x80, 1, b'x']);
    let (found, code) = decode(&bytes, &[100_000]);
    assert_eq!((found, code), (vec![Found::Message("x".into())], None));
}

#[test]
fn what_is_encoded_is_decoded_at_every_length() {
    let limits = MaxSizes { message: 1 << 20, frame: 1 << 20 };
    for (role, peer) in [(Role::Client, Role::Server), (Role::Server, Role::Client)] {
        let (mut encoder, mut out) = (Encoder::new(role), Output::new());
        let mut expected = Vec::new();
        for length in [0, 1, 40, 41, 125, 126, 127, 65535, 65536, 200_000] {
            for message in [Message::from("x".repeat(length)), Message::from(vec![7; length])] {
                encoder.message(&message, None, &mut out);
                expected.push(Found::Message(message));
            }
        }
        encoder.ping(b"1", &mut out);
        encoder.pong(b"", &mut out);
        let close = CloseFrame::new(CloseCode::GOING_AWAY, "bye");
        encoder.close(Some(&close), &mut out);
        expected.push(Found::Ping(b"1".to_vec()));
        expected.push(Found::Pong(Vec::new()));
        expected.push(Found::Close(Some(close)));
        let encoded = out.encoded();
        let bytes = written(&mut out);
        assert_eq!(encoded, bytes.len() as u64);
        assert_eq!(decode_with(peer, limits, &bytes, &[100_000]), (expected, None));
    }
}

#[test]
fn a_ping_passes_between_fragments() {
    let (mut encoder, mut out) = (Encoder::new(Role::Client), Output::new());
    let first = Fragment::First { is_text: true, is_compressed: false, kind: None };
    encoder.fragment(b"0123", first, false, &mut out);
    encoder.ping(b"", &mut out);
    encoder.fragment(b"45", Fragment::Next, true, &mut out);
    let bytes = written(&mut out);
    let found = decode_with(Role::Server, LIMITS, &bytes, &[2]).0;
    assert_eq!(found, [Found::Ping(Vec::new()), Found::Message("012345".into())]);
}

/// A stream that is read to its end, and takes every automatic answer.
struct Stream<'a>(Cursor<&'a [u8]>);

impl Read for Stream<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buf)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What tungstenite makes of the same bytes.
fn their_opinion(role: Role, bytes: &[u8]) -> (Vec<Found>, Option<u16>) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(LIMITS.message))
        .max_frame_size(Some(LIMITS.frame));
    let mut context = WebSocketContext::new(role, Some(config));
    let (mut stream, mut found) = (Stream(Cursor::new(bytes)), Vec::new());
    loop {
        found.push(match context.read(&mut stream) {
            Ok(Theirs::Text(text)) => Found::Message(text.as_str().into()),
            Ok(Theirs::Binary(bytes)) => Found::Message(bytes.into()),
            Ok(Theirs::Ping(payload)) => Found::Ping(payload.to_vec()),
            Ok(Theirs::Pong(payload)) => Found::Pong(payload.to_vec()),
            Ok(Theirs::Close(frame)) => {
                found.push(Found::Close(frame.map(|frame| {
                    CloseFrame::new(CloseCode(frame.code.into()), frame.reason.as_str())
                })));
                return (found, None);
            }
            Ok(Theirs::Frame(frame)) => panic!("a bare frame: {frame:?}"),
            Err(Error::Io(_)) => return (found, None),
            Err(Error::Utf8(_)) => return (found, Some(1007)),
            Err(Error::Capacity(_)) => return (found, Some(1009)),
            Err(_) => return (found, Some(1002)),
        });
    }
}

/// Where the two are meant to differ.
fn is_wanted(ours: &(Vec<Found>, Option<u16>), theirs: &(Vec<Found>, Option<u16>)) -> bool {
    let is_replaced = |found: &Found| {
        // some close codes of the peer are replaced there
        matches!(found, Found::Close(Some(frame)) if frame.reason == "Protocol violation")
    };
    let same = |(ours, theirs): (&Found, &Found)| ours == theirs || is_replaced(theirs);
    if !ours.0.iter().zip(&theirs.0).all(same) {
        return false;
    }
    match (ours.1, theirs.1) {
        // a bad byte ends it when it comes, not when its message is whole
        (Some(1007), _) => ours.0.len() <= theirs.0.len(),
        // a limit holds on what is announced; lengths are written in the shortest way; codes that
        // must not be sent are a violation, whatever the reason beside them is
        (Some(1009 | 1002), None | Some(1009 | 1002 | 1007)) => ours.0.len() <= theirs.0.len(),
        (None, None) => ours.0.len() == theirs.0.len(),
        _ => false,
    }
}

/// Frames that are nearly right, masked or not.
fn frames(is_masked: bool) -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        8 => prop::sample::select(vec![0x81_u8, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8a]),
        1 => Just(0x88_u8),
        1 => any::<u8>(),
    ];
    let payload = prop_oneof![
        4 => "[a-zäλ€😀]{0,20}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..140),
        1 => prop::sample::select(vec![1000_u16, 1005, 1014, 4000, 2999])
            .prop_map(|code| code.to_be_bytes().to_vec()),
        1 => Just(vec![0xf0, 0x9f]),
        1 => Just(vec![b'x'; 450]),
    ];
    let key = any::<[u8; 4]>();
    let frame = (first, payload, key).prop_map(move |(first, mut payload, key)| {
        let mask_bit = if is_masked { 0x80 } else { 0 };
        let mut frame = vec![first];
        match payload.len() {
            length @ 0..126 => frame.push(mask_bit | length as u8),
            length => {
                frame.push(mask_bit | 126);
                frame.extend((length as u16).to_be_bytes());
            }
        }
        if is_masked {
            frame.extend(key);
            payload.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
        }
        frame.extend(payload);
        frame
    });
    prop::collection::vec(frame, 0..12).prop_map(|frames| frames.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn tungstenite_finds_the_same(
        (role, bytes) in any::<bool>().prop_flat_map(|is_server| {
            let role = if is_server { Role::Server } else { Role::Client };
            (Just(role), frames(is_server))
        }),
        sizes in prop::collection::vec(1..60_usize, 1..6),
    ) {
        let ours = decode_with(role, LIMITS, &bytes, &sizes);
        let theirs = their_opinion(role, &bytes);
        if !is_wanted(&ours, &theirs) {
            prop_assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn tungstenite_reads_what_we_write(
        texts in prop::collection::vec("\\PC{0,60}", 0..8),
        is_server in any::<bool>(),
    ) {
        let (ours, peer) =
            if is_server { (Role::Server, Role::Client) } else { (Role::Client, Role::Server) };
        let (mut encoder, mut out) = (Encoder::new(ours), Output::new());
        let mut expected = Vec::new();
        for text in &texts {
            let message = Message::from(text.as_str());
            encoder.message(&message, None, &mut out);
            encoder.ping(b"p", &mut out);
            expected.push(Found::Message(message));
            expected.push(Found::Ping(b"p".to_vec()));
        }
        prop_assert_eq!(their_opinion(peer, &written(&mut out)), (expected, None));
    }

    /// Where the stream is cut does not matter.
    #[test]
    fn any_split_of_the_stream_gives_the_same_items(
        bytes in prop_oneof![
            frames(false),
            prop::collection::vec(
                prop_oneof![Just(0x81_u8), Just(0x01), Just(0x80), Just(2), any::<u8>()],
                0..120,
            ),
        ],
        sizes in prop::collection::vec(1..9_usize, 1..5),
    ) {
        prop_assert_eq!(decode(&bytes, &[100_000]), decode(&bytes, &sizes));
    }

    /// The same for frames that are read past the buffer, masked or not, whole messages or fragments.
    #[test]
    fn any_split_of_long_frames_gives_the_same_messages(
        lengths in prop::collection::vec(
            prop_oneof![0..200_usize, 30_000..40_000_usize, 60_000..300_000_usize],
            1..6,
        ),
        is_masked in any::<bool>(),
        is_last in prop::collection::vec(any::<bool>(), 6),
        is_text in any::<bool>(),
        sizes in prop::collection::vec(
            prop_oneof![1..50_usize, 1000..10_000_usize, 30_000..150_000_usize],
            1..5,
        ),
    ) {
        let (mut bytes, mut expected, mut message) = (Vec::new(), Vec::new(), Vec::new());
        let (mut random, mut is_first) = (1_u32, true);
        for (index, length) in lengths.iter().enumerate() {
            let payload = Vec::from_iter((0..*length).map(|_| {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if is_text { (random >> 25) as u8 } else { (random >> 24) as u8 }
            }));
            message.extend_from_slice(&payload);
            let is_last = is_last[index] || index + 1 == lengths.len();
            let opcode = match (is_first, is_text) {
                (false, _) => Data::Continue,
                (true, true) => Data::Text,
                (true, false) => Data::Binary,
            };
            let frame = Frame::message(payload, OpCode::Data(opcode), is_last);
            // a ping may come between fragments
            for mut frame in [frame, Frame::ping(vec![index as u8])] {
                frame.header_mut().mask = is_masked.then_some([1, 2, 3, 4]);
                frame.format(&mut bytes).unwrap();
            }
            is_first = is_last;
            if is_last {
                let whole = std::mem::take(&mut message);
                expected.push(Found::Message(match String::from_utf8(whole) {
                    Ok(text) if is_text => text.into(),
                    Ok(text) => text.into_bytes().into(),
                    Err(error) => error.into_bytes().into(),
                }));
            }
            expected.push(Found::Ping(vec![index as u8]));
        }
        let role = if is_masked { Role::Server } else { Role::Client };
        let limits = MaxSizes { message: 2_000_000, frame: 2_000_000 };
        let (found, code) = decode_with(role, limits, &bytes, &sizes);
        prop_assert_eq!(code, None);
        prop_assert!(found == expected, "{:?} and {:?}", found.len(), expected.len());
    }

    /// However much is taken each time, the same bytes go out.
    #[test]
    fn any_partial_write_gives_the_same_bytes(
        sizes in prop::collection::vec(0..40_000_usize, 1..6),
        takes in prop::collection::vec(1..20_000_usize, 1..6),
    ) {
        let encode = || {
            let (mut encoder, mut out) = (Encoder::new(Role::Server), Output::new());
            for size in &sizes {
                encoder.message(&Message::from(vec![7; *size]), None, &mut out);
                encoder.pong(b"x", &mut out);
            }
            out
        };
        let expected = written(&mut encode());
        let (mut out, mut bytes) = (encode(), Vec::new());
        for take in takes.iter().cycle() {
            let first = out.first(*take);
            if first.is_empty() {
                break;
            }
            bytes.extend_from_slice(first);
            let count = first.len();
            out.advance(count);
        }
        prop_assert!(bytes == expected);
    }
}

//! Messages behind the character that says their kind, in either protocol.

use std::io::IoSlice;

use proptest::prelude::*;
use tungstenite::protocol::Role;

use super::websocket::Fragment;
use super::{Decoder, Encoder, Item, Output, Protocol, SLICES};
use crate::failure::Failure;
use crate::message::{CloseCode, Message, MessageRef};
use crate::policy::{CodecError, Framing, FramingKind, MaxSizes, Packet, Prefix};
use crate::transport::ReadBuffer;

const LIMITS: MaxSizes = MaxSizes { message: 1 << 20, frame: 1 << 20 };

/// The protocol of each end.
fn every_protocol() -> Vec<(Protocol, Protocol)> {
    let (client, server) = (Protocol::WebSocket(Role::Client), Protocol::WebSocket(Role::Server));
    let mut all = vec![(client.clone(), server.clone()), (server, client)];
    let mut framings = vec![
        Framing::lines(),
        Framing::delimited("\r\n"),
        Framing::content_length(),
        Framing::length_prefixed(Prefix::Varint),
        Framing::custom(|| (with_length, behind_length)),
    ];
    for prefix in [Prefix::U16, Prefix::U32, Prefix::U64] {
        let plain = Framing::length_prefixed(prefix);
        framings.extend([plain.clone(), plain.clone().little_endian().text(), plain.inclusive()]);
    }
    let framed = framings.into_iter().map(|framing| Protocol::Framed(framing.with_kinds()));
    all.extend(framed.map(|protocol| (protocol.clone(), protocol)));
    all
}

/// Four bytes of length.
fn with_length(bytes: &[u8]) -> Result<Option<Packet>, CodecError> {
    let Some(length) = bytes.first_chunk() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    Ok(Some(Packet::new(4 + length).payload(4..4 + length)))
}

fn behind_length(message: &Message, out: &mut Vec<u8>) -> Result<(), CodecError> {
    out.extend_from_slice(&u32::try_from(message.len())?.to_be_bytes());
    out.extend_from_slice(message.as_bytes());
    Ok(())
}

fn is_custom(protocol: &Protocol) -> bool {
    matches!(protocol, Protocol::Framed(framing) if matches!(framing.kind, FramingKind::Custom(_)))
}

/// Decodes bytes that come in pieces of the given sizes, up to the first failure.
fn decode(
    decoder: &mut Decoder,
    mut bytes: &[u8],
    sizes: &[usize],
    mut found: impl FnMut(MessageRef<'_>),
) -> Result<(), Failure> {
    let mut buffer = ReadBuffer::new(Vec::new());
    for size in sizes.iter().cycle() {
        while let Some(item) = decoder.decode(&mut buffer)? {
            if let Item::Message(message) = item {
                found(message);
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
    Ok(())
}

/// Kinds and messages, as they were decoded.
fn split(decoder: &mut Decoder, bytes: &[u8], sizes: &[usize]) -> Vec<(u8, Message)> {
    let mut found = Vec::new();
    decode(decoder, bytes, sizes, |message| {
        let (kind, message) = message.on_link(7).split_kind().expect("each has a kind");
        assert_eq!(message.link(), Some(7));
        found.push((kind, message.into_owned()));
    })
    .unwrap();
    found
}

/// The close code of the first failure, if there is one.
fn refusal(decoder: &mut Decoder, bytes: &[u8], sizes: &[usize]) -> Option<CloseCode> {
    match decode(decoder, bytes, sizes, |_| {}) {
        Ok(()) => None,
        Err(Failure::Protocol { code, .. }) => Some(code),
        // no code can be told there
        Err(Failure::Framing { .. }) => Some(CloseCode::MESSAGE_TOO_BIG),
        Err(other) => panic!("{other:?}"),
    }
}

/// Encodes a message in fragments of that size, the first of which may be empty.
fn fragments(
    encoder: &mut Encoder,
    (kind, message): (u8, &Message),
    (size, begins_empty): (usize, bool),
    out: &mut Output,
) {
    let Encoder::WebSocket(encoder) = encoder else {
        return encoder.message(message, Some(kind), out).unwrap();
    };
    let deflated = encoder.deflate(message, Some(kind));
    let (is_text, is_compressed) = (message.is_text(), deflated.is_some());
    let first = |kind| Fragment::First { is_text, is_compressed, kind };
    match deflated {
        None if !begins_empty => {
            let (head, rest) = message.as_bytes().split_at(size.min(message.len()));
            encoder.fragment(head, first(Some(kind)), rest.is_empty(), out);
            let last = rest.len().div_ceil(size);
            for (index, piece) in rest.chunks(size).enumerate() {
                encoder.fragment(piece, Fragment::Next, index + 1 == last, out);
            }
        }
        deflated => {
            let whole = deflated.unwrap_or_else(|| [&[kind], message.as_bytes()].concat());
            encoder.fragment(b"", first(None), false, out);
            for piece in whole.chunks(size) {
                encoder.fragment(piece, Fragment::Next, false, out);
            }
            encoder.fragment(b"", Fragment::Next, true, out);
        }
    }
}

/// What arrives of a message, and `None` if it cannot be sent.
fn received(protocol: &Protocol, message: &Message) -> Option<Message> {
    protocol.check(message).ok()?;
    let Protocol::Framed(framing) = protocol else { return Some(message.clone()) };
    let bytes = message.as_bytes();
    Some(match std::str::from_utf8(bytes) {
        Ok(text) if framing.is_text() => Message::from(text),
        _ => Message::from(bytes),
    })
}

fn messages() -> impl Strategy<Value = Vec<(u8, Message)>> {
    let kind = prop::sample::select(b"mx".to_vec());
    let message = prop_oneof![
        2 => "[ab\r]{0,300}".prop_map(Message::from),
        2 => "\\PC{0,60}".prop_map(Message::from),
        2 => prop::collection::vec(any::<u8>(), 0..140).prop_map(Message::from),
        1 => (0..200_000_usize).prop_map(|length| Message::from("abé".repeat(length / 4))),
        1 => prop::collection::vec(any::<u8>(), 0..70_000).prop_map(Message::from),
        1 => prop::sample::select(vec![0, 124, 125, 126, 65_533, 65_534, 65_535, 65_536])
            .prop_map(|length| Message::from(vec![b'x'; length])),
    ];
    prop::collection::vec((kind, message), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_goes_with_a_kind_comes_with_it(
        messages in messages(),
        fragment in prop::option::of((1..5000_usize, any::<bool>())),
        compression in prop::option::of(any::<bool>()),
        is_plain in any::<bool>(),
        sizes in prop::collection::vec(1..5000_usize, 1..6),
    ) {
        for (ours, peer) in every_protocol() {
            let (mut encoder, mut decoder) = (ours.encoder(), peer.decoder(LIMITS.with_kind()));
            let mut out = Output::new();
            if let Some(takeover) = compression {
                compress(&mut encoder, &mut decoder, takeover);
            }
            let mut expected = Vec::new();
            for (kind, message) in &messages {
                let Some(arrives) = received(&ours, message) else { continue };
                expected.push((*kind, arrives));
                match fragment {
                    Some(how) => fragments(&mut encoder, (*kind, message), how, &mut out),
                    None if is_plain => encoder.plain(message, Some(*kind), &mut out).unwrap(),
                    None => encoder.message(message, Some(*kind), &mut out).unwrap(),
                }
            }
            let bytes = out.take_all();
            prop_assert!(split(&mut decoder, &bytes, &sizes) == expected, "{ours:?}");
        }
    }
}

#[cfg(feature = "deflate")]
fn compress(encoder: &mut Encoder, decoder: &mut Decoder, takeover: bool) {
    use crate::policy::{AgreedCompression, Compression};
    let agreed = AgreedCompression {
        send_takeover: takeover,
        receive_takeover: takeover,
        send_window_bits: 15,
        receive_window_bits: 15,
    };
    encoder.compressed(agreed, Compression::new().threshold(100));
    decoder.compressed(agreed);
}

#[cfg(not(feature = "deflate"))]
fn compress(_: &mut Encoder, _: &mut Decoder, _: bool) {}

#[test]
fn what_has_no_kind_has_none() {
    let whole = |message| MessageRef::whole(message);
    for message in [
        MessageRef::text(""),
        MessageRef::binary(b""),
        whole(Message::from("")),
        MessageRef::text("é"),
        MessageRef::binary(b"\x80m"),
        whole(Message::from("é".to_owned())),
        whole(Message::from(vec![0xff])),
    ] {
        assert!(message.split_kind().is_none());
    }
    for message in
        [MessageRef::text("mé"), whole(Message::from("mé")), whole(Message::from("mé".to_owned()))]
    {
        let (kind, rest) = message.split_kind().unwrap();
        assert_eq!((kind, rest.as_text()), (b'm', Some("é")));
    }
    for message in [
        MessageRef::binary(b"m\xff"),
        whole(Message::from(&b"m\xff"[..])),
        whole(Message::from(b"m\xff".to_vec())),
    ] {
        let (kind, rest) = message.split_kind().unwrap();
        assert_eq!((kind, rest.into_owned()), (b'm', Message::from(&[0xff])));
    }
}

#[test]
fn a_large_payload_goes_out_from_where_it_is() {
    for message in [Message::from("x".repeat(100_000)), Message::from(vec![7; 40_000])] {
        for (ours, _) in every_protocol() {
            let is_masked = matches!(ours, Protocol::WebSocket(Role::Client));
            // a codec copies
            if is_masked || is_custom(&ours) || ours.check(&message).is_err() {
                continue;
            }
            let mut out = Output::new();
            ours.encoder().message(&message, Some(b'm'), &mut out).unwrap();
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = out.slices(&mut slices);
            let is_itself = |slice: &IoSlice<'_>| slice.as_ptr() == message.as_bytes().as_ptr();
            assert!(slices[..count].iter().any(is_itself), "{ours:?}");
        }
    }
}

#[test]
fn a_large_payload_stays_where_it_came() {
    for message in [Message::from("é".repeat(50_000)), Message::from(vec![7; 60_000])] {
        for (ours, peer) in every_protocol() {
            if ours.check(&message).is_err() {
                continue;
            }
            for deflates in [false, true] {
                let (mut encoder, mut decoder) = (ours.encoder(), peer.decoder(LIMITS));
                if deflates {
                    compress(&mut encoder, &mut decoder, true);
                }
                let mut out = Output::new();
                encoder.message(&message, Some(b'm'), &mut out).unwrap();
                let mut count = 0;
                decode(&mut decoder, &out.take_all(), &[1000], |whole| {
                    let place = whole.as_bytes()[1..].as_ptr();
                    let (_, rest) = whole.split_kind().unwrap();
                    assert_eq!(rest.as_bytes().as_ptr(), place, "{ours:?}");
                    let owned = rest.into_owned();
                    assert_eq!(owned.as_bytes(), message.as_bytes());
                    assert_eq!(owned.into_bytes().as_ptr(), place, "{ours:?}");
                    count += 1;
                })
                .unwrap();
                assert_eq!(count, 1);
            }
        }
    }
}

#[test]
fn a_limit_is_that_of_the_message_without_its_kind() {
    for limit in [1, 100, 124, 125, 126, 5000, 40_000] {
        let limits = MaxSizes { message: limit, frame: limit };
        // with a codec it is that of the packet
        for (ours, peer) in every_protocol().into_iter().filter(|(ours, _)| !is_custom(ours)) {
            for (excess, code) in [(0, None), (1, Some(CloseCode::MESSAGE_TOO_BIG))] {
                let message = Message::from("a".repeat(limit + excess));
                for (deflates, size) in [(false, 100_000), (false, 7), (true, 100_000), (true, 7)] {
                    let (mut encoder, mut decoder) =
                        (ours.encoder(), peer.decoder(limits.with_kind()));
                    if deflates {
                        compress(&mut encoder, &mut decoder, true);
                    }
                    let mut out = Output::new();
                    encoder.message(&message, Some(b'm'), &mut out).unwrap();
                    let got = refusal(&mut decoder, &out.take_all(), &[size]);
                    assert_eq!(got, code, "{ours:?}, {limit} and {excess}, {deflates}, {size}");
                }
            }
        }
    }
    let most = MaxSizes { message: usize::MAX, frame: usize::MAX }.with_kind();
    assert_eq!((most.message, most.frame), (usize::MAX, usize::MAX));
}

#[test]
fn a_limit_is_raised_behind_the_first_message() {
    let first = MaxSizes { message: 4096, frame: 4096 };
    let (short, long) = (Message::from("a".repeat(4095)), Message::from("a".repeat(5000)));
    for (ours, peer) in every_protocol().into_iter().filter(|(ours, _)| !is_custom(ours)) {
        let mut out = Output::new();
        let mut encoder = ours.encoder();
        encoder.message(&short, Some(b's'), &mut out).unwrap();
        encoder.message(&long, Some(b'm'), &mut out).unwrap();
        let bytes = out.take_all();
        let mut decoder = peer.decoder(first);
        let code = refusal(&mut decoder, &bytes, &[100_000]);
        assert_eq!(code, Some(CloseCode::MESSAGE_TOO_BIG), "{ours:?}");
        // all of it is there when the first is decoded
        let (mut decoder, mut buffer) = (peer.decoder(first), ReadBuffer::new(bytes));
        for (length, kind) in [(4095, b's'), (5000, b'm')] {
            let Some(Item::Message(message)) = decoder.decode(&mut buffer).unwrap() else {
                panic!("{ours:?}: nothing comes")
            };
            let (found, message) = message.split_kind().unwrap();
            assert_eq!((message.len(), found), (length, kind), "{ours:?}");
            decoder.set_limits(LIMITS.with_kind());
        }
        // and down again, for short ones as well
        decoder.set_limits(MaxSizes { message: 10, frame: 10 });
        encoder.message(&Message::from("a".repeat(10)), Some(b'm'), &mut out).unwrap();
        let code = refusal(&mut decoder, &out.take_all(), &[100_000]);
        assert_eq!(code, Some(CloseCode::MESSAGE_TOO_BIG), "{ours:?}");
    }
}

#[test]
fn a_framing_has_room_for_the_kind() {
    let u16 = Framing::length_prefixed(Prefix::U16);
    let u32 = Framing::length_prefixed(Prefix::U32);
    for (framing, most) in [
        (u16.clone(), 65_534),
        (u16.clone().inclusive(), 65_532),
        (u16.clone().little_endian(), 65_534),
        (u16.clone().max_length(65_535), 65_534),
        (u16.clone().max_length(65_534), 65_534),
        (u16.max_length(100), 100),
        (u32.max_length(70_000), 70_000),
        (Framing::lines().max_length(70_000), 70_000),
    ] {
        let framing = framing.with_kinds();
        let protocol = Protocol::Framed(framing.clone());
        assert_eq!(framing.limit(), most);
        let message = Message::from(vec![7; most]);
        assert_eq!(protocol.check(&message), Ok(()));
        assert!(protocol.check(&Message::from(vec![7; most + 1])).is_err());
        let (mut decoder, mut out) = (protocol.decoder(LIMITS), Output::new());
        protocol.encoder().message(&message, Some(b'm'), &mut out).unwrap();
        let found = split(&mut decoder, &out.take_all(), &[3000]);
        assert!(matches!(&found[..], [(b'm', same)] if same.as_bytes() == message.as_bytes()));
    }
}

#[test]
fn a_line_of_a_session_comes_as_it_was_sent() {
    let lines = Framing::lines();
    for text in ["a\r", "\r", "a\n"] {
        assert!(lines.clone().with_kinds().check(&Message::from(text)).is_err(), "{text:?}");
    }
    assert_eq!(lines.clone().with_kinds().check(&Message::from("a\rb")), Ok(()));
    // without one it is part of the line's end, for peers that want both
    assert_eq!(lines.check(&Message::from("a\r")), Ok(()));
}

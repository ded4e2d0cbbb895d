//! Framings of the program's own: what holds for lines holds for each of them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};

use crate::support::bare::{close_body, connect, frame, masked, open, read_frame, upgrade};
use crate::support::resumed::{keep, next, resuming_server, serve_with};
use crate::support::*;
use everlink::config::{
    Backoff, CodecError, Delivery, Framing, Heartbeat, LengthField, Limits, Packet, Prefix, Queue,
    Resume,
};
use everlink::failure::Undelivered;
use everlink::{Client, ClientBuilder, Error, Event, Failure, Message, Sender, Server, Session};

const BINARY: u8 = 0x82;
const TEXT: u8 = 0x81;

/// A byte of length, and a text.
fn decode(received: &[u8]) -> Result<Option<Packet>, CodecError> {
    let Some(length) = received.first().map(|length| usize::from(*length)) else { return Ok(None) };
    Ok(Some(Packet::new(1 + length).payload(1..1 + length).text()))
}

fn encode(message: &Message, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let Ok(length) = u8::try_from(message.len()) else {
        return Err("longer than a byte says".into());
    };
    assert_ne!(message.as_bytes(), b"bug");
    out.push(length);
    out.extend_from_slice(message.as_bytes());
    Ok(())
}

fn short() -> Framing {
    Framing::custom(|| (decode, encode))
}

fn client(listener: &Listener) -> ClientBuilder {
    Client::builder(format!("tcp://{}", listener.address()))
        .heartbeat(Heartbeat::off())
        .backoff(Backoff::fixed(ms(1)))
}

fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut came = vec![0; bytes.len()];
    stream.read_exact(&mut came).unwrap();
    assert_eq!(came, bytes);
}

#[test]
fn each_link_has_a_codec_of_its_own_which_sees_the_login_and_keeps_what_is_left() {
    let links = Arc::new(AtomicUsize::new(0));
    let made = Arc::clone(&links);
    // packets on a link are counted, both ways, and begin with that
    let framing = Framing::custom(move || {
        made.fetch_add(1, SeqCst);
        let (mut received, mut sent) = (b'0', b'0');
        let decode = move |bytes: &[u8]| {
            if bytes.first().is_some_and(|number| *number != received) {
                return Err("out of step".into());
            }
            if bytes.len() < 2 {
                return Ok(None);
            }
            received += 1;
            Ok(Some(Packet::new(2).payload(1..2).text()))
        };
        let encode = move |message: &Message, out: &mut Vec<u8>| {
            out.push(sent);
            out.extend_from_slice(message.as_bytes());
            sent += 1;
            Ok(())
        };
        (decode, encode)
    });
    let listener = Listener::new();
    let client = client(&listener)
        .framing(framing)
        .login(|login| {
            login.send("L")?;
            let answer = login.recv()?;
            if answer == "l" { Ok(()) } else { Err(format!("{answer:?}").into()) }
        })
        .start()
        .unwrap();
    for link in 1..=3 {
        let mut stream = listener.accept_raw();
        expect(&mut stream, b"0L");
        // the rest lies in the buffer when the login is over, half a packet with it
        stream.write_all(b"0l1a2b3").unwrap();
        for text in ["a", "b"] {
            assert_eq!(client.recv_timeout(PATIENCE).unwrap(), text);
        }
        client.send("x").unwrap();
        client.send("y").unwrap();
        expect(&mut stream, b"1x2y");
        stream.write_all(b"c").unwrap();
        assert_eq!(client.recv_timeout(PATIENCE).unwrap(), "c");
        assert_eq!(links.load(SeqCst), link);
    }
}

#[test]
fn a_codec_that_lies_ends_the_link_with_words_and_nothing_else() {
    type Decoder = fn(&[u8]) -> Result<Option<Packet>, CodecError>;
    type Encoder = fn(&Message, &mut Vec<u8>) -> Result<(), CodecError>;
    let packets = |first: fn(&[u8]) -> Result<Option<usize>, CodecError>| Framing::packets(first);
    let custom = |decode: Decoder| Framing::custom(move || (decode, encode));
    for (framing, word) in [
        (packets(|_| Ok(Some(0))), "a packet of no bytes"),
        (packets(|_| Ok(None)), "within the limit of 1000 bytes"),
        (packets(|_| Ok(Some(usize::MAX))), "within the limit of 1000 bytes"),
        (packets(|_| panic!("my bug")), "the codec panicked: my bug"),
        (packets(|bytes| Err(format!("what is {:#x}?", bytes[0]).into())), "what is 0x78?"),
        (packets(|bytes| Ok(bytes[5000..].first().map(|_| 1))), "the codec panicked"),
        (custom(|_| Ok(Some(Packet::new(0)))), "a packet of no bytes"),
        (custom(|_| Ok(Some(Packet::new(0).skipped()))), "a packet of no bytes"),
        (custom(|_| Ok(Some(Packet::new(3).payload(2..9)))), "outside of its packet"),
        (
            custom(|_| Ok(Some(Packet::new(9).payload(std::ops::Range { start: 8, end: 2 })))),
            "outside of its packet",
        ),
        (custom(|_| Ok(Some(Packet::new(usize::MAX).payload(1..2)))), "within the limit"),
        (custom(|_| Ok(Some(Packet::new(900).message("a")))), "more than there is"),
        (custom(|_| Ok(Some(Packet::new(9).message("a".repeat(1001))))), "over the limit of 1000"),
        (Framing::custom(|| -> (Decoder, Encoder) { panic!("no codec today") }), "no codec today"),
    ] {
        let listener = Listener::new();
        let (builder, watch) = watch(client(&listener).framing(framing));
        let client = builder.limits(Limits::new().message(1000)).start().unwrap();
        let mut stream = listener.accept_raw();
        // of what lies there a codec sees a part
        let _ = stream.write_all(&[b'x'; 800]);
        let cause = match word {
            "no codec today" => watch.attempt_failed(),
            "within the limit of 1000 bytes" => {
                let _ = stream.write_all(&[b'x'; 400]);
                watch.disconnected()
            }
            _ => watch.disconnected(),
        };
        assert!(matches!(&*cause, Failure::Framing { .. }), "{cause:?}");
        assert!(cause.to_string().contains(word), "{cause} does not say {word:?}");
        // and it is dialed again
        drop(stream);
        listener.accept_raw();
        drop(client);
    }
}

#[test]
fn a_message_that_the_codec_does_not_encode_is_handed_back_and_the_rest_goes_on() {
    let listener = Listener::new();
    let (dropped, told) = mpsc::channel();
    let (builder, watch) = watch(client(&listener).framing(short()));
    let client = builder
        .on_dropped(move |message, why| dropped.send((message, why)).unwrap())
        .connect()
        .unwrap();
    let mut stream = listener.accept_raw();
    let long = Message::from("x".repeat(256));
    for _ in 0..3 {
        client.send("a").unwrap();
        client.send(long.clone()).unwrap();
        client.send("b").unwrap();
        expect(&mut stream, b"\x01a\x01b");
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), (long.clone(), Undelivered::Refused));
        // what is sent next may go past the writer thread
        stream.write_all(b"\x01!").unwrap();
        assert_eq!(client.recv_timeout(PATIENCE).unwrap(), "!");
        client.send(long.clone()).unwrap();
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), (long.clone(), Undelivered::Refused));
    }
    assert_eq!(client.stats().connects, 1);
    // one that panics is not asked again
    client.send("bug").unwrap();
    client.send("c").unwrap();
    let cause = watch.disconnected();
    assert!(matches!(&*cause, Failure::Framing { .. }), "{cause:?}");
    assert!(cause.to_string().contains("the codec panicked"), "{cause}");
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), ("bug".into(), Undelivered::Refused));
    expect(&mut listener.accept_raw(), b"\x01c");
    assert!(told.try_recv().is_err());
}

#[test]
fn at_least_once_holds_with_a_recognised_beat_in_any_framing() {
    // a type, and a length of what follows, as MQTT has it; beats have a type of their own
    let framing = Framing::length_field(LengthField::new(Prefix::Varint).offset(1).strip(0));
    let packet = |number: u8| vec![0x30, 1, number];
    let (beat, answer) = (vec![0xc0, 0], vec![0xd0, 0]);
    let listener = Listener::new();
    let is_answer = {
        let answer = answer.clone();
        move |message: &everlink::MessageRef<'_>| message.as_bytes() == answer
    };
    let client = Client::builder(format!("tcp://{}", listener.address()))
        .framing(framing)
        .delivery(Delivery::AtLeastOnce)
        .heartbeat(Heartbeat::every(PATIENCE).message(beat.clone(), is_answer))
        .backoff(Backoff::fixed(ms(1)))
        .connect()
        .unwrap();
    // one that is none is refused
    assert!(client.send(vec![0x30, 2, 1]).is_err());
    // between the messages it may be asked what has come
    let expect_after_beats = |stream: &mut TcpStream, packet: Vec<u8>, answer: &[u8]| {
        let mut head = [0; 2];
        loop {
            stream.read_exact(&mut head).unwrap();
            if head != *beat {
                break;
            }
            stream.write_all(answer).unwrap();
        }
        assert_eq!(head, packet[..2]);
        expect(stream, &packet[2..]);
    };
    let mut stream = listener.accept_raw();
    let receipts: Vec<_> =
        (0..3).map(|number| client.send_confirmed(packet(number)).unwrap()).collect();
    for number in 0..3 {
        expect_after_beats(&mut stream, packet(number), b"");
    }
    reset_raw(stream);
    // none was confirmed: all come again, and are now
    let mut stream = listener.accept_raw();
    for number in 0..3 {
        expect_after_beats(&mut stream, packet(number), &answer);
    }
    let mut again = stream.try_clone().unwrap();
    std::thread::spawn(move || {
        let mut beat = [0; 2];
        while again.read_exact(&mut beat).is_ok() {
            let _ = again.write_all(&answer);
        }
    });
    for receipt in receipts {
        receipt.wait(PATIENCE).unwrap();
    }
    assert!(client.try_recv().unwrap().is_none(), "an answer was delivered");
}

fn reset_raw(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(ms(0))).unwrap();
}

#[test]
fn a_session_goes_on_in_any_framing_that_has_room_for_it() {
    for (index, framing) in [
        short(),
        Framing::delimited("\r\n"),
        Framing::delimited("\0"),
        Framing::content_length(),
        Framing::length_prefixed(Prefix::Varint),
        Framing::length_field(LengthField::new(Prefix::U24).adjustment(-3)),
    ]
    .into_iter()
    .enumerate()
    {
        let is_refusing = index == 0;
        let (sessions, session) = mpsc::channel();
        let server = Server::builder()
            .framing(framing.clone())
            .resume(Resume::new())
            .bind("127.0.0.1:0", move |session| {
                sessions.send(session.clone()).unwrap();
                echo_all(session);
            })
            .unwrap();
        let client = Client::builder(format!("tcp://{}", server.local_addr()))
            .framing(framing.clone())
            .resume(Resume::new())
            .backoff(Backoff::fixed(ms(1)))
            .connect()
            .unwrap();
        let session = session.recv_timeout(PATIENCE).unwrap();
        for round in 0..5 {
            for number in 0..20 {
                client.send(format!("{round}.{number}")).unwrap();
            }
            if is_refusing {
                // it has a number, which is empty then
                client.send("x".repeat(256)).unwrap();
            }
            client.reconnect().unwrap();
            for number in 0..20 {
                let came = client.recv_timeout(PATIENCE).unwrap();
                let text = format!("{round}.{number}");
                assert_eq!(came.as_bytes(), text.as_bytes(), "{framing:?}");
            }
        }
        assert!(session.failure().is_none(), "{framing:?}");
    }
    for framing in [
        Framing::fixed(8),
        Framing::packets(|_| Ok(Some(1))),
        Framing::delimited("|"),
        Framing::delimited("\n").keep_delimiter(),
        Framing::length_field(LengthField::new(Prefix::U8).strip(0)),
        // a message of "\nfoo" would end behind its kind
        Framing::delimited("m\n"),
        // what a session says is shorter, or longer
        Framing::length_field(LengthField::new(Prefix::U8).adjustment(5)),
        Framing::length_field(LengthField::new(Prefix::U16).adjustment(100)),
        Framing::length_field(LengthField::new(Prefix::U8).adjustment(-150)),
        Framing::lines().max_length(159),
        short().max_length(159),
    ] {
        let client = Client::builder("tcp://127.0.0.1:9").framing(framing).resume(Resume::new());
        let refused = client.start().unwrap_err();
        assert!(refused.to_string().contains("resume"), "{refused}");
    }
}

/// A server whose sessions resume, a client of one, and the session.
fn in_a_session(
    framing: Framing,
    set: impl FnOnce(ClientBuilder) -> ClientBuilder,
) -> (Server, Client, Session) {
    let (server, sessions) = serve_with(resuming_server().framing(framing.clone()), keep);
    let client = Client::builder(format!("tcp://{}", server.local_addr()))
        .framing(framing)
        .resume(Resume::new())
        .backoff(Backoff::fixed(ms(1)));
    let client = set(client).connect().unwrap();
    let session = next(&sessions);
    (server, client, session)
}

#[test]
fn what_the_codec_refuses_at_login_has_no_number_in_the_session() {
    let (_server, client, session) = in_a_session(short(), |builder| {
        builder.login(|login| {
            assert!(login.send("x".repeat(256)).is_err());
            login.send("first")?;
            login.send("second")
        })
    });
    let expect = |text: &str| assert_eq!(session.recv_timeout(PATIENCE).unwrap(), text);
    client.send("third").unwrap();
    ["first", "second", "third"].into_iter().for_each(expect);
    client.reconnect().unwrap();
    client.send("fourth").unwrap();
    // nothing twice
    expect("fourth");
    client.flush(PATIENCE).unwrap();
    assert_eq!(session.try_recv().unwrap(), None);
}

#[test]
fn the_end_of_a_session_is_said_within_the_least_limits() {
    let reason = "r".repeat(120);
    for framing in [Framing::lines(), Framing::length_prefixed(Prefix::U16)] {
        let framing = framing.max_length(160);
        let (_server, client, session) = in_a_session(framing.clone(), |builder| builder);
        let _ = client.close_with(4000, &reason);
        eventually("the end is heard", || session.failure().map(drop).ok_or(()));
        let cause = format!("{:?}", session.failure().unwrap());
        assert!(cause.contains("4000") && cause.contains(&reason), "{cause}");
        let (ended, told) = mpsc::channel();
        let (_server, _client, session) = in_a_session(framing, |builder| {
            builder.on_event(move |_, event| {
                if let Event::Disconnected { cause, .. } = event {
                    let _ = ended.send(format!("{cause:?}"));
                }
            })
        });
        let _ = session.close_with(4000, &reason);
        let cause = told.recv_timeout(PATIENCE).unwrap();
        assert!(cause.contains("4000") && cause.contains(&reason), "{cause}");
    }
}

#[test]
fn what_a_codec_makes_over_the_limit_is_handed_back_and_ends_no_link() {
    let (dropped, told) = mpsc::channel();
    let back = move |message: Message, why| dropped.send((message.len(), why)).unwrap();
    let framing = short().max_length(10);
    let server = Server::builder()
        .framing(framing.clone())
        .heartbeat(Heartbeat::listen(PATIENCE))
        .bind("127.0.0.1:0", echo_all)
        .unwrap();
    let client = Client::builder(format!("tcp://{}", server.local_addr()))
        .framing(framing)
        .heartbeat(Heartbeat::off())
        .on_dropped(back.clone())
        .connect()
        .unwrap();
    // with its length it is one byte more
    client.send("0123456789").unwrap();
    client.send("012345678").unwrap();
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), (10, Undelivered::Refused));
    assert_eq!(client.recv_timeout(PATIENCE).unwrap(), "012345678");
    assert_eq!(client.stats().connects, 1);
    let (_server, client, session) =
        in_a_session(short().max_length(200), |builder| builder.on_dropped(back));
    client.send("x".repeat(200)).unwrap();
    client.send("after").unwrap();
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), (200, Undelivered::Refused));
    assert_eq!(session.recv_timeout(PATIENCE).unwrap(), "after");
    assert_eq!(client.stats().connects, 1);
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("drop bomb");
        }
    }
}

/// An error that panics when it is shown.
#[derive(Debug)]
struct Unspeakable;

impl std::fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("display bomb")
    }
}

impl std::error::Error for Unspeakable {}

#[test]
fn a_codec_that_panics_where_nobody_calls_it_ends_nothing_but_its_link() {
    let listener = Listener::new();
    let framing = Framing::custom(|| {
        let (one, other) = (Bomb, Bomb);
        let decode = move |bytes: &[u8]| {
            let _ = &one;
            decode(bytes)
        };
        let encode = move |message: &Message, out: &mut Vec<u8>| {
            let _ = &other;
            encode(message, out)
        };
        (decode, encode)
    });
    let builder = client(&listener).framing(framing).login(|login| {
        let said = login.recv()?;
        if said == "no" { Err("not yet".into()) } else { Ok(()) }
    });
    let (builder, watch) = watch(builder);
    let bombed = builder.start().unwrap();
    for _ in 0..3 {
        listener.accept_raw().write_all(b"\x02no").unwrap();
        let cause = watch.attempt_failed();
        assert!(matches!(&*cause, Failure::Login { .. }), "{cause:?}");
        let mut stream = listener.accept_raw();
        stream.write_all(b"\x01y\x01m").unwrap();
        assert_eq!(bombed.recv_timeout(PATIENCE).unwrap(), "m");
    }
    assert!(bombed.close().ended);
    let (builder, watch) = crate::support::watch(
        client(&listener).framing(Framing::packets(|_| Err(Unspeakable.into()))),
    );
    let _client = builder.start().unwrap();
    let mut stream = listener.accept_raw();
    stream.write_all(b"x").unwrap();
    let cause = watch.disconnected();
    assert!(matches!(&*cause, Failure::Framing { .. }), "{cause:?}");
    assert!(cause.to_string().contains("display bomb"), "{cause}");
}

#[test]
fn a_codec_that_sends_waits_for_nothing_and_its_link_can_end() {
    let place: Arc<Mutex<Option<Sender>>> = Arc::default();
    let (told, results) = mpsc::channel();
    let framing = Framing::custom({
        let place = Arc::clone(&place);
        move || {
            let (place, told) = (Arc::clone(&place), told.clone());
            let encode = move |message: &Message, out: &mut Vec<u8>| {
                let sender = place.lock().unwrap().clone();
                if let Some(sender) = sender.filter(|_| *message == "outer") {
                    let sent = sender.send("inner").and_then(|()| sender.send("inner"));
                    let is_ours =
                        !std::thread::current().name().unwrap_or("").starts_with("everlink-");
                    let _ = told.send((sent, sender.flush(PATIENCE), is_ours));
                }
                encode(message, out)
            };
            (decode, encode)
        }
    });
    let listener = Listener::new();
    let builder = client(&listener).framing(framing).outbox(Queue::new().messages(1));
    let client = builder.start().unwrap();
    *place.lock().unwrap() = Some(client.sender().clone());
    let mut stream = listener.accept_raw();
    client.send("a").unwrap();
    expect(&mut stream, b"\x01a");
    client.wait_sent(PATIENCE).unwrap();
    // until it is encoded where it is sent: something was received, and the writer sleeps
    eventually("a thread of the program's writes", || {
        stream.write_all(b"\x01b").unwrap();
        client.recv_timeout(PATIENCE).unwrap();
        let sender = client.sender().clone();
        std::thread::spawn(move || sender.send("outer"));
        let (sent, flushed, is_ours) = results.recv_timeout(PATIENCE).unwrap();
        assert!(format!("{sent:?}").contains("Full"), "{sent:?}");
        assert!(matches!(flushed, Err(Error::WouldWaitForever { .. })), "{flushed:?}");
        client.wait_sent(PATIENCE).unwrap();
        if is_ours { Ok(()) } else { Err(()) }
    });
    drop(stream);
    listener.accept_raw();
    *place.lock().unwrap() = None;
}

#[test]
fn packets_that_wait_in_a_websocket_count_against_the_memory() {
    let (sender, causes) = mpsc::channel();
    let calls = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&calls);
    let framing = Framing::packets(move |_| {
        asked.fetch_add(1, SeqCst);
        Ok(Some(10))
    });
    let server = Server::builder()
        .websocket_framing(framing)
        .memory_limit(1 << 20)
        .bind("127.0.0.1:0", move |session| {
            keep(&session);
            let _ = sender.send(session.failure());
        })
        .unwrap();
    // nobody receives
    let large = masked(BINARY, &[b'x'; 900_000]);
    let [mut first, mut second] = [(); 2].map(|()| open(server.local_addr()));
    first.write_all(&large).unwrap();
    // the message is whole, and its packets wait
    eventually("the codec is asked", || if calls.load(SeqCst) > 0 { Ok(()) } else { Err(()) });
    let _ = second.write_all(&large);
    let cause = causes.recv_timeout(PATIENCE).unwrap().expect("a cause");
    assert!(cause.to_string().contains("no memory"), "{cause}");
}

#[test]
fn a_codec_is_asked_again_only_when_more_has_come() {
    let calls = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&calls);
    let framing = Framing::packets(move |bytes| {
        asked.fetch_add(1, SeqCst);
        Ok(bytes.iter().position(|byte| *byte == 0).map(|end| end + 1))
    });
    let server = Server::builder().websocket_framing(framing).bind("127.0.0.1:0", echo_all);
    let server = server.unwrap();
    let mut stream = open(server.local_addr());
    let mut bytes = masked(BINARY, b"half a pack");
    for _ in 0..50 {
        bytes.extend(masked(0x89, b""));
        bytes.extend(masked(BINARY, b""));
    }
    bytes.extend(masked(BINARY, b"et\0"));
    stream.write_all(&bytes).unwrap();
    while read_frame(&mut stream).unwrap().1 != b"half a packet\0" {}
    assert_eq!(calls.load(SeqCst), 2);
}

#[test]
fn a_codec_that_panics_ends_a_login_whatever_the_hook_makes_of_it() {
    let listener = Listener::new();
    let builder = client(&listener).framing(short()).login(|login| {
        let _ = login.send("bug");
        Ok(())
    });
    let (builder, watch) = watch(builder);
    let client = builder.start().unwrap();
    listener.accept_raw();
    let cause = watch.attempt_failed();
    assert!(matches!(&*cause, Failure::Login { .. }), "{cause:?}");
    drop(client);
}

#[test]
fn a_long_packet_is_gathered_while_its_codec_says_nothing() {
    // its end shows in its last byte
    let framing =
        Framing::packets(|bytes| Ok((bytes.last() == Some(&b'.')).then_some(bytes.len())));
    let listener = Listener::new();
    let client = client(&listener).framing(framing.text()).connect().unwrap();
    let mut stream = listener.accept_raw();
    let long = "x".repeat(3_000_000) + ".";
    for _ in 0..2 {
        for piece in long.as_bytes().chunks(70_000) {
            stream.write_all(piece).unwrap();
        }
        assert!(client.recv_timeout(PATIENCE).unwrap() == *long);
    }
    client.send(long.clone()).unwrap();
    expect(&mut stream, long.as_bytes());
}

#[test]
fn what_a_codec_has_not_made_a_packet_of_counts_against_the_memory() {
    let (sender, causes) = mpsc::channel();
    let server = Server::builder()
        .framing(Framing::packets(|_| Ok(None)))
        .heartbeat(Heartbeat::listen(PATIENCE))
        .memory_limit(1 << 20)
        .bind("127.0.0.1:0", move |session| {
            while session.recv().is_ok() {}
            let _ = sender.send(session.failure());
        })
        .unwrap();
    // each is within the limit of a message, and both together are over that of the memory
    let _streams = [(); 2].map(|()| {
        let mut stream = connect(server.local_addr());
        let _ = stream.write_all(&vec![b'x'; 900_000]);
        stream
    });
    let cause = causes.recv_timeout(PATIENCE).unwrap().expect("a cause");
    assert!(cause.to_string().contains("no memory"), "{cause}");
}

fn mqtt() -> Framing {
    Framing::length_field(LengthField::new(Prefix::Varint).offset(1).strip(0))
}

#[test]
fn packets_on_a_websocket_are_joined_and_cut_as_the_peer_likes() {
    let (sender, causes) = mpsc::channel();
    let server = Server::builder()
        .websocket_framing(mqtt().max_length(1000))
        .bind("127.0.0.1:0", move |session| {
            while let Ok(packet) = session.recv() {
                let _ = session.send(packet);
            }
            let _ = sender.send(session.failure());
        })
        .unwrap();
    let long = [&[0x30, 0xf4, 0x03][..], &[7; 500]].concat();
    let packets = [vec![0xc0, 0], long, vec![0x30, 1, 9]];
    let bytes = packets.concat();
    for size in [1, 2, 3, 100, 502, 600] {
        let mut stream = open(server.local_addr());
        for piece in bytes.chunks(size) {
            stream.write_all(&masked(BINARY, piece)).unwrap();
            // pings and fragments are the WebSocket's
            stream.write_all(&masked(0x89, b"ping")).unwrap();
        }
        stream.write_all(&masked(0x02, &bytes[..1])).unwrap();
        stream.write_all(&masked(0x80, &bytes[1..])).unwrap();
        let mut came = Vec::new();
        while came.len() < 6 {
            match read_frame(&mut stream).unwrap() {
                (0x8a, payload) => assert_eq!(payload, b"ping"),
                (BINARY, packet) => came.push(packet),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(came, [&packets[..], &packets].concat(), "{size}");
        stream.write_all(&masked(0x88, &close_body(1000, ""))).unwrap();
        causes.recv_timeout(PATIENCE).unwrap();
    }
    for (bytes, code, word) in [
        (masked(TEXT, b"ab"), 1003_u16, "a text message where packets"),
        (masked(BINARY, &[0x30, 0xff, 0x7f]), 1009, "over the limit of 1000"),
        (masked(BINARY, &[0xff; 20]), 1002, "more than 64 bits"),
    ] {
        let mut stream = open(server.local_addr());
        stream.write_all(&bytes).unwrap();
        assert_eq!(read_frame(&mut stream).unwrap(), (0x88, code.to_be_bytes().to_vec()));
        drop(stream);
        let cause = causes.recv_timeout(PATIENCE).unwrap().expect("a cause");
        assert!(cause.to_string().contains(word), "{cause}");
    }
}

#[test]
fn a_client_of_packets_on_a_websocket_dials_again_after_what_is_none() {
    let listener = Listener::new();
    let (builder, watch) = watch(listener.client().framing(mqtt()));
    let client = builder.backoff(Backoff::fixed(ms(1))).start().unwrap();
    for _ in 0..2 {
        let mut stream = upgrade(&listener);
        client.send(vec![0xc0, 0]).unwrap();
        assert_eq!(read_frame(&mut stream).unwrap(), (BINARY, vec![0xc0, 0]));
        stream.write_all(&frame(BINARY, &[0xd0])).unwrap();
        stream.write_all(&frame(BINARY, &[0, 0x30, 1])).unwrap();
        assert_eq!(client.recv_timeout(PATIENCE).unwrap().as_bytes(), [0xd0, 0]);
        stream.write_all(&frame(BINARY, &[5])).unwrap();
        assert_eq!(client.recv_timeout(PATIENCE).unwrap().as_bytes(), [0x30, 1, 5]);
        stream.write_all(&frame(BINARY, &[0xff; 20])).unwrap();
        assert_eq!(read_frame(&mut stream).unwrap(), (0x88, 1002_u16.to_be_bytes().to_vec()));
        drop(stream);
        let cause = watch.disconnected();
        assert!(matches!(&*cause, Failure::Framing { .. }), "{cause:?}");
    }
}

#[test]
fn a_beat_that_its_framing_cannot_carry_is_refused_at_the_start_and_when_it_is_set() {
    let listener = Listener::new();
    let beat = |text: &str| Heartbeat::every(ms(50)).message(text, |_| false);
    let field = LengthField::new(Prefix::U16).strip(0);
    for (framing, heartbeat) in [
        (Framing::lines(), beat("a\nb")),
        (Framing::delimited("|"), beat("a|b")),
        (Framing::length_field(field), beat("a|b")),
        (Framing::fixed(2), beat("a|b")),
        (Framing::lines().max_length(2), beat("a|b")),
        (Framing::lines(), Heartbeat::listen(PATIENCE).answer("who", "me\n")),
    ] {
        let refused = client(&listener).framing(framing.clone()).heartbeat(heartbeat.clone());
        let error = refused.start().unwrap_err();
        assert!(matches!(error, Error::InvalidSetting { setting: "heartbeat", .. }), "{error:?}");
        // another beat, or none, takes its place
        let changed = heartbeat.message_with(|| "a\n".into(), |_| false).answer_with(|_| None);
        drop(client(&listener).framing(framing.clone()).heartbeat(changed).start().unwrap());

        let (said, says) = crossbeam_channel::bounded(2);
        let builder = client(&listener).framing(framing).login(move |login| {
            let refused = login.set_heartbeat(beat("a\n|b"));
            let _ = said.send(refused.unwrap_err().to_string());
            Ok(())
        });
        let client = builder.start().unwrap();
        let error = says.recv_timeout(PATIENCE).unwrap();
        assert!(error.starts_with("invalid setting heartbeat"), "{error}");
        eventually("a link", || match client.set_heartbeat(beat("a\n|b")) {
            Err(Error::InvalidSetting { .. }) => Ok(()),
            other => Err(other),
        });
    }
}

#[test]
fn a_beat_that_is_made_anew_and_cannot_be_carried_is_not_sent_and_no_ping_is_missed() {
    let refusing = Framing::custom(|| {
        (
            |_: &[u8]| Ok(None),
            |message: &Message, out: &mut Vec<u8>| {
                out.extend_from_slice(message.as_bytes());
                if message == "bad\n" { Err("not this".into()) } else { Ok(()) }
            },
        )
    });
    for framing in [Framing::lines(), refusing] {
        let listener = Listener::new();
        // the writer asks with a beat of its own, too
        let heartbeat = Heartbeat::every(ms(100)).message_with(|| "bad\n".into(), |_| true);
        let builder = client(&listener).framing(framing).heartbeat(heartbeat);
        let (builder, watch) = watch(builder.delivery(Delivery::AtLeastOnce));
        let client = builder.start().unwrap();
        let mut stream = listener.accept_raw();
        client.send("good").unwrap();
        let cause = watch.disconnected();
        assert!(matches!(&*cause, Failure::HeartbeatTimeout { unanswered: 0, .. }), "{cause}");
        let mut received = String::new();
        let _ = stream.read_to_string(&mut received);
        assert_eq!(received.trim_end(), "good");
    }
}

#[test]
fn a_function_of_packets_may_have_state_that_begins_anew_with_each_link() {
    let listener = Listener::new();
    let framing = Framing::packets_with(|| {
        let mut is_first = true;
        move |_: &[u8]| Ok(Some(if std::mem::take(&mut is_first) { 1 } else { 3 }))
    });
    let client = client(&listener).framing(framing.text()).start().unwrap();
    for _ in 0..2 {
        let mut stream = listener.accept_raw();
        stream.write_all(b"Sabcdef").unwrap();
        for expected in ["S", "abc", "def"] {
            let message = client.recv_timeout(PATIENCE).unwrap();
            assert_eq!(message.as_text(), Some(expected));
        }
    }
    client.close();

    let broken = Framing::packets_with(|| -> fn(&[u8]) -> Result<Option<usize>, CodecError> {
        panic!("no state today")
    });
    let cause = super::framing::client(&listener).framing(broken).connect().unwrap_err();
    assert!(cause.to_string().contains("no state today"), "{cause}");
}

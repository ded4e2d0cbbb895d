//! Sessions on framed TCP: what is on the wire, against servers made by hand, and both ends against each
//! other.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::bare_server::{OTHER, claim, ended, goes_on, received};
use crate::support::resumed::*;
use crate::support::*;
use crossbeam_channel::unbounded;
use everlink::chaos::{Cut, Direction, FaultProxy, Faults};
use everlink::config::*;
use everlink::failure::Decision;
use everlink::{Client, ClientBuilder, Error, Event, Failure, Server, Session, SessionStart};

/// A server's end of a link, made by hand: lines, or U16 prefixes.
struct Peer {
    stream: TcpStream,
    has_prefix: bool,
}

impl Peer {
    fn accept(listener: &Listener, has_prefix: bool) -> Self {
        Self { stream: listener.accept_raw(), has_prefix }
    }

    fn say(&mut self, text: &str) {
        let bytes = match self.has_prefix {
            true => [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat(),
            false => format!("{text}\n").into_bytes(),
        };
        self.stream.write_all(&bytes).unwrap();
    }

    /// The next message; `None` at the end of the stream.
    fn next(&mut self) -> Option<String> {
        let mut message = Vec::new();
        if self.has_prefix {
            let mut prefix = [0; 2];
            self.stream.read_exact(&mut prefix).ok()?;
            message.resize(usize::from(u16::from_be_bytes(prefix)), 0);
            self.stream.read_exact(&mut message).ok()?;
        } else {
            let mut byte = [0];
            loop {
                if self.stream.read(&mut byte).unwrap_or(0) == 0 {
                    return None;
                }
                if byte == *b"\n" {
                    break;
                }
                message.push(byte[0]);
            }
        }
        Some(String::from_utf8(message).unwrap())
    }

    /// The next that is no question.
    fn heard(&mut self) -> String {
        loop {
            match self.next().expect("a message") {
                text if text == "a" => {}
                text => return text,
            }
        }
    }

    fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

fn framing(has_prefix: bool) -> Framing {
    if has_prefix { Framing::length_prefixed(Prefix::U16) } else { Framing::lines() }
}

fn client(listener: &Listener, has_prefix: bool) -> ClientBuilder {
    // without a heartbeat of the program's: the question is one
    Client::builder(format!("tcp://{}", listener.address()))
        .framing(framing(has_prefix))
        .resume(Resume::new())
        .backoff(Backoff::fixed(ms(1)))
        // many a server here never answers the end
        .timeouts(Timeouts::new().close(ms(100)))
}

fn held(builder: ClientBuilder, listener: &Listener, has_prefix: bool) -> (Client, Watch, Peer) {
    let (builder, events) = watch(builder);
    let client = builder.start().unwrap();
    let mut peer = Peer::accept(listener, has_prefix);
    assert_eq!(peer.next().unwrap(), "s new");
    peer.say(&goes_on(0));
    assert_eq!(peer.next().unwrap(), "r 0");
    assert_eq!(start(&events), SessionStart::New);
    (client, events, peer)
}

#[test]
fn a_session_in_lines_and_behind_prefixes() {
    for has_prefix in [false, true] {
        let listener = Listener::new();
        let (client, events, mut peer) = held(client(&listener, has_prefix), &listener, has_prefix);
        for number in 0..3 {
            client.send(number.to_string()).unwrap();
        }
        for number in 0..3 {
            assert_eq!(peer.heard(), format!("m{number}"));
        }
        peer.say("ma");
        peer.say("xb");
        peer.say("a");
        assert_eq!(peer.heard(), "r 1");
        let came: Vec<_> =
            (0..2).map(|_| client.recv_timeout(PATIENCE).unwrap().as_bytes().to_vec()).collect();
        assert_eq!(came, [b"a", b"b"]);
        peer.reset();
        // no answer is a failed attempt here, too
        let mut peer = Peer::accept(&listener, has_prefix);
        assert_eq!(peer.next().unwrap(), claim(1, 1));
        peer.say("welcome");
        events.attempt_failed();
        let mut peer = Peer::accept(&listener, has_prefix);
        assert_eq!(peer.next().unwrap(), claim(2, 1));
        peer.say(&goes_on(2));
        assert_eq!(peer.next().unwrap(), "r 1");
        assert_eq!(peer.heard(), "m2");
        assert_eq!(resumed(start(&events)), 1);
        // another link, the same session
        client.reconnect().unwrap();
        drop(peer);
        let mut peer = Peer::accept(&listener, has_prefix);
        assert_eq!(peer.next().unwrap(), claim(3, 1));
        peer.say(&goes_on(3));
        assert_eq!(peer.next().unwrap(), "r 1");
        resumed(start(&events));
        let closing = thread::spawn(move || client.close_with(3001, "bye").unwrap());
        assert_eq!([peer.heard(), peer.heard()], ["r 1", "e 3001 bye"]);
        peer.say("r 3");
        peer.say("e 3001");
        assert_eq!(peer.next(), None);
        drop(peer);
        assert!(closing.join().unwrap().undelivered.is_empty());
        assert!(matches!(events.rest().last(), Some(Event::Closed { clean: true, .. })));
    }
}

#[test]
fn an_end_by_the_server_is_answered_with_its_code() {
    for has_prefix in [false, true] {
        let listener = Listener::new();
        let (client, events, mut peer) = held(client(&listener, has_prefix), &listener, has_prefix);
        client.send("0").unwrap();
        assert_eq!(peer.heard(), "m0");
        peer.say("r 0");
        peer.say("e 4001 moved");
        assert_eq!([peer.heard(), peer.heard()], ["r 0", "e 4001 moved"]);
        assert_eq!(peer.next(), None);
        drop(peer);
        let (cause, resumable, _) = ended(&events);
        assert_eq!(cause.close_frame().map(|frame| frame.code.0), Some(4001), "{cause}");
        assert!(!resumable);
        let mut peer = Peer::accept(&listener, has_prefix);
        assert_eq!(peer.next().unwrap(), "s new");
        peer.say(&format!("s {OTHER} received=0"));
        assert_eq!(in_doubt(start(&events)), 0);
        assert_eq!([peer.heard(), peer.heard()], ["r 0", "m0"]);
    }
}

#[test]
fn a_violation_is_the_end_of_the_stream_and_of_the_session() {
    for (has_prefix, wrong) in [(false, "q"), (false, "r 1"), (true, ""), (true, "e 1")] {
        let listener = Listener::new();
        let builder = client(&listener, has_prefix).decide(|_, _| Decision::Retry);
        let (_client, events, mut peer) = held(builder, &listener, has_prefix);
        peer.say(wrong);
        assert_eq!(peer.next(), None, "{wrong:?}: no `e`");
        drop(peer);
        assert!(!ended(&events).1);
        assert_eq!(Peer::accept(&listener, has_prefix).next().unwrap(), "s new");
    }
}

#[test]
fn a_message_over_the_limit_is_told_of_here_too() {
    for has_prefix in [false, true] {
        let listener = Listener::new();
        let builder = client(&listener, has_prefix)
            .framing(framing(has_prefix).max_length(160))
            .decide(|_, _| Decision::Retry);
        let (client, events, mut peer) = held(builder, &listener, has_prefix);
        peer.say(&format!("m{}", "a".repeat(160)));
        let largest = client.recv_timeout(PATIENCE).unwrap();
        assert_eq!(largest.len(), 160);
        peer.say(&format!("m{}", "a".repeat(161)));
        assert_eq!([peer.heard(), peer.heard()], ["r 1", "e 1009"]);
        assert_eq!(peer.next(), None);
        drop(peer);
        assert!(!ended(&events).1);
        assert_eq!(Peer::accept(&listener, has_prefix).next().unwrap(), "s new");
    }
}

#[test]
fn the_question_is_the_ping_and_a_peer_that_answers_none_is_dead() {
    let listener = Listener::new();
    let heartbeat = Heartbeat::every(ms(30)).dead_after(ms(300));
    let builder = client(&listener, false).heartbeat(heartbeat);
    let (client, events, mut peer) = held(builder, &listener, false);
    let begun = Instant::now();
    while begun.elapsed() < ms(600) {
        assert_eq!(peer.next().unwrap(), "a");
        peer.say("r 0");
    }
    assert!(client.stats().last_round_trip.is_some());
    while peer.next().is_some() {}
    let (cause, resumable, _) = ended(&events);
    assert!(matches!(&*cause, Failure::HeartbeatTimeout { .. }) && resumable, "{cause}");
    let mut peer = Peer::accept(&listener, false);
    assert_eq!(peer.next().unwrap(), claim(1, 0));
}

#[test]
fn beats_of_the_program_are_outside_of_the_count() {
    let listener = Listener::new();
    let heartbeat = Heartbeat::ping_pong().interval(ms(20)).dead_after(PATIENCE);
    let (client, _events, mut peer) =
        held(client(&listener, true).heartbeat(heartbeat), &listener, true);
    assert_eq!(peer.next().unwrap(), "xping");
    peer.say("xpong");
    peer.say("xping");
    while peer.next().unwrap() != "xpong" {}
    client.send("0").unwrap();
    while peer.next().unwrap() != "m0" {}
    while peer.next().unwrap() != "a" {}
    peer.say("r 1");
    client.flush(PATIENCE).unwrap();
    assert!(client.try_recv().unwrap().is_none());
    peer.say("mpong");
    peer.say("a");
    let report = loop {
        match peer.next().unwrap() {
            text if text == "xping" => {}
            text => break text,
        }
    };
    assert_eq!(report, "r 1", "and one that is counted is counted");
}

#[test]
fn what_a_framing_cannot_carry_is_refused_before_it_has_a_number() {
    let listener = Listener::new();
    let (client, _events, mut peer) = held(client(&listener, false), &listener, false);
    for wrong in ["two\nlines", "a carriage return\r"] {
        let refused = client.send(wrong).map_err(Error::from);
        assert!(matches!(refused, Err(Error::Unsendable { .. })), "{refused:?}");
    }
    client.send("a\rb").unwrap();
    assert_eq!(peer.heard(), "ma\rb");
    let calls = client.sender().send_confirmed("\r").map_err(Error::from);
    assert!(matches!(calls, Err(Error::Unsendable { .. })), "{calls:?}");
}

#[test]
fn the_largest_message_of_each_prefix_goes_both_ways() {
    let large = (1 << 20) - 1;
    for (framing, most) in [
        (Framing::length_prefixed(Prefix::U16), 65_534),
        (Framing::length_prefixed(Prefix::U16).inclusive(), 65_532),
        (Framing::length_prefixed(Prefix::U16).little_endian(), 65_534),
        (Framing::length_prefixed(Prefix::U32).inclusive().max_length(large), large),
        (Framing::lines().max_length(large), large),
    ] {
        let shown = format!("{framing:?}");
        let pair = Tcp::new(framing);
        let session = pair.session();
        for by in [1, 1000] {
            let too_large = pair.client.send(vec![b'x'; most + by]).map_err(Error::from);
            assert!(
                matches!(too_large, Err(Error::MessageTooLarge { limit, .. }) if limit == most)
            );
            let too_large = session.send(vec![b'x'; most + by]).map_err(Error::from);
            assert!(
                matches!(too_large, Err(Error::MessageTooLarge { limit, .. }) if limit == most)
            );
        }
        for size in [0, 1, most - 1, most] {
            pair.client.send(vec![b'x'; size]).unwrap();
            session.send(vec![b'y'; size]).unwrap();
            assert_eq!(session.recv_timeout(PATIENCE).unwrap().len(), size, "{shown}");
            assert_eq!(pair.client.recv_timeout(PATIENCE).unwrap().len(), size, "{shown}");
        }
        pair.client.flush(PATIENCE).unwrap();
    }
}

/// A client and a server that speak framed TCP, with a proxy between them.
struct Tcp {
    client: Client,
    events: Watch,
    proxy: FaultProxy,
    sessions: crossbeam_channel::Receiver<Session>,
    _server: Server,
}

impl Tcp {
    fn new(framing: Framing) -> Self {
        Self::with(framing, |builder| builder, |builder| builder)
    }

    fn with(
        framing: Framing,
        server: impl FnOnce(everlink::ServerBuilder) -> everlink::ServerBuilder,
        client: impl FnOnce(ClientBuilder) -> ClientBuilder,
    ) -> Self {
        let (sender, sessions) = unbounded();
        let handler = move |session: Session| {
            let _ = sender.send(session.clone());
            keep(&session);
        };
        let server = server(resuming_server().framing(framing.clone()));
        let server = server.bind("127.0.0.1:0", handler).unwrap();
        let proxy = FaultProxy::start(server.local_addr()).unwrap();
        let builder = Client::builder(format!("tcp://{}", proxy.address()))
            .framing(framing)
            .resume(Resume::new())
            .backoff(Backoff::fixed(ms(1)));
        let (builder, events) = watch(client(builder));
        let client = builder.connect().unwrap();
        assert_eq!(start(&events), SessionStart::New);
        Self { client, events, proxy, sessions, _server: server }
    }

    fn session(&self) -> Session {
        self.sessions.recv_timeout(PATIENCE).expect("a session begins")
    }
}

#[test]
fn cuts_lose_nothing_here_either() {
    for framing in [Framing::lines(), Framing::length_prefixed(Prefix::U32)] {
        let pair = Tcp::new(framing);
        let session = pair.session();
        let text = |number: u64| format!("{number} text").into_bytes();
        for round in 0..20_u64 {
            let how = [Cut::Reset, Cut::EndOfStream][round as usize % 2];
            for number in 0..10 {
                pair.client.send(text(number)).unwrap();
                session.send(text(number)).unwrap();
            }
            let receipt = pair.client.send_confirmed(text(10)).unwrap();
            pair.proxy.cut(how);
            resumed(start(&pair.events));
            for number in 0..=10 {
                assert_eq!(session.recv_timeout(PATIENCE).unwrap().as_bytes(), text(number));
            }
            for number in 0..10 {
                assert_eq!(pair.client.recv_timeout(PATIENCE).unwrap().as_bytes(), text(number));
            }
            receipt.wait(PATIENCE).unwrap();
        }
        assert_eq!(pair.client.stats().resumed, 20);
        let report = pair.client.close();
        assert!(report.ended && report.undelivered.is_empty());
        eventually("the end", || session.failure().map(drop).ok_or(()));
        let cause = session.failure().unwrap();
        assert_eq!(cause.close_frame().map(|frame| frame.code.0), Some(1000), "{cause}");
    }
}

#[test]
fn both_ends_notice_a_peer_that_is_silent() {
    let heartbeat = || Heartbeat::every(ms(50)).dead_after(ms(300));
    let pair = Tcp::with(
        Framing::lines(),
        |server| server.heartbeat(heartbeat()),
        |client| client.heartbeat(heartbeat()),
    );
    let session = pair.session();
    pair.proxy.set(Faults::none().stall(Direction::Both).refuse()).unwrap();
    let cause = pair.events.disconnected();
    assert!(matches!(&*cause, Failure::HeartbeatTimeout { .. }), "{cause}");
    eventually("the loss", || if session.is_connected() { Err(()) } else { Ok(()) });
    session.send("kept").unwrap();
    pair.client.send("kept as well").unwrap();
    pair.proxy.set(Faults::none()).unwrap();
    resumed(start(&pair.events));
    received(&pair.client, "kept");
    assert_eq!(text(&session.recv_timeout(PATIENCE).unwrap()), "kept as well");
}

#[test]
fn a_server_that_closes_says_its_code_and_a_client_too() {
    for _ in 0..2 {
        let pair = Tcp::new(Framing::length_prefixed(Prefix::U16));
        let session = pair.session();
        pair.client.send("0").unwrap();
        session.recv_timeout(PATIENCE).unwrap();
        session.close_with(4002, "enough").unwrap();
        let (cause, resumable, _) = ended(&pair.events);
        assert_eq!(cause.close_frame().map(|frame| frame.code.0), Some(4002), "{cause}");
        assert!(!resumable);
        assert_eq!(in_doubt(start(&pair.events)), 0);
        let session = pair.session();
        pair.client.close_with(4003, "so have I").unwrap();
        eventually("the end", || session.failure().map(drop).ok_or(()));
        let cause = session.failure().unwrap();
        assert_eq!(cause.close_frame().map(|frame| frame.code.0), Some(4003), "{cause}");
    }
}

#[test]
fn a_message_that_is_too_large_for_the_other_end_is_handed_back() {
    let pair = Tcp::with(
        Framing::length_prefixed(Prefix::U32),
        |server| server.framing(Framing::length_prefixed(Prefix::U32).max_length(1000)),
        |client| client,
    );
    let session = pair.session();
    pair.client.send("0").unwrap();
    session.recv_timeout(PATIENCE).unwrap();
    pair.client.send(vec![b'x'; 1001]).unwrap();
    pair.client.send("2").unwrap();
    let size = pair.events.until(|event| match event {
        Event::MessageTooLarge { size, .. } => Some(*size),
        _ => None,
    });
    assert_eq!(size, 1001);
    assert_eq!(in_doubt(start(&pair.events)), 0);
    let session = pair.session();
    assert_eq!(session.recv_timeout(PATIENCE).unwrap().as_bytes(), b"2");
}

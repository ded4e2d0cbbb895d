//! How fast a client may send, and what becomes of one that is faster.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::support::bare::connect;
use crate::support::*;
use everlink::chaos::{Cut, FaultProxy};
#[cfg(feature = "tls")]
use everlink::config::Tls;
use everlink::config::{Backoff, Excess, Framing, Heartbeat, ReceiveRate, Resume};
use everlink::{Client, Error, Server, Session};
use tungstenite::Message;

const LOOPBACK: &str = "127.0.0.1:0";

/// A server that says what it receives, and how fast that may come.
fn paced(rate: ReceiveRate, builder: everlink::ServerBuilder) -> Server {
    init_log();
    builder.receive_rate(rate).bind(LOOPBACK, echo_all).unwrap()
}

#[test]
fn a_client_that_sends_too_many_messages_is_closed_with_1008() {
    let server = paced(ReceiveRate::new().messages(5), Server::builder());
    let (mut socket, _) = tungstenite::client("ws://here/", connect(server.local_addr())).unwrap();
    for number in 0..5 {
        socket.send(Message::text(number.to_string())).unwrap();
        assert_eq!(socket.read().unwrap(), Message::text(number.to_string()));
    }
    // all at once, and pings are messages too
    for number in 0..20 {
        let ping = Message::Ping(vec![number].into());
        if socket.send(ping).is_err() {
            break;
        }
    }
    let close = read_to_end(&mut socket).unwrap();
    assert_eq!(u16::from(close.code), 1008);
    eventually("it is counted", || {
        let stats = server.stats();
        let of_protocol = stats.disconnects.of(everlink::failure::FailureKind::Protocol);
        if (stats.over_rate, of_protocol) == (1, 1) { Ok(()) } else { Err(Box::new(stats)) }
    });
}

#[test]
fn a_client_that_sends_too_many_bytes_is_closed_and_a_framed_one_too() {
    let server = paced(ReceiveRate::new().bytes(10_000), Server::builder());
    let (mut socket, _) = tungstenite::client("ws://here/", connect(server.local_addr())).unwrap();
    // one message without end, in fragments that are no message
    let _ = socket.send(Message::binary(vec![7; 100_000]));
    assert_eq!(u16::from(read_to_end(&mut socket).unwrap().code), 1008);
    let lines = Server::builder().framing(Framing::lines()).heartbeat(Heartbeat::off());
    let server = paced(ReceiveRate::new().messages(5), lines);
    let mut stream = connect(server.local_addr());
    stream.write_all(&b"x\n".repeat(100)).unwrap();
    let mut echoed = Vec::new();
    let _ = stream.read_to_end(&mut echoed);
    assert!(echoed.len() <= 10, "{echoed:?}");
    assert_eq!(server.stats().over_rate, 1);
}

#[test]
fn a_client_that_is_slowed_loses_nothing_and_takes_its_time() {
    let rate = ReceiveRate::new().messages(100).excess(Excess::Slow);
    // the silence of one that is not read is no silence
    let server =
        paced(rate, Server::builder().heartbeat(Heartbeat::every(ms(50)).dead_after(ms(300))));
    let client = Client::connect(format!("ws://{}", server.local_addr())).unwrap();
    let begun = Instant::now();
    for number in 0..200 {
        client.send(number.to_string()).unwrap();
    }
    for number in 0..200 {
        assert_eq!(client.recv_timeout(PATIENCE).unwrap(), number.to_string().as_str());
    }
    // a hundred at once, and the others one after the other
    assert!(begun.elapsed() >= ms(900), "{:?}", begun.elapsed());
    let stats = server.stats();
    assert!(stats.over_rate > 0 && stats.disconnects.total() == 0, "{stats:?}");
    // not even if nothing is read for longer than a silence may be
    let rate = ReceiveRate::new().bytes(200_000).excess(Excess::Slow);
    let beats = Heartbeat::every(ms(50)).dead_after(ms(300));
    let server = paced(rate, Server::builder().heartbeat(beats));
    let client = Client::connect(format!("ws://{}", server.local_addr())).unwrap();
    let begun = Instant::now();
    client.send(vec![7; 400_000]).unwrap();
    assert_eq!(client.recv_timeout(PATIENCE).unwrap().len(), 400_000);
    assert!(begun.elapsed() >= ms(900), "{:?}", begun.elapsed());
    assert_eq!(server.stats().disconnects.total(), 0);
    // a close does not wait for what would take five seconds
    for _ in 0..12 {
        client.send(vec![7; 100_000]).unwrap();
    }
    assert!(server.shutdown(Duration::from_secs(3)).drained);
}

#[test]
fn a_rate_that_limits_nothing_or_all_is_refused_at_the_start() {
    for rate in [
        ReceiveRate::new(),
        ReceiveRate::new().excess(Excess::Slow),
        ReceiveRate::new().messages(0),
        ReceiveRate::new().messages(1).bytes(0),
    ] {
        let refused = Server::builder().receive_rate(rate).bind(LOOPBACK, echo_all);
        let is_right =
            matches!(&refused, Err(Error::InvalidSetting { setting: "receive_rate", .. }));
        assert!(is_right, "{refused:?}");
    }
}

#[test]
fn what_a_session_says_by_itself_and_a_goodbye_are_no_messages() {
    let handler = |session: Session| {
        for number in 0..20_000 {
            session.send(number.to_string()).unwrap();
        }
        session.iter().for_each(drop);
    };
    init_log();
    let builder = Server::builder().resume(Resume::new());
    let server = builder.receive_rate(ReceiveRate::new().messages(5)).bind(LOOPBACK, handler);
    let server = server.unwrap();
    let client = Client::builder(format!("ws://{}", server.local_addr())).resume(Resume::new());
    let client = client.connect().unwrap();
    for number in 0..20_000 {
        assert_eq!(client.recv_timeout(PATIENCE).unwrap(), number.to_string().as_str());
    }
    client.close();
    let server = paced(ReceiveRate::new().messages(5), Server::builder());
    let (mut socket, _) = tungstenite::client("ws://here/", connect(server.local_addr())).unwrap();
    for number in 0..5 {
        socket.send(Message::text(number.to_string())).unwrap();
    }
    socket.close(None).unwrap();
    let _ = read_to_end(&mut socket);
    drop(client);
    eventually("it has ended", || match server.stats().disconnects.total() {
        1 => Ok(()),
        other => Err(other),
    });
    assert_eq!(server.stats().over_rate, 0);
}

#[cfg(feature = "tls")]
#[test]
fn bytes_count_inside_tls_as_well() {
    let key = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    let (chain, secret) = (key.cert.pem(), key.signing_key.serialize_pem());
    for excess in [Excess::Close, Excess::Slow] {
        let tls = Tls::new().identity_pem(chain.as_bytes(), secret.as_bytes());
        let rate = ReceiveRate::new().bytes(20_000).excess(excess);
        let server = paced(rate, Server::builder().tls(tls));
        let url = format!("wss://localhost:{}", server.local_addr().port());
        let client = Client::builder(url).tls(Tls::new().danger_accept_any_certificate());
        let client = client.connect().unwrap();
        let begun = Instant::now();
        client.send(vec![7; 60_000]).unwrap();
        eventually("it is noticed", || match server.stats().over_rate {
            0 => Err("not yet"),
            _ => Ok(()),
        });
        if excess == Excess::Slow {
            assert_eq!(client.recv_timeout(PATIENCE).unwrap().len(), 60_000);
            assert!(begun.elapsed() >= Duration::from_millis(1900), "{:?}", begun.elapsed());
        }
    }
}

#[test]
fn the_rate_is_that_of_the_session_and_not_of_each_link() {
    let rate = ReceiveRate::new().messages(20).excess(Excess::Slow);
    let server = paced(rate, Server::builder().resume(Resume::new()));
    let proxy = FaultProxy::start(server.local_addr()).unwrap();
    let client = Client::builder(format!("ws://{}", proxy.address()))
        .resume(Resume::new())
        .backoff(Backoff::fixed(ms(1)));
    let client = client.connect().unwrap();
    let begun = Instant::now();
    for number in 0..1000 {
        client.send(number.to_string()).unwrap();
    }
    for cut in 1..=10 {
        proxy.cut(Cut::Reset);
        eventually("it is back", || match server.stats().resumed {
            resumed if resumed >= cut => Ok(()),
            resumed => Err(resumed),
        });
    }
    let received = server.stats().messages_received as f64;
    let allowed = 20.0 + 20.0 * begun.elapsed().as_secs_f64();
    // one is on its way with each link
    assert!(received <= allowed + 10.0, "{received} where {allowed} are allowed");
}

#[test]
fn a_session_that_is_too_fast_is_over_and_its_client_hears_so() {
    let rate = ReceiveRate::new().messages(5);
    let server = paced(rate, Server::builder().resume(Resume::new()));
    let (builder, events) = watch(
        Client::builder(format!("ws://{}", server.local_addr()))
            .resume(Resume::new())
            .backoff(Backoff::fixed(ms(1))),
    );
    let client = builder.connect().unwrap();
    for number in 0..200 {
        client.send(number.to_string()).unwrap();
    }
    let cause = events.gave_up();
    assert_eq!(cause.close_frame().map(|frame| frame.code.0), Some(1008), "{cause}");
    assert_eq!((server.stats().resumed, server.stats().over_rate), (0, 1));
}

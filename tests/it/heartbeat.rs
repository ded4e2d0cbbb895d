//! Signs of life.

mod stopped;

use std::thread;
use std::time::{Duration, Instant};

use crate::support::*;
use everlink::config::Heartbeat;
use everlink::{Client, Event, Failure};
use tungstenite::Message;

#[test]
fn an_idle_link_carries_pings_and_yields_round_trips() {
    let listener = Listener::new();
    let client = listener.client().heartbeat(Heartbeat::every(ms(20))).start().unwrap();
    let mut peer = listener.accept();
    let mut payloads = Vec::new();
    while payloads.len() < 3 {
        if let Message::Ping(payload) = peer.read().unwrap() {
            payloads.push(payload);
        }
        peer.flush().unwrap();
    }
    assert!(payloads.is_sorted() && payloads[0] != payloads[1], "pings are numbered: {payloads:?}");
    eventually("a round trip", || {
        let stats = client.stats();
        let good = stats.last_round_trip.is_some() && stats.mean_round_trip.is_some();
        if good { Ok(()) } else { Err(Box::new(stats)) }
    });
}

#[test]
fn a_busy_link_carries_no_pings() {
    let listener = Listener::new();
    let client = listener.client().heartbeat(Heartbeat::every(ms(500))).start().unwrap();
    let mut peer = listener.accept();
    let begun = Instant::now();
    let mut longest_gap = Duration::ZERO;
    let mut last = Instant::now();
    while begun.elapsed() < ms(1500) {
        peer.send("tick".into()).unwrap();
        longest_gap = longest_gap.max(last.elapsed());
        last = Instant::now();
        client.recv().unwrap();
        thread::park_timeout(ms(5));
    }
    // a machine that stalls for as long as the interval proves nothing
    if longest_gap < ms(400) {
        assert_eq!(client.stats().pings_sent, 0);
    }
}

#[test]
fn a_peer_that_sends_but_never_answers_pings_is_alive_and_its_debt_is_counted() {
    let listener = Listener::new();
    let (builder, watch) = watch(listener.client().heartbeat(quick_heartbeat()));
    let client = builder.start().unwrap();
    let mut peer = listener.accept_raw();
    tungstenite::accept(&mut peer).unwrap();
    watch.connected();
    let begun = Instant::now();
    while begun.elapsed() < ms(1500) {
        std::io::Write::write_all(&mut peer, b"\x81\x01x").unwrap();
        thread::park_timeout(ms(150));
    }
    assert!(client.stats().unanswered_pings >= 2, "{:?}", client.stats());
    assert!(watch.rest().iter().all(|event| !matches!(event, Event::Disconnected { .. })));
}

/// How long it takes to notice that this peer is silent.
fn detection(client: &Client, watch: &Watch, silenced: Instant) -> Duration {
    let cause = watch.disconnected();
    let time = silenced.elapsed();
    assert!(matches!(&*cause, Failure::HeartbeatTimeout { .. }), "{cause:?}: {:?}", client.stats());
    time
}

#[test]
fn a_silent_peer_is_declared_dead_within_the_limit() {
    let listener = Listener::new();
    let heartbeat = Heartbeat::every(ms(200)).dead_after(ms(1000));
    let (builder, watch) = watch(listener.client().heartbeat(heartbeat));
    let client = builder.start().unwrap();
    let peer = listener.accept();
    watch.connected();
    let time = detection(&client, &watch, Instant::now());
    assert!((ms(900)..ms(1100)).contains(&time), "{time:?}");
    drop(peer);
    drop(listener.accept());
    watch.connected();
}

#[test]
fn a_slow_program_is_not_a_dead_peer_and_loses_nothing() {
    let listener = Listener::new();
    let limit = ms(400);
    let (builder, watch) = watch(
        listener
            .client()
            .heartbeat(Heartbeat::every(ms(100)).dead_after(limit))
            .inbox(everlink::config::Queue::new().messages(4)),
    );
    let client = builder.start().unwrap();
    let mut peer = listener.accept();
    watch.connected();
    let total = 2000;
    let server = thread::spawn(move || {
        for number in 0..total {
            peer.send(format!("{number} {}", "x".repeat(10_000)).into()).unwrap();
        }
        peer
    });
    watch.until(|event| matches!(event, Event::ReceiverStalled { .. }).then_some(()));
    // the program is busy with something else: this is what is tested, not a synchronisation
    thread::sleep(limit * 3);
    assert_eq!(client.stats().inbox_messages, 4);
    for number in 0..total {
        let message = client.recv_timeout(PATIENCE).unwrap();
        let text = message.as_text().unwrap();
        assert!(text.starts_with(&format!("{number} ")), "{number} is missing");
    }
    assert!(watch.rest().iter().all(|event| !matches!(event, Event::Disconnected { .. })));
    drop(server.join().unwrap());
}

#[test]
fn a_services_own_beats_go_out_and_their_answers_are_swallowed() {
    let listener = Listener::new();
    let heartbeat = Heartbeat::every(ms(30))
        .dead_after(ms(2000))
        .message("ping", |answer| answer.as_text() == Some("pong"));
    let client = listener.client().heartbeat(heartbeat).start().unwrap();
    let mut peer = listener.accept();
    for number in 0..3 {
        // busy or not
        peer.send(number.to_string().into()).unwrap();
        assert_eq!(next_text(&mut peer), "ping");
        peer.send("pong".into()).unwrap();
    }
    for number in 0..3 {
        assert_eq!(client.recv().unwrap().as_text(), Some(number.to_string().as_str()));
    }
    eventually("a round trip", || {
        let stats = client.stats();
        if stats.last_round_trip.is_some() { Ok(()) } else { Err(Box::new(stats)) }
    });
}

#[test]
fn without_a_heartbeat_silence_means_nothing() {
    let listener = Listener::new();
    let heartbeat = Heartbeat::off();
    let (builder, watch) = watch(listener.client().heartbeat(heartbeat));
    let client = builder.start().unwrap();
    let mut peer = listener.accept();
    watch.connected();
    peer.get_ref().set_read_timeout(Some(ms(300))).unwrap();
    assert!(peer.read().is_err(), "nothing is sent");
    peer.send("still here".into()).unwrap();
    assert_eq!(client.recv().unwrap().as_text(), Some("still here"));
}

#[test]
fn a_predicate_that_panics_ends_the_link_with_that_cause() {
    let listener = Listener::new();
    let heartbeat = Heartbeat::every(ms(1000)).message("ping", |_| panic!("which?"));
    let (builder, watch) = watch(listener.client().heartbeat(heartbeat));
    let _client = builder.start().unwrap();
    let mut peer = listener.accept();
    peer.send("x".into()).unwrap();
    assert_eq!(watch.disconnected().to_string(), "heartbeat predicate panicked: which?");
}

#[test]
fn pings_are_answered_with_their_payload_and_a_flood_costs_nothing() {
    let listener = Listener::new();
    let client = listener.client().start().unwrap();
    let mut peer = listener.accept();
    for payload in ["", "x", &"y".repeat(125)] {
        peer.send(Message::Ping(payload.to_owned().into())).unwrap();
        assert_eq!(peer.read().unwrap(), Message::Pong(payload.to_owned().into()));
    }
    for number in 0..100_000_u32 {
        peer.write(Message::Ping(number.to_string().into())).unwrap();
    }
    peer.flush().unwrap();
    peer.send(Message::Ping("last".into())).unwrap();
    let mut pongs = 0;
    while peer.read().unwrap() != Message::Pong("last".into()) {
        pongs += 1;
    }
    assert!(pongs <= 100_000, "{pongs} pongs");
    client.send("still working").unwrap();
    assert_eq!(next_text(&mut peer), "still working");
}

#[test]
fn a_busy_link_carries_pings_where_that_is_asked_for() {
    for always in [true, false] {
        let listener = Listener::new();
        let heartbeat = Heartbeat::every(ms(50)).dead_after(PATIENCE);
        let heartbeat = if always { heartbeat.always() } else { heartbeat };
        let client = listener.client().heartbeat(heartbeat).start().unwrap();
        let mut peer = listener.accept();
        let until = Instant::now() + ms(1000);
        // something comes far more often than every interval
        while Instant::now() < until {
            peer.send("tick".into()).unwrap();
            client.recv_timeout(PATIENCE).unwrap();
            thread::park_timeout(ms(2));
        }
        let pings = client.stats().pings_sent;
        // a machine that stands still for an interval makes the link idle
        assert!(if always { pings >= 5 } else { pings <= 4 }, "{pings} pings, always: {always}");
        client.close();
    }
}

#[test]
fn the_peers_beats_are_answered_with_what_the_program_makes_of_them() {
    let listener = Listener::new();
    let heartbeat = Heartbeat::off().answer_with(|message| {
        let number = message.as_text()?.strip_prefix(r#"{"ping":"#)?.strip_suffix('}')?;
        Some(format!(r#"{{"pong":{number}}}"#).into())
    });
    let client = listener.client().heartbeat(heartbeat).start().unwrap();
    let mut peer = listener.accept();
    for number in [1492420473027_u64, 2] {
        peer.send(format!(r#"{{"ping":{number}}}"#).into()).unwrap();
        assert_eq!(next_text(&mut peer), format!(r#"{{"pong":{number}}}"#));
    }
    peer.send("no beat".into()).unwrap();
    assert_eq!(client.recv_timeout(PATIENCE).unwrap().as_text(), Some("no beat"));
    assert!(client.try_recv().unwrap().is_none());
}

#[test]
fn an_answer_that_panics_costs_a_link_and_says_so() {
    let listener = Listener::new();
    let heartbeat = Heartbeat::default().answer_with(|_| panic!("what?"));
    let (builder, watch) = watch(listener.client().heartbeat(heartbeat));
    let _client = builder.start().unwrap();
    let mut peer = listener.accept();
    peer.send("x".into()).unwrap();
    let cause = watch.disconnected();
    assert_eq!(cause.to_string(), "heartbeat answer panicked: what?");
}

/// The system shows what the peer takes of a large message, and does not hide it for longer than
/// the limit.
#[cfg(target_os = "linux")]
#[test]
fn a_peer_that_takes_a_large_message_slowly_is_alive() {
    use crate::support::bare::{self, PING, PONG};
    use std::io::{Read, Write};

    const SIZE: usize = 8_000_000;
    const EACH: usize = 250_000;
    let listener = Listener::new();
    let heartbeat = Heartbeat::every(ms(500)).dead_after(ms(2000));
    let (builder, watch) = watch(listener.client().heartbeat(heartbeat));
    let client = builder.start().unwrap();
    let mut stream = bare::upgrade(&listener);
    watch.connected();
    client.send(vec![7; SIZE]).unwrap();
    // 2 MB/s
    let begun = Instant::now();
    let mut piece = vec![0; EACH];
    for count in 1..=(SIZE / EACH) as u32 {
        stream.read_exact(&mut piece).unwrap();
        let ahead = (ms(125) * count).saturating_sub(begun.elapsed());
        thread::sleep(ahead);
    }
    // what the head of the frame was longer
    stream.read_exact(&mut [0; 14]).unwrap();
    thread::spawn(move || {
        while let Ok((first, payload)) = bare::read_frame(&mut stream) {
            if first == PING {
                let _ = stream.write_all(&bare::frame(PONG, &payload));
            }
        }
    });
    client.flush(PATIENCE).unwrap();
    assert!(watch.rest().is_empty());
}

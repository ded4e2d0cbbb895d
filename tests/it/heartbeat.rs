//! Signs of life.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::bare::{self, PING, PONG};
use crate::support::*;
use everlink::config::Heartbeat;
use everlink::{Client, Event, Failure};
use rustix::process::{Pid, Signal, kill_process};
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

/// Not a test of its own: the other side of the next test, in a process of its own.
#[test]
fn child_echo_server() {
    if std::env::var_os("EVERLINK_TEST_CHILD").is_none() {
        return;
    }
    let listener = Listener::new();
    println!("\nlistening on {}", listener.address());
    loop {
        let peer = listener.accept();
        thread::spawn(move || echo(peer));
    }
}

/// Another process, of which one has an address; it ends with this.
struct OtherProcess {
    child: Child,
    url: String,
}

impl OtherProcess {
    fn echo_server() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "heartbeat::child_echo_server", "--nocapture"])
            .env("EVERLINK_TEST_CHILD", "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = std::io::BufReader::new(child.stdout.take().unwrap());
        let address = std::io::BufRead::lines(output)
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("listening on ").map(str::to_owned))
            .expect("the child says where it listens");
        Self { child, url: format!("ws://{address}") }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for OtherProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The peer's kernel still acknowledges everything; only the process is stopped.
fn stopped_peer(busy: bool) {
    let server = OtherProcess::echo_server();
    let limit = ms(1500);
    let builder = Client::builder(&server.url)
        .heartbeat(Heartbeat::every(ms(300)).dead_after(limit))
        .backoff(everlink::config::Backoff::fixed(ms(10)));
    let (builder, watch) = watch(builder);
    let client = builder.connect().unwrap();
    let stop = Arc::new(everlink_test_flag::Flag::default());
    let traffic = busy.then(|| {
        let (client, stop) = (client.clone(), Arc::clone(&stop));
        thread::spawn(move || {
            while !stop.is_set() {
                let _ = client.send_timeout(vec![7; 1000], ms(10));
                while let Ok(Some(_)) = client.try_recv() {}
            }
        })
    });
    watch.connected();
    client.send("warm").unwrap();
    client.recv_timeout(PATIENCE).unwrap();
    server.signal(Signal::STOP);
    let time = detection(&client, &watch, Instant::now());
    // what was under way when the peer stopped may still have come in
    assert!(time >= limit - ms(300), "{time:?} is too early");
    assert!(time <= limit + limit / 10, "{time:?} is over {limit:?} + 10 %");
    server.signal(Signal::CONT);
    watch.connected();
    stop.set();
    if let Some(traffic) = traffic {
        traffic.join().unwrap();
    }
}

mod everlink_test_flag {
    use std::sync::atomic::{AtomicBool, Ordering};

    #[derive(Default)]
    pub struct Flag(AtomicBool);

    impl Flag {
        pub fn set(&self) {
            self.0.store(true, Ordering::SeqCst);
        }

        pub fn is_set(&self) -> bool {
            self.0.load(Ordering::SeqCst)
        }
    }
}

#[test]
fn a_stopped_peer_is_declared_dead_while_idle() {
    stopped_peer(false);
}

#[test]
fn a_stopped_peer_is_declared_dead_while_sending() {
    stopped_peer(true);
}

/// Not a test of its own: the client of the next one, in a process of its own.
#[test]
fn child_client() {
    let Ok(url) = std::env::var("EVERLINK_TEST_CHILD_URL") else { return };
    let limit =
        std::env::var("EVERLINK_TEST_CHILD_LIMIT").map_or(900, |text| text.parse().unwrap());
    let every = Heartbeat::every(ms((limit / 3).min(300))).dead_after(ms(limit));
    let heartbeat = match std::env::var("EVERLINK_TEST_CHILD_BEAT").as_deref() {
        Ok("listen") => Heartbeat::listen(ms(limit)),
        Ok("message") => every.message("beat", |_| false),
        _ => every,
    };
    let client = Client::builder(&url)
        .heartbeat(heartbeat)
        .backoff(everlink::config::Backoff::fixed(ms(10)))
        .connect()
        .unwrap();
    for message in &client {
        client.send(message).unwrap();
    }
}

/// A client in another process, which echoes.
fn client_elsewhere(listener: &Listener, limit: Duration, beat: &str) -> OtherProcess {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "heartbeat::child_client"])
        .env("EVERLINK_TEST_CHILD_URL", listener.url())
        .env("EVERLINK_TEST_CHILD_LIMIT", limit.as_millis().to_string())
        .env("EVERLINK_TEST_CHILD_BEAT", beat)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    OtherProcess { child, url: String::new() }
}

#[test]
fn who_was_held_up_gives_its_peer_no_less_time_than_the_limit() {
    let listener = Listener::new();
    let child = client_elsewhere(&listener, PATIENCE, "ping");
    let mut peer = listener.accept();
    peer.send("first".into()).unwrap();
    assert_eq!(next_text(&mut peer), "first");
    child.signal(Signal::STOP);
    thread::park_timeout(ms(1500));
    child.signal(Signal::CONT);
    // this end is slow, too, as all are on a machine that has too much to do: longer than a few
    // beats, far less than the limit
    thread::park_timeout(ms(2500));
    peer.send("second".into()).expect("the link is still up");
    assert_eq!(next_text(&mut peer), "second");
    assert!(!listener.is_dialed_within(ms(50)), "it is another link");
}

#[test]
fn a_process_that_was_held_up_asks_before_it_gives_a_peer_up() {
    let listener = Listener::new();
    let child = client_elsewhere(&listener, ms(900), "ping");
    let mut peer = listener.accept();
    peer.send("first".into()).unwrap();
    assert_eq!(next_text(&mut peer), "first");
    let hold_up = || {
        child.signal(Signal::STOP);
        // far beyond the limit; nothing happens meanwhile that could be waited for
        thread::park_timeout(ms(3000));
        child.signal(Signal::CONT);
    };
    hold_up();
    loop {
        match peer.read().expect("the link is still up") {
            Message::Ping(_) => break,
            other => assert!(other.is_pong(), "{other:?}"),
        }
    }
    peer.send("second".into()).unwrap();
    assert_eq!(next_text(&mut peer), "second");

    // now the peer says nothing any more
    hold_up();
    let asked = Instant::now();
    let mut stream = peer.get_ref();
    // to the end of the stream, or its reset
    let _ = std::io::copy(&mut stream, &mut std::io::sink());
    let time = asked.elapsed();
    assert!(time < ms(5000), "{time:?}");
    drop(listener.accept());
}

#[test]
fn a_process_that_was_held_up_reads_what_waits_before_it_gives_a_peer_up() {
    let rounds = ["listen", "message", "ping"].map(|beat| {
        thread::spawn(move || {
            let listener = Listener::new();
            let child = client_elsewhere(&listener, ms(900), beat);
            let mut peer = listener.accept();
            let says = |peer: &mut Peer, text: &str| {
                peer.send(text.into()).unwrap_or_else(|error| panic!("{beat}, {text}: {error}"));
            };
            let echoed = |peer: &mut Peer, text: &str| {
                // answers pings meanwhile, and takes beats
                let echo = |peer: &mut Peer| peer.read().is_ok_and(|echo| echo != text.into());
                while echo(peer) {}
                assert!(peer.can_read(), "{beat}, {text}: the link is still up");
            };
            // less than a second behind the limit, and more
            for time in [ms(1700), ms(1700), ms(1700), ms(3000)] {
                says(&mut peer, "before");
                echoed(&mut peer, "before");
                child.signal(Signal::STOP);
                says(&mut peer, "meanwhile");
                thread::park_timeout(time);
                child.signal(Signal::CONT);
                echoed(&mut peer, "meanwhile");
            }
            if beat == "listen" {
                // nothing waits, and nothing can be asked: the peer has its time again
                child.signal(Signal::STOP);
                thread::park_timeout(ms(3000));
                child.signal(Signal::CONT);
                thread::park_timeout(ms(100));
                says(&mut peer, "late");
                echoed(&mut peer, "late");
            }
            assert!(!listener.is_dialed_within(ms(50)), "{beat}: it is another link");
        })
    });
    for round in rounds {
        round.join().unwrap();
    }
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

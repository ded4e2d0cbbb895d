//! What breaks, and what must be seen then: through the proxy, and what no other file has.
//!
//! Where the other faults are tested:
//!
//! | fault | test |
//! | --- | --- |
//! | a name that does not resolve; a lookup that hangs | `connect.rs`, `shutdown.rs` |
//! | the first address black-holed | `dial.rs` |
//! | silence or one byte a second while opening | `connect.rs`, `tls.rs` |
//! | wrong upgrades, redirects, statuses, `Retry-After` | `connect.rs` |
//! | certificates | `tls.rs` |
//! | proxies that refuse, want credentials, die | `dial.rs`, `src/dial/proxy` |
//! | login that fails, times out, panics | `connect.rs` |
//! | a stopped peer, late and missing pongs, ping floods | `heartbeat.rs` |
//! | a peer that reads nothing | `messages.rs` |
//! | protocol violations, limits | `reconnect.rs`, `src/wire/websocket/decoder.rs` |
//! | close codes, both sides at once, no answer to ours | `reconnect.rs`, `shutdown.rs` |
//! | flapping links | `reconnect.rs` |
//! | slow programs, full queues, panics, closing from anywhere | `messages.rs`, `shutdown.rs` |
//! | descriptors: the client's, the server's | `faults/descriptors.rs`, `tests/server_load.rs` |
//! | threads that cannot be started | `src/sync/threads.rs` |
//! | signals | `dial.rs` |
//! | suspension of the machine | `src/link/suspension.rs` |
//! | a process that is held up | `heartbeat.rs` |
//! | half-open for real, interfaces, addresses | `namespaces.rs` |

mod descriptors;

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::*;
use everlink::chaos::{Cut, Direction, FaultProxy, Faults};
use everlink::config::{Backoff, Heartbeat, Limits, Overflow, Queue, Timeouts};
use everlink::failure::{HandshakeError, Next};
use everlink::{Client, ClientBuilder, Event, Failure, Server};

/// A proxy, and the server behind it that echoes.
struct World {
    proxy: FaultProxy,
    _server: Server,
}

impl std::ops::Deref for World {
    type Target = FaultProxy;

    fn deref(&self) -> &FaultProxy {
        &self.proxy
    }
}

fn proxy() -> World {
    init_log();
    let server = echo_server();
    World { proxy: FaultProxy::start(server.local_addr()).unwrap(), _server: server }
}

fn client(proxy: &FaultProxy) -> ClientBuilder {
    Client::builder(format!("ws://{}", proxy.address())).backoff(Backoff::fixed(ms(1)))
}

/// A message goes there and back.
fn assert_alive(client: &Client) {
    client.send("are you there?").unwrap();
    let answer = client.recv_timeout(PATIENCE).unwrap();
    assert_eq!(answer.as_text(), Some("are you there?"));
}

#[test]
fn a_refused_connection_is_told_with_its_address_and_retried() {
    let proxy = proxy();
    proxy.set(Faults::none().refuse()).unwrap();
    let (builder, watch) = watch(client(&proxy));
    let client = builder.start().unwrap();
    let cause = watch.attempt_failed();
    let Failure::Connect { address, source, .. } = &*cause else { panic!("{cause:?}") };
    assert_eq!(*address, proxy.address());
    assert_eq!(source.kind(), std::io::ErrorKind::ConnectionRefused);
    proxy.set(Faults::none()).unwrap();
    watch.connected();
    assert_alive(&client);
}

#[test]
fn whatever_cuts_the_handshake_the_attempt_fails_and_the_next_succeeds() {
    for faults in [
        Faults::none().mute(),
        Faults::none().reset_at_once(),
        Faults::none().cut_after(Cut::Reset, 200),
        Faults::none().cut_after(Cut::EndOfStream, 200),
        Faults::none().cut_after(Cut::Silence, 200),
        Faults::none().throttle(20),
    ] {
        let proxy = proxy();
        proxy.set(faults).unwrap();
        let (builder, watch) = watch(client(&proxy).timeouts(Timeouts::new().handshake(ms(300))));
        let client = builder.start().unwrap();
        let begun = Instant::now();
        let cause = watch.attempt_failed();
        assert!(
            matches!(&*cause, Failure::Handshake(_) | Failure::Io(_) | Failure::Connect { .. }),
            "{faults:?}: {cause:?}"
        );
        assert!(begun.elapsed() < ms(2000), "{faults:?}: {:?}", begun.elapsed());
        proxy.set(Faults::none()).unwrap();
        proxy.cut(Cut::Reset);
        watch.connected();
        assert_alive(&client);
    }
}

#[test]
fn everything_works_byte_by_byte() {
    let proxy = proxy();
    proxy.set(Faults::none().single_bytes()).unwrap();
    let client = client(&proxy).connect().unwrap();
    for size in [0, 1, 125, 126, 3000] {
        client.send("x".repeat(size)).unwrap();
        assert_eq!(client.recv_timeout(PATIENCE).unwrap().len(), size);
    }
    assert_eq!(client.stats().connects, 1);
}

#[test]
fn headers_without_end_are_cut_and_permanent() {
    let listener = Listener::new();
    let (builder, watch) = watch(listener.client());
    let _client = builder.start().unwrap();
    let mut stream = listener.accept_raw();
    read_head(&mut stream);
    stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n").unwrap();
    let flood = thread::spawn(move || {
        let line = format!("X-More: {}\r\n", "y".repeat(990));
        (0..10_000).take_while(|_| stream.write_all(line.as_bytes()).is_ok()).count()
    });
    let cause = watch.gave_up();
    let Failure::Handshake(HandshakeError::HeadersTooLarge { limit, .. }) = &*cause else {
        // the number of headers is bounded as well
        assert!(matches!(&*cause, Failure::Handshake(HandshakeError::NotHttp(_))), "{cause:?}");
        return;
    };
    assert_eq!(*limit, 64 * 1024);
    assert!(flood.join().unwrap() < 10_000, "the client read on");
}

#[test]
fn a_header_without_end_is_cut_and_permanent() {
    let listener = Listener::new();
    let (builder, watch) = watch(listener.client());
    let _client = builder.start().unwrap();
    let mut stream = listener.accept_raw();
    read_head(&mut stream);
    stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nX-More: ").unwrap();
    while stream.write_all(&[b'y'; 1000]).is_ok() {}
    let cause = watch.gave_up();
    assert!(
        matches!(
            &*cause,
            Failure::Handshake(HandshakeError::HeadersTooLarge { limit: 65_536, .. })
        ),
        "{cause:?}"
    );
}

#[test]
fn a_cut_connection_is_noticed_at_once_with_its_cause() {
    for how in [Cut::Reset, Cut::EndOfStream] {
        let proxy = proxy();
        // the heartbeat has no part in it
        let heartbeat = Heartbeat::every(Duration::from_secs(60));
        let (builder, watch) = watch(client(&proxy).heartbeat(heartbeat));
        let client = builder.connect().unwrap();
        watch.connected();
        assert_alive(&client);
        let begun = Instant::now();
        proxy.cut(how);
        let cause = watch.disconnected();
        assert!(begun.elapsed() < ms(1000), "{:?}", begun.elapsed());
        match how {
            Cut::Reset => assert!(matches!(&*cause, Failure::Io(_)), "{cause:?}"),
            _ => assert!(matches!(&*cause, Failure::ClosedAbnormally), "{cause:?}"),
        }
        watch.connected();
        assert_alive(&client);
        assert_eq!(client.stats().reconnects, 1);
    }
}

#[test]
fn a_black_hole_is_noticed_within_the_limit_idle_and_while_sending() {
    let limit = ms(1000);
    for (direction, sending) in [
        (Direction::Both, false),
        (Direction::Both, true),
        (Direction::ToClient, false),
        (Direction::ToClient, true),
        (Direction::ToServer, false),
        (Direction::ToServer, true),
    ] {
        let proxy = proxy();
        let heartbeat = Heartbeat::every(ms(250)).dead_after(limit);
        // nobody receives the echo of what is sent
        let inbox = Queue::new().overflow(Overflow::DropOldest);
        let (builder, watch) = watch(client(&proxy).heartbeat(heartbeat).inbox(inbox));
        let client = builder.connect().unwrap();
        watch.connected();
        assert_alive(&client);
        let begun = Instant::now();
        proxy.set(Faults::none().stall(direction)).unwrap();
        let sends = sending.then(|| {
            let client = client.clone();
            thread::spawn(move || {
                let payload = "x".repeat(1 << 20);
                (0..20).try_for_each(|_| client.send(payload.as_str()))
            })
        });
        let cause = watch.disconnected();
        let took = begun.elapsed();
        assert!(matches!(&*cause, Failure::HeartbeatTimeout { .. }), "{direction:?}: {cause:?}");
        assert!(took > limit * 8 / 10, "{direction:?}, sending {sending}: {took:?}");
        assert!(took < limit * 11 / 10 + ms(100), "{direction:?}, sending {sending}: {took:?}");
        proxy.set(Faults::none()).unwrap();
        watch.connected();
        if let Some(sends) = sends {
            sends.join().unwrap().unwrap();
        }
        client
            .flush(PATIENCE)
            .or_else(|error| match error {
                // what was under way is lost, and said so
                everlink::Error::Unconfirmed { .. } => Ok(()),
                other => Err(other),
            })
            .unwrap();
    }
}

#[test]
fn pongs_that_are_late_and_inside_the_limit_keep_the_link() {
    let proxy = proxy();
    let heartbeat = Heartbeat::every(ms(100)).dead_after(ms(1500));
    let (builder, watch) = watch(client(&proxy).heartbeat(heartbeat));
    let client = builder.connect().unwrap();
    watch.connected();
    proxy.set(Faults::none().delay(ms(250))).unwrap();
    eventually("three slow round trips", || {
        let stats = client.stats();
        match stats.last_round_trip {
            Some(time) if time >= ms(400) && stats.pings_sent > 10 => Ok(()),
            _ => Err(Box::new(stats)),
        }
    });
    let rest = watch.rest();
    assert!(rest.iter().all(|event| !matches!(event, Event::Disconnected { .. })), "{rest:?}");
}

#[test]
fn pongs_that_nobody_asked_for_are_ignored() {
    let listener = Listener::new();
    let client = listener.client().start().unwrap();
    let mut peer = listener.accept();
    for number in 0..1000_u64 {
        let payload = number.to_be_bytes().to_vec();
        peer.send(tungstenite::Message::Pong(payload.into())).unwrap();
    }
    peer.send("after them".into()).unwrap();
    assert_eq!(client.recv().unwrap().as_text(), Some("after them"));
    let stats = client.stats();
    assert_eq!((stats.confirmed, stats.last_round_trip), (0, None), "{stats:?}");
}

#[test]
fn a_message_in_a_hundred_thousand_fragments_is_one_message() {
    let listener = Listener::new();
    let client = listener.client().start().unwrap();
    let mut peer = listener.accept();
    let mut bytes = b"\x01\x01a".to_vec();
    for _ in 0..100_000 {
        // an empty one as well, which is legal
        bytes.extend(b"\x00\x01b\x00\x00");
    }
    bytes.extend(b"\x80\x01c");
    peer.get_mut().write_all(&bytes).unwrap();
    let message = client.recv().unwrap();
    assert_eq!(message.len(), 100_002);
    assert!(message.as_text().unwrap().ends_with("bbc"));
}

#[test]
fn fragments_without_end_are_refused_at_the_limit() {
    let listener = Listener::new();
    let (builder, watch) = watch(listener.client().limits(Limits::new().message(100_000)));
    let _client = builder.start().unwrap();
    let mut peer = listener.accept();
    peer.get_mut().write_all(b"\x02\x00").unwrap();
    let mut fragment = b"\x00\x7e\x03\xe8".to_vec();
    fragment.resize(4 + 1000, 7);
    let sent = (0..1000).take_while(|_| peer.get_mut().write_all(&fragment).is_ok()).count();
    assert!(sent >= 100, "only {sent} went through");
    let cause = watch.disconnected();
    assert!(matches!(&*cause, Failure::Protocol { code, .. } if code.0 == 1009), "{cause:?}");
}

#[test]
fn a_close_frame_that_is_illegal_ends_the_link_with_1002() {
    // 1005 and 999 must not be sent, and text has to be UTF-8
    for body in [&b"\x88\x02\x03\xed"[..], b"\x88\x02\x03\xe7", b"\x88\x04\x03\xe8\xc3\x28"] {
        let listener = Listener::new();
        let (builder, watch) = watch(listener.client());
        let _client = builder.start().unwrap();
        let mut peer = listener.accept();
        peer.get_mut().write_all(body).unwrap();
        let answer = read_to_end(&mut peer).expect("a close frame");
        assert!([1002, 1007].contains(&u16::from(answer.code)), "{answer:?}");
        let cause = watch.disconnected();
        let is_told = match &*cause {
            Failure::Protocol { code, .. } => [1002, 1007].contains(&code.0),
            Failure::Closed(Some(frame)) => frame.code.0 == 1002,
            _ => false,
        };
        assert!(is_told, "{body:?}: {cause:?}");
    }
}

#[test]
fn the_delays_of_many_clients_are_spread_over_the_whole_window() {
    const CLIENTS: usize = 200;
    let proxy = proxy();
    let (delays, seen) = crossbeam_channel::unbounded();
    let clients: Vec<Client> = (0..CLIENTS)
        .map(|_| {
            let delays = delays.clone();
            let hour = Duration::from_secs(3600);
            Client::builder(format!("ws://{}", proxy.address()))
                .backoff(Backoff::exponential().initial(hour).max(hour))
                .on_event(move |_, event| {
                    if let Event::Disconnected { next: Next::Redial { delay, .. }, .. } = event {
                        let _ = delays.send(*delay);
                    }
                })
                .connect()
                .unwrap()
        })
        .collect();
    proxy.set(Faults::none().refuse()).unwrap();
    proxy.cut(Cut::Reset);
    let mut eighths = [0; 8];
    for _ in 0..CLIENTS {
        let delay: Duration = seen.recv_timeout(PATIENCE).unwrap();
        eighths[(delay.as_secs_f64() / 3600.0 * 8.0) as usize % 8] += 1;
    }
    // 25 are to be expected in each
    assert!(eighths.iter().all(|count| (5..60).contains(count)), "{eighths:?}");
    drop(clients);
}

//! What was counted says what has happened: round trips, misses, reasons, rates, a server's sums.

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crate::support::*;
use everlink::chaos::{Cut, FaultProxy, Faults};
use everlink::config::{Backoff, Heartbeat, Resume, Timeouts};
use everlink::failure::FailureKind;
use everlink::stats::ServerStats;
use everlink::{Client, Server, Session};

/// Sends to its client all the time.
fn busy_server() -> Server {
    let server = Server::builder().heartbeat(Heartbeat::off());
    let busy = |session: Session| while session.send("x".repeat(100)).is_ok() {};
    server.bind("127.0.0.1:0", busy).unwrap()
}

fn url(server: &Server) -> String {
    format!("ws://{}", server.local_addr())
}

#[test]
fn a_busy_link_has_round_trips_while_somebody_looks() {
    let server = busy_server();
    let client = Client::builder(url(&server))
        .on_message(|_, _| {})
        .heartbeat(Heartbeat::every(ms(50)).dead_after(PATIENCE))
        .connect()
        .unwrap();
    eventually("round trips", || {
        let stats = client.stats();
        assert!(stats.messages_received == 0 || stats.uptime.is_some());
        match stats.round_trips {
            Some(trips) if trips.count >= 3 => Ok(()),
            _ => Err(Box::new(stats)),
        }
    });
    let stats = client.stats();
    let trips = stats.round_trips.unwrap();
    assert!(trips.p50 <= trips.p90 && trips.p90 <= trips.p99 && trips.p99 <= trips.max);
    assert!(trips.max > Duration::ZERO && trips.max < PATIENCE, "{trips:?}");
    // one for each interval at most, however often somebody looks
    let intervals = stats.uptime.unwrap().as_millis() / 50;
    assert!(u128::from(stats.pings_sent) <= intervals + 2, "{stats:?}");
    client.close();
}

#[test]
fn a_busy_link_carries_no_pings_while_nobody_looks() {
    let server = busy_server();
    let client = Client::builder(url(&server))
        .on_message(|_, _| {})
        .heartbeat(Heartbeat::every(ms(200)).dead_after(PATIENCE))
        .connect()
        .unwrap();
    let events = client.subscribe();
    assert!(events.recv_timeout(ms(1500)).is_err(), "nothing happens");
    // under load this process may not have run for an interval: then the link was idle
    assert!(client.stats().pings_sent <= 2, "{:?}", client.stats());
}

#[test]
fn a_beat_without_an_answer_is_a_miss_before_it_is_a_death() {
    let listener = Listener::new();
    let heartbeat = Heartbeat::every(ms(100)).dead_after(ms(550));
    let (builder, watch) = watch(listener.client().heartbeat(heartbeat));
    let client = builder.start().unwrap();
    // it reads nothing, so it answers nothing
    let _peer = listener.accept();
    let cause = watch.disconnected();
    assert_eq!(cause.kind(), FailureKind::Silent, "{cause}");
    let stats = client.stats();
    assert!((2..=5).contains(&stats.heartbeat_misses), "{stats:?}");
    assert_eq!(stats.disconnects.of(FailureKind::Silent), 1);
}

#[test]
fn a_peer_that_is_given_up_before_the_second_beat_was_missed_too() {
    let listener = Listener::new();
    // as the defaults are to each other: 20 s and 30 s
    let heartbeat = Heartbeat::every(ms(200)).dead_after(ms(300));
    let (builder, watch) = watch(listener.client().heartbeat(heartbeat));
    let client = builder.start().unwrap();
    let _peer = listener.accept();
    let cause = watch.disconnected();
    assert_eq!(cause.kind(), FailureKind::Silent, "{cause}");
    let misses = client.stats().heartbeat_misses;
    assert!((1..=2).contains(&misses), "{:?}", client.stats());
}

#[test]
fn a_peer_that_answers_is_missed_never() {
    let server = Server::bind("127.0.0.1:0", |session| drop(session.recv())).unwrap();
    let heartbeat = Heartbeat::every(ms(100)).dead_after(PATIENCE);
    let client = Client::builder(url(&server)).heartbeat(heartbeat).connect().unwrap();
    eventually("five round trips", || match client.stats() {
        stats if stats.round_trips.is_some_and(|trips| trips.count >= 5) => Ok(()),
        stats => Err(Box::new(stats)),
    });
    let stats = client.stats();
    // a machine under load may hold one answer up for so long
    assert!(stats.heartbeat_misses <= 1, "{stats:?}");
}

#[test]
fn links_and_attempts_are_counted_by_why_they_failed() {
    let server = Server::bind("127.0.0.1:0", |session: Session| {
        for message in &session {
            if message.as_text() == Some("bye") {
                session.close_with(4000, "bye").unwrap();
            }
        }
    });
    let server = server.unwrap();
    let proxy = FaultProxy::start(server.local_addr()).unwrap();
    let (builder, watch) =
        watch(Client::builder(format!("ws://{}", proxy.address())).backoff(Backoff::fixed(ms(1))));
    let client = builder.start().unwrap();
    watch.connected();
    proxy.cut(Cut::Reset);
    watch.connected();
    client.send("bye").unwrap();
    watch.connected();
    client.reconnect().unwrap();
    watch.connected();
    proxy.set(Faults::none().refuse()).unwrap();
    proxy.cut(Cut::EndOfStream);
    watch.attempt_failed();
    watch.attempt_failed();
    client.close();
    let stats = client.stats();
    let expected = [
        (FailureKind::Lost, 2),
        (FailureKind::ClosedByPeer, 1),
        (FailureKind::ClosedHere, 1),
        (FailureKind::Silent, 0),
    ];
    for (kind, count) in expected {
        assert_eq!(stats.disconnects.of(kind), count, "{kind}: {stats:#?}");
    }
    assert_eq!((stats.disconnects.total(), stats.connects, stats.reconnects), (4, 4, 3));
    assert!(stats.failures.of(FailureKind::Connect) >= 2, "{stats:#?}");
    assert_eq!(stats.failures.total(), stats.failed_attempts);
}

#[test]
fn a_link_that_is_closed_here_is_one_that_has_ended() {
    let server = Server::bind("127.0.0.1:0", |session| drop(session.recv())).unwrap();
    let client = Client::connect(url(&server)).unwrap();
    assert_eq!(client.stats().disconnects.total(), 0);
    client.close();
    assert_eq!(client.stats().disconnects.of(FailureKind::ClosedHere), 1);
}

#[test]
fn rates_are_those_of_the_time_between_two_looks() {
    let server = busy_server();
    let client = Client::builder(url(&server)).on_message(|_, _| {}).connect().unwrap();
    let before = client.stats();
    eventually("messages", || match client.stats() {
        stats if stats.messages_received > before.messages_received + 100 => Ok(()),
        stats => Err(Box::new(stats)),
    });
    let after = client.stats();
    let rates = after.rates_since(&before);
    let seconds = (after.age - before.age).as_secs_f64();
    let expected = (after.messages_received - before.messages_received) as f64 / seconds;
    assert!((rates.messages_received / expected - 1.0).abs() < 1e-9, "{rates:?}");
    assert!((rates.bytes_received - 100.0 * rates.messages_received).abs() < 1.0, "{rates:?}");
    assert_eq!((rates.messages_sent, rates.bytes_sent), (0.0, 0.0));
}

#[test]
fn fields_have_what_the_snapshot_has() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = format!("ws://{}", listener.local_addr().unwrap());
    drop(listener);
    let (builder, watch) = watch(Client::builder(&closed).backoff(Backoff::fixed(ms(1))));
    let client = builder.max_attempts(3).start().unwrap();
    client.send("waits").unwrap();
    watch.gave_up();
    let stats = client.stats();
    let value = |name: &str, label| {
        let found = stats.fields().find(|field| field.name == name && field.label == label);
        found.unwrap_or_else(|| panic!("no {name}")).value.as_f64()
    };
    assert_eq!(value("accepted", None), Some(1.0));
    assert_eq!(value("outbox_messages", None), Some(1.0));
    assert_eq!(value("failures", Some(("kind", "connect"))), Some(3.0));
    assert_eq!(value("uptime", None), None);
    assert!(value("total_downtime", None) > Some(0.0));
}

fn growing(stats: &ServerStats) -> [u64; 7] {
    [
        stats.accepted,
        stats.refused,
        stats.messages_sent,
        stats.bytes_sent,
        stats.messages_received,
        stats.bytes_received,
        stats.disconnects.total(),
    ]
}

#[test]
fn a_servers_sums_count_each_session_once_and_never_go_back() {
    const CLIENTS: u64 = 40;
    const MESSAGES: u64 = 50;
    let server = echo_server();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut before = server.stats();
            while !is_over.load(SeqCst) {
                let stats = server.stats();
                let grows = growing(&before).iter().zip(growing(&stats)).all(|(a, b)| *a <= b);
                assert!(grows, "{before:?}\n{stats:?}");
                before = stats;
                thread::yield_now();
            }
        });
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..CLIENTS / 4 {
                        let client = Client::connect(url(&server)).unwrap();
                        for _ in 0..MESSAGES {
                            client.send("12345").unwrap();
                        }
                        for _ in 0..MESSAGES {
                            client.recv_timeout(PATIENCE).unwrap();
                        }
                        client.close();
                    }
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        is_over.store(true, SeqCst);
        watcher.join().unwrap();
    });
    server.shutdown(PATIENCE);
    let stats = server.stats();
    let all = CLIENTS * MESSAGES;
    assert_eq!((stats.messages_sent, stats.messages_received), (all, all), "{stats:?}");
    assert_eq!((stats.bytes_sent, stats.bytes_received), (5 * all, 5 * all));
    assert_eq!((stats.disconnects.total(), stats.sessions), (CLIENTS, 0));
}

#[test]
fn a_sessions_counters_have_why_it_ended() {
    let (sender, sessions) = crossbeam_channel::bounded(1);
    let server = Server::builder().timeouts(Timeouts::new().close(ms(200))).bind(
        "127.0.0.1:0",
        move |session: Session| {
            sender.send(session.clone()).unwrap();
            while session.recv().is_ok() {}
        },
    );
    let server = server.unwrap();
    let client = Client::connect(url(&server)).unwrap();
    let session = sessions.recv_timeout(PATIENCE).unwrap();
    client.close();
    eventually("the end", || match server.stats() {
        stats if stats.disconnects.total() == 1 => Ok(()),
        stats => Err(Box::new(stats)),
    });
    let stats = session.stats();
    assert_eq!(server.stats().disconnects.of(FailureKind::ClosedByPeer), 1, "{stats:?}");
}

#[test]
fn each_link_that_a_session_loses_is_counted_with_its_cause() {
    let (sender, sessions) = crossbeam_channel::bounded(1);
    let server = Server::builder().resume(Resume::within(Duration::from_secs(1)));
    let server = server.bind("127.0.0.1:0", move |session: Session| {
        sender.send(session.clone()).unwrap();
        while session.recv().is_ok() {}
    });
    let server = server.unwrap();
    let proxy = FaultProxy::start(server.local_addr()).unwrap();
    let client =
        Client::builder(format!("ws://{}", proxy.address())).backoff(Backoff::fixed(ms(1)));
    let (builder, watch) = watch(client.resume(Resume::new()));
    let client = builder.start().unwrap();
    watch.connected();
    let session = sessions.recv_timeout(PATIENCE).unwrap();
    for lost in 1..=3 {
        proxy.cut(Cut::Reset);
        watch.connected();
        eventually("it is back", || match server.stats() {
            stats if stats.resumed == lost && session.is_connected() => Ok(()),
            stats => Err(Box::new(stats)),
        });
    }
    let kinds = || {
        let kinds = [FailureKind::Lost, FailureKind::ClosedByPeer, FailureKind::ClosedHere];
        kinds
            .map(|kind| (session.stats().disconnects.of(kind), server.stats().disconnects.of(kind)))
    };
    assert_eq!((session.stats().connects, kinds()), (4, [(3, 3), (0, 0), (0, 0)]));
    // the fourth is lost too, and nobody comes back
    proxy.set(Faults::none().refuse()).unwrap();
    proxy.cut(Cut::Reset);
    eventually("the end", || match server.stats() {
        stats if stats.expired == 1 && stats.sessions == 0 => Ok(()),
        stats => Err(Box::new(stats)),
    });
    assert_eq!(kinds(), [(4, 4), (0, 0), (0, 0)], "{:?}", server.stats());
    // and one that ends with its link
    proxy.set(Faults::none()).unwrap();
    watch.connected();
    client.close();
    eventually("a goodbye", || match server.stats().disconnects {
        counts if counts.of(FailureKind::ClosedByPeer) == 1 => Ok(()),
        counts => Err(counts),
    });
    assert_eq!(server.stats().disconnects.total(), 5);
}

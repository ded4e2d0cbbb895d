//! Counters add up, and never go back.

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::*;
use everlink::chaos::{Cut, FaultProxy};
use everlink::config::{Backoff, Delivery, Heartbeat, Overflow, Queue, SendOptions, SlowSession};
use everlink::stats::{ClientStats, Field, FieldValue};
use everlink::{Client, Error, Message, SendError, Server, Session};

/// A port on which nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("ws://{}", listener.local_addr().unwrap())
}

macro_rules! adds_up {
    ($stats:expr) => {{
        let stats = &$stats;
        let left = stats.outbox_dropped + stats.expired + stats.handed_back;
        stats.accepted == stats.passed_on + stats.outbox_messages as u64 + left
    }};
}

/// What only ever grows.
fn growing(stats: &ClientStats) -> Vec<Field> {
    let grows = |value| matches!(value, FieldValue::Total(_) | FieldValue::TotalTime(_));
    stats.fields().filter(|field| grows(field.value)).collect()
}

/// Looks at the counters all the time, until it is told that it is over.
fn watch_counters(client: &Client, is_over: &AtomicBool) {
    let mut before = client.stats();
    loop {
        let last = is_over.load(SeqCst);
        let stats = client.stats();
        assert!(adds_up!(stats), "{stats:#?}");
        for (then, now) in growing(&before).into_iter().zip(growing(&stats)) {
            assert!(then.value.as_f64() <= now.value.as_f64(), "{then} became {now}");
        }
        if last {
            return;
        }
        before = stats;
        thread::yield_now();
    }
}

/// Lets this much time pass, for clocks that should have stopped.
fn pass(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        thread::park_timeout(time);
    }
}

#[test]
fn downtime_never_goes_back_and_stops_with_the_client() {
    let (builder, watch) = watch(Client::builder(nobody()).backoff(Backoff::fixed(ms(1))));
    let client = builder.start().unwrap();
    for _ in 0..5 {
        watch.attempt_failed();
    }
    let during = client.stats().total_downtime;
    assert!(during > Duration::ZERO);
    client.close();
    let after = client.stats().total_downtime;
    assert!(after >= during, "{during:?} became {after:?}");
    pass(ms(5));
    assert_eq!(client.stats().total_downtime, after, "the client is closed");
}

#[test]
fn downtime_stops_with_a_client_that_was_connected() {
    let server = Server::bind("127.0.0.1:0", |session| drop(session.recv())).unwrap();
    let client = Client::connect(format!("ws://{}", server.local_addr())).unwrap();
    let during = client.stats();
    assert!(during.total_downtime > Duration::ZERO && during.uptime.is_some());
    client.close();
    let after = client.stats();
    assert_eq!((after.total_downtime, after.uptime), (during.total_downtime, None));
}

#[test]
fn the_uptime_of_a_session_that_has_ended_stops() {
    let (sender, sessions) = crossbeam_channel::bounded(1);
    let (release, released) = crossbeam_channel::bounded::<()>(0);
    let server = Server::bind("127.0.0.1:0", move |session: Session| {
        sender.send(session).unwrap();
        // the handler goes on when its peer is gone
        let _ = released.recv();
    });
    let server = server.unwrap();
    let client = Client::connect(format!("ws://{}", server.local_addr())).unwrap();
    let session = sessions.recv_timeout(PATIENCE).unwrap();
    let begun = session.stats().uptime.unwrap();
    pass(ms(2));
    assert!(session.stats().uptime.unwrap() > begun);
    drop(release);
    client.close();
    server.shutdown(PATIENCE);
    let end = session.stats().uptime;
    pass(ms(5));
    assert_eq!(session.stats().uptime, end);
}

#[test]
fn a_broadcast_that_a_slow_session_misses_is_counted() {
    for policy in [SlowSession::Miss, SlowSession::Disconnect] {
        let (sender, sessions) = crossbeam_channel::bounded(1);
        let server = Server::builder()
            .outbox(Queue::new().messages(1).bytes(4 << 20))
            .slow_session(policy)
            .bind("127.0.0.1:0", move |session: Session| {
                sender.send(session.clone()).unwrap();
                while session.recv().is_ok() {}
            });
        let server = server.unwrap();
        let stream = std::net::TcpStream::connect(server.local_addr()).unwrap();
        // a peer that reads nothing
        let (_peer, _) = tungstenite::client("ws://localhost/", stream).unwrap();
        let session = sessions.recv_timeout(PATIENCE).unwrap();
        let mut missed = 0;
        for _ in 0..20 {
            // one that has ended misses nothing any more
            if session.failure().is_none() && server.broadcast(vec![0; 4 << 20]) == 0 {
                missed += 1;
            }
        }
        assert!(missed > 0);
        let counted = (session.stats().broadcasts_missed, server.stats().broadcasts_missed);
        assert_eq!(counted, (missed, missed), "{policy:?}");
        if policy == SlowSession::Miss {
            assert_eq!(server.broadcast(vec![0; 5 << 20]), 0, "it is too large");
            assert_eq!(server.stats().broadcasts_missed, missed + 1);
        }
        session.stats();
        server.shutdown(ms(10));
        let stats = session.stats();
        assert!(adds_up!(stats), "{stats:#?}");
    }
}

#[test]
fn what_the_login_hook_sends_and_receives_is_counted() {
    let server = Server::bind("127.0.0.1:0", |session| {
        while let Ok(message) = session.recv() {
            session.send(message).unwrap();
        }
    });
    let server = server.unwrap();
    let client = Client::builder(format!("ws://{}", server.local_addr()))
        .login(|login| {
            login.send("hello")?;
            login.recv()?;
            login.send("you")?;
            Ok(())
        })
        .connect()
        .unwrap();
    assert_eq!(client.recv_timeout(PATIENCE).unwrap().as_text(), Some("you"));
    client.send("there").unwrap();
    assert_eq!(client.recv_timeout(PATIENCE).unwrap().as_text(), Some("there"));
    client.wait_sent(PATIENCE).unwrap();
    let stats = client.stats();
    assert!(adds_up!(stats), "{stats:#?}");
    assert_eq!((stats.accepted, stats.messages_sent, stats.bytes_sent), (3, 3, 13));
    assert_eq!((stats.messages_received, stats.bytes_received), (3, 13));
}

#[test]
fn what_was_dropped_has_expired_or_was_handed_back_is_counted_once() {
    for overflow in [Overflow::DropOldest, Overflow::DropNewest, Overflow::Fail] {
        let client = Client::builder(nobody())
            .backoff(Backoff::fixed(ms(1)))
            .outbox(Queue::new().messages(8).overflow(overflow))
            .start()
            .unwrap();
        let stale = SendOptions::new().ttl(Duration::ZERO);
        let mut accepted = 0;
        for number in 0..30 {
            let message = number.to_string();
            accepted += u64::from(match number % 3 {
                0 => client.send_with(message, stale).is_ok(),
                _ => client.send(message).is_ok(),
            });
            assert!(adds_up!(client.stats()), "{:#?}", client.stats());
        }
        let undelivered = client.close().undelivered.len() as u64;
        let stats = client.stats();
        assert!(adds_up!(stats), "{stats:#?}");
        assert_eq!((stats.accepted, stats.handed_back), (accepted, undelivered), "{overflow:?}");
        assert!(undelivered > 0 && (stats.outbox_dropped + stats.expired > 0), "{stats:#?}");
        assert_eq!((stats.outbox_messages, stats.messages_sent), (0, 0));
        assert!(matches!(client.send("late"), Err(SendError { error: Error::Closed, .. })));
        assert_eq!(client.stats().accepted, accepted);
    }
}

#[test]
fn counters_add_up_at_every_moment_of_a_life_with_outages() {
    let server = Server::bind("127.0.0.1:0", |session| while session.recv().is_ok() {}).unwrap();
    for delivery in [Delivery::AtMostOnce, Delivery::AtLeastOnce] {
        let proxy = FaultProxy::start(server.local_addr()).unwrap();
        let (builder, watch) = watch(
            Client::builder(format!("ws://{}", proxy.address()))
                .backoff(Backoff::fixed(ms(1)))
                .heartbeat(Heartbeat::every(ms(50)).dead_after(Duration::from_secs(20)))
                .outbox(Queue::new().messages(64).overflow(Overflow::DropOldest))
                .delivery(delivery),
        );
        let client = builder.start().unwrap();
        let is_over = AtomicBool::new(false);
        let mut accepted = 0_u64;
        let undelivered = thread::scope(|scope| {
            let watcher = scope.spawn(|| watch_counters(&client, &is_over));
            for round in 0..10 {
                watch.connected();
                for number in 0..500_u32 {
                    let stale = number % 7 == 0;
                    let ttl = if stale { Duration::ZERO } else { PATIENCE };
                    client.send_with("x".repeat(100), SendOptions::new().ttl(ttl)).unwrap();
                    accepted += 1;
                }
                if round < 9 {
                    proxy.cut(Cut::Reset);
                }
            }
            let undelivered = client.close().undelivered;
            is_over.store(true, SeqCst);
            watcher.join().unwrap();
            undelivered
        });
        let stats = client.stats();
        assert!(adds_up!(stats), "{stats:#?}");
        let handed_back = undelivered.len() as u64;
        assert_eq!((stats.accepted, stats.handed_back), (accepted, handed_back), "{stats:#?}");
        assert!(undelivered.iter().all(Message::is_text));
        if delivery == Delivery::AtMostOnce {
            assert_eq!(stats.passed_on, stats.messages_sent, "{stats:#?}");
        }
    }
}

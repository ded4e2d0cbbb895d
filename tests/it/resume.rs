//! Sessions survive their connection: nothing lost, nothing twice, in order, both ways.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use crate::support::resumed::*;
use crate::support::*;
use crossbeam_channel::unbounded;
use everlink::chaos::{Cut, Direction, FaultProxy, Faults};
use everlink::config::{Delivery, Heartbeat, Overflow, Queue};
use everlink::failure::Undelivered;
use everlink::{Client, Error, Event, Message, Server, Session, SessionStart};

#[test]
fn a_cut_connection_loses_nothing_and_the_handler_does_not_notice() {
    let pair = Pair::new();
    let session = pair.session();
    for round in 0..20 {
        let how = [Cut::Reset, Cut::EndOfStream][round % 2];
        for number in 0..10 {
            pair.client.send(format!("{round}-{number}")).unwrap();
            session.send(format!("{round}-{number}")).unwrap();
        }
        resumed(pair.cut(how));
        for number in 0..10 {
            let expected = format!("{round}-{number}");
            assert_eq!(text(&session.recv_timeout(PATIENCE).unwrap()), expected, "at the server");
            assert_eq!(text(&pair.client.recv_timeout(PATIENCE).unwrap()), expected);
        }
    }
    assert_eq!(session.failure().map(|cause| cause.to_string()), None);
    let stats = [pair.client.stats().resumed, session.stats().resumed, pair.server.stats().resumed];
    assert_eq!(stats, [20; 3]);
    assert_eq!(session.stats().connects, 21);
    assert!(pair.sessions.try_recv().is_err(), "there is one session");
}

#[test]
fn a_session_that_carries_nothing_is_resumed_a_hundred_times() {
    let pair = Pair::new();
    let session = pair.session();
    for _ in 0..100 {
        assert_eq!(resumed(pair.cut(Cut::Reset)), 0);
    }
    pair.client.send("hello").unwrap();
    session.send("hello").unwrap();
    assert_eq!(text(&session.recv_timeout(PATIENCE).unwrap()), "hello");
    assert_eq!(text(&pair.client.recv_timeout(PATIENCE).unwrap()), "hello");
}

#[test]
fn both_ends_say_what_becomes_of_the_session() {
    let pair = Pair::new();
    let session = pair.session();
    assert!(session.is_connected());
    let first = session.peer_addr();
    pair.proxy.set(Faults::none().refuse()).unwrap();
    pair.proxy.cut(Cut::Reset);
    let resumable = pair.events.until(|event| match event {
        Event::Disconnected { resumable, .. } => Some(*resumable),
        _ => None,
    });
    assert!(resumable);
    eventually("the server notices", || if session.is_connected() { Err(()) } else { Ok(()) });
    assert!(matches!(session.wait_connected(ms(1)), Err(Error::Timeout)));
    session.send("12345").unwrap();
    let stats = pair.server.stats();
    assert_eq!((stats.detached, stats.detached_bytes, stats.sessions), (1, 5, 1));
    assert_eq!(stats.connections, 0, "a session that waits is no connection");
    pair.proxy.set(Faults::none()).unwrap();
    session.wait_connected(PATIENCE).unwrap();
    resumed(start(&pair.events));
    assert_ne!(session.peer_addr(), first);
    assert_eq!(pair.server.stats().detached, 0);
    assert_eq!(text(&pair.client.recv_timeout(PATIENCE).unwrap()), "12345");
    pair.client.close();
    eventually("the end", || session.failure().map(drop).ok_or(()));
    assert!(matches!(session.wait_connected(PATIENCE), Err(Error::Closed)));
}

#[test]
fn a_session_that_its_client_closes_is_not_replaced() {
    let pair = Pair::new();
    pair.client.close();
    assert_eq!(pair.client.stats().replaced, 0);
    let clean = pair.events.until(|event| match event {
        Event::Closed { clean, .. } => Some(*clean),
        _ => None,
    });
    assert!(clean);
}

#[test]
fn a_client_is_an_ordinary_one_with_a_server_that_offers_no_sessions() {
    let listener = Listener::new();
    let (builder, events) = watch(listener.client().resume(everlink::config::Resume::new()));
    let server = thread::spawn(move || {
        reset(listener.accept());
        let mut peer = listener.accept();
        assert_eq!(next_text(&mut peer), "x");
    });
    let client = builder.connect().unwrap();
    assert_eq!(start(&events), SessionStart::None);
    let resumable = events.until(|event| match event {
        Event::Disconnected { resumable, .. } => Some(*resumable),
        _ => None,
    });
    assert!(!resumable);
    assert_eq!(start(&events), SessionStart::None);
    client.send("x").unwrap();
    server.join().unwrap();
}

/// Takes what two senders have sent, so much each.
fn two_rows(each: u64, next: &dyn Fn() -> Message) {
    let mut rows = [Row::default(), Row::default()];
    for _ in 0..2 * each {
        let message = next();
        let sender = text(&message).ends_with(" 1");
        rows[usize::from(sender)].take(&message);
    }
    for mut row in rows {
        row.fill(each, || unreachable!());
    }
}

#[test]
fn senders_during_outages_keep_their_order_both_ways() {
    const EACH: u64 = 2_000;
    let pair = Pair::new();
    let session = pair.session();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let sending = |prefix: u64, send: &dyn Fn(String)| {
            (0..EACH).for_each(|number| send(format!("{number} {prefix}")));
        };
        for sender in 0..2 {
            let (client, session) = (&pair.client, &session);
            scope.spawn(move || sending(sender, &|text| client.send(text).unwrap()));
            scope.spawn(move || sending(sender, &|text| session.send(text).unwrap()));
        }
        scope.spawn(|| {
            while !done.load(SeqCst) {
                pair.proxy.cut(Cut::Reset);
                start(&pair.events);
            }
        });
        let receiver = &session;
        let server =
            scope.spawn(move || two_rows(EACH, &|| receiver.recv_timeout(PATIENCE).unwrap()));
        two_rows(EACH, &|| pair.client.recv_timeout(PATIENCE).unwrap());
        server.join().unwrap();
        done.store(true, SeqCst);
    });
    assert!(pair.client.stats().resumed > 0);
}

#[test]
fn beats_of_one_side_and_messages_that_look_like_beats_are_counted_by_both() {
    let server = resuming_server().heartbeat(Heartbeat::every(PATIENCE).answer("ping", "pong"));
    let is_answer = |message: &everlink::MessageRef<'_>| message.as_text() == Some("pong");
    let pair = Pair::with(server, |client| {
        let beat = Heartbeat::every(ms(20)).message("ping", is_answer);
        client.heartbeat(beat.dead_after(ms(5000)))
    });
    let session = pair.session();
    let mut row = Row::default();
    for round in 0..20 {
        pair.client.send("ping").unwrap();
        pair.client.send(format!("{round} at the server")).unwrap();
        session.send("pong").unwrap();
        session.send(format!("{round} at the client")).unwrap();
        if round % 4 == 0 {
            let before = pair.client.stats().pings_sent;
            eventually("a beat", || {
                if pair.client.stats().pings_sent > before { Ok(()) } else { Err(()) }
            });
        }
        resumed(pair.cut(Cut::Reset));
        assert_eq!(
            text(&session.recv_timeout(PATIENCE).unwrap()),
            format!("{round} at the server")
        );
        row.take(&pair.client.recv_timeout(PATIENCE).unwrap());
    }
    row.fill(20, || unreachable!());
}

#[test]
fn a_claim_ends_the_old_link_however_that_hangs() {
    const COUNT: u64 = 200;
    let (wake, sleep) = unbounded::<()>();
    let (sender, rows) = unbounded();
    let handler = move |session: &Session| {
        let _ = sleep.recv();
        let mut row = Row::default();
        row.fill(COUNT, || session.recv_timeout(PATIENCE).unwrap());
        sender.send(()).unwrap();
    };
    let server = resuming_server()
        .inbox(Queue::new().messages(1))
        // the server's own watch is far too slow to help
        .heartbeat(Heartbeat::every(PATIENCE * 10).dead_after(PATIENCE * 20));
    let pair = Pair::handled(
        server,
        |client| client.heartbeat(Heartbeat::every(ms(50)).dead_after(ms(200))),
        handler,
    );
    let session = pair.session();
    for number in 0..COUNT / 2 {
        pair.client.send(number.to_string()).unwrap();
    }
    eventually("a full inbox", || match session.stats().inbox_messages {
        0 => Err(()),
        _ => Ok(()),
    });
    // a black hole: the server's side stays open
    pair.proxy.set(Faults::none().stall(Direction::Both)).unwrap();
    for number in COUNT / 2..COUNT {
        pair.client.send(number.to_string()).unwrap();
    }
    let death = pair.events.disconnected();
    pair.proxy.set(Faults::none()).unwrap();
    let dead = Instant::now();
    resumed(start(&pair.events));
    let back = dead.elapsed();
    assert!(back < ms(1000), "back after {back:?}, the link died of {death}");
    wake.send(()).unwrap();
    rows.recv_timeout(PATIENCE).expect("all of them come in order");
}

#[test]
fn answers_that_are_lost_change_nothing() {
    let pair = Pair::new();
    let session = pair.session();
    pair.client.send("0").unwrap();
    session.send("0").unwrap();
    pair.client.flush(PATIENCE).unwrap();
    let failures = |watch: &Watch, count| {
        for _ in 0..count {
            watch.attempt_failed();
        }
    };
    for round in 1..4_u64 {
        // the request is longer than that, and the answer never whole
        pair.proxy.set(Faults::none().cut_after(Cut::Reset, 330).at_most(6)).unwrap();
        pair.proxy.cut(Cut::Reset);
        pair.client.send(round.to_string()).unwrap();
        session.send(round.to_string()).unwrap();
        failures(&pair.events, 5);
        resumed(start(&pair.events));
    }
    let (mut at_server, mut at_client) = (Row::default(), Row::default());
    at_server.fill(4, || session.recv_timeout(PATIENCE).unwrap());
    at_client.fill(4, || pair.client.recv_timeout(PATIENCE).unwrap());
}

#[test]
fn a_client_whose_first_answer_was_lost_leaves_no_ghost() {
    let (sender, sessions) = unbounded();
    let server = resuming_server().bind("127.0.0.1:0", move |session: Session| {
        sender.send(session.clone()).unwrap();
        let _ = session.recv();
    });
    let server = server.unwrap();
    let proxy = FaultProxy::start(server.local_addr()).unwrap();
    // in the middle of the answer, which is behind that of the upgrade
    proxy.set(Faults::none().cut_after(Cut::Reset, 180).at_most(3)).unwrap();
    let (builder, events) = watch(resuming_client(&proxy));
    let client = builder.start().unwrap();
    for _ in 0..3 {
        events.attempt_failed();
    }
    assert_eq!(start(&events), SessionStart::New);
    let real = sessions.recv_timeout(PATIENCE).unwrap();
    client.send("x").unwrap();
    eventually("the end", || real.failure().ok_or(()).map(drop));
    assert!(sessions.try_recv().is_err(), "no handler runs for nobody");
    assert_eq!(server.stats().sessions, 0);
}

#[test]
fn what_expires_or_is_dropped_in_an_outage_takes_no_neighbour_along() {
    let pair = Pair::with(resuming_server(), |client| {
        client.outbox(Queue::new().messages(10).overflow(Overflow::DropOldest))
    });
    let session = pair.session();
    pair.client.send("first").unwrap();
    pair.client.flush(PATIENCE).unwrap();
    pair.proxy.set(Faults::none().refuse()).unwrap();
    pair.proxy.cut(Cut::Reset);
    pair.events.disconnected();
    for number in 0..30 {
        pair.client.send(number.to_string()).unwrap();
    }
    pair.proxy.set(Faults::none()).unwrap();
    resumed(start(&pair.events));
    pair.client.flush(PATIENCE).unwrap();
    pair.client.send("last").unwrap();
    let mut expected = vec!["first".to_owned()];
    expected.extend((20..30).map(|number: u32| number.to_string()));
    expected.push("last".into());
    for expected in expected {
        assert_eq!(text(&session.recv_timeout(PATIENCE).unwrap()), expected);
    }
}

#[test]
fn last_words_are_kept_for_a_client_that_is_away() {
    for is_away_first in [true, false] {
        let (go, wait) = unbounded::<()>();
        let handler = move |session: &Session| {
            let _ = wait.recv();
            for number in 0..50 {
                session.send(number.to_string()).unwrap();
            }
        };
        let pair = Pair::handled(resuming_server(), |client| client, handler);
        let session = pair.session();
        pair.client.flush(PATIENCE).unwrap();
        if is_away_first {
            pair.proxy.set(Faults::none().refuse()).unwrap();
            pair.proxy.cut(Cut::Reset);
            eventually("the loss", || if session.is_connected() { Err(()) } else { Ok(()) });
            go.send(()).unwrap();
            eventually("the last words", || match session.send("more").map_err(Error::from) {
                Err(Error::Closed) => Ok(()),
                other => Err(other),
            });
        } else {
            // what is said, the close frame too, does not arrive
            pair.proxy.set(Faults::none().stall(Direction::ToClient)).unwrap();
            go.send(()).unwrap();
            eventually("the last words", || match session.stats().messages_sent {
                50.. => Ok(()),
                other => Err(other),
            });
            pair.proxy.cut(Cut::Reset);
        }
        pair.proxy.set(Faults::none()).unwrap();
        resumed(start(&pair.events));
        let mut row = Row::default();
        let mut extra = 0;
        while row.len() < 50 {
            let message = pair.client.recv_timeout(PATIENCE).unwrap();
            if text(&message) == "more" { extra += 1 } else { row.take(&message) }
        }
        row.fill(50, || unreachable!());
        assert!(extra < 50);
        let cause = pair.events.disconnected();
        assert!(cause.to_string().contains("1000"), "closed after the last words: {cause}");
        eventually("the end of the session", || session.failure().map(drop).ok_or(()));
        // the next one is another
        assert_eq!(in_doubt(start(&pair.events)), 0);
    }
}

#[test]
fn receipts_and_flush_wait_across_outages() {
    let pair = Pair::new();
    let session = pair.session();
    pair.client.flush(PATIENCE).unwrap();
    pair.proxy.set(Faults::none().refuse()).unwrap();
    pair.proxy.cut(Cut::Reset);
    pair.events.disconnected();
    let receipts: Vec<_> =
        (0..20).map(|n: u32| pair.client.send_confirmed(n.to_string()).unwrap()).collect();
    assert!(matches!(receipts[0].wait(ms(50)), Err(Error::Timeout)));
    let flushing = {
        let client = pair.client.clone();
        thread::spawn(move || client.flush(PATIENCE))
    };
    pair.proxy.set(Faults::none()).unwrap();
    resumed(start(&pair.events));
    flushing.join().unwrap().unwrap();
    for receipt in receipts {
        receipt.wait(PATIENCE).unwrap();
    }
    let mut row = Row::default();
    row.fill(20, || session.recv_timeout(PATIENCE).unwrap());
}

/// The session is over at the server, with messages of the client on their way.
fn replaced(delivery: Delivery) -> (Pair, Session, everlink::Receipt) {
    let pair = Pair::with(resuming_server(), |client| client.delivery(delivery));
    let first = pair.session();
    pair.client.flush(PATIENCE).unwrap();
    pair.proxy.set(Faults::none().stall(Direction::ToServer)).unwrap();
    let receipt = pair.client.send_confirmed("0").unwrap();
    pair.client.wait_sent(PATIENCE).unwrap();
    // it stalls until it is cut
    pair.proxy.set(Faults::none().stall(Direction::ToServer).refuse()).unwrap();
    pair.proxy.cut(Cut::Reset);
    eventually("the loss", || if first.is_connected() { Err(()) } else { Ok(()) });
    first.abort();
    eventually("the end", || first.failure().map(drop).ok_or(()));
    pair.proxy.set(Faults::none()).unwrap();
    assert_eq!(in_doubt(start(&pair.events)), 1);
    let second = pair.session();
    (pair, second, receipt)
}

#[test]
fn when_the_session_is_over_the_delivery_decides_about_what_is_in_doubt() {
    let (pair, session, receipt) = replaced(Delivery::AtMostOnce);
    assert!(matches!(receipt.wait(PATIENCE), Err(Error::Undelivered(Undelivered::Lost))));
    pair.client.send("1").unwrap();
    assert_eq!(text(&session.recv_timeout(PATIENCE).unwrap()), "1");
    let stats = pair.client.stats();
    assert_eq!((stats.replaced, stats.in_doubt), (1, 1));

    let (pair, session, receipt) = replaced(Delivery::AtLeastOnce);
    receipt.wait(PATIENCE).unwrap();
    pair.client.send("1").unwrap();
    assert_eq!(text(&session.recv_timeout(PATIENCE).unwrap()), "0");
    assert_eq!(text(&session.recv_timeout(PATIENCE).unwrap()), "1");
}

#[test]
fn what_is_in_doubt_is_handed_over_the_oldest_first() {
    let (sender, dropped) = unbounded();
    let pair = Pair::with(resuming_server(), |client| {
        client.on_dropped(move |message, why| sender.send((text(&message), why)).unwrap())
    });
    let session = pair.session();
    pair.client.flush(PATIENCE).unwrap();
    pair.proxy.set(Faults::none().stall(Direction::ToServer)).unwrap();
    for number in 0..5 {
        pair.client.send(number.to_string()).unwrap();
    }
    pair.client.wait_sent(PATIENCE).unwrap();
    pair.proxy.set(Faults::none().stall(Direction::ToServer).refuse()).unwrap();
    pair.proxy.cut(Cut::Reset);
    pair.events.disconnected();
    session.abort();
    pair.proxy.set(Faults::none()).unwrap();
    assert_eq!(in_doubt(start(&pair.events)), 5);
    for number in 0..5 {
        let handed = dropped.recv_timeout(PATIENCE).unwrap();
        assert_eq!(handed, (number.to_string(), Undelivered::Lost));
    }
}

#[test]
fn login_belongs_to_the_session_and_what_it_sent_is_not_lost_either() {
    let logins = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&logins);
    let pair = Pair::with(resuming_server(), |client| {
        client.login(move |session| {
            *counted.lock().unwrap() += 1;
            session.send("hello")?;
            session.send("subscribe")?;
            Ok(())
        })
    });
    let session = pair.session();
    resumed(pair.cut(Cut::Reset));
    pair.client.send("first").unwrap();
    for expected in ["hello", "subscribe", "first"] {
        assert_eq!(text(&session.recv_timeout(PATIENCE).unwrap()), expected);
    }
    resumed(pair.cut(Cut::EndOfStream));
    assert_eq!(*logins.lock().unwrap(), 1);
    // in another session it logs in again
    session.close();
    in_doubt(start(&pair.events));
    assert_eq!(*logins.lock().unwrap(), 2);
    let second = pair.session();
    assert_eq!(text(&second.recv_timeout(PATIENCE).unwrap()), "hello");
    let stats = pair.client.stats();
    let sum = stats.passed_on + stats.outbox_messages as u64 + stats.handed_back;
    assert_eq!(stats.accepted, sum, "{stats:?}");
}

#[test]
fn a_login_that_is_cut_off_right_after_it_is_kept() {
    let pair = Pair::new();
    drop(pair.session());
    let (sender, sessions) = unbounded();
    let server = resuming_server().bind("127.0.0.1:0", move |session: Session| {
        sender.send(session.clone()).unwrap();
        keep(&session);
    });
    let server = server.unwrap();
    let proxy = Arc::new(FaultProxy::start(server.local_addr()).unwrap());
    let (in_hook, once) = (Arc::clone(&proxy), AtomicBool::new(false));
    let (builder, events) = watch(resuming_client(&proxy).login(move |session| {
        if !once.swap(true, SeqCst) {
            // nothing of this arrives
            in_hook.set(Faults::none().stall(Direction::ToServer))?;
        }
        session.send("hello")?;
        Ok(())
    }));
    let client = builder.start().unwrap();
    assert_eq!(start(&events), SessionStart::New);
    client.send("first").unwrap();
    client.wait_sent(PATIENCE).unwrap();
    proxy.cut(Cut::Reset);
    proxy.set(Faults::none()).unwrap();
    assert_eq!(resumed(start(&events)), 2);
    let session = sessions.recv_timeout(PATIENCE).unwrap();
    assert_eq!(text(&session.recv_timeout(PATIENCE).unwrap()), "hello");
    assert_eq!(text(&session.recv_timeout(PATIENCE).unwrap()), "first");
}

#[test]
fn a_login_that_fails_leaves_no_ghost() {
    let (sender, sessions) = unbounded();
    let server = resuming_server().bind("127.0.0.1:0", move |session: Session| {
        sender.send(session.clone()).unwrap();
        let _ = session.recv();
        let _ = session.recv();
    });
    let server = server.unwrap();
    let failed = AtomicBool::new(false);
    let client = Client::builder(format!("ws://{}", server.local_addr()))
        .resume(everlink::config::Resume::new())
        .backoff(everlink::config::Backoff::fixed(ms(1)))
        .login(move |session| {
            session.send("hello")?;
            if failed.swap(true, SeqCst) { Ok(()) } else { Err("not today".into()) }
        });
    let (builder, events) = watch(client);
    let client = builder.start().unwrap();
    events.attempt_failed();
    assert_eq!(start(&events), SessionStart::New);
    let ghost = sessions.recv_timeout(PATIENCE).unwrap();
    eventually("the end of the first", || ghost.failure().map(drop).ok_or(()));
    let cause = ghost.failure().unwrap();
    assert!(cause.to_string().contains("closed by the peer"), "{cause}");
    drop(client);
}

#[test]
fn a_program_that_asks_for_another_link_keeps_its_session() {
    let pair = Pair::new();
    let session = pair.session();
    for number in 0..10_u64 {
        pair.client.send(number.to_string()).unwrap();
        pair.client.reconnect().unwrap();
        resumed(start(&pair.events));
    }
    let mut row = Row::default();
    row.fill(10, || session.recv_timeout(PATIENCE).unwrap());
}

#[test]
fn what_a_client_could_not_deliver_is_handed_back() {
    let pair = Pair::new();
    let session = pair.session();
    pair.client.send("0").unwrap();
    assert_eq!(text(&session.recv_timeout(PATIENCE).unwrap()), "0");
    pair.client.flush(PATIENCE).unwrap();
    pair.proxy.set(Faults::none().stall(Direction::ToServer)).unwrap();
    pair.client.send("1").unwrap();
    pair.client.wait_sent(PATIENCE).unwrap();
    pair.proxy.set(Faults::none().stall(Direction::ToServer).refuse()).unwrap();
    pair.proxy.cut(Cut::Reset);
    pair.events.disconnected();
    pair.client.send("2").unwrap();
    let report = pair.client.close();
    let left: Vec<String> = report.undelivered.iter().map(text).collect();
    assert_eq!(left, ["1", "2"], "unconfirmed and queued");
}

#[test]
fn unconfirmed_messages_have_bounds_of_their_own() {
    let pair = Pair::with(resuming_server(), |client| {
        client
            .resume(everlink::config::Resume::new().unconfirmed(10, 1 << 20))
            .outbox(Queue::new().messages(5).overflow(Overflow::Fail))
    });
    let session = pair.session();
    pair.client.flush(PATIENCE).unwrap();
    pair.proxy.set(Faults::none().stall(Direction::ToClient)).unwrap();
    let mut sent = 0_u64;
    eventually("a full outbox", || match pair.client.send(sent.to_string()).map_err(Error::from) {
        Ok(()) => {
            sent += 1;
            Err(sent)
        }
        Err(Error::Full) if pair.client.stats().messages_sent >= 10 => Ok(()),
        Err(_) => Err(sent),
    });
    assert_eq!(pair.client.stats().messages_sent, 10, "no more than that goes unconfirmed");
    assert_eq!(sent, 15);
    pair.proxy.set(Faults::none()).unwrap();
    let mut row = Row::default();
    row.fill(15, || session.recv_timeout(PATIENCE).unwrap());
    // and a resumption changes nothing about it
    resumed(pair.cut(Cut::Reset));
    pair.client.send("15").unwrap();
    row.fill(16, || session.recv_timeout(PATIENCE).unwrap());
}

#[test]
fn a_close_waits_for_what_may_not_be_written_yet() {
    let pair = Pair::with(resuming_server(), |client| {
        client
            .resume(everlink::config::Resume::new().unconfirmed(10, 1 << 20))
            .timeouts(everlink::config::Timeouts::new().close(PATIENCE))
    });
    let session = pair.session();
    pair.client.flush(PATIENCE).unwrap();
    pair.proxy.set(Faults::none().stall(Direction::ToClient)).unwrap();
    for number in 0..15 {
        pair.client.send(number.to_string()).unwrap();
    }
    let mut row = Row::default();
    row.fill(10, || session.recv_timeout(PATIENCE).unwrap());
    let client = pair.client.clone();
    let closing = std::thread::spawn(move || client.close());
    eventually("the close", || match pair.client.status().state {
        everlink::State::Closing => Ok(()),
        other => Err(other),
    });
    pair.proxy.set(Faults::none()).unwrap();
    row.fill(15, || session.recv_timeout(PATIENCE).unwrap());
    assert!(closing.join().unwrap().undelivered.is_empty());
}

#[test]
fn a_handler_of_messages_sees_each_once() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let collected = Arc::clone(&seen);
    let pair = Pair::with(resuming_server(), |client| {
        client.on_message(move |_, message| {
            collected.lock().unwrap().push(message.as_text().unwrap().parse::<u64>().unwrap());
        })
    });
    let session = pair.session();
    for number in 0..500_u64 {
        session.send(number.to_string()).unwrap();
        if number % 50 == 0 {
            resumed(pair.cut(Cut::Reset));
        }
    }
    eventually("all of them", || match seen.lock().unwrap().len() {
        500.. => Ok(()),
        other => Err(other),
    });
    assert_eq!(*seen.lock().unwrap(), (0..500).collect::<Vec<_>>());
}

#[test]
fn settings_that_can_have_no_effect_are_refused() {
    use everlink::config::{Framing, Resume};
    let client = || Client::builder("ws://127.0.0.1:1");
    for (builder, name) in [
        (
            Client::builder("tcp://127.0.0.1:1").framing(Framing::raw()).resume(Resume::new()),
            "resume",
        ),
        (client().resume(Resume::new().unconfirmed(0, 1)), "resume"),
        (client().resume(Resume::within(PATIENCE)), "Resume::within"),
        (client().resume(Resume::new().sessions(1)), "Resume::sessions"),
        (client().resume(Resume::new().bytes(1)), "Resume::bytes"),
    ] {
        let error = builder.start().unwrap_err();
        assert!(matches!(error, Error::InvalidSetting { setting, .. } if setting == name));
    }
    let resume = Resume::within(PATIENCE);
    for (builder, name) in [
        (Server::builder().resume(resume).framing(Framing::raw()), "resume"),
        (Server::builder().on_resume(|_, _| true), "on_resume"),
        (Server::builder().resume(Resume::within(ms(10))), "resume"),
        (Server::builder().resume(resume.sessions(0)), "resume"),
        (Server::builder().resume(resume.unconfirmed(1, 0)), "resume"),
    ] {
        let error = builder.bind("127.0.0.1:0", |_| {}).unwrap_err();
        assert!(matches!(error, Error::InvalidSetting { setting, .. } if setting == name));
    }
}

#[test]
fn what_is_for_this_link_only_does_not_wait_for_the_next() {
    let pair = Pair::new();
    let session = pair.session();
    pair.client.flush(PATIENCE).unwrap();
    let only = everlink::config::SendOptions::new().this_link_only();
    pair.client.send_with("now", only).unwrap();
    assert_eq!(text(&session.recv_timeout(PATIENCE).unwrap()), "now");
    // one that is to be confirmed is counted
    let receipt = pair.client.sender().send_confirmed_with("confirmed", only).unwrap();
    receipt.wait(PATIENCE).unwrap();
    pair.proxy.set(Faults::none().stall(Direction::ToServer)).unwrap();
    pair.client.send_with("written", only).unwrap();
    let receipt = pair.client.sender().send_confirmed_with("asked", only).unwrap();
    pair.client.wait_sent(PATIENCE).unwrap();
    pair.proxy.set(Faults::none().stall(Direction::ToServer).refuse()).unwrap();
    pair.proxy.cut(Cut::Reset);
    pair.events.disconnected();
    let refused = pair.client.send_with("away", only).map_err(Error::from);
    assert!(matches!(refused, Err(Error::NotConnected)), "{refused:?}");
    pair.client.send("0").unwrap();
    pair.proxy.set(Faults::none()).unwrap();
    resumed(start(&pair.events));
    let why = receipt.wait(PATIENCE);
    assert!(matches!(why, Err(Error::Undelivered(Undelivered::LinkEnded))), "{why:?}");
    for expected in ["confirmed", "0"] {
        assert_eq!(text(&session.recv_timeout(PATIENCE).unwrap()), expected);
    }
    pair.client.flush(PATIENCE).unwrap();
    let stats = pair.client.stats();
    let sum = stats.passed_on + stats.outbox_messages as u64 + stats.outbox_dropped;
    assert_eq!(stats.accepted, sum, "{stats:?}");
}

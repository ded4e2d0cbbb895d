//! What services say in their messages: how often they want a beat, that a link is to end and where the
//! next one goes, and what has arrived.

use std::io::{BufRead, BufReader, Write};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::*;
use crossbeam_channel::unbounded;
use everlink::config::{Backoff, Delivery, Framing, Heartbeat, Queue, SendOptions};
use everlink::failure::{Decision, Next, Undelivered};
use everlink::{Client, Error, Event, Failure, LoginError, Server, Session, State};
use tungstenite::Message;

fn next_close(peer: &mut Peer) -> Option<u16> {
    read_to_end(peer).map(|frame| u16::from(frame.code))
}

fn redial(watch: &Watch) -> (std::sync::Arc<Failure>, Next) {
    watch.until(|event| match event {
        Event::Disconnected { cause, next, .. } => Some((cause.clone(), *next)),
        _ => None,
    })
}

#[test]
fn a_heartbeat_that_a_service_asks_for_at_login_beats_on_this_link() {
    let listener = Listener::new();
    let builder = listener.client().heartbeat(Heartbeat::off()).login(|login| {
        let hello = login.recv()?;
        let interval = hello.as_text().and_then(|text| text.strip_prefix("hello "));
        let interval = Duration::from_millis(interval.ok_or("no hello")?.parse()?);
        let beat = Heartbeat::every(interval).dead_after(interval * 40);
        login.set_heartbeat(beat.message("beat", |answer| *answer == *"ack"))
    });
    let (builder, watch) = watch(builder);
    let client = builder.start().unwrap();
    let mut peer = listener.accept();
    peer.send(Message::text("hello 20")).unwrap();
    for _ in 0..3 {
        assert_eq!(next_text(&mut peer), "beat");
        peer.send(Message::text("ack")).unwrap();
    }
    // and its silence is watched
    assert!(matches!(&*watch.disconnected(), Failure::HeartbeatTimeout { .. }));
    // the next login says so again, or not
    let mut peer = listener.accept();
    peer.send(Message::text("hello 5000")).unwrap();
    peer.send(Message::text("x")).unwrap();
    assert_eq!(client.recv_timeout(PATIENCE).unwrap(), "x", "no answer of a beat was received");
}

#[test]
fn a_heartbeat_changes_while_the_link_is_up_on_either_side() {
    let (sender, sessions) = unbounded();
    let server = Server::builder()
        .heartbeat(Heartbeat::off())
        .bind("127.0.0.1:0", move |session: Session| {
            sender.send(session.clone()).unwrap();
            echo_all(session);
        })
        .unwrap();
    let url = format!("ws://{}", server.local_addr());
    let builder = Client::builder(&url).heartbeat(Heartbeat::every(PATIENCE)).on_message(
        |sender, message| {
            // a handler learns it, and the thread that it runs on reads with the new limit
            if message == "faster" {
                let beat = Heartbeat::every(ms(10)).dead_after(PATIENCE);
                sender.set_heartbeat(beat.message("beat", |answer| *answer == *"beat")).unwrap();
            }
        },
    );
    let client = builder.connect().unwrap();
    let session = sessions.recv_timeout(PATIENCE).unwrap();
    session.send("faster").unwrap();
    eventually("beats of the client", || match client.stats() {
        stats if stats.pings_sent >= 3 && stats.last_round_trip.is_some() => Ok(()),
        stats => Err(Box::new(stats)),
    });
    client.set_heartbeat(Heartbeat::off()).unwrap();
    session.set_heartbeat(Heartbeat::every(ms(10)).dead_after(PATIENCE)).unwrap();
    let before = session.stats().pings_sent;
    eventually("pings of the server", || match session.stats() {
        stats if stats.pings_sent >= before + 3 => Ok(()),
        stats => Err(Box::new(stats)),
    });
    let wrong = client.set_heartbeat(Heartbeat::every(Duration::ZERO));
    assert!(matches!(wrong, Err(Error::InvalidSetting { setting: "heartbeat", .. })), "{wrong:?}");
    client.close();
    assert!(matches!(client.set_heartbeat(Heartbeat::off()), Err(Error::Closed)));
}

#[test]
fn a_limit_that_gets_shorter_ends_a_link_that_is_silent_already() {
    let listener = Listener::new();
    let (builder, watch) = watch(listener.client().heartbeat(Heartbeat::off()));
    let client = builder.start().unwrap();
    let peer = listener.accept();
    watch.connected();
    client.set_heartbeat(Heartbeat::listen(ms(50))).unwrap();
    assert!(matches!(&*watch.disconnected(), Failure::HeartbeatTimeout { .. }));
    drop(peer);
}

#[test]
fn beats_of_messages_go_out_only_when_idle_if_that_is_wanted() {
    let listener = Listener::new();
    let beat = Heartbeat::every(ms(1500)).dead_after(PATIENCE).message("beat", |_| false);
    let client = listener.client().heartbeat(beat.when_idle()).start().unwrap();
    let mut peer = listener.accept();
    let busy = Instant::now() + ms(3200);
    while Instant::now() < busy {
        peer.send(Message::text("x")).unwrap();
        client.recv_timeout(PATIENCE).unwrap();
        thread::park_timeout(ms(20));
    }
    assert_eq!(client.stats().pings_sent, 0, "it was busy");
    assert_eq!(next_text(&mut peer), "beat");
}

#[test]
fn a_ping_of_the_programs_own_is_answered_or_not() {
    let server = echo_server();
    let client = Client::connect(format!("ws://{}", server.local_addr())).unwrap();
    assert!(client.ping(PATIENCE).unwrap() < PATIENCE);
    assert!(server.sessions()[0].ping(PATIENCE).unwrap() < PATIENCE);
    client.close();
    assert!(matches!(client.ping(PATIENCE), Err(Error::Closed)));
    // a peer that answers nothing, and one that is gone meanwhile
    let listener = Listener::new();
    let client = listener.client().heartbeat(Heartbeat::off()).start().unwrap();
    let peer = listener.accept();
    client.wait_connected(PATIENCE).unwrap();
    assert!(matches!(client.ping(ms(20)), Err(Error::Timeout)));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| client.ping(PATIENCE));
        eventually("the ping", || match client.stats().pings_sent {
            2.. => Ok(()),
            other => Err(other),
        });
        reset(peer);
        assert!(matches!(waiting.join().unwrap(), Err(Error::NotConnected)));
    });
    // where there is nothing to ask with
    let listener = Listener::new();
    let client = Client::builder(format!("tcp://{}", listener.address()))
        .heartbeat(Heartbeat::off())
        .start()
        .unwrap();
    let _stream = listener.accept_raw();
    client.wait_connected(PATIENCE).unwrap();
    assert!(matches!(client.ping(PATIENCE), Err(Error::Unconfirmable)));
}

#[test]
fn a_handler_that_pings_is_told_that_it_would_wait_for_itself() {
    let (sender, results) = unbounded();
    let server = echo_server();
    let client = Client::builder(format!("ws://{}", server.local_addr()))
        .on_message(move |client, _| sender.send(client.ping(PATIENCE)).unwrap())
        .connect()
        .unwrap();
    client.send("x").unwrap();
    let result = results.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(result, Err(Error::WouldWaitForever { .. })), "{result:?}");
}

#[test]
fn a_handler_ends_the_link_and_says_why_and_what_follows() {
    let listener = Listener::new();
    let elsewhere = Listener::new();
    let (there, there_address) = (elsewhere.url(), elsewhere.address().to_string());
    let builder = listener.client().on_message(move |sender, message| {
        let zero = Duration::ZERO;
        let decision = match message.as_text() {
            Some("again") => Decision::RetryAfter(zero),
            Some("there") => Decision::RetryAt { url: there.clone(), delay: zero },
            _ => Decision::GiveUp,
        };
        sender.end_link(&format!("told: {message}"), decision).unwrap();
    });
    let builder = builder.decide(|_, cause| panic!("it is decided: {cause}"));
    let (builder, watch) = watch(builder.backoff(Backoff::fixed(ms(1))));
    let client = builder.start().unwrap();
    let mut peer = listener.accept();
    peer.send(Message::text("again")).unwrap();
    let (cause, next) = redial(&watch);
    assert!(matches!(&*cause, Failure::Ended(why) if why == "told: again"), "{cause:?}");
    assert!(matches!(next, Next::Redial { .. }), "{next:?}");
    assert_eq!(next_close(&mut peer), Some(1000), "in order");
    let mut peer = listener.accept();
    peer.send(Message::text("there")).unwrap();
    assert!(matches!(redial(&watch).1, Next::Redial { delay: Duration::ZERO, .. }));
    read_to_end(&mut peer);
    let mut peer = elsewhere.accept();
    watch.until(|event| match event {
        Event::Connected { endpoint, .. } if endpoint.contains(&there_address) => Some(()),
        _ => None,
    });
    // that link's end leads back
    peer.send(Message::text("again")).unwrap();
    redial(&watch);
    read_to_end(&mut peer);
    let mut peer = listener.accept();
    peer.send(Message::text("never again")).unwrap();
    assert!(matches!(redial(&watch).1, Next::GiveUp));
    assert!(matches!(&*watch.gave_up(), Failure::Ended(_)));
    eventually("the state", || match client.status().state {
        State::GaveUp => Ok(()),
        other => Err(other),
    });
    let refused = client.end_link("there is none", Decision::Retry);
    assert!(matches!(refused, Err(Error::GaveUp(_))), "{refused:?}");
    read_to_end(&mut peer);
}

#[test]
fn a_link_is_ended_from_anywhere_and_a_url_that_is_none_is_refused() {
    let server = echo_server();
    let (builder, watch) = watch(Client::builder(format!("ws://{}", server.local_addr())));
    let client = builder.connect().unwrap();
    watch.connected();
    let nowhere = Decision::RetryAt { url: "ws://".into(), delay: Duration::ZERO };
    let refused = client.end_link("moved", nowhere);
    assert!(matches!(refused, Err(Error::InvalidUrl { .. })), "{refused:?}");
    client.sender().end_link("a fresh start", Decision::RetryAfter(Duration::ZERO)).unwrap();
    let (cause, _) = redial(&watch);
    assert_eq!(cause.to_string(), "ended by the program: a fresh start");
    watch.connected();
    // a session ends its link, too
    let session = server.sessions().into_iter().find(Session::is_connected).unwrap();
    session.end_link("enough", Decision::GiveUp).unwrap();
    let (cause, _) = redial(&watch);
    assert!(matches!(&*cause, Failure::Closed(Some(frame)) if frame.code.0 == 1000), "{cause:?}");
    eventually("its end", || session.failure().map(drop).ok_or(()));
    assert!(matches!(&*session.failure().unwrap(), Failure::Ended(_)));
    assert!(matches!(session.end_link("again", Decision::Retry), Err(Error::Closed)));
}

#[test]
fn a_login_hook_decides_where_the_next_attempt_goes() {
    let listener = Listener::new();
    let there = Listener::new();
    let url = there.url();
    let builder = listener.client().login(move |login| match login.recv()?.as_text() {
        Some("moved") => {
            let there = Decision::RetryAt { url: url.clone(), delay: Duration::ZERO };
            Err(LoginError::decided(there, "the service has moved"))?
        }
        _ => Ok(()),
    });
    let (builder, watch) = watch(builder);
    let client = builder.start().unwrap();
    listener.accept().send(Message::text("moved")).unwrap();
    assert!(matches!(&*watch.attempt_failed(), Failure::Login { .. }));
    let mut peer = there.accept();
    peer.send(Message::text("welcome")).unwrap();
    client.wait_connected(PATIENCE).unwrap();
}

/// What the client sends, numbered, with its number as key.
fn send(client: &Client, numbers: std::ops::Range<u64>) {
    for number in numbers {
        client.send_with(number.to_string(), SendOptions::new().key(number)).unwrap();
    }
}

#[test]
fn what_the_program_confirms_is_not_sent_again_in_whatever_order() {
    let listener = Listener::new();
    let (builder, watch) = watch(
        listener
            .client()
            .delivery(Delivery::UntilConfirmed)
            .outbox(Queue::new().messages(100))
            .on_resend(|message| format!("again {message}").into()),
    );
    let client = builder.start().unwrap();
    let mut peer = listener.accept();
    send(&client, 1..7);
    let receipt = client.sender().send_confirmed_with("7", SendOptions::new().key(7)).unwrap();
    for number in 1..8 {
        assert_eq!(next_text(&mut peer), number.to_string());
    }
    client.wait_sent(PATIENCE).unwrap();
    // pings confirm nothing
    assert!(client.ping(PATIENCE).is_err() || client.stats().outbox_messages == 7);
    for key in [5, 2, 7] {
        assert!(client.sender().confirm(key), "{key}");
    }
    assert!(!client.sender().confirm(5), "twice");
    receipt.wait(PATIENCE).unwrap();
    assert_eq!(client.stats().outbox_messages, 4);
    assert_eq!(client.sender().confirmed_up_to(), 0);
    reset(peer);
    watch.disconnected();
    let mut peer = listener.accept();
    for number in [1, 3, 4, 6] {
        assert_eq!(next_text(&mut peer), format!("again {number}"));
    }
    send(&client, 8..9);
    assert_eq!(next_text(&mut peer), "8");
    client.sender().confirm_up_to(4);
    assert_eq!(client.sender().confirmed_up_to(), 5);
    thread::scope(|scope| {
        let flushing = scope.spawn(|| client.flush(PATIENCE));
        assert!(client.sender().confirm(8));
        assert!(client.sender().confirm(6));
        flushing.join().unwrap().unwrap();
    });
    let report = client.close();
    assert!(report.undelivered.is_empty(), "{report:?}");
}

#[test]
fn what_the_program_never_confirms_is_handed_back_and_fills_the_outbox() {
    let listener = Listener::new();
    let builder = listener.client().delivery(Delivery::UntilConfirmed);
    let builder = builder.outbox(Queue::new().messages(3));
    let builder = builder.timeouts(everlink::config::Timeouts::new().close(ms(100)));
    let client = builder.start().unwrap();
    let mut peer = listener.accept();
    send(&client, 1..4);
    for number in 1..4 {
        assert_eq!(next_text(&mut peer), number.to_string());
    }
    let full = client.try_send("4").map_err(Error::from);
    assert!(matches!(full, Err(Error::Full)), "{full:?}");
    let flushed = client.flush(ms(20));
    assert!(matches!(flushed, Err(Error::Unconfirmed { count: 3, .. })), "{flushed:?}");
    client.sender().confirm(2);
    client.try_send("4").unwrap();
    assert_eq!(next_text(&mut peer), "4");
    let report = client.close();
    let left: Vec<String> = report.undelivered.iter().map(ToString::to_string).collect();
    assert_eq!(left, ["1", "3", "4"]);
}

#[test]
fn a_confirmation_that_is_faster_than_the_writers_bookkeeping_counts() {
    let server = Server::bind("127.0.0.1:0", |session| {
        for message in &session {
            let _ = session.send(message);
        }
    })
    .unwrap();
    let client = Client::builder(format!("ws://{}", server.local_addr()))
        .delivery(Delivery::UntilConfirmed)
        .on_message(|sender, message| {
            sender.confirm(message.as_text().unwrap().parse().unwrap());
        })
        .connect()
        .unwrap();
    for number in 0..20_000 {
        client.send_with(number.to_string(), SendOptions::new().key(number)).unwrap();
    }
    client.flush(PATIENCE).unwrap();
    let stats = client.stats();
    assert_eq!((stats.outbox_messages, stats.passed_on), (0, 20_000));
    assert!(client.close().undelivered.is_empty());
}

#[test]
fn a_message_that_ends_link_after_link_is_handed_back_as_poison() {
    let listener = Listener::new();
    let (sender, dropped) = unbounded();
    let client = listener
        .client()
        .delivery(Delivery::UntilConfirmed)
        .max_deliveries(2)
        .on_message(|sender, message| {
            sender.confirm(message.as_text().unwrap().parse().unwrap());
        })
        .on_dropped(move |message, why| sender.send((message.to_string(), why)).unwrap())
        .start()
        .unwrap();
    send(&client, 1..2);
    client.send_with("poison", SendOptions::new().key(2)).unwrap();
    send(&client, 3..4);
    for _ in 0..2 {
        let mut peer = listener.accept();
        loop {
            match next_text(&mut peer).as_str() {
                "poison" => {
                    // what was confirmed has arrived before the reset
                    peer.send(Message::Ping(Vec::new().into())).unwrap();
                    while !matches!(peer.read().unwrap(), Message::Pong(_)) {}
                    break reset(peer);
                }
                // what is confirmed shows that the link works
                number => peer.send(Message::text(number)).unwrap(),
            }
        }
    }
    let poison = dropped.recv_timeout(PATIENCE).unwrap();
    assert_eq!(poison, ("poison".into(), Undelivered::Poison));
    let mut peer = listener.accept();
    assert_eq!(next_text(&mut peer), "3");
    peer.send(Message::text("3")).unwrap();
    client.flush(PATIENCE).unwrap();
}

#[test]
fn settings_of_confirmation_that_can_have_no_effect_are_refused() {
    use everlink::config::Resume;
    let client = || Client::builder("ws://127.0.0.1:1");
    for (builder, name) in [
        (client().on_resend(Clone::clone), "on_resend"),
        (
            client().delivery(Delivery::UntilConfirmed).resume(Resume::new()),
            "Delivery::UntilConfirmed",
        ),
        (client().heartbeat(Heartbeat::default().when_idle()), "heartbeat"),
    ] {
        let error = builder.start().unwrap_err();
        assert!(
            matches!(error, Error::InvalidSetting { setting, .. } if setting == name),
            "{error:?}"
        );
    }
    // on framed TCP without beats, too
    let listener = Listener::new();
    let client = Client::builder(format!("tcp://{}", listener.address()))
        .framing(Framing::lines())
        .heartbeat(Heartbeat::off())
        .delivery(Delivery::UntilConfirmed)
        .start()
        .unwrap();
    let mut stream = BufReader::new(listener.accept_raw());
    client.send_with("1", SendOptions::new().key(1)).unwrap();
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    assert_eq!(line, "1\n");
    client.wait_sent(PATIENCE).unwrap();
    assert!(client.sender().confirm(1));
    client.flush(PATIENCE).unwrap();
    stream.get_mut().write_all(b"x\n").unwrap();
    assert_eq!(client.recv_timeout(PATIENCE).unwrap(), "x");
}

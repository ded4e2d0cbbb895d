//! How sessions end, against servers made by hand: with an end that is answered, and with nothing else.

use std::io::Write;
use std::time::Instant;

use crate::support::bare::*;
use crate::support::bare_server::*;
use crate::support::resumed::{in_doubt, start, text};
use crate::support::*;
use everlink::Event;
use everlink::config::*;
use everlink::failure::Next;

#[test]
fn an_end_is_answered_and_what_the_server_lacks_goes_into_the_next_session() {
    for (end, code, reason, retries) in [
        ("e 1000", 1000, "", true),
        ("e 1001 shutting down", 1001, "shutting down", true),
        ("e 4001 \u{fc}ber", 4001, "\u{fc}ber", true),
        ("e 1008 go away", 1008, "go away", false),
    ] {
        let listener = Listener::new();
        let (client, events, mut server) = held(&listener);
        client.send("0").unwrap();
        client.send("1").unwrap();
        assert_eq!(server.messages(2), ["0", "1"]);
        server.say("ma");
        server.say("r 1");
        server.say(end);
        server.say("mlate");
        let answer = loop {
            match server.next() {
                text if text == "a" => {}
                text => break text,
            }
        };
        assert_eq!(answer, "r 1");
        assert_eq!(server.next(), end, "with the same code");
        assert_eq!(server.rest(), [format!("close {code}")]);
        received(&client, "a");
        let (cause, resumable, next) = ended(&events);
        let frame = cause.close_frame().expect("a close frame, as far as the program can see");
        assert_eq!((frame.code.0, &*frame.reason), (code, reason));
        assert!(!resumable);
        assert_eq!(matches!(next, Next::Redial { .. }), retries);
        if retries {
            client.send("2").unwrap();
            let (mut server, offer) = BareServer::open(&listener);
            assert_eq!(offer, "s new");
            server.say(&format!("s {OTHER} received=0"));
            assert_eq!(in_doubt(start(&events)), 0);
            assert_eq!(server.next(), "r 0");
            assert_eq!(server.messages(2), ["1", "2"], "at most once, and known not to have come");
        }
        assert!(!matches!(client.try_recv(), Ok(Some(_))), "nothing behind the end");
    }
}

#[test]
fn a_close_says_the_end_behind_what_is_queued_and_waits_for_the_answer() {
    let listener = Listener::new();
    let (client, events, mut server) = held(&listener);
    server.say("ma");
    received(&client, "a");
    for number in 0..3 {
        client.send(number.to_string()).unwrap();
    }
    let closing = std::thread::spawn(move || client.close_with(3001, "bye").unwrap());
    assert_eq!(server.messages(3), ["0", "1", "2"]);
    end(&mut server, "r 1", "e 3001 bye");
    // not counted any more, and not answered
    server.say("mlate");
    server.say("a");
    server.stream.write_all(&frame(PING, b"1")).unwrap();
    server.say("r 3");
    server.say("e 3001");
    assert_eq!(server.rest(), ["close 3001"]);
    drop(server);
    let report = closing.join().unwrap();
    assert!(report.ended && report.undelivered.is_empty(), "{report:?}");
    let clean = events.until(|event| match event {
        Event::Closed { clean, .. } => Some(*clean),
        _ => None,
    });
    assert!(clean);
}

#[test]
fn a_close_whose_answer_is_lost_comes_back_for_it() {
    let listener = Listener::new();
    let timeouts = Timeouts::new().close(PATIENCE);
    let (client, events, mut server) = held_by(impatient(&listener).timeouts(timeouts), &listener);
    for number in 0..3 {
        client.send(number.to_string()).unwrap();
    }
    assert_eq!(server.messages(3), ["0", "1", "2"]);
    let closing = std::thread::spawn(move || client.close());
    end(&mut server, "r 0", "e 1000");
    server.say("mlate");
    server.reset();
    // an attempt that fails changes nothing
    let (server, offer) = BareServer::open(&listener);
    assert_eq!(offer, claim(1, 0));
    drop(server);
    // what it lacks comes again, and the end
    let mut server = resume(&listener, 2, 0, &goes_on(2));
    assert_eq!(server.messages(1), ["2"]);
    end(&mut server, "r 0", "e 1000");
    server.say("mlater");
    // a gateway's goodbye is no answer
    server.stream.write_all(&frame(CLOSE, &close_body(1000, ""))).unwrap();
    assert_eq!(server.rest(), ["close 1000"]);
    // it has all, and knows already that it is over
    let mut server = resume(&listener, 3, 0, &goes_on(3));
    server.say("r 3");
    server.say("e 1000");
    end(&mut server, "r 0", "e 1000");
    assert_eq!(server.rest(), ["close 1000"]);
    let report = closing.join().unwrap();
    assert!(report.ended && report.undelivered.is_empty(), "{report:?}");
    let clean = events.until(|event| match event {
        Event::Closed { clean, .. } => Some(*clean),
        _ => None,
    });
    assert!(clean);
    assert!(!listener.is_dialed_within(ms(100)));
}

#[test]
fn a_close_ends_in_time_whether_it_is_answered_or_not() {
    // a server that is silent, one that is gone, one that upgrades and says nothing
    for kind in 0..3 {
        let listener = Listener::new();
        let timeouts = Timeouts::new().close(ms(400));
        let (client, _events, mut server) =
            held_by(impatient(&listener).timeouts(timeouts), &listener);
        client.send("0").unwrap();
        assert_eq!(server.messages(1), ["0"]);
        let begun = Instant::now();
        let closing = std::thread::spawn(move || client.close());
        end(&mut server, "r 0", "e 1000");
        let mut silent = None;
        match kind {
            0 => silent = Some((server, None)),
            1 => {
                server.reset();
                drop(listener);
            }
            _ => {
                server.reset();
                silent = Some((BareServer::open(&listener).0, Some(listener)));
            }
        }
        let report = closing.join().unwrap();
        assert!(begun.elapsed() < ms(400) + 2 * CLOSE_BOUND, "{kind}: {:?}", begun.elapsed());
        assert!(report.ended, "{kind}");
        let left: Vec<String> = report.undelivered.iter().map(text).collect();
        assert_eq!(left, ["0"], "{kind}: unconfirmed");
        drop(silent);
    }
}

#[test]
fn a_close_that_finds_another_session_ends_that() {
    let listener = Listener::new();
    let timeouts = Timeouts::new().close(PATIENCE);
    let builder = impatient(&listener).timeouts(timeouts).delivery(Delivery::AtLeastOnce);
    let (client, _events, mut server) = held_by(builder, &listener);
    client.send("0").unwrap();
    assert_eq!(server.messages(1), ["0"]);
    let closing = std::thread::spawn(move || client.close());
    end(&mut server, "r 0", "e 1000");
    server.reset();
    let (mut server, offer) = BareServer::open(&listener);
    assert_eq!(offer, claim(1, 0));
    server.say(&format!("s {OTHER} received=0"));
    assert_eq!(server.next(), "r 0");
    assert_eq!(server.messages(1), ["0"], "at least once");
    end(&mut server, "r 0", "e 1000");
    server.say("r 1");
    server.say("e 1000");
    assert_eq!(server.rest(), ["close 1000"]);
    assert!(closing.join().unwrap().undelivered.is_empty());
}

#[test]
fn an_end_that_crosses_an_end_is_one() {
    let listener = Listener::new();
    let (client, events, mut server) = held(&listener);
    server.say("r 0");
    let closing = std::thread::spawn(move || client.close());
    // before it reads ours
    server.say("e 1001");
    assert!(server.heard().starts_with("r 0"));
    assert!(matches!(&*server.heard(), "e 1000" | "e 1001"));
    assert!(matches!(&*server.rest().concat(), "close 1000" | "close 1001"));
    closing.join().unwrap();
    let clean = events.until(|event| match event {
        Event::Closed { clean, .. } => Some(*clean),
        _ => None,
    });
    assert!(clean);
}

#[test]
fn a_close_without_a_link_dials_to_say_the_end() {
    // while the delay runs, and in the middle of an attempt
    for is_dialing in [false, true] {
        let listener = Listener::new();
        let delay = if is_dialing { ms(1) } else { ms(300) };
        let builder = listener.client().backoff(Backoff::fixed(delay));
        let (client, events, mut server) = held_by(builder, &listener);
        client.send("0").unwrap();
        assert_eq!(server.messages(1), ["0"]);
        server.reset();
        events.disconnected();
        client.send("1").unwrap();
        let first = is_dialing.then(|| BareServer::open(&listener).0);
        let closing = std::thread::spawn(move || client.close_with(3001, "bye").unwrap());
        let mut server = resume(&listener, 1 + u64::from(is_dialing), 0, &goes_on(0));
        assert_eq!(server.messages(2), ["0", "1"]);
        end(&mut server, "r 0", "e 3001 bye");
        server.say("r 2");
        server.say("e 3001");
        assert_eq!(server.rest(), ["close 3001"]);
        let report = closing.join().unwrap();
        assert!(report.ended && report.undelivered.is_empty(), "{report:?}");
        assert!(matches!(events.rest().last(), Some(Event::Closed { clean: true, .. })));
        drop(first);
    }
}

#[test]
fn a_close_without_a_link_and_a_session_ends_at_once() {
    // no session yet, one that is over, and a client that has given up
    for kind in 0..3 {
        let listener = Listener::new();
        let builder = listener.client().resume(Resume::new()).max_attempts(1);
        let builder = if kind == 2 { builder } else { builder.max_attempts(u32::MAX) };
        let (builder, events) = watch(builder.backoff(Backoff::fixed(PATIENCE)));
        let client = builder.start().unwrap();
        let (mut server, _) = BareServer::open(&listener);
        if kind == 0 {
            drop(server);
            events.attempt_failed();
        } else {
            server.say(&goes_on(0));
            start(&events);
            match kind {
                1 => server.say("e 1000"),
                _ => server.reset(),
            }
            events.disconnected();
        }
        let begun = Instant::now();
        assert!(client.close().ended);
        assert!(begun.elapsed() < 2 * CLOSE_BOUND, "{kind}: {:?}", begun.elapsed());
    }
}

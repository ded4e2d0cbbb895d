//! What a client says in a session besides its messages, against servers made by hand: reports, questions,
//! gaps, what is outside of the count, and what is too large.

use std::io::Write;
use std::thread;
use std::time::Instant;

use crate::support::bare::*;
use crate::support::bare_server::*;
use crate::support::resumed::{in_doubt, resumed, start};
use crate::support::*;
use everlink::config::*;
use everlink::failure::{Decision, Next, Undelivered};
use everlink::{Calls, Error, Event, Failure};

/// Sends so many, of which the server has them all.
fn sent(client: &everlink::Client, server: &mut BareServer, texts: &[&str]) {
    texts.iter().for_each(|text| client.send(*text).unwrap());
    assert_eq!(server.messages(texts.len()), texts);
}

#[test]
fn what_has_expired_leaves_a_gap_before_the_next_message() {
    let listener = Listener::new();
    let (client, events, mut server) = held(&listener);
    let begun = Instant::now();
    sent(&client, &mut server, &["1"]);
    for number in ["2", "3"] {
        client.send_with(number, SendOptions::new().ttl(ms(1500))).unwrap();
    }
    assert_eq!(server.messages(2), ["2", "3"]);
    sent(&client, &mut server, &["4"]);
    client.send_with("5", SendOptions::new().ttl(ms(1500))).unwrap();
    let last = Instant::now();
    assert_eq!(server.messages(1), ["5"]);
    assert!(begun.elapsed() < ms(1500), "this machine is too slow for that");
    server.reset();
    let (mut server, _) = BareServer::open(&listener);
    // until what they may wait is over: this is what is tested, not a synchronisation
    thread::sleep(ms(1500).saturating_sub(last.elapsed()));
    server.say(&goes_on(0));
    start(&events);
    assert_eq!(server.next(), "r 0");
    assert_eq!(server.messages(1), ["1"]);
    assert_eq!(server.heard(), "g 2");
    assert_eq!(server.messages(1), ["4"]);
    // and if none follows, before the question
    server.say("r 4");
    let last = loop {
        match server.next() {
            text if text == "a" => server.say("r 4"),
            text => break text,
        }
    };
    assert_eq!(last, "g 1");
    assert_eq!(server.next(), "a");
    server.say("r 5");
    // a number is for good
    sent(&client, &mut server, &["6"]);
    server.reset();
    let mut server = resume(&listener, 2, 0, &goes_on(5));
    assert_eq!(server.messages(1), ["6"]);
    assert_eq!(client.stats().expired, 3);
}

#[test]
fn a_gap_goes_before_the_end() {
    let listener = Listener::new();
    let (client, events, mut server) = held(&listener);
    sent(&client, &mut server, &["1"]);
    client.send_with("2", SendOptions::new().ttl(ms(1000))).unwrap();
    let begun = Instant::now();
    assert_eq!(server.messages(1), ["2"]);
    server.reset();
    let (mut server, _) = BareServer::open(&listener);
    // until what it may wait is over, as above
    thread::sleep(ms(1000).saturating_sub(begun.elapsed()));
    server.say(&goes_on(1));
    start(&events);
    assert_eq!(server.next(), "r 0");
    let closing = thread::spawn(move || client.close());
    assert_eq!(server.heard(), "g 1");
    end(&mut server, "r 0", "e 1000");
    server.say("r 2");
    server.say("e 1000");
    assert!(closing.join().unwrap().undelivered.is_empty());
}

#[test]
fn what_is_dropped_withdrawn_or_for_a_link_that_has_ended_leaves_a_gap() {
    let listener = Listener::new();
    let queue = Queue::new().messages(3).overflow(Overflow::DropOldest);
    let (client, events, mut server) = held_by(impatient(&listener).outbox(queue), &listener);
    sent(&client, &mut server, &["1"]);
    let calls: Calls<u32, String> = Calls::new();
    let asked = {
        let (sender, calls) = (client.sender().clone(), calls.clone());
        thread::spawn(move || calls.call(&sender, 1, "2 a question", PATIENCE))
    };
    assert_eq!(server.messages(1), ["2 a question"]);
    let only = SendOptions::new().this_link_only();
    let receipt = client.sender().send_confirmed_with("3 for this link", only).unwrap();
    assert_eq!(server.messages(1), ["3 for this link"]);
    sent(&client, &mut server, &["4"]);
    server.reset();
    events.disconnected();
    calls.fail_all();
    asked.join().unwrap().unwrap_err();
    let mut server = resume(&listener, 1, 0, &goes_on(0));
    assert_eq!(server.messages(1), ["1"]);
    assert_eq!(server.heard(), "g 2");
    assert_eq!(server.messages(1), ["4"]);
    let why = receipt.wait(PATIENCE);
    assert!(matches!(why, Err(Error::Undelivered(Undelivered::LinkEnded))), "{why:?}");
    // of what was sent already nothing is dropped while nobody knows whether it has come
    server.reset();
    events.disconnected();
    for number in 5..15 {
        client.send(number.to_string()).unwrap();
    }
    let mut server = resume(&listener, 2, 0, &goes_on(1));
    assert_eq!(server.heard(), "g 2");
    assert_eq!(server.messages(4), ["4", "12", "13", "14"], "the others had no number");
}

#[test]
fn what_is_outside_of_the_count_says_so() {
    let listener = Listener::new();
    let beat = Heartbeat::every(ms(20))
        .dead_after(PATIENCE)
        .message("ping", |message| message.as_text() == Some("pong"))
        .answer("marco", "polo");
    let (client, _events, mut server) = held_by(impatient(&listener).heartbeat(beat), &listener);
    client.send_with("now", SendOptions::new().this_link_only()).unwrap();
    server.say("xmarco");
    let mut wanted = vec!["xping", "xnow", "xpolo"];
    while !wanted.is_empty() {
        let said = server.next();
        assert!(
            ["xping", "xnow", "xpolo"].contains(&&*said),
            "{said}: nothing is asked about them"
        );
        wanted.retain(|it| *it != said);
    }
    server.say("xpong");
    server.say("xhello");
    server.say("xx");
    received(&client, "hello");
    received(&client, "x");
    server.say("mpong");
    server.say("mmarco");
    server.say("mend");
    received(&client, "end");
    // counted, though the heartbeat has taken them
    server.say("a");
    let report = loop {
        match server.next() {
            text if text.starts_with('x') => {}
            text => break text,
        }
    };
    assert_eq!(report, "r 3");
}

#[test]
fn one_question_is_open_at_a_time() {
    const COUNT: usize = 2000;
    let listener = Listener::new();
    let (client, _events, mut server) = held(&listener);
    let sending = client.clone();
    let sending = thread::spawn(move || {
        (0..COUNT).for_each(|number| sending.send(number.to_string()).unwrap());
    });
    let (mut counted, mut asked) = (0, 0);
    while counted < COUNT {
        match &*server.next() {
            "a" => asked += 1,
            text => {
                assert_eq!(text, format!("m{counted}"));
                counted += 1;
            }
        }
        assert!(asked <= 1, "after {counted}");
        // any report closes it, and one is enough of them all
        if counted == COUNT / 2 && asked == 1 {
            server.say(&format!("r {counted}"));
            asked = 0;
        }
    }
    sending.join().unwrap();
    // one that was overtaken, and one of all
    server.say("r 5");
    server.say(&format!("r {COUNT}"));
    client.flush(PATIENCE).unwrap();
    // nothing more is asked than was on its way
    server.stream.write_all(&frame(PING, b"1")).unwrap();
    let mut late = 0;
    while server.frame() != (PONG, b"1".to_vec()) {
        late += 1;
    }
    assert!(late <= 2, "{late}");
}

#[test]
fn who_is_asked_reports_and_who_answers_pings_confirms_nothing() {
    let listener = Listener::new();
    let heartbeat = Heartbeat::every(ms(20)).dead_after(PATIENCE);
    let (client, events, mut server) =
        held_by(impatient(&listener).heartbeat(heartbeat), &listener);
    sent(&client, &mut server, &["0"]);
    // a gateway does this, whatever stands behind it
    for _ in 0..3 {
        let ping = loop {
            if let (PING, payload) = read_frame(&mut server.stream).unwrap() {
                break payload;
            }
        };
        server.stream.write_all(&frame(PONG, &ping)).unwrap();
    }
    assert_eq!(client.stats().outbox_messages, 1);
    for (number, said) in (1..).zip(["ma", "mb"]) {
        server.say(said);
        server.say("a");
        assert_eq!(server.heard(), format!("r {number}"));
    }
    server.say("g 40");
    server.say("g 0");
    server.say("a");
    assert_eq!(server.heard(), "r 42");
    server.reset();
    assert!(ended(&events).1);
    let mut server = resume(&listener, 1, 42, &goes_on(0));
    assert_eq!(server.messages(1), ["0"]);
}

#[test]
fn a_message_over_the_limit_ends_the_session_and_the_server_is_told() {
    let listener = Listener::new();
    let builder = impatient(&listener).limits(Limits::new().message(160));
    let builder = builder.decide(|_, _| Decision::Retry);
    let (client, events, mut server) = held_by(builder, &listener);
    // the kind is not the program's
    server.say(&format!("m{}", "a".repeat(160)));
    received(&client, &"a".repeat(160));
    sent(&client, &mut server, &["0"]);
    server.say(&format!("m{}", "a".repeat(161)));
    end(&mut server, "r 1", "e 1009");
    assert_eq!(server.rest(), ["close 1009"]);
    let (cause, resumable, _) = ended(&events);
    assert!(matches!(&*cause, Failure::Protocol { code, .. } if code.0 == 1009), "{cause}");
    assert!(!resumable);
    assert_eq!(BareServer::open(&listener).1, "s new");
}

#[test]
fn a_message_that_the_server_finds_too_large_is_handed_back_and_the_rest_goes_on() {
    let listener = Listener::new();
    let (client, events, mut server) = held(&listener);
    sent(&client, &mut server, &["0"]);
    let large = "b".repeat(1000);
    let receipt = client.send_confirmed(&*large).unwrap();
    client.send("2").unwrap();
    assert_eq!(server.messages(2), [&*large, "2"]);
    server.say("r 1");
    server.say("e 1009");
    end(&mut server, "r 0", "e 1009");
    assert_eq!(server.rest(), ["close 1009"]);
    let (size, message) = events.until(|event| match event {
        Event::MessageTooLarge { size, message, .. } => Some((*size, message.clone())),
        _ => None,
    });
    assert_eq!((size, message), (1000, Some(large.into())));
    let why = receipt.wait(PATIENCE);
    assert!(matches!(why, Err(Error::Undelivered(Undelivered::TooLarge))), "{why:?}");
    let (_, resumable, next) = ended(&events);
    assert!(!resumable && matches!(next, Next::Redial { .. }), "{next:?}");
    let (mut server, offer) = BareServer::open(&listener);
    assert_eq!(offer, "s new");
    server.say(&format!("s {OTHER} received=0"));
    assert_eq!(in_doubt(start(&events)), 0);
    assert_eq!(server.next(), "r 0");
    assert_eq!(server.messages(1), ["2"]);
}

#[test]
fn what_a_server_has_is_kept_until_it_has_counted_it() {
    let listener = Listener::new();
    let (client, events, mut server) = held(&listener);
    sent(&client, &mut server, &["1", "2", "3", "4"]);
    server.reset();
    // it has three of them in its hands
    let mut server = resume(&listener, 1, 0, &format!("s {TOKEN} received=1 has=3 window=9"));
    assert_eq!(resumed(start(&events)), 1);
    assert_eq!(server.messages(1), ["4"]);
    assert_eq!(client.stats().outbox_messages, 3, "two of which it may still lose");
    server.reset();
    // and has lost one
    let mut server = resume(&listener, 2, 0, &format!("s {TOKEN} received=2 has=2"));
    assert_eq!(resumed(start(&events)), 2);
    assert_eq!(server.messages(2), ["3", "4"]);
    server.reset();
    // of what nothing follows on it is asked as well
    let mut server = resume(&listener, 3, 0, &format!("s {TOKEN} received=2 has=4"));
    assert_eq!(server.next(), "a");
    server.say("r 3");
    server.say("r 4");
    client.flush(PATIENCE).unwrap();
    // nor is that a report of too much
    server.say("r 4");
    sent(&client, &mut server, &["5"]);
}

#[test]
fn what_is_for_a_link_only_and_is_cut_off_takes_no_message_along() {
    const COUNT: usize = 2000;
    let listener = Listener::new();
    let resume = Resume::new().unconfirmed(2 * COUNT, 1 << 30);
    let queue = Queue::new().bytes(1 << 30);
    let (builder, events) = watch(impatient(&listener).outbox(queue).resume(resume));
    let client = builder.start().unwrap();
    let (mut server, _) = BareServer::open(&listener);
    server.say(&goes_on(0));
    start(&events);
    let text = |number: usize| format!("{number} {}", "x".repeat(8000));
    for number in 0..COUNT {
        client.send(text(number)).unwrap();
        client.send_with("only", SendOptions::new().this_link_only()).unwrap();
    }
    // until the kernel takes no more
    let mut before = 0;
    eventually("the writer waits", || {
        thread::park_timeout(ms(30));
        let sent = client.stats().messages_sent;
        if std::mem::replace(&mut before, sent) == sent && sent > 0 { Ok(()) } else { Err(sent) }
    });
    server.reset();
    events.disconnected();
    let (mut server, _) = BareServer::open(&listener);
    server.say(&goes_on(0));
    assert_eq!(server.next(), "r 0");
    for number in 0..COUNT {
        assert_eq!(server.messages(1), [text(number)]);
    }
}

#[test]
fn a_resend_closure_that_panics_loses_no_message() {
    let listener = Listener::new();
    let mut panics = true;
    let panics = std::sync::Mutex::new(move || std::mem::replace(&mut panics, false));
    let builder = impatient(&listener).delivery(Delivery::AtLeastOnce).on_resend(move |message| {
        assert!(!panics.lock().unwrap()(), "a test");
        message.clone()
    });
    let (client, _events, mut server) = held_by(builder, &listener);
    sent(&client, &mut server, &["0", "1"]);
    server.reset();
    drop(resume(&listener, 1, 0, &goes_on(0)));
    let mut server = resume(&listener, 2, 0, &goes_on(0));
    assert_eq!(server.messages(2), ["0", "1"]);
    server.say("r 2");
    client.flush(PATIENCE).unwrap();
    assert_eq!(client.stats().outbox_messages, 0);
}

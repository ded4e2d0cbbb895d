//! The client's side of sessions that survive their connection, against servers made by hand: what it offers,
//! and what it makes of the answer.

use std::io::Write;
use std::net::Shutdown;
use std::sync::Arc;

use crate::support::bare::*;
use crate::support::bare_server::*;
use crate::support::resumed::{in_doubt, resumed, start};
use crate::support::*;
use everlink::config::*;
use everlink::failure::{Decision, Next};
use everlink::{Event, Failure, SessionStart};

#[test]
fn a_server_made_by_hand_goes_on_where_it_was() {
    let listener = Listener::new();
    let (client, events, mut server) = held(&listener);
    server.say("ma");
    received(&client, "a");
    for number in 0..5 {
        client.send(number.to_string()).unwrap();
    }
    assert_eq!(server.messages(5), ["0", "1", "2", "3", "4"]);
    server.reset();
    // three of the five, it says
    let mut server = resume(&listener, 1, 1, &goes_on(3));
    assert_eq!(resumed(start(&events)), 2);
    assert_eq!(server.messages(2), ["3", "4"]);
    server.say("r 5");
    client.flush(PATIENCE).unwrap();
    // numbers are for good
    client.send("5").unwrap();
    assert_eq!(server.messages(1), ["5"]);
    server.reset();
    let _server = resume(&listener, 2, 1, &goes_on(6));
    assert_eq!(resumed(start(&events)), 0);
    // the program sees no token
    let answers = events.rest();
    assert!(!format!("{answers:?}").contains(TOKEN));
}

#[test]
fn nothing_new_goes_before_what_the_server_lacks() {
    let listener = Listener::new();
    let (client, events, mut server) = held(&listener);
    client.send("0").unwrap();
    assert_eq!(server.messages(1), ["0"]);
    server.reset();
    events.disconnected();
    for number in 1..100 {
        client.send(number.to_string()).unwrap();
    }
    let mut server = resume(&listener, 1, 0, &goes_on(0));
    let expected: Vec<String> = (0..100).map(|number: u32| number.to_string()).collect();
    assert_eq!(server.messages(100), expected);
}

#[test]
fn each_subprotocol_is_offered_and_the_program_is_shown_its_own() {
    for (chosen, own) in [("everlink.1.chat", Some("chat")), ("everlink.1", None)] {
        let listener = Listener::new();
        let builder = impatient(&listener).subprotocols(["chat"]).resume(Resume::new());
        let (builder, events) = watch(builder);
        let client = builder.start().unwrap();
        let mut server = BareServer::accept(&listener);
        assert_eq!(server.subprotocols(), Some("everlink.1.chat, everlink.1, chat"));
        server.upgrade(Some(chosen));
        assert_eq!(server.next(), "s new");
        server.say(&goes_on(0));
        let shown = events.until(|event| match event {
            Event::Connected { response, .. } => Some(response.clone()),
            _ => None,
        });
        let headers = shown.expect("an answer").headers().clone();
        let name = headers.get("sec-websocket-protocol").map(|name| name.to_str().unwrap());
        assert_eq!((name, client.status().subprotocol()), (own, own));
    }
}

#[test]
fn with_another_subprotocol_or_none_the_client_goes_on_without_a_session() {
    for chosen in [Some("chat"), None] {
        let listener = Listener::new();
        let builder = impatient(&listener).subprotocols(["chat"]).resume(Resume::new());
        let (builder, events) = watch(builder);
        let client = builder.start().unwrap();
        let mut server = BareServer::accept(&listener);
        server.upgrade(Some("everlink.1.chat"));
        assert_eq!(server.next(), "s new");
        server.say(&goes_on(0));
        assert_eq!(start(&events), SessionStart::New);
        client.send("0").unwrap();
        assert_eq!(server.next(), "r 0");
        assert_eq!(server.messages(1), ["0"]);
        server.reset();
        let mut server = BareServer::accept(&listener);
        server.upgrade(chosen);
        assert_eq!(in_doubt(start(&events)), 1, "over, and no other in its place");
        client.send("1").unwrap();
        assert_eq!(server.next(), "1", "as it is");
        server.say("hello");
        received(&client, "hello");
        server.reset();
        let mut server = BareServer::accept(&listener);
        server.upgrade(chosen);
        assert_eq!(start(&events), SessionStart::None);
    }
}

#[test]
fn an_answer_that_no_server_can_make_ends_the_session() {
    for wrong in [
        // more than was sent, or less than was reported
        goes_on(3),
        goes_on(0),
        format!("s {TOKEN} received=1 has=3"),
        format!("s {TOKEN} received=2 has=1"),
        // a new one in which something was counted
        format!("s {OTHER} received=2"),
        format!("s {OTHER} received=0 has=1"),
    ] {
        let listener = Listener::new();
        let builder = impatient(&listener).delivery(Delivery::AtLeastOnce);
        let builder = builder.decide(|_, _| Decision::Retry);
        let (client, events, mut server) = held_by(builder, &listener);
        client.send("0").unwrap();
        client.send("1").unwrap();
        assert_eq!(server.messages(2), ["0", "1"]);
        server.say("r 1");
        eventually("the report", || match client.stats().outbox_messages {
            1 => Ok(()),
            other => Err(other),
        });
        server.reset();
        let (mut server, offer) = BareServer::open(&listener);
        assert_eq!(offer, claim(1, 0));
        server.say(&wrong);
        assert_eq!(server.rest(), ["close 1002"], "{wrong}: and no `e`");
        let cause = events.attempt_failed();
        assert!(matches!(&*cause, Failure::Protocol { code, .. } if code.0 == 1002), "{cause}");
        let (mut server, offer) = BareServer::open(&listener);
        assert_eq!(offer, "s new", "{wrong}");
        server.say(&format!("s {OTHER} received=0"));
        assert_eq!(in_doubt(start(&events)), 1, "{wrong}");
        assert_eq!(server.next(), "r 0");
        assert_eq!(server.messages(1), ["1"], "at least once");
    }
}

#[test]
fn what_is_no_answer_is_a_failed_attempt_and_the_session_stays() {
    let listener = Listener::new();
    let (client, events, mut server) = held(&listener);
    server.say("ma");
    received(&client, "a");
    server.reset();
    let mut attempt = 0;
    let mut next = |subprotocol: bool| {
        let mut server = BareServer::accept(&listener);
        if subprotocol {
            attempt += 1;
            server.upgrade(Some("everlink.1"));
            assert_eq!(server.next(), claim(attempt, 1));
        }
        server
    };
    // before the upgrade nothing is offered
    for answer in ["HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 101 x\r\n", ""] {
        let mut server = next(false);
        server.stream.write_all(answer.as_bytes()).unwrap();
        drop(server);
        events.attempt_failed();
    }
    let answer = goes_on(0);
    for said in [
        // a server that echoes the subprotocol, and knows no sessions
        frame(TEXT, b"welcome"),
        frame(TEXT, b"mhello"),
        frame(TEXT, b""),
        frame(TEXT, b"s new"),
        frame(TEXT, b"r 0"),
        frame(TEXT, format!("{answer} ").as_bytes()),
        frame(TEXT, format!("s {TOKEN}").as_bytes()),
        // an answer is a text
        frame(BINARY, answer.as_bytes()),
        frame(CLOSE, &close_body(1000, "")),
        frame(CLOSE, &close_body(1012, "restart")),
        frame(CLOSE, &close_body(1013, "nobody knows now")),
        Vec::new(),
    ] {
        let mut server = next(true);
        server.stream.write_all(&said).unwrap();
        server.stream.shutdown(Shutdown::Write).unwrap();
        let shown = String::from_utf8_lossy(&said);
        let (cause, next) = events.until(|event| match event {
            Event::AttemptFailed { cause, next, .. } => Some((Arc::clone(cause), *next)),
            _ => None,
        });
        assert!(matches!(next, Next::Redial { .. }), "{shown}: {cause}");
        assert!(!server.rest().iter().any(|text| text.starts_with('r')), "{shown}");
    }
    let mut server = next(true);
    server.say(&answer);
    assert_eq!(server.next(), "r 1");
    assert_eq!(resumed(start(&events)), 0);
}

#[test]
fn a_new_session_replaces_the_one_that_was_asked_for() {
    let listener = Listener::new();
    let (client, events, mut server) = held(&listener);
    client.send("0").unwrap();
    server.say("ma");
    received(&client, "a");
    assert_eq!(server.messages(1), ["0"]);
    server.reset();
    let (mut server, _) = BareServer::open(&listener);
    server.say(&format!("s {OTHER} received=0"));
    assert_eq!(in_doubt(start(&events)), 1);
    assert_eq!(server.next(), "r 0", "counting begins anew");
    client.send("1").unwrap();
    assert_eq!(server.messages(1), ["1"], "at most once");
    server.reset();
    assert_eq!(BareServer::open(&listener).1, format!("s {OTHER} attempt=1 received=0"));
}

#[test]
fn no_close_frame_and_no_end_of_the_stream_ends_a_session() {
    for ends in [
        frame(CLOSE, &close_body(1000, "")),
        frame(CLOSE, &close_body(1001, "")),
        frame(CLOSE, &close_body(1008, "a gateway")),
        frame(CLOSE, &close_body(1011, "a gateway")),
        frame(CLOSE, &close_body(1012, "restart")),
        frame(CLOSE, &[]),
        Vec::new(),
    ] {
        let listener = Listener::new();
        let builder = impatient(&listener).decide(|_, _| Decision::Retry);
        let (client, events, mut server) = held_by(builder, &listener);
        client.send("0").unwrap();
        assert_eq!(server.messages(1), ["0"]);
        server.stream.write_all(&ends).unwrap();
        server.stream.shutdown(Shutdown::Write).unwrap();
        assert!(ended(&events).1, "{ends:?}");
        let mut server = resume(&listener, 1, 0, &goes_on(0));
        assert_eq!(server.messages(1), ["0"]);
        assert_eq!(resumed(start(&events)), 1);
    }
}

#[test]
fn a_violation_ends_the_session_without_an_end() {
    let answer = goes_on(0);
    let texts =
        ["", "q", "hello", "r", "r 1", "R 0", "r 0 ", "g x", "a 1", "e 100", &answer, "s new"];
    let binaries = ["r 0", "a", "g 1", "e 1000", &answer];
    let texts = texts.iter().map(|text| frame(TEXT, text.as_bytes()));
    let binaries = binaries.iter().map(|text| frame(BINARY, text.as_bytes()));
    let others = [
        // a masked one is no server's
        masked(TEXT, b"x"),
        // there are no more numbers
        [frame(TEXT, b"g 999999999999999"), frame(TEXT, b"mx")].concat(),
    ];
    for wrong in texts.chain(binaries).chain(others) {
        let listener = Listener::new();
        let builder = impatient(&listener).decide(|_, _| Decision::Retry);
        let (_client, events, mut server) = held_by(builder, &listener);
        server.stream.write_all(&wrong).unwrap();
        let shown = String::from_utf8_lossy(&wrong);
        assert_eq!(server.rest(), ["close 1002"], "{shown}");
        let (cause, resumable, _) = ended(&events);
        assert!(matches!(&*cause, Failure::Protocol { code, .. } if code.0 == 1002), "{cause}");
        assert!(!resumable, "{shown}");
        assert_eq!(BareServer::open(&listener).1, "s new", "{shown}");
    }
}

#[test]
fn a_token_goes_to_its_origin_and_nowhere_else() {
    let [home, elsewhere] = [Listener::new(), Listener::new()];
    let redirect = |to: &Listener| {
        format!("HTTP/1.1 307 x\r\nLocation: {}/there\r\nContent-Length: 0\r\n\r\n", to.url())
    };
    // the session is where a redirect leads
    let (builder, events) = watch(impatient(&home).resume(Resume::new()));
    let client = builder.start().unwrap();
    let mut server = BareServer::accept(&home);
    server.stream.write_all(redirect(&elsewhere).as_bytes()).unwrap();
    let (mut server, offer) = BareServer::open(&elsewhere);
    assert_eq!(offer, "s new");
    server.say(&goes_on(0));
    start(&events);
    server.reset();
    // that is where the client goes first
    let (server, offer) = BareServer::open(&elsewhere);
    assert_eq!(offer, claim(1, 0));
    assert!(server.request.starts_with("GET /there "), "{}", server.request);
    drop(server);
    // and then where it began
    let mut server = BareServer::accept(&home);
    assert!(!server.request.contains(TOKEN));
    server.stream.write_all(redirect(&elsewhere).as_bytes()).unwrap();
    let (mut server, offer) = BareServer::open(&elsewhere);
    assert_eq!(offer, claim(2, 0));
    server.say(&goes_on(0));
    assert_eq!(resumed(start(&events)), 0);
    drop(client);
}

#[test]
fn a_fallback_gets_no_token_and_its_link_ends_the_session() {
    let [first, second] = [Listener::new(), Listener::new()];
    let builder = impatient(&first).fallback(second.url());
    let (client, events, mut server) = held_by(builder, &first);
    client.send("0").unwrap();
    assert_eq!(server.messages(1), ["0"]);
    server.reset();
    let (server, offer) = BareServer::open(&first);
    assert_eq!(offer, claim(1, 0), "the first attempt goes where it was");
    drop(server);
    // an attempt elsewhere that fails costs nothing, whatever was said there
    let (mut server, offer) = BareServer::open(&second);
    assert_eq!(offer, "s new");
    server.say("welcome");
    drop(server);
    let (server, offer) = BareServer::open(&first);
    assert_eq!(offer, claim(2, 0));
    drop(server);
    let mut server = BareServer::accept(&second);
    server.upgrade(None);
    assert_eq!(in_doubt(start(&events)), 1, "over, and no other in its place");
    server.reset();
    // it held nothing any more
    assert_eq!(BareServer::open(&first).1, "s new");
    drop(client);
}

#[test]
fn endpoints_that_are_set_get_no_token_of_another_origin() {
    let [first, second] = [Listener::new(), Listener::new()];
    let (client, events, server) = held_by(impatient(&first), &first);
    client.set_endpoints([second.url(), first.url()]).unwrap();
    server.reset();
    events.disconnected();
    // the first attempt does not go back: the program has said where to
    let (server, offer) = BareServer::open(&second);
    assert_eq!(offer, "s new");
    drop(server);
    let (mut server, offer) = BareServer::open(&first);
    assert_eq!(offer, claim(1, 0), "there it is at home");
    server.say(&goes_on(0));
    assert_eq!(resumed(start(&events)), 0);
    drop(client);
}

#[test]
fn a_program_that_asks_for_another_link_says_goodbye_to_the_old_one_alone() {
    let listener = Listener::new();
    let (client, events, mut server) = held(&listener);
    client.send("0").unwrap();
    assert_eq!(server.messages(1), ["0"]);
    client.reconnect().unwrap();
    // what still comes is counted
    loop {
        match server.frame() {
            (TEXT, payload) => assert_eq!(payload, b"a"),
            (CLOSE, payload) => break assert_eq!(payload, close_body(1000, "")),
            other => panic!("{other:?}"),
        }
    }
    server.say("mlate");
    server.stream.write_all(&frame(CLOSE, &close_body(1000, ""))).unwrap();
    drop(server);
    assert!(ended(&events).1);
    let mut server = resume(&listener, 1, 1, &goes_on(0));
    assert_eq!(server.messages(1), ["0"]);
    received(&client, "late");
    assert_eq!(resumed(start(&events)), 1);
}

#[test]
fn what_a_login_says_and_hears_counts_in_its_session() {
    let listener = Listener::new();
    let builder = impatient(&listener).login(|session| {
        session.send("hello")?;
        let kept = session.recv()?;
        session.keep(kept);
        session.recv()?;
        Ok(())
    });
    let (builder, events) = watch(builder.resume(Resume::new()));
    let client = builder.start().unwrap();
    let (mut server, offer) = BareServer::open(&listener);
    assert_eq!(offer, "s new");
    server.say(&goes_on(0));
    assert_eq!([server.next(), server.next()], ["r 0", "mhello"]);
    server.say("ma");
    server.say("a");
    assert_eq!(server.next(), "r 1");
    server.stream.write_all(&frame(PING, b"1")).unwrap();
    assert_eq!(server.frame(), (PONG, b"1".to_vec()));
    server.say("g 1");
    server.say("mb");
    start(&events);
    received(&client, "a");
    server.reset();
    // nothing of the login has arrived: it is sent again, and the hook is not called
    let mut server = resume(&listener, 1, 3, &goes_on(0));
    assert_eq!(resumed(start(&events)), 1);
    client.send("first").unwrap();
    assert_eq!(server.messages(2), ["hello", "first"]);
    server.say("r 2");
    client.flush(PATIENCE).unwrap();
}

#[test]
fn a_login_that_fails_says_the_end() {
    let listener = Listener::new();
    let builder = impatient(&listener).resume(Resume::new()).login(|session| {
        session.send("hello")?;
        Err(session.recv()?.to_string().into())
    });
    let (builder, events) = watch(builder);
    let _client = builder.start().unwrap();
    let (mut server, _) = BareServer::open(&listener);
    server.say(&goes_on(0));
    assert_eq!([server.next(), server.next()], ["r 0", "mhello"]);
    server.say("mno");
    end(&mut server, "r 1", "e 1000");
    assert_eq!(server.rest(), ["close 1000"]);
    assert!(events.attempt_failed().to_string().contains("no"));
    // the server ends it in the middle of the login
    let (mut server, offer) = BareServer::open(&listener);
    assert_eq!(offer, "s new");
    server.say(&goes_on(0));
    assert_eq!([server.next(), server.next()], ["r 0", "mhello"]);
    server.say("r 1");
    server.say("e 4000 not you");
    end(&mut server, "r 0", "e 4000 not you");
    assert_eq!(events.attempt_failed().close_frame().unwrap().code.0, 4000);
}

#[test]
fn a_client_that_has_given_up_keeps_its_session() {
    let listener = Listener::new();
    let (client, events, mut server) = held_by(impatient(&listener).max_attempts(3), &listener);
    client.send("0").unwrap();
    assert_eq!(server.messages(1), ["0"]);
    server.reset();
    for attempt in 1..=2 {
        let (server, offer) = BareServer::open(&listener);
        assert_eq!(offer, claim(attempt, 0));
        drop(server);
        if attempt == 1 {
            events.attempt_failed();
        }
    }
    events.gave_up();
    client.reconnect().unwrap();
    let mut server = resume(&listener, 3, 0, &goes_on(0));
    assert_eq!(server.messages(1), ["0"]);
}

//! What the program says of a link's end is done, or the call says that it is not; and so for all that a client is
//! told while it runs.

use std::thread;
use std::time::Duration;

use crate::support::*;
use crossbeam_channel::unbounded;
use everlink::config::{Framing, Heartbeat};
use everlink::failure::{Decision, Next};
use everlink::{Calls, Client, ClientBuilder, Error, Event, Failure, LoginError, State};

const ZERO: Duration = Duration::ZERO;

fn lines(listener: &Listener) -> ClientBuilder {
    Client::builder(format!("tcp://{}", listener.address()))
        .framing(Framing::lines())
        .heartbeat(Heartbeat::off())
        .backoff(everlink::config::Backoff::fixed(ms(1)))
}

fn is_ended(cause: &Failure, reason: &str) {
    assert!(matches!(cause, Failure::Ended(why) if why == reason), "{cause:?}");
}

#[test]
fn the_last_word_about_a_link_counts_in_its_goodbye_too() {
    let listener = Listener::new();
    let (builder, events) = watch(listener.client());
    let client = builder.start().unwrap();
    // a peer that does not read: the goodbye takes its half second
    let _first = listener.accept();
    events.connected();
    client.end_link("a restart", Decision::RetryAfter(ZERO)).unwrap();
    client.end_link("logged in elsewhere", Decision::GiveUp).unwrap();
    is_ended(&events.gave_up(), "logged in elsewhere");
    client.reconnect().unwrap();
    let _second = listener.accept();
    events.connected();
    client.reconnect().unwrap();
    client.end_link("and again", Decision::GiveUp).unwrap();
    is_ended(&events.gave_up(), "and again");
    client.reconnect().unwrap();
    let _third = listener.accept();
    events.connected();
    client.end_link("never", Decision::GiveUp).unwrap();
    client.reconnect().unwrap();
    let _fourth = listener.accept();
    events.connected();
    client.start_close(1000, "").unwrap();
    let late = client.end_link("too late", Decision::GiveUp);
    assert!(matches!(late, Err(Error::Closed)), "{late:?}");
}

#[test]
fn a_decision_that_was_taken_is_done_though_the_link_dies_meanwhile() {
    for round in 0..25 {
        let listener = Listener::new();
        let brief = everlink::config::Timeouts::new().close(ms(50));
        let (builder, events) = watch(lines(&listener).timeouts(brief));
        let client = builder.start().unwrap();
        let stream = listener.accept_raw();
        events.connected();
        let taken = thread::scope(|scope| {
            let deciding = scope.spawn(|| {
                for _ in 0..round * 400 {
                    std::hint::spin_loop();
                }
                client.end_link("replaced", Decision::GiveUp)
            });
            drop(stream);
            deciding.join().unwrap()
        });
        match taken {
            Ok(()) => is_ended(&events.gave_up(), "replaced"),
            Err(Error::NotConnected) => drop(events.connected()),
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_handler_decides_about_the_end_of_a_link_that_has_died() {
    for is_made_known in [false, true] {
        let listener = Listener::new();
        let (go, waits) = unbounded::<()>();
        let (tell, told) = unbounded();
        let builder = lines(&listener).on_message(move |sender, _| {
            let _ = waits.recv_timeout(PATIENCE);
            tell.send(sender.end_link("replaced", Decision::GiveUp)).unwrap();
        });
        let (builder, events) = watch(builder);
        let client = builder.start().unwrap();
        let mut stream = listener.accept_raw();
        std::io::Write::write_all(&mut stream, b"replaced\n").unwrap();
        eventually("the message", || match client.stats().messages_received {
            1 => Ok(()),
            other => Err(other),
        });
        socket2::SockRef::from(&stream).set_linger(Some(ZERO)).unwrap();
        drop(stream);
        // the reader is in the handler: a write finds out
        eventually("the death", || match (client.try_send("x"), client.state()) {
            (_, State::Disconnected) => Ok(()),
            other => Err(other),
        });
        if is_made_known {
            events.until(|event| match event {
                Event::Disconnected { next: Next::Redial { .. }, .. } => Some(()),
                _ => None,
            });
        }
        go.send(()).unwrap();
        told.recv_timeout(PATIENCE).unwrap().unwrap();
        is_ended(&events.gave_up(), "replaced");
        assert!(!listener.is_dialed_within(ms(50)));
    }
}

#[test]
fn endpoints_that_are_set_go_before_a_url_that_was_decided_on_earlier() {
    let [home, decided, set] = [(); 3].map(|()| Listener::new());
    let long = Duration::from_secs(3600);
    let there = || Decision::RetryAt { url: decided.url(), delay: long };
    let (builder, events) = watch(home.client());
    let client = builder.start().unwrap();
    let _peer = home.accept();
    events.connected();
    client.end_link("go there", there()).unwrap();
    events.disconnected();
    client.set_endpoints([set.url()]).unwrap();
    client.reconnect().unwrap();
    let _peer = set.accept();
    events.connected();
    // and the other way round
    client.set_endpoints([home.url()]).unwrap();
    client.end_link("go there", there()).unwrap();
    events.disconnected();
    client.reconnect().unwrap();
    let _peer = decided.accept();
    events.connected();
}

#[test]
fn a_url_that_the_client_cannot_dial_is_refused_and_never_shown() {
    let listener = Listener::new();
    let there = Decision::RetryAt { url: "ws://127.0.0.1:1/x".into(), delay: ZERO };
    let decided = there.clone();
    let (builder, events) = watch(lines(&listener).decide(move |_, _| decided.clone()));
    let client = builder.start().unwrap();
    let stream = listener.accept_raw();
    events.connected();
    let refused = client.end_link("moved", there);
    assert!(matches!(refused, Err(Error::InvalidUrl { .. })), "{refused:?}");
    drop(stream);
    events.disconnected();
    let endpoint = events.until(|event| match event {
        Event::Connecting { endpoint, .. } => Some(endpoint.clone()),
        _ => None,
    });
    assert_eq!(endpoint, format!("tcp://{}", listener.address()));
}

#[test]
fn what_was_decided_shows_no_credentials() {
    let url = "tcp://user:SECRET@127.0.0.1:1/?token=SECRET".into();
    let there = Decision::RetryAt { url, delay: ZERO };
    let shown = format!("{there:?} {:?}", LoginError::decided(there.clone(), "moved"));
    assert!(shown.contains("RetryAt") && !shown.contains("SECRET"), "{shown}");
}

#[test]
fn an_iterator_of_answers_that_has_ended_stays_at_its_end() {
    let calls: Calls<u64, &str> = Calls::new();
    let client = Client::builder("ws://127.0.0.1:1").max_attempts(1).start().unwrap();
    let mut answers = calls.ask(client.sender(), 1, "1?").unwrap();
    assert!(matches!(answers.next(), Some(Err(Error::GaveUp(_)))));
    assert!(calls.complete(&1, "yes").is_none());
    assert!(answers.next().is_none());
    assert_eq!(answers.wait().unwrap(), "yes", "a wait is no part of the iterator");
    assert!(answers.next().is_none());
}

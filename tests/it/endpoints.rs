//! Where the next attempt goes, and how soon, is the program's to say while the client runs; so is what is
//! still to be sent.

use std::time::Duration;

use crate::support::bare::{self, next_text_frame};
use crate::support::*;
use everlink::config::{Backoff, Delivery, Jitter};
use everlink::failure::{Next, Undelivered};
use everlink::{Client, Error, Event};

#[test]
fn endpoints_that_are_set_are_for_the_next_attempt() {
    let [old, first, second] = [(); 3].map(|()| Listener::new());
    let builder = old.client().header("X-Who", "me").backoff(Backoff::fixed(ms(0)));
    let (builder, events) = watch(builder);
    let client = builder.start().unwrap();
    let mut peer = old.accept();
    events.connected();
    client.set_endpoints([first.url(), second.url()]).unwrap();
    // the present link stays
    client.send("still here").unwrap();
    assert_eq!(next_text(&mut peer), "still here");
    reset(peer);
    events.disconnected();
    let (stream, request) = first.answer("HTTP/1.1 503 Busy\r\n\r\n");
    assert!(request.contains("X-Who: me"), "{request}");
    drop(stream);
    events.attempt_failed();
    let peer = second.accept();
    events.connected();
    // a fallback goes on from where it is, as with those of the builder
    reset(peer);
    let _peer = first.accept();
    client.close();
    assert!(matches!(client.set_endpoints([old.url()]), Err(Error::Closed)));
}

#[test]
fn endpoints_that_cannot_be_are_refused_and_change_nothing() {
    let listener = Listener::new();
    let client = listener.client().start().unwrap();
    let _peer = listener.accept();
    client.wait_connected(PATIENCE).unwrap();
    let none: [&str; 0] = [];
    for result in [
        client.set_endpoints(none),
        client.set_endpoints(["ws://127.0.0.1:1", "nonsense"]),
        client.set_endpoints(["tcp://127.0.0.1:1"]),
    ] {
        assert!(matches!(result, Err(Error::InvalidUrl { .. })), "{result:?}");
    }
    client.reconnect().unwrap();
    listener.accept();
}

#[test]
fn a_callback_sets_endpoints_while_nobody_is_there() {
    let listener = Listener::new();
    let url = listener.url();
    let client = Client::builder("ws://127.0.0.1:1").backoff(Backoff::fixed(ms(1)));
    let client = client.on_event(move |client, event| {
        if matches!(event, Event::AttemptFailed { attempts: 3, .. }) {
            client.set_endpoints([&url]).unwrap();
        }
    });
    let client = client.start().unwrap();
    let _peer = listener.accept();
    client.wait_connected(PATIENCE).unwrap();
    assert!(client.status().endpoint.contains(&listener.address().to_string()));
}

fn delay(events: &Watch) -> Duration {
    events.until(|event| match event {
        Event::Disconnected { next: Next::Redial { delay, .. }, .. }
        | Event::AttemptFailed { next: Next::Redial { delay, .. }, .. } => Some(*delay),
        _ => None,
    })
}

#[test]
fn the_first_redial_after_a_stable_link_has_a_delay_of_its_own() {
    let listener = Listener::new();
    let backoff = Backoff::exponential().initial(ms(20)).jitter(Jitter::None).first(ms(0));
    let (builder, events) = watch(listener.client().backoff(backoff).stable_after(ms(0)));
    let _client = builder.start().unwrap();
    // no link was lost yet
    drop(listener.accept_raw());
    assert_eq!(delay(&events), ms(20));
    let peer = listener.accept();
    events.connected();
    reset(peer);
    assert_eq!(delay(&events), ms(0));
    drop(listener.accept_raw());
    assert_eq!(delay(&events), ms(20), "the second is the initial one");
    let peer = listener.accept();
    events.connected();
    reset(peer);
    assert_eq!(delay(&events), ms(0), "and anew after each");
}

#[test]
fn a_link_that_died_young_is_not_redialed_at_once() {
    let listener = Listener::new();
    let backoff = Backoff::fixed(ms(20)).first(ms(0));
    let (builder, events) = watch(listener.client().backoff(backoff).stable_after(PATIENCE));
    let _client = builder.start().unwrap();
    reset(listener.accept());
    assert_eq!(delay(&events), ms(20));
}

#[test]
fn what_was_never_written_can_be_taken_back_and_what_is_under_way_stays() {
    let listener = Listener::new();
    let (tell, told) = crossbeam_channel::unbounded();
    let builder = listener.client().delivery(Delivery::AtLeastOnce);
    let builder = builder.on_dropped(move |message, why| tell.send((message, why)).unwrap());
    let (builder, events) = watch(builder.backoff(Backoff::fixed(ms(0))));
    let client = builder.start().unwrap();
    let mut stream = bare::upgrade(&listener);
    events.connected();
    // it answers no ping, so this is not confirmed when it goes
    let written = client.send_confirmed("written").unwrap();
    assert_eq!(next_text_frame(&mut stream), "written");
    drop(stream);
    events.disconnected();
    let receipts = ["one", "two"].map(|text| client.send_confirmed(text).unwrap());
    assert_eq!(client.clear_outbox(), ["one", "two"]);
    for receipt in receipts {
        let result = receipt.wait(PATIENCE);
        assert!(matches!(result, Err(Error::Undelivered(Undelivered::Cleared))), "{result:?}");
    }
    assert!(client.clear_outbox().is_empty());
    client.send("the next").unwrap();
    let mut stream = bare::upgrade(&listener);
    assert_eq!(next_text_frame(&mut stream), "written");
    assert_eq!(next_text_frame(&mut stream), "the next");
    assert!(!written.is_confirmed());
    assert!(told.try_recv().is_err(), "nothing was dropped");
}

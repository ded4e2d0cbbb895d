//! What the callbacks of a client can do with it.

use std::sync::mpsc;
use std::thread;

use crate::support::*;
use everlink::config::Backoff;
use everlink::failure::Decision;
use everlink::{Client, ClientHandle, Error, Event, Failure};

/// A client of a server that is not there.
fn refused() -> everlink::ClientBuilder {
    Listener::new().client().backoff(Backoff::fixed(ms(1)))
}

#[test]
fn an_event_callback_sends_on_each_link() {
    let listener = Listener::new();
    let client = listener
        .client()
        .on_event(|client, event| {
            if let Event::Connected { link, .. } = event {
                client.send(format!("link {link}")).unwrap();
            }
        })
        .start()
        .unwrap();
    for link in 1..=3 {
        let mut peer = listener.accept();
        assert_eq!(next_text(&mut peer), format!("link {link}"));
        reset(peer);
    }
    drop(client);
}

#[test]
fn an_event_callback_starts_over_and_starts_to_close() {
    let (sender, gave_up) = mpsc::channel();
    let mut times = 0;
    let builder = refused().max_attempts(2).on_event(move |client, event| {
        if let Event::GaveUp { .. } = event {
            times += 1;
            match times {
                1 => client.reconnect().unwrap(),
                _ => client.start_close(1000, "").unwrap(),
            }
            sender.send(times).unwrap();
        }
    });
    let client = builder.start().unwrap();
    assert_eq!(gave_up.recv_timeout(PATIENCE), Ok(1));
    assert_eq!(gave_up.recv_timeout(PATIENCE), Ok(2));
    assert!(matches!(client.subscribe().last(), None | Some(Event::Closed { .. })));
    assert!(matches!(client.recv(), Err(Error::Closed)));
}

#[test]
fn the_function_that_decides_has_the_client_too() {
    let (sender, handles) = mpsc::channel();
    let client = refused()
        .decide(move |client: &ClientHandle, _: &Failure| {
            client.start_close(1000, "").unwrap();
            sender.send(client.clone()).unwrap();
            Decision::Retry
        })
        .start()
        .unwrap();
    let handle = handles.recv_timeout(PATIENCE).unwrap();
    assert_eq!(handle.id(), client.id());
    assert!(matches!(client.subscribe().last(), None | Some(Event::Closed { .. })));
    // and what is kept of it keeps nothing open
    assert!(matches!(handle.reconnect(), Err(Error::Closed)));
    assert!(matches!(handle.send("late").unwrap_err().error, Error::Closed));
}

#[test]
fn a_handle_that_is_kept_does_not_keep_the_client_open() {
    let listener = Listener::new();
    let (sender, handles) = mpsc::channel();
    let client = listener
        .client()
        .on_event(move |client, _| drop(sender.send(client.clone())))
        .start()
        .unwrap();
    let mut peer = listener.accept();
    let server = thread::spawn(move || read_to_end(&mut peer));
    let handle = handles.recv_timeout(PATIENCE).unwrap();
    client.wait_connected(PATIENCE).unwrap();
    drop(client);
    let frame = server.join().unwrap().expect("a close frame");
    assert_eq!(u16::from(frame.code), 1000);
    assert!(matches!(handle.reconnect(), Err(Error::Closed)));
}

#[test]
fn who_receives_beside_a_handler_is_told_the_end_first() {
    let client = refused().max_attempts(1).on_message(|_, _| {}).start().unwrap();
    eventually("the client gives up", || match client.recv() {
        Err(Error::GaveUp(_)) => Ok(()),
        other => Err(other),
    });
    assert!(matches!(client.try_recv(), Err(Error::GaveUp(_))));
    client.close();
    assert!(matches!(client.recv(), Err(Error::Closed)));
    let client = Client::builder("ws://127.0.0.1:1").on_message(|_, _| {}).start().unwrap();
    assert!(matches!(client.recv(), Err(Error::WouldWaitForever { .. })));
}

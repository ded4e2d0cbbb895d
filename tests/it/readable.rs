//! A descriptor for programs that have a loop of their own: `Client::readable_fd`.
#![cfg(unix)]

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::support::*;
use everlink::config::Heartbeat;
use everlink::{Client, Error, State};
use rustix::event::{PollFd, PollFlags, poll};

fn is_readable(descriptor: BorrowedFd<'_>, within: Duration) -> bool {
    let mut descriptors = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
    poll(&mut descriptors, Some(&within.try_into().unwrap())).unwrap() == 1
}

/// Takes everything, until there is nothing.
fn drain(client: &Client) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(message) = client.try_recv().unwrap() {
        all.push(message.to_string());
    }
    all
}

/// Takes everything, until there is nothing and the descriptor says so: an event that is a moment late makes
/// it readable once more.
fn drain_to_silence(client: &Client, descriptor: BorrowedFd<'_>) -> Vec<String> {
    let mut all = Vec::new();
    eventually("all was taken", || {
        all.extend(drain(client));
        if is_readable(descriptor, Duration::ZERO) { Err(all.clone()) } else { Ok(()) }
    });
    all
}

#[test]
fn a_descriptor_is_readable_while_there_is_something_to_receive_and_not_otherwise() {
    let listener = Listener::new();
    let client = listener.client().max_attempts(1).start().unwrap();
    let mut peer = listener.accept();
    client.wait_connected(PATIENCE).unwrap();
    let readable = client.readable_fd().unwrap();
    assert_eq!(drain_to_silence(&client, readable), [""; 0]);
    for round in 0..100 {
        peer.send(format!("a{round}").into()).unwrap();
        peer.send(format!("b{round}").into()).unwrap();
        let mut received = Vec::new();
        while received.len() < 2 {
            assert!(is_readable(readable, PATIENCE), "round {round}: {received:?}");
            received.extend(drain_to_silence(&client, readable));
        }
        assert_eq!(received, [format!("a{round}"), format!("b{round}")]);
    }
    // one that is taken and one that is left
    peer.send("one".into()).unwrap();
    peer.send("two".into()).unwrap();
    assert!(is_readable(readable, PATIENCE));
    assert_eq!(client.recv().unwrap(), "one");
    assert!(is_readable(readable, PATIENCE), "another is there");
    assert_eq!(client.recv().unwrap(), "two");
    // it has the ends, too: the client gives up, goes on, and is closed
    drain(&client);
    drop((peer, listener));
    assert!(is_readable(readable, PATIENCE));
    eventually("the client gives up", || match client.try_recv() {
        Err(Error::GaveUp(_)) => Ok(()),
        other => Err(other),
    });
    assert!(is_readable(readable, PATIENCE), "it has given up");
    client.close();
    assert_eq!(client.state(), State::Closed);
    assert!(matches!(client.try_recv(), Err(Error::Closed)));
    assert!(is_readable(readable, Duration::ZERO), "it is closed");
}

#[test]
fn somebody_who_waits_is_woken_whoever_looks_meanwhile() {
    let listener = Listener::new();
    let client = listener.client().start().unwrap();
    let mut peer = listener.accept();
    let readable = client.readable_fd().unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| client.recv_timeout(PATIENCE).unwrap());
        for _ in 0..1000 {
            if is_readable(readable, Duration::ZERO) {
                assert!(matches!(client.try_recv(), Ok(None)));
            }
        }
        peer.send("for the other".into()).unwrap();
        assert_eq!(waiting.join().unwrap(), "for the other");
    });
}

#[test]
fn a_loop_hears_of_events() {
    let listener = Listener::new();
    let client = listener.client().start().unwrap();
    let peer = listener.accept();
    client.wait_connected(PATIENCE).unwrap();
    let (readable, events) = (client.readable_fd().unwrap(), client.subscribe());
    drain_to_silence(&client, readable);
    drop(peer);
    let mut names = Vec::new();
    while !names.contains(&"disconnected") {
        assert!(is_readable(readable, PATIENCE), "{names:?}");
        drain(&client);
        while let Ok(event) = events.recv_timeout(Duration::ZERO) {
            names.push(event.name());
        }
    }
}

#[test]
fn a_loop_hears_of_the_first_link_and_of_a_callback_that_takes_long() {
    let listener = Listener::new();
    let (names, heard) = crossbeam_channel::unbounded();
    let (hold, held) = crossbeam_channel::bounded::<()>(0);
    let heartbeat = Heartbeat::every(ms(100)).dead_after(PATIENCE);
    let builder = listener.client().heartbeat(heartbeat).on_event(move |_, event| {
        if event.name() == "connected" {
            let _ = held.recv();
        }
        let _ = names.send(event.name());
    });
    let peer = std::thread::spawn(move || listener.accept());
    let client = builder.connect().unwrap();
    let _peer = peer.join().unwrap();
    let (readable, events) = (client.readable_fd().unwrap(), client.subscribe());
    drain_to_silence(&client, readable);
    assert!(is_readable(readable, PATIENCE));
    drain(&client);
    assert_eq!(events.recv_timeout(Duration::ZERO).unwrap().name(), "callback_stalled");
    assert!(!is_readable(readable, Duration::ZERO));
    drop(hold);
    assert!(is_readable(readable, PATIENCE));
    assert_eq!(heard.try_iter().last(), Some("connected"));
}

#[test]
fn where_nothing_is_received_there_is_no_descriptor() {
    let refused = |client: &Client| client.readable_fd().unwrap_err().kind();
    let client = Client::builder("ws://127.0.0.1:1").on_message(|_, _| {}).start().unwrap();
    assert_eq!(refused(&client), io::ErrorKind::Unsupported);
    let (client, _messages) = Client::builder("ws://127.0.0.1:1").start_with_channel().unwrap();
    assert_eq!(refused(&client), io::ErrorKind::Unsupported);
}

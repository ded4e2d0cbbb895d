//! Sending and receiving: queues, policies, handlers, both directions at once.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use crate::support::*;
use crossbeam_channel::select;
use everlink::config::{Heartbeat, Limits, Overflow, Queue, Timeouts};
use everlink::{Client, Error, Failure, Message, SendError, State};

#[test]
fn both_directions_saturated_at_once_finish() {
    const SIZE: usize = 64 * 1024;
    const COUNT: usize = 100 * 1024 * 1024 / SIZE;
    let listener = Listener::new();
    let client = listener.client().start().unwrap();
    let peer = listener.accept();
    // the peer too reads and writes at once, each way with a context of its own
    let reading = peer.get_ref().try_clone().unwrap();
    let server_reads = thread::spawn(move || {
        let role = tungstenite::protocol::Role::Server;
        let mut reading = tungstenite::WebSocket::from_raw_socket(reading, role, None);
        (0..COUNT).map(|_| reading.read().unwrap().len()).sum::<usize>()
    });
    let server_writes = thread::spawn(move || {
        let mut peer = peer;
        for _ in 0..COUNT {
            peer.send(vec![1; SIZE].into()).unwrap();
        }
        peer
    });
    let sends = thread::spawn({
        let client = client.clone();
        move || {
            let message = Message::from(vec![2; SIZE]);
            (0..COUNT).try_for_each(|_| client.send(message.clone()))
        }
    });
    let received: usize = (0..COUNT).map(|_| client.recv_timeout(PATIENCE).unwrap().len()).sum();
    assert_eq!(received, SIZE * COUNT);
    sends.join().unwrap().unwrap();
    assert_eq!(server_reads.join().unwrap(), SIZE * COUNT);
    drop(server_writes.join().unwrap());
    let stats = client.stats();
    assert_eq!(
        (stats.messages_received, stats.bytes_received),
        (COUNT as u64, (SIZE * COUNT) as u64)
    );
}

#[test]
fn every_size_travels_both_ways_whole_and_in_fragments() {
    for fragment_size in [None, Some(1000)] {
        let listener = Listener::new();
        let mut builder = listener.client();
        if let Some(size) = fragment_size {
            builder = builder.limits(Limits::new().fragment(size));
        }
        let client = builder.start().unwrap();
        let server = thread::spawn(move || echo(listener.accept()));
        for size in [0, 1, 125, 126, 1000, 1001, 65535, 65536, 3 << 20] {
            for message in [Message::from("é".repeat(size / 2)), Message::from(vec![9; size])] {
                client.send(message.clone()).unwrap();
                assert_eq!(client.recv_timeout(PATIENCE).unwrap(), message);
            }
        }
        client.close();
        server.join().unwrap();
    }
}

#[test]
fn a_fragmented_message_lets_pings_pass() {
    let listener = Listener::new();
    let client = listener.client().limits(Limits::new().fragment(1 << 16)).start().unwrap();
    let mut stream = listener.accept_raw();
    let mut peer = tungstenite::accept(&mut stream).unwrap();
    // the ping waits at the client before the peer takes much of the message
    client.send(vec![1; 32 << 20]).unwrap();
    let mut head = [0; 2];
    peer.get_mut().read_exact(&mut head).unwrap();
    assert_eq!(head, [0x02, 0xff], "a first fragment of 64 KiB, masked");
    let mut discard = vec![0; 8 + 4 + (1 << 16)];
    peer.get_mut().read_exact(&mut discard).unwrap();
    peer.send(tungstenite::Message::Ping("now".into())).unwrap();
    let mut fragments = 1;
    loop {
        peer.get_mut().read_exact(&mut head).unwrap();
        match head[0] {
            0x00 | 0x80 => {
                let length = if head[1] == 0xff { 8 } else { 2 };
                assert!(head[1] >= 0xfe && head[0] == 0, "the pong came after the message");
                let mut size = [0; 8];
                peer.get_mut().read_exact(&mut size[8 - length..]).unwrap();
                discard.resize(4 + u64::from_be_bytes(size) as usize, 0);
                peer.get_mut().read_exact(&mut discard).unwrap();
                fragments += 1;
            }
            0x8a => break,
            other => panic!("unexpected opcode {other:#x}"),
        }
    }
    assert!(fragments < 512, "the pong came after the message");
}

#[test]
fn a_message_over_the_limit_is_refused_at_once() {
    let listener = Listener::new();
    let client = listener.client().limits(Limits::new().message(500)).start().unwrap();
    let mut peer = listener.accept();
    let error = client.send(vec![0; 501]).unwrap_err().error;
    assert!(matches!(error, Error::MessageTooLarge { size: 501, limit: 500, .. }), "{error:?}");
    client.send("fits").unwrap();
    assert_eq!(next_text(&mut peer), "fits");
}

/// A client that has no link, with an outbox of three.
fn offline(overflow: Overflow) -> Client {
    let address = Listener::new().address();
    Client::builder(format!("ws://{address}"))
        .outbox(Queue::new().messages(3).overflow(overflow))
        .start()
        .unwrap()
}

#[test]
fn a_full_outbox_does_what_its_policy_says() {
    let send_five = |client: &Client| {
        (0..5).map(|number| client.try_send(number.to_string()).is_ok()).collect::<Vec<_>>()
    };
    let unsent = |client: &Client| {
        let unsent = client.close().undelivered;
        unsent.iter().map(|message| message.as_text().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for (overflow, accepted, kept, dropped) in [
        (Overflow::Wait, [true, true, true, false, false], ["0", "1", "2"], 0),
        (Overflow::Fail, [true, true, true, false, false], ["0", "1", "2"], 0),
        (Overflow::DropOldest, [true; 5], ["2", "3", "4"], 2),
        (Overflow::DropNewest, [true; 5], ["0", "1", "2"], 2),
    ] {
        let client = offline(overflow);
        assert_eq!(send_five(&client), accepted, "{overflow:?}");
        let stats = client.stats();
        assert_eq!((stats.outbox_messages, stats.outbox_dropped), (3, dropped), "{overflow:?}");
        assert_eq!(unsent(&client), kept, "{overflow:?}");
    }
}

#[test]
fn a_send_that_waits_ends_with_its_timeout_with_room_and_with_the_client() {
    let client = offline(Overflow::Wait);
    for number in 0..3 {
        client.send(number.to_string()).unwrap();
    }
    assert!(matches!(
        client.send_timeout("x", ms(20)),
        Err(SendError { error: Error::Timeout, .. })
    ));
    assert!(matches!(client.try_send("x"), Err(SendError { error: Error::Full, .. })));
    let waiting = thread::spawn({
        let client = client.clone();
        move || client.send("never")
    });
    client.close();
    assert!(matches!(waiting.join().unwrap(), Err(SendError { error: Error::Closed, .. })));
}

#[test]
fn wait_sent_returns_when_all_is_written_and_says_when_it_is_not() {
    let listener = Listener::new();
    let client = listener.client().start().unwrap();
    for number in 0..100 {
        client.send(number.to_string()).unwrap();
    }
    assert!(matches!(client.wait_sent(ms(20)), Err(Error::Timeout)));
    let peer = listener.accept();
    client.wait_sent(PATIENCE).unwrap();
    assert_eq!(client.stats().messages_sent, 100);
    drop(peer);
    drop(listener);
    eventually("the end of the link", || match client.state() {
        State::Connected => Err(State::Connected),
        _ => Ok(()),
    });
    client.send("never").unwrap();
    let waiting = thread::spawn({
        let client = client.clone();
        move || client.wait_sent(PATIENCE)
    });
    client.close();
    assert!(matches!(waiting.join().unwrap(), Err(Error::Closed)));
}

#[test]
fn a_send_that_waits_is_told_when_the_client_gives_up() {
    let address = Listener::new().address();
    let (builder, watch) = watch(
        Client::builder(format!("ws://{address}"))
            .backoff(everlink::config::Backoff::fixed(ms(50)))
            .max_attempts(4)
            .outbox(Queue::new().messages(1)),
    );
    let client = builder.start().unwrap();
    client.send("first").unwrap();
    let error = client.send("second").unwrap_err().error;
    assert!(matches!(error, Error::GaveUp(_)), "{error:?}");
    watch.gave_up();
}

#[test]
fn a_receipt_is_waited_for_while_the_client_tries_and_again_when_it_does() {
    let address = Listener::new().address();
    let builder = Client::builder(format!("ws://{address}")).max_attempts(3);
    let client = builder.backoff(everlink::config::Backoff::fixed(ms(50))).start().unwrap();
    let before = client.send_confirmed("before").unwrap();
    let gave_up = |receipt: &everlink::Receipt| {
        let error = receipt.wait(PATIENCE).unwrap_err();
        assert!(matches!(error, Error::GaveUp(_)), "{error:?}");
    };
    gave_up(&before);
    let behind = client.send_confirmed("behind").unwrap();
    gave_up(&behind);
    gave_up(&before);

    let listener = std::net::TcpListener::bind(address).expect("the port is still free");
    client.reconnect().unwrap();
    let server =
        thread::spawn(move || echo(tungstenite::accept(listener.accept().unwrap().0).unwrap()));
    for receipt in [before, behind] {
        receipt.wait(PATIENCE).unwrap();
    }
    client.close();
    server.join().unwrap();
}

#[test]
fn a_peer_that_takes_nothing_is_dead_at_the_write_timeout() {
    let listener = Listener::new();
    let (builder, watch) = watch(listener.client().timeouts(Timeouts::new().write(ms(300))));
    let client = builder.start().unwrap();
    let peer = listener.accept();
    watch.connected();
    let begun = Instant::now();
    client.send(vec![0; 32 << 20]).unwrap();
    let cause = watch.disconnected();
    assert!(matches!(&*cause, Failure::WriteTimeout { .. }), "{cause:?}");
    assert!(begun.elapsed() >= ms(300));
    assert_eq!(client.stats().outbox_messages, 1, "what was not written whole is kept");
    drop(peer);
}

#[test]
fn a_peer_that_takes_nothing_but_sends_is_alive() {
    let listener = Listener::new();
    let (builder, watch) = watch(listener.client().timeouts(Timeouts::new().write(ms(200))));
    let client = builder.start().unwrap();
    let mut peer = listener.accept();
    watch.connected();
    client.send(vec![0; 15 << 20]).unwrap();
    for _ in 0..20 {
        peer.send("here".into()).unwrap();
        thread::park_timeout(ms(50));
    }
    assert_eq!(peer.read().unwrap().len(), 15 << 20);
    assert_eq!(client.state(), State::Connected);
    assert!(watch.rest().is_empty());
}

#[test]
fn an_inbox_that_drops_says_how_much() {
    for (overflow, kept) in [(Overflow::DropOldest, ["8", "9"]), (Overflow::DropNewest, ["0", "1"])]
    {
        let listener = Listener::new();
        let client =
            listener.client().inbox(Queue::new().messages(2).overflow(overflow)).start().unwrap();
        let mut peer = listener.accept();
        for number in 0..10 {
            peer.send(number.to_string().into()).unwrap();
        }
        eventually("the last message", || {
            let stats = client.stats();
            if stats.messages_received == 10 && stats.inbox_dropped == 8 {
                Ok(())
            } else {
                Err(Box::new(stats))
            }
        });
        for text in kept {
            assert_eq!(client.recv().unwrap().as_text(), Some(text));
        }
        assert!(client.try_recv().unwrap().is_none());
    }
}

#[test]
fn what_came_before_the_end_of_the_stream_is_delivered() {
    let listener = Listener::new();
    let client = listener.client().inbox(Queue::new().messages(1)).start().unwrap();
    let mut peer = listener.accept();
    for number in 0..500 {
        peer.send(number.to_string().into()).unwrap();
    }
    drop(peer);
    for number in 0..500 {
        let message = client.recv_timeout(PATIENCE);
        let message = message.unwrap_or_else(|e| panic!("{number}: {e}: {:?}", client.stats()));
        assert_eq!(message.as_text(), Some(number.to_string().as_str()));
    }
    drop(listener.accept());
}

#[test]
fn a_busy_program_does_not_hide_that_the_link_is_dead() {
    let listener = Listener::new();
    let (hold, held) = crossbeam_channel::bounded::<()>(0);
    let (entered, enters) = mpsc::channel();
    let builder = listener
        .client()
        .heartbeat(everlink::config::Heartbeat::every(ms(20)).dead_after(PATIENCE))
        .on_message(move |_, _| {
            let _ = entered.send(());
            let _ = held.recv();
        });
    let client = builder.start().unwrap();
    let mut peer = listener.accept();
    peer.send("go".into()).unwrap();
    enters.recv_timeout(PATIENCE).unwrap();
    reset(peer);
    eventually("the end of the link", || match client.state() {
        State::Connected => Err(State::Connected),
        _ => Ok(()),
    });
    // the next link waits for the program: never two readers at once
    assert!(!listener.is_dialed_within(ms(100)));
    drop(hold);
    drop(listener.accept());
}

#[test]
fn messages_come_by_every_way_of_receiving() {
    let listener = Listener::new();
    let (client, receiver) = listener.client().start_with_channel().unwrap();
    let mut peer = listener.accept();
    assert!(client.try_recv().unwrap().is_none());
    assert!(matches!(client.recv_timeout(ms(10)), Err(Error::Timeout)));
    for text in ["a", "b", "c", "d"] {
        peer.send(text.into()).unwrap();
    }
    assert_eq!(client.recv().unwrap().as_text(), Some("a"));
    assert_eq!(client.recv_timeout(PATIENCE).unwrap().as_text(), Some("b"));
    select! {
        recv(receiver) -> message => assert_eq!(message.unwrap().as_text(), Some("c")),
        default(PATIENCE) => panic!("nothing came"),
    }
    assert_eq!(client.iter().next().unwrap().as_text(), Some("d"));
    drop(peer);
    drop(listener);
    client.close();
    assert!(receiver.recv().is_err(), "the channel disconnects with the client");
    assert_eq!(client.into_iter().count(), 0);
}

#[test]
fn a_handler_gets_each_message_and_can_answer() {
    let listener = Listener::new();
    let builder = listener.client().on_message(|sender, message| {
        sender.send(format!("{} to you", message.as_text().unwrap())).unwrap();
    });
    let client = builder.start().unwrap();
    let mut peer = listener.accept();
    for text in ["hello", "goodbye"] {
        peer.send(text.into()).unwrap();
        assert_eq!(next_text(&mut peer), format!("{text} to you"));
    }
    assert!(matches!(client.try_recv(), Err(Error::WouldWaitForever { .. })));
}

#[test]
fn a_handler_never_waits_for_room() {
    let listener = Listener::new();
    let (said, heard) = mpsc::channel();
    let builder = listener
        .client()
        .timeouts(Timeouts::new().write(PATIENCE))
        .outbox(Queue::new().messages(4))
        .on_message(move |sender, _| {
            let message = Message::from(vec![0; 16 << 20]);
            let refused = (0..10).find_map(|_| sender.send(message.clone()).err());
            let _ = said.send(refused);
        });
    let _client = builder.timeouts(Timeouts::new().close(ms(50))).start().unwrap();
    let mut peer = listener.accept();
    peer.send("go".into()).unwrap();
    let refused = heard.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(refused, Some(SendError { error: Error::Full, .. })), "{refused:?}");
}

#[test]
fn a_handler_that_panics_ends_the_client_with_that_cause() {
    let listener = Listener::new();
    let (builder, watch) = watch(listener.client().on_message(|_, _| panic!("boom")));
    let client = builder.start().unwrap();
    let mut peer = listener.accept();
    peer.send("x".into()).unwrap();
    assert_eq!(watch.gave_up().to_string(), "handler panicked: boom");
    assert_eq!(client.state(), State::GaveUp);
    // and nothing else: the client can be sent off again
    client.reconnect().unwrap();
    drop(listener.accept());
}

#[test]
fn events_do_not_pile_up_for_who_does_not_read_them() {
    let listener = Listener::new();
    let client = listener.client().start().unwrap();
    let events = client.subscribe();
    for _ in 0..150 {
        drop(listener.accept());
    }
    client.close();
    assert!(events.missed() > 0);
    assert!(events.count() <= everlink::Events::CAPACITY);
}

/// A program that is slow, or takes some and pauses: the reader goes on with the room that there is, and the peer's
/// pings are answered.
#[test]
fn a_peer_is_answered_as_soon_as_there_is_room_for_what_it_has_sent_before() {
    let listener = Listener::new();
    let client = listener.client().inbox(Queue::new().messages(100)).start().unwrap();
    let mut peer = listener.accept();
    for number in 0..105 {
        peer.send(tungstenite::Message::text(number.to_string())).unwrap();
    }
    eventually("all are read", || {
        let received = client.stats().messages_received;
        if received == 105 { Ok(()) } else { Err(received) }
    });
    peer.send(tungstenite::Message::Ping("?".into())).unwrap();
    for number in 0..24 {
        assert_eq!(client.recv_timeout(PATIENCE).unwrap(), number.to_string().as_str());
    }
    // and takes nothing more
    peer.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
    while peer.read().unwrap() != tungstenite::Message::Pong("?".into()) {}
    assert_eq!(client.stats().inbox_messages, 81);
}

/// Whatever else keeps the reader busy, a message is received while it does.
#[test]
fn a_message_in_front_of_a_flood_is_received_before_the_flood_ends() {
    let pongs = [0x8a, 0x00].repeat(32 * 1024);
    let mut text = vec![0x81, 127];
    text.extend((256_u64 << 20).to_be_bytes());
    let spaces = b" ".repeat(64 * 1024);
    for (name, begin, flood) in [("pongs", &[][..], &pongs), ("one long text", &text[..], &spaces)]
    {
        let listener = Listener::new();
        let limits = Limits::new().message(512 << 20);
        let client = listener.client().limits(limits).heartbeat(Heartbeat::off()).start().unwrap();
        let mut peer = listener.accept();
        let stream = peer.get_mut();
        let is_received = AtomicBool::new(false);
        thread::scope(|scope| {
            let flooding = scope.spawn(|| {
                // there is no end of what is to be read when it comes
                for _ in 0..200 {
                    stream.write_all(&pongs).unwrap();
                }
                stream.write_all(&[&[0x81, 1, b'M'], begin].concat()).unwrap();
                (0..4000).any(|_| {
                    stream.write_all(flood).unwrap();
                    is_received.load(Relaxed)
                })
            });
            assert_eq!(client.recv_timeout(PATIENCE).unwrap(), "M", "{name}");
            is_received.store(true, Relaxed);
            assert!(flooding.join().unwrap(), "{name}: not before the end");
        });
    }
}

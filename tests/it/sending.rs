//! One way to send, on both sides: refused messages come back, options hold, receipts work for
//! sessions too.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::support::*;
use crossbeam_channel::{Receiver, unbounded};
use everlink::config::{Backoff, Delivery, Framing, Heartbeat, Overflow, Queue, SendOptions};
use everlink::failure::Undelivered;
use everlink::{Client, Error, Message, SendError, Sender, Server};

const LOOPBACK: &str = "127.0.0.1:0";

#[test]
fn a_refused_message_comes_back_and_a_question_mark_makes_the_error_of_it() {
    let client = Client::builder("ws://127.0.0.1:9")
        .outbox(Queue::new().messages(1).overflow(Overflow::Fail))
        .start()
        .unwrap();
    client.send("first").unwrap();
    let SendError { message, error } = client.send("second").unwrap_err();
    assert_eq!(message.as_text(), Some("second"));
    assert!(matches!(error, Error::Full), "{error:?}");
    let through = || -> Result<(), Error> {
        client.try_send("third")?;
        Ok(())
    };
    assert!(matches!(through(), Err(Error::Full)));
    client.close();
    let refused = client.send_confirmed("late").unwrap_err();
    assert!(matches!(&refused.error, Error::Closed), "{refused:?}");
    assert_eq!(refused.to_string(), "closed");
    assert_eq!(Message::from(refused).as_text(), Some("late"));
}

/// The same function serves both ends.
fn confirm(sender: &Sender, count: u64) {
    let receipts: Vec<_> = (0..count)
        .map(|number| sender.send_confirmed(number.to_string()).expect("accepted"))
        .collect();
    for (number, receipt) in (1..).zip(receipts) {
        receipt.wait(PATIENCE).expect("confirmed");
        assert_eq!(receipt.number(), Some(number));
        assert!(sender.confirmed_up_to() >= number);
    }
    sender.send("one without a receipt").unwrap();
    sender.flush(PATIENCE).unwrap();
    assert_eq!(sender.confirmed_up_to(), count + 1);
    sender.wait_sent(PATIENCE).unwrap();
}

#[test]
fn sessions_have_receipts_and_flush_as_clients_have() {
    let framed = Server::builder().framing(Framing::lines()).heartbeat(Heartbeat::ping_pong());
    for (builder, scheme) in [(Server::builder(), "ws"), (framed, "tcp")] {
        let server = builder.bind(LOOPBACK, |session| {
            confirm(session.sender(), 10);
            session.send("that was all").unwrap();
            for _ in &session {}
        });
        let server = server.unwrap();
        let client = Client::builder(format!("{scheme}://{}", server.local_addr()))
            .heartbeat(Heartbeat::ping_pong());
        let client = client.connect().unwrap();
        let last = loop {
            let message = client.recv_timeout(PATIENCE).unwrap();
            if message.as_text() == Some("that was all") {
                break message;
            }
        };
        assert!(last.is_text());
        confirm(client.sender(), 10);
        client.close();
    }
}

#[test]
fn what_a_session_could_not_confirm_says_what_became_of_it() {
    let (report, reported) = unbounded();
    let server = Server::bind(LOOPBACK, move |session| {
        let receipt = session.send_confirmed("into the void").unwrap();
        session.wait_sent(PATIENCE).unwrap();
        while session.recv().is_ok() {}
        let _ = report.send(receipt);
    });
    let server = server.unwrap();
    let (socket, _) = tungstenite::connect(format!("ws://{}", server.local_addr())).unwrap();
    // it never reads, so it confirms nothing
    eventually("a message that was sent", || match server.sessions().first() {
        Some(session) if session.stats().messages_sent == 1 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    if let tungstenite::stream::MaybeTlsStream::Plain(stream) = socket.get_ref() {
        socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    drop(socket);
    let receipt = reported.recv_timeout(PATIENCE).unwrap();
    let error = receipt.wait(PATIENCE).unwrap_err();
    assert!(matches!(error, Error::Undelivered(Undelivered::Lost)), "{error:?}");
}

/// A builder that tells what it drops, and who is told.
fn telling(
    builder: everlink::ClientBuilder,
) -> (everlink::ClientBuilder, Receiver<(Message, Undelivered)>) {
    let (tell, told) = unbounded();
    (builder.on_dropped(move |message, why| drop(tell.send((message, why)))), told)
}

#[test]
fn what_is_dropped_is_handed_to_the_program() {
    let next = |told: &Receiver<(Message, Undelivered)>| {
        let (message, why) = told.recv_timeout(PATIENCE).expect("told");
        (message.as_text().unwrap_or_default().to_owned(), why)
    };
    let queue = Queue::new().messages(2);
    for (overflow, dropped) in [(Overflow::DropOldest, "1"), (Overflow::DropNewest, "3")] {
        let builder = Client::builder("ws://127.0.0.1:9").outbox(queue.overflow(overflow));
        let (builder, told) = telling(builder);
        let client = builder.start().unwrap();
        for number in 1..=3 {
            client.send(number.to_string()).unwrap();
        }
        assert_eq!(next(&told), (dropped.to_owned(), Undelivered::Dropped));
        assert_eq!(client.close().undelivered.len(), 2);
        assert!(told.try_recv().is_err(), "the others were handed back");
    }
    // what has expired, found by a thread that sends and by the writer
    let listener = Listener::new();
    let (builder, told) = telling(listener.client().outbox(queue.overflow(Overflow::Wait)));
    let stale = SendOptions::new().ttl(Duration::ZERO);
    let client = builder.start().unwrap();
    client.send_with("a", stale).unwrap();
    client.send_with("b", stale).unwrap();
    client.send("c").unwrap();
    let mut seen = vec![next(&told), next(&told)];
    seen.sort_by(|a, b| a.0.cmp(&b.0));
    let expired = |text: &str| (text.to_owned(), Undelivered::Expired);
    assert_eq!(seen, [expired("a"), expired("b")]);
    let mut peer = listener.accept();
    assert_eq!(next_text(&mut peer), "c");
    client.send_with("d", stale).unwrap();
    assert_eq!(next(&told), expired("d"));
}

#[test]
fn a_callback_that_panics_or_sends_hurts_nobody() {
    let sender: Arc<std::sync::OnceLock<Sender>> = Arc::default();
    let theirs = Arc::clone(&sender);
    let client = Client::builder("ws://127.0.0.1:9")
        .outbox(Queue::new().messages(2).overflow(Overflow::DropOldest))
        .on_dropped(move |message, _| match message.as_text() {
            Some("1") => panic!("no journal"),
            Some("2") => {
                // to make room for it another would have to be dropped, and so on without end
                let sender = theirs.get().expect("there is one by now");
                let refused = sender.send("in its place").expect_err("no room");
                assert!(matches!(refused.error, Error::Full), "{refused:?}");
                assert_eq!(refused.message.as_text(), Some("in its place"));
            }
            _ => {}
        })
        .start()
        .unwrap();
    sender.set(client.sender().clone()).unwrap();
    for number in 1..=4 {
        client.send(number.to_string()).unwrap();
    }
    let left = client.close().undelivered;
    assert_eq!(left.iter().map(Message::as_text).collect::<Vec<_>>(), [Some("3"), Some("4")]);
}

#[test]
fn whoever_sends_again_what_was_dropped_is_told_once_for_each() {
    const MESSAGES: usize = 20_000;
    for overflow in [Overflow::DropOldest, Overflow::DropNewest] {
        let senders: Arc<std::sync::OnceLock<[Sender; 2]>> = Arc::default();
        let told = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let client = |own: usize| {
            let (senders, told) = (Arc::clone(&senders), Arc::clone(&told));
            Client::builder("ws://127.0.0.1:9")
                .outbox(Queue::new().messages(2).overflow(overflow))
                .on_dropped(move |message, _| {
                    told.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    let senders = senders.get().expect("there are two by now");
                    // back into this one, and if that is full into the other, whose callback does
                    // the same
                    if let Err(refused) = senders[own].try_send(message) {
                        let _ = senders[1 - own].try_send(refused.message);
                    }
                })
                .start()
                .unwrap()
        };
        let clients = [client(0), client(1)];
        let both = [clients[0].sender().clone(), clients[1].sender().clone()];
        assert!(senders.set(both).is_ok());
        thread::scope(|scope| {
            for client in &clients {
                scope.spawn(|| {
                    for number in 0..MESSAGES {
                        client.send(number.to_string()).unwrap();
                    }
                });
            }
        });
        let told = told.load(std::sync::atomic::Ordering::SeqCst);
        let [first, second] = clients.each_ref().map(|client| client.stats().outbox_dropped);
        assert_eq!(told as u64, first + second);
    }
}

#[test]
fn what_expires_while_the_program_is_told_is_told_behind_that() {
    let sender: Arc<std::sync::OnceLock<Sender>> = Arc::default();
    let (theirs, depth) = (Arc::clone(&sender), std::sync::atomic::AtomicUsize::new(0));
    let (tell, told) = unbounded();
    let client = Client::builder("ws://127.0.0.1:9")
        .outbox(Queue::new().messages(2))
        .on_dropped(move |message, _| {
            let inside = depth.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let number: u32 = message.as_text().unwrap().parse().unwrap();
            let _ = tell.send((inside, number));
            // each expires at once, and makes room for the next
            let stale = SendOptions::new().ttl(Duration::ZERO);
            for next in [number + 1, number + 1] {
                if next < 4 {
                    let _ = theirs.get().unwrap().send_with(next.to_string(), stale);
                }
            }
            depth.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
        })
        .start()
        .unwrap();
    sender.set(client.sender().clone()).unwrap();
    let stale = SendOptions::new().ttl(Duration::ZERO);
    for _ in 0..3 {
        client.send_with("1", stale).unwrap();
    }
    let told: Vec<_> = told.try_iter().collect();
    assert!(told.iter().any(|(_, number)| *number > 1), "{told:?}");
    assert!(told.iter().all(|(inside, _)| *inside == 0), "{told:?}");
}

#[test]
fn a_send_in_on_dropped_waits_for_nothing_and_holds_no_writing_up() {
    let server = echo_server();
    let sender: Arc<std::sync::OnceLock<Sender>> = Arc::default();
    let theirs = Arc::clone(&sender);
    let (tell, told) = unbounded();
    let client = Client::builder(format!("ws://{}", server.local_addr()))
        .outbox(Queue::new().messages(1))
        .on_dropped(move |message, _| {
            // there is room for one of them at most, and nobody who would make more
            let sent = [(); 2].map(|()| theirs.get().unwrap().send("again"));
            let _ = tell.send((message, sent.map(|sent| sent.map_err(Error::from))));
        })
        .connect()
        .unwrap();
    sender.set(client.sender().clone()).unwrap();
    let stale = SendOptions::new().ttl(Duration::ZERO);
    for _ in 0..20 {
        // past the writer, which sleeps after an echo
        client.send("awake").unwrap();
        while client.recv_timeout(PATIENCE).unwrap() != "awake" {}
        client.send_with("stale", stale).unwrap();
        let (message, [_, second]) = told.recv_timeout(PATIENCE).unwrap();
        assert_eq!(message, "stale");
        assert!(matches!(second, Ok(()) | Err(Error::Full)), "{second:?}");
    }
    assert_eq!(client.stats().connects, 1);
}

#[test]
fn a_message_for_this_link_only_goes_with_it_or_not_at_all() {
    let only = SendOptions::new().this_link_only();
    for delivery in [Delivery::AtMostOnce, Delivery::AtLeastOnce] {
        let listener = Listener::new();
        let builder = listener.client().delivery(delivery).backoff(Backoff::fixed(ms(1)));
        let (builder, told) = telling(builder);
        let (builder, watch) = watch(builder);
        let client = builder.start().unwrap();
        let stream = listener.accept_raw();
        // no link yet: the handshake is not answered
        let refused = client.send_with("too early", only).unwrap_err();
        assert!(matches!(refused.error, Error::NotConnected), "{refused:?}");
        let peer = tungstenite::accept(stream).unwrap();
        watch.connected();
        // more than the socket takes, so what follows waits behind it
        client.send(vec![0; 48 << 20]).unwrap();
        client.send("for any link").unwrap();
        let receipt = client.sender().send_confirmed_with("for this link", only).unwrap();
        reset(peer);
        watch.disconnected();
        let (message, why) = told.recv_timeout(PATIENCE).unwrap();
        assert_eq!((message.as_text(), why), (Some("for this link"), Undelivered::LinkEnded));
        let error = receipt.wait(PATIENCE).unwrap_err();
        assert!(matches!(error, Error::Undelivered(Undelivered::LinkEnded)), "{error:?}");
        let mut config = tungstenite::protocol::WebSocketConfig::default();
        config.max_message_size = None;
        config.max_frame_size = None;
        let mut peer =
            tungstenite::accept_with_config(listener.accept_raw(), Some(config)).unwrap();
        watch.connected();
        client.send_with("for the next", only).unwrap();
        let texts: Vec<String> = (0..2).map(|_| text_after_binary(&mut peer)).collect();
        assert_eq!(texts, ["for any link", "for the next"]);
        assert_eq!(client.stats().outbox_dropped, 1);
        client.close();
    }
}

/// The next text, whatever binary messages come before it.
fn text_after_binary(peer: &mut Peer) -> String {
    loop {
        match peer.read().expect("a message") {
            tungstenite::Message::Text(text) => return text.as_str().to_owned(),
            _ => continue,
        }
    }
}

#[test]
fn who_waits_for_room_for_a_link_that_ends_gets_the_message_back() {
    let listener = Listener::new();
    let builder = listener.client().outbox(Queue::new().messages(1));
    let (builder, watch) = watch(builder);
    let client = builder.start().unwrap();
    let peer = listener.accept();
    watch.connected();
    client.send(vec![0; 48 << 20]).unwrap();
    let only = SendOptions::new().this_link_only();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| client.send_with("subscribe", only));
        thread::park_timeout(ms(20));
        reset(peer);
        let refused = waiting.join().unwrap().unwrap_err();
        assert!(matches!(refused.error, Error::NotConnected), "{refused:?}");
        assert_eq!(refused.message.as_text(), Some("subscribe"));
    });
}

#[cfg(feature = "deflate")]
#[test]
fn a_message_can_go_uncompressed_and_in_fragments() {
    use everlink::config::{Compression, Limits};

    for limits in [Limits::new(), Limits::new().fragment(100)] {
        let server = Server::builder().compression(Compression::new()).limits(limits);
        let server = server.bind(LOOPBACK, |session| {
            let text = "the same again ".repeat(100);
            let before = session.stats().bytes_sent;
            session.send(text.as_str()).unwrap();
            session.send_with(text.as_str(), SendOptions::new().uncompressed()).unwrap();
            session.send(text.as_str()).unwrap();
            assert_eq!(before, 0);
            let _ = session.recv();
        });
        let server = server.unwrap();
        let mut stream = std::net::TcpStream::connect(server.local_addr()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        read_head(&mut stream);
        let compressed: Vec<bool> = (0..3).map(|_| is_compressed(&mut stream)).collect();
        assert_eq!(compressed, [true, false, true]);
    }
}

/// Reads a message, of whatever frames; returns whether its first says RSV1.
#[cfg(feature = "deflate")]
fn is_compressed(stream: &mut std::net::TcpStream) -> bool {
    use std::io::Read;

    let mut rsv1 = None;
    loop {
        let mut head = [0; 2];
        stream.read_exact(&mut head).unwrap();
        let length = match head[1] & 0x7f {
            126 => {
                let mut long = [0; 2];
                stream.read_exact(&mut long).unwrap();
                u16::from_be_bytes(long).into()
            }
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).unwrap();
        if head[0] & 0x0f > 2 {
            continue;
        }
        let rsv1 = *rsv1.get_or_insert(head[0] & 0x40 != 0);
        if head[0] & 0x80 != 0 {
            return rsv1;
        }
    }
}

//! Compressed messages between both ends, and what a peer can do wrong.
#![cfg(feature = "deflate")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use crate::support::{Listener, PATIENCE, init_log, ms, read_head, watch};
use everlink::config::{Backoff, Compression, Framing, Heartbeat, Limits};
use everlink::failure::HandshakeError;
use everlink::{Client, Error, Event, Failure, Message, Server, Session};
use tungstenite::handshake::derive_accept_key;

fn echo_server(compression: Option<Compression>) -> Server {
    init_log();
    let mut builder = Server::builder().heartbeat(Heartbeat::every(ms(10)).dead_after(PATIENCE));
    if let Some(compression) = compression {
        builder = builder.compression(compression);
    }
    builder.bind("127.0.0.1:0", echo).unwrap()
}

fn echo(session: Session) {
    for message in session.iter() {
        if message.as_text() == Some("compression?") {
            session.send(format!("{:?}", session.compression())).unwrap();
        } else if session.send(message).is_err() {
            break;
        }
    }
}

fn connect(
    server: &Server,
    compression: Option<Compression>,
    fragment_size: usize,
) -> (Client, Event) {
    let mut builder = Client::builder(format!("ws://{}", server.local_addr()))
        .heartbeat(Heartbeat::every(ms(10)).dead_after(PATIENCE))
        .limits(Limits::new().fragment(fragment_size));
    if let Some(compression) = compression {
        builder = builder.compression(compression);
    }
    let (builder, watch) = watch(builder);
    let client = builder.connect().unwrap();
    (client, watch.connected())
}

fn messages() -> Vec<Message> {
    let mut messages = Vec::new();
    for length in [0, 1, 127, 128, 200, 1000, 16_384, 70_000, 300_000] {
        messages.push(Message::from("tick κ ".repeat(length / 8)));
        messages.push(Message::from((0..length).map(|n| (n * n % 251) as u8).collect::<Vec<_>>()));
        messages.push(Message::from((0..length).map(|_| fastrand_byte()).collect::<Vec<_>>()));
    }
    messages
}

fn fastrand_byte() -> u8 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) as u8
}

#[test]
fn messages_come_as_they_were_sent_whatever_was_agreed_on() {
    init_log();
    let lean = || Compression::new().no_send_takeover().no_receive_takeover();
    let narrow = || Compression::new().send_window_bits(9).receive_window_bits(10).level(1);
    for (ours, theirs, is_compressed) in [
        (Some(Compression::new()), Some(Compression::new()), true),
        (Some(lean()), Some(Compression::new()), true),
        (Some(Compression::new().threshold(0)), Some(lean().threshold(0)), true),
        (Some(narrow()), Some(narrow()), true),
        (Some(narrow()), Some(lean().level(9)), true),
        (Some(Compression::new()), None, false),
        (None, Some(Compression::new()), false),
    ] {
        let server = echo_server(theirs);
        for fragment_size in [usize::MAX, 1000] {
            let (client, event) = connect(&server, ours.clone(), fragment_size);
            let Event::Connected { compression, .. } = event else { unreachable!() };
            assert_eq!(compression.is_some(), is_compressed);
            client.send("compression?").unwrap();
            let theirs = client.recv_timeout(PATIENCE).unwrap();
            assert_eq!(theirs.as_text().unwrap() != "None", is_compressed, "{theirs:?}");
            let messages = messages();
            for message in &messages {
                client.send(message.clone()).unwrap();
            }
            for message in &messages {
                let echo = client.recv_timeout(PATIENCE).unwrap();
                assert!(
                    echo == *message,
                    "{message:?} came back as {echo:?}, then came {:?}; {:?}",
                    client.recv_timeout(ms(1000)),
                    client.stats()
                );
            }
            assert!(client.close().ended);
        }
    }
}

/// A server of the test's own, which answers the offer with this.
fn answer(listener: &Listener, extensions: &str) -> (TcpStream, String) {
    let mut stream = listener.accept_raw();
    let request = read_head(&mut stream);
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n{extensions}\r\n",
        derive_accept_key(key.as_bytes())
    );
    stream.write_all(response.as_bytes()).unwrap();
    (stream, request)
}

const AGREED: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

#[test]
fn nothing_is_offered_unless_asked_for() {
    let listener = Listener::new();
    let client = listener.client().start().unwrap();
    let (_, request) = answer(&listener, "");
    assert!(!request.to_ascii_lowercase().contains("extensions"), "{request}");
    client.close();
    let client = listener.client().compression(Compression::new()).start().unwrap();
    let (_, request) = answer(&listener, "");
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    assert!(request.contains(offer), "{request}");
    client.close();
}

#[test]
fn a_wrong_answer_fails_the_handshake_with_words() {
    let listener = Listener::new();
    for (answered, word) in [
        ("permessage-bzip2", "permessage-bzip2"),
        ("permessage-deflate; client_max_window_bits=16", "client_max_window_bits"),
        ("permessage-deflate; permessage", "unknown"),
    ] {
        let (builder, watch) = watch(listener.client().compression(Compression::new()));
        let client = builder.start().unwrap();
        let extensions = format!("Sec-WebSocket-Extensions: {answered}\r\n");
        let (_stream, _) = answer(&listener, &extensions);
        let failure = watch.gave_up();
        let Failure::Handshake(HandshakeError::BadUpgrade(text)) = &*failure else {
            panic!("{failure:?}")
        };
        assert!(text.contains(word), "{text}");
        client.close();
    }
}

/// The reason for which the client gives up on a server that sends these bytes.
fn failure_of(listener: &Listener, bytes: &[u8], limit: usize) -> (u16, Arc<Failure>) {
    let (builder, watch) = watch(
        listener.client().compression(Compression::new()).limits(Limits::new().message(limit)),
    );
    let client = builder.start().unwrap();
    let (mut stream, _) = answer(listener, AGREED);
    stream.write_all(bytes).unwrap();
    let failure = watch.disconnected();
    // its close frame, masked
    let mut frame = [0; 8];
    stream.read_exact(&mut frame).unwrap();
    assert_eq!(frame[..2], [0x88, 0x82]);
    let code = u16::from_be_bytes([frame[6] ^ frame[2], frame[7] ^ frame[3]]);
    client.close();
    (code, failure)
}

#[test]
fn a_peer_that_breaks_the_extension_is_told_the_code() {
    const HELLO: [u8; 9] = [0xc1, 7, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let listener = Listener::new();
    for (bytes, expected) in [
        (&[0xc9, 0][..], 1002),
        (&[0x41, 1, 0xf2, 0xc0, 0], 1002),
        (&[0xa1, 0], 1002),
        (&[0xc1, 2, 0xff, 0xff], 1007),
        (&[0xc1, 6, 0x00, 0x01, 0x00, 0xfe, 0xff, 0xff], 1007),
        // 5 bytes where 4 are allowed
        (&HELLO, 1009),
    ] {
        let (code, failure) = failure_of(&listener, bytes, 4);
        assert_eq!(code, expected, "{bytes:x?}: {failure:?}");
        let Failure::Protocol { code, .. } = &*failure else { panic!("{failure:?}") };
        assert_eq!(code.0, expected);
    }
}

#[test]
fn a_client_that_breaks_the_extension_is_told_the_code_and_not_that_the_handler_is_done() {
    let server = echo_server(Some(Compression::new()));
    for _ in 0..200 {
        let mut stream = TcpStream::connect(server.local_addr()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
            server.local_addr()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let response = read_head(&mut stream);
        assert!(response.contains("Sec-WebSocket-Extensions: permessage-deflate\r\n"));
        // a ping that says that it is compressed
        stream.write_all(&[0xc9, 0x80, 0, 0, 0, 0]).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(rest.ends_with(&[0x88, 2, 0x03, 0xea]), "{rest:?}");
    }
}

#[test]
fn a_message_of_the_login_hook_goes_as_it_is() {
    let listener = Listener::new();
    let secret = "secret ".repeat(100);
    let text = secret.clone();
    let client = listener
        .client()
        .compression(Compression::new())
        .login(move |login| login.send(text.as_str()))
        .start()
        .unwrap();
    let (mut stream, _) = answer(&listener, AGREED);
    let mut head = [0; 8];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[..2], [0x81, 0x80 | 126]);
    let mut payload = vec![0; secret.len()];
    stream.read_exact(&mut payload).unwrap();
    client.send(secret.clone()).unwrap();
    stream.read_exact(&mut head[..2]).unwrap();
    assert_eq!(head[0], 0xc1, "and the next one is compressed");
    client.close();
}

#[test]
fn what_a_login_hook_receives_may_be_compressed() {
    let (sender, received) = mpsc::channel();
    let server = Server::builder()
        .compression(Compression::new())
        .bind("127.0.0.1:0", |session| {
            for _ in 0..3 {
                session.send("welcome ".repeat(100)).unwrap();
            }
            let _ = session.recv();
        })
        .unwrap();
    let client = Client::builder(format!("ws://{}", server.local_addr()))
        .compression(Compression::new())
        .login(move |login| Ok(sender.send(login.recv()?)?))
        .connect()
        .unwrap();
    let expected = Message::from("welcome ".repeat(100));
    assert_eq!(received.recv_timeout(PATIENCE).unwrap(), expected);
    // these refer to the one before them
    for _ in 0..2 {
        assert_eq!(client.recv_timeout(PATIENCE).unwrap(), expected);
    }
}

#[test]
fn a_redial_starts_with_empty_contexts() {
    let listener = Listener::new();
    let client = listener.client().compression(Compression::new()).start().unwrap();
    let mut seen = Vec::new();
    for _ in 0..2 {
        let (mut stream, _) = answer(&listener, AGREED);
        client.send("the same ".repeat(100)).unwrap();
        let mut head = [0; 2];
        stream.read_exact(&mut head).unwrap();
        let mut rest = vec![0; 4 + usize::from(head[1] & 0x7f)];
        stream.read_exact(&mut rest).unwrap();
        let (key, payload) = rest.split_at(4);
        let payload: Vec<u8> = payload.iter().zip(key.iter().cycle()).map(|(a, b)| a ^ b).collect();
        seen.push((head[0], payload));
    }
    assert_eq!(seen[0], seen[1]);
    client.close();
}

#[test]
fn the_closure_is_asked_and_its_panic_ends_nothing() {
    let server = echo_server(Some(Compression::new()));
    let asked = Arc::new(AtomicBool::new(false));
    let was_asked = Arc::clone(&asked);
    let compression = Compression::new().only_if(move |_| {
        was_asked.store(true, Ordering::Relaxed);
        panic!("on purpose")
    });
    let (client, _) = connect(&server, Some(compression), usize::MAX);
    let message = Message::from("x".repeat(1000));
    for _ in 0..2 {
        client.send(message.clone()).unwrap();
        assert_eq!(client.recv_timeout(PATIENCE).unwrap(), message);
    }
    assert!(asked.load(Ordering::Relaxed));
    assert_eq!(client.stats().connects, 1);
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let client = |compression| {
        Client::builder("ws://localhost:1").backoff(Backoff::fixed(ms(1))).compression(compression)
    };
    for wrong in [
        Compression::new().level(0),
        Compression::new().level(10),
        Compression::new().send_window_bits(8),
        Compression::new().receive_window_bits(16),
    ] {
        let error = client(wrong.clone()).start().unwrap_err();
        assert!(matches!(error, Error::InvalidSetting { setting: "compression", .. }), "{error}");
        let error = Server::builder().compression(wrong).bind("127.0.0.1:0", drop).unwrap_err();
        assert!(matches!(error, Error::InvalidSetting { setting: "compression", .. }), "{error}");
    }
    let error = Client::builder("tcp://localhost:1")
        .heartbeat(Heartbeat::off())
        .compression(Compression::new())
        .start()
        .unwrap_err();
    assert!(error.to_string().contains("compression"), "{error}");
    let error = Server::builder()
        .framing(Framing::lines())
        .compression(Compression::new())
        .bind("127.0.0.1:0", drop)
        .unwrap_err();
    assert!(error.to_string().contains("no frames"), "{error}");
}

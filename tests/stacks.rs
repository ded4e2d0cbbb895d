//! Code of the program's has a decent stack wherever it runs, and the guide says where that is. Alone in
//! its file: logger and recorder are the whole process's, and a stack that overflows ends it.
#![cfg(feature = "deflate")]

mod support;

use std::collections::BTreeSet;
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::thread;

use everlink::config::{
    Backoff, CodecError, Compression, Delivery, Framing, Heartbeat, Packet, Resume, SendOptions,
    Timeouts,
};
use everlink::{
    Answer, Client, Failure, LoginSession, Message, MessageRef, Server, Session, SessionHandler,
    State,
};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use support::*;

/// What ran where: the role of the thread, and the program's code.
static SEEN: Mutex<BTreeSet<(String, &str)>> = Mutex::new(BTreeSet::new());

/// Notes that it runs, and needs much of the stack that std gives to a thread.
fn runs(code: &'static str) {
    let thread = thread::current();
    let role = thread.name().filter(|name| name.starts_with("everlink-"));
    let Some(role) = role.and_then(|name| name.rsplit('-').next()) else { return };
    if SEEN.lock().unwrap().insert((role.to_owned(), code)) {
        use_stack(100);
    }
}

/// 16 KiB for each level.
fn use_stack(levels: u32) {
    let room = [levels as u8; 16 * 1024];
    if levels > 0 {
        use_stack(levels - 1);
    }
    black_box(&room);
}

struct Noted;

impl log::Log for Noted {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        black_box(record.args().to_string());
        runs("logger");
    }

    fn flush(&self) {}
}

impl Recorder for Noted {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        runs("recorder");
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        runs("recorder");
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// The table of the guide: roles, and the code of the program's that it names for each.
fn table() -> Vec<(&'static str, Vec<&'static str>)> {
    let guide = include_str!("../src/guide/threads.md");
    let (_, table) = guide.split_once("# Whose code runs where").unwrap();
    let (table, _) = table.split_once("\n# ").unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| "));
    rows.skip(2)
        .map(|row| {
            let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
            let code = cells[2].split(", ").map(|code| code.trim_matches('`'));
            (cells[0], code.filter(|code| !code.is_empty()).collect())
        })
        .collect()
}

fn echo(session: Session) {
    runs("the handler");
    let _ = session.join("topic");
    for message in &session {
        if message == "leave" {
            return;
        }
        let _ = session.send(message);
    }
}

/// A client of a server of WebSockets, with every closure that there is.
fn websockets() {
    let server = Server::builder()
        .compression(Compression::new())
        .on_request(|_| {
            runs("on_request");
            Answer::accept()
        })
        .on_dropped(|_, _| runs("on_dropped"))
        .on_presence(|_, _, _| runs("on_presence"))
        .bind("127.0.0.1:0", echo)
        .unwrap();
    let address = server.local_addr();
    let client = Client::builder("ws://server.test")
        .resolver(move |_: &str, _| {
            runs("resolver");
            Ok(vec![address])
        })
        .bearer_auth_with(|| {
            runs("bearer_auth_with");
            Ok("token".into())
        })
        .on_request(|_| {
            runs("on_request");
            Ok(())
        })
        .login(|session: &mut LoginSession<'_>| {
            runs("login");
            session.send("hello")
        })
        .on_event(|_, _| {
            runs("on_event");
            // for so long that somebody says so
            thread::sleep(ms(30));
        })
        .decide(|_, failure: &Failure| {
            runs("decide");
            failure.decision()
        })
        .backoff(Backoff::custom(|_| {
            runs("backoff");
            ms(1)
        }))
        .on_message(|_, _| runs("on_message"))
        .on_dropped(|_, _| runs("on_dropped"))
        .compression(Compression::new().threshold(0).only_if(|_| {
            runs("only_if");
            true
        }))
        .heartbeat(Heartbeat::every(ms(10)).dead_after(PATIENCE).always())
        .start()
        .unwrap();
    for _ in 0..10 {
        client.send_with("late", SendOptions::new().ttl(ms(0))).unwrap();
    }
    client.wait_connected(PATIENCE).unwrap();
    for _ in 0..10 {
        client.send("x".repeat(100_000)).unwrap();
    }
    client.send("leave").unwrap();
    // until it has been back once
    eventually("another link", || {
        let links = client.stats().connects;
        if links > 1 && client.state() == State::Connected { Ok(()) } else { Err(links) }
    });
    everlink::publish_metrics();
    client.close();
    server.shutdown(PATIENCE);
}

fn decode(received: &[u8]) -> Result<Option<Packet>, CodecError> {
    runs("a decoder");
    let end = received.iter().position(|byte| *byte == b'\n');
    Ok(end.map(|end| Packet::new(end + 1).payload(0..end).text()))
}

fn encode(message: &Message, out: &mut Vec<u8>) -> Result<(), CodecError> {
    runs("an encoder");
    out.extend_from_slice(message.as_bytes());
    out.push(b'\n');
    Ok(())
}

/// A link dies before what it has written is confirmed.
fn again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Client::builder(format!("tcp://{}", listener.local_addr().unwrap()))
        .heartbeat(Heartbeat::off())
        .delivery(Delivery::UntilConfirmed)
        .backoff(Backoff::fixed(ms(1)))
        .on_resend(|message| {
            runs("on_resend");
            message.clone()
        })
        .start()
        .unwrap();
    client.send("x").unwrap();
    for _ in 0..2 {
        let mut line = [0; 2];
        listener.accept().unwrap().0.read_exact(&mut line).unwrap();
    }
    client.close();
}

/// A client and a server of lines, which beat with messages.
fn lines() {
    again();
    let beat = || {
        Heartbeat::every(ms(10)).dead_after(PATIENCE).message_with(
            || {
                runs("message_with");
                "beat".into()
            },
            |_: &MessageRef<'_>| {
                runs("is_answer");
                false
            },
        )
    };
    let answers = Heartbeat::listen(PATIENCE).answer_with(|message: &MessageRef<'_>| {
        runs("answer_with");
        (message.as_text() == Some("beat")).then(|| "answer".into())
    });
    let server = Server::builder().framing(Framing::lines()).heartbeat(answers);
    let server = server.bind("127.0.0.1:0", echo).unwrap();
    let address = server.local_addr();
    let client = Client::builder(format!("tcp://{address}"))
        .connector(move |_: &str, _: u16| {
            runs("connector");
            Ok(TcpStream::connect(address)?.into())
        })
        .framing(Framing::custom(|| {
            runs("a codec");
            (decode, encode)
        }))
        .heartbeat(beat())
        .connect()
        .unwrap();
    assert_eq!(client.recv_timeout(PATIENCE).unwrap(), "answer");
    client.close();
    server.shutdown(PATIENCE);
}

/// A server that refuses the second client, and one whose client comes back.
fn places() {
    let server = Server::builder().max_connections(1).bind("127.0.0.1:0", echo).unwrap();
    let first = Client::connect(format!("ws://{}", server.local_addr())).unwrap();
    let mut second = TcpStream::connect(server.local_addr()).unwrap();
    second.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let _ = second.read_to_end(&mut Vec::new());
    first.close();
    server.shutdown(PATIENCE);

    let server = Server::builder()
        .resume(Resume::within(PATIENCE))
        .on_resume(|_, _| {
            runs("on_resume");
            true
        })
        .bind("127.0.0.1:0", echo)
        .unwrap();
    let client = Client::builder(format!("ws://{}", server.local_addr())).resume(Resume::new());
    let client = client.timeouts(Timeouts::new().close(ms(500))).connect().unwrap();
    client.send("one").unwrap();
    assert_eq!(client.recv_timeout(PATIENCE).unwrap(), "one");
    client.reconnect().unwrap();
    eventually("the session goes on", || {
        let resumed = client.stats().resumed;
        if resumed > 0 { Ok(()) } else { Err(resumed) }
    });
    client.close();
    server.shutdown(PATIENCE);
}

struct Attending;

impl SessionHandler for Attending {
    fn on_message(&mut self, session: &Session, message: MessageRef<'_>) {
        runs("on_message");
        let _ = session.send(message.into_owned());
    }

    fn on_close(&mut self, _: &Session, _: &Failure) {
        runs("on_close");
    }
}

/// Servers whose handlers are called for each message.
fn attended() {
    for builder in [Server::builder(), Server::builder().resume(Resume::within(PATIENCE))] {
        let open = |_: &Session| {
            runs("on_open");
            Attending
        };
        let answers = Heartbeat::listen(PATIENCE).answer_with(|_: &MessageRef<'_>| {
            runs("answer_with");
            None
        });
        let server = builder.heartbeat(answers).bind_with_handler("127.0.0.1:0", open).unwrap();
        let client = Client::builder(format!("ws://{}", server.local_addr()));
        let client = client.resume(Resume::new()).connect().unwrap();
        client.send("one").unwrap();
        assert_eq!(client.recv_timeout(PATIENCE).unwrap(), "one");
        client.close();
        server.shutdown(PATIENCE);
    }
}

#[test]
fn code_of_the_program_has_the_stack_of_std_wherever_the_guide_says_that_it_runs() {
    log::set_boxed_logger(Box::new(Noted)).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    assert!(metrics::set_global_recorder(Noted).is_ok());
    websockets();
    lines();
    places();
    attended();
    let (table, seen) = (table(), SEEN.lock().unwrap().clone());
    for (role, code) in &seen {
        let row = table.iter().find(|(named, _)| named == role);
        let (_, named) = row.unwrap_or_else(|| panic!("the guide does not name {role}: {code}"));
        assert!(
            named.contains(code),
            "the guide does not say that {code} runs on {role}: {named:?}"
        );
    }
    let seen_code: BTreeSet<_> = seen.iter().map(|(_, code)| *code).collect();
    for (role, code) in &table {
        let ran = seen.iter().any(|(seen, _)| seen == role);
        assert_eq!(ran, !code.is_empty(), "{role}: {code:?} in {seen:?}");
        for code in code.iter().filter(|code| **code != "connection") {
            assert!(seen_code.contains(code), "{code} was never called: {seen:?}");
        }
    }
}

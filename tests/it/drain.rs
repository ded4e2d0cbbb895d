//! The first phase of a server's end: handlers finish what they are at and answer, and what comes later is nobody's
//! word for anything.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use crate::support::bare::connect as dial;
use crate::support::resumed::resuming_server;
use crate::support::*;
use crossbeam_channel::{Receiver, after, bounded, unbounded};
use everlink::chaos::{Cut, FaultProxy, Faults};
use everlink::config::{Backoff, Delivery, Framing, Heartbeat, Resume, Timeouts};
use everlink::{Answer, CallsInOrder, Client, Error, MessageRef, Server, ServerBuilder, Session};
use tungstenite::Message;

const LOOPBACK: &str = "127.0.0.1:0";

type WebSocket = tungstenite::WebSocket<TcpStream>;

fn open(address: SocketAddr) -> WebSocket {
    tungstenite::client("ws://here/", dial(address)).unwrap().0
}

/// What a client of a server that goes down has seen.
#[derive(Debug, Default)]
struct Seen {
    answers: BTreeSet<u32>,
    /// The last message before a ping that was answered.
    confirmed: Option<u32>,
    close: Option<(u16, String)>,
}

/// Says numbers, each with a ping behind it, until the server says goodbye; `more` is asked before each.
fn chatter(mut socket: WebSocket, mut more: impl FnMut(u32) -> bool) -> Seen {
    let mut seen = Seen::default();
    let mut number = 0;
    while more(number) {
        // the server may have ended the stream
        let ping = Message::Ping(number.to_string().into_bytes().into());
        if socket.send(Message::text(number.to_string())).is_err() || socket.send(ping).is_err() {
            break;
        }
        number += 1;
        // about as many as are answered
        for _ in 0..2 {
            match socket.read() {
                Ok(message) => note(&mut seen, message),
                Err(_) => return seen,
            }
        }
        if seen.close.is_some() {
            break;
        }
    }
    while let Ok(message) = socket.read() {
        note(&mut seen, message);
    }
    seen
}

fn note(seen: &mut Seen, message: Message) {
    match message {
        Message::Text(text) => drop(seen.answers.insert(text.parse().unwrap())),
        Message::Pong(body) => {
            let number = std::str::from_utf8(&body).unwrap().parse().unwrap();
            seen.confirmed = seen.confirmed.max(Some(number));
        }
        Message::Close(frame) => {
            seen.close = frame.map(|frame| (frame.code.into(), frame.reason.to_string()));
        }
        // a sign of life in the place of a pong
        Message::Ping(_) => {}
        other => panic!("{other:?}"),
    }
}

/// What was confirmed was answered, and the goodbye came behind it.
fn check(seen: &Seen) {
    let close = seen.close.as_ref().map(|(code, reason)| (*code, reason.as_str()));
    assert_eq!(close, Some((1001, "server going down")), "{seen:?}");
    if let Some(confirmed) = seen.confirmed {
        let missing: Vec<u32> = (0..=confirmed).filter(|n| !seen.answers.contains(n)).collect();
        assert!(missing.is_empty(), "{missing:?} were confirmed, and not answered: {seen:?}");
    }
}

/// Drains a server of each kind while clients talk to it.
fn drained_under_way(start: impl Fn() -> Server) {
    init_log();
    for round in 0..10 {
        let server = start();
        let talking: Vec<_> = (0..4)
            .map(|_| {
                let socket = open(server.local_addr());
                let (said, heard) = unbounded();
                let chat = thread::spawn(move || {
                    chatter(socket, |number| {
                        let _ = said.send(number);
                        true
                    })
                });
                (heard, chat)
            })
            .collect();
        for (heard, _) in &talking {
            while heard.recv_timeout(PATIENCE).unwrap() < 20 + round {}
        }
        assert_eq!(server.drain(PATIENCE), 0);
        for (_, chat) in talking {
            let seen = chat.join().unwrap();
            check(&seen);
            assert!(seen.answers.len() as u32 >= 20 + round, "{seen:?}");
        }
        assert!(server.shutdown(PATIENCE).drained);
    }
}

#[test]
fn what_was_confirmed_is_answered_by_a_handler_with_a_thread() {
    drained_under_way(|| Server::bind(LOOPBACK, echo_all).unwrap());
}

#[test]
fn what_was_confirmed_is_answered_by_a_handler_with_a_channel() {
    drained_under_way(|| {
        let handler = |session: Session, messages: Receiver<everlink::Message>| {
            for message in messages {
                session.send(message).unwrap();
            }
        };
        Server::builder().bind_with_channel(LOOPBACK, handler).unwrap()
    });
}

#[test]
fn what_was_confirmed_is_answered_by_a_handler_of_messages() {
    drained_under_way(|| {
        let echo = |_: &Session| {
            |session: &Session, message: MessageRef<'_>| {
                session.send(message.into_owned()).unwrap();
            }
        };
        Server::builder().bind_with_handler(LOOPBACK, echo).unwrap()
    });
}

/// A server whose handler takes a message each time that it is told to.
fn gated(builder: ServerBuilder) -> (Server, crossbeam_channel::Sender<()>) {
    init_log();
    let (go, gate) = unbounded();
    let handler = move |session: Session| {
        while gate.recv().is_ok() {
            let Ok(message) = session.recv() else { return };
            session.send(message).unwrap();
        }
    };
    (builder.bind(LOOPBACK, handler).unwrap(), go)
}

/// Until nobody can connect any more.
fn refuses(address: SocketAddr) {
    eventually("it accepts nobody", || match TcpStream::connect(address) {
        Ok(_) => Err("it does"),
        Err(_) => Ok(()),
    });
}

#[test]
fn a_handler_gets_what_has_come_answers_and_finds_the_end() {
    let (server, go) = gated(Server::builder());
    let mut socket = open(server.local_addr());
    for number in 0..5 {
        socket.send(Message::text(number.to_string())).unwrap();
    }
    eventually("all are there", || match server.sessions().first().map(Session::stats) {
        Some(stats) if stats.messages_received == 5 => Ok(()),
        other => Err(other.map(|stats| stats.messages_received)),
    });
    let drained = {
        let handle = server.handle();
        thread::spawn(move || handle.drain(PATIENCE))
    };
    refuses(server.local_addr());
    // its handler is not even at the first yet
    (0..6).for_each(|_| go.send(()).unwrap());
    let seen = chatter(socket, |_| false);
    assert_eq!(seen.answers, (0..5).collect());
    check(&seen);
    assert_eq!(drained.join().unwrap(), 0);
    assert!(server.shutdown(PATIENCE).drained);
}

#[test]
fn who_says_nothing_hears_the_goodbye_at_once() {
    init_log();
    let kinds: [fn() -> Server; 3] = [
        || Server::bind(LOOPBACK, echo_all).unwrap(),
        || {
            let nothing = |_: &Session| |_: &Session, _: MessageRef<'_>| {};
            Server::builder().bind_with_handler(LOOPBACK, nothing).unwrap()
        },
        || resuming_server().bind(LOOPBACK, echo_all).unwrap(),
    ];
    for start in kinds {
        let server = start();
        let sockets: Vec<_> = (0..5).map(|_| open(server.local_addr())).collect();
        let talking: Vec<_> = sockets
            .into_iter()
            .map(|socket| thread::spawn(|| chatter(socket, |_| false)))
            .collect();
        eventually("all are there", || match server.stats().sessions {
            5 => Ok(()),
            other => Err(other),
        });
        let begun = Instant::now();
        assert_eq!(server.drain(PATIENCE), 0);
        assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
        talking.into_iter().for_each(|chat| check(&chat.join().unwrap()));
    }
}

#[test]
fn a_handler_that_is_not_done_in_time_is_counted_and_left_to_the_shutdown() {
    let (server, go) = gated(Server::builder().timeouts(Timeouts::new().close(ms(200))));
    let mut socket = open(server.local_addr());
    socket.send(Message::text("7")).unwrap();
    eventually("it is there", || match server.stats().messages_received {
        1 => Ok(()),
        other => Err(other),
    });
    let begun = Instant::now();
    assert_eq!(server.drain(ms(50)), 1);
    assert!(begun.elapsed() >= ms(50));
    // and it may still answer
    go.send(()).unwrap();
    assert_eq!(next_text(&mut socket), "7");
    let shut_down = thread::spawn(move || server.shutdown(PATIENCE));
    assert_eq!(read_to_end(&mut socket).map(|frame| u16::from(frame.code)), Some(1001));
    drop(go);
    assert!(shut_down.join().unwrap().drained);
}

#[test]
fn a_server_that_is_dropped_after_it_was_drained_is_shut_down() {
    let (server, go) = gated(Server::builder());
    let mut socket = open(server.local_addr());
    eventually("it is there", || match server.stats().sessions {
        1 => Ok(()),
        other => Err(other),
    });
    assert_eq!(server.drain(ms(1)), 1);
    let dropped = thread::spawn(move || drop(server));
    assert_eq!(read_to_end(&mut socket).map(|frame| u16::from(frame.code)), Some(1001));
    drop(go);
    dropped.join().unwrap();
}

#[test]
fn a_handshake_under_way_is_finished_and_hears_the_goodbye() {
    let server = Server::bind(LOOPBACK, echo_all).unwrap();
    let mut stream = dial(server.local_addr());
    let head = "GET / HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    eventually("it is there", || match server.stats().connections {
        1 => Ok(()),
        other => Err(other),
    });
    let handle = server.handle();
    let drained = thread::spawn(move || handle.drain(PATIENCE));
    refuses(server.local_addr());
    stream.write_all(b"\r\n").unwrap();
    let mut all = Vec::new();
    let mut buffer = [0; 1024];
    while !all.windows(4).any(|four| four == [0x88, 0x13, 0x03, 0xe9]) {
        let count = stream.read(&mut buffer).unwrap();
        assert_ne!(count, 0, "{}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&buffer[..count]);
    }
    assert!(all.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&all));
    drop(stream);
    assert_eq!(drained.join().unwrap(), 0);
}

#[test]
fn a_beat_behind_what_was_not_taken_is_not_answered() {
    init_log();
    for round in 0..10 {
        let pong = |message: &MessageRef<'_>| (*message == "PING").then(|| "PONG".into());
        let lines = Server::builder()
            .framing(Framing::lines())
            .heartbeat(Heartbeat::off().answer_with(pong));
        let server = lines.bind(LOOPBACK, echo_all).unwrap();
        let mut stream = dial(server.local_addr());
        let (said, heard) = unbounded();
        let chat = thread::spawn(move || {
            let mut lines =
                BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let (mut answers, mut confirmed) = (0, 0);
            for number in 0.. {
                let _ = said.send(number);
                if stream.write_all(format!("{number}\nPING\n").as_bytes()).is_err() {
                    break;
                }
                for line in lines.by_ref().take(2) {
                    if line == "PONG" { confirmed += 1 } else { answers += 1 }
                }
                if answers <= number {
                    break;
                }
            }
            lines.for_each(|line| if line == "PONG" { confirmed += 1 } else { answers += 1 });
            (answers, confirmed)
        });
        while heard.recv_timeout(PATIENCE).unwrap() < 20 + round {}
        assert_eq!(server.drain(PATIENCE), 0);
        let (answers, confirmed) = chat.join().unwrap();
        assert!(confirmed <= answers, "{confirmed} were confirmed, and {answers} answered");
    }
}

/// Jobs, by who has done them.
type Done = Arc<Mutex<Vec<u32>>>;

fn doing(done: &Done, builder: ServerBuilder, address: SocketAddr) -> Server {
    let done = Arc::clone(done);
    builder
        .bind(address, move |session| {
            for job in &session {
                done.lock().unwrap().push(job.to_string().parse().unwrap());
                // the answer is nobody's business here
                let _ = session.send(job);
            }
        })
        .unwrap()
}

/// Replaces a server again and again while a client gives it jobs, and returns what was done.
fn replaced(server: fn() -> ServerBuilder, resume: bool) -> Vec<u32> {
    const JOBS: u32 = 3000;
    init_log();
    let done = Done::default();
    let mut present = doing(&done, server(), LOOPBACK.parse().unwrap());
    let address = present.local_addr();
    let mut builder = Client::builder(format!("ws://{address}"))
        .backoff(Backoff::fixed(ms(5)))
        .delivery(Delivery::AtLeastOnce)
        .heartbeat(Heartbeat::every(ms(20)));
    if resume {
        builder = builder.resume(Resume::new());
    }
    let client = builder.connect().unwrap();
    let sender = client.sender().clone();
    let sending = thread::spawn(move || {
        for job in 0..JOBS {
            sender.send(job.to_string()).unwrap();
            if job % 50 == 0 {
                thread::yield_now();
            }
        }
    });
    for part in 1..6 {
        eventually("work is done", || match done.lock().unwrap().len() as u32 {
            count if count >= part * 300 => Ok(()),
            count => Err(count),
        });
        assert_eq!(present.drain(PATIENCE), 0);
        assert!(present.shutdown(PATIENCE).drained);
        present = doing(&done, server(), address);
    }
    sending.join().unwrap();
    eventually("all are done", || {
        let done = done.lock().unwrap();
        let all: BTreeSet<u32> = done.iter().copied().collect();
        let missing: Vec<u32> = (0..JOBS).filter(|job| !all.contains(job)).collect();
        if missing.is_empty() { Ok(()) } else { Err(missing) }
    });
    client.close();
    done.lock().unwrap().clone()
}

#[test]
fn no_job_is_lost_when_a_server_is_replaced() {
    replaced(Server::builder, false);
}

#[test]
fn none_is_lost_and_none_done_twice_where_there_are_sessions() {
    let mut done = replaced(resuming_server, true);
    let count = done.len();
    done.sort_unstable();
    done.dedup();
    assert_eq!(done.len(), count, "some were done twice");
}

#[test]
fn a_session_without_a_link_is_not_waited_for_once_its_handler_is_done() {
    init_log();
    let (go, gate) = bounded::<()>(0);
    let handler = move |session: Session| {
        // nobody comes back for an answer, but what has come is there
        assert!(matches!(session.wait_connected(PATIENCE), Err(Error::Closed)));
        assert_eq!(session.recv().unwrap(), "a job");
        assert!(matches!(session.send("done").unwrap_err().error, Error::Closed));
        assert!(matches!(session.recv(), Err(Error::Closed)));
        let _ = gate.recv();
    };
    let server = resuming_server().bind(LOOPBACK, move |session| {
        // until its connection is lost
        while session.is_connected() {
            thread::yield_now();
        }
        handler(session);
    });
    let server = server.unwrap();
    let proxy = FaultProxy::start(server.local_addr()).unwrap();
    let client = Client::builder(format!("ws://{}", proxy.address()))
        .resume(Resume::new())
        .backoff(Backoff::fixed(ms(5)))
        .connect()
        .unwrap();
    client.send("a job").unwrap();
    eventually("it is there", || match server.sessions().first().map(Session::stats) {
        Some(stats) if stats.messages_received == 1 => Ok(()),
        _ => Err(()),
    });
    proxy.set(Faults::none().refuse()).unwrap();
    proxy.cut(Cut::Reset);
    eventually("it waits", || match server.stats().detached {
        1 => Ok(()),
        other => Err(other),
    });
    assert_eq!(server.drain(ms(20)), 1);
    drop(go);
    let begun = Instant::now();
    assert_eq!(server.drain(PATIENCE), 0);
    assert!(begun.elapsed() < PATIENCE / 2);
    let report = server.shutdown(PATIENCE);
    assert_eq!((report.drained, report.detached), (true, 1), "{report:?}");
    drop(client);
}

#[test]
fn who_waits_for_an_answer_waits_no_longer() {
    init_log();
    let (ended, end) = unbounded();
    let handler = move |session: Session| {
        let calls = CallsInOrder::<String>::new();
        let waiting = calls.ask(session.sender(), "are you there?").unwrap();
        ended.send(waiting.wait()).unwrap();
    };
    let server = Server::bind(LOOPBACK, handler).unwrap();
    let mut socket = open(server.local_addr());
    assert_eq!(next_text(&mut socket), "are you there?");
    let handle = server.handle();
    let drained = thread::spawn(move || handle.drain(PATIENCE));
    assert!(end.recv_timeout(PATIENCE).unwrap().is_err());
    check(&chatter(socket, |_| false));
    assert_eq!(drained.join().unwrap(), 0);
}

#[test]
fn a_client_whose_pings_are_not_answered_any_more_waits_for_its_answer() {
    let (server, go) = gated(Server::builder().heartbeat(Heartbeat::off()));
    let (builder, events) = watch(
        Client::builder(format!("ws://{}", server.local_addr()))
            .backoff(Backoff::fixed(PATIENCE))
            .heartbeat(Heartbeat::every(ms(100)).dead_after(ms(300))),
    );
    let client = builder.connect().unwrap();
    client.send("a job").unwrap();
    eventually("it is there", || match server.stats().messages_received {
        1 => Ok(()),
        other => Err(other),
    });
    assert_eq!(server.drain(ms(1)), 1);
    client.send("not taken").unwrap();
    // several times as long as a silence may be
    let _ = after(ms(1000)).recv();
    for _ in 0..2 {
        let _ = go.send(());
    }
    assert_eq!(client.recv_timeout(PATIENCE).unwrap(), "a job");
    let cause = events.disconnected();
    assert_eq!(cause.close_frame().map(|frame| frame.code.0), Some(1001), "{cause}");
}

#[test]
fn a_goodbye_that_is_not_answered_has_its_time_with_a_handler_of_messages_too() {
    init_log();
    let (asked, is_asked) = unbounded();
    let (go, gate) = unbounded::<()>();
    let builder =
        Server::builder().timeouts(Timeouts::new().close(ms(300))).on_request(move |_| {
            let _ = asked.send(());
            let _ = gate.recv();
            Answer::accept()
        });
    let nothing = |_: &Session| |_: &Session, _: MessageRef<'_>| {};
    let server = builder.bind_with_handler(LOOPBACK, nothing).unwrap();
    let address = server.local_addr();
    let silent = thread::spawn(move || open(address));
    is_asked.recv_timeout(PATIENCE).unwrap();
    let handle = server.handle();
    let drained = thread::spawn(move || handle.drain(PATIENCE));
    refuses(address);
    go.send(()).unwrap();
    let _silent = silent.join().unwrap();
    assert_eq!(drained.join().unwrap(), 0);
}

//! The server's side of sessions that survive their connection, against clients made by hand: who
//! may go on with one, for how long, and within which bounds.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::bare::*;
use crate::support::resumed::{keep, resuming_server, text};
use crate::support::*;
use crossbeam_channel::{Receiver, never, unbounded};
use everlink::config::{Resume, SlowSession};
use everlink::{Answer, Error, Failure, Server, ServerBuilder, Session};

/// A client that counts as the protocol says.
struct Bare {
    stream: TcpStream,
    token: String,
    /// What the server says that it has received, if the session goes on.
    has: Option<u64>,
    received: u64,
}

fn request(path: &str, more: &str) -> String {
    let request = REQUEST.replacen("GET / ", &format!("GET {path} "), 1);
    request.replacen("\r\n\r\n", &format!("\r\n{more}\r\n"), 1)
}

fn ask(address: SocketAddr, path: &str, resume: &str) -> (TcpStream, String) {
    let mut stream = connect(address);
    let more = format!("Everlink-Resume: {resume}\r\n");
    stream.write_all(request(path, &more).as_bytes()).unwrap();
    let answer = read_head(&mut stream);
    (stream, answer)
}

/// The value of the header, if it is there.
fn resume_of(answer: &str) -> Option<String> {
    let line = answer.lines().find_map(|line| line.strip_prefix("Everlink-Resume: "));
    line.map(str::to_owned)
}

impl Bare {
    fn of(stream: TcpStream, answer: &str) -> Self {
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        let value = resume_of(answer).expect("a session");
        let mut parts = value.split("; ");
        let token = parts.next().unwrap().to_owned();
        let number = |name: &str| {
            let part = value.split("; ").find_map(|part| part.strip_prefix(name));
            part.map(|digits| digits.parse().unwrap())
        };
        assert!(number("window=").is_some());
        Self { stream, token, has: number("received="), received: 0 }
    }

    /// Begins a session, and lets the server know that it knows.
    fn new(address: SocketAddr) -> Self {
        let (stream, answer) = ask(address, "/", "new");
        let mut client = Self::of(stream, &answer);
        assert_eq!(client.has, None);
        client.report();
        client
    }

    /// Goes on with it, having received so much.
    fn resume(address: SocketAddr, token: &str, received: u64) -> Self {
        let (stream, answer) = ask(address, "/", &format!("{token}; received={received}"));
        let mut client = Self::of(stream, &answer);
        client.received = received;
        client
    }

    fn report(&mut self) {
        let payload = [b"ELR1".as_slice(), &self.received.to_be_bytes()].concat();
        self.stream.write_all(&masked(PONG, &payload)).unwrap();
    }

    fn send(&mut self, text: &str) {
        self.stream.write_all(&masked(TEXT, text.as_bytes())).unwrap();
    }

    /// The next text; pings are answered with a report and a pong.
    fn recv(&mut self) -> String {
        loop {
            match read_frame(&mut self.stream).expect("a frame") {
                (TEXT, payload) => {
                    self.received += 1;
                    return String::from_utf8(payload).unwrap();
                }
                (PING, payload) => {
                    self.report();
                    self.stream.write_all(&masked(PONG, &payload)).unwrap();
                }
                (PONG, _) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Reads to the end; returns the code of the close frame.
    fn close_code(&mut self) -> Option<u16> {
        let (frames, _) = read_frames(&mut self.stream);
        let close = frames.into_iter().find(|(first, _)| *first == CLOSE);
        close.map(|(_, body)| u16::from_be_bytes([body[0], body[1]]))
    }

    fn reset(self) -> (String, u64) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
        (self.token, self.received)
    }
}

fn serve(builder: ServerBuilder) -> (Server, Receiver<Session>) {
    let (sender, sessions) = unbounded();
    let server = builder.bind("127.0.0.1:0", move |session: Session| {
        let _ = sender.send(session.clone());
        keep(&session);
    });
    (server.expect("a port"), sessions)
}

fn next(sessions: &Receiver<Session>) -> Session {
    sessions.recv_timeout(PATIENCE).expect("a session begins")
}

fn detached(session: &Session) {
    eventually("the loss", || if session.is_connected() { Err(()) } else { Ok(()) });
}

fn over(session: &Session) -> std::sync::Arc<Failure> {
    let mut cause = None;
    eventually("the end", || {
        cause = session.failure();
        cause.clone().map(drop).ok_or(())
    });
    eventually("the end of the link", || if session.is_connected() { Err(()) } else { Ok(()) });
    cause.unwrap()
}

#[test]
fn a_client_made_by_hand_goes_on_where_it_was() {
    let (server, sessions) = serve(resuming_server());
    let mut client = Bare::new(server.local_addr());
    let session = next(&sessions);
    for text in ["0", "1", "2"] {
        session.send(text).unwrap();
    }
    assert_eq!(client.recv(), "0");
    client.send("a");
    assert_eq!(text(&session.recv_timeout(PATIENCE).unwrap()), "a");
    let (token, received) = client.reset();
    detached(&session);
    let mut client = Bare::resume(server.local_addr(), &token, received);
    assert_eq!((client.has, &client.token), (Some(1), &token));
    assert_eq!([client.recv(), client.recv()], ["1", "2"]);
    // ends of lines, case and blanks as HTTP has them; what nobody knows yet is passed over
    let (token, received) = client.reset();
    let header = format!("{token};\treceived={received};later=7");
    let (stream, answer) = ask(server.local_addr(), "/", &header);
    assert_eq!(Bare::of(stream, &answer).has, Some(1));
}

#[test]
fn what_is_no_header_begins_no_session() {
    let (server, sessions) = serve(resuming_server());
    let short = "a".repeat(21);
    for wrong in ["", "New", "new, new", &format!("{short}; received=1"), "x;received=1"] {
        let (stream, answer) = ask(server.local_addr(), "/", wrong);
        assert!(answer.starts_with("HTTP/1.1 101"), "{wrong}: {answer}");
        assert_eq!(resume_of(&answer), None, "{wrong}");
        drop((next(&sessions), stream));
    }
    let mut stream = connect(server.local_addr());
    let twice = "Everlink-Resume: new\r\n".repeat(2);
    stream.write_all(request("/", &twice).as_bytes()).unwrap();
    assert_eq!(resume_of(&read_head(&mut stream)), None);
    // nor with a server that offers none
    let (server, _sessions) = serve(Server::builder());
    assert_eq!(resume_of(&ask(server.local_addr(), "/", "new").1), None);
}

#[test]
fn a_claim_that_is_refused_changes_nothing() {
    let builder = resuming_server()
        .on_request(|request| match request.query() {
            Some("denied") => Answer::reject(everlink::http::StatusCode::FORBIDDEN),
            _ => Answer::accept(),
        })
        .on_resume(|request, session| {
            assert!(session.incoming().is_some());
            match request.query() {
                Some("panic") => panic!("a test"),
                query => query != Some("stranger"),
            }
        });
    let (server, sessions) = serve(builder);
    let address = server.local_addr();
    let mut client = Bare::new(address);
    let session = next(&sessions);
    for text in ["0", "1", "2"] {
        session.send(text).unwrap();
        assert_eq!(client.recv(), text);
    }
    client.report();
    eventually("the report", || match session.stats().outbox_messages {
        0 => Ok(()),
        other => Err(Box::new(other)),
    });
    for is_connected in [true, false] {
        let token = client.token.clone();
        for (path, received) in
            [("/other", 3), ("/?stranger", 3), ("/?panic", 3), ("/", 2), ("/", 4), ("/", 999)]
        {
            let (stream, answer) = ask(address, path, &format!("{token}; received={received}"));
            let other = Bare::of(stream, &answer);
            assert_eq!(other.has, None, "{path} {received}");
            assert_ne!(other.token, token);
            drop(next(&sessions));
        }
        let (_, answer) = ask(address, "/?denied", &format!("{token}; received=3"));
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        assert!(session.failure().is_none());
        assert_eq!(session.is_connected(), is_connected);
        if is_connected {
            client.send("still here");
            assert_eq!(text(&session.recv_timeout(PATIENCE).unwrap()), "still here");
            let stream = client.stream.try_clone().unwrap();
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            client.stream.shutdown(std::net::Shutdown::Both).unwrap();
            detached(&session);
        }
    }
    let client = Bare::resume(address, &client.token, 3);
    assert_eq!(client.has, Some(1));
}

#[test]
fn a_token_that_nobody_knows_gets_a_new_session() {
    let (server, sessions) = serve(resuming_server());
    let unknown = "x".repeat(22);
    let client = Bare::resume(server.local_addr(), &unknown, 7);
    assert_eq!(client.has, None);
    assert_ne!(client.token, unknown);
    drop(next(&sessions));
}

#[test]
fn a_report_of_what_was_never_sent_is_a_violation() {
    let (server, sessions) = serve(resuming_server());
    let mut client = Bare::new(server.local_addr());
    let session = next(&sessions);
    client.received = 1;
    client.report();
    assert_eq!(client.close_code(), Some(1002));
    let cause = over(&session);
    assert!(matches!(&*cause, Failure::Protocol { code, .. } if code.0 == 1002), "{cause}");
    let again = Bare::resume(server.local_addr(), &client.token, 0);
    assert_eq!(again.has, None, "a violation ends the session");
}

#[test]
fn a_pong_without_a_report_unmasks_a_gateway() {
    let (server, sessions) = serve(resuming_server());
    let mut client = Bare::new(server.local_addr());
    let session = next(&sessions);
    session.send("0").unwrap();
    // what answers the ping has taken the message, and hands it on to nobody
    let ping = loop {
        match read_frame(&mut client.stream).unwrap() {
            (PING, payload) => break payload,
            (TEXT, _) | (PONG, _) => {}
            other => panic!("{other:?}"),
        }
    };
    client.stream.write_all(&masked(PONG, &ping)).unwrap();
    // it goes on as an ordinary session
    client.send("a");
    assert_eq!(text(&session.recv_timeout(PATIENCE).unwrap()), "a");
    session.send("1").unwrap();
    assert_eq!(client.recv(), "1");
    let (token, received) = client.reset();
    over(&session);
    assert_eq!(Bare::resume(server.local_addr(), &token, received).has, None);
}

#[test]
fn ends_that_are_meant_end_the_session() {
    let (server, sessions) =
        serve(resuming_server().limits(everlink::config::Limits::new().message(100)));
    let address = server.local_addr();
    let begin = || {
        let client = Bare::new(address);
        (client, next(&sessions))
    };
    // the peer's close frame
    let (mut client, session) = begin();
    client.stream.write_all(&masked(CLOSE, &close_body(1001, "bye"))).unwrap();
    assert_eq!(client.close_code(), Some(1001));
    assert!(matches!(&*over(&session), Failure::Closed(Some(_))));
    assert_eq!(Bare::resume(address, &client.token, 0).has, None);
    drop(next(&sessions));
    // a message that is too large: it would come again and again
    let (mut client, session) = begin();
    client.send(&"x".repeat(101));
    assert_eq!(client.close_code(), Some(1009));
    assert!(matches!(&*over(&session), Failure::Protocol { .. }));
    assert_eq!(Bare::resume(address, &client.token, 0).has, None);
    drop(next(&sessions));
    // this side's close
    let (mut client, session) = begin();
    let closing = thread::spawn(move || session.close_with(4000, "enough").map(|()| session));
    let mut code = None;
    while code.is_none() {
        if let (CLOSE, body) = read_frame(&mut client.stream).unwrap() {
            client.stream.write_all(&masked(CLOSE, &body)).unwrap();
            code = Some(u16::from_be_bytes([body[0], body[1]]));
        }
    }
    assert_eq!(code, Some(4000));
    over(&closing.join().unwrap().unwrap());
    assert_eq!(Bare::resume(address, &client.token, 0).has, None);
}

#[test]
fn a_handler_that_panics_ends_the_session() {
    let server = resuming_server().bind("127.0.0.1:0", |session: Session| {
        let _ = session.recv();
        panic!("a test");
    });
    let server = server.unwrap();
    let mut client = Bare::new(server.local_addr());
    client.send("x");
    assert_eq!(client.close_code(), Some(1011));
    assert_eq!(Bare::resume(server.local_addr(), &client.token, 0).has, None);
}

#[test]
fn a_session_waits_for_its_window_and_no_longer() {
    let window = Duration::from_secs(1);
    let (server, sessions) = serve(Server::builder().resume(Resume::within(window)));
    let client = Bare::new(server.local_addr());
    let session = next(&sessions);
    let (token, _) = client.reset();
    detached(&session);
    let begun = Instant::now();
    let cause = over(&session);
    assert!(matches!(&*cause, Failure::NotResumed), "{cause}");
    assert!(begun.elapsed() > window / 2, "{:?}", begun.elapsed());
    assert!(matches!(session.send("x").map_err(Error::from), Err(Error::Closed)));
    assert!(matches!(session.recv(), Err(Error::Closed)));
    assert_eq!(Bare::resume(server.local_addr(), &token, 0).has, None);
    let stats = server.stats();
    assert_eq!((stats.expired, stats.detached, stats.resumed), (1, 0, 0));
}

#[test]
fn who_has_waited_longest_makes_room_for_others() {
    let resume = Resume::within(PATIENCE).sessions(2).bytes(1000);
    let (server, sessions) = serve(Server::builder().resume(resume));
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let client = Bare::new(server.local_addr());
        let session = next(&sessions);
        let (token, _) = client.reset();
        detached(&session);
        eventually("its place", || match server.stats().detached {
            0 => Err(()),
            _ => Ok(()),
        });
        waiting.push((token, session));
    }
    let cause = over(&waiting[0].1);
    assert!(matches!(&*cause, Failure::Evicted), "{cause}");
    assert!(waiting[1].1.failure().is_none());
    // and so does who has too much to be sent, or others do
    waiting[2].1.send("x".repeat(600)).unwrap();
    assert!(waiting[1].1.failure().is_none());
    assert_eq!(server.stats().detached_bytes, 600);
    server.broadcast("x".repeat(300));
    let cause = over(&waiting[1].1);
    assert!(matches!(&*cause, Failure::Evicted), "{cause}");
    eventually("the figures", || match server.stats() {
        stats if (stats.evicted, stats.detached, stats.detached_bytes) == (2, 1, 900) => Ok(()),
        other => Err(Box::new(other)),
    });
    let mut client = Bare::resume(server.local_addr(), &waiting[2].0, 0);
    assert_eq!([client.recv().len(), client.recv().len()], [600, 300], "the broadcast too");
}

fn has_its_place(server: &Server) {
    eventually("its place", || match server.stats().detached {
        1 => Ok(()),
        other => Err(Box::new(other)),
    });
}

#[test]
fn a_session_that_waits_makes_room_for_a_client_that_is_there() {
    let builder = Server::builder().resume(Resume::within(PATIENCE)).memory_limit(1 << 20);
    let (server, sessions) = serve(builder);
    let client = Bare::new(server.local_addr());
    let waiting = next(&sessions);
    client.reset();
    detached(&waiting);
    has_its_place(&server);
    let large = "x".repeat(900 << 10);
    waiting.send(&*large).unwrap();
    let mut client = Bare::new(server.local_addr());
    let session = next(&sessions);
    client.send(&large);
    eventually("the message", || match session.stats() {
        stats if stats.messages_received == 1 => Ok(()),
        other => Err(Box::new(other)),
    });
    assert!(matches!(&*over(&waiting), Failure::Evicted));
    assert!(session.failure().is_none());
    assert_eq!(server.stats().detached_bytes, 0);
}

#[test]
fn a_client_that_closes_is_answered_though_it_confirms_nothing_any_more() {
    for returns_first in [false, true] {
        let server = Server::builder()
            .resume(Resume::within(PATIENCE).unconfirmed(10, 1 << 20))
            .timeouts(everlink::config::Timeouts::new().close(PATIENCE * 10))
            .bind("127.0.0.1:0", move |session| {
                for number in 0..15 {
                    session.send(number.to_string()).unwrap();
                }
                if !returns_first {
                    keep(&session);
                }
            })
            .unwrap();
        let mut client = Bare::new(server.local_addr());
        // it reads nothing yet, so it answers no question
        eventually("ten of them", || {
            let sessions = server.sessions();
            let sent = sessions.first().map(|session| session.stats().messages_sent);
            let has_returned = sessions.first().is_some_and(|one| one.try_send("x").is_err());
            if sent == Some(10) && has_returned == returns_first { Ok(()) } else { Err(sent) }
        });
        client.stream.write_all(&masked(CLOSE, &1000_u16.to_be_bytes())).unwrap();
        assert_eq!(client.close_code(), Some(1000));
    }
}

#[test]
fn no_more_sessions_make_room_than_have_to() {
    let builder = Server::builder().resume(Resume::within(PATIENCE)).memory_limit(1 << 20);
    let (server, sessions) = serve(builder);
    let large = "x".repeat(300 << 10);
    let waiting: Vec<_> = (1..=3)
        .map(|count| {
            let client = Bare::new(server.local_addr());
            let session = next(&sessions);
            let (token, _) = client.reset();
            detached(&session);
            eventually("its place", || match server.stats().detached {
                detached if detached == count => Ok(()),
                other => Err(Box::new(other)),
            });
            session.send(&*large).unwrap();
            (session, token)
        })
        .collect();
    let _client = Bare::new(server.local_addr());
    let there = next(&sessions);
    // its client confirms nothing, so it is kept
    there.send(&*large).unwrap();
    assert!(matches!(&*over(&waiting[0].0), Failure::Evicted));
    for (_, token) in &waiting[1..] {
        assert_eq!(Bare::resume(server.local_addr(), token, 0).has, Some(0));
    }
    assert_eq!(server.stats().evicted, 1);
}

#[test]
fn a_session_that_is_taken_over_takes_nobodys_place() {
    let (server, sessions) = serve(Server::builder().resume(Resume::within(PATIENCE).sessions(1)));
    let client = Bare::new(server.local_addr());
    let waiting = next(&sessions);
    let (token, _) = client.reset();
    detached(&waiting);
    has_its_place(&server);
    let old = Bare::new(server.local_addr());
    let taken_over = next(&sessions);
    let client = Bare::resume(server.local_addr(), &old.token, 0);
    assert_eq!(client.has, Some(0));
    taken_over.wait_connected(PATIENCE).unwrap();
    // nobody was told to end
    assert_eq!(Bare::resume(server.local_addr(), &token, 0).has, Some(0));
    assert_eq!(server.stats().evicted, 0);
}

#[test]
fn of_one_address_no_more_sessions_wait_than_it_may_have_connections() {
    let builder = resuming_server().max_connections_per_address(1);
    let (server, sessions) = serve(builder);
    let first = Bare::new(server.local_addr());
    let waiting = next(&sessions);
    let (token, _) = first.reset();
    detached(&waiting);
    eventually("its place", || match server.stats().connections {
        0 => Ok(()),
        other => Err(Box::new(other)),
    });
    // who waits takes no connection's place, not even its own
    let mut client = Bare::resume(server.local_addr(), &token, 0);
    assert_eq!(client.has, Some(0));
    client.report();
    client.reset();
    detached(&waiting);
    eventually("its place", || match server.stats().connections {
        0 => Ok(()),
        other => Err(Box::new(other)),
    });
    let second = Bare::new(server.local_addr());
    let other = next(&sessions);
    second.reset();
    detached(&other);
    assert!(matches!(&*over(&waiting), Failure::Evicted));
    assert!(other.failure().is_none());
}

#[test]
fn a_slow_session_that_waits_can_be_ended_by_a_broadcast() {
    let builder = resuming_server()
        .outbox(everlink::config::Queue::new().messages(2))
        .slow_session(SlowSession::Disconnect);
    let (server, sessions) = serve(builder);
    let client = Bare::new(server.local_addr());
    let session = next(&sessions);
    client.reset();
    detached(&session);
    assert_eq!([server.broadcast("0"), server.broadcast("1")], [1, 1]);
    assert_eq!(server.broadcast("2"), 0);
    assert!(matches!(&*over(&session), Failure::TooSlow));
}

#[test]
fn a_shutdown_ends_those_that_wait_at_once_and_says_what_they_held() {
    let (server, sessions) = serve(resuming_server());
    let attached = Bare::new(server.local_addr());
    drop(next(&sessions));
    let waiting: Vec<Session> = (0..2)
        .map(|_| {
            let client = Bare::new(server.local_addr());
            let session = next(&sessions);
            client.reset();
            detached(&session);
            session.send("1").unwrap();
            session.send("2").unwrap();
            session
        })
        .collect();
    eventually("both wait", || match server.stats().detached {
        2 => Ok(()),
        other => Err(Box::new(other)),
    });
    let reading = thread::spawn(move || {
        let mut attached = attached;
        let code = loop {
            if let (CLOSE, body) = read_frame(&mut attached.stream).unwrap() {
                attached.stream.write_all(&masked(CLOSE, &body)).unwrap();
                break u16::from_be_bytes([body[0], body[1]]);
            }
        };
        assert_eq!(code, 1001);
    });
    let begun = Instant::now();
    let report = server.shutdown(PATIENCE);
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
    assert_eq!((report.detached, report.detached_messages), (2, 4));
    assert!(report.drained && report.stuck == 0, "{report:?}");
    reading.join().unwrap();
    assert!(waiting.iter().all(|session| session.failure().is_some()));
}

#[test]
fn a_claim_that_cannot_be_served_in_time_is_told_to_come_again() {
    // a predicate of the program's holds the old link up
    let (go, wait) = unbounded::<()>();
    let (inside, entered) = unbounded::<()>();
    let heartbeat = everlink::config::Heartbeat::every(PATIENCE).message("beat", move |message| {
        if message.as_text() == Some("hang") {
            inside.send(()).unwrap();
            let _ = wait.recv();
        }
        false
    });
    let (server, sessions) = serve(
        resuming_server()
            .heartbeat(heartbeat)
            .timeouts(everlink::config::Timeouts::new().handshake(ms(300))),
    );
    let mut client = Bare::new(server.local_addr());
    let session = next(&sessions);
    client.send("hang");
    entered.recv_timeout(PATIENCE).unwrap();
    let (token, _) = client.reset();
    let (_, answer) = ask(server.local_addr(), "/", &format!("{token}; received=0"));
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("Retry-After: 1"), "{answer}");
    drop(go);
    detached(&session);
    let client = Bare::resume(server.local_addr(), &token, 0);
    assert_eq!(client.has, Some(1));
    assert_eq!(text(&session.recv_timeout(PATIENCE).unwrap()), "hang");
}

#[test]
fn many_claims_at_once_end_with_one_link() {
    let (server, sessions) = serve(resuming_server());
    let client = Bare::new(server.local_addr());
    let session = next(&sessions);
    session.send("0").unwrap();
    let (token, address) = (client.token.clone(), server.local_addr());
    let claims: Vec<_> = (0..8)
        .map(|_| {
            let token = token.clone();
            thread::spawn(move || Bare::resume(address, &token, 0))
        })
        .collect();
    let clients: Vec<Bare> = claims.into_iter().map(|claim| claim.join().unwrap()).collect();
    assert!(clients.iter().all(|client| client.has == Some(0)), "each went on with it");
    eventually("one link", || match server.stats() {
        stats if (stats.connections, stats.sessions, stats.resumed) == (1, 1, 8) => Ok(()),
        other => Err(Box::new(other)),
    });
    assert!(session.failure().is_none() && session.is_connected());
    drop(clients);
}

#[test]
fn flapping_costs_neither_memory_nor_threads() {
    if !alone("resume_server::flapping_costs_neither_memory_nor_threads") {
        return;
    }
    let builder = resuming_server().inbox(everlink::config::Queue::new().messages(10));
    let (server, sessions) = serve(builder);
    let mut client = Bare::new(server.local_addr());
    let session = next(&sessions);
    let threads = everlink_threads().len();
    let (mut sent, mut has) = (0_u64, 0);
    for _ in 0..10_000 {
        // again and again what the server has not received
        for number in has..has + 20 {
            client.send(&number.to_string());
            sent = sent.max(number + 1);
        }
        let (token, received) = client.reset();
        client = Bare::resume(server.local_addr(), &token, received);
        has = client.has.unwrap();
    }
    let waiting = session.stats().inbox_messages;
    assert!(waiting <= 200, "{waiting} messages in an inbox for 10");
    eventually("the threads of one session", || match everlink_threads().len() {
        count if count <= threads + 1 => Ok(()),
        other => Err(Box::new(other)),
    });
    let mut row = crate::support::resumed::Row::default();
    row.fill(has, || session.recv_timeout(PATIENCE).unwrap());
    assert!(sent >= has);
}

/// A claim, the end of the window, a close by the program and the shutdown of the server, all at
/// about the same time and in any order: each claim has one answer, what it says is true, every
/// session and every handler ends, and no thread is left.
#[test]
fn a_claim_meets_the_window_the_close_and_the_shutdown() {
    if !alone("resume_server::a_claim_meets_the_window_the_close_and_the_shutdown") {
        return;
    }
    /// What became of the claims.
    static SEEN: [AtomicUsize; 4] = [const { AtomicUsize::new(0) }; 4];
    let count = |what: usize| SEEN[what].fetch_add(1, Relaxed);

    fn claim(address: SocketAddr, session: &Session, client: Bare, wait: Duration) -> usize {
        let (token, received) = client.reset();
        // nothing is waited for but the window itself
        let _ = never::<()>().recv_timeout(wait);
        let mut stream = match TcpStream::connect(address) {
            Ok(stream) => stream,
            // the server is gone
            Err(_) => return 0,
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let more = format!("Everlink-Resume: {token}; received={received}\r\n");
        if stream.write_all(request("/", &more).as_bytes()).is_err() {
            return 0;
        }
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                Ok(_) => return 0,
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "no answer");
                    return 0;
                }
            }
        }
        let answer = String::from_utf8(head).unwrap();
        if answer.starts_with("HTTP/1.1 503") {
            return 1;
        }
        let client = Bare::of(stream, &answer);
        if client.has.is_none() {
            // so the old one is over: it is no more than a matter of time
            over(session);
            return 2;
        }
        // it goes on: what was not received comes first, and in order
        let mut stream = client.stream;
        let _ = stream.write_all(&masked(CLOSE, &1000_u16.to_be_bytes()));
        let (frames, _) = read_frames(&mut stream);
        let texts: Vec<_> = frames.into_iter().filter(|(first, _)| *first == TEXT).collect();
        let expected = (received..).map(|number| number.to_string().into_bytes());
        assert!(texts.iter().map(|(_, text)| text.clone()).eq(expected.take(texts.len())));
        3
    }

    for round in 0..40 {
        let meets_window = round % 10 == 9;
        let returned = Arc::new(AtomicUsize::new(0));
        let (sender, sessions) = unbounded();
        let handlers = Arc::clone(&returned);
        let window = Duration::from_secs(1);
        let patient = everlink::config::Timeouts::new().handshake(2 * PATIENCE);
        let server = Server::builder().resume(Resume::within(window)).timeouts(patient);
        let server = server.bind("127.0.0.1:0", move |session: Session| {
            for number in 0..3 {
                let _ = session.send(number.to_string());
            }
            let _ = sender.send(session.clone());
            while session.recv().is_ok() {}
            handlers.fetch_add(1, Relaxed);
        });
        let server = server.unwrap();
        let address = server.local_addr();
        let all: Vec<(Session, Bare)> = (0..6)
            .map(|_| {
                let mut client = Bare::new(address);
                let session = next(&sessions);
                assert_eq!(client.recv(), "0");
                (session, client)
            })
            .collect();
        let begin = Arc::new(Barrier::new(2 * all.len() + 1));
        let mut threads = Vec::new();
        let mut kept = Vec::new();
        for (session, client) in all {
            kept.push(session.clone());
            let (closing, start) = (session.clone(), Arc::clone(&begin));
            threads.push(thread::spawn(move || {
                start.wait();
                if !meets_window && rand::random() {
                    let _ = closing.close_with(4000, "enough");
                }
            }));
            let start = Arc::clone(&begin);
            let around = window + Duration::from_micros(rand::random_range(0..4000)) - ms(1);
            let wait = if meets_window { around } else { ms(0) };
            threads.push(thread::spawn(move || {
                start.wait();
                count(claim(address, &session, client, wait));
            }));
        }
        begin.wait();
        let begun_at = Instant::now();
        if round % 3 == 0 {
            // or when the claims have been answered
            server.shutdown(PATIENCE);
        }
        for session in &kept {
            over(session);
        }
        let report = server.shutdown(PATIENCE);
        assert_eq!(report.stuck, 0, "{report:?}");
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(begun_at.elapsed() < PATIENCE / 2, "a claim was forgotten, or an end");
        drop(kept);
        let begun = 6 + sessions.len();
        eventually("the end of all handlers", || match returned.load(Relaxed) {
            count if count == begun => Ok(()),
            other => Err(Box::new((other, begun))),
        });
    }
    let seen = SEEN.each_ref().map(|seen| seen.load(Relaxed));
    println!("unanswered, turned away, new, resumed: {seen:?}");
    assert_eq!(seen[1], 0, "somebody waited for an answer as long as there was time");
    assert!(seen[2] > 0 && seen[3] > 0, "not all cases were met: {seen:?}");
    eventually("the threads", || match everlink_threads() {
        threads if threads.is_empty() => Ok(()),
        other => Err(Box::new(other)),
    });
}

//! Sessions whose handler is called for each message, on the reader thread: its state, its order, and all the
//! ways in which it ends.

use std::io::{Read, Write};
use std::net::Shutdown;

use crate::support::bare::*;
use crate::support::resumed::resuming_server;
use crate::support::speaker::{Said, Speaker};
use crate::support::*;
use crossbeam_channel::{Receiver, Sender, unbounded};
use everlink::config::{Framing, Heartbeat, Limits, Queue, Resume};
use everlink::failure::FailureKind;
use everlink::{
    Client, Error, Failure, MessageRef, Server, ServerBuilder, Session, SessionHandler,
};

const LOOPBACK: &str = "127.0.0.1:0";

/// What a handler is told.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Open,
    Message(String),
    Close(FailureKind, u32),
}

/// Notes what it is told, and does what messages say.
struct Noting {
    notes: Sender<Told>,
    messages: u32,
}

impl SessionHandler for Noting {
    fn on_message(&mut self, session: &Session, message: MessageRef<'_>) {
        self.messages += 1;
        let text = message.as_text().unwrap().to_owned();
        let _ = self.notes.send(Told::Message(text.clone()));
        match text.as_str() {
            "close" => session.close_with(4001, "asked").unwrap(),
            "abort" => session.abort(),
            "panic" => panic!("a test"),
            _ => drop(session.send(format!("{} {text}", self.messages))),
        }
    }

    fn on_close(&mut self, session: &Session, cause: &Failure) {
        assert!(!session.is_connected());
        assert_eq!(session.failure().unwrap().kind(), cause.kind());
        let _ = self.notes.send(Told::Close(cause.kind(), self.messages));
    }
}

fn noting(builder: ServerBuilder) -> (Server, Receiver<Told>) {
    init_log();
    let (notes, told) = unbounded();
    let open = move |session: &Session| {
        if session.incoming().is_some_and(|request| request.path() == "/panic") {
            panic!("a test");
        }
        let _ = notes.send(Told::Open);
        Noting { notes: notes.clone(), messages: 0 }
    };
    (builder.bind_with_handler(LOOPBACK, open).unwrap(), told)
}

fn next(told: &Receiver<Told>) -> Told {
    told.recv_timeout(PATIENCE).expect("the handler is told")
}

/// Nobody is told anything any more: every thread of the server's has ended.
fn ends(server: Server, told: &Receiver<Told>) {
    assert!(server.shutdown(PATIENCE).drained);
    assert_eq!(told.try_recv().ok(), None);
}

fn message(text: &str) -> Told {
    Told::Message(text.into())
}

#[test]
fn each_session_has_a_state_of_its_own() {
    let (server, told) = noting(Server::builder());
    let url = format!("ws://{}", server.local_addr());
    let (one, other) = (Client::connect(&url).unwrap(), Client::connect(&url).unwrap());
    for (client, text, answer) in [(&one, "a", "1 a"), (&other, "b", "1 b"), (&one, "c", "2 c")] {
        client.send(text).unwrap();
        assert_eq!(client.recv_timeout(PATIENCE).unwrap(), answer);
    }
    let (opens, rest): (Vec<_>, Vec<_>) = told.iter().take(5).partition(|told| *told == Told::Open);
    assert_eq!((opens.len(), rest), (2, ["a", "b", "c"].map(message).into()));
    assert_eq!(server.stats().messages_received, 3);
    one.close();
    assert_eq!(next(&told), Told::Close(FailureKind::ClosedByPeer, 2));
    server.broadcast("bye");
    assert_eq!(other.recv_timeout(PATIENCE).unwrap(), "bye");
    drop(other);
    assert_eq!(next(&told), Told::Close(FailureKind::ClosedByPeer, 1));
    ends(server, &told);
}

#[test]
fn what_came_before_the_goodbye_is_answered_before_it() {
    let (server, told) = noting(Server::builder());
    let mut stream = open(server.local_addr());
    let all: Vec<u8> = (0..1000).flat_map(|_| masked(TEXT, b"x")).collect();
    stream.write_all(&all).unwrap();
    stream.write_all(&masked(CLOSE, &close_body(4010, "done"))).unwrap();
    let (frames, end) = read_frames(&mut stream);
    assert_eq!(end, End::InOrder);
    assert_eq!(frames.len(), 1001);
    assert_eq!(frames[999], (TEXT, b"1000 x".to_vec()));
    assert_eq!(frames[1000], (CLOSE, close_body(4010, "done")), "its own code is the answer");
    assert_eq!(told.iter().take(1001).filter(|told| *told == message("x")).count(), 1000);
    assert_eq!(next(&told), Told::Close(FailureKind::ClosedByPeer, 1000));
    ends(server, &told);
}

#[test]
fn whatever_ends_the_session_its_handler_is_told_once() {
    let (server, told) = noting(Server::builder().limits(Limits::new().message(1000)));
    let address = server.local_addr();
    let frame = |code: u16, reason: &str| Some((CLOSE, close_body(code, reason)));
    let cases: [(Vec<u8>, _, _); 5] = [
        (masked(TEXT, b"close"), FailureKind::ClosedHere, frame(4001, "asked")),
        (masked(TEXT, b"abort"), FailureKind::ClosedHere, None),
        (masked(TEXT, b"panic"), FailureKind::Program, frame(1011, "")),
        (masked(TEXT, &[b'x'; 1001]), FailureKind::Protocol, frame(1009, "")),
        (vec![0xff; 100], FailureKind::Protocol, frame(1002, "")),
    ];
    for (sent, kind, goodbye) in cases {
        let mut stream = open(address);
        stream.write_all(&sent).unwrap();
        let said = read_frame(&mut stream).ok();
        assert_eq!(said, goodbye, "{kind}");
        if said.is_some() {
            stream.write_all(&masked(CLOSE, &close_body(1000, ""))).unwrap();
        }
        drop(stream);
        assert_eq!(next(&told), Told::Open);
        let last = told.iter().find(|told| matches!(told, Told::Close(..))).unwrap();
        assert!(matches!(last, Told::Close(of, _) if of == kind), "{last:?}, not {kind}");
    }
    // one that has not begun is told nothing
    let (mut stream, _) = crate::support::speaker::upgrade_for(address, "/panic", "none");
    assert_eq!(read_frame(&mut stream).ok(), frame(1011, ""));
    drop(stream);
    eventually("the ends", || match server.stats() {
        stats if stats.sessions == 0 && stats.disconnects.of(FailureKind::Program) == 2 => Ok(()),
        stats => Err(Box::new(stats)),
    });
    // the others are as well as ever, until the server goes
    let mut stream = open(address);
    stream.write_all(&masked(TEXT, b"hello")).unwrap();
    assert_eq!(read_frame(&mut stream).unwrap(), (TEXT, b"1 hello".to_vec()));
    let handle = server.handle();
    let shutdown = std::thread::spawn(move || handle.shutdown(PATIENCE));
    assert_eq!(read_frame(&mut stream).ok(), frame(1001, "server going down"));
    stream.write_all(&masked(CLOSE, &close_body(1001, ""))).unwrap();
    drop(stream);
    assert!(shutdown.join().unwrap().drained);
    assert_eq!([next(&told), next(&told)], [Told::Open, message("hello")]);
    assert_eq!(next(&told), Told::Close(FailureKind::ClosedHere, 1));
    ends(server, &told);
}

#[test]
fn what_a_handler_queued_before_its_panic_goes_out() {
    let (server, told) = noting(Server::builder());
    let mut stream = open(server.local_addr());
    let sent = ["a", "b", "panic", "c"].map(|text| masked(TEXT, text.as_bytes())).concat();
    stream.write_all(&sent).unwrap();
    let frames = [(); 3].map(|()| read_frame(&mut stream).unwrap());
    let close = (CLOSE, close_body(1011, ""));
    assert_eq!(frames, [(TEXT, b"1 a".to_vec()), (TEXT, b"2 b".to_vec()), close]);
    drop(stream);
    assert_eq!(next(&told), Told::Open);
    assert_eq!([next(&told), next(&told), next(&told)], ["a", "b", "panic"].map(message));
    assert_eq!(next(&told), Told::Close(FailureKind::Program, 3));
    ends(server, &told);
}

#[test]
fn on_framed_tcp_a_peer_that_has_ended_its_stream_gets_its_answers() {
    let builder = Server::builder().framing(Framing::lines()).heartbeat(Heartbeat::off());
    let (server, told) = noting(builder);
    let mut stream = connect(server.local_addr());
    stream.write_all(b"a\nb\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert_eq!(said, "1 a\n2 b\n");
    assert_eq!(next(&told), Told::Open);
    assert_eq!([next(&told), next(&told)], ["a", "b"].map(message));
    assert_eq!(next(&told), Told::Close(FailureKind::Lost, 2));
    ends(server, &told);
}

#[test]
fn a_handler_and_its_state_outlive_the_connection() {
    let (server, told) = noting(resuming_server());
    let address = server.local_addr();
    let mut client = Speaker::new(address);
    client.send("a");
    assert_eq!(client.recv(), "1 a");
    let mut kept = client.reset();
    eventually("the loss", || match server.stats().detached {
        1 => Ok(()),
        other => Err(other),
    });
    let mut client = Speaker::resume(address, &mut kept);
    client.send("b");
    assert_eq!(client.recv(), "2 b");
    // and while the old connection is not known to be lost
    let mut kept = client.kept.clone();
    let mut other = Speaker::resume(address, &mut kept);
    other.send("c");
    assert_eq!(other.recv(), "3 c");
    assert_eq!(next(&told), Told::Open);
    assert_eq!([next(&told), next(&told), next(&told)], ["a", "b", "c"].map(message));
    other.say("e 1000");
    assert_eq!(next(&told), Told::Close(FailureKind::ClosedByPeer, 3));
    ends(server, &told);
}

#[test]
fn a_session_that_can_be_resumed_ends_with_its_handler_once_too() {
    let (server, told) = noting(resuming_server().resume(Resume::within(ms(1000))));
    let address = server.local_addr();
    for (sent, kind) in [
        (Some("close"), FailureKind::ClosedHere),
        (Some("abort"), FailureKind::ClosedHere),
        (Some("panic"), FailureKind::Program),
        (None, FailureKind::Lost),
    ] {
        let mut client = Speaker::new(address);
        if let Some(text) = sent {
            client.send(text);
        }
        let end = match sent {
            Some("close") => Some("e 4001 asked"),
            Some("panic") => Some("e 1011"),
            _ => None,
        };
        if let Some(end) = end {
            assert_eq!(client.hear_end(), Said::text(end));
            client.say(end);
        }
        if sent == Some("abort") {
            assert_eq!(client.hear(), Said::End(End::Reset));
        }
        let kept = sent.is_none().then(|| client.reset());
        assert_eq!(next(&told), Told::Open);
        if let Some(text) = sent {
            assert_eq!(next(&told), message(text));
        }
        assert_eq!(next(&told), Told::Close(kind, sent.iter().count() as u32));
        drop(kept);
    }
    ends(server, &told);
}

#[test]
fn a_handler_does_not_wait_for_itself() {
    init_log();
    let (said, heard) = unbounded();
    let server = Server::builder()
        .outbox(Queue::new().messages(2))
        .bind_with_handler(LOOPBACK, move |session: &Session| {
            let _ = said.send(format!("{:?}", session.recv().unwrap_err()));
            assert_eq!(session.iter().count(), 0);
            let said = said.clone();
            move |session: &Session, _: MessageRef<'_>| {
                let full = (0..100_000).map(|_| session.send("x".repeat(10_000)));
                let error = full.filter_map(Result::err).next().unwrap().error;
                let _ = said.send(format!("{error:?}"));
                let error = session.flush(PATIENCE).unwrap_err();
                let _ = said.send(format!("{error:?}"));
                session.close();
                let _ = said.send("closed".into());
            }
        })
        .unwrap();
    let mut stream = open(server.local_addr());
    assert!(heard.recv_timeout(PATIENCE).unwrap().starts_with("WouldWaitForever"));
    stream.write_all(&masked(TEXT, b"go")).unwrap();
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), "Full");
    assert!(heard.recv_timeout(PATIENCE).unwrap().starts_with("WouldWaitForever"));
    assert_eq!(heard.recv_timeout(ms(1000)).unwrap(), "closed");
    drop(stream);
}

#[test]
fn an_inbox_has_no_use_where_a_handler_takes_every_message() {
    let builder = Server::builder().inbox(Queue::new().messages(10));
    let handler = |_: &Session| |_: &Session, _: MessageRef<'_>| {};
    let error = builder.bind_with_handler(LOOPBACK, handler).unwrap_err();
    assert!(matches!(error, Error::InvalidSetting { setting: "inbox", .. }), "{error:?}");
}

#[test]
fn a_session_with_a_handler_costs_three_threads() {
    if !alone("session_handlers::a_session_with_a_handler_costs_three_threads") {
        return;
    }
    const SESSIONS: usize = 100;
    let (server, told) = noting(Server::builder());
    let clients: Vec<_> = (0..SESSIONS).map(|_| open(server.local_addr())).collect();
    for _ in &clients {
        assert_eq!(next(&told), Told::Open);
    }
    // names are cut off by the kernel
    let of = |threads: &[String], role: &str| {
        threads.iter().filter(|name| name.ends_with(&role[..5]) || name.ends_with(role)).count()
    };
    eventually("the threads", || {
        let threads = everlink_threads();
        let counted = [of(&threads, "reader"), of(&threads, "writer"), threads.len()];
        if counted == [SESSIONS, SESSIONS, 3 * SESSIONS + 1] { Ok(()) } else { Err(threads) }
    });
    drop(clients);
    assert!(server.shutdown(PATIENCE).drained);
    assert_eq!(everlink_threads(), [""; 0]);
}

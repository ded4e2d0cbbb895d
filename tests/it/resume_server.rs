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
use crate::support::resumed::{keep, next, resuming_server, serve, text};
use crate::support::speaker::*;
use crate::support::*;
use crossbeam_channel::{never, unbounded};
use everlink::config::{Resume, SlowSession};
use everlink::{Answer, Error, Failure, Server, Session};

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
    let mut client = Speaker::new(server.local_addr());
    assert!(client.answer.ends_with(" received=0 window=30"), "{}", client.answer);
    let session = next(&sessions);
    for text in ["0", "1", "2"] {
        session.send(text).unwrap();
    }
    assert_eq!(client.recv(), "0");
    client.send("a");
    assert_eq!(text(&session.recv_timeout(PATIENCE).unwrap()), "a");
    let mut kept = client.reset();
    detached(&session);
    let mut client = Speaker::resume(server.local_addr(), &mut kept);
    assert_eq!(client.counted, Some(1));
    assert_eq!(client.answer, format!("s {} received=1 window=30", kept.token));
    assert_eq!([client.recv(), client.recv()], ["1", "2"]);
    // what nobody knows yet is passed over, and zeros may lead
    let kept = client.reset();
    let mut client = Speaker::to(server.local_addr());
    client.claim(&format!("s {} attempt=02 received=003 has=3 later=7 x=", kept.token), &kept);
    assert_eq!(client.counted, Some(1));
    client.report();
    session.send("3").unwrap();
    assert_eq!(client.recv(), "3");
}

#[test]
fn what_is_no_subprotocol_of_sessions_begins_no_session() {
    let (server, sessions) = serve(resuming_server());
    for other in
        ["everlink.10", "everlink.2", "everlink.1.", "Everlink.1", "everlink.1.chat", "chat"]
    {
        let (stream, head) = upgrade_for(server.local_addr(), "/", other);
        assert!(head.starts_with("HTTP/1.1 101"), "{other}: {head}");
        assert_eq!(header(&head, "Sec-WebSocket-Protocol"), None, "{other}");
        assert!(next(&sessions).subprotocol().is_none());
        drop(stream);
    }
    // nor with a server that has none
    let (server, sessions) = serve(Server::builder().subprotocols(["chat"]));
    for (offered, chosen) in [("everlink.1", None), ("everlink.1.chat, chat", Some("chat"))] {
        let (stream, head) = upgrade_for(server.local_addr(), "/", offered);
        assert_eq!(header(&head, "Sec-WebSocket-Protocol"), chosen, "{offered}");
        assert_eq!(next(&sessions).subprotocol(), chosen);
        drop(stream);
    }
}

#[test]
fn a_session_has_the_name_of_the_programs_own_subprotocol() {
    let (seen, offers) = unbounded();
    let builder = resuming_server().subprotocols(["chat", "news"]).on_request(move |request| {
        let _ = seen.send(request.subprotocols().map(str::to_owned).collect::<Vec<_>>());
        Answer::accept()
    });
    let (server, sessions) = serve(builder);
    for (offered, chosen, name, shown) in [
        ("everlink.1.chat, chat", "everlink.1.chat", "chat", &["chat"][..]),
        // which of its own the server likes best decides, and then whether there is a session
        ("everlink.1.news, chat", "chat", "chat", &["news", "chat"]),
        ("news, everlink.1.news", "everlink.1.news", "news", &["news"]),
    ] {
        let (stream, head) = upgrade_for(server.local_addr(), "/", offered);
        assert_eq!(header(&head, "Sec-WebSocket-Protocol"), Some(chosen), "{offered}");
        assert_eq!(offers.recv().unwrap(), shown);
        let client = Speaker::over(Carrier::WebSocket, stream);
        let client = if chosen == name { client } else { client.begin() };
        assert_eq!(next(&sessions).subprotocol(), Some(name));
        drop(client);
    }
    // of another name, or of none, it is not to be had
    let client = Speaker::at(server.local_addr(), "/room?key=1", "everlink.1.chat").begin();
    let session = next(&sessions);
    let mut kept = client.reset();
    for (path, subprotocol) in
        [("/room", "everlink.1.news"), ("/room", "everlink.1"), ("/other", "everlink.1.chat")]
    {
        let mut other = Speaker::at(server.local_addr(), path, subprotocol);
        other.claim(&kept.offer(), &kept);
        assert_eq!(other.counted, None, "{path} {subprotocol}");
    }
    assert!(session.failure().is_none());
    // the query is not part of the path: it may carry what is renewed
    let client = Speaker::at(server.local_addr(), "/room?key=2", "everlink.1.chat");
    assert_eq!(client.go_on(&mut kept).counted, Some(0));
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
    let mut client = Speaker::new(address);
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
        let token = client.kept.token.clone();
        for (path, attempt, numbers) in [
            ("/other", 1, "received=3"),
            ("/?stranger", 1, "received=3"),
            ("/", 0, "received=3"),
            ("/", 1, "received=2"),
            ("/", 1, "received=2 has=3"),
            ("/", 1, "received=3 has=2"),
            ("/", 1, "received=3 has=4"),
            ("/", 1, "received=4"),
            ("/", 1, "received=999"),
        ] {
            let mut other = Speaker::at(address, path, "everlink.1");
            other.claim(&format!("s {token} attempt={attempt} {numbers}"), &client.kept);
            assert_eq!(other.counted, None, "{path} {attempt} {numbers}");
            assert_ne!(other.kept.token, token);
        }
        // nobody knows whether it may
        let mut other = Speaker::at(address, "/?panic", "everlink.1");
        other.say(&format!("s {token} attempt=1 received=3"));
        assert_eq!(other.hear(), Said::Close(Some(1013)));
        let (_, head) = upgrade_for(address, "/?denied", "everlink.1");
        assert!(head.starts_with("HTTP/1.1 403"), "{head}");
        assert!(session.failure().is_none());
        assert_eq!(session.is_connected(), is_connected);
        assert!(sessions.is_empty(), "no handler runs for nobody");
        if is_connected {
            client.send("still here");
            assert_eq!(text(&session.recv_timeout(PATIENCE).unwrap()), "still here");
            let socket = client.socket.try_clone().unwrap();
            socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
            client.socket.shutdown(std::net::Shutdown::Both).unwrap();
            detached(&session);
        }
    }
    let client = Speaker::resume(address, &mut client.kept);
    assert_eq!((client.counted, client.kept.attempt), (Some(1), 1));
}

#[test]
fn a_token_that_nobody_knows_gets_a_new_session() {
    let (server, sessions) = serve(resuming_server());
    let mut unknown = Kept { token: "x".repeat(22), attempt: 3, received: 7 };
    let mut client = Speaker::to(server.local_addr());
    client.claim(&unknown.offer(), &unknown);
    assert_eq!(client.counted, None);
    assert_ne!(client.kept.token, unknown.token);
    client.report();
    drop(next(&sessions));
}

#[test]
fn a_gateway_that_answers_pings_confirms_nothing_and_ends_nothing() {
    let heartbeat = everlink::config::Heartbeat::every(ms(10)).dead_after(PATIENCE);
    let (server, sessions) = serve(resuming_server().heartbeat(heartbeat));
    let mut client = Speaker::new(server.local_addr());
    let session = next(&sessions);
    session.send("0").unwrap();
    // these are answered by whoever reads them
    for _ in 0..5 {
        loop {
            match read_frame(&mut client.socket).unwrap() {
                (PING, payload) => break client.write(&masked(PONG, &payload)),
                (TEXT, _) | (PONG, _) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(session.stats().outbox_messages, 1);
    let mut kept = client.reset();
    detached(&session);
    let mut client = Speaker::resume(server.local_addr(), &mut kept);
    assert_eq!(client.recv(), "0");
}

#[test]
fn a_session_waits_for_its_window_and_no_longer() {
    let window = Duration::from_secs(1);
    let (server, sessions) = serve(Server::builder().resume(Resume::within(window)));
    let client = Speaker::new(server.local_addr());
    let session = next(&sessions);
    let mut kept = client.reset();
    detached(&session);
    let begun = Instant::now();
    let cause = over(&session);
    assert!(matches!(&*cause, Failure::NotResumed), "{cause}");
    assert!(begun.elapsed() > window / 2, "{:?}", begun.elapsed());
    assert!(matches!(session.send("x").map_err(Error::from), Err(Error::Closed)));
    assert!(matches!(session.recv(), Err(Error::Closed)));
    assert_eq!(Speaker::resume(server.local_addr(), &mut kept).counted, None);
    let stats = server.stats();
    assert_eq!((stats.expired, stats.detached, stats.resumed), (1, 0, 0));
}

#[test]
fn who_has_waited_longest_makes_room_for_others() {
    let resume = Resume::within(PATIENCE).sessions(2).bytes(1000);
    let (server, sessions) = serve(Server::builder().resume(resume));
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let client = Speaker::new(server.local_addr());
        let session = next(&sessions);
        let kept = client.reset();
        detached(&session);
        eventually("its place", || match server.stats().detached {
            0 => Err(()),
            _ => Ok(()),
        });
        waiting.push((kept, session));
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
    let mut client = Speaker::resume(server.local_addr(), &mut waiting[2].0);
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
    let client = Speaker::new(server.local_addr());
    let waiting = next(&sessions);
    client.reset();
    detached(&waiting);
    has_its_place(&server);
    let large = "x".repeat(900 << 10);
    waiting.send(&*large).unwrap();
    let mut client = Speaker::new(server.local_addr());
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
        let mut client = Speaker::new(server.local_addr());
        // it reads nothing yet, so it answers no question
        eventually("ten of them", || {
            let sessions = server.sessions();
            let sent = sessions.first().map(|session| session.stats().messages_sent);
            let has_returned = sessions.first().is_some_and(|one| one.try_send("x").is_err());
            if sent == Some(10) && has_returned == returns_first { Ok(()) } else { Err(sent) }
        });
        let rest = client.end(1000);
        let end = rest.len() - 4;
        assert_eq!(
            rest[end..end + 3],
            [Said::text("r 0"), Said::text("e 1000"), Said::Close(Some(1000))]
        );
    }
}

#[test]
fn no_more_sessions_make_room_than_have_to() {
    let builder = Server::builder().resume(Resume::within(PATIENCE)).memory_limit(1 << 20);
    let (server, sessions) = serve(builder);
    let large = "x".repeat(300 << 10);
    let waiting: Vec<_> = (1..=3)
        .map(|count| {
            let client = Speaker::new(server.local_addr());
            let session = next(&sessions);
            let kept = client.reset();
            detached(&session);
            eventually("its place", || match server.stats().detached {
                detached if detached == count => Ok(()),
                other => Err(Box::new(other)),
            });
            session.send(&*large).unwrap();
            (session, kept)
        })
        .collect();
    let _client = Speaker::new(server.local_addr());
    let there = next(&sessions);
    // its client confirms nothing, so it is kept
    there.send(&*large).unwrap();
    assert!(matches!(&*over(&waiting[0].0), Failure::Evicted));
    for (_, kept) in &waiting[1..] {
        assert_eq!(Speaker::resume(server.local_addr(), &mut kept.clone()).counted, Some(0));
    }
    assert_eq!(server.stats().evicted, 1);
}

#[test]
fn a_session_that_is_taken_over_takes_nobodys_place() {
    let (server, sessions) = serve(Server::builder().resume(Resume::within(PATIENCE).sessions(1)));
    let client = Speaker::new(server.local_addr());
    let waiting = next(&sessions);
    let mut kept = client.reset();
    detached(&waiting);
    has_its_place(&server);
    let old = Speaker::new(server.local_addr());
    let taken_over = next(&sessions);
    let client = Speaker::resume(server.local_addr(), &mut old.kept.clone());
    assert_eq!(client.counted, Some(0));
    taken_over.wait_connected(PATIENCE).unwrap();
    // nobody was told to end
    assert_eq!(Speaker::resume(server.local_addr(), &mut kept).counted, Some(0));
    assert_eq!(server.stats().evicted, 0);
}

#[test]
fn of_one_address_no_more_sessions_wait_than_it_may_have_connections() {
    let builder = resuming_server().max_connections_per_address(1);
    let (server, sessions) = serve(builder);
    let first = Speaker::new(server.local_addr());
    let waiting = next(&sessions);
    let mut kept = first.reset();
    detached(&waiting);
    eventually("its place", || match server.stats().connections {
        0 => Ok(()),
        other => Err(Box::new(other)),
    });
    // who waits takes no connection's place, not even its own
    let client = Speaker::resume(server.local_addr(), &mut kept);
    assert_eq!(client.counted, Some(0));
    client.reset();
    detached(&waiting);
    eventually("its place", || match server.stats().connections {
        0 => Ok(()),
        other => Err(Box::new(other)),
    });
    let second = Speaker::new(server.local_addr());
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
    let client = Speaker::new(server.local_addr());
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
    let attached = Speaker::new(server.local_addr());
    drop(next(&sessions));
    let waiting: Vec<Session> = (0..2)
        .map(|_| {
            let client = Speaker::new(server.local_addr());
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
        assert_eq!(attached.hear_end(), Said::text("e 1001 server going down"));
        assert_eq!(attached.end(1001)[0], Said::Close(Some(1001)));
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
    let mut client = Speaker::new(server.local_addr());
    let session = next(&sessions);
    client.send("hang");
    entered.recv_timeout(PATIENCE).unwrap();
    let mut kept = client.reset();
    let mut claim = Speaker::to(server.local_addr());
    claim.say(&kept.offer());
    assert_eq!(claim.hear(), Said::Close(Some(1013)));
    drop(go);
    detached(&session);
    let client = Speaker::resume(server.local_addr(), &mut kept);
    assert_eq!(client.counted, Some(1));
    assert_eq!(text(&session.recv_timeout(PATIENCE).unwrap()), "hang");
}

#[test]
fn many_claims_at_once_end_with_one_link() {
    let (server, sessions) = serve(resuming_server());
    let client = Speaker::new(server.local_addr());
    let session = next(&sessions);
    session.send("0").unwrap();
    let (mut kept, address) = (client.kept.clone(), server.local_addr());
    let claims: Vec<_> = (0..8)
        .map(|_| {
            let (offer, kept) = (kept.offer(), kept.clone());
            thread::spawn(move || {
                let mut client = Speaker::to(address);
                client.claim(&offer, &kept);
                client
            })
        })
        .collect();
    let clients: Vec<Speaker> = claims.into_iter().map(|claim| claim.join().unwrap()).collect();
    // each that was not overtaken went on with it, the newest one in any case
    let accepted = clients.iter().filter(|client| client.counted == Some(0)).count() as u64;
    let mut newest = clients.into_iter().max_by_key(|client| client.kept.attempt).unwrap();
    assert_eq!((newest.counted, newest.kept.attempt), (Some(0), 8));
    eventually("one link", || match server.stats() {
        stats if (stats.connections, stats.sessions, stats.resumed) == (1, 1, accepted) => Ok(()),
        other => Err(Box::new(other)),
    });
    assert!(session.failure().is_none() && session.is_connected());
    newest.report();
    assert_eq!(newest.recv(), "0");
    drop(client);
}

#[test]
fn flapping_costs_neither_memory_nor_threads() {
    if !alone("resume_server::flapping_costs_neither_memory_nor_threads") {
        return;
    }
    let builder = resuming_server().inbox(everlink::config::Queue::new().messages(10));
    let (server, sessions) = serve(builder);
    let mut client = Speaker::new(server.local_addr());
    let session = next(&sessions);
    let threads = everlink_threads().len();
    let (mut sent, mut has) = (0_u64, 0);
    for _ in 0..10_000 {
        // again and again what the server has not received
        for number in has..has + 20 {
            client.send(&number.to_string());
            sent = sent.max(number + 1);
        }
        let mut kept = client.reset();
        client = Speaker::resume(server.local_addr(), &mut kept);
        has = client.counted.unwrap();
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

    fn claim(address: SocketAddr, session: &Session, client: Speaker, wait: Duration) -> usize {
        let mut kept = client.reset();
        // nothing is waited for but the window itself
        let _ = never::<()>().recv_timeout(wait);
        let Ok(mut stream) = TcpStream::connect(address) else {
            // the server is gone
            return 0;
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        if stream.write_all(session_request("/", "everlink.1").as_bytes()).is_err() {
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
        let mut client = Speaker::over(Carrier::WebSocket, stream);
        if client.try_say(&kept.offer()).is_err() {
            return 0;
        }
        let answer = match client.hear() {
            Said::Text(answer) => answer,
            Said::Close(Some(1013)) => return 1,
            Said::End(_) => return 0,
            other => panic!("{other:?}"),
        };
        let Some(counted) = answer.strip_prefix(&format!("s {} ", kept.token)) else {
            // so the old one is over: it is no more than a matter of time
            over(session);
            return 2;
        };
        assert!(counted.starts_with("received=0"), "{answer}");
        // it goes on: what was not received comes first, and in order
        let said = client.try_say(&format!("r {}", kept.received));
        let _ = said.and_then(|()| client.try_say("e 1000"));
        let texts = client.rest().into_iter().filter_map(|said| match said {
            Said::Text(text) => text.strip_prefix('m').map(str::to_owned),
            _ => None,
        });
        let texts: Vec<String> = texts.collect();
        let expected = (kept.received..).map(|number| number.to_string());
        assert!(texts.iter().cloned().eq(expected.take(texts.len())), "{texts:?}");
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
        let all: Vec<(Session, Speaker)> = (0..6)
            .map(|_| {
                let mut client = Speaker::new(address);
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

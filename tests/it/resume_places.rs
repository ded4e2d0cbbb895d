//! Sessions and how many there may be: connections, places to wait in, memory.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::bare::*;
use crate::support::resumed::{next, resuming_server, serve};
use crate::support::speaker::*;
use crate::support::*;
use crossbeam_channel::never;
use everlink::config::{Heartbeat, Resume};
use everlink::{Failure, Server, Session};

fn wait(time: Duration) {
    let _ = never::<()>().recv_timeout(time);
}

fn connections(server: &Server, expected: usize) {
    eventually("the connections", || match server.stats().connections {
        count if count == expected => Ok(()),
        other => Err(other),
    });
}

fn detached(server: &Server, expected: usize) {
    eventually("those that wait", || match server.stats().detached {
        count if count == expected => Ok(()),
        other => Err(other),
    });
}

/// A connection from another address of this machine.
fn from(host: u8, address: SocketAddr) -> Speaker {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0)).into()).unwrap();
    socket.connect(&address.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(session_request("/", "everlink.1").as_bytes()).unwrap();
    let head = read_head(&mut stream);
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    Speaker::over(Carrier::WebSocket, stream)
}

/// A stranger, and one with a session's subprotocol: what are they told?
fn strangers(address: SocketAddr) -> (String, Said) {
    let mut plain = connect(address);
    plain.write_all(REQUEST.as_bytes()).unwrap();
    let head = read_head(&mut plain);
    let mut session = Speaker::to(address);
    session.say("s new");
    (head.lines().next().unwrap().to_owned(), session.hear())
}

#[test]
fn a_full_server_lets_its_own_sessions_back_in_at_once() {
    const SESSIONS: usize = 200;
    for builder in [
        resuming_server().max_connections(SESSIONS),
        resuming_server().max_connections_per_address(SESSIONS),
    ] {
        // so that nothing but the claims notices that the old links are dead
        let (server, sessions) = serve(builder.heartbeat(Heartbeat::every(PATIENCE)));
        let address = server.local_addr();
        let old: Vec<Speaker> = (0..SESSIONS).map(|_| Speaker::new(address)).collect();
        let all: Vec<Session> = (0..SESSIONS).map(|_| next(&sessions)).collect();
        let (head, session) = strangers(address);
        assert!(head.starts_with("HTTP/1.1 503"), "{head}");
        assert_eq!(session, Said::Close(Some(1013)));
        // half-open: their clients are gone, and no byte says so
        let begun = Instant::now();
        let claims: Vec<_> = old
            .iter()
            .map(|old| {
                let mut kept = old.kept.clone();
                thread::spawn(move || Speaker::resume(address, &mut kept))
            })
            .collect();
        let back: Vec<Speaker> = claims.into_iter().map(|claim| claim.join().unwrap()).collect();
        assert!(back.iter().all(|link| link.counted == Some(0)));
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        println!("{SESSIONS} back within {:?}", begun.elapsed());
        connections(&server, SESSIONS);
        assert!(all.iter().all(|session| session.failure().is_none()));
        assert!(sessions.is_empty());
        // each has one place, and gives that back
        let (head, session) = strangers(address);
        assert!(head.starts_with("HTTP/1.1 503"), "{head}");
        assert_eq!(session, Said::Close(Some(1013)));
        drop((old, back));
        connections(&server, 0);
        let again: Vec<Speaker> = (0..SESSIONS).map(|_| Speaker::new(address)).collect();
        connections(&server, SESSIONS);
        drop(again);
    }
}

#[test]
fn no_claim_that_is_refused_or_lost_keeps_a_place() {
    let (server, sessions) = serve(resuming_server().max_connections(2));
    let address = server.local_addr();
    let mut links = [(); 2].map(|()| Speaker::new(address));
    for _ in 0..2 {
        next(&sessions);
    }
    for round in 0..50 {
        let [link, _] = &mut links;
        let Kept { token, attempt, .. } = link.kept.clone();
        // each gives up at another moment, or says something that cannot be
        let (stream, head) = upgrade_for(address, "/", "everlink.1");
        if !head.starts_with("HTTP/1.1 101") {
            continue;
        }
        let mut claim = Speaker::over(Carrier::WebSocket, stream);
        match round % 5 {
            0 => {}
            1 => claim.say("s new"),
            2 => claim.say(&format!("s {token} attempt={attempt} received=0")),
            3 => claim.say("nonsense"),
            _ => {
                claim.say(&format!("s {token} attempt={} received=0", attempt + 1));
                link.kept.attempt += 1;
            }
        }
        claim.reset();
    }
    eventually("the same session", || {
        let [link, _] = &mut links;
        let (stream, head) = upgrade_for(address, "/", "everlink.1");
        if !head.starts_with("HTTP/1.1 101") {
            // those before it are beyond the limit, and not all gone
            return Err(Said::Text(head));
        }
        let mut claim = Speaker::over(Carrier::WebSocket, stream);
        claim.say(&link.kept.offer());
        match claim.hear() {
            Said::Text(answer) if answer.contains(&link.kept.token) => {
                claim.kept = link.kept.clone();
                claim.report();
                *link = claim;
                Ok(())
            }
            other => Err(other),
        }
    });
    connections(&server, 2);
    assert!(sessions.is_empty());
    let [first, second] = links;
    first.reset();
    second.reset();
    connections(&server, 0);
    assert_eq!(server.stats().detached, 2);
}

#[test]
fn a_session_that_goes_on_from_another_address_counts_there() {
    let (server, sessions) = serve(resuming_server().max_connections_per_address(1));
    let address = server.local_addr();
    let old = from(1, address).begin();
    let session = next(&sessions);
    let mut kept = old.kept.clone();
    let moved = from(2, address).go_on(&mut kept);
    assert_eq!(moved.counted, Some(0));
    eventually("its address", || match session.peer_addr().ip() {
        ip if ip == Ipv4Addr::new(127, 0, 0, 2) => Ok(()),
        other => Err(other),
    });
    // where it began there is room, and where it is there is none
    let first = from(1, address).begin();
    let other = next(&sessions);
    let mut second = from(2, address);
    second.say("s new");
    assert_eq!(second.hear(), Said::Close(Some(1013)));
    connections(&server, 2);
    // the same while they wait
    moved.reset();
    detached(&server, 1);
    let third = from(2, address).begin();
    next(&sessions);
    third.reset();
    eventually("eviction", || session.failure().map(drop).ok_or(()));
    assert!(matches!(&*session.failure().unwrap(), Failure::Evicted));
    assert!(other.failure().is_none());
    drop(first);
}

#[test]
fn handshakes_that_are_hung_up_evict_nobody_who_has_reported() {
    let (server, sessions) = serve(Server::builder().resume(Resume::within(PATIENCE).sessions(3)));
    let address = server.local_addr();
    let mut waiting: Vec<Kept> = (0..3).map(|_| Speaker::new(address).reset()).collect();
    let all: Vec<Session> = (0..3).map(|_| next(&sessions)).collect();
    detached(&server, 3);
    for round in 0..200 {
        let mut stranger = Speaker::to(address);
        match round % 3 {
            0 => stranger.say("s new"),
            1 => stranger.offer("s new"),
            _ => {
                stranger.offer("s new");
                let mut kept = stranger.reset();
                let mut again = Speaker::to(address);
                again.say(&kept.offer());
                stranger = again;
            }
        }
        stranger.reset();
    }
    connections(&server, 0);
    assert!(all.iter().all(|session| session.failure().is_none()));
    assert!(sessions.is_empty(), "no handler runs for nobody");
    let stats = server.stats();
    assert_eq!((stats.evicted, stats.detached, stats.sessions), (0, 3, 3));
    for kept in &mut waiting {
        assert_eq!(Speaker::resume(address, kept).counted, Some(0));
    }
}

#[test]
fn inboxes_of_sessions_that_wait_count_in_the_bounds() {
    let resume = Resume::within(PATIENCE * 3).bytes(100_000);
    let (server, sessions) = serve(Server::builder().resume(resume));
    let wait_with = |bytes: usize| {
        let mut client = Speaker::new(server.local_addr());
        let session = next(&sessions);
        client.send(&"x".repeat(bytes));
        eventually("the message", || match session.stats().inbox_messages {
            1 => Ok(()),
            other => Err(other),
        });
        session.send("y".repeat(1000)).unwrap();
        (client.reset(), session)
    };
    let first = wait_with(30_000);
    detached(&server, 1);
    eventually("both queues", || match server.stats().detached_bytes {
        31_000 => Ok(()),
        other => Err(other),
    });
    let second = wait_with(40_000);
    detached(&server, 2);
    let third = wait_with(50_000);
    eventually("eviction", || first.1.failure().map(drop).ok_or(()));
    assert!(matches!(&*first.1.failure().unwrap(), Failure::Evicted));
    assert!(second.1.failure().is_none() && third.1.failure().is_none());
    eventually("the rest", || match server.stats().detached_bytes {
        92_000 => Ok(()),
        other => Err(other),
    });
    // what the program is done with counts no more, nor does one that is back
    second.1.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(second.1.try_recv(), Ok(None)));
    eventually("the rest", || match server.stats().detached_bytes {
        52_000 => Ok(()),
        other => Err(other),
    });
    let (mut kept, session) = third;
    assert_eq!(Speaker::resume(server.local_addr(), &mut kept).counted, Some(1));
    session.wait_connected(PATIENCE).unwrap();
    assert!(server.stats().detached_bytes <= 52_000);
}

#[test]
fn a_session_whose_first_report_was_lost_waits_the_whole_window() {
    let window = Duration::from_secs(2);
    let (server, sessions) = serve(Server::builder().resume(Resume::within(window)));
    let address = server.local_addr();
    // of one nobody heard the report, of the other it came, and then the connection was lost
    let mut unheard = Speaker::to(address);
    unheard.offer("s new");
    let mut unheard = unheard.reset();
    let mut heard = Speaker::new(address).reset();
    let session = next(&sessions);
    wait(window * 3 / 4);
    for kept in [&mut unheard, &mut heard] {
        let mut link = Speaker::resume(address, kept);
        assert_eq!(link.counted, Some(0));
        link.send("go on");
        *kept = link.reset();
    }
    let begun = next(&sessions);
    for session in [session, begun] {
        assert_eq!(session.recv_timeout(PATIENCE).unwrap().as_text(), Some("go on"));
    }
    // and no longer
    let mut late = Speaker::to(address);
    late.offer("s new");
    let mut late = late.reset();
    wait(window + window / 4);
    let mut link = Speaker::to(address);
    link.claim(&late.offer(), &late);
    assert_eq!(link.counted, None);
}

#[test]
fn a_token_that_found_no_room_is_not_kept_for_good() {
    let window = Duration::from_secs(1);
    let builder = Server::builder().resume(Resume::within(window)).max_connections(1);
    let (server, sessions) = serve(builder);
    let address = server.local_addr();
    let mut link = Speaker::to(address);
    link.offer("s new");
    let mut kept = link.reset();
    connections(&server, 0);
    let other = Speaker::new(address);
    next(&sessions);
    let mut link = Speaker::to(address);
    link.say(&kept.offer());
    assert_eq!(link.hear(), Said::Close(Some(1013)));
    // it could not be decided, so it waits on, and no longer than that
    wait(window + window / 4);
    other.reset();
    connections(&server, 0);
    let mut link = Speaker::to(address);
    link.claim(&kept.offer(), &kept);
    assert_eq!(link.counted, None);
}

#[test]
fn one_address_cannot_keep_the_sessions_of_another_out_of_a_full_server() {
    let builder = resuming_server().max_connections(8).max_connections_per_address(4);
    let (server, sessions) = serve(builder);
    let address = server.local_addr();
    let mut links: Vec<Speaker> =
        (0..8).map(|index| from(1 + index % 2, address).begin()).collect();
    for _ in 0..8 {
        next(&sessions);
    }
    // connections that say nothing, more than come in
    let mute: Vec<TcpStream> = (0..40)
        .map(|_| {
            let socket =
                socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            let host = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 9), 0));
            socket.bind(&host.into()).unwrap();
            socket.connect(&address.into()).unwrap();
            TcpStream::from(socket)
        })
        .collect();
    // the last of them is accepted by now, and told that it is one too many
    let mut last = mute.last().unwrap().try_clone().unwrap();
    last.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = last.write_all(REQUEST.as_bytes());
    let mut answer = Vec::new();
    let _ = last.read_to_end(&mut answer);
    let mut kept = links.remove(0).kept;
    let link = from(1, address).go_on(&mut kept);
    assert_eq!(link.counted, Some(0));
}

//! One rule for every place where something received is kept: the sum of its bytes is bounded, what inflates
//! counts inflated, and an idle connection gives back what a burst took. Each place meets the peer that is
//! worst for it.
//!
//! What this process has allocated is counted, so the tests run one after the other. What is resident says
//! more of the allocator: it keeps what was freed.
#![cfg(feature = "deflate")]

mod support;

use std::alloc::System;
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use everlink::chaos::{Direction, FaultProxy, Faults};
use everlink::config::{Backoff, Compression, Heartbeat, Limits, Queue, Resume, SocketOptions};
use everlink::{
    CallsInOrder, Client, ClientBuilder, Failure, MessageRef, Sender, Server, ServerBuilder,
    Session,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use support::bare::*;
use support::speaker::*;
use support::*;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const LOOPBACK: &str = "127.0.0.1:0";
const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// What a busy link may hold besides messages: read buffers, an inflater, a batch, memory that is used again.
const BUFFERS: usize = 768 * KIB;

static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is allocated at the moment.
fn in_use() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)
}

/// The most that is allocated beyond what there is now while this is done.
fn peak<T>(act: impl FnOnce() -> T) -> (usize, T) {
    let (before, is_done) = (in_use(), AtomicBool::new(false));
    thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut most = before;
            while !is_done.load(SeqCst) {
                most = most.max(in_use());
                thread::park_timeout(ms(1));
            }
            most.max(in_use()) - before
        });
        let done = act();
        is_done.store(true, SeqCst);
        (watching.join().unwrap(), done)
    })
}

/// A compressed message, as raw deflate without its tail (RFC 7692 section 7.2.1).
fn deflated(message: &[u8]) -> Vec<u8> {
    let mut stream = flate2::Compress::new(flate2::Compression::best(), false);
    let mut out = Vec::with_capacity(message.len() / 100 + 1000);
    stream.compress_vec(message, &mut out, flate2::FlushCompress::Sync).unwrap();
    assert!(out.len() < out.capacity() && out.ends_with(&[0, 0, 0xff, 0xff]));
    out.truncate(out.len() - 4);
    out
}

/// First byte and payload of what the worst peers repeat; no message of theirs is over 1 MiB.
fn worst() -> Vec<(&'static str, u8, Vec<u8>)> {
    worst_behind("")
}

/// The same, each behind the letter of a session.
fn worst_behind(letter: &str) -> Vec<(&'static str, u8, Vec<u8>)> {
    const COMPRESSED: u8 = 0xc2;
    let message = |rest: Vec<u8>| [letter.as_bytes(), &rest].concat();
    let zeros = |count: usize| message(vec![0; count]);
    vec![
        ("1 MiB, inflated", COMPRESSED, deflated(&zeros(MIB))),
        ("63 KiB, inflated", COMPRESSED, deflated(&zeros(63 * KIB))),
        ("16 KiB, inflated", COMPRESSED, deflated(&zeros(16 * KIB))),
        ("1 MiB", BINARY, zeros(MIB)),
        ("256 KiB", BINARY, zeros(256 * KIB)),
        ("1025 bytes", BINARY, zeros(1025)),
        ("41 bytes", TEXT, message(vec![b'x'; 41])),
        ("nothing", TEXT, message(Vec::new())),
    ]
}

/// A frame, as often as makes 256 KiB.
fn chunk(frame: &[u8]) -> Vec<u8> {
    frame.repeat((256 * KIB).div_ceil(frame.len()))
}

/// Writes this again and again until the other end takes no more, or so many bytes of it.
fn flood(stream: &mut TcpStream, chunk: &[u8], most: usize) {
    stream.set_write_timeout(Some(ms(100))).unwrap();
    let mut left = most;
    while left > 0 && stream.write_all(chunk).is_ok() {
        left = left.saturating_sub(chunk.len());
    }
}

/// Opens a WebSocket on which messages may be compressed.
fn open_compressed(server: &Server) -> TcpStream {
    let mut stream = connect(server.local_addr());
    // with context takeover a stream lives as long as the link
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; \
                 server_no_context_takeover\r\n\r\n";
    stream.write_all(REQUEST.trim_end().as_bytes()).unwrap();
    stream.write_all(format!("\r\n{offer}").as_bytes()).unwrap();
    let answer = read_head(&mut stream);
    assert!(answer.contains("permessage-deflate"), "{answer}");
    stream
}

/// Accepts a client that offers compression.
fn upgrade_compressed(listener: &Listener) -> TcpStream {
    let mut stream = listener.accept_raw();
    let request = read_head(&mut stream);
    let extension = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n";
    let answer = upgraded(&request).replacen("\r\n", &format!("\r\n{extension}"), 1);
    stream.write_all(answer.as_bytes()).unwrap();
    stream
}

/// A server whose handlers do not receive until what is returned is dropped.
fn busy_server(
    builder: ServerBuilder,
    has_channel: bool,
) -> (Server, crossbeam_channel::Sender<()>) {
    let (hold, held) = crossbeam_channel::bounded::<()>(0);
    let builder = builder.compression(Compression::new());
    let hold_up = move |session: Session| {
        let _ = held.recv();
        session.abort();
    };
    let server = if has_channel {
        builder.bind_with_channel(LOOPBACK, move |session, _| hold_up(session))
    } else {
        builder.bind(LOOPBACK, hold_up)
    };
    let server = server.unwrap();
    (server, hold)
}

#[test]
fn sessions_whose_handlers_do_not_receive_stay_within_the_memory_limit() {
    const SESSIONS: usize = 6;
    const LIMIT: usize = 4 * MIB;
    let _alone = alone();
    for (name, first, payload) in worst() {
        for has_channel in [false, true] {
            let builder = Server::builder().memory_limit(LIMIT);
            let (server, hold) = busy_server(builder, has_channel);
            let mut peers: Vec<TcpStream> =
                (0..SESSIONS).map(|_| open_compressed(&server)).collect();
            let frames = chunk(&masked(first, &payload));
            let (grown, ()) = peak(|| {
                thread::scope(|scope| {
                    for peer in &mut peers {
                        scope.spawn(|| flood(peer, &frames, 8 * MIB));
                    }
                });
            });
            let most = LIMIT + SESSIONS * BUFFERS;
            assert!(
                grown < most,
                "{name}, channel {has_channel}: {} KiB, {} are the most",
                grown / KIB,
                most / KIB
            );
            drop((hold, peers, server));
        }
    }
}

#[test]
fn a_session_whose_handler_does_not_receive_holds_an_inbox_and_two_messages() {
    let _alone = alone();
    for (name, first, payload) in worst() {
        for has_channel in [false, true] {
            let (server, hold) = busy_server(Server::builder(), has_channel);
            let mut peer = open_compressed(&server);
            let frames = chunk(&masked(first, &payload));
            let (grown, ()) = peak(|| flood(&mut peer, &frames, 32 * MIB));
            // an unfinished message, 1 MiB and one message; one more in the channel
            let most = (3 + usize::from(has_channel)) * MIB + BUFFERS;
            assert!(grown < most, "{name}, channel {has_channel}: {} KiB", grown / KIB);
            drop((hold, peer, server));
        }
    }
}

/// How a client receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Mailbox,
    Channel,
    Handler,
}

#[test]
fn a_client_that_does_not_receive_holds_an_inbox_and_two_messages() {
    let _alone = alone();
    for (name, first, payload) in worst() {
        for mode in [Mode::Mailbox, Mode::Channel, Mode::Handler] {
            let listener = Listener::new();
            let (hold, held) = crossbeam_channel::bounded::<()>(0);
            let builder = listener.client().compression(Compression::new());
            let client = match mode {
                Mode::Mailbox => builder.start(),
                Mode::Channel => builder.start_with_channel().map(|(client, _)| client),
                Mode::Handler => {
                    let hold_up = move |_: &Sender, _: MessageRef<'_>| {
                        let _ = held.recv();
                    };
                    builder.on_message(hold_up).start()
                }
            };
            let client = client.unwrap();
            let mut peer = upgrade_compressed(&listener);
            let frames = chunk(&frame(first, &payload));
            let (grown, ()) = peak(|| flood(&mut peer, &frames, 32 * MIB));
            let most = (3 + usize::from(mode == Mode::Channel)) * MIB + BUFFERS;
            assert!(grown < most, "{name}, {mode:?}: {} KiB", grown / KIB);
            drop(hold);
            client.start_close(1000, "").unwrap();
            drop((peer, client));
        }
    }
}

/// A client whose login waits for an answer.
fn logging_in(listener: &Listener) -> ClientBuilder {
    listener.client().compression(Compression::new()).backoff(Backoff::fixed(ms(1))).login(
        |session| {
            session.recv_matching(|message| message.as_text() == Some("ok"))?;
            Ok(())
        },
    )
}

#[test]
fn a_login_that_is_flooded_fails_when_it_has_kept_what_an_inbox_holds() {
    let _alone = alone();
    for (name, first, payload) in worst() {
        let listener = Listener::new();
        let (builder, events) = watch(logging_in(&listener));
        let client = builder.start().unwrap();
        let mut peer = upgrade_compressed(&listener);
        let frames = chunk(&frame(first, &payload));
        let (grown, cause) = peak(|| {
            flood(&mut peer, &frames, 64 * MIB);
            events.attempt_failed()
        });
        assert!(grown < 2 * MIB + MIB + BUFFERS, "{name}: {} KiB", grown / KIB);
        assert!(matches!(*cause, Failure::Login { decision: None, .. }), "{name}: {cause:?}");
        let words = cause.to_string();
        assert!(words.contains("4096 messages and 1048576 bytes"), "{name}: {words}");
        drop(client);
    }
}

#[test]
fn a_hook_that_keeps_too_much_has_not_logged_in_whatever_it_returns() {
    let _alone = alone();
    let listener = Listener::new();
    let builder = listener.client().inbox(Queue::new().messages(3)).login(|session| {
        for _ in 0..4 {
            let message = session.recv()?;
            session.keep(message);
        }
        Ok(())
    });
    let (builder, events) = watch(builder.backoff(Backoff::fixed(ms(1))));
    let client = builder.start().unwrap();
    let mut peer = upgrade(&listener);
    peer.write_all(&frame(TEXT, b"a").repeat(4)).unwrap();
    let words = events.attempt_failed().to_string();
    assert!(words.contains("3 messages"), "{words}");
    drop(client);
}

#[test]
fn what_logins_keep_is_bounded_over_all_links_of_a_client_that_does_not_receive() {
    let _alone = alone();
    for resumes in [false, true] {
        let listener = Listener::new();
        let builder = logging_in(&listener);
        let builder = if resumes { builder.resume(Resume::new()) } else { builder };
        // a reader that waits for the program does not see the end of the stream
        let (builder, events) =
            watch(builder.heartbeat(Heartbeat::every(ms(20)).dead_after(PATIENCE)));
        let client = builder.start().unwrap();
        let letter = if resumes { "m" } else { "" };
        let large = [letter.as_bytes(), &vec![0; 255 * KIB]].concat();
        let last = format!("{letter}ok");
        let kept = [frame(BINARY, &large).repeat(4), frame(TEXT, last.as_bytes())].concat();
        let (grown, ()) = peak(|| {
            for link in 0..12 {
                let mut peer = listener.accept_raw();
                let request = read_head(&mut peer);
                let mut answer = upgraded(&request);
                if resumes {
                    let line = "\r\nSec-WebSocket-Protocol: everlink.1\r\n";
                    answer = answer.replacen("\r\n", line, 1);
                }
                peer.write_all(answer.as_bytes()).unwrap();
                if resumes {
                    // another session each time
                    read_frame(&mut peer).unwrap();
                    let answer = format!("s {:032x} received=0", link + 1);
                    peer.write_all(&frame(TEXT, answer.as_bytes())).unwrap();
                    assert_eq!(read_frame(&mut peer), Ok((TEXT, b"r 0".to_vec())));
                }
                peer.write_all(&kept).unwrap();
                events.connected();
            }
        });
        assert!(grown < 3 * MIB + BUFFERS, "resumes {resumes}: {} KiB", grown / KIB);
        let dropped = client.stats().inbox_dropped;
        assert!(dropped > 30, "{dropped} of 48 are lost with their links, and counted");
        drop(client);
    }
}

#[test]
fn an_idle_session_holds_little_after_any_burst() {
    const SESSIONS: usize = 8;
    let _alone = alone();
    let mut bursts = worst();
    bursts.push(("many small, then a large one", 0, Vec::new()));
    for (name, first, payload) in bursts {
        let server = Server::builder()
            // without a beat that would have anybody look
            .heartbeat(Heartbeat::off())
            .compression(Compression::new())
            .bind(LOOPBACK, echo_all)
            .unwrap();
        let mut peers: Vec<TcpStream> = (0..SESSIONS).map(|_| open_compressed(&server)).collect();
        let (burst, answers) = match first {
            0 => ([masked(TEXT, b"").repeat(5000), masked(BINARY, &vec![7; MIB])].concat(), 5001),
            TEXT => (masked(TEXT, &payload).repeat(2000), 2000),
            first => (masked(first, &payload).repeat(4), 4),
        };
        eventually("all sessions", || {
            let now = server.stats().sessions;
            if now == SESSIONS { Ok(()) } else { Err(now) }
        });
        let before = in_use();
        for peer in &mut peers {
            let mut writing = peer.try_clone().unwrap();
            thread::scope(|scope| {
                scope.spawn(|| writing.write_all(&burst).unwrap());
                for _ in 0..answers {
                    while matches!(read_frame(peer).unwrap().0, PING | PONG) {}
                }
            });
        }
        eventually(name, || {
            let each = in_use().saturating_sub(before) / SESSIONS / KIB;
            if each < 16 { Ok(()) } else { Err(each) }
        });
    }
}

/// A message to many who compress it alike: one of them does, and what comes of it is all that is held.
#[test]
fn what_is_published_to_many_is_compressed_and_held_once() {
    const MEMBERS: usize = 20;
    let _alone = alone();
    let server = Server::builder()
        .limits(Limits::new().message(8 * MIB))
        .socket(SocketOptions::new().send_buffer(4096))
        .compression(Compression::new())
        .bind(LOOPBACK, |session| {
            session.join("feed").unwrap();
            session.iter().for_each(drop);
        })
        .unwrap();
    let mut peers: Vec<TcpStream> = (0..MEMBERS).map(|_| open_compressed(&server)).collect();
    eventually("all members", || match server.members("feed").len() {
        MEMBERS => Ok(()),
        count => Err(count),
    });
    // half of it is left when it is compressed
    let message: Vec<u8> = (0..4 * MIB).map(|_| rand::random::<u8>() & 0x0f).collect();
    let (grown, ()) = peak(|| {
        assert_eq!(server.publish("feed", message), MEMBERS);
        // who has the first bytes was encoded for
        for peer in &mut peers {
            let mut header = [0; 2];
            read_all(peer, &mut header).unwrap();
            assert_eq!(header, [0xc2, 127], "compressed, and long");
        }
    });
    // each with a copy of its own would be 40 MiB
    assert!(grown < 12 * MIB, "{} KiB", grown / KIB);
}

#[test]
fn topics_that_nobody_is_in_any_more_take_no_memory() {
    const TOPICS: usize = 5000;
    let _alone = alone();
    let (sender, sessions) = crossbeam_channel::bounded(1);
    let server = Server::builder()
        .max_topics(TOPICS)
        .on_presence(|_, _, _| {})
        .heartbeat(Heartbeat::every(ms(300)).dead_after(PATIENCE))
        .bind(LOOPBACK, move |session| {
            let _ = sender.send(session.clone());
            session.iter().for_each(drop);
        })
        .unwrap();
    let _peer = open(server.local_addr());
    let session = sessions.recv_timeout(PATIENCE).unwrap();
    let names: Vec<String> = (0..TOPICS).map(|number| format!("{number:0>200}")).collect();
    let before = in_use();
    for name in &names {
        assert!(session.join(name).unwrap());
        // takes a snapshot of its members
        server.publish(name, "");
    }
    assert!(in_use() > before + TOPICS * 200, "each name once");
    let most = (in_use() - before) / TOPICS;
    assert!(most < 700, "{most} bytes for a topic with a member and a name of 200 bytes");
    names.iter().for_each(|name| assert!(session.leave(name)));
    eventually("what was queued to be gone, too", || {
        let left = in_use().saturating_sub(before);
        if left < 32 * KIB { Ok(()) } else { Err(left) }
    });
}

#[test]
fn memory_that_comes_back_late_is_not_kept_by_an_idle_session() {
    let _alone = alone();
    let (messages, received) = crossbeam_channel::unbounded();
    let server = Server::builder()
        .heartbeat(Heartbeat::every(ms(300)).dead_after(PATIENCE))
        .bind(LOOPBACK, move |session: Session| {
            for message in &session {
                let _ = messages.send(message);
            }
        })
        .unwrap();
    let mut peer = open(server.local_addr());
    let before = in_use();
    // one at a time, so that each has a block, or a buffer, of its own
    let mut held = Vec::new();
    for size in [[100; 64].as_slice(), &[200 * KIB; 8]].concat() {
        peer.write_all(&masked(BINARY, &vec![7; size])).unwrap();
        held.push(received.recv_timeout(PATIENCE).unwrap());
    }
    eventually("buffers that are given back", || {
        let besides = in_use().saturating_sub(before + 64 * 4 * KIB + 8 * 200 * KIB);
        if besides < 64 * KIB { Ok(()) } else { Err(besides) }
    });
    drop(held);
    let left = in_use().saturating_sub(before);
    assert!(left < 64 * KIB, "{} KiB", left / KIB);
}

#[test]
fn a_session_that_is_claimed_again_and_again_gets_no_more_into_its_inbox() {
    let _alone = alone();
    for (name, first, payload) in worst_behind("m") {
        let (server, hold) = busy_server(Server::builder().resume(Resume::within(PATIENCE)), false);
        let frames = chunk(&masked(first, &payload));
        let mut kept: Option<Kept> = None;
        let (grown, ()) = peak(|| {
            for _ in 0..6 {
                let mut peer = connect(server.local_addr());
                let extension = "\r\nSec-WebSocket-Extensions: permessage-deflate; \
                                 client_no_context_takeover\r\n\r\n";
                let request = session_request("/", "everlink.1");
                peer.write_all(request.trim_end().as_bytes()).unwrap();
                peer.write_all(extension.as_bytes()).unwrap();
                let answer = read_head(&mut peer);
                assert!(answer.contains("permessage-deflate"), "{answer}");
                let link = Speaker::over(Carrier::WebSocket, peer.try_clone().unwrap());
                let link = match &mut kept {
                    None => link.begin(),
                    Some(kept) => link.go_on(kept),
                };
                assert_eq!(link.counted.is_some(), kept.is_some(), "{}", link.answer);
                kept.get_or_insert(link.kept.clone());
                flood(&mut peer, &frames, 32 * MIB);
            }
        });
        assert_eq!(server.stats().sessions, 1, "{name}");
        // as one link, and what each had read when it died
        assert!(grown < 4 * MIB + BUFFERS, "{name}: {} KiB", grown / KIB);
        drop((hold, server));
    }
}

#[test]
fn a_proxy_that_forwards_nothing_holds_nothing() {
    let _alone = alone();
    let listener = Listener::new();
    let proxy = FaultProxy::start(listener.address()).unwrap();
    for faults in [Faults::none().stall(Direction::Both), Faults::none().delay(PATIENCE)] {
        proxy.set(faults).unwrap();
        let mut client = connect(proxy.address());
        let mut server = listener.accept_raw();
        let bytes = vec![7; MIB];
        let (grown, ()) = peak(|| {
            flood(&mut client, &bytes, 256 * MIB);
            flood(&mut server, &bytes, 256 * MIB);
        });
        assert!(grown < 128 * KIB, "{} KiB", grown / KIB);
    }
}

#[test]
fn a_client_that_does_not_receive_gets_no_more_with_each_link() {
    let _alone = alone();
    for (name, first, payload) in worst() {
        let listener = Listener::new();
        let (builder, events) = watch(
            listener
                .client()
                .compression(Compression::new())
                .heartbeat(Heartbeat::every(ms(20)).dead_after(PATIENCE))
                .backoff(Backoff::fixed(ms(1))),
        );
        let client = builder.start().unwrap();
        let frames = chunk(&frame(first, &payload));
        let (grown, ()) = peak(|| {
            for _ in 0..12 {
                let mut peer = upgrade_compressed(&listener);
                events.connected();
                flood(&mut peer, &frames, 32 * MIB);
            }
        });
        // an inbox, and what the first link had read when it died
        assert!(grown < 3 * MIB + BUFFERS, "{name}: {} KiB", grown / KIB);
        drop((listener, client));
    }
}

#[test]
fn tokens_that_nobody_has_reported_on_hold_little() {
    let _alone = alone();
    let server = Server::builder()
        .resume(Resume::within(PATIENCE))
        .max_connections(500)
        .bind(LOOPBACK, |_| panic!("no handler runs for nobody"))
        .unwrap();
    let path = format!("/{}", "x".repeat(30 * KIB));
    let before = in_use();
    let (grown, ()) = peak(|| {
        for _ in 0..10_000 {
            let mut stranger = Speaker::at(server.local_addr(), &path, "everlink.1");
            stranger.offer("s new");
            stranger.reset();
        }
    });
    eventually("their ends", || match server.stats().connections {
        0 => Ok(()),
        other => Err(other),
    });
    let left = in_use().saturating_sub(before);
    assert!(left < 512 * KIB, "{} KiB for 500 of them", left / KIB);
    assert!(grown < 4 * MIB + BUFFERS, "{} KiB meanwhile", grown / KIB);
}

#[test]
fn questions_that_are_given_up_unwritten_leave_nothing_in_their_order() {
    let _alone = alone();
    let client = Client::builder("ws://127.0.0.1:1").start().unwrap();
    let calls = CallsInOrder::<String>::new();
    let before = in_use();
    for _ in 0..20_000 {
        drop(calls.ask(client.sender(), "?").unwrap());
    }
    let held = in_use().saturating_sub(before);
    assert!(held < 64 * KIB, "{held} bytes");
}

//! What hostile peers cost: memory for what they have sent, never for what they announce.
//!
//! The tests measure this process, so they run one after the other.
#![cfg(target_os = "linux")]

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use everlink::config::{Framing, Heartbeat, Limits, Prefix, Timeouts};
use everlink::{Client, Message, Server, ServerBuilder};
use support::bare::*;
use support::*;

const LOOPBACK: &str = "127.0.0.1:0";
const MIB: u64 = 1 << 20;

static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn roomy() -> ServerBuilder {
    Server::builder().limits(Limits::new().message(64 << 20))
}

fn sessions(server: &Server, count: usize) {
    eventually("all sessions", || {
        let now = server.stats().sessions;
        if now == count { Ok(()) } else { Err(now) }
    });
}

#[test]
fn a_length_that_is_only_announced_costs_nothing() {
    let _alone = alone();
    let server = roomy().max_connections(400).bind(LOOPBACK, echo_all).unwrap();
    let mut streams: Vec<TcpStream> = (0..300).map(|_| open(server.local_addr())).collect();
    sessions(&server, 300);
    let before = resident();
    for stream in &mut streams {
        // 16 MiB are announced, and a few bytes come
        let mut bytes = masked(PING, b"");
        bytes.extend([BINARY, 0x80 | 127]);
        bytes.extend((16_u64 << 20).to_be_bytes());
        bytes.extend([0; 4 + 100]);
        stream.write_all(&bytes).unwrap();
    }
    for stream in &mut streams {
        // they came in one piece: with the ping the announcement was read
        assert_eq!(read_frame(stream), Ok((PONG, vec![])));
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 300 * 16 * 1024, "{} KiB each", grown / 300 / 1024);
}

#[test]
fn fourteen_bytes_cannot_end_the_process() {
    let _alone = alone();
    // without any limit of the program's
    let server = Server::builder()
        .limits(Limits::new().message(usize::MAX).frame(usize::MAX))
        .bind(LOOPBACK, echo_all)
        .unwrap();
    let mut stream = open(server.local_addr());
    let mut bytes = vec![BINARY, 0x80 | 127];
    bytes.extend((1_u64 << 46).to_be_bytes());
    bytes.extend([0; 4 + 1]);
    stream.write_all(&bytes).unwrap();
    // the process is there to serve somebody else
    let mut other = open(server.local_addr());
    other.write_all(&masked(TEXT, b"still")).unwrap();
    assert_eq!(read_frame(&mut other), Ok((TEXT, b"still".to_vec())));
    for framing in [Framing::length_prefixed(Prefix::U64), Framing::lines()] {
        let server = Server::builder()
            .framing(framing)
            .heartbeat(Heartbeat::ping_pong())
            .limits(Limits::new().message(usize::MAX))
            .bind(LOOPBACK, echo_all)
            .unwrap();
        let mut stream = connect(server.local_addr());
        stream.write_all(&[0x3f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2]).unwrap();
        stream.write_all(b"in two segments").unwrap();
    }
}

#[test]
fn what_is_over_the_limit_is_refused_at_its_header() {
    let _alone = alone();
    let server =
        Server::builder().limits(Limits::new().message(1000)).bind(LOOPBACK, echo_all).unwrap();
    let mut streams: Vec<TcpStream> = (0..20).map(|_| open(server.local_addr())).collect();
    let before = resident();
    for stream in &mut streams {
        let mut bytes = vec![BINARY, 0x80 | 127];
        bytes.extend((15_u64 << 20).to_be_bytes());
        bytes.extend([0; 4]);
        stream.write_all(&bytes).unwrap();
        // the answer comes before a byte of the payload does
        assert_eq!(read_frame(stream), Ok((CLOSE, close_body(1009, ""))));
        let payload = vec![0; 15 << 20];
        let _ = stream.write_all(&payload);
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 40 * MIB, "{} MiB", grown / MIB);
}

#[test]
fn a_servers_messages_are_small_unless_the_program_says_otherwise() {
    let _alone = alone();
    let server = echo_server();
    let mut stream = open(server.local_addr());
    let mut bytes = vec![BINARY, 0x80 | 127];
    bytes.extend(((1_u64 << 20) + 1).to_be_bytes());
    bytes.extend([0; 4]);
    stream.write_all(&bytes).unwrap();
    while read_frame(&mut stream).unwrap() != (CLOSE, close_body(1009, "")) {}
}

#[test]
fn an_idle_session_gives_back_what_a_burst_took() {
    const SESSIONS: u64 = 300;
    let _alone = alone();
    for burst in [masked(TEXT, b"").repeat(20_000), masked(BINARY, &vec![7; 1 << 20])] {
        let server = roomy()
            .heartbeat(Heartbeat::every(ms(300)).dead_after(PATIENCE))
            .bind(LOOPBACK, echo_all)
            .unwrap();
        let answers = if burst.len() > 1 << 20 { 1 } else { 20_000 };
        let mut streams: Vec<TcpStream> =
            (0..SESSIONS).map(|_| open(server.local_addr())).collect();
        sessions(&server, SESSIONS as usize);
        let before = resident();
        for stream in &mut streams {
            let mut writing = stream.try_clone().unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| writing.write_all(&burst).unwrap());
                for _ in 0..answers {
                    while read_frame(stream).unwrap().0 == PING {}
                }
            });
        }
        // beats go on, and with them what is not needed any more
        eventually("small sessions", || {
            let each = resident().saturating_sub(before) / SESSIONS / 1024;
            // the allocator keeps some of it, now more and now less: `tests/memory.rs` has what is allocated
            if each < 160 { Ok(()) } else { Err(each) }
        });
    }
}

#[test]
fn a_message_that_is_kept_keeps_little_besides() {
    let _alone = alone();
    let kept = Arc::new(Mutex::new(Vec::<Message>::new()));
    let keep = Arc::clone(&kept);
    let server = roomy()
        .bind(LOOPBACK, move |session| {
            for message in session.iter() {
                if message.len() <= 200 {
                    keep.lock().unwrap().push(message);
                }
            }
        })
        .unwrap();
    let mut stream = open(server.local_addr());
    let before = resident();
    for _ in 0..64 {
        stream.write_all(&masked(BINARY, &vec![7; 4 << 20])).unwrap();
        stream.write_all(&[masked(BINARY, b"1"), masked(BINARY, &[2; 200])].concat()).unwrap();
    }
    eventually("all that is kept", || {
        let count = kept.lock().unwrap().len();
        if count == 128 { Ok(()) } else { Err(count) }
    });
    let grown = resident().saturating_sub(before);
    // 970 MiB before
    assert!(grown < 40 * MIB, "{} MiB", grown / MIB);
}

#[test]
fn the_bound_in_bytes_holds_for_a_channel_too() {
    let _alone = alone();
    let (hold, held) = crossbeam_channel::bounded::<()>(0);
    let server = roomy()
        .bind_with_channel(LOOPBACK, move |_session, _channel| {
            let _ = held.recv();
        })
        .unwrap();
    let client = Client::connect(format!("ws://{}", server.local_addr())).unwrap();
    let before = resident();
    for _ in 0..100 {
        if client.try_send(vec![7; 1 << 20]).is_err() {
            break;
        }
    }
    // until TCP pushes back
    let _ = client.wait_sent(ms(500));
    let session = server.sessions().pop().unwrap();
    let waiting = session.stats().inbox_messages;
    assert!(waiting <= 3, "{waiting} messages of 1 MiB where 1 MiB is the bound");
    drop((hold, before));
}

/// The start of a message of 1 MiB, masked: half of it.
fn half_a_mebibyte() -> Vec<u8> {
    let mut bytes = masked(BINARY, &vec![7; 1 << 20]);
    bytes.truncate(1 << 19);
    bytes
}

#[test]
fn all_sessions_together_stay_within_the_memory_limit() {
    let _alone = alone();
    let server = Server::builder()
        .memory_limit(8 << 20)
        .timeouts(Timeouts::new().close(ms(300)))
        .bind(LOOPBACK, echo_all)
        .unwrap();
    let mut streams: Vec<TcpStream> = (0..64).map(|_| open(server.local_addr())).collect();
    sessions(&server, 64);
    let before = resident();
    for stream in &mut streams {
        // the end of it is refused with the session
        let _ = stream.write_all(&half_a_mebibyte());
    }
    // 32 MiB were sent, and 8 are kept: the rest is told to come again
    let is_refused = |stream: &&TcpStream| {
        let mut head = [0; 4];
        stream.set_nonblocking(true).unwrap();
        matches!(stream.peek(&mut head), Ok(4))
            && head[0] == CLOSE
            && head[2..] == 1013_u16.to_be_bytes()
    };
    eventually("refusals, and the end of those sessions", || {
        let left = server.stats().sessions;
        match (streams.iter().filter(is_refused).count(), left) {
            (refused, 8..=16) if refused + left == 64 => Ok(()),
            other => Err(other),
        }
    });
    let grown = resident().saturating_sub(before);
    assert!(grown < 20 * MIB, "{} MiB", grown / MIB);
    // who sends little is served as ever
    let mut other = open(server.local_addr());
    for _ in 0..3 {
        other.write_all(&masked(TEXT, &[b'a'; 10_000])).unwrap();
        assert_eq!(read_frame(&mut other), Ok((TEXT, vec![b'a'; 10_000])));
    }
    // and with those that held it the memory comes back
    drop(streams);
    sessions(&server, 1);
    other.write_all(&masked(BINARY, &vec![7; 1 << 20])).unwrap();
    assert_eq!(read_frame(&mut other), Ok((BINARY, vec![7; 1 << 20])));
}

#[test]
fn what_waits_in_queues_counts_against_the_memory_limit() {
    let _alone = alone();
    let (hold, held) = crossbeam_channel::bounded::<()>(0);
    let server = Server::builder()
        .memory_limit(1 << 20)
        .inbox(everlink::config::Queue::new().messages(1000).bytes(64 << 20))
        .bind(LOOPBACK, move |session| {
            let _ = held.recv();
            for message in session.iter() {
                let _ = session.send(message.len().to_string());
            }
        })
        .unwrap();
    let mut streams: Vec<TcpStream> = (0..4).map(|_| open(server.local_addr())).collect();
    sessions(&server, 4);
    for stream in &mut streams {
        stream.write_all(&masked(BINARY, &[7; 10_000]).repeat(100)).unwrap();
    }
    // nobody receives: a mebibyte of the four is kept, and what is free of each
    let waiting = || -> usize { server.sessions().iter().map(|s| s.stats().inbox_messages).sum() };
    eventually("full inboxes", || if waiting() >= 104 { Ok(()) } else { Err(waiting()) });
    let most = (1 << 20) / 10_000 + 4 * 3;
    assert!(waiting() <= most, "{} messages, {most} are the most", waiting());
    // nothing is lost by that
    drop(hold);
    for stream in &mut streams {
        for _ in 0..100 {
            assert_eq!(read_frame(stream), Ok((TEXT, b"10000".to_vec())));
        }
    }
}

#[test]
fn an_outbox_is_full_when_the_memory_limit_is_reached() {
    let _alone = alone();
    let server = Server::builder()
        .memory_limit(2 << 20)
        .bind(LOOPBACK, |session| while session.recv().is_ok() {})
        .unwrap();
    let mut stream = open(server.local_addr());
    sessions(&server, 1);
    let session = server.sessions().pop().unwrap();
    let mut accepted = 0;
    while session.try_send(vec![7; 100_000]).is_ok() {
        accepted += 1;
        assert!(accepted < 1000, "an outbox without a bound");
    }
    let held = session.stats().outbox_bytes;
    assert!(held <= (2 << 20) + (16 << 10), "{held} bytes");
    for _ in 0..accepted {
        assert_eq!(read_frame(&mut stream), Ok((BINARY, vec![7; 100_000])));
    }
    eventually("room again", || {
        session.try_send(vec![7; 100_000]).map_err(|error| error.to_string())
    });
}

#[test]
fn the_bound_of_an_inbox_outlives_the_connection() {
    let _alone = alone();
    let (release, released) = crossbeam_channel::bounded::<()>(0);
    let (count, counted) = crossbeam_channel::bounded(1);
    let server = Server::builder()
        .inbox(everlink::config::Queue::new().messages(10))
        .bind(LOOPBACK, move |session| {
            let _ = released.recv();
            let _ = count.send(session.iter().count());
        })
        .unwrap();
    let mut stream = open(server.local_addr());
    sessions(&server, 1);
    let session = server.sessions().pop().unwrap();
    stream.set_write_timeout(Some(ms(100))).unwrap();
    // until the server takes no more
    while stream.write_all(&masked(BINARY, &[7; 10_000])).is_ok() {}
    session.abort();
    // what the kernel still holds has every occasion to come in
    std::thread::park_timeout(ms(300));
    let waiting = session.stats().inbox_messages;
    assert!(waiting <= 10, "{waiting} messages where 10 are the bound");
    drop(release);
    let received = counted.recv_timeout(PATIENCE).unwrap();
    assert!(received >= 10, "{received}");
}

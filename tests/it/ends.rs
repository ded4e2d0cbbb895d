//! How a link ends, and what the peer sees of it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::bare::*;
use crate::support::*;
use everlink::config::{Framing, Heartbeat, Queue, SocketOptions, Timeouts};
use everlink::failure::Decision;
use everlink::{Event, Failure, Message, Server, Session, State};

const LOOPBACK: &str = "127.0.0.1:0";

#[test]
fn a_client_answers_a_close_frame_whatever_follows_it() {
    type Follow = fn(&mut TcpStream);
    let follows: [(&str, Follow); 4] = [
        ("nothing", |_| {}),
        ("the end of the stream", |stream| stream.shutdown(Shutdown::Write).unwrap()),
        ("data", |stream| stream.write_all(&frame(TEXT, b"late")).unwrap()),
        ("another close frame", |stream| {
            stream.write_all(&frame(CLOSE, &close_body(1000, ""))).unwrap();
        }),
    ];
    for (what, follow) in follows {
        for _ in 0..20 {
            let listener = Listener::new();
            let (builder, watch) = watch(listener.client().decide(|_, _| Decision::GiveUp));
            let client = builder.start().unwrap();
            let mut stream = upgrade(&listener);
            stream.write_all(&frame(CLOSE, &close_body(4001, "bye"))).unwrap();
            follow(&mut stream);
            assert_eq!(
                read_frame(&mut stream),
                Ok((CLOSE, close_body(4001, "bye"))),
                "followed by {what}"
            );
            // the client may have waited for that long enough
            let _ = stream.shutdown(Shutdown::Write);
            assert_eq!(read_frames(&mut stream), (vec![], End::InOrder), "followed by {what}");
            let cause = watch.gave_up();
            assert!(matches!(&*cause, Failure::Closed(Some(frame)) if frame.code.0 == 4001));
            drop(client);
        }
    }
}

#[test]
fn a_session_waits_for_the_clients_close_frame_before_it_ends_the_stream() {
    let server = Server::bind(LOOPBACK, |session| session.close_with(4000, "done").unwrap());
    let server = server.unwrap();
    let mut stream = open(server.local_addr());
    assert_eq!(read_frame(&mut stream), Ok((CLOSE, close_body(4000, "done"))));
    stream.set_read_timeout(Some(ms(100))).unwrap();
    let early = stream.read(&mut [0]);
    assert!(early.is_err(), "the stream ended before the client had answered: {early:?}");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&masked(CLOSE, &close_body(4000, "done"))).unwrap();
    assert_eq!(read_frames(&mut stream), (vec![], End::InOrder));
}

#[test]
fn what_a_handler_has_to_say_goes_out_before_the_answer_to_a_goodbye() {
    let server = echo_server();
    for (goodbye, code) in
        [(masked(CLOSE, &close_body(4002, "")), 4002), (masked(0x83, b"reserved"), 1002)]
    {
        let mut stream = open(server.local_addr());
        let mut bytes = Vec::new();
        for number in 0..100 {
            bytes.extend(masked(TEXT, number.to_string().as_bytes()));
        }
        bytes.extend(goodbye);
        stream.write_all(&bytes).unwrap();
        let (mut frames, end) = read_frames(&mut stream);
        assert_eq!(frames.pop(), Some((CLOSE, close_body(code, ""))));
        let texts: Vec<String> =
            frames.into_iter().map(|(_, text)| String::from_utf8(text).unwrap()).collect();
        let expected: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        assert_eq!((texts, end), (expected, End::InOrder));
    }
}

#[test]
fn a_handler_that_does_not_return_holds_the_answer_up_no_longer_than_closing_may_take() {
    let (release, released) = crossbeam_channel::bounded::<()>(0);
    let server = Server::builder()
        .timeouts(Timeouts::new().close(ms(200)))
        .bind(LOOPBACK, move |_| {
            let _ = released.recv();
        })
        .unwrap();
    let mut stream = open(server.local_addr());
    stream.write_all(&masked(CLOSE, &close_body(1001, ""))).unwrap();
    let (frames, end) = read_frames(&mut stream);
    assert_eq!((frames, end), (vec![(CLOSE, close_body(1001, ""))], End::InOrder));
    drop(release);
}

#[test]
fn a_program_that_sends_and_never_receives_comes_back() {
    let listener = Listener::new();
    let (builder, watch) = watch(listener.client().inbox(Queue::new().messages(4)));
    let client = builder.start().unwrap();
    let mut stream = upgrade(&listener);
    watch.connected();
    // more than the inbox holds
    for _ in 0..1000 {
        stream.write_all(&frame(TEXT, b"answer")).unwrap();
    }
    eventually("a full inbox", || {
        let waiting = client.stats().inbox_messages;
        if waiting >= 4 { Ok(()) } else { Err(waiting) }
    });
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    thread::scope(|scope| {
        scope.spawn(|| {
            // it is the program's next messages that meet the broken connection
            while client.state() == State::Connected && client.try_send("tick").is_ok() {
                thread::yield_now();
            }
        });
        watch.disconnected();
    });
    let mut stream = upgrade(&listener);
    watch.connected();
    client.send("flows").unwrap();
    let texts = std::iter::from_fn(|| read_frame(&mut stream).ok());
    assert!(texts.into_iter().any(|(_, text)| text == b"flows"));
    // what had come is there, and from which link it came
    assert_eq!(client.recv().unwrap().link(), Some(1));
}

#[test]
fn closing_with_more_unread_than_the_inbox_holds_is_clean() {
    let listener = Listener::new();
    let builder = listener
        .client()
        .inbox(Queue::new().messages(4))
        .timeouts(Timeouts::new().close(PATIENCE * 2));
    let (builder, watch) = watch(builder);
    let client = builder.start().unwrap();
    let peer = listener.accept();
    watch.connected();
    let server = thread::spawn(move || {
        let mut peer = peer;
        for _ in 0..5000 {
            peer.send("unread".into()).unwrap();
        }
        read_to_end(&mut peer)
    });
    eventually("a full inbox", || {
        let waiting = client.stats().inbox_messages;
        if waiting >= 4 { Ok(()) } else { Err(waiting) }
    });
    let begun = Instant::now();
    assert!(client.close().ended);
    assert!(begun.elapsed() < PATIENCE, "it waited for unread messages");
    let clean = watch.until(|event| match event {
        Event::Closed { clean, .. } => Some(*clean),
        _ => None,
    });
    assert!(clean);
    assert_eq!(server.join().unwrap().map(|frame| u16::from(frame.code)), Some(1000));
}

#[test]
fn a_session_under_a_flood_closes_in_order() {
    let (said, causes) = mpsc::channel();
    let handler = move |session: Session| {
        session.recv().unwrap();
        session.close_with(4000, "").unwrap();
        said.send(session.failure()).unwrap();
    };
    let server = Server::builder()
        .timeouts(Timeouts::new().close(PATIENCE))
        .bind(LOOPBACK, handler)
        .unwrap();
    let mut stream = open(server.local_addr());
    let mut writing = stream.try_clone().unwrap();
    let flood = thread::spawn(move || {
        let flood = masked(TEXT, b"flood").repeat(1000);
        while writing.write_all(&flood).is_ok() {}
    });
    let (frames, _) = read_frames_until_close(&mut stream);
    assert_eq!(frames, [(CLOSE, close_body(4000, ""))]);
    // the flood ends, and the close frame is answered behind it
    stream.shutdown(Shutdown::Write).unwrap();
    flood.join().unwrap();
    let cause = causes.recv_timeout(PATIENCE).unwrap().unwrap();
    assert!(matches!(&*cause, Failure::ClosedHere(Some(frame)) if frame.code.0 == 4000), "{cause}");
}

fn read_frames_until_close(stream: &mut TcpStream) -> (Vec<(u8, Vec<u8>)>, bool) {
    let mut frames = Vec::new();
    while let Ok(frame) = read_frame(stream) {
        let is_close = frame.0 == CLOSE;
        frames.push(frame);
        if is_close {
            return (frames, true);
        }
    }
    (frames, false)
}

#[test]
fn what_a_slow_peer_has_not_read_is_not_reset_away() {
    for answers in [true, false] {
        let listener = Listener::new();
        let client = listener.client().timeouts(Timeouts::new().close(ms(1000))).start().unwrap();
        let mut stream = upgrade(&listener);
        client.wait_connected(PATIENCE).unwrap();
        // no more than the system takes of a link whose peer does not read
        for _ in 0..8 {
            client.send(vec![7; 16 * 1024]).unwrap();
        }
        // it reads nothing before the time for closing is over
        assert!(client.close().undelivered.is_empty());
        if answers {
            // late, and the kernel of the other side may answer with a reset to that
            let _ = stream.write_all(&frame(CLOSE, &close_body(1000, "")));
        }
        let mut whole = 0;
        while let Ok((BINARY, payload)) = read_frame(&mut stream) {
            whole += usize::from(payload.len() == 16 * 1024);
        }
        if !answers {
            assert_eq!(whole, 8);
        }
    }
}

#[test]
fn who_closes_is_who_is_named() {
    let (said, causes) = mpsc::channel();
    let handler = move |session: Session| {
        session.close_with(4000, "replaced").unwrap();
        said.send(session.failure()).unwrap();
    };
    let server = Server::builder().bind(LOOPBACK, handler).unwrap();
    for answers in [true, false] {
        let mut stream = open(server.local_addr());
        read_frame(&mut stream).unwrap();
        if answers {
            stream.write_all(&masked(CLOSE, &close_body(4000, "replaced"))).unwrap();
        }
        drop(stream);
        let cause = causes.recv_timeout(PATIENCE).unwrap().unwrap();
        assert_eq!(cause.to_string(), "closed here: 4000 (\"replaced\")");
    }
}

#[test]
fn a_framed_peer_that_has_ended_its_stream_gets_its_answers() {
    let (go, gone) = crossbeam_channel::bounded::<()>(0);
    let handler = move |session: Session| {
        let lines: Vec<Message> = session.iter().collect();
        // the client has ended its stream by now
        let _ = gone.recv();
        lines.into_iter().for_each(|line| session.send(line).unwrap());
    };
    let server = Server::builder()
        .framing(Framing::lines())
        .heartbeat(Heartbeat::ping_pong())
        .bind(LOOPBACK, handler)
        .unwrap();
    let mut stream = connect(server.local_addr());
    stream.write_all(b"a\nb\nc\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    drop(go);
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    assert_eq!(answers, "a\nb\nc\n");
}

#[test]
fn sessions_that_are_kept_after_their_end_hold_nothing() {
    if !alone("ends::sessions_that_are_kept_after_their_end_hold_nothing") {
        return;
    }
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&kept);
    let handler = move |session: Session| {
        keep.lock().unwrap().push(session.clone());
        // a peer that reads nothing
        while session.try_send(vec![7; 64 * 1024]).is_ok() {}
        let _ = session.recv();
    };
    let server =
        Server::builder().timeouts(Timeouts::new().close(ms(50))).bind(LOOPBACK, handler).unwrap();
    // nothing else shows them
    let descriptors = || std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let before = descriptors();
    for _ in 0..5 {
        let stream = open(server.local_addr());
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    eventually("the end of all", || {
        let left = server.stats().connections;
        if left == 0 && kept.lock().unwrap().len() == 5 { Ok(()) } else { Err(left) }
    });
    for session in kept.lock().unwrap().iter() {
        let stats = session.stats();
        assert_eq!((stats.outbox_messages, stats.outbox_bytes), (0, 0));
    }
    eventually("closed sockets", || {
        let now = descriptors();
        if now <= before { Ok(()) } else { Err((now, before)) }
    });
}

#[test]
fn a_close_frame_that_must_not_be_is_a_violation_with_words() {
    for (body, words) in [
        (vec![3], "a close frame of one byte"),
        (close_body(1005, ""), "close code 1005 in a close frame"),
        (close_body(2999, ""), "close code 2999 in a close frame"),
        ([&close_body(1000, "")[..], &[0xff]].concat(), "not UTF-8"),
    ] {
        let listener = Listener::new();
        let (builder, watch) = watch(listener.client());
        let _client = builder.start().unwrap();
        let mut stream = upgrade(&listener);
        // also inside a fragmented message
        stream.write_all(&frame(0x01, b"begun")).unwrap();
        stream.write_all(&frame(CLOSE, &body)).unwrap();
        let code = if words == "not UTF-8" { 1007 } else { 1002 };
        assert_eq!(read_frame(&mut stream), Ok((CLOSE, close_body(code, ""))));
        drop(stream);
        let cause = watch.gave_up();
        assert!(matches!(&*cause, Failure::Protocol { .. }), "{cause:?}");
        assert!(cause.to_string().contains(words), "{cause}");
    }
}

#[test]
fn a_stalled_write_ends_at_its_timeout_after_the_last_byte() {
    let timeout = Duration::from_secs(2);
    let listener = Listener::new();
    let heartbeat = Heartbeat::off();
    let builder = listener.client().timeouts(Timeouts::new().write(timeout)).heartbeat(heartbeat);
    let (builder, watch) = watch(builder.decide(|_, _| Decision::GiveUp));
    let client = builder.start().unwrap();
    let stream = upgrade(&listener);
    watch.connected();
    let begun = Instant::now();
    client.send(vec![7; 60 << 20]).unwrap();
    let cause = watch.gave_up();
    let took = begun.elapsed();
    assert!(matches!(&*cause, Failure::WriteTimeout { .. }), "{cause:?}");
    assert!(took >= timeout, "{took:?}");
    // three times that before
    assert!(took < timeout * 2, "{took:?}");
    drop(stream);
}

#[test]
fn a_peer_that_takes_a_large_message_slowly_is_alive() {
    let listener = Listener::new();
    // as it is on a link of little bandwidth
    socket2::SockRef::from(listener.as_ref()).set_recv_buffer_size(16 * 1024).unwrap();
    let builder = listener
        .client()
        .heartbeat(Heartbeat::every(ms(300)).dead_after(ms(1200)))
        .socket(SocketOptions::new().send_buffer(32 * 1024).receive_buffer(32 * 1024));
    let (builder, watch) = watch(builder);
    let client = builder.start().unwrap();
    let mut stream = upgrade(&listener);
    watch.connected();
    let size = 4 << 20;
    client.send(vec![7; size]).unwrap();
    let mut taken = 0;
    let mut buffer = vec![0; 32 * 1024];
    let begun = Instant::now();
    while taken < size {
        taken += stream.read(&mut buffer).unwrap();
        // slower than the limit of silence for all of it, faster than that for each piece
        thread::park_timeout(ms(15));
    }
    assert!(begun.elapsed() > ms(1500), "this was too fast to show anything");
    assert_eq!(client.stats().connects, 1, "{:?}", watch.rest());
}

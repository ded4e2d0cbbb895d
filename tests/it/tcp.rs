//! Raw TCP with framing: the client's promises hold there too.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use crate::support::*;
use everlink::config::{Backoff, Framing, Heartbeat, Prefix, SocketOptions};
use everlink::{Client, ClientBuilder, Error, Event, Failure, SendError, State};

fn client(listener: &Listener) -> ClientBuilder {
    Client::builder(format!("tcp://{}", listener.address()))
        .heartbeat(Heartbeat::ping_pong())
        .backoff(Backoff::fixed(ms(1)))
}

/// Yields the lines that are no beats, answering the beats.
fn lines(stream: &TcpStream) -> impl Iterator<Item = String> + use<> {
    let mut writer = stream.try_clone().unwrap();
    BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok).filter(move |line| {
        let is_beat = line == "ping";
        if is_beat {
            writer.write_all(b"pong\n").unwrap();
        }
        !is_beat
    })
}

#[test]
fn lines_travel_both_ways_and_beats_are_swallowed() {
    let listener = Listener::new();
    let (builder, watch) =
        watch(client(&listener).heartbeat(Heartbeat::ping_pong().interval(ms(20))));
    let client = builder.connect().unwrap();
    let mut stream = listener.accept_raw();
    let Event::Connected { response, endpoint, .. } = watch.connected() else { unreachable!() };
    assert!(response.is_none());
    assert_eq!(endpoint, format!("tcp://{}", listener.address()));
    client.send("one").unwrap();
    client.send(&b"two"[..]).unwrap();
    let mut sent = lines(&stream);
    assert_eq!(sent.next().unwrap(), "one");
    assert_eq!(sent.next().unwrap(), "two");
    stream.write_all("drei\r\nvi\u{e9}r\n".as_bytes()).unwrap();
    assert_eq!(client.recv().unwrap().as_text(), Some("drei"));
    assert_eq!(client.recv().unwrap().as_text(), Some("vi\u{e9}r"));
    let server = thread::spawn(move || sent.count());
    eventually("a round trip", || match client.stats() {
        stats if stats.last_round_trip.is_some() => Ok(()),
        stats => Err(Box::new(stats)),
    });
    assert!(client.try_recv().unwrap().is_none(), "a pong was delivered");
    let report = client.close();
    assert!(report.ended);
    assert_eq!(server.join().unwrap(), 0);
}

#[test]
fn every_length_prefix_travels_both_ways() {
    for prefix in [Prefix::U16, Prefix::U32, Prefix::U64] {
        for framing in [
            Framing::length_prefixed(prefix),
            Framing::length_prefixed(prefix).little_endian().inclusive(),
        ] {
            let listener = Listener::new();
            let client = client(&listener).framing(framing.clone()).connect().unwrap();
            let stream = listener.accept_raw();
            let server = thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
            for size in [0, 1, 255, 256, 65_533] {
                client.send(vec![7; size]).unwrap();
                assert_eq!(client.recv_timeout(PATIENCE).unwrap().as_bytes(), vec![7; size]);
            }
            client.close();
            server.join().unwrap().unwrap();
        }
    }
}

#[test]
fn a_message_that_the_framing_cannot_carry_is_refused() {
    let listener = Listener::new();
    let lines = client(&listener).start().unwrap();
    assert!(matches!(
        lines.send("two\nlines"),
        Err(SendError { error: Error::Unsendable { .. }, .. })
    ));
    assert!(matches!(
        lines.send(b"two\nlines"),
        Err(SendError { error: Error::Unsendable { .. }, .. })
    ));
    let prefixed =
        client(&listener).framing(Framing::length_prefixed(Prefix::U16)).start().unwrap();
    let error = prefixed.send(vec![0; 65_536]).unwrap_err().error;
    assert!(
        matches!(error, Error::MessageTooLarge { size: 65_536, limit: 65_535, .. }),
        "{error:?}"
    );
    let header = client(&listener).header("X-A", "1").start();
    assert!(matches!(header, Err(Error::InvalidHeader { .. })));
}

/// What the simplest of servers does: reads up to 1024 bytes, answers exactly `ping` with
/// `pong`, and everything else with itself.
fn simple_server(mut stream: TcpStream) {
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        let answer = if &buffer[..count] == b"ping" { &b"pong"[..] } else { &buffer[..count] };
        if stream.write_all(answer).is_err() {
            return;
        }
    }
}

#[test]
fn raw_messages_that_are_more_than_one_batch_all_go_out_and_the_close_follows_them() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (queued, wait) = crossbeam_channel::bounded::<()>(0);
    let client = Client::builder(format!("tcp://{}", listener.local_addr().unwrap()))
        .framing(Framing::raw())
        .heartbeat(Heartbeat::off())
        .timeouts(everlink::config::Timeouts::new().close(PATIENCE))
        .login(move |_| {
            let _ = wait.recv();
            Ok(())
        })
        .start()
        .unwrap();
    let mut stream = listener.accept().unwrap().0;
    let message = "x".repeat(1000);
    for _ in 0..200 {
        client.send(&*message).unwrap();
    }
    drop(queued);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut all = vec![0; 200_000];
    stream.read_exact(&mut all).unwrap();
    // one wake-up of the writer finds both messages and the close
    let reader = thread::spawn(move || {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).map(|_| rest.len())
    });
    client.send(&*message).unwrap();
    client.send(&*message).unwrap();
    let report = client.close();
    assert!(report.undelivered.is_empty(), "{report:?}");
    assert_eq!(reader.join().unwrap().unwrap(), 2000);
}

#[test]
fn a_simple_server_is_kept_company_across_its_restart() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let builder = Client::builder(format!("tcp://{address}"))
        .framing(Framing::raw())
        .heartbeat(Heartbeat::ping_pong().interval(ms(50)).dead_after(ms(2000)))
        .backoff(Backoff::fixed(ms(10)));
    let (builder, watch) = watch(builder);
    let client = builder.start().unwrap();
    let stream = listener.accept().unwrap().0;
    let killer = stream.try_clone().unwrap();
    let server = thread::spawn(move || simple_server(stream));
    client.send("hello").unwrap();
    assert_eq!(client.recv_timeout(PATIENCE).unwrap().as_bytes(), b"hello");
    eventually("answered beats", || match client.stats() {
        stats if stats.pings_sent >= 3 && stats.unanswered_pings == 0 => Ok(()),
        stats => Err(Box::new(stats)),
    });
    drop(listener);
    killer.shutdown(std::net::Shutdown::Both).unwrap();
    server.join().unwrap();
    let cause = watch.disconnected();
    assert!(matches!(&*cause, Failure::EndOfStream { .. } | Failure::Io(_)), "{cause:?}");
    watch.attempt_failed();
    client.send("queued meanwhile").unwrap();

    let listener = TcpListener::bind(address).expect("the port is still free");
    let server = thread::spawn(move || simple_server(listener.accept().unwrap().0));
    watch.connected();
    assert_eq!(client.recv_timeout(PATIENCE).unwrap().as_bytes(), b"queued meanwhile");
    client.close();
    server.join().unwrap();
}

#[test]
fn a_silent_peer_is_declared_dead_and_the_debt_is_told() {
    let listener = Listener::new();
    let heartbeat = Heartbeat::ping_pong().interval(ms(200)).dead_after(ms(1000));
    let (builder, watch) = watch(client(&listener).heartbeat(heartbeat));
    let _client = builder.start().unwrap();
    let _silent = listener.accept_raw();
    watch.connected();
    let begun = std::time::Instant::now();
    let cause = watch.disconnected();
    let time = begun.elapsed();
    let Failure::HeartbeatTimeout { unanswered, .. } = &*cause else { panic!("{cause:?}") };
    assert!((3..=5).contains(unanswered), "{unanswered} beats in {time:?}");
    assert!((ms(900)..ms(1100)).contains(&time), "{time:?}");
}

#[test]
fn a_beat_that_was_answered_in_a_way_nobody_recognises_is_no_debt() {
    let listener = Listener::new();
    let beat = Heartbeat::every(ms(50)).dead_after(ms(400)).message("beat", |_| false);
    let (builder, watch) = watch(client(&listener).heartbeat(beat).on_message(|_, _| {}));
    let client = builder.start().unwrap();
    let mut peer = listener.accept_raw();
    watch.connected();
    let mut beat = [0; 5];
    for _ in 0..20 {
        peer.read_exact(&mut beat).unwrap();
        peer.write_all(b"as usual\n").unwrap();
    }
    let cause = watch.disconnected();
    let Failure::HeartbeatTimeout { unanswered, .. } = &*cause else { panic!("{cause:?}") };
    assert!((1..=9).contains(unanswered), "{cause}");
    drop(client);
}

#[test]
fn the_peers_beats_are_answered() {
    let listener = Listener::new();
    let heartbeat = Heartbeat::off().answer("ping", "pong");
    let client = client(&listener).heartbeat(heartbeat).start().unwrap();
    let mut stream = listener.accept_raw();
    let mut answers = BufReader::new(stream.try_clone().unwrap()).lines();
    for _ in 0..3 {
        stream.write_all(b"ping\nnot a ping\n").unwrap();
        assert_eq!(answers.next().unwrap().unwrap(), "pong");
        assert_eq!(client.recv().unwrap().as_text(), Some("not a ping"));
    }
}

#[test]
fn a_beat_can_be_made_anew_each_time() {
    let listener = Listener::new();
    let count = std::sync::atomic::AtomicU32::new(0);
    let heartbeat = Heartbeat::every(ms(20)).dead_after(PATIENCE).message_with(
        move || format!("beat {}", count.fetch_add(1, std::sync::atomic::Ordering::SeqCst)).into(),
        |answer| answer.as_text().is_some_and(|text| text.starts_with("ack ")),
    );
    let client = client(&listener).heartbeat(heartbeat).start().unwrap();
    let mut stream = listener.accept_raw();
    let mut beats = BufReader::new(stream.try_clone().unwrap()).lines();
    for number in 0..3 {
        assert_eq!(beats.next().unwrap().unwrap(), format!("beat {number}"));
        writeln!(stream, "ack {number}").unwrap();
    }
    assert!(client.try_recv().unwrap().is_none());
}

#[test]
fn what_is_queued_survives_outages_in_order_and_the_login_goes_first() {
    let listener = Listener::new();
    let (builder, watch) = watch(client(&listener).login(|session| {
        assert!(session.response().is_none());
        session.send("login")?;
        session.recv().map(|_| ()).map_err(Into::into)
    }));
    let client = builder.start().unwrap();
    let mut number = 0;
    let mut seen = Vec::<u32>::new();
    for _ in 0..5 {
        for _ in 0..50 {
            client.send(number.to_string()).unwrap();
            number += 1;
        }
        let mut stream = listener.accept_raw();
        let mut lines = lines(&stream);
        assert_eq!(lines.next().unwrap(), "login");
        stream.write_all(b"welcome\n").unwrap();
        seen.extend((0..50).map(|_| lines.next().unwrap().parse::<u32>().unwrap()));
        drop(lines);
        drop(stream);
        watch.disconnected();
    }
    assert!(seen.is_sorted_by(|a, b| a < b), "reordered or sent twice");
}

#[test]
fn close_ends_the_stream_after_all_was_written() {
    let listener = Listener::new();
    let (builder, watch) = watch(client(&listener));
    let client = builder.start().unwrap();
    let stream = listener.accept_raw();
    watch.connected();
    let server = thread::spawn(move || lines(&stream).count());
    for number in 0..1000 {
        client.send(number.to_string()).unwrap();
    }
    assert!(client.close().undelivered.is_empty());
    assert_eq!(server.join().unwrap(), 1000);
    let clean = watch.until(|event| match event {
        Event::Closed { clean, .. } => Some(*clean),
        _ => None,
    });
    assert!(clean);
}

#[test]
fn lines_are_bytes_whatever_their_encoding_also_in_a_login() {
    let listener = Listener::new();
    let builder = client(&listener).login(|session| {
        let greeting = session.recv()?;
        assert_eq!(greeting.as_bytes(), b":irc.test 372 :caf\xe9");
        session.send(b"USER j\xf6rg")?;
        Ok(())
    });
    let (builder, watch) = watch(builder);
    let client = builder.start().unwrap();
    let mut stream = listener.accept_raw();
    stream.write_all(b":irc.test 372 :caf\xe9\r\n").unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).split(b'\n').map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), b"USER j\xf6rg");
    // a short one, one that is longer than a message has room for, and text
    let long = [b'\xe9'; 3000];
    for piece in [&b"\xff\n"[..], &long[..1500], &long[1500..], b"\nna\xc3\xafve\n"] {
        stream.write_all(piece).unwrap();
    }
    assert_eq!(client.recv_timeout(PATIENCE).unwrap(), everlink::Message::from(b"\xff"));
    assert_eq!(client.recv_timeout(PATIENCE).unwrap(), everlink::Message::from(&long));
    assert_eq!(client.recv_timeout(PATIENCE).unwrap(), "na\u{ef}ve");
    for line in [&b"PRIVMSG #caf\xe9 :salut"[..], b"plain", b"\0\xff"] {
        client.send(line).unwrap();
        assert_eq!(lines.next().unwrap(), line);
    }
    client.close();
    let ends = |event: &Event| {
        matches!(
            event,
            Event::Disconnected { .. } | Event::GaveUp { .. } | Event::AttemptFailed { .. }
        )
    };
    assert!(!watch.rest().iter().any(ends));
}

#[test]
fn a_broken_framing_ends_the_link_without_close_codes_and_the_next_one_starts_afresh() {
    for (framing, bytes, word) in [
        (Framing::length_prefixed(Prefix::U32), vec![0xff; 4], "4294967295 bytes is announced"),
        (Framing::length_prefixed(Prefix::U64), vec![0xff; 8], "is announced"),
        (Framing::length_prefixed(Prefix::U32).inclusive(), vec![0; 4], "does not even hold"),
        (Framing::lines().max_length(1000), vec![b'x'; 5000], "over the limit"),
    ] {
        let listener = Listener::new();
        let (builder, watch) = watch(client(&listener).framing(framing.clone()));
        let client = builder.start().unwrap();
        let mut stream = listener.accept_raw();
        stream.write_all(&bytes).unwrap();
        // the client ends the stream, and so does the peer
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
        drop(stream);
        let cause = watch.disconnected();
        assert!(matches!(&*cause, Failure::Framing { .. }), "{cause:?}");
        assert_eq!(cause.kind(), everlink::failure::FailureKind::Protocol);
        let said = cause.to_string();
        assert!(said.contains(word) && !said.contains("close"), "{said} does not say {word:?}");
        let _next = listener.accept_raw();
        watch.connected();
        assert_eq!(client.state(), State::Connected);
    }
}

#[test]
fn kernel_options_are_set_where_asked_for() {
    let listener = Listener::new();
    let client = client(&listener)
        .socket(
            SocketOptions::new()
                .keepalive(std::time::Duration::from_secs(60))
                .user_timeout(std::time::Duration::from_secs(20)),
        )
        .connect()
        .unwrap();
    drop(listener.accept_raw());
    drop(client);
    for zero in [
        Client::builder("tcp://127.0.0.1:9").socket(SocketOptions::new().keepalive(ms(0))),
        Client::builder("tcp://127.0.0.1:9").socket(SocketOptions::new().user_timeout(ms(0))),
    ] {
        assert!(matches!(zero.start(), Err(Error::InvalidSetting { .. })));
    }
}

#[test]
fn a_session_with_a_broken_framing_names_no_close_code() {
    let (sender, causes) = crossbeam_channel::unbounded();
    let server = everlink::Server::builder()
        .framing(Framing::lines().max_length(10))
        .heartbeat(Heartbeat::listen(PATIENCE))
        .bind("127.0.0.1:0", move |session| {
            while session.recv().is_ok() {}
            let _ = sender.send(session.failure());
        })
        .unwrap();
    let mut stream = crate::support::bare::connect(server.local_addr());
    stream.write_all(b"a line of more than ten bytes\n").unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the stream ends in order");
    drop(stream);
    let cause = causes.recv_timeout(PATIENCE).unwrap().expect("a cause");
    assert!(matches!(&*cause, Failure::Framing { .. }), "{cause:?}");
    assert!(!cause.to_string().contains("close"), "{cause}");
}

#[test]
fn a_server_without_memory_for_a_line_says_so_and_names_no_close_code() {
    let (sender, causes) = crossbeam_channel::unbounded();
    let server = everlink::Server::builder()
        .framing(Framing::lines())
        .heartbeat(Heartbeat::listen(PATIENCE))
        .memory_limit(1 << 20)
        .bind("127.0.0.1:0", move |session| {
            while session.recv().is_ok() {}
            let _ = sender.send(session.failure());
        })
        .unwrap();
    // each line is within the limit of a message, and both together are over that of the memory
    let _streams = [(); 2].map(|()| {
        let mut stream = crate::support::bare::connect(server.local_addr());
        // the server may have hung up before all is written
        let _ = stream.write_all(&vec![b'x'; 700_000]);
        stream
    });
    let cause = causes.recv_timeout(PATIENCE).unwrap().expect("a cause");
    let said = cause.to_string();
    assert!(said.contains("no memory") && !said.contains("close"), "{said}");
}

#[test]
fn each_of_a_hundred_beats_at_once_is_answered() {
    let server = everlink::Server::builder()
        .framing(Framing::lines())
        .heartbeat(Heartbeat::listen(PATIENCE).answer("ping", "pong"))
        .bind("127.0.0.1:0", |session| while session.recv().is_ok() {})
        .unwrap();
    let mut stream = crate::support::bare::connect(server.local_addr());
    stream.write_all("ping\n".repeat(100).as_bytes()).unwrap();
    let mut answers = vec![0; 500];
    stream.read_exact(&mut answers).unwrap();
    assert_eq!(answers, "pong\n".repeat(100).as_bytes());
}

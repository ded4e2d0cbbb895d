//! The accepting side.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::*;
use everlink::config::{
    Framing, Heartbeat, Limits, Overflow, Prefix, Queue, SlowSession, Timeouts,
};
use everlink::http::StatusCode;
use everlink::{Answer, Client, Error, Event, Failure, SendError, Server, Session};
use tungstenite::Message;

const LOOPBACK: &str = "127.0.0.1:0";

fn url(server: &Server) -> String {
    format!("ws://{}", server.local_addr())
}

/// A client that is not everlink.
fn plain_client(address: SocketAddr) -> tungstenite::WebSocket<TcpStream> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    tungstenite::client(format!("ws://{address}"), stream).unwrap().0
}

#[test]
fn a_session_has_its_request_its_peer_and_its_counters() {
    init_log();
    let (said, heard) = mpsc::channel();
    let server = Server::builder()
        .on_request(|incoming| {
            assert_eq!(incoming.path(), "/room/7");
            Answer::accept().subprotocol("v1.chat").header("X-Served-By", "everlink")
        })
        .bind(LOOPBACK, move |session| {
            assert_eq!(session.subprotocol(), Some("v1.chat"));
            let incoming = session.incoming().unwrap();
            let token = incoming.header("X-Token").unwrap().to_owned();
            session.send(format!("{token} from {}", session.peer_addr())).unwrap();
            assert_eq!(session.recv().unwrap().as_text(), Some("bye"));
            said.send(session.stats()).unwrap();
            session.close_with(4001, "done").unwrap();
            assert!(matches!(session.send("late"), Err(SendError { error: Error::Closed, .. })));
        })
        .unwrap();
    let (builder, watch) = watch(
        Client::builder(format!("{}/room/7", url(&server)))
            .header("X-Token", "abc")
            .subprotocols(["v2.chat", "v1.chat"])
            .decide(|_, _| everlink::failure::Decision::GiveUp),
    );
    let client = builder.connect().unwrap();
    let Event::Connected { response: Some(response), .. } = watch.connected() else {
        panic!("no response")
    };
    assert_eq!(response.headers()["sec-websocket-protocol"], "v1.chat");
    assert_eq!(response.headers()["x-served-by"], "everlink");
    let hello = client.recv().unwrap();
    assert!(hello.as_text().unwrap().starts_with("abc from 127.0.0.1:"), "{hello:?}");
    client.send("bye").unwrap();
    let stats = heard.recv_timeout(PATIENCE).unwrap();
    assert_eq!((stats.messages_received, stats.bytes_received), (1, 3));
    let cause = watch.gave_up();
    let Failure::Closed(Some(frame)) = &*cause else { panic!("{cause:?}") };
    assert_eq!((frame.code.0, frame.reason.as_str()), (4001, "done"));
}

#[test]
fn a_request_can_be_refused_or_answered_with_a_page() {
    let server = Server::builder()
        .on_request(|incoming| match incoming.path() {
            "/" => Answer::page("text/html", "<h1>hello</h1>"),
            "/private" => Answer::reject(StatusCode::UNAUTHORIZED)
                .header("WWW-Authenticate", "Bearer")
                .body("who are you?"),
            "/panic" => panic!("undecided"),
            _ => Answer::accept(),
        })
        .bind(LOOPBACK, echo_all)
        .unwrap();
    let Error::Connect(cause) = Client::connect(format!("{}/private", url(&server))).unwrap_err()
    else {
        panic!("wrong error")
    };
    let Failure::Rejected { status, headers, .. } = &*cause else { panic!("{cause:?}") };
    assert_eq!((status.as_u16(), headers["www-authenticate"].as_bytes()), (401, &b"Bearer"[..]));

    let get = |path: &str| {
        let mut stream = TcpStream::connect(server.local_addr()).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let page = get("/");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.ends_with("<h1>hello</h1>"), "{page}");
    assert!(get("/panic").starts_with("HTTP/1.1 500"));
    assert!(get("/chat").starts_with("HTTP/1.1 426"));
    assert_eq!(server.stats().sessions, 0);
}

#[test]
fn framed_tcp_is_served_with_the_same_handler() {
    for framing in [Framing::lines(), Framing::length_prefixed(Prefix::U32), Framing::raw()] {
        let server = Server::builder().framing(framing.clone()).heartbeat(Heartbeat::ping_pong());
        let server = server.bind(LOOPBACK, echo_all).unwrap();
        let client = Client::builder(format!("tcp://{}", server.local_addr()))
            .framing(framing)
            .heartbeat(Heartbeat::ping_pong().interval(ms(50)).dead_after(PATIENCE))
            .connect()
            .unwrap();
        for text in ["hello", "again"] {
            client.send(text).unwrap();
            assert_eq!(client.recv_timeout(PATIENCE).unwrap().as_bytes(), text.as_bytes());
        }
        eventually("an answered beat", || match client.stats() {
            stats if stats.last_round_trip.is_some() => Ok(()),
            stats => Err(Box::new(stats)),
        });
        assert!(client.close().ended);
    }
}

#[test]
fn bad_input_ends_its_own_session_with_a_clear_cause_and_no_other() {
    let causes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&causes);
    let handler = move |session: Session| {
        echo_all(session.clone());
        seen.lock().unwrap().push(session.failure().unwrap().to_string());
    };
    let prefixed = Server::builder()
        .framing(Framing::length_prefixed(Prefix::U32))
        .heartbeat(Heartbeat::ping_pong())
        .bind(LOOPBACK, handler.clone())
        .unwrap();
    let lines = Server::builder()
        .framing(Framing::lines().max_length(1000))
        .heartbeat(Heartbeat::ping_pong())
        .bind(LOOPBACK, handler.clone())
        .unwrap();
    let web =
        Server::builder().limits(Limits::new().message(1000)).bind(LOOPBACK, handler).unwrap();
    let good = Client::builder(format!("tcp://{}", lines.local_addr()));
    let good = good.heartbeat(Heartbeat::ping_pong()).connect().unwrap();

    let expect = |word: &str| {
        eventually(word, || {
            let mut causes = causes.lock().unwrap();
            let found = causes.iter().position(|cause: &String| cause.contains(word));
            found.map(|index| drop(causes.remove(index))).ok_or_else(|| causes.clone())
        });
    };
    let send = |server: &Server, bytes: &[u8]| {
        let mut stream = TcpStream::connect(server.local_addr()).unwrap();
        stream.write_all(bytes).unwrap();
        // the server ends the stream
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    };
    send(&prefixed, &[0xff; 4]);
    expect("4294967295 bytes is announced");
    send(&lines, &[b'x'; 4000]);
    expect("a line is over the limit");
    let mut socket = plain_client(web.local_addr());
    socket.send(Message::Binary(vec![0; 2000].into())).unwrap();
    assert_eq!(read_to_end(&mut socket).map(|frame| u16::from(frame.code)), Some(1009));
    expect("2000 bytes is over the limit");
    drop(TcpStream::connect(prefixed.local_addr()).unwrap());
    expect("the peer ended the stream");

    good.send("still served").unwrap();
    assert_eq!(good.recv_timeout(PATIENCE).unwrap().as_text(), Some("still served"));
}

#[test]
fn a_client_that_dribbles_its_handshake_is_cut() {
    let server = Server::builder()
        .timeouts(Timeouts::new().handshake(ms(200)))
        .bind(LOOPBACK, echo_all)
        .unwrap();
    let mut stream = TcpStream::connect(server.local_addr()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let begun = Instant::now();
    for byte in b"GET / HTTP/1.1\r\nHost: somewhere\r\nUpgrade: websocket\r\n".iter().cycle() {
        if stream.write_all(&[*byte]).is_err() {
            break;
        }
        thread::park_timeout(ms(10));
        assert!(begun.elapsed() < PATIENCE, "never cut");
    }
    eventually("the end of the connection", || match server.stats().connections {
        0 => Ok(()),
        left => Err(left),
    });
}

#[test]
fn a_thousand_connections_that_never_speak_are_bounded_and_removed() {
    let server = Server::builder()
        .max_connections(50)
        .timeouts(Timeouts::new().handshake(ms(500)))
        .bind(LOOPBACK, echo_all)
        .unwrap();
    let silent: Vec<_> =
        (0..1000).map(|_| TcpStream::connect(server.local_addr()).unwrap()).collect();
    eventually("a thousand accepts", || {
        let stats = server.stats();
        assert!(stats.connections <= 50, "{stats:?}");
        if stats.accepted + stats.refused == 1000 { Ok(()) } else { Err(Box::new(stats)) }
    });
    eventually("the end of them all", || match server.stats().connections {
        0 => Ok(()),
        left => Err(left),
    });
    drop(silent);
    let client = Client::connect(url(&server)).unwrap();
    client.send("still serving").unwrap();
    assert_eq!(client.recv_timeout(PATIENCE).unwrap().as_text(), Some("still serving"));
}

#[test]
fn one_client_too_many_is_told_so() {
    let server = Server::builder().max_connections(1).bind(LOOPBACK, echo_all).unwrap();
    let first = Client::connect(url(&server)).unwrap();
    let Error::Connect(cause) = Client::connect(url(&server)).unwrap_err() else {
        panic!("wrong error")
    };
    let Failure::Rejected { status, .. } = &*cause else { panic!("{cause:?}") };
    assert_eq!(status.as_u16(), 503);
    first.close();
    eventually("room for another", || Client::connect(url(&server)).map(drop));
}

#[test]
#[cfg(target_os = "linux")]
fn one_address_cannot_take_all_places() {
    use socket2::{Domain, Socket, Type};
    let server = Server::builder().max_connections_per_address(2).bind(LOOPBACK, echo_all).unwrap();
    let first = Client::connect(url(&server)).unwrap();
    let second = Client::connect(url(&server)).unwrap();
    let Error::Connect(cause) = Client::connect(url(&server)).unwrap_err() else {
        panic!("wrong error")
    };
    let Failure::Rejected { status, body, .. } = &*cause else { panic!("{cause:?}") };
    assert_eq!(status.as_u16(), 503);
    assert_eq!(String::from_utf8_lossy(body), "too many connections from this address");
    assert_eq!(server.stats().refused, 1);
    // somebody else is let in
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.2:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    socket.connect(&server.local_addr().into()).unwrap();
    let mut stream = std::net::TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(crate::support::bare::REQUEST.as_bytes()).unwrap();
    let answer = crate::support::read_head(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    first.close();
    eventually("room for another", || Client::connect(url(&server)).map(drop));
    drop(second);
}

#[test]
fn a_client_that_reads_nothing_costs_bounded_memory_and_ends() {
    let (said, heard) = mpsc::channel();
    let server = Server::builder()
        .timeouts(Timeouts::new().write(ms(300)))
        .outbox(Queue::new().bytes(1 << 20))
        .bind(LOOPBACK, move |session| {
            let message = everlink::Message::from(vec![0; 1 << 16]);
            let mut most = 0;
            while session.send(message.clone()).is_ok() {
                most = most.max(session.stats().outbox_bytes);
            }
            said.send((most, session.failure().unwrap().to_string())).unwrap();
        })
        .unwrap();
    let socket = plain_client(server.local_addr());
    let (most, cause) = heard.recv_timeout(PATIENCE).unwrap();
    assert!(most <= 1 << 20, "{most} bytes were queued");
    assert!(cause.contains("took nothing"), "{cause}");
    drop(socket);
}

#[test]
fn a_broadcast_reaches_everybody_and_waits_for_nobody() {
    for policy in [SlowSession::Miss, SlowSession::Disconnect] {
        let (said, heard) = mpsc::channel();
        let server = Server::builder()
            .slow_session(policy)
            .outbox(Queue::new().messages(20).overflow(Overflow::Wait))
            .bind(LOOPBACK, move |session| {
                said.send(session.clone()).unwrap();
                for _ in session.iter() {}
            })
            .unwrap();
        let slow = plain_client(server.local_addr());
        let slow_session = heard.recv_timeout(PATIENCE).unwrap();
        let quick = Client::builder(url(&server)).connect().unwrap();
        heard.recv_timeout(PATIENCE).unwrap();
        assert_eq!(server.broadcast("to all"), 2);
        assert_eq!(quick.recv_timeout(PATIENCE).unwrap().as_text(), Some("to all"));
        // a megabyte each: the slow one's socket and outbox are soon full
        let big = everlink::Message::from(vec![0; 1 << 20]);
        let begun = Instant::now();
        let reached: Vec<usize> = (0..60)
            .map(|_| {
                let reached = server.broadcast(big.clone());
                quick.recv_timeout(PATIENCE).unwrap();
                reached
            })
            .collect();
        assert!(begun.elapsed() < PATIENCE);
        assert!(reached.contains(&2) && reached.ends_with(&[1]), "{reached:?}");
        match policy {
            SlowSession::Disconnect => {
                let cause = slow_session.failure().expect("the slow session is over");
                assert!(matches!(*cause, Failure::TooSlow), "{cause:?}");
            }
            _ => assert!(slow_session.failure().is_none()),
        }
        drop(slow);
    }
}

#[test]
fn shutdown_says_goodbye_drains_and_joins() {
    let (said, all_said) = crossbeam_channel::unbounded();
    let server = Server::bind(LOOPBACK, move |session| {
        for number in 0..100 {
            session.send(number.to_string()).unwrap();
        }
        said.send(()).unwrap();
        for _ in session.iter() {}
    })
    .unwrap();
    let clients: Vec<_> = (0..10)
        .map(|_| {
            let builder =
                Client::builder(url(&server)).decide(|_, _| everlink::failure::Decision::GiveUp);
            let (builder, watch) = watch(builder);
            (builder.connect().unwrap(), watch)
        })
        .collect();
    for _ in &clients {
        all_said.recv_timeout(PATIENCE).unwrap();
    }
    let opening = TcpStream::connect(server.local_addr()).unwrap();
    let address = server.local_addr();
    let report = server.shutdown(PATIENCE);
    assert!(report.drained && report.stuck == 0, "{report:?}");
    for (client, watch) in &clients {
        for number in 0..100 {
            let message = client.recv_timeout(PATIENCE).unwrap();
            assert_eq!(message.as_text(), Some(number.to_string().as_str()));
        }
        let cause = watch.gave_up();
        let Failure::Closed(Some(frame)) = &*cause else { panic!("{cause:?}") };
        assert_eq!(frame.code.0, 1001);
    }
    assert!(TcpStream::connect(address).is_err(), "it still listens");
    drop(opening);
}

#[test]
fn shutdown_cuts_what_does_not_answer_and_tells_what_is_stuck() {
    let (hold, held) = crossbeam_channel::bounded::<()>(0);
    let server = Server::bind(LOOPBACK, move |session| {
        let message = session.recv();
        if message.is_ok_and(|message| message.as_text() == Some("hang")) {
            let _ = held.recv();
        }
    })
    .unwrap();
    let _silent = plain_client(server.local_addr());
    let mut hanging = plain_client(server.local_addr());
    hanging.send("hang".into()).unwrap();
    eventually("both sessions", || match server.stats().sessions {
        2 => Ok(()),
        count => Err(count),
    });
    let begun = Instant::now();
    let report = server.shutdown(ms(200));
    assert!(begun.elapsed() < ms(1500), "{:?}", begun.elapsed());
    assert!(!report.drained, "{report:?}");
    assert_eq!(report.stuck, 1);
    drop(hold);
}

#[test]
fn a_handler_that_panics_ends_its_session_with_1011() {
    let server = Server::bind(LOOPBACK, |session| {
        let message = session.recv().unwrap();
        if message.as_text() == Some("panic") {
            panic!("boom");
        }
        session.send(message).unwrap();
    })
    .unwrap();
    let mut victim = plain_client(server.local_addr());
    victim.send("panic".into()).unwrap();
    assert_eq!(read_to_end(&mut victim).map(|frame| u16::from(frame.code)), Some(1011));
    let mut other = plain_client(server.local_addr());
    other.send("fine".into()).unwrap();
    assert_eq!(next_text(&mut other), "fine");
    assert_eq!(read_to_end(&mut other).map(|frame| u16::from(frame.code)), Some(1000));
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let refused = |builder: everlink::ServerBuilder| builder.bind(LOOPBACK, |_| {}).unwrap_err();
    let zero = Duration::ZERO;
    for error in [
        refused(Server::builder().max_connections(0)),
        refused(Server::builder().max_connections_per_address(0)),
        refused(Server::builder().memory_limit((1 << 20) - 1)),
        refused(Server::builder().timeouts(Timeouts::new().handshake(zero))),
        refused(Server::builder().timeouts(Timeouts::new().write(zero))),
        refused(Server::builder().heartbeat(Heartbeat::every(zero))),
        refused(
            Server::builder()
                .framing(Framing::lines().max_length(0))
                .heartbeat(Heartbeat::ping_pong()),
        ),
    ] {
        assert!(matches!(error, Error::InvalidSetting { .. }), "{error:?}");
    }
    let taken = Server::bind(LOOPBACK, |_| {}).unwrap();
    let error = Server::bind(taken.local_addr(), |_| {}).unwrap_err();
    assert!(matches!(error, Error::Bind(_)), "{error:?}");
}

/// Takes its time to be dropped: until it is told.
struct Slow(crossbeam_channel::Receiver<()>);

impl Drop for Slow {
    fn drop(&mut self) {
        let _ = self.0.recv();
    }
}

thread_local!(static LOCAL: std::cell::Cell<Option<Slow>> = const { std::cell::Cell::new(None) });

#[test]
fn a_thread_that_ends_slowly_holds_nobody_up() {
    let (release, released) = crossbeam_channel::bounded::<()>(0);
    let server = Server::bind(LOOPBACK, move |session| {
        if session.recv().is_ok_and(|message| message.as_text() == Some("slow")) {
            LOCAL.set(Some(Slow(released.clone())));
        }
        let _ = session.send("done");
    })
    .unwrap();
    for text in ["slow", "quick", "quick", "quick", "quick"] {
        let client = Client::connect(url(&server)).unwrap();
        client.send(text).unwrap();
        assert_eq!(client.recv_timeout(PATIENCE).unwrap().as_text(), Some("done"));
        assert!(client.close().ended);
    }
    drop(release);
    assert!(server.shutdown(PATIENCE).drained);
}

/// A payload that panics when it is dropped, again and again.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !thread::panicking() {
            std::panic::panic_any(Self);
        }
    }
}

#[test]
fn a_handler_whose_panic_panics_when_it_is_dropped_leaves_its_place() {
    let server = Server::bind("127.0.0.1:0", |session: Session| {
        let _ = session.recv();
        std::panic::panic_any(Bomb);
    })
    .unwrap();
    let client = Client::connect(format!("ws://{}", server.local_addr())).unwrap();
    client.send("x").unwrap();
    eventually("its place is free", || match server.stats().connections {
        0 => Ok(()),
        taken => Err(taken),
    });
    assert_eq!(server.shutdown(PATIENCE).stuck, 0);
}

#[test]
fn a_value_that_asks_its_server_when_it_is_dropped_holds_nobody_up() {
    static HANDLE: Mutex<Option<everlink::ServerHandle>> = Mutex::new(None);
    struct Presence(mpsc::Sender<usize>);

    impl Drop for Presence {
        fn drop(&mut self) {
            let handle = HANDLE.lock().unwrap().clone();
            if let Some(handle) = handle {
                handle.broadcast("somebody has left");
                let _ = self.0.send(handle.sessions().len());
            }
        }
    }

    let (sender, left) = mpsc::channel();
    let server = Server::builder()
        .on_request(move |_| Answer::accept().with(Arc::new(Presence(sender.clone()))))
        .bind("127.0.0.1:0", |session| while session.recv().is_ok() {})
        .unwrap();
    *HANDLE.lock().unwrap() = Some(server.handle());
    for _ in 0..3 {
        let client = Client::connect(url(&server)).unwrap();
        client.close();
        left.recv_timeout(PATIENCE).expect("the value is dropped");
    }
    let report = server.shutdown(PATIENCE);
    assert!(report.drained && report.stuck == 0, "{report:?}");
    HANDLE.lock().unwrap().take();
}

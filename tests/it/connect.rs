//! Making a link: what is asked for, what is refused, and how long anything may take.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

use crate::support::*;
use everlink::config::Timeouts;
use everlink::failure::{Decision, HandshakeError, Next};
use everlink::{Client, Error, Event, Failure, LoginError, State};
use tungstenite::Message;

#[test]
fn connect_returns_a_connected_client() {
    let listener = Listener::new();
    let url = listener.url();
    let server = thread::spawn(move || {
        let mut peer = listener.accept();
        assert_eq!(next_text(&mut peer), "hello");
        peer.send("welcome".into()).unwrap();
        read_to_end(&mut peer)
    });
    let client = Client::connect(&url).unwrap();
    assert_eq!(client.state(), State::Connected);
    client.send("hello").unwrap();
    assert_eq!(client.recv().unwrap().as_text(), Some("welcome"));
    let report = client.close();
    assert!(report.ended && report.undelivered.is_empty(), "{report:?}");
    let frame = server.join().unwrap().expect("a close frame");
    assert_eq!(u16::from(frame.code), 1000);
    assert_eq!(client.state(), State::Closed);
}

#[test]
fn who_subscribes_after_connecting_is_told_what_comes_next() {
    let listener = Listener::new();
    let address = listener.address();
    let server = thread::spawn(move || {
        echo(listener.accept());
        echo(listener.accept());
    });
    // nobody has subscribed by the time that this has the event
    let builder = Client::builder(format!("ws://{address}")).on_event(|_, event| {
        if matches!(event, Event::Connected { .. }) {
            thread::park_timeout(ms(50));
        }
    });
    let client = builder.connect().unwrap();
    let events = client.subscribe();
    client.reconnect().unwrap();
    let next = events.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(next, Event::Disconnected { .. }), "{next:?}");
    let next = events.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(next, Event::Connecting { attempt: 1, .. }), "{next:?}");
    let next = events.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(next, Event::Connected { .. }), "{next:?}");
    drop(client);
    server.join().unwrap();
}

#[test]
fn connect_returns_the_error_of_the_first_attempt() {
    let url = Listener::new().url();
    let error = Client::connect(&url).unwrap_err();
    let Error::Connect(cause) = error else { panic!("{error:?}") };
    assert!(matches!(*cause, Failure::Connect { .. }), "{cause:?}");
}

#[test]
fn start_returns_at_once_and_keeps_trying() {
    let listener = Listener::new();
    let address = listener.address();
    drop(listener);
    let (builder, watch) = watch(
        Client::builder(format!("ws://{address}")).backoff(everlink::config::Backoff::fixed(ms(1))),
    );
    let client = builder.start().unwrap();
    for _ in 0..3 {
        let cause = watch.attempt_failed();
        assert!(matches!(&*cause, Failure::Connect { address: tried, .. } if *tried == address));
    }
    assert!(client.stats().failed_attempts >= 3);
}

#[test]
fn all_addresses_of_a_host_are_tried() {
    let refusing = Listener::new().address();
    let listener = Listener::new();
    let works = listener.address();
    let server = thread::spawn(move || echo(listener.accept()));
    let client = Client::builder("ws://two.addresses.test")
        .resolver(move |host: &str, port| {
            assert_eq!((host, port), ("two.addresses.test", 80));
            Ok(vec![refusing, works])
        })
        .connect()
        .unwrap();
    drop(client);
    server.join().unwrap();
}

#[test]
fn a_name_that_does_not_resolve_is_a_dns_failure() {
    let error = Client::builder("ws://no.such.host.test")
        .resolver(|_: &str, _| Err(std::io::ErrorKind::NotFound.into()))
        .connect()
        .unwrap_err();
    let Error::Connect(cause) = error else { panic!("{error:?}") };
    assert!(matches!(&*cause, Failure::Dns { host, .. } if host == "no.such.host.test"));
}

#[test]
fn a_lookup_that_hangs_fails_at_its_deadline_and_is_not_started_twice() {
    let (hold, held) = crossbeam_channel::bounded::<()>(0);
    static LOOKUPS: AtomicU32 = AtomicU32::new(0);
    let (builder, watch) = watch(
        Client::builder("ws://hangs.test")
            .timeouts(Timeouts::new().dns(ms(30)))
            .backoff(everlink::config::Backoff::fixed(ms(1)))
            .resolver(move |_: &str, _| {
                LOOKUPS.fetch_add(1, Ordering::SeqCst);
                let _ = held.recv();
                Err(std::io::ErrorKind::NotFound.into())
            }),
    );
    let client = builder.start().unwrap();
    for _ in 0..3 {
        let cause = watch.attempt_failed();
        let Failure::Dns { source, .. } = &*cause else { panic!("{cause:?}") };
        assert_eq!(source.kind(), std::io::ErrorKind::TimedOut);
    }
    assert_eq!(LOOKUPS.load(Ordering::SeqCst), 1);
    drop(hold);
    drop(client);
}

#[test]
fn lookups_that_hang_are_not_started_twice_for_several_endpoints_either() {
    let (hold, held) = crossbeam_channel::bounded::<()>(0);
    let (started, lookups) = crossbeam_channel::unbounded();
    let (builder, watch) = watch(
        Client::builder("ws://one.test")
            .fallback("ws://two.test")
            .timeouts(Timeouts::new().dns(ms(30)))
            .backoff(everlink::config::Backoff::fixed(ms(1)))
            .resolver(move |host: &str, _| {
                let _ = started.send(host.to_owned());
                let _ = held.recv();
                Err(std::io::ErrorKind::NotFound.into())
            }),
    );
    let client = builder.start().unwrap();
    for _ in 0..6 {
        watch.attempt_failed();
    }
    let names: Vec<String> = lookups.try_iter().collect();
    assert_eq!(names, ["one.test", "two.test"]);
    drop(hold);
    drop(client);
}

#[test]
fn a_resolver_that_panics_is_a_dns_failure() {
    let builder = Client::builder("ws://panics.test")
        .resolver(|_: &str, _| -> std::io::Result<Vec<SocketAddr>> { panic!("no dns today") });
    let Error::Connect(cause) = builder.connect().unwrap_err() else { panic!("wrong error") };
    let Failure::Dns { source, .. } = &*cause else { panic!("{cause:?}") };
    assert!(source.to_string().contains("no dns today"), "{source}");
}

/// What an attempt came to, with a server that does this to the connection.
fn failed_opening(serve: impl FnOnce(&Listener) + Send + 'static) -> std::sync::Arc<Failure> {
    let listener = Listener::new();
    let builder = listener.client().timeouts(Timeouts::new().handshake(ms(300)));
    let server = thread::spawn(move || serve(&listener));
    let error = builder.connect().unwrap_err();
    server.join().unwrap();
    let Error::Connect(cause) = error else { panic!("{error:?}") };
    cause
}

#[test]
fn a_server_that_never_answers_fails_at_the_handshakes_deadline() {
    let begun = Instant::now();
    let cause = failed_opening(|listener| {
        let stream = listener.accept_raw();
        let _ = std::io::copy(&mut &stream, &mut std::io::sink());
    });
    assert!(matches!(&*cause, Failure::Handshake(HandshakeError::TimedOut { .. })), "{cause:?}");
    assert!(begun.elapsed() >= ms(300));
}

#[test]
fn a_server_that_dribbles_its_answer_has_the_same_deadline() {
    let cause = failed_opening(|listener| {
        let mut stream = listener.accept_raw();
        for byte in "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n".bytes() {
            if stream.write_all(&[byte]).is_err() {
                return;
            }
            thread::park_timeout(ms(25));
        }
    });
    assert!(matches!(&*cause, Failure::Handshake(HandshakeError::TimedOut { .. })), "{cause:?}");
}

#[test]
fn an_answer_byte_by_byte_is_understood_if_it_comes_in_time() {
    let listener = Listener::new();
    let builder = listener.client();
    let server = thread::spawn(move || {
        let mut stream = listener.accept_raw();
        let request = read_head(&mut stream);
        let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
        let accept = tungstenite::handshake::derive_accept_key(key.unwrap().as_bytes());
        let response = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\nX-Padding: {}\r\n\r\n",
            "x".repeat(600)
        );
        for byte in response.bytes() {
            stream.write_all(&[byte]).unwrap();
        }
        // the first message in the same breath
        stream.write_all(b"\x81\x02hi").unwrap();
        stream
    });
    let client = builder.connect().unwrap();
    assert_eq!(client.recv().unwrap().as_text(), Some("hi"));
    drop(server.join().unwrap());
}

#[test]
fn a_wrong_answer_is_permanent_and_says_what_is_wrong() {
    for (response, word) in [
        ("SSH-2.0-OpenSSH_9.2\r\n", "HTTP"),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: AAAA\r\n\r\n",
            "Sec-WebSocket-Accept",
        ),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", "Upgrade"),
    ] {
        let listener = Listener::new();
        let (builder, watch) = watch(listener.client());
        let client = builder.start().unwrap();
        let _held = listener.answer(response);
        let cause = watch.gave_up();
        let Failure::Handshake(error) = &*cause else { panic!("{cause:?}") };
        assert!(error.to_string().contains(word), "{error} does not say {word}");
        assert_eq!(client.state(), State::GaveUp);
    }
}

#[test]
fn a_refusal_is_permanent_with_status_and_headers() {
    for status in [400, 401, 403, 404, 410, 426] {
        let listener = Listener::new();
        let (builder, watch) = watch(listener.client());
        let _client = builder.start().unwrap();
        let _held = listener.answer(&format!("HTTP/1.1 {status} No\r\nX-Why: because\r\n\r\n"));
        let cause = watch.gave_up();
        let Failure::Rejected { status: seen, headers, .. } = &*cause else { panic!("{cause:?}") };
        assert_eq!((seen.as_u16(), headers["x-why"].as_bytes()), (status, &b"because"[..]));
    }
}

#[test]
fn a_busy_server_is_retried_and_not_before_it_wants() {
    for (status, header, at_least) in
        [(500, "", ms(0)), (503, "Retry-After: 1", ms(1000)), (429, "Retry-After: 1", ms(1000))]
    {
        let listener = Listener::new();
        let (builder, watch) = watch(listener.client());
        let _client = builder.start().unwrap();
        let _held = listener.answer(&format!("HTTP/1.1 {status} Busy\r\n{header}\r\n\r\n"));
        let begun = Instant::now();
        let next = watch.until(|event| match event {
            Event::AttemptFailed { next, .. } => Some(*next),
            _ => None,
        });
        let Next::Redial { delay, .. } = next else { panic!("{next:?}") };
        assert!(delay >= at_least, "{status}: {delay:?}");
        let peer = listener.accept();
        assert!(begun.elapsed() >= at_least, "{status}: redialed after {:?}", begun.elapsed());
        drop(peer);
    }
}

#[test]
fn redirects_are_followed_up_to_the_limit_and_credentials_stay_at_home() {
    let (first, second) = (Listener::new(), Listener::new());
    let url = format!("ws://user:pw@{}/start", first.address());
    let target = second.url();
    let servers = thread::spawn(move || {
        let (_held, request) = first.answer("HTTP/1.1 302 Found\r\nLocation: /here\r\n\r\n");
        assert!(request.contains("Authorization: Basic dXNlcjpwdw=="), "{request}");
        let (_held, request) =
            first.answer(&format!("HTTP/1.1 307 There\r\nLocation: {target}/there?a=1\r\n\r\n"));
        assert!(request.starts_with("GET /here HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("Authorization: Basic"), "{request}");
        second.accept_with(|request, _| {
            assert_eq!(request.uri().to_string(), "/there?a=1");
            assert!(!request.headers().contains_key("authorization"));
        })
    });
    let client = Client::connect(&url).unwrap();
    drop(servers.join().unwrap());
    drop(client);

    let cause = failed_opening(|listener| {
        for _ in 0..6 {
            listener.answer("HTTP/1.1 301 Moved\r\nLocation: /again\r\n\r\n");
        }
    });
    assert!(matches!(&*cause, Failure::Handshake(HandshakeError::BadRedirect(_))), "{cause:?}");
}

#[test]
fn headers_subprotocols_and_credentials_reach_the_server() {
    let listener = Listener::new();
    let url = format!("ws://us%40er:p%3Aw@{}/chat?room=1", listener.address());
    let (builder, watch) = watch(
        Client::builder(&url).header("X-Api-Key", "secret").subprotocols(["v2.chat", "v1.chat"]),
    );
    let server = thread::spawn(move || {
        listener.accept_with(|request, response| {
            let headers = request.headers();
            assert_eq!(headers["x-api-key"], "secret");
            assert_eq!(headers["sec-websocket-protocol"], "v2.chat, v1.chat");
            // us@er:p:w
            assert_eq!(headers["authorization"], "Basic dXNAZXI6cDp3");
            assert_eq!(request.uri().to_string(), "/chat?room=1");
            let chosen = "v1.chat".parse().unwrap();
            response.headers_mut().insert("sec-websocket-protocol", chosen);
        })
    });
    let client = builder.connect().unwrap();
    let Event::Connected { response, endpoint, .. } = watch.connected() else { unreachable!() };
    assert_eq!(response.unwrap().headers()["sec-websocket-protocol"], "v1.chat");
    assert!(!endpoint.contains("p:w") && !endpoint.contains("room"), "{endpoint}");
    drop(server.join().unwrap());
    drop(client);
}

#[test]
fn what_other_clients_take_in_an_answer_is_taken() {
    let listener = Listener::new();
    for (from, to) in [
        ("Upgrade: websocket", "Server : a\r\nUpgrade\t: websocket"),
        ("Accept: ", "Accept : "),
        ("Upgrade: websocket", "no header\r\nX-\u{e9}: b\r\nUpgrade: websocket"),
    ] {
        let (builder, watch) = watch(listener.client());
        let client = builder.start().unwrap();
        let mut stream = listener.accept_raw();
        let request = read_head(&mut stream);
        let answer = crate::support::bare::upgraded(&request).replacen(from, to, 1);
        stream.write_all(answer.as_bytes()).unwrap();
        watch.connected();
        drop(stream);
        drop(client);
    }
    let proxy = everlink::config::Proxy::new(format!("http://{}", listener.address())).unwrap();
    let (builder, watch) = watch(Client::builder("ws://server.test").proxy(proxy));
    let _client = builder.start().unwrap();
    let (mut stream, _) = listener.answer("HTTP/1.1 200 OK\r\nProxy-Agent : a\r\n\r\n");
    let request = read_head(&mut stream);
    stream.write_all(crate::support::bare::upgraded(&request).as_bytes()).unwrap();
    watch.connected();
}

/// Kubernetes' API server answers with an empty header to those who ask for no subprotocol, and to
/// those of whose subprotocols it speaks none.
#[test]
fn an_empty_subprotocol_is_none_everywhere() {
    for offered in [None, Some("v4.channel.k8s.io")] {
        for answered in ["", " ", ","] {
            let listener = Listener::new();
            let mut builder = listener.client().login(|session| {
                let headers = session.response().unwrap().headers();
                assert!(!headers.contains_key("sec-websocket-protocol"));
                Ok(())
            });
            if let Some(name) = offered {
                builder = builder.subprotocols([name]);
            }
            let (builder, watch) = watch(builder);
            let client = builder.start().unwrap();
            let mut stream = listener.accept_raw();
            let request = read_head(&mut stream);
            let answer = crate::support::bare::upgraded(&request);
            let header = format!("\r\nSec-WebSocket-Protocol:{answered}\r\n\r\n");
            stream.write_all((answer.trim_end().to_owned() + &header).as_bytes()).unwrap();
            let event = watch.connected();
            let Event::Connected { response: Some(response), .. } = &event else { unreachable!() };
            assert!(!response.headers().contains_key("sec-websocket-protocol"));
            assert!(client.status().subprotocol().is_none());
            #[cfg(feature = "serde")]
            assert!(!serde_json::to_string(&event).unwrap().contains("subprotocol"));
        }
    }
}

#[test]
fn a_subprotocol_or_extension_not_asked_for_is_refused() {
    for header in ["Sec-WebSocket-Protocol: surprise", "Sec-WebSocket-Extensions: surprise"] {
        let listener = Listener::new();
        let builder = listener.client();
        let server = thread::spawn(move || {
            let (name, value) = header.split_once(": ").unwrap();
            listener.accept_with(|_, response| {
                let name: tungstenite::http::HeaderName = name.parse().unwrap();
                response.headers_mut().insert(name, value.parse().unwrap());
            })
        });
        let Error::Connect(cause) = builder.connect().unwrap_err() else { panic!("wrong error") };
        assert!(matches!(&*cause, Failure::Handshake(HandshakeError::BadUpgrade(_))), "{cause:?}");
        drop(server.join().unwrap());
    }
}

#[test]
fn the_request_is_made_anew_for_each_attempt() {
    let (first, second) = (Listener::new(), Listener::new());
    let urls = [first.url(), second.url()];
    let mut token = 0;
    let (builder, watch) = watch(first.client().on_request(move |request| {
        token += 1;
        request.set_header("Authorization", &format!("Bearer {token}"))?;
        request.set_url(&urls[(token - 1) % 2])?;
        if token == 3 {
            return Err("no token today".into());
        }
        Ok(())
    }));
    let _client = builder.start().unwrap();
    let expect = |listener: &Listener, value: &'static str| {
        listener.accept_with(|request, _| assert_eq!(request.headers()["authorization"], value))
    };
    reset(expect(&first, "Bearer 1"));
    reset(expect(&second, "Bearer 2"));
    let cause = watch.attempt_failed();
    assert!(matches!(&*cause, Failure::Request(error) if error.to_string() == "no token today"));
    drop(expect(&second, "Bearer 4"));
}

#[test]
fn the_login_hook_talks_before_anything_queued_is_sent() {
    let listener = Listener::new();
    let (builder, watch) = watch(listener.client().login(|session| {
        assert_eq!(session.response().unwrap().status(), 101);
        session.send("login")?;
        let early = session.recv_timeout(ms(1));
        assert!(matches!(early, Err(Failure::Io(_))), "{early:?}");
        session.send("ready")?;
        match session.recv()?.as_text() {
            Some("welcome") => Ok(()),
            other => Err(format!("unexpected {other:?}").into()),
        }
    }));
    let client = builder.start().unwrap();
    client.send("queued").unwrap();
    for answer in ["go away", "welcome"] {
        let mut peer = listener.accept();
        assert_eq!(next_text(&mut peer), "login");
        assert_eq!(next_text(&mut peer), "ready");
        // a ping in the middle of a login is answered
        peer.send(Message::Ping("p".into())).unwrap();
        peer.send(answer.into()).unwrap();
        if answer == "go away" {
            let cause = watch.attempt_failed();
            assert!(matches!(&*cause, Failure::Login { decision: None, .. }), "{cause:?}");
        } else {
            peer.send("extra".into()).unwrap();
            assert!(matches!(peer.read().unwrap(), Message::Pong(_)));
            assert_eq!(next_text(&mut peer), "queued");
        }
    }
    assert_eq!(client.recv().unwrap().as_text(), Some("extra"));
}

#[test]
fn a_login_that_times_out_is_retried_and_one_that_is_denied_is_not() {
    let listener = Listener::new();
    let mut attempt = 0;
    let (builder, watch) =
        watch(listener.client().timeouts(Timeouts::new().login(ms(50))).login(move |session| {
            attempt += 1;
            match attempt {
                1 => session.recv().map(|_| ()).map_err(Into::into),
                2 => panic!("no login today"),
                _ => Err(LoginError::permanent("key denied").into()),
            }
        }));
    let _client = builder.start().unwrap();
    let _first = listener.accept();
    let cause = watch.attempt_failed();
    assert!(matches!(&*cause, Failure::Login { decision: None, .. }), "{cause:?}");
    let _second = listener.accept();
    let cause = watch.attempt_failed();
    assert_eq!(cause.to_string(), "login hook panicked: no login today");
    let _third = listener.accept();
    let cause = watch.gave_up();
    assert!(
        matches!(&*cause, Failure::Login { decision: Some(Decision::GiveUp), .. }),
        "{cause:?}"
    );
}

#[test]
#[cfg(target_os = "linux")]
fn the_kernel_shows_the_role_of_each_thread() {
    let listener = Listener::new();
    let client = listener.client().start().unwrap();
    let _peer = listener.accept();
    for role in ["manager", "reader", "writer", "heartbeat"] {
        eventually(role, || {
            let threads = everlink_threads();
            // of a number with many digits the end of the longest is cut off
            let name = format!("everlink-{}-{}", client.id(), &role[..role.len().min(7)]);
            if threads.iter().any(|thread| thread.starts_with(&name)) {
                Ok(())
            } else {
                Err(threads)
            }
        });
    }
}

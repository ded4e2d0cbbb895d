//! Openings as other people's servers do them: interim responses, redirects, refusals, cookies,
//! addresses that lead to nothing, and one time for all of it.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::*;
use everlink::config::{Backoff, Proxy, SocketOptions, Timeouts};
use everlink::failure::{Body, HandshakeError, Next, ProxyError};
use everlink::{Answer, Client, ClientBuilder, Error, Event, Failure, Server};
use tungstenite::handshake::derive_accept_key;

const ACCEPTED: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n";

/// The value of a header of a request.
fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = request.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// Accepts, and upgrades with these bytes before the 101 and these lines in it; returns the
/// request.
fn upgrade(listener: &Listener, before: &str, lines: &str) -> (TcpStream, String) {
    let mut stream = listener.accept_raw();
    let request = read_head(&mut stream);
    let key = header(&request, "Sec-WebSocket-Key").expect("a key");
    let accept = derive_accept_key(key.as_bytes());
    let head = format!("HTTP/1.1 101 Yes\r\n{lines}Sec-WebSocket-Accept: {accept}\r\n\r\n");
    stream.write_all(before.as_bytes()).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    (stream, request)
}

fn cause(builder: ClientBuilder) -> Arc<Failure> {
    let error = builder.connect().expect_err("connected");
    let Error::Connect(cause) = error else { panic!("{error:?}") };
    cause
}

#[test]
fn interim_responses_and_folded_lines_are_no_obstacle() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    let folded = "Upgrade:\r\n websocket\r\nConnection: keep-alive,\r\n\tUpgrade\r\nX: a\r\n b\r\n";
    for (before, lines) in [(interim, ACCEPTED), ("", folded)] {
        let listener = Listener::new();
        let (builder, watch) = watch(listener.client());
        let server = thread::spawn(move || upgrade(&listener, before, lines));
        let client = builder.connect().unwrap();
        let Event::Connected { response, .. } = watch.connected() else { unreachable!() };
        let response = response.unwrap();
        assert_eq!(response.status(), 101);
        assert!(before == interim || response.headers()["x"] == "a b", "{response:?}");
        drop(server.join().unwrap());
        drop(client);
    }
}

#[test]
fn names_of_headers_are_sent_as_they_are_written() {
    let listener = Listener::new();
    let builder = listener.client().header("x-API-key", "1").header("SOAPAction", "2");
    let server = thread::spawn(move || upgrade(&listener, "", ACCEPTED));
    let client = builder.connect().unwrap();
    let request = server.join().unwrap().1;
    assert!(request.contains("\r\nx-API-key: 1\r\nSOAPAction: 2\r\n"), "{request}");
    drop(client);
}

#[test]
fn a_path_that_is_not_ascii_is_encoded() {
    let listener = Listener::new();
    let builder = Client::builder(format!("{}/alban\u{f8}?q=\u{fc}", listener.url()));
    let server = thread::spawn(move || upgrade(&listener, "", ACCEPTED));
    let client = builder.connect().unwrap();
    let request = server.join().unwrap().1;
    assert!(request.starts_with("GET /alban%C3%B8?q=%C3%BC HTTP/1.1\r\n"), "{request}");
    drop(client);
}

#[test]
fn redirects_lead_where_the_rfc_says() {
    for (location, target) in [
        ("/ws?next=https://x", "/ws?next=https://x"),
        ("../up", "/up"),
        ("./here#part", "/a/here"),
        ("?only=query", "/a/b?only=query"),
        ("/caf\u{e9}", "/caf%C3%A9"),
    ] {
        let listener = Listener::new();
        let builder = Client::builder(format!("{}/a/b?q", listener.url()));
        let server = thread::spawn(move || {
            drop(listener.answer(&format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\n\r\n")));
            upgrade(&listener, "", ACCEPTED)
        });
        let client = builder.connect().unwrap();
        let request = server.join().unwrap().1;
        assert!(request.starts_with(&format!("GET {target} HTTP/1.1\r\n")), "{request}");
        drop(client);
    }
}

#[test]
fn credentials_survive_an_absolute_redirect_to_the_same_origin_and_are_taken_from_nobody() {
    let (home, other) = (Listener::new(), Listener::new());
    let (home_address, other_address) = (home.address(), other.address());
    let url = format!("ws://user:pw@{home_address}/");
    let builder = Client::builder(&url).header("Proxy-Authorization", "Basic eA==");
    let server = thread::spawn(move || {
        let redirect = |listener: &Listener, location: String| {
            let answer = format!("HTTP/1.1 307 There\r\nLocation: {location}\r\n\r\n");
            listener.answer(&answer).1
        };
        [
            redirect(&home, format!("http://mallory:x@{home_address}/same")),
            redirect(&home, format!("ws://mallory:x@{other_address}/elsewhere")),
            redirect(&other, format!("ws://{home_address}/back")),
            upgrade(&home, "", ACCEPTED).1,
        ]
    });
    let client = builder.connect();
    let requests = server.join().unwrap();
    for (request, knows) in requests.iter().zip([true, true, false, true]) {
        let expected = knows.then_some("Basic dXNlcjpwdw==");
        assert_eq!(header(request, "Authorization"), expected, "{request}");
        assert_eq!(header(request, "Proxy-Authorization").is_some(), knows, "{request}");
    }
    drop(client);
}

#[test]
fn the_time_for_opening_is_for_all_redirects_together() {
    let listener = Listener::new();
    let builder = listener.client().timeouts(Timeouts::new().handshake(ms(400)));
    let server = thread::spawn(move || {
        let mut stream = listener.accept_raw();
        read_head(&mut stream);
        // most of the time that there is
        thread::park_timeout(ms(300));
        let redirected = Instant::now();
        stream.write_all(b"HTTP/1.1 302 Found\r\nLocation: /again\r\n\r\n").unwrap();
        let stream = listener.accept_raw();
        let _ = std::io::copy(&mut &stream, &mut std::io::sink());
        redirected.elapsed()
    });
    let cause = cause(builder);
    assert!(
        matches!(&*cause, Failure::Handshake(HandshakeError::TimedOut { timeout , .. }) if *timeout == ms(400)),
        "{cause:?}"
    );
    // with a time of its own the second opening had had all of it
    let left = server.join().unwrap();
    assert!(left < ms(400), "{left:?}");
}

#[test]
fn a_refusal_comes_with_the_beginning_of_its_body() {
    let long = "x".repeat(20_000);
    for (answer, expected) in [
        ("HTTP/1.1 403 No\r\nContent-Length: 7\r\n\r\nbad key".to_owned(), "bad key"),
        ("HTTP/1.1 403 No\r\nConnection: close\r\n\r\nto the end".into(), "to the end"),
        (
            "HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbad\r\n4\r\n key\r\n0\r\n\r\n"
                .into(),
            "bad key",
        ),
        ("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n".into(), ""),
        (format!("HTTP/1.1 403 No\r\nContent-Length: 20000\r\n\r\n{long}"), &long[..Body::LIMIT]),
    ] {
        let listener = Listener::new();
        let builder = listener.client();
        let server = thread::spawn(move || drop(listener.answer(&answer)));
        let cause = cause(builder);
        let Failure::Rejected { body, .. } = &*cause else { panic!("{cause:?}") };
        assert_eq!(body.to_text(), expected);
        assert!(expected.is_empty() || !format!("{cause:?}").contains(expected), "{cause:?}");
        server.join().unwrap();
    }
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let listener = Listener::new();
    let builder = listener.client();
    let server = thread::spawn(move || {
        let held = listener.answer("HTTP/1.1 403 No\r\nContent-Length: 100\r\n\r\nbad");
        assert!(!listener.is_dialed_within(ms(1000)), "it was dialed again");
        held
    });
    let begun = Instant::now();
    let cause = cause(builder);
    assert!(begun.elapsed() < ms(900), "{:?}", begun.elapsed());
    let Failure::Rejected { body, .. } = &*cause else { panic!("{cause:?}") };
    assert_eq!(body.as_bytes(), b"bad");
    drop(server.join().unwrap());
}

#[test]
fn a_wait_that_is_asked_for_is_granted_up_to_the_limit_and_the_failure_says_so() {
    let listener = Listener::new();
    let (builder, watch) = watch(listener.client().max_retry_after(ms(1200)));
    let client = builder.start().unwrap();
    drop(listener.answer("HTTP/1.1 503 Busy\r\nRetry-After: 86400\r\n\r\n"));
    let (cause, next) = watch.until(|event| match event {
        Event::AttemptFailed { cause, next, .. } => Some((Arc::clone(cause), *next)),
        _ => None,
    });
    let Failure::Rejected { retry_after, waits, .. } = &*cause else { panic!("{cause:?}") };
    assert_eq!((retry_after.unwrap().as_secs(), *waits), (86_400, Some(ms(1200))));
    assert!(cause.to_string().contains("1.2s"), "{cause}");
    let Next::Redial { delay, .. } = next else { panic!("{next:?}") };
    assert!((ms(1200)..ms(5000)).contains(&delay), "{delay:?}");
    drop(client);
}

#[test]
fn what_a_jar_keeps_fits_into_a_request_that_a_server_of_this_crate_takes() {
    let (requests, asked) = crossbeam_channel::unbounded();
    let server = Server::builder()
        .on_request(move |incoming| {
            let cookies = incoming.headers().get("cookie").map_or(0, |value| value.len());
            let _ = requests.send(cookies);
            // each answer sets ten more
            let answer = Answer::reject(everlink::http::StatusCode::SERVICE_UNAVAILABLE);
            (0..10).fold(answer, |answer, number| {
                let name = format!("c{}x{number}", fastrand::u32(..));
                answer.header("Set-Cookie", &format!("{name}={}", "v".repeat(4000)))
            })
        })
        .bind("127.0.0.1:0", |_| {})
        .unwrap();
    let builder = Client::builder(format!("ws://{}", server.local_addr()))
        .keep_cookies()
        .resume(everlink::config::Resume::new())
        .header("X-Own", &"x".repeat(10_000))
        .backoff(Backoff::fixed(ms(10)));
    #[cfg(feature = "deflate")]
    let builder = builder.compression(everlink::config::Compression::new());
    let client = builder.start().unwrap();
    let mut most = 0;
    for attempt in 0..8 {
        let cookies = asked.recv_timeout(PATIENCE).expect("another attempt");
        assert!(attempt < 2 || cookies >= 40_000, "attempt {attempt}: {cookies} bytes");
        most = most.max(cookies);
    }
    assert!((50_000..55_000).contains(&most), "{most} bytes where 64 KiB are taken in all");
    drop(client);
}

#[test]
fn cookies_are_kept_for_redirects_and_redials_where_that_is_asked_for() {
    for keep in [true, false] {
        let listener = Listener::new();
        let builder = listener.client().header("Cookie", "own=1");
        let builder = if keep { builder.keep_cookies() } else { builder };
        let (builder, watch) = watch(builder);
        let client = builder.start().unwrap();
        let redirect =
            "HTTP/1.1 302 Found\r\nSet-Cookie: node=hunter2; Path=/\r\nLocation: /in\r\n";
        drop(listener.answer(&format!("{redirect}\r\n")));
        let (stream, request) = upgrade(&listener, "", &format!("{ACCEPTED}Set-Cookie: up=4\r\n"));
        let cookies = if keep { "own=1; node=hunter2" } else { "own=1" };
        assert_eq!(header(&request, "Cookie"), Some(cookies));
        let connected = watch.connected();
        assert!(!format!("{connected:?}").contains("hunter2"), "{connected:?}");
        drop(stream);
        let (_stream, request) = upgrade(&listener, "", ACCEPTED);
        let cookies = if keep { "own=1; node=hunter2; up=4" } else { "own=1" };
        assert_eq!(header(&request, "Cookie"), Some(cookies));
        client.close();
    }
    let framed = Client::builder("tcp://127.0.0.1:9").keep_cookies().start();
    assert!(matches!(framed, Err(Error::InvalidSetting { setting: "keep_cookies", .. })));
}

#[test]
fn an_address_that_leads_to_nothing_comes_last_in_the_next_attempt() {
    let (mute, works) = (Listener::new(), Listener::new());
    let failing = Listener::new();
    let addresses: Vec<SocketAddr> =
        [&mute, &failing, &works].iter().map(|listener| listener.address()).collect();
    let builder = Client::builder("ws://three.test")
        .resolver(move |_: &str, _| Ok(addresses.clone()))
        .timeouts(Timeouts::new().handshake(ms(200)))
        .backoff(Backoff::fixed(ms(1)));
    let (builder, watch) = watch(builder);
    let client = builder.start().unwrap();
    let _held = mute.accept_raw();
    watch.attempt_failed();
    drop(failing.answer("HTTP/1.1 502 Bad Gateway\r\n\r\n"));
    watch.attempt_failed();
    let (stream, _) = upgrade(&works, "", ACCEPTED);
    watch.connected();
    // a link is a new beginning
    drop(stream);
    let _held = mute.accept_raw();
    drop(client);
}

#[test]
fn a_fixed_local_port_is_used_again_at_once() {
    let listener = Listener::new();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (builder, watch) = watch(
        listener
            .client()
            .socket(SocketOptions::new().local_address(free))
            .backoff(Backoff::fixed(ms(50))),
    );
    let client = builder.start().unwrap();
    for _ in 0..2 {
        // the peer leaves closing to us, so it is our end that the kernel remembers
        let mut peer = listener.accept();
        assert_eq!(peer.get_ref().peer_addr().unwrap(), free);
        watch.connected();
        client.reconnect().unwrap();
        read_to_end(&mut peer);
        let _ = std::io::copy(&mut peer.get_ref(), &mut std::io::sink());
    }
    drop(listener.accept());
    watch.connected();
    drop(client);
}

/// The time for opening through a proxy.
const OPENING: Duration = Duration::from_millis(600);

fn through_proxy(serve: impl FnOnce(TcpStream) + Send + 'static) -> Arc<Failure> {
    init_log();
    let proxies = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://user:hunter2@{}", proxies.local_addr().unwrap());
    let proxy = thread::spawn(move || {
        let (mut stream, _) = proxies.accept().unwrap();
        read_head(&mut stream);
        serve(stream);
    });
    let builder = Client::builder("ws://feed.test:81/").proxy(Proxy::new(&url).unwrap());
    let cause = cause(builder.timeouts(Timeouts::new().handshake(OPENING)));
    proxy.join().unwrap();
    cause
}

#[test]
fn a_proxy_that_goes_away_or_is_mute_is_an_io_failure() {
    let gone = [
        through_proxy(drop),
        through_proxy(|stream| {
            socket2::SockRef::from(&stream).set_linger(Some(ms(0))).unwrap();
        }),
        through_proxy(|mut stream| stream.write_all(b"HTTP/1.1 200 OK\r\nVia: ").unwrap()),
    ];
    for cause in gone {
        assert!(matches!(&*cause, Failure::Proxy(ProxyError::Io(_))), "{cause:?}");
    }
    let cause = through_proxy(|stream| {
        let _ = std::io::copy(&mut &stream, &mut std::io::sink());
    });
    let Failure::Proxy(ProxyError::Io(error)) = &*cause else { panic!("{cause:?}") };
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    let cause = through_proxy(|mut stream| stream.write_all(b"SSH-2.0-x\r\n\r\n").unwrap());
    assert!(matches!(&*cause, Failure::Proxy(ProxyError::Malformed(_))), "{cause:?}");
}

#[test]
fn a_proxys_refusal_is_told_in_its_own_words() {
    let cause = through_proxy(|mut stream| {
        let answer = "HTTP/1.1 407 Ask Ellen\r\nProxy-Authenticate: Negotiate\r\n\
                      Proxy-Authenticate: Basic realm=\"x, y\"\r\nContent-Length: 4\r\n\r\n";
        stream.write_all(answer.as_bytes()).unwrap();
        // as some proxies do, the page comes by itself
        thread::park_timeout(ms(50));
        stream.write_all(b"nope").unwrap();
    });
    let Failure::Proxy(ProxyError::Rejected { status, reason, schemes, body, .. }) = &*cause else {
        panic!("{cause:?}")
    };
    assert_eq!((status.as_u16(), reason.as_str()), (407, "Ask Ellen"));
    assert_eq!((schemes.join(" "), body.as_bytes()), ("Negotiate Basic".into(), &b"nope"[..]));
    let report = cause.to_string();
    for word in ["407", "Ask Ellen", "Negotiate", "Basic"] {
        assert!(report.contains(word), "{report}");
    }
}

#[test]
fn what_a_host_says_together_with_the_proxys_answer_is_not_lost() {
    let proxies = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::new(format!("http://{}", proxies.local_addr().unwrap())).unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = proxies.accept().unwrap();
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nfirst\nsecond\n").unwrap();
        let _ = std::io::copy(&mut &stream, &mut std::io::sink());
    });
    let builder =
        Client::builder("tcp://feed.test:81").heartbeat(everlink::config::Heartbeat::off());
    let client = builder.proxy(proxy).connect().unwrap();
    for expected in ["first", "second"] {
        assert_eq!(client.recv_timeout(PATIENCE).unwrap().as_bytes(), expected.as_bytes());
    }
    drop(client);
    server.join().unwrap();
}

#[test]
fn the_failure_of_a_hostile_host_is_short_and_printable() {
    let endless = "\u{1b}[2J".repeat(15_000);
    for head in ["Sec-WebSocket-Protocol: ", "Sec-WebSocket-Extensions: "] {
        let listener = Listener::new();
        let lines = format!("{ACCEPTED}{head}{}\r\n", "x".repeat(60_000));
        let builder = listener.client();
        let server = thread::spawn(move || upgrade(&listener, "", &lines));
        let report = cause(builder).to_string();
        assert!(report.len() < 400, "{} bytes", report.len());
        drop(server.join().unwrap());
    }
    let listener = Listener::new();
    let builder = listener.client();
    let server = thread::spawn(move || drop(listener.answer(&format!("{endless}\r\n\r\n"))));
    let report = cause(builder).to_string();
    assert!(report.len() < 1500 && !report.contains('\u{1b}'), "{report}");
    server.join().unwrap();
}

#[test]
fn a_proxys_time_is_part_of_the_time_for_opening() {
    let (sender, left) = mpsc::channel();
    let cause = through_proxy(move |mut stream| {
        // two thirds of the time that there is
        thread::park_timeout(OPENING * 2 / 3);
        let answered = Instant::now();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let _ = std::io::copy(&mut &stream, &mut std::io::sink());
        sender.send(answered.elapsed()).unwrap();
    });
    assert!(matches!(&*cause, Failure::Handshake(HandshakeError::TimedOut { .. })), "{cause:?}");
    // with a time of its own the handshake had had all of it
    let left = left.recv().unwrap();
    assert!(left < OPENING, "{left:?}");
}

#[test]
fn a_resolver_without_measure_costs_one_attempt_like_any_other() {
    let refusing = Listener::new().address().port();
    let address =
        move |number: u32| SocketAddr::from(((0x7f00_0001 + number).to_be_bytes(), refusing));
    let builder = Client::builder("ws://many.test")
        .resolver(move |_: &str, _| Ok((0..100_000).map(address).collect()));
    let (builder, watch) = watch(builder);
    let client = builder.start().unwrap();
    let begun = Instant::now();
    let cause = watch.attempt_failed();
    assert!(matches!(&*cause, Failure::Connect { .. }), "{cause:?}");
    assert!(begun.elapsed() < ms(5000), "{:?}", begun.elapsed());
    assert!(client.close().ended);
}

#[test]
fn events_name_the_endpoint_that_was_dialed() {
    let (first, second) = (Listener::new(), Listener::new());
    let refusing = Listener::new().address();
    let urls = [second.url() + "/chosen", first.url(), first.url()];
    let mut attempt = 0;
    let (builder, watch) = watch(first.client().on_request(move |request| {
        attempt += 1;
        Ok(request.set_url(&urls[(attempt - 1) % 3])?)
    }));
    let client = builder.start().unwrap();
    let named = |what: &str| {
        watch.until(|event| match event {
            Event::AttemptFailed { endpoint, .. } if what == "failed" => Some(endpoint.clone()),
            Event::Disconnected { endpoint, .. } if what == "lost" => Some(endpoint.clone()),
            _ => None,
        })
    };
    drop(second.answer("HTTP/1.1 503 Busy\r\n\r\n"));
    assert_eq!(named("failed"), format!("{}/chosen", second.url()));
    drop(first.answer(&format!("HTTP/1.1 302 Found\r\nLocation: ws://{refusing}/x\r\n\r\n")));
    assert_eq!(named("failed"), format!("ws://{refusing}/x"));
    drop(first.answer(&format!("HTTP/1.1 302 Found\r\nLocation: {}/y\r\n\r\n", second.url())));
    drop(upgrade(&second, "", ACCEPTED));
    assert_eq!(named("lost"), format!("{}/y", second.url()));
    drop(client);
}

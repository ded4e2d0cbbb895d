//! Credentials are in no log record at any level and in no `Debug`, and nothing that a peer says
//! can pass for a record of its own. Alone in their file, for the logger is the whole process's.

mod support;

use std::io::Write;
use std::net::TcpListener;
use std::sync::{Mutex, Once};
use std::thread;

use everlink::config::{Heartbeat, Proxy};
use everlink::failure::Decision;
use everlink::{Answer, Client, Failure, Server};
use log::{LevelFilter, Log, Metadata, Record};
use support::{Listener, PATIENCE, Watch, read_to_end, reset, watch};
use tungstenite::protocol::CloseFrame;

/// Each is part of something that only the server, or the proxy, is to know.
const SECRETS: [&str; 8] = [
    "hunter2",
    "aHVudGVyMg",
    "dXNlcjpodW50ZXIy",
    "opensesame",
    "swordfish",
    "c3dvcmRm",
    "dXNlcjpzd29yZGZpc2",
    "xyzzy",
];

struct Captured(Mutex<Vec<(String, String)>>);

static CAPTURED: Captured = Captured(Mutex::new(Vec::new()));

impl Log for Captured {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = (record.target().to_owned(), record.args().to_string());
        self.0.lock().unwrap().push(line);
    }

    fn flush(&self) {}
}

/// Has everything captured that is logged from here on.
fn capture() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| log::set_logger(&CAPTURED).unwrap());
    log::set_max_level(LevelFilter::Trace);
}

fn assert_silent(what: &str, text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret} in {what}: {text}");
    }
}

fn all_events(watch: &Watch) -> String {
    format!("{:?}", watch.rest())
}

#[test]
fn credentials_are_never_logged_nor_shown() {
    capture();
    let listener = Listener::new();
    let url = format!("ws://user:hunter2@{}/feed/opensesame?token=opensesame", listener.address());
    let builder = Client::builder(&url)
        .header("X-Api-Key", "opensesame")
        .heartbeat(Heartbeat::default().answer("swordfish", "swordfish"))
        .on_request(|request| {
            request.set_header("Authorization", "Bearer swordfish")?;
            let shown = format!("{request:?}");
            assert_silent("the request", &shown);
            Ok(())
        })
        .login(|session| {
            let shown = format!("{session:?}");
            assert_silent("the login session", &shown);
            session.send("swordfish")?;
            assert_silent("the login session", &format!("{session:?}"));
            Ok(())
        });
    assert_silent("the builder", &format!("{builder:?}"));
    let (builder, first) = watch(builder);
    let client = builder.start().unwrap();
    // refused, redirected, broken off, accepted and reset
    let answers = [
        "HTTP/1.1 503 Busy\r\n\r\n".to_owned(),
        format!(
            "HTTP/1.1 302 Found\r\nLocation: ws://u:xyzzy@{}/x/xyzzy\r\n\r\n",
            listener.address()
        ),
        "HTTP/1.1 302 Found\r\nLocation: ftp:/x?token=xyzzy\r\n\r\n".to_owned(),
        "HTTP/1.1 403 No\r\nSet-Cookie: id=xyzzy\r\nContent-Length: 5\r\n\r\nxyzzy".to_owned(),
        "HTTP/1.1 200\r\n".to_owned(),
    ];
    for answer in answers {
        let (_stream, request) = listener.answer(&answer);
        assert!(request.contains("Bearer swordfish") || answer.contains("200"), "{request}");
        client.reconnect().unwrap();
    }
    let peer = listener.accept();
    first.connected();
    assert_silent("the client", &format!("{client:?}"));
    reset(peer);
    first.disconnected();
    assert_silent("events", &all_events(&first));
    client.close();

    // a proxy that refuses, with credentials of its own
    let proxies = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::new(format!("http://user:swordfish@{}", proxies.local_addr().unwrap()));
    let proxy = proxy.unwrap();
    assert_silent("the proxy", &format!("{proxy:?}"));
    let (builder, second) = watch(Client::builder("ws://example.invalid/").proxy(proxy));
    assert_silent("a builder with a proxy", &format!("{builder:?}"));
    let client = builder.start().unwrap();
    let refuse = thread::spawn(move || {
        let (mut stream, _) = proxies.accept().unwrap();
        let head = support::read_head(&mut stream);
        assert!(head.contains("Proxy-Authorization"), "{head}");
        stream.write_all(b"HTTP/1.1 407 Who are you\r\n\r\n").unwrap();
    });
    second.gave_up();
    refuse.join().unwrap();
    assert_silent("events", &all_events(&second));
    client.close();

    // whoever answers says back what it was told, in every place of an answer
    let told = "/feed/opensesame?token=opensesame";
    for answer in [
        "REQUEST".to_owned(),
        "LINE\r\n\r\n".into(),
        "HTTP/1.1 LINE\r\n\r\n".into(),
        "HTTP/1.1 404 No\r\nX-Request: LINE\r\nREQUEST\r\n\r\n".into(),
        format!("HTTP/1.1 302 Found\r\nLocation: ws://token=opensesame:1/{told}\r\n\r\n"),
        "HTTP/1.1 302 Found\r\nLocation: /token=opensesame\r\n\r\n".into(),
        "HTTP/1.1 302 Found\r\nLocation: opensesame:/\r\n\r\n".into(),
        format!("UPGRADE\r\nX-Original-Uri: {told}\r\nX-Api-Key: swordfish\r\n\r\n"),
        format!("UPGRADE\r\nSec-WebSocket-Protocol: {told}\r\n\r\n"),
        format!("UPGRADE\r\nSec-WebSocket-Extensions: x; a=\"{told}\"\r\n\r\n"),
        "UPGRADE\r\nSec-WebSocket-Extensions: opensesame\r\n\r\n".into(),
    ] {
        let listener = Listener::new();
        let url = format!("ws://user:hunter2@{}{told}", listener.address());
        let nowhere = |_: &str, _| Err(std::io::ErrorKind::NotFound.into());
        let builder = Client::builder(&url).header("X-Api-Key", "swordfish").resolver(nowhere);
        let (builder, watch) = watch(builder.max_attempts(1));
        let client = builder.start().unwrap();
        let mut stream = listener.accept_raw();
        let request = support::read_head(&mut stream);
        let line = request.split_whitespace().collect::<Vec<_>>().join(" ");
        let upgrade = support::bare::upgraded(&request);
        let answer = answer.replace("UPGRADE", upgrade.trim_end());
        let answer = answer.replace("LINE", &line).replace("REQUEST", &request);
        let _ = stream.write_all(answer.as_bytes());
        if answer.contains("Location: /token=") {
            drop(listener.answer("HTTP/1.1 404 No\r\n\r\n"));
        }
        drop(stream);
        watch.gave_up();
        let shown = format!("{client:?} {:?} {:?}", client.status(), client.close());
        assert_silent("a client that was answered with its request", &shown);
        for event in watch.rest() {
            assert_silent("an event", &format!("{event} {event:?}"));
        }
    }
    for answer in
        ["LINE\r\n\r\n", "HTTP/1.1 407 LINE\r\nProxy-Authenticate: dXNlcjpzd29yZGZpc2g\r\n\r\n"]
    {
        let listener = Listener::new();
        let proxy = Proxy::new(format!("http://user:swordfish@{}", listener.address())).unwrap();
        let builder = Client::builder("ws://example.invalid/").proxy(proxy).max_attempts(1);
        let (builder, watch) = watch(builder);
        let client = builder.start().unwrap();
        let mut stream = listener.accept_raw();
        let request = support::read_head(&mut stream);
        let line = request.split_whitespace().collect::<Vec<_>>().join(" ");
        stream.write_all(answer.replace("LINE", &line).as_bytes()).unwrap();
        drop(stream);
        let cause = watch.gave_up();
        assert_silent("a proxy that answers with its request", &format!("{cause} {cause:?}"));
        client.close();
        assert_silent("events", &all_events(&watch));
    }

    // and when it closes
    let (builder, watch) = watch(
        listener
            .client()
            .header("X-Api-Key", "opensesame")
            .bearer_auth("swordfish")
            .decide(|_, _| Decision::GiveUp),
    );
    let client = builder.start().unwrap();
    let mut stream = listener.accept_raw();
    let upgraded = support::bare::upgraded(&support::read_head(&mut stream));
    let reason = "neither opensesame nor swordfish lets you in";
    // 1008
    let head = [0x88, reason.len() as u8 + 2, 0x03, 0xf0];
    stream.write_all(&[upgraded.as_bytes(), &head, reason.as_bytes()].concat()).unwrap();
    let cause = watch.gave_up();
    let shown = format!("{cause} {cause:?} {:?}", client.status());
    assert!(shown.contains("neither ... nor ... lets you in"), "{shown}");
    assert_silent("a close frame", &shown);
    client.close();
    assert_silent("events", &all_events(&watch));

    let answer = Answer::accept().subprotocol("xyzzy").header("Set-Cookie", "id=xyzzy");
    assert_silent("an answer", &format!("{:?}", answer.body("xyzzy")));

    // what is no URL at all is an error that does not repeat it
    for wrong in [
        "ws://user:hunter2@",
        "http://user:hunter2@host",
        "ws://user:hunter2@ho st/",
        "user:hunter2@host://x",
        "localhost:9001/feed?token=opensesame&cb=http://x",
        "/x?token=opensesame",
        "ws://user:hunter2@host:99999",
        "ws://user:hunter2/@host",
        "ws://host/?token=opensesame\n",
    ] {
        let error = Client::connect(wrong).unwrap_err();
        assert_silent("an error", &format!("{error} {error:?}"));
        if let Err(error) = Proxy::new(wrong) {
            assert_silent("an error", &format!("{error} {error:?}"));
        }
    }

    let captured = CAPTURED.0.lock().unwrap();
    assert!(
        captured.iter().any(|(target, _)| target.starts_with("everlink")),
        "nothing was logged"
    );
    for (target, line) in captured.iter() {
        assert_silent(target, line);
    }
}

#[test]
fn a_peer_cannot_forge_a_record_of_the_log() {
    const FORGED: &str = "bye)\n[ERROR root] forged\u{1b}[2J\u{202e}";
    capture();
    let listener = Listener::new();
    let (builder, watch) = watch(listener.client().decide(|_, _| Decision::Retry));
    let client = builder.start().unwrap();
    for head in ["HTTP/1.1 404 ", "HTTP/1.1 101 Yes\r\nUpgrade: ", "SSH-2.0-"] {
        drop(listener.answer(&format!("{head}{FORGED}\r\n\r\n")));
        watch.attempt_failed();
    }
    let mut peer = listener.accept();
    peer.close(Some(CloseFrame { code: 1000.into(), reason: FORGED.into() })).unwrap();
    read_to_end(&mut peer);
    drop(peer);
    let cause = watch.disconnected();
    assert!(matches!(&*cause, Failure::Closed(Some(frame)) if frame.reason == FORGED), "{cause:?}");
    client.close();

    // and the other way round
    let server = Server::bind("127.0.0.1:0", |session| while session.recv().is_ok() {}).unwrap();
    let stream = std::net::TcpStream::connect(server.local_addr()).unwrap();
    let url = format!("ws://{}", server.local_addr());
    let (mut peer, _) = tungstenite::client(url, stream).unwrap();
    peer.close(Some(CloseFrame { code: 1000.into(), reason: FORGED.into() })).unwrap();
    read_to_end(&mut peer);
    server.shutdown(PATIENCE);

    let captured = CAPTURED.0.lock().unwrap();
    let ours = captured.iter().filter(|(target, _)| target.starts_with("everlink"));
    let goodbyes = ours.clone().filter(|(_, line)| line.contains("bye)")).count();
    assert!(goodbyes >= 2, "the close frames were not logged: {captured:?}");
    for (_, line) in ours {
        let is_plain = |c: char| !c.is_control() && c != '\u{202e}';
        assert!(line.chars().all(is_plain), "{line:?}");
    }
}

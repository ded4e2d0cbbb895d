//! What cannot work is refused before anything is started.

mod support;

use std::time::Duration;

use everlink::config::{
    Backoff, Framing, Heartbeat, LengthField, Limits, Prefix, Queue, Resume, Timeouts,
};
use everlink::{Client, ClientBuilder, Error};
use support::{PATIENCE, everlink_threads, ms};

fn refused(builder: ClientBuilder) -> Error {
    let error = builder.start().expect_err("accepted");
    assert_eq!(everlink_threads(), [""; 0], "threads are left behind");
    error
}

#[test]
fn senseless_settings_leave_nothing_behind() {
    for url in ["", "nonsense", "ws://", "ftp://host", "http://host", "ws://host:0", "ws://ho st"] {
        let error = refused(Client::builder(url));
        assert!(matches!(error, Error::InvalidUrl { .. }), "{url:?}: {error:?}");
    }
    let builder = || Client::builder("ws://127.0.0.1:9");
    for (name, value) in [("X-A\r\nX-B", "1"), ("X-A", "1\r\nX-B: 2"), ("", ""), ("Upgrade", "x")] {
        let error = refused(builder().header(name, value));
        assert!(matches!(error, Error::InvalidHeader { .. }), "{name:?}: {error:?}");
    }
    assert!(matches!(refused(builder().subprotocols(["a b"])), Error::InvalidHeader { .. }));

    let (zero, absurd) = (Duration::ZERO, Duration::MAX);
    let setting = |error| match error {
        Error::InvalidSetting { setting, .. } => setting,
        other => panic!("{other:?}"),
    };
    for time in [zero, absurd, Duration::from_micros(999)] {
        assert_eq!(
            setting(refused(builder().timeouts(Timeouts::new().dns(time)))),
            "Timeouts::dns"
        );
        assert_eq!(
            setting(refused(builder().timeouts(Timeouts::new().connect(time)))),
            "Timeouts::connect"
        );
        assert_eq!(
            setting(refused(builder().timeouts(Timeouts::new().handshake(time)))),
            "Timeouts::handshake"
        );
        assert_eq!(
            setting(refused(builder().timeouts(Timeouts::new().login(time)))),
            "Timeouts::login"
        );
        assert_eq!(
            setting(refused(builder().timeouts(Timeouts::new().write(time)))),
            "Timeouts::write"
        );
        assert_eq!(
            setting(refused(builder().timeouts(Timeouts::new().close(time)))),
            "Timeouts::close"
        );
        assert_eq!(setting(refused(builder().heartbeat(Heartbeat::every(time)))), "heartbeat");
    }
    let backwards = Heartbeat::every(ms(10)).dead_after(ms(5));
    assert_eq!(setting(refused(builder().heartbeat(backwards))), "heartbeat");
    assert_eq!(setting(refused(builder().backoff(Backoff::fixed(absurd)))), "backoff");
    assert_eq!(setting(refused(builder().max_attempts(0))), "max_attempts");
    assert_eq!(setting(refused(builder().limits(Limits::new().message(0)))), "Limits::message");
    assert_eq!(setting(refused(builder().limits(Limits::new().frame(0)))), "Limits::frame");
    assert_eq!(setting(refused(builder().limits(Limits::new().fragment(0)))), "Limits::fragment");
    assert_eq!(setting(refused(builder().outbox(Queue::new().messages(0)))), "outbox");
    assert_eq!(setting(refused(builder().inbox(Queue::new().messages(0)))), "inbox");

    let framed = |framing: Framing| {
        Client::builder("tcp://127.0.0.1:9").heartbeat(Heartbeat::off()).framing(framing)
    };
    let field = LengthField::new(Prefix::U8);
    for framing in [
        Framing::fixed(100).max_length(10),
        Framing::delimited("abcdef").keep_delimiter().max_length(3),
        Framing::length_field(field.offset(1 << 40)),
        Framing::length_field(field.offset(1001)).max_length(1000),
        Framing::length_field(field.adjustment(100)).max_length(10),
    ] {
        assert_eq!(setting(refused(framed(framing.clone()))), "framing", "{framing:?}");
    }
    let small = Limits::new().message(10);
    assert_eq!(setting(refused(framed(Framing::fixed(100)).limits(small))), "framing");
    let beats = framed(Framing::fixed(8)).heartbeat(Heartbeat::ping_pong());
    assert_eq!(setting(refused(beats)), "heartbeat");
    for limits in [Limits::new().message(159), Limits::new().frame(159)] {
        assert_eq!(setting(refused(builder().limits(limits).resume(Resume::new()))), "resume");
    }

    #[cfg(feature = "tls")]
    {
        let nonsense = everlink::config::Tls::new().root_certificates_pem(b"nonsense");
        assert_eq!(setting(refused(Client::builder("wss://host").tls(nonsense))), "tls");
    }

    // an absurd wait is a wait without end, not a panic
    let client = builder().max_attempts(1).start().unwrap();
    let waited = client.wait_connected(Duration::MAX);
    assert!(matches!(waited, Err(Error::GaveUp(_))), "{waited:?}");
    assert!(client.recv_timeout(Duration::MAX).is_err());
    client.send_timeout("x", Duration::MAX).unwrap();
    assert!(PATIENCE > ms(0) && client.close().ended);
}

#[cfg(not(feature = "tls"))]
#[test]
fn tls_is_refused_where_it_is_not_built_in() {
    let error = Client::builder("wss://host").start().unwrap_err();
    assert!(matches!(error, Error::TlsUnavailable { scheme: "wss" }), "{error:?}");
}

/// Starts a client in a process of its own, whose environment is as given.
fn with_environment(name: &str, url: &str) -> String {
    let test = std::env::current_exe().unwrap();
    let output = std::process::Command::new(test)
        .args(["--exact", "the_environment_of_a_child", "--nocapture"])
        .env("EVERLINK_TEST_URL", url)
        .env(name, "socks://user:hunter2@127.0.0.1:1080")
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Does nothing but in the child.
#[test]
fn the_environment_of_a_child() {
    if let Ok(url) = std::env::var("EVERLINK_TEST_URL") {
        match Client::builder(&url).proxy_from_env().start() {
            Ok(_) => println!("it was started"),
            Err(error) => println!("{error} {error:?}"),
        }
    }
}

#[test]
fn an_environment_that_names_no_usable_proxy_is_refused_at_the_start() {
    for (name, url) in [
        ("ALL_PROXY", "ws://127.0.0.1:9"),
        ("all_proxy", "tcp://127.0.0.1:9"),
        ("HTTP_PROXY", "ws://127.0.0.1:9"),
    ] {
        let said = with_environment(name, url);
        let variable = name.to_uppercase();
        assert!(said.contains(&variable) && said.contains("socks5://"), "{name}: {said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    // one that would not be used is nobody's trouble
    assert!(with_environment("HTTPS_PROXY", "ws://127.0.0.1:9").contains("it was started"));
}

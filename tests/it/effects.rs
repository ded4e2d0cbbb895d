//! What can have no effect, or cannot hold beside another setting, is refused at the start.

use std::time::Duration;

use crate::support::{PATIENCE, ms};
use everlink::config::{
    Backoff, Framing, Heartbeat, Jitter, LengthField, Limits, Overflow, Prefix, Proxy, Queue,
    SlowSession, SocketOptions, Timeouts,
};
use everlink::transport::Duplex;
use everlink::{Answer, Client, ClientBuilder, Error, Message, Server, ServerBuilder};

/// The setting that is refused, and why.
fn refusal(error: Error) -> (&'static str, String) {
    match error {
        Error::InvalidSetting { setting, reason } => (setting, reason),
        other => panic!("{other:?}"),
    }
}

fn refused(builder: ClientBuilder) -> (&'static str, String) {
    let error = builder.start().expect_err("accepted");
    refusal(error)
}

fn refused_by_server(builder: ServerBuilder) -> (&'static str, String) {
    refusal(builder.bind("127.0.0.1:0", |_| {}).expect_err("accepted"))
}

fn accepted(builder: ClientBuilder) {
    builder.start().expect("refused").close();
}

fn websocket() -> ClientBuilder {
    Client::builder("ws://127.0.0.1:9")
}

fn framed() -> ClientBuilder {
    Client::builder("tcp://127.0.0.1:9").heartbeat(Heartbeat::ping_pong())
}

fn nowhere(_: &str, _: u16) -> std::io::Result<Duplex> {
    Err(std::io::ErrorKind::ConnectionRefused.into())
}

#[test]
fn what_can_have_no_effect_is_refused_with_words() {
    let second = Duration::from_secs(1);
    let proxy = || Proxy::new("http://127.0.0.1:9").unwrap();
    let here = || ([127, 0, 0, 1], 9).into();
    for (setting, builder) in [
        ("framing", websocket().framing(Framing::raw())),
        ("Limits::fragment", framed().limits(Limits::new().fragment(1000))),
        ("Limits::frame", framed().limits(Limits::new().frame(1000))),
        ("keep_cookies", framed().keep_cookies()),
        ("max_redirects", framed().max_redirects(1)),
        ("max_retry_after", framed().max_retry_after(second)),
        ("Timeouts::handshake", framed().timeouts(Timeouts::new().handshake(second))),
        ("Timeouts::login", websocket().timeouts(Timeouts::new().login(second))),
        ("inbox", websocket().on_message(|_, _| {}).inbox(Queue::new())),
        ("inbox", websocket().inbox(Queue::new().message_ttl(second))),
        ("heartbeat", websocket().heartbeat(Heartbeat::listen(second).interval(second))),
        ("heartbeat", websocket().heartbeat(Heartbeat::listen(second).always())),
        ("heartbeat", framed().heartbeat(Heartbeat::ping_pong().always())),
        // a connector makes the connections
        ("proxy", websocket().connector(nowhere).proxy(proxy())),
        ("proxy_from_env", websocket().connector(nowhere).proxy_from_env()),
        ("connect_to", websocket().connector(nowhere).connect_to(here())),
        ("resolver", websocket().connector(nowhere).resolver(move |_: &str, _| Ok(vec![here()]))),
        (
            "SocketOptions::local_address",
            websocket().connector(nowhere).socket(SocketOptions::new().local_address(here())),
        ),
        (
            "SocketOptions::send_buffer",
            websocket()
                .connector(nowhere)
                .socket(SocketOptions::new().send_buffer(1000).receive_buffer(1000)),
        ),
        (
            "SocketOptions::keepalive",
            websocket().connector(nowhere).socket(SocketOptions::new().keepalive(second)),
        ),
        (
            "SocketOptions::user_timeout",
            websocket().connector(nowhere).socket(SocketOptions::new().user_timeout(second)),
        ),
        ("resolver", {
            let resolve = move |_: &str, _| Ok(vec![here()]);
            websocket().connect_to(here()).resolver(resolve)
        }),
        ("Timeouts::dns", websocket().connect_to(here()).timeouts(Timeouts::new().dns(second))),
        ("Timeouts::dns", websocket().connector(nowhere).timeouts(Timeouts::new().dns(second))),
        // options that only another kind of the value has
        ("backoff", websocket().backoff(Backoff::fixed(second).jitter(Jitter::Full))),
        ("backoff", websocket().backoff(Backoff::fixed(second).max(second))),
        ("backoff", websocket().backoff(Backoff::custom(|_| ms(1)).initial(second))),
        ("heartbeat", websocket().heartbeat(Heartbeat::off().dead_after(second))),
        ("framing", framed().framing(Framing::lines().little_endian())),
        ("framing", framed().framing(Framing::raw().inclusive())),
        ("framing", framed().framing(Framing::packets(|_| Ok(None)).keep_delimiter())),
        (
            "Limits::fragment",
            websocket().framing(Framing::lines()).limits(Limits::new().fragment(100)),
        ),
    ] {
        let (refused, reason) = refused(builder);
        assert_eq!(refused, setting, "{reason}");
        assert!(reason.contains("can have no effect"), "{setting}: {reason}");
    }
    for framing in [
        Framing::delimited(""),
        Framing::fixed(0),
        Framing::custom(|| (|_: &[u8]| Ok(None), |_: &Message, _: &mut Vec<u8>| Ok(())))
            .max_length(0),
        Framing::length_field(LengthField::new(Prefix::U8).adjustment(-255)),
    ] {
        assert_eq!(refused(framed().framing(framing.clone())).0, "framing", "{framing:?}");
        let server = Server::builder().framing(framing).heartbeat(Heartbeat::off());
        assert_eq!(refused_by_server(server).0, "framing");
    }
    for builder in [framed().header("X-A", "1"), framed().subprotocols(["chat"])] {
        let error = builder.start().unwrap_err();
        assert!(matches!(error, Error::InvalidHeader { .. }), "{error:?}");
    }
    #[cfg(feature = "tls")]
    {
        let tls = everlink::config::Tls::new;
        assert_eq!(refused(framed().tls(tls())).0, "tls");
        assert_eq!(refused(websocket().max_redirects(0).tls(tls())).0, "tls");
        // a redirect, or the program, can lead to TLS
        accepted(websocket().tls(tls()));
        accepted(
            framed().on_request(|_| Ok(())).tls(tls()).timeouts(Timeouts::new().handshake(second)),
        );
    }
    accepted(framed().proxy(proxy()).timeouts(Timeouts::new().handshake(second)));
    accepted(framed().framing(Framing::length_prefixed(Prefix::U32).little_endian().inclusive()));
    accepted(websocket().login(|_| Ok(())).timeouts(Timeouts::new().login(second)));
}

#[test]
fn the_same_holds_for_a_server() {
    let second = Duration::from_secs(1);
    let framed = || Server::builder().framing(Framing::lines()).heartbeat(Heartbeat::ping_pong());
    for (setting, builder) in [
        ("on_request", framed().on_request(|_| Answer::accept())),
        ("origins", framed().origins(["https://example.org"])),
        ("any_origin", framed().any_origin()),
        ("host_names", framed().host_names(["localhost"])),
        ("Limits::frame", framed().limits(Limits::new().frame(1000))),
        ("Timeouts::handshake", framed().timeouts(Timeouts::new().handshake(second))),
        ("framing", framed().framing(Framing::lines().inclusive())),
        ("Timeouts::dns", Server::builder().timeouts(Timeouts::new().dns(second))),
        ("Timeouts::connect", Server::builder().timeouts(Timeouts::new().connect(second))),
        ("Timeouts::login", Server::builder().timeouts(Timeouts::new().login(second))),
        (
            "SocketOptions::local_address",
            Server::builder()
                .socket(SocketOptions::new().local_address(([127, 0, 0, 1], 0).into())),
        ),
        ("inbox", Server::builder().inbox(Queue::new().message_ttl(second))),
        ("heartbeat", Server::builder().heartbeat(Heartbeat::off().interval(second))),
        ("heartbeat", Server::builder().heartbeat(Heartbeat::off().dead_after(second))),
        (
            "slow_session",
            Server::builder()
                .slow_session(SlowSession::Disconnect)
                .outbox(Queue::new().overflow(Overflow::DropOldest)),
        ),
    ] {
        let (refused, reason) = refused_by_server(builder);
        assert_eq!(refused, setting, "{reason}");
        assert!(reason.contains("can have no effect"), "{setting}: {reason}");
    }
}

#[test]
fn framed_tcp_has_its_heartbeat_chosen_by_the_program() {
    let second = Duration::from_secs(1);
    let client = || Client::builder("tcp://127.0.0.1:9");
    let server = || Server::builder().framing(Framing::lines());
    for (setting, reason) in [
        refused(client()),
        refused(client().heartbeat(Heartbeat::default())),
        refused(client().heartbeat(Heartbeat::every(second).always())),
        refused_by_server(server()),
        refused_by_server(server().heartbeat(Heartbeat::every(second))),
    ] {
        assert_eq!(setting, "heartbeat", "{reason}");
        for choice in ["ping_pong()", "message(", "listen(", "off()"] {
            assert!(reason.contains(choice), "{choice} is not named: {reason}");
        }
    }
    for choice in [
        Heartbeat::ping_pong(),
        Heartbeat::every(second).message("beat", |_| false),
        Heartbeat::listen(second),
        Heartbeat::off(),
    ] {
        accepted(client().heartbeat(choice.clone()));
        drop(server().heartbeat(choice).bind("127.0.0.1:0", |_| {}).unwrap());
    }
}

#[test]
fn what_comes_through_a_channel_goes_to_no_handler() {
    for result in [
        websocket().on_message(|_, _| {}).start_with_channel(),
        websocket().on_message(|_, _| {}).connect_with_channel(),
    ] {
        let (setting, reason) = refusal(result.expect_err("accepted"));
        assert_eq!(setting, "on_message");
        assert!(reason.contains("can have no effect"), "{reason}");
    }
}

#[test]
fn what_the_kernel_would_refuse_is_refused_at_the_start_with_the_range() {
    let day = Duration::from_secs(24 * 3600);
    for time in [ms(500), day, 30 * day] {
        for (setting, (refused, reason)) in [
            (
                "SocketOptions::keepalive",
                refused(websocket().socket(SocketOptions::new().keepalive(time))),
            ),
            (
                "SocketOptions::user_timeout",
                refused(websocket().socket(SocketOptions::new().user_timeout(time))),
            ),
            (
                "SocketOptions::keepalive",
                refused_by_server(Server::builder().socket(SocketOptions::new().keepalive(time))),
            ),
            (
                "SocketOptions::user_timeout",
                refused_by_server(
                    Server::builder().socket(SocketOptions::new().user_timeout(time)),
                ),
            ),
        ] {
            assert_eq!(refused, setting, "{reason}");
            assert!(reason.contains("1s and 32767s"), "{reason}");
        }
    }
    assert_eq!(
        refused(websocket().socket(SocketOptions::new().send_buffer(0).receive_buffer(1000))).0,
        "SocketOptions::send_buffer"
    );
    assert_eq!(
        refused(
            websocket().socket(SocketOptions::new().send_buffer(1000).receive_buffer(usize::MAX))
        )
        .0,
        "SocketOptions::receive_buffer"
    );
    // and what it takes works
    for time in [Duration::from_secs(1), Duration::from_secs(32_767)] {
        let server =
            Server::builder().socket(SocketOptions::new().keepalive(time).user_timeout(time));
        let server = server.bind("127.0.0.1:0", |session| drop(session.recv())).unwrap();
        let client = Client::builder(format!("ws://{}", server.local_addr()))
            .socket(SocketOptions::new().keepalive(time).user_timeout(time))
            .connect();
        client.unwrap().close();
    }
}

#[test]
fn absurd_bounds_of_queues_take_no_memory_and_panic_nowhere() {
    for messages in [50_000_000, usize::MAX] {
        for overflow in [Overflow::Wait, Overflow::Fail, Overflow::DropOldest] {
            let queue = Queue::new().messages(messages).bytes(usize::MAX).overflow(overflow);
            let server = Server::builder().inbox(queue).outbox(queue);
            let server = server.bind_with_channel("127.0.0.1:0", |session, messages| {
                for message in messages {
                    session.send(message).unwrap();
                }
            });
            let server = server.unwrap();
            let client = Client::builder(format!("ws://{}", server.local_addr()))
                .inbox(queue)
                .outbox(queue)
                .limits(Limits::new().message(usize::MAX))
                .connect_with_channel();
            let (client, messages) = client.unwrap();
            client.send("x").unwrap();
            assert_eq!(client.recv_timeout(PATIENCE).unwrap().as_text(), Some("x"));
            client.send("y").unwrap();
            let received = messages.recv_timeout(PATIENCE).unwrap();
            assert_eq!(received.as_text(), Some("y"));
            client.close();
        }
    }
}

#[test]
fn an_outbox_holds_every_message_that_may_be_sent() {
    // raised where the program has not said how many bytes
    let limits = Limits::new().message(80 << 20).frame(80 << 20);
    let server = Server::builder().limits(limits).outbox(Queue::new().messages(7));
    let server = server.bind("127.0.0.1:0", |session| {
        session.send(vec![0; 70 << 20]).unwrap();
        let _ = session.recv();
    });
    let server = server.unwrap();
    let client =
        Client::builder(format!("ws://{}", server.local_addr())).limits(limits).connect().unwrap();
    assert_eq!(client.recv_timeout(PATIENCE).unwrap().len(), 70 << 20);
    client.try_send(vec![0; 75 << 20]).unwrap();
    client.close();

    // refused where it has said both, and they contradict each other
    let small = Queue::new().bytes(1000);
    let (setting, reason) = refused(websocket().outbox(small).limits(Limits::new().message(1001)));
    assert_eq!(setting, "outbox");
    assert!(reason.contains("1000") && reason.contains("1001"), "{reason}");
    let server = Server::builder().outbox(small).limits(Limits::new().message(1001));
    assert_eq!(refused_by_server(server).0, "outbox");
    accepted(websocket().outbox(small).limits(Limits::new().message(1000)));
    // and where it has said the one, that is the limit
    let client = websocket().outbox(small).start().unwrap();
    let error = client.send(vec![0; 1001]).unwrap_err().error;
    assert!(matches!(error, Error::MessageTooLarge { size: 1001, limit: 1000, .. }), "{error:?}");
}

//! Other people's protocols in a few lines each, with their real servers, which are killed meanwhile.

use std::path::{Path, PathBuf};
use std::time::Duration;

use everlink::config::{Backoff, Delivery, Framing, Heartbeat, SendOptions};
use everlink::{CallsInOrder, Client, ClientBuilder, Message};

use super::services::Service;
use crate::support::{PATIENCE, ms};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn interop() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/interop")
}

fn position(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

fn text(message: &[u8]) -> String {
    String::from_utf8_lossy(message).into_owned()
}

fn client(url: &str) -> ClientBuilder {
    Client::builder(url).backoff(Backoff::fixed(ms(20)))
}

/// A reply of memcached: a line, or values up to their `END`.
fn reply_of_memcached(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(line) = position(bytes, b"\r\n") else { return Ok(None) };
    if bytes.starts_with(b"VALUE ") {
        let size = text(&bytes[..line]).rsplit(' ').next().unwrap_or_default().parse::<usize>()?;
        return Ok(Some(line + 2 + size + 2 + 5));
    }
    Ok(Some(line + 2))
}

#[test]
fn memcached_answers_in_order_and_its_clients_are_back() {
    let arguments = |_: &PathBuf, port: u16| {
        let port = port.to_string();
        ["-u", "root", "-l", "127.0.0.1", "-p", &port].map(str::to_owned).to_vec()
    };
    let Some(mut service) = Service::start("memcached", arguments) else { return };
    let replies: CallsInOrder<String> = CallsInOrder::new();
    let answers = replies.clone();
    let client = client(&service.url())
        .framing(Framing::packets(reply_of_memcached))
        .heartbeat(Heartbeat::off())
        .on_message(move |_, reply| drop(answers.complete(reply.link(), text(reply.as_bytes()))))
        .connect()
        .unwrap();
    let set = |key: &str, value: &str| format!("set {key} 0 0 {}\r\n{value}\r\n", value.len());
    for round in 0..3 {
        let waiting: Vec<_> = (0..200)
            .map(|n| {
                replies.ask(client.sender(), set(&n.to_string(), &format!("{n}\r\nEND"))).unwrap()
            })
            .collect();
        for waiting in waiting {
            assert_eq!(waiting.wait_timeout(PATIENCE).unwrap(), "STORED\r\n");
        }
        let got = replies.call(client.sender(), "get 7\r\n", PATIENCE).unwrap();
        assert_eq!(got, "VALUE 7 0 6\r\n7\r\nEND\r\nEND\r\n", "round {round}");
        service.restart("-KILL");
        // what was asked on the old link has failed; on the new one it is asked anew
        client.wait_connected(PATIENCE).unwrap();
        loop {
            match replies.call(client.sender(), "get 7\r\n", PATIENCE) {
                Ok(got) => break assert_eq!(got, "END\r\n", "it keeps nothing"),
                Err(everlink::Error::NotConnected) => {}
                Err(other) => panic!("{other}"),
            }
        }
    }
}

/// A frame of STOMP up to its zero byte, or one of the line feeds between them, which are beats.
fn frame_of_stomp(bytes: &[u8]) -> Result<Option<usize>> {
    if bytes.first() == Some(&b'\n') {
        return Ok(Some(1));
    }
    let Some(head) = position(bytes, b"\n\n") else { return Ok(None) };
    let length = header(&bytes[..head], "content-length").and_then(|it| it.parse::<usize>().ok());
    Ok(match length {
        Some(length) => Some(head + 2 + length + 1),
        None => position(&bytes[head..], b"\0").map(|end| head + end + 1),
    })
}

fn header(frame: &[u8], name: &str) -> Option<String> {
    let text = text(frame);
    let head = text.split("\n\n").next()?;
    let values = head.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    values.map(str::to_owned).next()
}

#[test]
fn stomp_is_sent_again_until_there_is_a_receipt() {
    let arguments = |_: &PathBuf, port: u16| {
        let port = port.to_string();
        let server = interop().join("venv/bin/coilmq").display().to_string();
        [&server, "-b", "127.0.0.1", "-p", &port].map(str::to_owned).to_vec()
    };
    let python = interop().join("venv/bin/python");
    let python: &'static str = Box::leak(python.display().to_string().into_boxed_str());
    if !interop().join("venv/bin/coilmq").exists() {
        return println!("skipped: coilmq is not installed");
    }
    let Some(mut service) = Service::start(python, arguments) else { return };
    let client = client(&service.url())
        .framing(Framing::packets(frame_of_stomp).max_length(1 << 20))
        .heartbeat(Heartbeat::listen(PATIENCE))
        .delivery(Delivery::UntilConfirmed)
        .login(|login| {
            // coilmq loses the frame behind a beat, so it gets none
            login.send("CONNECT\naccept-version:1.1\nhost:test\nheart-beat:0,1000\n\n\0")?;
            let connected = login.recv_matching(|frame| frame.as_bytes() != b"\n")?;
            if !connected.as_bytes().starts_with(b"CONNECTED") {
                Err(text(connected.as_bytes()))?;
            }
            // how often the server says something
            let every = header(connected.as_bytes(), "heart-beat");
            let every = every.and_then(|it| it.split(',').next()?.parse().ok()).unwrap_or(0);
            let limit = Duration::from_millis(every).max(ms(1000)) * 10;
            login.set_heartbeat(Heartbeat::listen(limit))
        })
        .on_message(|sender, frame| {
            if frame.as_bytes().starts_with(b"RECEIPT") {
                let key = header(frame.as_bytes(), "receipt-id").and_then(|it| it.parse().ok());
                key.map(|key| sender.confirm(key));
            }
        })
        .connect()
        .unwrap();
    for number in 0..600_u64 {
        let frame = format!("SEND\ndestination:/queue/a\nreceipt:{number}\n\n{number}\0");
        client.send_with(frame, SendOptions::new().key(number)).unwrap();
        if number % 250 == 249 {
            service.restart("-KILL");
        }
    }
    client.flush(PATIENCE).unwrap();
    let stats = client.stats();
    assert_eq!((stats.passed_on, stats.outbox_messages), (stats.accepted, 0));
    assert!(client.close().undelivered.is_empty());
}

#[test]
fn engine_io_says_how_often_it_beats() {
    let module = interop().join("node_modules/engine.io");
    if !module.exists() {
        return println!("skipped: engine.io is not installed");
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/engineio.mjs");
    let arguments = |_: &PathBuf, port: u16| {
        // modules are found beside the script
        let here = interop().join("engineio.mjs");
        std::fs::copy(&script, &here).unwrap();
        vec![here.display().to_string(), port.to_string()]
    };
    let Some(mut service) = Service::start("node", arguments) else { return };
    let url = service.url().replace("tcp://", "ws://") + "/engine.io/?EIO=4&transport=websocket";
    let client = client(&url)
        .heartbeat(Heartbeat::listen(PATIENCE))
        .login(|login| {
            let open = login.recv()?;
            let open = open.as_text().and_then(|it| it.strip_prefix('0')).ok_or("no Engine.IO")?;
            let open: serde_json::Value = serde_json::from_str(open)?;
            let ms = |name: &str| open[name].as_u64().ok_or("no times");
            let limit = Duration::from_millis(ms("pingInterval")? + ms("pingTimeout")?);
            login.set_heartbeat(Heartbeat::listen(limit).answer("2", "3"))
        })
        .connect()
        .unwrap();
    let echo = |n: u32| {
        client.send(format!("4{n}")).unwrap();
        let echo = client.recv_timeout(PATIENCE);
        echo.map(|echo: Message| echo.to_string())
    };
    assert_eq!(echo(1).unwrap(), "41");
    // more than it waits for an answer to its ping
    std::thread::park_timeout(ms(2500));
    assert_eq!(echo(2).unwrap(), "42");
    assert_eq!(client.stats().connects, 1, "its pings are answered");
    // one that hangs is given up after as long as it said
    service.signal("-STOP");
    let events = client.subscribe();
    let lost = events.recv_timeout(Duration::from_secs(5)).unwrap();
    assert!(matches!(lost, everlink::Event::Disconnected { .. }), "{lost:?}");
    service.signal("-CONT");
    service.restart("-KILL");
    client.wait_connected(PATIENCE).unwrap();
    assert_eq!(echo(3).unwrap(), "43");
}

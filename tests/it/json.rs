//! JSON in messages, settings from a configuration, and records for machines: the feature `serde`.
#![cfg(feature = "serde")]

use std::fmt::Debug;
use std::time::Duration;

use crate::support::*;
use everlink::config::{
    Delivery, Jitter, Limits, Overflow, Prefix, Queue, SlowSession, SocketOptions, Timeouts, Writes,
};
use everlink::failure::{FailureKind, Undelivered};
use everlink::{Client, Error, Event, Message, Server, State};
use serde::{Deserialize, Serialize};
use serde_json::{Value, from_value, json, to_value};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    symbol: String,
    amount: u32,
}

#[test]
fn values_travel_as_json_both_ways() {
    let server = Server::bind("127.0.0.1:0", |session| {
        for message in &session {
            let mut order: Order = message.json().unwrap();
            order.amount += 1;
            session.send(Message::from_json(&order).unwrap()).unwrap();
        }
    })
    .unwrap();
    let client = Client::connect(format!("ws://{}", server.local_addr())).unwrap();
    client.send(json!({ "symbol": "BTC-EUR", "amount": 1 })).unwrap();
    let answer: Order = client.recv_timeout(PATIENCE).unwrap().json().unwrap();
    assert_eq!(answer, Order { symbol: "BTC-EUR".into(), amount: 2 });
    client.close();
}

#[test]
fn what_is_no_json_is_an_error_and_binary_json_is_json() {
    assert!(Message::from("{").json::<Value>().is_err());
    assert!(Message::from([0xff, 0xfe]).json::<Value>().is_err());
    assert!(Message::from("[1]").json::<Order>().is_err());
    assert_eq!(Message::from(b"[1]").json::<[u8; 1]>().unwrap(), [1]);
    // it borrows
    assert_eq!(Message::from("\"text\"").json::<&str>().unwrap(), "text");
    // keys of maps have to be text
    let map = std::collections::HashMap::from([((1, 2), 3)]);
    assert!(Message::from_json(&map).is_err());
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Configuration {
    timeouts: Timeouts,
    limits: Limits,
    socket: SocketOptions,
    outbox: Queue,
    inbox: Queue,
    delivery: Delivery,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            timeouts: Timeouts::new(),
            limits: Limits::new(),
            socket: SocketOptions::new(),
            outbox: Queue::new(),
            inbox: Queue::new(),
            delivery: Delivery::default(),
        }
    }
}

#[test]
fn settings_come_from_a_configuration() {
    let written = json!({
        "timeouts": { "handshake": 3.0, "close": 0.25 },
        "limits": { "message": 4096 },
        "socket": { "keepalive": 60.0, "local_address": "127.0.0.1:0", "writes": "writer_thread" },
        "outbox": { "messages": 10, "message_ttl": 2.5, "overflow": "drop_oldest" },
        "inbox": { "overflow": "wait" },
        "delivery": "at_least_once",
    });
    let read: Configuration = from_value(written.clone()).unwrap();
    let expected = Configuration {
        timeouts: Timeouts::new().handshake(Duration::from_secs(3)).close(ms(250)),
        limits: Limits::new().message(4096),
        socket: SocketOptions::new()
            .keepalive(Duration::from_secs(60))
            .local_address("127.0.0.1:0".parse().unwrap())
            .writes(Writes::WriterThread),
        outbox: Queue::new().messages(10).message_ttl(ms(2500)).overflow(Overflow::DropOldest),
        inbox: Queue::new().overflow(Overflow::Wait),
        delivery: Delivery::AtLeastOnce,
    };
    assert_eq!(read, expected);
    // what was not set is not written, and stays the default of whoever reads
    assert_eq!(to_value(&read).unwrap(), written);
    assert_eq!(from_value::<Configuration>(json!({})).unwrap(), Configuration::default());
}

#[test]
fn a_configuration_with_a_wrong_name_or_time_is_refused() {
    for wrong in [
        json!({ "timeouts": { "handshakes": 3 } }),
        json!({ "limits": { "messages": 3 } }),
        json!({ "socket": { "no_delay": true } }),
        json!({ "outbox": { "size": 3 } }),
        json!({ "outbox": { "overflow": "explode" } }),
        json!({ "timeouts": { "close": -1 } }),
        json!({ "timeouts": { "close": "5s" } }),
        json!({ "timeouts": { "close": 1e300 } }),
    ] {
        assert!(from_value::<Configuration>(wrong.clone()).is_err(), "{wrong}");
    }
    // what cannot work is still refused at the start
    let read: Configuration = from_value(json!({ "timeouts": { "close": 0 } })).unwrap();
    let error = Client::builder("ws://127.0.0.1:9").timeouts(read.timeouts).start().unwrap_err();
    assert!(matches!(error, Error::InvalidSetting { setting: "Timeouts::close", .. }), "{error:?}");
}

#[test]
fn words_are_written_as_they_are_named() {
    fn word<T: Serialize + for<'de> Deserialize<'de> + PartialEq + Debug>(value: T) -> String {
        let written = to_value(&value).unwrap();
        assert_eq!(from_value::<T>(written.clone()).unwrap(), value);
        written.as_str().expect("a word").to_owned()
    }
    assert_eq!(word(State::BackingOff), "backing_off");
    assert_eq!(word(Undelivered::LinkEnded), "link_ended");
    assert_eq!(word(Jitter::Full), "full");
    assert_eq!(word(Prefix::U16), "u16");
    assert_eq!(word(SlowSession::Disconnect), "disconnect");
    for kind in [
        FailureKind::Dns,
        FailureKind::Connect,
        FailureKind::Tls,
        FailureKind::Handshake,
        FailureKind::Rejected,
        FailureKind::Login,
        FailureKind::Lost,
        FailureKind::ClosedByPeer,
        FailureKind::ClosedHere,
        FailureKind::Silent,
        FailureKind::Stuck,
        FailureKind::Protocol,
        FailureKind::Program,
        FailureKind::System,
    ] {
        assert_eq!(word(kind), kind.as_str());
    }
}

#[test]
fn events_and_counters_are_flat_records() {
    let listener = Listener::new();
    let (builder, watch) = watch(listener.client().subprotocols(["v1.chat"]));
    let client = builder.start().unwrap();
    let record = |name: &str| {
        watch.until(|event| {
            (event.name() == name).then(|| {
                let record = to_value(event).unwrap();
                assert_eq!(record["event"], event.name());
                record
            })
        })
    };
    assert_eq!(record("connecting")["attempt"], 1);
    let mut peer = listener.accept_with(|_, response| {
        response.headers_mut().insert("sec-websocket-protocol", "v1.chat".parse().unwrap());
    });
    let connected = record("connected");
    assert_eq!((&connected["link"], &connected["subprotocol"]), (&json!(1), &json!("v1.chat")));
    assert_eq!((&connected["session_start"], connected.get("resent")), (&json!("none"), None));
    assert!(connected["downtime"].is_f64() && connected["endpoint"].is_string(), "{connected}");
    client.send("one").unwrap();
    next_text(&mut peer);
    reset(peer);
    let disconnected = record("disconnected");
    assert_eq!(disconnected["resumable"], false, "{disconnected}");
    assert_eq!(disconnected["kind"], "lost");
    assert_eq!((&disconnected["next"], &disconnected["delay"]), (&json!("redial"), &json!(0.001)));
    let stats = client.stats();
    let written = to_value(&stats).unwrap();
    assert_eq!((&written["connects"], &written["messages_sent"]), (&json!(1), &json!(1)));
    assert!(written["total_downtime"].is_f64(), "{written}");
    assert_eq!(from_value::<everlink::stats::ClientStats>(written).unwrap(), stats);
    drop(listener);
    client.close();
    assert_eq!(record("closed")["undelivered"], 0);
}

#[test]
fn a_callback_says_whose_an_event_is() {
    let listener = Listener::new();
    let (sender, events) = crossbeam_channel::unbounded();
    let start = || {
        let sender = sender.clone();
        let builder = listener.client().on_event(move |client, event| {
            let _ = sender.send((client.id(), event.clone()));
        });
        builder.start().unwrap()
    };
    let clients = [start(), start()];
    let _peers = [listener.accept(), listener.accept()];
    let mut connected: Vec<u64> = std::iter::from_fn(|| events.recv_timeout(PATIENCE).ok())
        .filter(|(_, event)| matches!(event, Event::Connected { .. }))
        .map(|(client, _)| client)
        .take(2)
        .collect();
    connected.sort_unstable();
    assert_eq!(connected, [clients[0].id(), clients[1].id()]);
}

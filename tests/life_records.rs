//! The log: one record for each step of a life, with key-values; control frames at `debug`; no
//! payload anywhere. Alone in its file, for the logger is the whole process's.

mod support;

use std::collections::BTreeMap;
use std::sync::Mutex;

use everlink::chaos::{Cut, FaultProxy, Faults};
use everlink::config::{Backoff, Heartbeat, Resume};
use everlink::{Client, Event, Server};
use log::kv::{self, Key, Value, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record};
use support::*;

#[derive(Debug, Clone)]
struct Said {
    level: Level,
    line: String,
    values: BTreeMap<String, String>,
}

impl Said {
    fn value(&self, key: &str) -> &str {
        self.values.get(key).map_or("", String::as_str)
    }
}

struct Captured(Mutex<Vec<Said>>);

static CAPTURED: Captured = Captured(Mutex::new(Vec::new()));

struct Collect(BTreeMap<String, String>);

impl<'a> VisitSource<'a> for Collect {
    fn visit_pair(&mut self, key: Key<'a>, value: Value<'a>) -> Result<(), kv::Error> {
        self.0.insert(key.to_string(), value.to_string());
        Ok(())
    }
}

impl Log for Captured {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("everlink")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let mut values = Collect(BTreeMap::new());
            record.key_values().visit(&mut values).unwrap();
            let line = record.args().to_string();
            self.0.lock().unwrap().push(Said { level: record.level(), line, values: values.0 });
        }
    }

    fn flush(&self) {}
}

#[test]
fn each_step_is_one_record_and_no_payload_is_in_any() {
    log::set_logger(&CAPTURED).unwrap();
    log::set_max_level(LevelFilter::Trace);
    let server = Server::builder()
        .name("gate")
        .heartbeat(Heartbeat::every(ms(50)).dead_after(PATIENCE))
        .bind("127.0.0.1:0", echo_all);
    let server = server.unwrap();
    let proxy = FaultProxy::start(server.local_addr()).unwrap();
    let (builder, watch) = watch(
        Client::builder(format!("ws://{}", proxy.address()))
            .name("feed")
            .heartbeat(Heartbeat::every(ms(50)).dead_after(PATIENCE))
            .backoff(Backoff::fixed(ms(1))),
    );
    let client = builder.max_attempts(5).start().unwrap();
    watch.connected();
    client.send("sesame").unwrap();
    assert_eq!(client.recv_timeout(PATIENCE).unwrap().as_text(), Some("sesame"));
    eventually("a pong", || client.stats().last_round_trip.map(drop).ok_or(()));
    proxy.cut(Cut::Reset);
    watch.connected();
    proxy.set(Faults::none().refuse()).unwrap();
    proxy.cut(Cut::Reset);
    watch.gave_up();
    proxy.set(Faults::none()).unwrap();
    client.reconnect().unwrap();
    watch.connected();
    client.close();
    server.shutdown(PATIENCE);

    let said = CAPTURED.0.lock().unwrap().clone();
    let of_client: Vec<&Said> = said
        .iter()
        .filter(|said| said.value("name") == "feed" && said.level <= Level::Info)
        .collect();
    let steps: Vec<&str> = of_client.iter().map(|said| said.value("event")).collect();
    let (begin, rest) = steps.split_at(6);
    assert_eq!(
        begin,
        ["connecting", "connected", "disconnected", "connecting", "connected", "disconnected"],
        "{of_client:#?}"
    );
    let end = ["gave_up", "connecting", "connected", "closed"];
    let (failing, end_found) = rest.split_at(rest.len() - end.len());
    assert_eq!(end_found, end, "{of_client:#?}");
    for pair in failing.chunks(2) {
        assert_eq!(pair, ["connecting", "attempt_failed"], "{of_client:#?}");
    }
    for said in &of_client {
        assert_eq!(said.value("client"), client.id().to_string(), "{said:?}");
        assert!(said.line.starts_with(&format!("everlink-{}: ", client.id())), "{said:?}");
        let has_endpoint = !matches!(said.value("event"), "gave_up" | "closed");
        assert_eq!(said.values.contains_key("endpoint"), has_endpoint, "{said:?}");
    }
    let dead = of_client.iter().find(|said| said.value("event") == "disconnected").unwrap();
    assert_eq!(
        (dead.value("kind"), dead.value("next"), dead.level),
        ("lost", "redial", Level::Warn)
    );

    let words = ["disconnected", "attempt_failed", "gave_up"];
    for said in of_client.iter().filter(|said| words.contains(&said.value("event"))) {
        assert!(
            said.line.contains(said.value("cause")) && said.value("cause").len() > 5,
            "{said:?}"
        );
        let is_redial = said.value("next") == "redial";
        let delay: Option<f64> = said.value("delay").parse().ok();
        assert_eq!(delay, is_redial.then_some(0.001), "{said:?}");
    }

    let of_server: Vec<&str> = said
        .iter()
        .filter(|said| said.value("server") == "gate")
        .map(|said| said.value("event"))
        .collect();
    let count = |what| of_server.iter().filter(|event| **event == what).count();
    assert_eq!((count("opened"), count("ended")), (3, 3), "{of_server:?}");

    let frames: Vec<&Said> =
        said.iter().filter(|said| said.value("event") == "control_frame").collect();
    assert!(frames.iter().all(|said| said.level == Level::Debug), "{frames:#?}");
    for said in &frames {
        let whose = (said.value("name"), said.value("server"));
        assert!(matches!(whose, ("feed", "") | ("", "gate")), "{said:?}");
    }
    for (frame, direction) in
        [("ping", "sent"), ("ping", "received"), ("pong", "sent"), ("pong", "received")]
            .into_iter()
            .chain([("close", "sent"), ("close", "received")])
    {
        let is_it =
            |said: &&&Said| said.value("frame") == frame && said.value("direction") == direction;
        assert!(frames.iter().any(|said| is_it(&said)), "no {frame} {direction}");
    }
    for said in &said {
        let has_payload = said.line.contains("sesame")
            || said.values.values().any(|value| value.contains("sesame"));
        assert!(!has_payload, "{said:?}");
    }
    sessions_that_can_be_resumed();
    a_program_that_does_not_receive();
}

/// The records of one name, or of one server.
fn records(key: &str, name: &str, event: &str) -> Vec<Said> {
    let said = CAPTURED.0.lock().unwrap().clone().into_iter();
    said.filter(|said| said.value(key) == name && said.value("event") == event).collect()
}

fn sessions_that_can_be_resumed() {
    let server = Server::builder().name("keeps").resume(Resume::within(ms(1000)));
    let server = server.bind("127.0.0.1:0", |session| drop(session.recv())).unwrap();
    let proxy = FaultProxy::start(server.local_addr()).unwrap();
    let client = Client::builder(format!("ws://{}", proxy.address())).name("returns");
    let (builder, watch) = watch(client.resume(Resume::new()).backoff(Backoff::fixed(ms(1))));
    let _client = builder.start().unwrap();
    watch.connected();
    proxy.cut(Cut::Reset);
    watch.connected();
    proxy.set(Faults::none().refuse()).unwrap();
    proxy.cut(Cut::Reset);
    eventually("the session is over", || match records("server", "keeps", "ended").len() {
        1 => Ok(()),
        count => Err(count),
    });
    proxy.set(Faults::none()).unwrap();
    watch.connected();
    let starts = records("name", "returns", "connected");
    let starts: Vec<_> = starts
        .iter()
        .map(|said| ["session_start", "resent", "in_doubt"].map(|key| said.value(key)))
        .collect();
    let absent = starts[0][1];
    assert_eq!(
        starts,
        [["new", absent, absent], ["resumed", "0", absent], ["replaced", absent, "0"]]
    );
    assert!(absent.parse::<u64>().is_err(), "{absent}");
    assert_eq!(records("name", "returns", "session_over")[0].value("in_doubt"), "0");

    let seconds = |said: &Said, key: &str| said.value(key).parse::<f64>().unwrap();
    let lost = records("server", "keeps", "lost");
    assert_eq!(lost.len(), 2, "{lost:#?}");
    for said in &lost {
        assert!(seconds(said, "uptime") < PATIENCE.as_secs_f64(), "{said:?}");
        assert!(
            said.line.contains(said.value("cause")) && said.value("kind") == "lost",
            "{said:?}"
        );
    }
    let ended = &records("server", "keeps", "ended")[0];
    // the wait for a client that never came is part of the one and not of the other
    assert_eq!(seconds(ended, "uptime"), seconds(&lost[1], "uptime"), "{ended:?}");
    assert!(seconds(ended, "age") >= 1.0 + seconds(ended, "uptime"), "{ended:?}");
}

fn a_program_that_does_not_receive() {
    let server = Server::bind("127.0.0.1:0", |session| {
        let _ = session.send("work");
        while session.recv().is_ok() {}
    });
    let server = server.unwrap();
    let (go_on, wait) = crossbeam_channel::bounded::<()>(0);
    let (builder, watch) = watch(
        Client::builder(format!("ws://{}", server.local_addr()))
            .name("busy")
            .heartbeat(Heartbeat::every(ms(50)).dead_after(PATIENCE))
            .on_message(move |_, _| {
                let _ = wait.recv();
            }),
    );
    let client = builder.start().unwrap();
    watch.until(|event| matches!(event, Event::ReceiverStalled { .. }).then_some(()));
    drop(go_on);
    client.close();
    let stalled = &records("name", "busy", "receiver_stalled")[0];
    assert_eq!((stalled.level, stalled.value("client")), (Level::Warn, &*client.id().to_string()));
    assert!(stalled.value("waiting").parse::<f64>().unwrap() >= 0.05, "{stalled:?}");
}

//! A flood of clients is no flood of records. Alone in its file: the logger and the descriptors are the
//! whole process's.
#![cfg(target_os = "linux")]

mod support;

use std::net::TcpStream;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use everlink::Server;
use log::kv::Key;
use log::{Level, LevelFilter, Log, Metadata, Record};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use support::*;

struct Said {
    at: Instant,
    event: String,
    count: u64,
    line: String,
}

struct Captured(Mutex<Vec<Said>>);

static CAPTURED: Captured = Captured(Mutex::new(Vec::new()));

impl Log for Captured {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("everlink") && metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let value = |key| record.key_values().get(Key::from(key));
            let event = value("event").map(|event| event.to_string()).unwrap_or_default();
            let count = value("count").and_then(|count| count.to_u64()).unwrap_or(1);
            let said = Said { at: Instant::now(), event, count, line: record.args().to_string() };
            self.0.lock().unwrap().push(said);
        }
    }

    fn flush(&self) {}
}

/// Takes out what was said of this.
fn said(event: &str) -> Vec<Said> {
    let mut all = CAPTURED.0.lock().unwrap();
    let (these, others) = all.drain(..).partition(|said| said.event == event);
    *all = others;
    these
}

#[test]
fn what_strangers_can_cause_is_said_once_a_second_with_a_count() {
    log::set_logger(&CAPTURED).unwrap();
    log::set_max_level(LevelFilter::Trace);
    let server = Server::builder()
        .max_connections(1)
        .bind("127.0.0.1:0", |session| for _ in &session {})
        .unwrap();
    let guest = TcpStream::connect(server.local_addr()).unwrap();
    eventually("the guest", || (server.stats().connections == 1).then_some(()).ok_or(()));
    let begun = Instant::now();
    for _ in 0..500 {
        drop(TcpStream::connect(server.local_addr()).unwrap());
    }
    eventually("the refusals", || match server.stats().refused {
        500 => Ok(()),
        refused => Err(refused),
    });
    let took = begun.elapsed();
    drop(guest);
    eventually("the end of the guest", || {
        (server.stats().connections == 0).then_some(()).ok_or(())
    });

    let accepted = server.stats().accepted;
    no_descriptors(&server);
    assert!(server.stats().accepted >= accepted);

    assert!(server.shutdown(PATIENCE).drained);
    let refusals = said("refused");
    let lines: Vec<&String> = refusals.iter().map(|said| &said.line).collect();
    assert!(refusals.len() as u64 <= took.as_secs() + 2, "{lines:?} in {took:?}");
    assert_eq!(refusals.iter().map(|said| said.count).sum::<u64>(), 500, "{lines:?}");
    assert!(lines[0].contains("too many connections"), "{lines:?}");
}

/// Accepting fails again and again.
fn no_descriptors(server: &Server) {
    let before = getrlimit(Resource::Nofile);
    // two, for one descriptor at the other end was set aside when the accept began
    let new_socket = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let waiting = [new_socket(), new_socket()];
    let names = std::fs::read_dir("/proc/self/fd").unwrap();
    let numbers = names.filter_map(|name| name.ok()?.file_name().to_str()?.parse::<u64>().ok());
    let current = numbers.max().map(|number| number + 1);
    setrlimit(Resource::Nofile, Rlimit { current, maximum: before.maximum }).unwrap();
    let files: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    for socket in &waiting {
        socket.connect(&server.local_addr().into()).unwrap();
    }
    let (builder, watch) = watch(everlink::Client::builder("ws://localhost:9"));
    let client = builder.start().unwrap();
    let cause = watch.attempt_failed().to_string();
    assert!(cause.contains("lookup") && cause.contains("open files"), "{cause}");
    client.close();
    let mut records = Vec::new();
    eventually("two records of it", || {
        records.extend(said("accept_failed"));
        if records.len() >= 2 { Ok(()) } else { Err(records.len()) }
    });
    setrlimit(Resource::Nofile, before).unwrap();
    drop(files);
    let pause = records[1].at.duration_since(records[0].at);
    assert!(pause >= Duration::from_millis(990), "{pause:?}");
    assert!(records[1].count > 1, "{}", records[1].line);
}

//! A logger that panics over the last record of a client does not hold up whoever waits for its end, and
//! one that panics over who is not let in keeps nobody else out. Alone in its file, for the logger is the
//! whole process's.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use everlink::{Client, Server};
use log::kv::Key;
use log::{LevelFilter, Log, Metadata, Record};

struct Panics;

impl Log for Panics {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let event = record.key_values().get(Key::from("event"));
        let event = event.map(|event| event.to_string()).unwrap_or_default();
        assert!(!["closed", "refused"].contains(&&*event), "no word of {event} here");
    }

    fn flush(&self) {}
}

fn log_with_panics() {
    // or the other test has
    let _ = log::set_logger(&Panics);
    log::set_max_level(LevelFilter::Info);
}

#[test]
fn who_is_refused_keeps_nobody_else_out() {
    log_with_panics();
    let builder = Server::builder().max_connections(1);
    let server = builder.bind("127.0.0.1:0", |session| drop(session.recv())).unwrap();
    let url = format!("ws://{}", server.local_addr());
    let first = Client::connect(&url).unwrap();
    let mut refused = TcpStream::connect(server.local_addr()).unwrap();
    refused.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = refused.read_to_end(&mut answer);
    assert!(answer.starts_with(b"HTTP/1.1 503"), "{}", String::from_utf8_lossy(&answer));
    first.close();
    // there is room as soon as the server has seen that
    drop(Client::connect(&url).unwrap());
}

#[test]
fn the_end_is_known_whatever_panics_over_it() {
    log_with_panics();
    let server = Server::bind("127.0.0.1:0", |session| drop(session.recv())).unwrap();
    let client = Client::connect(format!("ws://{}", server.local_addr())).unwrap();
    let begun = Instant::now();
    let report = client.close();
    assert!(report.ended, "{report:?} after {:?}", begun.elapsed());
}

//! A logger that panics over the last record of a client does not hold up whoever waits for its end. Alone
//! in its file, for the logger is the whole process's.

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
        assert!(event.is_none_or(|event| event.to_string() != "closed"), "no last words here");
    }

    fn flush(&self) {}
}

#[test]
fn the_end_is_known_whatever_panics_over_it() {
    log::set_logger(&Panics).unwrap();
    log::set_max_level(LevelFilter::Info);
    let server = Server::bind("127.0.0.1:0", |session| drop(session.recv())).unwrap();
    let client = Client::connect(format!("ws://{}", server.local_addr())).unwrap();
    let begun = Instant::now();
    let report = client.close();
    assert!(report.ended, "{report:?} after {:?}", begun.elapsed());
}

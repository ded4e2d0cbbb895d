//! The secret of a session is in no record, no event and no `Debug`. Alone in its file, for the
//! logger is the whole process's.

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::thread;

use everlink::config::{Backoff, Resume};
use everlink::{Answer, Client, Server};
use log::{LevelFilter, Log, Metadata, Record};
use support::*;

struct Captured(Mutex<Vec<String>>);

static CAPTURED: Captured = Captured(Mutex::new(Vec::new()));

impl Log for Captured {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        self.0.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

/// Passes everything on and keeps a copy; the first connection is cut.
fn tap(listener: &TcpListener, server: std::net::SocketAddr) -> Vec<u8> {
    let copy = Mutex::new(Vec::new());
    for round in 0..2 {
        let (client, _) = listener.accept().unwrap();
        let server = TcpStream::connect(server).unwrap();
        let pass = |mut from: &TcpStream, mut to: &TcpStream| {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                let mut copy = copy.lock().unwrap();
                copy.extend_from_slice(&bytes[..count]);
                drop(copy);
                // the login may be in the same read: that arrives, the frame does not
                let cut = bytes[..count].windows(3).position(|bytes| bytes == b"cut");
                let passed = cut.filter(|_| round == 0).map_or(count, |cut| cut - 2);
                if to.write_all(&bytes[..passed]).is_err() || passed < count {
                    break;
                }
            }
            let _ = from.shutdown(std::net::Shutdown::Both);
            let _ = to.shutdown(std::net::Shutdown::Both);
        };
        thread::scope(|scope| {
            scope.spawn(|| pass(&client, &server));
            pass(&server, &client);
        });
    }
    copy.into_inner().unwrap()
}

/// What begins with `s ` of all that both sides have said, in order.
fn said_of_sessions(wire: &[u8]) -> Vec<String> {
    let mut said = Vec::new();
    for at in 0..wire.len().saturating_sub(2) {
        let length = usize::from(wire[at + 1] & 0x7f);
        if wire[at] != 0x81 || !(5..126).contains(&length) {
            continue;
        }
        let (key, from) = match wire[at + 1] & 0x80 {
            0 => ([0; 4], at + 2),
            _ => (wire[at + 2..at + 6].try_into().unwrap(), at + 6),
        };
        let payload = wire.get(from..from + length).unwrap_or_default().iter();
        let text: Vec<u8> = payload.zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        said.extend(String::from_utf8(text).ok().filter(|text| text.starts_with("s ")));
    }
    said
}

#[test]
fn the_secret_of_a_session_is_shown_to_nobody() {
    log::set_logger(&CAPTURED).unwrap();
    log::set_max_level(LevelFilter::Trace);
    let (seen, requests) = crossbeam_channel::unbounded();
    let in_request = seen.clone();
    let server = Server::builder()
        .resume(Resume::within(PATIENCE))
        .on_request(move |request| {
            in_request.send(format!("{request:?} {:?}", request.headers())).unwrap();
            Answer::accept()
        })
        .on_resume(move |request, session| {
            seen.send(format!("{request:?} {session:?} {:?}", session.incoming())).unwrap();
            true
        })
        .bind("127.0.0.1:0", |session| {
            let _ = session.send("cut");
            for message in session.iter() {
                let _ = session.send(message);
            }
        })
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let address = server.local_addr();
    let tap = thread::spawn(move || tap(&listener, address));
    let builder = Client::builder(&url).resume(Resume::new()).backoff(Backoff::fixed(ms(1)));
    let (builder, events) = watch(builder);
    let client = builder.start().unwrap();
    assert_eq!(client.recv_timeout(PATIENCE).unwrap().as_text(), Some("cut"));
    client.send("hello").unwrap();
    assert_eq!(client.recv_timeout(PATIENCE).unwrap().as_text(), Some("hello"));
    assert_eq!(client.stats().resumed, 1);
    let mut shown = vec![format!("{client:?} {server:?} {:?}", client.stats())];
    client.close();
    shown.push(format!("{:?}", events.rest()));
    shown.extend(requests.try_iter());
    let wire = tap.join().unwrap();
    let [new, answer, offer, again] = &said_of_sessions(&wire)[..] else {
        panic!("offer and answer, twice: {:?}", said_of_sessions(&wire))
    };
    assert_eq!(new, "s new");
    let token = answer.split(' ').nth(1).unwrap();
    assert!(token.len() >= 22, "{answer}");
    assert!(offer.starts_with(&format!("s {token} attempt=1 received=")), "{offer}");
    assert!(again.starts_with(&format!("s {token} received=")), "{again}");
    // in no URL and no header, on either way
    let wire = String::from_utf8_lossy(&wire).into_owned();
    let heads = ["GET ", "HTTP/1.1 101"].iter().flat_map(|begin| {
        wire.match_indices(begin).map(|(at, _)| wire[at..].split("\r\n\r\n").next().unwrap())
    });
    assert_eq!(heads.clone().count(), 4);
    assert!(!heads.clone().any(|head| head.contains(token)), "{wire}");
    shown.extend(CAPTURED.0.lock().unwrap().drain(..));
    assert!(shown.len() > 10, "{shown:?}");
    for text in shown {
        assert!(!text.contains(token), "{text}");
    }
    drop(server);
}

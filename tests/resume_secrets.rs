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
            Answer::accept().header("Everlink-Resume", "forged")
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
    let builder = builder.on_request(|request| {
        assert!(request.set_header("everlink-resume", "new").is_err());
        Ok(())
    });
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
    let wire = String::from_utf8_lossy(&tap.join().unwrap()).into_owned();
    let header = "Everlink-Resume: ";
    let values: Vec<&str> =
        wire.split(header).skip(1).filter_map(|rest| rest.lines().next()).collect();
    assert_eq!(values.len(), 4, "offer and answer, twice: {values:?}");
    let token = values[1].split(';').next().unwrap();
    assert!(token.len() >= 22 && values[2].starts_with(token) && values[3].starts_with(token));
    assert!(!wire.contains("forged"));
    shown.extend(CAPTURED.0.lock().unwrap().drain(..));
    assert!(shown.len() > 10, "{shown:?}");
    for text in shown {
        assert!(!text.contains(token), "{text}");
        // nor is there any sign of it in what the program sees
        assert!(
            !text.to_lowercase().contains("everlink-resume") || text.contains("cannot be"),
            "{text}"
        );
    }
    drop(server);
}

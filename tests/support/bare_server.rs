//! A server's end of a session, made by hand, and what a client says to it.
#![allow(dead_code, reason = "each test file uses its share of this")]

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use everlink::config::{Resume, Timeouts};
use everlink::failure::Next;
use everlink::{Client, ClientBuilder, Event, Failure, SessionStart};

use super::bare::*;
use super::resumed::{start, text};
use super::{Listener, PATIENCE, Watch, ms, read_head, watch};

pub const TOKEN: &str = "0123456789abcdefghijkl-_";
pub const OTHER: &str = "another-token-0123456789";

/// A server's end of a link.
pub struct BareServer {
    pub stream: TcpStream,
    pub request: String,
}

impl BareServer {
    /// Accepts, and reads the request.
    pub fn accept(listener: &Listener) -> Self {
        let mut stream = listener.accept_raw();
        let request = read_head(&mut stream);
        Self { stream, request }
    }

    /// Which subprotocols the client offers.
    pub fn subprotocols(&self) -> Option<&str> {
        self.request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: "))
    }

    /// Upgrades, and agrees on this.
    pub fn upgrade(&mut self, subprotocol: Option<&str>) {
        let mut answer = upgraded(&self.request);
        if let Some(name) = subprotocol {
            let line = format!("\r\nSec-WebSocket-Protocol: {name}\r\n\r\n");
            answer = answer.replacen("\r\n\r\n", &line, 1);
        }
        self.stream.write_all(answer.as_bytes()).unwrap();
    }

    /// Accepts, agrees on sessions, and reads the offer.
    pub fn open(listener: &Listener) -> (Self, String) {
        let mut server = Self::accept(listener);
        server.upgrade(Some("everlink.1"));
        let offer = server.next();
        (server, offer)
    }

    pub fn say(&mut self, text: &str) {
        self.stream.write_all(&frame(TEXT, text.as_bytes())).unwrap();
    }

    /// The next frame that is no ping.
    pub fn frame(&mut self) -> (u8, Vec<u8>) {
        loop {
            match read_frame(&mut self.stream).expect("a frame") {
                (PING, _) => {}
                other => return other,
            }
        }
    }

    /// The next message, whatever it is.
    pub fn next(&mut self) -> String {
        match self.frame() {
            (TEXT, payload) => String::from_utf8(payload).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// The next message that is no question.
    pub fn heard(&mut self) -> String {
        loop {
            match self.next() {
                text if text == "a" => {}
                text => return text,
            }
        }
    }

    /// So many of the program's messages, and nothing else but questions.
    pub fn messages(&mut self, count: usize) -> Vec<String> {
        let message = |text: String| text.strip_prefix('m').expect(&text).to_owned();
        (0..count).map(|_| message(self.heard())).collect()
    }

    /// What comes up to the end of the stream; of a close frame its code.
    pub fn rest(&mut self) -> Vec<String> {
        let mut frames = Vec::new();
        while let Ok(frame) = read_frame(&mut self.stream) {
            let is_last = frame.0 == CLOSE;
            frames.push(frame);
            if is_last {
                // the client waits for that
                let _ = self.stream.shutdown(std::net::Shutdown::Write);
            }
        }
        let shown = |(first, payload): (u8, Vec<u8>)| match first {
            TEXT => Some(String::from_utf8(payload).unwrap()),
            CLOSE if payload.is_empty() => Some("close".into()),
            CLOSE => Some(format!("close {}", u16::from_be_bytes([payload[0], payload[1]]))),
            PING | PONG => None,
            other => panic!("{other:#x}"),
        };
        frames.into_iter().filter_map(shown).collect()
    }

    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// The offer to go on with the session.
pub fn claim(attempt: u64, received: u64) -> String {
    format!("s {TOKEN} attempt={attempt} received={received}")
}

pub fn goes_on(received: u64) -> String {
    format!("s {TOKEN} received={received} window=60")
}

/// A client that does not wait long for the answer to its end, which many a server here never gives.
pub fn impatient(listener: &Listener) -> ClientBuilder {
    listener.client().timeouts(Timeouts::new().close(ms(100)))
}

/// A client that holds a session, and the server's end of its link.
pub fn held_by(builder: ClientBuilder, listener: &Listener) -> (Client, Watch, BareServer) {
    let (builder, events) = watch(builder.resume(Resume::new()));
    let client = builder.start().unwrap();
    let (mut server, offer) = BareServer::open(listener);
    assert_eq!(offer, "s new");
    server.say(&goes_on(0));
    assert_eq!(server.next(), "r 0", "the first message");
    assert_eq!(start(&events), SessionStart::New);
    (client, events, server)
}

pub fn held(listener: &Listener) -> (Client, Watch, BareServer) {
    held_by(impatient(listener), listener)
}

/// The client is back, and the server goes on with its session.
pub fn resume(listener: &Listener, attempt: u64, received: u64, answer: &str) -> BareServer {
    let (mut server, offer) = BareServer::open(listener);
    assert_eq!(offer, claim(attempt, received));
    server.say(answer);
    assert_eq!(server.next(), format!("r {received}"), "the first message");
    server
}

/// Why the link has ended, whether its session goes on, and what comes next.
pub fn ended(events: &Watch) -> (Arc<Failure>, bool, Next) {
    events.until(|event| match event {
        Event::Disconnected { cause, resumable, next, .. } => {
            Some((Arc::clone(cause), *resumable, *next))
        }
        _ => None,
    })
}

pub fn received(client: &Client, expected: &str) {
    assert_eq!(text(&client.recv_timeout(PATIENCE).unwrap()), expected);
}

/// The end of a session as the client begins it.
pub fn end(server: &mut BareServer, report: &str, end: &str) {
    assert_eq!([server.heard(), server.heard()], [report, end]);
}

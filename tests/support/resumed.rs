//! A server and a client whose session survives what the proxy between them does.
#![allow(dead_code, reason = "each test file uses its share of this")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use everlink::chaos::{Cut, Proxy};
use everlink::{
    Backoff, Builder, Client, Event, Heartbeat, Resume, Server, ServerBuilder, Session,
    SessionStart,
};

use super::{PATIENCE, Watch, init_log, ms, watch};

pub struct Pair {
    // in the order in which they go
    pub client: Client,
    pub events: Watch,
    pub proxy: Proxy,
    pub server: Server,
    /// The sessions as they begin.
    pub sessions: Receiver<Session>,
}

pub fn resuming_server() -> ServerBuilder {
    init_log();
    Server::builder().resume(Resume::within(PATIENCE))
}

pub fn resuming_client(proxy: &Proxy) -> Builder {
    Client::builder(&format!("ws://{}", proxy.address()))
        .resume(true)
        .backoff(Backoff::fixed(ms(1)))
        .heartbeat(Heartbeat::every(ms(500)).dead_after(ms(1500)))
}

/// A handler that does nothing with its session but wait for its end.
pub fn idle(session: &Session) {
    while session.failure().is_none() {
        let _ = session.wait_attached(ms(10));
        std::thread::park_timeout(ms(1));
    }
}

impl Pair {
    /// The handler's thread hands its session to the test and keeps it until that is over.
    pub fn new() -> Self {
        Self::with(resuming_server(), |builder| builder)
    }

    pub fn with(server: ServerBuilder, client: impl FnOnce(Builder) -> Builder) -> Self {
        let (sender, sessions) = unbounded();
        let handler = move |session: Session| {
            let _ = sender.send(session.clone());
            idle(&session);
        };
        Self::of(server, handler, client, sessions)
    }

    pub fn of(
        server: ServerBuilder,
        handler: impl Fn(Session) + Send + Sync + 'static,
        client: impl FnOnce(Builder) -> Builder,
        sessions: Receiver<Session>,
    ) -> Self {
        let server = server.bind("127.0.0.1:0", handler).expect("a port");
        let proxy = Proxy::start(server.local_addr()).expect("another port");
        let (builder, events) = watch(client(resuming_client(&proxy)));
        let client = builder.connect().expect("nothing is in the way yet");
        assert_eq!(start(&events), SessionStart::New);
        Self { client, events, proxy, server, sessions }
    }

    pub fn session(&self) -> Session {
        self.sessions.recv_timeout(PATIENCE).expect("a session begins")
    }

    /// Cuts, and waits until the client is there again.
    pub fn cut(&self, how: Cut) -> SessionStart {
        self.proxy.cut(how);
        start(&self.events)
    }
}

/// What the next link is to the session.
pub fn start(events: &Watch) -> SessionStart {
    events.until(|event| match event {
        Event::Connected { session, .. } => Some(*session),
        _ => None,
    })
}

pub fn resumed(start: SessionStart) -> usize {
    match start {
        SessionStart::Resumed { resent, .. } => resent,
        other => panic!("{other:?}"),
    }
}

pub fn in_doubt(start: SessionStart) -> usize {
    match start {
        SessionStart::Replaced { in_doubt, .. } => in_doubt,
        other => panic!("{other:?}"),
    }
}

/// Numbers in the order in which they have to come, from one side.
#[derive(Debug, Default)]
pub struct Row {
    next: u64,
    wrong: Vec<(u64, u64)>,
}

impl Row {
    pub fn take(&mut self, number: u64) {
        if number != self.next {
            self.wrong.push((self.next, number));
        }
        self.next = number + 1;
    }

    pub fn len(&self) -> u64 {
        self.next
    }

    pub fn check(&self, count: u64) {
        assert!(
            self.wrong.is_empty(),
            "expected and found: {:?}",
            &self.wrong[..self.wrong.len().min(9)]
        );
        assert_eq!(self.next, count);
    }
}

/// The number at the beginning of a message.
pub fn number(message: &everlink::Message) -> u64 {
    let text = message.as_text().expect("a text");
    let digits = text.split(' ').next().unwrap_or_default();
    digits.parse().expect("a number")
}

pub fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

pub type Shared<T> = Arc<Mutex<T>>;

pub fn patience(times: u32) -> Duration {
    PATIENCE * times
}

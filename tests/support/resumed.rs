//! A server and a client whose session survives what the proxy between them does.
#![allow(dead_code, reason = "each test file uses its share of this")]

use crossbeam_channel::{Receiver, unbounded};
use everlink::chaos::{Cut, FaultProxy};
use everlink::config::{Backoff, Heartbeat, Resume};
use everlink::{
    Client, ClientBuilder, Event, Message, Server, ServerBuilder, Session, SessionStart,
};

use super::{PATIENCE, Watch, init_log, ms, watch};

/// In the order in which they go.
pub struct Pair {
    pub client: Client,
    pub events: Watch,
    pub proxy: FaultProxy,
    /// The sessions as they begin.
    pub sessions: Receiver<Session>,
    pub server: Server,
}

pub fn resuming_server() -> ServerBuilder {
    init_log();
    Server::builder().resume(Resume::within(PATIENCE))
}

pub fn resuming_client(proxy: &FaultProxy) -> ClientBuilder {
    Client::builder(format!("ws://{}", proxy.address()))
        .resume(Resume::new())
        .backoff(Backoff::fixed(ms(1)))
        .heartbeat(Heartbeat::every(ms(500)).dead_after(ms(1500)))
}

/// A handler that leaves its session to the test.
pub fn keep(session: &Session) {
    while session.failure().is_none() {
        std::thread::park_timeout(ms(2));
    }
}

/// A server, and its sessions as they begin. The handler begins once the test has the session.
pub fn serve_with(
    builder: ServerBuilder,
    handler: impl Fn(&Session) + Send + Sync + 'static,
) -> (Server, Receiver<Session>) {
    let (sender, sessions) = unbounded();
    let handler = move |session: Session| {
        let _ = sender.send(session.clone());
        handler(&session);
    };
    (builder.bind("127.0.0.1:0", handler).expect("a port"), sessions)
}

pub fn serve(builder: ServerBuilder) -> (Server, Receiver<Session>) {
    serve_with(builder, keep)
}

pub fn next(sessions: &Receiver<Session>) -> Session {
    sessions.recv_timeout(PATIENCE).expect("a session begins")
}

impl Pair {
    pub fn new() -> Self {
        Self::with(resuming_server(), |builder| builder)
    }

    pub fn with(
        server: ServerBuilder,
        client: impl FnOnce(ClientBuilder) -> ClientBuilder,
    ) -> Self {
        Self::handled(server, client, keep)
    }

    /// The handler begins once the test has the session.
    pub fn handled(
        server: ServerBuilder,
        client: impl FnOnce(ClientBuilder) -> ClientBuilder,
        handler: impl Fn(&Session) + Send + Sync + 'static,
    ) -> Self {
        let (server, sessions) = serve_with(server, handler);
        let proxy = FaultProxy::start(server.local_addr()).expect("another port");
        let (builder, events) = watch(client(resuming_client(&proxy)));
        let client = builder.connect().expect("nothing is in the way yet");
        assert_eq!(start(&events), SessionStart::New);
        Self { client, events, proxy, sessions, server }
    }

    pub fn session(&self) -> Session {
        next(&self.sessions)
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

/// Numbers that have to come in order, each once.
#[derive(Debug, Default)]
pub struct Row {
    next: u64,
    wrong: Vec<(u64, u64)>,
}

impl Row {
    pub fn take(&mut self, message: &Message) {
        let number = number(message);
        if number != self.next {
            self.wrong.push((self.next, number));
        }
        self.next = number + 1;
    }

    pub fn len(&self) -> u64 {
        self.next
    }

    /// Takes so many of them.
    pub fn fill(&mut self, count: u64, mut next: impl FnMut() -> Message) {
        while self.next < count {
            self.take(&next());
        }
        assert!(self.wrong.is_empty(), "expected and found: {:?}", self.wrong);
    }
}

/// The number at the beginning of a text.
pub fn number(message: &Message) -> u64 {
    let text = message.as_text().expect("a text");
    let digits = text.split(' ').next().unwrap_or_default();
    digits.parse().expect("a number")
}

pub fn text(message: &Message) -> String {
    message.as_text().expect("a text").to_owned()
}

//! Peers of the tests' own, and waiting with a deadline.
#![allow(dead_code, reason = "each test file uses its share of this")]

pub mod bare;
#[cfg(feature = "chaos")]
pub mod bare_server;
#[cfg(unix)]
pub mod browser;
pub mod examples;
pub mod peers;
#[cfg(feature = "chaos")]
pub mod resumed;
pub mod speaker;

use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use everlink::config::{Backoff, Heartbeat};
use everlink::{Client, ClientBuilder, Event, Server, Session};
use rustix::event::{PollFd, PollFlags, poll};
use socket2::SockRef;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::{Message, WebSocket};

/// No wait of a test is longer.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What `Client::close` promises beyond the close timeout, and alone without a link. Where a thread
/// hangs, all of it is waited, so that a little comes on top: there it is doubled.
pub const CLOSE_BOUND: Duration = Duration::from_millis(100);

pub fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

pub fn init_log() {
    let _ = env_logger::builder().is_test(true).try_init();
}

/// A handler that sends back what comes.
pub fn echo_all(session: Session) {
    for message in &session {
        if session.send(message).is_err() {
            return;
        }
    }
}

/// A server on loopback that sends back what comes.
pub fn echo_server() -> Server {
    init_log();
    include!("echo.rs").0
}

/// Whether this process is the test's alone. If it is not, the test was run in a process of its own
/// when this returns, and nothing is left to do. For a test that counts what the whole process has, or
/// looks for a thread by its name: the kernel keeps 15 bytes of that, so ids have to be small.
pub fn alone(test: &str) -> bool {
    const ALONE: &str = "EVERLINK_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
    command.args(["--exact", test, "--nocapture"]).env(ALONE, "1");
    let output = command.output().expect("this program starts once more");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("test result: ok. 1 passed"), "{said}\n{errors}");
    false
}

/// A listening socket whose accepts have a deadline.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
}

impl AsRef<TcpListener> for Listener {
    fn as_ref(&self) -> &TcpListener {
        &self.listener
    }
}

/// The server's end of a WebSocket.
pub type Peer = WebSocket<TcpStream>;

impl Listener {
    pub fn new() -> Self {
        init_log();
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind to a port of loopback");
        Self { listener }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("a bound socket has an address")
    }

    pub fn url(&self) -> String {
        format!("ws://{}", self.address())
    }

    /// A client that redials at once and is otherwise as the defaults make it.
    pub fn client(&self) -> ClientBuilder {
        Client::builder(self.url()).backoff(Backoff::fixed(ms(1)))
    }

    /// Only Linux has timeouts for listeners.
    fn accept_within(&self, time: Duration) -> std::io::Result<TcpStream> {
        let time = time.try_into().map_err(std::io::Error::other)?;
        match poll(&mut [PollFd::new(&self.listener, PollFlags::IN)], Some(&time))? {
            0 => Err(std::io::ErrorKind::TimedOut.into()),
            _ => self.listener.accept().map(|(stream, _)| stream),
        }
    }

    pub fn accept_raw(&self) -> TcpStream {
        let stream = self.accept_within(PATIENCE).expect("a client connects in time");
        stream.set_read_timeout(Some(PATIENCE)).expect("set a timeout");
        stream.set_nodelay(true).expect("set nodelay");
        stream
    }

    pub fn accept(&self) -> Peer {
        tungstenite::accept(self.accept_raw()).expect("opening handshake")
    }

    /// Accepts, shows the request to the closure and lets it change the response.
    pub fn accept_with(&self, callback: impl FnOnce(&Request, &mut Response)) -> Peer {
        #[allow(clippy::result_large_err, reason = "the type is tungstenite's")]
        let callback = |request: &Request, mut response: Response| {
            callback(request, &mut response);
            Ok(response)
        };
        tungstenite::accept_hdr(self.accept_raw(), callback).expect("opening handshake")
    }

    /// Accepts, reads the request and answers with these bytes.
    pub fn answer(&self, response: &str) -> (TcpStream, String) {
        let mut stream = self.accept_raw();
        let request = read_head(&mut stream);
        stream.write_all(response.as_bytes()).expect("write the response");
        (stream, request)
    }

    /// Whether somebody connects within the time.
    pub fn is_dialed_within(&self, time: Duration) -> bool {
        self.accept_within(time).is_ok()
    }
}

/// Reads up to the empty line.
pub fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        assert_eq!(stream.read(&mut byte).expect("read the request"), 1, "the request is cut off");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("the request is text")
}

/// Ends the stream with a reset.
pub fn reset(peer: Peer) {
    let stream = peer.get_ref();
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("set linger");
}

/// The next message that is not a control frame.
pub fn next_text(peer: &mut Peer) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "no text message came in time");
        match peer.read().expect("a message") {
            Message::Text(text) => return text.as_str().to_owned(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("expected a text message, got {other:?}"),
        }
    }
}

/// Answers with everything that comes, until the link ends.
pub fn echo(mut peer: Peer) {
    while let Ok(message) = peer.read() {
        if (message.is_text() || message.is_binary()) && peer.send(message).is_err() {
            break;
        }
    }
}

/// Reads until the link ends; returns the last close frame.
pub fn read_to_end(peer: &mut Peer) -> Option<tungstenite::protocol::CloseFrame> {
    let mut close = None;
    while let Ok(message) = peer.read() {
        if let Message::Close(frame) = message {
            close = frame;
        }
    }
    close
}

/// Everything that happened to a client, in order.
#[derive(Debug)]
pub struct Watch {
    events: Receiver<Event>,
}

/// Has the builder report all its events.
pub fn watch(builder: ClientBuilder) -> (ClientBuilder, Watch) {
    let (sender, events) = crossbeam_channel::unbounded();
    let builder = builder.on_event(move |_, event| {
        let _ = sender.send(event.clone());
    });
    (builder, Watch { events })
}

impl Watch {
    /// The next event for which the closure has a value.
    pub fn until<T>(&self, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        while let Ok(event) = self.events.recv_deadline(deadline) {
            if let Some(value) = pick(&event) {
                return value;
            }
            seen.push(event);
        }
        panic!("the event did not come; instead there came {seen:#?}");
    }

    pub fn connected(&self) -> Event {
        self.until(|event| matches!(event, Event::Connected { .. }).then(|| event.clone()))
    }

    pub fn disconnected(&self) -> std::sync::Arc<everlink::Failure> {
        self.until(|event| match event {
            Event::Disconnected { cause, .. } => Some(cause.clone()),
            _ => None,
        })
    }

    pub fn attempt_failed(&self) -> std::sync::Arc<everlink::Failure> {
        self.until(|event| match event {
            Event::AttemptFailed { cause, .. } => Some(cause.clone()),
            _ => None,
        })
    }

    pub fn gave_up(&self) -> std::sync::Arc<everlink::Failure> {
        self.until(|event| match event {
            Event::GaveUp { cause, .. } => Some(cause.clone()),
            _ => None,
        })
    }

    pub fn rest(&self) -> Vec<Event> {
        self.events.try_iter().collect()
    }
}

/// Waits until the condition holds, looking again whenever some time has passed. For what gives
/// no event: counters, the kernel's lists.
pub fn eventually<T: Debug>(what: &str, mut look: impl FnMut() -> Result<(), T>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(()) => return,
            Err(seen) if Instant::now() > deadline => panic!("{what} did not happen: {seen:?}"),
            Err(_) => std::thread::park_timeout(ms(2)),
        }
    }
}

/// The names of this process's threads that belong to everlink, as far as the kernel keeps them; none
/// where it does not show them.
pub fn everlink_threads() -> Vec<String> {
    if !cfg!(target_os = "linux") {
        return Vec::new();
    }
    let tasks = std::fs::read_dir("/proc/self/task").expect("this test needs /proc");
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter_map(|name| {
            // a thread that has just started has the beginning of the long one
            let rest = name.trim().strip_prefix("everlink-").or(name.trim().strip_prefix("el"))?;
            let is_ours = rest.starts_with(|c: char| c.is_ascii_digit());
            is_ours.then(|| format!("everlink-{rest}"))
        })
        .collect()
}

pub fn quick_heartbeat() -> Heartbeat {
    Heartbeat::every(ms(100)).dead_after(ms(400))
}

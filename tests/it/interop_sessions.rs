//! Sessions with ends that nobody here wrote the transport of: Python `websockets`, on `asyncio` and on
//! threads, Node `ws` and Chromium, whose counting is in `tests/interop/sessions`. A proxy cuts their
//! connections at random bytes and at random moments while both ends send.
//!
//! Says "skipped" for what is not installed. `EVERLINK_INTEROP_MESSAGES` says how many messages each end
//! sends, instead of a few hundred.

mod browser;
mod gateway;
mod workload;

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use everlink::chaos::{Cut, FaultProxy, Faults};
#[cfg(feature = "deflate")]
use everlink::config::Compression;
use everlink::config::{Backoff, Framing, Heartbeat, Prefix, Resume, Timeouts};
use everlink::failure::Decision;
use everlink::{Client, ClientBuilder, Error, Event, Failure, Server, ServerBuilder, Session};
use serde_json::Value;

use crate::support::peers::{Program, node, python};
use crate::support::{PATIENCE, init_log, ms, watch};
use workload::{From, Received, Workload};

/// Whose end the other one is.
#[derive(Debug, Clone, Copy)]
enum Peer {
    Asyncio,
    Threads,
    Node,
    Lines,
    Length,
}

/// Whether messages are compressed, by both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deflate {
    Off,
    #[cfg(feature = "deflate")]
    On,
}

/// One session.
#[derive(Debug, Clone, Copy)]
struct Run {
    work: Workload,
    deflate: Deflate,
    /// Who says `e` first.
    ends: From,
}

/// What has become of a server's session.
#[derive(Debug)]
struct Handled {
    received: Result<Received, Error>,
    /// So many came behind all of them.
    more: usize,
    resumed: u64,
    is_compressed: bool,
    failure: Option<Arc<Failure>>,
}

impl Peer {
    fn command(self, end: From, run: Run) -> Option<Command> {
        let role = if end == From::Client { "client" } else { "server" };
        let script = |name: &str| format!("sessions/{name}_{role}");
        let mut command = match self {
            Self::Asyncio => python("websockets", &(script("asyncio") + ".py")),
            Self::Threads => python("websockets", &(script("threads") + ".py")),
            Self::Node => node(&(script("node") + ".mjs")),
            Self::Lines | Self::Length => python("websockets", "sessions/tcp.py"),
        }?;
        match self {
            Self::Lines => command.args([role, "lines"]),
            Self::Length => command.args([role, "length"]),
            Self::Asyncio | Self::Threads if run.deflate != Deflate::Off => {
                command.arg("--compress")
            }
            // `ws` compresses if the other end does
            _ => &mut command,
        };
        Some(command)
    }

    fn framing(self) -> Option<Framing> {
        match self {
            Self::Lines => Some(Framing::lines()),
            Self::Length => Some(Framing::length_prefixed(Prefix::U32)),
            _ => None,
        }
    }
}

impl Run {
    fn new(seed: u64) -> Self {
        let count = std::env::var("EVERLINK_INTEROP_MESSAGES").ok();
        let count = count.map_or(400, |text| text.parse().expect("a number of messages"));
        let work = Workload { count, seed, keeps_kinds: true };
        Self { work, deflate: Deflate::Off, ends: From::Client }
    }

    fn with(mut self, peer: Peer) -> Self {
        self.work.keeps_kinds = peer.framing().is_none();
        self
    }

    fn words(self) -> Vec<String> {
        let Workload { count, seed, .. } = self.work;
        let timeout = self.work.patience().as_secs();
        let ends = if self.ends == From::Client { "client" } else { "server" };
        let words = format!("--count {count} --seed {seed} --timeout {timeout} --ends {ends}");
        words.split(' ').map(ToOwned::to_owned).collect()
    }

    fn server(self, builder: ServerBuilder) -> ServerBuilder {
        #[cfg(feature = "deflate")]
        if self.deflate == Deflate::On {
            return builder.compression(Compression::new());
        }
        builder
    }

    fn client(self, builder: ClientBuilder) -> ClientBuilder {
        #[cfg(feature = "deflate")]
        if self.deflate == Deflate::On {
            return builder.compression(Compression::new());
        }
        builder
    }

    /// How often the network has to be cut.
    fn cuts(self) -> u64 {
        5 + self.work.count / 100
    }

    /// Returns when it was.
    fn wait_for_cuts(self, proxy: &FaultProxy) {
        let deadline = Instant::now() + self.work.patience();
        while proxy.cuts() < self.cuts() && Instant::now() < deadline {
            thread::park_timeout(ms(2));
        }
    }

    /// What is told of it where all went well.
    fn figures(self, who: &str, said: &Value, cuts: u64, begun: Instant) -> String {
        let Self { work: Workload { count, .. }, deflate, ends } = self;
        let (time, links) = (begun.elapsed(), &said["links"]);
        format!(
            "{who}, deflate {deflate:?}, ended by {ends:?}: {count} messages each way, {cuts} cuts, {links} links, \
             {time:.1?}"
        )
    }
}

/// Cuts the connections of a proxy, at random bytes and at random moments, until it is told that it is over.
fn storm(proxy: &FaultProxy, seed: u64, over: &Receiver<()>) {
    let mut random = fastrand::Rng::with_seed(seed);
    loop {
        let cuts = proxy.cuts();
        // within the opening handshake, within offer and answer, somewhere, behind the largest messages;
        // or not, and at that moment
        let within = [60, 700, 6_000, 60_000, 600_000, 2_000_000][random.usize(..6)];
        let faults = Faults::none().cut_within(within).at_most(u64::from(random.bool()));
        proxy.set(faults).unwrap();
        let moment = Instant::now() + ms(random.u64(20..500));
        while proxy.cuts() == cuts && Instant::now() < moment {
            if over.recv_timeout(ms(2)) != Err(RecvTimeoutError::Timeout) {
                return proxy.set(Faults::none()).unwrap();
            }
        }
        if proxy.cuts() == cuts {
            let how = [Cut::Reset, Cut::Reset, Cut::EndOfStream, Cut::EndOfStream, Cut::Silence];
            proxy.cut(how[random.usize(..5)]);
        }
    }
}

/// Runs the closure in a storm. It may end it before: what it gets says that it is to be over, and when it is.
fn in_a_storm<T>(proxy: &FaultProxy, seed: u64, run: impl FnOnce(&Calm) -> T) -> T {
    let (end, over) = bounded(1);
    let (ends, ended) = bounded::<()>(0);
    thread::scope(|scope| {
        scope.spawn(move || {
            let _ends = ends;
            storm(proxy, seed, &over);
        });
        run(&Calm { end, ended })
    })
}

/// Ends a storm when it is asked to, and when the last of these is dropped.
#[derive(Debug, Clone)]
struct Calm {
    end: Sender<()>,
    ended: Receiver<()>,
}

impl Calm {
    /// Returns when nothing is cut any more.
    fn wait(&self) {
        let _ = self.end.try_send(());
        let _ = self.ended.recv_timeout(PATIENCE);
    }
}

/// What a handler does.
fn handle(session: &Session, run: Run, proxy: &FaultProxy, calm: &Calm) -> Handled {
    let receive = || session.recv_timeout(run.work.patience());
    let wait = || run.wait_for_cuts(proxy);
    let received = run.work.exchange(From::Server, session.sender(), wait, receive);
    if run.ends == From::Server {
        // its client says `e` once, and is gone: if that is lost, the server does not know for a while
        calm.wait();
        session.close();
    }
    let more = std::iter::from_fn(|| session.recv_timeout(run.work.patience()).ok()).count();
    Handled {
        received,
        more,
        resumed: session.stats().resumed,
        is_compressed: is_compressed(session),
        failure: session.failure(),
    }
}

#[cfg(feature = "deflate")]
fn is_compressed(session: &Session) -> bool {
    session.compression().is_some()
}

#[cfg(not(feature = "deflate"))]
fn is_compressed(_: &Session) -> bool {
    false
}

/// Everlink's server, and somebody else's client, which the closure runs to its end: it is told where the proxy
/// is, and returns what the client says.
fn server_against(
    name: &str,
    run: Run,
    builder: ServerBuilder,
    client: impl FnOnce(SocketAddr) -> Option<String>,
) {
    init_log();
    let (began, sessions) = unbounded();
    let server = run
        .server(builder)
        .resume(Resume::within(PATIENCE))
        .heartbeat(heartbeat())
        .bind("127.0.0.1:0", move |session: Session| {
            let _ = began.send(session.clone());
            crate::support::resumed::keep(&session);
        })
        .unwrap();
    let proxy = FaultProxy::with_seed(server.local_addr(), run.work.seed).unwrap();
    let begun = Instant::now();
    let (said, handled) = thread::scope(|scope| {
        in_a_storm(&proxy, run.work.seed, |calm| {
            let handling = {
                let (calm, sessions, proxy) = (calm.clone(), &sessions, &proxy);
                scope.spawn(move || {
                    let session = sessions.recv_timeout(PATIENCE).ok()?;
                    Some(handle(&session, run, proxy, &calm))
                })
            };
            let said = client(proxy.address());
            calm.wait();
            (said, handling.join().expect("nothing panics"))
        })
    });
    let handled = handled.expect("a session begins");
    let (said, cuts) = (line(said.as_deref()), proxy.cuts());
    let what = format!(
        "{name} -> everlink, {run:?}: {cuts} cuts, {:.1?}, {said}, {handled:?}",
        begun.elapsed()
    );
    println!("{}", run.figures(&format!("{name} -> everlink"), &said, cuts, begun));
    let received = handled.received.as_ref().expect(&what);
    assert!(is_exact(&said, run, cuts) && received.is_exact(run.work), "{what}");
    assert!(handled.more == 0 && sessions.is_empty(), "{what}");
    assert_eq!(handled.is_compressed, run.deflate != Deflate::Off, "{what}");
    let is_ended = match (run.ends, handled.failure.as_deref()) {
        (From::Client, Some(Failure::Closed(Some(frame)))) => frame.code.0 == 1000,
        (From::Server, Some(Failure::ClosedHere(_))) => true,
        _ => false,
    };
    assert!(is_ended, "{what}");
    assert!(cuts >= run.cuts() && handled.resumed > 0, "{what}");
}

/// Everlink's client, and somebody else's server.
fn client_against(peer: Peer, run: Run) {
    init_log();
    let run = run.with(peer);
    let Some(mut command) = peer.command(From::Server, run) else { return };
    let program = Program::start(command.args(run.words()));
    let url = program.line();
    let (scheme, address) = url.split_once("://").expect("where it listens");
    let proxy = FaultProxy::with_seed(address, run.work.seed).unwrap();
    let mut builder = run
        .client(Client::builder(format!("{scheme}://{}", proxy.address())))
        .resume(Resume::new())
        .heartbeat(heartbeat())
        .timeouts(Timeouts::new().handshake(ms(1000)).close(PATIENCE))
        .backoff(Backoff::fixed(ms(2)))
        .decide(|_, failure| match failure.close_frame() {
            Some(frame) if frame.code.0 == 1000 => Decision::GiveUp,
            _ => failure.decision(),
        });
    if let Some(framing) = peer.framing() {
        builder = builder.framing(framing);
    }
    let (builder, events) = watch(builder);
    let client = builder.start().unwrap();
    let begun = Instant::now();
    let received = in_a_storm(&proxy, run.work.seed, |calm| {
        let receive = || client.recv_timeout(run.work.patience());
        let wait = || {
            run.wait_for_cuts(&proxy);
            if run.ends == From::Server {
                // this client says `e` once, and is gone
                calm.wait();
            }
        };
        let received = run.work.exchange(From::Client, client.sender(), wait, receive);
        let end = if run.ends == From::Server {
            client.recv_timeout(run.work.patience()).err()
        } else {
            None
        };
        client.close();
        received.map(|received| (received, end))
    });
    let said = line(program.line_within(PATIENCE).as_deref());
    let (stats, cuts, events) = (client.stats(), proxy.cuts(), events.rest());
    let what = format!(
        "everlink -> {peer:?}, {run:?}: {cuts} cuts, {:.1?}, {said}, {received:?}, {} resumptions, {} replaced",
        begun.elapsed(),
        stats.resumed,
        stats.replaced
    );
    println!("{}", run.figures(&format!("everlink -> {peer:?}"), &said, cuts, begun));
    let (received, end) = received.expect(&what);
    assert!(is_exact(&said, run, cuts) && received.is_exact(run.work), "{what}");
    let is_told = |end: Option<Error>| match end {
        Some(Error::GaveUp(cause)) => cause.close_frame().is_some_and(|frame| frame.code.0 == 1000),
        _ => false,
    };
    assert!(run.ends == From::Client || is_told(end), "{what}");
    // a session that its server has ended is one that is over for this client
    let replaced = u64::from(run.ends == From::Server);
    assert!(stats.replaced == replaced && stats.in_doubt == 0, "{what}");
    assert!(stats.resumed > 0 && cuts >= run.cuts(), "{what}");
    let is_clean = matches!(events.last(), Some(Event::Closed { clean: true, .. }));
    assert!(is_clean || run.ends == From::Server, "{:?}", events.last());
    for event in &events {
        if let Event::Connected { compression, .. } = event {
            assert_eq!(compression.is_some(), run.deflate != Deflate::Off, "{what}");
        }
    }
}

fn heartbeat() -> Heartbeat {
    Heartbeat::every(ms(500)).dead_after(ms(1500))
}

/// The line that a program prints in the end.
fn line(said: Option<&str>) -> Value {
    said.map_or(Value::Null, |line| serde_json::from_str(line).unwrap_or_else(|_| line.into()))
}

/// Whether a peer has seen everything once, and in order, and no link was given up without a reason.
fn is_exact(said: &Value, run: Run, cuts: u64) -> bool {
    let number = |name: &str| said[name].as_u64();
    let reloads = number("reloads").unwrap_or(0);
    said["fault"].is_null()
        && number("links").is_some_and(|links| links <= cuts + reloads + 5)
        && number("received") == Some(run.work.count)
        && [number("lost"), number("twice"), number("sessions")] == [Some(0), Some(0), Some(1)]
}

/// Somebody else's client, once for each end that ends the session.
fn server_of(peer: Peer, deflate: Deflate, seed: u64) {
    for (ends, seed) in [(From::Client, seed), (From::Server, seed + 1)] {
        let run = Run { ends, deflate, ..Run::new(seed) }.with(peer);
        let Some(mut command) = peer.command(From::Client, run) else { return };
        let (mut builder, mut scheme) = (Server::builder(), "ws");
        if let Some(framing) = peer.framing() {
            (builder, scheme) = (builder.framing(framing), "tcp");
        }
        server_against(&format!("{peer:?}"), run, builder, |proxy| {
            let url = format!("{scheme}://{proxy}");
            let program = Program::start(command.arg(url).args(run.words()));
            program.line_within(run.work.patience())
        });
    }
}

/// Somebody else's server, the same.
fn client_of(peer: Peer, deflate: Deflate, seed: u64) {
    for (ends, seed) in [(From::Client, seed), (From::Server, seed + 1)] {
        client_against(peer, Run { ends, deflate, ..Run::new(seed) });
    }
}

#[test]
fn a_client_on_asyncio() {
    server_of(Peer::Asyncio, Deflate::Off, 10);
}

#[test]
fn a_client_on_threads_of_python() {
    server_of(Peer::Threads, Deflate::Off, 20);
}

#[test]
fn a_client_on_node() {
    server_of(Peer::Node, Deflate::Off, 30);
}

#[test]
fn a_client_on_lines() {
    server_of(Peer::Lines, Deflate::Off, 40);
}

#[test]
fn a_client_on_lengths() {
    server_of(Peer::Length, Deflate::Off, 50);
}

#[test]
fn a_server_on_asyncio() {
    client_of(Peer::Asyncio, Deflate::Off, 60);
}

#[test]
fn a_server_on_threads_of_python() {
    client_of(Peer::Threads, Deflate::Off, 70);
}

#[test]
fn a_server_on_node() {
    client_of(Peer::Node, Deflate::Off, 80);
}

#[test]
fn a_server_on_lines() {
    client_of(Peer::Lines, Deflate::Off, 90);
}

#[test]
fn a_server_on_lengths() {
    client_of(Peer::Length, Deflate::Off, 100);
}

#[test]
fn a_page_in_chromium() {
    browser::server_of(Run::new(110));
}

#[cfg(feature = "deflate")]
mod compressed {
    use super::*;

    #[test]
    fn a_client_on_asyncio() {
        server_of(Peer::Asyncio, Deflate::On, 210);
    }

    #[test]
    fn a_client_on_threads_of_python() {
        server_of(Peer::Threads, Deflate::On, 220);
    }

    #[test]
    fn a_client_on_node() {
        server_of(Peer::Node, Deflate::On, 230);
    }

    #[test]
    fn a_server_on_asyncio() {
        client_of(Peer::Asyncio, Deflate::On, 260);
    }

    #[test]
    fn a_server_on_threads_of_python() {
        client_of(Peer::Threads, Deflate::On, 270);
    }

    #[test]
    fn a_server_on_node() {
        client_of(Peer::Node, Deflate::On, 280);
    }

    #[test]
    fn a_page_in_chromium() {
        browser::server_of(Run { deflate: Deflate::On, ends: From::Server, ..Run::new(310) });
    }
}

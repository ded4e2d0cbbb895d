//! Ways to a server: several addresses, several endpoints, transports of one's own, proxies.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::*;
use everlink::config::{Backoff, Framing, Heartbeat, Proxy, Queue, SocketOptions, Timeouts};
use everlink::failure::ProxyError;
use everlink::transport::Duplex;
use everlink::{Client, Error, Event, Failure, Server};

const LOOPBACK: &str = "127.0.0.1:0";

fn assert_echo(client: &Client) {
    client.send("hello").unwrap();
    assert_eq!(client.recv_timeout(PATIENCE).unwrap().as_bytes(), b"hello");
}

/// An address that swallows attempts to connect: its backlog is full.
struct BlackHole {
    address: SocketAddr,
    _listener: socket2::Socket,
    _fill: Vec<TcpStream>,
}

impl BlackHole {
    fn new(at: &str) -> Option<Self> {
        let at: SocketAddr = at.parse().unwrap();
        let domain = socket2::Domain::for_address(at);
        let listener = socket2::Socket::new(domain, socket2::Type::STREAM, None).ok()?;
        listener.bind(&at.into()).ok()?;
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let fill: Vec<_> =
            (0..4).filter_map(|_| TcpStream::connect_timeout(&address, ms(200)).ok()).collect();
        Some(Self { address, _listener: listener, _fill: fill })
    }
}

#[test]
fn a_black_holed_first_address_costs_no_more_than_the_stagger() {
    if !alone("dial::a_black_holed_first_address_costs_no_more_than_the_stagger") {
        return;
    }
    let server = echo_server();
    let works = server.local_addr();
    let hole = BlackHole::new("[::1]:0").or_else(|| BlackHole::new(LOOPBACK)).unwrap();
    let black = hole.address;
    let refuses = TcpListener::bind(LOOPBACK).unwrap().local_addr().unwrap();
    // one that refuses while the first is still being tried has its turn, and the next comes at once
    for addresses in [vec![black, works], vec![black, refuses, works]] {
        let begun = Instant::now();
        let client = Client::builder("ws://two.test")
            .resolver(move |_: &str, _| Ok(addresses.clone()))
            .connect()
            .unwrap();
        let time = begun.elapsed();
        assert!((ms(250)..ms(500)).contains(&time), "{time:?}");
        assert_echo(&client);
    }
}

#[test]
fn connect_to_holds_for_addresses_redirects_fallbacks_and_proxies() {
    init_log();
    // whoever is dialed here was not meant
    let other = Listener::new();
    let elsewhere = other.address();
    let server = Server::builder()
        .on_request(move |incoming| match incoming.path() {
            "/redirect" => everlink::Answer::reject(everlink::http::StatusCode::TEMPORARY_REDIRECT)
                .header("Location", &format!("ws://{elsewhere}/")),
            _ => everlink::Answer::accept(),
        })
        .bind(LOOPBACK, |session| {
            let host = session.incoming().unwrap().headers()["host"].to_str().unwrap().to_owned();
            session.send(host).unwrap();
            let _ = session.recv();
        })
        .unwrap();
    let dial = |url: &str| Client::builder(url).connect_to(server.local_addr());
    let unused = format!("ws://{elsewhere}/");
    for (builder, host) in [
        (dial("ws://server.test"), "server.test".to_owned()),
        (dial(&unused), elsewhere.to_string()),
        (dial("ws://[::1]:9"), "[::1]:9".into()),
        (dial("ws://server.test/redirect"), elsewhere.to_string()),
        (
            dial("ws://127.0.0.1:1").on_request(move |request| Ok(request.set_url(&unused)?)),
            elsewhere.to_string(),
        ),
    ] {
        let client = builder.max_attempts(1).connect().unwrap();
        assert_eq!(client.recv_timeout(PATIENCE).unwrap(), host.as_str());
        client.close();
    }
    // a proxy that is named by its address is reached there, too
    let proxy = Proxy::new(format!("http://{elsewhere}")).unwrap();
    let through = dial("ws://server.test").proxy(proxy).max_attempts(1).connect();
    let Err(Error::Connect(cause)) = through else { panic!("{through:?}") };
    assert!(matches!(&*cause, Failure::Proxy(ProxyError::Rejected { .. })), "{cause:?}");
    assert!(!other.is_dialed_within(ms(1)));
}

#[test]
fn a_resolver_is_asked_for_names_and_not_for_addresses() {
    let server = echo_server();
    let address = server.local_addr();
    let (sender, asked) = mpsc::channel();
    let resolve = move |host: &str, _| {
        sender.send(host.to_owned()).unwrap();
        Ok(vec![address])
    };
    let dial = |url: &str| Client::builder(url).resolver(resolve.clone()).connect().unwrap();
    assert_echo(&dial(&format!("ws://{address}")));
    assert_echo(&dial("ws://server.test"));
    drop(resolve);
    assert_eq!(asked.iter().collect::<Vec<_>>(), ["server.test"]);
}

#[test]
fn a_black_hole_alone_fails_at_the_deadline_with_its_address() {
    let hole = BlackHole::new(LOOPBACK).unwrap();
    let builder = Client::builder(format!("ws://{}", hole.address))
        .timeouts(Timeouts::new().connect(ms(300)));
    let begun = Instant::now();
    let Error::Connect(cause) = builder.connect().unwrap_err() else { panic!("wrong error") };
    // the kernel's clock counts whole milliseconds
    assert!(begun.elapsed() >= ms(295), "{:?}: {cause:?}", begun.elapsed());
    let Failure::Connect { address, source, .. } = &*cause else { panic!("{cause:?}") };
    assert_eq!(*address, hole.address);
    assert_eq!(source.kind(), std::io::ErrorKind::TimedOut);
}

#[test]
fn each_failure_moves_on_to_the_next_endpoint() {
    let (first, second) = (Listener::new(), Listener::new());
    let refusing = Listener::new().url();
    let builder = first.client().fallback(&refusing).fallback(second.url());
    let (builder, watch) = watch(builder);
    let _client = builder.start().unwrap();
    for _ in 0..2 {
        reset(first.accept());
        let gone = watch.until(|event| match event {
            Event::Disconnected { endpoint, .. } => Some(endpoint.clone()),
            _ => None,
        });
        assert_eq!(gone, format!("{}/", first.url()));
        let failed = watch.until(|event| match event {
            Event::AttemptFailed { endpoint, .. } => Some(endpoint.clone()),
            _ => None,
        });
        assert_eq!(failed, format!("{refusing}/"));
        reset(second.accept());
        watch.disconnected();
    }
    let mixed = Client::builder("ws://127.0.0.1:9").fallback("tcp://127.0.0.1:9").start();
    assert!(matches!(mixed, Err(Error::InvalidUrl { .. })));
    let wrong = Client::builder("ws://127.0.0.1:9").fallback("nonsense").start();
    assert!(matches!(wrong, Err(Error::InvalidUrl { .. })));
}

#[test]
fn shuffled_clients_spread_over_the_endpoints() {
    let firsts: std::collections::HashSet<String> = (0..40)
        .map(|_| {
            let (builder, watch) = watch(
                Client::builder("ws://127.0.0.1:1")
                    .fallback("ws://127.0.0.1:2")
                    .fallback("ws://127.0.0.1:3")
                    .shuffle_endpoints()
                    .backoff(Backoff::fixed(PATIENCE)),
            );
            let _client = builder.start().unwrap();
            watch.until(|event| match event {
                Event::AttemptFailed { endpoint, .. } => Some(endpoint.clone()),
                _ => None,
            })
        })
        .collect();
    assert_eq!(firsts.len(), 3, "{firsts:?}");
}

/// Two ends of a stream that was not dialed.
#[cfg(unix)]
fn pair() -> (std::os::unix::net::UnixStream, std::os::unix::net::UnixStream) {
    std::os::unix::net::UnixStream::pair().unwrap()
}

#[cfg(not(unix))]
fn pair() -> (TcpStream, TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (ours, listener.accept().unwrap().0)
}

#[test]
fn a_transport_of_ones_own_carries_everything() {
    let (give, given) = mpsc::channel();
    let connector = move |host: &str, port: u16| -> std::io::Result<Duplex> {
        assert_eq!((host, port), ("feed", 7));
        let (ours, theirs) = pair();
        give.send(theirs).map_err(std::io::Error::other)?;
        Ok(ours.into())
    };
    let builder = Client::builder("tcp://feed:7")
        .connector(connector)
        .heartbeat(Heartbeat::off())
        .backoff(Backoff::fixed(ms(1)));
    let (builder, watch) = watch(builder);
    let client = builder.start().unwrap();
    for _ in 0..3 {
        let peer = given.recv_timeout(PATIENCE).unwrap();
        watch.connected();
        let echo = peer.try_clone().unwrap();
        let server = thread::spawn(move || std::io::copy(&mut &echo, &mut &echo));
        assert_echo(&client);
        peer.shutdown(std::net::Shutdown::Both).unwrap();
        server.join().unwrap().ok();
        watch.disconnected();
    }
}

/// A transport that panics in one direction and does nothing in the other.
#[derive(Debug)]
struct Broken {
    reads: bool,
    hung_up: crossbeam_channel::Receiver<()>,
}

#[derive(Debug)]
struct BrokenHangup(std::sync::Mutex<Option<crossbeam_channel::Sender<()>>>);

impl std::io::Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        assert!(!self.reads, "no reading");
        let _ = self.hung_up.recv();
        Ok(0)
    }
}

impl std::io::Write for Broken {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        assert!(self.reads, "no writing");
        Ok(buf.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl everlink::transport::ReadHalf for Broken {
    fn set_read_timeout(&mut self, _: Option<Duration>) -> std::io::Result<()> {
        Ok(())
    }
}

impl everlink::transport::WriteHalf for Broken {
    fn set_write_timeout(&mut self, _: Option<Duration>) -> std::io::Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl everlink::transport::Hangup for BrokenHangup {
    fn hang_up(&self) {
        self.0.lock().unwrap().take();
    }
}

#[test]
fn a_transport_that_panics_costs_a_link_and_nothing_else() {
    for reads in [true, false] {
        let builder = Client::builder("tcp://feed:7")
            .heartbeat(Heartbeat::ping_pong())
            .backoff(Backoff::fixed(ms(1)))
            .connector(move |_: &str, _: u16| -> std::io::Result<Duplex> {
                let (sender, hung_up) = crossbeam_channel::bounded(0);
                let half = || Broken { reads, hung_up: hung_up.clone() };
                let hangup = BrokenHangup(std::sync::Mutex::new(Some(sender)));
                Ok(Duplex::new(half(), half(), hangup))
            });
        let (builder, watch) = watch(builder);
        let client = builder.start().unwrap();
        client.send("x").unwrap();
        for _ in 0..3 {
            let cause = watch.disconnected().to_string();
            let expected =
                if reads { "reader panicked: no reading" } else { "writer panicked: no writing" };
            assert_eq!(cause, expected);
        }
        assert!(client.close().ended);
    }
}

/// A runtime gives its sockets away in this mode.
#[test]
fn a_socket_in_non_blocking_mode_is_as_good() {
    let server = echo_server();
    let address = server.local_addr();
    let client = Client::builder("ws://feed")
        .connector(move |_: &str, _: u16| -> std::io::Result<Duplex> {
            let stream = TcpStream::connect(address)?;
            stream.set_nonblocking(true)?;
            Ok(stream.into())
        })
        .connect()
        .unwrap();
    assert_echo(&client);
    client.close();

    // of either kind, it is waited for
    let (ours, theirs) = pair();
    ours.set_nonblocking(true).unwrap();
    let client = Client::builder("tcp://feed:7").heartbeat(Heartbeat::off());
    let ours = std::sync::Mutex::new(Some(ours));
    let connect = move |_: &str, _: u16| -> std::io::Result<Duplex> {
        Ok(ours.lock().unwrap().take().ok_or(std::io::ErrorKind::NotFound)?.into())
    };
    let client = client.connector(connect).connect().unwrap();
    let echo = thread::spawn(move || {
        thread::park_timeout(ms(20));
        std::io::copy(&mut &theirs, &mut &theirs)
    });
    assert_echo(&client);
    assert_eq!(client.stats().connects, 1);
    client.close();
    assert!(echo.join().unwrap().is_ok());
}

#[test]
fn a_connector_that_hangs_is_called_a_few_times_and_again_once_it_returns() {
    let server = echo_server();
    let address = server.local_addr();
    let (release, held) = crossbeam_channel::bounded::<()>(0);
    let calls = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&calls);
    let builder = Client::builder("ws://feed")
        .timeouts(Timeouts::new().connect(ms(20)))
        .backoff(Backoff::fixed(ms(1)))
        .connector(move |_: &str, _: u16| -> std::io::Result<Duplex> {
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let _ = held.recv();
            Ok(TcpStream::connect(address)?.into())
        });
    let (builder, watch) = watch(builder);
    let client = builder.start().unwrap();
    for _ in 0..3 {
        watch.until(|event| match event {
            Event::AttemptFailed { cause, .. } => cause
                .to_string()
                .contains("4 earlier calls of the connector are still hanging")
                .then_some(()),
            _ => None,
        });
    }
    assert_eq!(calls.load(std::sync::atomic::Ordering::SeqCst), 4);
    drop(release);
    watch.connected();
    assert_echo(&client);
    client.close();
}

/// A transport of a program's own over a socket that does not block.
#[derive(Debug)]
struct Impatient(TcpStream);

impl Impatient {
    fn duplex(address: SocketAddr) -> std::io::Result<Duplex> {
        let stream = TcpStream::connect(address)?;
        stream.set_nonblocking(true)?;
        let half = || stream.try_clone().map(Self);
        Ok(Duplex::new(half()?, half()?, half()?))
    }
}

impl std::io::Read for Impatient {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buf)
    }
}

impl std::io::Write for Impatient {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0.write(buf)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl everlink::transport::ReadHalf for Impatient {
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> std::io::Result<()> {
        self.0.set_read_timeout(timeout)
    }
}

impl everlink::transport::WriteHalf for Impatient {
    fn set_write_timeout(&mut self, timeout: Option<Duration>) -> std::io::Result<()> {
        self.0.set_write_timeout(timeout)
    }

    fn finish(&mut self) -> std::io::Result<()> {
        self.0.shutdown(std::net::Shutdown::Write)
    }
}

impl everlink::transport::Hangup for Impatient {
    fn hang_up(&self) {
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}

#[test]
fn a_transport_that_does_not_block_is_told_so() {
    // it accepts, and says nothing
    let listener = Listener::new();
    let address = listener.address();
    for url in ["ws://feed", "tcp://feed:7"] {
        let builder = Client::builder(url)
            .heartbeat(Heartbeat::listen(PATIENCE))
            .backoff(Backoff::fixed(PATIENCE))
            .connector(move |_: &str, _: u16| Impatient::duplex(address));
        let (builder, watch) = watch(builder);
        let client = builder.start().unwrap();
        let cause = watch.until(|event| match event {
            Event::AttemptFailed { cause, .. } | Event::Disconnected { cause, .. } => {
                Some(cause.to_string())
            }
            _ => None,
        });
        assert!(cause.contains("non-blocking mode"), "{url}: {cause}");
        client.close();
    }
}

/// A transport that says how much it has read or written, whatever is true.
#[derive(Debug)]
struct Liar {
    half: Impatient,
    read: Option<usize>,
    written: Option<usize>,
    tries: bool,
}

impl std::io::Read for Liar {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let count = self.half.read(buf)?;
        Ok(self.read.unwrap_or(count))
    }
}

impl std::io::Write for Liar {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.written.map_or_else(|| self.half.write(buf), Ok)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl everlink::transport::ReadHalf for Liar {
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> std::io::Result<()> {
        everlink::transport::ReadHalf::set_read_timeout(&mut self.half, timeout)
    }
}

impl everlink::transport::WriteHalf for Liar {
    fn set_write_timeout(&mut self, timeout: Option<Duration>) -> std::io::Result<()> {
        everlink::transport::WriteHalf::set_write_timeout(&mut self.half, timeout)
    }

    fn try_write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        match self.tries {
            true => std::io::Write::write(self, buf),
            false => Err(std::io::ErrorKind::WouldBlock.into()),
        }
    }

    fn finish(&mut self) -> std::io::Result<()> {
        everlink::transport::WriteHalf::finish(&mut self.half)
    }
}

#[test]
fn a_transport_that_says_what_cannot_be_costs_a_link_at_once() {
    let over = usize::MAX;
    for (read, written, tries, expected) in [
        (None, Some(0), false, "write zero"),
        (None, Some(0), true, "write zero"),
        (None, Some(over), false, "bytes of a buffer"),
        (None, Some(over), true, "bytes of a buffer"),
        (Some(over), None, true, "bytes of a buffer"),
    ] {
        // one for each client: the one before may have dialed once more, and nobody has accepted that
        let listener = Listener::new();
        let address = listener.address();
        let builder = Client::builder("tcp://feed:7")
            .heartbeat(Heartbeat::off())
            .backoff(Backoff::fixed(ms(1)))
            .connector(move |_: &str, _: u16| -> std::io::Result<Duplex> {
                let stream = TcpStream::connect(address)?;
                let half = || stream.try_clone().map(Impatient);
                let liar = || Ok(Liar { half: half()?, read, written, tries });
                let (reader, writer): (std::io::Result<_>, std::io::Result<_>) = (liar(), liar());
                Ok(Duplex::new(reader?, writer?, half()?))
            });
        let (builder, watch) = watch(builder);
        let client = builder.start().unwrap();
        for _ in 0..3 {
            let mut peer = listener.accept_raw();
            watch.connected();
            let _ = std::io::Write::write_all(&mut peer, b"hello\n");
            client.send("x").unwrap();
            let cause = watch.disconnected();
            assert!(matches!(&*cause, Failure::Io(_)), "{cause:?}");
            assert!(cause.to_string().contains(expected), "{expected}: {cause}");
        }
        assert!(client.close().ended);
    }
}

/// A transport of the program's own that can be read into one buffer at a time, and fails behind so many bytes of
/// frames.
#[derive(Debug)]
struct CutShort {
    half: Impatient,
    left: usize,
    /// How much of the empty line that ends the opening handshake has come.
    line_end: usize,
}

impl std::io::Read for CutShort {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        const END: &[u8] = b"\r\n\r\n";
        if self.line_end == END.len() {
            let most = self.left.min(buf.len());
            let count = self.half.read(&mut buf[..most])?;
            self.left -= count;
            return Ok(count);
        }
        let count = self.half.read(&mut buf[..1])?;
        self.line_end = if buf[0] == END[self.line_end] { self.line_end + 1 } else { 0 };
        Ok(count)
    }

    fn read_vectored(&mut self, _: &mut [std::io::IoSliceMut<'_>]) -> std::io::Result<usize> {
        panic!("nobody can check what this says");
    }
}

impl everlink::transport::ReadHalf for CutShort {
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> std::io::Result<()> {
        everlink::transport::ReadHalf::set_read_timeout(&mut self.half, timeout)
    }

    fn read_buffered(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 { Err(std::io::ErrorKind::ConnectionReset.into()) } else { Ok(0) }
    }
}

#[test]
fn what_came_before_an_error_is_delivered_before_the_link_counts_as_down() {
    // each is read to where it will be, behind a header of four bytes, and is no full batch
    const SIZE: usize = 50_000;
    let listener = Listener::new();
    let address = listener.address();
    let connector = move |_: &str, _: u16| -> std::io::Result<Duplex> {
        let stream = TcpStream::connect(address)?;
        let half = || stream.try_clone().map(Impatient);
        let reader = CutShort { half: half()?, left: 2 * (SIZE + 4), line_end: 0 };
        Ok(Duplex::new(reader, half()?, half()?))
    };
    let builder = listener.client().inbox(Queue::new().messages(1)).connector(connector);
    let (builder, watch) = watch(builder);
    let client = builder.start().unwrap();
    let mut peer = listener.accept();
    watch.connected();
    let payload =
        |first: usize| -> Vec<u8> { (first..first + SIZE).map(|at| (at % 251) as u8).collect() };
    for first in 0..2 {
        peer.send(tungstenite::Message::binary(payload(first))).unwrap();
    }
    // the second waits for room, and the error behind it
    assert!(!listener.is_dialed_within(ms(300)), "{:?}", watch.rest());
    for first in 0..2 {
        assert_eq!(client.recv_timeout(PATIENCE).unwrap().as_bytes(), payload(first));
    }
    let cause = watch.disconnected();
    assert!(matches!(&*cause, Failure::Io(_)), "{cause:?}");
}

/// A socket on which a signal interrupts whoever waits, every few milliseconds, and whose writes
/// are held up as long as the time for it lasts.
#[derive(Debug)]
struct Nervous {
    stream: TcpStream,
    held_up: Duration,
}

impl Nervous {
    fn connect(address: SocketAddr, held_up: Duration) -> std::io::Result<Duplex> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(ms(5)))?;
        stream.set_write_timeout(Some(ms(5)))?;
        let half = |held_up| Ok::<_, std::io::Error>(Self { stream: stream.try_clone()?, held_up });
        Ok(Duplex::new(half(Duration::ZERO)?, half(held_up)?, half(Duration::ZERO)?))
    }

    fn interrupt(result: std::io::Result<usize>) -> std::io::Result<usize> {
        result.map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => std::io::ErrorKind::Interrupted.into(),
            _ => error,
        })
    }
}

impl std::io::Read for Nervous {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        Self::interrupt(self.stream.read(buf))
    }
}

impl std::io::Write for Nervous {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        let time = std::mem::take(&mut self.held_up);
        if !time.is_zero() && buf.len() > 1000 {
            thread::park_timeout(time);
            return Err(std::io::ErrorKind::WouldBlock.into());
        }
        self.held_up = time;
        Self::interrupt(self.stream.write(buf))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl everlink::transport::ReadHalf for Nervous {
    fn set_read_timeout(&mut self, _: Option<Duration>) -> std::io::Result<()> {
        Ok(())
    }
}

impl everlink::transport::WriteHalf for Nervous {
    fn set_write_timeout(&mut self, _: Option<Duration>) -> std::io::Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> std::io::Result<()> {
        self.stream.shutdown(std::net::Shutdown::Write)
    }
}

impl everlink::transport::Hangup for Nervous {
    fn hang_up(&self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

#[test]
fn signals_do_not_make_a_silent_peer_look_alive() {
    let listener = Listener::new();
    let address = listener.address();
    let heartbeat = Heartbeat::every(ms(200)).dead_after(ms(1000));
    let client = listener.client().heartbeat(heartbeat);
    let connect = move |_: &str, _| Nervous::connect(address, Duration::ZERO);
    let (builder, watch) = watch(client.connector(connect));
    let client = builder.start().unwrap();
    let mut peer = listener.accept();
    watch.connected();
    let silenced = Instant::now();
    let cause = watch.disconnected();
    let time = silenced.elapsed();
    assert!(matches!(&*cause, Failure::HeartbeatTimeout { .. }), "{cause:?}");
    assert!((ms(900)..ms(1100)).contains(&time), "{time:?}");
    read_to_end(&mut peer);
    // nor a lively one dead
    let peer = listener.accept();
    watch.connected();
    let server = thread::spawn(move || echo(peer));
    assert!(!listener.is_dialed_within(ms(1500)), "{:?}", watch.rest());
    drop(client);
    server.join().unwrap();
}

#[test]
fn signals_do_not_give_a_peer_that_takes_nothing_more_time() {
    let listener = Listener::new();
    let address = listener.address();
    let client =
        listener.client().heartbeat(Heartbeat::off()).timeouts(Timeouts::new().write(ms(300)));
    let connect = move |_: &str, _| Nervous::connect(address, Duration::ZERO);
    let (builder, watch) = watch(client.connector(connect));
    let client = builder.start().unwrap();
    let peer = listener.accept();
    watch.connected();
    let begun = Instant::now();
    client.send(vec![0; 32 << 20]).unwrap();
    let cause = watch.disconnected();
    assert!(matches!(&*cause, Failure::WriteTimeout { .. }), "{cause:?}");
    assert!(begun.elapsed() >= ms(300), "{:?}", begun.elapsed());
    drop(peer);
}

#[test]
fn a_write_that_was_held_up_with_the_process_goes_on() {
    let listener = Listener::new();
    let address = listener.address();
    let client =
        listener.client().heartbeat(Heartbeat::off()).timeouts(Timeouts::new().write(ms(100)));
    // it comes back much later than its timeout, and with nothing written
    let connect = move |_: &str, _| Nervous::connect(address, ms(1500));
    let (builder, watch) = watch(client.connector(connect));
    let client = builder.start().unwrap();
    let mut peer = listener.accept();
    watch.connected();
    client.send("x".repeat(2000)).unwrap();
    assert_eq!(next_text(&mut peer).len(), 2000);
    assert!(watch.rest().is_empty());
}

#[test]
fn a_connector_that_hangs_fails_or_panics_holds_nothing_up() {
    let (hold, held) = crossbeam_channel::bounded::<()>(0);
    let builder = Client::builder("ws://feed").timeouts(Timeouts::new().connect(ms(50))).connector(
        move |_: &str, _: u16| -> std::io::Result<Duplex> {
            let _ = held.recv();
            Err(std::io::ErrorKind::NotFound.into())
        },
    );
    let (builder, watch) = watch(builder);
    let client = builder.start().unwrap();
    let cause = watch.attempt_failed();
    assert!(
        matches!(&*cause, Failure::Connector(error) if error.kind() == std::io::ErrorKind::TimedOut)
    );
    let begun = Instant::now();
    let report = client.close();
    assert!(begun.elapsed() < CLOSE_BOUND * 2, "{:?}", begun.elapsed());
    assert!(!report.ended, "its thread is still there");
    drop(hold);

    let builder = Client::builder("ws://feed")
        .connector(|_: &str, _: u16| -> std::io::Result<Duplex> { panic!("no way") });
    let Error::Connect(cause) = builder.connect().unwrap_err() else { panic!("wrong error") };
    assert!(cause.to_string().contains("connector panicked: no way"), "{cause:?}");
}

#[test]
fn a_socket_that_was_connected_to_itself_has_reached_nobody() {
    // whoever dials a dead port of its own machine is one day given that port as its own
    let free = TcpListener::bind(LOOPBACK).unwrap().local_addr().unwrap();
    let builder = Client::builder(format!("tcp://{free}"))
        .heartbeat(Heartbeat::ping_pong())
        .socket(SocketOptions::new().local_address(free));
    let Error::Connect(cause) = builder.connect().unwrap_err() else { panic!("wrong error") };
    let Failure::Connect { address, source, .. } = &*cause else { panic!("{cause:?}") };
    assert_eq!((*address, source.kind()), (free, std::io::ErrorKind::ConnectionRefused));
    assert!(source.to_string().contains("itself"), "{source}");
    TcpListener::bind(free).expect("the port is free again");
}

#[test]
fn local_address_and_buffers_are_set_where_asked_for() {
    let listener = Listener::new();
    let client = listener
        .client()
        .socket(
            SocketOptions::new()
                .local_address("127.0.0.1:0".parse().unwrap())
                .send_buffer(64 << 10)
                .receive_buffer(64 << 10),
        )
        .start()
        .unwrap();
    let peer = listener.accept();
    assert!(peer.get_ref().peer_addr().unwrap().ip().is_loopback());
    drop(client);

    let elsewhere = "203.0.113.1:0".parse().unwrap();
    let builder = listener.client().socket(SocketOptions::new().local_address(elsewhere));
    let Error::Connect(cause) = builder.connect().unwrap_err() else { panic!("wrong error") };
    assert!(matches!(&*cause, Failure::LocalAddress { .. }), "{cause:?}");
}

/// A real proxy of Debian's, if it is installed.
struct RealProxy {
    child: Child,
    port: u16,
}

impl RealProxy {
    fn start(program: &str, arguments: impl FnOnce(u16) -> Vec<String>) -> Option<Self> {
        let port = TcpListener::bind(LOOPBACK).unwrap().local_addr().unwrap().port();
        let child = Command::new(program)
            .args(arguments(port))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            println!("skipped: {program} is not installed");
            return None;
        };
        eventually("the proxy", || TcpStream::connect(("127.0.0.1", port)).map(drop));
        Some(Self { child, port })
    }

    fn tinyproxy() -> Option<Self> {
        let file = std::env::temp_dir().join(format!("everlink-tinyproxy-{}", std::process::id()));
        let name = file.to_str().unwrap().to_owned();
        let proxy = Self::start("tinyproxy", |port| {
            let config = format!(
                "Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 20\nBasicAuth user pw\n"
            );
            std::fs::write(&file, config).unwrap();
            vec!["-d".into(), "-c".into(), name]
        });
        let _ = std::fs::remove_file(file);
        proxy
    }

    fn microsocks() -> Option<Self> {
        Self::start("microsocks", |port| {
            ["-i", "127.0.0.1", "-p", &port.to_string(), "-u", "user", "-P", "pw"]
                .map(str::to_owned)
                .into()
        })
    }
}

impl Drop for RealProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Through this proxy to servers of both protocols, with right and with wrong credentials, and
/// across the death of the proxy.
fn through(scheme: &str, real: RealProxy) {
    let proxy = |userinfo: &str| {
        Proxy::new(format!("{scheme}://{userinfo}127.0.0.1:{}", real.port)).unwrap()
    };
    let server = echo_server();
    let url = format!("ws://localhost:{}", server.local_addr().port());
    let client = Client::builder(&url).proxy(proxy("user:pw@")).connect().unwrap();
    assert_echo(&client);

    let framed = Server::builder()
        .framing(Framing::lines())
        .heartbeat(Heartbeat::ping_pong())
        .bind(LOOPBACK, |session| {
            // speaks first, right behind the proxy's own answer
            session.send("welcome").unwrap();
            for message in session.iter() {
                session.send(message).unwrap();
            }
        })
        .unwrap();
    let lines = Client::builder(format!("tcp://{}", framed.local_addr()))
        .heartbeat(Heartbeat::ping_pong())
        .proxy(proxy("user:pw@"))
        .connect()
        .unwrap();
    assert_eq!(lines.recv_timeout(PATIENCE).unwrap().as_text(), Some("welcome"));
    assert_echo(&lines);

    for wrong in ["", "user:wrong@"] {
        let (builder, watch) = watch(Client::builder(&url).proxy(proxy(wrong)));
        let _client = builder.start().unwrap();
        let cause = watch.gave_up();
        assert!(
            matches!(
                &*cause,
                Failure::Proxy(ProxyError::Rejected { .. } | ProxyError::Credentials)
            ),
            "{cause:?}"
        );
    }

    let nobody = Listener::new().address();
    let builder = Client::builder(format!("ws://{nobody}")).proxy(proxy("user:pw@"));
    let Error::Connect(cause) = builder.connect().unwrap_err() else { panic!("wrong error") };
    assert!(matches!(&*cause, Failure::Proxy(_)), "{cause:?}");
    assert_eq!(cause.decision(), everlink::failure::Decision::Retry, "{cause:?}");

    let gone = proxy("user:pw@");
    drop(real);
    let (builder, watch) =
        watch(Client::builder(&url).proxy(gone).backoff(Backoff::fixed(ms(1))).max_attempts(2));
    let _client = builder.start().unwrap();
    let cause = watch.gave_up();
    assert!(matches!(&*cause, Failure::Connect { .. }), "{cause:?}");
}

#[test]
fn through_a_real_http_proxy() {
    if let Some(proxy) = RealProxy::tinyproxy() {
        through("http", proxy);
    }
}

#[test]
fn through_a_real_socks5_proxy() {
    if let Some(proxy) = RealProxy::microsocks() {
        through("socks5", proxy);
    }
}

#[test]
fn a_proxy_that_says_nothing_fails_at_the_deadline() {
    let silent = Listener::new();
    let builder = Client::builder("ws://feed.test")
        .timeouts(Timeouts::new().handshake(ms(200)))
        .proxy(Proxy::new(format!("http://{}", silent.address())).unwrap());
    let server = thread::spawn(move || {
        let stream = silent.accept_raw();
        let _ = std::io::copy(&mut &stream, &mut std::io::sink());
    });
    let begun = Instant::now();
    let Error::Connect(cause) = builder.connect().unwrap_err() else { panic!("wrong error") };
    assert!(matches!(&*cause, Failure::Proxy(_)), "{cause:?}");
    assert!((ms(200)..Duration::from_secs(5)).contains(&begun.elapsed()));
    server.join().unwrap();
}

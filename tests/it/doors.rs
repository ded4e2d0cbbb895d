//! Ways in besides `bind`: sockets that listen already, connections that something else has accepted.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crate::support::*;
use everlink::config::{Backoff, ForwardedHeader, Framing, Heartbeat, Resume, SocketOptions};
use everlink::http::{self, StatusCode};
use everlink::transport::{Duplex, Hangup, ReadHalf, WriteHalf};
use everlink::{Accepted, Answer, Client, Error, Listener as EverListener, Server, Session};
use rustix::io::{FdFlags, fcntl_getfd};
use tungstenite::Message;
use tungstenite::protocol::Role;

const LOOPBACK: &str = "127.0.0.1:0";

fn loopback() -> TcpListener {
    TcpListener::bind(LOOPBACK).unwrap()
}

/// A socket file that is gone with this.
struct SocketFile(PathBuf);

impl SocketFile {
    fn new(name: &str) -> Self {
        let name = format!("everlink-doors-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_file(&path);
        Self(path)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Both ends of a TCP connection.
fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = loopback();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    near.set_read_timeout(Some(PATIENCE)).unwrap();
    (near, listener.accept().unwrap().0)
}

/// Says hello and has it come back.
fn exchange<S: Read + Write>(stream: S) -> tungstenite::WebSocket<S> {
    let Ok((mut socket, _)) = tungstenite::client("ws://here/path", stream) else {
        panic!("no opening handshake")
    };
    socket.send(Message::text("hello")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("hello"));
    socket
}

fn echo_at(listener: impl Into<EverListener>) -> Server {
    init_log();
    Server::builder().serve(listener, echo_all).unwrap()
}

#[test]
fn a_server_serves_a_socket_that_listens_already() {
    let listener = loopback();
    let address = listener.local_addr().unwrap();
    // who came before there was a server is served too
    let early = TcpStream::connect(address).unwrap();
    let server = echo_at(listener);
    assert_eq!(server.local_addr(), address);
    exchange(early);
    exchange(TcpStream::connect(address).unwrap());
    assert!(server.shutdown(PATIENCE).drained);
    assert!(TcpStream::connect(address).is_err(), "the socket went with the server");
}

#[test]
fn a_unix_socket_is_served_and_its_clients_have_no_address() {
    let file = SocketFile::new("served");
    let server = Server::builder()
        .name("local")
        // nobody has an address to be counted by
        .max_connections_per_address(1)
        .serve(UnixListener::bind(&file.0).unwrap(), |session| {
            let none: SocketAddr = "[::]:0".parse().unwrap();
            assert_eq!((session.peer_addr(), session.client_addr()), (none, none));
            assert_eq!(session.incoming().unwrap().peer_addr(), none);
            echo_all(session);
        })
        .unwrap();
    assert_eq!(server.local_addr().to_string(), "[::]:0");
    let path = file.0.clone();
    let client = Client::builder("ws://localhost/")
        .connector(move |_: &str, _: u16| Ok(UnixStream::connect(&path)?.into()))
        .connect()
        .unwrap();
    client.send("hello").unwrap();
    assert_eq!(client.recv().unwrap(), "hello");
    exchange(UnixStream::connect(&file.0).unwrap());
    assert_eq!(server.stats().accepted, 2);
    let report = server.shutdown(PATIENCE);
    assert!(report.drained, "{report:?}");
}

#[test]
fn a_listener_that_cannot_work_is_refused_at_the_start() {
    let setting = |result: Result<Server, Error>| match result {
        Err(Error::InvalidSetting { setting, .. }) => setting,
        other => panic!("{other:?}"),
    };
    assert_eq!(setting(Server::builder().backlog(5).serve(loopback(), echo_all)), "backlog");
    let file = SocketFile::new("refused");
    let unix = UnixListener::bind(&file.0).unwrap();
    let probed = SocketOptions::new().keepalive(Duration::from_secs(60));
    let refused = Server::builder().socket(probed).serve(unix, echo_all);
    assert_eq!(setting(refused), "SocketOptions::keepalive");
    // a connection is no listener
    let (near, far) = tcp_pair();
    let refused = Server::builder().serve(TcpListener::from(OwnedFd::from(far)), echo_all);
    assert!(matches!(refused, Err(Error::Bind(_))), "{refused:?}");
    let refused = EverListener::try_from(OwnedFd::from(near));
    assert!(refused.is_err(), "{refused:?}");
}

/// This program again, as nothing but that test, with what the shell does before.
fn again(test: &str, shell: &str) -> Command {
    let mut command = Command::new("sh");
    let program = std::env::current_exe().unwrap();
    command.args(["-c", &format!("{shell} exec \"$0\" \"$@\"")]).arg(program);
    command.args(["--exact", test, "--nocapture"]).env("EVERLINK_TEST_DOOR", "1");
    command.stdout(Stdio::piped());
    command
}

/// Ended with the test, whatever becomes of that.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a child has said up to this.
fn said_until(child: &mut Ends, end: &str) -> String {
    let stdout = child.0.stdout.as_mut().unwrap();
    let (mut said, mut byte) = (Vec::new(), [0]);
    while !said.ends_with(end.as_bytes()) {
        if stdout.read(&mut byte).unwrap() == 0 {
            panic!("only {:?}", String::from_utf8_lossy(&said));
        }
        said.push(byte[0]);
    }
    String::from_utf8(said).unwrap()
}

/// Does nothing but in a child: serves what systemd has opened.
#[test]
fn the_child_of_systemd() {
    if std::env::var_os("EVERLINK_TEST_DOOR").is_none() {
        return;
    }
    let listeners = EverListener::from_systemd().unwrap();
    let is_closed = |it: &EverListener| fcntl_getfd(it).unwrap().contains(FdFlags::CLOEXEC);
    assert!(listeners.iter().all(is_closed), "children of this one would have it");
    assert!(EverListener::from_systemd().unwrap().is_empty(), "they are handed over once");
    let names: Vec<_> = listeners.iter().map(|it| it.name().unwrap_or("-").to_owned()).collect();
    let servers: Vec<_> = listeners.into_iter().map(echo_at).collect();
    println!("served {} as {names:?}.", servers.len());
    let _ = crossbeam_channel::never::<()>().recv();
}

#[test]
fn sockets_of_systemd_are_served_in_their_order_and_with_their_names() {
    let test = "doors::the_child_of_systemd";
    let (tcp, file) = (loopback(), SocketFile::new("systemd"));
    let unix = UnixListener::bind(&file.0).unwrap();
    let address = tcp.local_addr().unwrap();
    let start = |variables: &str, names: &str| {
        let (tcp, unix) = (tcp.try_clone().unwrap(), unix.try_clone().unwrap());
        let shell = format!("export {variables}; exec 3<&0 4>&2 0</dev/null;");
        let mut command = again(test, &shell);
        let command = command.env("LISTEN_FDNAMES", names);
        let child = command.stdin(OwnedFd::from(tcp)).stderr(OwnedFd::from(unix)).spawn().unwrap();
        Ends(child)
    };
    {
        let mut child = start("LISTEN_FDS=2 LISTEN_PID=$$", "web:local");
        let said = said_until(&mut child, "].");
        assert!(said.contains("served 2 as [\"web\", \"local\"]"), "{said}");
        exchange(TcpStream::connect(address).unwrap());
        exchange(UnixStream::connect(&file.0).unwrap());
    }
    // meant for somebody else
    let said = said_until(&mut start("LISTEN_FDS=2 LISTEN_PID=1", "web:local"), "].");
    assert!(said.contains("served 0"), "{said}");
    // a process that hands over does not know the number of the next
    let said = said_until(&mut start("LISTEN_FDS=1", ""), "].");
    assert!(said.contains("served 1 as [\"-\"]"), "{said}");
}

#[test]
fn the_tool_of_systemd_has_a_server_started_by_its_first_client() {
    let port = loopback().local_addr().unwrap();
    let mut command = Command::new("systemd-socket-activate");
    command.args(["-l", &port.to_string(), "--fdname=feed", "-E", "EVERLINK_TEST_DOOR=1"]);
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", "doors::the_child_of_systemd", "--nocapture"]);
    let Ok(child) = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() else {
        return println!("skipped: systemd-socket-activate is not installed");
    };
    let mut child = Ends(child);
    let mut first = None;
    eventually("it listens", || TcpStream::connect(port).map(|stream| first = Some(stream)));
    let said = said_until(&mut child, "].");
    assert!(said.contains("served 1 as [\"feed\"]"), "{said}");
    exchange(first.unwrap());
}

/// Does nothing but in a child: the next process, which has the socket as its standard input.
#[test]
fn the_next_process() {
    if std::env::var_os("EVERLINK_TEST_DOOR").is_none() {
        return;
    }
    let inherited = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let listener = EverListener::try_from(inherited).unwrap();
    let server = Server::builder().resume(Resume::new()).serve(listener, |session| {
        let _ = session.send("new");
        echo_all(session);
    });
    println!("it serves.");
    let _server = server.unwrap();
    let _ = crossbeam_channel::never::<()>().recv();
}

#[test]
fn the_next_process_takes_the_socket_over_and_no_client_is_refused() {
    const CLIENTS: usize = 200;
    init_log();
    let server = Server::builder()
        .resume(Resume::new())
        .bind(LOOPBACK, |session| {
            let _ = session.send("old");
            echo_all(session);
        })
        .unwrap();
    let address = server.local_addr();
    let failed = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let failed = Arc::clone(&failed);
            let client = Client::builder(format!("ws://{address}"))
                .resume(Resume::new())
                .backoff(Backoff::fixed(ms(1)))
                .on_event(move |_, event| {
                    if let everlink::Event::AttemptFailed { cause, .. } = event {
                        println!("{cause}");
                        failed.fetch_add(1, SeqCst);
                    }
                });
            let client = client.connect().unwrap();
            assert_eq!(client.recv_timeout(PATIENCE).unwrap(), "old");
            client
        })
        .collect();
    let socket = OwnedFd::from(server.listener().unwrap());
    let mut command = again("doors::the_next_process", "");
    let mut next = Ends(command.stdin(Stdio::from(socket)).spawn().unwrap());
    said_until(&mut next, "it serves.");
    assert_eq!(server.drain(PATIENCE), 0);
    assert!(server.shutdown(PATIENCE).drained);
    assert!(matches!(server.listener(), Err(Error::Closed)));
    for client in &clients {
        assert_eq!(client.recv_timeout(PATIENCE).unwrap(), "new");
    }
    assert_eq!(failed.load(SeqCst), 0, "attempts failed");
    // while there is somebody to say goodbye to
    drop(clients);
}

#[test]
fn a_socket_that_is_shared_stays_whole_when_a_server_goes() {
    let listener = loopback();
    let address = listener.local_addr().unwrap();
    let server = echo_at(listener.try_clone().unwrap());
    exchange(TcpStream::connect(address).unwrap());
    assert!(server.shutdown(PATIENCE).drained);
    // nobody accepts at the moment, and nobody is refused
    let waiting = TcpStream::connect(address).unwrap();
    let server = echo_at(listener);
    exchange(waiting);
    assert_eq!(server.stats().accepted, 1);
}

#[test]
fn both_families_come_in_at_one_port() {
    let Ok(server) = Server::bind("[::]:0", echo_all) else {
        return println!("skipped: there is no IPv6 here");
    };
    let (sender, peers) = crossbeam_channel::unbounded();
    let both = Server::bind("[::]:0", move |session: Session| {
        sender.send(session.peer_addr().ip()).unwrap();
        echo_all(session);
    })
    .unwrap();
    let port = both.local_addr().port();
    exchange(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap());
    assert_eq!(peers.recv_timeout(PATIENCE).unwrap().to_string(), "::ffff:127.0.0.1");
    exchange(TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap());
    assert_eq!(peers.recv_timeout(PATIENCE).unwrap(), Ipv6Addr::LOCALHOST);
    drop(server);
}

/// A server that accepts nothing itself in these tests.
fn adopting(builder: everlink::ServerBuilder) -> Server {
    init_log();
    builder.bind(LOOPBACK, echo_all).unwrap()
}

#[test]
fn an_adopted_connection_is_served_as_an_accepted_one_is() {
    let server = adopting(Server::builder());
    let (near, far) = tcp_pair();
    let address = near.local_addr().unwrap();
    server.adopt(far).unwrap();
    let mut held = exchange(near);
    let sessions = server.sessions();
    assert_eq!(sessions[0].peer_addr(), address);
    assert_eq!(sessions[0].incoming().unwrap().path(), "/path");
    // from another thread, on a Unix socket, and with the address that somebody knows
    let (near, far) = UnixStream::pair().unwrap();
    let (handle, known) = (server.handle(), "192.0.2.7:4711".parse().unwrap());
    thread::spawn(move || handle.adopt(Accepted::from(far).client_addr(known)).unwrap());
    let also = exchange(near);
    let sessions = server.sessions();
    assert!(sessions.iter().any(|session| session.client_addr() == known), "{sessions:?}");
    let stats = server.stats();
    assert_eq!((stats.accepted, stats.connections, stats.sessions), (2, 2, 2));
    thread::scope(|scope| {
        let ending = scope.spawn(|| server.shutdown(PATIENCE));
        let end = held.read().unwrap();
        assert!(matches!(end, Message::Close(Some(frame)) if u16::from(frame.code) == 1001));
        let _ = held.flush();
        drop((held, also));
        assert!(ending.join().unwrap().drained);
    });
    let (near, far) = tcp_pair();
    assert!(matches!(server.adopt(far), Err(Error::Closed)));
    assert_eq!((&near).read(&mut [0]).unwrap(), 0);
}

#[test]
fn what_was_read_before_the_adoption_comes_first() {
    let server = adopting(Server::builder());
    let (mut near, far) = tcp_pair();
    let request = crate::support::bare::REQUEST.as_bytes();
    let (before, after) = request.split_at(33);
    server.adopt(Accepted::from(far).read(before)).unwrap();
    near.write_all(after).unwrap();
    let answer = read_head(&mut near);
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    // a whole request, and the first message with it
    let (mut near, far) = tcp_pair();
    let frame = crate::support::bare::masked(crate::support::bare::TEXT, b"hi");
    server.adopt(Accepted::from(far).read([request, &frame].concat())).unwrap();
    read_head(&mut near);
    let mut echoed = [0; 4];
    near.read_exact(&mut echoed).unwrap();
    assert_eq!(&echoed, b"\x81\x02hi");
}

#[test]
fn there_is_no_more_room_for_adopted_connections_than_for_others() {
    let server = adopting(Server::builder().max_connections(2).max_connections_per_address(1));
    let place = |address: &str, stream| {
        server.adopt(Accepted::from(stream).client_addr(address.parse().unwrap()))
    };
    let (near, far) = tcp_pair();
    place("192.0.2.1:1", far).unwrap();
    let _held = exchange(near);
    let (mut near, far) = tcp_pair();
    let refused = place("192.0.2.1:2", far).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the connection is refused: too many connections from this address"
    );
    near.write_all(crate::support::bare::REQUEST.as_bytes()).unwrap();
    assert!(read_head(&mut near).starts_with("HTTP/1.1 503 "));
    let (near, far) = tcp_pair();
    place("192.0.2.2:1", far).unwrap();
    let _also = exchange(near);
    let (_, far) = tcp_pair();
    assert!(matches!(place("192.0.2.3:1", far), Err(Error::Refused { .. })));
    assert_eq!(server.stats().refused, 2);
}

/// A stream of the program's own, as halves.
#[derive(Debug)]
struct Own(UnixStream);

impl Read for Own {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Own {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0.write(buf)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl ReadHalf for Own {
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> std::io::Result<()> {
        self.0.set_read_timeout(timeout)
    }
}

impl WriteHalf for Own {
    fn set_write_timeout(&mut self, timeout: Option<Duration>) -> std::io::Result<()> {
        self.0.set_write_timeout(timeout)
    }

    fn finish(&mut self) -> std::io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }
}

impl Hangup for Own {
    fn hang_up(&self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

#[test]
fn a_transport_of_the_programs_own_is_adopted_too() {
    let server = adopting(Server::builder());
    let (near, far) = UnixStream::pair().unwrap();
    let clone = || Own(far.try_clone().unwrap());
    server.adopt(Duplex::new(clone(), clone(), clone())).unwrap();
    exchange(near);
    // framed, without any handshake
    let lines = Server::builder().framing(Framing::lines()).heartbeat(Heartbeat::off());
    let server = adopting(lines);
    let (mut near, far) = UnixStream::pair().unwrap();
    server.adopt(Accepted::from(far).read("a li")).unwrap();
    near.write_all(b"ne\n").unwrap();
    let mut line = [0; 7];
    near.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"a line\n");
}

fn request(subprotocols: &str) -> http::Request<()> {
    http::Request::get("/room?key=1")
        .header("Host", "here")
        .header("Upgrade", "websocket")
        .header("Connection", "Upgrade")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("Sec-WebSocket-Protocol", subprotocols)
        .body(())
        .unwrap()
}

#[test]
fn a_request_that_another_server_has_read_is_answered_here() {
    let server = adopting(Server::builder().subprotocols(["chat"]).on_request(|incoming| {
        match incoming.path() {
            "/room" => Answer::accept(),
            _ => Answer::reject(StatusCode::NOT_FOUND),
        }
    }));
    let (mut near, far) = tcp_pair();
    server.adopt(Accepted::from(far).request(request("other, chat"))).unwrap();
    let answer = read_head(&mut near);
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.contains("\r\nSec-WebSocket-Protocol: chat\r\n"), "{answer}");
    assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
    let mut socket = tungstenite::WebSocket::from_raw_socket(near, Role::Client, None);
    socket.send(Message::text("hello")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("hello"));
    let (mut near, far) = tcp_pair();
    let mut plain = request("");
    *plain.uri_mut() = "/health".parse().unwrap();
    server.adopt(Accepted::from(far).request(plain)).unwrap();
    assert!(read_head(&mut near).starts_with("HTTP/1.1 404 "));
}

#[test]
fn a_connection_that_another_server_has_upgraded_is_a_session_at_once() {
    let server = adopting(Server::builder().on_request(|_| Answer::reject(StatusCode::FORBIDDEN)));
    let (mut near, mut far) = tcp_pair();
    let accept = Accepted::accept_key("dGhlIHNhbXBsZSBub25jZQ==");
    write!(far, "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {accept}\r\n\r\n")
        .unwrap();
    let upgraded = Accepted::from(far).upgraded(request("chat"), Some("chat"));
    server.adopt(upgraded.read(crate::support::bare::masked(0x81, b"early"))).unwrap();
    assert!(read_head(&mut near).contains(&accept));
    let mut socket = tungstenite::WebSocket::from_raw_socket(near, Role::Client, None);
    assert_eq!(socket.read().unwrap(), Message::text("early"));
    let session = server.sessions().remove(0);
    assert_eq!(session.subprotocol(), Some("chat"));
    assert_eq!(session.incoming().unwrap().query(), Some("key=1"));
    let lines = Server::builder().framing(Framing::lines()).heartbeat(Heartbeat::off());
    let (_, far) = tcp_pair();
    let refused = adopting(lines).adopt(Accepted::from(far).request(request("")));
    assert!(matches!(refused, Err(Error::InvalidSetting { .. })), "{refused:?}");
}

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 2 for a client at this address.
fn v2(command: u8, client: [u8; 4], more: &[u8]) -> Vec<u8> {
    let addresses = [&client[..], &[192, 0, 2, 1, 0x12, 0x67, 0x01, 0xbb], more].concat();
    let length = (addresses.len() as u16).to_be_bytes();
    [V2, &[command, 0x11], &length, &addresses].concat()
}

/// A server behind proxies on loopback that says who its clients are.
fn naming(builder: everlink::ServerBuilder) -> Server {
    init_log();
    builder
        .bind(LOOPBACK, |session| {
            let _ = session.send(session.client_addr().to_string());
            for _ in &session {}
        })
        .unwrap()
}

fn connect(server: &Server) -> TcpStream {
    crate::support::bare::connect(server.local_addr())
}

/// What the server calls a client that begins with this.
fn named(server: &Server, begin: &[u8], headers: &str) -> Option<(String, TcpStream)> {
    let mut stream = connect(server);
    let request =
        crate::support::bare::REQUEST.replace("Host: here", &format!("Host: here{headers}"));
    // it may be over before all of it is written
    let _ = stream.write_all(&[begin, request.as_bytes()].concat());
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).ok().filter(|()| &answer == b"HTTP/1.1 101")?;
    read_head(&mut stream);
    let mut head = [0; 2];
    stream.read_exact(&mut head).unwrap();
    let mut name = vec![0; usize::from(head[1])];
    stream.read_exact(&mut name).unwrap();
    Some((String::from_utf8(name).unwrap(), stream))
}

#[test]
fn what_a_trusted_proxy_says_first_is_who_the_client_is() {
    let server = naming(Server::builder().proxy_protocol(["127.0.0.0/8"]));
    let name = |begin: &[u8]| named(&server, begin, "").map(|(name, _)| name);
    let is = |address: &str| Some(address.to_owned());
    assert_eq!(name(b"PROXY TCP4 192.0.2.9 192.0.2.1 4711 443\r\n"), is("192.0.2.9:4711"));
    assert_eq!(name(b"PROXY TCP6 2001:db8::9 ::1 4711 443\r\n"), is("[2001:db8::9]:4711"));
    assert_eq!(name(&v2(0x21, [192, 0, 2, 9], b"")), is("192.0.2.9:4711"));
    let more = [&[4, 8, 0][..], &[7; 2048]].concat();
    assert_eq!(name(&v2(0x21, [192, 0, 2, 9], &more)), is("192.0.2.9:4711"));
    // its own connections
    for own in [&b"PROXY UNKNOWN\r\n"[..], &v2(0x20, [192, 0, 2, 9], b"")] {
        assert!(name(own).unwrap().starts_with("127.0.0.1:"));
    }
    let refused = server.stats().refused;
    for wrong in [
        &b""[..],
        b"PROXY TCP4 192.0.2.9 192.0.2.1 4711\r\n",
        b"PROXY TCP4 192.0.2.9 192.0.2.1 4711 443\n",
        &v2(0x21, [192, 0, 2, 9], &[0; 4096]),
        &v2(0x23, [192, 0, 2, 9], b""),
        &[b"PROXY TCP4 ", &[b'1'; 200][..]].concat(),
    ] {
        assert_eq!(name(wrong), None, "{wrong:?}");
    }
    eventually("they are counted", || match server.stats().refused - refused {
        6 => Ok(()),
        other => Err(other),
    });
}

#[test]
fn the_time_for_what_a_proxy_says_is_that_of_the_opening() {
    let timeouts = everlink::config::Timeouts::new().handshake(ms(100));
    let server = naming(Server::builder().timeouts(timeouts).proxy_protocol(["127.0.0.1"]));
    let mut stream = connect(&server);
    stream.write_all(b"PROXY TCP4 192").unwrap();
    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    assert_eq!(server.stats().sessions, 0);
}

#[test]
fn strangers_are_not_believed() {
    let server = naming(
        Server::builder()
            .proxy_protocol(["192.0.2.0/24"])
            .forwarded(ForwardedHeader::XForwardedFor, ["192.0.2.0/24"]),
    );
    let spoofed = "\r\nX-Forwarded-For: 203.0.113.9\r\nForwarded: for=203.0.113.9";
    let (name, _) = named(&server, b"", spoofed).unwrap();
    assert!(name.starts_with("127.0.0.1:"), "{name}");
    assert!(named(&server, b"PROXY TCP4 192.0.2.9 192.0.2.1 4711 443\r\n", "").is_none());
    assert!(named(&server, &v2(0x21, [192, 0, 2, 9], b""), "").is_none());
    // the header that the proxies do not write may be anybody's
    let server = naming(Server::builder().forwarded(ForwardedHeader::XForwardedFor, ["127.0.0.1"]));
    let (name, _) = named(&server, b"", "\r\nForwarded: for=203.0.113.9").unwrap();
    assert!(name.starts_with("127.0.0.1:"), "{name}");
}

#[test]
fn a_proxy_behind_a_proxy_is_believed_step_by_step() {
    let server = naming(
        Server::builder()
            .proxy_protocol(["127.0.0.1"])
            .forwarded(ForwardedHeader::Forwarded, ["10.0.0.0/8"]),
    );
    let forwarded = "\r\nForwarded: for=1.1.1.1, for=203.0.113.9:7\r\nForwarded: for=10.0.0.9";
    let (name, _) = named(&server, &v2(0x21, [10, 0, 0, 8], b""), forwarded).unwrap();
    assert_eq!(name, "203.0.113.9:7");
    // this one is no proxy
    let (name, _) = named(&server, &v2(0x21, [11, 0, 0, 8], b""), forwarded).unwrap();
    assert_eq!(name, "11.0.0.8:4711");
}

#[test]
fn whoever_connects_to_a_unix_socket_is_trusted_by_name() {
    let file = SocketFile::new("trusted");
    let server = Server::builder()
        .forwarded(ForwardedHeader::XForwardedFor, ["unix:"])
        .serve(UnixListener::bind(&file.0).unwrap(), echo_all)
        .unwrap();
    let mut stream = UnixStream::connect(&file.0).unwrap();
    let request = crate::support::bare::REQUEST
        .replace("Host: here", "Host: here\r\nX-Forwarded-For: 203.0.113.9");
    stream.write_all(request.as_bytes()).unwrap();
    stream.read_exact(&mut [0; 12]).unwrap();
    eventually("the session is there", || match &server.sessions()[..] {
        [session] if session.client_addr().to_string() == "203.0.113.9:0" => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn limits_by_address_count_the_client_and_not_its_proxy() {
    let server =
        naming(Server::builder().max_connections_per_address(1).proxy_protocol(["127.0.0.1"]));
    let from = |last: u8| named(&server, &v2(0x21, [203, 0, 113, last], b""), "");
    // these have not said yet who they are
    let _silent: Vec<_> = (0..3).map(|_| connect(&server)).collect();
    let held = from(1).unwrap();
    assert!(from(1).is_none(), "two of one address");
    let _other = from(2).unwrap();
    eventually("it is counted", || match server.stats().refused {
        1 => Ok(()),
        other => Err(other),
    });
    drop(held);
    eventually("its place is free", || from(1).map(drop).ok_or("refused"));
}

#[test]
fn framed_connections_have_a_proxy_too() {
    let server = Server::builder()
        .framing(Framing::lines())
        .heartbeat(Heartbeat::off())
        .proxy_protocol(["127.0.0.1"])
        .bind(LOOPBACK, |session| {
            for line in &session {
                let _ = session.send(format!("{} {line}", session.client_addr()));
            }
        })
        .unwrap();
    let mut stream = connect(&server);
    stream.write_all(b"PROXY TCP4 192.0.2.9 192.0.2.1 4711 443\r\nhello\n").unwrap();
    let mut line = [0; 21];
    stream.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"192.0.2.9:4711 hello\n");
}

#[test]
fn proxies_that_cannot_be_are_refused_at_the_start() {
    let setting = |builder: everlink::ServerBuilder| match builder.bind(LOOPBACK, echo_all) {
        Err(Error::InvalidSetting { setting, .. }) => setting,
        other => panic!("{other:?}"),
    };
    let builder = Server::builder;
    let header = ForwardedHeader::Forwarded;
    assert_eq!(setting(builder().proxy_protocol(["10.0.0.0/33"])), "proxy_protocol");
    assert_eq!(setting(builder().proxy_protocol([""; 0])), "proxy_protocol");
    assert_eq!(setting(builder().forwarded(header, ["proxy.example"])), "forwarded");
    let lines = || builder().framing(Framing::lines()).heartbeat(Heartbeat::off());
    assert_eq!(setting(lines().forwarded(header, ["::1"])), "forwarded");
    let openings = |count, period| builder().max_openings_per_address(count, period);
    for (count, period) in [(0, ms(1000)), (1, Duration::ZERO), (1, Duration::MAX)] {
        assert_eq!(setting(openings(count, period)), "max_openings_per_address");
    }
}

#[test]
fn too_many_openings_of_one_address_are_refused_and_counted() {
    let hour = Duration::from_secs(3600);
    let server = naming(
        Server::builder()
            .max_openings_per_address(3, hour)
            .forwarded(ForwardedHeader::XForwardedFor, ["127.0.0.1"]),
    );
    let from = |address: &str| named(&server, b"", &format!("\r\nX-Forwarded-For: {address}"));
    for _ in 0..3 {
        assert!(from("203.0.113.9").is_some());
    }
    assert!(from("203.0.113.9").is_none());
    assert!(from("203.0.113.10").is_some());
    let stats = server.stats();
    assert_eq!((stats.openings_over_rate, stats.refused), (1, 1));
    // and without a proxy
    let server = naming(Server::builder().max_openings_per_address(1, hour));
    assert!(named(&server, b"", "").is_some() && named(&server, b"", "").is_none());
    assert_eq!(server.stats().openings_over_rate, 1);
}

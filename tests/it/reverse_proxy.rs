//! Behind nginx and haproxy, as most servers are: what the server said before it closed arrives, and
//! so does its close code. A session goes on when they are reloaded or killed.
//!
//! Says "skipped" for a program that is not on the PATH.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Instant;

use crate::support::browser::Browser;
use crate::support::resumed::{keep, resuming_server};
use crate::support::*;
use crossbeam_channel::unbounded;
use everlink::config::{Backoff, ForwardedHeader, Resume};
use everlink::failure::Decision;
use everlink::{Answer, Client, Error, Failure, Sender, Server, ServerBuilder, Session};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use socket2::Socket;
use tungstenite::Message;
use tungstenite::client::IntoClientRequest;
use tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};

const MESSAGES: usize = 5_000;

/// What is lost depends on which thread is first: one round may be lucky.
const ROUNDS: usize = 10;

/// Large enough that many are on their way when the server closes.
const SIZE: usize = 1_000;

#[derive(Debug, Clone, Copy)]
enum Program {
    Nginx,
    Haproxy,
    /// Asks now and then whether the server is well.
    CheckingHaproxy,
    /// With a process that starts others, and replaces them when it is reloaded.
    NginxMaster,
    /// The same.
    HaproxyMaster,
    /// Writes into this header whose request it is.
    NginxForwards,
    HaproxyForwards,
    HaproxyForwardsByTheStandard,
    /// Says ahead of everything, in this version of the PROXY protocol, whose connection it is.
    NginxIntroduces,
    HaproxyIntroduces,
    HaproxyIntroducesInBytes,
}

impl Program {
    /// The command that serves `front` with what `back` answers, from files in `folder` alone.
    fn command(self, folder: &Path, front: SocketAddr, back: SocketAddr) -> Command {
        let file = folder.join("config");
        let (program, config) = match self {
            Self::Nginx => ("nginx", nginx_config(front, back, "master_process off;")),
            // nobody waits for the links of a process that is replaced
            Self::NginxMaster => {
                let main = "worker_processes 1; worker_shutdown_timeout 50ms;";
                ("nginx", nginx_config(front, back, main))
            }
            Self::Haproxy => ("haproxy", haproxy_config(front, back, "", "")),
            Self::CheckingHaproxy => {
                let checks = "option httpchk GET /health";
                ("haproxy", haproxy_config(front, back, checks, "check inter 1s"))
            }
            Self::NginxForwards => ("nginx", nginx_config(front, back, "master_process off;")),
            Self::NginxIntroduces => ("nginx", nginx_stream_config(front, back)),
            Self::HaproxyForwards => {
                ("haproxy", haproxy_config(front, back, "option forwardfor", ""))
            }
            Self::HaproxyForwardsByTheStandard => {
                let forwards = "http-request add-header Forwarded for=%[src]";
                ("haproxy", haproxy_config(front, back, "", "") + "            " + forwards + "\n")
            }
            Self::HaproxyIntroduces => ("haproxy", haproxy_config(front, back, "", "send-proxy")),
            Self::HaproxyIntroducesInBytes => (
                "haproxy",
                haproxy_config(front, back, "", "send-proxy-v2 proxy-v2-options crc32c"),
            ),
            Self::HaproxyMaster => {
                let global = "global\n            hard-stop-after 50ms\n        ";
                ("haproxy", global.to_owned() + &haproxy_config(front, back, "", ""))
            }
        };
        fs::write(&file, config).unwrap();
        let mut command = Command::new(program);
        match self {
            Self::Nginx | Self::NginxMaster | Self::NginxForwards | Self::NginxIntroduces => {
                command.arg("-e").arg("stderr").arg("-p").arg(folder).arg("-c")
            }
            // in the foreground
            Self::HaproxyMaster => command.args(["-W", "-db", "-q", "-f"]),
            _ => command.args(["-db", "-q", "-f"]),
        };
        // so that nobody outlives the process that has started it
        command.arg(file).process_group(0);
        command
    }

    /// What has it replace its processes.
    fn reload(self) -> Signal {
        match self {
            Self::Nginx | Self::NginxMaster => Signal::HUP,
            _ => Signal::USR2,
        }
    }
}

/// It writes nowhere but below its prefix.
fn nginx_config(front: SocketAddr, back: SocketAddr, main: &str) -> String {
    format!(
        "daemon off;
        {main}
        pid nginx.pid;
        events {{}}
        http {{
            access_log off;
            client_body_temp_path body;
            proxy_temp_path proxy;
            fastcgi_temp_path fastcgi;
            uwsgi_temp_path uwsgi;
            scgi_temp_path scgi;
            server {{
                listen {front};
                location / {{
                    proxy_pass http://{back};
                    proxy_http_version 1.1;
                    proxy_set_header Host $http_host;
                    proxy_set_header Upgrade $http_upgrade;
                    proxy_set_header Connection upgrade;
                    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                }}
            }}
        }}\n"
    )
}

/// Where Debian has the module of nginx that knows nothing of HTTP.
const STREAMS: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

fn nginx_stream_config(front: SocketAddr, back: SocketAddr) -> String {
    format!(
        "load_module {STREAMS};
        daemon off;
        master_process off;
        pid nginx.pid;
        events {{}}
        stream {{
            server {{
                listen {front};
                proxy_pass {back};
                proxy_protocol on;
            }}
        }}\n"
    )
}

fn haproxy_config(front: SocketAddr, back: SocketAddr, option: &str, server: &str) -> String {
    format!(
        "defaults
            mode http
            timeout connect 10s
            timeout client 60s
            timeout server 60s
            timeout tunnel 60s
            {option}
        listen front
            bind {front}
            server back {back} {server}\n"
    )
}

/// A reverse proxy until it is dropped.
struct ReverseProxy {
    program: Program,
    child: Child,
    folder: PathBuf,
    address: SocketAddr,
    back: SocketAddr,
}

impl ReverseProxy {
    /// In front of `back`. `None` if the program is not installed.
    fn start(program: Program, name: &str, back: SocketAddr) -> Option<Self> {
        let folder = format!("everlink-{program:?}-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        fs::create_dir_all(&folder).unwrap();
        // neither program can say which port it took: one may be gone before it listens there
        let mut attempts = (0..5).map(|_| Self::attempt(program, &folder, back));
        let started = attempts.find_map(|attempt| match attempt {
            Ok(proxy) => Some(Some(proxy)),
            Err(Unstarted::NotInstalled) => Some(None),
            Err(Unstarted::Exited) => None,
        });
        let started = started.unwrap_or_else(|| panic!("{program:?} does not start"));
        if started.is_none() {
            println!("skipped: {program:?} is not installed");
            let _ = fs::remove_dir_all(folder);
        }
        started
    }

    fn attempt(program: Program, folder: &Path, back: SocketAddr) -> Result<Self, Unstarted> {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let child = Self::launch(program, folder, address, back)?;
        let mut proxy = Self { program, child, folder: folder.to_owned(), address, back };
        if proxy.listens() { Ok(proxy) } else { Err(Unstarted::Exited) }
    }

    fn launch(
        program: Program,
        folder: &Path,
        address: SocketAddr,
        back: SocketAddr,
    ) -> Result<Child, Unstarted> {
        let mut command = program.command(folder, address, back);
        let command = command.stdin(Stdio::null()).stdout(Stdio::null());
        command.spawn().map_err(|_| Unstarted::NotInstalled)
    }

    /// Whether it does in the end.
    fn listens(&mut self) -> bool {
        let mut exited = false;
        eventually("the proxy listens", || {
            exited = self.child.try_wait().unwrap().is_some();
            if exited { Ok(()) } else { TcpStream::connect(self.address).map(drop) }
        });
        !exited
    }

    /// Is reloaded, or is killed and started again.
    fn fail(&mut self, reloads: bool) {
        if reloads {
            return kill_process(pid(&self.child), self.program.reload()).unwrap();
        }
        self.kill();
        self.start_again();
    }

    /// All of its processes.
    fn kill(&mut self) {
        let _ = kill_process_group(pid(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }

    /// The same again, where it was.
    fn start_again(&mut self) {
        let child = Self::launch(self.program, &self.folder, self.address, self.back);
        self.child = child.unwrap_or_else(|_| panic!("{:?} starts again", self.program));
        assert!(self.listens(), "{:?} starts again", self.program);
    }

    fn client(&self) -> Client {
        Client::builder(format!("ws://{}/feed", self.address))
            .decide(|_, _| Decision::GiveUp)
            .connect()
            .unwrap()
    }
}

enum Unstarted {
    NotInstalled,
    Exited,
}

impl Drop for ReverseProxy {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn text(number: usize) -> String {
    format!("{number:0SIZE$}")
}

/// Receives while another thread sends all the time. All messages arrive in order, and then the
/// close code.
fn receives_all_and_the_close_code(client: &Client) {
    let (received, cause) = thread::scope(|scope| {
        scope.spawn(|| while client.send(text(0)).is_ok() {});
        let mut received = Vec::new();
        let end = loop {
            match client.recv_timeout(PATIENCE) {
                Ok(message) => received.push(message.as_text().unwrap().parse::<usize>().unwrap()),
                Err(end) => break end,
            }
        };
        // lets the sender go if it still waits
        client.close();
        (received, end)
    });
    let expected: Vec<usize> = (1..=MESSAGES).collect();
    let last = received.last().copied();
    assert!(
        received == expected,
        "{} of {MESSAGES} messages came, the last was {last:?}; then {cause:?}",
        received.len()
    );
    let Error::GaveUp(cause) = cause else { panic!("{cause:?}") };
    let Failure::Closed(Some(frame)) = &*cause else { panic!("{cause:?}") };
    assert_eq!((frame.code.0, frame.reason.as_str()), (4000, "done"));
}

/// A server of this library, whose handler does not look at what the client sends.
fn from_a_session(program: Program) {
    init_log();
    let server = Server::builder()
        .bind("127.0.0.1:0", |session: Session| {
            for number in 1..=MESSAGES {
                session.send(text(number)).unwrap();
            }
            session.close_with(4000, "done").unwrap();
        })
        .unwrap();
    let Some(proxy) = ReverseProxy::start(program, "session", server.local_addr()) else { return };
    for _ in 0..ROUNDS {
        receives_all_and_the_close_code(&proxy.client());
    }
}

/// A server that does all that RFC 6455 section 7.1.1 asks for: it reads on until the client has
/// answered its close frame, and ends the stream then.
fn from_a_careful_server(program: Program) {
    let listener = Listener::new();
    let Some(proxy) = ReverseProxy::start(program, "careful", listener.address()) else { return };
    for _ in 0..ROUNDS {
        thread::scope(|scope| {
            let server = scope.spawn(|| {
                let mut peer = listener.accept();
                for number in 1..=MESSAGES {
                    peer.send(Message::text(text(number))).unwrap();
                }
                let code = CloseCode::Library(4000);
                peer.close(Some(CloseFrame { code, reason: "done".into() })).unwrap();
                read_to_end(&mut peer)
            });
            receives_all_and_the_close_code(&proxy.client());
            let answer = server.join().unwrap();
            assert_eq!(answer.map(|frame| frame.code), Some(CloseCode::Library(4000)));
        });
    }
}

#[test]
fn all_messages_and_the_close_code_arrive_through_nginx() {
    from_a_session(Program::Nginx);
}

#[test]
fn all_messages_and_the_close_code_arrive_through_haproxy() {
    from_a_session(Program::Haproxy);
}

#[test]
fn a_careful_servers_messages_and_close_code_arrive_through_nginx() {
    from_a_careful_server(Program::Nginx);
}

#[test]
fn a_careful_servers_messages_and_close_code_arrive_through_haproxy() {
    from_a_careful_server(Program::Haproxy);
}

/// Counts what it receives while it sends all the time, and says how that ended.
const PAGE: &str = r#"<!doctype html>
<meta charset="utf-8">
<link rel="icon" href="data:,">
<script>
const feed = new WebSocket(`ws://${location.host}/feed`);
let count = 0;
const send = () => {
  if (feed.readyState !== WebSocket.OPEN) return;
  if (feed.bufferedAmount < 1 << 20) feed.send("x".repeat(1000));
  setTimeout(send);
};
feed.onopen = send;
feed.onmessage = ({ data }) => { if (Number(data) === count + 1) count += 1; };
feed.onclose = ({ code, reason, wasClean }) => {
  const verdict = new WebSocket(`ws://${location.host}/verdict`);
  verdict.onopen = () => verdict.send([count, code, reason, wasClean].join(" "));
};
</script>
"#;

#[test]
fn a_page_in_chromium_gets_all_messages_and_the_close_code_through_nginx() {
    init_log();
    let (verdict, verdicts) = std::sync::mpsc::channel();
    let server = Server::builder()
        .on_request(|incoming| match incoming.header("upgrade") {
            Some(_) => Answer::accept(),
            None => Answer::page("text/html; charset=utf-8", PAGE),
        })
        .bind("127.0.0.1:0", move |session: Session| {
            if session.incoming().unwrap().path() == "/verdict" {
                let text = session.recv_timeout(PATIENCE).unwrap();
                return verdict.send(text.as_text().unwrap().to_owned()).unwrap();
            }
            for number in 1..=MESSAGES {
                session.send(text(number)).unwrap();
            }
            session.close_with(4000, "done").unwrap();
        })
        .unwrap();
    let address = server.local_addr();
    let Some(proxy) = ReverseProxy::start(Program::Nginx, "page", address) else { return };
    let Some(_browser) = Browser::open(&format!("http://{}/", proxy.address), "nginx") else {
        return;
    };
    let verdict = verdicts.recv_timeout(2 * PATIENCE).unwrap();
    assert_eq!(verdict, format!("{MESSAGES} 4000 done true"));
}

/// Whom a server that is known by a name lets in through the proxy. Checks of haproxy name no host,
/// and are let in, too.
fn names_and_origins_count(program: Program) {
    init_log();
    let (checked, checks) = crossbeam_channel::unbounded();
    let server = Server::builder()
        .host_names(["feed.test"])
        .on_request(move |incoming| match incoming.path() {
            "/health" => {
                checked.send(incoming.header("host").is_some()).unwrap();
                Answer::page("text/plain", "well")
            }
            _ => Answer::accept(),
        })
        .bind("127.0.0.1:0", |session: Session| while session.recv().is_ok() {})
        .unwrap();
    let Some(proxy) = ReverseProxy::start(program, "names", server.local_addr()) else { return };
    if matches!(program, Program::CheckingHaproxy) {
        assert_eq!(checks.recv_timeout(PATIENCE), Ok(false), "a check without a host is let in");
    }
    let status = |host: &str, origin: Option<&str>| {
        let mut builder = Client::builder(format!("ws://{host}/feed")).connect_to(proxy.address);
        if let Some(origin) = origin {
            builder = builder.header("Origin", origin);
        }
        match builder.decide(|_, _| Decision::GiveUp).connect() {
            Ok(_) => 101,
            Err(Error::Connect(cause)) => match &*cause {
                Failure::Rejected { status, .. } => status.as_u16(),
                other => panic!("{other:?}"),
            },
            Err(other) => panic!("{other:?}"),
        }
    };
    for (host, origin, expected) in [
        ("feed.test", None, 101),
        // TLS may end at the proxy, or not
        ("feed.test", Some("https://feed.test"), 101),
        ("feed.test", Some("http://feed.test"), 101),
        ("feed.test", Some("chrome-extension://feed.test"), 403),
        ("feed.test", Some("https://evil.test"), 403),
        ("evil.test", None, 421),
        ("evil.test", Some("http://evil.test"), 421),
    ] {
        assert_eq!(status(host, origin), expected, "{host} {origin:?}");
    }
}

#[test]
fn names_and_origins_count_behind_nginx() {
    names_and_origins_count(Program::Nginx);
}

#[test]
fn names_and_origins_count_behind_haproxy() {
    names_and_origins_count(Program::CheckingHaproxy);
}

#[cfg(feature = "deflate")]
#[test]
fn compressed_messages_pass_nginx() {
    use everlink::config::Compression;

    init_log();
    let server = Server::builder()
        .compression(Compression::new())
        .bind("127.0.0.1:0", |session: Session| {
            assert!(session.compression().is_some());
            for message in session.iter() {
                session.send(message).unwrap();
            }
        })
        .unwrap();
    let address = server.local_addr();
    let Some(proxy) = ReverseProxy::start(Program::Nginx, "deflate", address) else { return };
    let client = Client::builder(format!("ws://{}/feed", proxy.address))
        .compression(Compression::new())
        .connect()
        .unwrap();
    for number in 0..MESSAGES {
        client.send(text(number)).unwrap();
    }
    for number in 0..MESSAGES {
        assert_eq!(client.recv_timeout(PATIENCE).unwrap().as_text(), Some(&*text(number)));
    }
}

/// Says that it is over, also when the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Both ends send all the time while the proxy is reloaded, and killed and started again.
fn a_session_goes_on(program: Program) {
    const OUTAGES: usize = 6;
    let (began, sessions) = unbounded();
    let server = resuming_server()
        .bind("127.0.0.1:0", move |session: Session| {
            let _ = began.send(session.clone());
            keep(&session);
        })
        .unwrap();
    let address = server.local_addr();
    let Some(mut proxy) = ReverseProxy::start(program, "resume", address) else { return };
    let builder = Client::builder(format!("ws://{}/feed", proxy.address))
        .resume(Resume::new())
        .backoff(Backoff::fixed(ms(5)));
    let client = builder.connect().unwrap();
    let session = sessions.recv_timeout(PATIENCE).unwrap();
    let is_over = AtomicBool::new(false);
    // sends numbers until it is over, and then says how many they were
    let send_all = |sender: &Sender| {
        let mut count = 0;
        while !is_over.load(SeqCst) {
            sender.send(text(count)).unwrap();
            count += 1;
        }
        sender.send("over").unwrap();
        count
    };
    let receive_all = |recv: &dyn Fn() -> Result<everlink::Message, Error>| {
        for expected in 0.. {
            let message = recv().unwrap();
            if message.as_text() == Some("over") {
                return expected;
            }
            assert_eq!(message.as_text(), Some(&*text(expected)), "{program:?}");
        }
        unreachable!()
    };
    thread::scope(|scope| {
        let sending = [client.sender(), session.sender()];
        let sending = sending.map(|sender| scope.spawn(move || send_all(sender)));
        let at_server = scope.spawn(|| receive_all(&|| session.recv_timeout(PATIENCE)));
        let at_client = scope.spawn(|| receive_all(&|| client.recv_timeout(PATIENCE)));
        let over = Over(&is_over);
        for outage in 0..OUTAGES {
            let resumed = client.stats().resumed;
            let mut since = None;
            eventually("the session goes on", || {
                // one that has just started may have missed a signal
                if since.is_none_or(|since: Instant| since.elapsed() > ms(2000)) {
                    proxy.fail(outage % 2 == 0);
                    since = Some(Instant::now());
                }
                if client.stats().resumed > resumed { Ok(()) } else { Err(outage) }
            });
        }
        drop(over);
        let sent = sending.map(|sending| sending.join().expect("the session goes on"));
        let received = [at_server, at_client].map(|end| end.join().expect("in order"));
        assert_eq!(sent, received, "{program:?}");
        println!("{program:?}: {OUTAGES} outages, {sent:?} sent, {received:?} received");
    });
    client.close();
    assert!(session.recv_timeout(PATIENCE).is_err() && sessions.is_empty());
    assert_eq!(client.stats().replaced, 0);
}

#[test]
fn a_session_goes_on_when_nginx_is_reloaded_or_killed() {
    a_session_goes_on(Program::NginxMaster);
}

#[test]
fn a_session_goes_on_when_haproxy_is_reloaded_or_killed() {
    a_session_goes_on(Program::HaproxyMaster);
}

/// Connects from an address that is not the proxy's, and says that it is yet another.
fn pretends(proxy: SocketAddr) -> tungstenite::WebSocket<TcpStream> {
    let socket = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let own: SocketAddr = "127.0.0.2:0".parse().unwrap();
    socket.bind(&own.into()).unwrap();
    socket.connect(&proxy.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut request = format!("ws://{proxy}/").into_client_request().unwrap();
    for (name, value) in
        [("X-Forwarded-For", "203.0.113.66, 127.0.0.1"), ("Forwarded", "for=203.0.113.66;x=\"")]
    {
        request.headers_mut().append(name, value.parse().unwrap());
    }
    tungstenite::client(request, stream).unwrap().0
}

/// The server knows who the client is, and limits by address count that.
fn the_client_is_known(program: Program, builder: ServerBuilder) {
    init_log();
    let (said, clients) = unbounded();
    let server = builder
        .max_connections_per_address(1)
        .bind("127.0.0.1:0", move |session: Session| {
            said.send((session.client_addr(), session.peer_addr())).unwrap();
            for _ in &session {}
        })
        .unwrap();
    let Some(proxy) = ReverseProxy::start(program, "client", server.local_addr()) else { return };
    let client = pretends(proxy.address);
    let (told, peer) = clients.recv_timeout(PATIENCE).unwrap();
    let own = client.get_ref().local_addr().unwrap();
    assert_eq!((told.ip(), peer.ip().to_string().as_str()), (own.ip(), "127.0.0.1"));
    assert!(told.port() == own.port() || told.port() == 0, "{told} {own}");
    // one of this address is there
    let url = format!("ws://{}", proxy.address);
    let again = std::panic::catch_unwind(|| pretends(proxy.address)).is_err();
    assert!(again, "another of the same address is let in");
    // and one of another address comes in
    let client = Client::connect(&url).unwrap();
    let (told, _) = clients.recv_timeout(PATIENCE).unwrap();
    assert_eq!(told.ip().to_string(), "127.0.0.1");
    drop(client);
}

#[test]
fn the_client_is_known_by_what_nginx_adds_to_x_forwarded_for() {
    let builder = Server::builder().forwarded(ForwardedHeader::XForwardedFor, ["127.0.0.1"]);
    the_client_is_known(Program::NginxForwards, builder);
}

#[test]
fn the_client_is_known_by_what_haproxy_adds_to_x_forwarded_for() {
    let builder = Server::builder().forwarded(ForwardedHeader::XForwardedFor, ["127.0.0.1"]);
    the_client_is_known(Program::HaproxyForwards, builder);
}

#[test]
fn the_client_is_known_by_what_haproxy_adds_to_forwarded() {
    let builder = Server::builder().forwarded(ForwardedHeader::Forwarded, ["127.0.0.1"]);
    the_client_is_known(Program::HaproxyForwardsByTheStandard, builder);
}

#[test]
fn the_client_is_known_by_the_proxy_line_of_nginx() {
    if !Path::new(STREAMS).exists() {
        return println!("skipped: nginx has no module for streams");
    }
    the_client_is_known(Program::NginxIntroduces, Server::builder().proxy_protocol(["127.0.0.1"]));
}

#[test]
fn the_client_is_known_by_the_proxy_line_of_haproxy() {
    the_client_is_known(
        Program::HaproxyIntroduces,
        Server::builder().proxy_protocol(["127.0.0.1"]),
    );
}

#[test]
fn the_client_is_known_by_the_proxy_bytes_of_haproxy() {
    let builder = Server::builder().proxy_protocol(["127.0.0.0/31"]);
    the_client_is_known(Program::HaproxyIntroducesInBytes, builder);
}

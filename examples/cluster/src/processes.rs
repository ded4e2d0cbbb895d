//! The processes of a cluster on this machine: Redis, nodes, haproxy. What listens, listens on
//! loopback or in a temporary folder, where their files are too.
//!
//! No port is guessed. haproxy is given a socket that is bound already, a node takes a free port and
//! prints it, and Redis listens on a socket in the folder.

use std::collections::hash_map::RandomState;
use std::fs::{self, DirBuilder};
use std::hash::BuildHasher;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, select};

use crate::{Result, pause};

/// How long a process may take until it serves, or until it ends.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often a node is started: when it goes back to its port, a client may happen to use that.
const TRIES: usize = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// A process that is killed with its owner.
struct Process {
    child: Child,
    /// A node ends when this is closed: it outlives nobody who was killed.
    stdin: Option<ChildStdin>,
    /// What it prints; disconnected when it has ended.
    lines: Receiver<String>,
    output: Option<JoinHandle<()>>,
}

impl Process {
    fn spawn(command: &mut Command) -> Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let (sender, lines) = bounded(64);
        let stdout = child.stdout.take();
        let stdin = child.stdin.take();
        let mut process = Self { child, stdin, lines, output: None };
        let reads = thread::Builder::new().name("output".into()).spawn(move || {
            // read to the end also when nobody listens, so that the process is never held up
            for line in stdout.into_iter().flat_map(|out| BufReader::new(out).split(b'\n')) {
                let Ok(line) = line else { return };
                let _ = sender.try_send(String::from_utf8_lossy(&line).into_owned());
            }
        })?;
        process.output = Some(reads);
        Ok(process)
    }

    /// Waits for a line; `None` if the process has ended instead.
    fn line(
        &self,
        stopped: &Receiver<()>,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Option<String>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            select! {
                recv(self.lines) -> line => match line {
                    Ok(line) if wanted(&line) => return Ok(Some(line)),
                    Ok(_) => {}
                    Err(_) => return Ok(None),
                },
                recv(stopped) -> _ => return Err("stopped".into()),
                default(deadline.saturating_duration_since(Instant::now())) => {
                    return Err("a process takes too long to start".into());
                }
            }
        }
    }

    /// Closes its standard input, and waits for its end.
    fn end(&mut self, stopped: &Receiver<()>) -> Result<()> {
        drop(self.stdin.take());
        match self.line(stopped, |_| false)? {
            Some(_) => Err("it goes on".into()),
            None => {
                self.kill();
                Ok(())
            }
        }
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(output) = self.output.take() {
            let _ = output.join();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The folder is removed with its owner.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let random = RandomState::new().hash_one(std::process::id());
        let path = std::env::temp_dir().join(format!("everlink-cluster-{random:016x}"));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    fn redis_socket(&self) -> PathBuf {
        self.0.join("redis.sock")
    }

    fn redis_url(&self) -> String {
        format!("redis+unix://{}", self.redis_socket().display())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Node {
    name: String,
    address: SocketAddr,
    process: Process,
}

/// All of it. Fields are dropped in this order.
pub struct Cluster {
    _haproxy: Process,
    nodes: Vec<Node>,
    redis: Process,
    folder: Folder,
    address: SocketAddr,
    stopped: Receiver<()>,
}

impl Cluster {
    /// `None` if Redis or haproxy is not installed, which it says. `stopped` disconnects when there is
    /// no use in waiting.
    pub fn start(
        nodes: usize,
        address: SocketAddr,
        stopped: &Receiver<()>,
    ) -> Result<Option<Self>> {
        for (program, flag) in [("redis-server", "--version"), ("haproxy", "-v")] {
            let found = Command::new(program).arg(flag).stdout(Stdio::null()).status();
            if found.is_err_and(|error| error.kind() == ErrorKind::NotFound) {
                println!("skipped: {program} is not installed");
                return Ok(None);
            }
        }
        let listener = TcpListener::bind(address).map_err(|error| format!("{address}: {error}"))?;
        let address = listener.local_addr()?;
        let folder = Folder::new()?;
        let redis = start_redis(&folder, stopped)?;
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        let nodes: Vec<Node> = (0..nodes)
            .map(|number| start_node(&format!("node-{number}"), any, &folder, stopped))
            .collect::<Result<_>>()?;
        let haproxy = start_haproxy(&folder.0, listener, &nodes)?;
        let stopped = stopped.clone();
        Ok(Some(Self { _haproxy: haproxy, nodes, redis, folder, address, stopped }))
    }

    /// Where clients go.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where a node listens.
    pub fn node_address(&self, node: usize) -> SocketAddr {
        self.nodes[node].address
    }

    /// The process of a node.
    pub fn pid(&self, node: usize) -> u32 {
        self.nodes[node].process.child.id()
    }

    /// Ends a node as the kernel does when memory is short: it says goodbye to nobody.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].process.kill();
    }

    /// Ends a node in order.
    pub fn end(&mut self, node: usize) -> Result<()> {
        self.nodes[node].process.end(&self.stopped)
    }

    /// Starts it again where it was.
    pub fn restart(&mut self, node: usize) -> Result<()> {
        let Node { name, address, .. } = &self.nodes[node];
        self.nodes[node] = start_node(name, *address, &self.folder, &self.stopped)?;
        Ok(())
    }

    /// Redis is killed, and comes back knowing nothing.
    pub fn empty_redis(&mut self) -> Result<()> {
        self.redis.kill();
        self.redis = start_redis(&self.folder, &self.stopped)?;
        Ok(())
    }

    pub fn redis(&self) -> Result<redis::Connection> {
        let client = redis::Client::open(self.folder.redis_url())?;
        Ok(client.get_connection_with_timeout(PATIENCE)?)
    }
}

/// Keeps everything in memory: this is a chat, and its files would go with the folder.
fn start_redis(folder: &Folder, stopped: &Receiver<()>) -> Result<Process> {
    let process = Process::spawn(
        Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no"])
            .arg("--unixsocket")
            .arg(folder.redis_socket())
            .arg("--dir")
            .arg(&folder.0)
            .stdin(Stdio::null()),
    )?;
    let is_ready = |line: &str| line.to_lowercase().contains("ready to accept connections");
    match process.line(stopped, is_ready)? {
        Some(_) => Ok(process),
        None => Err("redis-server ends as soon as it is started".into()),
    }
}

fn start_node(
    name: &str,
    address: SocketAddr,
    folder: &Folder,
    stopped: &Receiver<()>,
) -> Result<Node> {
    for attempt in 0..TRIES {
        if attempt > 0 {
            pause(stopped, PAUSE)?;
        }
        let process = Process::spawn(
            Command::new(std::env::current_exe()?)
                .args(["node", "--until-eof", "--name", name, "--listen", &address.to_string()])
                .args(["--redis", &folder.redis_url()])
                .stdin(Stdio::piped()),
        )?;
        if let Some(line) = process.line(stopped, |_| true)? {
            return Ok(Node { name: name.to_owned(), address: line.parse()?, process });
        }
    }
    Err(format!("{name} ends as soon as it is started").into())
}

/// Is handed the socket that clients connect to as its standard input: nobody else can listen there,
/// not even another haproxy.
fn start_haproxy(folder: &Path, listener: TcpListener, nodes: &[Node]) -> Result<Process> {
    let address = listener.local_addr()?;
    let servers: Vec<String> = nodes
        .iter()
        .map(|node| {
            // a node that is down has no sessions any more, whatever its sockets say
            format!(
                "    server {} {} check on-marked-down shutdown-sessions",
                node.name, node.address
            )
        })
        .collect();
    let config = format!(
        "defaults
    mode http
    maxconn 20000
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    # a WebSocket; the beats of a client have to be more frequent
    timeout tunnel 120s
    # whoever meets a node that is just gone is sent to another
    option redispatch
    retries 3

listen chat
    bind fd@0
    balance leastconn
    option httpchk GET /health
    default-server inter 300ms fall 2 rise 2
{}
",
        servers.join("\n")
    );
    let file = folder.join("haproxy.cfg");
    fs::write(&file, config)?;
    // in the foreground; with -q it would close its standard input
    let process = Process::spawn(
        Command::new("haproxy")
            .args(["-db", "-f"])
            .arg(file)
            .stdin(OwnedFd::from(listener))
            .stderr(Stdio::null()),
    )?;
    // the kernel lets us connect before haproxy is there; an answer is haproxy's
    let mut answer = [0; 5];
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let answered = stream
        .write_all(b"GET /health HTTP/1.0\r\n\r\n")
        .and_then(|()| stream.read_exact(&mut answer));
    match answered {
        Ok(()) if &answer == b"HTTP/" => Ok(process),
        Ok(()) => Err("haproxy does not speak HTTP".into()),
        Err(error) => Err(format!("haproxy does not answer: {error}").into()),
    }
}

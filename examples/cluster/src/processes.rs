//! The processes of a cluster on this machine: Redis, nodes, haproxy. All of them listen on loopback,
//! and their files lie in a temporary folder.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;

/// How long a process may take until it listens.
const PATIENCE: Duration = Duration::from_secs(20);

/// A program cannot say which free port it took, so one is chosen before: it may be gone by then.
const TRIES: usize = 5;

/// A process that is killed with its owner.
struct Process(Child);

impl Process {
    fn spawn(command: &mut Command) -> Result<Self> {
        Ok(Self(command.stdin(Stdio::null()).spawn()?))
    }

    /// Waits until it listens; false if it has ended instead.
    fn listens(&mut self, address: SocketAddr) -> Result<bool> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.0.try_wait()?.is_some() {
                return Ok(false);
            }
            if TcpStream::connect(address).is_ok() {
                return Ok(true);
            }
            if Instant::now() > deadline {
                return Err(format!("nobody listens on {address}").into());
            }
            // there is no event for that
            thread::park_timeout(Duration::from_millis(10));
        }
    }

    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The folder is removed with its owner.
struct Folder(PathBuf);

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
    _redis: Process,
    _folder: Folder,
    address: SocketAddr,
    redis: String,
}

impl Cluster {
    /// `None` if Redis or haproxy is not installed, which it says.
    pub fn start(nodes: usize, address: Option<SocketAddr>) -> Result<Option<Self>> {
        for (program, flag) in [("redis-server", "--version"), ("haproxy", "-v")] {
            let found = Command::new(program).arg(flag).stdout(Stdio::null()).status();
            if found.is_err_and(|error| error.kind() == ErrorKind::NotFound) {
                println!("skipped: {program} is not installed");
                return Ok(None);
            }
        }
        let folder = std::env::temp_dir().join(format!("everlink-cluster-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let folder = Folder(folder);
        let (redis, at) = on_free_port(None, |address| redis(&folder.0, address))?;
        let redis_url = format!("redis://{at}");
        let nodes: Vec<Node> = (0..nodes)
            .map(|number| start_node(&format!("node-{number}"), free()?, &redis_url))
            .collect::<Result<_>>()?;
        let address = address.filter(|address| address.port() != 0);
        let (haproxy, address) =
            on_free_port(address, |address| haproxy(&folder.0, address, &nodes))?;
        let cluster = Self {
            _haproxy: haproxy,
            nodes,
            _redis: redis,
            _folder: folder,
            address,
            redis: redis_url,
        };
        Ok(Some(cluster))
    }

    /// Where clients go.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process of a node.
    pub fn pid(&self, node: usize) -> u32 {
        self.nodes[node].process.0.id()
    }

    /// Ends a node as the kernel does when memory is short: it says goodbye to nobody.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].process.kill();
    }

    /// Starts it again where it was.
    pub fn restart(&mut self, node: usize) -> Result<()> {
        let Node { name, address, .. } = &self.nodes[node];
        self.nodes[node] = start_node(name, *address, &self.redis)?;
        Ok(())
    }
}

fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Starts a program that listens there, or on a port that is free.
fn on_free_port(
    address: Option<SocketAddr>,
    start: impl Fn(SocketAddr) -> Result<Process>,
) -> Result<(Process, SocketAddr)> {
    for _ in 0..TRIES {
        let at = address.map_or_else(free, Ok)?;
        let mut process = start(at)?;
        if process.listens(at)? {
            return Ok((process, at));
        }
    }
    Err("a program ends as soon as it is started, or its port is taken".into())
}

/// Keeps everything in memory: this is a chat, and its files would go with the folder.
fn redis(folder: &Path, address: SocketAddr) -> Result<Process> {
    Process::spawn(
        Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &address.port().to_string()])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no", "--dir"])
            .arg(folder)
            .stdout(Stdio::null()),
    )
}

fn start_node(name: &str, address: SocketAddr, redis: &str) -> Result<Node> {
    let mut process = Process::spawn(
        Command::new(std::env::current_exe()?)
            .args(["node", "--name", name, "--listen", &address.to_string(), "--redis", redis])
            .stdout(Stdio::piped()),
    )?;
    let stdout = process.0.stdout.take().ok_or("no output")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let address = line.trim().parse().map_err(|_| format!("{name} does not start"))?;
    Ok(Node { name: name.to_owned(), address, process })
}

fn haproxy(folder: &Path, address: SocketAddr, nodes: &[Node]) -> Result<Process> {
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
    bind {address}
    balance leastconn
    option httpchk GET /health
    default-server inter 300ms fall 2 rise 2
{}
",
        servers.join("\n")
    );
    let file = folder.join("haproxy.cfg");
    fs::write(&file, config)?;
    // in the foreground, without a word of what it warns of
    Process::spawn(Command::new("haproxy").args(["-db", "-q", "-f"]).arg(file))
}

//! Half-open for real: client and server in two network namespaces of the test's own, and what
//! lies between them breaks. Needs root, `ip` and `nft`; says "skipped" without them.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{PATIENCE, init_log, ms};
use crossbeam_channel::Receiver;
use everlink::config::{Backoff, Heartbeat, Overflow, Queue, Timeouts};
use everlink::{Client, Event, Server};

const LIMIT: Duration = Duration::from_millis(2000);
const SERVER: &str = "10.213.7.2:9001";

/// Not tests of their own: the two sides, in processes of their own.
#[test]
fn child_side() {
    let Some(role) = std::env::var_os("EVERLINK_TEST_CHILD") else { return };
    init_log();
    if role == "server" {
        let server = Server::bind(SERVER, |session| {
            for message in session.iter() {
                let _ = session.try_send(message);
            }
        });
        let _server = server.unwrap();
        say("listening");
        // until the parent ends it
        thread::park_timeout(Duration::from_secs(600));
        return;
    }
    let client = Client::builder(format!("ws://{SERVER}"))
        .heartbeat(Heartbeat::every(ms(400)).dead_after(LIMIT))
        .backoff(Backoff::fixed(ms(100)))
        .timeouts(Timeouts::new().connect(ms(1000)))
        .inbox(Queue::new().overflow(Overflow::DropOldest))
        .outbox(Queue::new().overflow(Overflow::DropOldest))
        .on_event(|_, event| match event {
            Event::Connected { .. } => say("connected"),
            Event::Disconnected { cause, .. } => say(&format!("disconnected: {}", cause)),
            Event::AttemptFailed { cause, .. } => say(&format!("failed: {}", cause)),
            _ => {}
        })
        .start()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(600);
    while Instant::now() < deadline {
        if role == "sending" {
            client.send("x".repeat(1000)).unwrap();
        }
        thread::park_timeout(ms(5));
    }
}

fn say(line: &str) {
    // a line of its own, whatever the test harness has begun
    println!("\n> {line}");
}

/// Runs a command to its end; `Err` with what it said if it failed.
fn run(command: &str) -> Result<(), String> {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output();
    let output = output.map_err(|error| format!("{command}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// Two namespaces and a cable between them; gone with the value.
struct Net {
    client: String,
    server: String,
}

impl Net {
    fn new() -> Result<Self, String> {
        let id = std::process::id();
        let net = Self { client: format!("evl{id}c"), server: format!("evl{id}s") };
        let Self { client, server } = &net;
        run(&format!("ip netns add {client}"))?;
        run(&format!("ip netns add {server}"))?;
        run(&format!("ip -n {client} link add veth0 type veth peer name veth0 netns {server}"))?;
        for (name, address) in [(client, "10.213.7.1/24"), (server, "10.213.7.2/24")] {
            run(&format!("ip -n {name} address add {address} dev veth0"))?;
            run(&format!("ip -n {name} link set veth0 up"))?;
        }
        run(&format!("ip netns exec {server} nft add table inet cut"))?;
        Ok(net)
    }

    /// Drops everything that comes to the server, without a word.
    fn black_hole(&self) {
        let nft = format!("ip netns exec {} nft", self.server);
        run(&format!(
            "{nft} add chain inet cut in {{ type filter hook input priority 0 ; policy drop ; }}"
        ))
        .unwrap();
    }

    fn lift(&self) {
        run(&format!("ip netns exec {} nft delete chain inet cut in", self.server)).unwrap();
    }

    fn ip(&self, what: &str) {
        run(&format!("ip -n {} {what}", self.client)).unwrap();
    }

    fn start(&self, role: &str) -> Side {
        let name = if role == "server" { &self.server } else { &self.client };
        let mut child = Command::new("ip")
            .args(["netns", "exec", name])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "namespaces::child_side", "--nocapture"])
            .env("EVERLINK_TEST_CHILD", role)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = crossbeam_channel::unbounded();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some(line) = line.strip_prefix("> ") {
                    let _ = sender.send(line.to_owned());
                }
            }
        });
        Side { child, lines, seen: Mutex::default() }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in [&self.client, &self.server] {
            let _ = run(&format!("ip netns del {name}"));
        }
    }
}

/// One side in its process.
struct Side {
    child: Child,
    lines: Receiver<String>,
    seen: Mutex<Vec<String>>,
}

impl Side {
    /// Waits for a line that begins like this; returns it.
    fn until(&self, beginning: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        while let Ok(line) = self.lines.recv_deadline(deadline) {
            self.seen.lock().unwrap().push(line.clone());
            if line.starts_with(beginning) {
                return line;
            }
        }
        panic!("{beginning:?} did not come: {:?}", self.seen.lock().unwrap());
    }

    /// The link dies of silence, within the limit from now on.
    fn dies_of_silence(&self, what: &str) {
        let begun = Instant::now();
        let line = self.until("disconnected");
        let took = begun.elapsed();
        assert!(line.contains("nothing heard from the peer"), "{what}: {line}");
        assert!(took < LIMIT * 11 / 10 + ms(200), "{what}: {took:?}");
        let mut stderr = std::io::stderr();
        let _ = writeln!(stderr, "{what}: noticed after {took:?}");
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn cables_interfaces_and_addresses_are_lost_and_found() {
    let net = match Net::new() {
        Ok(net) => net,
        Err(why) => {
            eprintln!("skipped: {why}");
            return;
        }
    };
    let server = net.start("server");
    server.until("listening");
    for role in ["idle", "sending"] {
        let client = net.start(role);
        client.until("connected");

        net.black_hole();
        client.dies_of_silence(&format!("{role}, black hole"));
        client.until("failed");
        net.lift();
        client.until("connected");

        net.ip("link set veth0 down");
        client.dies_of_silence(&format!("{role}, interface down"));
        let failed = client.until("failed");
        assert!(failed.contains("could not connect"), "{failed}");
        net.ip("link set veth0 up");
        client.until("connected");

        net.ip("address del 10.213.7.1/24 dev veth0");
        net.ip("address add 10.213.7.3/24 dev veth0");
        client.dies_of_silence(&format!("{role}, address changed"));
        client.until("connected");
        net.ip("address del 10.213.7.3/24 dev veth0");
        net.ip("address add 10.213.7.1/24 dev veth0");
        client.dies_of_silence(&format!("{role}, address changed back"));
        client.until("connected");
    }
}

//! Publishing to topics: everlink against Node's `ws` and Socket.IO, with the same clients.
//!
//! ```text
//! npm install --prefix target/interop ws socket.io
//! cargo run --release --manifest-path examples/versus/Cargo.toml --bin publish -- [NAME ...] [RATE ...]
//! ```
//!
//! 2,000 clients are members of 20 topics, a hundred each, and 50 more read nothing. Each of RATE messages
//! a second (default: 250, doubling) goes to one topic, in turn. The server runs on one core and the clients on
//! another (`taskset`), for [`PERIOD`] at each rate. Printed is what arrives, how late, and what the server
//! spent. Linux only.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const TOPICS: usize = 20;
const MEMBERS: usize = 2_000;
const SLOW: usize = 50;
/// Of a message. It begins with the microseconds of the clock when it was published.
const SIZE: usize = 128;
const PERIOD: Duration = Duration::from_secs(4);
/// How the program is told to be a server or the clients.
const SERVER: &str = "--server";
const CLIENTS: &str = "--clients";

fn main() -> Result {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [SERVER] => serve(),
        [CLIENTS, port, kind] => clients(port.parse()?, kind == "socket.io"),
        _ => compare(&arguments),
    }
}

fn micros() -> u64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(time.as_micros()).unwrap_or_default()
}

/// everlink's side: a client joins the topic that its path names.
fn serve() -> Result {
    use everlink::Server;
    let server =
        Server::builder().max_connections(MEMBERS + SLOW).bind("127.0.0.1:0", |session| {
            let topic = session.incoming().map(|incoming| incoming.path().to_owned());
            let _ = session.join(&topic.unwrap_or_default());
            for _ in &session {}
        })?;
    println!("{}", server.local_addr().port());
    for line in std::io::stdin().lines() {
        let rate: u32 = line?.parse()?;
        let (begun, mut sent) = (Instant::now(), 0);
        while begun.elapsed() < PERIOD {
            while f64::from(sent) < begun.elapsed().as_secs_f64() * f64::from(rate) {
                let topic = format!("/t{}", sent as usize % TOPICS);
                server.publish(&topic, format!("{:<SIZE$}", micros()));
                sent += 1;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        println!("{sent}");
        let stats = server.stats();
        eprintln!(
            "{} sessions, {} missed, {:?}",
            stats.sessions, stats.broadcasts_missed, stats.disconnects
        );
    }
    Ok(())
}

/// What the clients have seen at one rate.
#[derive(Default)]
struct Seen {
    lateness: Vec<u32>,
}

/// The clients, on one thread.
fn clients(port: u16, is_socket_io: bool) -> Result {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let seen = Arc::new(std::sync::Mutex::new(Seen::default()));
    let ready = Arc::new(AtomicUsize::new(0));
    let _slow = runtime.block_on(async {
        let mut slow = Vec::new();
        for number in 0..MEMBERS + SLOW {
            let stream = open(port, number % TOPICS, number >= MEMBERS, is_socket_io).await?;
            if number >= MEMBERS {
                slow.push(stream);
            } else {
                let (seen, ready) = (Arc::clone(&seen), Arc::clone(&ready));
                tokio::spawn(async move {
                    ready.fetch_add(1, Relaxed);
                    // until the server has gone
                    let _ = read(stream, &seen).await;
                });
            }
        }
        while ready.load(Relaxed) < MEMBERS {
            tokio::task::yield_now().await;
        }
        Result::Ok(slow)
    })?;
    println!("ready");
    let (asks, asked) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(std::result::Result::ok) {
            let _ = asks.send(line);
        }
    });
    // answers each line with what was seen since the last
    loop {
        runtime.block_on(async { tokio::time::sleep(Duration::from_millis(50)).await });
        match asked.try_recv() {
            Err(std::sync::mpsc::TryRecvError::Disconnected) => return Ok(()),
            Err(std::sync::mpsc::TryRecvError::Empty) => {}
            Ok(_) => {
                let mut seen = std::mem::take(&mut *seen.lock().map_err(|_| "poisoned")?);
                seen.lateness.sort_unstable();
                let count = seen.lateness.len();
                let at = |part: usize| seen.lateness.get(count * part / 100).copied().unwrap_or(0);
                println!("{count} {} {}", at(50), at(99));
            }
        }
    }
}

async fn open(port: u16, topic: usize, is_slow: bool, is_socket_io: bool) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if is_slow {
        socket.set_recv_buffer_size(4096)?;
    }
    let mut stream = socket.connect(([127, 0, 0, 1], port).into()).await?;
    let path = match is_socket_io {
        true => format!("/socket.io/?EIO=4&transport=websocket&topic=/t{topic}"),
        false => format!("/t{topic}"),
    };
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    if is_socket_io {
        text(&mut stream, b"40").await?;
    }
    Ok(stream)
}

/// Sends a short text message.
async fn text(stream: &mut TcpStream, payload: &[u8]) -> Result {
    let mut frame = vec![0x81, 0x80 | u8::try_from(payload.len())?, 0, 0, 0, 0];
    frame.extend_from_slice(payload);
    Ok(stream.write_all(&frame).await?)
}

/// Takes messages, and answers the beats of Engine.IO.
async fn read(mut stream: TcpStream, seen: &std::sync::Mutex<Seen>) -> Result {
    let (mut buffer, mut used) = (vec![0; 16 * 1024], 0);
    loop {
        let read = stream.read(&mut buffer[used..]).await?;
        if read == 0 {
            return Err("the server has gone".into());
        }
        used += read;
        let (mut at, mut beats, mut pings, mut times) = (0, 0, 0, Vec::new());
        while used - at >= 4 {
            let (head, length) = match buffer[at + 1] {
                126 => (4, usize::from(u16::from_be_bytes([buffer[at + 2], buffer[at + 3]]))),
                length => (2, usize::from(length)),
            };
            if used - at < head + length {
                break;
            }
            let payload = &buffer[at + head..at + head + length];
            if payload == b"2" {
                beats += 1;
            }
            if buffer[at] == 0x89 {
                pings += 1;
            }
            let digits = payload.iter().skip_while(|byte| !byte.is_ascii_digit() || length < SIZE);
            let skip = if payload.starts_with(b"42[") { 3 } else { 0 };
            let digits = digits.skip(skip).skip_while(|byte| !byte.is_ascii_digit());
            let time = digits.take_while(|byte| byte.is_ascii_digit());
            let time = time.fold(0, |time, digit| time * 10 + u64::from(digit - b'0'));
            if time > 0 {
                times.push(u32::try_from(micros().saturating_sub(time)).unwrap_or(u32::MAX));
            }
            at += head + length;
        }
        buffer.copy_within(at..used, 0);
        used -= at;
        seen.lock().map_err(|_| "poisoned")?.lateness.extend(times);
        for _ in 0..beats {
            text(&mut stream, b"3").await?;
        }
        if pings > 0 {
            // a sign of life, whatever it says
            stream.write_all(&[0x8a, 0x80, 0, 0, 0, 0]).await?;
        }
    }
}

/// A process of the comparison, on a core of its own.
struct Peer {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Peer {
    fn start(core: &str, program: &[&str]) -> Result<Self> {
        let mut process = Command::new("taskset")
            .args(["-c", core])
            .args(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = process.stdin.take().ok_or("no input")?;
        let output = BufReader::new(process.stdout.take().ok_or("no output")?);
        Ok(Self { process, input, output })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    fn ask(&mut self, line: &str) -> Result<String> {
        writeln!(self.input, "{line}")?;
        self.line()
    }

    /// Seconds of CPU so far, and MiB that are resident.
    fn spent(&self) -> Result<(f64, f64)> {
        let of = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", self.process.id()));
        let stat = of("stat")?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let ticks = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        let pages: f64 = of("statm")?.split_whitespace().nth(1).ok_or("no pages")?.parse()?;
        Ok((ticks / 100.0, pages / 256.0))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn compare(arguments: &[String]) -> Result {
    let rates: Vec<u32> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let is_wanted = |name: &str| {
        let mut names = arguments.iter().filter(|argument| argument.parse::<u32>().is_err());
        names.clone().next().is_none() || names.any(|wanted| wanted == name)
    };
    let rates = if rates.is_empty() { vec![250, 500, 1_000, 2_000, 4_000] } else { rates };
    let myself = std::env::current_exe()?;
    let myself = myself.to_str().ok_or("a path that is not text")?;
    let peers = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/topics.js");
    println!(
        "| server | published, 1/s | delivered, 1/s | of what was due | p50, ms | p99, ms | CPU, % of a core | MiB |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for name in ["everlink", "ws", "socket.io"].into_iter().filter(|name| is_wanted(name)) {
        for rate in &rates {
            let program = match name {
                "everlink" => vec![myself, SERVER],
                name => vec!["node", peers, name],
            };
            let mut server = Peer::start("0", &program)?;
            let port = server.line()?;
            let mut clients = Peer::start("1", &[myself, CLIENTS, &port, name])?;
            if clients.line()? != "ready" {
                return Err(format!("the clients of {name} did not get ready").into());
            }
            clients.ask("")?;
            let (before, begun) = (server.spent()?.0, Instant::now());
            let sent: f64 = server.ask(&rate.to_string())?.parse()?;
            let took = begun.elapsed().as_secs_f64();
            let (after, memory) = server.spent()?;
            // what is still under way
            std::thread::sleep(Duration::from_millis(500));
            let seen = clients.ask("")?;
            let [count, p50, p99] = seen
                .split(' ')
                .map(str::parse::<f64>)
                .collect::<std::result::Result<Vec<_>, _>>()?
                .try_into()
                .map_err(|_| "three numbers")?;
            let due = sent * (MEMBERS / TOPICS) as f64;
            println!(
                "| {name} | {:.0} | {:.0} | {:.1}% | {:.1} | {:.1} | {:.0} | {memory:.0} |",
                sent / took,
                count / took,
                count / due * 100.0,
                p50 / 1e3,
                p99 / 1e3,
                (after - before) / took * 100.0,
            );
        }
    }
    Ok(())
}

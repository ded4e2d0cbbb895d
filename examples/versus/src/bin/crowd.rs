//! What idle sessions cost: their memory and threads, how fast they are let in, and an echo among them.
//!
//! ```text
//! ulimit -n 20000
//! cargo run --release --manifest-path examples/versus/Cargo.toml --bin crowd -- [SESSIONS ...]
//! ```
//!
//! Once with a handler that has a thread of its own, and once with one that is called for each message. The server
//! is a process of its own. Linux only.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use everlink::{MessageRef, Server, Session};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const ECHOES: usize = 2_000;
const SERVER: &str = "--server";

fn main() -> Result {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [SERVER, mode, sessions] => serve(mode, sessions.parse()?),
        _ => compare(&arguments),
    }
}

fn serve(mode: &str, sessions: usize) -> Result {
    let builder = Server::builder().max_connections(sessions + 10);
    let server = match mode {
        "thread" => builder.bind("127.0.0.1:0", |session: Session| {
            for message in &session {
                let _ = session.send(message);
            }
        })?,
        _ => builder.bind_with_handler("127.0.0.1:0", |_: &Session| {
            |session: &Session, message: MessageRef<'_>| drop(session.send(message.into_owned()))
        })?,
    };
    println!("{}", server.local_addr().port());
    // each line asks how many there are
    for _ in std::io::stdin().lines() {
        println!("{}", server.stats().sessions);
    }
    Ok(())
}

struct Process(Child);

impl Process {
    /// Threads, and KiB that are resident.
    fn spent(&self) -> Result<(usize, usize)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse().ok()
        };
        let (threads, memory) = (field("Threads:"), field("VmRSS:"));
        Ok((threads.ok_or("no threads")?, memory.ok_or("no memory")?))
    }

    /// Seconds of CPU so far.
    fn cpu(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn compare(counts: &[String]) -> Result {
    let counts =
        counts.iter().map(|count| count.parse()).collect::<std::result::Result<Vec<_>, _>>()?;
    let counts = if counts.is_empty() { vec![1_000, 5_000] } else { counts };
    println!(
        "| handler | sessions | threads | KiB each | let in within, s | echo p50, us | p99, us | CPU idle, % of a core |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for count in counts {
        for mode in ["thread", "messages"] {
            println!("{}", measure(mode, count)?);
        }
    }
    Ok(())
}

fn measure(mode: &str, count: usize) -> Result<String> {
    let mut process = Command::new(std::env::current_exe()?)
        .args([SERVER, mode, &count.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = process.stdin.take().ok_or("no input")?;
    let mut output = BufReader::new(process.stdout.take().ok_or("no output")?);
    let process = Process(process);
    let mut line = String::new();
    output.read_line(&mut line)?;
    let port: u16 = line.trim().parse()?;
    let (threads_before, memory_before) = process.spent()?;
    let begun = Instant::now();
    let mut clients = (0..count).map(|_| open(port)).collect::<Result<Vec<_>>>()?;
    let took = begun.elapsed();
    std::thread::sleep(Duration::from_secs(1));
    writeln!(input, "?")?;
    line.clear();
    output.read_line(&mut line)?;
    if line.trim() != count.to_string() {
        return Err(format!("{} sessions of {count}", line.trim()).into());
    }
    let (threads, memory) = process.spent()?;
    let cpu = process.cpu()?;
    std::thread::sleep(Duration::from_secs(5));
    let cpu = process.cpu()? - cpu;
    let mut times = Vec::new();
    for number in 0..ECHOES {
        // all over the place, and each once before any comes again
        let client = &mut clients[number * 7919 % count];
        let begun = Instant::now();
        client.write_all(&[0x81, 0x84, 0, 0, 0, 0, b'e', b'c', b'h', b'o'])?;
        let mut frame = [0; 6];
        client.read_exact(&mut frame)?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    let at = |part: usize| times[times.len() * part / 100].as_micros();
    Ok(format!(
        "| {mode} | {count} | {} | {:.1} | {:.1} | {} | {} | {:.1} |",
        threads - threads_before,
        (memory - memory_before) as f64 / count as f64,
        took.as_secs_f64(),
        at(50),
        at(99),
        cpu / 5.0 * 100.0,
    ))
}

fn open(port: u16) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    let request = format!(
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(stream)
}

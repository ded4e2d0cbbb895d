//! A session that is cut hundreds of times while both ends send as fast as they can.
//!
//! ```text
//! cargo run --release --example torture -- [--messages 200000] [--cuts 200] [--tls] [--compress]
//!     [--stop] [--seed 0]
//! ```
//!
//! The server is in this process, the client in another, and a proxy between them cuts each of
//! their connections at a random byte: with a reset, an end of stream or silence, in the middle of
//! a frame or of the opening handshake. With `--stop` the client's process is stopped now and then,
//! for longer than the server takes it to be alive. Both ends number their messages and check that
//! each of the other's comes once and in order.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use everlink::chaos::{FaultProxy, Faults};
use everlink::config::{Backoff, Heartbeat, Resume, Timeouts};
use everlink::{Client, Message, Server, Session};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Nothing takes longer, whatever is cut.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Parser)]
#[command(about = "A session that is cut hundreds of times while both ends send")]
struct Options {
    /// How many messages each way
    #[arg(long, default_value_t = 200_000)]
    messages: u64,
    /// How many cuts there have to be
    #[arg(long, default_value_t = 200)]
    cuts: u64,
    /// Over TLS
    #[arg(long)]
    tls: bool,
    /// Compressed
    #[arg(long)]
    compress: bool,
    /// Stop the client's process now and then
    #[arg(long)]
    stop: bool,
    /// Which random faults
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Be the client, of this server
    #[arg(long, hide = true)]
    client: Option<String>,
}

fn main() -> ExitCode {
    env_logger::init();
    let options = Options::parse();
    let result = match &options.client {
        Some(url) => client(url, &options).map(|()| true),
        None => run(&options),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("torture: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The message with this number: some are short, some are long.
fn message(number: u64) -> Message {
    let length = match number % 50 {
        0 => 2000,
        other => other as usize,
    };
    format!("{number} {}", "0123456789".repeat(length / 10)).into()
}

/// What has come from the other end.
#[derive(Debug, Default)]
struct Row {
    next: u64,
    lost: u64,
    twice: u64,
}

impl Row {
    fn take(&mut self, message: &Message) -> Result<()> {
        let text = message.as_text().ok_or("no text")?;
        let number: u64 = text.split(' ').next().unwrap_or_default().parse()?;
        if *message != self::message(number) {
            return Err(format!("message {number} has changed").into());
        }
        match number.checked_sub(self.next) {
            Some(gap) => {
                self.lost += gap;
                self.next = number + 1;
            }
            None => self.twice += 1,
        }
        Ok(())
    }

    fn fill(&mut self, count: u64, mut next: impl FnMut() -> Result<Message>) -> Result<()> {
        while self.next < count {
            self.take(&next()?)?;
        }
        Ok(())
    }
}

fn heartbeat() -> Heartbeat {
    Heartbeat::every(Duration::from_millis(100)).dead_after(Duration::from_millis(400))
}

/// The client's process: prints what it has received.
fn client(url: &str, options: &Options) -> Result<()> {
    let builder = Client::builder(url)
        .resume(Resume::new())
        .heartbeat(heartbeat())
        .timeouts(Timeouts::new().handshake(Duration::from_secs(1)))
        .backoff(Backoff::fixed(Duration::from_millis(2)));
    #[cfg(feature = "tls")]
    let builder = match options.tls {
        true => builder.tls(everlink::config::Tls::new().danger_accept_any_certificate()),
        false => builder,
    };
    #[cfg(feature = "deflate")]
    let builder = match options.compress {
        true => builder.compression(everlink::config::Compression::new()),
        false => builder,
    };
    let client = builder.start()?;
    let sending = {
        let (client, count) = (client.clone(), options.messages);
        thread::spawn(move || (0..count).try_for_each(|number| client.send(message(number))))
    };
    let mut row = Row::default();
    row.fill(options.messages, || Ok(client.recv_timeout(PATIENCE)?))?;
    sending.join().map_err(|_| "the sending thread panicked")??;
    client.flush(PATIENCE)?;
    let stats = client.stats();
    println!(
        "{} {} {} {} {} {}",
        row.next, row.lost, row.twice, stats.resumed, stats.replaced, stats.resent
    );
    client.close();
    Ok(())
}

/// The server's half of the work.
fn serve(session: &Session, count: u64) -> Result<Row> {
    let sending = {
        let session = session.clone();
        thread::spawn(move || (0..count).try_for_each(|number| session.send(message(number))))
    };
    let mut row = Row::default();
    row.fill(count, || Ok(session.recv_timeout(PATIENCE)?))?;
    sending.join().map_err(|_| "the sending thread panicked")??;
    // until the client has all of it, and says goodbye
    while let Ok(more) = session.recv_timeout(PATIENCE) {
        row.take(&more)?;
    }
    Ok(row)
}

fn run(options: &Options) -> Result<bool> {
    let begun = Instant::now();
    let (sender, rows) = crossbeam_channel::bounded(16);
    let count = options.messages;
    let builder = Server::builder().resume(Resume::within(PATIENCE)).heartbeat(heartbeat());
    #[cfg(feature = "tls")]
    let builder = if options.tls { builder.tls(certificate()?) } else { builder };
    #[cfg(feature = "deflate")]
    let builder = match options.compress {
        true => builder.compression(everlink::config::Compression::new()),
        false => builder,
    };
    let server = builder.bind("127.0.0.1:0", move |session: Session| {
        let result = serve(&session, count).map_err(|error| error.to_string());
        let _ = sender.send(result);
    })?;
    let proxy = Arc::new(FaultProxy::with_seed(server.local_addr(), options.seed)?);
    let child = start_client(options, &proxy)?;
    let process = child.id();
    let done = Arc::new(AtomicBool::new(false));
    let hurting = {
        let (proxy, done, options) = (Arc::clone(&proxy), Arc::clone(&done), options.clone());
        thread::spawn(move || hurt(&proxy, process, &options, &done))
    };
    let theirs = words_of(child);
    done.store(true, SeqCst);
    let stops = hurting.join().map_err(|_| "the thread of the faults panicked")??;
    let theirs = theirs?;
    // a session whose first answer was lost has received nothing
    let ours = loop {
        match rows.recv_timeout(PATIENCE)? {
            Ok(row) => break row,
            Err(error) if error.contains("closed") || error.contains("over") => {}
            Err(error) => return Err(error.into()),
        }
    };
    let [received, lost, twice, resumed, replaced, resent] = theirs;
    let (lost, twice) = (lost + ours.lost, twice + ours.twice);
    println!(
        "torture: {:.1} s, {} cuts, {stops} stops, {resumed} resumptions, {replaced} sessions \
         replaced, {resent} sent again by the client",
        begun.elapsed().as_secs_f64(),
        proxy.cuts(),
    );
    println!(
        "torture: {} sent, {} received, {lost} lost, {twice} twice",
        2 * count,
        received + ours.next
    );
    let is_enough = proxy.cuts() >= options.cuts && (!options.stop || stops > 0);
    let is_whole = received == count && ours.next == count;
    Ok(is_enough && is_whole && lost == 0 && twice == 0 && replaced == 0)
}

#[cfg(feature = "tls")]
fn certificate() -> Result<Arc<everlink::rustls::ServerConfig>> {
    use everlink::rustls::ServerConfig;
    use everlink::rustls::pki_types::PrivateKeyDer;
    let identity = rcgen::generate_simple_self_signed(vec!["localhost".into()])?;
    let key = PrivateKeyDer::Pkcs8(identity.signing_key.serialize_der().into());
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![identity.cert.der().clone()], key)?;
    Ok(Arc::new(config))
}

fn start_client(options: &Options, proxy: &FaultProxy) -> Result<Child> {
    let scheme = if options.tls { "wss" } else { "ws" };
    let url = format!("{scheme}://{}", proxy.address());
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--client", &url, "--messages", &options.messages.to_string()]);
    command.args(options.tls.then_some("--tls"));
    command.args(options.compress.then_some("--compress"));
    Ok(command.stdout(Stdio::piped()).spawn()?)
}

/// What the client's process says at its end.
fn words_of(mut child: Child) -> Result<[u64; 6]> {
    let output = child.stdout.take().ok_or("no output")?;
    let line = BufReader::new(output).lines().next();
    let status = child.wait()?;
    if !status.success() {
        return Err(format!("the client ended with {status}").into());
    }
    let line = line.ok_or("the client said nothing")??;
    let numbers: Vec<u64> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    numbers.try_into().map_err(|_| "the client said something else".into())
}

/// Cuts, and stops the client's process, until it is done; returns how often that was stopped.
fn hurt(proxy: &FaultProxy, process: u32, options: &Options, done: &AtomicBool) -> Result<u64> {
    let mut random = fastrand::Rng::with_seed(options.seed);
    // so that there are somewhat more than enough cuts
    let each = if options.compress { 35 } else { 110 };
    let bytes = options.messages * 2 * each / options.cuts.max(1);
    let mut stops = 0;
    while !done.load(SeqCst) {
        // now and then within the opening handshake
        let within = if random.u8(..6) == 0 { 700 } else { bytes };
        proxy.set(Faults::none().cut_within(within))?;
        thread::sleep(Duration::from_millis(random.u64(50..400)));
        if options.stop && random.u8(..8) == 0 {
            signal(process, rustix::process::Signal::STOP);
            thread::sleep(Duration::from_millis(random.u64(100..1000)));
            signal(process, rustix::process::Signal::CONT);
            stops += 1;
        }
    }
    proxy.set(Faults::none())?;
    Ok(stops)
}

fn signal(process: u32, signal: rustix::process::Signal) {
    let pid = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

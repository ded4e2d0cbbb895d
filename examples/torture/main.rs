//! A session that is cut hundreds of times while both ends send as fast as they can.
//!
//! ```text
//! cargo run --release --example torture -- [--messages 200000] [--cuts 200] [--tls] [--framed]
//!     [--compress] [--stop] [--seed 0]
//! ```
//!
//! The server is in this process, the client in another, and a proxy between them cuts each of
//! their connections at a random byte: with a reset, an end of stream or silence, in the middle of
//! a frame or of the opening handshake. With `--stop` the client's process is stopped now and then,
//! for longer than the server takes it to be alive. Without TLS the offers of connections that are over
//! come to the server again, late. Both ends number their messages and check that each of the other's
//! comes once and in order. Some expire: their end was told so, and they never come. Beats, and
//! messages for one link only, come in between.

mod late;
mod row;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitCode, Stdio};
#[cfg(feature = "tls")]
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use everlink::chaos::{FaultProxy, Faults};
use everlink::config::{Backoff, Framing, Heartbeat, Prefix, Resume, Timeouts};
use everlink::{Client, Server, Session};

use late::{Late, Recorder};
use row::{Expired, Row, send_all};

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
    /// On framed TCP, with length prefixes
    #[arg(long, conflicts_with = "compress")]
    framed: bool,
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

/// The client asks, the server sends messages of its own.
fn heartbeat(is_server: bool) -> Heartbeat {
    let beats = Heartbeat::every(Duration::from_millis(100));
    match is_server {
        true => beats.message("beat", |answer| answer.as_bytes() == b"beat too"),
        false => beats.answer("beat", "beat too"),
    }
    .dead_after(Duration::from_millis(400))
}

fn framing() -> Framing {
    Framing::length_prefixed(Prefix::U16)
}

/// The client's process: prints what it has received.
fn client(url: &str, options: &Options) -> Result<()> {
    let expired = Expired::default();
    let noting = expired.clone();
    let builder = Client::builder(url)
        .resume(Resume::new())
        .heartbeat(heartbeat(false))
        .timeouts(Timeouts::new().handshake(Duration::from_secs(1)))
        .backoff(Backoff::fixed(Duration::from_millis(2)))
        .on_dropped(move |message, why| noting.note(&message, why));
    let builder = if options.framed { builder.framing(framing()) } else { builder };
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
        let (sender, count) = (client.sender().clone(), options.messages);
        thread::spawn(move || {
            send_all(&sender, count).inspect_err(|error| eprintln!("torture: {error}"))
        })
    };
    let mut row = Row::default();
    row.fill(options.messages, || Ok(client.recv_timeout(PATIENCE)?))?;
    sending.join().map_err(|_| "the sending thread panicked")??;
    let stats = client.stats();
    let counts = [row.received, row.twice, row.asides, stats.resumed, stats.replaced, stats.resent];
    for numbers in [&counts[..], &row.missing, &expired.take()] {
        let words: Vec<_> = numbers.iter().map(ToString::to_string).collect();
        println!("{}", words.join(" "));
    }
    client.close();
    Ok(())
}

/// The server's half of the work.
fn serve(session: &Session, count: u64) -> Result<Row> {
    let sending = {
        let sender = session.sender().clone();
        thread::spawn(move || {
            send_all(&sender, count).inspect_err(|error| eprintln!("torture: {error}"))
        })
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
    let (count, expired) = (options.messages, Expired::default());
    let noting = expired.clone();
    let builder = Server::builder()
        .resume(Resume::within(PATIENCE))
        .heartbeat(heartbeat(true))
        .on_dropped(move |message, why| noting.note(&message, why));
    let builder = if options.framed { builder.framing(framing()) } else { builder };
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
    let proxy = FaultProxy::with_seed(server.local_addr(), options.seed)?;
    // nobody but the two ends sees what goes over TLS
    let recorder = match options.tls {
        true => None,
        false => Some(Recorder::start(proxy.address(), options.framed)?),
    };
    let address = recorder.as_ref().map_or(proxy.address(), Recorder::address);
    let child = start_client(options, address)?;
    let process = child.id();
    let (done, late) = (AtomicBool::new(false), Late::default());
    let (theirs, stops) = thread::scope(|scope| {
        let hurting = scope.spawn(|| hurt(&proxy, process, options, &done));
        if let Some(recorder) = &recorder {
            let address = server.local_addr();
            let (late, done) = (&late, &done);
            scope.spawn(move || recorder.repeat(address, options.seed, late, done));
        }
        let theirs = words_of(child);
        done.store(true, SeqCst);
        (theirs, hurting.join())
    });
    let stops = stops.map_err(|_| "the thread of the faults panicked")??;
    let (theirs, [resumed, replaced, resent], their_expired) = theirs?;
    let ours = rows.recv_timeout(PATIENCE)??;
    let their_lost = theirs.lost(expired.take());
    let (lost, twice) = (their_lost + ours.lost(their_expired), theirs.twice + ours.twice);
    println!(
        "torture: {:.1} s, {} cuts, {stops} stops, {} late offers ({} refused), {resumed} \
         resumptions, {replaced} sessions replaced, {resent} sent again by the client",
        begun.elapsed().as_secs_f64(),
        proxy.cuts(),
        late.repeated(),
        late.refused(),
    );
    let (received, gone) =
        (theirs.received + ours.received, theirs.missing.len() + ours.missing.len());
    println!(
        "torture: {} sent, {received} received, {gone} expired, {lost} lost, {twice} twice; {} for \
         one link only",
        2 * count,
        theirs.asides + ours.asides,
    );
    let is_enough = proxy.cuts() >= options.cuts
        && (!options.stop || stops > 0)
        && (options.tls || late.refused() > 0);
    let is_whole = received + gone as u64 == 2 * count;
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

fn start_client(options: &Options, address: SocketAddr) -> Result<Child> {
    let scheme = if options.framed { "tcp" } else { "ws" };
    let url = format!("{scheme}{}://{address}", if options.tls { "s" } else { "" });
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--client", &url, "--messages", &options.messages.to_string()]);
    command.args(options.tls.then_some("--tls"));
    command.args(options.framed.then_some("--framed"));
    command.args(options.compress.then_some("--compress"));
    Ok(command.stdout(Stdio::piped()).spawn()?)
}

/// What the client's process says at its end: what it has received, how often its session was resumed and
/// replaced and how much sent again, and what of it has expired.
fn words_of(mut child: Child) -> Result<(Row, [u64; 3], Vec<u64>)> {
    let output = child.stdout.take().ok_or("no output")?;
    let mut lines = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line?;
        let numbers = line.split_ascii_whitespace().map(str::parse);
        lines.push(numbers.collect::<Result<Vec<u64>, _>>()?);
    }
    let status = child.wait()?;
    if !status.success() {
        return Err(format!("the client ended with {status}").into());
    }
    let Ok([counts, missing, expired]) = <[Vec<u64>; 3]>::try_from(lines) else {
        return Err("the client said something else".into());
    };
    let [received, twice, asides, rest @ ..] =
        <[u64; 6]>::try_from(counts).map_err(|_| "the client said something else")?;
    Ok((Row::whole([received, twice, asides], missing), rest, expired))
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
        if options.stop && (stops == 0 || random.u8(..8) == 0) {
            stop_for(process, Duration::from_millis(random.u64(100..1000)));
            stops += 1;
        }
    }
    proxy.set(Faults::none())?;
    Ok(stops)
}

#[cfg(unix)]
fn stop_for(process: u32, time: Duration) {
    use rustix::process::{Pid, Signal, kill_process};

    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    for (signal, time) in [(Signal::STOP, time), (Signal::CONT, Duration::ZERO)] {
        if let Some(pid) = pid {
            let _ = kill_process(pid, signal);
        }
        thread::sleep(time);
    }
}

/// There are no such signals.
#[cfg(not(unix))]
fn stop_for(_: u32, _: Duration) {}

//! A pipe to a socket that stays open: lines of standard input go out as text messages (as binary ones
//! if they are not UTF-8), text messages received are lines of standard output.
//!
//! ```text
//! cargo run --example cat -- --events ws://127.0.0.1:9001
//! cargo run --example cat -- --framing raw --ping ping --pong pong tcp://127.0.0.1:9002
//! ```
//!
//! Exit status: 0 closed by us or by the peer with 1000, 1 gave up, 2 bad usage.

mod shared;

use std::fs;
use std::io::{self, BufRead, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Parser;
use crossbeam_channel::{Receiver, bounded, select};
use everlink::config::{Backoff, Delivery, Heartbeat, Proxy, Queue, Tls};
use everlink::failure::Decision;
use everlink::{Client, ClientBuilder, CloseCode, Error, Event, Failure, Message, SendError};
use serde_json::json;

#[derive(Debug, Parser)]
#[command(about = "A pipe to a socket that stays open", version)]
struct Options {
    /// ws:// or wss://host:port/path, tcp:// or tcps://host:port
    url: String,
    /// How messages are set off on tcp:// and tcps://
    #[arg(long, value_enum, default_value = "lines")]
    framing: shared::FramingName,
    /// Trust the root certificates in this file (PEM) too
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Show this certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The private key of --cert (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Accept whatever certificate the server shows: nothing is secret then
    #[arg(long)]
    danger_accept_any_certificate: bool,
    /// Connect through http://[user:password@]host:port or socks5://[user:password@]host:port
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// Dial this address for that host; may be given several times
    #[arg(long = "resolve", value_name = "HOST:IP", value_parser = host_and_ip)]
    resolve: Vec<(String, IpAddr)>,
    /// A beat to send each ping interval, instead of the protocol's own [default on tcp:// and
    /// tcps://: ping]
    #[arg(long, value_name = "TEXT")]
    ping: Option<String>,
    /// The answer to it, which is not printed [default: pong]
    #[arg(long, value_name = "TEXT", requires = "ping")]
    pong: Option<String>,
    /// A header for the opening handshake, 'Name: value'; may be given several times
    #[arg(long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// A subprotocol to offer; may be given several times
    #[arg(long = "subprotocol", value_name = "NAME")]
    subprotocols: Vec<String>,
    /// Ping when nothing was received for this long, such as 500ms [default: 10s, or a third of
    /// --dead-after]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    ping_interval: Option<Duration>,
    /// The link is dead when nothing was received for this long [default: 3 ping intervals]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    dead_after: Option<Duration>,
    /// The longest first delay before a redial
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "1s")]
    backoff_initial: Duration,
    /// The longest delay before a redial
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "30s")]
    backoff_max: Duration,
    /// Give up after so many failed attempts in a row
    #[arg(long, value_name = "COUNT")]
    max_attempts: Option<u32>,
    /// What becomes of messages that a dead link had taken
    #[arg(long, value_enum, default_value = "at-most-once")]
    delivery: DeliveryName,
    /// Do not send a line any more that has waited for this long
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    ttl: Option<Duration>,
    /// Print binary messages too, in hexadecimal
    #[arg(long)]
    binary: bool,
    /// Print events to standard error, each a line of JSON
    #[arg(long)]
    events: bool,
    /// Go on receiving for so many seconds after the end of input [default: until interrupted]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    linger: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum DeliveryName {
    /// They are not sent again
    AtMostOnce,
    /// They are sent again until the peer has confirmed them
    AtLeastOnce,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse().map(Duration::try_from_secs_f64) {
        Ok(Ok(duration)) => Ok(duration),
        _ => humantime::parse_duration(text).map_err(|error| error.to_string()),
    }
}

fn host_and_ip(text: &str) -> Result<(String, IpAddr), String> {
    let (host, ip) = text.split_once(':').ok_or("expected HOST:IP")?;
    let ip = ip.trim_start_matches('[').trim_end_matches(']');
    Ok((host.into(), ip.parse().map_err(|error| format!("{ip:?}: {error}"))?))
}

fn main() -> ExitCode {
    env_logger::init();
    let options = Options::parse();
    let client = match builder(&options).and_then(|builder| Ok(builder.start()?)) {
        Ok(client) => client,
        Err(error) => {
            eprintln!("cat: {error}");
            return ExitCode::from(2);
        }
    };
    match pipe(&client, &options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::GaveUp(cause)) if is_normal_close(&cause) => ExitCode::SUCCESS,
        Err(Error::Closed) => ExitCode::SUCCESS,
        Err(Error::GaveUp(cause)) => {
            eprintln!("cat: gave up: {}", cause);
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("cat: {}", error);
            ExitCode::FAILURE
        }
    }
}

fn builder(options: &Options) -> Result<ClientBuilder, Box<dyn std::error::Error>> {
    // raw TCP has no pings of its own; without a word of --ping the texts `ping` and `pong` serve
    let is_framed = options.url.starts_with("tcp");
    let mut heartbeat = if is_framed { Heartbeat::ping_pong() } else { Heartbeat::default() };
    if let Some(ping) = &options.ping {
        let pong = options.pong.clone().unwrap_or_else(|| "pong".into());
        heartbeat = Heartbeat::default()
            .message(ping.as_str(), move |answer| answer.as_bytes() == pong.as_bytes());
    }
    let interval = options.ping_interval;
    let derived = options.dead_after.map(|limit| (limit / 3).min(Duration::from_secs(10)));
    if let Some(interval) = interval.or(derived) {
        heartbeat = heartbeat.interval(interval);
    }
    if let Some(limit) = options.dead_after {
        heartbeat = heartbeat.dead_after(limit);
    }
    // one of the two given alone moves the other where it has to be
    let backoff_max = options.backoff_max.max(options.backoff_initial);
    let backoff = if options.backoff_initial.is_zero() {
        Backoff::fixed(Duration::ZERO)
    } else {
        Backoff::exponential().initial(options.backoff_initial).max(backoff_max)
    };
    let mut builder =
        Client::builder(&options.url).heartbeat(heartbeat).backoff(backoff).decide(|_, failure| {
            if is_normal_close(failure) { Decision::GiveUp } else { failure.decision() }
        });
    if is_framed {
        // what has no effect is refused, so that it is not taken to have one
        builder = builder.framing(options.framing.into());
    }
    if let Some(tls) = tls(options)? {
        builder = builder.tls(tls);
    }
    if let Some(url) = &options.proxy {
        builder = builder.proxy(Proxy::new(url)?);
    }
    if !options.resolve.is_empty() {
        let known = options.resolve.clone();
        builder = builder.resolver(move |host: &str, port: u16| {
            let matching = known.iter().filter(|(name, _)| name.eq_ignore_ascii_case(host));
            let found: Vec<_> = matching.map(|(_, ip)| SocketAddr::new(*ip, port)).collect();
            if found.is_empty() { Ok((host, port).to_socket_addrs()?.collect()) } else { Ok(found) }
        });
    }
    for header in &options.headers {
        let (name, value) = header.split_once(':').ok_or_else(|| Error::InvalidHeader {
            name: header.clone(),
            reason: "expected 'Name: value'".into(),
        })?;
        builder = builder.header(name.trim(), value.trim());
    }
    builder = builder.subprotocols(&options.subprotocols);
    if options.delivery == DeliveryName::AtLeastOnce {
        builder = builder.delivery(Delivery::AtLeastOnce);
    }
    if let Some(time) = options.ttl {
        builder = builder.outbox(Queue::new().message_ttl(time));
    }
    if let Some(limit) = options.max_attempts {
        builder = builder.max_attempts(limit);
    }
    if options.events {
        builder = builder.on_event(|_, event| match event {
            // the peer has said that all is done
            Event::GaveUp { cause, .. } if is_normal_close(cause) => {}
            event => eprintln!("{}", json!(event)),
        });
    }
    Ok(builder)
}

/// What the options say about TLS, if they say anything.
fn tls(options: &Options) -> Result<Option<Tls>, Box<dyn std::error::Error>> {
    if options.ca.is_none() && options.cert.is_none() && !options.danger_accept_any_certificate {
        return Ok(None);
    }
    let read =
        |path: &PathBuf| fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let mut tls = Tls::new();
    if let Some(path) = &options.ca {
        tls = tls.root_certificates_pem(&read(path)?);
    }
    if let (Some(cert), Some(key)) = (&options.cert, &options.key) {
        tls = tls.identity_pem(&read(cert)?, &read(key)?);
    }
    if options.danger_accept_any_certificate {
        tls = tls.danger_accept_any_certificate();
    }
    Ok(Some(tls))
}

fn is_normal_close(failure: &Failure) -> bool {
    matches!(failure, Failure::Closed(Some(frame)) if frame.code == CloseCode::NORMAL)
}

/// Moves lines both ways until the input ends and the linger is over, somebody interrupts, or
/// the client ends.
fn pipe(client: &Client, options: &Options) -> Result<(), Error> {
    let interrupts = interrupts();
    let (input_ended, mut input) = bounded(1);
    thread::spawn({
        let client = client.clone();
        let confirmed = options.delivery == DeliveryName::AtLeastOnce;
        // the result of what was typed is the result of the program
        move || input_ended.send(send_lines(&client, confirmed))
    });
    let printing = thread::spawn({
        // where the protocol does not tell text from binary, what is UTF-8 is text
        let untyped = options.url.starts_with("tcp");
        let (client, binary) = (client.clone(), options.binary);
        move || print_messages(&client, binary, untyped)
    });
    let (printed, print_ended) = bounded(1);
    thread::spawn(move || printed.send(printing.join()));
    let mut linger = crossbeam_channel::never();
    loop {
        select! {
            recv(input) -> sent => {
                input = crossbeam_channel::never();
                match sent {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return Err(error),
                    Err(_) => return Err(Error::Closed),
                }
                if let Some(time) = options.linger {
                    linger = crossbeam_channel::after(time);
                }
            }
            recv(linger) -> _ => break,
            recv(interrupts) -> _ => break,
            recv(print_ended) -> result => match result {
                Ok(Ok(error)) => return Err(error),
                _ => return Err(Error::Closed),
            },
        }
    }
    client.close();
    // what came in before the close is printed before the end
    let _ = print_ended.recv_timeout(Duration::from_secs(5));
    Ok(())
}

fn interrupts() -> Receiver<()> {
    let (sender, receiver) = bounded(1);
    let result = ctrlc::set_handler(move || {
        let _ = sender.try_send(());
    });
    if let Err(error) = result {
        log::warn!("interrupts end the process the hard way: {error}");
        return crossbeam_channel::never();
    }
    receiver
}

/// Sends the lines of standard input; returns when all of them were sent, or confirmed.
fn send_lines(client: &Client, confirmed: bool) -> Result<(), Error> {
    let mut input = io::stdin().lock();
    let mut line = Vec::new();
    loop {
        line.clear();
        match input.read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => {
                eprintln!("cat: standard input: {error}");
                break;
            }
        }
        let bytes = line.strip_suffix(b"\n").unwrap_or(&line);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let message = match std::str::from_utf8(bytes) {
            Ok(text) => Message::from(text),
            Err(_) => Message::from(bytes),
        };
        match client.send(message) {
            Err(SendError {
                error: error @ (Error::MessageTooLarge { .. } | Error::Unsendable { .. }),
                ..
            }) => eprintln!("cat: {error}"),
            result => result?,
        }
    }
    client.wait_sent(Duration::MAX)?;
    match confirmed.then(|| client.flush(Duration::MAX)) {
        // what has expired will not be confirmed, and everything else is
        Some(Err(Error::Unconfirmed { count, .. })) => eprintln!("cat: {count} lines have expired"),
        Some(result) => result?,
        None => {}
    }
    Ok(())
}

/// Prints what is received; returns why nothing more is.
fn print_messages(client: &Client, binary: bool, untyped: bool) -> Error {
    loop {
        let message = match client.recv() {
            Ok(message) => message,
            Err(error) => return error,
        };
        let line = match &message {
            Message::Text(text) => text.as_str().to_owned(),
            Message::Binary(bytes) if untyped && std::str::from_utf8(bytes).is_ok() => {
                String::from_utf8_lossy(bytes).into_owned()
            }
            Message::Binary(bytes) if binary => {
                bytes.iter().map(|byte| format!("{byte:02x}")).collect()
            }
            Message::Binary(bytes) => {
                log::info!("{} bytes of binary left out; --binary shows them", bytes.len());
                continue;
            }
        };
        let mut output = io::stdout().lock();
        if writeln!(output, "{line}").and_then(|()| output.flush()).is_err() {
            // nobody reads any more
            return Error::Closed;
        }
    }
}

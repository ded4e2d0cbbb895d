//! One thread that waits for everything at once: two clients, what happens to them, a timer and
//! signals.
//!
//! ```text
//! cargo run --example select_loop
//! cargo run --example select_loop -- ws://source ws://sink     until interrupted
//! ```
//!
//! It forwards what one side sends to the other. Without arguments both are in the same process,
//! and after two hundred messages the program interrupts itself.

use std::time::Duration;

use clap::Parser;
use crossbeam_channel::{Receiver, after, bounded, never, select, tick};
use everlink::{Client, Event, Server};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

#[derive(Debug, Parser)]
#[command(about = "Forwards what one WebSocket sends to another")]
struct Options {
    /// Where messages come from, and where they go
    #[arg(num_args = 2, value_names = ["SOURCE", "SINK"])]
    urls: Vec<String>,
}

fn main() -> Result<()> {
    env_logger::init();
    let interrupts = interrupts()?;
    if let [source, sink] = Options::parse().urls.as_slice() {
        forward(source, sink, &interrupts, never(), u64::MAX)?;
        return Ok(());
    }
    const COUNT: u64 = 200;
    let source = Server::bind("127.0.0.1:0", |session| {
        for number in 0..COUNT {
            if session.send(number.to_string()).is_err() {
                return;
            }
        }
        // stays until the other side has enough
        let _ = session.recv();
    })?;
    let (arrived, arrivals) = bounded(1);
    let sink = Server::bind("127.0.0.1:0", move |session| {
        let numbers = session.iter().filter_map(|message| message.as_text()?.parse::<u64>().ok());
        let _ = arrived.send(numbers.collect::<Vec<_>>());
    })?;
    let [source, sink] = [&source, &sink].map(|server| format!("ws://{}", server.local_addr()));
    forward(&source, &sink, &interrupts, after(Duration::from_secs(20)), COUNT)?;
    let arrived = arrivals.recv_timeout(Duration::from_secs(5))?;
    if arrived.into_iter().eq(0..COUNT) {
        Ok(())
    } else {
        Err("what arrived is not what was sent".into())
    }
}

/// Forwards until it is interrupted, or the time is over; after `count` messages it interrupts
/// itself.
fn forward(
    source: &str,
    sink: &str,
    interrupts: &Receiver<()>,
    deadline: Receiver<std::time::Instant>,
    count: u64,
) -> Result<()> {
    // the subscription begins before the client does, or the first events would be missed
    let (source, messages) = Client::builder(source).start_with_channel()?;
    let sink = Client::builder(sink).start()?;
    let timer = tick(Duration::from_secs(1));
    let (of_source, of_sink) = (source.subscribe(), sink.subscribe());
    let mut forwarded = 0;
    loop {
        select! {
            recv(messages) -> message => match message {
                Ok(message) => {
                    // never waits here: a full outbox would keep the signals waiting, too
                    if let Err(refused) = sink.try_send(message) {
                        println!("dropped {}: {refused}", refused.message);
                    }
                    forwarded += 1;
                    if forwarded == count {
                        interrupt_myself()?;
                    }
                }
                Err(_) => return Err("the source is closed".into()),
            },
            recv(of_source.receiver()) -> event => say("source", event.ok()),
            recv(of_sink.receiver()) -> event => say("sink", event.ok()),
            recv(timer) -> _ => println!("{forwarded} forwarded"),
            recv(interrupts) -> _ => break,
            recv(deadline) -> _ => return Err("it took too long".into()),
        }
    }
    println!("interrupted after {forwarded}");
    source.close();
    // what is queued still goes out
    let report = sink.close();
    println!("{} messages were not delivered", report.undelivered.len());
    if report.ended { Ok(()) } else { Err("the sink did not end in time".into()) }
}

fn say(who: &str, event: Option<Event>) {
    if let Some(event) = event {
        println!("{who}: {event}");
    }
}

/// A message for each SIGINT and SIGTERM.
fn interrupts() -> Result<Receiver<()>> {
    let (sender, receiver) = bounded(1);
    ctrlc::set_handler(move || {
        let _ = sender.try_send(());
    })?;
    Ok(receiver)
}

/// As somebody else would with `kill`.
#[cfg(unix)]
fn interrupt_myself() -> Result<()> {
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM)?;
    Ok(())
}

#[cfg(not(unix))]
fn interrupt_myself() -> Result<()> {
    std::process::exit(0)
}

//! A chat room for browsers, on threads.
//!
//! ```text
//! cargo run --example chat                      two members talk, and that is it
//! cargo run --example chat -- 127.0.0.1:9003    until interrupted: open http://127.0.0.1:9003
//! ```
//!
//! The first line that somebody sends is the name; `cat ws://127.0.0.1:9003/ws` can take part too.
//! A link may bring a name and a first line along: `http://127.0.0.1:9003/#ada,hello`.
//!
//! Pages (`examples/browser`) and clients of this crate with `ClientBuilder::resume` have sessions:
//! who loses the network for a while, or reloads the page, misses nothing and says nothing twice.
//! Who is gone for longer has left.

use std::time::Duration;

use clap::Parser;
use crossbeam_channel::bounded;
use everlink::config::{Limits, Resume};
use everlink::http::StatusCode;
use everlink::{Answer, Client, Incoming, Server, ServerBuilder, Session};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

#[derive(Debug, Parser)]
#[command(about = "A chat room for browsers")]
struct Options {
    /// Where to listen; port 0 takes a free one
    address: Option<String>,
    /// How many seconds somebody may be away without having left
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    away: u64,
}

const PAGE: &str = include_str!("browser/chat.html");
const SCRIPT: &str = include_str!("browser/everlink.js");

fn main() -> Result<()> {
    env_logger::init();
    let Options { address, away } = Options::parse();
    let room = room(Duration::from_secs(away));
    let Some(address) = address else { return try_it(room) };
    let server = room.bind(address, chat)?;
    println!("open http://{}", server.local_addr());
    let (interrupt, interrupted) = bounded(1);
    ctrlc::set_handler(move || {
        let _ = interrupt.try_send(());
    })?;
    interrupted.recv()?;
    server.shutdown(Duration::from_secs(2));
    Ok(())
}

fn room(away: Duration) -> ServerBuilder {
    let limits = Limits::new().message(4096);
    Server::builder().on_request(answer).limits(limits).resume(Resume::within(away))
}

fn answer(incoming: &Incoming) -> Answer {
    match incoming.path() {
        "/" => Answer::page("text/html; charset=utf-8", PAGE),
        "/everlink.js" => Answer::page("text/javascript; charset=utf-8", SCRIPT),
        // pages of other servers are refused before this is asked
        "/ws" => Answer::accept(),
        _ => Answer::reject(StatusCode::NOT_FOUND),
    }
}

fn chat(session: Session) {
    if session.send("welcome! what is your name?").is_err() {
        return;
    }
    let mut lines = session.iter().filter_map(|message| message.as_text().map(str::to_owned));
    let Some(name) = lines.next() else { return };
    session.broadcast(format!("-- {name} is here"));
    for line in lines {
        session.broadcast(format!("{name}: {line}"));
    }
    session.broadcast(format!("-- {name} has left"));
}

/// Two members, of whom one leaves before the other.
fn try_it(room: ServerBuilder) -> Result<()> {
    let server = room.bind("127.0.0.1:0", chat)?;
    let url = format!("ws://{}/ws", server.local_addr());
    let ada = Client::connect(&url)?;
    expect(&ada, "welcome! what is your name?")?;
    ada.send("ada")?;
    expect(&ada, "-- ada is here")?;
    let bob = Client::connect(&url)?;
    expect(&bob, "welcome! what is your name?")?;
    bob.send("bob")?;
    for member in [&ada, &bob] {
        expect(member, "-- bob is here")?;
    }
    ada.send("hello, bob")?;
    for member in [&ada, &bob] {
        expect(member, "ada: hello, bob")?;
    }
    bob.close();
    expect(&ada, "-- bob has left")?;
    ada.close();
    Ok(())
}

fn expect(member: &Client, line: &str) -> Result<()> {
    let message = member.recv_timeout(Duration::from_secs(5))?;
    println!("{message}");
    if message == line { Ok(()) } else { Err(format!("expected {line:?}").into()) }
}

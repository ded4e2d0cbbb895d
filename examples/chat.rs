//! A chat room for browsers, on threads.
//!
//! ```text
//! cargo run --example chat                      two members talk, and that is it
//! cargo run --example chat -- 127.0.0.1:9003    until interrupted: open http://127.0.0.1:9003
//! ```
//!
//! The first line that somebody sends is the name; `cat ws://127.0.0.1:9003/ws` can take part too.
//! A link may bring a name and a first line along: `http://127.0.0.1:9003/#ada,hello`. A client of
//! this crate that asks for a session (`ClientBuilder::resume`) can lose its network for a while and
//! misses nothing; browsers cannot ask for one.

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
}

const PAGE: &str = r#"<!doctype html>
<meta charset="utf-8"><title>everlink chat</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 40em; margin: 2em auto; padding: 0 1em }
  #room { border: 1px solid #bbb; border-radius: 6px; height: 20em; overflow: auto; padding: .5em 1em }
  input { font: inherit; width: 100%; box-sizing: border-box; margin-top: .5em; padding: .4em }
</style>
<h1>everlink chat</h1>
<div id="room"></div>
<form><input id="line" placeholder="your name" autofocus autocomplete="off"></form>
<script>
  const room = document.getElementById("room"), line = document.getElementById("line");
  const say = text => {
    const p = document.createElement("div");
    p.textContent = text;
    room.append(p);
    room.scrollTop = room.scrollHeight;
  };
  const socket = new WebSocket(`ws://${location.host}/ws`);
  socket.onmessage = event => say(event.data);
  // what a link brings along
  const brought = decodeURIComponent(location.hash.slice(1)).split(",").filter(line => line);
  socket.onopen = () => brought.forEach(line => socket.send(line));
  socket.onclose = event => say(`-- disconnected (${event.code})`);
  document.forms[0].onsubmit = event => {
    event.preventDefault();
    if (line.value) socket.send(line.value);
    line.value = "";
    line.placeholder = "say something";
  };
</script>
"#;

fn main() -> Result<()> {
    env_logger::init();
    let Some(address) = Options::parse().address else { return try_it() };
    let server = room().bind(address, chat)?;
    println!("open http://{}", server.local_addr());
    let (interrupt, interrupted) = bounded(1);
    ctrlc::set_handler(move || {
        let _ = interrupt.try_send(());
    })?;
    interrupted.recv()?;
    server.shutdown(Duration::from_secs(2));
    Ok(())
}

fn room() -> ServerBuilder {
    Server::builder().on_request(answer).limits(Limits::new().message(4096)).resume(Resume::new())
}

fn answer(incoming: &Incoming) -> Answer {
    match incoming.path() {
        "/" => Answer::page("text/html; charset=utf-8", PAGE),
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
fn try_it() -> Result<()> {
    let server = room().bind("127.0.0.1:0", chat)?;
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

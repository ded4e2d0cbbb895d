//! A chat room for browsers, on threads.
//!
//! ```text
//! cargo run --example chat -- 127.0.0.1:9003
//! ```
//!
//! Then open http://127.0.0.1:9003 in two windows. The first line that somebody sends is the
//! name; `cat ws://127.0.0.1:9003/ws` can take part too. A client of this crate that asks for a
//! session (`ClientBuilder::resume`) can lose its network for a while and misses nothing; browsers
//! cannot ask for one.

use clap::Parser;
use everlink::http::StatusCode;
use everlink::{Answer, Incoming, Limits, Resume, Server, Session};

#[derive(Debug, Parser)]
#[command(about = "A chat room for browsers")]
struct Options {
    /// Where to listen
    #[arg(default_value = "127.0.0.1:9003")]
    address: String,
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
  socket.onclose = event => say(`-- disconnected (${event.code})`);
  document.forms[0].onsubmit = event => {
    event.preventDefault();
    if (line.value) socket.send(line.value);
    line.value = "";
    line.placeholder = "say something";
  };
</script>
"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let server = Server::builder()
        .on_request(answer)
        .limits(Limits::new().message(4096))
        .resume(Resume::default())
        .bind(Options::parse().address, chat)?;
    println!("open http://{}", server.local_addr());
    std::thread::park();
    Ok(())
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

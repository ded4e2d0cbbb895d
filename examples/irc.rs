//! IRC: lines in whatever encoding, a server that pings, and a login that takes another name when the one that
//! is wanted is taken.
//!
//! ```text
//! ngircd -n &
//! cargo run --example irc -- tcp://127.0.0.1:6667 everlink '#test'
//! ```
//!
//! What is typed goes to the channel, and what is said there is printed. After an outage it is back in the
//! channel by itself.

use std::io::BufRead;
use std::time::Duration;

use everlink::config::{Framing, Heartbeat};
use everlink::failure::Decision;
use everlink::{Client, Message, MessageRef};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The words of a line, without its prefix: the command first, the words behind a colon as one.
fn words(line: &str) -> (Option<&str>, Vec<&str>) {
    let (prefix, rest) = match line.strip_prefix(':').and_then(|line| line.split_once(' ')) {
        Some((prefix, rest)) => (Some(prefix), rest),
        None => (None, line),
    };
    let (words, last) = match rest.split_once(" :") {
        Some((words, last)) => (words, Some(last)),
        None => (rest, None),
    };
    (prefix, words.split(' ').filter(|word| !word.is_empty()).chain(last).collect())
}

fn text(message: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(message)
}

/// The answer that a server wants to its `PING`.
fn pong(message: &MessageRef<'_>) -> Option<Message> {
    let line = text(message.as_bytes());
    line.strip_prefix("PING ").map(|token| Message::from(format!("PONG {token}\r")))
}

fn main() -> Result {
    env_logger::init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, nick, channel] = &arguments[..] else {
        Err("usage: irc tcp://HOST:PORT NICK CHANNEL")?
    };
    let (nick, here) = (nick.clone(), channel.clone());
    let beat = Heartbeat::every(Duration::from_secs(60))
        .message("PING :everlink\r", |answer| text(answer.as_bytes()).contains(" PONG "))
        .answer_with(pong);
    let client = Client::builder(url)
        // a line ends with both: what is sent brings the carriage return along
        .framing(Framing::lines().max_length(8191))
        .heartbeat(beat)
        .login(move |login| {
            let mut name = nick.clone();
            login.send(format!("NICK {name}\r"))?;
            login.send(format!("USER {nick} 0 * :everlink\r"))?;
            loop {
                let message = login.recv()?;
                let line = text(message.as_bytes());
                match words(&line).1.as_slice() {
                    ["PING", token, ..] => login.send(format!("PONG :{token}\r"))?,
                    ["001", ..] => break,
                    // our own name may be that of a link which the server has not given up yet
                    ["433", ..] => {
                        name.push('_');
                        login.send(format!("NICK {name}\r"))?;
                    }
                    ["ERROR", why, ..] => Err((*why).to_owned())?,
                    _ => {}
                }
            }
            login.send(format!("JOIN {here}\r"))
        })
        .on_message(|sender, message| {
            let line = text(message.as_bytes());
            match words(&line) {
                (Some(who), words) if words.first() == Some(&"PRIVMSG") => {
                    let who = who.split('!').next().unwrap_or_default();
                    println!("{who}: {}", words.last().unwrap_or(&""));
                }
                (_, words) if words.first() == Some(&"ERROR") => {
                    let why = words.last().unwrap_or(&"");
                    let _ = sender.end_link(why, Decision::RetryAfter(Duration::from_secs(5)));
                }
                (_, words) if words.first() == Some(&"366") => println!("joined"),
                _ => {}
            }
        })
        .on_event(|_, event| eprintln!("{event}"))
        .connect()?;
    for line in std::io::stdin().lock().lines() {
        client.send(format!("PRIVMSG {channel} :{}\r", line?))?;
    }
    client.send("QUIT :bye\r")?;
    client.wait_sent(Duration::from_secs(5))?;
    client.close();
    Ok(())
}

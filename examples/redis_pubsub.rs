//! Redis: replies in the order of the commands, messages of channels on a second connection, and both back by
//! themselves after an outage.
//!
//! ```text
//! redis-server &
//! cargo run --example redis_pubsub -- tcp://127.0.0.1:6379 news
//! ```
//!
//! What is typed is published; how many have received it is printed, and what comes from the channel.

use std::io::BufRead;
use std::time::Duration;

use everlink::config::{Backoff, Framing, Heartbeat, SendOptions};
use everlink::{CallsInOrder, Client, ClientBuilder};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const PATIENCE: Duration = Duration::from_secs(5);

/// The end of the line that begins here, and what is in it.
fn line(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    Some((end + 2, &bytes[..end]))
}

fn number(bytes: &[u8]) -> Result<Option<usize>> {
    let number: i64 = std::str::from_utf8(bytes)?.parse()?;
    // -1 is nothing
    Ok(usize::try_from(number).ok())
}

/// How long the first reply is (RESP 2).
fn first_length(bytes: &[u8]) -> Result<Option<usize>> {
    let Some((head, said)) = line(bytes) else { return Ok(None) };
    match said.split_first() {
        Some((b'+' | b'-' | b':', _)) => Ok(Some(head)),
        Some((b'$', size)) => Ok(Some(head + number(size)?.map_or(0, |size| size + 2))),
        Some((b'*', count)) => {
            let mut length = head;
            for _ in 0..number(count)?.unwrap_or_default() {
                let Some(rest) = bytes.get(length..) else { return Ok(None) };
                let Some(next) = first_length(rest)? else { return Ok(None) };
                length += next;
            }
            Ok(Some(length))
        }
        _ => Err("no reply of Redis")?,
    }
}

/// The strings of a flat array.
fn strings(reply: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(reply).into_owned();
    text.split("\r\n")
        .skip(1)
        .filter(|it| !it.is_empty() && !it.starts_with('$'))
        .map(Into::into)
        .collect()
}

fn command(words: &[&str]) -> String {
    let words = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
    format!("*{}\r\n{}", words.len(), words.collect::<String>())
}

fn client(url: &str) -> ClientBuilder {
    Client::builder(url)
        .framing(Framing::packets(first_length).max_length(1 << 20))
        .backoff(
            Backoff::exponential().initial(Duration::from_millis(100)).max(Duration::from_secs(2)),
        )
        .on_event(|_, event| eprintln!("{event}"))
}

fn main() -> Result {
    env_logger::init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, channel] = &arguments[..] else {
        Err("usage: redis_pubsub tcp://HOST:PORT CHANNEL")?
    };

    let subscribe = command(&["SUBSCRIBE", channel]);
    let beat = Heartbeat::every(Duration::from_secs(5))
        .message(command(&["PING", "everlink"]), |reply| {
            strings(reply.as_bytes()).first().is_some_and(|it| it == "pong")
        });
    let subscriber = client(url)
        .heartbeat(beat)
        .login(move |login| login.send(subscribe.clone()))
        .on_message(|_, reply| match strings(reply.as_bytes()).as_slice() {
            [what, _, text] if what == "message" => println!("{text}"),
            [what, ..] if what == "subscribe" => println!("subscribed"),
            _ => {}
        })
        .connect()?;

    let replies: CallsInOrder<String> = CallsInOrder::new();
    let answers = replies.clone();
    let publisher = client(url)
        // every command is answered, so silence is only watched; idle connections are asked by the calls
        .heartbeat(Heartbeat::off())
        .on_message(move |_, reply| {
            drop(
                answers
                    .complete(reply.link(), String::from_utf8_lossy(reply.as_bytes()).into_owned()),
            );
        })
        .connect()?;
    for text in std::io::stdin().lock().lines() {
        let publish = command(&["PUBLISH", channel, &text?]);
        // one that a lost connection has taken along is not repeated: Redis may have it
        match replies.call_with(
            publisher.sender(),
            publish,
            SendOptions::new().timeout(PATIENCE),
            PATIENCE,
        ) {
            Ok(reply) => println!("received by {}", reply.trim().trim_start_matches(':')),
            Err(error) => println!("not published, or nobody knows: {error}"),
        }
    }
    publisher.close();
    subscriber.close();
    Ok(())
}

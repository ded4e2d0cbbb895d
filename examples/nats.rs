//! NATS: a text protocol with payloads of announced sizes, TLS behind a greeting in the clear, and a server
//! that says why it hangs up.
//!
//! ```text
//! nats-server &
//! cargo run --example nats -- tcp://127.0.0.1:4222 subscribe readings 1000 &
//! cargo run --example nats -- tcp://127.0.0.1:4222 publish readings 1000
//! ```
//!
//! A server that wants TLS says so in its greeting; a file with the certificates that it is to be trusted by may
//! be the last argument.
//!
//! A `PONG` says that the server has everything that was sent before its `PING`: so a publisher sends again what
//! a lost connection had taken, and waits at the end until all has arrived. What a subscriber misses while it is
//! away NATS keeps for nobody.

use std::sync::mpsc;
use std::time::Duration;

use everlink::config::{Backoff, Delivery, Framing, Heartbeat, Tls};
use everlink::failure::Decision;
use everlink::{Client, ClientBuilder, LoginError};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How long the first packet is: a line, and the payload that a `MSG` announces.
fn first_length(bytes: &[u8]) -> Result<Option<usize>> {
    const LONGEST_LINE: usize = 8 * 1024;
    let searched = &bytes[..bytes.len().min(LONGEST_LINE)];
    let Some(end) = searched.windows(2).position(|two| two == b"\r\n") else {
        return if searched.len() < LONGEST_LINE {
            Ok(None)
        } else {
            Err("a line without an end")?
        };
    };
    let line = std::str::from_utf8(&bytes[..end])?;
    let Some(rest) = line.strip_prefix("MSG ") else { return Ok(Some(end + 2)) };
    let size: usize = rest
        .split(' ')
        .next_back()
        .and_then(|size| size.parse().ok())
        .ok_or("a MSG without a size")?;
    Ok(Some(size.checked_add(end + 4).ok_or("a size that cannot be")?))
}

/// A `MSG`: its subject, and what it carries.
fn payload(packet: &[u8]) -> Option<(&str, &[u8])> {
    let end = packet.windows(2).position(|two| two == b"\r\n")?;
    let subject =
        std::str::from_utf8(&packet[..end]).ok()?.strip_prefix("MSG ")?.split(' ').next()?;
    Some((subject, packet.get(end + 2..packet.len() - 2)?))
}

fn client(url: &str, authorities: Option<&str>, subscription: Option<&str>) -> ClientBuilder {
    let host =
        url.split("://").last().and_then(|rest| rest.rsplit_once(':')).map(|it| it.0.to_owned());
    let subscribe = subscription.map(|subject| format!("SUB {subject} 1\r\n"));
    let builder = Client::builder(url);
    let builder = match authorities {
        Some(file) => builder.tls(Tls::new().root_certificates_file(file)),
        None => builder,
    };
    builder
        .framing(Framing::packets(first_length).max_length(2 << 20))
        .heartbeat(
            Heartbeat::every(Duration::from_secs(5))
                .message("PING\r\n", |answer| answer.as_bytes() == b"PONG\r\n")
                .answer("PING\r\n", "PONG\r\n"),
        )
        .backoff(
            Backoff::exponential().initial(Duration::from_millis(100)).max(Duration::from_secs(2)),
        )
        .login(move |login| {
            let info = login.recv()?;
            let info: serde_json::Value = match info.as_bytes().strip_prefix(b"INFO ") {
                Some(json) => serde_json::from_slice(json)?,
                None => Err("no NATS server: it does not begin with INFO")?,
            };
            if info["tls_required"] == true {
                login.start_tls(host.as_deref().unwrap_or_default())?;
            }
            login.send(
                "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"rust\"}\r\nPING\r\n",
            )?;
            match login.recv()?.as_bytes() {
                b"PONG\r\n" => {}
                error if error.starts_with(b"-ERR 'Authorization") => {
                    Err(LoginError::permanent(String::from_utf8_lossy(error).into_owned()))?;
                }
                other => Err(format!("no PONG: {}", String::from_utf8_lossy(other)))?,
            }
            subscribe.as_ref().map_or(Ok(()), |subscribe| login.send(subscribe.clone()))
        })
        .on_event(|_, event| eprintln!("{event}"))
}

fn publish(url: &str, authorities: Option<&str>, subject: &str, count: usize) -> Result {
    let client = client(url, authorities, None)
        .delivery(Delivery::AtLeastOnce)
        .on_message(|sender, message| {
            // what comes is an error: the server hangs up after most of them
            let said = String::from_utf8_lossy(message.as_bytes());
            if said.starts_with("-ERR") {
                let _ = sender.end_link(said.trim(), Decision::Retry);
            }
        })
        .start()?;
    for index in 0..count {
        let number = index.to_string();
        client.send(format!("PUB {subject} {}\r\n{number}\r\n", number.len()))?;
    }
    client.flush(Duration::from_secs(60))?;
    let stats = client.stats();
    println!("published {count}, sent again {}, links {}", stats.resent, stats.connects);
    client.close();
    Ok(())
}

fn subscribe(url: &str, authorities: Option<&str>, subject: &str, count: usize) -> Result {
    let (sender, numbers) = mpsc::channel();
    let client = client(url, authorities, Some(subject))
        .on_message(move |client, message| {
            let bytes = message.as_bytes();
            match payload(bytes) {
                Some((_, number)) => {
                    let _ = sender.send(String::from_utf8_lossy(number).into_owned());
                }
                None if bytes.starts_with(b"-ERR 'Stale") => {
                    let _ = client.end_link("the server takes us for dead", Decision::Retry);
                }
                None => {}
            }
        })
        .connect()?;
    println!("subscribed");
    let mut seen = vec![0_u32; count];
    while seen.contains(&0) {
        let number: usize = numbers.recv_timeout(Duration::from_secs(60))?.parse()?;
        if let Some(times) = seen.get_mut(number) {
            *times += 1;
        }
    }
    let twice = seen.iter().filter(|times| **times > 1).count();
    println!("received {count}, more than once {twice}");
    client.close();
    Ok(())
}

fn main() -> Result {
    env_logger::init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, what, subject, count, rest @ ..] = &arguments[..] else {
        Err("usage: nats tcp://HOST:PORT publish|subscribe SUBJECT COUNT [CERTIFICATES.pem]")?
    };
    let authorities = rest.first().map(String::as_str);
    match what.as_str() {
        "publish" => publish(url, authorities, subject, count.parse()?),
        "subscribe" => subscribe(url, authorities, subject, count.parse()?),
        other => Err(format!("{other} is neither publish nor subscribe"))?,
    }
}

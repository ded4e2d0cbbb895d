//! MQTT 5, as far as it takes to publish with QoS 1 and to subscribe: packets in a framing, the keep alive
//! that the broker asks for, and messages that are kept until the broker acknowledges them.
//!
//! ```text
//! mosquitto &
//! cargo run --example mqtt -- tcp://127.0.0.1:1883 subscribe readings 1000 &
//! cargo run --example mqtt -- tcp://127.0.0.1:1883 publish readings 1000
//! ```
//!
//! Kill the broker and start it again meanwhile: what it has not acknowledged comes again, marked as such, and
//! the session goes on where it was.

use std::sync::mpsc;
use std::time::Duration;

use everlink::config::{
    Backoff, Delivery, Framing, Heartbeat, LengthField, Prefix, Queue, SendOptions,
};
use everlink::{Client, ClientBuilder, LoginError, Message};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const PUBACK: u8 = 0x40;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;
const PINGREQ: u8 = 0xc0;
const PINGRESP: u8 = 0xd0;
const DISCONNECT: u8 = 0xe0;
const QOS_1: u8 = 0x02;
const DUP: u8 = 0x08;

/// How many messages may wait to be acknowledged; MQTT lets the broker say, and mosquitto says 20 unless it
/// is told otherwise.
const RECEIVE_MAXIMUM: usize = 20;

fn packet(kind: u8, body: &[u8]) -> Message {
    let mut bytes = vec![kind];
    let mut length = body.len();
    loop {
        let more = if length > 0x7f { 0x80 } else { 0 };
        bytes.push((length & 0x7f) as u8 | more);
        length >>= 7;
        if length == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    Message::from(bytes)
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

/// What comes behind the kind and the length of a packet.
fn body(packet: &[u8]) -> &[u8] {
    let length = packet[1..].iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
    packet.get(1 + length..).unwrap_or_default()
}

fn number(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.first_chunk()?))
}

/// The keep alive that the broker wants, in a CONNACK whose properties all have one, two or four bytes, as
/// those of mosquitto.
fn server_keep_alive(connack: &[u8]) -> Option<Duration> {
    let mut rest = body(connack).get(3..)?;
    while let [name, value @ ..] = rest {
        let length = match name {
            0x13 => return number(value).map(|seconds| Duration::from_secs(seconds.into())),
            0x21 | 0x22 => 2,
            0x24 | 0x25 | 0x28..=0x2a => 1,
            0x11 | 0x27 => 4,
            0x12 | 0x1a | 0x1f => 2 + usize::from(number(value)?),
            _ => return None,
        };
        rest = value.get(length..)?;
    }
    None
}

fn beat(keep_alive: Duration) -> Heartbeat {
    let every = keep_alive.max(Duration::from_secs(1)) / 2;
    Heartbeat::every(every)
        .dead_after(keep_alive)
        .message(packet(PINGREQ, &[]), |answer| answer.as_bytes()[0] == PINGRESP)
}

fn client(url: &str, name: &str, subscription: Option<&str>) -> ClientBuilder {
    let keep_alive = Duration::from_secs(30);
    // clean start off, and a session that outlives its connection by an hour
    let mut connect = text("MQTT");
    connect.extend([5, 0]);
    connect.extend((keep_alive.as_secs() as u16).to_be_bytes());
    connect.extend([5, 0x11]);
    connect.extend(3600_u32.to_be_bytes());
    connect.extend(text(name));
    let connect = packet(CONNECT, &connect);
    let subscribe = subscription
        .map(|topic| packet(SUBSCRIBE, &[&[0xff, 0xff, 0][..], &text(topic), &[1]].concat()));
    Client::builder(url)
        // a kind, a length of one to four bytes, and so much: all of it is a packet
        .framing(Framing::length_field(LengthField::new(Prefix::Varint).offset(1).strip(0)))
        .heartbeat(beat(keep_alive))
        .backoff(
            Backoff::exponential().initial(Duration::from_millis(100)).max(Duration::from_secs(2)),
        )
        .login(move |login| {
            login.send(connect.clone())?;
            let connack = login.recv()?;
            match (connack.as_bytes()[0], body(connack.as_bytes()).get(1)) {
                (CONNACK, Some(0)) => {}
                (CONNACK, Some(reason @ (0x86 | 0x87 | 0x8c))) => {
                    Err(LoginError::permanent(format!("not authorized: {reason:#x}")))?;
                }
                other => Err(format!("no session: {other:x?}"))?,
            }
            if let Some(keep_alive) = server_keep_alive(connack.as_bytes()) {
                login.set_heartbeat(beat(keep_alive))?;
            }
            if let Some(subscribe) = &subscribe {
                login.send(subscribe.clone())?;
                // what a session that goes on has waiting may come first
                login.recv_matching(|answer| answer.as_bytes()[0] == SUBACK)?;
            }
            Ok(())
        })
        .on_event(|_, event| eprintln!("{event}"))
}

fn publish(url: &str, topic: &str, count: usize) -> Result {
    let client = client(url, "everlink-publisher", None)
        .delivery(Delivery::UntilConfirmed)
        .outbox(Queue::new().messages(RECEIVE_MAXIMUM))
        .on_resend(|message| {
            let mut again = message.as_bytes().to_vec();
            again[0] |= DUP;
            Message::from(again)
        })
        .on_message(|sender, message| match message.as_bytes() {
            [PUBACK, _, high, low, ..] => {
                sender.confirm(u16::from_be_bytes([*high, *low]).into());
            }
            [DISCONNECT, ..] => eprintln!("the broker says goodbye"),
            _ => {}
        })
        .start()?;
    for index in 0..count {
        // identifiers are used again, long after they were acknowledged
        let id = (index % 0xfffe) as u16 + 1;
        let mut body = text(topic);
        body.extend(id.to_be_bytes());
        body.push(0);
        body.extend(index.to_string().bytes());
        client.send_with(packet(PUBLISH | QOS_1, &body), SendOptions::new().key(id.into()))?;
    }
    client.flush(Duration::from_secs(60))?;
    let stats = client.stats();
    println!("published {count}, sent again {}, links {}", stats.resent, stats.connects);
    client.close();
    Ok(())
}

fn subscribe(url: &str, topic: &str, count: usize) -> Result {
    let (sender, numbers) = mpsc::channel();
    let client = client(url, "everlink-subscriber", Some(topic))
        .on_message(move |client, message| {
            let bytes = message.as_bytes();
            if bytes[0] & 0xf0 != PUBLISH {
                return;
            }
            let body = body(bytes);
            let Some(topic) = number(body).map(usize::from) else { return };
            let (Some(id), Some(payload)) =
                (body.get(2 + topic..).and_then(number), body.get(2 + topic + 3..))
            else {
                return;
            };
            let payload = String::from_utf8_lossy(payload).into_owned();
            // it has arrived once the program has it
            if sender.send(payload).is_ok() {
                let _ = client.send(packet(PUBACK, &id.to_be_bytes()));
            }
        })
        // an acknowledgement that is lost is not missed: the broker sends the message again
        .connect()?;
    println!("subscribed");
    let mut seen = vec![0_u32; count];
    let mut missing = count;
    while missing > 0 {
        let number: usize = numbers.recv_timeout(Duration::from_secs(60))?.parse()?;
        let Some(times) = seen.get_mut(number) else { continue };
        missing -= usize::from(*times == 0);
        *times += 1;
    }
    let twice = seen.iter().filter(|times| **times > 1).count();
    println!("received {count}, lost 0, more than once {twice}");
    client.wait_sent(Duration::from_secs(5))?;
    client.close();
    Ok(())
}

fn main() -> Result {
    env_logger::init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, what, topic, count] = &arguments[..] else {
        Err("usage: mqtt tcp://HOST:PORT publish|subscribe TOPIC COUNT")?
    };
    match what.as_str() {
        "publish" => publish(url, topic, count.parse()?),
        "subscribe" => subscribe(url, topic, count.parse()?),
        other => Err(format!("{other} is neither publish nor subscribe"))?,
    }
}

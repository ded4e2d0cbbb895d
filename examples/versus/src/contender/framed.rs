//! everlink on framed TCP, with a handler: packets of 32 bytes, of which one more byte makes a line, or says
//! how long they are.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use everlink::config::{CodecError, Framing, Heartbeat, Packet};
use everlink::{Client, Message};

use super::{Contender, Content, Echoes, Load, Result};
use crate::server::{PACKET, Server};

pub struct Framed {
    pub name: &'static str,
    pub framing: fn() -> Framing,
}

/// A codec of the program's.
pub fn codec() -> Framing {
    Framing::custom(|| (decode, encode))
}

fn decode(received: &[u8]) -> Result<Option<Packet>, CodecError> {
    let Some(length) = received.first().map(|length| usize::from(*length)) else { return Ok(None) };
    Ok(Some(Packet::new(1 + length).payload(1..1 + length)))
}

fn encode(message: &Message, out: &mut Vec<u8>) -> Result<(), CodecError> {
    out.push(u8::try_from(message.len())?);
    out.extend_from_slice(message.as_bytes());
    Ok(())
}

impl Framed {
    /// Sends so many messages, and times until as many have come.
    fn run(&self, server: &Server, task: &str, sent: usize, mut left: usize) -> Result<Duration> {
        let (done, ended) = mpsc::channel();
        let client = Client::builder(format!("tcp://{}", server.framed))
            .framing((self.framing)())
            .heartbeat(Heartbeat::off())
            .on_message(move |_, _| {
                left -= 1;
                if left == 0 {
                    let _ = done.send(Instant::now());
                }
            })
            .connect()?;
        let message = Message::from(format!("{task:<PACKET$}"));
        let begun = Instant::now();
        for _ in 0..sent {
            client.send(message.clone())?;
        }
        Ok(ended.recv()?.duration_since(begun))
    }
}

impl Contender for Framed {
    fn name(&self) -> &'static str {
        self.name
    }

    fn can(&self, load: Load) -> bool {
        load.is_plain() && matches!(load.content, Content::Bytes(PACKET))
    }

    fn send(&self, server: &Server, load: Load) -> Result<Option<Duration>> {
        self.run(server, &format!("sink {}", load.count), load.count, 1).map(Some)
    }

    fn receive(&self, server: &Server, load: Load) -> Result<Option<Duration>> {
        self.run(server, &format!("source {}", load.count), 1, load.count).map(Some)
    }

    fn pipelined(&self, _: &Server, _: usize, _: usize) -> Result<Option<Duration>> {
        Ok(None)
    }

    fn echo(&self, _: &Server, _: usize, _: usize) -> Result<Option<Echoes>> {
        Ok(None)
    }

    fn idle(&self, _: &Server, _: usize, _: &mut dyn FnMut()) -> Result<bool> {
        Ok(false)
    }
}

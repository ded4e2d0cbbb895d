//! No WebSocket at all: the bytes are read, and nobody looks at them. As fast as the source and the system are.

use std::io::Read;
use std::time::{Duration, Instant};

use tungstenite::Message;

use super::{Contender, Content, Echoes, Load, Result, dial};
use crate::server::Server;

pub struct Bare;

/// As much as everlink reads at once in a burst.
const READ_AT_ONCE: usize = 128 * 1024;

impl Contender for Bare {
    fn name(&self) -> &'static str {
        "bare read loop"
    }

    fn can(&self, load: Load) -> bool {
        matches!(load.content, Content::Bytes(_)) && !load.tls
    }

    fn send(&self, _: &Server, _: Load) -> Result<Option<Duration>> {
        Ok(None)
    }

    fn receive(&self, server: &Server, load: Load) -> Result<Option<Duration>> {
        let Content::Bytes(size) = load.content else { return Ok(None) };
        let head = match size {
            0..=125 => 2,
            126..=0xffff => 4,
            _ => 10,
        };
        let url = format!("ws://localhost{}", load.source());
        let (mut socket, _) =
            tungstenite::client(url, dial(server, false)?).map_err(|error| error.to_string())?;
        socket.send(Message::from("go"))?;
        let begun = Instant::now();
        let (mut left, mut buffer) = (load.count * (head + size), vec![0; READ_AT_ONCE]);
        while left > 0 {
            let count = socket.get_mut().read(&mut buffer)?;
            if count == 0 {
                return Err("the source has ended".into());
            }
            left -= count;
        }
        Ok(Some(begun.elapsed()))
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

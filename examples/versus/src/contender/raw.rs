//! tungstenite on one thread, as its examples use it.

use std::thread;
use std::time::{Duration, Instant};

use tungstenite::{Message, WebSocket};

use super::{Contender, Duplex, Echoes, Load, Result, Watch, dial};
use crate::server::Server;

pub struct Raw {
    /// A flush for every 256 messages, by hand, instead of one for each.
    pub batched: bool,
}

fn connect(server: &Server, path: &str, tls: bool) -> Result<WebSocket<Box<dyn Duplex>>> {
    let url = format!("ws://localhost{path}");
    let (socket, _) =
        tungstenite::client(url, dial(server, tls)?).map_err(|error| error.to_string())?;
    Ok(socket)
}

impl Contender for Raw {
    fn name(&self) -> &'static str {
        if self.batched { "raw, batched by hand" } else { "raw tungstenite" }
    }

    fn can(&self, load: Load) -> bool {
        !load.is_deflated()
    }

    fn send(&self, server: &Server, load: Load) -> Result<Option<Duration>> {
        let mut socket = connect(server, &load.sink(), load.tls)?;
        let message = Message::from(load.payload());
        let begun = Instant::now();
        for number in 1..=load.count {
            socket.write(message.clone())?;
            if !self.batched || number % 256 == 0 {
                socket.flush()?;
            }
        }
        socket.flush()?;
        socket.read()?;
        Ok(Some(begun.elapsed()))
    }

    fn receive(&self, server: &Server, load: Load) -> Result<Option<Duration>> {
        if self.batched {
            return Ok(None);
        }
        let mut socket = connect(server, &load.source(), load.tls)?;
        socket.send(Message::from("go"))?;
        let begun = Instant::now();
        for _ in 0..load.count {
            socket.read()?;
        }
        Ok(Some(begun.elapsed()))
    }

    fn pipelined(&self, server: &Server, count: usize, window: usize) -> Result<Option<Duration>> {
        if self.batched {
            return Ok(None);
        }
        let mut socket = connect(server, "/echo", false)?;
        let message = Message::from(vec![7; 32]);
        let begun = Instant::now();
        for number in 0..count + window {
            if number < count {
                socket.send(message.clone())?;
            }
            if number >= window {
                socket.read()?;
            }
        }
        Ok(Some(begun.elapsed()))
    }

    fn echo(&self, server: &Server, count: usize, feed: usize) -> Result<Option<Echoes>> {
        if self.batched {
            return Ok(None);
        }
        let mut socket = connect(server, &format!("/echo?{feed}"), false)?;
        let message = Message::from(vec![7; 32]);
        let mut watch = Watch::start(count);
        loop {
            socket.send(message.clone())?;
            for _ in 0..=feed {
                socket.read()?;
            }
            if watch.lap() == count {
                return Ok(Some(watch.stop()));
            }
        }
    }

    /// One thread for each, blocked in `read`.
    fn idle(&self, server: &Server, count: usize, measure: &mut dyn FnMut()) -> Result<bool> {
        if self.batched {
            return Ok(false);
        }
        for _ in 0..count {
            let stream = std::net::TcpStream::connect(server.plain)?;
            let (mut socket, _) = tungstenite::client("ws://localhost/echo", stream)
                .map_err(|error| error.to_string())?;
            thread::Builder::new().spawn(move || socket.read().map(drop))?;
        }
        measure();
        Ok(true)
    }
}

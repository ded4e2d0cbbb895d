//! ws-tool, blocking, over a buffered stream as its documentation has it.

use std::time::{Duration, Instant};

use ws_tool::ClientBuilder;
use ws_tool::codec::FrameCodec;
use ws_tool::frame::OpCode;
use ws_tool::stream::BufStream;

use super::{Contender, Echoes, Load, Result, Watch};
use crate::server::Server;

pub struct WsTool;

type Socket = FrameCodec<BufStream<std::net::TcpStream>>;

fn connect(server: &Server, path: &str) -> Result<Socket> {
    let uri = format!("ws://{}{path}", server.plain).parse()?;
    let socket = ClientBuilder::new().connect(uri, |key, response, stream| {
        stream.set_nodelay(true)?;
        FrameCodec::check_fn(key, response, BufStream::new(stream))
    });
    Ok(socket.map_err(|error| error.to_string())?)
}

fn send(socket: &mut Socket, payload: &[u8]) -> Result<()> {
    socket.send(OpCode::Binary, payload).map_err(|error| error.to_string())?;
    Ok(socket.flush().map_err(|error| error.to_string())?)
}

fn receive(socket: &mut Socket) -> Result<()> {
    Ok(socket.receive().map(drop).map_err(|error| error.to_string())?)
}

impl Contender for WsTool {
    fn name(&self) -> &'static str {
        "ws-tool (blocking)"
    }

    fn send(&self, server: &Server, load: Load) -> Result<Option<Duration>> {
        let mut socket = connect(server, &load.sink())?;
        let payload = load.payload();
        let begun = Instant::now();
        for _ in 0..load.count {
            send(&mut socket, &payload)?;
        }
        receive(&mut socket)?;
        Ok(Some(begun.elapsed()))
    }

    fn receive(&self, server: &Server, load: Load) -> Result<Option<Duration>> {
        let mut socket = connect(server, &load.source())?;
        send(&mut socket, b"go")?;
        let begun = Instant::now();
        for _ in 0..load.count {
            receive(&mut socket)?;
        }
        Ok(Some(begun.elapsed()))
    }

    fn pipelined(&self, server: &Server, count: usize, window: usize) -> Result<Option<Duration>> {
        let mut socket = connect(server, "/echo")?;
        let begun = Instant::now();
        for number in 0..count + window {
            if number < count {
                send(&mut socket, &[7; 32])?;
            }
            if number >= window {
                receive(&mut socket)?;
            }
        }
        Ok(Some(begun.elapsed()))
    }

    fn echo(&self, server: &Server, count: usize, feed: usize) -> Result<Option<Echoes>> {
        let mut socket = connect(server, &format!("/echo?{feed}"))?;
        let mut watch = Watch::start(count);
        loop {
            send(&mut socket, &[7; 32])?;
            for _ in 0..=feed {
                receive(&mut socket)?;
            }
            if watch.lap() == count {
                return Ok(Some(watch.stop()));
            }
        }
    }

    /// One thread for each, blocked in `receive`.
    fn idle(&self, server: &Server, count: usize, measure: &mut dyn FnMut()) -> Result<bool> {
        for _ in 0..count {
            let mut socket = connect(server, "/echo")?;
            std::thread::Builder::new().spawn(move || receive(&mut socket))?;
        }
        measure();
        Ok(true)
    }
}

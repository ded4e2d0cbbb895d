//! The clients that are compared, each with the workloads as a user of it would write them.

mod bare;
mod everlink;
mod ezsockets;
mod fastwebsockets;
mod framed;
mod on_tokio;
mod raw;
mod sockudo;
mod tokio_tungstenite;
mod ws_tool;
mod yawc;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use ::everlink::config::Framing;

use crate::machine;
use crate::server::{DEFLATED, Server};

use bare::Bare;
use everlink::Everlink;
use ezsockets::Ezsockets;
use fastwebsockets::FastWebsockets;
use framed::Framed;
use on_tokio::OnTokio;
use raw::Raw;
use sockudo::Sockudo;
use tokio_tungstenite::TokioTungstenite;
use ws_tool::WsTool;
use yawc::Yawc;

pub type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Messages in one direction.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub count: usize,
    pub content: Content,
    pub tls: bool,
    /// Whether the server has encoded all of it beforehand, and is never the slower side; of small messages and
    /// ticks it always has.
    pub is_encoded: bool,
}

#[derive(Debug, Clone, Copy)]
pub enum Content {
    /// Binary messages, all of this size.
    Bytes(usize),
    /// Text messages: [`Ticks`](crate::ticks::Ticks).
    Ticks,
    /// The same, compressed with context takeover. The server sends the same bytes to all.
    DeflatedTicks,
}

impl Load {
    /// Where the server takes it.
    fn sink(&self) -> String {
        format!("/sink?{}", self.count)
    }

    /// Where the server sends it, once told to by a message.
    fn source(&self) -> String {
        match self.content {
            Content::Bytes(size) => {
                format!("/source?{}&{size}&{}", self.count, u8::from(self.is_encoded))
            }
            Content::Ticks => format!("/ticks?{}", self.count),
            Content::DeflatedTicks => format!("{DEFLATED}?{}", self.count),
        }
    }

    fn is_plain(&self) -> bool {
        !self.tls && !self.is_deflated()
    }

    fn is_deflated(&self) -> bool {
        matches!(self.content, Content::DeflatedTicks)
    }

    /// A message to send again and again.
    fn payload(&self) -> Vec<u8> {
        match self.content {
            Content::Bytes(size) => vec![7; size],
            Content::Ticks | Content::DeflatedTicks => {
                crate::ticks::Ticks::new().next().unwrap_or_default().into_bytes()
            }
        }
    }
}

/// A series of echoes, one after the other.
pub struct Echoes {
    pub times: Vec<Duration>,
    /// What this process spent on all of them together.
    pub cpu: Duration,
}

/// What is measured. A contender that has no such thing says `None`.
pub trait Contender {
    fn name(&self) -> &'static str;

    /// Whether it can send and receive such messages in such a way.
    fn can(&self, load: Load) -> bool {
        load.is_plain()
    }

    /// Time to send and to hear that all have arrived.
    fn send(&self, server: &Server, load: Load) -> Result<Option<Duration>>;

    /// Time to receive, from asking for the messages on.
    fn receive(&self, server: &Server, load: Load) -> Result<Option<Duration>>;

    /// Time for `count` echoes of 32 bytes with at most `window` of them under way.
    fn pipelined(&self, server: &Server, count: usize, window: usize) -> Result<Option<Duration>>;

    /// `count` echoes of 32 bytes, one after the other, each behind so many other messages: `/echo?{feed}`.
    fn echo(&self, server: &Server, count: usize, feed: usize) -> Result<Option<Echoes>>;

    /// Opens so many connections, each ready to receive, and calls `measure` while they idle.
    fn idle(&self, server: &Server, count: usize, measure: &mut dyn FnMut()) -> Result<bool>;

    /// Time from asking the server for a reset to being connected again.
    fn reconnect(&self, _server: &Server) -> Result<Option<Duration>> {
        Ok(None)
    }
}

pub fn all() -> Vec<Box<dyn Contender>> {
    vec![
        Box::new(Raw { batched: false }),
        Box::new(Bare),
        Box::new(Raw { batched: true }),
        Box::new(WsTool),
        OnTokio::<TokioTungstenite>::boxed(),
        OnTokio::<FastWebsockets>::boxed(),
        OnTokio::<Yawc>::boxed(),
        OnTokio::<Sockudo>::boxed(),
        Box::new(Ezsockets),
        Box::new(Everlink { handler: false }),
        Box::new(Everlink { handler: true }),
        Box::new(Framed { name: "everlink, lines on TCP", framing: Framing::lines }),
        Box::new(Framed { name: "everlink, codec on TCP", framing: framed::codec }),
    ]
}

/// A stopwatch for the echoes of one connection.
struct Watch {
    times: Vec<Duration>,
    cpu: Duration,
    begun: Instant,
}

impl Watch {
    fn start(count: usize) -> Self {
        let times = Vec::with_capacity(count);
        Self { times, cpu: machine::cpu_time(), begun: Instant::now() }
    }

    /// One is back, and the next begins.
    fn lap(&mut self) -> usize {
        let now = Instant::now();
        self.times.push(now.duration_since(std::mem::replace(&mut self.begun, now)));
        self.times.len()
    }

    /// While all threads that took part are there.
    fn stop(&mut self) -> Echoes {
        let cpu = machine::cpu_time().saturating_sub(self.cpu);
        Echoes { times: std::mem::take(&mut self.times), cpu }
    }
}

trait Duplex: Read + Write {}

impl<T: Read + Write> Duplex for T {}

/// A blocking connection to the server, for those who do not dial themselves.
fn dial(server: &Server, tls: bool) -> Result<Box<dyn Duplex>> {
    let stream = TcpStream::connect(if tls { server.tls } else { server.plain })?;
    stream.set_nodelay(true)?;
    if !tls {
        return Ok(Box::new(stream));
    }
    let connection = rustls::ClientConnection::new(server.client_tls()?, "localhost".try_into()?)?;
    Ok(Box::new(rustls::StreamOwned::new(connection, stream)))
}

//! The clients that are compared, each with the workloads as a user of it would write them.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use everlink::{Backoff, Client};
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket};

pub type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    /// tungstenite on one thread, a flush for each message.
    Raw,
    /// The same, batching by hand: a flush for every 256 messages.
    RawBatched,
    TokioTungstenite,
    EverlinkChannel,
    EverlinkHandler,
}

impl Contender {
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw tungstenite",
            Self::RawBatched => "raw, batched by hand",
            Self::TokioTungstenite => "tokio-tungstenite",
            Self::EverlinkChannel => "everlink, channel",
            Self::EverlinkHandler => "everlink, handler",
        }
    }

    /// One-way: time to send `count` messages of `size` bytes and hear that all have arrived.
    pub fn send(self, server: SocketAddr, count: usize, size: usize) -> Result<Duration> {
        let path = format!("/sink?{count}");
        let payload = vec![7; size];
        match self {
            Self::Raw | Self::RawBatched => {
                let mut socket = raw(server, &path)?;
                let message = Message::from(payload);
                let begun = Instant::now();
                for number in 1..=count {
                    socket.write(message.clone())?;
                    if self == Self::Raw || number % 256 == 0 {
                        socket.flush()?;
                    }
                }
                socket.flush()?;
                socket.read()?;
                Ok(begun.elapsed())
            }
            Self::TokioTungstenite => tokio(async move {
                use futures_util::{SinkExt, StreamExt};
                let url = format!("ws://{server}{path}");
                let (mut socket, _) = tokio_tungstenite::connect_async(url).await?;
                let message = Message::from(payload);
                let begun = Instant::now();
                for _ in 0..count {
                    socket.send(message.clone()).await?;
                }
                socket.next().await.ok_or("closed")??;
                Ok(begun.elapsed())
            }),
            Self::EverlinkChannel | Self::EverlinkHandler => {
                let client = everlink(server, &path).connect()?;
                let message = everlink::Message::from(payload);
                let begun = Instant::now();
                for _ in 0..count {
                    client.send(message.clone())?;
                }
                client.recv()?;
                Ok(begun.elapsed())
            }
        }
    }

    /// One-way: time to receive `count` messages of `size` bytes.
    pub fn receive(self, server: SocketAddr, count: usize, size: usize) -> Result<Duration> {
        let path = format!("/source?{count}&{size}");
        match self {
            Self::Raw | Self::RawBatched => {
                let mut socket = raw(server, &path)?;
                socket.send(Message::from("go"))?;
                let begun = Instant::now();
                for _ in 0..count {
                    socket.read()?;
                }
                Ok(begun.elapsed())
            }
            Self::TokioTungstenite => tokio(async move {
                use futures_util::{SinkExt, StreamExt};
                let url = format!("ws://{server}{path}");
                let (mut socket, _) = tokio_tungstenite::connect_async(url).await?;
                socket.send(Message::from("go")).await?;
                let begun = Instant::now();
                for _ in 0..count {
                    socket.next().await.ok_or("closed")??;
                }
                Ok(begun.elapsed())
            }),
            Self::EverlinkChannel => {
                let client = everlink(server, &path).connect()?;
                client.send("go")?;
                let begun = Instant::now();
                for _ in 0..count {
                    client.recv()?;
                }
                Ok(begun.elapsed())
            }
            Self::EverlinkHandler => {
                let (done, ended) = mpsc::channel();
                let mut left = count;
                let client = everlink(server, &path)
                    .on_message(move |_, _| {
                        left -= 1;
                        if left == 0 {
                            let _ = done.send(Instant::now());
                        }
                    })
                    .connect()?;
                client.send("go")?;
                let begun = Instant::now();
                Ok(ended.recv()?.duration_since(begun))
            }
        }
    }

    /// Time for `count` echoes of 32 bytes with at most `window` of them under way.
    pub fn pipelined(self, server: SocketAddr, count: usize, window: usize) -> Result<Duration> {
        let payload = vec![7; 32];
        match self {
            Self::Raw | Self::RawBatched => {
                let mut socket = raw(server, "/echo")?;
                let message = Message::from(payload);
                let begun = Instant::now();
                for number in 0..count + window {
                    if number < count {
                        socket.send(message.clone())?;
                    }
                    if number >= window {
                        socket.read()?;
                    }
                }
                Ok(begun.elapsed())
            }
            Self::TokioTungstenite => tokio(async move {
                use futures_util::{SinkExt, StreamExt};
                let url = format!("ws://{server}/echo");
                let (mut socket, _) = tokio_tungstenite::connect_async(url).await?;
                let message = Message::from(payload);
                let begun = Instant::now();
                for number in 0..count + window {
                    if number < count {
                        socket.send(message.clone()).await?;
                    }
                    if number >= window {
                        socket.next().await.ok_or("closed")??;
                    }
                }
                Ok(begun.elapsed())
            }),
            Self::EverlinkChannel => {
                let client = everlink(server, "/echo").connect()?;
                let message = everlink::Message::from(payload);
                let begun = Instant::now();
                for number in 0..count + window {
                    if number < count {
                        client.send(message.clone())?;
                    }
                    if number >= window {
                        client.recv()?;
                    }
                }
                Ok(begun.elapsed())
            }
            Self::EverlinkHandler => {
                let (done, ended) = mpsc::channel();
                let message = everlink::Message::from(payload);
                let (mut received, again) = (0, message.clone());
                let client = everlink(server, "/echo")
                    .on_message(move |_, sender| {
                        received += 1;
                        if received + window <= count {
                            // there is room: no more than the window is ever queued
                            let _ = sender.try_send(again.clone());
                        }
                        if received == count {
                            let _ = done.send(Instant::now());
                        }
                    })
                    .connect()?;
                let begun = Instant::now();
                for _ in 0..window {
                    client.send(message.clone())?;
                }
                Ok(ended.recv()?.duration_since(begun))
            }
        }
    }

    /// The round-trip times of `count` echoes of 32 bytes, one after the other.
    pub fn echo(self, server: SocketAddr, count: usize) -> Result<Vec<Duration>> {
        let payload = vec![7; 32];
        let mut times = Vec::with_capacity(count);
        match self {
            Self::Raw | Self::RawBatched => {
                let mut socket = raw(server, "/echo")?;
                let message = Message::from(payload);
                for _ in 0..count {
                    let begun = Instant::now();
                    socket.send(message.clone())?;
                    socket.read()?;
                    times.push(begun.elapsed());
                }
                Ok(times)
            }
            Self::TokioTungstenite => tokio(async move {
                use futures_util::{SinkExt, StreamExt};
                let url = format!("ws://{server}/echo");
                let (mut socket, _) = tokio_tungstenite::connect_async(url).await?;
                let message = Message::from(payload);
                for _ in 0..count {
                    let begun = Instant::now();
                    socket.send(message.clone()).await?;
                    socket.next().await.ok_or("closed")??;
                    times.push(begun.elapsed());
                }
                Ok(times)
            }),
            Self::EverlinkChannel => {
                let client = everlink(server, "/echo").connect()?;
                let message = everlink::Message::from(payload);
                for _ in 0..count {
                    let begun = Instant::now();
                    client.send(message.clone())?;
                    client.recv()?;
                    times.push(begun.elapsed());
                }
                Ok(times)
            }
            Self::EverlinkHandler => {
                // the handler sends the next as soon as one is back
                let (done, ended) = mpsc::channel();
                let message = everlink::Message::from(payload);
                let again = message.clone();
                let (mut begun, mut left) = (None, VecDeque::with_capacity(count));
                let client = everlink(server, "/echo")
                    .on_message(move |_, sender| {
                        let now = Instant::now();
                        if let Some(begun) = begun.replace(now) {
                            left.push_back(now.duration_since(begun));
                        }
                        if left.len() < count {
                            let _ = sender.try_send(again.clone());
                        } else {
                            let _ = done.send(std::mem::take(&mut left));
                        }
                    })
                    .connect()?;
                client.send(message)?;
                Ok(ended.recv()?.into())
            }
        }
    }
}

fn raw(server: SocketAddr, path: &str) -> Result<WebSocket<MaybeTlsStream<TcpStream>>> {
    let (socket, _) = tungstenite::connect(format!("ws://{server}{path}"))?;
    if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
        stream.set_nodelay(true)?;
    }
    Ok(socket)
}

fn everlink(server: SocketAddr, path: &str) -> everlink::Builder {
    Client::builder(&format!("ws://{server}{path}")).backoff(Backoff::fixed(Duration::ZERO))
}

fn tokio<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    ::tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(work)
}

//! tokio-tungstenite on a runtime of one thread.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tungstenite::Message;

use super::{Contender, Echoes, Load, Result, Watch};
use crate::server::Server;

pub struct Tokio;

pub fn run<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

async fn connect(
    server: &Server,
    path: &str,
) -> Result<WebSocketStream<MaybeTlsStream<TcpStream>>> {
    let url = format!("ws://{}{path}", server.plain);
    let (socket, _) = tokio_tungstenite::connect_async_with_config(url, None, true).await?;
    Ok(socket)
}

impl Contender for Tokio {
    fn name(&self) -> &'static str {
        "tokio-tungstenite"
    }

    fn send(&self, server: &Server, load: Load) -> Result<Option<Duration>> {
        if load.tls {
            return Ok(None);
        }
        run(async move {
            let mut socket = connect(server, &format!("/sink?{}", load.count)).await?;
            let message = Message::from(vec![7; load.size]);
            let begun = Instant::now();
            for _ in 0..load.count {
                socket.send(message.clone()).await?;
            }
            socket.next().await.ok_or("closed")??;
            Ok(Some(begun.elapsed()))
        })
    }

    fn receive(&self, server: &Server, load: Load) -> Result<Option<Duration>> {
        if load.tls {
            return Ok(None);
        }
        run(async move {
            let path = format!("/source?{}&{}", load.count, load.size);
            let mut socket = connect(server, &path).await?;
            socket.send(Message::from("go")).await?;
            let begun = Instant::now();
            for _ in 0..load.count {
                socket.next().await.ok_or("closed")??;
            }
            Ok(Some(begun.elapsed()))
        })
    }

    fn pipelined(&self, server: &Server, count: usize, window: usize) -> Result<Option<Duration>> {
        run(async move {
            let mut socket = connect(server, "/echo").await?;
            let message = Message::from(vec![7; 32]);
            let begun = Instant::now();
            for number in 0..count + window {
                if number < count {
                    socket.send(message.clone()).await?;
                }
                if number >= window {
                    socket.next().await.ok_or("closed")??;
                }
            }
            Ok(Some(begun.elapsed()))
        })
    }

    fn echo(&self, server: &Server, count: usize) -> Result<Option<Echoes>> {
        run(async move {
            let mut socket = connect(server, "/echo").await?;
            let message = Message::from(vec![7; 32]);
            let mut watch = Watch::start(count);
            loop {
                socket.send(message.clone()).await?;
                socket.next().await.ok_or("closed")??;
                if watch.lap() == count {
                    return Ok(Some(watch.stop()));
                }
            }
        })
    }

    /// One task for each, on the one thread.
    fn idle(&self, server: &Server, count: usize, measure: &mut dyn FnMut()) -> Result<bool> {
        run(async move {
            for _ in 0..count {
                let mut socket = connect(server, "/echo").await?;
                tokio::spawn(async move { socket.next().await.map(drop) });
            }
            tokio::task::yield_now().await;
            measure();
            Ok(true)
        })
    }
}

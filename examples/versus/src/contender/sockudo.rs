//! sockudo-ws over a stream of tokio's.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use sockudo_ws::client::WebSocketClient;
use sockudo_ws::{Config, Http1, Message, WebSocketStream};
use tokio::net::TcpStream;

use super::Result;
use super::on_tokio::Socket;

pub struct Sockudo(WebSocketStream<TcpStream>);

impl Socket for Sockudo {
    const NAME: &'static str = "sockudo-ws (tokio)";

    async fn connect(address: SocketAddr, path: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let client = WebSocketClient::<Http1>::new(Config::default());
        let (socket, _) = client.connect_raw(stream, &address.to_string(), path, None).await?;
        Ok(Self(socket))
    }

    async fn send(&mut self, payload: Bytes) -> Result<()> {
        Ok(self.0.send(Message::Binary(payload)).await?)
    }

    async fn receive(&mut self) -> Result<()> {
        loop {
            match self.0.next().await.ok_or("closed")?? {
                Message::Text(_) | Message::Binary(_) => return Ok(()),
                Message::Close(_) => return Err("closed".into()),
                _ => {}
            }
        }
    }
}

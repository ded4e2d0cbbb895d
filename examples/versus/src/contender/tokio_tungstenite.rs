//! tokio-tungstenite.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tungstenite::Message;

use super::Result;
use super::on_tokio::Socket;

pub struct TokioTungstenite(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket for TokioTungstenite {
    const NAME: &'static str = "tokio-tungstenite (tokio)";

    async fn connect(address: SocketAddr, path: &str) -> Result<Self> {
        let url = format!("ws://{address}{path}");
        let (socket, _) = tokio_tungstenite::connect_async_with_config(url, None, true).await?;
        Ok(Self(socket))
    }

    async fn send(&mut self, payload: Bytes) -> Result<()> {
        Ok(self.0.send(Message::Binary(payload)).await?)
    }

    async fn receive(&mut self) -> Result<()> {
        self.0.next().await.ok_or("closed")??;
        Ok(())
    }
}

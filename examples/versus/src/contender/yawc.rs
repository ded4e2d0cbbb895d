//! yawc, which answers control frames and joins fragments by itself.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::SinkExt;
use yawc::{Frame, OpCode, Options, TcpWebSocket, WebSocket};

use super::Result;
use super::on_tokio::Socket;
use crate::server::DEFLATED;

pub struct Yawc(TcpWebSocket);

impl Socket for Yawc {
    const NAME: &'static str = "yawc (tokio)";
    const DEFLATES: bool = true;

    async fn connect(address: SocketAddr, path: &str) -> Result<Self> {
        let url = format!("ws://{address}{path}").parse()?;
        // like the others here: large messages, text checked for UTF-8, small messages sent at once
        let options =
            Options::default().with_limits(64 << 20, 128 << 20).with_utf8().with_no_delay();
        let options =
            if path.starts_with(DEFLATED) { options.with_balanced_compression() } else { options };
        Ok(Self(WebSocket::connect(url).with_options(options).await?))
    }

    async fn send(&mut self, payload: Bytes) -> Result<()> {
        Ok(self.0.send(Frame::binary(payload)).await?)
    }

    async fn receive(&mut self) -> Result<()> {
        loop {
            match self.0.next_frame().await?.opcode() {
                OpCode::Text | OpCode::Binary => return Ok(()),
                OpCode::Close => return Err("closed".into()),
                _ => {}
            }
        }
    }
}

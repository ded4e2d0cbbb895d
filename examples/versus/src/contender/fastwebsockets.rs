//! fastwebsockets, on hyper's handshake as its documentation has it, with fragments
//! joined to messages.

use std::net::SocketAddr;

use bytes::Bytes;
use fastwebsockets::{FragmentCollector, Frame, OpCode, Payload, handshake};
use http_body_util::Empty;
use hyper::header::{CONNECTION, HOST, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::Result;
use super::on_tokio::Socket;

pub struct FastWebsockets(FragmentCollector<TokioIo<Upgraded>>);

impl Socket for FastWebsockets {
    const NAME: &'static str = "fastwebsockets (tokio)";

    async fn connect(address: SocketAddr, path: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let request = hyper::Request::get(path)
            .header(HOST, address.to_string())
            .header(UPGRADE, "websocket")
            .header(CONNECTION, "upgrade")
            .header("sec-websocket-key", handshake::generate_key())
            .header("sec-websocket-version", "13")
            .body(Empty::<Bytes>::new())?;
        let (socket, _) = handshake::client(&TokioExecutor::new(), request, stream).await?;
        Ok(Self(FragmentCollector::new(socket)))
    }

    async fn send(&mut self, payload: Bytes) -> Result<()> {
        // copied, since it is masked where it is
        let frame = Frame::binary(Payload::Borrowed(&payload));
        Ok(self.0.write_frame(frame).await?)
    }

    async fn receive(&mut self) -> Result<()> {
        loop {
            match self.0.read_frame().await?.opcode {
                OpCode::Text | OpCode::Binary => return Ok(()),
                OpCode::Close => return Err("closed".into()),
                _ => {}
            }
        }
    }
}

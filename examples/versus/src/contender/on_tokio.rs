//! What the contenders on tokio have in common: a runtime of one thread, and a task that sends or
//! receives one message after the other.

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Contender, Echoes, Load, Result, Watch};
use crate::server::Server;

/// A connection of one library, written as a user of that library would.
pub trait Socket: Sized + Send + 'static {
    const NAME: &'static str;

    /// Whether messages can come compressed.
    const DEFLATES: bool = false;

    /// To a server without TLS.
    fn connect(address: SocketAddr, path: &str) -> impl Future<Output = Result<Self>>;

    /// Sends one binary message and flushes.
    fn send(&mut self, payload: Bytes) -> impl Future<Output = Result<()>>;

    /// Waits for the next text or binary message.
    fn receive(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// The workloads over the sockets of one library.
pub struct OnTokio<S>(PhantomData<S>);

impl<S: Socket> OnTokio<S> {
    pub fn boxed() -> Box<dyn Contender> {
        Box::new(Self(PhantomData))
    }
}

pub fn run<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

impl<S: Socket> Contender for OnTokio<S> {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn can(&self, load: Load) -> bool {
        load.is_plain() || (S::DEFLATES && load.is_deflated())
    }

    fn send(&self, server: &Server, load: Load) -> Result<Option<Duration>> {
        run(async move {
            let mut socket = S::connect(server.plain, &load.sink()).await?;
            let payload = Bytes::from(load.payload());
            let begun = Instant::now();
            for _ in 0..load.count {
                socket.send(payload.clone()).await?;
            }
            socket.receive().await?;
            Ok(Some(begun.elapsed()))
        })
    }

    fn receive(&self, server: &Server, load: Load) -> Result<Option<Duration>> {
        run(async move {
            let mut socket = S::connect(server.plain, &load.source()).await?;
            socket.send(Bytes::from_static(b"go")).await?;
            let begun = Instant::now();
            for _ in 0..load.count {
                socket.receive().await?;
            }
            Ok(Some(begun.elapsed()))
        })
    }

    fn pipelined(&self, server: &Server, count: usize, window: usize) -> Result<Option<Duration>> {
        run(async move {
            let mut socket = S::connect(server.plain, "/echo").await?;
            let payload = Bytes::from_static(&[7; 32]);
            let begun = Instant::now();
            for number in 0..count + window {
                if number < count {
                    socket.send(payload.clone()).await?;
                }
                if number >= window {
                    socket.receive().await?;
                }
            }
            Ok(Some(begun.elapsed()))
        })
    }

    fn echo(&self, server: &Server, count: usize, feed: usize) -> Result<Option<Echoes>> {
        run(async move {
            let mut socket = S::connect(server.plain, &format!("/echo?{feed}")).await?;
            let payload = Bytes::from_static(&[7; 32]);
            let mut watch = Watch::start(count);
            loop {
                socket.send(payload.clone()).await?;
                for _ in 0..=feed {
                    socket.receive().await?;
                }
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
                let mut socket = S::connect(server.plain, "/echo").await?;
                tokio::spawn(async move { socket.receive().await });
            }
            tokio::task::yield_now().await;
            measure();
            Ok(true)
        })
    }
}

//! ezsockets: reconnects by itself, on a tokio runtime of one thread.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use ezsockets::{Bytes, Client, ClientConfig, ClientExt, Error, Utf8Bytes};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::on_tokio::run;
use super::{Contender, Echoes, Load, Result, Watch};
use crate::server::Server;

pub struct Ezsockets;

/// Passes on what comes, and that there is a connection again.
struct Session(UnboundedSender<Come>);

enum Come {
    Connected,
    Message,
}

#[async_trait]
impl ClientExt for Session {
    type Call = ();

    async fn on_text(&mut self, _: Utf8Bytes) -> Result<(), Error> {
        Ok(self.0.send(Come::Message)?)
    }

    async fn on_binary(&mut self, _: Bytes) -> Result<(), Error> {
        Ok(self.0.send(Come::Message)?)
    }

    async fn on_call(&mut self, (): ()) -> Result<(), Error> {
        Ok(())
    }

    async fn on_connect(&mut self) -> Result<(), Error> {
        Ok(self.0.send(Come::Connected)?)
    }
}

async fn connect(
    server: &Server,
    path: &str,
) -> Result<(Client<Session>, UnboundedReceiver<Come>)> {
    let url = format!("ws://{}{path}", server.plain);
    let config = ClientConfig::new(url.as_str()).reconnect_interval(Duration::from_millis(1));
    let (come, mut comes) = unbounded_channel();
    let (client, ended) = ezsockets::connect(|_| Session(come), config).await;
    tokio::spawn(ended);
    while !matches!(comes.recv().await.ok_or("closed")?, Come::Connected) {}
    Ok((client, comes))
}

async fn receive(comes: &mut UnboundedReceiver<Come>) -> Result<()> {
    while !matches!(comes.recv().await.ok_or("closed")?, Come::Message) {}
    Ok(())
}

impl Contender for Ezsockets {
    fn name(&self) -> &'static str {
        "ezsockets (tokio)"
    }

    fn send(&self, server: &Server, load: Load) -> Result<Option<Duration>> {
        run(async move {
            let (client, mut comes) = connect(server, &load.sink()).await?;
            let payload = Bytes::from(load.payload());
            let begun = Instant::now();
            for _ in 0..load.count {
                client.binary(payload.clone())?;
            }
            receive(&mut comes).await?;
            Ok(Some(begun.elapsed()))
        })
    }

    fn receive(&self, server: &Server, load: Load) -> Result<Option<Duration>> {
        run(async move {
            let (client, mut comes) = connect(server, &load.source()).await?;
            client.text("go")?;
            let begun = Instant::now();
            for _ in 0..load.count {
                receive(&mut comes).await?;
            }
            Ok(Some(begun.elapsed()))
        })
    }

    fn pipelined(&self, server: &Server, count: usize, window: usize) -> Result<Option<Duration>> {
        run(async move {
            let (client, mut comes) = connect(server, "/echo").await?;
            let payload = Bytes::from_static(&[7; 32]);
            let begun = Instant::now();
            for number in 0..count + window {
                if number < count {
                    client.binary(payload.clone())?;
                }
                if number >= window {
                    receive(&mut comes).await?;
                }
            }
            Ok(Some(begun.elapsed()))
        })
    }

    fn echo(&self, server: &Server, count: usize, feed: usize) -> Result<Option<Echoes>> {
        run(async move {
            let (client, mut comes) = connect(server, &format!("/echo?{feed}")).await?;
            let payload = Bytes::from_static(&[7; 32]);
            let mut watch = Watch::start(count);
            loop {
                client.binary(payload.clone())?;
                for _ in 0..=feed {
                    receive(&mut comes).await?;
                }
                if watch.lap() == count {
                    return Ok(Some(watch.stop()));
                }
            }
        })
    }

    fn idle(&self, server: &Server, count: usize, measure: &mut dyn FnMut()) -> Result<bool> {
        run(async move {
            let mut clients = Vec::with_capacity(count);
            for _ in 0..count {
                clients.push(connect(server, "/echo").await?);
            }
            tokio::task::yield_now().await;
            measure();
            Ok(true)
        })
    }

    fn reconnect(&self, server: &Server) -> Result<Option<Duration>> {
        run(async move {
            let (client, mut comes) = connect(server, "/reset").await?;
            let begun = Instant::now();
            client.text("go")?;
            while !matches!(comes.recv().await.ok_or("closed")?, Come::Connected) {}
            Ok(Some(begun.elapsed()))
        })
    }
}

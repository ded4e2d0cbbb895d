//! everlink, received from its mailbox or by a handler.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use everlink::config::{Backoff, Compression};
use everlink::{Client, ClientBuilder, Event, Message};

use super::{Contender, Echoes, Load, Result, Watch};
use crate::server::Server;

pub struct Everlink {
    pub handler: bool,
}

fn builder(server: &Server, path: &str, tls: bool) -> Result<ClientBuilder> {
    let builder = if tls {
        let url = format!("wss://localhost:{}{path}", server.tls.port());
        Client::builder(&url).tls(server.client_tls()?)
    } else {
        Client::builder(format!("ws://{}{path}", server.plain))
    };
    Ok(builder.backoff(Backoff::fixed(Duration::ZERO)))
}

impl Contender for Everlink {
    fn name(&self) -> &'static str {
        if self.handler { "everlink, handler" } else { "everlink, channel" }
    }

    fn can(&self, _: Load) -> bool {
        true
    }

    fn send(&self, server: &Server, load: Load) -> Result<Option<Duration>> {
        let client = builder(server, &load.sink(), load.tls)?.connect()?;
        let message = Message::from(load.payload());
        let begun = Instant::now();
        for _ in 0..load.count {
            client.send(message.clone())?;
        }
        client.recv()?;
        Ok(Some(begun.elapsed()))
    }

    fn receive(&self, server: &Server, load: Load) -> Result<Option<Duration>> {
        let mut builder = builder(server, &load.source(), load.tls)?;
        if load.is_deflated() {
            builder = builder.compression(Compression::new());
        }
        let (done, ended) = mpsc::channel();
        if self.handler {
            let mut left = load.count;
            builder = builder.on_message(move |_, _| {
                left -= 1;
                if left == 0 {
                    let _ = done.send(Instant::now());
                }
            });
        }
        let client = builder.connect()?;
        client.send("go")?;
        let begun = Instant::now();
        if self.handler {
            return Ok(Some(ended.recv()?.duration_since(begun)));
        }
        for _ in 0..load.count {
            client.recv()?;
        }
        Ok(Some(begun.elapsed()))
    }

    fn pipelined(&self, server: &Server, count: usize, window: usize) -> Result<Option<Duration>> {
        let message = Message::from(vec![7; 32]);
        if !self.handler {
            let client = builder(server, "/echo", false)?.connect()?;
            let begun = Instant::now();
            for number in 0..count + window {
                if number < count {
                    client.send(message.clone())?;
                }
                if number >= window {
                    client.recv()?;
                }
            }
            return Ok(Some(begun.elapsed()));
        }
        let (done, ended) = mpsc::channel();
        let (mut received, again) = (0, message.clone());
        let client = builder(server, "/echo", false)?
            .on_message(move |sender, _| {
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
        Ok(Some(ended.recv()?.duration_since(begun)))
    }

    fn echo(&self, server: &Server, count: usize, feed: usize) -> Result<Option<Echoes>> {
        let message = Message::from(vec![7; 32]);
        if !self.handler {
            let client = builder(server, &format!("/echo?{feed}"), false)?.connect()?;
            let mut watch = Watch::start(count);
            loop {
                client.send(message.clone())?;
                for _ in 0..=feed {
                    client.recv()?;
                }
                if watch.lap() == count {
                    return Ok(Some(watch.stop()));
                }
            }
        }
        // the handler sends the next as soon as one is back
        let (done, ended) = mpsc::channel();
        let (mut watch, mut left, again) = (None, feed, message.clone());
        let client = builder(server, &format!("/echo?{feed}"), false)?
            .on_message(move |sender, _| {
                if left > 0 {
                    left -= 1;
                    return;
                }
                left = feed;
                let watch = watch.get_or_insert_with(|| Watch::start(count));
                if watch.lap() <= count {
                    let _ = sender.try_send(again.clone());
                } else {
                    let _ = done.send(watch.stop());
                }
            })
            .connect()?;
        client.send(message)?;
        Ok(Some(ended.recv()?))
    }

    fn idle(&self, server: &Server, count: usize, measure: &mut dyn FnMut()) -> Result<bool> {
        let mut clients = Vec::with_capacity(count);
        for _ in 0..count {
            let builder = builder(server, "/echo", false)?;
            let builder = if self.handler { builder.on_message(|_, _| {}) } else { builder };
            clients.push(builder.connect()?);
        }
        measure();
        drop(clients);
        Ok(true)
    }

    fn reconnect(&self, server: &Server) -> Result<Option<Duration>> {
        let client = builder(server, "/reset", false)?.connect()?;
        let events = client.subscribe();
        let begun = Instant::now();
        client.send("go")?;
        while !matches!(events.recv()?, Event::Connected { .. }) {}
        Ok(Some(begun.elapsed()))
    }
}

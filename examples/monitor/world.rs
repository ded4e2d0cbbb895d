//! A server, and proxies before it that break things: each in a way of its own, over and over.

use std::io;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use everlink::chaos::{Cut, Direction, FaultProxy, Faults};
use everlink::config::{Backoff, Heartbeat};
use everlink::{Client, ClientBuilder, Server, Session};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The pause between two messages of the server to a client.
const PACE: Duration = Duration::from_millis(20);

/// What a proxy does to connections, and for how long.
type Play = Vec<(Faults, Option<Cut>, Duration)>;

/// It lives until it is dropped.
pub struct World {
    _server: Server,
    addresses: Vec<(String, std::net::SocketAddr)>,
    /// Dropped at the end: then those who break things go home.
    _stop: Sender<()>,
}

impl World {
    pub fn start() -> Result<Self> {
        let server = Server::bind("127.0.0.1:0", |session: Session| {
            // whatever comes is sent back, and in the pauses there is a tick
            loop {
                let sent = match session.recv_timeout(PACE) {
                    Ok(message) => session.send(message),
                    Err(everlink::Error::Timeout) => session.send("tick"),
                    Err(_) => return,
                };
                if sent.is_err() {
                    return;
                }
            }
        })?;
        let (stop, stopped) = bounded::<()>(0);
        let mut addresses = Vec::new();
        for (seed, (name, play)) in plays().into_iter().enumerate() {
            let proxy = FaultProxy::with_seed(server.local_addr(), seed as u64)?;
            addresses.push((name.to_owned(), proxy.address()));
            let stopped = stopped.clone();
            thread::Builder::new().name(format!("breaks {name}")).spawn(move || {
                let is_over = |time| {
                    matches!(stopped.recv_timeout(time), Err(RecvTimeoutError::Disconnected))
                };
                for (faults, cut, time) in play.iter().cycle() {
                    if let Err(error) = apply(&proxy, *faults, *cut) {
                        log::warn!("{error}");
                    }
                    if is_over(*time) {
                        return;
                    }
                }
            })?;
        }
        Ok(Self { _server: server, addresses, _stop: stop })
    }

    /// Names and builders of clients.
    pub fn clients(&self) -> impl Iterator<Item = (String, ClientBuilder)> + '_ {
        self.addresses.iter().map(|(name, address)| {
            let backoff = Backoff::exponential()
                .initial(Duration::from_millis(500))
                .max(Duration::from_secs(4));
            let builder = Client::builder(format!("ws://{address}/{}", name.replace(' ', "-")))
                .heartbeat(
                    Heartbeat::every(Duration::from_millis(500)).dead_after(Duration::from_secs(2)),
                )
                .stable_after(Duration::from_secs(2))
                .backoff(backoff)
                .on_message(|_, _| {});
            (name.clone(), builder)
        })
    }
}

fn apply(proxy: &FaultProxy, faults: Faults, cut: Option<Cut>) -> io::Result<()> {
    proxy.set(faults)?;
    if let Some(how) = cut {
        proxy.cut(how);
    }
    Ok(())
}

fn plays() -> Vec<(&'static str, Play)> {
    let (seconds, none) = (Duration::from_secs, Faults::none);
    vec![
        ("steady", vec![(none(), None, seconds(3600))]),
        ("distant", vec![(none().delay(Duration::from_millis(60)), None, seconds(3600))]),
        (
            "congested",
            (0..6)
                .map(|step: u64| {
                    let delay = Duration::from_millis(4 + step * step * 4);
                    (none().delay(delay), None, seconds(2))
                })
                .collect(),
        ),
        ("reset", vec![(none(), None, seconds(5)), (none(), Some(Cut::Reset), seconds(1))]),
        (
            "silent",
            vec![(none(), None, seconds(6)), (none().stall(Direction::Both), None, seconds(3))],
        ),
        (
            "restarts",
            vec![(none(), None, seconds(7)), (none().refuse(), Some(Cut::EndOfStream), seconds(4))],
        ),
    ]
}

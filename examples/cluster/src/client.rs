//! A client that counts: what it has sent and is not stored, what it has received and in which
//! order.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select};
use everlink::Client;
use everlink::config::{Backoff, Heartbeat, Timeouts};

use crate::Result;
use crate::wire::{Ask, Hello, Position, Tell};

/// What all clients of a test have seen. One thread waits for it.
pub struct Ledger {
    seen: Mutex<Seen>,
    /// Room for one: whoever looks then looks at all.
    changed: (Sender<()>, Receiver<()>),
    stopped: Receiver<()>,
}

#[derive(Default)]
pub struct Seen {
    /// Messages received, by all of them together.
    pub received: u64,
    /// Messages that Redis has.
    pub stored: u64,
    /// What should not be: the first few.
    pub wrong: Vec<String>,
    /// How many users each client was told of last.
    pub online: HashMap<String, usize>,
    /// How often a client was told that something may be gone.
    pub gaps: u64,
    /// Links made, by node.
    pub welcomes: BTreeMap<String, u64>,
    /// From a client's call to each other's handler, in microseconds.
    pub latencies: Vec<u32>,
}

impl Ledger {
    /// `stopped` disconnects when there is no use in waiting.
    pub fn new(stopped: &Receiver<()>) -> Arc<Self> {
        let (seen, stopped) = (Mutex::default(), stopped.clone());
        Arc::new(Self { seen, changed: bounded(1), stopped })
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, note: impl FnOnce(&mut Seen)) {
        note(&mut self.seen());
        // full: it is going to look anyway
        let _ = self.changed.0.try_send(());
    }

    /// Waits until this holds; false if it does not by then, an error if the process is to end.
    pub fn wait(&self, deadline: Instant, holds: impl Fn(&Seen) -> bool) -> Result<bool> {
        self.wait_until(deadline, || holds(&self.seen()))
    }

    /// The same, for what a client knows: its handler has that locked while it notes something here,
    /// so it must not be asked for with this locked.
    pub fn wait_until(&self, deadline: Instant, holds: impl Fn() -> bool) -> Result<bool> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if holds() {
                return Ok(true);
            }
            if left.is_zero() {
                return Ok(false);
            }
            select! {
                recv(self.changed.1) -> _ => {}
                recv(self.stopped) -> _ => return Err("stopped".into()),
                default(left) => {}
            }
        }
    }
}

impl Seen {
    fn wrong(&mut self, what: String) {
        if self.wrong.len() < 20 {
            self.wrong.push(what);
        }
    }
}

pub struct Chatter {
    pub user: String,
    /// Held until it may read; dropped before the client, which waits for its handler.
    gate: Option<Sender<()>>,
    client: Client,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    since: Option<Position>,
    /// What it is called in its messages, once it was told.
    id: Option<String>,
    said: u64,
    /// What was said, by its number, until Redis has it.
    unstored: BTreeMap<u64, String>,
    /// The last number of each client.
    heard: HashMap<String, u64>,
}

/// A word that nobody else has.
pub fn random_word() -> String {
    // std seeds it at random
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn json(ask: &Ask) -> String {
    serde_json::to_string(ask).unwrap_or_default()
}

impl Chatter {
    /// Times of messages are counted from `origin`.
    pub fn start(
        user: String,
        address: SocketAddr,
        ledger: Arc<Ledger>,
        origin: Instant,
    ) -> Result<Self> {
        Self::start_at(user, address, ledger, origin, None, false)
    }

    /// Begins with what it has; a slow one reads nothing that was said before it is
    /// [hurried](Self::hurry).
    pub fn start_at(
        user: String,
        address: SocketAddr,
        ledger: Arc<Ledger>,
        origin: Instant,
        since: Option<Position>,
        is_slow: bool,
    ) -> Result<Self> {
        let (gate, opened) = bounded(0);
        let gate = is_slow.then_some(gate);
        let state = Arc::new(Mutex::new(State { since, ..State::default() }));
        let (greeting, hearing) = (Arc::clone(&state), Arc::clone(&state));
        let (name, me, word) = (user.clone(), user.clone(), random_word());
        let client = Client::builder(format!("ws://{address}/ws"))
            .heartbeat(Heartbeat::every(Duration::from_secs(5)).dead_after(Duration::from_secs(15)))
            .backoff(
                Backoff::exponential()
                    .initial(Duration::from_millis(100))
                    .max(Duration::from_secs(1)),
            )
            .timeouts(Timeouts::new().close(Duration::from_millis(500)))
            // on each link: who this is, what it has, and what may be lost; numbers make it harmless
            // that some of it comes twice
            .login(move |login| {
                let (hello, rest) = {
                    let state = lock(&greeting);
                    let says = state.unstored.iter();
                    let says = says.map(|(seq, text)| Ask::Say { seq: *seq, text: text.clone() });
                    let says: Vec<String> = says.map(|say| json(&say)).collect();
                    let first = state.unstored.keys().next();
                    let stored = first.map_or(state.said, |first| first - 1);
                    let (user, secret, since) = (name.clone(), word.clone(), state.since);
                    (Ask::Hello(Hello { user, secret, since, stored }), says)
                };
                login.send(json(&hello))?;
                for say in rest {
                    login.send(say)?;
                }
                Ok(())
            })
            .on_message(move |_, message| match serde_json::from_slice(message.as_bytes()) {
                Ok(tell) => {
                    if let Tell::Said { .. } = &tell {
                        // an error as soon as the gate is dropped
                        let _ = opened.recv();
                    }
                    hear(&me, &mut lock(&hearing), &ledger, tell, origin);
                }
                Err(error) => ledger.note(|seen| seen.wrong(format!("{me}: {error}"))),
            })
            .start()?;
        Ok(Self { user, gate, client, state })
    }

    /// Says the time, and something to fill a line.
    pub fn say(&self, origin: Instant) -> Result<()> {
        let text = format!("{} {}", origin.elapsed().as_micros(), "x".repeat(80));
        let seq = {
            let mut state = lock(&self.state);
            state.said += 1;
            let seq = state.said;
            state.unstored.insert(seq, text.clone());
            seq
        };
        self.client.send(json(&Ask::Say { seq, text }))?;
        Ok(())
    }

    /// How many messages are not known to be stored.
    pub fn unstored(&self) -> usize {
        lock(&self.state).unstored.len()
    }

    /// What it is called in its messages.
    pub fn id(&self) -> String {
        lock(&self.state).id.clone().unwrap_or_default()
    }

    /// The last number of each client that it has heard.
    pub fn heard(&self) -> HashMap<String, u64> {
        lock(&self.state).heard.clone()
    }

    /// Reads as fast as it can from now on.
    pub fn hurry(&mut self) {
        self.gate = None;
    }

    pub fn events(&self) -> everlink::Events {
        self.client.subscribe()
    }

    pub fn start_close(&self) {
        let _ = self.client.start_close(1000, "");
    }
}

fn hear(me: &str, state: &mut State, ledger: &Ledger, tell: Tell, origin: Instant) {
    match tell {
        Tell::Welcome { node, at, client } => {
            state.since = Some(at);
            state.id = Some(client);
            ledger.note(|seen| *seen.welcomes.entry(node).or_default() += 1);
        }
        Tell::Said { at, from, client, seq, text } => {
            let sent = text.split(' ').next().and_then(|micros| micros.parse::<u64>().ok());
            let micros = origin.elapsed().as_micros() as u64;
            let latency = sent.map(|sent| micros.saturating_sub(sent));
            let last = state.heard.entry(client).or_default();
            // whoever has come later, or is told of a gap, begins somewhere
            let expected = if *last == 0 { seq } else { *last + 1 };
            *last = seq;
            let is_later = state.since.is_none_or(|since| at > since);
            state.since = Some(at);
            ledger.note(|seen| {
                seen.received += 1;
                seen.latencies.extend(latency.and_then(|latency| u32::try_from(latency).ok()));
                if seq != expected {
                    seen.wrong(format!("{me}: {seq} of {from} instead of {expected}"));
                }
                if !is_later {
                    seen.wrong(format!("{me}: {at} comes after a later one"));
                }
            });
        }
        Tell::Stored { seq } => {
            let rest = state.unstored.split_off(&(seq + 1));
            let stored = std::mem::replace(&mut state.unstored, rest).len() as u64;
            ledger.note(|seen| seen.stored += stored);
        }
        Tell::Online { count, .. } => {
            ledger.note(|seen| {
                seen.online.insert(me.to_owned(), count);
            });
        }
        Tell::Gap { at } => {
            state.since = Some(at);
            state.heard.clear();
            ledger.note(|seen| seen.gaps += 1);
        }
    }
}

//! One server process: sessions on one side, Redis on the other.
//!
//! | thread | does |
//! | --- | --- |
//! | `feed` | waits for new entries of the stream, and queues them for every session |
//! | `store` | stores what clients say, in batches, and tells each what Redis has |
//! | `presence` | says who is here, hears who is elsewhere |
//! | each session's handler | greets, replays what was missed, then hands over what its client says |

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use everlink::http::StatusCode;
use everlink::{Answer, Limits, Queue, Server, Session};

use crate::Result;
use crate::presence;
use crate::room::{Room, tell};
use crate::store::{self, Draft, Store, Stored, spawn};
use crate::wire::{Ask, Position, Tell};

const PAGE: &str = include_str!("page.html");

/// How long a client may take to say who it is.
const HELLO: Duration = Duration::from_secs(10);

/// How much is stored in one round trip.
const BATCH: usize = 256;

/// The client has left a message out: it is to begin again with the one that is missing.
const OUT_OF_ORDER: u16 = 4001;

/// How many handlers at once may ask Redis for what their clients have missed.
const REPLAYS: usize = 8;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Where to listen; port 0 takes a free one, which is printed
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// What other nodes know it as
    #[arg(long)]
    name: String,
    /// redis://host:port
    #[arg(long)]
    redis: String,
}

struct Node {
    name: String,
    room: Arc<Room>,
    drafts: Sender<(Draft, Session)>,
    /// Connections for replays: who has taken one puts it back.
    replays: (Sender<Store>, Receiver<Store>),
    is_fed: AtomicBool,
}

pub fn run(options: &Options) -> Result<()> {
    let stopped = crate::stopped()?;
    let open = || Store::new(&options.redis, stopped.clone());
    let (drafts, jobs) = bounded(16 * BATCH);
    let replays = bounded(REPLAYS);
    for _ in 0..REPLAYS {
        replays.0.send(open()?)?;
    }
    let node = Arc::new(Node {
        name: options.name.clone(),
        room: Arc::default(),
        drafts,
        replays,
        is_fed: AtomicBool::new(false),
    });
    let (feeding, feed) = (Arc::clone(&node), open()?);
    spawn("feed", move || feeding.feed(feed))?;
    let storing = open()?;
    spawn("store", move || store_all(storing, &jobs))?;
    let (room, name, end, store) =
        (Arc::clone(&node.room), node.name.clone(), stopped.clone(), open()?);
    let presence = spawn("presence", move || presence::run(store, &name, &room, &end))?;

    let (asked, serving) = (Arc::clone(&node), Arc::clone(&node));
    let server = Server::builder()
        .name(&*options.name)
        .max_connections(10_000)
        .max_connections_per_address(10_000)
        .limits(Limits::new().message(8 * 1024))
        .outbox(Queue::new().messages(4096))
        .on_request(move |incoming| match incoming.path() {
            "/" => Answer::page("text/html; charset=utf-8", PAGE),
            "/ws" => Answer::accept(),
            // haproxy sends nobody to a node that Redis does not feed
            "/health" if asked.is_fed.load(Relaxed) => Answer::page("text/plain", "fed\n"),
            "/health" => Answer::reject(StatusCode::SERVICE_UNAVAILABLE),
            _ => Answer::reject(StatusCode::NOT_FOUND),
        })
        .bind(options.listen, move |session| {
            if let Err(error) = serving.serve(&session) {
                log::info!("{}: {error}", session.peer_addr());
            }
            serving.room.leave(&session);
        })?;
    println!("{}", server.local_addr());
    std::io::stdout().flush()?;

    // an error: the other end is dropped by the signal
    let _ = stopped.recv();
    server.shutdown(Duration::from_secs(2));
    let _ = presence.join();
    Ok(())
}

impl Node {
    /// Hands on what comes into the stream, from its present end on.
    fn feed(&self, mut store: Store) {
        let Some((_, mut place)) = store.persist(store::ends) else { return };
        self.is_fed.store(true, Relaxed);
        loop {
            let entries = store.attempt(|connection| store::wait_after(connection, place));
            self.is_fed.store(entries.is_ok(), Relaxed);
            let entries = match entries {
                Ok(entries) => entries,
                Err(error) => {
                    log::warn!("feed: {error}");
                    let Some(entries) = store.persist(|to| store::after(to, place)) else { return };
                    entries
                }
            };
            if let Some(last) = entries.last() {
                place = last.at;
                self.room.deliver(&entries);
            }
        }
    }

    fn serve(&self, session: &Session) -> Result<()> {
        let first = session.recv_timeout(HELLO)?;
        let Ask::Hello { user, since } = serde_json::from_slice(first.as_bytes())? else {
            session.close_with(1002, "say hello first")?;
            return Ok(());
        };
        self.replay(session, &user, since)?;
        for message in session {
            let Ask::Say { seq, text } = serde_json::from_slice(message.as_bytes())? else {
                continue;
            };
            let draft = Draft { user: user.clone(), seq, text };
            // while Redis is slow, so is what comes from the client
            self.drafts.send((draft, session.clone()))?;
        }
        Ok(())
    }

    /// Tells a client what it has missed, and lets it in when that is all.
    fn replay(&self, session: &Session, user: &str, since: Option<Position>) -> Result<()> {
        let mut store = self.replays.1.recv()?;
        let result = self.replay_with(&mut store, session, user, since);
        self.replays.0.send(store)?;
        result
    }

    fn replay_with(
        &self,
        store: &mut Store,
        session: &Session,
        user: &str,
        since: Option<Position>,
    ) -> Result<()> {
        let (first, last) = store.attempt(store::ends)?;
        let mut has = since.unwrap_or(last);
        session.send(Tell::Welcome { node: self.name.clone(), at: has }.to_json())?;
        // the beginning of everything is no entry that could be gone
        if has < first && has != Position::default() {
            session.send(Tell::Gap { first }.to_json())?;
        }
        loop {
            let entries = store.attempt(|connection| store::after(connection, has))?;
            for entry in &entries {
                session.send(entry.json.as_str())?;
                has = entry.at;
            }
            if entries.is_empty() && self.room.join(session, user, has) {
                return Ok(());
            }
        }
    }
}

/// Stores what clients say, and tells each up to where Redis has it.
fn store_all(mut store: Store, jobs: &Receiver<(Draft, Session)>) {
    while let Ok(first) = jobs.recv() {
        let batch = std::iter::once(first).chain(jobs.try_iter().take(BATCH - 1));
        let (drafts, sessions): (Vec<Draft>, Vec<Session>) = batch.unzip();
        // stored twice it is stored once, so that an answer which was lost does no harm
        let Some(results) = store.persist(|to| store::store(to, &drafts)) else { return };
        let mut stored = BTreeMap::new();
        for ((draft, session), result) in drafts.iter().zip(&sessions).zip(results) {
            if result == Stored::Gap {
                let _ = session.start_close(OUT_OF_ORDER, "a message is missing");
            } else {
                stored.insert(session.id(), (session, draft.seq));
            }
        }
        for (session, seq) in stored.into_values() {
            tell(session, Tell::Stored { seq }.to_json());
        }
    }
}

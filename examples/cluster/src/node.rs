//! One server process: sessions on one side, Redis on the other.
//!
//! | thread | does |
//! | --- | --- |
//! | `feed` | waits for new entries of the stream, and publishes them in the topic of this node |
//! | `store` | stores what clients say, in batches, and tells each what Redis has |
//! | `presence` | says who is here, hears who is elsewhere |
//! | each session's handler | greets, replays what was missed, then hands over what its client says |

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select};
use everlink::config::{Limits, Queue, Timeouts};
use everlink::http::StatusCode;
use everlink::{Answer, Server, ServerHandle, Session};

use crate::room::{Room, TRY_AGAIN, tell};
use crate::store::{Pool, Store};
use crate::stream::{self, Draft, Stored};
use crate::wire::{Ask, Hello, SAY_MOST, TELL_MOST, Tell, is_seq};
use crate::{Result, Stop, presence};

const PAGE: &str = include_str!("page.html");

/// How long a client may take to say who it is.
const HELLO: Duration = Duration::from_secs(10);

/// How long it may take to read that it is sent away, and what was queued before that.
const GOODBYE: Duration = Duration::from_secs(15);

/// How much is stored in one round trip.
const BATCH: usize = 256;

/// The client has left a message out: it is to begin again with the one that is missing.
pub const OUT_OF_ORDER: u16 = 4001;

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
    /// redis://host:port, or redis+unix:///path
    #[arg(long)]
    redis: String,
    /// End when standard input does: a node that is started by a program ends with it
    #[arg(long)]
    until_eof: bool,
}

struct Node {
    name: String,
    room: Room,
    drafts: Sender<(Draft, Session)>,
    replays: Pool,
    is_fed: AtomicBool,
}

pub fn run(options: &Options, stop: Stop, stopped: &Receiver<()>) -> Result<()> {
    if options.until_eof {
        // waits for the end of the process that has started this one, so nobody waits for it
        spawn("stdin", move || {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            stop.stop();
        })?;
    }
    let open = || Store::new(&options.redis, stopped.clone());
    let mut feed = open()?;
    // before anybody is let in: what a client has is compared with it
    let Some(place) = feed.persist(stream::last) else { return Ok(()) };
    let (drafts, jobs) = bounded(16 * BATCH);
    let node = Arc::new(Node {
        name: options.name.clone(),
        room: Room::new(place),
        drafts,
        replays: Pool::new(REPLAYS, open)?,
        is_fed: AtomicBool::new(true),
    });
    let (storing, (last, is_last)) = (open()?, bounded::<()>(0));
    let storing = spawn("store", move || store_all(storing, &jobs, &is_last))?;
    let (announcing, announcements, end) = (Arc::clone(&node), open()?, stopped.clone());
    // full: it is going to look anyway
    let (change, changed) = bounded(1);

    let (asked, serving) = (Arc::clone(&node), Arc::clone(&node));
    let server = Server::builder()
        .name(&*options.name)
        .max_connections(10_000)
        .max_connections_per_address(10_000)
        .limits(Limits::new().message(TELL_MOST))
        .memory_limit(1 << 30)
        .outbox(Queue::new().messages(4096))
        .on_presence(move |_, _, _| {
            let _ = change.try_send(());
        })
        // who is sent away for being slow is slow to read that, too
        .timeouts(Timeouts::new().close(GOODBYE))
        .on_request(move |incoming| match incoming.path() {
            "/" => Answer::page("text/html; charset=utf-8", PAGE),
            "/ws" => Answer::accept(),
            // this process: haproxy cuts the sessions of a node that does not say so, and Redis, which
            // all nodes share, must not be able to cut them all
            "/health" => Answer::page("text/plain", "up\n"),
            // for people and monitors
            "/fed" if asked.is_fed.load(Relaxed) => Answer::page("text/plain", "fed\n"),
            "/fed" => Answer::reject(StatusCode::SERVICE_UNAVAILABLE),
            _ => Answer::reject(StatusCode::NOT_FOUND),
        })
        .bind(options.listen, move |session| {
            if let Err(error) = serving.serve(&session) {
                log::info!("{}: {error}", session.peer_addr());
            }
            serving.room.leave(&session);
        })?;
    let (feeding, handle) = (Arc::clone(&node), server.handle());
    let feed = spawn("feed", move || feeding.feed(feed, &handle))?;
    let handle = server.handle();
    let presence = spawn("presence", move || {
        let here = (&announcing.room, &handle);
        presence::run(announcements, &announcing.name, here, &changed, &end);
    })?;
    println!("{}", server.local_addr());
    std::io::stdout().flush()?;

    // an error: the other end is dropped by the signal
    let _ = stopped.recv();
    server.shutdown(Duration::from_secs(2));
    // nobody says anything now; what was said is stored
    drop(last);
    for thread in [storing, feed, presence] {
        if thread.join().is_err() {
            log::error!("a thread has panicked");
        }
    }
    Ok(())
}

/// A thread with a name.
fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(run)
}

impl Node {
    /// Hands on what comes into the stream.
    fn feed(&self, mut store: Store, server: &ServerHandle) {
        let mut place = self.room.handed_out().to;
        while !store.is_stopped() {
            let page = match store.attempt(|connection| stream::wait_after(connection, place)) {
                Ok(page) => page,
                Err(error) => {
                    log::warn!("feed: {error}");
                    self.is_fed.store(false, Relaxed);
                    let Some(page) = store.persist(|to| stream::after(to, place)) else { return };
                    page
                }
            };
            self.is_fed.store(true, Relaxed);
            place = page.place;
            self.room.deliver(server, &page);
        }
    }

    fn serve(&self, session: &Session) -> Result<()> {
        let first = session.recv_timeout(HELLO)?;
        let hello = match serde_json::from_slice(first.as_bytes()) {
            Ok(Ask::Hello(hello)) if hello.is_valid() => hello,
            _ => {
                session.close_with(1002, "say hello first")?;
                return Ok(());
            }
        };
        if let Err(error) = self.replay(session, &hello) {
            session.close_with(TRY_AGAIN, "nothing can be replayed now")?;
            return Err(error);
        }
        for message in session {
            if message.len() > SAY_MOST {
                session.close_with(1009, "say less at once")?;
                return Ok(());
            }
            let Ask::Say { seq, text } = serde_json::from_slice(message.as_bytes())? else {
                continue;
            };
            if !is_seq(seq) {
                session.close_with(OUT_OF_ORDER, "no such number")?;
                return Ok(());
            }
            let Hello { user, secret, .. } = &hello;
            let draft = Draft { user: user.clone(), secret: secret.clone(), seq, text };
            // while Redis is slow, so is what comes from the client
            self.drafts.send((draft, session.clone()))?;
        }
        Ok(())
    }

    /// Tells a client what it has missed, and lets it in when that is all.
    fn replay(&self, session: &Session, hello: &Hello) -> Result<()> {
        let Hello { user, secret, since, stored } = hello;
        let client = self.replays.attempt(|to| stream::remind(to, user, secret, *stored))?;
        let mut has = match since {
            Some(since) => *since,
            None => self.replays.attempt(stream::last)?,
        };
        session.send(Tell::Welcome { node: self.name.clone(), at: has, client }.to_json())?;
        loop {
            let seen = self.room.handed_out();
            let page = self.replays.attempt(|connection| stream::after(connection, has))?;
            if let Some(at) = page.gap {
                session.send(Tell::Gap { at }.to_json())?;
            }
            // may take as long as the client does: no connection is held
            for entry in &page.entries {
                session.send(entry.json.as_str())?;
            }
            has = page.place;
            if !page.is_end {
                continue;
            }
            if self.room.join(session, user, has, seen) {
                return Ok(());
            }
            if has < seen.to {
                // Redis has less than was handed out here, which the feed is about to notice
                return Err("the stream ends before what was handed out".into());
            }
        }
    }
}

/// Stores what clients say, and tells each up to where Redis has it; until `is_last` disconnects and
/// nothing is left.
fn store_all(mut store: Store, jobs: &Receiver<(Draft, Session)>, is_last: &Receiver<()>) {
    loop {
        let first = select! {
            recv(jobs) -> job => job.ok(),
            recv(is_last) -> _ => jobs.try_recv().ok(),
        };
        let Some(first) = first else { return };
        let batch = std::iter::once(first).chain(jobs.try_iter().take(BATCH - 1));
        let (drafts, sessions): (Vec<Draft>, Vec<Session>) = batch.unzip();
        // stored twice it is stored once, so that an answer which was lost does no harm
        let Some(results) = store.persist(|to| stream::store(to, &drafts)) else { return };
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

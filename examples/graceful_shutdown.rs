//! A server that is replaced while its clients work: it answers what it has taken, says goodbye with
//! 1001 ("going away"), and its clients go on with its successor. No job is lost, none done twice.
//!
//! ```text
//! cargo run --example graceful_shutdown
//! ```
//!
//! The program interrupts itself in the middle of the work, as a service manager would; the successor
//! listens on the same port.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, after, bounded, select, unbounded};
use everlink::config::Backoff;
use everlink::{Client, CloseCode, Message, Server, Session};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const CLIENTS: u32 = 4;
/// Jobs of each client.
const JOBS: u32 = 200;
/// After so many the program is interrupted.
const INTERRUPTED_AFTER: u32 = 100;
const PATIENCE: Duration = Duration::from_secs(10);

/// A server whose handlers can be asked to stop, and waited for.
struct Service {
    server: Server,
    /// Nothing is ever sent through it: when it is dropped, every handler notices.
    stop: Sender<Infallible>,
    /// The sessions whose handlers have finished.
    finished: Receiver<u64>,
}

impl Service {
    fn start(address: &str, done: &Arc<AtomicU32>) -> Result<Self> {
        let ((stop, stopping), (finish, finished)) = (bounded(0), unbounded());
        let done = Arc::clone(done);
        let server = Server::builder().bind_with_channel(address, move |session, jobs| {
            if let Err(error) = work(&session, &jobs, &stopping, &done) {
                println!("session {}: {error}", session.id());
            }
            let _ = finish.send(session.id());
        })?;
        Ok(Self { server, stop, finished })
    }

    /// Lets every handler finish, and ends the server; returns whether all of that was in time.
    fn shut_down(self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        // who connects from here on is told to go away at once
        drop(self.stop);
        let mut open: BTreeSet<u64> = self.server.sessions().iter().map(Session::id).collect();
        while !open.is_empty() {
            let Ok(id) = self.finished.recv_deadline(deadline) else { break };
            open.remove(&id);
        }
        self.server.shutdown(Duration::from_secs(1)).drained && open.is_empty()
    }
}

/// Does jobs until the session is over or the service stops.
fn work(
    session: &Session,
    jobs: &Receiver<Message>,
    stopping: &Receiver<Infallible>,
    done: &AtomicU32,
) -> Result<()> {
    loop {
        select! {
            recv(jobs) -> job => match job {
                Ok(job) => answer(session, job, done)?,
                Err(_) => return Ok(()),
            },
            recv(stopping) -> _ => break,
        }
    }
    // what has come is done; what comes behind it is left to the successor
    for job in jobs.try_iter().take(jobs.len()) {
        answer(session, job, done)?;
    }
    session.close_with(CloseCode::GOING_AWAY, "restarting")?;
    Ok(())
}

/// Does a job, which takes a moment, and says so.
fn answer(session: &Session, job: Message, done: &AtomicU32) -> Result<()> {
    let _ = after(Duration::from_millis(1)).recv();
    if done.fetch_add(1, SeqCst) + 1 == INTERRUPTED_AFTER {
        interrupt_myself()?;
    }
    Ok(session.send(job)?)
}

type Jobs = Arc<Mutex<BTreeSet<u32>>>;

fn lock(jobs: &Jobs) -> MutexGuard<'_, BTreeSet<u32>> {
    jobs.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has all its jobs done, by whichever server there is.
fn client(url: &str) -> Result<()> {
    let open: Jobs = Arc::new(Mutex::new((0..JOBS).collect()));
    let asked = Arc::clone(&open);
    let client = Client::builder(url)
        .backoff(Backoff::fixed(Duration::from_millis(50)))
        // on each link anew: what has no answer yet
        .login(move |session| {
            let open: Vec<u32> = lock(&asked).iter().copied().collect();
            for job in open {
                session.send(job.to_string())?;
            }
            Ok(())
        })
        .start()?;
    while !lock(&open).is_empty() {
        let job = client.recv_timeout(PATIENCE)?.to_string().parse()?;
        lock(&open).remove(&job);
    }
    client.close();
    Ok(())
}

fn main() -> Result<()> {
    env_logger::init();
    let interrupts = interrupts()?;
    let done = Arc::new(AtomicU32::new(0));
    let service = Service::start("127.0.0.1:0", &done)?;
    let address = service.server.local_addr().to_string();
    let url = format!("ws://{address}");
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let url = url.clone();
            thread::spawn(move || client(&url))
        })
        .collect();

    interrupts.recv_timeout(PATIENCE)?;
    let all_finished = service.shut_down(Duration::from_secs(5));
    println!("interrupted: {} of {} jobs are done", done.load(SeqCst), CLIENTS * JOBS);

    let successor = Service::start(&address, &done)?;
    for client in clients {
        client.join().map_err(|_| "a client panicked")??;
    }
    println!("in the end: {} done", done.load(SeqCst));
    let ended = successor.shut_down(Duration::from_secs(5));
    if all_finished && ended && done.load(SeqCst) == CLIENTS * JOBS {
        Ok(())
    } else {
        Err("a job was done twice, or a handler was cut off".into())
    }
}

/// A message for each SIGINT and SIGTERM.
fn interrupts() -> Result<Receiver<()>> {
    let (sender, receiver) = bounded(1);
    ctrlc::set_handler(move || {
        let _ = sender.try_send(());
    })?;
    Ok(receiver)
}

/// As the service manager would with `kill`.
#[cfg(unix)]
fn interrupt_myself() -> Result<()> {
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM)?;
    Ok(())
}

#[cfg(not(unix))]
fn interrupt_myself() -> Result<()> {
    std::process::exit(0)
}

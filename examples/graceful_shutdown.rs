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
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, after, bounded};
use everlink::config::{Backoff, Resume};
use everlink::{Client, Message, Server, Session};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const CLIENTS: u32 = 4;
/// Jobs of each client.
const JOBS: u32 = 200;
/// After so many the program is interrupted.
const INTERRUPTED_AFTER: u32 = 100;
const PATIENCE: Duration = Duration::from_secs(10);

/// A server that does jobs.
fn start(address: &str, done: &Arc<AtomicU32>) -> Result<Server> {
    let done = Arc::clone(done);
    let handler = move |session: Session| {
        for job in &session {
            if let Err(error) = answer(&session, job, &done) {
                return println!("session {}: {error}", session.id());
            }
        }
    };
    Ok(Server::builder().resume(Resume::new()).bind(address, handler)?)
}

/// Does a job, which takes a moment, and says so.
fn answer(session: &Session, job: Message, done: &AtomicU32) -> Result<()> {
    let _ = after(Duration::from_millis(1)).recv();
    if done.fetch_add(1, SeqCst) + 1 == INTERRUPTED_AFTER {
        interrupt_myself()?;
    }
    Ok(session.send(job)?)
}

/// Has its jobs done, by whichever server there is: its session sees to it that each is done once.
fn client(url: &str) -> Result<()> {
    let client = Client::builder(url)
        .resume(Resume::new())
        .backoff(Backoff::fixed(Duration::from_millis(50)))
        .start()?;
    for job in 0..JOBS {
        client.send(job.to_string())?;
        let _ = after(Duration::from_millis(1)).recv();
    }
    let mut open: BTreeSet<u32> = (0..JOBS).collect();
    while !open.is_empty() {
        open.remove(&client.recv_timeout(PATIENCE)?.to_string().parse()?);
    }
    client.close();
    Ok(())
}

fn main() -> Result<()> {
    env_logger::init();
    let interrupts = interrupts()?;
    let done = Arc::new(AtomicU32::new(0));
    let server = start("127.0.0.1:0", &done)?;
    let address = server.local_addr().to_string();
    let url = format!("ws://{address}");
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let url = url.clone();
            thread::spawn(move || client(&url))
        })
        .collect();

    interrupts.recv_timeout(PATIENCE)?;
    let unfinished = server.drain(Duration::from_secs(5));
    let report = server.shutdown(Duration::from_secs(1));
    println!("interrupted: {} of {} jobs are done", done.load(SeqCst), CLIENTS * JOBS);

    let successor = start(&address, &done)?;
    for client in clients {
        client.join().map_err(|_| "a client panicked")??;
    }
    println!("in the end: {} done", done.load(SeqCst));
    let is_in_time = unfinished == 0 && report.drained;
    if is_in_time
        && successor.drain(Duration::from_secs(5)) == 0
        && done.load(SeqCst) == CLIENTS * JOBS
    {
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

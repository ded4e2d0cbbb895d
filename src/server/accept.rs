//! The accept thread.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;
use log::Level;
use socket2::SockRef;

use super::admission::{Admitted, Subnet};
use super::core::ServerCore;
use super::listener::Listener;
use super::{opening, serve};
use crate::sync::caught;
use crate::sync::threads::{Role, next_id};
use crate::transport::Duplex;

/// How long to wait after an error that trying again at once would meet again: no descriptors,
/// no memory. Doubled each time, up to a second.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How many clients at once are told that there are too many; more are cut without a word.
const MAX_REFUSALS: usize = 16;

/// Accepts until the server stops.
pub(super) fn run(server: &Arc<ServerCore>, listener: &Listener) {
    let refusals = Arc::new(AtomicUsize::new(0));
    let mut pause = FIRST_PAUSE;
    loop {
        let accepted = listener.accept();
        if server.stop.is_raised() {
            return;
        }
        let is_in_want = accepted.as_ref().is_err_and(|error| !is_about_the_client(error));
        // the logger is the program's: what panics there must not be the end of accepting
        let _ = caught(|| {
            server.repeats.say_due(server.label());
            welcome(server, accepted, &refusals);
        });
        if !is_in_want {
            pause = FIRST_PAUSE;
            continue;
        }
        if server.stop.raised().recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Lets a connection in, or says why not.
fn welcome(
    server: &Arc<ServerCore>,
    accepted: io::Result<(TcpStream, SocketAddr)>,
    refusals: &Arc<AtomicUsize>,
) {
    let (stream, peer) = match accepted {
        Ok(accepted) => accepted,
        Err(error) if is_about_the_client(&error) => {
            return log::debug!("{}: accept: {error}", server.name());
        }
        Err(error) => {
            let line = format!("accepting connections fails: {error}; tried again shortly");
            return server.say(Level::Error, ("accept_failed", ""), line);
        }
    };
    let network = Subnet::of(peer.ip());
    let admitted = server.admission.admit(network).or_else(|why| {
        // it may be a client of a session whose old link has a place, and is not known to be dead
        let has_sessions = server.resumption.is_some();
        let beyond = has_sessions.then(|| server.admission.admit_beyond(network, why)).flatten();
        beyond.ok_or(why)
    });
    match admitted {
        Err(why) => {
            refuse(server, stream, why, refusals);
            server.refused(Level::Warn, why, format!("{peer} refused: {why}"));
        }
        Ok(admitted) => {
            if let Err(error) = start(server, stream, peer, admitted) {
                let line = format!("{peer} refused: no thread or socket for it: {error}");
                server.refused(Level::Error, "resources", line);
            }
        }
    }
}

/// Whether the error is one client's trouble: the next accept may well succeed.
fn is_about_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// Takes a connection out of the registry at the end of its thread, also if code of the program's
/// panics there (a logger, a value's destructor).
struct Leaves<'a>(&'a ServerCore, u64);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.registry.leave(self.1);
    }
}

/// Gives the connection its thread.
fn start(
    server: &Arc<ServerCore>,
    stream: TcpStream,
    peer: SocketAddr,
    admitted: Admitted,
) -> io::Result<()> {
    server.settings.socket().apply(SockRef::from(&stream))?;
    let id = next_id();
    let duplex = Duplex::from(stream);
    let (theirs, hangup) = (Arc::clone(server), Arc::clone(&duplex.hangup));
    let run = move || {
        let leaves = Leaves(&theirs, id);
        serve::run(&theirs, id, duplex, peer, admitted);
        theirs.repeats.say_due(theirs.label());
        drop(leaves);
    };
    let threads = server.threads.of_session(id);
    server.registry.enter(id, hangup, || threads.spawn(Role::Session, run))?;
    server.totals.counters().accepted.fetch_add(1, Relaxed);
    Ok(())
}

/// Cuts a client off, with 503 if it speaks HTTP and few others are being told so.
fn refuse(server: &ServerCore, stream: TcpStream, why: &'static str, refusals: &Arc<AtomicUsize>) {
    if !server.speaks_plain_http() || refusals.load(Relaxed) >= MAX_REFUSALS {
        return;
    }
    refusals.fetch_add(1, Relaxed);
    let done = Arc::clone(refusals);
    let started = server.threads.start(Role::Refuse, move || {
        opening::refuse(stream, why);
        done.fetch_sub(1, Relaxed);
    });
    if started.is_err() {
        refusals.fetch_sub(1, Relaxed);
    }
}

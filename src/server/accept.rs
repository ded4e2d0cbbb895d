//! The accept thread.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;
use log::Level;

use super::accepted::{Accepted, Stage};
use super::acceptor::Acceptor;
use super::arrival::Arrival;
use super::core::ServerCore;
use super::subnet::Subnet;
use super::{opening, serve};
use crate::error::Error;
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
pub(super) fn run(server: &Arc<ServerCore>, acceptor: &Acceptor) {
    let mut pause = FIRST_PAUSE;
    loop {
        let accepted = acceptor.accept();
        if server.stop.is_raised() {
            return;
        }
        let is_in_want = accepted.as_ref().is_err_and(|error| !is_about_the_client(error));
        // the logger is the program's: what panics there must not be the end of accepting
        let _ = caught(|| {
            server.repeats.say_due(server.label());
            welcome(server, accepted);
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
fn welcome(server: &Arc<ServerCore>, accepted: io::Result<Accepted>) {
    match accepted {
        // it is counted and logged
        Ok(accepted) => drop(let_in(server, accepted)),
        Err(error) if is_about_the_client(&error) => {
            log::debug!("{}: accept: {error}", server.name());
        }
        Err(error) => {
            let line = format!("accepting connections fails: {error}; tried again shortly");
            server.say(Level::Error, ("accept_failed", ""), line);
        }
    }
}

/// Lets a connection in that the program has accepted.
///
/// # Errors
///
/// Why not.
pub(super) fn adopt(server: &Arc<ServerCore>, accepted: Accepted) -> Result<(), Error> {
    if server.stop.is_raised() {
        return Err(Error::Closed);
    }
    let is_framed = server.settings.framing.is_some();
    let why = "with a framing there is no opening handshake";
    Error::no_effect(why, &[("Accepted::request", is_framed && accepted.has_request())])?;
    let_in(server, accepted).map_err(|reason| match server.stop.is_raised() {
        true => Error::Closed,
        false => Error::Refused { reason },
    })
}

/// Gives a connection its place and its thread, or tells it why not.
fn let_in(server: &Arc<ServerCore>, accepted: Accepted) -> Result<(), &'static str> {
    let opened = accepted.peer().and_then(|peer| {
        let (duplex, stage) = accepted.open(server.settings.socket())?;
        Ok((peer, duplex, stage))
    });
    let no_resources = |error: io::Error| {
        let line = format!("a connection is refused: no thread or socket for it: {error}");
        server.refused(Level::Error, "resources", line);
        "no thread or socket for it"
    };
    let (peer, duplex, stage) = opened.map_err(no_resources)?;
    // a proxy has everybody's connections: whose this one is, it says soon
    let is_known = !server.proxies.speak_for_others(peer);
    let network = peer.counted_as().filter(|_| is_known).map(Subnet::of);
    let noted = server.admission.note_opening(network);
    let admitted = noted.and_then(|()| {
        server.admission.admit(network).or_else(|why| {
            // it may be a client of a session whose old link has a place, and is not known to be dead
            let has_sessions = server.resumption.is_some();
            let beyond =
                has_sessions.then(|| server.admission.admit_beyond(network, why)).flatten();
            beyond.ok_or(why)
        })
    });
    match admitted {
        Err(why) => {
            refuse(server, duplex, stage, why);
            server.refused(Level::Warn, why, format!("{peer} refused: {why}"));
            Err(why)
        }
        Ok(admitted) => {
            let arrival = Arrival::new(peer, is_known, admitted);
            start(server, duplex, stage, arrival).map_err(no_resources)
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
    duplex: Duplex,
    stage: Stage,
    arrival: Arrival,
) -> io::Result<()> {
    let id = next_id();
    let (theirs, hangup) = (Arc::clone(server), Arc::clone(&duplex.hangup));
    let run = move || {
        let leaves = Leaves(&theirs, id);
        serve::run(&theirs, id, (duplex, stage), arrival);
        theirs.repeats.say_due(theirs.label());
        drop(leaves);
    };
    let threads = server.threads.of_session(id);
    server.registry.enter(id, hangup, || threads.spawn(Role::Session, run))?;
    server.totals.counters().accepted.fetch_add(1, Relaxed);
    Ok(())
}

/// Cuts a client off, with 503 if it speaks HTTP and few others are being told so.
fn refuse(server: &Arc<ServerCore>, duplex: Duplex, stage: Stage, why: &'static str) {
    if !server.speaks_plain_http() || server.refusals.load(Relaxed) >= MAX_REFUSALS {
        return;
    }
    server.refusals.fetch_add(1, Relaxed);
    let theirs = Arc::clone(server);
    let started = server.threads.start(Role::Refuse, move || {
        opening::refuse(duplex, stage, why);
        theirs.refusals.fetch_sub(1, Relaxed);
    });
    if started.is_err() {
        server.refusals.fetch_sub(1, Relaxed);
    }
}

//! The thread of one accepted connection: opening, handler or reader, end.

use std::sync::Arc;
use std::time::Instant;

use log::Level;

use super::accepted::Stage;
use super::arrival::Arrival;
use super::attachment::SingleLink;
use super::core::{Handling, ServerCore};
use super::greeting;
use super::journal::Journal;
use super::newcomer::Newcomer;
use super::opening::{Opening, open};
use super::peer::Peer;
use super::peer_info::PeerInfo;
use super::session::{ServerHandle, Session};
use super::session_core::SessionCore;
use crate::failure::{Failure, guarded};
use crate::link::{CloseRequest, Link, Opened, Reading};
use crate::message::{CloseCode, CloseFrame};
use crate::transport::Duplex;

/// Runs a connection from its first byte to its last.
pub(super) fn run(
    server: &Arc<ServerCore>,
    id: u64,
    (duplex, stage): (Duplex, Stage),
    mut arrival: Arrival,
) {
    let opening = open(server, duplex, stage, &mut arrival);
    let (peer, has_spoken) = (arrival.peer(), arrival.has_spoken());
    let journal = Journal::new(server.label(), id, peer);
    let Opening { opened, info, has_session, deadline } = match opening {
        Err(failure) => return journal.not_opened(&failure, has_spoken),
        Ok(opening) => opening,
    };
    let admitted = arrival.into_admitted();
    if let (Some(resumption), true) = (&server.resumption, has_session) {
        let newcomer = Newcomer::new(opened, admitted, peer, deadline);
        return greeting::run(server, resumption, id, newcomer, info);
    }
    let (link, reading, core, session) = match start(server, id, *opened, info, peer) {
        Ok(started) => started,
        Err(failure) => {
            let line = format!("{peer} refused: {}", failure);
            return server.refused(Level::Error, "resources", line);
        }
    };
    journal.opened();
    match (&server.handling, server.registry.opened(id, session.clone())) {
        // on this thread a reader does not wait for it
        (_, Some(going_away)) => session.finish(going_away),
        (Handling::Thread(handler), None) => {
            match guarded("session handler", || handler(session.clone())) {
                Ok(()) => {
                    // the peer may have closed first, which this answers
                    let frame = server.registry.farewell();
                    let deadline = Instant::now() + server.settings.timeouts().close;
                    core.outbox().shut();
                    let handle = link.handle();
                    handle.close(CloseRequest::after_data(frame).answering().by(deadline));
                    handle.wait_closed();
                }
                Err(panic) => {
                    server.say_handler_panicked(id, &panic);
                    session.finish(CloseFrame::new(CloseCode::INTERNAL_ERROR, ""));
                }
            }
        }
        (Handling::Messages(make), None) => core.receive_with(make(session.clone())),
    }
    if let Some(read) = reading {
        read();
    }
    let ended = link.join();
    // clones of the session keep nothing that was to be sent
    core.outbox().link_buried();
    drop(core.outbox().drain());
    server.totals.link_ended(core.counters(), &ended.cause);
    server.totals.session_ended(core.counters());
    // it has had one link
    let uptime = session.stats().uptime.unwrap_or_default();
    journal.ended(&ended.cause, uptime, uptime);
    server.end_handler(&core, &ended.cause);
    server.leave_topics(id);
}

fn start(
    server: &Arc<ServerCore>,
    id: u64,
    opened: Opened,
    info: PeerInfo,
    peer: Peer,
) -> Result<(Link, Option<Reading>, Arc<SessionCore>, Session), Failure> {
    let threads = server.threads.of_session(id);
    let core = Arc::new(SessionCore::new(&server.settings, threads, id, None));
    let (link, reading) = match server.handling {
        Handling::Thread(_) => (core.start_link(opened, None, 1)?, None),
        Handling::Messages(_) => {
            let (link, reading) = core.start_link_here(opened)?;
            (link, Some(reading))
        }
    };
    let attachment = Arc::new(SingleLink::new(&link, peer));
    let handle = ServerHandle::new(Arc::clone(server));
    let session = Session::new(&core, attachment, info, handle).map_err(Failure::Thread)?;
    link.announce();
    Ok((link, reading, core, session))
}

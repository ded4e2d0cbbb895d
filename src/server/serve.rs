//! The thread of one accepted connection: opening, handler, end.

use std::sync::Arc;
use std::time::Instant;

use log::Level;

use super::accepted::Stage;
use super::admission::Admitted;
use super::attachment::SingleLink;
use super::core::ServerCore;
use super::greeting;
use super::journal::Journal;
use super::newcomer::Newcomer;
use super::opening::{Opening, open};
use super::peer::Peer;
use super::peer_info::PeerInfo;
use super::session::{ServerHandle, Session};
use super::session_core::SessionCore;
use crate::failure::{Failure, guarded};
use crate::link::{CloseRequest, Link, Opened};
use crate::message::{CloseCode, CloseFrame};
use crate::sync::threads::thread_prefix;
use crate::transport::Duplex;

/// Runs a connection from its first byte to its last.
pub(super) fn run(
    server: &Arc<ServerCore>,
    id: u64,
    (duplex, stage): (Duplex, Stage),
    peer: Peer,
    admitted: Admitted,
) {
    let journal = Journal::new(server.label(), id, peer);
    let mut has_spoken = false;
    let opening = open(server, duplex, stage, peer, &mut has_spoken, admitted.beyond());
    let Opening { opened, info, has_session, deadline } = match opening {
        Err(failure) => return journal.not_opened(&failure, has_spoken),
        Ok(opening) => opening,
    };
    if let (Some(resumption), true) = (&server.resumption, has_session) {
        let newcomer = Newcomer::new(opened, admitted, peer, deadline);
        return greeting::run(server, resumption, id, newcomer, info);
    }
    let (link, core, session) = match start(server, id, *opened, info, peer) {
        Ok(started) => started,
        Err(failure) => {
            let line = format!("{peer} refused: {}", failure);
            return server.refused(Level::Error, "resources", line);
        }
    };
    journal.opened();
    match server.registry.opened(id, session.clone()) {
        Some(going_away) => session.finish(going_away),
        None => match guarded("session handler", || (server.handler)(session.clone())) {
            Ok(()) => {
                // the peer may have closed first, which this answers
                let frame = CloseFrame::new(CloseCode::NORMAL, "");
                let deadline = Instant::now() + server.settings.timeouts().close;
                core.outbox().shut();
                let handle = link.handle();
                handle.close(CloseRequest::after_data(frame).answering().by(deadline));
                handle.wait_closed();
            }
            Err(panic) => {
                let line = format!("{}: {panic}", thread_prefix(id));
                server.say(Level::Error, ("panicked", "session handler"), line);
                session.finish(CloseFrame::new(CloseCode::INTERNAL_ERROR, ""));
            }
        },
    };
    let ended = link.join();
    // clones of the session keep nothing that was to be sent
    core.outbox().link_buried();
    drop(core.outbox().drain());
    server.totals.link_ended(core.counters(), &ended.cause);
    server.totals.session_ended(core.counters());
    // it has had one link
    let uptime = session.stats().uptime.unwrap_or_default();
    journal.ended(&ended.cause, uptime, uptime);
    server.leave_topics(id);
}

fn start(
    server: &Arc<ServerCore>,
    id: u64,
    opened: Opened,
    info: PeerInfo,
    peer: Peer,
) -> Result<(Link, Arc<SessionCore>, Session), Failure> {
    let threads = server.threads.of_session(id);
    let core = Arc::new(SessionCore::new(&server.settings, threads, id, None));
    let link = core.start_link(opened, None, 1)?;
    let attachment = Arc::new(SingleLink::new(&link, peer));
    let handle = ServerHandle::new(Arc::clone(server));
    let session = Session::new(&core, attachment, info, handle).map_err(Failure::Thread)?;
    link.announce();
    Ok((link, core, session))
}

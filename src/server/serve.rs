//! The thread of one accepted connection: opening, handler, end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use log::Level;

use super::admission::Admitted;
use super::journal::Journal;
use super::opening::{Opening, Visitor, open};
use super::resumption;
use super::session::{Inner, Outgoing, Session};
use super::tie::Tie;
use super::{ServerCore, ServerHandle};
use crate::failure::{Failure, guarded};
use crate::link::{Link, Opened, Owner, Parts};
use crate::message::{CloseCode, CloseFrame};
use crate::policy::Delivery;
use crate::queues::inbox::{Inbox, Mailbox};
use crate::queues::outbox::Outbox;
use crate::resume::Offer;
use crate::stats::Counters;
use crate::sync::threads::thread_prefix;
use crate::sync::{Mutex, Ours};
use crate::transport::Duplex;

/// Runs a connection from its first byte to its last.
pub(super) fn run(
    server: &Arc<ServerCore>,
    id: u64,
    duplex: Duplex,
    peer: SocketAddr,
    admitted: Admitted,
) {
    let journal = Journal { server, id, peer };
    let mut has_spoken = false;
    let (opened, visitor) = match open(server, duplex, peer, &mut has_spoken) {
        Err(failure) => return journal.not_opened(&failure, has_spoken),
        Ok(Opening::Framed(framed)) => *framed,
        Ok(Opening::WebSocket(mut asked)) => {
            if let (Some(resumption), Some(offer)) = (&server.resumption, asked.offer.take()) {
                let (asked, admitted) = match offer {
                    Offer::New => (asked, admitted),
                    Offer::Resume { token, received } => {
                        match resumption.claim(server, &token, received, (asked, admitted), peer) {
                            Ok(()) => return,
                            // whatever became of it, this client gets a new one
                            Err(connection) => connection,
                        }
                    }
                };
                return resumption::run(server, resumption, id, *asked, admitted, peer);
            }
            if let Err(failure) = asked.answer(server, None) {
                return journal.not_opened(&failure, true);
            }
            asked.opened(server)
        }
    };
    let (link, session) = match start(server, id, peer, opened, visitor) {
        Ok(started) => started,
        Err(failure) => {
            let line = format!("{peer} refused: {}", failure.report());
            return server.say(Level::Error, ("refused", "resources"), line);
        }
    };
    journal.opened();
    match server.registry.opened(id, session.clone()) {
        Some(going_away) => session.finish(going_away),
        None => match guarded("session handler", || (server.handler)(session.clone())) {
            Ok(()) => session.end(),
            Err(panic) => {
                let line = format!("{}: {panic}", thread_prefix(id));
                server.say(Level::Error, ("panicked", "session handler"), line);
                session.finish(CloseFrame::new(CloseCode::INTERNAL_ERROR, ""));
            }
        },
    };
    let ended = link.bury();
    session.forget();
    server.totals.link_ended(session.counters(), &ended.cause);
    server.totals.session_ended(session.counters());
    // it has had one link
    let uptime = session.stats().uptime.unwrap_or_default();
    journal.ended(&ended.cause, uptime, uptime);
}

fn start(
    server: &Arc<ServerCore>,
    id: u64,
    peer: SocketAddr,
    opened: Opened,
    visitor: Visitor,
) -> Result<(Link, Session), Failure> {
    let settings = &server.settings;
    let counters = Arc::new(Counters::default());
    let (limit, delivery) = (settings.limits().message, Delivery::AtMostOnce);
    let confirmable = settings.is_confirmable(server.framing.is_none());
    let outbox = Outbox::new(settings.outbox(), limit, server.framing, delivery, confirmable);
    let outbox = Arc::new(outbox.telling(settings.on_dropped.clone()).within(&settings.budget));
    let mailbox = Arc::new(Mailbox::new(settings.inbox()).within(&settings.budget));
    if settings.has_channel {
        mailbox.open_channel(&server.threads.of_session(id)).map_err(Failure::Thread)?;
    }
    let inbox = Inbox::Mailbox(Arc::clone(&mailbox));
    let link = Link::start(Parts {
        opened,
        settings: Arc::clone(settings),
        outbox: Arc::clone(&outbox),
        inbox: Arc::new(Mutex::new(Some(inbox))),
        mailbox: Arc::clone(&mailbox),
        counters: Arc::clone(&counters),
        session: None,
        owner: Owner::Session,
        id,
        link: 1,
    })?;
    link.announce();
    let tie = Tie::Link { link: link.handle(), peer, compression: link.compression() };
    let close_timeout = settings.timeouts().close;
    let outgoing = Outgoing {
        id,
        outbox: Arc::clone(&outbox),
        mailbox: Arc::clone(&mailbox),
        tie: tie.clone(),
        close_timeout,
    };
    let inner = Inner {
        id,
        visitor,
        settings: Arc::clone(settings),
        outbox,
        mailbox,
        counters,
        tie,
        server: ServerHandle { core: Ours::new(Arc::clone(server)) },
        born: Instant::now(),
    };
    let session = Session::new(outgoing, inner);
    Ok((link, session))
}

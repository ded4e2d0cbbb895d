//! How a session begins that can be resumed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;
use log::Level;

use super::owner::{Owner, Phase};
use super::{Order, Resumable, Resumption};
use crate::failure::{Failure, guarded};
use crate::link::Link;
use crate::policy::Delivery;
use crate::queues::inbox::{Inbox, Mailbox};
use crate::queues::outbox::Outbox;
use crate::resume::Token;
use crate::server::admission::Admitted;
use crate::server::journal::Journal;
use crate::server::opening::Asked;
use crate::server::session::{Inner, Outgoing, Session};
use crate::server::tie::Tie;
use crate::server::{ServerCore, ServerHandle};
use crate::stats::Counters;
use crate::sync::threads::Role;
use crate::sync::{Mutex, Ours};

/// Runs a new session from its first link to the end of its handler.
pub(in crate::server) fn run(
    server: &Arc<ServerCore>,
    resumption: &Arc<Resumption>,
    id: u64,
    asked: Asked,
    admitted: Admitted,
    peer: SocketAddr,
) {
    let (mut owner, session) = match Owner::new(server, resumption, id, &asked, peer) {
        Ok(created) => created,
        Err(error) => {
            let line = format!("{peer} refused: no token for its session: {error}");
            return server.say(Level::Error, ("refused", "resources"), line);
        }
    };
    owner.is_final = true;
    owner.admitted = Some(admitted);
    // its client can only come back after the answer, and finds it then
    resumption.enter(&owner.token, session.clone());
    let phase = match owner.first_link(asked, peer) {
        Ok(link) => {
            Journal { server, id, peer }.opened();
            if let Some(going_away) = server.registry.opened(id, session.clone()) {
                session.begin_close(going_away);
            }
            owner.start_handler(session.clone());
            owner.is_final = false;
            Phase::Attached(link)
        }
        Err(failure) => {
            Journal { server, id, peer }.not_opened(&failure, true);
            owner.handler_returned = true;
            Phase::Over(Arc::new(failure))
        }
    };
    drop(session);
    owner.live(phase);
}

impl Owner {
    fn new(
        server: &Arc<ServerCore>,
        resumption: &Arc<Resumption>,
        id: u64,
        asked: &Asked,
        peer: SocketAddr,
    ) -> std::io::Result<(Self, Session)> {
        let token = Token::generate()?;
        let settings = &server.settings;
        let limit = settings.limits().message;
        let outbox = Outbox::new(settings.outbox(), limit, None, Delivery::AtMostOnce, true);
        let outbox =
            outbox.telling(settings.on_dropped.clone()).giving_up_after(settings.max_deliveries());
        outbox.begin_session(resumption.settings.unconfirmed, Vec::new());
        let outbox = Arc::new(outbox.within(&settings.budget));
        let mailbox = Arc::new(Mailbox::new(settings.inbox()).within(&settings.budget));
        if settings.has_channel {
            mailbox.open_channel(&server.threads.of_session(id))?;
        }
        let counters = Arc::new(Counters::default());
        let (sender, orders) = unbounded();
        let shared = Resumable::new(sender, Arc::clone(&outbox), resumption, asked, peer);
        let shared = Arc::new(shared);
        outbox.oversee(&shared);
        let tie = Tie::Resumable(Arc::clone(&shared));
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
            visitor: asked.visitor(),
            settings: Arc::clone(settings),
            outbox: Arc::clone(&outbox),
            mailbox: Arc::clone(&mailbox),
            counters: Arc::clone(&counters),
            tie,
            server: ServerHandle { core: Ours::new(Arc::clone(server)) },
            born: Instant::now(),
        };
        let session = Session::new(outgoing, inner);
        let owner = Self {
            server: Arc::clone(server),
            resumption: Arc::clone(resumption),
            id,
            born: Instant::now(),
            token,
            orders,
            shared,
            admitted: None,
            counts: Arc::default(),
            outbox,
            inbox: Arc::new(Mutex::new(Some(Inbox::Mailbox(Arc::clone(&mailbox))))),
            mailbox,
            counters,
            link: 0,
            linked: Instant::now(),
            uptime: Duration::ZERO,
            closing: None,
            is_final: false,
            handler_returned: false,
        };
        Ok((owner, session))
    }

    fn first_link(&mut self, mut asked: Asked, peer: SocketAddr) -> Result<Link, Failure> {
        asked.answer(&self.server, Some(&self.answer(None)))?;
        let (opened, _) = asked.opened(&self.server);
        self.start_link(opened, peer)
    }

    fn start_handler(&mut self, session: Session) {
        let (server, shared) = (Arc::clone(&self.server), Arc::clone(&self.shared));
        let handler = move || {
            let result = guarded("session handler", || (server.handler)(session));
            shared.order(Order::Returned(result));
        };
        let threads = self.server.threads.of_session(self.id);
        let started = threads.start(Role::Handler, handler);
        if let Err(error) = started {
            self.shared.order(Order::Returned(Err(Failure::Thread(error))));
        }
    }
}

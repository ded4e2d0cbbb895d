//! What a session consists of, whatever carries it.

use std::sync::Arc;
use std::time::Instant;

use super::ServerCore;
use crate::failure::Failure;
use crate::link::{InboxSlot, Link, Opened, Owner, Parts};
use crate::policy::{Delivery, Unconfirmed};
use crate::queues::inbox::{Inbox, Mailbox};
use crate::queues::outbox::Outbox;
use crate::resume::Counts;
use crate::settings::Settings;
use crate::stats::Counters;
use crate::sync::Mutex;

/// What outlives the links of a session.
pub(super) struct SessionCore {
    id: u64,
    settings: Arc<Settings>,
    outbox: Arc<Outbox>,
    mailbox: Arc<Mailbox>,
    inbox: InboxSlot,
    counters: Arc<Counters>,
    born: Instant,
}

impl SessionCore {
    /// `unconfirmed` is how much is kept of what was sent, if the session can be resumed.
    pub(super) fn new(server: &ServerCore, id: u64, unconfirmed: Option<Unconfirmed>) -> Self {
        let settings = Arc::clone(&server.settings);
        let confirmable = settings.is_confirmable(server.framing.is_none());
        let (limit, delivery) = (settings.limits().message, Delivery::AtMostOnce);
        let outbox = Outbox::new(settings.outbox(), limit, server.framing, delivery, confirmable);
        let outbox = outbox
            .telling(settings.on_dropped.clone())
            .giving_up_after(settings.max_deliveries())
            .within(&settings.budget);
        if let Some(unconfirmed) = unconfirmed {
            outbox.begin_session(unconfirmed, Vec::new());
        }
        let mailbox = Arc::new(Mailbox::new(settings.inbox()).within(&settings.budget));
        Self {
            id,
            outbox: Arc::new(outbox),
            inbox: Arc::new(Mutex::new(Some(Inbox::Mailbox(Arc::clone(&mailbox))))),
            mailbox,
            settings,
            counters: Arc::default(),
            born: Instant::now(),
        }
    }

    /// Starts the link of this number. `counts` are those of a session that can be resumed.
    pub(super) fn start_link(
        &self,
        opened: Opened,
        counts: Option<Arc<Counts>>,
        number: u32,
    ) -> Result<Link, Failure> {
        Link::start(Parts {
            opened,
            settings: Arc::clone(&self.settings),
            outbox: Arc::clone(&self.outbox),
            inbox: Arc::clone(&self.inbox),
            mailbox: Arc::clone(&self.mailbox),
            counters: Arc::clone(&self.counters),
            session: counts,
            owner: Owner::Session,
            id: self.id,
            link: number,
        })
    }

    /// A number that no other session or client of this process has.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    pub(super) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(super) fn born(&self) -> Instant {
        self.born
    }
}

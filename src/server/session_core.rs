//! What a session consists of, whatever carries it.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use crate::failure::{Failure, guarded};
use crate::link::{InboxSlot, Link, Opened, Parts, Reading};
use crate::policy::{Delivery, Unconfirmed};
use crate::queues::inbox::{Handler, Inbox};
use crate::queues::mailbox::Mailbox;
use crate::queues::outbox::Outbox;
use crate::resume::Counts;
use crate::settings::Settings;
use crate::stats::Counters;
use crate::sync::Mutex;
use crate::sync::threads::{Role, Threads};

/// What outlives the links of a session.
pub(super) struct SessionCore {
    id: u64,
    threads: Threads,
    settings: Arc<Settings>,
    outbox: Arc<Outbox>,
    mailbox: Arc<Mailbox>,
    inbox: InboxSlot,
    counters: Arc<Counters>,
    born: Instant,
}

impl SessionCore {
    /// `unconfirmed` is how much is kept of what was sent, if the session can be resumed.
    pub(super) fn new(
        settings: &Arc<Settings>,
        threads: Threads,
        id: u64,
        unconfirmed: Option<Unconfirmed>,
    ) -> Self {
        let settings = Arc::clone(settings);
        let is_websocket = settings.framing.is_none();
        let framing = settings.framing_of(is_websocket);
        let confirmable = settings.is_confirmable(is_websocket);
        let (limit, delivery) = (settings.limits().message, Delivery::AtMostOnce);
        let outbox = Outbox::new(settings.outbox(), limit, framing, delivery, confirmable);
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
            threads,
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
        Link::start(self.parts(opened, counts, number))
    }

    /// The same for the only link, whose reader is the thread that calls what is returned.
    pub(super) fn start_link_here(&self, opened: Opened) -> Result<(Link, Reading), Failure> {
        self.threads.take_role(Role::Reader);
        Link::start_two(self.parts(opened, None, 1))
    }

    fn parts(&self, opened: Opened, counts: Option<Arc<Counts>>, number: u32) -> Parts {
        Parts {
            opened,
            settings: Arc::clone(&self.settings),
            outbox: Arc::clone(&self.outbox),
            inbox: Arc::clone(&self.inbox),
            mailbox: Arc::clone(&self.mailbox),
            counters: Arc::clone(&self.counters),
            session: counts,
            id: self.id,
            link: number,
        }
    }

    /// Before the first link: every message goes to this handler.
    pub(super) fn receive_with(&self, handler: Box<dyn Handler>) {
        *self.inbox.lock() = Some(Inbox::Handler(handler));
    }

    /// After the last link: a handler learns that it was that, and goes, with the handle of the session that it
    /// has.
    ///
    /// # Errors
    ///
    /// Its panic.
    pub(super) fn end_handler(&self, cause: &Failure) -> Result<(), Failure> {
        let inbox = self.inbox.lock().take();
        guarded("on_close", || {
            if let Some(Inbox::Handler(mut handler)) = inbox {
                handler.end(cause);
            }
        })
    }

    /// Has messages be received through a channel, if that is wanted.
    pub(super) fn open_channel(&self) -> io::Result<()> {
        if self.settings.has_channel { self.mailbox.open_channel(&self.threads) } else { Ok(()) }
    }

    /// Starts a thread of the session's.
    pub(super) fn start_thread(
        &self,
        role: Role,
        run: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        self.threads.start(role, run)
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

//! Sessions that outlive their links.
//!
//! | what | who touches it |
//! | --- | --- |
//! | [`SessionOwner`](super::owner::SessionOwner): the link, the window, the close | the session's own thread |
//! | a channel of [`Order`]s | everybody sends, the owner receives: so no two of them race |
//! | [`Resumable`]: a lock and its condition | what the program sees of it; written by the owner |
//! | [`Resumption`]: a lock | the tokens, and who waits since when with how much |
//!
//! The handler has a thread of its own, for the owner must be free to hear a claim while the
//! handler sleeps. The lock of [`Resumption`] may be taken with that of an outbox or an inbox held,
//! and no other is taken inside it.
//!
//! A connection that claims a session waits on its own thread, with its socket in a slot that
//! both can empty: the owner to answer it, the connection to turn its client away when the
//! handshake has taken too long.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

use crossbeam_channel::Sender;

use super::admission::{ConnectionLimits, Subnet};
use super::attachment::Attachment;
use super::resumable::{Order, Resumable};
use super::session::Session;
use crate::policy::Resume;
use crate::resume::Token;
use crate::sync::{Budget, Evict, Holding, Mutex};

/// The sessions of a server that can be resumed.
pub(super) struct Resumption {
    settings: Resume,
    /// How many sessions may wait, in all and of each address.
    limits: ConnectionLimits,
    /// How much those may keep for their clients that wait.
    budget: Budget,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    tokens: HashMap<Token, (Session, Arc<Resumable>)>,
    /// Those without a link, the longest first.
    waiting: BTreeMap<u64, WaitingSession>,
    next_place: u64,
}

/// A session that waits for its client.
struct WaitingSession {
    orders: Sender<Order>,
    /// Where its latest link came from.
    network: Subnet,
    /// What it keeps.
    holding: Holding,
}

/// A place among the sessions that wait. It is left when this is dropped.
pub(super) struct Place {
    resumption: Arc<Resumption>,
    session: Arc<Resumable>,
    number: u64,
}

impl Place {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The session is over, and nothing that it keeps counts any more. It is about to be dropped:
    /// before this place is, which would count it again.
    pub(super) fn give_up(&self) {
        if let Some(waiting) = self.resumption.table.lock().waiting.remove(&self.number) {
            waiting.holding.write_off();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.resumption.table.lock().waiting.remove(&self.number);
        self.session.outbox().wait_no_more();
    }
}

impl Resumption {
    /// `memory` is what all sessions share: where there is no more of it, those that wait make room.
    pub(super) fn new(
        settings: Resume,
        connections: ConnectionLimits,
        memory: &Budget,
    ) -> Arc<Self> {
        let total = settings.sessions.unwrap_or(connections.total);
        let limits = ConnectionLimits { total, ..connections };
        let budget = Budget::exact(settings.max_bytes());
        let new = Arc::new(Self { settings, limits, budget, table: Mutex::default() });
        for budget in [&new.budget, memory] {
            let evicts: Weak<dyn Evict> = Arc::downgrade(&new) as _;
            budget.evict_from(evicts);
        }
        new
    }

    pub(super) fn settings(&self) -> &Resume {
        &self.settings
    }

    /// The session that has this token.
    pub(super) fn find(&self, token: &Token) -> Option<(Session, Arc<Resumable>)> {
        self.table.lock().tokens.get(token).cloned()
    }

    pub(super) fn enter(&self, token: &Token, session: Session, resumable: &Arc<Resumable>) {
        let known = (session, Arc::clone(resumable));
        self.table.lock().tokens.insert(token.clone(), known);
    }

    /// The session is over: nobody finds it from here on.
    pub(super) fn leave(&self, token: &Token) {
        let known = self.table.lock().tokens.remove(token);
        // which may be the last handle of the session
        drop(known);
    }

    /// A session waits from here on, in the place that this returns.
    pub(super) fn wait(self: &Arc<Self>, session: &Arc<Resumable>) -> Place {
        let orders = session.orders().clone();
        let network = Subnet::of(session.peer().ip());
        let holding = session.outbox().wait_within(&self.budget);
        let mut table = self.table.lock();
        let number = table.next_place;
        table.next_place += 1;
        table.waiting.insert(number, WaitingSession { orders, network, holding });
        if table.waiting.len() > self.limits.total {
            table.evict(|_| true);
        }
        let most = self.limits.most(network);
        let is_from_there = |waiting: &WaitingSession| waiting.network == network;
        // counted only where it can matter: thousands may lose their links at once
        if table.waiting.len() > most
            && table.waiting.values().filter(|waiting| is_from_there(waiting)).count() > most
        {
            table.evict(is_from_there);
        }
        drop(table);
        self.budget.settle();
        Place { resumption: Arc::clone(self), session: Arc::clone(session), number }
    }

    /// How many sessions wait, and with how many bytes to be sent.
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.table.lock().waiting.len(), self.budget.taken())
    }
}

impl Evict for Resumption {
    fn evict(&self, budget: &Budget) -> bool {
        self.table.lock().evict(|waiting| waiting.holding.is_of(budget))
    }
}

impl Table {
    /// Has the one of these end that has waited longest; returns whether there was one.
    fn evict(&mut self, is_meant: impl Fn(&WaitingSession) -> bool) -> bool {
        let oldest = self.waiting.iter().find(|(_, waiting)| is_meant(waiting));
        let Some(place) = oldest.map(|(place, _)| *place) else { return false };
        if let Some(waiting) = self.waiting.remove(&place) {
            waiting.holding.write_off();
            // one that is over takes no orders
            let _ = waiting.orders.send(Order::Evict(place));
        }
        true
    }
}

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
//! handler sleeps. The lock of [`Resumption`] may be held when that of an outbox or of a
//! [`Resumable`] is taken, never the other way round.
//!
//! A connection that claims a session waits on its own thread, with its socket in a slot that
//! both can empty: the owner to answer it, the connection to turn its client away when the
//! handshake has taken too long.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::admission::{ConnectionLimits, Network};
use super::attachment::Attachment;
use super::resumable::{Order, Resumable};
use super::session::Session;
use crate::policy::Resume;
use crate::resume::Token;
use crate::sync::Mutex;

/// The sessions of a server that can be resumed.
pub(super) struct Resumption {
    settings: Resume,
    /// How many sessions may wait, in all and of each address.
    limits: ConnectionLimits,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    tokens: HashMap<Token, (Session, Arc<Resumable>)>,
    /// Those without a link, the longest first.
    detached: BTreeMap<u64, Waiting>,
    bytes: usize,
    next_place: u64,
}

/// A session that waits for its client.
struct Waiting {
    session: Arc<Resumable>,
    /// Where its latest link came from.
    network: Network,
    /// How much it keeps.
    bytes: usize,
}

/// A place among the sessions that wait. It is left when this is dropped.
pub(super) struct Place {
    resumption: Arc<Resumption>,
    number: u64,
}

impl Place {
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.resumption.table.lock().remove(self.number);
    }
}

impl Resumption {
    pub(super) fn new(settings: Resume, connections: ConnectionLimits) -> Self {
        let total = settings.sessions.unwrap_or(connections.total);
        let limits = ConnectionLimits { total, ..connections };
        Self { settings, limits, table: Mutex::default() }
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
        let mut table = self.table.lock();
        let place = table.next_place;
        table.next_place += 1;
        let (bytes, network) = (session.weight().1, Network::of(session.peer().ip()));
        table.bytes += bytes;
        table.detached.insert(place, Waiting { session: Arc::clone(session), network, bytes });
        self.evict(&mut table);
        let most = self.limits.most(network);
        // counted only where it can matter: thousands may lose their links at once
        if table.detached.len() > most {
            let mut from_there =
                table.detached.iter().filter(|waiting| waiting.1.network == network);
            let oldest = from_there.next().map(|(place, _)| *place);
            if let Some(oldest) = oldest.filter(|_| from_there.count() >= most) {
                table.evict(oldest);
            }
        }
        drop(table);
        session.waits_in(place);
        Place { resumption: Arc::clone(self), number: place }
    }

    /// Something was queued for a session that waits.
    pub(super) fn grown(&self, place: u64) {
        let mut table = self.table.lock();
        let Some(waiting) = table.detached.get_mut(&place) else { return };
        let now = waiting.session.weight().1;
        let before = std::mem::replace(&mut waiting.bytes, now);
        table.bytes = table.bytes - before + now;
        self.evict(&mut table);
    }

    fn evict(&self, table: &mut Table) {
        while table.detached.len() > self.limits.total || table.bytes > self.settings.max_bytes() {
            let Some((oldest, _)) = table.detached.first_key_value() else { return };
            let oldest = *oldest;
            table.evict(oldest);
        }
    }

    /// How many sessions wait, and with how many messages and bytes to be sent.
    pub(super) fn waiting(&self) -> (usize, usize, usize) {
        let table = self.table.lock();
        let weights = table.detached.values().map(|waiting| waiting.session.weight());
        let (messages, bytes) =
            weights.fold((0, 0), |all, weight| (all.0 + weight.0, all.1 + weight.1));
        (table.detached.len(), messages, bytes)
    }
}

impl Table {
    fn remove(&mut self, place: u64) -> Option<Arc<Resumable>> {
        let waiting = self.detached.remove(&place)?;
        self.bytes -= waiting.bytes;
        Some(waiting.session)
    }

    fn evict(&mut self, place: u64) {
        if let Some(session) = self.remove(place) {
            session.order(Order::Evict(place));
        }
    }
}

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
//! opening has taken too long.
//!
//! A token is known from before its client is told it until after the session is over, so that a client which
//! has not heard that can be told: see [`Known`].

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::admission::ConnectionLimits;
use super::attachment::Attachment;
use super::peer_info::{PeerInfo, Purpose};
use super::resumable::{Order, Resumable, Terms};
use super::session::Session;
use super::subnet::Subnet;
use crate::message::CloseFrame;
use crate::policy::Resume;
use crate::resume::{Counts, Token};
use crate::sync::{Budget, Evict, Holding, Mutex};

/// The sessions of a server that can be resumed.
pub(super) struct Resumption {
    settings: Resume,
    /// How many sessions may wait, in all and of each address.
    limits: ConnectionLimits,
    /// How much those may keep for their clients that wait.
    budget: Budget,
    /// For the hashes of purposes.
    key: RandomState,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    tokens: HashMap<Token, Known>,
    /// Those without a link, the longest first.
    waiting: BTreeMap<u64, WaitingSession>,
    /// The tokens without a connection whose client has never reported, and those of sessions that are
    /// over, since when.
    unreported: BTreeMap<u64, (Instant, Token)>,
    ended: BTreeMap<u64, (Instant, Token)>,
    next_place: u64,
}

/// What there is to a token.
enum Known {
    /// Its client was told, or is about to be, and has not reported: no handler has heard of it.
    Unreported {
        purpose: Purpose,
        /// The last offer that was accepted.
        attempt: u64,
        /// Its place among those without a connection, if it has none.
        place: Option<u64>,
    },
    Live(Session, Arc<Resumable>),
    /// Both ends know that it is over, as far as this one can tell.
    Ended(EndedSession),
}

/// What is kept of a session that is over on purpose, for a client that has not heard so.
pub(super) struct EndedSession {
    pub(super) counts: Arc<Counts>,
    pub(super) purpose: Purpose,
    pub(super) frame: CloseFrame,
}

/// What a claim has found.
pub(super) enum Found {
    /// Nothing has happened in it yet, and the claim is accepted.
    Unreported,
    /// Its owner decides.
    Live(Session, Arc<Resumable>),
    /// It is over, with this goodbye; so much was counted of what its client sent.
    Ended { received: u64, frame: CloseFrame },
}

/// A session that waits for its client.
struct WaitingSession {
    orders: Sender<Order>,
    /// Where its latest link came from.
    network: Option<Subnet>,
    /// What it keeps to be sent, and to be received.
    holdings: [Holding; 2],
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
            waiting.holdings.iter().for_each(Holding::write_off);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.resumption.table.lock().waiting.remove(&self.number);
        self.session.wait_no_more();
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
        let new = Arc::new(Self {
            settings,
            limits,
            budget,
            key: RandomState::new(),
            table: Mutex::default(),
        });
        for budget in [&new.budget, memory] {
            let evicts: Weak<dyn Evict> = Arc::downgrade(&new) as _;
            budget.evict_from(evicts);
        }
        new
    }

    pub(super) fn settings(&self) -> &Resume {
        &self.settings
    }

    /// What a connection is for.
    pub(super) fn purpose(&self, info: &PeerInfo) -> Purpose {
        info.purpose(&self.key)
    }

    /// What there is to a token. The claim has to be for the same purpose, and one that its client can make now;
    /// otherwise there is nothing, and nothing is changed.
    pub(super) fn find(&self, token: &Token, info: &PeerInfo, claim: Terms) -> Option<Found> {
        let Terms { attempt, received, has } = claim;
        let purpose = self.purpose(info);
        let mut table = self.table.lock();
        table.forget_old(self.settings.window());
        match table.tokens.get_mut(token)? {
            Known::Unreported { purpose: of, attempt: last, place } => {
                let is_possible = attempt > *last && received == 0 && has == 0 && *of == purpose;
                is_possible.then(|| *last = attempt)?;
                let place = place.take();
                place.map(|place| table.unreported.remove(&place));
                Some(Found::Unreported)
            }
            Known::Live(session, resumable) => {
                let is_same = self.purpose(session.peer_info()) == purpose;
                is_same.then(|| Found::Live(session.clone(), Arc::clone(resumable)))
            }
            Known::Ended(EndedSession { counts, purpose: of, frame }) => {
                let is_possible = *of == purpose && counts.admits(attempt, received, has);
                is_possible.then(|| counts.accept(attempt))?;
                Some(Found::Ended { received: counts.received(), frame: frame.clone() })
            }
        }
    }

    /// A client is about to be told of this token.
    pub(super) fn expect(&self, token: &Token, info: &PeerInfo) {
        let known = Known::Unreported { purpose: self.purpose(info), attempt: 0, place: None };
        self.table.lock().tokens.insert(token.clone(), known);
    }

    /// The connection of this offer is lost before its client has reported, which may come back if it `waits`.
    pub(super) fn lose_unreported(&self, token: &Token, attempt: u64, waits: bool) {
        let mut table = self.table.lock();
        table.forget_old(self.settings.window());
        let next = table.place();
        match table.tokens.get_mut(token) {
            Some(Known::Unreported { attempt: last, place, .. }) if *last == attempt => {
                *place = Some(next);
            }
            _ => return,
        }
        if waits {
            table.unreported.insert(next, (Instant::now(), token.clone()));
            table.make_room(self.limits.total);
        } else {
            table.tokens.remove(token);
        }
    }

    /// The client of a token has reported on the link of its latest offer: the session begins. Returns whether
    /// it does; it does not if the client has made another offer meanwhile.
    pub(super) fn begin(
        &self,
        token: &Token,
        attempt: u64,
        session: Session,
        resumable: &Arc<Resumable>,
    ) -> bool {
        let mut table = self.table.lock();
        match table.tokens.get(token) {
            Some(Known::Unreported { attempt: last, .. }) if *last == attempt => {
                let known = Known::Live(session, Arc::clone(resumable));
                table.tokens.insert(token.clone(), known);
                true
            }
            _ => false,
        }
    }

    /// The session is over: nobody goes on with it from here on. What is kept of it is for a client that has not
    /// heard so.
    pub(super) fn leave(&self, token: &Token, ended: Option<EndedSession>) {
        let mut table = self.table.lock();
        let known = match ended {
            None => table.tokens.remove(token),
            Some(ended) => {
                table.forget_old(self.settings.window());
                let place = table.place();
                table.ended.insert(place, (Instant::now(), token.clone()));
                if table.ended.len() > self.limits.total {
                    let oldest = table.ended.pop_first();
                    oldest.map(|(_, (_, token))| table.tokens.remove(&token));
                }
                table.tokens.insert(token.clone(), Known::Ended(ended))
            }
        };
        drop(table);
        // which may be the last handle of the session
        drop(known);
    }

    /// A session waits from here on, in the place that this returns.
    pub(super) fn wait(self: &Arc<Self>, session: &Arc<Resumable>) -> Place {
        let orders = session.orders().clone();
        let network = session.peer().counted_as().map(Subnet::of);
        let holdings = session.wait_within(&self.budget);
        let mut table = self.table.lock();
        let number = table.place();
        table.waiting.insert(number, WaitingSession { orders, network, holdings });
        table.make_room(self.limits.total);
        let most = network.map_or(self.limits.total, |network| self.limits.most(network));
        let is_from_there = |waiting: &WaitingSession| waiting.network == network;
        if table.waiting.len() > self.limits.total {
            // those of the same address go first, but not the one that has just come
            let others = |waiting: &WaitingSession| is_from_there(waiting);
            let has_others = table.waiting.values().filter(|it| others(it)).count() > 1;
            table.evict(|waiting| !has_others || others(waiting));
        }
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
        let holds = |waiting: &WaitingSession| waiting.holdings.iter().any(|it| it.is_of(budget));
        self.table.lock().evict(holds)
    }
}

impl Table {
    fn place(&mut self) -> u64 {
        self.next_place += 1;
        self.next_place
    }

    /// What is no more than a token is not known for longer than this.
    fn forget_old(&mut self, window: Duration) {
        let Self { tokens, unreported, ended, .. } = self;
        for old in [unreported, ended] {
            while let Some(first) = old.first_entry() {
                if first.get().0.elapsed() < window {
                    break;
                }
                tokens.remove(&first.remove().1);
            }
        }
    }

    /// Tokens whose client has never reported go before sessions that wait.
    fn make_room(&mut self, total: usize) {
        while self.waiting.len() + self.unreported.len() > total {
            let Some((_, (_, token))) = self.unreported.pop_first() else { return };
            self.tokens.remove(&token);
        }
    }

    /// Has the one of these end that has waited longest; returns whether there was one.
    fn evict(&mut self, is_meant: impl Fn(&WaitingSession) -> bool) -> bool {
        let oldest = self.waiting.iter().find(|(_, waiting)| is_meant(waiting));
        let Some(place) = oldest.map(|(place, _)| *place) else { return false };
        if let Some(waiting) = self.waiting.remove(&place) {
            waiting.holdings.iter().for_each(Holding::write_off);
            // one that is over takes no orders
            let _ = waiting.orders.send(Order::Evict(place));
        }
        true
    }
}

//! What everybody but its owner holds of a session that can be resumed.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};

use super::attachment::Attachment;
use super::newcomer::Newcomer;
use super::peer::Peer;
use super::session_core::SessionCore;
use crate::error::Error;
use crate::failure::Failure;
use crate::link::{Handle, Link};
use crate::message::CloseFrame;
use crate::policy::AgreedCompression;
use crate::resume::Counts;
use crate::sync::{Budget, Condvar, Holding, Mutex, Signal};

/// What the owner of a session is told.
pub(super) enum Order {
    Claim(Claim),
    /// The handler has returned, or panicked.
    Returned(Result<(), Failure>),
    /// No more is to be sent than what is queued. A shutdown waits for no client.
    Close {
        frame: CloseFrame,
        is_shutdown: bool,
    },
    /// The server is going down: no more is to be taken in than what has come.
    FinishUp(CloseFrame),
    /// The session is over, whatever is queued.
    End(Failure),
    /// Others need the room, if it still waits in this place.
    Evict(u64),
}

/// What a client says of a session with which it wants to go on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// The number of its offer.
    pub(super) attempt: u64,
    /// Up to this number it has counted.
    pub(super) received: u64,
    /// Up to this number it has what was sent.
    pub(super) has: u64,
}

/// A connection that wants to go on with a session.
pub(super) struct Claim {
    /// Where the connection is until one of the two threads takes it.
    slot: Arc<Mutex<Option<Newcomer>>>,
    terms: Terms,
    /// Disconnects when the owner is done with it. If the slot is not empty then, the session is
    /// not for this client.
    _done: Sender<Infallible>,
}

impl Claim {
    pub(super) fn terms(&self) -> Terms {
        self.terms
    }

    /// The connection, unless its client was turned away meanwhile.
    pub(super) fn take(&self) -> Option<Newcomer> {
        self.slot.lock().take()
    }
}

pub(super) struct Resumable {
    orders: Sender<Order>,
    core: Arc<SessionCore>,
    counts: Arc<Counts>,
    state: Mutex<LinkState>,
    /// Signalled at every change.
    changed: Condvar,
    over: Signal,
}

/// Written by the owner.
struct LinkState {
    /// The latest link.
    link: Option<Handle>,
    peer: Peer,
    compression: Option<AgreedCompression>,
    is_attached: bool,
    /// When and why it ended.
    ended: Option<(Instant, Arc<Failure>)>,
}

impl LinkState {
    /// Why the session is over, or about to be, which `counts` may know.
    fn failure(&self, counts: &Counts) -> Option<Arc<Failure>> {
        if let Some((_, cause)) = &self.ended {
            return Some(Arc::clone(cause));
        }
        let cause = self.link.as_ref().and_then(Handle::cause);
        cause.filter(|cause| counts.is_over() || cause.ends_session())
    }

    fn is_connected(&self, counts: &Counts) -> bool {
        self.is_attached && self.failure(counts).is_none()
    }
}

impl Resumable {
    /// Returns what its owner is told, too.
    pub(super) fn new(
        core: &Arc<SessionCore>,
        counts: &Arc<Counts>,
        peer: Peer,
    ) -> (Arc<Self>, Receiver<Order>) {
        let (orders, received) = unbounded();
        let state =
            LinkState { link: None, peer, compression: None, is_attached: false, ended: None };
        let new = Self {
            orders,
            core: Arc::clone(core),
            counts: Arc::clone(counts),
            state: Mutex::new(state),
            changed: Condvar::new(),
            over: Signal::new(),
        };
        (Arc::new(new), received)
    }

    /// A session that is over takes no orders.
    pub(super) fn order(&self, order: Order) {
        let _ = self.orders.send(order);
    }

    /// Goes on with the session on this connection. Gives the connection back if the session is not to be
    /// had; otherwise it is dealt with.
    pub(super) fn claim(&self, newcomer: Newcomer, terms: Terms) -> Result<(), Box<Newcomer>> {
        let deadline = newcomer.deadline();
        let slot = Arc::new(Mutex::new(Some(newcomer)));
        let (_done, done) = bounded(0);
        self.order(Order::Claim(Claim { slot: Arc::clone(&slot), terms, _done }));
        let timed_out = done.recv_deadline(deadline) == Err(RecvTimeoutError::Timeout);
        let left = slot.lock().take();
        match left {
            None => {
                // it is being answered, which has the same deadline
                let _ = done.recv();
                Ok(())
            }
            Some(newcomer) if timed_out => {
                newcomer.turn_away("the session is busy");
                Ok(())
            }
            Some(newcomer) => Err(Box::new(newcomer)),
        }
    }

    fn change(&self, change: impl FnOnce(&mut LinkState)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }

    pub(super) fn attached(&self, link: &Link, peer: Peer) {
        self.change(|state| {
            state.link = Some(link.handle());
            state.peer = peer;
            state.compression = link.compression();
            state.is_attached = true;
        });
    }

    /// The link is joined.
    pub(super) fn detached(&self) {
        self.change(|state| state.is_attached = false);
    }

    /// The first cause stays.
    pub(super) fn ended(&self, cause: Arc<Failure>) {
        self.change(|state| {
            state.is_attached = false;
            state.ended.get_or_insert((Instant::now(), cause));
        });
        self.over.raise();
    }

    /// What its owner is told goes here.
    pub(super) fn orders(&self) -> &Sender<Order> {
        &self.orders
    }

    /// It waits from here on: what is kept for it counts against this, too.
    pub(super) fn wait_within(&self, budget: &Budget) -> [Holding; 2] {
        [self.core.outbox().wait_within(budget), self.core.mailbox().wait_within(budget)]
    }

    pub(super) fn wait_no_more(&self) {
        self.core.outbox().wait_no_more();
        self.core.mailbox().wait_no_more();
    }
}

impl Attachment for Resumable {
    fn peer(&self) -> Peer {
        self.state.lock().peer
    }

    fn compression(&self) -> Option<AgreedCompression> {
        self.state.lock().compression
    }

    fn failure(&self) -> Option<Arc<Failure>> {
        self.state.lock().failure(&self.counts)
    }

    fn ended_at(&self) -> Option<Instant> {
        self.state.lock().ended.as_ref().map(|(at, _)| *at)
    }

    fn is_connected(&self) -> bool {
        self.state.lock().is_connected(&self.counts)
    }

    fn wait_connected(&self, timeout: Duration) -> Result<(), Error> {
        let deadline = Instant::now().checked_add(timeout);
        let mut state = self.state.lock();
        loop {
            if state.is_connected(&self.counts) {
                return Ok(());
            }
            if state.ended.is_some() {
                return Err(Error::Closed);
            }
            let left = deadline.map(|time| time.saturating_duration_since(Instant::now()));
            state = match left {
                None => self.changed.wait(state),
                Some(Duration::ZERO) => return Err(Error::Timeout),
                Some(left) => self.changed.wait_timeout(state, left),
            };
        }
    }

    fn finish_up(&self, farewell: CloseFrame) {
        self.order(Order::FinishUp(farewell));
    }

    /// The owner watches over the time.
    fn start_close(&self, frame: CloseFrame, timeout: Option<Duration>) {
        self.order(Order::Close { frame, is_shutdown: timeout.is_none() });
    }

    fn wait_for_end(&self, timeout: Duration) {
        let _ = self.over.raised().recv_timeout(timeout);
    }

    fn link(&self) -> Option<Handle> {
        self.state.lock().link.clone()
    }

    fn kill(&self, cause: Failure) {
        self.order(Order::End(cause));
    }
}

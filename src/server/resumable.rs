//! What everybody but its owner holds of a session that can be resumed.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};

use super::admission::Admitted;
use super::attachment::Attachment;
use super::pending_upgrade::PendingUpgrade;
use super::session_core::SessionCore;
use crate::error::Error;
use crate::failure::Failure;
use crate::link::{Handle, Link};
use crate::message::CloseFrame;
use crate::policy::AgreedCompression;
use crate::queues::outbox::Outbox;
use crate::sync::{Condvar, Mutex, Signal};

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
    /// The session is over, whatever is queued.
    End(Failure),
    /// Others need the room, if it still waits in this place.
    Evict(u64),
}

/// A connection that wants to go on with a session.
pub(super) struct Claim {
    /// Where the connection is until one of the two threads takes it.
    slot: Arc<Mutex<Option<Connection>>>,
    received: u64,
    peer: SocketAddr,
    /// Disconnects when the owner is done with it. If the slot is not empty then, the session is
    /// not for this client.
    _done: Sender<Infallible>,
}

impl Claim {
    /// How many messages of the session its client has.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The connection, unless its client was turned away meanwhile.
    pub(super) fn take(&self) -> Option<Connection> {
        self.slot.lock().take()
    }
}

/// A connection whose request was read, and its place among those that are let in.
pub(super) type Connection = (Box<PendingUpgrade>, Admitted);

pub(super) struct Resumable {
    orders: Sender<Order>,
    core: Arc<SessionCore>,
    state: Mutex<LinkState>,
    /// Signalled at every change.
    changed: Condvar,
    over: Signal,
}

/// Written by the owner.
struct LinkState {
    /// The latest link.
    link: Option<Handle>,
    peer: SocketAddr,
    compression: Option<AgreedCompression>,
    is_attached: bool,
    /// When and why it ended.
    ended: Option<(Instant, Arc<Failure>)>,
}

impl LinkState {
    /// Why the session is over, or about to be.
    fn failure(&self) -> Option<Arc<Failure>> {
        if let Some((_, cause)) = &self.ended {
            return Some(Arc::clone(cause));
        }
        let cause = self.link.as_ref().and_then(Handle::cause);
        cause.filter(|cause| cause.ends_session())
    }

    fn is_connected(&self) -> bool {
        self.is_attached && self.failure().is_none()
    }
}

impl Resumable {
    /// Returns what its owner is told, too.
    pub(super) fn new(core: &Arc<SessionCore>, peer: SocketAddr) -> (Arc<Self>, Receiver<Order>) {
        let (orders, received) = unbounded();
        let state =
            LinkState { link: None, peer, compression: None, is_attached: false, ended: None };
        let new = Self {
            orders,
            core: Arc::clone(core),
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

    /// Goes on with the session on this connection, whose client has received so much of it. Gives the
    /// connection back if the session is not to be had; otherwise it is dealt with.
    pub(super) fn claim(
        &self,
        connection: Connection,
        received: u64,
        peer: SocketAddr,
    ) -> Result<(), Connection> {
        let deadline = connection.0.deadline();
        let slot = Arc::new(Mutex::new(Some(connection)));
        let (_done, done) = bounded(0);
        self.order(Order::Claim(Claim { slot: Arc::clone(&slot), received, peer, _done }));
        let timed_out = done.recv_deadline(deadline) == Err(RecvTimeoutError::Timeout);
        let left = slot.lock().take();
        match left {
            None => {
                // it is being answered, which has the same deadline
                let _ = done.recv();
                Ok(())
            }
            Some((pending, _)) if timed_out => {
                pending.turn_away();
                Ok(())
            }
            Some(connection) => Err(connection),
        }
    }

    fn change(&self, change: impl FnOnce(&mut LinkState)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }

    pub(super) fn attached(&self, link: &Link, peer: SocketAddr) {
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

    pub(super) fn outbox(&self) -> &Outbox {
        self.core.outbox()
    }
}

impl Attachment for Resumable {
    fn peer(&self) -> SocketAddr {
        self.state.lock().peer
    }

    fn compression(&self) -> Option<AgreedCompression> {
        self.state.lock().compression
    }

    fn failure(&self) -> Option<Arc<Failure>> {
        self.state.lock().failure()
    }

    fn ended_at(&self) -> Option<Instant> {
        self.state.lock().ended.as_ref().map(|(at, _)| *at)
    }

    fn is_connected(&self) -> bool {
        self.state.lock().is_connected()
    }

    fn wait_connected(&self, timeout: Duration) -> Result<(), Error> {
        let deadline = Instant::now().checked_add(timeout);
        let mut state = self.state.lock();
        loop {
            if state.is_connected() {
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

    /// The owner watches over the time.
    fn start_close(&self, frame: CloseFrame, timeout: Option<Duration>) {
        self.order(Order::Close { frame, is_shutdown: timeout.is_none() });
    }

    fn wait_for_end(&self, timeout: Duration) {
        let _ = self.over.raised().recv_timeout(timeout);
    }

    fn kill(&self, cause: Failure) {
        self.order(Order::End(cause));
    }
}

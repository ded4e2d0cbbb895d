//! What everybody but its owner holds of a session that can be resumed.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::{Order, Resumption};
use crate::error::Error;
use crate::failure::Failure;
use crate::link::{Handle, Link};
use crate::message::CloseFrame;
use crate::policy::AgreedCompression;
use crate::queues::outbox::{Outbox, Overseer};
use crate::server::opening::Asked;
use crate::sync::{Condvar, Mutex, Signal};

pub(in crate::server) struct Resumable {
    orders: Sender<Order>,
    outbox: Arc<Outbox>,
    resumption: Weak<Resumption>,
    /// What a client has to ask for to be let in.
    path: String,
    subprotocol: Option<String>,
    state: Mutex<State>,
    /// Signalled at every change.
    changed: Condvar,
    over: Signal,
}

/// Written by the owner.
struct State {
    /// The latest link.
    link: Option<Handle>,
    peer: SocketAddr,
    compression: Option<AgreedCompression>,
    is_attached: bool,
    /// Where it waits, without a link.
    place: Option<u64>,
    /// When and why it ended.
    ended: Option<(Instant, Arc<Failure>)>,
}

impl State {
    /// Why the session is over, or about to be.
    fn failure(&self) -> Option<Arc<Failure>> {
        if let Some((_, cause)) = &self.ended {
            return Some(Arc::clone(cause));
        }
        let cause = self.link.as_ref().and_then(Handle::cause);
        cause.filter(|cause| cause.ends_session())
    }

    fn is_attached(&self) -> bool {
        self.is_attached && self.failure().is_none()
    }
}

impl Resumable {
    pub(super) fn new(
        orders: Sender<Order>,
        outbox: Arc<Outbox>,
        resumption: &Arc<Resumption>,
        asked: &Asked,
        peer: SocketAddr,
    ) -> Self {
        Self {
            orders,
            outbox,
            resumption: Arc::downgrade(resumption),
            path: asked.incoming.path().to_owned(),
            subprotocol: asked.subprotocol.clone(),
            state: Mutex::new(State {
                link: None,
                peer,
                compression: asked.upgrade.compression,
                is_attached: false,
                place: None,
                ended: None,
            }),
            changed: Condvar::new(),
            over: Signal::new(),
        }
    }

    /// Whether the client asks for the same thing as the session's first request.
    pub(super) fn is_for(&self, asked: &Asked) -> bool {
        asked.incoming.path() == self.path && asked.subprotocol == self.subprotocol
    }

    /// A session that is over takes no orders.
    pub(super) fn order(&self, order: Order) {
        let _ = self.orders.send(order);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }

    pub(super) fn attached(&self, link: &Link, peer: SocketAddr) {
        self.change(|state| {
            state.link = Some(link.handle());
            state.peer = peer;
            state.compression = link.compression();
            state.is_attached = true;
            state.place = None;
        });
    }

    /// The link is buried.
    pub(super) fn detached(&self) {
        self.change(|state| state.is_attached = false);
    }

    pub(super) fn waits_in(&self, place: u64) {
        self.change(|state| state.place = Some(place));
        // what was queued before it had a place
        self.grown();
    }

    /// The first cause stays.
    pub(super) fn ended(&self, cause: Arc<Failure>) {
        self.change(|state| {
            state.is_attached = false;
            state.place = None;
            state.ended.get_or_insert((Instant::now(), cause));
        });
        self.over.raise();
    }

    /// How many messages and bytes it keeps for its client.
    pub(super) fn weight(&self) -> (usize, usize) {
        self.outbox.weight()
    }

    pub(in crate::server) fn peer(&self) -> SocketAddr {
        self.state.lock().peer
    }

    pub(in crate::server) fn compression(&self) -> Option<AgreedCompression> {
        self.state.lock().compression
    }

    pub(in crate::server) fn is_attached(&self) -> bool {
        self.state.lock().is_attached()
    }

    pub(in crate::server) fn ended_at(&self) -> Option<Instant> {
        self.state.lock().ended.as_ref().map(|(at, _)| *at)
    }

    pub(in crate::server) fn failure(&self) -> Option<Arc<Failure>> {
        self.state.lock().failure()
    }

    pub(in crate::server) fn wait_attached(&self, deadline: Option<Instant>) -> Result<(), Error> {
        let mut state = self.state.lock();
        loop {
            if state.is_attached() {
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

    pub(in crate::server) fn close(&self, frame: CloseFrame, is_shutdown: bool) {
        self.order(Order::Close { frame, is_shutdown });
    }

    pub(in crate::server) fn end(&self, cause: Failure) {
        self.order(Order::End(cause));
    }

    pub(in crate::server) fn wait_over(&self, timeout: Duration) {
        let _ = self.over.raised().recv_timeout(timeout);
    }
}

impl Overseer for Resumable {
    fn grown(&self) {
        let place = self.state.lock().place;
        if let (Some(place), Some(resumption)) = (place, self.resumption.upgrade()) {
            resumption.grown(place);
        }
    }
}

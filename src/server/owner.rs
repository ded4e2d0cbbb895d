//! The thread that owns a session: it gives it one link after the other, until it is over.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, at, never, select};
use log::Level;

use super::admission::Admitted;
use super::attachment::Attachment;
use super::core::{Handling, ServerCore};
use super::journal::Journal;
use super::newcomer::Newcomer;
use super::peer::Peer;
use super::peer_info::{PeerInfo, Purpose};
use super::resumable::{Claim, Order, Resumable, Terms};
use super::resumption::{EndedSession, Place, Resumption};
use super::session::{ServerHandle, Session};
use super::session_core::SessionCore;
use crate::failure::{Failure, guarded};
use crate::link::{CloseRequest, Link};
use crate::message::{CloseCode, CloseFrame};
use crate::resume::{Answer, Counts, Token};
use crate::sync::threads::Role;

/// Everything of a session that can be resumed which no other thread touches.
pub(super) struct SessionOwner {
    server: Arc<ServerCore>,
    resumption: Arc<Resumption>,
    core: Arc<SessionCore>,
    token: Token,
    /// What it is for.
    purpose: Purpose,
    orders: Receiver<Order>,
    shared: Arc<Resumable>,
    /// The place of the present link among the connections.
    admitted: Option<Admitted>,
    counts: Arc<Counts>,
    /// The number of the latest link.
    link: u32,
    /// When that came up, and once it is joined how long it was up.
    linked: Instant,
    uptime: Duration,
    closing: Option<Closing>,
    /// What it was over with, if that was on purpose.
    goodbye: Option<CloseFrame>,
    /// Whether the session ends with its link, however that ends.
    is_final: bool,
    handler_returned: bool,
}

/// Nothing follows on what is queued.
struct Closing {
    frame: CloseFrame,
    /// Whether a close frame of the peer's is answered with its own code.
    is_answer: bool,
    /// When the present link has had enough time for it.
    deadline: Option<Instant>,
}

enum Phase {
    Attached(Link),
    /// Until its window is over, in this place.
    Detached {
        until: Instant,
        place: Place,
    },
    Over(Arc<Failure>),
}

/// Runs a new session from its first link to the end of its handler.
pub(super) fn run(
    server: &Arc<ServerCore>,
    resumption: &Arc<Resumption>,
    id: u64,
    newcomer: Newcomer,
    info: PeerInfo,
    (token, attempt): (&Token, u64),
) {
    let peer = newcomer.peer();
    let (mut owner, session) =
        match SessionOwner::new(server, resumption, id, info, peer, (token, attempt)) {
            Ok(created) => created,
            Err(error) => {
                let line = format!("{peer} refused: no thread for its session: {error}");
                return server.refused(Level::Error, "resources", line);
            }
        };
    if !resumption.begin(token, attempt, session.clone(), &owner.shared) {
        let failure = Failure::from(io::Error::other("its client is back on another connection"));
        return owner.journal(peer).not_opened(&failure, true);
    }
    if let Handling::Messages(make) = &server.handling {
        owner.core.receive_with(make(session.clone()));
        owner.handler_returned = true;
    }
    let phase = match owner.start_link(newcomer) {
        Ok(link) => {
            owner.journal(peer).opened();
            if let Some(going_away) = server.registry.opened(id, session.clone()) {
                session.begin_close(going_away);
            }
            link.announce();
            owner.start_handler(&session);
            Phase::Attached(link)
        }
        Err(failure) => {
            owner.journal(peer).not_opened(&failure, true);
            owner.handler_returned = true;
            owner.over(Arc::new(failure))
        }
    };
    drop(session);
    owner.live(phase);
}

impl SessionOwner {
    fn new(
        server: &Arc<ServerCore>,
        resumption: &Arc<Resumption>,
        id: u64,
        info: PeerInfo,
        peer: Peer,
        (token, attempt): (&Token, u64),
    ) -> io::Result<(Self, Session)> {
        let unconfirmed = Some(resumption.settings().max_unconfirmed());
        let threads = server.threads.of_session(id);
        let core = Arc::new(SessionCore::new(&server.settings, threads, id, unconfirmed));
        let counts = Arc::new(Counts::accepted(attempt));
        let (shared, orders) = Resumable::new(&core, &counts, peer);
        let attachment: Arc<dyn Attachment> = Arc::clone(&shared) as _;
        let purpose = resumption.purpose(&info);
        let session = Session::new(&core, attachment, info, ServerHandle::new(Arc::clone(server)))?;
        let owner = Self {
            server: Arc::clone(server),
            resumption: Arc::clone(resumption),
            core,
            token: token.clone(),
            purpose,
            orders,
            shared,
            admitted: None,
            counts,
            link: 0,
            linked: Instant::now(),
            uptime: Duration::ZERO,
            closing: None,
            goodbye: None,
            is_final: false,
            handler_returned: false,
        };
        Ok((owner, session))
    }

    /// If it has a thread of its own.
    fn start_handler(&mut self, session: &Session) {
        let (server, shared) = (Arc::clone(&self.server), Arc::clone(&self.shared));
        let session = session.clone();
        let handler = move || {
            let Handling::Thread(handler) = &server.handling else { return };
            let result = guarded("session handler", || handler(session));
            shared.order(Order::Returned(result));
        };
        if self.server.settings.has_handler {
            return;
        }
        if let Err(error) = self.core.start_thread(Role::Handler, handler) {
            self.shared.order(Order::Returned(Err(Failure::Thread(error))));
        }
    }

    fn journal(&self, peer: Peer) -> Journal<'_> {
        Journal::new(self.server.label(), self.core.id(), peer)
    }

    /// Starts the next link.
    fn start_link(&mut self, newcomer: Newcomer) -> Result<Link, Failure> {
        let (peer, limits) = (newcomer.peer(), self.server.settings.limits_with(true));
        let (opened, admitted) = newcomer.into_parts(limits);
        let counts = Arc::clone(&self.counts);
        let link = self.core.start_link(opened, Some(counts), self.link + 1)?;
        self.admitted = Some(admitted);
        self.link += 1;
        self.linked = Instant::now();
        self.core.counters().connects.fetch_add(1, Relaxed);
        self.shared.attached(&link, peer);
        Ok(link)
    }

    /// The whole life of the session.
    fn live(mut self, mut phase: Phase) {
        let mut last_place = None;
        let cause = loop {
            phase = match phase {
                Phase::Attached(link) => self.attached(link),
                Phase::Detached { until, place } => {
                    let next = self.detached(until, &place);
                    if matches!(next, Phase::Over(_)) {
                        place.give_up();
                        last_place = Some(place);
                    }
                    next
                }
                Phase::Over(cause) => break cause,
            };
        };
        // one that has never had a link was no session
        if self.link > 0 {
            self.server.totals.session_ended(self.core.counters());
            let age = self.core.born().elapsed();
            self.journal(self.shared.peer()).ended(&cause, self.uptime, age);
        }
        self.shared.ended(Arc::clone(&cause));
        let outbox = self.core.outbox();
        outbox.shut();
        self.core.mailbox().end();
        outbox.end_session(self.counts.is_over());
        drop(outbox.drain());
        // not before: what it kept would count again
        drop(last_place);
        self.server.end_handler(&self.core, &cause);
        self.server.leave_topics(self.core.id());
        while !self.handler_returned {
            match self.orders.recv() {
                Ok(Order::Returned(result)) => self.returned(result),
                Ok(_) => {}
                // never: this owner holds a sender
                Err(_) => return,
            }
        }
    }

    /// Nobody goes on with it from here on. Before any claim is given back: whoever made it looks for what is
    /// kept of a session that was over on purpose.
    fn over(&mut self, cause: Arc<Failure>) -> Phase {
        let (counts, purpose) = (&self.counts, self.purpose);
        let ended = self.goodbye.take();
        let ended = ended.map(|frame| EndedSession { counts: Arc::clone(counts), purpose, frame });
        self.resumption.leave(&self.token, ended);
        Phase::Over(cause)
    }

    /// With a link, until that is gone.
    fn attached(&mut self, link: Link) -> Phase {
        let handle = link.handle();
        loop {
            let deadline = self.closing.as_ref().and_then(|closing| closing.deadline);
            let due = deadline.map_or_else(never, at);
            select! {
                recv(self.orders) -> order => match order {
                    Ok(Order::Claim(claim)) => {
                        if self.admits(&claim) {
                            return self.take_over(link, &claim);
                        }
                        // the claimant has its connection back
                    }
                    Ok(Order::Returned(result)) => {
                        self.returned(result);
                        self.begin_close(&link);
                    }
                    Ok(Order::Close { frame, is_shutdown }) => {
                        self.closes(frame, is_shutdown);
                        self.begin_close(&link);
                    }
                    Ok(Order::FinishUp(farewell)) => {
                        self.is_final = true;
                        handle.finish(farewell);
                    }
                    Ok(Order::End(cause)) => {
                        self.is_final = true;
                        handle.end(cause);
                    }
                    Ok(Order::Evict(_)) | Err(_) => {}
                },
                recv(handle.died()) -> _ => {
                    let (cause, is_over) = self.join(link, false);
                    return self.wait(cause, is_over);
                }
                recv(due) -> _ => if let Some(closing) = &mut self.closing {
                    closing.deadline = None;
                    handle.wait_closed();
                },
            }
        }
    }

    /// The handler is done: the session is closed, unless it is already.
    fn returned(&mut self, result: Result<(), Failure>) {
        self.handler_returned = true;
        self.core.outbox().shut();
        let is_answer = result.is_ok();
        let frame = match result {
            Ok(()) => self.server.registry.farewell(),
            Err(failure) => {
                self.server.say_handler_panicked(self.core.id(), &failure);
                CloseFrame::new(CloseCode::INTERNAL_ERROR, "")
            }
        };
        self.closing.get_or_insert(Closing { frame, is_answer, deadline: None });
    }

    fn closes(&mut self, frame: CloseFrame, is_shutdown: bool) {
        self.core.outbox().shut();
        self.is_final |= is_shutdown;
        self.closing.get_or_insert(Closing { frame, is_answer: false, deadline: None });
    }

    /// Has a link say what is left, and goodbye.
    fn begin_close(&mut self, link: &Link) {
        let Some(closing) = &mut self.closing else { return };
        let deadline = Instant::now() + self.server.settings.timeouts().close;
        let request = CloseRequest::after_data(closing.frame.clone()).by(deadline);
        link.handle().close(if closing.is_answer { request.answering() } else { request });
        closing.deadline = Some(deadline);
    }

    /// Whether its client can make this offer now.
    fn admits(&self, claim: &Claim) -> bool {
        let Terms { attempt, received, has } = claim.terms();
        !self.is_final && self.counts.admits(attempt, received, has)
    }

    /// Joins a link, whose client may be back on another one already; returns why it died, and whether the
    /// session is over with it.
    fn join(&mut self, link: Link, is_replaced: bool) -> (Arc<Failure>, bool) {
        self.uptime = self.linked.elapsed();
        let mut ended = link.join();
        let (cause, peers_end) = (&*ended.cause, self.counts.peers_end());
        if let (Some(frame), Failure::Interrupted) = (peers_end, cause) {
            // the end was read, and not acted on any more
            ended.cause = Arc::new(Failure::Closed(Some(frame.clone())));
        } else if is_replaced && matches!(cause, Failure::Interrupted) {
            // nobody wanted its end: its client has noticed first that it was lost
            let why =
                io::Error::new(io::ErrorKind::ConnectionReset, "the client is back on another");
            ended.cause = Arc::new(why.into());
        }
        let outbox = self.core.outbox();
        self.server.totals.link_ended(self.core.counters(), &ended.cause);
        self.shared.detached();
        outbox.suspect_first(&ended.cause, ended.is_answered);
        outbox.detached();
        let comes_again = ended.cause.comes_again();
        self.goodbye = match &*ended.cause {
            _ if comes_again.is_some() => comes_again.map(|code| CloseFrame::new(code, "")),
            cause if cause.ends_session() => None,
            Failure::Closed(Some(frame)) | Failure::ClosedHere(Some(frame))
                if self.counts.is_over() =>
            {
                Some(frame.clone())
            }
            _ => self.counts.peers_end().cloned(),
        };
        // nobody has closed it, so this end could not go on
        let is_refused = self.closing.is_none() && matches!(*ended.cause, Failure::ClosedHere(_));
        let is_over = self.is_final
            || is_refused
            || self.counts.is_over()
            || self.counts.is_given_up()
            || ended.cause.ends_session();
        if !is_over {
            self.journal(self.shared.peer()).lost(&ended.cause, self.uptime);
        }
        (ended.cause, is_over)
    }

    /// The session waits for its client, unless it is over.
    fn wait(&mut self, cause: Arc<Failure>, is_over: bool) -> Phase {
        if is_over {
            return self.over(cause);
        }
        self.admitted = None;
        let place = self.resumption.wait(&self.shared);
        Phase::Detached { until: Instant::now() + self.resumption.settings().window(), place }
    }

    /// Its client is back before the old link was noticed to be dead, or somebody who has its
    /// token: whatever that link was doing ends now.
    fn take_over(&mut self, link: Link, claim: &Claim) -> Phase {
        link.handle().end(Failure::Interrupted);
        let (cause, is_over) = self.join(link, true);
        let next = if is_over { None } else { self.attach(claim) };
        match next {
            Some(link) => Phase::Attached(link),
            None => self.wait(cause, is_over),
        }
    }

    /// Without a link, until there is one or nobody waits for it any more.
    fn detached(&mut self, until: Instant, place: &Place) -> Phase {
        loop {
            if let Some(closing) = self.closing.as_ref().filter(|_| self.is_final) {
                let cause = Failure::ClosedHere(Some(closing.frame.clone()));
                return self.over(Arc::new(cause));
            }
            select! {
                recv(self.orders) -> order => match order {
                    Ok(Order::Claim(claim)) => {
                        if let Some(link) = self.attach(&claim) {
                            return Phase::Attached(link);
                        }
                    }
                    Ok(Order::Returned(result)) => self.returned(result),
                    Ok(Order::Close { frame, is_shutdown }) => self.closes(frame, is_shutdown),
                    Ok(Order::FinishUp(farewell)) => {
                        // nobody comes back for it; its handler receives what has come
                        self.closes(farewell, true);
                    }
                    Ok(Order::End(cause)) => return self.over(Arc::new(cause)),
                    Ok(Order::Evict(of)) if of == place.number() => {
                        self.server.totals.counters().evicted.fetch_add(1, Relaxed);
                        return self.over(Arc::new(Failure::Evicted));
                    }
                    Ok(Order::Evict(_)) | Err(_) => {}
                },
                recv(at(until)) -> _ => {
                    self.server.totals.counters().expired.fetch_add(1, Relaxed);
                    return self.over(Arc::new(Failure::NotResumed));
                }
            }
        }
    }

    /// Goes on with the connection of a claim, if that is admitted; otherwise it changes nothing. An answer that
    /// does not arrive changes no number: the client asks again.
    fn attach(&mut self, claim: &Claim) -> Option<Link> {
        if !self.admits(claim) {
            return None;
        }
        // or it was turned away meanwhile
        let mut newcomer = claim.take()?;
        let peer = newcomer.peer();
        match self.admitted.take() {
            Some(old) => newcomer.admitted().replace(old),
            None => {
                if let Err(why) = newcomer.admitted().settle() {
                    newcomer.turn_away(why);
                    self.server.refused(Level::Warn, why, format!("{peer} refused: {why}"));
                    return None;
                }
            }
        }
        let Terms { attempt, received, has } = claim.terms();
        self.counts.accept(attempt);
        let confirmed = self.counts.resume(received, has);
        self.core.counters().confirmed.fetch_add(confirmed, Relaxed);
        let resent = self.core.outbox().resumed(received, has);
        let (token, received) = (self.token.clone(), self.counts.received());
        let window = Some(self.resumption.settings().window().as_secs());
        if let Err(failure) = newcomer.answer(&Answer { token, received, has: None, window }) {
            self.journal(peer).not_opened(&failure, true);
            return None;
        }
        match self.start_link(newcomer) {
            Ok(link) => {
                link.announce();
                self.server.totals.counters().resumed.fetch_add(1, Relaxed);
                self.core.counters().resumed.fetch_add(1, Relaxed);
                self.journal(peer).resumed(resent);
                self.begin_close(&link);
                Some(link)
            }
            Err(failure) => {
                let line = format!("{peer} refused: {failure}");
                self.server.refused(Level::Error, "resources", line);
                None
            }
        }
    }
}

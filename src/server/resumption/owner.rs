//! The thread that owns a session: it gives it one link after the other, until it is over.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, at, never, select};
use log::Level;

use super::{Claim, Order, Resumable, Resumption};
use crate::failure::Failure;
use crate::link::{self, InboxSlot, Link, Opened, Parts};
use crate::message::{CloseCode, CloseFrame};
use crate::queues::inbox::Mailbox;
use crate::queues::outbox::Outbox;
use crate::resume::{After, Answer, Counts, Death, Token, admits, after_death};
use crate::server::ServerCore;
use crate::server::admission::Admitted;
use crate::server::journal::Journal;
use crate::stats::Counters;
use crate::sync::threads::thread_prefix;

/// Everything of a session that no other thread touches.
pub(super) struct Owner {
    pub(super) server: Arc<ServerCore>,
    pub(super) resumption: Arc<Resumption>,
    pub(super) id: u64,
    pub(super) born: Instant,
    pub(super) token: Token,
    pub(super) orders: Receiver<Order>,
    pub(super) shared: Arc<Resumable>,
    /// The place of the present link among the connections.
    pub(super) admitted: Option<Admitted>,
    pub(super) counts: Arc<Counts>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) inbox: InboxSlot,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) counters: Arc<Counters>,
    /// The number of the latest link.
    pub(super) link: u32,
    /// When that came up, and once it is buried how long it was up.
    pub(super) linked: Instant,
    pub(super) uptime: Duration,
    pub(super) closing: Option<Closing>,
    /// Whether the session ends with its link, however that ends.
    pub(super) is_final: bool,
    pub(super) handler_returned: bool,
}

/// Nothing follows on what is queued.
pub(super) struct Closing {
    frame: CloseFrame,
    /// Whether a close frame of the peer's is answered with its own code.
    is_answer: bool,
    /// When the present link has had enough time for it.
    deadline: Option<Instant>,
}

pub(super) enum Phase {
    Attached(Link),
    /// Until its window is over, in this place.
    Detached {
        until: Instant,
        place: u64,
    },
    Over(Arc<Failure>),
}

impl Owner {
    pub(super) fn name(&self) -> String {
        thread_prefix(self.id)
    }

    fn journal(&self, peer: SocketAddr) -> Journal<'_> {
        Journal { server: &self.server, id: self.id, peer }
    }

    pub(super) fn answer(&self, received: Option<u64>) -> Answer {
        let window = self.resumption.settings.window.as_secs();
        Answer { token: self.token.clone(), window, received }
    }

    pub(super) fn start_link(&mut self, opened: Opened, peer: SocketAddr) -> Result<Link, Failure> {
        let link = Link::start(Parts {
            opened,
            settings: Arc::clone(&self.server.settings),
            outbox: Arc::clone(&self.outbox),
            inbox: Arc::clone(&self.inbox),
            mailbox: Arc::clone(&self.mailbox),
            counters: Arc::clone(&self.counters),
            session: Some(Arc::clone(&self.counts)),
            owner: link::Owner::Session,
            id: self.id,
            link: self.link + 1,
        })?;
        self.link += 1;
        self.linked = Instant::now();
        self.counters.connects.fetch_add(1, Relaxed);
        self.shared.attached(&link, peer);
        link.announce();
        Ok(link)
    }

    /// The whole life of the session.
    pub(super) fn live(mut self, mut phase: Phase) {
        let cause = loop {
            phase = match phase {
                Phase::Attached(link) => self.attached(link),
                Phase::Detached { until, place } => self.detached(until, place),
                Phase::Over(cause) => break cause,
            };
        };
        // one that has never had a link was no session
        if self.link > 0 {
            self.server.totals.session_ended(&self.counters);
            self.journal(self.shared.peer()).ended(&cause, self.uptime, self.born.elapsed());
        }
        // first, so that nobody claims what is about to end; who did gets a new session
        self.resumption.leave(&self.token);
        self.shared.ended(cause);
        self.outbox.shut();
        self.mailbox.end();
        self.outbox.end_session();
        drop(self.outbox.drain());
        while !self.handler_returned {
            match self.orders.recv() {
                Ok(Order::Returned(result)) => self.returned(result),
                Ok(_) => {}
                // never: this owner holds a sender
                Err(_) => return,
            }
        }
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
                        if self.is_final || !admits(&self.counts, claim.received) {
                            // the claimant has its connection back
                            continue;
                        }
                        return self.take_over(link, &claim);
                    }
                    Ok(Order::Returned(result)) => {
                        self.returned(result);
                        self.begin_close(&link);
                    }
                    Ok(Order::Close { frame, is_shutdown }) => {
                        self.closes(frame, is_shutdown);
                        self.begin_close(&link);
                    }
                    Ok(Order::End(cause)) => {
                        self.is_final = true;
                        handle.kill(cause);
                    }
                    Ok(Order::Evict(_)) | Err(_) => {}
                },
                recv(handle.died()) -> _ => {
                    let died = self.bury(link, false);
                    return self.after(died.0, died.1);
                }
                recv(due) -> _ => if let Some(closing) = &mut self.closing {
                    closing.deadline = None;
                    handle.end_close(closing.frame.clone());
                },
            }
        }
    }

    /// The handler is done: the session is closed, unless it is already.
    fn returned(&mut self, result: Result<(), Failure>) {
        self.handler_returned = true;
        self.outbox.shut();
        let code = match result {
            Ok(()) => CloseCode::NORMAL,
            Err(failure) => {
                let line = format!("{}: {failure}", self.name());
                self.server.say(Level::Error, ("panicked", "session handler"), line);
                self.is_final = true;
                CloseCode::INTERNAL_ERROR
            }
        };
        let frame = CloseFrame::new(code, "");
        let is_answer = code == CloseCode::NORMAL;
        self.closing.get_or_insert(Closing { frame, is_answer, deadline: None });
    }

    fn closes(&mut self, frame: CloseFrame, is_shutdown: bool) {
        self.outbox.shut();
        self.is_final |= is_shutdown;
        self.closing.get_or_insert(Closing { frame, is_answer: false, deadline: None });
    }

    /// Has a link say what is left, and goodbye.
    fn begin_close(&mut self, link: &Link) {
        let Some(closing) = &mut self.closing else { return };
        let (handle, frame) = (link.handle(), closing.frame.clone());
        if closing.is_answer {
            handle.answer_after_data(frame);
        } else {
            handle.close_after_data(frame);
        }
        closing.deadline = Some(Instant::now() + self.server.settings.timeouts().close);
    }

    /// Joins a link, whose client may be back on another one already; returns why it died, and whether
    /// the session is over with that.
    fn bury(&mut self, link: Link, is_replaced: bool) -> (Arc<Failure>, After) {
        self.uptime = self.linked.elapsed();
        let mut ended = link.bury();
        if is_replaced && matches!(*ended.cause, Failure::Interrupted) {
            // nobody wanted its end: its client has noticed first that it was lost
            let why =
                io::Error::new(io::ErrorKind::ConnectionReset, "the client is back on another");
            ended.cause = Arc::new(why.into());
        }
        self.server.totals.link_ended(&self.counters, &ended.cause);
        self.shared.detached();
        self.outbox.suspect_first(&ended.cause, ended.is_answered);
        self.outbox.detached();
        // nobody has closed it, so this end could not go on
        let is_refused = self.closing.is_none() && matches!(*ended.cause, Failure::ClosedHere(_));
        let is_over = self.is_final || ended.is_clean || is_refused;
        let death = Death {
            is_final: is_over || ended.cause.ends_session(),
            is_closing: self.closing.is_some(),
            is_left: self.outbox.is_left(),
        };
        let after = after_death(&self.counts, death);
        (ended.cause, after)
    }

    fn after(&mut self, cause: Arc<Failure>, after: After) -> Phase {
        match after {
            After::Over => Phase::Over(cause),
            After::Detached | After::Briefly => {
                let peer = self.shared.peer();
                self.journal(peer).lost(&cause, self.uptime);
                self.admitted = None;
                let place = self.resumption.detached(&self.shared);
                self.shared.waits_in(place);
                let mut window = self.resumption.settings.window;
                if after == After::Briefly {
                    window = window.min(self.server.settings.timeouts().handshake);
                }
                Phase::Detached { until: Instant::now() + window, place }
            }
        }
    }

    /// Its client is back before the old link was noticed to be dead, or somebody who has its
    /// token: whatever that link was doing ends now.
    fn take_over(&mut self, link: Link, claim: &Claim) -> Phase {
        // whoever has the token has had the answer
        self.counts.report(claim.received);
        link.handle().kill(Failure::Interrupted);
        let (cause, after) = self.bury(link, true);
        match self.after(cause, after) {
            Phase::Detached { until, place } => self.attach(claim, until, place),
            other => other,
        }
    }

    /// Without a link, until there is one or nobody waits for it any more.
    fn detached(&mut self, until: Instant, place: u64) -> Phase {
        loop {
            let over = |failure| {
                self.resumption.attached(place);
                Phase::Over(Arc::new(failure))
            };
            if self.closing.is_some() && (self.is_final || !self.outbox.is_left()) {
                let frame = self.closing.as_ref().map(|closing| closing.frame.clone());
                return over(Failure::ClosedHere(frame));
            }
            select! {
                recv(self.orders) -> order => match order {
                    Ok(Order::Claim(claim)) => {
                        if admits(&self.counts, claim.received) {
                            return self.attach(&claim, until, place);
                        }
                    }
                    Ok(Order::Returned(result)) => self.returned(result),
                    Ok(Order::Close { frame, is_shutdown }) => self.closes(frame, is_shutdown),
                    Ok(Order::End(cause)) => return over(cause),
                    Ok(Order::Evict(of)) if of == place => {
                        self.server.totals.counters.evicted.fetch_add(1, Relaxed);
                        return over(Failure::Evicted);
                    }
                    Ok(Order::Evict(_)) | Err(_) => {}
                },
                recv(at(until)) -> _ => {
                    self.server.totals.counters.expired.fetch_add(1, Relaxed);
                    return over(Failure::NotResumed);
                }
            }
        }
    }

    /// Goes on with the connection of a claim that was admitted. An answer that does not arrive
    /// changes nothing: the client asks again, with the same number.
    fn attach(&mut self, claim: &Claim, until: Instant, place: u64) -> Phase {
        let detached = Phase::Detached { until, place };
        let connection = claim.slot.lock().take();
        // or it was turned away meanwhile
        let Some((mut asked, admitted)) = connection else { return detached };
        let answer = self.answer(Some(self.counts.received()));
        if let Err(failure) = asked.answer(&self.server, Some(&answer)) {
            self.journal(claim.peer).not_opened(&failure, true);
            return detached;
        }
        self.counts.resume(claim.received);
        let resent = self.outbox.resumed(claim.received);
        let (opened, _) = asked.opened(&self.server);
        match self.start_link(opened, claim.peer) {
            Ok(link) => {
                self.resumption.attached(place);
                self.admitted = Some(admitted);
                self.server.totals.counters.resumed.fetch_add(1, Relaxed);
                self.counters.resumed.fetch_add(1, Relaxed);
                self.journal(claim.peer).resumed(resent);
                self.begin_close(&link);
                Phase::Attached(link)
            }
            Err(failure) => {
                let line = format!("{} refused: {}", claim.peer, failure.report());
                self.server.say(Level::Error, ("refused", "resources"), line);
                detached
            }
        }
    }
}

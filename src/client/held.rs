//! The session that a client holds, from one link to the next.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::attempt::Opener;
use crate::failure::Failure;
use crate::handshake::Endpoint;
use crate::message::Message;
use crate::queues::outbox::Outbox;
use crate::resume::{Answer, Counts, Offer, Token, Verdict, judge};
use crate::sync::threads::thread_prefix;

/// It is held until the server, or the client's own end of it, says that it is over: how long a
/// server waits is its own business.
pub(crate) struct Held {
    token: Token,
    /// Where it is: the token goes to this origin and to no other.
    pub(super) endpoint: Endpoint,
    pub(super) counts: Arc<Counts>,
}

/// How a link goes on with what was before it.
pub(crate) enum Start {
    /// Nothing outlives it.
    Ordinary,
    New {
        held: Held,
        /// What the login hook has sent.
        login: Vec<Message>,
    },
    /// The peer has received so many messages of the session.
    Resumed(u64),
}

/// What a new link is to the session that there was, if any
/// ([`ClientBuilder::resume`](crate::ClientBuilder::resume)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionStart {
    /// There was none, and the server offers none: nothing outlives this link.
    None,
    /// There was none, and one has begun.
    New,
    /// It goes on, as if there had been no outage. The login hook was not called.
    #[non_exhaustive]
    Resumed {
        /// How many messages the server had not received: they are sent again, before others.
        resent: usize,
    },
    /// It is over, and another one has begun, or none.
    #[non_exhaustive]
    Replaced {
        /// For how many messages nobody knows whether the server has received them.
        /// [`Delivery`](crate::Delivery) says whether they are sent again.
        in_doubt: usize,
    },
}

impl Opener {
    /// What to ask for at this endpoint.
    pub(super) fn offer(&self, endpoint: &Endpoint) -> Option<Offer> {
        self.settings.resume().then(|| match &self.held {
            Some(held) if held.endpoint.is_same_origin(endpoint) => {
                let (token, received) = (held.token.clone(), held.counts.received());
                Offer::Resume { token, received }
            }
            _ => Offer::New,
        })
    }

    /// What the answer to that means.
    ///
    /// # Errors
    ///
    /// [`Failure::NotResumed`] if the two ends do not agree.
    pub(super) fn start(
        &mut self,
        offer: Option<&Offer>,
        answer: Option<Answer>,
        endpoint: &Endpoint,
    ) -> Result<Start, Failure> {
        let Some(offer) = offer else { return Ok(Start::Ordinary) };
        let counts = self.held.as_ref().map(|held| &*held.counts);
        let verdict = judge(offer, answer.as_ref(), counts);
        if matches!(offer, Offer::Resume { .. }) && !matches!(verdict, Verdict::Resumed(_)) {
            self.held = None;
            self.has_lost = true;
        }
        match (verdict, answer) {
            (Verdict::Resumed(received), _) => Ok(Start::Resumed(received)),
            (Verdict::New, Some(Answer { token, .. })) => {
                let (endpoint, counts) = (endpoint.clone(), Arc::default());
                Ok(Start::New { held: Held { token, endpoint, counts }, login: Vec::new() })
            }
            (Verdict::Disagreed, _) => Err(Failure::NotResumed),
            _ => Ok(Start::Ordinary),
        }
    }

    /// A link is lost. The next attempt goes where the session is, or to the next endpoint.
    pub(super) fn move_on(&mut self, resumable: bool) {
        self.returns = resumable;
        if !resumable {
            self.next_endpoint();
        }
    }

    /// Whether the attempt has ended the session that there was.
    pub(super) fn has_lost_session(&mut self, outbox: &Outbox) -> bool {
        let has_lost = std::mem::take(&mut self.has_lost);
        if has_lost {
            self.session_over(outbox);
        }
        has_lost
    }

    /// An attempt has succeeded: the session goes on, or another one begins.
    pub(super) fn begin_session(&mut self, outbox: &Outbox, start: Start) {
        self.resent = None;
        match start {
            Start::Resumed(received) => {
                if let Some(held) = &self.held {
                    held.counts.resume(received);
                    self.resent = Some(outbox.resumed(received));
                }
            }
            Start::Ordinary => {
                self.has_lost_session(outbox);
                self.drop_session(outbox);
            }
            Start::New { held, login } => {
                self.has_lost_session(outbox);
                self.drop_session(outbox);
                outbox.begin_session(self.settings.unconfirmed(), login);
                self.held = Some(held);
            }
        }
    }

    /// The counts of the session that the next link carries on.
    pub(super) fn counts(&self) -> Option<Arc<Counts>> {
        self.held.as_ref().map(|held| Arc::clone(&held.counts))
    }

    /// What the link that is up now is to the session that there was.
    pub(super) fn session_start(&mut self) -> SessionStart {
        match (self.resent.take(), self.in_doubt.take()) {
            (Some(resent), _) => {
                self.counters.resumed.fetch_add(1, Relaxed);
                SessionStart::Resumed { resent }
            }
            (None, Some(in_doubt)) => SessionStart::Replaced { in_doubt },
            (None, None) if self.held.is_some() => SessionStart::New,
            (None, None) => SessionStart::None,
        }
    }

    /// Whether there is a session that goes on after a link that dies of this.
    pub(super) fn is_resumable(&self, cause: &Failure) -> bool {
        let is_held = |held: &Held| !held.counts.is_given_up();
        self.held.as_ref().is_some_and(is_held) && !cause.ends_session()
    }

    /// A link is buried that died of this.
    pub(super) fn link_buried(&mut self, outbox: &Outbox, cause: &Failure) {
        if self.is_resumable(cause) {
            outbox.detached();
            return;
        }
        self.drop_session(outbox);
        outbox.link_buried();
    }

    fn drop_session(&mut self, outbox: &Outbox) {
        if self.held.take().is_some() {
            self.session_over(outbox);
        }
    }

    fn session_over(&mut self, outbox: &Outbox) {
        let in_doubt = outbox.end_session();
        self.in_doubt = Some(self.in_doubt.unwrap_or_default() + in_doubt);
        self.counters.replaced.fetch_add(1, Relaxed);
        self.counters.in_doubt.fetch_add(in_doubt as u64, Relaxed);
        log::warn!(
            client = self.id, name = self.settings.label(), event = "session_over", in_doubt;
            "{}: the session is over, {in_doubt} messages in doubt", thread_prefix(self.id)
        );
    }
}

//! The session that a client can resume, from one link to the next.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::failure::Failure;
use crate::http1::Endpoint;
use crate::message::{CloseCode, Message};
use crate::queues::outbox::Outbox;
use crate::resume::{Answer, Counts, Offer, Token, Verdict, judge};
use crate::settings::Settings;
use crate::stats::Counters;
use crate::sync::threads::thread_prefix;

/// All that is known of a client's session. Used by the manager's thread, or by that of an attempt,
/// for which the manager waits.
pub(super) struct ClientSession {
    /// The number of the client.
    id: u64,
    settings: Arc<Settings>,
    counters: Arc<Counters>,
    outbox: Arc<Outbox>,
    state: SessionState,
}

enum SessionState {
    None,
    /// Kept until either side ends it. How long a server keeps its side is up to the server.
    Held(Box<Held>),
    /// The session is over, and no link has come up since.
    Over {
        in_doubt: usize,
    },
}

pub(super) struct Held {
    token: Token,
    /// Where the session is. The token goes to this origin and to no other.
    endpoint: Endpoint,
    counts: Arc<Counts>,
    /// Whether an attempt has gone to `endpoint` since the last link of this session.
    is_tried: bool,
}

/// What a link begins with, as the opening handshake has settled it.
pub(super) enum Start {
    /// Nothing outlives the link.
    Ordinary,
    New {
        held: Box<Held>,
        /// What the login hook has sent.
        login: Vec<Message>,
    },
    /// The session goes on: the server has counted so many of its messages, and has so many.
    Resumed { received: u64, has: u64 },
}

impl Start {
    /// The counts of a session that begins with the link: its login counts.
    pub(super) fn new_counts(&self) -> Option<Arc<Counts>> {
        match self {
            Self::New { held, .. } => Some(Arc::clone(&held.counts)),
            Self::Ordinary | Self::Resumed { .. } => None,
        }
    }
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
        /// [`Delivery`](crate::config::Delivery) says whether they are sent again.
        in_doubt: usize,
    },
}

impl ClientSession {
    pub(super) fn new(
        id: u64,
        settings: &Arc<Settings>,
        counters: &Arc<Counters>,
        outbox: &Arc<Outbox>,
    ) -> Self {
        let (settings, counters) = (Arc::clone(settings), Arc::clone(counters));
        Self { id, settings, counters, outbox: Arc::clone(outbox), state: SessionState::None }
    }

    fn held(&self) -> Option<&Held> {
        match &self.state {
            SessionState::Held(held) => Some(held),
            SessionState::None | SessionState::Over { .. } => None,
        }
    }

    /// Whether there is one.
    pub(super) fn is_held(&self) -> bool {
        self.held().is_some()
    }

    /// The counts that the next link carries on.
    pub(super) fn counts(&self) -> Option<Arc<Counts>> {
        self.held().map(|held| Arc::clone(&held.counts))
    }

    /// Whether there is a session that goes on after a link that dies of this.
    pub(super) fn is_resumable(&self, cause: &Failure) -> bool {
        let goes_on = |counts: &Counts| !counts.is_given_up() && !counts.is_over();
        self.held().is_some_and(|held| goes_on(&held.counts)) && !cause.ends_session()
    }

    /// Where the session is, for the first attempt after the loss of its link. A redirect may have led
    /// there. Later attempts go elsewhere, and get `None`.
    pub(super) fn go_back(&mut self) -> Option<Endpoint> {
        match &mut self.state {
            SessionState::Held(held) if !held.is_tried => {
                held.is_tried = true;
                Some(held.endpoint.clone())
            }
            _ => None,
        }
    }

    /// What to ask for at this endpoint. Each offer of a session is numbered.
    pub(super) fn offer(&self, endpoint: &Endpoint) -> Offer {
        match self.held() {
            Some(held) if held.endpoint.is_same_origin(endpoint) => Offer::Resume {
                token: held.token.clone(),
                attempt: held.counts.offer(),
                received: held.counts.received(),
                has: None,
            },
            _ => Offer::New,
        }
    }

    /// What the server's answer to that means.
    ///
    /// # Errors
    ///
    /// A [`Failure::Protocol`] if no server can say that: then the session is over.
    pub(super) fn answered(
        &mut self,
        offer: &Offer,
        answer: &Answer,
        endpoint: &Endpoint,
    ) -> Result<Start, Failure> {
        match judge(offer, answer, self.held().map(|held| &*held.counts)) {
            Verdict::Resumed { received, has } => Ok(Start::Resumed { received, has }),
            Verdict::New => {
                if matches!(offer, Offer::Resume { .. }) {
                    self.end();
                    let name = thread_prefix(self.id);
                    log::info!("{name}: the server has no such session, or gave it to another");
                }
                let (endpoint, counts) = (endpoint.clone(), Arc::default());
                let token = answer.token.clone();
                let held = Box::new(Held { token, endpoint, counts, is_tried: false });
                Ok(Start::New { held, login: Vec::new() })
            }
            Verdict::Violation => {
                self.end();
                let reason = "the answer to the offer of a session has numbers that cannot be";
                Err(Failure::Protocol { code: CloseCode::PROTOCOL_ERROR, reason: reason.into() })
            }
        }
    }

    /// The attempt has succeeded, and a link follows. Returns what it is to the session before.
    pub(super) fn begin(&mut self, start: Start) -> SessionStart {
        match (start, &mut self.state) {
            (Start::Resumed { received, has }, SessionState::Held(held)) => {
                self.counters.confirmed.fetch_add(held.counts.resume(received, has), Relaxed);
                held.is_tried = false;
                self.counters.resumed.fetch_add(1, Relaxed);
                SessionStart::Resumed { resent: self.outbox.resumed(received, has) }
            }
            (Start::New { held, login }, _) => {
                let confirmed = held.counts.confirmed();
                let before = self.replace(SessionState::Held(held));
                self.outbox.begin_session(
                    self.settings.resume.unwrap_or_default().max_unconfirmed(),
                    login,
                );
                self.outbox.confirmed(confirmed);
                before.unwrap_or(SessionStart::New)
            }
            // nothing is resumed that is not held
            (Start::Ordinary | Start::Resumed { .. }, _) => {
                self.replace(SessionState::None).unwrap_or(SessionStart::None)
            }
        }
    }

    /// Ends the session of another origin, too.
    fn replace(&mut self, next: SessionState) -> Option<SessionStart> {
        self.end();
        match std::mem::replace(&mut self.state, next) {
            SessionState::Over { in_doubt } => Some(SessionStart::Replaced { in_doubt }),
            SessionState::None | SessionState::Held(_) => None,
        }
    }

    /// A link is joined that died of this. A session whose end is said already goes on only while its client is
    /// closed, to hear the answer: nothing is counted in it any more.
    pub(super) fn link_ended(&mut self, cause: &Failure, is_closing: bool) {
        let is_ended = self.held().is_some_and(|held| held.counts.is_ended());
        if self.is_resumable(cause) && (is_closing || !is_ended) {
            return self.outbox.detached();
        }
        match cause {
            // as the program wanted it: nothing takes its place
            Failure::ClosedHere(_) => drop(self.settle()),
            _ => self.end(),
        }
        self.outbox.link_buried();
    }

    /// If there is a session, it is over, and not for this program's wish.
    fn end(&mut self) {
        let Some(in_doubt) = self.settle() else { return };
        self.counters.replaced.fetch_add(1, Relaxed);
        self.counters.in_doubt.fetch_add(in_doubt as u64, Relaxed);
        log::warn!(
            client = self.id, name = self.settings.label(), event = "session_over", in_doubt;
            "{}: the session is over, {in_doubt} messages in doubt", thread_prefix(self.id)
        );
    }

    /// If there is a session, it is over. Returns how many of its messages are in doubt.
    fn settle(&mut self) -> Option<usize> {
        let held = self.held()?;
        // who has said that it is over has said what it has counted, and counts nothing more
        let in_doubt = self.outbox.end_session(held.counts.is_over());
        self.state = SessionState::Over { in_doubt };
        Some(in_doubt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::Endpoint;
    use crate::policy::{Delivery, Resume};

    fn session() -> ClientSession {
        let settings = Settings { resume: Some(Resume::new()), ..Settings::default() };
        let outbox = Outbox::new(settings.outbox(), usize::MAX, None, Delivery::AtMostOnce, true);
        ClientSession::new(1, &Arc::new(settings), &Arc::default(), &Arc::new(outbox))
    }

    /// An attempt to this endpoint succeeds, and the server answers with this.
    fn begin(session: &mut ClientSession, endpoint: &Endpoint, answer: Answer) -> SessionStart {
        let offer = session.offer(endpoint);
        let start = session.answered(&offer, &answer, endpoint).unwrap();
        session.begin(start)
    }

    fn answer(token: &Token, received: u64) -> Answer {
        Answer { token: token.clone(), received, has: None, window: None }
    }

    #[test]
    fn each_start_is_told_once_and_the_first_attempt_after_a_loss_goes_back() {
        let [one, other] = [(); 2].map(|()| Token::generate().unwrap());
        let [home, elsewhere] =
            ["ws://home", "ws://elsewhere"].map(|url| Endpoint::parse(url).unwrap());
        let mut session = session();
        assert_eq!(session.go_back(), None);
        assert_eq!(begin(&mut session, &home, answer(&one, 0)), SessionStart::New);
        session.link_ended(&Failure::ClosedAbnormally, false);
        assert_eq!(session.go_back().as_ref(), Some(&home));
        assert_eq!(session.go_back(), None, "the second attempt goes where the program says");
        assert!(matches!(session.offer(&elsewhere), Offer::New), "the token stays at home");
        let resumed = begin(&mut session, &home, answer(&one, 0));
        assert_eq!(resumed, SessionStart::Resumed { resent: 0 });
        session.link_ended(&Failure::ClosedAbnormally, false);
        assert_eq!(session.go_back().as_ref(), Some(&home), "another loss");
        let replaced = begin(&mut session, &home, answer(&other, 0));
        assert_eq!(replaced, SessionStart::Replaced { in_doubt: 0 });
        session.link_ended(&Failure::ClosedAbnormally, false);
        let resumed = begin(&mut session, &home, answer(&other, 0));
        assert_eq!(resumed, SessionStart::Resumed { resent: 0 });
    }

    #[test]
    fn an_attempt_that_finds_it_over_says_so_and_the_next_link_does() {
        let token = Token::generate().unwrap();
        let home = Endpoint::parse("ws://home").unwrap();
        let mut session = session();
        begin(&mut session, &home, answer(&token, 0));
        session.link_ended(&Failure::ClosedAbnormally, false);
        let offer = session.offer(&home);
        let violation = session.answered(&offer, &answer(&token, 7), &home);
        assert!(matches!(violation, Err(Failure::Protocol { .. })));
        assert!(!session.is_held());
        let begun = begin(&mut session, &home, answer(&token, 0));
        assert_eq!(begun, SessionStart::Replaced { in_doubt: 0 });
        // a goodbye of its link does not end it
        session.link_ended(&Failure::Closed(None), false);
        assert!(session.is_held());
        assert_eq!(session.begin(Start::Ordinary), SessionStart::Replaced { in_doubt: 0 });
        assert_eq!(session.begin(Start::Ordinary), SessionStart::None);
    }

    #[test]
    fn a_session_whose_end_is_said_goes_on_for_the_answer_alone() {
        let token = Token::generate().unwrap();
        let home = Endpoint::parse("ws://home").unwrap();
        for is_closing in [true, false] {
            let mut session = session();
            begin(&mut session, &home, answer(&token, 0));
            session.counts().unwrap().end();
            session.link_ended(&Failure::ReconnectRequested, is_closing);
            assert_eq!(session.is_held(), is_closing);
        }
    }
}

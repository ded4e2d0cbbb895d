//! The server: what it knows of tokens, and what the owner of a session does.

use super::*;

/// What a server knows of a token.
pub(super) enum Known {
    Unreported { attempt: u64 },
    Live,
    Ended(CloseFrame),
    Forgotten,
}

pub(super) struct ServerSession {
    pub(super) token: Token,
    pub(super) known: Known,
    pub(super) counts: Arc<Counts>,
    pub(super) program: Program,
    pub(super) link: Option<Box<LinkEnd>>,
    /// The highest number that it has reported on any link.
    pub(super) reported: u64,
    /// Of an error that was planted.
    pub(super) old: Option<Box<LinkEnd>>,
}

impl ServerSession {
    /// What no claim changes that is refused.
    fn shown(&self) -> ([u64; 5], Option<u32>, usize) {
        let counts = &self.counts;
        let numbers =
            [counts.attempt(), counts.sent(), counts.at(), counts.received(), counts.confirmed()];
        let line = self.link.as_ref().map(|link| link.line);
        (numbers, line, self.program.outbox().tally().waiting)
    }
}

/// A connection that has no session yet, at the server.
pub(super) struct Conn {
    pub(super) line: u32,
    pub(super) reading: Reading,
    pub(super) out: Pipe,
    pub(super) state: ConnState,
}

pub(super) enum ConnState {
    Opening,
    /// Waits for the first report.
    Answered {
        session: usize,
        attempt: u64,
    },
    /// Has said that the session is over.
    SaidOver,
    Gone,
}

impl World {
    pub(super) fn server_reads(&mut self, index: usize, most: usize) {
        let Some(conn) = self.conns.get_mut(index) else { return };
        conn.reading.read(most);
        let is_at_the_end = conn.reading.pipe.is_at_the_end();
        let text = conn.reading.message();
        match (&conn.state, text) {
            (ConnState::Opening, Some(text)) => match Offer::parse(&text) {
                Some(offer) => self.decide(index, offer),
                None => self.truth.fault(format!("no offer: {text:?}")),
            },
            (ConnState::Answered { session, attempt }, Some(text)) => {
                let (session, attempt) = (*session, *attempt);
                let is_report = Note::parse(&text) == Some(Note::Report(0));
                self.truth.check(is_report, || format!("no first report: {text:?}"));
                self.begin(index, session, attempt);
            }
            (ConnState::SaidOver, Some(text)) => {
                if matches!(Note::parse(&text), Some(Note::End(_))) {
                    conn.out.end();
                    conn.state = ConnState::Gone;
                }
            }
            (ConnState::Gone, _) | (_, None) => {
                if is_at_the_end {
                    conn.state = ConnState::Gone;
                }
            }
        }
    }

    /// The server decides about an offer.
    pub(super) fn decide(&mut self, index: usize, offer: Offer) {
        let line = self.conns[index].line;
        let is_current = match &self.client.phase {
            Phase::Offered(attempt) => attempt.line == line,
            _ => false,
        };
        if !self.is_calm && self.random.u8(..16) == 0 {
            // it cannot know now
            self.conns[index].out.end();
            self.conns[index].state = ConnState::Gone;
            return;
        }
        if self.heard.len() < 20 {
            self.heard.push(offer.clone());
        }
        if let Offer::Resume { token, attempt, received, has } = &offer {
            let claim = (*attempt, *received, has.unwrap_or(*received));
            if let Some(session) = self.sessions.iter().position(|it| it.token == *token) {
                if self.claim(index, session, claim) {
                    return;
                }
                let is_forgotten = matches!(self.sessions[session].known, Known::Forgotten);
                self.truth.check(!is_current || is_forgotten, || {
                    format!("an honest claim is refused: {offer:?}")
                });
            }
        }
        let session = self.sessions.len();
        let token = self.tokens[session % self.tokens.len()].clone();
        let answer = Answer { token: token.clone(), received: 0, has: None, window: Some(1) };
        self.sessions.push(ServerSession {
            token,
            known: Known::Unreported { attempt: 0 },
            counts: Arc::default(),
            program: Program::new(Some(session), &self.protocols, &self.settings, &self.rules),
            link: None,
            reported: 0,
            old: None,
        });
        self.truth.courses.push(Course::default());
        self.answer(index, &answer, ConnState::Answered { session, attempt: 0 });
        if self.rules.has(Error::HandlerBeforeReport) {
            self.truth.courses[session].has_handler = true;
        }
    }

    pub(super) fn answer(&mut self, index: usize, answer: &Answer, next: ConnState) -> bool {
        let conn = &mut self.conns[index];
        self.truth.show(|| format!("server answers on {}: {answer}", conn.line));
        let is_said = say(&mut conn.out, &self.protocols[SERVER], answer);
        conn.state = if is_said { next } else { ConnState::Gone };
        is_said
    }

    /// Returns whether the claim is accepted.
    pub(super) fn claim(
        &mut self,
        index: usize,
        session: usize,
        (attempt, received, has): (u64, u64, u64),
    ) -> bool {
        let found = &mut self.sessions[session];
        match &mut found.known {
            Known::Forgotten => false,
            Known::Unreported { attempt: last } => {
                if attempt <= *last || received > 0 || has > 0 {
                    return false;
                }
                *last = attempt;
                let answer =
                    Answer { token: found.token.clone(), received: 0, has: None, window: None };
                self.answer(index, &answer, ConnState::Answered { session, attempt });
                true
            }
            Known::Ended(frame) => {
                let frame = frame.clone();
                if !found.counts.admits(attempt, received, has) {
                    return false;
                }
                found.counts.accept(attempt);
                let received = found.counts.received();
                let answer =
                    Answer { token: found.token.clone(), received, has: None, window: None };
                if self.answer(index, &answer, ConnState::SaidOver) {
                    let protocol = &self.protocols[SERVER];
                    let out = &mut self.conns[index].out;
                    let _ = say(out, protocol, Note::Report(received))
                        && say(out, protocol, Note::End(frame));
                }
                true
            }
            Known::Live => {
                let is_late = attempt <= found.counts.attempt();
                let before = found.shown();
                let admits = match self.rules.has(Error::LateAttemptAccepted) {
                    true => found.counts.is_possible(received, has),
                    false => found.counts.admits(attempt, received, has),
                };
                if !admits {
                    let after = found.shown();
                    self.truth.check(before == after, || {
                        format!("a claim that is refused changes {before:?} to {after:?}")
                    });
                    if is_late {
                        self.truth.saw(Seen::LateClaim);
                    }
                    return false;
                }
                if !self.rules.has(Error::LateAttemptAccepted) {
                    self.truth.check(!is_late, || "a late claim is accepted".into());
                }
                self.sessions[session].counts.accept(attempt);
                self.attach(index, session, received, has);
                true
            }
        }
    }

    /// A session goes on with this connection.
    pub(super) fn attach(&mut self, index: usize, session: usize, received: u64, has: u64) {
        if let Some(link) = self.sessions[session].link.take() {
            self.server_lost(session, link);
        }
        let counts = Arc::clone(&self.sessions[session].counts);
        if !matches!(self.sessions[session].known, Known::Live) {
            return;
        }
        self.truth.resumed(session, SERVER, received, has);
        counts.resume(received, has);
        let outbox = Arc::clone(&self.sessions[session].program.owner.outbox);
        let has = if self.rules.has(Error::HasIgnored) { received } else { has };
        outbox.resumed(received, has);
        if self.rules.has(Error::SentSetBack) {
            counts.set_back(has);
            outbox.forget_positions();
        }
        let (received, has) = self.counted(self.sessions[session].reported, &counts);
        let found = &mut self.sessions[session];
        found.reported = received;
        found.program.hear(&mut self.truth);
        let answer = Answer { token: found.token.clone(), received, has, window: Some(1) };
        let conn = &self.conns[index].out.clone();
        self.hinder(conn);
        if self.answer(index, &answer, ConnState::Gone) {
            self.start_link(index, session);
        }
    }

    pub(super) fn start_link(&mut self, index: usize, session: usize) {
        let found = &mut self.sessions[session];
        let conn = self.conns.swap_remove(index);
        let link = LinkEnd::new(
            &found.program.owner,
            (conn.line, session),
            &found.counts,
            conn.reading,
            conn.out,
        );
        if found.program.is_closing {
            link.shared.close(CloseRequest::after_data(CloseFrame::new(CloseCode(4000), "")));
        }
        found.link = Some(Box::new(link));
    }

    /// The first report has come.
    pub(super) fn begin(&mut self, index: usize, session: usize, attempt: u64) {
        let found = &mut self.sessions[session];
        if !matches!(found.known, Known::Unreported { attempt: last } if last == attempt) {
            // its client is back on another connection, or it was forgotten
            self.conns[index].out.end();
            self.conns[index].state = ConnState::Gone;
            return;
        }
        found.known = Known::Live;
        found.counts = Arc::new(Counts::accepted(attempt));
        found.program.outbox().begin_session(self.rules.unconfirmed, Vec::new());
        self.truth.courses[session].has_handler = true;
        self.start_link(index, session);
    }

    pub(super) fn session_reads(&mut self, session: usize, most: usize) {
        let found = &mut self.sessions[session];
        if let Some(mut old) = found.old.take() {
            old.read(most, &self.rules, &mut self.truth);
            found.old = (!old.is_dead).then_some(old);
        }
        let Some(mut link) = found.link.take() else { return };
        link.read(most, &self.rules, &mut self.truth);
        self.server_heard(session, link);
    }

    pub(super) fn server_heard(&mut self, session: usize, mut link: Box<LinkEnd>) {
        if link.is_dead || link.has_parted(&mut self.truth) {
            self.server_lost(session, link);
        } else {
            self.sessions[session].link = Some(link);
        }
    }

    /// A session has no link any more.
    pub(super) fn server_lost(&mut self, session: usize, mut link: Box<LinkEnd>) {
        let found = &mut self.sessions[session];
        let goodbye = link.is_told.clone();
        found.reported = found.reported.max(link.reported);
        if self.rules.has(Error::OldLinkCounts) && goodbye.is_none() && !link.is_dead {
            link.shared.fail(crate::Failure::ClosedAbnormally);
            link.stop(&mut self.truth);
            found.old = Some(link);
        } else {
            link.join(&mut self.truth);
        }
        found.program.outbox().detached();
        found.program.hear(&mut self.truth);
        let (is_ended, is_over) = (found.counts.is_ended(), found.counts.is_over());
        if is_over {
            let is_crossed = found.program.is_closing && is_ended;
            self.truth.saw(Seen::End);
            if is_crossed {
                self.truth.saw(Seen::CrossedEnd);
            }
            let forgets = self.rules.has(Error::CrossedEndForgotten) && is_crossed;
            let goodbye = goodbye.unwrap_or(CloseFrame::new(CloseCode::NORMAL, ""));
            let known = if forgets { Known::Forgotten } else { Known::Ended(goodbye) };
            self.over(session, known);
        } else if self.rules.has(Error::EndNotAwaited) && is_ended {
            self.over(session, Known::Forgotten);
        }
    }

    /// A session is over for its server.
    pub(super) fn over(&mut self, session: usize, known: Known) {
        let found = &mut self.sessions[session];
        let is_known = found.counts.is_over();
        self.truth.courses[session].is_over |= is_known;
        found.known = known;
        let outbox = found.program.outbox();
        outbox.shut();
        let in_doubt = outbox.end_session(is_known);
        self.truth.ended(session, SERVER, in_doubt, is_known);
        found.program.hear(&mut self.truth);
        found.program.hand_back(&mut self.truth);
        found.program.is_closing = true;
    }

    /// The window of a session that waits is over, or room is needed.
    pub(super) fn forget(&mut self, session: usize) {
        let found = &mut self.sessions[session];
        match found.known {
            Known::Live if found.link.is_none() => {
                self.truth.courses[session].is_forgotten = true;
                self.over(session, Known::Forgotten);
            }
            Known::Unreported { .. } => {
                self.truth.courses[session].is_forgotten = true;
                found.known = Known::Forgotten;
            }
            _ => {}
        }
    }
}

//! The client: what its manager and its attempts do with a session.

use super::*;

/// The client's session.
pub(super) struct Held {
    pub(super) token: Token,
    pub(super) session: usize,
    pub(super) counts: Arc<Counts>,
    /// The highest number that it has reported on any link.
    pub(super) reported: u64,
}

/// It has made an offer, and waits for the answer.
pub(super) struct Attempt {
    pub(super) line: u32,
    reading: Reading,
    out: Pipe,
    offer: Offer,
    /// The report that follows if the session goes on.
    report: u64,
}

pub(super) enum Phase {
    Down,
    Offered(Box<Attempt>),
    Up(Box<LinkEnd>),
    Over,
}

pub(super) struct Client {
    pub(super) program: Program,
    pub(super) held: Option<Held>,
    pub(super) phase: Phase,
    /// Of an error that was planted.
    pub(super) old: Option<Box<LinkEnd>>,
}

impl World {
    /// What an end says that it has counted and has: it may count late.
    pub(super) fn counted(&mut self, reported: u64, counts: &Counts) -> (u64, Option<u64>) {
        let has = counts.received();
        if self.rules.counts_late && !counts.is_ended() && self.random.bool() {
            return (self.random.u64(reported.min(has)..=has), Some(has));
        }
        (has, None)
    }

    pub(super) fn dial(&mut self) {
        if let Phase::Up(link) = std::mem::replace(&mut self.client.phase, Phase::Down) {
            self.client_lost(link);
        }
        if matches!(self.client.phase, Phase::Over) {
            return;
        }
        let nothing_to_say = self.client.program.outbox().tally().waiting == 0;
        if self.client.program.is_closing && self.client.held.is_none() && nothing_to_say {
            self.client.phase = Phase::Over;
            return self.client.program.hand_back(&mut self.truth);
        }
        let (line, mut out, reading) = self.connect();
        let (offer, report) = match self.client.held.take() {
            None => (Offer::New, 0),
            Some(mut held) => {
                let (received, has) = self.counted(held.reported, &held.counts);
                held.reported = received;
                let (token, attempt) = (held.token.clone(), held.counts.offer());
                self.client.held = Some(held);
                (Offer::Resume { token, attempt, received, has }, received)
            }
        };
        self.truth.show(|| format!("client offers on {line}: {offer}"));
        self.hinder(&out);
        if say(&mut out, &self.protocols[CLIENT], &offer) {
            let attempt = Attempt { line, reading, out, offer, report };
            self.client.phase = Phase::Offered(Box::new(attempt));
        }
    }

    pub(super) fn client_reads(&mut self, most: usize) {
        if let Some(mut old) = self.client.old.take() {
            old.read(most, &self.rules, &mut self.truth);
            self.client.old = (!old.is_dead).then_some(old);
        }
        match std::mem::replace(&mut self.client.phase, Phase::Down) {
            Phase::Offered(mut attempt) => {
                attempt.reading.read(most);
                match attempt.reading.message() {
                    Some(text) => self.answered(*attempt, &text),
                    None if attempt.reading.pipe.is_at_the_end() => {}
                    None => self.client.phase = Phase::Offered(attempt),
                }
            }
            Phase::Up(mut link) => {
                link.read(most, &self.rules, &mut self.truth);
                self.client_heard(link);
            }
            phase => self.client.phase = phase,
        }
    }

    fn answered(&mut self, attempt: Attempt, text: &str) {
        let Attempt { line, reading, mut out, offer, report } = attempt;
        let Some(answer) = Answer::parse(text) else {
            return self.truth.fault(format!("no answer: {text:?}"));
        };
        let counts = self.client.held.as_ref().map(|held| &*held.counts);
        let verdict = judge(&offer, &answer, counts);
        let report = match verdict {
            Verdict::Violation => {
                return self.truth.fault(format!("{answer:?} to {offer:?} is a violation"));
            }
            Verdict::Resumed { .. } => report,
            Verdict::New => 0,
        };
        if verdict == Verdict::New {
            self.end_client_session();
        }
        self.hinder(&out);
        if !say(&mut out, &self.protocols[CLIENT], Note::Report(report)) {
            return;
        }
        let outbox = Arc::clone(&self.client.program.owner.outbox);
        match (verdict, &mut self.client.held) {
            (Verdict::Resumed { received, has }, Some(held)) => {
                self.truth.saw(Seen::Resumption);
                self.truth.resumed(held.session, CLIENT, received, has);
                held.counts.resume(received, has);
                let has = if self.rules.has(Error::HasIgnored) { received } else { has };
                outbox.resumed(received, has);
                if self.rules.has(Error::SentSetBack) {
                    held.counts.set_back(has);
                    outbox.forget_positions();
                }
            }
            _ => {
                let session = self.sessions.iter().position(|it| it.token == answer.token);
                let Some(session) = session else {
                    return self.truth.fault("a token that nobody has made");
                };
                self.truth.courses[session].has_client = true;
                let (token, counts) = (answer.token.clone(), Arc::new(Counts::default()));
                self.client.held = Some(Held { token, session, counts, reported: 0 });
                outbox.begin_session(self.rules.unconfirmed, Vec::new());
            }
        }
        self.client.program.hear(&mut self.truth);
        let Some(held) = &self.client.held else { return };
        let link = LinkEnd::new(
            &self.client.program.owner,
            (line, held.session),
            &held.counts,
            reading,
            out,
        );
        self.truth.saw(Seen::Link);
        if self.client.program.is_closing {
            link.shared.close(CloseRequest::after_data(CloseFrame::new(CloseCode::NORMAL, "")));
        }
        self.client.phase = Phase::Up(Box::new(link));
    }

    /// What a client's link has heard may end it.
    pub(super) fn client_heard(&mut self, mut link: Box<LinkEnd>) {
        if link.is_dead || link.has_parted(&mut self.truth) {
            self.client_lost(link);
        } else {
            self.client.phase = Phase::Up(link);
        }
    }

    /// The client has no link any more.
    pub(super) fn client_lost(&mut self, link: Box<LinkEnd>) {
        self.client.phase = Phase::Down;
        if self.rules.has(Error::OldLinkCounts) && link.is_told.is_none() && !link.is_dead {
            // its reader goes on
            link.shared.fail(crate::Failure::ClosedAbnormally);
            let mut link = link;
            link.stop(&mut self.truth);
            self.client.old = Some(link);
        } else {
            let reported = link.reported;
            link.join(&mut self.truth);
            if let Some(held) = &mut self.client.held {
                held.reported = held.reported.max(reported);
            }
        }
        let counts = self.client.held.as_ref().map(|held| Arc::clone(&held.counts));
        let Some(counts) = counts else { return };
        let is_over = counts.is_over() || self.rules.has(Error::EndNotAwaited) && counts.is_ended();
        if !is_over {
            self.client.program.outbox().detached();
            return self.client.program.hear(&mut self.truth);
        }
        self.end_client_session();
        self.client.program.outbox().link_buried();
        self.client.program.hear(&mut self.truth);
        if self.client.program.is_closing {
            self.client.phase = Phase::Over;
            self.client.program.hand_back(&mut self.truth);
        }
    }

    /// The client's session, if there is one, is over.
    pub(super) fn end_client_session(&mut self) {
        let Some(held) = self.client.held.take() else { return };
        let is_known = held.counts.is_over();
        let course = &self.truth.courses[held.session];
        if !is_known && !self.rules.has(Error::EndNotAwaited) {
            let (is_over, is_forgotten) = (course.is_over, course.is_forgotten);
            self.truth.check(!is_over, || "replaced, where it was over on purpose".into());
            self.truth.check(is_forgotten, || "replaced, and nobody had a reason".into());
        }
        let in_doubt = self.client.program.outbox().end_session(is_known);
        self.truth.ended(held.session, CLIENT, in_doubt, is_known);
        self.client.program.hear(&mut self.truth);
    }
}

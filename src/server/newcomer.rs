//! A connection that has said that it wants a session, and has none yet.

use std::time::Instant;

use super::admission::Admitted;
use super::peer::Peer;
use crate::failure::Failure;
use crate::link::{Opened, Talk};
use crate::message::{CloseCode, CloseFrame};
use crate::policy::MaxSizes;
use crate::resume::{Answer, Note, Offer};
use crate::transport::LINGER;

/// What is said before there is a session is shorter.
const FIRST_MESSAGES: MaxSizes = MaxSizes { message: 4096, frame: 4096 };

pub(super) struct Newcomer {
    opened: Box<Opened>,
    /// Its place among the connections.
    admitted: Admitted,
    peer: Peer,
    /// When it has to have its session.
    deadline: Instant,
}

impl Newcomer {
    pub(super) fn new(
        mut opened: Box<Opened>,
        admitted: Admitted,
        peer: Peer,
        deadline: Instant,
    ) -> Self {
        opened.decoder.set_limits(FIRST_MESSAGES);
        Self { opened, admitted, peer, deadline }
    }

    pub(super) fn peer(&self) -> Peer {
        self.peer
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn admitted(&mut self) -> &mut Admitted {
        &mut self.admitted
    }

    /// It has its session.
    pub(super) fn into_parts(mut self, limits: MaxSizes) -> (Opened, Admitted) {
        self.opened.decoder.set_limits(limits);
        (*self.opened, self.admitted)
    }

    /// Receives what it offers.
    pub(super) fn offer(&mut self) -> Result<Offer, Failure> {
        self.next(Offer::parse)
    }

    /// Answers its offer.
    pub(super) fn answer(&mut self, answer: &Answer) -> Result<(), Failure> {
        Ok(Talk::new(&mut self.opened).say(answer, self.deadline)?)
    }

    /// Receives the report with which a new session begins.
    pub(super) fn first_report(&mut self) -> Result<(), Failure> {
        self.next(|text| Note::parse(text).filter(|note| *note == Note::Report(0))).map(drop)
    }

    fn next<T>(&mut self, parse: impl Fn(&str) -> Option<T>) -> Result<T, Failure> {
        let mut talk = Talk::new(&mut self.opened);
        let message = talk.recv(self.deadline)?;
        talk.text_of(&message).and_then(parse).ok_or_else(|| {
            let reason = "what a session begins with was not said".into();
            Failure::Protocol { code: CloseCode::PROTOCOL_ERROR, reason }
        })
    }

    /// It broke the protocol, if this is a failure of that kind.
    pub(super) fn refuse(mut self, failure: &Failure) {
        if let Failure::Protocol { code, .. } = failure {
            let frame = CloseFrame::new(*code, "");
            Talk::new(&mut self.opened).finish(Some(&frame), Instant::now() + LINGER);
        }
    }

    /// Its session was over on purpose before it heard of that: it hears it now, and its goodbye is awaited.
    pub(super) fn say_over(
        mut self,
        answer: &Answer,
        end: &CloseFrame,
        limits: MaxSizes,
    ) -> Result<(), Failure> {
        let deadline = self.deadline;
        // it sends again what it thinks is missing
        self.opened.decoder.set_limits(limits);
        let mut talk = Talk::new(&mut self.opened);
        talk.say(answer, deadline)?;
        talk.say(&Note::Report(answer.received), deadline)?;
        talk.say(&Note::End(end.clone()), deadline)?;
        let result = loop {
            // whatever it sends again is counted no more
            match talk.recv(deadline) {
                Ok(said) => {
                    let note = talk.text_of(&said).and_then(Note::parse);
                    if matches!(note, Some(Note::End(_))) {
                        break Ok(());
                    }
                }
                Err(failure) => break Err(failure),
            }
        };
        // also one that is too large again: its sender has to read that this was the end
        talk.finish(Some(end), Instant::now() + LINGER);
        result
    }

    /// It cannot have its session now, and may come back.
    pub(super) fn turn_away(mut self, why: &'static str) {
        let frame = CloseFrame::new(CloseCode::TRY_AGAIN_LATER, why);
        Talk::new(&mut self.opened).finish(Some(&frame), Instant::now() + LINGER);
    }
}

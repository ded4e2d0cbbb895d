//! A connection that has said that it wants a session, and has none yet.

use std::net::SocketAddr;
use std::time::Instant;

use super::admission::Admitted;
use crate::failure::{Failure, HandshakeError};
use crate::link::{Opened, Talk};
use crate::message::{CloseCode, CloseFrame, Message};
use crate::policy::MaxSizes;
use crate::resume::{Answer, Note, Offer};
use crate::transport::LINGER;

/// What is said before there is a session is shorter.
const FIRST_MESSAGES: MaxSizes = MaxSizes { message: 4096, frame: 4096 };

pub(super) struct Newcomer {
    opened: Box<Opened>,
    /// Its place among the connections.
    admitted: Admitted,
    peer: SocketAddr,
    /// When it has to have its session.
    deadline: Instant,
}

impl Newcomer {
    pub(super) fn new(
        mut opened: Box<Opened>,
        admitted: Admitted,
        peer: SocketAddr,
        deadline: Instant,
    ) -> Self {
        opened.decoder.set_limits(FIRST_MESSAGES);
        Self { opened, admitted, peer, deadline }
    }

    pub(super) fn peer(&self) -> SocketAddr {
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
        let text =
            |message: &Message| std::str::from_utf8(message.as_bytes()).ok().and_then(&parse);
        let is_websocket = talk.opened().protocol.is_websocket();
        let said = Some(&message).filter(|it| it.is_text() || !is_websocket).and_then(text);
        said.ok_or_else(|| {
            talk.close(Some(&CloseFrame::new(CloseCode::PROTOCOL_ERROR, "")), self.deadline);
            let what = "what a session begins with was not said";
            HandshakeError::BadUpgrade(what.into()).into()
        })
    }

    /// Its session was over on purpose before it heard of that: it hears it now, and its goodbye is awaited.
    pub(super) fn say_over(mut self, answer: &Answer, end: &CloseFrame) -> Result<(), Failure> {
        let deadline = self.deadline;
        let mut talk = Talk::new(&mut self.opened);
        talk.say(answer, deadline)?;
        talk.say(&Note::Report(answer.received), deadline)?;
        talk.say(&Note::End(end.clone()), deadline)?;
        loop {
            // whatever it is sent again is counted no more
            let said = talk.recv(deadline)?;
            if matches!(said.as_text().and_then(Note::parse), Some(Note::End(_))) {
                talk.finish(Some(end), Instant::now() + LINGER);
                return Ok(());
            }
        }
    }

    /// It cannot have its session now, and may come back.
    pub(super) fn turn_away(mut self, why: &'static str) {
        let frame = CloseFrame::new(CloseCode::TRY_AGAIN_LATER, why);
        Talk::new(&mut self.opened).finish(Some(&frame), Instant::now() + LINGER);
    }
}

//! The orderly end of a link, once the peer sends no more messages.

use std::io;
use std::time::{Duration, Instant};

use super::Owner;
use super::life::Ours;
use super::reader::Reader;
use crate::failure::Failure;
use crate::message::CloseFrame;

/// How long a peer may take to end the stream once both sides have said goodbye, and our writer
/// to end it in our direction.
const END_OF_STREAM: Duration = Duration::from_secs(1);

impl Reader<'_> {
    /// The peer sends no more messages, for this reason; `answer` is what it is to be told. Ends
    /// the link in order: all that is to be said is said, our close frame goes out, whatever the
    /// peer does meanwhile, and the stream is ended from the right side, the server's (RFC 6455
    /// section 7.1.1). A socket that is closed with something unread in it is reset, which can
    /// take from the peer what it has not read yet; so what still comes is read.
    pub(super) fn part(&mut self, cause: Failure, answer: Option<Option<CloseFrame>>) {
        let shared = self.shared;
        let closing = Instant::now() + shared.settings.timeouts().close;
        let (is_session, is_framed) =
            (shared.owner == Owner::Session, !shared.protocol.is_websocket());
        shared.life.peer_ends(cause);
        if let Some(frame) = &answer {
            shared.control.answer(frame.clone());
        }
        if shared.is_all_there_is() || is_session && answer.is_some() {
            // the handler receives what is left, answers, and returns
            shared.mailbox.end();
        }
        match answer {
            Some(frame) => self.answer(frame, is_session, closing),
            // on framed TCP a peer that has ended its stream may well wait for answers
            None if is_framed && is_session => {
                shared.life.wait(None, |state| state.ours == Ours::Ended);
            }
            // and a client's writer has to end what it is at
            None if is_framed => self.end_our_stream(closing),
            None => {}
        }
        let deadline = Instant::now() + shared.settings.timeouts().close.min(END_OF_STREAM);
        if shared.protocol.ends_stream() {
            self.end_our_stream(deadline);
            self.read_to_the_end(deadline);
        } else {
            shared.control.goodbye();
            shared.outbox.ring();
            self.read_to_the_end(deadline);
            self.end_our_stream(Instant::now() + END_OF_STREAM);
        }
    }

    /// The transport broke for this reason, and has something to say about it, an alert: that goes
    /// out, and the peer gets the time to read it.
    pub(super) fn say_why(&mut self, cause: Failure) {
        let shared = self.shared;
        let deadline = Instant::now() + shared.settings.timeouts().close.min(END_OF_STREAM);
        shared.life.peer_ends(cause);
        self.end_our_stream(deadline);
        self.deliver();
        self.read_to_the_end(deadline);
    }

    /// Has our close frame go out, if none has.
    fn answer(&self, frame: Option<CloseFrame>, is_session: bool, closing: Instant) {
        let shared = self.shared;
        let is_said = |until| shared.life.wait(Some(until), |state| state.ours > Ours::Open);
        if is_session {
            // the handler may have more to say
            if is_said(closing) {
                return;
            }
        }
        if shared.life.ask(|state| state.ours == Ours::Open) {
            shared.control.close_now(frame);
            shared.outbox.ring();
            is_said(closing.max(Instant::now() + END_OF_STREAM));
        }
    }

    fn end_our_stream(&self, deadline: Instant) {
        let shared = self.shared;
        shared.control.end();
        shared.outbox.ring();
        shared.life.wait(Some(deadline), |state| state.ours == Ours::Ended);
    }

    fn read_to_the_end(&mut self, deadline: Instant) {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.half.set_read_timeout(Some(left)).is_err() {
                return;
            }
            self.buffer.relax();
            match self.half.read(self.buffer.space()) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

//! The reader thread: socket -> decoder -> inbox.
//!
//! It fills its buffer once, decodes until nothing whole is left, delivers what that was, and
//! fills again. How it goes when the link ends: [`Reader::part`].

use std::io::{self, Read};
use std::time::{Duration, Instant};

use super::life::{Ours, Theirs};
use super::{InboxSlot, Owner, Shared};
use crate::failure::{Failure, HANDLER, guarded};
use crate::message::{CloseFrame, MessageRef};
use crate::policy::Beat;
use crate::queues::inbox::{Batch, Inbox, Room};
use crate::transport::{NoDataYet, ReadBuffer, ReadHalf};
use crate::wire::{Decoder, Item};

const READER: &str = "reader";

/// How long a peer may take to end the stream once both sides have said goodbye, and our writer
/// to end it in our direction.
const END_OF_STREAM: Duration = Duration::from_secs(1);

/// Once nothing came for so long the memory of the last burst is given back.
const IDLE: Duration = Duration::from_secs(1);

pub(super) fn run(
    shared: &Shared,
    decoder: Decoder,
    buffer: ReadBuffer,
    half: Box<dyn ReadHalf>,
    slot: &InboxSlot,
) {
    let Some(inbox) = slot.lock().take() else {
        let message = "the inbox was lost when a reader panicked".into();
        return shared.fail(Failure::Panicked { place: READER, message });
    };
    let batch = Batch::new(decoder.pool());
    let mut reader = Reader {
        shared,
        half,
        decoder,
        buffer,
        inbox,
        batch,
        timeout: None,
        was_deferred: false,
        place: READER,
    };
    // one guard for all of the program's code that runs here (its transport, its predicate, its
    // handler), none of which must take the inbox with it: a guard for each message costs
    let cause = guarded(READER, || reader.read());
    let cause = cause.unwrap_or_else(|panic| panic.at(reader.place));
    shared.fail(cause);
    reader.deliver();
    if shared.owner == Owner::Session {
        shared.mailbox.end();
    }
    *slot.lock() = Some(reader.inbox);
    shared.life.read();
}

struct Reader<'a> {
    shared: &'a Shared,
    half: Box<dyn ReadHalf>,
    decoder: Decoder,
    buffer: ReadBuffer,
    inbox: Inbox,
    batch: Batch,
    /// What the socket's read timeout is at the moment.
    timeout: Option<Option<Duration>>,
    /// Whether the peer was given more time in its present silence.
    was_deferred: bool,
    /// Whose code runs at the moment, should it panic.
    place: &'static str,
}

impl Reader<'_> {
    /// Delivers what the peer sends until the link is to die; returns why.
    fn read(&mut self) -> Failure {
        // a client whose program does not receive must not get a buffer more with each link
        self.shared.liveness.heard();
        self.inbox.wait_for_room(|| room(self.shared));
        loop {
            let (cause, answer) = match self.decode() {
                Ok(None) => match self.fill() {
                    Ok(0) => (self.decoder.end_of_stream(&self.buffer), None),
                    Ok(_) => continue,
                    Err(error) if is_timeout(&error) => {
                        return self.shared.silent(self.shared.liveness.silence());
                    }
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        (self.decoder.end_of_stream(&self.buffer).cut_off(), None)
                    }
                    Err(error) => return Failure::from(error),
                },
                Ok(Some(frame)) => (Failure::Closed(frame.clone()), Some(frame)),
                Err(Failure::Protocol { code, reason }) => {
                    let frame = CloseFrame::new(code, "");
                    (Failure::Protocol { code, reason }, Some(Some(frame)))
                }
                Err(failure) => return failure,
            };
            self.deliver();
            self.part(cause, answer);
            // the cause is noted
            return Failure::ClosedAbnormally;
        }
    }

    /// Hands on everything that is whole. Returns what the peer's close frame says, if one came.
    fn decode(&mut self) -> Result<Option<Option<CloseFrame>>, Failure> {
        let Self { shared, decoder, buffer, inbox, batch, place, .. } = self;
        while let Some(item) = decoder.decode(buffer)? {
            match item {
                Item::Message(message) => {
                    let message = message.on_link(shared.link);
                    take(shared, message, inbox, batch, place);
                }
                Item::Ping(payload) => {
                    shared.control.pong(payload);
                    shared.outbox.ring();
                }
                Item::Pong(payload) => shared.confirmed(shared.pings.pong(payload)),
                Item::Close(frame) => return Ok(Some(frame)),
            }
        }
        Ok(None)
    }

    /// Reads once. What was decoded is delivered before that blocks.
    fn fill(&mut self) -> io::Result<usize> {
        let held = self.half.read_buffered(self.buffer.space())?;
        self.ring_if_wanted();
        if held > 0 {
            self.buffer.filled(held);
            return Ok(held);
        }
        self.deliver();
        self.shared.liveness.reading();
        self.was_deferred = false;
        loop {
            self.set_timeout()?;
            let result = self.half.read(self.buffer.space());
            self.ring_if_wanted();
            match result {
                Ok(count) => {
                    self.buffer.filled(count);
                    self.shared.liveness.heard();
                    self.shared.outbox.heard();
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    // a signal is no sign of life
                    if NoDataYet::is_in(&error) {
                        self.shared.liveness.reading();
                    }
                }
                Err(error) if is_timeout(&error) => self.idle(),
                Err(error) => return Err(error),
            }
        }
    }

    fn ring_if_wanted(&mut self) {
        if self.half.wants_write() {
            self.shared.outbox.ring();
        }
    }

    /// Has the next read end when the peer has been silent for too long, and earlier if there is
    /// memory to be given back by then.
    fn set_timeout(&mut self) -> io::Result<()> {
        let mut wanted = match self.shared.settings.heartbeat.limit() {
            None => None,
            Some(limit) => {
                let silence = self.shared.liveness.silence();
                let mut left = limit.saturating_sub(silence);
                if left.is_zero() {
                    left = self.time_to_answer();
                }
                if left.is_zero() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                // a read that has just begun has the whole time
                Some(if silence < limit / 64 { limit } else { left })
            }
        };
        if self.buffer.is_large() {
            wanted = Some(wanted.unwrap_or(IDLE).min(IDLE));
        }
        if self.timeout != Some(wanted) {
            self.half.set_read_timeout(wanted)?;
            self.timeout = Some(wanted);
        }
        Ok(())
    }

    /// Nothing came for a while.
    fn idle(&mut self) {
        self.buffer.relax();
        self.half.relax();
        self.batch.relax();
    }

    /// How much more time a peer has that was silent for the limit: none, unless nobody has asked
    /// it, because this whole process was held up.
    fn time_to_answer(&mut self) -> Duration {
        let heartbeat = &self.shared.settings.heartbeat;
        let time = heartbeat.dead_after.saturating_sub(heartbeat.interval);
        let was_asked = !heartbeat.asks() || self.shared.liveness.had_to_answer(time / 2);
        if was_asked || std::mem::replace(&mut self.was_deferred, true) {
            Duration::ZERO
        } else {
            time
        }
    }

    fn deliver(&mut self) {
        if !self.batch.is_empty() {
            let shared = self.shared;
            self.inbox.deliver(&mut self.batch, || room(shared));
        }
    }

    /// The peer sends no more messages, for this reason; `answer` is what it is to be told. Ends
    /// the link in order: all that is to be said is said, our close frame goes out, whatever the
    /// peer does meanwhile, and the stream is ended from the right side, the server's (RFC 6455
    /// section 7.1.1). A socket that is closed with something unread in it is reset, which can
    /// take from the peer what it has not read yet; so what still comes is read.
    fn part(&mut self, cause: Failure, answer: Option<Option<CloseFrame>>) {
        let shared = self.shared;
        let closing = Instant::now() + shared.settings.close_timeout;
        let (is_session, is_framed) =
            (shared.owner == Owner::Session, !shared.protocol.is_websocket());
        shared.life.peer_ends(cause);
        if is_session {
            // first: a handler that returns at once ends with what answers the peer
            if let Some(frame) = &answer {
                shared.control.answer(frame.clone());
            }
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
        let deadline = Instant::now() + shared.settings.close_timeout.min(END_OF_STREAM);
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

/// How much a full inbox may take at the moment.
fn room(shared: &Shared) -> Room {
    shared.life.ask(|state| match state {
        state if state.is_leaving => Room::None,
        state if state.is_dead || state.theirs != Theirs::Open => Room::Beyond,
        _ => Room::Within,
    })
}

/// Hands a message on, unless it belongs to the heartbeat. Runs the program's code.
#[inline(always)]
fn take(
    shared: &Shared,
    message: MessageRef<'_>,
    inbox: &mut Inbox,
    batch: &mut Batch,
    place: &mut &'static str,
) {
    let heartbeat = &shared.settings.heartbeat;
    if let Some((ping, pong)) = &heartbeat.answer {
        if message.as_bytes() == ping {
            shared.control.reply(pong.clone());
            return shared.outbox.ring();
        }
    }
    if let Beat::Message { is_answer, .. } = &heartbeat.beat {
        *place = "heartbeat predicate";
        let is_answer = is_answer(&message);
        *place = READER;
        if is_answer {
            return shared.confirmed(shared.pings.answer());
        }
    }
    shared.counters.received(message.len());
    *place = HANDLER;
    inbox.take(message, batch);
    *place = READER;
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

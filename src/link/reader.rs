//! The reader thread: socket -> decoder -> inbox.
//!
//! It reads, decodes until nothing whole is left, delivers what that was before it has to wait, and
//! reads again. How it goes when the link ends: [`Reader::part`].

use std::io::{self, IoSliceMut, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::beats::SeenBeats;
use super::close_request::CloseRequest;
use super::delivery::{READER, Taking, deliver, room, take};
use super::life::{OurDirection, Parting};
use super::liveness::{HELD_UP, IDLE};
use super::pace::{closes, count, is_too_fast, meter, too_fast};
use super::shared::Shared;
use super::sorted::{Sorted, sort, violation};
use crate::failure::{Failure, HANDLER, Secrets, guarded};
use crate::message::{CloseCode, CloseFrame, Message, MessageRef};
use crate::policy::RateMeter;
use crate::queues::batch::Batch;
use crate::queues::inbox::Inbox;
use crate::settings::Side;
use crate::sync::Mutex;
use crate::transport::{ReadBuffer, ReadHalf, Reason};
use crate::wire::{Decoder, Item};

/// Keeps the inbox between two readers; empty while a reader has it.
pub(crate) type InboxSlot = Arc<Mutex<Option<Inbox>>>;

/// A read of at least this many bytes is part of a burst.
const BURST: usize = 2 * 1024;

/// A receiver is not kept waiting while more is read than this.
const SOON: usize = 256 * 1024;

/// How long the peer may take to end the stream once both sides have said goodbye, and how long our
/// writer may take to end our direction of it.
const END_OF_STREAM: Duration = Duration::from_secs(1);

/// How long a read may wait whose only purpose is to see what is there.
const LAST_LOOK: Duration = Duration::from_millis(1);

/// What a silent peer is given beyond the limit, in this order.
#[derive(Debug, Clone, Copy)]
enum Extension {
    None,
    /// The time for an answer, until then.
    Answer(Instant),
    /// What lies in the socket is read, until then: a thread that is late has not seen it.
    LastLook(Instant),
}

/// How the peer ends what it sends.
struct Goodbye {
    frame: Option<CloseFrame>,
    /// Whether the session is over with it.
    ends_session: bool,
}

/// What a reader begins with.
pub(super) struct Work {
    pub(super) decoder: Decoder,
    pub(super) buffer: ReadBuffer,
    pub(super) half: Box<dyn ReadHalf>,
    /// Messages that the login hook received and did not take.
    pub(super) kept: Vec<Message>,
    pub(super) secrets: Secrets,
}

// boxed, so that the stack frames that start the thread do not hold it
pub(super) fn run(shared: &Shared, work: Box<Work>, slot: &InboxSlot) {
    let Some(inbox) = slot.lock().take() else {
        let message = "the inbox was lost when a reader panicked".into();
        return shared.fail(Failure::Panicked { place: READER, message });
    };
    let Work { mut decoder, buffer, half, kept, secrets } = *work;
    let batch = Batch::new(Arc::clone(decoder.unfinished().pool()), decoder.unfinished().share());
    // on the heap: an idle connection costs every page of stack that its threads have ever touched
    let mut reader = Box::new(Reader {
        shared,
        half,
        decoder,
        buffer,
        secrets,
        inbox,
        batch,
        meter: meter(shared),
        is_paced: true,
        is_held_up: false,
        taking: Taking::All,
        beats: shared.beats.look(),
        beyond: 0,
        timeout: None,
        last_burst: None,
        extension: Extension::None,
        kept_waiting: 0,
        awaits_report: shared.begins_with_report(),
        place: READER,
    });
    // the program's code that runs here (transport, predicate, handler) may panic, and the inbox has to
    // survive that; one guard around everything, for a guard for each message would cost time
    let cause = guarded(READER, || {
        // a program that receives a message finds the link counted and the state up to date
        shared.life.wait_announced();
        reader.place = HANDLER;
        reader.inbox.begin();
        reader.place = READER;
        reader.deliver_kept(kept);
        reader.read()
    });
    let cause = cause.unwrap_or_else(|panic| reader.panicked(panic));
    shared.fail(cause);
    reader.deliver();
    if shared.is_the_last() {
        shared.mailbox.end();
        // the handler may wait for one, and the session ends when it returns
        shared.outbox.end_questions();
    }
    if let (Some(counts), Some(meter)) = (&shared.session, reader.meter) {
        counts.keep_meter(meter);
    }
    reader.inbox.relax();
    *slot.lock() = Some(reader.inbox);
    shared.life.end_reading();
}

struct Reader<'a> {
    shared: &'a Shared,
    half: Box<dyn ReadHalf>,
    decoder: Decoder,
    buffer: ReadBuffer,
    secrets: Secrets,
    inbox: Inbox,
    batch: Batch,
    /// Counts what comes, where that is limited.
    meter: Option<RateMeter>,
    /// Whether it is kept to that.
    is_paced: bool,
    /// Decoding has stopped for it.
    is_held_up: bool,
    taking: Taking,
    beats: SeenBeats,
    /// How many bytes were delivered over the bounds of the inbox.
    beyond: usize,
    /// The socket's read timeout at the moment, if one was set.
    timeout: Option<Option<Duration>>,
    /// When the last burst ended, while its memory is held.
    last_burst: Option<Instant>,
    /// What the peer was given beyond the limit in its present silence.
    extension: Extension,
    /// How much was read since it last handed over all that had come.
    kept_waiting: usize,
    /// Whether nothing else may come first.
    awaits_report: bool,
    /// Names the code that runs at the moment, in case it panics.
    place: &'static str,
}

impl Reader<'_> {
    /// Delivers the messages that the login hook did not take; they are counted already.
    fn deliver_kept(&mut self, kept: Vec<Message>) {
        let mut kept = kept.into_iter();
        while kept.len() > 0 {
            // one at a time: otherwise a program that does not receive would hold another inbox full with each link
            if !self.inbox.wait_for_room(|| room(self.shared)) {
                return self.shared.lose_kept(kept.len());
            }
            let Some(message) = kept.next() else { return };
            let message = MessageRef::whole(message).on_link(self.shared.link);
            self.place = HANDLER;
            self.inbox.take(message, &mut self.batch);
            self.place = READER;
            self.deliver();
        }
    }

    /// Delivers what the peer sends until the link is to die; returns why.
    fn read(&mut self) -> Failure {
        // otherwise a client whose program does not receive would hold another buffer with each link
        self.shared.liveness.heard();
        let has_room = self.inbox.wait_for_room(|| room(self.shared));
        if self.shared.life.is_dead() && (self.shared.session.is_some() || !has_room) {
            // a link that never had room adds nothing to a full inbox; a session's peer sends again what was
            // not counted
            return Failure::ClosedAbnormally;
        }
        loop {
            let mut ends_session = false;
            let (cause, answer) = match self.decode() {
                Ok(None) if self.pause() => continue,
                Ok(None) => match self.fill() {
                    Ok(0) => (self.decoder.end_of_stream(&self.buffer), None),
                    Ok(_) => continue,
                    Err(error) if is_timeout(&error) => {
                        return self.shared.silent(self.shared.liveness.silence());
                    }
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        (self.decoder.end_of_stream(&self.buffer).cut_off(), None)
                    }
                    Err(error) => {
                        let cause = Failure::from(error);
                        if !self.half.wants_write() {
                            return cause;
                        }
                        self.say_why(cause);
                        // the cause is noted
                        return Failure::ClosedAbnormally;
                    }
                },
                Ok(Some(goodbye)) => {
                    ends_session = goodbye.ends_session;
                    let shown = self.secrets.clean_close(goodbye.frame.as_ref());
                    (Failure::Closed(shown), Some(goodbye.frame))
                }
                Err(Failure::Protocol { code, reason }) => {
                    let failure = Failure::Protocol { code, reason };
                    ends_session = failure.comes_again().is_some();
                    (failure, Some(Some(CloseFrame::new(code, ""))))
                }
                Err(failure @ Failure::Framing { .. }) => {
                    let told = failure.told().filter(|_| self.shared.protocol.is_websocket());
                    (failure, Some(told.map(|code| CloseFrame::new(code, ""))))
                }
                Err(Failure::ClosedHere(frame)) => {
                    (Failure::ClosedHere(frame.clone()), Some(frame))
                }
                Err(failure) => return failure,
            };
            self.deliver();
            self.decoder.unfinished().abandon();
            self.part(cause, answer, ends_session);
            // the cause is noted
            return Failure::ClosedAbnormally;
        }
    }

    /// Hands on all whole items in the buffer. Returns the peer's goodbye, if it came.
    fn decode(&mut self) -> Result<Option<Goodbye>, Failure> {
        let Self {
            shared,
            decoder,
            buffer,
            inbox,
            batch,
            meter,
            is_paced,
            is_held_up,
            taking,
            beats,
            beyond,
            awaits_report,
            place,
            ..
        } = self;
        loop {
            if is_too_fast(meter.as_ref()) {
                if closes(meter.as_ref()) {
                    return Err(too_fast(shared));
                }
                if *is_paced {
                    *is_held_up = true;
                    return Ok(None);
                }
                if shared.session.is_some() && shared.life.is_dead() {
                    // it comes again
                    return Err(Failure::ClosedAbnormally);
                }
            }
            if !shared.intake.is_open() {
                if inbox.is_handler() && shared.intake.is_let_go() {
                    return Err(Failure::Interrupted);
                }
                if *taking == Taking::All && shared.intake.is_stopped() {
                    decoder.unfinished().hand_over(batch.share());
                    deliver(shared, inbox, batch, beyond)?;
                    inbox.ring();
                    shared.finished();
                    *taking = Taking::Nothing;
                }
            }
            let Some(item) = decoder.decode(buffer)? else { return Ok(None) };
            match item {
                Item::Message(message) => {
                    let mut message = message;
                    if let Some(counts) = &shared.session {
                        let sorted = sort(message, counts, &shared.protocol)?;
                        let is_report = matches!(sorted, Sorted::Report(_));
                        if std::mem::take(awaits_report) && !is_report {
                            return Err(violation("it does not begin with a report"));
                        }
                        message = match sorted {
                            Sorted::Message(message) => message,
                            Sorted::Report(received) => {
                                shared.reported(received);
                                continue;
                            }
                            Sorted::Ask => {
                                shared.control.report();
                                shared.outbox.ring();
                                continue;
                            }
                            Sorted::Nothing => continue,
                            Sorted::End(frame) => {
                                return Ok(Some(Goodbye {
                                    frame: Some(frame),
                                    ends_session: true,
                                }));
                            }
                        };
                    }
                    count(meter.as_mut(), shared)?;
                    let message = message.on_link(shared.link);
                    if beats.is_stale(&shared.beats) {
                        *beats = shared.beats.look();
                    }
                    take(shared, message, inbox, batch, beats.heartbeat(), taking, place);
                    if batch.is_full() {
                        decoder.unfinished().hand_over(batch.share());
                        deliver(shared, inbox, batch, beyond)?;
                    }
                }
                Item::Ping(payload) => {
                    count(meter.as_mut(), shared)?;
                    shared.log_control("received", "ping");
                    match taking {
                        Taking::All | Taking::Nothing => shared.control.pong(payload),
                        // a sign of life that confirms nothing
                        Taking::Missed => shared.control.ping(),
                    }
                    shared.outbox.ring();
                }
                Item::Pong(payload) => {
                    shared.log_control("received", "pong");
                    shared.answered(shared.pings.pong(payload));
                }
                Item::Close(frame) => {
                    shared.log_control("received", "close");
                    return Ok(Some(Goodbye { frame, ends_session: false }));
                }
            }
        }
    }

    /// Reads no further for as long as the peer was too fast; returns whether it was, and more is to be decoded.
    fn pause(&mut self) -> bool {
        let excess = self.meter.as_ref().filter(|_| self.is_paced).and_then(RateMeter::excess);
        let was_held_up = std::mem::take(&mut self.is_held_up);
        let Some(excess) = excess else { return was_held_up };
        let shared = self.shared;
        shared.counters.over_rate.fetch_add(1, Relaxed);
        let until = Instant::now() + excess;
        if !self.deliver() || shared.life.wait_reached(OurDirection::Closed, Some(until)) {
            // it is over, and its goodbye may be behind much that it has sent
            self.is_paced = false;
        }
        true
    }

    /// Reads once, and delivers what was decoded before the read blocks.
    fn fill(&mut self) -> io::Result<usize> {
        let held = match self.read_once(|half, bufs| half.read_buffered_vectored(bufs)) {
            Ok(held) => held,
            Err(error) => {
                // what was received before the error is delivered before the link counts as down
                self.deliver();
                return Err(error);
            }
        };
        self.ring_if_wanted();
        self.kept_waiting = if held > 0 { self.kept_waiting + held } else { SOON };
        if held > 0 {
            self.shared.liveness.heard();
            self.shared.outbox.heard();
        }
        if self.kept_waiting >= SOON {
            self.kept_waiting = 0;
            if !self.deliver() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
        if self.shared.is_taken_over() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if held > 0 {
            return Ok(held);
        }
        self.shared.liveness.reading();
        self.extension = Extension::None;
        if self.shared.intake.rest() && self.taking == Taking::All {
            self.shared.finished();
            self.taking = Taking::Nothing;
        }
        loop {
            self.set_timeout()?;
            match self.read_once(|half, bufs| half.read_vectored(bufs)) {
                Ok(count) => {
                    self.shared.intake.go_on();
                    self.ring_if_wanted();
                    self.relax_after_burst(count);
                    self.shared.liveness.heard();
                    self.shared.outbox.heard();
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    self.ring_if_wanted();
                    // a signal is no sign of life
                    if Reason::of(&error) == Some(Reason::NoDataYet) {
                        self.shared.liveness.reading();
                    }
                }
                Err(error) if is_timeout(&error) => self.idle(),
                Err(error) => return Err(error),
            }
        }
    }

    /// No more at once than may come in a second.
    fn read_once(
        &mut self,
        read: impl FnOnce(&mut dyn ReadHalf, &mut [IoSliceMut<'_>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let Self { decoder, buffer, half, meter, .. } = self;
        let most = meter.as_ref().map_or(usize::MAX, RateMeter::most);
        let count = decoder.read(buffer, most, |bufs| read(&mut **half, bufs))?;
        if let Some(meter) = meter {
            meter.bytes(count);
        }
        Ok(count)
    }

    fn ring_if_wanted(&mut self) {
        if self.half.wants_write() {
            self.shared.outbox.ring();
        }
    }

    /// The next read times out when the peer has been silent for too long, or earlier when memory is to
    /// be given back.
    fn set_timeout(&mut self) -> io::Result<()> {
        if self.beats.is_stale(&self.shared.beats) {
            self.beats = self.shared.beats.look();
        }
        let mut wanted = match self.beats.heartbeat().limit() {
            None => None,
            Some(limit) => {
                let silence = self.shared.liveness.silence();
                let mut left = limit.saturating_sub(silence);
                if left.is_zero() {
                    left = self.extend(silence);
                }
                if left.is_zero() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                // one system call less: at the beginning of a silence the timeout stays as it is
                Some(if silence < limit / 256 { limit } else { left })
            }
        };
        if self.holds_much() {
            wanted = Some(wanted.unwrap_or(IDLE).min(IDLE));
        }
        if self.timeout != Some(wanted) {
            self.half.set_read_timeout(wanted)?;
            self.timeout = Some(wanted);
        }
        Ok(())
    }

    /// Gives back what the last burst took if little comes since.
    fn relax_after_burst(&mut self, count: usize) {
        if count >= BURST {
            self.last_burst = None;
        } else if self.holds_much() {
            let since = *self.last_burst.get_or_insert_with(Instant::now);
            if since.elapsed() >= IDLE {
                self.idle();
            }
        }
    }

    fn holds_much(&self) -> bool {
        self.buffer.is_large() || self.batch.is_large() || self.decoder.is_large()
    }

    /// Little or nothing came for a while.
    fn idle(&mut self) {
        self.last_burst = None;
        self.buffer.relax();
        self.decoder.relax();
        self.half.relax();
        self.batch.relax();
        self.inbox.relax();
    }

    /// How much more time a peer gets that was silent for the limit: that for an answer, if it was not
    /// asked or this whole process was held up; then a look at what has come since it was last read.
    fn extend(&mut self, silence: Duration) -> Duration {
        let heartbeat = self.beats.heartbeat();
        let time = heartbeat.dead_after.saturating_sub(heartbeat.interval);
        let was_held_up = silence >= heartbeat.dead_after.saturating_add(HELD_UP);
        let was_asked = !heartbeat.asks() || self.shared.liveness.had_to_answer(time / 2);
        let now = Instant::now();
        let is_granted = match self.extension {
            Extension::None => was_held_up || !was_asked,
            // held up again, before the peer could use it
            Extension::Answer(until) | Extension::LastLook(until) => {
                now.saturating_duration_since(until) >= HELD_UP
            }
        };
        if is_granted {
            self.extension = Extension::Answer(now + time);
        }
        match self.extension {
            // a signal does not end it
            Extension::Answer(until) if until > now => until - now,
            Extension::None | Extension::Answer(_) => {
                self.extension = Extension::LastLook(now + LAST_LOOK);
                LAST_LOOK
            }
            Extension::LastLook(_) => Duration::ZERO,
        }
    }

    /// Returns whether more may follow.
    fn deliver(&mut self) -> bool {
        let mut may_follow = true;
        if !self.batch.is_empty() {
            self.decoder.unfinished().hand_over(self.batch.share());
            let Self { shared, inbox, batch, beyond, .. } = self;
            may_follow = deliver(shared, inbox, batch, beyond).is_ok();
        }
        self.inbox.ring();
        self.decoder.unfinished().delivered();
        may_follow
    }

    /// The program's code has. A session's handler is not called again, and its peer is told.
    fn panicked(&mut self, panic: Failure) -> Failure {
        let panic = panic.at(self.place);
        if self.shared.settings.side == Side::Client || self.place != HANDLER {
            return panic;
        }
        let frame = CloseFrame::new(CloseCode::INTERNAL_ERROR, "");
        let told = guarded(READER, || {
            self.decoder.unfinished().abandon();
            self.part(panic, Some(Some(frame)), true);
        });
        // the first cause is noted
        told.err().unwrap_or(Failure::ClosedAbnormally)
    }

    /// Ends the link in order once the peer sends no more messages, for this reason: our close frame,
    /// with `answer`, goes out behind what is left to say, and the server ends the stream first (RFC 6455
    /// section 7.1.1). What still comes is read: a socket that is closed with unread bytes in it is
    /// reset, which can destroy what the peer has not read yet.
    fn part(&mut self, cause: Failure, answer: Option<Option<CloseFrame>>, ends_session: bool) {
        let shared = self.shared;
        let closing = Instant::now() + shared.settings.timeouts().close;
        let (is_the_last, is_framed) = (shared.is_the_last(), !shared.protocol.is_websocket());
        let is_server = shared.settings.side == Side::Session;
        shared.life.peer_ends(cause, answer.clone());
        // a close may have waited for what the peer will not confirm any more
        shared.outbox.ring();
        if is_the_last || is_server && ends_session {
            // the handler receives what is left, answers, and returns
            shared.mailbox.end();
            shared.outbox.end_questions();
        }
        let has_handler_here = self.inbox.is_handler() && is_server;
        if has_handler_here && (is_the_last || ends_session) {
            // it has said what it had to say, as one that has returned
            shared.outbox.shut();
            let request = CloseRequest::after_data(CloseFrame::new(CloseCode::NORMAL, ""));
            shared.close(request.answering().by(closing));
        }
        match answer {
            // a handler may have more to say, or has it queued
            Some(_)
                if (is_the_last || has_handler_here && ends_session)
                    && shared.life.wait_reached(OurDirection::Closed, Some(closing)) => {}
            Some(frame) => {
                shared.close(CloseRequest::urgent(frame).ending_session(ends_session));
                let deadline = closing.max(Instant::now() + END_OF_STREAM);
                shared.life.wait_reached(OurDirection::Closed, Some(deadline));
            }
            // on framed TCP a peer that has ended its stream may well wait for answers
            None if is_framed && is_the_last => {
                shared.life.wait_reached(OurDirection::Ended, None);
            }
            // a client's writer finishes what it is writing
            None if is_framed => self.end_our_stream(closing),
            None => {}
        }
        let deadline = Instant::now() + shared.settings.timeouts().close.min(END_OF_STREAM);
        if shared.protocol.ends_stream() {
            self.end_our_stream(deadline);
            self.read_to_the_end(deadline);
        } else {
            shared.part(Parting::Goodbye);
            self.read_to_the_end(deadline);
            self.end_our_stream(Instant::now() + END_OF_STREAM);
        }
    }

    /// The transport broke for this reason, and has an alert to send: the alert goes out, and the peer
    /// gets the time to read it.
    fn say_why(&mut self, cause: Failure) {
        let shared = self.shared;
        let deadline = Instant::now() + shared.settings.timeouts().close.min(END_OF_STREAM);
        shared.life.peer_ends(cause, None);
        self.end_our_stream(deadline);
        self.deliver();
        self.read_to_the_end(deadline);
    }

    fn end_our_stream(&self, deadline: Instant) {
        self.shared.part(Parting::End);
        self.shared.life.wait_reached(OurDirection::Ended, Some(deadline));
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

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

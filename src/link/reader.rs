//! The reader thread: socket -> decoder -> inbox.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use super::{InboxSlot, Shared};
use crate::failure::{Failure, HANDLER, guarded};
use crate::message::{CloseFrame, Message};
use crate::policy::Beat;
use crate::queues::inbox::Inbox;
use crate::transport::{Ahead, NoDataYet, ReadHalf};
use crate::wire::{Decoder, Incoming, Item};

const READER: &str = "reader";

/// How long a peer may take to end the stream once it has said goodbye, or was told to go.
const END_OF_STREAM: Duration = Duration::from_secs(1);

pub(super) fn run(
    shared: &Shared,
    mut decoder: Decoder,
    half: Box<dyn ReadHalf>,
    slot: &InboxSlot,
) {
    let Some(inbox) = slot.lock().take() else {
        let message = "the inbox was lost when a reader panicked".into();
        return shared.fail(Failure::Panicked { place: "reader", message });
    };
    let batch = VecDeque::new();
    let mut stream = Watched {
        half,
        shared,
        inbox,
        batch,
        ahead: Ahead::new(),
        shortened: false,
        deferred: false,
        deadline: None,
        place: READER,
    };
    // one guard for all of the program's code that runs here (its transport, its predicate, its
    // handler), none of which must take the inbox with it: a guard for each message costs
    let cause = guarded(READER, || read(shared, &mut decoder, &mut stream));
    let cause = cause.unwrap_or_else(|panic| panic.at(stream.place));
    shared.fail(cause);
    stream.deliver_batch();
    match (&stream.inbox, shared.only) {
        (Inbox::Mailbox(mailbox), true) => mailbox.end(),
        (_, true) => {}
        (_, false) => {
            *slot.lock() = Some(stream.inbox);
        }
    }
}

/// Delivers what the peer sends until the link is dead; returns why.
fn read(shared: &Shared, decoder: &mut Decoder, stream: &mut Watched<'_>) -> Failure {
    let limit = shared.settings.heartbeat.limit();
    if let Err(error) = stream.half.set_read_timeout(limit) {
        return Failure::Io(error);
    }
    loop {
        match decoder.deliver(stream) {
            Ok(Item::Message(message)) => stream.deliver(message),
            Ok(Item::Ping(payload)) => {
                shared.lane.pong(payload);
                shared.outbox.ring();
            }
            Ok(Item::Pong(payload)) => shared.confirmed(shared.progress.pong(&payload)),
            Ok(Item::Close(frame)) => {
                shared.cause.record(Failure::Closed(frame.clone()));
                return say_goodbye(shared, stream, frame.clone(), Failure::Closed(frame));
            }
            Err(Failure::Protocol { code, reason }) => {
                let frame = CloseFrame::new(code, "");
                let cause = || Failure::Protocol { code, reason: reason.clone() };
                shared.cause.record(cause());
                return say_goodbye(shared, stream, Some(frame), cause());
            }
            Err(Failure::Io(error)) if is_timeout(&error) => {
                // only set with a limit
                return shared.silent(limit.unwrap_or_default());
            }
            Err(failure) => return failure,
        }
    }
}

/// Has the writer send a close frame, and waits for the peer to end the stream: it should be
/// the server that does (RFC 6455 section 7.1.1), and a socket that is shut down with unread
/// data in it is reset, which can take the close frame away from the peer.
fn say_goodbye(
    shared: &Shared,
    stream: &mut Watched<'_>,
    frame: Option<CloseFrame>,
    cause: Failure,
) -> Failure {
    shared.lane.close_now(frame);
    shared.goodbye.raise();
    shared.outbox.ring();
    stream.deadline = Some(Instant::now() + shared.settings.close_timeout.min(END_OF_STREAM));
    let mut discarded = vec![0; 4096];
    while matches!(stream.read(&mut discarded), Ok(1..)) {}
    cause
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// What the transport has received and not yet given out.
struct Held<'a>(&'a mut dyn ReadHalf);

impl Read for Held<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_buffered(buf)
    }
}

/// The read half, with an eye on how long the peer is silent. What was received is delivered
/// before more is read: one delivery for all the messages of a read.
struct Watched<'a> {
    half: Box<dyn ReadHalf>,
    shared: &'a Shared,
    inbox: Inbox,
    batch: VecDeque<Message>,
    ahead: Ahead,
    /// Whether the read timeout is below the heartbeat's limit at the moment.
    shortened: bool,
    /// Whether the peer was given more time in its present silence.
    deferred: bool,
    /// When to stop reading, whatever comes.
    deadline: Option<Instant>,
    /// Whose code runs at the moment, should it panic.
    place: &'static str,
}

impl Incoming for Watched<'_> {
    /// Delivers a message, unless it belongs to the heartbeat. Runs the program's code.
    #[inline(always)]
    fn deliver(&mut self, message: Message) {
        let shared = self.shared;
        let heartbeat = &shared.settings.heartbeat;
        if let Some((ping, pong)) = &heartbeat.answer {
            if message.as_bytes() == ping {
                shared.lane.reply(pong.clone());
                return shared.outbox.ring();
            }
        }
        if let Beat::Message { is_answer, .. } = &heartbeat.beat {
            self.place = "heartbeat predicate";
            let is_answer = is_answer(&message);
            self.place = READER;
            if is_answer {
                return shared.confirmed(shared.progress.answer());
            }
        }
        shared.counters.received(message.len());
        self.place = HANDLER;
        self.inbox.take(message, &mut self.batch);
        self.place = READER;
    }
}

impl Watched<'_> {
    fn deliver_batch(&mut self) {
        if !self.batch.is_empty() {
            self.inbox.deliver(&mut self.batch, self.shared.abandoned.raised());
        }
    }

    /// A read ended with nothing, for its time is over or a signal came: goes on as long as the
    /// peer has time. A signal does not give it more, for what is left is what is left of its
    /// silence.
    fn read_on(&mut self, is_over: bool) -> io::Result<()> {
        let mut left = match self.shared.settings.heartbeat.limit() {
            None if !is_over => return Ok(()),
            Some(limit) if !is_over => limit.saturating_sub(self.shared.liveness.silence()),
            _ => Duration::ZERO,
        };
        if left.is_zero() {
            left = self.time_to_answer();
        }
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.shortened = true;
        self.half.set_read_timeout(Some(left.max(Duration::from_millis(1))))
    }

    /// How much more time a peer has that was silent for the limit: none, unless nobody has asked
    /// it, because this whole process was held up.
    fn time_to_answer(&mut self) -> Duration {
        let heartbeat = &self.shared.settings.heartbeat;
        let time = heartbeat.dead_after.saturating_sub(heartbeat.interval);
        let was_asked = !heartbeat.asks() || self.shared.liveness.had_to_answer(time / 2);
        if was_asked || std::mem::replace(&mut self.deferred, true) { Duration::ZERO } else { time }
    }
}

impl Read for Watched<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.ahead.has_unread() {
            return self.ahead.read(buf, &mut io::empty());
        }
        let held = self.ahead.read(buf, &mut Held(&mut *self.half))?;
        if self.half.wants_write() {
            self.shared.outbox.ring();
        }
        if held > 0 {
            return Ok(held);
        }
        self.deliver_batch();
        self.shared.liveness.reading();
        self.deferred = false;
        loop {
            if let Some(deadline) = self.deadline {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                self.half.set_read_timeout(Some(left))?;
            }
            let result = self.ahead.read(buf, &mut self.half);
            if self.half.wants_write() {
                self.shared.outbox.ring();
            }
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    if NoDataYet::is_in(&error) {
                        self.shared.liveness.reading();
                    }
                    self.read_on(false)?;
                }
                Err(error) if is_timeout(&error) && self.deadline.is_none() => {
                    self.read_on(true)?;
                }
                result => {
                    self.shared.liveness.heard();
                    self.shared.outbox.heard();
                    if result.is_ok() && std::mem::take(&mut self.shortened) {
                        let limit = self.shared.settings.heartbeat.limit();
                        self.half.set_read_timeout(limit)?;
                    }
                    return result;
                }
            }
        }
    }
}

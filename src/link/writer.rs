//! The writer thread: control lane and outbox -> encoder -> socket.
//!
//! It is the only one that ever waits for the socket to take something. While it sleeps its
//! [`Pen`] lies on the [`Desk`](super::desk::Desk), where a thread that has one small message to send, or a beat,
//! can take it to write without waiting: that saves two switches of threads. Nobody writes
//! without the pen, so frames never interleave.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use crossbeam_channel::select;

use super::Shared;
use super::lane::{Close, Slots};
use super::liveness::HELD_UP;
use crate::failure::Failure;
use crate::failure::guarded;
use crate::message::Message;
use crate::policy::Beat;
use crate::queues::outbox::Entry;
use crate::transport::WriteHalf;
use crate::wire::websocket::WRITE_BUFFER;
use crate::wire::{Encoder, Protocol};

/// When to ask the peer what it has: after so many messages, so many bytes or so much time with
/// something written, whichever is first, and only when no answer is outstanding.
const ASK_AFTER_MESSAGES: u64 = 256;
const ASK_AFTER_BYTES: usize = 256 * 1024;
const ASK_AFTER: Duration = Duration::from_millis(10);

/// No larger message is written past the writer thread.
pub(super) const SMALL: usize = 16 * 1024;

/// What it takes to write. Whoever holds it is the only one who writes to the socket: the writer
/// thread, and while that sleeps, whoever takes it from the desk.
#[derive(Debug)]
pub(super) struct Pen {
    encoder: Encoder,
    stream: Stream,
    /// How many messages of the outbox were encoded.
    sequence: u64,
    /// The number of the last of them.
    last: u64,
    unasked: Unasked,
    /// Messages that were encoded and may not have reached the socket whole, each with the
    /// place in the stream where it ends.
    unwritten: VecDeque<(u64, Entry)>,
}

/// The writer thread.
pub(super) fn run(shared: &Shared, mut half: Box<dyn WriteHalf>) {
    let timeout = shared.settings.write_timeout;
    let ready = half.set_write_timeout(Some(timeout));
    let mut pen = Box::new(Pen {
        encoder: shared.protocol.encoder(),
        stream: Stream { half, timeout, now: timeout, written: 0 },
        sequence: 0,
        last: 0,
        unasked: Unasked::default(),
        unwritten: VecDeque::new(),
    });
    let mut result = Ok(ready.map(|()| Rest::Until(Some(Instant::now()))));
    while let Ok(Ok(Rest::Until(due))) = result {
        shared.desk.put(pen);
        shared.outbox.doorbell().wait(due);
        pen = shared.desk.take();
        let mut writer = Writer { shared, pen, may_wait: true };
        // a transport can be the program's own
        result = guarded("writer", || writer.write());
        pen = writer.pen;
    }
    let mut writer = Writer { shared, pen, may_wait: false };
    writer.account();
    writer.give_back();
    match result {
        Ok(Ok(_)) => {}
        Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => {
            shared.fail(Failure::WriteTimeout { timeout });
        }
        Ok(Err(error)) => shared.fail(Failure::Io(error)),
        Err(panic) => {
            log::error!("{panic}");
            shared.fail(panic);
        }
    }
}

/// What comes after writing.
enum Rest {
    /// Sleep until somebody rings, or until then.
    Until(Option<Instant>),
    /// Nothing more is to be written.
    Over,
}

/// On another thread, while the writer sleeps: writes without waiting. Returns whether that was
/// all; if not, the writer has to be woken.
pub(super) fn write_now(
    shared: &Shared,
    write: impl FnOnce(&mut Writer<'_>) -> io::Result<bool>,
) -> bool {
    let Some(pen) = shared.desk.try_take() else { return false };
    let mut writer = Writer { shared, pen, may_wait: false };
    let result = guarded("writer", || write(&mut writer));
    writer.account();
    shared.desk.put(writer.pen);
    match result {
        Ok(Ok(is_all)) => is_all,
        // the writer meets the same error, or waits where this one could not
        Ok(Err(_)) => false,
        Err(panic) => {
            log::error!("{panic}");
            shared.fail(panic);
            false
        }
    }
}

/// Somebody with a pen in the hand.
pub(super) struct Writer<'a> {
    shared: &'a Shared,
    pen: Box<Pen>,
    /// Whether the socket may be waited for.
    may_wait: bool,
}

/// What was encoded since the last ping.
#[derive(Debug, Default)]
struct Unasked {
    messages: u64,
    bytes: usize,
    since: Option<Instant>,
}

impl Writer<'_> {
    /// Writes until there is nothing left to write.
    fn write(&mut self) -> io::Result<Rest> {
        let mut batch = VecDeque::new();
        while !self.shared.is_dead() {
            if self.control(self.shared.lane.take())? {
                return Ok(Rest::Over);
            }
            self.shared.outbox.take(&mut batch, WRITE_BUFFER);
            if batch.is_empty() {
                if let Some(close) = self.shared.lane.take_close() {
                    self.close(close)?;
                    return Ok(Rest::Over);
                }
                let due = self.ask_if_due()?;
                // the question, what another thread could not finish, and what the transport has
                // to say of itself
                self.flush()?;
                self.account();
                return Ok(Rest::Until(due));
            }
            let result = self.data(&mut batch).and_then(|()| {
                // one write carries both
                self.ask_if_due()?;
                self.flush()
            });
            if result.is_err() {
                self.shared.outbox.restore(&mut batch);
            }
            self.account();
            result?;
        }
        Ok(Rest::Over)
    }

    /// Writes the next message if it is a small one. Returns whether nothing is left to do.
    pub(super) fn write_one(&mut self) -> io::Result<bool> {
        let mut batch = VecDeque::with_capacity(1);
        self.shared.outbox.take(&mut batch, 1);
        if batch.iter().any(|entry| entry.message.len() > SMALL) {
            self.shared.outbox.restore(&mut batch);
            return Ok(false);
        }
        self.data(&mut batch)?;
        self.flush()?;
        // the writer knows when it is time to ask, and others may have queued something behind it
        Ok(self.shared.outbox.is_quiet())
    }

    /// Writes a ping.
    pub(super) fn ping_now(&mut self) -> io::Result<bool> {
        self.ping()?;
        self.flush().map(|()| true)
    }

    /// Encodes a question for what the peer has, if somebody wants to know and it is time;
    /// returns when it will be, if nothing else happens before.
    fn ask_if_due(&mut self) -> io::Result<Option<Instant>> {
        let Unasked { messages, bytes, since: Some(since) } = self.pen.unasked else {
            return Ok(None);
        };
        let (wanted, urgent) = self.shared.outbox.wants_confirmation();
        if !wanted {
            return Ok(None);
        }
        if !urgent {
            if self.shared.progress.is_waiting() {
                // the answer rings
                return Ok(None);
            }
            let due = since + ASK_AFTER;
            let is_enough = messages >= ASK_AFTER_MESSAGES || bytes >= ASK_AFTER_BYTES;
            if !is_enough && Instant::now() < due {
                return Ok(Some(due));
            }
        }
        self.ask()?;
        Ok(None)
    }

    /// Encodes a ping, or the beat that serves as one.
    fn ask(&mut self) -> io::Result<()> {
        let beat = match (self.shared.protocol, &self.shared.settings.heartbeat.beat) {
            (Protocol::WebSocket(_), _) => None,
            (Protocol::Framed(_), Beat::Message { payload, .. }) => Some(
                guarded("heartbeat payload", || payload())
                    .map_err(|panic| io::Error::other(panic.to_string()))?,
            ),
            // nobody is told that this connection could be asked
            (Protocol::Framed(_), _) => return Ok(()),
        };
        match beat {
            None => self.ping(),
            Some(message) => self.beat(message),
        }
    }

    fn ping(&mut self) -> io::Result<()> {
        self.pen.unasked = Unasked::default();
        let payload = self.shared.progress.ping(self.pen.sequence, self.pen.last);
        let (encoder, mut stream) = self.parts();
        encoder.ping(payload, &mut stream)
    }

    fn beat(&mut self, message: Message) -> io::Result<()> {
        self.pen.unasked = Unasked::default();
        self.shared.progress.beat(self.pen.sequence, self.pen.last);
        self.encode(message)
    }

    fn encode(&mut self, message: Message) -> io::Result<()> {
        let (encoder, mut stream) = self.parts();
        encoder.message(message, &mut stream)
    }

    /// Writes out what is encoded.
    fn flush(&mut self) -> io::Result<()> {
        let (encoder, mut stream) = self.parts();
        encoder.flush(&mut stream)
    }

    fn parts(&mut self) -> (&mut Encoder, Counted<'_>) {
        let Pen { encoder, stream, .. } = &mut *self.pen;
        (encoder, Counted { stream, shared: self.shared, may_wait: self.may_wait })
    }

    /// Writes what the control lane holds; returns whether that ended it.
    fn control(&mut self, slots: Slots) -> io::Result<bool> {
        let Slots { pongs, replies, ping, beat, close } = slots;
        let quiet = pongs.is_empty() && replies.is_empty() && !ping && beat.is_none();
        for payload in pongs {
            let (encoder, mut stream) = self.parts();
            encoder.pong(payload, &mut stream)?;
        }
        for message in replies {
            self.encode(message)?;
        }
        if ping {
            self.ping()?;
        }
        if let Some(message) = beat {
            self.beat(message)?;
        }
        if let Some(close) = close {
            self.close(close)?;
            return Ok(true);
        }
        if !quiet {
            self.flush()?;
        }
        Ok(false)
    }

    fn close(&mut self, close: Close) -> io::Result<()> {
        let frame = match close {
            Close::Now(frame) => frame,
            Close::AfterData(frame) => {
                // the last chance to learn what has arrived
                if self.pen.unasked.messages > 0 && self.shared.outbox.wants_confirmation().0 {
                    self.ask()?;
                }
                Some(frame)
            }
        };
        let (encoder, mut stream) = self.parts();
        encoder.close(frame.as_ref(), &mut stream)?;
        if self.shared.protocol.ends_stream() {
            return self.pen.stream.half.finish();
        }
        // after the peer's own goodbye, for it may take ours as the end of both directions
        select! {
            recv(self.shared.goodbye.raised()) -> _ => self.pen.stream.half.say_goodbye(),
            recv(self.shared.died.raised()) -> _ => Ok(()),
        }
    }

    /// Encodes a batch.
    fn data(&mut self, batch: &mut VecDeque<Entry>) -> io::Result<()> {
        const NOT_WHOLE: u64 = u64::MAX;
        while let Some(entry) = batch.pop_front() {
            // a clone of a message shares its payload
            let (number, message) = (entry.number, entry.message.clone());
            let size = message.len();
            self.pen.unwritten.push_back((NOT_WHOLE, entry));
            match self.shared.settings.fragment_size {
                Some(size) if message.len() > size => self.fragments(message, size)?,
                _ => self.encode(message)?,
            }
            let encoded = self.pen.encoder.encoded();
            if let Some((end, _)) = self.pen.unwritten.back_mut() {
                *end = encoded;
            }
            self.pen.sequence += 1;
            self.pen.last = number;
            self.pen.unasked.messages += 1;
            self.pen.unasked.bytes += size;
        }
        self.pen.unasked.since.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// Writes a message in fragments, with the control lane in between. What may not stand
    /// inside a message goes back into the lane.
    fn fragments(&mut self, message: Message, size: usize) -> io::Result<()> {
        let (shared, sequence, last) = (self.shared, self.pen.sequence, self.pen.last);
        let (encoder, mut stream) = self.parts();
        encoder.fragments(message, size, &mut stream, |encoder, stream| {
            let Slots { pongs, replies, ping, beat, close } = shared.lane.take();
            if let Some(Close::Now(frame)) = close {
                shared.lane.close_now(frame);
            }
            if let Some(message) = beat {
                shared.lane.beat(message);
            }
            replies.into_iter().for_each(|message| shared.lane.reply(message));
            for payload in pongs {
                encoder.pong(payload, stream)?;
            }
            if ping {
                encoder.ping(shared.progress.ping(sequence, last), stream)?;
            }
            encoder.flush(stream)
        })
    }

    /// Accounts for what has reached the socket whole.
    fn account(&mut self) {
        let reached = self.pen.stream.written;
        let written = self.pen.unwritten.partition_point(|(end, _)| *end <= reached);
        let whole = self.pen.unwritten.drain(..written);
        let whole: Vec<Entry> = whole.map(|(_, entry)| entry).collect();
        if whole.is_empty() {
            return;
        }
        let bytes = whole.iter().map(|entry| entry.message.len()).sum();
        self.shared.counters.sent(written, bytes);
        self.shared.progress.written(written);
        // last: it wakes those who wait for room, and they may look at the counters
        self.shared.outbox.written(whole.into_iter());
    }

    /// The end: what has not reached the socket whole goes back to the outbox. A frame that is
    /// cut off never becomes a message at the peer, so it can be sent again.
    fn give_back(&mut self) {
        let rest = self.pen.unwritten.drain(..).map(|(_, entry)| entry);
        self.shared.outbox.restore(&mut rest.collect());
    }
}

/// The write half, and how much of what was encoded it has taken.
#[derive(Debug)]
struct Stream {
    half: Box<dyn WriteHalf>,
    timeout: Duration,
    /// What the socket's timeout is at the moment.
    now: Duration,
    written: u64,
}

/// The same in somebody's hands, for the encoder to write to.
struct Counted<'a> {
    stream: &'a mut Stream,
    shared: &'a Shared,
    may_wait: bool,
}

impl Counted<'_> {
    /// The socket took nothing for a whole timeout. A peer that still sends is alive all the
    /// same, and so is one that waits for this program to receive: they get until they have
    /// been silent for as long. Nor is it the peer's fault if this process was held up.
    fn stuck(&mut self, due: Instant) -> io::Result<()> {
        let mut left = self.stream.timeout.saturating_sub(self.shared.liveness.silence());
        if due.elapsed() >= HELD_UP {
            left = self.stream.timeout;
        }
        if left.is_zero() || self.shared.is_dead() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.set_timeout(left)
    }

    /// A signal came. The socket does not get more time for that.
    fn interrupted(&mut self, due: Instant) -> io::Result<()> {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() { self.stuck(due) } else { self.set_timeout(left) }
    }

    fn set_timeout(&mut self, time: Duration) -> io::Result<()> {
        self.stream.now = time.max(Duration::from_millis(1));
        self.stream.half.set_write_timeout(Some(self.stream.now))
    }
}

impl Write for Counted<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
        if !self.may_wait {
            let count = self.stream.half.try_write(buf)?;
            self.stream.written += count as u64;
            return Ok(count);
        }
        loop {
            let due = Instant::now() + self.stream.now;
            match self.stream.half.write(buf) {
                Ok(count) => {
                    self.stream.written += count as u64;
                    if self.stream.now != self.stream.timeout {
                        self.set_timeout(self.stream.timeout)?;
                    }
                    return Ok(count);
                }
                Err(error) if error.kind() == Interrupted => self.interrupted(due)?,
                Err(error) if matches!(error.kind(), WouldBlock | TimedOut) => self.stuck(due)?,
                Err(error) => return Err(error),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        // what the transport has to say of itself can wait for the writer
        if self.may_wait { self.stream.half.flush() } else { Ok(()) }
    }
}

//! The writer thread: control lane and outbox -> encoder -> socket. It is the only one that
//! ever writes to the socket.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use crossbeam_channel::select;

use super::Shared;
use super::lane::{Close, Slots};
use crate::failure::Failure;
use crate::failure::guarded;
use crate::message::Message;
use crate::outbox::Entry;
use crate::policy::Beat;
use crate::protocol::websocket::WRITE_BUFFER;
use crate::protocol::{Encoder, Protocol};
use crate::transport::WriteHalf;

/// When to ask the peer what it has: after so many messages, so many bytes or so much time with
/// something written, whichever is first, and only when no answer is outstanding.
const ASK_AFTER_MESSAGES: u64 = 256;
const ASK_AFTER_BYTES: usize = 256 * 1024;
const ASK_AFTER: Duration = Duration::from_millis(10);

pub(super) fn run(shared: &Shared, mut half: Box<dyn WriteHalf>) {
    let timeout = shared.settings.write_timeout;
    let ready = half.set_write_timeout(Some(timeout));
    let stream = Counted { half, shared, timeout, shortened: false, written: 0 };
    let encoder = shared.protocol.encoder();
    let mut writer = Writer {
        shared,
        encoder,
        stream,
        sequence: 0,
        last: 0,
        unasked: Unasked::default(),
        unwritten: VecDeque::new(),
    };
    // a transport can be the program's own
    let result = guarded("writer", || ready.and_then(|()| writer.write()));
    if let Err(cause) = &result {
        log::error!("{cause}");
        writer.settle();
    }
    match result {
        Ok(Ok(())) => {}
        Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => {
            shared.fail(Failure::WriteTimeout { timeout });
        }
        Ok(Err(error)) => shared.fail(Failure::Io(error)),
        Err(panic) => shared.fail(panic),
    }
}

struct Writer<'a> {
    shared: &'a Shared,
    encoder: Encoder,
    stream: Counted<'a>,
    /// How many messages of the outbox were encoded.
    sequence: u64,
    /// The number of the last of them.
    last: u64,
    unasked: Unasked,
    /// Messages that were encoded and may not have reached the socket whole, each with the
    /// place in the stream where it ends.
    unwritten: VecDeque<(u64, Entry)>,
}

/// What was encoded since the last ping.
#[derive(Debug, Default)]
struct Unasked {
    messages: u64,
    bytes: usize,
    since: Option<Instant>,
}

impl Writer<'_> {
    /// Writes until the link dies or a close frame is out.
    fn write(&mut self) -> io::Result<()> {
        let mut batch = VecDeque::new();
        while !self.shared.is_dead() {
            if self.control(self.shared.lane.take())? {
                return Ok(());
            }
            self.shared.outbox.take(&mut batch, WRITE_BUFFER);
            if batch.is_empty() {
                if let Some(close) = self.shared.lane.take_close() {
                    return self.close(close);
                }
                self.sleep()?;
                continue;
            }
            let result = self.data(&mut batch).and_then(|()| {
                // one write carries both
                self.ask_if_due()?;
                self.encoder.flush(&mut self.stream)
            });
            // back to front: what was not even encoded first
            self.shared.outbox.restore(&mut batch);
            self.settle();
            result?;
        }
        Ok(())
    }

    /// Sleeps until somebody rings, or it is time to ask the peer what it has.
    fn sleep(&mut self) -> io::Result<()> {
        let doorbell = self.shared.outbox.doorbell();
        let due = self.ask_if_due()?;
        // the question, and what the transport has to say of itself
        self.encoder.flush(&mut self.stream)?;
        // the sender lives as long as the receiver, so this only ends with a token or a timeout
        let _ = match due {
            None => doorbell.recv().ok(),
            Some(due) => doorbell.recv_deadline(due).ok(),
        };
        Ok(())
    }

    /// Encodes a question for what the peer has, if somebody wants to know and it is time;
    /// returns when it will be, if nothing else happens before.
    fn ask_if_due(&mut self) -> io::Result<Option<Instant>> {
        let Unasked { messages, bytes, since: Some(since) } = self.unasked else {
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
        self.unasked = Unasked::default();
        let payload = self.shared.progress.ping(self.sequence, self.last);
        self.encoder.ping(payload, &mut self.stream)
    }

    fn beat(&mut self, message: Message) -> io::Result<()> {
        self.unasked = Unasked::default();
        self.shared.progress.beat(self.sequence, self.last);
        self.encoder.message(message, &mut self.stream)
    }

    /// Writes what the control lane holds; returns whether that ended it.
    fn control(&mut self, slots: Slots) -> io::Result<bool> {
        let Slots { pongs, replies, ping, beat, close } = slots;
        let quiet = pongs.is_empty() && replies.is_empty() && !ping && beat.is_none();
        for payload in pongs {
            self.encoder.pong(payload, &mut self.stream)?;
        }
        for message in replies {
            self.encoder.message(message, &mut self.stream)?;
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
            self.encoder.flush(&mut self.stream)?;
        }
        Ok(false)
    }

    fn close(&mut self, close: Close) -> io::Result<()> {
        let frame = match close {
            Close::Now(frame) => frame,
            Close::AfterData(frame) => {
                // the last chance to learn what has arrived
                if self.unasked.messages > 0 && self.shared.outbox.wants_confirmation().0 {
                    self.ask()?;
                }
                Some(frame)
            }
        };
        self.encoder.close(frame.as_ref(), &mut self.stream)?;
        if self.shared.protocol.ends_stream() {
            return self.stream.half.finish();
        }
        // after the peer's own goodbye, for it may take ours as the end of both directions
        select! {
            recv(self.shared.goodbye.raised()) -> _ => self.stream.half.say_goodbye(),
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
            self.unwritten.push_back((NOT_WHOLE, entry));
            match self.shared.settings.fragment_size {
                Some(size) if message.len() > size => self.fragments(message, size)?,
                _ => self.encoder.message(message, &mut self.stream)?,
            }
            if let Some((end, _)) = self.unwritten.back_mut() {
                *end = self.encoder.encoded();
            }
            self.sequence += 1;
            self.last = number;
            self.unasked.messages += 1;
            self.unasked.bytes += size;
        }
        self.unasked.since.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// Writes a message in fragments, with the control lane in between. What may not stand
    /// inside a message goes back into the lane.
    fn fragments(&mut self, message: Message, size: usize) -> io::Result<()> {
        let (shared, sequence, last) = (self.shared, self.sequence, self.last);
        self.encoder.fragments(message, size, &mut self.stream, |encoder, stream| {
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

    /// Accounts for what has reached the socket whole; the rest goes back to the outbox. A
    /// frame that is cut off never becomes a message at the peer, so it can be sent again.
    fn settle(&mut self) {
        let written = self.unwritten.partition_point(|(end, _)| *end <= self.stream.written);
        let whole = self.unwritten.drain(..written);
        let whole: Vec<Entry> = whole.map(|(_, entry)| entry).collect();
        let bytes = whole.iter().map(|entry| entry.message.len()).sum();
        self.shared.counters.sent(written, bytes);
        self.shared.progress.written(written);
        // last: it wakes those who wait for room, and they may look at the counters
        self.shared.outbox.written(whole.into_iter());
        let mut rest: VecDeque<Entry> = self.unwritten.drain(..).map(|(_, entry)| entry).collect();
        self.shared.outbox.restore(&mut rest);
    }
}

/// The write half, counting what the socket has taken.
struct Counted<'a> {
    half: Box<dyn WriteHalf>,
    shared: &'a Shared,
    timeout: Duration,
    /// Whether the socket's timeout is below `timeout` at the moment.
    shortened: bool,
    written: u64,
}

impl Counted<'_> {
    /// The socket took nothing for a whole timeout. A peer that still sends is alive all the
    /// same, and so is one that waits for this program to receive: they get until they have
    /// been silent for as long.
    fn stuck(&mut self) -> io::Result<()> {
        let left = self.timeout.saturating_sub(self.shared.liveness.silence());
        if left.is_zero() || self.shared.is_dead() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.shortened = true;
        self.half.set_write_timeout(Some(left.max(Duration::from_millis(1))))
    }
}

impl Write for Counted<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
        loop {
            match self.half.write(buf) {
                Ok(count) => {
                    self.written += count as u64;
                    if std::mem::take(&mut self.shortened) {
                        self.half.set_write_timeout(Some(self.timeout))?;
                    }
                    return Ok(count);
                }
                Err(error) if error.kind() == Interrupted => {}
                Err(error) if matches!(error.kind(), WouldBlock | TimedOut) => self.stuck()?,
                Err(error) => return Err(error),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.half.flush()
    }
}

//! What it takes to write: encoder, output and the write half, in one hand at a time.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::time::{Duration, Instant};

use super::Shared;
use super::asking::{EarlyDistance, Unasked};
use super::control::{Close, Slots};
use super::liveness::HELD_UP;
use super::pings::Covered;
use crate::message::Payload;
use crate::queues::outbox::Entry;
use crate::transport::{Advanced, WriteHalf};
use crate::wire::websocket::Fragment;
use crate::wire::{Encoder, Output, SLICES};

/// A socket that is full is offered no more than this at a time: it takes that as soon as it has
/// room, so that it is known when it took something last.
const PIECE: usize = 16 * 1024;

/// No larger message is written past the writer thread.
const SMALL: usize = 16 * 1024;

/// A write that took so long had to wait for room.
const FULL: Duration = Duration::from_millis(1);

/// How much of a fragmented message is encoded before it is written.
const ENCODED: u64 = 64 * 1024;

/// Whoever holds it is the only one who writes to the socket: the writer thread, and while that
/// sleeps, whoever takes it.
#[derive(Debug)]
pub(super) struct Pen {
    half: Box<dyn WriteHalf>,
    pub(super) encoder: Encoder,
    pub(super) out: Output,
    /// What the transport holds no part of any more ends at this place.
    flushed: u64,
    /// Messages that were encoded and may not have reached the socket whole, each with the
    /// place in the stream where it ends.
    entries: VecDeque<(u64, Entry)>,
    /// Messages that are about to be encoded.
    pub(super) batch: VecDeque<Entry>,
    /// What was encoded whole.
    pub(super) encoded: Covered,
    /// What this end has last said that it has received, on this link.
    pub(super) reported: Option<u64>,
    pub(super) unasked: Unasked,
    pub(super) early: EarlyDistance,
    /// What the socket's timeout is at the moment.
    timeout: Option<Duration>,
    /// When the socket took something last, or was first offered something after a pause.
    took: Instant,
    /// Our close frame is encoded: nothing may follow.
    pub(super) is_closed: bool,
    /// Whether the socket may be waited for: only the writer thread may.
    pub(super) may_wait: bool,
}

impl Pen {
    pub(super) fn new(half: Box<dyn WriteHalf>, encoder: Encoder) -> Self {
        Self {
            half,
            encoder,
            out: Output::new(),
            flushed: 0,
            entries: VecDeque::new(),
            batch: VecDeque::new(),
            encoded: Covered::default(),
            reported: None,
            unasked: Unasked::default(),
            early: EarlyDistance::new(),
            timeout: None,
            took: Instant::now(),
            is_closed: false,
            may_wait: false,
        }
    }

    /// Whether everything that was encoded has reached the socket.
    pub(super) fn is_drained(&self) -> bool {
        self.out.is_empty() && self.flushed == self.out.taken()
    }

    /// Writes what is encoded, the only place that does. What the socket takes moves the cursor,
    /// also if it is not all: whoever drains next goes on from there.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if it may not wait and not everything was taken; `TimedOut` when the socket
    /// took nothing for the write timeout.
    pub(super) fn drain(&mut self, shared: &Shared) -> io::Result<()> {
        self.took = Instant::now();
        while !self.out.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = self.out.slices(&mut slices);
            match self.half.try_write_vectored(&slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.out.advance(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.may_wait => {
                    let count = self.wait(shared, |half, out| half.write(out.first(PIECE)))?;
                    self.out.advance(count);
                }
                Err(error) => return Err(error),
            }
        }
        match self.half.try_flush() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.may_wait => {
                self.wait(shared, |half, _| half.flush())?;
            }
            result => result?,
        }
        self.flushed = self.out.taken();
        Ok(())
    }

    /// Has the socket take something, however often a signal comes, until the write timeout has
    /// passed since it took something last. A peer that still sends is alive all the same, and so
    /// is one that waits for this program to receive: they get until they have been silent for as
    /// long. Nor is it the peer's fault if this process was held up.
    fn wait<T>(
        &mut self,
        shared: &Shared,
        mut write: impl FnMut(&mut dyn WriteHalf, &Output) -> io::Result<T>,
    ) -> io::Result<T> {
        use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
        let timeout = shared.settings.timeouts().write;
        loop {
            let idle = self.took.elapsed().min(shared.liveness.silence());
            let left = timeout.saturating_sub(idle);
            if left.is_zero() || shared.life.is_dead() {
                return Err(TimedOut.into());
            }
            // what is left of a timeout that began anew with the last byte
            let left = if idle < timeout / 64 { timeout } else { left };
            if self.timeout != Some(left) {
                self.half.set_write_timeout(Some(left))?;
                self.timeout = Some(left);
            }
            let begun = Instant::now();
            match write(&mut *self.half, &self.out) {
                Err(error) if Advanced::is_in(&error) => self.has_taken(shared),
                Err(error) if error.kind() == Interrupted => {}
                Err(error) if matches!(error.kind(), WouldBlock | TimedOut) => {
                    if begun.elapsed() >= left + HELD_UP {
                        self.took = Instant::now();
                    }
                }
                Err(error) => return Err(error),
                Ok(result) => {
                    if begun.elapsed() >= FULL {
                        self.has_taken(shared);
                    }
                    return Ok(result);
                }
            }
        }
    }

    fn has_taken(&mut self, shared: &Shared) {
        self.took = Instant::now();
        shared.liveness.took();
    }

    /// Accounts for what has reached the socket whole.
    pub(super) fn account(&mut self, shared: &Shared) {
        let flushed = self.flushed;
        self.account_up_to(flushed, shared);
    }

    fn account_up_to(&mut self, place: u64, shared: &Shared) {
        let written = self.entries.partition_point(|(end, _)| *end <= place);
        if written == 0 {
            return;
        }
        let bytes = self.entries.range(..written).map(|(_, entry)| entry.message.len()).sum();
        shared.counters.sent(written, bytes);
        shared.pings.written(written);
        // last: it wakes those who wait for room, and they may look at the counters
        shared.outbox.written(self.entries.drain(..written).map(|(_, entry)| entry));
    }

    /// The end. What the transport has taken whole may have arrived; everything else goes back to
    /// the outbox, for a message that is cut off never becomes one at the peer.
    pub(super) fn give_back(&mut self, shared: &Shared) {
        let taken = self.out.taken();
        self.account_up_to(taken, shared);
        shared.outbox.restore(&mut self.batch);
        let rest = self.entries.drain(..).map(|(_, entry)| entry);
        shared.outbox.restore_begun(&mut rest.collect());
    }

    /// Encodes what goes ahead of data; a close frame is the last.
    pub(super) fn control(&mut self, slots: Slots, shared: &Shared) -> io::Result<()> {
        if slots.goodbye {
            self.wait(shared, |half, _| half.say_goodbye())?;
        }
        if self.is_closed {
            return Ok(());
        }
        self.pongs(slots.pongs, shared);
        for message in slots.replies {
            self.lone_message(&message, shared)?;
        }
        if slots.ping {
            self.ping(shared);
        }
        if let Some(message) = slots.beat {
            self.beat(&message, shared)?;
        }
        if let Some(close) = slots.close {
            self.close(close, shared)?;
        }
        Ok(())
    }

    fn pongs(&mut self, pongs: VecDeque<Payload>, shared: &Shared) {
        if !pongs.is_empty() {
            self.report(shared);
        }
        for payload in pongs {
            shared.log_control("sent", "pong");
            self.encoder.pong(&payload, &mut self.out);
        }
    }

    pub(super) fn close(&mut self, close: Close, shared: &Shared) -> io::Result<()> {
        let frame = match close {
            Close::Now(frame) => frame,
            Close::AfterData(frame) => {
                // the last chance to learn what has arrived
                if self.unasked.messages > 0 && shared.outbox.wants_confirmation().0 {
                    self.ask(shared)?;
                }
                frame
            }
        };
        self.report(shared);
        self.encoder.close(frame.as_ref(), &mut self.out);
        self.is_closed = true;
        let is_websocket = matches!(self.encoder, Encoder::WebSocket(_));
        if is_websocket {
            shared.log_control("sent", "close");
        }
        shared.life.closing_here(frame.filter(|_| is_websocket));
        self.drain(shared)?;
        self.account(shared);
        shared.life.closed_here();
        if !is_websocket {
            // without close frames the end of the stream is the goodbye
            shared.control.end();
        }
        Ok(())
    }

    /// Ends the stream in our direction.
    pub(super) fn end(&mut self, shared: &Shared) -> io::Result<()> {
        let result = self.wait(shared, |half, _| half.finish());
        shared.life.ended_here();
        result
    }

    /// Encodes the batch.
    pub(super) fn encode_batch(&mut self, shared: &Shared) -> io::Result<()> {
        loop {
            if self.may_wait && self.batch.front().is_some_and(|entry| entry.is_suspect) {
                // the answer proves that the link was sound up to this message
                self.ask(shared)?;
            }
            let Some(mut entry) = self.batch.pop_front() else { break };
            let (number, size) = (entry.number, entry.message.len());
            let position = self.begin_message(shared);
            entry.position = position;
            match (&mut self.encoder, shared.settings.fragment()) {
                (Encoder::WebSocket(_), Some(piece)) if size > piece => {
                    self.fragments(entry, piece, shared)?;
                }
                (encoder, _) => {
                    if entry.is_uncompressed {
                        encoder.plain(&entry.message, &mut self.out);
                    } else {
                        encoder.message(&entry.message, &mut self.out);
                    }
                    self.entries.push_back((self.out.encoded(), entry));
                }
            }
            self.encoded = Covered { messages: self.encoded.messages + 1, number, position };
            self.unasked.messages += 1;
            self.unasked.bytes += size;
            self.unasked.since.get_or_insert_with(Instant::now);
            self.set_off(shared)?;
            self.ask_early(shared)?;
        }
        Ok(())
    }

    /// Whether the batch can be written in one go by a thread that must not wait.
    pub(super) fn is_small(&self, shared: &Shared) -> bool {
        let most = shared.settings.fragment().unwrap_or(SMALL).min(SMALL);
        self.batch.iter().all(|entry| entry.message.len() <= most)
    }

    /// A raw message has nothing but its write to set it off from the next.
    pub(super) fn set_off(&mut self, shared: &Shared) -> io::Result<()> {
        if self.encoder.needs_writes_of_its_own() { self.drain(shared) } else { Ok(()) }
    }

    /// Encodes a message in fragments, with pings and pongs in between.
    fn fragments(&mut self, entry: Entry, size: usize, shared: &Shared) -> io::Result<()> {
        const NOT_WHOLE: u64 = u64::MAX;
        let (message, may_deflate) = (entry.message.clone(), !entry.is_uncompressed);
        self.entries.push_back((NOT_WHOLE, entry));
        let deflated = match &mut self.encoder {
            Encoder::WebSocket(encoder) if may_deflate => encoder.deflate(&message),
            _ => None,
        };
        let payload = deflated.as_deref().unwrap_or(message.as_bytes());
        let (is_text, is_compressed) = (message.is_text(), deflated.is_some());
        let last = payload.len().div_ceil(size) - 1;
        for (index, fragment) in payload.chunks(size).enumerate() {
            let Encoder::WebSocket(encoder) = &mut self.encoder else { break };
            let kind = match index {
                0 => Fragment::First { is_text, is_compressed },
                _ => Fragment::Next,
            };
            encoder.fragment(fragment, kind, index == last, &mut self.out);
            if index == last {
                break;
            }
            let (pongs, ping) = shared.control.take_control_frames();
            let is_urgent = ping || !pongs.is_empty();
            self.pongs(pongs, shared);
            if ping {
                self.ping(shared);
            }
            if is_urgent || self.out.encoded() - self.out.taken() >= ENCODED {
                self.drain(shared)?;
                self.account(shared);
            }
        }
        if let Some((end, _)) = self.entries.back_mut() {
            *end = self.out.encoded();
        }
        Ok(())
    }

    /// Nothing is to be written for a while: gives back what a burst took.
    pub(super) fn relax(&mut self) {
        self.out.relax();
        self.encoder.relax();
        if self.entries.is_empty() && self.batch.is_empty() {
            (self.entries, self.batch) = (VecDeque::new(), VecDeque::new());
        }
    }
}

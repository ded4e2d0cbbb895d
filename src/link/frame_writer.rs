//! Encoder, output buffer and write half of a link.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::confirmation::Unasked;
use super::life::{OurDirection, Parting};
use super::liveness::HELD_UP;
use super::pings::Covered;
use super::shared::Shared;
use super::sorted::{COUNTED, OUTSIDE};
use crate::error::Error;
use crate::failure::guarded;
use crate::message::{CloseCode, CloseFrame, Message, Payload};
use crate::policy::Beat;
use crate::queues::Entry;
use crate::resume::Note;
use crate::sync::threads::thread_prefix;
use crate::transport::{Reason, WriteHalf};
use crate::wire::websocket::Fragment;
use crate::wire::{Encoder, Output, SLICES, Unencoded};

/// How much is taken from the outbox at once.
const BATCH: usize = 64 * 1024;

/// How many bytes are offered at a time to a socket that is full: it takes them as soon as it has
/// room, which shows when it took something last.
const PIECE: usize = 16 * 1024;

/// Larger messages are left to the writer thread.
const SMALL: usize = 16 * 1024;

/// An idle connection keeps room for so many messages.
const MANY: usize = 32;

/// A write that took this long had to wait for room.
const FULL: Duration = Duration::from_millis(1);

/// How many bytes of a fragmented message are encoded before they are written.
const ENCODED: u64 = 64 * 1024;

/// What comes after writing.
pub(super) enum WriterStep {
    /// Sleep until somebody rings, or until then.
    Sleep(Option<Instant>),
    /// Nothing more is to be written.
    End,
}

/// Whoever holds it is the only one who writes to the socket: the writer thread, and while that
/// sleeps, whoever borrows it.
pub(super) struct FrameWriter {
    shared: Arc<Shared>,
    half: Box<dyn WriteHalf>,
    encoder: Encoder,
    out: Output,
    /// The place in the stream up to which the transport has handed everything on.
    flushed: u64,
    /// Messages that were encoded and may not have reached the socket whole, each with the
    /// place in the stream where it ends.
    entries: VecDeque<(u64, Entry)>,
    /// Messages that are about to be encoded.
    batch: VecDeque<Entry>,
    /// How much was encoded when somebody looked whether it goes on.
    looked_at: u64,
    /// What was encoded so far.
    encoded: Covered,
    unasked: Unasked,
    /// The socket's write timeout at the moment, if one was set.
    timeout: Option<Duration>,
    /// When the socket took something last, or was first offered something after a pause.
    took: Instant,
    /// Our goodbye is encoded: nothing may follow, but for the close frame behind the end of a session.
    is_closed: bool,
    owes_close_frame: bool,
    said_goodbye: bool,
    /// Whether the socket may be waited for: only the writer thread may.
    may_wait: bool,
}

impl FrameWriter {
    pub(super) fn new(shared: Arc<Shared>, half: Box<dyn WriteHalf>, encoder: Encoder) -> Self {
        let mut unasked = Unasked::new();
        if shared.session.as_ref().is_some_and(|counts| counts.at() > counts.confirmed()) {
            // of what the peer has already it may not have counted all
            unasked.add(0);
        }
        Self {
            shared,
            half,
            encoder,
            out: Output::new(),
            flushed: 0,
            entries: VecDeque::new(),
            batch: VecDeque::new(),
            looked_at: 0,
            encoded: Covered::default(),
            unasked,
            timeout: None,
            took: Instant::now(),
            is_closed: false,
            owes_close_frame: false,
            said_goodbye: false,
            may_wait: false,
        }
    }

    /// Writes until there is nothing left to write. If the reader's half of the transport has failed,
    /// the stream is ended: the reader knows the cause, and ends the link when the peer has had the
    /// time to read what was written.
    ///
    /// # Errors
    ///
    /// Those of the transport; `TimedOut` when the socket took nothing for the write timeout.
    pub(super) fn write(&mut self) -> io::Result<WriterStep> {
        self.may_wait = true;
        match self.write_all() {
            Err(error) if Reason::of(&error) == Some(Reason::ReadingFailed) => {
                self.end()?;
                Ok(WriterStep::End)
            }
            result => result,
        }
    }

    fn write_all(&mut self) -> io::Result<WriterStep> {
        // orders first, then the outbox: so a close request overtakes no message that was accepted before it
        while let Some(orders) = self.shared.life.orders() {
            // what is left from before, perhaps of another thread that could not finish
            self.drain()?;
            self.account();
            if orders.close != Some(true) && !self.is_closed {
                self.shared.outbox.take(&mut self.batch, BATCH);
            }
            // in this order: see `ControlSlots`
            self.control()?;
            let has_taken = !self.batch.is_empty();
            let is_paused = || orders.may_confirm && self.shared.outbox.is_paused();
            let is_after_data = || !has_taken && !is_paused();
            if orders.close.is_some_and(|is_urgent| is_urgent || is_after_data()) {
                self.close(orders.close == Some(true), orders.ends_session)?;
                continue;
            }
            self.encode_batch()?;
            // before the write, so that one write carries both
            let due = self.ask_if_due()?;
            // there may be more than one batch: raw messages are written while they are encoded
            if has_taken || !self.is_drained() {
                continue;
            }
            if self.owes_close_frame && orders.parting > Parting::Nothing {
                self.owes_close_frame = false;
                self.close_frame()?;
            }
            match orders.parting {
                Parting::Nothing => {}
                Parting::Goodbye if self.said_goodbye => {}
                Parting::Goodbye => {
                    self.said_goodbye = true;
                    self.wait(|half, _| half.say_goodbye())?;
                }
                Parting::End => {
                    self.end()?;
                    return Ok(WriterStep::End);
                }
            }
            return Ok(WriterStep::Sleep(due));
        }
        Ok(WriterStep::End)
    }

    /// Writes the next message without waiting if it is a small one, and nothing goes ahead of it.
    /// Returns whether nothing is left to do.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the socket did not take everything; whoever waits for it goes on.
    pub(super) fn write_one(&mut self) -> io::Result<bool> {
        self.may_wait = false;
        if self.is_closed || !self.is_drained() {
            return Ok(false);
        }
        // the sender tells the program of expired messages later, without the frame writer
        self.shared.outbox.take_untold(&mut self.batch, 1);
        // in this order: see `ControlSlots`
        if !self.is_small() || !self.shared.control.is_empty() {
            self.shared.outbox.restore(&mut self.batch);
            return Ok(false);
        }
        self.encode_batch()?;
        self.drain()?;
        // if there is a question to ask or another message to write, the writer has to be woken
        Ok(self.account())
    }

    /// Writes a ping without waiting; returns whether that was all.
    ///
    /// # Errors
    ///
    /// Those of the transport.
    pub(super) fn ping_now(&mut self) -> io::Result<bool> {
        self.may_wait = false;
        if self.is_closed || !self.is_drained() {
            return Ok(false);
        }
        self.ping()?;
        // the writer goes on with what the socket does not take now
        match self.drain() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.shared.outbox.ring();
                Ok(true)
            }
            result => result.map(|()| true),
        }
    }

    /// Whether everything that was encoded has reached the socket.
    pub(super) fn is_drained(&self) -> bool {
        self.out.is_empty() && self.flushed == self.out.taken()
    }

    /// Writes what is encoded; the only place that writes. The cursor moves by what the socket takes,
    /// so the next call goes on from there.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if it may not wait and not everything was taken; `TimedOut` when the socket
    /// took nothing for the write timeout.
    fn drain(&mut self) -> io::Result<()> {
        self.took = Instant::now();
        while !self.out.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = self.out.slices(&mut slices);
            match self.half.try_write_vectored(&slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.out.advance(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.may_wait => {
                    let count = self.wait(|half, out| half.write(out.first(PIECE)))?;
                    self.out.advance(count);
                }
                Err(error) => return Err(error),
            }
        }
        loop {
            match self.half.try_flush() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.may_wait => {
                    break self.wait(|half, _| half.flush())?;
                }
                result => break result?,
            }
        }
        self.flushed = self.out.taken();
        Ok(())
    }

    /// Waits until the socket takes something, at most for the write timeout since it took something
    /// last. The timeout does not pass while the peer still sends, while the peer waits for this program
    /// to receive, or while this process is held up.
    fn wait<T>(
        &mut self,
        mut write: impl FnMut(&mut dyn WriteHalf, &Output) -> io::Result<T>,
    ) -> io::Result<T> {
        use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
        let timeout = self.shared.settings.timeouts().write;
        loop {
            let idle = self.took.elapsed().min(self.shared.liveness.silence());
            let left = timeout.saturating_sub(idle);
            if left.is_zero() || self.shared.life.is_dead() {
                return Err(TimedOut.into());
            }
            // one system call less: at the beginning of a wait the timeout stays as it is
            let left = if idle < timeout / 64 { timeout } else { left };
            if self.timeout != Some(left) {
                self.half.set_write_timeout(Some(left))?;
                self.timeout = Some(left);
            }
            let begun = Instant::now();
            match write(&mut *self.half, &self.out) {
                Err(error) if Reason::of(&error) == Some(Reason::Advanced) => self.has_taken(),
                Err(error) if error.kind() == Interrupted => {}
                Err(error) if matches!(error.kind(), WouldBlock | TimedOut) => {
                    if begun.elapsed() >= left + HELD_UP {
                        self.took = Instant::now();
                    }
                }
                Err(error) => return Err(error),
                Ok(result) => {
                    if begun.elapsed() >= FULL {
                        self.has_taken();
                    }
                    return Ok(result);
                }
            }
        }
    }

    fn has_taken(&mut self) {
        self.took = Instant::now();
        self.shared.liveness.excuse();
    }

    /// Accounts for what has reached the socket whole. Returns whether something has, and the outbox
    /// has nothing left to do.
    pub(super) fn account(&mut self) -> bool {
        self.account_up_to(self.flushed)
    }

    fn account_up_to(&mut self, place: u64) -> bool {
        let written = self.entries.partition_point(|(end, _)| *end <= place);
        if written == 0 {
            return false;
        }
        let shared = &self.shared;
        let entries = || self.entries.range(..written).map(|(_, entry)| entry);
        shared.counters.sent(written, entries().map(|entry| entry.message.len()).sum());
        let is_counted = |entry: &&Entry| shared.session.is_none() || !entry.is_outside();
        shared.counters.unconfirmed.add(entries().filter(is_counted).count());
        // last: it wakes those who wait for room, and they may look at the counters
        shared.outbox.written(self.entries.drain(..written).map(|(_, entry)| entry))
    }

    /// Nothing more is written. Messages that the transport has taken whole may have arrived; all others
    /// go back to the outbox, for the peer never sees a message that was cut off.
    pub(super) fn give_back(&mut self) {
        self.account_up_to(self.out.taken());
        self.shared.outbox.restore(&mut self.batch);
        let rest = self.entries.drain(..).map(|(_, entry)| entry);
        self.shared.outbox.restore_begun(&mut rest.collect());
    }

    /// Encodes what goes ahead of data.
    fn control(&mut self) -> io::Result<()> {
        let slots = self.shared.control.take();
        if self.is_closed {
            return Ok(());
        }
        self.pongs(slots.pongs);
        if slots.report {
            self.report()?;
        }
        for message in slots.replies {
            if self.lone_message(&message)? {
                self.set_off()?;
            }
        }
        if slots.ping {
            self.ping()?;
        }
        slots.beat.map_or(Ok(()), |message| self.beat(&message))
    }

    fn pongs(&mut self, pongs: VecDeque<Payload>) {
        for payload in pongs {
            self.shared.log_control("sent", "pong");
            self.encoder.pong(&payload, &mut self.out);
        }
    }

    /// Encodes what this end has counted.
    fn report(&mut self) -> io::Result<()> {
        let Some(counts) = &self.shared.session else { return Ok(()) };
        let received = counts.received();
        self.say(&Note::Report(received))
    }

    fn say(&mut self, note: &Note) -> io::Result<()> {
        Ok(self.encoder.plain(&Message::from(note.to_string()), None, &mut self.out)?)
    }

    /// Encodes which numbers are empty of those before the next message.
    fn tell_holes(&mut self) -> io::Result<()> {
        let Some(counts) = &self.shared.session else { return Ok(()) };
        let next = match self.batch.front() {
            Some(entry) => Some(entry.position).filter(|position| *position > 0),
            None => self.shared.outbox.next_position(),
        };
        let last = next.map_or(counts.sent(), |next| next - 1);
        if last > counts.at() {
            let holes = counts.reach(last) + 1;
            self.say(&Note::Gap(holes))?;
        }
        Ok(())
    }

    fn close(&mut self, is_urgent: bool, ends_session: bool) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let counts = shared.session.as_ref().filter(|_| ends_session);
        let Some(counts) = counts else {
            if !is_urgent && !self.unasked.is_empty() && shared.outbox.wants_confirmation().0 {
                // the last chance to learn what has arrived
                self.ask()?;
            }
            return self.close_frame();
        };
        if !is_urgent {
            self.tell_holes()?;
        }
        let frame = shared.life.closing_here().unwrap_or(CloseFrame::new(CloseCode::NORMAL, ""));
        let report = Note::Report(counts.end());
        self.say(&report)?;
        self.say(&Note::End(frame))?;
        self.is_closed = true;
        // the close frame waits: a library that reads it would answer nothing any more
        self.owes_close_frame = shared.protocol.is_websocket();
        self.drain()?;
        self.account();
        shared.life.reach(OurDirection::Closed);
        Ok(())
    }

    fn close_frame(&mut self) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let frame = shared.life.closing_here();
        self.encoder.close(frame.as_ref(), &mut self.out);
        self.is_closed = true;
        let is_websocket = shared.protocol.is_websocket();
        if is_websocket {
            shared.log_control("sent", "close");
        }
        self.drain()?;
        self.account();
        shared.life.reach(OurDirection::Closed);
        if !is_websocket {
            // framed streams have no close frame: the end of the stream is the goodbye
            shared.life.part(Parting::End);
        }
        Ok(())
    }

    /// Ends the stream in our direction.
    fn end(&mut self) -> io::Result<()> {
        let result = self.wait(|half, _| half.finish());
        self.shared.life.reach(OurDirection::Ended);
        result
    }

    fn encode_batch(&mut self) -> io::Result<()> {
        loop {
            if self.may_wait && self.batch.front().is_some_and(|entry| entry.is_suspect) {
                // an answer proves that the link worked up to this message
                match self.shared.protocol.is_websocket() {
                    true => self.ping()?,
                    false => self.ask()?,
                }
            }
            let Some(mut entry) = self.batch.pop_front() else { break };
            let kind = match self.begin_message(&mut entry) {
                Ok(kind) => kind,
                Err(error) => {
                    // it goes back to the outbox with the rest
                    self.batch.push_front(entry);
                    return Err(error);
                }
            };
            let changed = match self.change(&entry) {
                Ok(changed) => changed,
                Err(unencoded) => {
                    self.refuse(entry, kind, unencoded)?;
                    continue;
                }
            };
            let position = entry.position;
            if changed.is_some() {
                entry.deflated = None;
            }
            let message = changed.as_ref().unwrap_or(&entry.message);
            let size = message.len();
            // nobody is asked about what no session counts
            let is_unasked = kind != Some(OUTSIDE);
            match (&mut self.encoder, self.shared.settings.fragment()) {
                (Encoder::WebSocket(_), Some(piece)) if size > piece => {
                    let message = message.clone();
                    self.fragments(entry, message, kind, piece)?;
                }
                (encoder, _) => {
                    let encoded = match &entry.deflated {
                        _ if entry.is_uncompressed => encoder.plain(message, kind, &mut self.out),
                        Some(once) => encoder.message_once(message, kind, once, &mut self.out),
                        None => encoder.message(message, kind, &mut self.out),
                    };
                    if let Err(unencoded) = encoded {
                        self.refuse(entry, kind, unencoded)?;
                        continue;
                    }
                    self.entries.push_back((self.out.encoded(), entry));
                }
            }
            self.encoded = Covered { messages: self.encoded.messages + 1, position };
            if is_unasked {
                self.unasked.add(size);
            }
            self.set_off()?;
            self.ask_early()?;
        }
        Ok(())
    }

    /// The program's code did not encode a message, or made something of it that cannot be sent. After a panic nobody knows what else it does.
    fn refuse(&mut self, entry: Entry, kind: Option<u8>, unencoded: Unencoded) -> io::Result<()> {
        let (name, why) = (thread_prefix(self.shared.id), &unencoded.why);
        log::error!("{name}: message {} is not sent: {why}", entry.number);
        self.shared.outbox.refuse(entry, self.may_wait);
        if unencoded.has_panicked {
            return Err(unencoded.into());
        }
        // it has its number
        if kind == Some(COUNTED) { self.say(&Note::Gap(1)) } else { Ok(()) }
    }

    /// A message is about to be encoded, and has its position from here on. Returns what kind it is in
    /// the session, if there is one.
    fn begin_message(&mut self, entry: &mut Entry) -> io::Result<Option<u8>> {
        let Some(counts) = &self.shared.session else {
            entry.position = entry.number;
            return Ok(None);
        };
        if entry.is_outside() {
            return Ok(Some(OUTSIDE));
        }
        if entry.position == 0 {
            entry.position = counts.number();
        }
        let holes = counts.reach(entry.position);
        if holes > 0 {
            self.say(&Note::Gap(holes))?;
        }
        Ok(Some(COUNTED))
    }

    /// Whether the batch can be written in one go by a thread that must not wait.
    fn is_small(&self) -> bool {
        let most = self.shared.settings.fragment().unwrap_or(SMALL).min(SMALL);
        self.batch.iter().all(|entry| entry.message.len() <= most)
    }

    /// Writes a raw message by itself: nothing else sets it off from the next.
    fn set_off(&mut self) -> io::Result<()> {
        if self.encoder.needs_writes_of_its_own() { self.drain() } else { Ok(()) }
    }

    /// What the program makes of a message that is sent again, if it makes anything.
    fn change(&self, entry: &Entry) -> Result<Option<Message>, Unencoded> {
        let Some(change) = self.shared.settings.on_resend.as_ref().filter(|_| entry.is_again())
        else {
            return Ok(None);
        };
        let changed = guarded("resend closure", || change(&entry.message));
        let changed =
            changed.map_err(|panic| Unencoded { why: panic.to_string(), has_panicked: true })?;
        let why =
            |refused| Unencoded { why: Error::from(refused).to_string(), has_panicked: false };
        self.shared.outbox.check(&changed).map_err(why)?;
        Ok(Some(changed))
    }

    /// Encodes a message in fragments, with pings and pongs in between.
    fn fragments(
        &mut self,
        entry: Entry,
        message: Message,
        kind: Option<u8>,
        size: usize,
    ) -> io::Result<()> {
        const NOT_WHOLE: u64 = u64::MAX;
        let may_deflate = !entry.is_uncompressed;
        let once = entry.deflated.clone();
        self.entries.push_back((NOT_WHOLE, entry));
        let deflated = match (&mut self.encoder, once) {
            (Encoder::WebSocket(encoder), Some(once)) if may_deflate => {
                encoder.deflate_once(&message, kind, &once)
            }
            (Encoder::WebSocket(encoder), None) if may_deflate => {
                encoder.deflate(&message, kind).map(Bytes::from)
            }
            _ => None,
        };
        let payload = deflated.as_deref().unwrap_or(message.as_bytes());
        let (is_text, is_compressed) = (message.is_text(), deflated.is_some());
        // a compressed one has it inside
        let kind = kind.filter(|_| !is_compressed);
        let last = payload.len().div_ceil(size) - 1;
        for (index, fragment) in payload.chunks(size).enumerate() {
            let Encoder::WebSocket(encoder) = &mut self.encoder else { break };
            let place = match index {
                0 => Fragment::First { is_text, is_compressed, kind },
                _ => Fragment::Next,
            };
            encoder.fragment(fragment, place, index == last, &mut self.out);
            if index == last {
                break;
            }
            let (pongs, ping) = self.shared.control.take_control_frames();
            let is_urgent = ping || !pongs.is_empty();
            self.pongs(pongs);
            if ping {
                self.ping()?;
            }
            if is_urgent || self.out.encoded() - self.out.taken() >= ENCODED {
                self.drain()?;
                self.account();
            }
        }
        if let Some((end, _)) = self.entries.back_mut() {
            *end = self.out.encoded();
        }
        Ok(())
    }

    fn ask_early(&mut self) -> io::Result<()> {
        // the program's payload closure runs on the writer thread only
        if !self.may_wait || self.is_closed || !self.unasked.is_early_due() || self.is_asked() {
            return Ok(());
        }
        self.unasked.defer_early();
        if self.shared.outbox.is_confirmation_awaited() { self.ask() } else { Ok(()) }
    }

    /// Asks the peer what it has received, if somebody wants to know and it is time. Returns when it
    /// will be time, unless something else happens before.
    fn ask_if_due(&mut self) -> io::Result<Option<Instant>> {
        // other threads encode without asking
        self.ask_early()?;
        let Some(due) = self.unasked.due().filter(|_| !self.is_closed) else { return Ok(None) };
        let (wanted, urgent) = self.shared.outbox.wants_confirmation();
        if !wanted {
            return Ok(None);
        }
        // the answer wakes the writer
        if self.is_asked() || !urgent && self.is_answer_awaited() {
            return Ok(None);
        }
        if !urgent && Instant::now() < due {
            return Ok(Some(due));
        }
        self.ask()?;
        Ok(None)
    }

    /// Whether the peer of a session was asked what it has counted, and has not said.
    fn is_asked(&self) -> bool {
        self.shared.session.as_ref().is_some_and(|counts| counts.is_asked())
    }

    fn is_answer_awaited(&self) -> bool {
        self.shared.session.is_none() && self.shared.pings.waiting().is_some()
    }

    /// Encodes a question, a ping, or the beat that serves as one.
    fn ask(&mut self) -> io::Result<()> {
        if self.shared.session.is_some() {
            return self.ask_for_report();
        }
        match (&self.encoder, &self.shared.beats.present().beat) {
            (Encoder::WebSocket(_) | Encoder::Tunnel(_), _) => self.ping(),
            (Encoder::Framed(_), Beat::Message { payload, .. }) => {
                let message = guarded("heartbeat payload", || payload())
                    .map_err(|panic| io::Error::other(panic.to_string()))?;
                self.beat(&message)
            }
            // not confirmable, so nobody waits for an answer
            (Encoder::Framed(_), _) => Ok(()),
        }
    }

    fn ask_for_report(&mut self) -> io::Result<()> {
        self.tell_holes()?;
        self.unasked.clear();
        if let Some(counts) = &self.shared.session {
            counts.ask();
        }
        self.say(&Note::Ask)
    }

    /// Encodes a ping. In a session on framed TCP, which has none, the question for a report is one.
    fn ping(&mut self) -> io::Result<()> {
        let is_question = !self.shared.protocol.is_websocket();
        let covered = self.covered_by_beat();
        let payload = self.shared.pings.sent(covered, is_question);
        if is_question {
            return self.ask_for_report();
        }
        self.shared.log_control("sent", "ping");
        self.encoder.ping(&payload, &mut self.out);
        Ok(())
    }

    /// What the answer to a beat that goes out now confirms: in a session only reports do.
    fn covered_by_beat(&mut self) -> Covered {
        if self.shared.session.is_some() {
            return Covered::default();
        }
        self.unasked.clear();
        self.encoded
    }

    fn beat(&mut self, message: &Message) -> io::Result<()> {
        let covered = self.covered_by_beat();
        if self.lone_message(message)? {
            self.shared.pings.sent(covered, true);
            self.set_off()?;
        }
        Ok(())
    }

    /// Encodes a beat or its answer, unless it could not be set off from the next message: then it would put
    /// the whole stream out of step. Returns whether it did.
    fn lone_message(&mut self, message: &Message) -> io::Result<bool> {
        let kind = self.shared.session.is_some().then_some(OUTSIDE);
        let why = match self.shared.protocol.check(message) {
            Err(why) => why.into(),
            Ok(()) => match self.encoder.message(message, kind, &mut self.out) {
                Err(Unencoded { why, has_panicked: false }) => why,
                encoded => return encoded.map(|()| true).map_err(io::Error::from),
            },
        };
        log::error!("{}: a beat is not sent: {why}", thread_prefix(self.shared.id));
        Ok(false)
    }

    /// Whether a batch or more has gone out since this was asked.
    pub(super) fn goes_on(&mut self) -> bool {
        let before = std::mem::replace(&mut self.looked_at, self.out.encoded());
        self.looked_at - before >= BATCH as u64
    }

    /// Whether it holds on to more memory than an idle connection should.
    pub(super) fn is_large(&self) -> bool {
        self.batch.capacity() > MANY || self.out.is_large() || self.encoder.is_large()
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

#[cfg(test)]
impl FrameWriter {
    /// A question about what was written so far is due from here on, or will never be.
    pub(super) fn set_due(&mut self, is_due: bool) {
        self.unasked.set_due(is_due);
    }
}

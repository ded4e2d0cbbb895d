//! One end of a link: the real frame writer, decoder and counts, between two pipes.

use std::io::Write;
use std::sync::{Arc, OnceLock};

use crossbeam_channel::bounded;
use fastrand::Rng;

use super::network_tests::Pipe;
use super::truth_tests::Truth;
use super::{Error, MARK, Rules};
use crate::failure::Failure;
use crate::link::beats::Beats;
use crate::link::close_request::CloseRequest;
use crate::link::control::ControlSlots;
use crate::link::frame_writer::{FrameWriter, WriterStep};
use crate::link::intake::Intake;
use crate::link::life::{Life, Parting};
use crate::link::link_tests::NoSocket;
use crate::link::liveness::Liveness;
use crate::link::pings::PingLedger;
use crate::link::shared::Shared;
use crate::link::sorted::{COUNTED, Sorted, sort};
use crate::message::{CloseFrame, Message};
use crate::policy::{Heartbeat, MaxSizes, Undelivered};
use crate::queues::mailbox::Mailbox;
use crate::queues::outbox::Outbox;
use crate::resume::{Counts, Note};
use crate::settings::Settings;
use crate::stats::Counters;
use crate::sync::Mutex;
use crate::transport::ReadBuffer;
use crate::wire::{Decoder, Item, Output, Protocol};

/// What both links of an end have in common.
#[derive(Clone)]
pub(super) struct Owner {
    /// 0 is the client, 1 the server.
    pub(super) side: usize,
    /// What each end speaks.
    pub(super) protocols: [Protocol; 2],
    pub(super) settings: Arc<Settings>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) counters: Arc<Counters>,
    pub(super) lost: Lost,
}

/// What the program is to hear of.
pub(super) type Lost = Arc<Mutex<Vec<(Message, Undelivered)>>>;

impl Owner {
    /// The program hears of what was lost.
    pub(super) fn hear(&self, truth: &mut Truth) {
        for (message, why) in self.lost.lock().drain(..) {
            truth.told(name(message.as_bytes()), why);
        }
    }
}

/// One direction of a connection, as its reader has it.
pub(super) struct Reading {
    pub(super) pipe: Pipe,
    decoder: Decoder,
    buffer: ReadBuffer,
}

impl Reading {
    pub(super) fn new(pipe: Pipe, protocol: &Protocol) -> Self {
        let limits = MaxSizes { message: 4096, frame: 4096 };
        Self { pipe, decoder: protocol.decoder(limits), buffer: ReadBuffer::new(Vec::new()) }
    }

    pub(super) fn read(&mut self, most: usize) -> bool {
        self.pipe.read(&mut self.buffer, most)
    }

    /// The next message, before there is a link. `None` if it is not there yet, or a close frame is.
    pub(super) fn message(&mut self) -> Option<String> {
        match self.decoder.decode(&mut self.buffer) {
            Ok(Some(Item::Message(message))) => {
                Some(String::from_utf8_lossy(message.as_bytes()).into_owned())
            }
            _ => None,
        }
    }
}

/// Says something before there is a link. Fails if the connection is broken.
pub(super) fn say(pipe: &mut Pipe, protocol: &Protocol, said: impl ToString) -> bool {
    let mut out = Output::new();
    protocol.encoder().plain(&Message::from(said.to_string()), None, &mut out).unwrap();
    let bytes = out.first(usize::MAX).to_vec();
    pipe.write_all(&bytes).is_ok()
}

/// What an observer of the wire sees, who counts.
struct Tap {
    decoder: Decoder,
    buffer: ReadBuffer,
    seen: usize,
    number: u64,
    /// Whether the peer was asked after all that.
    is_asked: bool,
    /// Whether its end has said that the session is over.
    is_ended: bool,
}

pub(super) struct LinkEnd {
    owner: Owner,
    /// Which connection it is.
    pub(super) line: u32,
    session: usize,
    pub(super) counts: Arc<Counts>,
    pub(super) shared: Arc<Shared>,
    frames: Option<FrameWriter>,
    reading: Reading,
    out: Pipe,
    tap: Tap,
    /// The highest number that it has reported.
    pub(super) reported: u64,
    /// The peer has said that the session is over.
    pub(super) is_told: Option<CloseFrame>,
    /// A hole that is said to be there, of an error that was planted.
    withheld: u64,
    /// It is not to be read any more, or its connection is lost.
    pub(super) is_dead: bool,
}

impl LinkEnd {
    pub(super) fn new(
        owner: &Owner,
        (line, session): (u32, usize),
        counts: &Arc<Counts>,
        reading: Reading,
        out: Pipe,
    ) -> Self {
        let shared = Arc::new(Shared {
            protocol: owner.protocols[owner.side].clone(),
            link: line,
            settings: Arc::clone(&owner.settings),
            outbox: Arc::clone(&owner.outbox),
            mailbox: Arc::clone(&owner.mailbox),
            counters: Arc::clone(&owner.counters),
            first: counts.at(),
            session: Some(Arc::clone(counts)),
            hangup: Arc::new(NoSocket),
            life: Arc::new(Life::new()),
            intake: Intake::default(),
            farewell: OnceLock::new(),
            control: ControlSlots::default(),
            liveness: Liveness::new(),
            beats: Beats::new(Heartbeat::default()),
            pings: PingLedger::new(Arc::clone(&owner.counters)),
            notices: bounded(4).0,
            id: 1,
        });
        owner.outbox.link_started(line);
        let half = Box::new(out.clone());
        let peer = &owner.protocols[1 - owner.side];
        let limits = MaxSizes { message: 4096, frame: 4096 };
        let mut frames =
            FrameWriter::new(Arc::clone(&shared), half, owner.protocols[owner.side].encoder());
        frames.set_due(false);
        Self {
            owner: owner.clone(),
            line,
            session,
            counts: Arc::clone(counts),
            frames: Some(frames),
            shared,
            reading,
            tap: Tap {
                decoder: peer.decoder(limits),
                buffer: ReadBuffer::new(Vec::new()),
                seen: out.len(),
                number: counts.at(),
                is_asked: false,
                is_ended: false,
            },
            out,
            reported: 0,
            is_told: None,
            withheld: 0,
            is_dead: false,
        }
    }

    /// The writer's turn, or with `is_other` that of a thread that sends. A question is due, or not.
    pub(super) fn write(&mut self, is_due: bool, is_other: bool, truth: &mut Truth) {
        let Some(frames) = &mut self.frames else { return };
        frames.set_due(is_due);
        let result = match is_other {
            false => frames.write(),
            true => {
                let result = frames.write_one().map(|_| WriterStep::Sleep(None));
                frames.account();
                self.owner.outbox.tell_now();
                match result {
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        Ok(WriterStep::Sleep(None))
                    }
                    result => result,
                }
            }
        };
        if let Some(frames) = &mut self.frames {
            frames.set_due(false);
        }
        self.owner.hear(truth);
        self.tap(truth);
        match result {
            Ok(WriterStep::Sleep(_)) if !is_other => self.check_holes(truth),
            Ok(WriterStep::Sleep(_)) => {}
            _ => self.stop_writing(),
        }
    }

    pub(super) fn hinder(&self, random: &mut Rng) {
        self.out.hinder(random.usize(1..100), random.u8(..4) == 0, random.u8(..4) == 0);
    }

    /// It writes no more; what comes may still be read.
    pub(super) fn stop(&mut self, truth: &mut Truth) {
        self.stop_writing();
        self.tap(truth);
    }

    /// As the writer thread ends.
    fn stop_writing(&mut self) {
        if let Some(mut frames) = self.frames.take() {
            frames.give_back();
        }
    }

    pub(super) fn reading(&self) -> &Reading {
        &self.reading
    }

    pub(super) fn is_writing(&self) -> bool {
        self.frames.is_some()
    }

    fn tap(&mut self, truth: &mut Truth) {
        let (side, session) = (self.owner.side, self.session);
        let Tap { decoder, buffer, seen, number, is_asked, is_ended } = &mut self.tap;
        let new = self.out.since(*seen);
        *seen += new.len();
        for part in new.chunks(1000) {
            buffer.space()[..part.len()].copy_from_slice(part);
            buffer.filled(part.len());
            while let Ok(Some(item)) = decoder.decode(buffer) {
                let Item::Message(message) = item else { continue };
                let bytes = message.as_bytes();
                truth.show(|| {
                    let (side, line) = (self.owner.side, self.line);
                    format!("  {side} writes on {line}: {:?}", String::from_utf8_lossy(bytes))
                });
                truth.check(!*is_ended, || format!("{side} goes on behind its end"));
                if bytes.first() == Some(&COUNTED) {
                    *number += 1;
                    *is_asked = false;
                    let name = name(&bytes[1..]);
                    truth.written(session, side, *number, name);
                    truth.marked(name, bytes.ends_with(MARK));
                    continue;
                }
                match std::str::from_utf8(bytes).ok().and_then(Note::parse) {
                    Some(Note::Gap(numbers)) => {
                        *is_asked = false;
                        for _ in 0..numbers {
                            *number += 1;
                            truth.emptied(session, side, *number);
                        }
                    }
                    Some(Note::Report(received)) => self.reported = received,
                    Some(Note::Ask) => *is_asked = true,
                    Some(Note::End(_)) => {
                        *is_ended = true;
                        if self.is_told.is_none() {
                            truth.said_all(session, side);
                            let sent = self.counts.sent();
                            truth.check(*number == sent, || format!("holes up to {sent} untold"));
                        }
                    }
                    None => {}
                }
            }
        }
    }

    /// Nothing is left to be written: a question stands behind all holes.
    fn check_holes(&self, truth: &mut Truth) {
        let Tap { number, is_asked, .. } = self.tap;
        let sent = self.counts.sent();
        let is_told = number >= sent || self.owner.outbox.next_position().is_some();
        truth.check(!is_asked || is_told, || format!("asked, and holes up to {sent} untold"));
    }

    /// The reader's turn.
    pub(super) fn read(&mut self, most: usize, rules: &Rules, truth: &mut Truth) {
        let from = 1 - self.owner.side;
        while self.is_told.is_none() && !self.is_dead {
            let Reading { decoder, buffer, .. } = &mut self.reading;
            let message = match decoder.decode(buffer) {
                Ok(Some(Item::Message(message))) => message,
                Ok(Some(Item::Ping(payload))) => {
                    self.shared.control.pong(payload);
                    continue;
                }
                Ok(Some(Item::Pong(payload))) => {
                    self.shared.answered(self.shared.pings.pong(payload));
                    continue;
                }
                // of no meaning for the session
                Ok(Some(Item::Close(_))) => {
                    self.is_dead = true;
                    return;
                }
                Ok(None) => break,
                Err(failure) => return truth.fault(format!("what came is no frame: {failure}")),
            };
            truth.show(|| {
                let (side, line) = (self.owner.side, self.line);
                format!(
                    "  {side} reads on {line}: {:?}",
                    String::from_utf8_lossy(message.as_bytes())
                )
            });
            let (before, is_counted) =
                (self.counts.received(), message.as_bytes().first() == Some(&COUNTED));
            if rules.has(Error::HoleAtTheEndUntold) && !message.as_bytes().is_empty() {
                if let Some(Note::Gap(numbers)) = message.as_text().and_then(Note::parse) {
                    self.withheld += numbers;
                    continue;
                }
                match message.as_bytes()[0] {
                    COUNTED => drop(self.counts.skip(std::mem::take(&mut self.withheld))),
                    b'a' | b'e' => self.withheld = 0,
                    _ => {}
                }
            }
            match sort(message, &self.counts, &self.shared.protocol) {
                Ok(Sorted::Message(message)) => {
                    let name = name(message.as_bytes());
                    match is_counted {
                        true => {
                            truth.counted(self.session, from, self.counts.received(), name);
                        }
                        false => truth.received(name),
                    }
                }
                Ok(Sorted::Report(received)) => {
                    truth.learned(self.session, self.owner.side, received, received);
                    self.shared.reported(received);
                }
                Ok(Sorted::Ask) => self.shared.control.report(),
                Ok(Sorted::Nothing) => {
                    for number in before + 1..=self.counts.received() {
                        truth.skipped(self.session, from, number);
                    }
                }
                Ok(Sorted::End(frame)) => {
                    self.shared
                        .life
                        .peer_ends(Failure::Closed(Some(frame.clone())), Some(Some(frame.clone())));
                    let close = CloseRequest::urgent(Some(frame.clone())).ending_session(true);
                    self.shared.close(close);
                    self.is_told = Some(frame);
                }
                Err(failure) => truth.fault(format!("a violation: {failure}")),
            }
        }
        if self.is_told.is_none() && !self.reading.read(most) && self.reading.pipe.is_at_the_end() {
            self.is_dead = true;
        }
    }

    /// Both ends have said that the session is over, and this one has said all.
    pub(super) fn has_parted(&mut self, truth: &mut Truth) -> bool {
        if self.is_told.is_none() || !self.counts.is_ended() && self.is_writing() {
            return false;
        }
        self.shared.part(Parting::End);
        self.write(false, false, truth);
        true
    }

    /// As the threads of a link are joined.
    pub(super) fn join(mut self, truth: &mut Truth) {
        truth.show(|| format!("{} has lost {}", self.owner.side, self.line));
        self.shared.fail(Failure::ClosedAbnormally);
        self.stop_writing();
        self.tap(truth);
        self.out.end();
        self.reading.pipe.cut(|left| left, 0);
    }
}

/// Which message of a program's it is.
pub(super) fn name(payload: &[u8]) -> usize {
    let digits = payload.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |name, digit| name * 10 + usize::from(digit - b'0'))
}

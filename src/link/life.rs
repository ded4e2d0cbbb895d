//! How far a link has come, and why it ends: one value, with one signal.
//!
//! # The states of a link
//!
//! Its two directions end separately.
//!
//! | our direction | meaning |
//! | --- | --- |
//! | `Open` | messages go out |
//! | `Closed` | our close frame is written: nothing but the end of the stream follows |
//! | `Ended` | the stream is ended in this direction |
//!
//! | the peer's direction | meaning |
//! | --- | --- |
//! | `Open` | messages come in |
//! | `Closed` | its close frame came; on framed TCP, the end of its stream between two messages |
//! | `Broken` | it sends no more messages either: its stream ended elsewhere, or it broke the protocol |
//!
//! A link is *closing* once a [`CloseRequest`] has come, from the program or from its reader. It is *leaving* once
//! nobody takes messages any more for which there is no room: the client is being closed, or the session's handler
//! has returned. It is *dead* when its socket was hung up; the cause that was noted first stays, with the exceptions
//! in [`Life::note`].

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Receiver;

use super::close_request::CloseRequest;
use crate::failure::Failure;
use crate::message::CloseFrame;
use crate::queues::mailbox::Room;
use crate::sync::{Condvar, Mutex, Signal};

#[derive(Debug)]
pub(super) struct Life {
    state: Mutex<LifeState>,
    /// Signalled at every change, while somebody waits.
    changed: Condvar,
    /// Raised at the death, for those who wait for other things besides.
    died: Signal,
    /// Raised when the reader has delivered all that had come.
    read: Signal,
}

#[derive(Debug, Default)]
struct LifeState {
    ours: OurDirection,
    theirs: PeerDirection,
    /// What the peer's close frame is to be answered with, if one came.
    answer: Option<Option<CloseFrame>>,
    closing: Option<CloseRequest>,
    parting: Parting,
    is_leaving: bool,
    /// How often the heartbeat was changed.
    beats: u64,
    died_at: Option<Instant>,
    /// Its owner has counted it and said so.
    is_announced: bool,
    cause: Option<Arc<Failure>>,
    waiting: usize,
}

/// How far our direction is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(super) enum OurDirection {
    #[default]
    Open,
    Closed,
    Ended,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum PeerDirection {
    #[default]
    Open,
    Broken,
    Closed,
}

/// What is to follow once everything is written.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Parting {
    #[default]
    Nothing,
    /// The transport says that no data follows.
    Goodbye,
    /// The stream is ended.
    End,
}

/// What the writer is to do besides writing what is queued.
#[derive(Debug, Clone, Copy)]
pub(super) struct Orders {
    /// Whether a close frame is to go out, and if so whether ahead of what is queued.
    pub(super) close: Option<bool>,
    /// Whether the session, if there is one, is over with it.
    pub(super) ends_session: bool,
    /// Whether the peer may still confirm what it has.
    pub(super) may_confirm: bool,
    pub(super) parting: Parting,
}

/// What the heartbeat thread wakes for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pulse {
    /// It is time to look at the beat.
    Due,
    /// The time for closing is over.
    Overdue,
    Dead,
}

impl Life {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            died: Signal::new(),
            read: Signal::new(),
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut LifeState) -> T) -> T {
        let mut state = self.state.lock();
        let result = change(&mut state);
        let is_awaited = state.waiting > 0;
        drop(state);
        // a signal is a system call, heard or not
        if is_awaited {
            self.changed.notify_all();
        }
        result
    }

    pub(super) fn is_dead(&self) -> bool {
        self.died_at().is_some()
    }

    pub(super) fn died_at(&self) -> Option<Instant> {
        self.state.lock().died_at
    }

    /// Notes why the link will end. The first cause stays, with two exceptions. A peer that says
    /// goodbye and is gone often breaks our next write before the reader has come to the goodbye,
    /// and the goodbye tells more. And a reset is told to one of two threads only: where that is
    /// the writer, the reader finds the end of the stream.
    pub(super) fn note(&self, cause: Failure) {
        self.change(|state| state.note(cause));
    }

    /// The peer sends no more messages, for this reason; its close frame, if one came, is to be
    /// answered with `answer`.
    pub(super) fn peer_ends(&self, cause: Failure, answer: Option<Option<CloseFrame>>) {
        self.change(|state| {
            state.theirs = match cause {
                Failure::Closed(_)
                | Failure::EndOfStream { inside_message: false, cut_off: false } => {
                    PeerDirection::Closed
                }
                _ => PeerDirection::Broken,
            };
            state.answer = answer;
            state.note(cause);
        });
    }

    /// The link is to be closed. The first request stays, unless another is more urgent; the first
    /// deadline stays in any case.
    pub(super) fn close(&self, mut request: CloseRequest) {
        self.change(|state| {
            if let Some(cause) = request.cause.take() {
                state.note(cause);
            }
            state.is_leaving |= !request.is_urgent;
            if let (true, Some(answer)) = (request.is_answer, &state.answer) {
                request.frame.clone_from(answer);
            }
            let is_first = state.closing.is_none();
            let closing = state.closing.get_or_insert_default();
            closing.deadline = closing.deadline.or(request.deadline);
            if is_first || request.is_urgent {
                (closing.frame, closing.is_urgent) = (request.frame, request.is_urgent);
                closing.ends_session = request.ends_session;
            }
        });
    }

    /// What the writer is to do; `None` once the link is dead.
    pub(super) fn orders(&self) -> Option<Orders> {
        let state = self.state.lock();
        if state.died_at.is_some() {
            return None;
        }
        let request = state.closing.as_ref().filter(|_| state.ours == OurDirection::Open);
        Some(Orders {
            close: request.map(|request| request.is_urgent),
            ends_session: request.is_some_and(|request| request.ends_session),
            may_confirm: state.theirs == PeerDirection::Open,
            parting: state.parting,
        })
    }

    /// Our close frame is about to be written: a peer that reads it may be gone before the write
    /// returns. Returns what it says.
    pub(super) fn closing_here(&self) -> Option<CloseFrame> {
        self.change(|state| {
            let frame = state.close_frame();
            state.note(Failure::ClosedHere(frame.clone()));
            frame
        })
    }

    /// Our direction has come so far.
    pub(super) fn reach(&self, ours: OurDirection) {
        self.change(|state| state.ours = ours);
    }

    /// Waits until our direction has come so far, or the link is dead.
    pub(super) fn wait_reached(&self, ours: OurDirection, deadline: Option<Instant>) -> bool {
        self.wait(deadline, |state| state.ours >= ours)
    }

    /// Once everything is written, that follows.
    pub(super) fn part(&self, parting: Parting) {
        self.change(|state| state.parting = state.parting.max(parting));
    }

    /// Nobody waits for received messages any more.
    pub(super) fn leave(&self) {
        self.change(|state| state.is_leaving = true);
    }

    /// How much a full inbox may take at the moment. It `ends` with the link unless another one may
    /// follow.
    pub(super) fn room(&self, ends: bool) -> Room {
        let state = self.state.lock();
        match (state.died_at.is_some(), state.theirs) {
            _ if state.is_leaving => Room::None,
            // no other link waits for this one to be read, and its program still receives
            (true, _) if ends => Room::Within,
            (false, PeerDirection::Open) => Room::Within,
            _ => Room::Beyond,
        }
    }

    /// What comes may be delivered.
    pub(super) fn announce(&self) {
        self.change(|state| state.is_announced = true);
    }

    pub(super) fn wait_announced(&self) {
        self.wait(None, |state| state.is_announced);
    }

    /// The reader is done.
    pub(super) fn end_reading(&self) {
        self.read.raise();
    }

    /// Disconnects when the reader has delivered all that had come.
    pub(super) fn read(&self) -> &Receiver<Infallible> {
        self.read.raised()
    }

    /// The link is dead, for this reason unless one was noted before. Returns the cause if this
    /// was the death of it, and `None` if it was dead already.
    pub(super) fn die(&self, cause: Failure) -> Option<Arc<Failure>> {
        let died = self.change(|state| {
            state.note(cause);
            let is_first = state.died_at.is_none();
            state.died_at.get_or_insert_with(Instant::now);
            if is_first { state.cause.clone() } else { None }
        });
        self.died.raise();
        died
    }

    pub(super) fn cause(&self) -> Option<Arc<Failure>> {
        self.state.lock().cause.clone()
    }

    /// Disconnects when the link dies.
    pub(super) fn died(&self) -> &Receiver<Infallible> {
        self.died.raised()
    }

    /// Whether both sides said goodbye: their close frame came, or on framed TCP their end of the
    /// stream between two messages, and ours went out.
    pub(super) fn is_clean(&self) -> bool {
        let state = self.state.lock();
        state.ours > OurDirection::Open && state.theirs == PeerDirection::Closed
    }

    /// Waits for the end of a link that is being closed, until the time for that is over.
    pub(super) fn wait_closed(&self) {
        let deadline = self.state.lock().deadline();
        self.wait(deadline, |_| false);
    }

    /// What our close frame says, or was to say.
    pub(super) fn close_frame(&self) -> Option<CloseFrame> {
        self.state.lock().close_frame()
    }

    /// The heartbeat is another one.
    pub(super) fn beats_anew(&self) {
        self.change(|state| state.beats += 1);
    }

    pub(super) fn beats(&self) -> u64 {
        self.state.lock().beats
    }

    /// Waits for the next thing that the heartbeat thread has to do, which has seen so many changes.
    pub(super) fn wait_pulse(&self, due: Instant, beats: u64) -> Pulse {
        loop {
            let deadline = self.state.lock().deadline();
            let until = deadline.map_or(due, |deadline| deadline.min(due));
            // a request that comes meanwhile may be for sooner
            let is_told = self
                .wait(Some(until), |state| state.deadline() != deadline || state.beats != beats);
            match (is_told, deadline) {
                (true, _) if self.is_dead() => return Pulse::Dead,
                (true, _) if self.state.lock().beats != beats => return Pulse::Due,
                (true, _) => {}
                (false, Some(deadline)) if deadline == until => return Pulse::Overdue,
                (false, _) => return Pulse::Due,
            }
        }
    }

    /// Waits until something holds or the link is dead; returns whether one of them came to be.
    fn wait(&self, deadline: Option<Instant>, condition: impl Fn(&LifeState) -> bool) -> bool {
        let mut state = self.state.lock();
        loop {
            if state.died_at.is_some() || condition(&state) {
                return true;
            }
            let left = deadline.map(|time| time.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return false;
            }
            state.waiting += 1;
            state = match left {
                None => self.changed.wait(state),
                Some(left) => self.changed.wait_timeout(state, left),
            };
            state.waiting -= 1;
        }
    }
}

impl LifeState {
    fn deadline(&self) -> Option<Instant> {
        self.closing.as_ref().and_then(|request| request.deadline)
    }

    fn close_frame(&self) -> Option<CloseFrame> {
        self.closing.as_ref().and_then(|request| request.frame.clone())
    }

    fn note(&mut self, cause: Failure) {
        let is_better = match self.cause.as_deref() {
            None => true,
            Some(Failure::Io(_)) => matches!(cause, Failure::Closed(_) | Failure::Tls(_)),
            // after the end of its stream a peer's reset is a broken pipe to us
            Some(Failure::ClosedAbnormally | Failure::EndOfStream { .. }) => {
                matches!(&cause, Failure::Io(error) if error.kind() == io::ErrorKind::ConnectionReset)
            }
            Some(_) => false,
        };
        if is_better {
            if self.theirs == PeerDirection::Closed && matches!(cause, Failure::Io(_)) {
                self.theirs = PeerDirection::Broken;
            }
            self.cause = Some(Arc::new(cause));
        }
    }
}

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
//! A link is *leaving* once nobody takes messages any more for which there is no room: the client
//! is being closed, or the session's handler has returned. It is *dead* when its socket was hung
//! up; the cause that was noted first stays, with one exception ([`Life::note`]).

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use crossbeam_channel::Receiver;

use crate::failure::Failure;
use crate::message::CloseFrame;
use crate::sync::{AtomicBool, Condvar, Mutex, Signal};

#[derive(Debug)]
pub(crate) struct Life {
    state: Mutex<State>,
    /// Signalled at every change, while somebody waits.
    changed: Condvar,
    /// Raised at the death, for those who wait for other things besides.
    died: Signal,
    /// Raised when the reader has delivered all that had come.
    read: Signal,
    /// Whether a handler gets no more of what had come. Asked for each message, so without the lock.
    is_let_go: AtomicBool,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) ours: Ours,
    pub(crate) theirs: Theirs,
    pub(crate) is_leaving: bool,
    pub(crate) is_dead: bool,
    /// When that was.
    pub(crate) died_at: Option<Instant>,
    /// Its owner has counted it and said so.
    pub(crate) is_announced: bool,
    cause: Option<Arc<Failure>>,
    /// When the time for a closing that nobody waits for is over, and what was to be said.
    closing: Option<(Instant, CloseFrame)>,
    waiting: usize,
}

/// What the heartbeat thread wakes for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pulse {
    /// It is time to look at the beat.
    Due,
    /// The time for closing is over.
    Overdue(CloseFrame),
    Dead,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(crate) enum Ours {
    #[default]
    Open,
    Closed,
    Ended,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(crate) enum Theirs {
    #[default]
    Open,
    Broken,
    Closed,
}

impl Life {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            died: Signal::new(),
            read: Signal::new(),
            is_let_go: AtomicBool::new(false),
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
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

    pub(crate) fn ask<T>(&self, question: impl FnOnce(&State) -> T) -> T {
        question(&self.state.lock())
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.state.lock().is_dead
    }

    /// Notes why the link will end. The first cause stays, with one exception: a peer that says
    /// goodbye and is gone often breaks our next write before the reader has come to the goodbye,
    /// and the goodbye tells more.
    pub(crate) fn note(&self, cause: Failure) {
        self.change(|state| state.note(cause));
    }

    /// The peer sends no more messages, for this reason.
    pub(crate) fn peer_ends(&self, cause: Failure) {
        self.change(|state| {
            state.theirs = match cause {
                Failure::Closed(_)
                | Failure::EndOfStream { inside_message: false, cut_off: false } => Theirs::Closed,
                _ => Theirs::Broken,
            };
            state.note(cause);
        });
    }

    /// Our close frame is about to be written: a peer that reads it may be gone before the write
    /// returns.
    pub(crate) fn closing_here(&self, frame: Option<CloseFrame>) {
        self.note(Failure::ClosedHere(frame));
    }

    /// Our close frame is written.
    pub(crate) fn closed_here(&self) {
        self.change(|state| state.ours = Ours::Closed);
    }

    /// Our direction of the stream is ended.
    pub(crate) fn ended_here(&self) {
        self.change(|state| state.ours = Ours::Ended);
    }

    /// The program has ended the link, and the time for it is over: whatever of it is not handled yet
    /// stays so.
    pub(crate) fn let_go(&self) {
        self.is_let_go.store(true, Relaxed);
    }

    #[inline]
    pub(crate) fn is_let_go(&self) -> bool {
        self.is_let_go.load(Relaxed)
    }

    /// Nobody waits for received messages any more.
    pub(crate) fn leave(&self) {
        self.change(|state| state.is_leaving = true);
    }

    /// What comes may be delivered.
    pub(crate) fn announce(&self) {
        self.change(|state| state.is_announced = true);
    }

    /// The reader is done.
    pub(crate) fn end_reading(&self) {
        self.read.raise();
    }

    /// Disconnects when the reader has delivered all that had come.
    pub(crate) fn read(&self) -> &Receiver<Infallible> {
        self.read.raised()
    }

    /// The link is dead, for this reason unless one was noted before. Returns the cause if this
    /// was the death of it, and `None` if it was dead already.
    pub(crate) fn die(&self, cause: Failure) -> Option<Arc<Failure>> {
        let died = self.change(|state| {
            state.note(cause);
            let was_dead = std::mem::replace(&mut state.is_dead, true);
            state.died_at.get_or_insert_with(Instant::now);
            if was_dead { None } else { state.cause.clone() }
        });
        self.died.raise();
        died
    }

    pub(crate) fn cause(&self) -> Option<Arc<Failure>> {
        self.state.lock().cause.clone()
    }

    /// Disconnects when the link dies.
    pub(crate) fn died(&self) -> &Receiver<Infallible> {
        self.died.raised()
    }

    /// The link is being closed, and is to be dead by then. The first deadline stays.
    pub(crate) fn close_by(&self, deadline: Instant, frame: CloseFrame) {
        self.change(|state| {
            state.closing.get_or_insert((deadline, frame));
        });
    }

    /// Waits for the next thing that the heartbeat thread has to do.
    pub(crate) fn wait_pulse(&self, due: Instant) -> Pulse {
        let mut state = self.state.lock();
        loop {
            if state.is_dead {
                return Pulse::Dead;
            }
            let now = Instant::now();
            let closing = state.closing.as_ref().map(|(deadline, _)| *deadline);
            if let Some((deadline, frame)) = &state.closing {
                if *deadline <= now {
                    return Pulse::Overdue(frame.clone());
                }
            }
            if due <= now {
                return Pulse::Due;
            }
            let until = closing.map_or(due, |deadline| deadline.min(due));
            state.waiting += 1;
            state = self.changed.wait_timeout(state, until.saturating_duration_since(now));
            state.waiting -= 1;
        }
    }

    /// Waits until something holds or the link is dead; returns whether one of them came to be.
    pub(crate) fn wait(
        &self,
        deadline: Option<Instant>,
        condition: impl Fn(&State) -> bool,
    ) -> bool {
        self.wait_for(deadline, |state| state.is_dead || condition(state))
    }

    fn wait_for(&self, deadline: Option<Instant>, condition: impl Fn(&State) -> bool) -> bool {
        let mut state = self.state.lock();
        loop {
            if condition(&state) {
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

impl State {
    /// Whether both sides said goodbye: their close frame came, or on framed TCP their end of the
    /// stream between two messages, and ours went out.
    pub(crate) fn is_clean(&self) -> bool {
        self.ours > Ours::Open && self.theirs == Theirs::Closed
    }

    pub(super) fn cause(&self) -> Option<&Failure> {
        self.cause.as_deref()
    }

    fn note(&mut self, cause: Failure) {
        let stays = match self.cause.as_deref() {
            None => false,
            Some(Failure::Io(_)) => !matches!(cause, Failure::Closed(_) | Failure::Tls(_)),
            Some(_) => true,
        };
        if !stays {
            self.cause = Some(Arc::new(cause));
        }
    }
}

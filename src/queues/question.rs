//! What becomes of a question: the outbox that has its message, and who waits for the answer, both say it
//! here.

use std::sync::{Arc, Weak};
use std::time::Instant;

use crate::failure::Failure;
use crate::policy::Undelivered;
use crate::sync::{Condvar, Mutex, MutexGuard};

/// A message to which the peer answers. One that nobody waits for any more is not written, and not again.
///
/// Its lock is taken last: with the lock of an outbox, or with that of a table of calls.
#[derive(Debug)]
pub(crate) struct Question {
    lasts: Lasts,
    state: Mutex<QuestionState>,
    changed: Condvar,
}

/// How long an answer can come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lasts {
    /// Until somebody stops waiting for it.
    UntilAnswered,
    /// As long as the link on which the question was written, or the session.
    WithItsLink,
    /// As long as the link that was up when it was asked.
    WithThisLink,
}

#[derive(Debug)]
struct QuestionState {
    /// Of the message, once it is accepted; 0 before that.
    number: u64,
    /// When the message expires, until somebody has looked whether it has.
    expires: Option<Instant>,
    place: Place,
    fate: Fate,
    /// Nothing comes until the client is sent off again: it has given up.
    resting: Option<Arc<Failure>>,
}

/// Where the message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Not written yet.
    Here,
    /// Written, or about to be, on the link of this number.
    Written(u32),
    /// Nowhere, and neither is its answer.
    Gone,
}

/// What has become of the question itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Open,
    /// The last answer is there.
    Answered,
    Failed(Unanswered),
}

/// Why no more answers come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// Nobody waits any more, or the link is gone.
    NotConnected,
    Closed,
    /// It was not written.
    Undelivered(Undelivered),
}

/// A wait without an answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    TimedOut,
    /// The message may have expired: the outbox is to be asked, and then this again.
    Due,
    GaveUp(Arc<Failure>),
    Ended(Fate),
}

impl Question {
    pub(crate) fn new(lasts: Lasts) -> Self {
        let (place, fate) = (Place::Here, Fate::Open);
        let state = QuestionState { number: 0, expires: None, place, fate, resting: None };
        Self { lasts, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// The number of the message, once it is accepted; 0 before that.
    pub(crate) fn number(&self) -> u64 {
        self.state.lock().number
    }

    pub(crate) fn place(&self) -> Place {
        self.state.lock().place
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state.lock().fate == Fate::Open
    }

    /// Whether it has its last answer.
    pub(super) fn is_answered(&self) -> bool {
        self.state.lock().fate == Fate::Answered
    }

    /// Has somebody wait no longer who still does. Returns whether it was open: then it stays unanswered.
    pub(crate) fn fail(&self, why: Unanswered) -> bool {
        self.fail_with(self.state.lock(), why)
    }

    fn fail_with(&self, mut state: MutexGuard<'_, QuestionState>, why: Unanswered) -> bool {
        let was_open = state.fate == Fate::Open;
        if was_open {
            state.fate = Fate::Failed(why);
        }
        drop(state);
        self.changed.notify_all();
        was_open
    }

    /// An answer is there, and is handed over by `give`, if somebody waits for it. Returns whether it was.
    pub(crate) fn answer(&self, is_last: bool, give: impl FnOnce()) -> bool {
        let mut state = self.state.lock();
        if state.fate != Fate::Open {
            return false;
        }
        give();
        if is_last {
            state.fate = Fate::Answered;
        }
        drop(state);
        self.changed.notify_all();
        true
    }

    /// Waits until `take` finds an answer.
    pub(crate) fn wait<T>(
        &self,
        deadline: Option<Instant>,
        take: impl Fn() -> Option<T>,
    ) -> Result<T, NoAnswer> {
        let mut state = self.state.lock();
        loop {
            if let Some(answer) = take() {
                return Ok(answer);
            }
            if state.fate != Fate::Open {
                return Err(NoAnswer::Ended(state.fate));
            }
            if let Some(cause) = &state.resting {
                return Err(NoAnswer::GaveUp(Arc::clone(cause)));
            }
            let now = Instant::now();
            if state.expires.is_some_and(|time| time <= now) {
                state.expires = None;
                return Err(NoAnswer::Due);
            }
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Err(NoAnswer::TimedOut);
            }
            state = match deadline.into_iter().chain(state.expires).min() {
                None => self.changed.wait(state),
                Some(time) => self.changed.wait_timeout(state, time.saturating_duration_since(now)),
            };
        }
    }

    /// The message has this number.
    pub(super) fn accepted(
        &self,
        number: u64,
        expires: Option<Instant>,
        resting: Option<Arc<Failure>>,
    ) {
        let mut state = self.state.lock();
        state.number = number;
        state.expires = expires;
        state.resting = resting;
    }

    /// The writer of the link of this number has the message.
    pub(super) fn taken(&self, link: u32) {
        self.state.lock().place = Place::Written(link);
    }

    /// The link died first.
    pub(super) fn came_back(&self) {
        self.state.lock().place = Place::Here;
    }

    /// The message will not be written, or not again.
    pub(super) fn lost(&self, why: Undelivered) {
        let mut state = self.state.lock();
        state.place = Place::Gone;
        self.fail_with(
            state,
            match why {
                Undelivered::LinkEnded => Unanswered::NotConnected,
                why => Unanswered::Undelivered(why),
            },
        );
    }

    fn link_ended(&self) {
        let mut state = self.state.lock();
        if matches!(state.place, Place::Written(_)) {
            state.place = Place::Gone;
            self.fail_with(state, Unanswered::NotConnected);
        }
    }

    fn closed(&self) {
        let mut state = self.state.lock();
        state.place = Place::Gone;
        self.fail_with(state, Unanswered::Closed);
    }

    fn set_given_up(&self, cause: Option<Arc<Failure>>) {
        self.state.lock().resting = cause;
        self.changed.notify_all();
    }
}

/// No fewer are looked through for those that nobody knows any more.
const FEW: usize = 64;

/// The questions of an outbox to which answers may come.
#[derive(Debug, Default)]
pub(super) struct Questions {
    all: Vec<Weak<Question>>,
    /// With so many it is time to look.
    crowd: usize,
}

impl Questions {
    pub(super) fn add(&mut self, question: &Arc<Question>) {
        if self.all.len() >= self.crowd.max(FEW) {
            self.all.retain(|question| question.strong_count() > 0);
            self.crowd = self.all.len() * 2;
        }
        self.all.push(Arc::downgrade(question));
    }

    fn each(&self) -> impl Iterator<Item = Arc<Question>> {
        self.all.iter().filter_map(Weak::upgrade)
    }

    /// The link, or the session, is gone on which the written ones went that last no longer.
    pub(super) fn link_ended(&self, is_meant: impl Fn(Lasts) -> bool) {
        let meant = self.each().filter(|question| is_meant(question.lasts));
        meant.for_each(|question| question.link_ended());
    }

    /// Nothing is sent or received any more.
    pub(super) fn close(&mut self) {
        self.each().for_each(|question| question.closed());
        self.all = Vec::new();
    }

    /// The client has given up, for this reason, or was sent off again.
    pub(super) fn set_given_up(&self, cause: Option<&Arc<Failure>>) {
        self.each().for_each(|question| question.set_given_up(cause.cloned()));
    }

    /// Gives back what a burst took.
    pub(super) fn relax(&mut self) {
        self.all.retain(|question| question.strong_count() > 0);
        self.all.shrink_to_fit();
        self.crowd = 0;
    }
}

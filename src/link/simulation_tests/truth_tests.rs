//! What really happens to each message, and what must not.

use std::sync::Arc;

use crate::policy::Undelivered;
use crate::queues::question::Question;
use crate::queues::receipt::Receipt;

/// Both ends of a session: who sends.
pub(super) const CLIENT: usize = 0;
pub(super) const SERVER: usize = 1;

/// A message of a program's.
#[derive(Debug)]
pub(super) struct Fate {
    pub(super) from: usize,
    /// The session of the server's program that has sent it.
    of: Option<usize>,
    /// It is counted by no session.
    pub(super) is_outside: bool,
    /// The session in which it has its number.
    pub(super) session: Option<usize>,
    /// The peer's program has it.
    pub(super) is_received: bool,
    /// The peer's program has got it in this session or in one before.
    has_come: bool,
    /// As far as its sender can know the peer may have it, or not.
    pub(super) is_doubtful: bool,
    /// The peer has confirmed it.
    pub(super) is_confirmed: bool,
    /// What its program was told.
    pub(super) told: Option<Undelivered>,
    /// Its program has it back.
    pub(super) is_handed_back: bool,
    /// It may come once more: nobody knew whether it had come.
    pub(super) may_repeat: bool,
    pub(super) receipt: Option<Receipt>,
    /// By which it can be withdrawn.
    pub(super) question: Option<Arc<Question>>,
}

/// What a number was used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Message(usize),
    Empty,
}

/// One session, by its token.
#[derive(Debug, Default)]
pub(super) struct Course {
    /// What was written under each number, in both directions.
    numbers: [Vec<Use>; 2],
    /// The latest message that was received in each direction.
    latest: [Option<usize>; 2],
    /// The server has forgotten it before its end.
    pub(super) is_forgotten: bool,
    /// It has a handler.
    pub(super) has_handler: bool,
    /// Its client has heard its token.
    pub(super) has_client: bool,
    /// The server has heard that it is over.
    pub(super) is_over: bool,
}

/// What is counted, so that schedules in which it does not happen are noticed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Seen {
    Received,
    Link,
    Resumption,
    /// A message is written again.
    Again,
    /// A number is said to be empty.
    Empty,
    /// A session is over, and a message in doubt.
    Doubt,
    /// A claim is refused for its attempt, and its session goes on.
    LateClaim,
    /// A server has heard the end of a session.
    End,
    /// Both ends have said so before they heard it.
    CrossedEnd,
}

pub(super) type Sums = [u64; 9];

#[derive(Debug, Default)]
pub(super) struct Truth {
    pub(super) fates: Vec<Fate>,
    pub(super) courses: Vec<Course>,
    /// The first thing that went wrong.
    pub(super) fault: Option<String>,
    pub(super) sums: Sums,
    /// Everything is printed.
    pub(super) is_shown: bool,
}

impl Truth {
    pub(super) fn show(&self, what: impl FnOnce() -> String) {
        if self.is_shown {
            println!("{}", what());
        }
    }

    pub(super) fn saw(&mut self, what: Seen) {
        self.sums[what as usize] += 1;
    }

    pub(super) fn fault(&mut self, fault: impl Into<String>) {
        let fault = fault.into();
        self.show(|| format!("FAULT {fault}"));
        self.fault.get_or_insert(fault);
    }

    pub(super) fn check(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.fault(otherwise());
        }
    }

    /// A message that its program is about to send; returns its name.
    pub(super) fn begin(&mut self, from: usize, of: Option<usize>, is_outside: bool) -> usize {
        self.fates.push(Fate {
            from,
            of,
            is_outside,
            session: None,
            is_received: false,
            has_come: false,
            is_doubtful: false,
            is_confirmed: false,
            told: None,
            is_handed_back: false,
            may_repeat: false,
            receipt: None,
            question: None,
        });
        self.fates.len() - 1
    }

    /// The whole of a message is on the wire, under this number.
    pub(super) fn written(&mut self, session: usize, from: usize, number: u64, name: usize) {
        let numbers = &mut self.courses[session].numbers[from];
        let index = number as usize - 1;
        match numbers.get(index).copied() {
            None if index == numbers.len() => numbers.push(Use::Message(name)),
            Some(Use::Message(before)) if before == name => self.saw(Seen::Again),
            before => self.fault(format!("number {number} carries {name} after {before:?}")),
        }
        let fate = &mut self.fates[name];
        fate.is_doubtful = true;
        if fate.session.replace(session).is_some_and(|before| before != session) {
            fate.is_received &= !fate.may_repeat;
        }
    }

    /// The message says that the peer may have it already, or not.
    pub(super) fn marked(&mut self, name: usize, is_marked: bool) {
        let may_repeat = self.fates[name].may_repeat;
        self.check(is_marked == may_repeat, || {
            format!("{name} is marked as sent again: {is_marked}, in doubt: {may_repeat}")
        });
    }

    /// The peer is told that this number is empty.
    pub(super) fn emptied(&mut self, session: usize, from: usize, number: u64) {
        let index = number as usize - 1;
        match self.courses[session].numbers[from].get(index).copied() {
            None if index == self.courses[session].numbers[from].len() => {}
            Some(Use::Empty) => return,
            Some(Use::Message(name)) => {
                let fate = &self.fates[name];
                let is_gone = fate.told.is_some() && !fate.is_received;
                self.check(is_gone, || format!("number {number} of {name} is said to be empty"));
                self.courses[session].numbers[from][index] = Use::Empty;
                self.saw(Seen::Empty);
                return;
            }
            None => self.fault(format!("number {number} is empty before others are used")),
        }
        self.courses[session].numbers[from].push(Use::Empty);
        self.saw(Seen::Empty);
    }

    /// A message has come, and was counted under this number.
    pub(super) fn counted(&mut self, session: usize, from: usize, number: u64, name: usize) {
        let used = self.courses[session].numbers[from].get(number as usize - 1).copied();
        self.check(used == Some(Use::Message(name)), || {
            format!("{name} is counted as {number}, which is {used:?}")
        });
        let latest = self.courses[session].latest[from].replace(name);
        self.check(latest.is_none_or(|latest| latest < name), || {
            format!("{name} comes behind {latest:?}")
        });
        self.received(name);
        self.saw(Seen::Received);
    }

    /// The peer has counted numbers as empty, up to this one.
    pub(super) fn skipped(&mut self, session: usize, from: usize, number: u64) {
        let used = self.courses[session].numbers[from].get(number as usize - 1).copied();
        self.check(used == Some(Use::Empty), || format!("{number} is skipped, and is {used:?}"));
    }

    pub(super) fn received(&mut self, name: usize) {
        let Fate { is_received, told, is_handed_back, .. } = &self.fates[name];
        let is_there = !is_handed_back && told.is_none_or(|told| told == Undelivered::Lost);
        let wrong = match (is_received, is_there) {
            (true, _) => Some(format!("{name} comes twice")),
            (_, false) => Some(format!("{name} comes, and was said to be gone: {told:?}")),
            _ => None,
        };
        self.fates[name].is_received = true;
        self.fates[name].has_come = true;
        if let Some(wrong) = wrong {
            self.fault(wrong);
        }
    }

    /// The program is told of a message that is not sent any more.
    pub(super) fn told(&mut self, name: usize, why: Undelivered) {
        self.show(|| format!("  {name} is gone: {why:?}"));
        let fate = &mut self.fates[name];
        fate.told = Some(why);
        let wrong = match why {
            Undelivered::Lost => !fate.is_doubtful && !fate.may_repeat,
            _ => fate.has_come,
        };
        fate.is_doubtful = false;
        self.check(!wrong, || format!("{name} is said to be gone: {why:?}"));
    }

    /// The sender learns that the peer has counted up to one number, and has everything up to another.
    pub(super) fn learned(&mut self, session: usize, from: usize, received: u64, has: u64) {
        for number in 1..=has {
            let used = self.courses[session].numbers[from].get(number as usize - 1);
            let Some(Use::Message(name)) = used.copied() else { continue };
            let fate = &mut self.fates[name];
            if number <= received {
                fate.is_confirmed = true;
                fate.is_doubtful = false;
            }
            let is_there = fate.is_received || fate.told.is_some();
            self.check(is_there, || format!("{name} is confirmed, and was not received"));
        }
    }

    /// Another link begins: what is behind `has` the peer lacks.
    pub(super) fn resumed(&mut self, session: usize, from: usize, received: u64, has: u64) {
        self.learned(session, from, received, has);
        for index in has as usize..self.courses[session].numbers[from].len() {
            let Use::Message(name) = self.courses[session].numbers[from][index] else { continue };
            self.fates[name].is_doubtful = false;
            let is_received = self.fates[name].is_received;
            self.check(!is_received, || format!("the peer has {name}, and says it has not"));
        }
    }

    /// A session is over for one of its ends, which says that so many messages are in doubt; if that
    /// `is_known`, the peer has said what it has.
    pub(super) fn ended(&mut self, session: usize, from: usize, in_doubt: usize, is_known: bool) {
        self.show(|| {
            format!("session {session} is over for {from}, {in_doubt} in doubt, known: {is_known}")
        });
        let mut doubtful = 0;
        for name in 0..self.fates.len() {
            let fate = &mut self.fates[name];
            if fate.from != from || fate.session != Some(session) || fate.is_outside {
                continue;
            }
            let is_open = fate.told.is_none();
            if fate.is_doubtful && is_known {
                fate.is_doubtful = false;
            }
            if fate.is_doubtful {
                doubtful += 1;
                self.sums[Seen::Doubt as usize] += 1;
                fate.may_repeat = true;
            } else if is_open && !fate.is_confirmed && fate.is_received {
                self.fault(format!("{name} is not in doubt, not confirmed, and was received"));
            }
        }
        self.check(doubtful == in_doubt, || {
            format!("{in_doubt} messages are said to be in doubt, and {doubtful} are")
        });
    }

    /// An end says that the session is over, of its own accord.
    pub(super) fn said_all(&mut self, session: usize, from: usize) {
        for name in 0..self.fates.len() {
            let fate = &self.fates[name];
            let is_its = fate.from == from && fate.of.is_none_or(|of| of == session);
            let is_open = fate.told.is_none() && !fate.is_handed_back && !fate.is_outside;
            let is_said = fate.session == Some(session) || fate.is_received;
            self.check(!is_its || !is_open || is_said, || format!("{name} is left behind the end"));
        }
    }

    pub(super) fn handed_back(&mut self, name: usize) {
        let fate = &mut self.fates[name];
        fate.is_handed_back = true;
        let is_received = fate.is_received && !fate.may_repeat;
        self.check(!is_received, || format!("{name} is handed back, and was received"));
    }

    /// Nothing is under way any more.
    pub(super) fn settle(&mut self) {
        for name in 0..self.fates.len() {
            let fate = &self.fates[name];
            let is_accounted_for =
                fate.is_received || fate.told.is_some() || fate.is_handed_back || fate.is_outside;
            let outcome = fate.receipt.as_ref().map(|receipt| receipt.wait(Default::default()));
            let is_right = match &outcome {
                Some(Ok(())) => fate.is_received,
                Some(Err(crate::Error::Undelivered(Undelivered::Lost | Undelivered::Closed))) => {
                    true
                }
                Some(Err(crate::Error::Undelivered(_))) => !fate.is_received,
                // dropped before it was accepted
                Some(Err(_)) => fate.told.is_some(),
                None => true,
            };
            if !is_accounted_for {
                self.fault(format!("{name} is lost: {:?}", self.fates[name]));
            } else if !is_right {
                self.fault(format!("{name} has a wrong receipt: {outcome:?}"));
            }
        }
        for session in 0..self.courses.len() {
            let Course { has_handler, has_client, .. } = self.courses[session];
            self.check(has_client || !has_handler, || {
                format!("session {session} has a handler, and no client has heard of it")
            });
        }
    }
}

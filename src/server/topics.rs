//! Who has joined which topic, and the order in which the program hears of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::thread::{self, ThreadId};

use super::members::Members;
use super::presence::Presence;
use super::session::Session;
use crate::error::Error;
use crate::sync::{Condvar, Mutex};

/// How long the name of a topic may be, in bytes.
pub(super) const LONGEST_NAME: usize = 255;

/// Tells the program what has become of a session and a topic.
pub(super) type Tell<'a> = &'a dyn Fn(&Session, &str, Presence);

/// The topics of a server, each as long as it has members.
///
/// `turn` is taken before `table`, and the program is told with neither of these locks held.
pub(super) struct Topics {
    /// How many a session may be in.
    per_session: usize,
    /// How many bytes the names of all may have.
    bytes: usize,
    /// Whether the program is told.
    tells: bool,
    table: Mutex<Table>,
    turn: Turn,
}

/// What the lock protects. It keeps no memory of what has gone.
#[derive(Default)]
struct Table {
    topics: BTreeMap<Arc<str>, Members>,
    /// Those of each session that is in any.
    joined: BTreeMap<u64, BTreeSet<Arc<str>>>,
    /// The bytes of the names of `topics`.
    bytes: usize,
    /// What the thread whose turn it is has done, and not told yet.
    untold: VecDeque<(Session, Arc<str>, Presence)>,
}

impl Table {
    /// Takes a session out of a topic, and the topic out of the table if it was the last member.
    fn remove(&mut self, id: u64, name: &Arc<str>) {
        let Some(members) = self.topics.get_mut(name) else { return };
        let Some(session) = members.remove(id) else { return };
        if members.is_empty() {
            self.topics.remove(name);
            self.bytes -= name.len();
        }
        self.untold.push_back((session, Arc::clone(name), Presence::Left));
    }
}

impl Topics {
    pub(super) fn new(per_session: usize, bytes: usize, tells: bool) -> Self {
        Self { per_session, bytes, tells, table: Mutex::default(), turn: Turn::default() }
    }

    /// Returns whether the session was not in the topic already.
    pub(super) fn join(
        &self,
        session: &Session,
        name: &str,
        tell: Tell<'_>,
    ) -> Result<bool, Error> {
        if !(1..=LONGEST_NAME).contains(&name.len()) {
            return Err(Error::TopicRefused { reason: "its name has to have 1 to 255 bytes" });
        }
        self.change(tell, |table| {
            // whoever ends it says so first, and then takes it out of the table
            if session.has_ended() {
                return Err(Error::Closed);
            }
            let joined = table.joined.get(&session.id());
            if joined.is_some_and(|joined| joined.contains(name)) {
                return Ok(false);
            }
            if joined.map_or(0, BTreeSet::len) >= self.per_session {
                let reason = "the session is in as many as ServerBuilder::max_topics allows";
                return Err(Error::TopicRefused { reason });
            }
            let name: Arc<str> = match table.topics.get_key_value(name) {
                Some((name, _)) => Arc::clone(name),
                None if table.bytes + name.len() > self.bytes => {
                    let reason = "the names of all have ServerBuilder::max_topic_bytes";
                    return Err(Error::TopicRefused { reason });
                }
                None => {
                    table.bytes += name.len();
                    name.into()
                }
            };
            table.topics.entry(Arc::clone(&name)).or_default().insert(session.clone());
            table.joined.entry(session.id()).or_default().insert(Arc::clone(&name));
            table.untold.push_back((session.clone(), name, Presence::Joined));
            Ok(true)
        })
    }

    /// Returns whether the session was in the topic.
    pub(super) fn leave(&self, session: &Session, name: &str, tell: Tell<'_>) -> bool {
        self.change(tell, |table| {
            let Some(joined) = table.joined.get_mut(&session.id()) else { return false };
            let Some(name) = joined.take(name) else { return false };
            if joined.is_empty() {
                table.joined.remove(&session.id());
            }
            table.remove(session.id(), &name);
            true
        })
    }

    /// The session has ended, and is known to have.
    pub(super) fn leave_all(&self, id: u64, tell: Tell<'_>) {
        // most are in none, and need not wait for their turn
        if !self.table.lock().joined.contains_key(&id) {
            return;
        }
        self.change(tell, |table| {
            for name in table.joined.remove(&id).unwrap_or_default() {
                table.remove(id, &name);
            }
        });
    }

    /// The topics of a session, by name.
    pub(super) fn of(&self, id: u64) -> Vec<String> {
        let table = self.table.lock();
        table.joined.get(&id).into_iter().flatten().map(|name| (**name).to_owned()).collect()
    }

    /// Those who are in a topic.
    pub(super) fn members(&self, name: &str) -> Arc<Vec<Session>> {
        self.table.lock().topics.get(name).map(Members::all).unwrap_or_default()
    }

    /// How many topics have members.
    pub(super) fn len(&self) -> usize {
        self.table.lock().topics.len()
    }

    /// Changes the table, and tells the program before anybody else does. In the program's closure, which may
    /// change it too, the caller further up goes on with that.
    fn change<T>(&self, tell: Tell<'_>, change: impl FnOnce(&mut Table) -> T) -> T {
        if !self.tells {
            let mut table = self.table.lock();
            let result = change(&mut table);
            // its session has another handle: the caller's, or that of those that are connected
            table.untold = VecDeque::new();
            return result;
        }
        let turn = self.turn.take();
        let result = change(&mut self.table.lock());
        if turn.is_some() {
            let next = || self.table.lock().untold.pop_front();
            while let Some((session, name, presence)) = next() {
                tell(&session, &name, presence);
            }
            self.table.lock().untold.shrink_to_fit();
        }
        result
    }
}

/// Whose turn it is: one thread's, and that has it once.
#[derive(Default)]
struct Turn {
    holder: Mutex<Option<ThreadId>>,
    over: Condvar,
}

struct Taken<'a>(&'a Turn);

impl Turn {
    /// Waits for the turn; `None` if this thread has it already.
    fn take(&self) -> Option<Taken<'_>> {
        let me = thread::current().id();
        let mut holder = self.holder.lock();
        while let Some(thread) = *holder {
            if thread == me {
                return None;
            }
            holder = self.over.wait(holder);
        }
        *holder = Some(me);
        Some(Taken(self))
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.0.holder.lock() = None;
        self.0.over.notify_one();
    }
}

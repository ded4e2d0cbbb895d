//! The topic of this node: who is in it, and what each of them has.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use everlink::{Message, ServerHandle, Session};

use crate::stream::Page;
use crate::wire::{Position, Tell};

/// "Try again later" (RFC 6455 section 7.4.1 and its registry): the client comes back, and what it
/// has missed is replayed.
pub const TRY_AGAIN: u16 = 1013;

/// Everybody who has all that was handed out here.
const TOPIC: &str = "room";

pub struct Room {
    state: Mutex<State>,
}

struct State {
    handed_out: HandedOut,
    members: HashMap<u64, Member>,
    /// How often somebody has joined.
    joins: u64,
}

/// How far this node has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandedOut {
    /// The last entry that was handed to everybody here.
    pub to: Position,
    /// How often the stream was not where the node had left it: places from before say nothing.
    gaps: u64,
}

struct Member {
    user: String,
    /// The last entry that it had when it joined; the feed may still hand that out.
    has: Position,
}

impl Room {
    /// Hands out what comes after this place.
    pub fn new(to: Position) -> Self {
        let handed_out = HandedOut { to, gaps: 0 };
        Self { state: Mutex::new(State { handed_out, members: HashMap::new(), joins: 0 }) }
    }

    // held while something is published, which waits for nobody
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn handed_out(&self) -> HandedOut {
        self.state().handed_out
    }

    /// From here on the session gets what comes, if it has all that came before; otherwise it is
    /// told the rest first, and asks again. `seen` is what [`handed_out`](Self::handed_out) was
    /// before the stream was read.
    pub fn join(&self, session: &Session, user: &str, has: Position, seen: HandedOut) -> bool {
        let mut state = self.state();
        if has < state.handed_out.to || seen.gaps != state.handed_out.gaps {
            return false;
        }
        state.members.insert(session.id(), Member { user: user.to_owned(), has });
        // an error: it is over, and its handler about to notice
        let _ = session.join(TOPIC);
        state.joins += 1;
        true
    }

    pub fn leave(&self, session: &Session) {
        self.state().members.remove(&session.id());
    }

    /// Publishes what was read to everybody who has not got it.
    pub fn deliver(&self, server: &ServerHandle, page: &Page) {
        let mut state = self.state();
        if let Some(at) = page.gap {
            state.note_gap(server, at);
        }
        state.handed_out.to = page.place;
        for entry in &page.entries {
            state.publish(server, entry.json.as_str(), |member| member.has < entry.at);
        }
    }

    /// Publishes something that is no entry.
    pub fn announce(&self, server: &ServerHandle, json: &str) {
        self.state().publish(server, json, |_| true);
    }

    /// Who is here, and a number that changes when somebody joins.
    pub fn users(&self) -> (BTreeSet<String>, u64) {
        let state = self.state();
        (state.members.values().map(|member| member.user.clone()).collect(), state.joins)
    }
}

impl State {
    /// What followed the last entry that was handed out may be gone. Who has just that is told so. Who
    /// has come with more may miss nothing: it comes back, and the stream is read for it alone.
    fn note_gap(&mut self, server: &ServerHandle, at: Position) {
        for session in server.members(TOPIC) {
            match self.members.get_mut(&session.id()) {
                Some(member) if member.has <= self.handed_out.to => member.has = at,
                _ => self.send_away(&session, "the stream was shortened"),
            }
        }
        self.publish(server, Tell::Gap { at }.to_json(), |_| true);
        self.handed_out.gaps += 1;
    }

    /// Queues for the members that are meant, without waiting. Who misses it is too slow, and is sent away before
    /// anything that follows: there are no holes.
    fn publish(
        &mut self,
        server: &ServerHandle,
        message: impl Into<Message>,
        is_meant: impl Fn(&Member) -> bool,
    ) {
        let meant = Cell::new(0);
        let queued = server.publish_where(TOPIC, message, |session| {
            let is_meant = self.members.get(&session.id()).is_some_and(&is_meant);
            meant.set(meant.get() + usize::from(is_meant));
            is_meant
        });
        if queued == meant.get() {
            return;
        }
        for session in server.members(TOPIC) {
            if session.stats().broadcasts_missed > 0 {
                self.send_away(&session, "too slow");
            }
        }
    }

    /// Redis keeps what is to come, and the outbox of one client is no place for it.
    fn send_away(&mut self, session: &Session, why: &str) {
        self.members.remove(&session.id());
        session.leave(TOPIC);
        let _ = session.start_close(TRY_AGAIN, why);
    }
}

/// Queues for one without waiting, who is sent away if it is too slow.
pub fn tell(session: &Session, message: impl Into<Message>) {
    if session.try_send(message).is_err() {
        let _ = session.start_close(TRY_AGAIN, "too slow");
    }
}

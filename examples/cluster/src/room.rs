//! Who is connected to this node, and what each of them has.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use everlink::Session;

use crate::stream::Page;
use crate::wire::{Position, Tell};

/// "Try again later" (RFC 6455 section 7.4.1 and its registry): the client comes back, and what it
/// has missed is replayed.
pub const TRY_AGAIN: u16 = 1013;

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
    session: Session,
    user: String,
    /// The last entry that was queued for it.
    has: Position,
}

impl Room {
    /// Hands out what comes after this place.
    pub fn new(to: Position) -> Self {
        let handed_out = HandedOut { to, gaps: 0 };
        Self { state: Mutex::new(State { handed_out, members: HashMap::new(), joins: 0 }) }
    }

    // held for a pass over the members, none of which waits
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
        let member = Member { session: session.clone(), user: user.to_owned(), has };
        state.members.insert(session.id(), member);
        state.joins += 1;
        true
    }

    pub fn leave(&self, session: &Session) {
        self.state().members.remove(&session.id());
    }

    /// Queues what was read for everybody who has not got it.
    pub fn deliver(&self, page: &Page) {
        let messages: Vec<everlink::Message> =
            page.entries.iter().map(|entry| entry.json.as_str().into()).collect();
        let mut state = self.state();
        if let Some(at) = page.gap {
            state.note_gap(at);
        }
        state.handed_out.to = page.place;
        state.members.retain(|_, member| {
            for (entry, message) in page.entries.iter().zip(&messages) {
                if entry.at <= member.has {
                    continue;
                }
                if !tell(&member.session, message.clone()) {
                    return false;
                }
                member.has = entry.at;
            }
            true
        });
    }

    /// Queues something for everybody that is no entry.
    pub fn announce(&self, json: &str) {
        let message = everlink::Message::from(json);
        self.state().members.retain(|_, member| tell(&member.session, message.clone()));
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
    fn note_gap(&mut self, at: Position) {
        let to = self.handed_out.to;
        let message = everlink::Message::from(Tell::Gap { at }.to_json());
        self.members.retain(|_, member| {
            if member.has > to {
                let _ = member.session.start_close(TRY_AGAIN, "the stream was shortened");
                return false;
            }
            member.has = at;
            tell(&member.session, message.clone())
        });
        self.handed_out.gaps += 1;
    }
}

/// Queues without waiting. Who is too slow is sent away: Redis keeps what is to come, and the outbox
/// of one client is no place for it.
pub fn tell(session: &Session, message: impl Into<everlink::Message>) -> bool {
    match session.try_send(message) {
        Ok(()) => true,
        Err(_) => {
            let _ = session.start_close(TRY_AGAIN, "too slow");
            false
        }
    }
}

//! Who is connected to this node, and what each of them has.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use everlink::Session;

use crate::store::Entry;
use crate::wire::Position;

/// "Try again later" (RFC 6455 section 7.4.1 and its registry): the client comes back, and what it
/// has missed is replayed.
const TRY_AGAIN: u16 = 1013;

#[derive(Default)]
pub struct Room {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The last entry that was handed to everybody here.
    delivered: Position,
    members: HashMap<u64, Member>,
}

struct Member {
    session: Session,
    user: String,
    /// The last entry that was queued for it.
    has: Position,
}

impl Room {
    // held for a pass over the members, none of which waits
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on the session gets what comes, if it has all that came before; otherwise it is
    /// told the rest first, and asks again.
    pub fn join(&self, session: &Session, user: &str, has: Position) -> bool {
        let mut state = self.state();
        if has < state.delivered {
            return false;
        }
        let member = Member { session: session.clone(), user: user.to_owned(), has };
        state.members.insert(session.id(), member);
        true
    }

    pub fn leave(&self, session: &Session) {
        self.state().members.remove(&session.id());
    }

    /// Queues entries for everybody who has not got them.
    pub fn deliver(&self, entries: &[Entry]) {
        let Some(last) = entries.last() else { return };
        let messages: Vec<everlink::Message> =
            entries.iter().map(|entry| entry.json.as_str().into()).collect();
        let mut state = self.state();
        state.delivered = last.at;
        state.members.retain(|_, member| {
            for (entry, message) in entries.iter().zip(&messages) {
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

    pub fn users(&self) -> BTreeSet<String> {
        self.state().members.values().map(|member| member.user.clone()).collect()
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

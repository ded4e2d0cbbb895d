//! Sessions that get the same.

use std::sync::Arc;

use super::session::Session;

/// Sessions by number, the oldest first. Who publishes takes them along without copying any; they are
/// copied when they change meanwhile.
#[derive(Debug, Default)]
pub(super) struct Members {
    sessions: Arc<Vec<Session>>,
}

impl Members {
    /// Puts one in that is not there.
    pub(super) fn insert(&mut self, session: Session) {
        if let Err(place) = self.place(session.id()) {
            Arc::make_mut(&mut self.sessions).insert(place, session);
        }
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Session> {
        let place = self.place(id).ok()?;
        let sessions = Arc::make_mut(&mut self.sessions);
        let session = sessions.remove(place);
        // no less than four times what is needed is given back, so that it is rarely done
        if sessions.len() < sessions.capacity() / 4 {
            sessions.shrink_to(2 * sessions.len());
        }
        Some(session)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// All that are there at the moment.
    pub(super) fn all(&self) -> Arc<Vec<Session>> {
        Arc::clone(&self.sessions)
    }

    fn place(&self, id: u64) -> Result<usize, usize> {
        self.sessions.binary_search_by_key(&id, Session::id)
    }
}

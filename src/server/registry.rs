//! Who is connected: for broadcasts and the end.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use super::session::Session;
use crate::failure::Failure;
use crate::message::CloseFrame;
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::transport::Hangup;

/// Every connection of a server, from accept to the last line of its thread.
#[derive(Debug, Default)]
pub(super) struct Registry {
    state: Mutex<State>,
    /// Signalled when a connection has ended.
    left: Condvar,
}

#[derive(Debug, Default)]
struct State {
    connections: HashMap<u64, Connection>,
    /// Threads that are past their last line, or about to be.
    ended: Vec<JoinHandle<()>>,
    /// Whether one of those that end is joining the others at the moment.
    is_joining: bool,
    /// No new sessions: each would be closed at once with this.
    closing: Option<CloseFrame>,
}

#[derive(Debug)]
struct Connection {
    phase: Phase,
    /// Put in after the thread was started, so a short thread may have ended before.
    thread: Option<JoinHandle<()>>,
    ended: bool,
}

#[derive(Debug, Clone)]
enum Phase {
    Opening(Arc<dyn Hangup>),
    Open(Session),
}

impl State {
    /// What to do something to that may take other locks: without this one held.
    fn phases(&self) -> Vec<Phase> {
        self.connections.values().map(|connection| connection.phase.clone()).collect()
    }
}

impl Registry {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// A connection is about to get its thread.
    pub(super) fn enter(&self, id: u64, hangup: Arc<dyn Hangup>) {
        let phase = Phase::Opening(hangup);
        let connection = Connection { phase, thread: None, ended: false };
        self.state().connections.insert(id, connection);
    }

    /// The thread of a connection has been started.
    pub(super) fn started(&self, id: u64, thread: JoinHandle<()>) {
        let mut gone = None;
        let mut state = self.state();
        match state.connections.get_mut(&id) {
            Some(connection) if connection.ended => {
                gone = state.connections.remove(&id);
                state.ended.push(thread);
            }
            Some(connection) => connection.thread = Some(thread),
            None => state.ended.push(thread),
        }
        drop(state);
        // it may be the last handle of the session, with values of the program's
        drop(gone);
    }

    /// The thread of a connection could not be started.
    pub(super) fn forget(&self, id: u64) {
        self.state().connections.remove(&id);
        self.left.notify_all();
    }

    /// A connection is open now; returns the close frame if it is to be closed at once.
    pub(super) fn opened(&self, id: u64, session: Session) -> Option<CloseFrame> {
        let mut state = self.state();
        if let Some(connection) = state.connections.get_mut(&id) {
            connection.phase = Phase::Open(session);
        }
        state.closing.clone()
    }

    /// The last line of a connection's thread.
    pub(super) fn leave(&self, id: u64) {
        let mut state = self.state();
        // a thread may take long to end (destructors of its locals are the program's), and whoever
        // accepts must not wait for that: who ends joins those before it, one at a time
        let mut before = Vec::new();
        if !state.is_joining {
            before = std::mem::take(&mut state.ended);
            state.is_joining = !before.is_empty();
        }
        let mut gone = None;
        if let Some(connection) = state.connections.get_mut(&id) {
            match connection.thread.take() {
                Some(thread) => {
                    gone = state.connections.remove(&id);
                    state.ended.push(thread);
                }
                None => connection.ended = true,
            }
        }
        drop(state);
        self.left.notify_all();
        if !before.is_empty() {
            join(before);
            self.state().is_joining = false;
        }
        // it may be the last handle of the session, with values of the program's
        drop(gone);
    }

    /// The sessions that are open at the moment.
    pub(super) fn sessions(&self) -> Vec<Session> {
        let state = self.state();
        let open = state.connections.values().filter_map(|connection| match &connection.phase {
            Phase::Open(session) if !connection.ended => Some(session.clone()),
            _ => None,
        });
        open.collect()
    }

    /// Starts to close every session, and those that are still opening. From here on a session that
    /// opens is closed at once.
    pub(super) fn close(&self, frame: &CloseFrame) {
        let mut state = self.state();
        state.closing = Some(frame.clone());
        let phases = state.phases();
        drop(state);
        for phase in phases {
            match phase {
                Phase::Opening(hangup) => hangup.hang_up(),
                Phase::Open(session) => session.begin_close(frame.clone()),
            }
        }
    }

    /// Cuts every connection that is left.
    pub(super) fn kill(&self) {
        let phases = self.state().phases();
        for phase in phases {
            match phase {
                Phase::Opening(hangup) => hangup.hang_up(),
                Phase::Open(session) => session.kill(Failure::Interrupted),
            }
        }
    }

    /// Waits until every connection has ended, and joins their threads; returns how many are
    /// left at the deadline.
    pub(super) fn wait_empty(&self, deadline: Instant) -> usize {
        let mut state = self.state();
        loop {
            let left = state.connections.values().filter(|connection| !connection.ended).count();
            let time = deadline.saturating_duration_since(Instant::now());
            if left == 0 || time.is_zero() {
                let ended = std::mem::take(&mut state.ended);
                drop(state);
                join(ended);
                return left;
            }
            state = self.left.wait_timeout(state, time);
        }
    }
}

fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        let _ = thread.join();
    }
}

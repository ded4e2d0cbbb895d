//! Who is connected: for broadcasts and the end.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use super::members::Members;
use super::session::Session;
use crate::failure::Failure;
use crate::message::{CloseCode, CloseFrame};
use crate::sync::{Condvar, Mutex};
use crate::transport::Hangup;

/// Every connection of a server, from accept to the last line of its thread.
#[derive(Debug, Default)]
pub(super) struct Registry {
    connections: Mutex<Connections>,
    /// Signalled when a connection has ended.
    left: Condvar,
}

#[derive(Debug, Default)]
struct Connections {
    present: HashMap<u64, Connection>,
    /// Threads that are past their last line, or about to be.
    ended: Vec<JoinHandle<()>>,
    /// The sessions of those that are open.
    open: Members,
    /// Whether one of those that end is joining the others at the moment.
    is_joining: bool,
    /// No new sessions: each would be closed at once with this.
    closing: Option<CloseFrame>,
}

#[derive(Debug)]
struct Connection {
    phase: Phase,
    thread: JoinHandle<()>,
}

#[derive(Debug, Clone)]
enum Phase {
    Opening(Arc<dyn Hangup>),
    Open(Session),
}

impl Connections {
    /// What to do something to that may take other locks: without this one held.
    fn phases(&self) -> Vec<Phase> {
        self.present.values().map(|connection| connection.phase.clone()).collect()
    }
}

impl Registry {
    /// Gives a connection its thread, which ends with [`Registry::leave`].
    pub(super) fn enter(
        &self,
        id: u64,
        hangup: Arc<dyn Hangup>,
        start: impl FnOnce() -> io::Result<JoinHandle<()>>,
    ) -> io::Result<()> {
        // a short thread waits for this lock before it leaves
        let mut connections = self.connections.lock();
        if connections.closing.is_some() {
            return Err(io::Error::other("the server is going down"));
        }
        let connection = Connection { phase: Phase::Opening(hangup), thread: start()? };
        connections.present.insert(id, connection);
        Ok(())
    }

    /// A connection is open now; returns the close frame if it is to be closed at once.
    pub(super) fn opened(&self, id: u64, session: Session) -> Option<CloseFrame> {
        let mut connections = self.connections.lock();
        if let Some(connection) = connections.present.get_mut(&id) {
            connection.phase = Phase::Open(session.clone());
            connections.open.insert(session);
        }
        connections.closing.clone()
    }

    /// The last line of a connection's thread.
    pub(super) fn leave(&self, id: u64) {
        let mut connections = self.connections.lock();
        // a thread may take long to end (destructors of its locals are the program's), and whoever
        // accepts must not wait for that: who ends joins those before it, one at a time
        let mut before = Vec::new();
        if !connections.is_joining {
            before = std::mem::take(&mut connections.ended);
            connections.is_joining = !before.is_empty();
        }
        let gone = connections.present.remove(&id).map(|Connection { phase, thread }| {
            connections.ended.push(thread);
            phase
        });
        let open = connections.open.remove(id);
        drop(connections);
        self.left.notify_all();
        if !before.is_empty() {
            join(before);
            self.connections.lock().is_joining = false;
        }
        // it may be the last handle of the session, with values of the program's
        drop((gone, open));
    }

    /// The sessions that are open at the moment.
    pub(super) fn open(&self) -> Arc<Vec<Session>> {
        self.connections.lock().open.all()
    }

    /// Has every session take in no more. From here on one that opens is closed at once.
    pub(super) fn finish(&self, farewell: &CloseFrame) {
        let mut connections = self.connections.lock();
        connections.closing = Some(farewell.clone());
        let open = connections.open.all();
        drop(connections);
        for session in open.iter() {
            session.finish_up(farewell.clone());
        }
    }

    /// With what a session is closed whose handler has returned.
    pub(super) fn farewell(&self) -> CloseFrame {
        let closing = self.connections.lock().closing.clone();
        closing.unwrap_or_else(|| CloseFrame::new(CloseCode::NORMAL, ""))
    }

    /// Starts to close every session, and those that are still opening. From here on a session that
    /// opens is closed at once.
    pub(super) fn close(&self, frame: &CloseFrame) {
        let mut connections = self.connections.lock();
        connections.closing = Some(frame.clone());
        let phases = connections.phases();
        drop(connections);
        for phase in phases {
            match phase {
                Phase::Opening(hangup) => hangup.hang_up(),
                Phase::Open(session) => session.begin_close(frame.clone()),
            }
        }
    }

    /// Cuts every connection that is left.
    pub(super) fn kill(&self) {
        let phases = self.connections.lock().phases();
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
        let mut connections = self.connections.lock();
        loop {
            let left = connections.present.len();
            let time = deadline.saturating_duration_since(Instant::now());
            if left == 0 || time.is_zero() {
                let ended = std::mem::take(&mut connections.ended);
                drop(connections);
                join(ended);
                return left;
            }
            connections = self.left.wait_timeout(connections, time);
        }
    }
}

fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        let _ = thread.join();
    }
}

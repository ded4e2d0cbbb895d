//! A connection that has not become a session.

use super::admission::Admitted;
use super::peer::Peer;
use super::subnet::Subnet;

/// Whose it is, as far as that is known yet, and its place among the connections.
pub(super) struct Arrival {
    peer: Peer,
    /// Whether that is all, and it is counted as theirs.
    is_known: bool,
    admitted: Admitted,
    /// Whether any byte came.
    has_spoken: bool,
}

impl Arrival {
    pub(super) fn new(peer: Peer, is_known: bool, admitted: Admitted) -> Self {
        Self { peer, is_known, admitted, has_spoken: false }
    }

    pub(super) fn peer(&self) -> Peer {
        self.peer
    }

    /// Why it is beyond what is let in, if it is.
    pub(super) fn beyond(&self) -> Option<&'static str> {
        self.admitted.beyond()
    }

    pub(super) fn has_spoken(&self) -> bool {
        self.has_spoken
    }

    pub(super) fn spoke(&mut self, has_spoken: bool) {
        self.has_spoken |= has_spoken;
    }

    /// A proxy has said whose it is, and that is another proxy.
    pub(super) fn comes_by(&mut self, peer: Peer) {
        self.peer = peer;
    }

    /// It is known whose it is: from here on it counts as theirs.
    ///
    /// # Errors
    ///
    /// Why they may not come in.
    pub(super) fn is_of(&mut self, peer: Peer, may_go_beyond: bool) -> Result<(), &'static str> {
        self.peer = peer;
        if std::mem::replace(&mut self.is_known, true) {
            return Ok(());
        }
        self.admitted.belongs_to(peer.counted_as().map(Subnet::of), may_go_beyond)
    }

    pub(super) fn into_admitted(self) -> Admitted {
        self.admitted
    }
}

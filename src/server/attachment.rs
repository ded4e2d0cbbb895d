//! What carries a session: one link, or one link after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::peer::Peer;
use crate::error::Error;
use crate::failure::Failure;
use crate::link::{CloseRequest, Handle, Link};
use crate::message::CloseFrame;
use crate::policy::AgreedCompression;

/// What a session asks of that which carries it.
pub(super) trait Attachment: Send + Sync {
    fn peer(&self) -> Peer;

    fn compression(&self) -> Option<AgreedCompression>;

    /// Why the session is over, or about to be.
    fn failure(&self) -> Option<Arc<Failure>>;

    /// When it ended, if it has.
    fn ended_at(&self) -> Option<Instant>;

    /// Whether there is a link.
    fn is_connected(&self) -> bool;

    /// Waits for a link.
    fn wait_connected(&self, timeout: Duration) -> Result<(), Error>;

    /// Takes in no more than what has come; the session ends with its link then, or with its handler, with this
    /// frame.
    fn finish_up(&self, farewell: CloseFrame);

    /// Starts to close, after what is queued. The time for it is over after `timeout`; without one the
    /// server is going down, which ends it in time.
    fn start_close(&self, frame: CloseFrame, timeout: Option<Duration>);

    /// Waits for the end, and closes without the peer when the time is over.
    fn wait_for_end(&self, timeout: Duration);

    /// The link that is up, or the last one.
    fn link(&self) -> Option<Handle>;

    /// Ends the session without a goodbye.
    fn kill(&self, cause: Failure);
}

/// One link, with which the session ends.
pub(super) struct SingleLink {
    link: Handle,
    peer: Peer,
    compression: Option<AgreedCompression>,
}

impl SingleLink {
    pub(super) fn new(link: &Link, peer: Peer) -> Self {
        Self { link: link.handle(), peer, compression: link.compression() }
    }
}

impl Attachment for SingleLink {
    fn peer(&self) -> Peer {
        self.peer
    }

    fn compression(&self) -> Option<AgreedCompression> {
        self.compression
    }

    fn failure(&self) -> Option<Arc<Failure>> {
        self.link.cause()
    }

    fn ended_at(&self) -> Option<Instant> {
        self.link.died_at()
    }

    fn is_connected(&self) -> bool {
        self.link.died_at().is_none()
    }

    fn wait_connected(&self, _: Duration) -> Result<(), Error> {
        if self.is_connected() { Ok(()) } else { Err(Error::Closed) }
    }

    fn finish_up(&self, farewell: CloseFrame) {
        self.link.finish(farewell);
    }

    fn start_close(&self, frame: CloseFrame, timeout: Option<Duration>) {
        let request = CloseRequest::after_data(frame);
        self.link.close(match timeout {
            Some(timeout) => request.by(Instant::now() + timeout),
            None => request,
        });
    }

    fn wait_for_end(&self, _: Duration) {
        self.link.wait_closed();
    }

    fn link(&self) -> Option<Handle> {
        Some(self.link.clone())
    }

    fn kill(&self, cause: Failure) {
        self.link.end(cause);
    }
}

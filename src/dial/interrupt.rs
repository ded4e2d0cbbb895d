//! How `close()` reaches a thread that dials, opens or logs in.

use std::convert::Infallible;
use std::sync::Arc;

use crossbeam_channel::Receiver;

use crate::sync::Mutex;
use crate::sync::Signal;
use crate::transport::Hangup;

/// Raised once, when the client closes. A thread that waits on channels waits on
/// [`Interrupt::raised`] as well; one that is about to block in a socket registers the socket
/// first, and has it hung up under its hands.
#[derive(Debug)]
pub(crate) struct Interrupt {
    signal: Signal,
    socket: Mutex<Option<Arc<dyn Hangup>>>,
}

impl Interrupt {
    pub(crate) fn new() -> Self {
        Self { signal: Signal::new(), socket: Mutex::new(None) }
    }

    pub(crate) fn raise(&self) {
        self.signal.raise();
        if let Some(socket) = self.socket.lock().take() {
            socket.hang_up();
        }
    }

    pub(crate) fn raised(&self) -> &Receiver<Infallible> {
        self.signal.raised()
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.signal.is_raised()
    }

    /// From here until [`Interrupt::unwatch`], raising hangs `socket` up; at once if it was
    /// raised already.
    pub(crate) fn watch(&self, socket: Arc<dyn Hangup>) {
        *self.socket.lock() = Some(Arc::clone(&socket));
        // in this order: whoever raised before the line above has not seen the socket
        if self.is_raised() {
            socket.hang_up();
        }
    }

    pub(crate) fn unwatch(&self) {
        *self.socket.lock() = None;
    }
}

//! Why a link dies.

use std::sync::Arc;

use crate::failure::Failure;
use crate::sync::Mutex;

/// The first cause that any thread noticed.
#[derive(Debug)]
pub(crate) struct Cause(Mutex<Option<Arc<Failure>>>);

impl Cause {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Notes why the link is about to die. The first cause wins, with one exception: a peer
    /// that says goodbye and is gone often breaks our next write before the reader has come to
    /// the goodbye, and the goodbye tells more.
    pub(crate) fn record(&self, cause: Failure) {
        let mut slot = self.0.lock();
        let keep = match slot.as_deref() {
            None => false,
            Some(Failure::Io(_)) => !matches!(cause, Failure::Closed(_)),
            Some(_) => true,
        };
        if !keep {
            *slot = Some(Arc::new(cause));
        }
    }

    pub(crate) fn get(&self) -> Option<Arc<Failure>> {
        self.0.lock().clone()
    }
}

//! Waiting for what was accepted: written, or confirmed.

use std::time::Instant;

use super::{Outbox, Patience, Refused};

impl Outbox {
    /// Waits until everything that was accepted has been written.
    pub(crate) fn wait_written(&self, deadline: Option<Instant>) -> Result<(), Refused> {
        let patience = deadline.map_or(Patience::Forever, Patience::Until);
        let mut state = self.state();
        state.eager += 1;
        let result = loop {
            if state.queue.is_empty() && state.taken == 0 {
                break if state.drained { Err(Refused::Shut) } else { Ok(()) };
            }
            if state.is_shut() {
                break Err(Refused::Shut);
            }
            match self.wait(state, patience, None) {
                Ok(again) => state = again,
                Err(refused) => {
                    self.state().eager -= 1;
                    return Err(refused);
                }
            }
        };
        state.eager -= 1;
        result
    }

    /// Waits until the peer has confirmed everything that was accepted before this call.
    pub(crate) fn flush(&self, deadline: Option<Instant>) -> Result<(), Refused> {
        if !self.confirmable {
            return Err(Refused::Unconfirmable);
        }
        let patience = deadline.map_or(Patience::Forever, Patience::Until);
        let mut state = self.state();
        let id = state.begin_flush();
        // the writer is to ask now, not when it is time
        self.ring();
        let outcome = loop {
            let (outstanding, lost) = state.flush_progress(id);
            if outstanding == 0 || state.is_shut() {
                break Ok(outstanding + lost);
            }
            match self.wait(state, patience, None) {
                Ok(again) => state = again,
                Err(Refused::TimedOut) => {
                    state = self.state();
                    let (outstanding, lost) = state.flush_progress(id);
                    break Ok(outstanding + lost);
                }
                Err(refused) => {
                    state = self.state();
                    break Err(refused);
                }
            }
        };
        state.end_flush(id);
        match outcome {
            Ok(0) => Ok(()),
            Ok(count) => Err(Refused::Unconfirmed(count)),
            Err(refused) => Err(refused),
        }
    }
}

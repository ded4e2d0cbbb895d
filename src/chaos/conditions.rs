//! What is to go wrong at the moment, and who is told when that changes.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use super::faults::Faults;
use super::listener::Listener;
use crate::sync::{Condvar, Mutex, MutexGuard};

#[derive(Debug)]
pub(super) struct ProxyState {
    pub(super) faults: Faults,
    /// Counts the changes of the faults: what counts bytes starts anew with each.
    pub(super) generation: u64,
    pub(super) random: fastrand::Rng,
    /// `None` while connections are refused.
    pub(super) listener: Option<Arc<Listener>>,
    /// Whether the accepting thread holds the listener.
    pub(super) is_accepting: bool,
    pub(super) threads: Vec<JoinHandle<()>>,
    pub(super) accepted: u64,
    pub(super) cuts: u64,
    /// Cuts since the faults were set.
    pub(super) cuts_of_these: u64,
    pub(super) stopped: bool,
}

#[derive(Debug)]
pub(super) struct Conditions {
    state: Mutex<ProxyState>,
    /// Signalled whenever something in the state changes that a thread may wait for.
    changed: Condvar,
}

impl Conditions {
    pub(super) fn new(listener: Listener, seed: u64) -> Self {
        let state = Mutex::new(ProxyState {
            faults: Faults::none(),
            generation: 0,
            random: fastrand::Rng::with_seed(seed),
            listener: Some(Arc::new(listener)),
            is_accepting: false,
            threads: Vec::new(),
            accepted: 0,
            cuts: 0,
            cuts_of_these: 0,
            stopped: false,
        });
        Self { state, changed: Condvar::new() }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, ProxyState> {
        self.state.lock()
    }

    /// Has those who wait look at the state again.
    pub(super) fn notify(&self) {
        self.changed.notify_all();
    }

    pub(super) fn wait<'a>(
        &self,
        state: MutexGuard<'a, ProxyState>,
        until: Option<Instant>,
    ) -> MutexGuard<'a, ProxyState> {
        match until {
            None => self.changed.wait(state),
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                self.changed.wait_timeout(state, left)
            }
        }
    }
}

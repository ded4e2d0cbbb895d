//! Something that one thread owns, and lends while it sleeps.

use std::sync::atomic::Ordering::Relaxed;

use crate::sync::{AtomicBool, Mutex};

/// Where it lies while its owner sleeps. Others use it there, behind the lock, and only for what does
/// not block: so getting it back takes no time. The owner takes it out, and works without the lock.
pub(super) struct Handoff<T> {
    place: Mutex<Option<T>>,
    /// Whether the owner waits for it: others let the owner go first.
    is_wanted: AtomicBool,
}

impl<T> Handoff<T> {
    pub(super) fn new() -> Self {
        Self { place: Mutex::new(None), is_wanted: AtomicBool::new(false) }
    }

    pub(super) fn put(&self, thing: T) {
        *self.place.lock() = Some(thing);
    }

    /// For others: nothing if the owner has it or wants it, or somebody else uses it.
    pub(super) fn lend<R>(&self, act: impl FnOnce(&mut T) -> R) -> Option<R> {
        if self.is_wanted.load(Relaxed) {
            return None;
        }
        self.place.try_lock()?.as_mut().map(act)
    }

    /// For the owner, who has put it there.
    pub(super) fn take(&self) -> Option<T> {
        self.is_wanted.store(true, Relaxed);
        let thing = self.place.lock().take();
        self.is_wanted.store(false, Relaxed);
        thing
    }
}

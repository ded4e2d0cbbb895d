//! Something that one thread owns, and lends while it sleeps.

use crate::sync::{Condvar, Mutex, MutexGuard};

/// Where the pen lies while its owner, the writer thread, sleeps. Others take it only for what
/// does not block, so getting it back takes no time.
#[derive(Debug)]
pub(crate) struct Handoff<T> {
    place: Mutex<Place<T>>,
    returned: Condvar,
}

#[derive(Debug)]
struct Place<T> {
    thing: Option<T>,
    /// Whether the owner waits for it: a signal is a system call, heard or not.
    is_wanted: bool,
}

impl<T> Handoff<T> {
    pub(crate) fn new() -> Self {
        let place = Place { thing: None, is_wanted: false };
        Self { place: Mutex::new(place), returned: Condvar::new() }
    }

    fn place(&self) -> MutexGuard<'_, Place<T>> {
        self.place.lock()
    }

    pub(crate) fn put(&self, thing: T) {
        let mut place = self.place();
        place.thing = Some(thing);
        if place.is_wanted {
            self.returned.notify_one();
        }
    }

    /// For others, who let the owner go first.
    pub(crate) fn try_take(&self) -> Option<T> {
        let mut place = self.place();
        if place.is_wanted { None } else { place.thing.take() }
    }

    /// For the owner, who has put it there: it comes back.
    pub(crate) fn take(&self) -> T {
        let mut place = self.place();
        loop {
            if let Some(thing) = place.thing.take() {
                place.is_wanted = false;
                return thing;
            }
            place.is_wanted = true;
            place = self.returned.wait(place);
        }
    }
}

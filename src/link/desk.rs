//! Something that one thread owns, and lends while it sleeps.

use crate::sync::{Condvar, Mutex, MutexGuard};

/// Where the pen lies while its owner, the writer thread, sleeps. Others take it only for what
/// does not block, so getting it back takes no time.
#[derive(Debug)]
pub(crate) struct Desk<T> {
    place: Mutex<Place<T>>,
    returned: Condvar,
}

#[derive(Debug)]
struct Place<T> {
    pen: Option<T>,
    /// Whether the owner waits for it: a signal is a system call, heard or not.
    is_wanted: bool,
}

impl<T> Desk<T> {
    pub(crate) fn new() -> Self {
        Self { place: Mutex::new(Place { pen: None, is_wanted: false }), returned: Condvar::new() }
    }

    fn place(&self) -> MutexGuard<'_, Place<T>> {
        self.place.lock()
    }

    pub(crate) fn put(&self, pen: T) {
        let mut place = self.place();
        place.pen = Some(pen);
        if place.is_wanted {
            self.returned.notify_one();
        }
    }

    /// For others, who let the owner go first.
    pub(crate) fn try_take(&self) -> Option<T> {
        let mut place = self.place();
        if place.is_wanted { None } else { place.pen.take() }
    }

    /// For the owner, who has put it there: it comes back.
    pub(crate) fn take(&self) -> T {
        let mut place = self.place();
        loop {
            if let Some(pen) = place.pen.take() {
                place.is_wanted = false;
                return pen;
            }
            place.is_wanted = true;
            place = self.returned.wait(place);
        }
    }
}

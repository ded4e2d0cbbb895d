//! Telling the program of what will not be sent any more.

use std::cell::RefCell;
use std::ptr;

use super::Outbox;
use crate::failure::guarded;
use crate::sync::{Repeats, caught};

/// A callback that panics does so for each message.
static REPEATS: Repeats = Repeats::new();

/// An outbox whose callback runs on this thread.
struct Telling {
    outbox: *const Outbox,
    /// Whether the callback itself has had something lost.
    again: bool,
}

thread_local! {
    /// The innermost last: the callback of one may send to another.
    static TELLING: RefCell<Vec<Telling>> = const { RefCell::new(Vec::new()) };
}

/// Nothing on a thread that is about to end, in the destructors of its own variables.
fn look<T>(look: impl FnOnce(&mut Vec<Telling>) -> T) -> Option<T> {
    TELLING.try_with(|all| look(&mut all.borrow_mut())).ok()
}

impl Outbox {
    /// Tells of everything that was lost. What the callback loses by sending is told when it has
    /// returned, in this loop: it is never called inside itself.
    pub(super) fn tell(&self) {
        let Some(on_dropped) = &self.on_dropped else { return };
        if self.is_telling_here() {
            look(|all| all.iter_mut().filter(|one| self.is(one)).for_each(|one| one.again = true));
            return;
        }
        let mut again = true;
        while std::mem::take(&mut again) {
            let lost = std::mem::take(&mut self.state().lost);
            if lost.is_empty() {
                return;
            }
            let Some(on_dropped) = on_dropped.lock().clone() else { return };
            let outbox = ptr::from_ref(self);
            look(|all| all.push(Telling { outbox, again: false }));
            for (message, why) in lost {
                if let Err(panic) =
                    guarded("callback for dropped messages", || on_dropped(message, why))
                {
                    let matter = ("panicked", "on_dropped");
                    // the logger is the program's, too, and this must be taken off the list
                    let _ = caught(|| {
                        REPEATS.say("everlink", log::Level::Error, matter, panic.to_string());
                    });
                }
            }
            again = look(Vec::pop).flatten().is_some_and(|told| told.again);
        }
    }

    /// Whether its callback runs on this thread.
    pub(super) fn is_telling_here(&self) -> bool {
        look(|all| all.iter().any(|one| self.is(one))).unwrap_or(false)
    }

    fn is(&self, one: &Telling) -> bool {
        ptr::eq(one.outbox, self)
    }

    /// Lets go of the program's callback.
    pub(crate) fn tell_no_more(&self) {
        let callback = self.on_dropped.as_ref().and_then(|callback| callback.lock().take());
        drop(callback);
    }
}

//! Telling the program of what will not be sent any more.

use std::cell::RefCell;
use std::ptr;

use crate::failure::guarded;
use crate::message::Message;
use crate::policy::{OnDropped, Undelivered};
use crate::sync::{Mutex, Repeats, caught};

/// A callback that panics does so for each message.
static REPEATS: Repeats = Repeats::new();

/// The program's callback. It is never called inside itself.
pub(super) struct DropHook(Mutex<Option<OnDropped>>);

/// A callback that runs on this thread.
struct Running {
    hook: *const DropHook,
    /// Whether the callback itself has had something lost.
    again: bool,
}

thread_local! {
    /// The innermost last: the callback of one outbox may send to another.
    static RUNNING: RefCell<Vec<Running>> = const { RefCell::new(Vec::new()) };
}

/// Nothing on a thread that is about to end, in the destructors of its own variables.
fn look<T>(look: impl FnOnce(&mut Vec<Running>) -> T) -> Option<T> {
    RUNNING.try_with(|all| look(&mut all.borrow_mut())).ok()
}

impl DropHook {
    pub(super) fn new(callback: OnDropped) -> Self {
        Self(Mutex::new(Some(callback)))
    }

    /// Tells of everything that was lost. What the callback loses by sending is told when it has
    /// returned, in this loop.
    pub(super) fn tell(&self, take_lost: impl Fn() -> Vec<(Message, Undelivered)>) {
        if self.runs_here() {
            look(|all| all.iter_mut().filter(|one| self.is(one)).for_each(|one| one.again = true));
            return;
        }
        let mut again = true;
        while std::mem::take(&mut again) {
            let lost = take_lost();
            if lost.is_empty() {
                return;
            }
            let Some(callback) = self.0.lock().clone() else { return };
            look(|all| all.push(Running { hook: ptr::from_ref(self), again: false }));
            for (message, why) in lost {
                if let Err(panic) =
                    guarded("callback for dropped messages", || callback(message, why))
                {
                    let matter = ("panicked", "on_dropped");
                    // the logger is the program's, too, and this must be taken off the list
                    let _ = caught(|| {
                        REPEATS.say("everlink", log::Level::Error, matter, panic.to_string());
                    });
                }
            }
            again = look(Vec::pop).flatten().is_some_and(|running| running.again);
        }
    }

    /// Whether it runs on this thread.
    pub(super) fn runs_here(&self) -> bool {
        look(|all| all.iter().any(|one| self.is(one))).unwrap_or(false)
    }

    fn is(&self, one: &Running) -> bool {
        ptr::eq(one.hook, self)
    }

    /// Lets go of the program's callback.
    pub(super) fn let_go(&self) {
        let callback = self.0.lock().take();
        drop(callback);
    }
}

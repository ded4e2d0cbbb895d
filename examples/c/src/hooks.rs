//! The program's functions, and the pointer that each of them gets.

use std::ffi::{c_int, c_void};
use std::sync::Arc;

use crate::code::EverlinkCode as Code;
use crate::connection::Connection;
use crate::decision::{EverlinkDecision, EverlinkFailure};
use crate::event::EverlinkEvent;
use crate::login::Login;
use crate::memory::EverlinkMessage;
use crate::request::{Incoming, Request};

/// Frees what `user` points to: called once, when nothing calls the function any more that was given with
/// it. That is before `everlink_close()` or `everlink_free()` return, unless a callback is still running then; at
/// the latest when that has returned. May be null.
pub type EverlinkDestroy = Option<unsafe extern "C" fn(user: *mut c_void)>;

/// A message, on the library's reader thread: the next one is read when it returns. `client` may be sent to.
pub type EverlinkOnMessage = Option<
    unsafe extern "C" fn(
        user: *mut c_void,
        client: *mut Connection,
        message: *const EverlinkMessage,
    ),
>;

/// What happened, on the library's manager thread: keep it short.
pub type EverlinkOnEvent = Option<
    unsafe extern "C" fn(user: *mut c_void, client: *mut Connection, event: *const EverlinkEvent),
>;

/// Logs in, on each fresh link, before anything that is queued is sent. 0: it is done. Anything else fails the
/// attempt, which is made again, unless `everlink_login_fail()` has said otherwise; the reason is what that says, or
/// what the last call had if that has failed.
pub type EverlinkOnLogin =
    Option<unsafe extern "C" fn(user: *mut c_void, login: *mut Login) -> c_int>;

/// Changes the request of each attempt: headers, the URL. 0: dial. Anything else fails the attempt.
pub type EverlinkOnRequest =
    Option<unsafe extern "C" fn(user: *mut c_void, request: *mut Request) -> c_int>;

/// Decides what follows a failure: `decision` is what would follow, and may be changed.
pub type EverlinkOnDecision = Option<
    unsafe extern "C" fn(
        user: *mut c_void,
        failure: *const EverlinkFailure,
        decision: *mut EverlinkDecision,
    ),
>;

/// A message that will not be sent any more, or is not delivered at a close, and why, in words.
pub type EverlinkOnDropped = Option<
    unsafe extern "C" fn(
        user: *mut c_void,
        message: *const EverlinkMessage,
        why: *const std::ffi::c_char,
    ),
>;

/// Whether a message is the one that is waited for: not 0 if it is.
pub type EverlinkFilter =
    Option<unsafe extern "C" fn(user: *mut c_void, message: *const EverlinkMessage) -> c_int>;

/// Serves a session, on a thread of its own. The session is closed when it returns. The handle is good until
/// then; a thread of the program's that goes on with it afterwards is told `EVERLINK_CODE_BAD_HANDLE`.
pub type EverlinkOnSession =
    Option<unsafe extern "C" fn(user: *mut c_void, session: *mut Connection)>;

/// Answers a request of a client's: 101 lets it in, any other status refuses it. On several threads at once.
pub type EverlinkOnIncoming =
    Option<unsafe extern "C" fn(user: *mut c_void, incoming: *const Incoming) -> c_int>;

/// A function and its pointer; the destructor runs with the last copy.
#[derive(Clone)]
pub struct Hook<F> {
    pub call: F,
    user: Arc<User>,
}

struct User {
    pointer: *mut c_void,
    destroy: EverlinkDestroy,
}

// SAFETY: the header says which threads call; what is behind the pointer is the program's
unsafe impl Send for User {}
// SAFETY: as above
unsafe impl Sync for User {}

impl<F> Hook<F> {
    /// With the destructor, whatever comes of it. `None` if there is no function.
    pub fn new(call: Option<F>, pointer: *mut c_void, destroy: EverlinkDestroy) -> Option<Self> {
        let user = Arc::new(User { pointer, destroy });
        call.map(|call| Self { call, user })
    }

    pub fn user(&self) -> *mut c_void {
        self.user.pointer
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if let Some(destroy) = self.destroy {
            // SAFETY: the program's own function, and nobody calls with this pointer any more
            unsafe { destroy(self.pointer) };
        }
    }
}

/// What a hook's return value says.
pub fn result(returned: c_int, what: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    if returned == Code::Ok as c_int {
        return Ok(());
    }
    Err(format!("the program's {what} has failed with {returned}").into())
}

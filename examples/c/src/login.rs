//! What a login hook is lent.

use std::cell::RefCell;
use std::ffi::{c_char, c_int, c_void};

use everlink_rs::{LoginError, LoginSession};

use crate::client::Function;
use crate::code::{EverlinkCode as Code, Wrong, checked};
use crate::connection::heartbeat;
use crate::hooks::{self, EverlinkFilter, EverlinkOnLogin, Hook};
use crate::memory::{EverlinkMessage, message, optional_text, out, wait};

/// A fresh link before anything that is queued is sent. Lent to a callback until that returns.
pub struct Login {
    _private: [u8; 0],
}

/// What lies behind it.
struct Lent {
    session: *mut c_void,
    /// Whether a call is at it: a filter is called in one, and may make none.
    is_busy: bool,
    /// What the program has said.
    failure: Option<(String, bool)>,
    /// What the last call had, if it has failed: where the program says no more, that is why.
    last: Option<Failed>,
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

thread_local! {
    /// The login that runs on this thread: none other can be reached.
    static RUNNING: RefCell<Option<Lent>> = const { RefCell::new(None) };
}

pub fn run(
    session: &mut LoginSession<'_>,
    hook: &Hook<<EverlinkOnLogin as Function>::Call>,
) -> Result<(), Failed> {
    let pointer: *mut c_void = std::ptr::from_mut(session).cast();
    RUNNING.set(Some(Lent { session: pointer, is_busy: false, failure: None, last: None }));
    // SAFETY: the program's own function; the session is there until it returns
    let returned = unsafe { (hook.call)(hook.user(), pointer.cast()) };
    let (failure, last) = RUNNING.take().map_or((None, None), |lent| (lent.failure, lent.last));
    let Some((text, is_for_good)) = failure else {
        return hooks::result(returned, "login").map_err(|why| last.unwrap_or(why));
    };
    // a program that hands on what a call has told it means that: there is more in it than the words
    let source = last.filter(|last| last.to_string() == text).unwrap_or_else(|| text.into());
    let error = if is_for_good { LoginError::permanent(source) } else { LoginError::new(source) };
    Err(error.into())
}

/// Only while the hook runs, and on its thread.
fn lent<T>(
    login: *mut Login,
    look: impl FnOnce(&mut Lent) -> Result<T, Wrong>,
) -> Result<T, Wrong> {
    RUNNING.with_borrow_mut(|lent| match lent {
        Some(lent) if lent.session.addr() == login.addr() => look(lent),
        _ => Err(Wrong::new(Code::BadHandle, "the login is over, or is another thread's")),
    })
}

fn with<T>(
    login: *mut Login,
    run: impl FnOnce(&mut LoginSession<'_>) -> Result<T, Failed>,
) -> Result<T, Wrong> {
    let session = lent(login, |lent| match std::mem::replace(&mut lent.is_busy, true) {
        false => Ok(lent.session),
        true => Err(Wrong::new(Code::WrongOrder, "it was called in its own filter")),
    })?;
    // SAFETY: `run` above has lent it to this thread and has not returned, and no other call is at it
    let result = run(unsafe { &mut *session.cast::<LoginSession<'_>>() });
    lent(login, |lent| {
        lent.is_busy = false;
        let (result, last) = match result {
            Ok(value) => (Ok(value), None),
            Err(failed) => (Err(Wrong::of(failed.as_ref())), Some(failed)),
        };
        lent.last = last;
        result
    })
}

/// Sends a message ahead of everything that is queued.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_login_send(
    login: *mut Login,
    data: *const c_void,
    size: usize,
    is_binary: c_int,
) -> c_int {
    checked(|| {
        let message = message(data, size, is_binary != 0)?;
        with(login, |session| session.send(message))
    })
}

/// Receives the next message for which `filter` returns not 0 (null: any), until the login's time is over. Those
/// passed over are received by the program later. With a time it waits at most so long, for any message.
/// It is the program's, until `everlink_message_free()`.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_login_receive(
    login: *mut Login,
    timeout_ms: i64,
    filter: EverlinkFilter,
    user: *mut c_void,
    message: *mut EverlinkMessage,
) -> c_int {
    checked(|| {
        let message = out(message, "message")?;
        let time = wait(timeout_ms);
        if filter.is_some() && time.is_some() {
            let text = "a filter waits until the login's time is over: the time is negative";
            return Err(Wrong::new(Code::InvalidSetting, text));
        }
        let given = with(login, |session| {
            Ok(match (filter, time) {
                (None, None) => session.recv()?,
                (None, Some(time)) => session.recv_timeout(time)?,
                // SAFETY: the program's own function; the message is there until it returns
                (Some(filter), _) => session.recv_matching(|received| unsafe {
                    filter(user, &EverlinkMessage::lend_message(received)) != 0
                })?,
            })
        })?;
        message.write(EverlinkMessage::give(&given));
        Ok(())
    })
}

/// The link beats so once the login is done: a ping, or with a message the message, whenever nothing came for `interval_ms`, or with a
/// message each time; death after `dead_after_ms` of silence (0: three intervals). `expects` is what the message
/// is answered with: all of it, or its start with `*` behind that. Both may be null.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_login_set_heartbeat(
    login: *mut Login,
    interval_ms: u64,
    dead_after_ms: u64,
    message: *const c_char,
    expects: *const c_char,
) -> c_int {
    checked(|| {
        let heartbeat = heartbeat(interval_ms, dead_after_ms, message, expects)?;
        with(login, |session| session.set_heartbeat(heartbeat))
    })
}

/// Has the login fail for this reason, whatever the hook returns: for good, so that the client gives up, or until the next
/// attempt.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_login_fail(
    login: *mut Login,
    reason: *const c_char,
    for_good: c_int,
) -> c_int {
    checked(|| {
        let reason = optional_text(reason)?.unwrap_or("the program's login has failed").to_owned();
        lent(login, |lent| {
            lent.failure = Some((reason, for_good != 0));
            Ok(())
        })
    })
}

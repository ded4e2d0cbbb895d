//! What hooks are lent of opening handshakes: a client's request, and one that has come to a server.

use std::cell::Cell;
use std::ffi::{c_char, c_int};

use everlink_rs::OpeningRequest;

use crate::client::Function;
use crate::code::{EverlinkCode as Code, Wrong, checked};
use crate::hooks::{self, EverlinkOnIncoming, EverlinkOnRequest, Hook};
use crate::memory::{give_text, optional_text, text};

/// The request of an attempt. Lent to a callback until that returns.
pub struct Request {
    _private: [u8; 0],
}

/// A request that has come to a server. Lent to a callback until that returns.
pub struct Incoming {
    _private: [u8; 0],
}

thread_local! {
    /// What this thread was lent last and has not given back: nothing else can be reached.
    static LENT: Cell<usize> = const { Cell::new(0) };
}

/// Only while the hook runs, and on its thread.
fn check(address: usize) -> Result<(), Wrong> {
    if address != 0 && LENT.get() == address {
        return Ok(());
    }
    Err(Wrong::new(
        Code::BadHandle,
        "it was lent to a callback, which is over or on another thread",
    ))
}

pub fn run(
    request: &mut OpeningRequest,
    hook: &Hook<<EverlinkOnRequest as Function>::Call>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let pointer = std::ptr::from_mut(request);
    LENT.set(pointer.addr());
    // SAFETY: the program's own function; the request is there until it returns
    let returned = unsafe { (hook.call)(hook.user(), pointer.cast()) };
    LENT.set(0);
    hooks::result(returned, "request")
}

/// The status that the program answers with.
pub fn ask(
    incoming: &everlink_rs::Incoming,
    hook: &Hook<<EverlinkOnIncoming as Function>::Call>,
) -> c_int {
    let pointer = std::ptr::from_ref(incoming);
    LENT.set(pointer.addr());
    // SAFETY: the program's own function; the request is there until it returns
    let status = unsafe { (hook.call)(hook.user(), pointer.cast()) };
    LENT.set(0);
    status
}

fn request<'a>(request: *mut Request) -> Result<&'a mut OpeningRequest, Wrong> {
    check(request.addr())?;
    // SAFETY: `run` above has lent it to this thread, and has not returned; calls are one by one
    Ok(unsafe { &mut *request.cast::<OpeningRequest>() })
}

/// Sets a header, replacing one of the same name.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_request_set_header(
    to: *mut Request,
    name: *const c_char,
    value: *const c_char,
) -> c_int {
    checked(|| Ok(request(to)?.set_header(text(name, "name")?, text(value, "value")?)?))
}

/// Dials this URL instead, this time.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_request_set_url(to: *mut Request, url: *const c_char) -> c_int {
    checked(|| Ok(request(to)?.set_url(text(url, "url")?)?))
}

/// Which attempt it is, counted from 1 since the last link was lost; 0 if it is not lent any more.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_request_attempt(of: *mut Request) -> u32 {
    let mut attempt = 0;
    checked(|| {
        attempt = request(of)?.attempt();
        Ok(())
    });
    attempt
}

/// A header of a request, or its path and query if the name is null: the program's, until
/// `everlink_string_free()`. Null if there is none.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_incoming_header(
    incoming: *const Incoming,
    name: *const c_char,
) -> *mut c_char {
    let mut found = None;
    checked(|| {
        check(incoming.addr())?;
        // SAFETY: `ask` above has lent it to this thread, and has not returned
        let incoming = unsafe { &*incoming.cast::<everlink_rs::Incoming>() };
        found = match optional_text(name)? {
            None => Some(incoming.request().uri().to_string()),
            Some(name) => {
                let value = incoming.request().headers().get(name);
                value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            }
        };
        Ok(())
    });
    found.map_or(std::ptr::null_mut(), give_text)
}

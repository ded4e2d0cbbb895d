//! everlink for C: what `include/everlink.h` declares.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `code` | what a call returns, the last error, panics kept inside |
//! | `registry` | handles: numbers in the clothes of pointers, so that a stale one is an error |
//! | `memory` | what goes in and comes out: texts, messages |
//! | `hooks` | the program's functions, with the pointer that they get and its destructor |
//! | `client` | making, starting and closing |
//! | `connection` | sending and receiving: clients and sessions alike |
//! | `login`, `request`, `event`, `decision` | what hooks are lent |
//! | `server` | the accepting side |
//! | `log` | log records |

mod client;
mod code;
mod connection;
mod decision;
mod event;
mod hooks;
mod log;
mod login;
mod memory;
mod registry;
mod request;
mod server;

use std::ffi::{c_char, c_int};

/// The version of the library, "0.2.0". It lives for ever.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// What the last call of this thread that failed had to say, in one line; empty if none has. It lives until the
/// next call on this thread.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_last_error() -> *const c_char {
    code::last_text()
}

/// The code of that.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_last_code() -> c_int {
    code::last_code()
}

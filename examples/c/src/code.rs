//! What a call returns.

use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int};
use std::fmt::Display;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};

use everlink_rs::{Error, Failure, SendError};

/// What a call returns: an `int`, 0 if all is well. `everlink_last_error()` has it in words.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EverlinkCode {
    /// All is well.
    Ok = 0,
    /// The time was over; with a time of 0: there is nothing now.
    Timeout = 1,
    /// The client, session or server is closed, and everything was taken.
    Closed = 2,
    /// The client has given up, until `everlink_reconnect()`.
    GaveUp = 3,
    /// There is no link, and the call was for one.
    NotConnected = 4,
    /// The queue of messages to be sent has no room.
    Full = 5,
    /// The message is over the limit.
    TooLarge = 6,
    /// This connection cannot carry the message.
    Unsendable = 7,
    /// The message will not be delivered.
    Undelivered = 8,
    /// The peer has not confirmed everything in time.
    Unconfirmed = 9,
    /// This connection has no confirmations.
    Unconfirmable = 10,
    /// The call would wait for what only this thread can bring: it was made in a callback.
    WouldWait = 11,
    /// A question with this key has no answer yet.
    KeyInUse = 12,
    /// The first attempt has failed.
    Connect = 13,
    /// A key that is none, or a value that it cannot have.
    InvalidOption = 14,
    /// A setting that cannot work, or can have no effect.
    InvalidSetting = 15,
    /// A URL that is none.
    InvalidUrl = 16,
    /// A header that HTTP does not allow.
    InvalidHeader = 17,
    /// A close code or reason that must not be sent.
    InvalidClose = 18,
    /// The system refused: an address, a thread, a descriptor.
    System = 19,
    /// A pointer is null that must not be.
    Null = 20,
    /// A text is not UTF-8.
    NotUtf8 = 21,
    /// The handle is none: it was freed, or is of another kind.
    BadHandle = 22,
    /// Not at this time: set before the start, used after it.
    WrongOrder = 23,
    /// A fault of the library's own.
    Panic = 24,
    /// Something that this list does not have yet.
    Other = 25,
}

use EverlinkCode as Code;

/// Why a call has failed.
#[derive(Debug)]
pub struct Wrong {
    code: Code,
    text: String,
}

impl Wrong {
    pub fn new(code: Code, text: impl Display) -> Self {
        Self { code, text: text.to_string() }
    }
}

impl From<Error> for Wrong {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::InvalidUrl { .. } | Error::TlsUnavailable { .. } => Code::InvalidUrl,
            Error::InvalidSetting { .. } => Code::InvalidSetting,
            Error::InvalidOption { .. } => Code::InvalidOption,
            Error::InvalidHeader { .. } => Code::InvalidHeader,
            Error::InvalidClose { .. } => Code::InvalidClose,
            Error::Connect(_) => Code::Connect,
            Error::MessageTooLarge { .. } => Code::TooLarge,
            Error::Unsendable { .. } => Code::Unsendable,
            Error::Full => Code::Full,
            Error::Unconfirmed { .. } => Code::Unconfirmed,
            Error::Unconfirmable => Code::Unconfirmable,
            Error::Undelivered(_) => Code::Undelivered,
            Error::KeyInUse => Code::KeyInUse,
            Error::Timeout => Code::Timeout,
            Error::GaveUp(_) => Code::GaveUp,
            Error::WouldWaitForever { .. } => Code::WouldWait,
            Error::NotConnected => Code::NotConnected,
            Error::Closed => Code::Closed,
            Error::Bind(_) | Error::Thread(_) => Code::System,
            _ => Code::Other,
        };
        Self::new(code, error)
    }
}

impl From<SendError> for Wrong {
    fn from(refused: SendError) -> Self {
        refused.error.into()
    }
}

impl Wrong {
    /// What a hook's call ends with: `NotConnected` where that was the end of the link.
    pub fn of(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Self {
        let code = match error.downcast_ref::<Failure>() {
            Some(Failure::Io(error)) if error.kind() == ErrorKind::TimedOut => Code::Timeout,
            Some(_) => Code::NotConnected,
            None => Code::Other,
        };
        Self::new(code, error)
    }
}

impl From<std::io::Error> for Wrong {
    fn from(error: std::io::Error) -> Self {
        let code = match error.kind() {
            ErrorKind::Unsupported => Code::WrongOrder,
            ErrorKind::NotConnected => Code::Closed,
            _ => Code::System,
        };
        Self::new(code, error)
    }
}

thread_local! {
    static LAST: RefCell<(c_int, CString)> = RefCell::default();
}

/// Runs the body of a function of the header: an error is kept for this thread, and a panic goes no
/// further.
pub fn checked(body: impl FnOnce() -> Result<(), Wrong>) -> c_int {
    let result = catch_unwind(AssertUnwindSafe(body));
    let wrong = match result {
        Ok(Ok(())) => return Code::Ok as c_int,
        Ok(Err(wrong)) => wrong,
        Err(_) => Wrong::new(Code::Panic, "a fault of the library's own; it is in its log"),
    };
    let text = CString::new(wrong.text.replace('\0', " ")).unwrap_or_default();
    // a thread that ends has no last error any more
    let _ = LAST.try_with(|last| *last.borrow_mut() = (wrong.code as c_int, text));
    wrong.code as c_int
}

pub fn last_text() -> *const c_char {
    LAST.try_with(|last| last.borrow().1.as_ptr()).unwrap_or(c"".as_ptr())
}

pub fn last_code() -> c_int {
    LAST.try_with(|last| last.borrow().0).unwrap_or_default()
}

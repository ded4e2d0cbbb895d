//! What goes in and comes out: texts and messages.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::time::Duration;

use everlink_rs::config::{Options, SendOptions};
use everlink_rs::{Message, MessageRef};

use crate::code::{EverlinkCode as Code, Wrong, checked};

/// A message that was received.
///
/// Lent to a callback it is valid until that returns, and `owner` is null. From a call that receives it is
/// the program's, until `everlink_message_free()`.
#[repr(C)]
#[derive(Debug)]
pub struct EverlinkMessage {
    /// Its bytes, with a 0 behind them that does not count where the program owns it. Never null.
    pub data: *const u8,
    /// How many they are.
    pub size: usize,
    /// 1 for a text, which is UTF-8; 0 for a binary message.
    pub is_text: c_int,
    /// The number of the link that it came on, counted from 1; 0 if that is not known.
    pub link: u32,
    /// The library's. Null in a message that is lent, or was freed.
    pub owner: *mut c_void,
}

impl EverlinkMessage {
    /// Lent to a callback.
    pub fn lend(bytes: &[u8], is_text: bool, link: Option<u32>) -> Self {
        Self {
            data: bytes.as_ptr(),
            size: bytes.len(),
            is_text: c_int::from(is_text),
            link: link.unwrap_or(0),
            owner: ptr::null_mut(),
        }
    }

    pub fn lend_ref(message: &MessageRef<'_>) -> Self {
        Self::lend(message.as_bytes(), message.is_text(), message.link())
    }

    pub fn lend_message(message: &Message) -> Self {
        Self::lend(message.as_bytes(), message.is_text(), message.link())
    }

    /// The program's.
    pub fn give(message: &Message) -> Self {
        let mut bytes = Vec::with_capacity(message.len() + 1);
        bytes.extend_from_slice(message.as_bytes());
        bytes.push(0);
        let owner = Box::new(bytes);
        Self {
            data: owner.as_ptr(),
            size: message.len(),
            is_text: c_int::from(message.is_text()),
            link: message.link().unwrap_or(0),
            owner: Box::into_raw(owner).cast(),
        }
    }
}

/// Gives a received message back. A second time, and for one that is lent or null, it does nothing.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_message_free(message: *mut EverlinkMessage) {
    checked(|| {
        // SAFETY: null, or the program's own, as the header says
        let Some(message) = (unsafe { message.as_mut() }) else { return Ok(()) };
        let owner: *mut Vec<u8> = std::mem::replace(&mut message.owner, ptr::null_mut()).cast();
        (message.data, message.size) = (c"".as_ptr().cast(), 0);
        if !owner.is_null() {
            // SAFETY: `give` has made it, and whoever took it out is alone with it
            drop(unsafe { Box::from_raw(owner) });
        }
        Ok(())
    });
}

/// Gives a text back that a function of this header has returned. Null is nothing.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_string_free(text: *mut c_char) {
    checked(|| {
        if !text.is_null() {
            // SAFETY: `give_text` has made it
            drop(unsafe { CString::from_raw(text) });
        }
        Ok(())
    });
}

/// A text for the program.
pub fn give_text(text: impl Into<String>) -> *mut c_char {
    CString::new(text.into().replace('\0', " ")).unwrap_or_default().into_raw()
}

/// What is sent besides the bytes. Begin with `EVERLINK_SEND_INIT` or zeroes and the size.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct EverlinkSendOptions {
    /// `sizeof(everlink_send_options)`: later versions have more at the end.
    pub struct_size: usize,
    /// 1 for a binary message, 0 for a text, which has to be UTF-8.
    pub is_binary: c_int,
    /// 1: never waits for room in the queue, `EVERLINK_CODE_FULL` instead.
    pub no_wait: c_int,
    /// 1: for the link that is up, or not at all (`EVERLINK_CODE_NOT_CONNECTED`).
    pub this_link_only: c_int,
    /// 1: goes as it is where messages are compressed.
    pub uncompressed: c_int,
    /// How long it may wait to be written, in milliseconds; 0 for as long as it takes.
    pub ttl_ms: u64,
    /// How long the call may wait for room, in milliseconds; 0 for as long as it takes.
    pub timeout_ms: u64,
    /// By which `everlink_confirm()` knows it (`delivery` = `until_confirmed`), if `has_key` is 1.
    pub key: u64,
    /// Whether there is a key.
    pub has_key: c_int,
}

/// A message to be sent and its options. Without options it is a text.
pub fn outgoing(
    data: *const c_void,
    size: usize,
    options: *const EverlinkSendOptions,
) -> Result<(Message, SendOptions), Wrong> {
    // SAFETY: null, or as large as it says, which is at least what the first version had
    let options = unsafe { options.as_ref() };
    if options.is_some_and(|options| options.struct_size < size_of::<EverlinkSendOptions>()) {
        let text = "struct_size of everlink_send_options is not its size";
        return Err(Wrong::new(Code::InvalidSetting, text));
    }
    let message = message(data, size, options.is_some_and(|options| options.is_binary != 0))?;
    let mut send = SendOptions::new();
    let Some(options) = options else { return Ok((message, send)) };
    if options.ttl_ms > 0 {
        send = send.ttl(Duration::from_millis(options.ttl_ms));
    }
    if options.no_wait != 0 {
        send = send.timeout(Duration::ZERO);
    } else if options.timeout_ms > 0 {
        send = send.timeout(Duration::from_millis(options.timeout_ms));
    }
    if options.this_link_only != 0 {
        send = send.this_link_only();
    }
    if options.uncompressed != 0 {
        send = send.uncompressed();
    }
    if options.has_key != 0 {
        send = send.key(options.key);
    }
    Ok((message, send))
}

pub fn message(data: *const c_void, size: usize, is_binary: bool) -> Result<Message, Wrong> {
    let bytes = bytes(data, size)?;
    if is_binary { Ok(bytes.into()) } else { Ok(utf8(bytes)?.into()) }
}

/// Settings, as JSON.
pub fn options(json: *const c_char) -> Result<Options, Wrong> {
    let read = serde_json::from_str(text(json, "json")?);
    read.map_err(|error| Wrong::new(Code::InvalidOption, error))
}

fn bytes<'a>(data: *const c_void, size: usize) -> Result<&'a [u8], Wrong> {
    match (data.is_null(), size) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(Wrong::new(Code::Null, "the data is null and its size is not 0")),
        // SAFETY: the program says that so many bytes are there
        (false, _) => Ok(unsafe { std::slice::from_raw_parts(data.cast(), size) }),
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, Wrong> {
    std::str::from_utf8(bytes).map_err(|error| Wrong::new(Code::NotUtf8, error))
}

/// A text that has to be there.
pub fn text<'a>(text: *const c_char, what: &str) -> Result<&'a str, Wrong> {
    optional_text(text)?.ok_or_else(|| Wrong::new(Code::Null, format!("{what} is null")))
}

pub fn optional_text<'a>(text: *const c_char) -> Result<Option<&'a str>, Wrong> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: it ends with a 0, as the header says
    utf8(unsafe { CStr::from_ptr(text) }.to_bytes()).map(Some)
}

/// Where a result goes.
pub fn out<'a, T>(to: *mut T, what: &str) -> Result<&'a mut std::mem::MaybeUninit<T>, Wrong> {
    // SAFETY: null, or room for one, as the header says
    unsafe { to.cast::<std::mem::MaybeUninit<T>>().as_mut() }
        .ok_or_else(|| Wrong::new(Code::Null, format!("{what} is null")))
}

/// A time to wait: for ever, if it is negative.
pub fn wait(timeout_ms: i64) -> Option<Duration> {
    u64::try_from(timeout_ms).ok().map(Duration::from_millis)
}

/// The same where something has to be said.
pub fn timeout(timeout_ms: i64) -> Duration {
    wait(timeout_ms).unwrap_or(Duration::MAX)
}

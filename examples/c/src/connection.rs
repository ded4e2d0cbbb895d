//! What the program has: a client, or one of a server's sessions. Both send and receive alike.

use std::collections::VecDeque;
use std::ffi::{c_char, c_int, c_void};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use everlink_rs::config::Heartbeat;
use everlink_rs::{Calls, Client, Event, Message, Receipt, Sender, Session, State};
use serde_json::json;

use crate::client::ClientEnd;
use crate::code::{EverlinkCode as Code, Wrong, checked};
use crate::decision::{EverlinkDecision, decision};
use crate::memory::{
    EverlinkMessage, EverlinkSendOptions, give_text, message, optional_text, out, outgoing, text,
    timeout, wait,
};
use crate::registry;

/// Events that nobody has taken are kept up to so many, the newest.
const MOST_EVENTS: usize = 256;

/// A client, or a session of a server's. Every function may be called from any thread, and with a handle that
/// was freed: that is `EVERLINK_CODE_BAD_HANDLE`.
pub struct Connection {
    pub number: usize,
    pub end: End,
    sender: OnceLock<Sender>,
    calls: Calls<String, Message>,
    events: Mutex<VecDeque<String>>,
}

pub enum End {
    Client(ClientEnd),
    Session(Session),
}

/// Follows one message, from `everlink_send()`.
pub struct Ticket(Receipt);

impl Connection {
    pub fn new(number: usize, end: End) -> Arc<Self> {
        let (sender, events) = (OnceLock::new(), Mutex::default());
        Arc::new(Self { number, end, sender, calls: Calls::with_their_link(), events })
    }

    /// A callback knows it before the start has returned.
    pub fn is_known_by(&self, sender: &Sender) {
        let _ = self.sender.get_or_init(|| sender.clone());
    }

    pub fn sender(&self) -> Result<&Sender, Wrong> {
        match &self.end {
            End::Session(session) => Ok(session.sender()),
            End::Client(_) => self.sender.get().ok_or_else(ClientEnd::not_started),
        }
    }

    pub fn client(&self) -> Result<&Client, Wrong> {
        match &self.end {
            End::Client(end) => end.client(),
            End::Session(_) => Err(Wrong::new(Code::BadHandle, "a session is no client")),
        }
    }

    pub fn session(&self) -> Result<&Session, Wrong> {
        match &self.end {
            End::Session(session) => Ok(session),
            End::Client(_) => Err(Wrong::new(Code::BadHandle, "a client is no session")),
        }
    }

    pub fn keep_event(&self, event: &Event) {
        let json = serde_json::to_string(event).unwrap_or_default();
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() == MOST_EVENTS {
            events.pop_front();
        }
        events.push_back(json);
    }

    fn receive(&self, wait: Option<Duration>) -> Result<Message, Wrong> {
        Ok(match (&self.end, wait) {
            (End::Session(session), None) => session.recv()?,
            (End::Session(session), Some(time)) => session.recv_timeout(time)?,
            (End::Client(end), None) => end.client()?.recv()?,
            (End::Client(end), Some(time)) => end.client()?.recv_timeout(time)?,
        })
    }

    fn state(&self) -> State {
        match &self.end {
            End::Client(end) => end.client().map_or(State::Connecting, Client::state),
            End::Session(session) if session.is_connected() => State::Connected,
            End::Session(session) if session.failure().is_some() => State::Closed,
            End::Session(_) => State::Disconnected,
        }
    }
}

/// Queues a text of so many bytes; waits for room if that is the `outbox.overflow`.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_send_text(
    connection: *mut Connection,
    text: *const c_char,
    size: usize,
) -> c_int {
    checked(|| {
        let connection = registry::get::<Connection, _>(connection)?;
        Ok(connection.sender()?.send(message(text.cast(), size, false)?)?)
    })
}

/// Queues a binary message.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_send_binary(
    connection: *mut Connection,
    data: *const c_void,
    size: usize,
) -> c_int {
    checked(|| {
        let connection = registry::get::<Connection, _>(connection)?;
        Ok(connection.sender()?.send(message(data, size, true)?)?)
    })
}

/// Queues a message with options (null for none). Where `receipt` is not null a receipt is stored there: the
/// program's, until `everlink_receipt_free()`.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_send(
    connection: *mut Connection,
    data: *const c_void,
    size: usize,
    options: *const EverlinkSendOptions,
    receipt: *mut *mut Ticket,
) -> c_int {
    checked(|| {
        let connection = registry::get::<Connection, _>(connection)?;
        let (message, options) = outgoing(data, size, options)?;
        let sender = connection.sender()?;
        let Ok(receipt) = out(receipt, "") else { return Ok(sender.send_with(message, options)?) };
        let number = registry::reserve();
        let ticket = Ticket(sender.send_confirmed_with(message, options)?);
        registry::insert(number, Arc::new(ticket));
        receipt.write(registry::pointer(number));
        Ok(())
    })
}

/// Waits until the peer's endpoint has confirmed the message: 0, or `EVERLINK_CODE_UNDELIVERED`. A negative time is
/// for ever.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_receipt_wait(receipt: *const Ticket, timeout_ms: i64) -> c_int {
    checked(|| {
        let ticket = registry::get::<Ticket, _>(receipt)?;
        Ok(ticket.0.wait(timeout(timeout_ms))?)
    })
}

/// Gives a receipt back; the message goes its way.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_receipt_free(receipt: *mut Ticket) -> c_int {
    checked(|| registry::remove::<Ticket, _>(receipt).map(drop))
}

/// Waits for the next message: at most so long, for ever if that is negative, not at all if it is 0. It is the
/// program's, until `everlink_message_free()`. `EVERLINK_CODE_TIMEOUT` if there is none.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_receive(
    connection: *mut Connection,
    timeout_ms: i64,
    message: *mut EverlinkMessage,
) -> c_int {
    checked(|| {
        let connection = registry::get::<Connection, _>(connection)?;
        let message = out(message, "message")?;
        message.write(EverlinkMessage::give(&connection.receive(wait(timeout_ms))?));
        Ok(())
    })
}

/// The oldest event that was not taken yet, as JSON: the program's, until `everlink_string_free()`. Null if there
/// is none. For programs that want no callback: with an `everlink_client_on_event()` there are none. The newest 256 are
/// kept.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_next_event(connection: *mut Connection) -> *mut c_char {
    let mut event = None;
    checked(|| {
        let connection = registry::get::<Connection, _>(connection)?;
        event = connection.events.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        Ok(())
    });
    event.map_or(std::ptr::null_mut(), give_text)
}

/// A descriptor that is readable while a client's `everlink_receive()` with a time of 0 has something to say: a
/// message, or that it has given up or is closed; and after each event (`everlink_next_event()`). For loops of the
/// program's own (`poll`, glib, libuv, Qt). It stays readable until that has said `EVERLINK_CODE_TIMEOUT`: a
/// loop that wants events looks for them after that, for one that came before does not make it readable again. It is the
/// library's, until `everlink_free()`: neither read nor close it.
#[cfg(unix)]
#[unsafe(no_mangle)]
pub extern "C" fn everlink_readable_fd(client: *mut Connection, descriptor: *mut c_int) -> c_int {
    use std::os::fd::AsRawFd;
    checked(|| {
        let connection = registry::get::<Connection, _>(client)?;
        let descriptor = out(descriptor, "descriptor")?;
        descriptor.write(connection.client()?.readable_fd()?.as_raw_fd());
        Ok(())
    })
}

/// Waits until the peer's endpoint has confirmed everything that was accepted before.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_flush(connection: *mut Connection, timeout_ms: i64) -> c_int {
    checked(|| {
        let connection = registry::get::<Connection, _>(connection)?;
        Ok(connection.sender()?.flush(timeout(timeout_ms))?)
    })
}

/// Sends a question and waits for the answer with this key, which `everlink_answer()` hands in: in a callback, or on
/// another thread, which receives. The answer is the program's, until `everlink_message_free()`.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_call(
    connection: *mut Connection,
    key: *const c_char,
    data: *const c_void,
    size: usize,
    options: *const EverlinkSendOptions,
    timeout_ms: i64,
    answer: *mut EverlinkMessage,
) -> c_int {
    checked(|| {
        let connection = registry::get::<Connection, _>(connection)?;
        let (message, options) = outgoing(data, size, options)?;
        let (key, answer) = (text(key, "key")?.to_owned(), out(answer, "answer")?);
        let sender = connection.sender()?;
        let timeout = timeout(timeout_ms);
        let given = connection.calls.call_with(sender, key, message, options, timeout)?;
        answer.write(EverlinkMessage::give(&given));
        Ok(())
    })
}

/// Hands in the answer to the question with this key; the message stays whose it was. `EVERLINK_CODE_TIMEOUT` if
/// nobody waits for it.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_answer(
    connection: *mut Connection,
    key: *const c_char,
    answer: *const EverlinkMessage,
) -> c_int {
    checked(|| {
        let connection = registry::get::<Connection, _>(connection)?;
        // SAFETY: null, or a message of the library's, as the header says
        let answer = unsafe { answer.as_ref() };
        let answer = answer.ok_or_else(|| Wrong::new(Code::Null, "answer is null"))?;
        let answer = message(answer.data.cast(), answer.size, answer.is_text == 0)?;
        match connection.calls.complete(&text(key, "key")?.to_owned(), answer) {
            None => Ok(()),
            Some(_) => Err(Wrong::new(Code::Timeout, "nobody waits for an answer with this key")),
        }
    })
}

/// What it is doing.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub enum EverlinkState {
    /// It dials, or was not started yet.
    Connecting = 0,
    /// A link is up.
    Connected = 1,
    /// It waits for the next attempt.
    BackingOff = 2,
    /// It has given up, until `everlink_reconnect()`.
    GaveUp = 3,
    /// The link has died; a session waits for its client.
    Disconnected = 4,
    /// It closes.
    Closing = 5,
    /// It is closed, or the handle is none.
    Closed = 6,
}

/// The state at this moment, as a number of `everlink_state`.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_state_of(connection: *mut Connection) -> c_int {
    let mut state = State::Closed;
    checked(|| {
        state = registry::get::<Connection, _>(connection)?.state();
        Ok(())
    });
    let state = match state {
        State::Connecting => EverlinkState::Connecting,
        State::Connected => EverlinkState::Connected,
        State::BackingOff => EverlinkState::BackingOff,
        State::GaveUp => EverlinkState::GaveUp,
        State::Disconnected => EverlinkState::Disconnected,
        State::Closing => EverlinkState::Closing,
        _ => EverlinkState::Closed,
    };
    state as c_int
}

/// What a connection is doing as JSON, and of a session whose it is; the program's, until `everlink_string_free()`.
/// Null if the handle is none.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_status(connection: *mut Connection) -> *mut c_char {
    let mut status = None;
    checked(|| {
        let connection = registry::get::<Connection, _>(connection)?;
        let state = connection.state();
        status = Some(match &connection.end {
            End::Session(session) => {
                let path = session.incoming().map(|incoming| incoming.request().uri().to_string());
                json!({
                    "state": state, "id": session.id(), "peer": session.peer_addr(),
                    "client": session.client_addr(), "path": path,
                    "subprotocol": session.subprotocol(),
                    "tls": session.tls().map(|tls| json!({
                        "server_name": tls.server_name(), "peer_dns_names": tls.peer_dns_names(),
                        "peer_uri_names": tls.peer_uri_names(),
                    })),
                })
            }
            End::Client(end) => {
                let status = end.client()?.status();
                let next = status.next_attempt.map(|at| {
                    at.saturating_duration_since(std::time::Instant::now()).as_secs_f64()
                });
                json!({
                    "state": state, "since": status.since.elapsed().as_secs_f64(),
                    "endpoint": status.endpoint, "next_attempt": next,
                    "last_failure": status.last_failure.as_ref().map(ToString::to_string),
                    "kind": status.last_failure.as_ref().map(|failure| failure.kind()),
                    "subprotocol": status.subprotocol(),
                    "compressed": status.compression.is_some(),
                })
            }
        });
        Ok(())
    });
    status.map_or(std::ptr::null_mut(), |status| give_text(status.to_string()))
}

/// The counters as JSON; the program's, until `everlink_string_free()`. Null if the handle is none.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_stats(connection: *mut Connection) -> *mut c_char {
    let mut stats = None;
    checked(|| {
        let connection = registry::get::<Connection, _>(connection)?;
        stats = match &connection.end {
            End::Session(session) => serde_json::to_string(&session.stats()).ok(),
            End::Client(end) => serde_json::to_string(&end.client()?.stats()).ok(),
        };
        Ok(())
    });
    stats.map_or(std::ptr::null_mut(), give_text)
}

/// Makes a new link now: after giving up, during a wait, or in place of the present one.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_reconnect(client: *mut Connection) -> c_int {
    checked(|| {
        let connection = registry::get::<Connection, _>(client)?;
        Ok(connection.client()?.reconnect()?)
    })
}

/// Ends the link that is up, in order, for this reason. What follows says `decision`; null: another attempt.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_end_link(
    connection: *mut Connection,
    reason: *const c_char,
    what_follows: *const EverlinkDecision,
) -> c_int {
    checked(|| {
        let connection = registry::get::<Connection, _>(connection)?;
        let reason = optional_text(reason)?.unwrap_or_default();
        Ok(connection.sender()?.end_link(reason, decision(what_follows)?)?)
    })
}

/// A ping, or with a message the message, whenever nothing came for `interval_ms`, or with a message each time; death
/// after `dead_after_ms` of silence (0: three intervals). `expects` is what the message is answered with, as
/// `heartbeat.expects` has it. Both may be null.
pub fn heartbeat(
    interval_ms: u64,
    dead_after_ms: u64,
    message: *const c_char,
    expects: *const c_char,
) -> Result<Heartbeat, Wrong> {
    let mut options =
        everlink_rs::config::Options::new().set("heartbeat.interval", format!("{interval_ms}ms"));
    if dead_after_ms > 0 {
        options = options.set("heartbeat.dead_after", format!("{dead_after_ms}ms"));
    }
    if let Some(message) = optional_text(message)? {
        options = options.set("heartbeat.message", message);
        options = options.set("heartbeat.expects", optional_text(expects)?.unwrap_or_default());
    }
    Ok(options.heartbeat()?.unwrap_or_default())
}

/// The link that is up beats so from here on: see `everlink_login_set_heartbeat()`.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_set_heartbeat(
    connection: *mut Connection,
    interval_ms: u64,
    dead_after_ms: u64,
    message: *const c_char,
    expects: *const c_char,
) -> c_int {
    checked(|| {
        let connection = registry::get::<Connection, _>(connection)?;
        let heartbeat = heartbeat(interval_ms, dead_after_ms, message, expects)?;
        Ok(connection.sender()?.set_heartbeat(heartbeat)?)
    })
}

/// Pings and waits for the answer; how long that took is stored in microseconds, unless `microseconds` is null.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_ping(
    connection: *mut Connection,
    timeout_ms: i64,
    microseconds: *mut u64,
) -> c_int {
    checked(|| {
        let connection = registry::get::<Connection, _>(connection)?;
        let time = connection.sender()?.ping(timeout(timeout_ms))?;
        if let Ok(microseconds) = out(microseconds, "") {
            microseconds.write(time.as_micros() as u64);
        }
        Ok(())
    })
}

/// The service has said that it has the message with this key (`delivery` = `until_confirmed`).
#[unsafe(no_mangle)]
pub extern "C" fn everlink_confirm(connection: *mut Connection, key: u64) -> c_int {
    checked(|| {
        let connection = registry::get::<Connection, _>(connection)?;
        match connection.sender()?.confirm(key) {
            true => Ok(()),
            false => Err(Wrong::new(Code::Timeout, "no message with this key waits for that")),
        }
    })
}

/// Starts to close with this code (1000 is the usual one) and reason (may be null), and does not wait for the end.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_start_close(
    connection: *mut Connection,
    code: u16,
    reason: *const c_char,
) -> c_int {
    checked(|| {
        let connection = registry::get::<Connection, _>(connection)?;
        Ok(connection.sender()?.start_close(code, optional_text(reason)?.unwrap_or_default())?)
    })
}

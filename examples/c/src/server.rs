//! The accepting side.

use std::ffi::{c_char, c_int, c_void};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use everlink_rs::config::Options;
use everlink_rs::http::StatusCode;
use everlink_rs::{Answer, Server, ServerBuilder, Session};
#[cfg(unix)]
use everlink_rs::{Error, Listener};
#[cfg(unix)]
use std::os::fd::BorrowedFd;

use crate::client::Function;
use crate::code::{EverlinkCode as Code, Wrong, checked};
use crate::connection::{Connection, End};
use crate::hooks::{EverlinkDestroy, EverlinkOnIncoming, EverlinkOnSession, Hook};
use crate::memory::{give_text, options, out, text, timeout};
use crate::{registry, request};

/// Before it is bound what it is made of, after that the server.
pub struct ServerEntry {
    setup: Mutex<Option<Setup>>,
    server: OnceLock<Server>,
}

#[derive(Default)]
struct Setup {
    options: Options,
    on_incoming: Option<Hook<<EverlinkOnIncoming as Function>::Call>>,
}

/// The session has no handle any more, also if the handler panics.
struct Registered(usize);

impl Drop for Registered {
    fn drop(&mut self) {
        let _ = registry::remove::<Connection, _>(registry::pointer::<Connection>(self.0));
    }
}

fn serve(session: Session, hook: &Hook<<EverlinkOnSession as Function>::Call>) {
    let number = registry::reserve();
    registry::insert(number, Connection::new(number, End::Session(session)));
    let _registered = Registered(number);
    // SAFETY: the program's own function
    unsafe { (hook.call)(hook.user(), registry::pointer(number)) };
}

impl ServerEntry {
    fn change(&self, change: impl FnOnce(&mut Setup)) -> Result<(), Wrong> {
        let mut setup = self.setup.lock().unwrap_or_else(PoisonError::into_inner);
        change(setup.as_mut().ok_or_else(late)?);
        Ok(())
    }

    fn server(&self) -> Result<&Server, Wrong> {
        let early = || Wrong::new(Code::WrongOrder, "the server is not bound yet");
        self.server.get().ok_or_else(early)
    }
}

fn late() -> Wrong {
    Wrong::new(Code::WrongOrder, "the server was bound already")
}

/// A server. It does nothing until `everlink_server_bind()`. It is the program's, until `everlink_server_free()`.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_server_new(server: *mut *mut ServerEntry) -> c_int {
    checked(|| {
        let server = out(server, "server")?;
        let number = registry::reserve();
        let setup = Mutex::new(Some(Setup::default()));
        registry::insert(number, Arc::new(ServerEntry { setup, server: OnceLock::new() }));
        server.write(registry::pointer(number));
        Ok(())
    })
}

/// Sets one setting by its key. What is wrong with either is said when it is bound.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_server_set(
    server: *mut ServerEntry,
    key: *const c_char,
    value: *const c_char,
) -> c_int {
    checked(|| {
        let (key, value) = (text(key, "key")?, text(value, "value")?);
        registry::get::<ServerEntry, _>(server)?
            .change(|setup| setup.options = std::mem::take(&mut setup.options).set(key, value))
    })
}

/// Sets many settings: an object of JSON, nested or with dots in its keys.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_server_set_json(server: *mut ServerEntry, json: *const c_char) -> c_int {
    checked(|| {
        let read = options(json)?;
        registry::get::<ServerEntry, _>(server)?
            .change(|setup| setup.options = std::mem::take(&mut setup.options).merge(read))
    })
}

/// Has this function answer each request.
///
/// `user` is handed to each call, and `destroy` gets it when nothing calls any more, also if this fails.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_server_on_request(
    server: *mut ServerEntry,
    callback: EverlinkOnIncoming,
    user: *mut c_void,
    destroy: EverlinkDestroy,
) -> c_int {
    let hook = Hook::new(callback, user, destroy);
    checked(|| registry::get::<ServerEntry, _>(server)?.change(|setup| setup.on_incoming = hook))
}

/// Starts it on what this makes a listener of.
fn start(
    server: *mut ServerEntry,
    hook: Option<Hook<<EverlinkOnSession as Function>::Call>>,
    listen: impl FnOnce(ServerBuilder, Serve) -> Result<Server, Wrong>,
) -> c_int {
    checked(|| {
        let entry = registry::get::<ServerEntry, _>(server)?;
        let hook = hook.ok_or_else(|| Wrong::new(Code::Null, "on_session is null"))?;
        let setup = entry.setup.lock().unwrap_or_else(PoisonError::into_inner).take();
        let setup = setup.ok_or_else(late)?;
        let mut builder = setup.options.server()?;
        if let Some(hook) = setup.on_incoming {
            builder = builder.on_request(move |incoming| {
                let status = u16::try_from(request::ask(incoming, &hook)).unwrap_or(500);
                match StatusCode::from_u16(status) {
                    Ok(StatusCode::SWITCHING_PROTOCOLS) => Answer::accept(),
                    Ok(status) => Answer::reject(status),
                    Err(_) => Answer::reject(StatusCode::INTERNAL_SERVER_ERROR),
                }
            });
        }
        let started = listen(builder, Box::new(move |session| serve(session, &hook)))?;
        let _ = entry.server.set(started);
        Ok(())
    })
}

type Serve = Box<dyn Fn(Session) + Send + Sync>;

/// Listens at an address, "127.0.0.1:0", and serves each session with this function, on a thread of its own.
///
/// `user` is handed to each call, and `destroy` gets it when nothing calls any more, also if this fails.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_server_bind(
    server: *mut ServerEntry,
    address: *const c_char,
    on_session: EverlinkOnSession,
    user: *mut c_void,
    destroy: EverlinkDestroy,
) -> c_int {
    start(server, Hook::new(on_session, user, destroy), |builder, serve| {
        Ok(builder.bind(text(address, "address")?, serve)?)
    })
}

/// The same on a socket that listens already, TCP or Unix: the program's, systemd's (3 and on), or one that another
/// process has handed over. The descriptor stays the program's, which may close it from here on.
///
/// `user` is handed to each call, and `destroy` gets it when nothing calls any more, also if this fails.
#[cfg(unix)]
#[unsafe(no_mangle)]
pub extern "C" fn everlink_server_serve(
    server: *mut ServerEntry,
    descriptor: c_int,
    on_session: EverlinkOnSession,
    user: *mut c_void,
    destroy: EverlinkDestroy,
) -> c_int {
    start(server, Hook::new(on_session, user, destroy), |builder, serve| {
        if descriptor < 0 {
            return Err(Wrong::new(Code::System, "the descriptor is none"));
        }
        // SAFETY: the program's, open as long as this call, as the header says
        let socket = unsafe { BorrowedFd::borrow_raw(descriptor) }.try_clone_to_owned()?;
        let socket = Listener::try_from(socket).map_err(Error::Bind)?;
        Ok(builder.serve(socket, serve)?)
    })
}

/// The port that it listens at; 0 if it is not bound.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_server_port(server: *mut ServerEntry) -> u16 {
    let mut port = 0;
    checked(|| {
        port = registry::get::<ServerEntry, _>(server)?.server()?.local_addr().port();
        Ok(())
    });
    port
}

/// Sends a message to every session, without waiting for any; how many took it is stored, unless `count` is null.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_server_broadcast(
    server: *mut ServerEntry,
    data: *const c_void,
    size: usize,
    is_binary: c_int,
    count: *mut usize,
) -> c_int {
    checked(|| {
        let entry = registry::get::<ServerEntry, _>(server)?;
        let message = crate::memory::message(data, size, is_binary != 0)?;
        let taken = entry.server()?.broadcast(message);
        if let Ok(count) = out(count, "") {
            count.write(taken);
        }
        Ok(())
    })
}

/// Sends a message to every session that has joined this topic; how many took it is stored, unless `count` is null.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_server_publish(
    server: *mut ServerEntry,
    topic: *const c_char,
    data: *const c_void,
    size: usize,
    is_binary: c_int,
    count: *mut usize,
) -> c_int {
    checked(|| {
        let entry = registry::get::<ServerEntry, _>(server)?;
        let message = crate::memory::message(data, size, is_binary != 0)?;
        let taken = entry.server()?.publish(text(topic, "topic")?, message);
        if let Ok(count) = out(count, "") {
            count.write(taken);
        }
        Ok(())
    })
}

/// How many sessions are in this topic; 0 if the server is not bound.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_server_members(server: *mut ServerEntry, topic: *const c_char) -> usize {
    let mut count = 0;
    checked(|| {
        let entry = registry::get::<ServerEntry, _>(server)?;
        count = entry.server()?.members(text(topic, "topic")?).len();
        Ok(())
    });
    count
}

/// Has a session join a topic, so that it gets what is published there.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_session_join(session: *mut Connection, topic: *const c_char) -> c_int {
    checked(|| {
        let connection = registry::get::<Connection, _>(session)?;
        connection.session()?.join(text(topic, "topic")?)?;
        Ok(())
    })
}

/// Has a session leave a topic.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_session_leave(session: *mut Connection, topic: *const c_char) -> c_int {
    checked(|| {
        let connection = registry::get::<Connection, _>(session)?;
        connection.session()?.leave(text(topic, "topic")?);
        Ok(())
    })
}

/// The counters as JSON, `sessions` among them; the program's, until `everlink_string_free()`. Null if it is not
/// bound.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_server_stats(server: *mut ServerEntry) -> *mut c_char {
    let mut stats = None;
    checked(|| {
        let entry = registry::get::<ServerEntry, _>(server)?;
        stats = serde_json::to_string(&entry.server()?.stats()).ok();
        Ok(())
    });
    stats.map_or(std::ptr::null_mut(), give_text)
}

/// Stops accepting, and has every callback finish what it is at: it receives what has come, may answer, and is then told
/// `EVERLINK_CODE_CLOSED`. What comes later is not taken. `EVERLINK_CODE_TIMEOUT` if callbacks are left when the
/// time is over; `everlink_server_shutdown()` closes what is left.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_server_drain(server: *mut ServerEntry, timeout_ms: i64) -> c_int {
    checked(|| {
        let entry = registry::get::<ServerEntry, _>(server)?;
        match entry.server()?.drain(timeout(timeout_ms)) {
            0 => Ok(()),
            left => Err(Wrong::new(Code::Timeout, format!("{left} connections are left"))),
        }
    })
}

/// Closes every session in order and waits for that, and for the callbacks, at most for so long:
/// `EVERLINK_CODE_TIMEOUT` if that was not enough.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_server_shutdown(server: *mut ServerEntry, timeout_ms: i64) -> c_int {
    checked(|| {
        let entry = registry::get::<ServerEntry, _>(server)?;
        let report = entry.server()?.shutdown(timeout(timeout_ms));
        if report.drained {
            return Ok(());
        }
        Err(Wrong::new(Code::Timeout, format!("{} sessions are left", report.stuck)))
    })
}

/// Gives a server back, and shuts it down if that was not done.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_server_free(server: *mut ServerEntry) -> c_int {
    checked(|| registry::remove::<ServerEntry, _>(server).map(drop))
}

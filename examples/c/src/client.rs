//! Making, starting and closing clients.

use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use everlink_rs::Client;
use everlink_rs::config::Options;

use crate::code::{EverlinkCode as Code, Wrong, checked};
use crate::connection::{Connection, End};
use crate::decision::{self, EverlinkFailure};
use crate::event::with_event;
use crate::hooks::{
    EverlinkDestroy, EverlinkOnDecision, EverlinkOnDropped, EverlinkOnEvent, EverlinkOnLogin,
    EverlinkOnMessage, EverlinkOnRequest, Hook,
};
use crate::memory::{EverlinkMessage, optional_text, options, out, text, timeout};
use crate::{login, registry, request};

/// Before the start what it is made of, after it the client.
pub struct ClientEnd {
    url: String,
    setup: Mutex<Option<Setup>>,
    client: OnceLock<Client>,
    is_freed: AtomicBool,
}

type Given<F> = Option<Hook<<F as Function>::Call>>;

/// A type of a function that may be null.
pub trait Function {
    /// The one that is not.
    type Call;
}

impl<F> Function for Option<F> {
    type Call = F;
}

#[derive(Default)]
struct Setup {
    options: Options,
    on_message: Given<EverlinkOnMessage>,
    on_event: Given<EverlinkOnEvent>,
    on_login: Given<EverlinkOnLogin>,
    on_request: Given<EverlinkOnRequest>,
    on_decision: Given<EverlinkOnDecision>,
    on_dropped: Given<EverlinkOnDropped>,
}

impl ClientEnd {
    pub fn not_started() -> Wrong {
        Wrong::new(Code::WrongOrder, "the client was not started yet")
    }

    pub fn client(&self) -> Result<&Client, Wrong> {
        self.client.get().ok_or_else(Self::not_started)
    }

    fn setup<T>(&self, change: impl FnOnce(&mut Setup) -> Result<T, Wrong>) -> Result<T, Wrong> {
        let mut setup = self.setup.lock().unwrap_or_else(PoisonError::into_inner);
        let late = || Wrong::new(Code::WrongOrder, "the client was started already");
        change(setup.as_mut().ok_or_else(late)?)
    }

    fn take_setup(&self) -> Result<Setup, Wrong> {
        let taken = self.setup.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.ok_or_else(|| Wrong::new(Code::WrongOrder, "the client was started already"))
    }

    fn start(&self, connection: &Arc<Connection>, waits: bool) -> Result<(), Wrong> {
        let setup = self.take_setup()?;
        let mut builder = setup.options.client(&self.url)?;
        let number = connection.number;
        if let Some(hook) = setup.on_message {
            let known = Arc::clone(connection);
            builder = builder.on_message(move |sender, message| {
                known.is_known_by(sender);
                let lent = EverlinkMessage::lend_ref(&message);
                // SAFETY: the program's own function; what it gets is there until it returns
                unsafe { (hook.call)(hook.user(), registry::pointer(number), &lent) };
            });
        }
        let known = Arc::clone(connection);
        let on_event = setup.on_event;
        builder = builder.on_event(move |client, event| {
            known.is_known_by(client.sender());
            match &on_event {
                // SAFETY: as above
                Some(hook) => with_event(event, |event| unsafe {
                    (hook.call)(hook.user(), registry::pointer(number), event);
                }),
                None => known.keep_event(event),
            }
        });
        if let Some(hook) = setup.on_login {
            builder = builder.login(move |session| login::run(session, &hook));
        }
        if let Some(hook) = setup.on_request {
            builder = builder.on_request(move |opening| request::run(opening, &hook));
        }
        if let Some(hook) = setup.on_decision {
            builder = builder.decide(move |_, failure| {
                let mut decision = decision::of(&failure.decision());
                EverlinkFailure::with(failure, |failure| {
                    // SAFETY: as above
                    unsafe { (hook.call)(hook.user(), failure, &mut decision) };
                });
                decision::decision(&decision).unwrap_or_else(|_| failure.decision())
            });
        }
        if let Some(hook) = setup.on_dropped {
            builder = builder.on_dropped(move |message, why| hook.dropped(&message, why));
        }
        let client = if waits { builder.connect()? } else { builder.start()? };
        connection.is_known_by(client.sender());
        let _ = self.client.set(client);
        if self.is_freed.load(SeqCst) {
            self.client()?.close();
        }
        Ok(())
    }
}

impl Hook<<EverlinkOnDropped as Function>::Call> {
    fn dropped(&self, message: &everlink_rs::Message, why: impl ToString) {
        let why = std::ffi::CString::new(why.to_string()).unwrap_or_default();
        let lent = EverlinkMessage::lend_message(message);
        // SAFETY: the program's own function; what it gets is there until it returns
        unsafe { (self.call)(self.user(), &lent, why.as_ptr()) };
    }
}

/// A client of this URL: `ws://`, `wss://`, `tcp://` or `tcps://`. It does nothing until `everlink_client_start()` or
/// `everlink_client_connect()`. It is the program's, until `everlink_free()`.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_client_new(url: *const c_char, client: *mut *mut Connection) -> c_int {
    checked(|| {
        let (url, client) = (text(url, "url")?.to_owned(), out(client, "client")?);
        let number = registry::reserve();
        let setup = Mutex::new(Some(Setup::default()));
        let end =
            ClientEnd { url, setup, client: OnceLock::new(), is_freed: AtomicBool::new(false) };
        registry::insert(number, Connection::new(number, End::Client(end)));
        client.write(registry::pointer(number));
        Ok(())
    })
}

fn change<T>(
    client: *mut Connection,
    change: impl FnOnce(&mut Setup) -> Result<T, Wrong>,
) -> Result<T, Wrong> {
    match &registry::get::<Connection, _>(client)?.end {
        End::Client(end) => end.setup(change),
        End::Session(_) => Err(Wrong::new(Code::BadHandle, "a session has no settings")),
    }
}

/// Sets one setting by its key: `"heartbeat.interval"`, `"5s"`. What is wrong with either is said at the start.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_client_set(
    client: *mut Connection,
    key: *const c_char,
    value: *const c_char,
) -> c_int {
    checked(|| {
        let (key, value) = (text(key, "key")?, text(value, "value")?);
        change(client, |setup| {
            setup.options = std::mem::take(&mut setup.options).set(key, value);
            Ok(())
        })
    })
}

/// Sets many settings: an object of JSON, nested or with dots in its keys.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_client_set_json(client: *mut Connection, json: *const c_char) -> c_int {
    checked(|| {
        let read = options(json)?;
        change(client, |setup| {
            setup.options = std::mem::take(&mut setup.options).merge(read);
            Ok(())
        })
    })
}

/// Stores a hook in its place.
fn hook<F>(
    client: *mut Connection,
    call: Option<F>,
    user: *mut c_void,
    destroy: EverlinkDestroy,
    place: impl FnOnce(&mut Setup) -> &mut Option<Hook<F>>,
) -> c_int {
    let hook = Hook::new(call, user, destroy);
    checked(|| {
        // one that was there before goes when nothing is locked any more
        change(client, |setup| Ok(std::mem::replace(place(setup), hook))).map(drop)
    })
}

/// Has each message handed to this function, instead of `everlink_receive()`.
///
/// `user` is handed to each call, and `destroy` gets it when nothing calls any more, also if this fails.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_client_on_message(
    client: *mut Connection,
    callback: EverlinkOnMessage,
    user: *mut c_void,
    destroy: EverlinkDestroy,
) -> c_int {
    hook(client, callback, user, destroy, |setup| &mut setup.on_message)
}

/// Has each event handed to this function, instead of `everlink_next_event()`.
///
/// `user` is handed to each call, and `destroy` gets it when nothing calls any more, also if this fails.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_client_on_event(
    client: *mut Connection,
    callback: EverlinkOnEvent,
    user: *mut c_void,
    destroy: EverlinkDestroy,
) -> c_int {
    hook(client, callback, user, destroy, |setup| &mut setup.on_event)
}

/// Has this function log in on each fresh link.
///
/// `user` is handed to each call, and `destroy` gets it when nothing calls any more, also if this fails.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_client_on_login(
    client: *mut Connection,
    callback: EverlinkOnLogin,
    user: *mut c_void,
    destroy: EverlinkDestroy,
) -> c_int {
    hook(client, callback, user, destroy, |setup| &mut setup.on_login)
}

/// Has this function change the request of each attempt.
///
/// `user` is handed to each call, and `destroy` gets it when nothing calls any more, also if this fails.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_client_on_request(
    client: *mut Connection,
    callback: EverlinkOnRequest,
    user: *mut c_void,
    destroy: EverlinkDestroy,
) -> c_int {
    hook(client, callback, user, destroy, |setup| &mut setup.on_request)
}

/// Has this function decide what follows a failure.
///
/// `user` is handed to each call, and `destroy` gets it when nothing calls any more, also if this fails.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_client_on_decision(
    client: *mut Connection,
    callback: EverlinkOnDecision,
    user: *mut c_void,
    destroy: EverlinkDestroy,
) -> c_int {
    hook(client, callback, user, destroy, |setup| &mut setup.on_decision)
}

/// Has each message handed to this function that will not be sent any more.
///
/// `user` is handed to each call, and `destroy` gets it when nothing calls any more, also if this fails.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_client_on_dropped(
    client: *mut Connection,
    callback: EverlinkOnDropped,
    user: *mut c_void,
    destroy: EverlinkDestroy,
) -> c_int {
    hook(client, callback, user, destroy, |setup| &mut setup.on_dropped)
}

fn start(client: *mut Connection, waits: bool) -> c_int {
    checked(|| {
        let connection = registry::get::<Connection, _>(client)?;
        match &connection.end {
            End::Client(end) => end.start(&connection, waits),
            End::Session(_) => Err(Wrong::new(Code::BadHandle, "a session is no client")),
        }
    })
}

/// Starts the client, and does not wait for a link. If it fails nothing runs, and the handle can only be freed.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_client_start(client: *mut Connection) -> c_int {
    start(client, false)
}

/// Starts the client and waits for the first attempt, which decides: `EVERLINK_CODE_CONNECT` if it fails, and
/// nothing runs then.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_client_connect(client: *mut Connection) -> c_int {
    start(client, true)
}

/// Waits for a link.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_wait_connected(connection: *mut Connection, timeout_ms: i64) -> c_int {
    checked(|| {
        let connection = registry::get::<Connection, _>(connection)?;
        let waited = match &connection.end {
            End::Client(end) => end.client()?.wait_connected(timeout(timeout_ms)),
            End::Session(session) => session.wait_connected(timeout(timeout_ms)),
        };
        Ok(waited?)
    })
}

/// Closes for good, with this code (1000 is the usual one) and reason (may be null): writes what is queued, shakes
/// hands and ends all threads, within `timeouts.close`. What was accepted and not delivered is handed to
/// `undelivered` (may be null) before this returns. Nothing calls into the program after that, unless a callback
/// is running still. In a callback it starts closing and returns at once. The handle is good until
/// `everlink_free()`: what was received can be taken.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_close(
    connection: *mut Connection,
    code: u16,
    reason: *const c_char,
    undelivered: EverlinkOnDropped,
    user: *mut c_void,
) -> c_int {
    checked(|| {
        let connection = registry::get::<Connection, _>(connection)?;
        let reason = optional_text(reason)?.unwrap_or_default();
        match &connection.end {
            End::Session(session) => Ok(session.close_with(code, reason)?),
            End::Client(end) => {
                let report = end.client()?.close_with(code, reason)?;
                if let Some(hook) = Hook::new(undelivered, user, None) {
                    let why = everlink_rs::failure::Undelivered::Closed;
                    report.undelivered.iter().for_each(|message| hook.dropped(message, why));
                }
                Ok(())
            }
        }
    })
}

/// Gives a client back, and closes it if that was not done. Calls that wait on other threads return
/// `EVERLINK_CODE_CLOSED`. A session is its server's: closing it is enough.
#[unsafe(no_mangle)]
pub extern "C" fn everlink_free(client: *mut Connection) -> c_int {
    checked(|| {
        let connection = registry::get::<Connection, _>(client)?;
        let End::Client(end) = &connection.end else {
            return Err(Wrong::new(Code::BadHandle, "a session is freed with its callback"));
        };
        registry::remove::<Connection, _>(client)?;
        end.is_freed.store(true, SeqCst);
        drop(end.take_setup());
        if let Some(client) = end.client.get() {
            client.close();
        }
        Ok(())
    })
}

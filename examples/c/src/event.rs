//! What happened to a client.

use std::ffi::{CString, c_char, c_int};

use everlink_rs::Event;

/// What kind of event it is.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub enum EverlinkEventKind {
    /// A kind that this header does not have yet: `name` says which.
    Other = 0,
    /// An attempt begins.
    Connecting = 1,
    /// A link is up, the login included.
    Connected = 2,
    /// The link died.
    Disconnected = 3,
    /// An attempt failed.
    AttemptFailed = 4,
    /// The program takes no messages.
    ReceiverStalled = 5,
    /// A callback of the program's does not return.
    CallbackStalled = 6,
    /// The peer does not answer pings as it should.
    ConfirmationsMissing = 7,
    /// The peer found a message too large.
    MessageTooLarge = 8,
    /// No further attempt is made until `everlink_reconnect()`.
    GaveUp = 9,
    /// The client is closed: the last event.
    Closed = 10,
}

/// What happened. Lent to a callback until that returns.
#[repr(C)]
#[derive(Debug)]
pub struct EverlinkEvent {
    /// How large this is: later versions have more at the end.
    pub struct_size: usize,
    /// A number of `everlink_event_kind`.
    pub kind: c_int,
    /// The number of the link, counted from 1; 0 where there is none.
    pub link: u32,
    /// The number of the attempt, or how many there were; 0 where there is none.
    pub attempts: u32,
    /// Messages of which nobody knows whether the peer has them; those that were not delivered, at the end.
    pub unconfirmed: u64,
    /// In a word that does not change: "connected", "gave_up"...
    pub name: *const c_char,
    /// One line for people.
    pub text: *const c_char,
    /// Everything that there is to say, as an object of JSON.
    pub json: *const c_char,
}

pub fn with_event(event: &Event, run: impl FnOnce(&EverlinkEvent)) {
    use EverlinkEventKind as Kind;
    let (kind, link, attempts, unconfirmed) = match event {
        Event::Connecting { attempt, .. } => (Kind::Connecting, 0, *attempt, 0),
        Event::Connected { link, attempts, .. } => (Kind::Connected, *link, *attempts, 0),
        Event::Disconnected { link, unconfirmed, .. } => {
            (Kind::Disconnected, *link, 0, *unconfirmed)
        }
        Event::AttemptFailed { attempts, .. } => (Kind::AttemptFailed, 0, *attempts, 0),
        Event::ReceiverStalled { .. } => (Kind::ReceiverStalled, 0, 0, 0),
        Event::CallbackStalled { .. } => (Kind::CallbackStalled, 0, 0, 0),
        Event::ConfirmationsMissing { .. } => (Kind::ConfirmationsMissing, 0, 0, 0),
        Event::MessageTooLarge { .. } => (Kind::MessageTooLarge, 0, 0, 0),
        Event::GaveUp { attempts, .. } => (Kind::GaveUp, 0, *attempts, 0),
        Event::Closed { undelivered, .. } => (Kind::Closed, 0, 0, *undelivered as u64),
        _ => (Kind::Other, 0, 0, 0),
    };
    let text = |text: String| CString::new(text.replace('\0', " ")).unwrap_or_default();
    let (name, line) = (text(event.name().into()), text(event.to_string()));
    let json = text(serde_json::to_string(event).unwrap_or_default());
    run(&EverlinkEvent {
        struct_size: size_of::<EverlinkEvent>(),
        kind: kind as c_int,
        link,
        attempts,
        unconfirmed,
        name: name.as_ptr(),
        text: line.as_ptr(),
        json: json.as_ptr(),
    });
}

//! Blocking long-lived connections on `std` threads: WebSocket and framed TCP, a client that
//! stays connected and a server.
//!
//! everlink dials, beats, notices death, backs off, dials again, logs in again, and tells the
//! program what happened. The program sends and receives messages, from as many threads as it
//! likes, and carries no async runtime.
//!
//! What every program names is here. The settings are in [`config`], what went wrong in [`failure`],
//! counters in [`stats`], and what a transport of the program's own implements in [`transport`].
//!
//! ```no_run
//! use everlink::Client;
//!
//! # fn main() -> Result<(), everlink::Error> {
//! let client = Client::connect("ws://localhost:9001/feed")?;
//! client.send("hello")?;
//! for message in &client {
//!     println!("{message:?}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The [`guide`] answers questions. Where to look next: [`Client`] for what it does and guarantees, [`ClientBuilder`] for every
//! setting, [`Framing`](config::Framing) for `tcp://`, [`Server`] for the accepting side, [`Event`] and [`Failure`]
//! for what happened, [`ClientStats`](stats::ClientStats) for what was counted, and `chaos` (with the feature of that name)
//! for a proxy that breaks connections on purpose.
//!
//! # Threads
//!
//! | thread | owns | blocks in |
//! | --- | --- | --- |
//! | `everlink-N-manager` | the life cycle: dial, open, serve, join, back off | a channel |
//! | `everlink-N-reader` | the read half of the socket and the decoder | `read` |
//! | `everlink-N-writer` | the write half and the encoder | the outbox, `write` |
//! | `everlink-N-heartbeat` | the beat | a channel, with a deadline |
//!
//! Linux keeps 15 bytes of a thread's name: debuggers and `top` show `elN-reader`.
//!
//! The last three live as long as one link and are joined before the next is dialed. A name
//! lookup and each connecting address have short-lived threads of their own, so that nothing
//! that hangs holds anything else up. While the writer sleeps, a thread that has one small message
//! to send writes it by itself, without waiting ([`Writes::Direct`](config::Writes::Direct)).
//!
//! # What is re-exported
//!
//! The interface has some types of other crates, which are re-exported so that a program uses the same
//! versions: [`http`] (statuses, headers, the server's answer),
//! `rustls` (configurations and certificates, with the feature `tls`) and [`Bytes`] (what a long
//! [`Payload`] shares without a copy). [`crossbeam_channel`] is there for `select!` over
//! [what was received](ClientBuilder::connect_with_channel) and [`Events::receiver`]. Nothing of tungstenite is: it serves inside.
//!
//! # JSON and configurations
//!
//! With the feature `serde` messages are made of values and values of messages
//! (`Message::from_json`, `Message::json`, with `serde_json`, which is re-exported then); the plain
//! settings are read from a configuration, each option by its name and times in seconds
//! ([`Timeouts`](config::Timeouts), [`Limits`](config::Limits), [`SocketOptions`](config::SocketOptions), [`Queue`](config::Queue) and the words in them; a name that is
//! none is refused); and what a program logs is written ([`Event`], [`State`], [`ClientStats`](stats::ClientStats),
//! [`SessionStats`](stats::SessionStats), [`ServerStats`](stats::ServerStats), [`FailureKind`](failure::FailureKind)). [`Heartbeat`](config::Heartbeat), [`Backoff`](config::Backoff) and [`Framing`](config::Framing) are not read so: closures
//! cannot be, and their choices are methods. Whatever of a builder is no closure has a key in `config::Options`, which makes
//! builders of a flat map of texts: `"heartbeat.interval"`, `"5s"`.
//!
//! # Logging
//!
//! Through the [`log`] crate. Each step in the life of a client or session is one record, and each
//! control frame. What a line says its key-values say too, for structured logs; `event` is the word:
//!
//! | `event` of a client | level | keys |
//! | --- | --- | --- |
//! | `connecting` | `info` | `endpoint`, `attempt` |
//! | `connected` | `info` | `endpoint`, `link`, `attempts`, `downtime`, `subprotocol`, `compressed`, `session_start`, `resent`, `in_doubt` |
//! | `disconnected` | `warn` | `endpoint`, `link`, `kind`, `cause`, `uptime`, `unconfirmed`, `will_be_resent`, `resumable`, `next`, `delay` |
//! | `attempt_failed` | `warn` | `endpoint`, `attempts`, `kind`, `cause`, `next`, `delay` |
//! | `session_over` | `warn` | `in_doubt` |
//! | `callback_stalled` | `warn` | `callback`, `waiting` |
//! | `message_too_large` | `error` | `size` |
//! | `gave_up` | `error` | `attempts`, `kind`, `cause` |
//! | `closed` | `info` | `clean`, `undelivered` |
//!
//! | `event` of a session | level | keys |
//! | --- | --- | --- |
//! | `not_opened` | `info`; `debug` where not a byte came | `peer`, `kind`, `cause` |
//! | `opened` | `info` | `peer` |
//! | `lost` | `info` | `peer`, `kind`, `cause`, `uptime`: its link; it waits for its client |
//! | `resumed` | `info` | `peer`, `resent` |
//! | `ended` | `info` | `peer`, `kind`, `cause`, `uptime`, `age` |
//!
//! | `event` of a server | level | keys |
//! | --- | --- | --- |
//! | `refused` | `warn`: it is full; `error`: no thread, socket or random number for a client | `count` |
//! | `accept_failed` | `error`: no descriptors, say | `count` |
//! | `panicked` | `error`: a closure or handler | `count` |
//! | `tls_reloaded` | `info` | `count` |
//! | `tls_reload_failed` | `warn`: the certificates before stay | `count` |
//! | `subprotocol_not_offered`, `unusable_answer` | `warn`, `error`: an answer of `on_request` | `count` |
//!
//! Strangers can cause these as often as they like, so each is logged once a second at most; `count` is how often it
//! happened since the last such record. A count that is still to be logged is logged when the next client comes, a
//! session ends or the server is shut down.
//!
//! | `event` of both | level | keys |
//! | --- | --- | --- |
//! | `receiver_stalled`, `confirmations_missing` | `warn` | `waiting` |
//! | `control_frame` | `debug` | `frame`, `direction` |
//!
//! Clients are reported to whoever runs them; a server's are free to go, so nothing of theirs is more than
//! `info`. Each of these records has `client` and `name` ([`ClientBuilder::name`]) besides, or `session` and
//! `server` ([`ServerBuilder::name`]), those of a server the latter alone. `peer` is [`Session::client_addr`]. Numbers: `client`, `session`, `link` (counted from 1), `attempt` and
//! `attempts`; messages: `unconfirmed`, `resent`, `in_doubt`, `undelivered`; bytes: `size`; seconds, with
//! fractions: `uptime` (of a link), `age` (of a session), `downtime`, `waiting`, `delay` (before a redial). `clean`,
//! `compressed`, `will_be_resent` and `resumable` are true or false. Words: `kind` ([`FailureKind`](failure::FailureKind)), `next` (`redial`, `give_up`,
//! `close`), `session_start` (`none`, `new`, `resumed`, `replaced`), `frame` (`ping`, `pong`, `close`), `direction`
//! (`sent`, `received`). `cause` is the failure as one line. A key that does not apply is null.
//!
//! Other records, such as a panic in a client's callback, are lines only.
//! Payloads and credentials are never logged by this
//! crate; what tungstenite logs at `trace`, under the target of its name, it alone decides.
//!
//! # Metrics
//!
//! [`Client::stats`], [`Session::stats`] and [`ServerHandle::stats`] are snapshots; `fields` of each
//! ([`ClientStats::fields`](stats::ClientStats::fields)) has their names and values.
//! With the feature `metrics`, `publish_metrics` hands all of it to the facade of that name.

// what the outside can influence is no reason to panic; nothing sleeps, and no wall clock decides
// (.clippy.toml)
#![cfg_attr(
    not(test),
    warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)
)]

/// The programs of the README, compiled as they stand.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// What has no effect unless it is kept, and what the compiler says of a program that does not.
#[cfg(doctest)]
#[doc = include_str!("../tests/unkept.md")]
struct Unkept;

#[cfg(feature = "chaos")]
pub mod chaos;
mod client;
mod dial;
mod error;
pub mod failure;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
#[allow(missing_docs, reason = "not part of the interface: only `cargo fuzz` sets `fuzzing`")]
pub mod fuzzing;
pub mod guide;
mod handshake;
mod http1;
mod link;
mod message;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "serde")]
mod options;
mod policy;
mod queues;
mod resume;
#[doc = include_str!("resume/PROTOCOL.md")]
pub mod resumption {}
#[cfg(feature = "serde")]
mod seconds;
mod sender;
mod server;
mod settings;
pub mod stats;
mod sync;
pub mod transport;
mod wire;

pub use client::{
    Client, ClientBuilder, ClientHandle, ClientStatus, CloseReport, Event, Events, LoginError,
    LoginSession, SessionStart, State,
};
pub use error::Error;
pub use failure::cause::Failure;
pub use handshake::OpeningRequest;
pub use message::{CloseCode, CloseFrame, Iter, Message, MessageRef, Payload, Text};
#[cfg(feature = "metrics")]
pub use metrics::publish_metrics;
pub use queues::Receipt;
pub use sender::{Calls, CallsInOrder, SendError, Sender, Waiting};
pub use server::{
    Accepted, Answer, Incoming, Listener, Presence, Server, ServerBuilder, ServerHandle, Session,
    SessionHandler, ShutdownReport,
};
#[cfg(feature = "tls")]
pub use transport::tls::TlsInfo;

/// How a client, a server and their connections behave: plain values for the builders.
pub mod config {
    pub use crate::dial::Proxy;
    #[cfg(feature = "serde")]
    pub use crate::options::Options;
    #[cfg(feature = "deflate")]
    pub use crate::policy::Compression;
    pub use crate::policy::{
        AgreedCompression, Backoff, CodecError, Decode, Delivery, Encode, Excess, Framing,
        Heartbeat, Jitter, LengthField, Limits, Overflow, Packet, Prefix, Queue, ReceiveRate,
        Resume, SocketOptions, Timeouts, Writes,
    };
    pub use crate::sender::SendOptions;
    pub use crate::server::{ForwardedHeader, SlowSession};
    #[cfg(feature = "tls")]
    pub use crate::transport::tls::Tls;
}

/// What a long [`Payload`] is made of, and made into, without copying it.
pub use bytes::Bytes;
/// The channels of the public interface, and `select!` over them.
pub use crossbeam_channel;
/// The HTTP types of the public interface: statuses, headers, responses.
pub use http;
/// The TLS types of the public interface: configurations.
#[cfg(feature = "tls")]
pub use rustls;
/// The JSON of the public interface: `Message::from_json` and `Message::json`.
#[cfg(feature = "serde")]
pub use serde_json;

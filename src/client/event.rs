//! What can happen to a client's connection, and all that is said of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::SEC_WEBSOCKET_PROTOCOL;
use log::Level;
use log::kv::Value;

use super::session::SessionStart;
use crate::failure::{Failure, Next};
use crate::link::Notice;
use crate::message::Message;
use crate::policy::AgreedCompression;

/// A step in the life of a client.
///
/// Which client that is says who hands it over: a callback that many clients share is lent the one, and a
/// subscription is one client's.
///
/// ```no_run
/// use everlink::{Client, ClientHandle, Event};
///
/// fn log(client: &ClientHandle, event: &Event) {
///     println!("client {}: {event}", client.id());
/// }
///
/// let one = Client::builder("ws://localhost:9001").on_event(log).start()?;
/// let other = Client::builder("ws://localhost:9002").on_event(log).start()?;
/// # Ok::<(), everlink::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// An attempt to make a link begins.
    #[non_exhaustive]
    Connecting {
        /// The number of the attempt, counted from 1 since the last link was lost.
        attempt: u32,
        /// The endpoint, without credentials, unless the program names another for this attempt.
        endpoint: String,
    },
    /// A link is up, the login hook included.
    #[non_exhaustive]
    Connected {
        /// The number of the link, counted from 1: what [`Message::link`](crate::Message::link)
        /// says of the messages that come on it.
        link: u32,
        /// Which attempt succeeded, counted from 1 since the last link was lost.
        attempts: u32,
        /// How long there was no link; for the first one, since the client was started.
        downtime: Duration,
        /// The endpoint, without credentials.
        endpoint: String,
        /// The server's answer to the opening handshake, its subprotocol header included;
        /// `None` on `tcp://`, which has none.
        response: Option<Arc<http::Response<()>>>,
        /// How messages are compressed, if both sides want that
        /// ([`ClientBuilder::compression`](crate::ClientBuilder::compression)).
        compression: Option<AgreedCompression>,
        /// What this link is to the session that there was
        /// ([`ClientBuilder::resume`](crate::ClientBuilder::resume)).
        session: SessionStart,
    },
    /// The link died.
    #[non_exhaustive]
    Disconnected {
        /// The number of the link.
        link: u32,
        /// Why: the first cause that any thread noticed.
        cause: Arc<Failure>,
        /// The endpoint, without credentials.
        endpoint: String,
        /// How long it was up.
        uptime: Duration,
        /// Messages that were written after the last answered ping: the peer may or may not
        /// have them. On a busy link pings are sent where confirmations are wanted, for
        /// [`Delivery::AtLeastOnce`](crate::config::Delivery::AtLeastOnce), receipts and `flush`: without any of
        /// those this may be everything since the link went quiet for the last time, most of which
        /// has arrived.
        unconfirmed: u64,
        /// Whether those are sent again on the next link:
        /// [`Delivery::AtLeastOnce`](crate::config::Delivery::AtLeastOnce).
        will_be_resent: bool,
        /// Whether the session can go on ([`ClientBuilder::resume`](crate::ClientBuilder::resume)): then the
        /// server says on the next link which messages it has, and the others are sent again.
        resumable: bool,
        /// What comes next.
        next: Next,
    },
    /// An attempt to make a link failed.
    #[non_exhaustive]
    AttemptFailed {
        /// The number of the attempt, counted from 1 since the last link was lost.
        attempts: u32,
        /// The endpoint, without credentials.
        endpoint: String,
        /// Why.
        cause: Arc<Failure>,
        /// What comes next.
        next: Next,
    },
    /// The program has not taken a received message for a whole heartbeat interval, so nothing
    /// is being read. This is not held against the peer. Said once for each time it happens.
    #[non_exhaustive]
    ReceiverStalled {
        /// How long the reader has been waiting for the program.
        waiting: Duration,
    },
    /// A call of the program's code that the client waits for has not returned for a whole heartbeat
    /// interval: [`on_event`](crate::ClientBuilder::on_event), [`decide`](crate::ClientBuilder::decide),
    /// a [`Backoff::custom`](crate::config::Backoff::custom),
    /// [`bearer_auth_with`](crate::ClientBuilder::bearer_auth_with),
    /// [`on_request`](crate::ClientBuilder::on_request), or [`login`](crate::ClientBuilder::login), which
    /// has its [timeout](crate::config::Timeouts::login) if that is longer. Until it does, nothing is dialed, and
    /// no other event comes. Said once for each such call, to subscriptions and in the log, while it lasts.
    #[non_exhaustive]
    CallbackStalled {
        /// Which code: "event callback", "decision function", "backoff", "token closure", "request
        /// closure", "login hook".
        callback: &'static str,
        /// How long it has been running.
        waiting: Duration,
    },
    /// The peer has confirmed nothing for twice the
    /// [`dead_after`](crate::config::Heartbeat::dead_after), although it is alive, and messages or receipts
    /// wait for that: it answers no pings, or not with what they carry (RFC 6455 section 5.5.3).
    /// While that lasts a `send` that finds the outbox full with
    /// [`Delivery::AtLeastOnce`](crate::config::Delivery::AtLeastOnce) fails with
    /// [`Error::Unconfirmable`](crate::Error::Unconfirmable), for room comes with confirmations
    /// only. Said once for each time it happens, with [`Heartbeat::off`](crate::config::Heartbeat::off) after
    /// one to one and a half minutes.
    #[non_exhaustive]
    ConfirmationsMissing {
        /// For how long the oldest ping has had no answer.
        waiting: Duration,
    },
    /// The peer has closed a link with 1009, "message too big" (RFC 6455 section 7.4.1), which does
    /// not say which. This was the largest that it had not confirmed, so it is one of them; it is
    /// not sent again, and its receipt says
    /// [`Undelivered::TooLarge`](crate::failure::Undelivered::TooLarge). It comes before the event of the
    /// link's end, unless a handler was running then.
    #[non_exhaustive]
    MessageTooLarge {
        /// Its size in bytes.
        size: usize,
        /// The message itself, unless it was written whole and would not have been sent again
        /// anyway ([`Delivery::AtMostOnce`](crate::config::Delivery::AtMostOnce)).
        message: Option<Message>,
    },
    /// No further attempt will be made until [`reconnect`](crate::Client::reconnect).
    #[non_exhaustive]
    GaveUp {
        /// The last failure.
        cause: Arc<Failure>,
        /// How many attempts failed in a row.
        attempts: u32,
    },
    /// The client is closed for good. This is the last event.
    #[non_exhaustive]
    Closed {
        /// Whether the closing handshake was completed (RFC 6455 section 7.1.4). False also
        /// when there was no link to close.
        clean: bool,
        /// Messages that were accepted and not delivered:
        /// [`CloseReport::undelivered`](crate::CloseReport::undelivered).
        undelivered: usize,
    },
}

impl Event {
    pub(crate) fn noticed(notice: Notice) -> Self {
        match notice {
            Notice::Stalled(waiting) => Self::ReceiverStalled { waiting },
            Notice::Unconfirmed(waiting) => Self::ConfirmationsMissing { waiting },
        }
    }

    /// What happened, in a word that does not change: `connecting`, `connected`, `disconnected`,
    /// `attempt_failed`, `receiver_stalled`, `callback_stalled`, `confirmations_missing`, `message_too_large`, `gave_up`
    /// or `closed`. For logs and labels; the `Display` of an event is for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connecting { .. } => "connecting",
            Self::Connected { .. } => "connected",
            Self::Disconnected { .. } => "disconnected",
            Self::AttemptFailed { .. } => "attempt_failed",
            Self::ReceiverStalled { .. } => "receiver_stalled",
            Self::CallbackStalled { .. } => "callback_stalled",
            Self::ConfirmationsMissing { .. } => "confirmations_missing",
            Self::MessageTooLarge { .. } => "message_too_large",
            Self::GaveUp { .. } => "gave_up",
            Self::Closed { .. } => "closed",
        }
    }

    pub(super) fn level(&self) -> Level {
        match self {
            Self::Connecting { .. } | Self::Connected { .. } | Self::Closed { .. } => Level::Info,
            Self::Disconnected { .. }
            | Self::AttemptFailed { .. }
            | Self::ReceiverStalled { .. }
            | Self::CallbackStalled { .. }
            | Self::ConfirmationsMissing { .. } => Level::Warn,
            Self::MessageTooLarge { .. } | Self::GaveUp { .. } => Level::Error,
        }
    }

    /// What there is to say of it beside `event`, by name: in log records and in JSON. Times
    /// are in seconds, and what does not apply is null.
    pub(super) fn fields(&self) -> Vec<(&'static str, Value<'_>)> {
        match self {
            Self::Connecting { attempt, endpoint, .. } => {
                vec![("attempt", (*attempt).into()), ("endpoint", endpoint.as_str().into())]
            }
            Self::Connected {
                link,
                attempts,
                downtime,
                endpoint,
                response,
                compression,
                session,
                ..
            } => {
                let subprotocol = response.as_ref().and_then(|response| {
                    response.headers().get(SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()
                });
                let (start, resent, in_doubt) = match session {
                    SessionStart::None => ("none", None, None),
                    SessionStart::New => ("new", None, None),
                    SessionStart::Resumed { resent } => ("resumed", Some(*resent), None),
                    SessionStart::Replaced { in_doubt } => ("replaced", None, Some(*in_doubt)),
                };
                vec![
                    ("link", (*link).into()),
                    ("attempts", (*attempts).into()),
                    ("downtime", downtime.as_secs_f64().into()),
                    ("endpoint", endpoint.as_str().into()),
                    ("subprotocol", or_null(subprotocol)),
                    ("compressed", compression.is_some().into()),
                    ("session_start", start.into()),
                    ("resent", or_null(resent)),
                    ("in_doubt", or_null(in_doubt)),
                ]
            }
            Self::Disconnected {
                link,
                cause,
                endpoint,
                uptime,
                unconfirmed,
                will_be_resent,
                resumable,
                next,
                ..
            } => vec![
                ("link", (*link).into()),
                ("endpoint", endpoint.as_str().into()),
                ("uptime", uptime.as_secs_f64().into()),
                ("unconfirmed", (*unconfirmed).into()),
                ("will_be_resent", (*will_be_resent).into()),
                ("resumable", (*resumable).into()),
                ("cause", Value::from_display(cause)),
                ("kind", cause.kind().as_str().into()),
                ("next", next.word().into()),
                ("delay", or_null(next.delay())),
            ],
            Self::AttemptFailed { attempts, endpoint, cause, next, .. } => vec![
                ("attempts", (*attempts).into()),
                ("endpoint", endpoint.as_str().into()),
                ("cause", Value::from_display(cause)),
                ("kind", cause.kind().as_str().into()),
                ("next", next.word().into()),
                ("delay", or_null(next.delay())),
            ],
            Self::ReceiverStalled { waiting, .. } | Self::ConfirmationsMissing { waiting, .. } => {
                vec![("waiting", waiting.as_secs_f64().into())]
            }
            Self::CallbackStalled { callback, waiting, .. } => {
                vec![("callback", (*callback).into()), ("waiting", waiting.as_secs_f64().into())]
            }
            Self::MessageTooLarge { size, .. } => vec![("size", (*size).into())],
            Self::GaveUp { cause, attempts, .. } => vec![
                ("attempts", (*attempts).into()),
                ("cause", Value::from_display(cause)),
                ("kind", cause.kind().as_str().into()),
            ],
            Self::Closed { clean, undelivered, .. } => {
                vec![("clean", (*clean).into()), ("undelivered", (*undelivered).into())]
            }
        }
    }
}

fn or_null<'v>(value: Option<impl Into<Value<'v>>>) -> Value<'v> {
    value.map_or_else(Value::null, Into::into)
}

fn messages(count: usize) -> String {
    if count == 1 { "1 message".into() } else { format!("{count} messages") }
}

/// One line for people, without what the peer sent but for its reasons.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connecting { attempt, endpoint, .. } => {
                write!(f, "connecting to {endpoint} (attempt {attempt})")
            }
            Self::Connected { attempts, endpoint, session, .. } => {
                write!(f, "connected to {endpoint} (attempt {attempts})")?;
                match session {
                    SessionStart::Resumed { resent } => {
                        write!(f, "; the session goes on, {} sent again", messages(*resent))
                    }
                    SessionStart::Replaced { in_doubt } => {
                        write!(f, "; the session is over, {} in doubt", messages(*in_doubt))
                    }
                    SessionStart::New | SessionStart::None => Ok(()),
                }
            }
            Self::Disconnected {
                cause,
                uptime,
                next,
                unconfirmed,
                will_be_resent,
                resumable,
                ..
            } => {
                write!(f, "disconnected after {uptime:.1?}: {cause}; ")?;
                if *unconfirmed > 0 && !will_be_resent && !resumable {
                    write!(f, "{unconfirmed} unconfirmed; ")?;
                }
                write!(f, "{next}")
            }
            Self::AttemptFailed { attempts, cause, next, .. } => {
                write!(f, "attempt {attempts} failed: {cause}; {next}")
            }
            Self::ReceiverStalled { waiting, .. } => {
                write!(
                    f,
                    "the program has taken no message for {waiting:.1?}, and nothing is read meanwhile"
                )
            }
            Self::CallbackStalled { callback, waiting, .. } => {
                write!(f, "the {callback} has not returned for {waiting:.1?}")
            }
            Self::ConfirmationsMissing { waiting, .. } => {
                write!(
                    f,
                    "the peer is alive and has confirmed nothing for {waiting:.1?}: it does not \
                     answer pings as it should"
                )
            }
            Self::MessageTooLarge { size, .. } => {
                write!(
                    f,
                    "a message of {size} bytes is too large for the peer, and is not sent again"
                )
            }
            Self::GaveUp { cause, attempts, .. } => {
                let plural = if *attempts == 1 { "" } else { "s" };
                write!(f, "gave up after {attempts} attempt{plural}, until reconnect(): {cause}")
            }
            Self::Closed { undelivered: 0, .. } => f.write_str("closed"),
            Self::Closed { undelivered, .. } => {
                write!(f, "closed with {} undelivered", messages(*undelivered))
            }
        }
    }
}

/// A flat record: `event` (its [`name`](Event::name)), and the keys that its
/// [log record](crate#logging) has, those left out that do not apply. Times are in seconds. A cause is the
/// text `cause` and the word `kind`; what comes next is the word `next` (`redial`, `give_up`, `close`) and
/// the `delay` of a redial; of the server's answer there is the `subprotocol`, if one was agreed on; how the
/// session began is the word `session_start` (`none`, `new`, `resumed`, `replaced`). Messages and headers are
/// never part of it.
///
/// ```no_run
/// use everlink::{Client, Event};
/// use serde::Serialize;
///
/// #[derive(Serialize)]
/// struct Line<'e> {
///     client: u64,
///     #[serde(flatten)]
///     event: &'e Event,
/// }
///
/// let client = Client::builder("ws://localhost:9001")
///     // {"client":1,"event":"connecting","attempt":1,"endpoint":"ws://localhost:9001/"}
///     .on_event(|client, event| match serde_json::to_string(&Line { client: client.id(), event }) {
///         Ok(line) => eprintln!("{line}"),
///         Err(error) => eprintln!("{error}"),
///     })
///     .start()?;
/// # Ok::<(), everlink::Error>(())
/// ```
#[cfg(feature = "serde")]
impl serde::Serialize for Event {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;

        let mut record = to.serialize_map(None)?;
        record.serialize_entry("event", self.name())?;
        for (key, value) in self.fields() {
            let mut entry = Entry { record: &mut record, key, result: Ok(()) };
            // the error is in the result
            let _ = value.visit(&mut entry);
            entry.result?;
        }
        record.end()
    }
}

/// Puts the value that it is shown into the record.
#[cfg(feature = "serde")]
struct Entry<'r, M: serde::ser::SerializeMap> {
    record: &'r mut M,
    key: &'static str,
    result: Result<(), M::Error>,
}

#[cfg(feature = "serde")]
impl<M: serde::ser::SerializeMap> Entry<'_, M> {
    fn put<T: serde::Serialize + ?Sized>(&mut self, value: &T) -> Result<(), log::kv::Error> {
        self.result = self.record.serialize_entry(self.key, value);
        Ok(())
    }
}

#[cfg(feature = "serde")]
impl<'v, M: serde::ser::SerializeMap> log::kv::VisitValue<'v> for Entry<'_, M> {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), log::kv::Error> {
        self.put(&value.to_string())
    }

    fn visit_null(&mut self) -> Result<(), log::kv::Error> {
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), log::kv::Error> {
        self.put(&value)
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), log::kv::Error> {
        self.put(&value)
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), log::kv::Error> {
        self.put(&value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A new event does not compile here: put it into `one_of_each`, too.
    fn place(event: &Event) -> usize {
        match event {
            Event::Connecting { .. } => 0,
            Event::Connected { .. } => 1,
            Event::Disconnected { .. } => 2,
            Event::AttemptFailed { .. } => 3,
            Event::ReceiverStalled { .. } => 4,
            Event::CallbackStalled { .. } => 5,
            Event::ConfirmationsMissing { .. } => 6,
            Event::MessageTooLarge { .. } => 7,
            Event::GaveUp { .. } => 8,
            Event::Closed { .. } => 9,
        }
    }

    fn one_of_each() -> Vec<Event> {
        let cause = || Arc::new(Failure::Interrupted);
        let (endpoint, next, time) = (String::new, Next::GiveUp, Duration::ZERO);
        vec![
            Event::Connecting { attempt: 1, endpoint: endpoint() },
            Event::Connected {
                link: 1,
                attempts: 1,
                downtime: time,
                endpoint: endpoint(),
                response: None,
                compression: None,
                session: SessionStart::None,
            },
            Event::Disconnected {
                link: 1,
                cause: cause(),
                endpoint: endpoint(),
                uptime: time,
                unconfirmed: 0,
                will_be_resent: false,
                resumable: false,
                next,
            },
            Event::AttemptFailed { attempts: 1, endpoint: endpoint(), cause: cause(), next },
            Event::ReceiverStalled { waiting: time },
            Event::CallbackStalled { callback: "", waiting: time },
            Event::ConfirmationsMissing { waiting: time },
            Event::MessageTooLarge { size: 1, message: None },
            Event::GaveUp { cause: cause(), attempts: 1 },
            Event::Closed { clean: true, undelivered: 0 },
        ]
    }

    /// What stands between backticks.
    fn words(cell: &str) -> Vec<&str> {
        cell.split('`').skip(1).step_by(2).collect()
    }

    #[test]
    fn the_docs_have_the_level_and_the_keys_of_every_event() {
        let rows = include_str!("../lib.rs").lines().filter(|line| line.starts_with("//! | `"));
        let rows: Vec<Vec<&str>> = rows.map(|row| row.split(" | ").collect()).collect();
        for (place, event) in one_of_each().into_iter().enumerate() {
            assert_eq!(self::place(&event), place, "{}", event.name());
            let row = rows.iter().find(|row| words(row[1]).contains(&event.name()));
            let row = row.unwrap_or_else(|| panic!("{} is not in the docs", event.name()));
            assert_eq!(words(row[2]), [event.level().as_str().to_lowercase()], "{}", event.name());
            let (mut said, mut keys) = (words(row[3]), Vec::new());
            keys.extend(event.fields().into_iter().map(|(key, _)| key));
            said.sort_unstable();
            keys.sort_unstable();
            assert_eq!(said, keys, "{}", event.name());
        }
    }
}

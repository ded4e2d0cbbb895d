//! Events as records, for logs that machines read.

use std::time::Duration;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::{Event, Next, SessionStart};
use crate::failure::Failure;

/// A flat record: `event` (its [`name`](Event::name)), `client`, and what there is to say, under the
/// names of the fields. Times are in seconds. A cause is the text `cause` and the word `kind`; what
/// comes next is the word `next` (`redial`, `give_up`, `close`) and the `delay` of a redial; of the
/// server's answer there is the `subprotocol`, if one was agreed on; of a session that can be resumed
/// the word `session` (`new`, `resumed`, `replaced`). Messages and headers are never
/// part of it.
///
/// ```no_run
/// use everlink::Client;
///
/// let client = Client::builder("ws://localhost:9001")
///     // {"event":"connecting","client":1,"attempt":1,"endpoint":"ws://localhost:9001/"}
///     .on_event(|event| match serde_json::to_string(event) {
///         Ok(line) => eprintln!("{line}"),
///         Err(error) => eprintln!("{error}"),
///     })
///     .start()?;
/// # Ok::<(), everlink::Error>(())
/// ```
impl Serialize for Event {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut record = Record(to.serialize_map(None)?);
        record.put("event", self.name())?;
        record.put("client", &self.client())?;
        match self {
            Self::Connecting { attempt, endpoint, .. } => {
                record.put("attempt", attempt)?;
                record.put("endpoint", endpoint)?;
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
                record.put("link", link)?;
                record.put("attempts", attempts)?;
                record.time("downtime", *downtime)?;
                record.put("endpoint", endpoint)?;
                let headers = response.as_ref().map(|response| response.headers());
                let subprotocol =
                    headers.and_then(|headers| headers.get(http::header::SEC_WEBSOCKET_PROTOCOL));
                if let Some(subprotocol) = subprotocol.and_then(|value| value.to_str().ok()) {
                    record.put("subprotocol", subprotocol)?;
                }
                record.put("compressed", &compression.is_some())?;
                match session {
                    SessionStart::None => {}
                    SessionStart::New => record.put("session", "new")?,
                    SessionStart::Resumed { resent } => {
                        record.put("session", "resumed")?;
                        record.put("resent", resent)?;
                    }
                    SessionStart::Replaced { in_doubt } => {
                        record.put("session", "replaced")?;
                        record.put("in_doubt", in_doubt)?;
                    }
                }
            }
            Self::Disconnected {
                link,
                cause,
                endpoint,
                uptime,
                unconfirmed,
                will_be_resent,
                next,
                ..
            } => {
                record.put("link", link)?;
                record.put("endpoint", endpoint)?;
                record.time("uptime", *uptime)?;
                record.put("unconfirmed", unconfirmed)?;
                record.put("will_be_resent", will_be_resent)?;
                record.cause(cause)?;
                record.next(*next)?;
            }
            Self::AttemptFailed { attempts, endpoint, cause, next, .. } => {
                record.put("attempts", attempts)?;
                record.put("endpoint", endpoint)?;
                record.cause(cause)?;
                record.next(*next)?;
            }
            Self::ReceiverStalled { waiting, .. } | Self::ConfirmationsMissing { waiting, .. } => {
                record.time("waiting", *waiting)?;
            }
            Self::CallbackStalled { callback, waiting, .. } => {
                record.put("callback", callback)?;
                record.time("waiting", *waiting)?;
            }
            Self::MessageTooLarge { size, .. } => record.put("size", size)?,
            Self::GaveUp { cause, attempts, .. } => {
                record.put("attempts", attempts)?;
                record.cause(cause)?;
            }
            Self::Closed { clean, undelivered, .. } => {
                record.put("clean", clean)?;
                record.put("undelivered", undelivered)?;
            }
        }
        record.0.end()
    }
}

struct Record<M>(M);

impl<M: SerializeMap> Record<M> {
    fn put<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), M::Error> {
        self.0.serialize_entry(name, value)
    }

    fn time(&mut self, name: &str, time: Duration) -> Result<(), M::Error> {
        self.put(name, &time.as_secs_f64())
    }

    fn cause(&mut self, cause: &Failure) -> Result<(), M::Error> {
        self.put("cause", &cause.to_string())?;
        self.put("kind", cause.kind().as_str())
    }

    fn next(&mut self, next: Next) -> Result<(), M::Error> {
        self.put(
            "next",
            match next {
                Next::Redial { .. } => "redial",
                Next::GiveUp => "give_up",
                Next::Close => "close",
            },
        )?;
        match next {
            Next::Redial { delay } => self.time("delay", delay),
            Next::GiveUp | Next::Close => Ok(()),
        }
    }
}

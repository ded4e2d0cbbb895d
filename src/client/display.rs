//! What people are shown.

use std::fmt;

use super::{Event, Next, SessionStart, State};

/// A word or two: `connected`, `backing off`.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::BackingOff => "backing off",
            Self::GaveUp => "gave up",
            Self::Disconnected => "disconnected",
            Self::Closing => "closing",
            Self::Closed => "closed",
        })
    }
}

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redial { delay } if delay.is_zero() => f.write_str("redial at once"),
            Self::Redial { delay } => write!(f, "redial in {delay:.1?}"),
            Self::GiveUp => f.write_str("no redial"),
            Self::Close => f.write_str("closing"),
        }
    }
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

//! Why a call failed.

use std::io;
use std::sync::Arc;

use crate::failure::{Chain, Failure, OneLine, quote};
use crate::message::{CloseCode, CloseFrame};
use crate::policy::Undelivered;

/// Why a call on a [`Client`](crate::Client), a [`Session`](crate::Session) or a builder failed.
///
/// What happened to the connection itself is a [`Failure`]. Its `Display` is one printable line
/// that says why, sources included; `source` has them one by one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL cannot be dialed.
    #[error("invalid url: {}", OneLine(.reason))]
    InvalidUrl {
        /// What is wrong with it. The URL itself is not repeated: it may hold credentials.
        reason: String,
    },
    /// The URL asks for TLS and this build has none.
    #[error("{scheme}:// needs TLS, which is not built in: enable the feature tls")]
    TlsUnavailable {
        /// The scheme of the URL.
        scheme: &'static str,
    },
    /// A setting has a value that cannot work.
    #[error("invalid setting {setting}: {}", OneLine(.reason))]
    InvalidSetting {
        /// The name of the builder's method.
        setting: &'static str,
        /// What is wrong with the value.
        reason: String,
    },
    /// A setting by key ([`config::Options`](crate::config), with the feature `serde`) that is none, or whose
    /// value is none.
    #[error("invalid option {}: {}", OneLine(.key), OneLine(.reason))]
    InvalidOption {
        /// The key.
        key: Box<str>,
        /// The value and what is allowed.
        reason: Box<str>,
    },
    /// A header that HTTP does not allow, or one that the opening handshake sets itself.
    #[error("invalid header {}: {}", quote(.name), OneLine(.reason))]
    InvalidHeader {
        /// The name as it was given. The value is not repeated: it may be a secret.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A close code that must not be sent, or a reason of more than 123 bytes or with control characters.
    #[error("invalid close frame: {}", OneLine(.reason))]
    InvalidClose {
        /// What is wrong with it.
        reason: String,
    },
    /// The first attempt of [`Client::connect`](crate::Client::connect) failed.
    #[error("the first attempt failed: {0}")]
    Connect(#[source] Arc<Failure>),
    /// The message is larger than the limit; nothing was queued.
    #[error("message of {size} bytes is over the limit of {limit}")]
    #[non_exhaustive]
    MessageTooLarge {
        /// The size of the message in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// This connection cannot carry the message; nothing was queued. Its framing cannot, or it is a question
    /// of a [`CallsInOrder`](crate::CallsInOrder) that is in use on another connection.
    #[error("unsendable message: {reason}")]
    #[non_exhaustive]
    Unsendable {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The session does not join the topic ([`Session::join`](crate::Session::join)).
    #[error("topic refused: {reason}")]
    #[non_exhaustive]
    TopicRefused {
        /// Which bound it would break.
        reason: &'static str,
    },
    /// The outbox is full and its policy, or the calling thread, does not allow to wait.
    #[error("the outbox is full")]
    Full,
    /// The peer has not confirmed this many messages: not in time, or not any more.
    #[error("{count} messages are not confirmed")]
    #[non_exhaustive]
    Unconfirmed {
        /// How many.
        count: usize,
    },
    /// This connection has no confirmations: on framed TCP the heartbeat has no answer that comes in
    /// order; or the peer does not answer pings as it should, and the outbox is full of messages
    /// that wait for that ([`Event::ConfirmationsMissing`](crate::Event::ConfirmationsMissing)).
    #[error(
        "this connection has no confirmations: its pings or beats have no answer that comes in order"
    )]
    Unconfirmable,
    /// What became of a message of which the program holds the receipt.
    #[error("the message was not delivered: {0}")]
    Undelivered(#[source] Undelivered),
    /// A call with this key has no answer yet: [`Calls::call`](crate::Calls::call).
    #[error("a call with this key has no answer yet")]
    KeyInUse,
    /// The last answer to this question was taken, or there was none: [`Waiting::wait`](crate::Waiting::wait).
    #[error("no more answers come to this question")]
    NoMoreAnswers,
    /// The time given to the call ran out.
    #[error("timed out")]
    Timeout,
    /// The client has given up; [`reconnect`](crate::Client::reconnect) resumes.
    #[error("gave up, until reconnect(): {0}")]
    GaveUp(#[source] Arc<Failure>),
    /// The wait would never end: what it waits for goes elsewhere, or has to be done by the very
    /// thread that would wait. Nothing was sent or received, unless the call says otherwise.
    #[error("would wait for ever: {reason}")]
    #[non_exhaustive]
    WouldWaitForever {
        /// Why nothing would come.
        reason: &'static str,
    },
    /// There is no link, and the message was for this one only
    /// ([`SendOptions::this_link_only`](crate::config::SendOptions::this_link_only)); nothing was queued.
    /// Or a question's answer cannot come any more ([`Waiting::wait`](crate::Waiting::wait)).
    #[error("not connected: the link that this was for is gone, or there is none")]
    NotConnected,
    /// The client or session is closed for good.
    #[error("closed")]
    Closed,
    /// The address could not be listened on.
    #[error("could not listen: {}", Chain(.0))]
    Bind(#[source] io::Error),
    /// The server has no room for a connection that the program has
    /// [accepted](crate::ServerHandle::adopt).
    #[error("the connection is refused: {reason}")]
    #[non_exhaustive]
    Refused {
        /// Why.
        reason: &'static str,
    },
    /// The system refused a thread.
    #[error("could not start a thread: {}", Chain(.0))]
    Thread(#[source] io::Error),
}

impl Error {
    /// What is waited for needs this thread, which runs the program's code for the connection.
    pub(crate) fn on_own_thread() -> Self {
        let reason = "this thread runs a handler, hook or callback of the connection, and what is \
                      waited for comes after it has returned: wait on a thread of the program's own";
        Self::WouldWaitForever { reason }
    }

    /// Refuses the first of these settings that is set: it can have no effect, and why.
    pub(crate) fn no_effect(why: &str, settings: &[(&'static str, bool)]) -> Result<(), Self> {
        match settings.iter().find(|(_, is_set)| *is_set) {
            Some((setting, _)) => {
                Err(Self::setting(setting, format!("it can have no effect: {why}")))
            }
            None => Ok(()),
        }
    }

    /// This key has a value that it cannot have, or is none.
    #[cfg(feature = "serde")]
    pub(crate) fn option(key: &str, reason: impl Into<Box<str>>) -> Self {
        Self::InvalidOption { key: key.into(), reason: reason.into() }
    }

    /// This setting cannot be as it is.
    pub(crate) fn setting(setting: &'static str, reason: impl Into<String>) -> Self {
        Self::InvalidSetting { setting, reason: reason.into() }
    }
}

/// A close frame that may be sent.
pub(crate) fn close_frame(code: CloseCode, reason: &str) -> Result<CloseFrame, Error> {
    if !code.is_sendable() {
        return Err(Error::InvalidClose { reason: format!("code {code} must not be sent") });
    }
    if reason.len() > CloseFrame::MAX_REASON {
        let (size, limit) = (reason.len(), CloseFrame::MAX_REASON);
        let reason = format!("a reason of {size} bytes is over the limit of {limit}");
        return Err(Error::InvalidClose { reason });
    }
    if reason.contains(char::is_control) {
        return Err(Error::InvalidClose { reason: "a control character in the reason".into() });
    }
    Ok(CloseFrame::new(code, reason))
}

#[cfg(test)]
mod tests;

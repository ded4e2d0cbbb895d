//! Why a link died or an attempt failed.

use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderMap, StatusCode};

use super::tls::{self, TlsError};
use super::{Body, Chain, Decision, FailureKind, HandshakeError, OneLine, ProxyError, quote};
use crate::message::{CloseCode, CloseFrame};
use crate::sync::caught;

/// Why a link died, or why an attempt to make one failed.
///
/// Its `Display` is one printable line that says why, sources included; `source` has them one by
/// one.
///
/// [`Failure::decision`] is what the client does about it unless the program decides otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The host's name could not be resolved, or not in time.
    #[error("name lookup of {} failed: {}", quote(.host), Chain(.source))]
    #[non_exhaustive]
    Dns {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// No TCP connection to any address of the host; this is the last address tried.
    #[error("could not connect to {address}: {}", Chain(.source))]
    #[non_exhaustive]
    Connect {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The opening handshake (RFC 6455 section 4) failed before there was an HTTP status.
    #[error("opening handshake failed: {0}")]
    Handshake(#[source] HandshakeError),
    /// The connector of the program failed, or was not done in time.
    #[error("could not connect: {}", Chain(.0))]
    Connector(#[source] io::Error),
    /// The proxy did not connect to the server.
    #[error("the proxy did not connect: {0}")]
    Proxy(#[source] ProxyError),
    /// TLS could not be agreed on, or broke later.
    #[error("tls failed: {0}")]
    Tls(#[source] TlsError),
    /// The local address that the program has chosen cannot be used.
    #[error("could not dial from the local address {address}: {}", Chain(.source))]
    #[non_exhaustive]
    LocalAddress {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The server answered the opening handshake with another status than 101.
    #[error("the server answered {status}{}", waiting(*.retry_after, *.waits))]
    #[non_exhaustive]
    Rejected {
        /// The status.
        status: StatusCode,
        /// The headers of the response. Those that carry secrets are marked so, and `Debug` does
        /// not show their values.
        headers: Box<HeaderMap>,
        /// How long the server asked to wait (`Retry-After`, RFC 9110 section 10.2.3).
        retry_after: Option<Duration>,
        /// How much of that the client is willing to wait:
        /// [`max_retry_after`](crate::ClientBuilder::max_retry_after) at most.
        waits: Option<Duration>,
        /// The beginning of what the server said beside the headers.
        body: Body,
    },
    /// The login hook refused the connection.
    #[error("login failed: {}", Chain(.source.as_ref()))]
    #[non_exhaustive]
    Login {
        /// What the hook wants to follow, if it has said so with a [`LoginError`](crate::LoginError).
        /// [`decide`](crate::ClientBuilder::decide) has the last word.
        decision: Option<Decision>,
        /// What the hook said.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The closure that makes the request failed.
    #[error("the request could not be made: {}", Chain(.0.as_ref()))]
    Request(#[source] Box<dyn StdError + Send + Sync>),
    /// Reading or writing failed: a reset, most often.
    #[error("connection lost: {}", Chain(.0))]
    Io(#[source] io::Error),
    /// The stream ended without a close frame; the RFC reports this as code 1006. Over TLS it is
    /// the same whether the peer ended TLS before (with a `close_notify`) or not.
    #[error("the peer ended the stream without a close frame")]
    ClosedAbnormally,
    /// The peer ended the stream of a connection that has no close frames (`tcp://`).
    #[error("the peer ended the stream{}", ending(*.inside_message, *.cut_off))]
    #[non_exhaustive]
    EndOfStream {
        /// Whether part of a message had come.
        inside_message: bool,
        /// Whether the peer had not ended TLS before (with a `close_notify`), so that anybody on
        /// the way may have cut it off. Many peers do that; never without TLS.
        cut_off: bool,
    },
    /// The peer closed the connection with a close frame.
    #[error("closed by the peer: {}", close_text(.0.as_ref()))]
    Closed(Option<CloseFrame>),
    /// This side closed the connection; with this close frame, where the protocol has them.
    #[error("closed here{}", .0.as_ref().map(|frame| format!(": {frame}")).unwrap_or_default())]
    ClosedHere(Option<CloseFrame>),
    /// Nothing came from the peer for the heartbeat's limit.
    #[error("nothing heard from the peer for {silence:.1?}{}", unanswered_pings(*.unanswered))]
    #[non_exhaustive]
    HeartbeatTimeout {
        /// How long nothing came.
        silence: Duration,
        /// How many pings, or beats, went out meanwhile.
        unanswered: u64,
    },
    /// The peer took no byte for the write timeout, and sent none either.
    #[error("the peer took nothing for {timeout:?}")]
    #[non_exhaustive]
    WriteTimeout {
        /// The timeout.
        timeout: Duration,
    },
    /// The peer broke the WebSocket protocol; it was told so with this close code.
    #[error("protocol violation (close code {code}): {}", OneLine(.reason))]
    #[non_exhaustive]
    Protocol {
        /// 1002, 1003, 1007 or 1009.
        code: CloseCode,
        /// What the peer did.
        reason: String,
    },
    /// The peer broke the [`Framing`](crate::config::Framing): a message over the limit, a length that
    /// cannot be one, or what a codec of the program's finds no packet in. So does a codec that panics.
    /// The next connection starts at the beginning of a message, so this is retried.
    #[error("framing violation: {}", OneLine(.reason))]
    #[non_exhaustive]
    Framing {
        /// What the peer did.
        reason: String,
    },
    /// Code of the program panicked on one of the library's threads.
    #[error("{place} panicked: {}", OneLine(.message))]
    #[non_exhaustive]
    Panicked {
        /// Which code: "handler", "login hook", ...
        place: &'static str,
        /// What it said.
        message: String,
    },
    /// The system refused a thread.
    #[error("could not start a thread: {}", Chain(.0))]
    Thread(#[source] io::Error),
    /// The program ended the link with [`end_link`](crate::Sender::end_link), for this reason.
    #[error("ended by the program: {}", OneLine(.0))]
    Ended(String),
    /// The program asked for a new link with [`reconnect`](crate::Client::reconnect).
    #[error("reconnect requested by the program")]
    ReconnectRequested,
    /// A broadcast found the session's outbox full, and
    /// [`SlowSession::Disconnect`](crate::config::SlowSession::Disconnect) is the server's policy.
    #[error("too slow: a broadcast found its outbox full")]
    TooSlow,
    /// The session that was to survive its connection did not: its client has not come back to
    /// this server within the window ([`Resume::within`](crate::config::Resume::within)).
    #[error("the session could not be resumed")]
    NotResumed,
    /// Other sessions needed the room that this one took without a connection:
    /// [`Resume::sessions`](crate::config::Resume::sessions), [`Resume::bytes`](crate::config::Resume::bytes)
    /// and [`ServerBuilder::memory_limit`](crate::ServerBuilder::memory_limit).
    #[error("evicted while it waited for its client")]
    Evicted,
    /// The program ended the session without a goodbye:
    /// [`Session::abort`](crate::Session::abort).
    #[error("aborted by the program")]
    Aborted,
    /// This side closed while it was dialing or opening, or the peer had not answered when the
    /// time for closing was over.
    #[error("interrupted by close")]
    Interrupted,
}

fn close_text(frame: Option<&CloseFrame>) -> String {
    frame.map_or_else(|| "no code".into(), ToString::to_string)
}

fn waiting(asked: Option<Duration>, waits: Option<Duration>) -> String {
    match (asked, waits) {
        (Some(asked), Some(waits)) if asked > waits => {
            format!(" and asked to wait {asked:?}, of which {waits:?} are granted")
        }
        _ => String::new(),
    }
}

fn unanswered_pings(count: u64) -> String {
    match count {
        // it was not asked
        0 => String::new(),
        1 => " (1 ping unanswered)".into(),
        more => format!(" ({more} pings unanswered)"),
    }
}

fn ending(inside_message: bool, cut_off: bool) -> &'static str {
    match (inside_message, cut_off) {
        (false, false) => "",
        (true, false) => " inside a message",
        (false, true) => " without ending TLS: it may have been cut off",
        (true, true) => " inside a message and without ending TLS: it was cut off",
    }
}

impl From<HandshakeError> for Failure {
    fn from(error: HandshakeError) -> Self {
        if let HandshakeError::Io(error) = &error {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                return Self::Handshake(HandshakeError::Eof);
            }
            if let Some(verdict) = tls::verdict(error) {
                return Self::Tls(verdict);
            }
        }
        Self::Handshake(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        // what went wrong below, on its way up through the traits of std
        let error = match error.downcast() {
            Ok(failure) => return failure,
            Err(error) => error,
        };
        match tls::verdict(&error) {
            Some(verdict) => Self::Tls(verdict),
            None => Self::Io(error),
        }
    }
}

impl Failure {
    /// What kind of a failure it is, for labels.
    ///
    /// ```
    /// use everlink::failure::FailureKind;
    /// use everlink::Failure;
    ///
    /// let kind = Failure::ClosedAbnormally.kind();
    /// assert_eq!(kind, FailureKind::Lost);
    /// assert_eq!(kind.as_str(), "lost");
    /// ```
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Dns { .. } => FailureKind::Dns,
            Self::Connect { .. } | Self::Connector(_) | Self::Proxy(_) => FailureKind::Connect,
            Self::Tls(_) => FailureKind::Tls,
            Self::Handshake(_) => FailureKind::Handshake,
            Self::Rejected { .. } => FailureKind::Rejected,
            Self::Login { .. } | Self::Request(_) => FailureKind::Login,
            Self::Io(_)
            | Self::ClosedAbnormally
            | Self::EndOfStream { .. }
            | Self::NotResumed
            | Self::Evicted => FailureKind::Lost,
            Self::Closed(_) => FailureKind::ClosedByPeer,
            Self::ClosedHere(_)
            | Self::Ended(_)
            | Self::ReconnectRequested
            | Self::Interrupted
            | Self::Aborted => FailureKind::ClosedHere,
            Self::HeartbeatTimeout { .. } => FailureKind::Silent,
            Self::WriteTimeout { .. } | Self::TooSlow => FailureKind::Stuck,
            Self::Protocol { .. } | Self::Framing { .. } => FailureKind::Protocol,
            Self::Panicked { .. } => FailureKind::Program,
            Self::Thread(_) | Self::LocalAddress { .. } => FailureKind::System,
        }
    }

    /// What the client does about this failure unless
    /// [`ClientBuilder::decide`](crate::ClientBuilder::decide) says otherwise.
    ///
    /// Trying again is the rule. These end it:
    ///
    /// * the server's answer was 400, 401, 403, 404, 410 or 426, any other status below 500
    ///   except 408, 425 and 429, or an answer that is no opening handshake at all;
    /// * the peer closed with 1002, 1003, 1007, 1008, 1010, 3000 or 3003 (after 1009, "message too
    ///   big", the message in question is not sent again:
    ///   [`Event::MessageTooLarge`](crate::Event::MessageTooLarge)), but not while a session can go on
    ///   ([`ClientBuilder::resume`](crate::ClientBuilder::resume)): a close frame is not its end;
    /// * the proxy wants credentials, or other ones, or the environment names one that cannot
    ///   be used;
    /// * TLS could not be agreed on: a certificate was rejected, either side's, or there is no
    ///   common ground ([`TlsError`], all but `Broken`);
    /// * the peer broke the WebSocket protocol (not the framing of a `tcp://` connection: the next one
    ///   starts at the beginning of a message);
    /// * the login hook said so ([`LoginError`](crate::LoginError)), or was ended by one of these, or by a
    ///   1009;
    /// * a handler panicked.
    ///
    /// Close 1000 and the private codes 4000 to 4999 mean different things at different
    /// services; they are retried.
    ///
    /// ```
    /// use everlink::failure::Decision;
    /// use everlink::Failure;
    ///
    /// // the peer has gone without a goodbye: again
    /// assert_eq!(Failure::ClosedAbnormally.decision(), Decision::Retry);
    /// ```
    pub fn decision(&self) -> Decision {
        let permanent = match self {
            Self::Rejected { status, waits, .. } => {
                if let Some(delay) = waits.filter(|_| is_transient(*status)) {
                    return Decision::RetryAfter(delay);
                }
                !is_transient(*status)
            }
            Self::Handshake(error) => !matches!(
                error,
                HandshakeError::TimedOut { .. }
                    | HandshakeError::Io(_)
                    | HandshakeError::Eof
                    | HandshakeError::NoAnswer
            ),
            Self::Closed(Some(frame)) => {
                matches!(frame.code.0, 1002 | 1003 | 1007 | 1008 | 1010 | 3000 | 3003)
            }
            Self::Login { decision: None, source } => {
                // what a hook sends is as large the next time
                let is_too_large = self.close_frame().is_some_and(|frame| frame.code.0 == 1009);
                let link = source.downcast_ref::<Self>().map(Self::decision);
                is_too_large || matches!(link, Some(Decision::GiveUp))
            }
            Self::Login { decision: Some(decision), .. } => return decision.clone(),
            Self::Proxy(error) => match error {
                // some proxies say 401 to credentials that are wrong, and 407 to none
                ProxyError::Rejected { status, .. } => matches!(status.as_u16(), 401 | 407),
                ProxyError::Credentials | ProxyError::Unusable(_) => true,
                _ => false,
            },
            Self::Protocol { .. } => true,
            Self::Tls(error) => is_permanent(error),
            Self::Panicked { place, .. } => *place == HANDLER,
            // however it got here: a server that does not want us will not want us next time
            Self::Io(error) => tls::verdict(error).as_ref().is_some_and(is_permanent),
            _ => false,
        };
        if permanent { Decision::GiveUp } else { Decision::Retry }
    }

    /// The close frame with which the peer ended the link, during the login too
    /// ([`Failure::Closed`], alone or in [`Failure::Login`]).
    ///
    /// ```
    /// use everlink::failure::Decision;
    /// use everlink::Client;
    ///
    /// // this service closes with 4401 when a key is wrong
    /// let builder = Client::builder("wss://feed.example.org").decide(|_, failure| {
    ///     match failure.close_frame().map(|frame| frame.code.0) {
    ///         Some(4401) => Decision::GiveUp,
    ///         _ => failure.decision(),
    ///     }
    /// });
    /// # let _ = builder;
    /// ```
    pub fn close_frame(&self) -> Option<&CloseFrame> {
        match self {
            Self::Closed(frame) => frame.as_ref(),
            Self::Login { source, .. } => source.downcast_ref::<Self>()?.close_frame(),
            _ => None,
        }
    }

    /// A handshake that was cut off by its deadline says so.
    pub(crate) fn in_time(self, timeout: Duration) -> Self {
        match self {
            Self::Handshake(HandshakeError::Io(error))
                if error.kind() == io::ErrorKind::TimedOut =>
            {
                Self::Handshake(HandshakeError::TimedOut { timeout })
            }
            other => other,
        }
    }

    /// The same end of a stream, when the transport says that it had not ended before.
    pub(crate) fn cut_off(self) -> Self {
        match self {
            Self::EndOfStream { inside_message, .. } => {
                Self::EndOfStream { inside_message, cut_off: true }
            }
            other => other,
        }
    }

    /// The close code that a peer which broke the protocol is told, where there are close codes.
    pub(crate) fn told(&self) -> Option<CloseCode> {
        match self {
            Self::Protocol { code, .. } => Some(*code),
            // of packets on a WebSocket
            Self::Framing { .. } => Some(CloseCode::PROTOCOL_ERROR),
            _ => None,
        }
    }

    /// How the connection is ended for this reason.
    pub(crate) fn manner(&self) -> Manner {
        match self {
            Self::Closed(_)
            | Self::ClosedHere(_)
            | Self::ClosedAbnormally
            | Self::EndOfStream { .. }
            | Self::Protocol { .. }
            | Self::Framing { .. }
            | Self::Ended(_)
            | Self::ReconnectRequested => Manner::Orderly,
            Self::Aborted | Self::TooSlow => Manner::Aborted,
            _ => Manner::Broken,
        }
    }

    /// Whether a message that was under way may have caused it: the peer, or something on the way to
    /// it, ended the link and did not say that the reason was another one. A silence has other
    /// reasons, most of the time.
    pub(crate) fn may_come_of_a_message(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        match self {
            Self::Io(error) => matches!(
                error.kind(),
                BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
            ),
            Self::ClosedAbnormally | Self::EndOfStream { .. } => true,
            // after 1009 it is known which message it was; the others are about the peer itself
            Self::Closed(frame) => {
                let code = frame.as_ref().map(|frame| frame.code.0);
                !matches!(code, Some(1000 | 1001 | 1009 | 1012 | 1013))
            }
            _ => false,
        }
    }

    /// Whether a session that could go on is over with a link that dies of this.
    pub(crate) fn ends_session(&self) -> bool {
        matches!(
            self,
            Self::Protocol { .. }
                | Self::Framing { .. }
                | Self::Panicked { .. }
                | Self::TooSlow
                | Self::Aborted
        )
    }

    /// The code with which a session ends whose client would do the same again on every link: what is too large, or
    /// comes too fast.
    pub(crate) fn comes_again(&self) -> Option<CloseCode> {
        match self {
            Self::Protocol { code, .. }
                if matches!(*code, CloseCode::MESSAGE_TOO_BIG | CloseCode::POLICY_VIOLATION) =>
            {
                Some(*code)
            }
            _ => None,
        }
    }

    /// The same panic, in the place that turned out to be at work.
    pub(crate) fn at(self, place: &'static str) -> Self {
        match self {
            Self::Panicked { message, .. } => Self::Panicked { place, message },
            other => other,
        }
    }
}

/// The one place of the program's code whose panic is permanent: what it did to the program's
/// state is unknown, and the next message would run it again.
pub(crate) const HANDLER: &str = "handler";

fn is_permanent(error: &TlsError) -> bool {
    !matches!(error, TlsError::Broken(_))
}

fn is_transient(status: StatusCode) -> bool {
    status.is_server_error()
        || status.is_informational()
        || matches!(status.as_u16(), 408 | 425 | 429)
}

/// Runs the program's code, and makes a panic in it a failure.
pub(crate) fn guarded<T>(place: &'static str, code: impl FnOnce() -> T) -> Result<T, Failure> {
    caught(code).map_err(|message| Failure::Panicked { place, message })
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// As one side or the other wanted: what is on its way still arrives.
    Orderly,
    /// With a reset, once what had come is read.
    Broken,
    /// With a reset at once: the peer must not take the end for a goodbye.
    Aborted,
}

#[cfg(test)]
mod tests;

//! Which state a client is in, and since when.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::error::Error;
use crate::failure::Failure;
use crate::policy::AgreedCompression;
use crate::sync::{Condvar, Mutex, MutexGuard};

/// The state of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum State {
    /// An attempt is under way: name lookup, connecting, opening handshake, login.
    Connecting,
    /// The link is up.
    Connected,
    /// The delay before a redial is running.
    BackingOff,
    /// No attempt will be made until [`reconnect`](crate::Client::reconnect).
    GaveUp,
    /// The link is gone, and what had come on it is still being handled. The next attempt, or the
    /// wait for it, begins when the handler returns.
    Disconnected,
    /// The link is up, what is queued is being written, and the closing handshake follows.
    Closing,
    /// Closed for good.
    Closed,
}

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

/// What a client is doing, from [`Client::status`](crate::Client::status).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClientStatus {
    /// The state.
    pub state: State,
    /// Since when.
    pub since: Instant,
    /// The endpoint of the link, or of the last attempt, without credentials; empty before the first.
    pub endpoint: String,
    /// Why the last link ended or the last attempt failed, if any has. A link that is up does not
    /// clear it.
    pub last_failure: Option<Arc<Failure>>,
    /// When the next attempt is made, while the client [backs off](State::BackingOff).
    pub next_attempt: Option<Instant>,
    /// The server's answer to the opening handshake of the link that is up.
    pub response: Option<Arc<http::Response<()>>>,
    /// How messages are compressed on the link that is up, if they are.
    pub compression: Option<AgreedCompression>,
}

impl ClientStatus {
    /// What is known in a process that has no client.
    pub(super) fn closed() -> Self {
        Self {
            state: State::Closed,
            since: Instant::now(),
            endpoint: String::new(),
            last_failure: None,
            next_attempt: None,
            response: None,
            compression: None,
        }
    }

    /// The subprotocol of the link that is up, if one was agreed on (RFC 6455 section 1.9).
    pub fn subprotocol(&self) -> Option<&str> {
        let headers = self.response.as_ref()?.headers();
        headers.get(http::header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()
    }
}

/// What is known of a link that is up.
#[derive(Debug, Clone, Default)]
pub(crate) struct Details {
    pub(crate) response: Option<Arc<http::Response<()>>>,
    pub(crate) compression: Option<AgreedCompression>,
}

/// What a client does from here on, with all that belongs to it: a state and its details are set in
/// one step, so that nobody sees the one without the other.
#[derive(Debug)]
pub(crate) enum Step {
    /// An attempt goes to this endpoint.
    Connecting(String),
    /// A link to this endpoint is up.
    Connected(String, Details),
    /// The link to this endpoint is gone, for this reason as far as is known.
    Disconnected(String, Arc<Failure>),
    /// The next attempt is made then.
    BackingOff(Instant),
    /// No attempt follows, after this failure.
    GaveUp(Arc<Failure>),
    Closing,
    Closed,
}

/// Written by the manager thread, and by [`Status::resume`]; read and waited for by everybody.
#[derive(Debug)]
pub(crate) struct Status {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug)]
struct Inner {
    state: State,
    /// Why the client gave up.
    cause: Option<Arc<Failure>>,
    since: Instant,
    endpoint: String,
    last_failure: Option<Arc<Failure>>,
    next_attempt: Option<Instant>,
    details: Details,
    up_since: Option<Instant>,
    down_since: Instant,
    downtime: Duration,
    /// Disconnects when nothing more will be received; replaced when a client that gave up is
    /// sent off again.
    ended: (Option<Sender<Infallible>>, Receiver<Infallible>),
}

impl Status {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = bounded(0);
        let inner = Inner {
            state: State::Connecting,
            cause: None,
            since: Instant::now(),
            endpoint: String::new(),
            last_failure: None,
            next_attempt: None,
            details: Details::default(),
            up_since: None,
            down_since: Instant::now(),
            downtime: Duration::ZERO,
            ended: (Some(sender), receiver),
        };
        Self { inner: Mutex::new(inner), changed: Condvar::new() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    pub(crate) fn state(&self) -> State {
        self.inner().state
    }

    /// Whether there is a link.
    pub(crate) fn is_up_now(&self) -> bool {
        self.inner().up_since.is_some()
    }

    pub(crate) fn snapshot(&self) -> ClientStatus {
        let inner = self.inner();
        ClientStatus {
            state: inner.state,
            since: inner.since,
            endpoint: inner.endpoint.clone(),
            last_failure: inner.last_failure.clone(),
            next_attempt: inner.next_attempt,
            response: inner.details.response.clone(),
            compression: inner.details.compression,
        }
    }

    /// An attempt has failed, or more is known of why a link has died. The state stays.
    pub(crate) fn failed(&self, endpoint: String, cause: Arc<Failure>) {
        let mut inner = self.inner();
        (inner.endpoint, inner.last_failure) = (endpoint, Some(cause));
    }

    /// Moves on. Returns how long there has been no link: of interest when it is up again.
    pub(crate) fn enter(&self, step: Step) -> Duration {
        let state = step.state();
        let mut inner = self.inner();
        let now = Instant::now();
        let was_up = inner.up_since.is_some();
        let is_up = matches!(state, State::Connected | State::Closing);
        let mut down = Duration::ZERO;
        if is_up && !was_up {
            down = now.saturating_duration_since(inner.down_since);
            inner.downtime += down;
            inner.up_since = Some(now);
        } else if was_up && !is_up {
            inner.up_since = None;
            inner.down_since = now;
        } else if !was_up && state == State::Closed {
            // the last outage is over with the client
            down = now.saturating_duration_since(inner.down_since);
            inner.downtime += down;
        }
        inner.set(step);
        drop(inner);
        self.changed.notify_all();
        down
    }

    /// Leaves `GaveUp` and `Connected` at once, for calls that come right after `reconnect()` and
    /// before the manager has heard of it: they wait for the next link.
    pub(crate) fn resume(&self) {
        let mut inner = self.inner();
        if matches!(inner.state, State::GaveUp | State::Connected) {
            let endpoint = std::mem::take(&mut inner.endpoint);
            inner.set(Step::Connecting(endpoint));
        }
        drop(inner);
        self.changed.notify_all();
    }

    /// Waits for a link.
    pub(crate) fn wait_connected(&self, deadline: Option<Instant>) -> Result<(), Error> {
        let mut inner = self.inner();
        loop {
            if inner.state == State::Connected {
                return Ok(());
            }
            if let Some(error) = inner.end() {
                return Err(error);
            }
            inner = match deadline {
                None => self.changed.wait(inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(Error::Timeout);
                    }
                    self.changed.wait_timeout(inner, left)
                }
            };
        }
    }

    /// What a call meets that needs a link now or later, if there will be none.
    pub(crate) fn end(&self) -> Option<Error> {
        self.inner().end()
    }

    /// Disconnects when nothing more will be received.
    pub(crate) fn ended(&self) -> Receiver<Infallible> {
        self.inner().ended.1.clone()
    }

    /// For how long the link has been up, and for how long there was none in all.
    pub(crate) fn times(&self) -> (Option<Duration>, Duration) {
        let inner = self.inner();
        let uptime = inner.up_since.map(|since| since.elapsed());
        let now_down = match (uptime, inner.state) {
            (Some(_), _) | (None, State::Closed) => Duration::ZERO,
            (None, _) => inner.down_since.elapsed(),
        };
        (uptime, inner.downtime + now_down)
    }
}

impl Step {
    fn state(&self) -> State {
        match self {
            Self::Connecting(_) => State::Connecting,
            Self::Connected(..) => State::Connected,
            Self::Disconnected(..) => State::Disconnected,
            Self::BackingOff(_) => State::BackingOff,
            Self::GaveUp(_) => State::GaveUp,
            Self::Closing => State::Closing,
            Self::Closed => State::Closed,
        }
    }
}

impl Inner {
    fn set(&mut self, step: Step) {
        let state = step.state();
        let ends = matches!(state, State::GaveUp | State::Closed);
        if ends {
            self.ended.0 = None;
        } else if self.ended.0.is_none() {
            let (sender, receiver) = bounded(0);
            self.ended = (Some(sender), receiver);
        }
        if self.state != state {
            self.since = Instant::now();
        }
        if !matches!(state, State::Connected | State::Closing) {
            self.details = Details::default();
        }
        self.next_attempt = None;
        self.cause = None;
        self.state = state;
        match step {
            Step::Connecting(endpoint) => self.endpoint = endpoint,
            Step::Connected(endpoint, details) => {
                (self.endpoint, self.details) = (endpoint, details);
            }
            Step::Disconnected(endpoint, cause) => {
                (self.endpoint, self.last_failure) = (endpoint, Some(cause));
            }
            Step::BackingOff(due) => self.next_attempt = Some(due),
            Step::GaveUp(cause) => self.cause = Some(cause),
            Step::Closing | Step::Closed => {}
        }
    }

    fn end(&self) -> Option<Error> {
        match (self.state, &self.cause) {
            (State::Closed, _) => Some(Error::Closed),
            (State::GaveUp, Some(cause)) => Some(Error::GaveUp(Arc::clone(cause))),
            _ => None,
        }
    }
}

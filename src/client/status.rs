//! Which state a client is in, and since when.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use crate::error::Error;
use crate::failure::Failure;
use crate::policy::AgreedCompression;
use crate::sync::{Condvar, Mutex, Signal};

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
    /// The state, and nothing else yet.
    pub(super) fn of(state: State) -> Self {
        Self {
            state,
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

/// What a client does from here on, with all that belongs to it: a state and its details are set in
/// one step, so that nobody sees the one without the other.
#[derive(Debug)]
pub(super) enum Step {
    /// An attempt goes to this endpoint.
    Connecting(String),
    /// A link is up.
    Connected {
        endpoint: String,
        response: Option<Arc<http::Response<()>>>,
        compression: Option<AgreedCompression>,
    },
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
pub(super) struct Status {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug)]
struct Inner {
    shown: ClientStatus,
    up_since: Option<Instant>,
    down_since: Instant,
    /// In all, but for an outage that is not over.
    downtime: Duration,
    /// Raised when nothing more will be received; replaced when a client that gave up is sent off
    /// again.
    ended: Signal,
}

impl Status {
    pub(super) fn new() -> Self {
        let inner = Inner {
            shown: ClientStatus::of(State::Connecting),
            up_since: None,
            down_since: Instant::now(),
            downtime: Duration::ZERO,
            ended: Signal::new(),
        };
        Self { inner: Mutex::new(inner), changed: Condvar::new() }
    }

    pub(super) fn state(&self) -> State {
        self.inner.lock().shown.state
    }

    /// Whether there is a link.
    pub(super) fn is_up_now(&self) -> bool {
        self.inner.lock().up_since.is_some()
    }

    /// Whether there is a link, or a dead one that is not joined.
    pub(super) fn has_link(&self) -> bool {
        let inner = self.inner.lock();
        inner.up_since.is_some() || inner.shown.state == State::Disconnected
    }

    pub(super) fn snapshot(&self) -> ClientStatus {
        self.inner.lock().shown.clone()
    }

    /// An attempt has failed, or more is known of why a link has died. The state stays.
    pub(super) fn failed(&self, endpoint: String, cause: Arc<Failure>) {
        let mut inner = self.inner.lock();
        (inner.shown.endpoint, inner.shown.last_failure) = (endpoint, Some(cause));
    }

    /// Moves on. Returns how long there has been no link: of interest when it is up again.
    pub(super) fn enter(&self, step: Step) -> Duration {
        let mut inner = self.inner.lock();
        inner.set(step);
        let downtime = inner.keep_time();
        drop(inner);
        self.changed.notify_all();
        downtime
    }

    /// Leaves `GaveUp` and `Connected` at once, for calls that come right after `reconnect()` and
    /// before the manager has heard of it: they wait for the next link.
    pub(super) fn resume(&self) {
        let mut inner = self.inner.lock();
        if matches!(inner.shown.state, State::GaveUp | State::Connected) {
            let endpoint = std::mem::take(&mut inner.shown.endpoint);
            inner.set(Step::Connecting(endpoint));
        }
        drop(inner);
        self.changed.notify_all();
    }

    /// Waits for a link.
    pub(super) fn wait_connected(&self, deadline: Option<Instant>) -> Result<(), Error> {
        let mut inner = self.inner.lock();
        loop {
            if inner.shown.state == State::Connected {
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

    /// Why there will be no link, if there will be none.
    pub(super) fn end(&self) -> Option<Error> {
        self.inner.lock().end()
    }

    /// Disconnects when nothing more will be received.
    pub(super) fn ended(&self) -> Receiver<Infallible> {
        self.inner.lock().ended.raised().clone()
    }

    /// For how long the link has been up, and for how long there was none in all.
    pub(super) fn times(&self) -> (Option<Duration>, Duration) {
        let inner = self.inner.lock();
        let uptime = inner.up_since.map(|since| since.elapsed());
        let is_down = uptime.is_none() && inner.shown.state != State::Closed;
        let outage = if is_down { inner.down_since.elapsed() } else { Duration::ZERO };
        (uptime, inner.downtime + outage)
    }
}

impl Inner {
    fn set(&mut self, step: Step) {
        let shown = &mut self.shown;
        shown.next_attempt = None;
        if !matches!(step, Step::Closing) {
            (shown.response, shown.compression) = (None, None);
        }
        let state = match step {
            Step::Connecting(endpoint) => {
                shown.endpoint = endpoint;
                State::Connecting
            }
            Step::Connected { endpoint, response, compression } => {
                (shown.endpoint, shown.response, shown.compression) =
                    (endpoint, response, compression);
                State::Connected
            }
            Step::Disconnected(endpoint, cause) => {
                (shown.endpoint, shown.last_failure) = (endpoint, Some(cause));
                State::Disconnected
            }
            Step::BackingOff(due) => {
                shown.next_attempt = Some(due);
                State::BackingOff
            }
            Step::GaveUp(cause) => {
                shown.last_failure = Some(cause);
                State::GaveUp
            }
            Step::Closing => State::Closing,
            Step::Closed => State::Closed,
        };
        if shown.state != state {
            (shown.state, shown.since) = (state, Instant::now());
        }
        if matches!(state, State::GaveUp | State::Closed) {
            self.ended.raise();
        } else if self.ended.is_raised() {
            self.ended = Signal::new();
        }
    }

    /// Notes that a link has come up or gone. Returns the length of an outage that is over.
    fn keep_time(&mut self) -> Duration {
        let (state, now) = (self.shown.state, Instant::now());
        let is_up = matches!(state, State::Connected | State::Closing);
        match self.up_since {
            Some(_) if !is_up => (self.up_since, self.down_since) = (None, now),
            // the last outage is over with the client
            None if is_up || state == State::Closed => {
                let outage = now.saturating_duration_since(self.down_since);
                self.downtime += outage;
                self.up_since = is_up.then_some(now);
                return outage;
            }
            Some(_) | None => {}
        }
        Duration::ZERO
    }

    fn end(&self) -> Option<Error> {
        match (self.shown.state, &self.shown.last_failure) {
            (State::Closed, _) => Some(Error::Closed),
            (State::GaveUp, Some(cause)) => Some(Error::GaveUp(Arc::clone(cause))),
            _ => None,
        }
    }
}

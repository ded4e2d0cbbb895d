//! Asking the peer for a sign of life, and for what it has.

use std::io;
use std::time::{Duration, Instant};

use super::Shared;
use super::pen::Pen;
use crate::failure::guarded;
use crate::message::Message;
use crate::policy::Beat;
use crate::wire::Encoder;

/// When to ask the peer what it has: after so many messages, so many bytes or so much time with
/// something written, whichever is first, and only when no answer is outstanding. A link that has
/// just begun asks sooner: see [`Pen::ask_early`].
const ASK_AFTER_MESSAGES: u64 = 256;
const ASK_AFTER_BYTES: usize = 256 * 1024;
const ASK_AFTER: Duration = Duration::from_millis(10);

/// What was encoded since the last ping.
#[derive(Debug, Default)]
pub(super) struct Unasked {
    pub(super) messages: u64,
    pub(super) bytes: usize,
    pub(super) since: Option<Instant>,
}

/// How many messages go before the next question while the link is young: 1, 2, 4 and so on, until
/// that is no less than usual.
#[derive(Debug)]
pub(super) struct EarlyDistance(u64);

impl EarlyDistance {
    pub(super) fn new() -> Self {
        Self(1)
    }

    fn is_due(&self, unasked: &Unasked) -> bool {
        self.0 < ASK_AFTER_MESSAGES && unasked.messages >= self.0
    }
}

impl Pen {
    /// Encodes a question behind the first few messages of a link, then behind more and more. A peer
    /// that ends each link after a few messages would otherwise never come to a question that
    /// stands behind a whole batch, and the same messages would be sent again and again.
    pub(super) fn ask_early(&mut self, shared: &Shared) -> io::Result<()> {
        // on other threads than the writer the program's payload closure must not run
        if !self.may_wait || self.is_closed || !self.early.is_due(&self.unasked) {
            return Ok(());
        }
        self.early.0 *= 2;
        if shared.outbox.is_confirmation_awaited() { self.ask(shared) } else { Ok(()) }
    }

    /// Encodes a question for what the peer has, if somebody wants to know and it is time;
    /// returns when it will be, if nothing else happens before.
    pub(super) fn ask_if_due(&mut self, shared: &Shared) -> io::Result<Option<Instant>> {
        // for what another thread has encoded
        self.ask_early(shared)?;
        let Unasked { messages, bytes, since: Some(since) } = self.unasked else {
            return Ok(None);
        };
        let (wanted, urgent) = shared.outbox.wants_confirmation();
        if !wanted || self.is_closed {
            return Ok(None);
        }
        if !urgent {
            if shared.pings.is_waiting() {
                // the answer rings
                return Ok(None);
            }
            let due = since + ASK_AFTER;
            let is_enough = messages >= ASK_AFTER_MESSAGES || bytes >= ASK_AFTER_BYTES;
            if !is_enough && Instant::now() < due {
                return Ok(Some(due));
            }
        }
        self.ask(shared)?;
        Ok(None)
    }

    /// Encodes a ping, or the beat that serves as one.
    pub(super) fn ask(&mut self, shared: &Shared) -> io::Result<()> {
        match (&self.encoder, &shared.settings.heartbeat().beat) {
            (Encoder::WebSocket(_), _) => {
                self.ping(shared);
                Ok(())
            }
            (Encoder::Framed(_), Beat::Message { payload, .. }) => {
                let message = guarded("heartbeat payload", || payload())
                    .map_err(|panic| io::Error::other(panic.to_string()))?;
                self.beat(&message, shared)
            }
            // nobody is told that this connection could be asked
            (Encoder::Framed(_), _) => Ok(()),
        }
    }

    pub(super) fn ping(&mut self, shared: &Shared) {
        self.unasked = Unasked::default();
        let payload = shared.pings.ping(self.encoded);
        shared.log_control("sent", "ping");
        self.encoder.ping(&payload, &mut self.out);
    }

    /// Writes a ping without waiting; returns whether that was all.
    pub(super) fn ping_now(&mut self, shared: &Shared) -> io::Result<bool> {
        if self.is_closed || !self.is_drained() {
            return Ok(false);
        }
        self.ping(shared);
        // what the socket does not take now the writer goes on with
        match self.drain(shared) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                shared.outbox.ring();
                Ok(true)
            }
            result => result.map(|()| true),
        }
    }

    pub(super) fn beat(&mut self, message: &Message, shared: &Shared) -> io::Result<()> {
        self.unasked = Unasked::default();
        shared.pings.beat(self.encoded);
        self.lone_message(message, shared)
    }

    /// Encodes a message that is not the outbox's.
    pub(super) fn lone_message(&mut self, message: &Message, shared: &Shared) -> io::Result<()> {
        self.encoded.position = self.begin_message(shared);
        self.encoder.message(message, &mut self.out);
        self.set_off(shared)
    }
}

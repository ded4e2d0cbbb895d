//! A WebSocket that is about to be opened.

use std::time::Instant;

use http::{Method, StatusCode};
use tungstenite::protocol::Role;

use crate::failure::Failure;
use crate::handshake::{self, Upgrade};
use crate::http1::{Header, Headers};
use crate::link::Opened;
use crate::resume;
use crate::settings::Settings;
use crate::transport::{Duplex, LINGER, Timed};
use crate::wire::Protocol;

/// A request for a WebSocket that is granted and not answered yet.
pub(super) struct PendingUpgrade {
    duplex: Duplex,
    /// What was read past the request.
    read: Vec<u8>,
    upgrade: Upgrade,
    /// When the opening handshake has to be done.
    deadline: Instant,
}

impl PendingUpgrade {
    pub(super) fn new(duplex: Duplex, read: Vec<u8>, upgrade: Upgrade, deadline: Instant) -> Self {
        Self { duplex, read, upgrade, deadline }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Sends the answer, with what the client is told of its session.
    pub(super) fn answer(
        &mut self,
        settings: &Settings,
        session: Option<&resume::Answer>,
    ) -> Result<(), Failure> {
        let mut timed = Timed::new(&mut self.duplex, self.deadline);
        let result = self.upgrade.write(&mut timed, session);
        result.map_err(|failure| failure.in_time(settings.timeouts().handshake))
    }

    /// The session is there, and cannot be had in time.
    pub(super) fn turn_away(mut self) {
        let mut timed = Timed::new(&mut self.duplex, Instant::now() + LINGER);
        let mut headers = Headers::default();
        if let Ok(later) = Header::new("Retry-After", "1") {
            headers.append(later);
        }
        let (status, text) = (StatusCode::SERVICE_UNAVAILABLE, b"the session is busy");
        if handshake::respond(&mut timed, &Method::GET, status, &headers, text).is_ok() {
            Timed::new(&mut self.duplex, Instant::now() + LINGER).let_read();
        }
    }

    /// It was answered, and is ready for messages.
    pub(super) fn opened(self, settings: &Settings) -> Opened {
        let protocol = Protocol::WebSocket(Role::Server);
        Opened::new(self.duplex, protocol, settings.limits(), self.read)
            .within(&settings.budget)
            .compressed(self.upgrade.compression)
    }
}

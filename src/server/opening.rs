//! From the first byte of a connection to the answer that upgrades it.

use std::io::Read;
use std::net::TcpStream;
#[cfg(feature = "tls")]
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use tungstenite::protocol::Role;

use super::ServerCore;
use super::answer::Answer;
use crate::failure::{Failure, HandshakeError, guarded};
use crate::handshake;
use crate::handshake::{Headers, Upgrade};
use crate::link::Opened;
use crate::resume;
use crate::resume::Offer;
use crate::settings::Settings;
use crate::transport::{Duplex, Timed};
use crate::wire::Protocol;

/// How long a client may take to read an answer that is no upgrade.
const LINGER: Duration = Duration::from_secs(1);

/// What a connection has turned out to be.
pub(super) enum Opening {
    Framed(Box<Opened>),
    WebSocket(Box<Asked>),
}

/// A request for a WebSocket that is granted and not answered yet.
pub(super) struct Asked {
    duplex: Duplex,
    /// What was read past the request.
    read: Vec<u8>,
    /// Without the session's token.
    pub(super) request: http::Request<()>,
    pub(super) upgrade: Upgrade,
    pub(super) offer: Option<Offer>,
    /// When the opening handshake has to be done.
    pub(super) deadline: Instant,
}

impl Asked {
    /// Sends the answer, with what the client is told of its session.
    pub(super) fn answer(
        &mut self,
        server: &ServerCore,
        session: Option<&resume::Answer>,
    ) -> Result<(), Failure> {
        let mut timed = Timed::new(&mut self.duplex, self.deadline);
        let result = self.upgrade.write(&mut timed, session);
        result.map_err(|failure| failure.in_time(server.settings.timeouts.handshake))
    }

    /// The session is there, and cannot be had in time.
    pub(super) fn turn_away(mut self) {
        let mut timed = Timed::new(&mut self.duplex, Instant::now() + LINGER);
        let mut headers = Headers::default();
        if let Ok(later) = handshake::Header::new("Retry-After", "1") {
            headers.append(later);
        }
        let (status, text) = (StatusCode::SERVICE_UNAVAILABLE, b"the session is busy");
        if handshake::respond(&mut timed, &Method::GET, status, &headers, text).is_ok() {
            let_read(&mut self.duplex);
        }
    }

    /// It is ready for messages.
    pub(super) fn opened(self, server: &ServerCore) -> (Opened, http::Request<()>) {
        let Self { duplex, read, request, upgrade, .. } = self;
        let protocol = Protocol::WebSocket(Role::Server);
        let Settings { limits, budget, .. } = &*server.settings;
        let opened = Opened::new(duplex, protocol, *limits, read).within(budget);
        (opened.compressed(upgrade.compression), request)
    }
}

/// Opens a connection, up to the answer of a WebSocket.
pub(super) fn open(server: &ServerCore, duplex: Duplex) -> Result<Opening, Failure> {
    let timeout = server.settings.timeouts.handshake;
    let deadline = Instant::now() + timeout;
    let mut duplex =
        secure(server, duplex, deadline).map_err(|failure| failure.in_time(timeout))?;
    if let Some(framing) = server.framing {
        let protocol = Protocol::Framed(framing);
        let Settings { limits, budget, .. } = &*server.settings;
        let opened = Opened::new(duplex, protocol, *limits, Vec::new()).within(budget);
        return Ok(Opening::Framed(Box::new(opened)));
    }
    let mut timed = Timed::new(&mut duplex, deadline);
    let (mut request, read) = match handshake::read_request(&mut timed) {
        Ok(read) => read,
        Err(error) => {
            if let Some(status) = handshake::complaint(&error) {
                let text = error.to_string();
                let none = Headers::default();
                if handshake::respond(&mut timed, &Method::GET, status, &none, text.as_bytes())
                    .is_ok()
                {
                    let_read(&mut duplex);
                }
            }
            return Err(Failure::from(error).in_time(timeout));
        }
    };
    let offer = Offer::take(request.headers_mut()).filter(|_| server.resumption.is_some());
    match grant(server, &mut timed, &request) {
        Ok(upgrade) => {
            let asked = Asked { duplex, read, request, upgrade, offer, deadline };
            Ok(Opening::WebSocket(Box::new(asked)))
        }
        Err(failure) => {
            let_read(&mut duplex);
            Err(failure.in_time(timeout))
        }
    }
}

/// Asks the program, and answers what is no upgrade.
fn grant(
    server: &ServerCore,
    timed: &mut Timed<'_>,
    request: &http::Request<()>,
) -> Result<Upgrade, Failure> {
    handshake::check(request, &server.origins)
        .map_err(|wrong| handshake::refuse(timed, request, wrong))?;
    let answer = match &server.on_request {
        None => Answer::accept(),
        Some(decide) => guarded("request closure", || decide(request)).unwrap_or_else(|panic| {
            log::error!("{panic}");
            Answer::reject(StatusCode::INTERNAL_SERVER_ERROR)
        }),
    };
    let Answer { status, subprotocol, headers, body } = &answer;
    if answer.is_upgrade() {
        let compression = server.settings.compression.as_ref();
        return handshake::accept(request, subprotocol.as_deref(), headers, compression)
            .map_err(|wrong| handshake::refuse(timed, request, wrong));
    }
    handshake::respond(timed, request.method(), *status, headers, body)?;
    Err(Failure::Handshake(HandshakeError::BadUpgrade(format!("answered {status}"))))
}

#[cfg(feature = "tls")]
fn secure(server: &ServerCore, duplex: Duplex, deadline: Instant) -> Result<Duplex, Failure> {
    use crate::failure::TlsError;
    let Some(config) = &server.tls else { return Ok(duplex) };
    let connection = rustls::ServerConnection::new(Arc::clone(config))
        .map_err(|error| Failure::Tls(TlsError::from(error)))?;
    crate::transport::tls::open(duplex, connection, deadline)
}

#[cfg(not(feature = "tls"))]
fn secure(_: &ServerCore, duplex: Duplex, _: Instant) -> Result<Duplex, Failure> {
    Ok(duplex)
}

/// Ends the stream and waits until the peer has too, so that it reads the answer before a reset
/// can take it away.
fn let_read(duplex: &mut Duplex) {
    if duplex.writer.finish().is_err() {
        return;
    }
    let mut timed = Timed::new(duplex, Instant::now() + LINGER);
    let mut discarded = [0; 1024];
    while matches!(timed.read(&mut discarded), Ok(1..)) {}
}

/// Tells a client why it is not let in, in the short time that it is given.
pub(super) fn refuse(stream: TcpStream, why: &'static str) {
    let mut duplex = Duplex::from(stream);
    let mut timed = Timed::new(&mut duplex, Instant::now() + LINGER);
    if let Ok((request, _)) = handshake::read_request(&mut timed) {
        let wrong = (StatusCode::SERVICE_UNAVAILABLE, why);
        let _ = handshake::refuse(&mut timed, &request, wrong);
        let_read(&mut duplex);
    }
}

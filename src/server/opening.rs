//! From the first byte of a connection to the answer that upgrades it.

#[cfg(feature = "tls")]
use std::sync::Arc;
use std::time::Instant;

use http::{Method, Request, StatusCode};
use log::Level;
use tungstenite::protocol::Role;

use super::accepted::Stage;
use super::answer::Answer;
use super::arrival::Arrival;
use super::core::ServerCore;
use super::incoming::{Incoming, Secured};
use super::peer::Peer;
use super::peer_info::PeerInfo;
use super::proxy_protocol;
use crate::failure::{Failure, HandshakeError, guarded};
use crate::handshake;
use crate::handshake::Upgrade;
use crate::http1::Headers;
use crate::link::Opened;
use crate::resume::subprotocol;
use crate::transport::{Duplex, LINGER, Timed};
use crate::wire::Protocol;

/// A connection that is ready for messages.
pub(super) struct Opening {
    pub(super) opened: Box<Opened>,
    pub(super) info: PeerInfo,
    /// Whether it is for a session that outlives it.
    pub(super) has_session: bool,
    /// When all that belongs to its opening has to be done.
    pub(super) deadline: Instant,
}

/// Opens a connection. If it is beyond what is let in, only one that may come back to its session is opened.
pub(super) fn open(
    server: &ServerCore,
    mut duplex: Duplex,
    stage: Stage,
    arrival: &mut Arrival,
) -> Result<Opening, Failure> {
    let timeout = server.settings.timeouts().handshake;
    let deadline = Instant::now() + timeout;
    let opened = (|| {
        let (request, secured, read, granted) = match stage {
            Stage::Fresh => {
                if server.proxies.speak_proxy_protocol(arrival.peer()) {
                    duplex = introduced(server, duplex, deadline, arrival)?;
                }
                let (mut speaking, secured) = secure(server, duplex, deadline, arrival)?;
                if server.settings.framing.is_some() {
                    return framed(server, speaking, secured, deadline);
                }
                let (request, read) = read(&mut speaking, deadline, arrival)?;
                duplex = speaking;
                (request, secured, read, None)
            }
            Stage::Requested(request) => (request, Secured::default(), Vec::new(), None),
            Stage::Upgraded(request, subprotocol) => {
                (request, Secured::default(), Vec::new(), Some(subprotocol))
            }
        };
        arrival.spoke(true);
        let peer = arrival.peer();
        let client = server.proxies.client(peer, request.headers());
        let refused = identify(server, arrival, peer.told(client)).err();
        let peer = arrival.peer();
        let has_sessions = server.resumption.is_some();
        let incoming = Incoming { request, peer, secured, has_sessions };
        if let Some(why) = refused {
            let wrong = (StatusCode::SERVICE_UNAVAILABLE, why);
            let mut timed = Timed::new(&mut duplex, deadline);
            let failure = match granted {
                None => handshake::refuse(&mut timed, &incoming.request, wrong),
                Some(_) => HandshakeError::BadUpgrade(why.into()).into(),
            };
            let_read(&mut duplex);
            return Err(failure);
        }
        let beyond = arrival.beyond();
        match granted {
            None => upgrade(server, duplex, incoming, read, deadline, beyond),
            Some(agreed) => upgraded(server, duplex, incoming, agreed.as_deref(), deadline, beyond),
        }
    })();
    opened.map_err(|failure| failure.in_time(timeout))
}

/// Reads what a proxy says first: whose connection it hands on.
fn introduced(
    server: &ServerCore,
    mut duplex: Duplex,
    deadline: Instant,
    arrival: &mut Arrival,
) -> Result<Duplex, Failure> {
    let mut timed = Timed::new(&mut duplex, deadline);
    let said = proxy_protocol::read(&mut timed);
    arrival.spoke(timed.has_heard());
    let peer = arrival.peer();
    let (client, rest) = said.inspect_err(|error| {
        if matches!(error, HandshakeError::BadUpgrade(_)) {
            server.refused(Level::Warn, "no PROXY header", format!("{peer} refused: {error}"));
        }
    })?;
    duplex = duplex.put_back(rest);
    // it may be another proxy, which says more
    let peer = peer.told(client);
    if !server.proxies.speak_for_others(peer) || server.settings.framing.is_some() {
        if let Err(why) = identify(server, arrival, peer) {
            if server.speaks_plain_http() {
                refuse(duplex, Stage::Fresh, why);
            }
            return Err(HandshakeError::BadUpgrade(why.into()).into());
        }
    } else {
        arrival.comes_by(peer);
    }
    Ok(duplex)
}

/// It is known whose connection it is.
fn identify(server: &ServerCore, arrival: &mut Arrival, peer: Peer) -> Result<(), &'static str> {
    let identified = arrival.is_of(peer, server.resumption.is_some());
    identified.inspect_err(|why| {
        server.refused(Level::Warn, why, format!("{peer} refused: {why}"));
    })
}

fn framed(
    server: &ServerCore,
    duplex: Duplex,
    secured: Secured,
    deadline: Instant,
) -> Result<Opening, Failure> {
    let settings = &server.settings;
    let has_session = server.resumption.is_some();
    let limits = settings.limits_with(has_session);
    let protocol = Protocol::Framed(settings.spoken_framing());
    let opened = Opened::new(duplex, protocol, limits, Vec::new())?.within(&settings.budget);
    let info = PeerInfo::of_framed(secured);
    Ok(Opening { opened: Box::new(opened), info, has_session, deadline })
}

/// Reads the request; returns what was read past it, too.
fn read(
    duplex: &mut Duplex,
    deadline: Instant,
    arrival: &mut Arrival,
) -> Result<(Request<()>, Vec<u8>), Failure> {
    let mut timed = Timed::new(duplex, deadline);
    let error = match handshake::read_request(&mut timed) {
        Ok(read) => return Ok(read),
        Err(error) => error,
    };
    arrival.spoke(timed.has_heard());
    if let Some(status) = handshake::complaint(&error) {
        let (text, none) = (error.to_string(), Headers::default());
        if handshake::respond(&mut timed, &Method::GET, status, &none, text.as_bytes()).is_ok() {
            let_read(duplex);
        }
    }
    Err(error.into())
}

/// Answers the request.
fn upgrade(
    server: &ServerCore,
    mut duplex: Duplex,
    incoming: Incoming,
    read: Vec<u8>,
    deadline: Instant,
    beyond: Option<&'static str>,
) -> Result<Opening, Failure> {
    let mut timed = Timed::new(&mut duplex, deadline);
    let granted = grant(server, &mut timed, incoming, beyond);
    match granted.and_then(|granted| granted.0.write(&mut timed).map(|()| granted)) {
        Ok((upgrade, has_session, info)) => {
            let opened = websocket(server, duplex, read, has_session)?;
            let opened = Box::new(opened.compressed(upgrade.compression));
            Ok(Opening { opened, info, has_session, deadline })
        }
        Err(failure) => {
            let_read(&mut duplex);
            Err(failure)
        }
    }
}

/// Another server has answered the request.
fn upgraded(
    server: &ServerCore,
    duplex: Duplex,
    incoming: Incoming,
    agreed: Option<&str>,
    deadline: Instant,
    beyond: Option<&'static str>,
) -> Result<Opening, Failure> {
    let of_session = agreed.filter(|_| incoming.has_sessions).and_then(subprotocol::parse);
    if let (Some(why), None) = (beyond, of_session) {
        return Err(HandshakeError::BadUpgrade(why.into()).into());
    }
    let has_session = of_session.is_some();
    let opened = Box::new(websocket(server, duplex, Vec::new(), has_session)?);
    let subprotocol = of_session.unwrap_or(agreed).map(Into::into);
    let info = PeerInfo::of_websocket(incoming, subprotocol, http::Extensions::new());
    Ok(Opening { opened, info, has_session, deadline })
}

fn websocket(
    server: &ServerCore,
    duplex: Duplex,
    read: Vec<u8>,
    has_session: bool,
) -> Result<Opened, Failure> {
    let settings = &server.settings;
    let protocol = Protocol::websocket(Role::Server, settings.packets.clone());
    let limits = settings.limits_with(has_session);
    Ok(Opened::new(duplex, protocol, limits, read)?.within(&settings.budget))
}

/// Asks the program, and answers what is no upgrade.
fn grant(
    server: &ServerCore,
    timed: &mut Timed<'_>,
    incoming: Incoming,
    beyond: Option<&'static str>,
) -> Result<(Upgrade, bool, PeerInfo), Failure> {
    let request = &incoming.request;
    if let Some(why) = beyond.filter(|_| !incoming.wants_session()) {
        let wrong = (StatusCode::SERVICE_UNAVAILABLE, why);
        return Err(handshake::refuse(timed, request, wrong));
    }
    server.gate.check(request).map_err(|wrong| handshake::refuse(timed, request, wrong))?;
    let answer = match &server.on_request {
        None => Answer::accept(),
        Some(decide) => guarded("request closure", || decide(&incoming)).unwrap_or_else(|panic| {
            server.say_panicked("request closure", &panic);
            Answer::reject(StatusCode::INTERNAL_SERVER_ERROR)
        }),
    };
    let known = server.subprotocols.iter().map(String::as_str);
    let chosen = answer.subprotocol.as_deref().or_else(|| incoming.choose_subprotocol(known));
    let subprotocol = chosen.filter(|chosen| incoming.subprotocols().any(|name| name == *chosen));
    if let (Some(chosen), None) = (chosen, subprotocol) {
        let line = format!("subprotocol {chosen:?} was chosen, but the client did not offer it");
        server.say(Level::Warn, ("subprotocol_not_offered", ""), line);
    }
    if answer.is_upgrade() {
        let compression = server.settings.compression.as_ref();
        let of_session = incoming.of_session(subprotocol);
        let (agreed, has_session) = (of_session.as_deref().or(subprotocol), of_session.is_some());
        let upgrade = handshake::accept(request, agreed, &answer.headers, compression, has_session)
            .map_err(|wrong| handshake::refuse(timed, request, wrong))?;
        let subprotocol = subprotocol.map(Into::into);
        let info = PeerInfo::of_websocket(incoming, subprotocol, answer.values);
        return Ok((upgrade, has_session, info));
    }
    let Answer { status, headers, body, .. } = &answer;
    handshake::respond(timed, request.method(), *status, headers, body)?;
    Err(Failure::Handshake(HandshakeError::BadUpgrade(format!("answered {status}"))))
}

/// Shakes hands over TLS, if that is spoken here; returns the connection that carries what is said, and
/// what TLS says of it.
#[cfg(feature = "tls")]
fn secure(
    server: &ServerCore,
    duplex: Duplex,
    deadline: Instant,
    arrival: &mut Arrival,
) -> Result<(Duplex, Secured), Failure> {
    use crate::failure::TlsError;
    let Some(tls) = &server.tls else {
        return Ok((duplex, Secured::default()));
    };
    if let Some(reloaded) = tls.look() {
        server.note_reload(&reloaded);
    }
    let connection = rustls::ServerConnection::new(tls.config())
        .map_err(|error| Failure::Tls(TlsError::from(error)))?;
    let mut has_spoken = false;
    let accepted = crate::transport::tls::accept(duplex, connection, deadline, &mut has_spoken);
    arrival.spoke(has_spoken);
    let (duplex, info) = accepted?;
    Ok((duplex, Secured(Some(Arc::new(info)))))
}

#[cfg(not(feature = "tls"))]
fn secure(
    _: &ServerCore,
    duplex: Duplex,
    _: Instant,
    _: &mut Arrival,
) -> Result<(Duplex, Secured), Failure> {
    Ok((duplex, Secured::default()))
}

/// The answer was the last.
fn let_read(duplex: &mut Duplex) {
    Timed::new(duplex, Instant::now() + LINGER).let_read();
}

/// Tells a client why it is not let in, in the short time that it is given.
pub(super) fn refuse(mut duplex: Duplex, stage: Stage, why: &'static str) {
    let mut timed = Timed::new(&mut duplex, Instant::now() + LINGER);
    let request = match stage {
        Stage::Fresh => handshake::read_request(&mut timed).ok().map(|(request, _)| request),
        Stage::Requested(request) => Some(request),
        Stage::Upgraded(..) => None,
    };
    if let Some(request) = request {
        let wrong = (StatusCode::SERVICE_UNAVAILABLE, why);
        let _ = handshake::refuse(&mut timed, &request, wrong);
        let_read(&mut duplex);
    }
}

//! The thread of one accepted connection: opening, handler, end.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use tungstenite::protocol::Role;

use super::answer::Answer;
use super::session::{Inner, Outgoing, Session};
use super::{Incoming, ServerCore};
use crate::failure::{Failure, HandshakeError, guarded};
use crate::handshake;
use crate::handshake::Headers;
use crate::link::stats::Counters;
use crate::link::{Link, Opened, Owner, Parts};
use crate::message::{CloseCode, CloseFrame};
use crate::policy::Delivery;
use crate::queues::inbox::{Inbox, Mailbox};
use crate::queues::outbox::Outbox;
use crate::settings::Settings;
use crate::sync::Mutex;
use crate::sync::threads::thread_prefix;
use crate::transport::{Duplex, Timed};
use crate::wire::Protocol;

/// How long a client may take to read an answer that is no upgrade.
const LINGER: Duration = Duration::from_secs(1);

/// A connection that is ready for messages.
struct Accepted {
    opened: Opened,
    /// On a WebSocket.
    incoming: Option<Incoming>,
    subprotocol: Option<String>,
    /// What the request closure has found out.
    values: http::Extensions,
    #[cfg(feature = "tls")]
    certificates: Vec<rustls::pki_types::CertificateDer<'static>>,
}

/// Runs a connection from its first byte to its last.
pub(super) fn run(server: &Arc<ServerCore>, id: u64, duplex: Duplex, peer: SocketAddr) {
    let name = thread_prefix(id);
    let opened = match open(server, duplex, peer) {
        Ok(opened) => opened,
        Err(failure) => {
            log::info!("{name}: {peer} did not open: {}", failure.report());
            return;
        }
    };
    let (link, session) = match start(server, id, peer, opened) {
        Ok(started) => started,
        Err(failure) => {
            log::error!("{name}: {peer}: {}", failure.report());
            return;
        }
    };
    log::info!("{name}: {peer} connected");
    match server.registry.opened(id, session.clone()) {
        Some(going_away) => session.finish(going_away),
        None => match guarded("session handler", || (server.handler)(session.clone())) {
            Ok(()) => session.end(),
            Err(panic) => {
                log::error!("{name}: {panic}");
                session.finish(CloseFrame::new(CloseCode::INTERNAL_ERROR, ""));
            }
        },
    };
    let ended = link.bury();
    session.forget();
    log::info!("{name}: {peer} ended: {}", ended.cause.report());
}

fn open(server: &ServerCore, duplex: Duplex, peer: SocketAddr) -> Result<Accepted, Failure> {
    let Settings { limits, budget, .. } = &*server.settings;
    let timeout = server.settings.timeouts.handshake;
    let deadline = Instant::now() + timeout;
    let secured = secure(server, duplex, deadline).map_err(|failure| failure.in_time(timeout))?;
    let Secured { mut duplex, .. } = secured;
    #[cfg(feature = "tls")]
    let certificates = secured.certificates;
    if let Some(framing) = server.framing {
        let protocol = Protocol::Framed(framing);
        let opened = Opened::new(duplex, protocol, *limits, Vec::new()).within(budget);
        return Ok(Accepted {
            opened,
            incoming: None,
            subprotocol: None,
            values: http::Extensions::new(),
            #[cfg(feature = "tls")]
            certificates,
        });
    }
    let mut timed = Timed::new(&mut duplex, deadline);
    let (request, read) = match handshake::read_request(&mut timed) {
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
    if let Err(wrong) = handshake::check(&request, &server.origins) {
        let failure = handshake::refuse(&mut timed, &request, wrong);
        let_read(&mut duplex);
        return Err(failure.in_time(timeout));
    }
    let incoming = Incoming {
        request,
        peer,
        #[cfg(feature = "tls")]
        certificates: certificates.clone(),
    };
    let request = &incoming.request;
    let answer = match &server.on_request {
        None => Answer::accept(),
        Some(decide) => guarded("request closure", || decide(&incoming)).unwrap_or_else(|panic| {
            log::error!("{panic}");
            Answer::reject(StatusCode::INTERNAL_SERVER_ERROR)
        }),
    };
    let known = server.subprotocols.iter().map(String::as_str);
    let chosen = answer.subprotocol.as_deref().or_else(|| incoming.choose_subprotocol(known));
    let subprotocol = chosen.filter(|chosen| incoming.subprotocols().any(|name| name == *chosen));
    if let (Some(chosen), None) = (chosen, subprotocol) {
        log::warn!("subprotocol {chosen:?} was chosen, but the client did not offer it");
    }
    let result = if answer.is_upgrade() {
        let compression = server.settings.compression.as_ref();
        handshake::accept(&mut timed, request, subprotocol, &answer.headers, compression)
    } else {
        let status = answer.status;
        let Answer { headers, body, .. } = &answer;
        handshake::respond(&mut timed, request.method(), status, headers, body).and_then(|()| {
            let text = format!("answered {status}");
            Err(Failure::Handshake(HandshakeError::BadUpgrade(text)))
        })
    };
    let compression = match result {
        Ok(agreed) => agreed,
        Err(failure) => {
            let_read(&mut duplex);
            return Err(failure.in_time(timeout));
        }
    };
    let protocol = Protocol::WebSocket(Role::Server);
    let opened =
        Opened::new(duplex, protocol, *limits, read).within(budget).compressed(compression);
    Ok(Accepted {
        opened,
        subprotocol: subprotocol.map(Into::into),
        values: answer.values,
        incoming: Some(incoming),
        #[cfg(feature = "tls")]
        certificates,
    })
}

/// A connection that carries what is said, and who the peer has shown to be.
struct Secured {
    duplex: Duplex,
    #[cfg(feature = "tls")]
    certificates: Vec<rustls::pki_types::CertificateDer<'static>>,
}

#[cfg(feature = "tls")]
fn secure(server: &ServerCore, duplex: Duplex, deadline: Instant) -> Result<Secured, Failure> {
    use crate::failure::TlsError;
    let Some(config) = &server.tls else {
        return Ok(Secured { duplex, certificates: Vec::new() });
    };
    let connection = rustls::ServerConnection::new(Arc::clone(config))
        .map_err(|error| Failure::Tls(TlsError::from(error)))?;
    let (duplex, certificates) = crate::transport::tls::accept(duplex, connection, deadline)?;
    Ok(Secured { duplex, certificates })
}

#[cfg(not(feature = "tls"))]
fn secure(_: &ServerCore, duplex: Duplex, _: Instant) -> Result<Secured, Failure> {
    Ok(Secured { duplex })
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

fn start(
    server: &Arc<ServerCore>,
    id: u64,
    peer: SocketAddr,
    accepted: Accepted,
) -> Result<(Link, Session), Failure> {
    let Accepted { opened, incoming, subprotocol, values, .. } = accepted;
    let settings = &server.settings;
    let counters = Arc::new(Counters::default());
    let (limit, delivery) = (settings.limits.message, Delivery::AtMostOnce);
    let confirmable = settings.is_confirmable(server.framing.is_none());
    let outbox = Outbox::new(settings.outbox, limit, server.framing, delivery, confirmable);
    let outbox = Arc::new(outbox.telling(settings.on_dropped.clone()).within(&settings.budget));
    let mailbox = Arc::new(Mailbox::new(settings.inbox).within(&settings.budget));
    if settings.has_channel {
        mailbox.open_channel(&thread_prefix(id)).map_err(Failure::Thread)?;
    }
    let inbox = Inbox::Mailbox(Arc::clone(&mailbox));
    let link = Link::start(Parts {
        opened,
        settings: Arc::clone(settings),
        outbox: Arc::clone(&outbox),
        inbox: Arc::new(Mutex::new(Some(inbox))),
        mailbox: Arc::clone(&mailbox),
        counters: Arc::clone(&counters),
        owner: Owner::Session,
        id,
        link: 1,
    })?;
    link.announce();
    let outgoing = Outgoing {
        id,
        outbox: Arc::clone(&outbox),
        link: link.handle(),
        close_timeout: settings.timeouts.close,
    };
    let session = Session::new(
        outgoing,
        Inner {
            id,
            peer,
            incoming,
            subprotocol,
            values,
            #[cfg(feature = "tls")]
            certificates: accepted.certificates,
            compression: link.compression(),
            settings: Arc::clone(settings),
            outbox,
            mailbox,
            counters,
            link: link.handle(),
            server: Arc::clone(server),
            born: Instant::now(),
        },
    );
    Ok((link, session))
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

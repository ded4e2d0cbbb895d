//! The thread of one accepted connection: opening, handler, end.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use tungstenite::protocol::Role;

use super::ServerCore;
use super::answer::Answer;
use super::session::{Inner, Outgoing, Session};
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
    request: Option<http::Request<()>>,
}

/// Runs a connection from its first byte to its last.
pub(super) fn run(server: &Arc<ServerCore>, id: u64, duplex: Duplex, peer: SocketAddr) {
    let name = thread_prefix(id);
    let opened = match open(server, duplex) {
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

fn open(server: &ServerCore, duplex: Duplex) -> Result<Accepted, Failure> {
    let Settings { limits, budget, .. } = &*server.settings;
    let timeout = server.settings.timeouts.handshake;
    let deadline = Instant::now() + timeout;
    let mut duplex =
        secure(server, duplex, deadline).map_err(|failure| failure.in_time(timeout))?;
    if let Some(framing) = server.framing {
        let protocol = Protocol::Framed(framing);
        let opened = Opened::new(duplex, protocol, *limits, Vec::new()).within(budget);
        return Ok(Accepted { opened, request: None });
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
    let answer = match &server.on_request {
        None => Answer::accept(),
        Some(decide) => guarded("request closure", || decide(&request)).unwrap_or_else(|panic| {
            log::error!("{panic}");
            Answer::reject(StatusCode::INTERNAL_SERVER_ERROR)
        }),
    };
    let result = if answer.is_upgrade() {
        let Answer { subprotocol, headers, .. } = &answer;
        let compression = server.settings.compression.as_ref();
        handshake::accept(&mut timed, &request, subprotocol.as_deref(), headers, compression)
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
    Ok(Accepted { opened, request: Some(request) })
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

fn start(
    server: &Arc<ServerCore>,
    id: u64,
    peer: SocketAddr,
    accepted: Accepted,
) -> Result<(Link, Session), Failure> {
    let Accepted { opened, request } = accepted;
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
    let outgoing = Outgoing { id, outbox: Arc::clone(&outbox), link: link.handle() };
    let session = Session::new(
        outgoing,
        Inner {
            id,
            peer,
            request,
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

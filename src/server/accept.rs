//! The accept thread.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use log::Level;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::admission::{Admitted, Network};
use super::{ServerCore, opening, serve};
use crate::sync::threads::{Role, next_id};
use crate::transport::Duplex;

/// How long to wait after an error that trying again at once would meet again: no descriptors,
/// no memory. Doubled each time, up to a second.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How many clients at once are told that there are too many; more are cut without a word.
const MAX_REFUSALS: usize = 16;

/// Listens on the first of the addresses that can be had.
pub(super) fn listen(address: impl ToSocketAddrs, backlog: u32) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "no address to listen on");
    for address in address.to_socket_addrs()? {
        match listen_on(address, backlog) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn listen_on(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // as std does it: a server that starts again finds connections of the last one in TIME-WAIT
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// Accepts until the server stops.
pub(super) fn run(server: &Arc<ServerCore>, listener: &TcpListener) {
    let refusals = Arc::new(AtomicUsize::new(0));
    let mut pause = FIRST_PAUSE;
    loop {
        let accepted = listener.accept();
        if server.stop.is_raised() {
            return;
        }
        server.repeats.say_due(server.label());
        match accepted {
            Ok((stream, peer)) => {
                pause = FIRST_PAUSE;
                match server.admission.admit(Network::of(peer.ip())) {
                    Err(why) => {
                        server.refused(Level::Warn, why, format!("{peer} refused: {why}"));
                        refuse(server, stream, why, &refusals);
                    }
                    Ok(admitted) => {
                        if let Err(error) = start(server, stream, peer, admitted) {
                            let line =
                                format!("{peer} refused: no thread or socket for it: {error}");
                            server.refused(Level::Error, "resources", line);
                        }
                    }
                }
            }
            Err(error) if is_about_the_client(&error) => {
                log::debug!("{}: accept: {error}", server.name());
            }
            Err(error) => {
                let line = format!("accepting connections fails: {error}; tried again shortly");
                server.say(Level::Error, ("accept_failed", ""), line);
                if server.stop.raised().recv_timeout(pause)
                    == Err(crossbeam_channel::RecvTimeoutError::Disconnected)
                {
                    return;
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Whether the error is one client's trouble: the next accept may well succeed.
fn is_about_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// Takes a connection out of the registry at the end of its thread, also if code of the program's
/// panics there (a logger, a value's destructor).
struct Leaves<'a>(&'a ServerCore, u64);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.registry.leave(self.1);
    }
}

/// Gives the connection its thread.
fn start(
    server: &Arc<ServerCore>,
    stream: TcpStream,
    peer: SocketAddr,
    admitted: Admitted,
) -> io::Result<()> {
    server.settings.socket().apply(SockRef::from(&stream))?;
    let id = next_id();
    let duplex = Duplex::from(stream);
    server.registry.enter(id, Arc::clone(&duplex.hangup));
    let theirs = Arc::clone(server);
    let started = server.threads.of_session(id).spawn(Role::Session, move || {
        let leaves = Leaves(&theirs, id);
        serve::run(&theirs, id, duplex, peer, admitted);
        theirs.repeats.say_due(theirs.label());
        drop(leaves);
    });
    match started {
        Ok(thread) => {
            server.totals.counters.accepted.fetch_add(1, Relaxed);
            server.registry.started(id, thread);
            Ok(())
        }
        Err(error) => {
            server.registry.forget(id);
            Err(error)
        }
    }
}

/// Cuts a client off, with 503 if it speaks HTTP and few others are being told so.
fn refuse(server: &ServerCore, stream: TcpStream, why: &'static str, refusals: &Arc<AtomicUsize>) {
    if !server.speaks_plain_http() || refusals.load(Relaxed) >= MAX_REFUSALS {
        return;
    }
    refusals.fetch_add(1, Relaxed);
    let done = Arc::clone(refusals);
    let started = server.threads.start(Role::Refuse, move || {
        opening::refuse(stream, why);
        done.fetch_sub(1, Relaxed);
    });
    if started.is_err() {
        refusals.fetch_sub(1, Relaxed);
    }
}

/// Wakes the accept thread after the stop was raised.
pub(super) fn wake(listener: &TcpListener) {
    if cfg!(target_os = "linux") {
        // a listening socket that is shut down accepts nothing more, and says so at once
        let _ = SockRef::from(listener).shutdown(std::net::Shutdown::Both);
    } else if let Ok(mut address) = listener.local_addr() {
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        let _ = TcpStream::connect_timeout(&address, LONGEST_PAUSE);
    }
}

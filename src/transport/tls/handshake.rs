//! The handshake, from either side.

use std::io;
use std::time::Instant;

use rustls::{ClientConnection, ConnectionCommon, ServerConnection, SideData};

use super::halves::split;
use super::info::TlsInfo;
use crate::failure::{Failure, HandshakeError, TlsError};
use crate::transport::{Duplex, Timed};

/// Shakes hands over `duplex` until the deadline, as client.
pub(crate) fn open(
    mut duplex: Duplex,
    mut connection: ClientConnection,
    deadline: Instant,
) -> Result<Duplex, Failure> {
    shake_hands(&mut Timed::new(&mut duplex, deadline), &mut connection)?;
    Ok(split(duplex, connection.into()))
}

/// The same as server; returns what is known of the client, too. `has_spoken` says whether any byte came,
/// also of a handshake that fails.
pub(crate) fn accept(
    mut duplex: Duplex,
    mut connection: ServerConnection,
    deadline: Instant,
    has_spoken: &mut bool,
) -> Result<(Duplex, TlsInfo), Failure> {
    let mut timed = Timed::new(&mut duplex, deadline);
    let result = shake_hands(&mut timed, &mut connection);
    *has_spoken = timed.has_heard();
    result?;
    let info = TlsInfo::of(&connection);
    Ok((split(duplex, connection.into()), info))
}

fn shake_hands<D: SideData>(
    timed: &mut Timed<'_>,
    connection: &mut ConnectionCommon<D>,
) -> Result<(), Failure> {
    while connection.is_handshaking() {
        match connection.complete_io(timed) {
            Ok((0, 0)) => return Err(Failure::Handshake(HandshakeError::Eof)),
            Ok(_) => {}
            Err(error) => {
                if is_own_verdict(&error) {
                    // rustls has tried one write, which takes a part
                    while matches!(connection.write_tls(timed), Ok(1..)) {}
                    timed.let_read();
                }
                return Err(failure(error));
            }
        }
    }
    Ok(())
}

/// Whether this side ends the handshake, and the peer is told why.
fn is_own_verdict(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    inner.is_some_and(|error| !matches!(error, rustls::Error::AlertReceived(_)))
}

fn failure(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return Failure::Handshake(HandshakeError::Eof);
    }
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => Failure::Tls(TlsError::from(error.clone())),
        None => Failure::Handshake(HandshakeError::Io(error)),
    }
}

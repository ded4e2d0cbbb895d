//! TLS in full duplex: one rustls connection behind a mutex that is never held while a socket
//! call blocks.
//!
//! The reader reads ciphertext outside the lock and decrypts inside; the writer encrypts inside
//! and writes outside. Records have to reach the peer in the order of their sequence numbers, so
//! only the writer takes records out. Where the reader's work makes rustls want to send something
//! at once (an alert), [`ReadHalf::wants_write`](super::ReadHalf::wants_write) says so, and the
//! reader's owner wakes the writer, which writes the alert and no data after it (section 6.2). The
//! answer to a KeyUpdate goes out ahead of the next data (RFC 8446 section 4.6.3).

mod config;
mod reader;
mod writer;

use std::io;
use std::sync::Arc;
use std::time::Instant;

use rustls::Connection;
use rustls::pki_types::CertificateDer;

use super::{Duplex, Timed};
use crate::failure::{Failure, HandshakeError, TlsError};

use crate::sync::{Mutex, MutexGuard};
pub use config::Tls;
pub(crate) use config::{client_connection, without_identity};
use reader::TlsReader;
use writer::TlsWriter;

/// What both halves share. Whoever locks it does nothing that blocks.
#[derive(Debug)]
struct Shared(Mutex<Session>);

#[derive(Debug)]
struct Session {
    connection: Connection,
    /// What came has broken it: nothing is decrypted any more, nor encrypted.
    is_broken: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Session> {
        self.0.lock()
    }
}

/// Shakes hands over `duplex` until the deadline, as client.
pub(crate) fn open(
    mut duplex: Duplex,
    connection: impl Into<Connection>,
    deadline: Instant,
) -> Result<Duplex, Failure> {
    let mut connection = connection.into();
    shake_hands(&mut Timed::new(&mut duplex, deadline), &mut connection)?;
    Ok(split(duplex, connection))
}

/// The same as server; returns the certificates that the client has shown, too. `has_spoken` says
/// whether any byte came, also of a handshake that fails.
pub(crate) fn accept(
    mut duplex: Duplex,
    connection: impl Into<Connection>,
    deadline: Instant,
    has_spoken: &mut bool,
) -> Result<(Duplex, Vec<CertificateDer<'static>>), Failure> {
    let mut connection = connection.into();
    let mut timed = Timed::new(&mut duplex, deadline);
    let result = shake_hands(&mut timed, &mut connection);
    *has_spoken = timed.has_heard();
    result?;
    let certificates = connection.peer_certificates().unwrap_or_default().to_vec();
    let certificates = certificates.into_iter().map(CertificateDer::into_owned).collect();
    Ok((split(duplex, connection), certificates))
}

fn shake_hands(timed: &mut Timed<'_>, connection: &mut Connection) -> Result<(), Failure> {
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

fn split(duplex: Duplex, connection: Connection) -> Duplex {
    let Duplex { reader, writer, hangup } = duplex;
    let shared = Arc::new(Shared(Mutex::new(Session { connection, is_broken: false })));
    Duplex {
        reader: Box::new(TlsReader::new(reader, Arc::clone(&shared))),
        writer: Box::new(TlsWriter::new(writer, shared)),
        hangup,
    }
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

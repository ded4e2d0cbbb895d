//! From plaintext to records, and the only place from which records go to the socket.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use super::{Session, Shared};
use crate::transport::{Advanced, ReadingFailed, WriteHalf};

/// How much plaintext is encrypted before the records are written.
const PLAINTEXT: usize = 64 * 1024;

/// A socket that is full is offered no more than this at a time: it takes that as soon as it has
/// room, so that whoever waits knows that it took something.
const PIECE: usize = 16 * 1024;

/// The writing half. Plaintext counts as written once it is encrypted: its records are on their
/// way from then on, one after the other, and no failure can tell which of them have arrived.
#[derive(Debug)]
pub(super) struct TlsWriter {
    half: Box<dyn WriteHalf>,
    shared: Arc<Shared>,
    /// Records on their way to the socket, of which `sent` bytes are there.
    records: Vec<u8>,
    sent: usize,
}

impl TlsWriter {
    pub(super) fn new(half: Box<dyn WriteHalf>, shared: Arc<Shared>) -> Self {
        Self { half, shared, records: Vec::new(), sent: 0 }
    }

    /// Writes what records there are. After an error the rest is still to be written.
    fn drain(&mut self, may_wait: bool) -> io::Result<()> {
        while self.sent < self.records.len() {
            let rest = &self.records[self.sent..];
            match self.half.try_write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && may_wait => {
                    self.sent += self.half.write(&rest[..rest.len().min(PIECE)])?;
                    if self.sent < self.records.len() {
                        return Err(Advanced.into());
                    }
                }
                Err(error) => return Err(error),
            }
        }
        self.records.clear();
        self.records.shrink_to(2 * PLAINTEXT);
        self.sent = 0;
        if may_wait { self.half.flush() } else { self.half.try_flush() }
    }

    /// Encrypts, and takes out all that rustls wants to send. Nothing is encrypted once the
    /// connection is broken: no data follows an alert.
    fn encrypt(&mut self, plaintext: &[u8]) -> io::Result<usize> {
        let mut session = self.shared.lock();
        let Session { connection, is_broken } = &mut *session;
        let taken = match plaintext {
            [] => Ok(0),
            _ if *is_broken => Err(ReadingFailed.into()),
            _ => connection.writer().write(plaintext),
        };
        while connection.wants_write() {
            connection.write_tls(&mut self.records)?;
        }
        taken
    }

    fn accept(&mut self, plaintext: &[u8], may_wait: bool) -> io::Result<usize> {
        // what is on its way goes first
        self.drain(may_wait)?;
        let taken = self.encrypt(&plaintext[..plaintext.len().min(PLAINTEXT)]);
        match self.drain(may_wait) {
            Ok(()) => taken,
            // the next call meets the error, or goes on
            Err(_) if matches!(taken, Ok(1..)) => taken,
            Err(error) => Err(error),
        }
    }

    fn flush_all(&mut self, may_wait: bool) -> io::Result<()> {
        self.drain(may_wait)?;
        self.encrypt(&[])?;
        self.drain(may_wait)
    }
}

impl Write for TlsWriter {
    /// Encrypts and writes. What is accepted may be half on its way when the connection breaks.
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.accept(buf, true)
    }

    /// Writes what is on its way, and what rustls has to say of itself.
    fn flush(&mut self) -> io::Result<()> {
        self.flush_all(true)
    }
}

impl WriteHalf for TlsWriter {
    fn set_write_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.half.set_write_timeout(timeout)
    }

    fn try_write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.accept(buf, false)
    }

    fn try_flush(&mut self) -> io::Result<()> {
        self.flush_all(false)
    }

    fn say_goodbye(&mut self) -> io::Result<()> {
        self.shared.lock().connection.send_close_notify();
        self.flush()
    }

    fn finish(&mut self) -> io::Result<()> {
        self.say_goodbye()?;
        self.half.finish()
    }
}

//! Records to plaintext and back, once hands are shaken.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use rustls::Connection;

use crate::sync::Mutex;
use crate::transport::{Duplex, ReadBuffer, ReadHalf, Reason, WriteHalf};

/// What both halves share. Whoever locks it does nothing that blocks.
#[derive(Debug)]
struct TlsSession {
    connection: Connection,
    /// What came has broken it: nothing is decrypted any more, nor encrypted.
    is_broken: bool,
}

/// The connection in halves, once hands are shaken.
pub(super) fn split(duplex: Duplex, connection: Connection) -> Duplex {
    let Duplex { reader, writer, hangup } = duplex;
    let shared = Arc::new(Mutex::new(TlsSession { connection, is_broken: false }));
    Duplex {
        reader: Box::new(TlsReader::new(reader, Arc::clone(&shared))),
        writer: Box::new(TlsWriter::new(writer, shared)),
        hangup,
    }
}

/// The reading half. Ciphertext that rustls has not taken yet waits in a buffer of its own.
#[derive(Debug)]
struct TlsReader {
    half: Box<dyn ReadHalf>,
    shared: Arc<Mutex<TlsSession>>,
    ciphertext: ReadBuffer,
    wants_write: bool,
    /// What came has broken the connection; said once the data before it is read.
    failure: Option<rustls::Error>,
    /// That was said: what still comes is discarded.
    is_broken: bool,
}

impl TlsReader {
    fn new(half: Box<dyn ReadHalf>, shared: Arc<Mutex<TlsSession>>) -> Self {
        let ciphertext = ReadBuffer::new(Vec::new());
        Self { half, shared, ciphertext, wants_write: false, failure: None, is_broken: false }
    }

    /// Yields plaintext if there is some, feeding rustls what was read; `None` if the socket has
    /// to be read. Blocks in nothing.
    fn decrypt(&mut self, buf: &mut [u8]) -> Option<io::Result<usize>> {
        let mut session = self.shared.lock();
        let TlsSession { connection, is_broken } = &mut *session;
        loop {
            match connection.reader().read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    // in plain words, and without the address of a page about it
                    let words = "the peer ended the stream without ending TLS";
                    return Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, words)));
                }
                result => return Some(result),
            }
            if let Some(error) = self.failure.take() {
                self.wants_write = !matches!(error, rustls::Error::AlertReceived(_));
                self.is_broken = true;
                return Some(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
            }
            let mut input = self.ciphertext.unread();
            if input.is_empty() {
                return None;
            }
            match connection.read_tls(&mut input) {
                // rustls has no room although all plaintext was taken: a record without end
                Ok(0) => return Some(Err(io::ErrorKind::InvalidData.into())),
                Ok(taken) => {
                    self.ciphertext.take(taken);
                }
                Err(error) => return Some(Err(error)),
            }
            match connection.process_new_packets() {
                Ok(_) => self.wants_write = connection.wants_write(),
                Err(error) => {
                    self.failure = Some(error);
                    *is_broken = true;
                }
            }
        }
    }
}

impl Read for TlsReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.is_broken {
            let count = self.half.read(self.ciphertext.space())?;
            return if count == 0 { Ok(0) } else { Err(Reason::NoDataYet.into()) };
        }
        if let Some(result) = self.decrypt(buf) {
            return result;
        }
        let count = self.half.read(self.ciphertext.space())?;
        if count == 0 {
            // has rustls know of the end: without a close_notify before it, it is a truncation
            self.shared.lock().connection.read_tls(&mut io::empty())?;
            return self.decrypt(buf).unwrap_or(Ok(0));
        }
        self.ciphertext.filled(count);
        self.decrypt(buf).unwrap_or_else(|| Err(Reason::NoDataYet.into()))
    }
}

impl ReadHalf for TlsReader {
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.half.set_read_timeout(timeout)
    }

    fn read_buffered(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.decrypt(buf).unwrap_or(Ok(0))
    }

    fn wants_write(&mut self) -> bool {
        std::mem::take(&mut self.wants_write)
    }

    fn relax(&mut self) {
        self.ciphertext.relax();
    }
}

/// How much plaintext is encrypted before the records are written.
const PLAINTEXT: usize = 64 * 1024;

/// A socket that is full is offered no more than this at a time: it takes that as soon as it has
/// room, so that whoever waits knows that it took something.
const PIECE: usize = 16 * 1024;

/// The writing half. Plaintext counts as written once it is encrypted: its records are on their
/// way from then on, one after the other, and no failure can tell which of them have arrived.
#[derive(Debug)]
struct TlsWriter {
    half: Box<dyn WriteHalf>,
    shared: Arc<Mutex<TlsSession>>,
    /// Records on their way to the socket, of which `sent` bytes are there.
    records: Vec<u8>,
    sent: usize,
}

impl TlsWriter {
    fn new(half: Box<dyn WriteHalf>, shared: Arc<Mutex<TlsSession>>) -> Self {
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
                        return Err(Reason::Advanced.into());
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
        let TlsSession { connection, is_broken } = &mut *session;
        let taken = match plaintext {
            [] => Ok(0),
            _ if *is_broken => Err(Reason::ReadingFailed.into()),
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

//! From records to plaintext.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use super::{Session, Shared};
use crate::transport::{NoDataYet, ReadBuffer, ReadHalf};

/// The reading half. Ciphertext that rustls has not taken yet waits in a buffer of its own.
#[derive(Debug)]
pub(super) struct TlsReader {
    half: Box<dyn ReadHalf>,
    shared: Arc<Shared>,
    ciphertext: ReadBuffer,
    wants_write: bool,
    /// What came has broken the connection; said once the data before it is read.
    failure: Option<rustls::Error>,
    /// That was said: what still comes is discarded.
    is_broken: bool,
}

impl TlsReader {
    pub(super) fn new(half: Box<dyn ReadHalf>, shared: Arc<Shared>) -> Self {
        let ciphertext = ReadBuffer::new(Vec::new());
        Self { half, shared, ciphertext, wants_write: false, failure: None, is_broken: false }
    }

    /// Yields plaintext if there is some, feeding rustls what was read; `None` if the socket has
    /// to be read. Blocks in nothing.
    fn decrypt(&mut self, buf: &mut [u8]) -> Option<io::Result<usize>> {
        let mut session = self.shared.lock();
        let Session { connection, is_broken } = &mut *session;
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
            return if count == 0 { Ok(0) } else { Err(NoDataYet.into()) };
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
        self.decrypt(buf).unwrap_or_else(|| Err(NoDataYet.into()))
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

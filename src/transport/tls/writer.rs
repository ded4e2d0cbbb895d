//! From plaintext to records, and the only place from which records go to the socket.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use crate::transport::WriteHalf;

/// How much plaintext is encrypted before the records are written.
const PLAINTEXT: usize = 64 * 1024;

/// The writing half.
#[derive(Debug)]
pub(super) struct TlsWriter {
    half: Box<dyn WriteHalf>,
    shared: Arc<Shared>,
    /// Records on their way to the socket, of which `sent` bytes are there.
    records: Vec<u8>,
    sent: usize,
    /// How much plaintext the records carry that `write` has not owned up to yet.
    in_records: usize,
}

impl TlsWriter {
    pub(super) fn new(half: Box<dyn WriteHalf>, shared: Arc<Shared>) -> Self {
        Self { half, shared, records: Vec::new(), sent: 0, in_records: 0 }
    }

    /// Writes what records there are. After an error the rest is still to be written.
    fn drain(&mut self) -> io::Result<()> {
        while self.sent < self.records.len() {
            match self.half.write(&self.records[self.sent..])? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => self.sent += count,
            }
        }
        self.records.clear();
        self.records.shrink_to(2 * PLAINTEXT);
        self.sent = 0;
        Ok(())
    }

    /// Encrypts, and takes out all that rustls wants to send.
    fn encrypt(&mut self, plaintext: &[u8]) -> io::Result<usize> {
        let mut connection = self.shared.lock();
        let mut taken = 0;
        if !plaintext.is_empty() {
            taken = connection.writer().write(plaintext)?;
        }
        while connection.wants_write() {
            connection.write_tls(&mut self.records)?;
        }
        Ok(taken)
    }
}

impl Write for TlsWriter {
    /// Encrypts and writes. After an error nothing of `buf` counts as written, although its
    /// records may be half on their way: call again with the same bytes, and they go on.
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.in_records == 0 {
            self.drain()?;
            self.in_records = self.encrypt(&buf[..buf.len().min(PLAINTEXT)])?;
        }
        self.drain()?;
        Ok(std::mem::take(&mut self.in_records))
    }

    /// Writes what rustls has to say of itself.
    fn flush(&mut self) -> io::Result<()> {
        self.drain()?;
        self.encrypt(&[])?;
        self.drain()
    }
}

impl WriteHalf for TlsWriter {
    fn set_write_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.half.set_write_timeout(timeout)
    }

    fn say_goodbye(&mut self) -> io::Result<()> {
        self.shared.lock().send_close_notify();
        self.flush()
    }

    fn finish(&mut self) -> io::Result<()> {
        self.say_goodbye()?;
        self.half.finish()
    }
}

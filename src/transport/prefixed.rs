//! Bytes that were read too early, given back to whoever reads next.

use std::io::{self, Read};
use std::time::Duration;

use super::{Duplex, ReadHalf};

impl Duplex {
    /// Has these bytes read before any other.
    pub(crate) fn put_back(self, bytes: Vec<u8>) -> Self {
        if bytes.is_empty() {
            return self;
        }
        let reader = Prefixed { bytes: io::Cursor::new(bytes), reader: self.reader };
        Self { reader: Box::new(reader), ..self }
    }
}

#[derive(Debug)]
struct Prefixed {
    bytes: io::Cursor<Vec<u8>>,
    reader: Box<dyn ReadHalf>,
}

impl Prefixed {
    /// Frees what was read; returns how much of the prefix went into the buffer.
    fn take(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read(buf)?;
        if count == 0 && !buf.is_empty() {
            self.bytes = io::Cursor::default();
        }
        Ok(count)
    }
}

impl Read for Prefixed {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.take(buf)? {
            0 => self.reader.read(buf),
            count => Ok(count),
        }
    }
}

impl ReadHalf for Prefixed {
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.reader.set_read_timeout(timeout)
    }

    fn read_buffered(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.take(buf)? {
            0 => self.reader.read_buffered(buf),
            count => Ok(count),
        }
    }

    fn wants_write(&mut self) -> bool {
        self.reader.wants_write()
    }
}

//! Bytes that were read too early, given back to whoever reads next.

use std::io::{self, IoSliceMut, Read};
use std::time::Duration;

use super::ReadHalf;

#[derive(Debug)]
pub(super) struct Prefixed {
    bytes: io::Cursor<Vec<u8>>,
    reader: Box<dyn ReadHalf>,
}

impl Prefixed {
    pub(super) fn new(bytes: Vec<u8>, reader: Box<dyn ReadHalf>) -> Self {
        Self { bytes: io::Cursor::new(bytes), reader }
    }

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

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self.bytes.read_vectored(bufs)? {
            0 => self.reader.read_vectored(bufs),
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

    fn read_buffered_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self.bytes.read_vectored(bufs)? {
            0 => self.reader.read_buffered_vectored(bufs),
            count => Ok(count),
        }
    }

    fn relax(&mut self) {
        self.reader.relax();
    }

    fn wants_write(&mut self) -> bool {
        self.reader.wants_write()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    /// Holds on to memory until it is told not to.
    #[derive(Debug)]
    struct Hoarder(Arc<AtomicBool>);

    impl Read for Hoarder {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Ok(0)
        }
    }

    impl ReadHalf for Hoarder {
        fn set_read_timeout(&mut self, _: Option<Duration>) -> io::Result<()> {
            Ok(())
        }

        fn relax(&mut self) {
            self.0.store(true, Relaxed);
        }
    }

    #[test]
    fn an_idle_transport_gives_memory_back_behind_a_prefix_too() {
        let relaxed = Arc::new(AtomicBool::new(false));
        let mut half = Prefixed::new(b"x".to_vec(), Box::new(Hoarder(Arc::clone(&relaxed))));
        half.relax();
        assert!(relaxed.load(Relaxed));
    }
}

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

    /// Frees what was read; returns how much of the prefix went into the buffers.
    fn take(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let count = self.bytes.read_vectored(bufs)?;
        if count == 0 && bufs.iter().any(|buf| !buf.is_empty()) {
            self.bytes = io::Cursor::default();
        }
        Ok(count)
    }
}

impl Read for Prefixed {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_vectored(&mut [IoSliceMut::new(buf)])
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self.take(bufs)? {
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
        self.read_buffered_vectored(&mut [IoSliceMut::new(buf)])
    }

    fn read_buffered_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self.take(bufs)? {
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

    #[derive(Debug)]
    struct Behind(io::Cursor<&'static [u8]>);

    impl Read for Behind {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.0.read(buf)
        }
    }

    impl ReadHalf for Behind {
        fn set_read_timeout(&mut self, _: Option<Duration>) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_prefix_comes_first_and_is_freed_behind_it() {
        for is_vectored in [false, true] {
            let behind = Box::new(Behind(io::Cursor::new(b"def")));
            let mut reader = Prefixed::new(b"abc".to_vec(), behind);
            let (mut all, mut one, mut two) = (Vec::new(), [0; 1], [0; 1]);
            loop {
                let bufs = &mut [&mut one, &mut two].map(|buf| IoSliceMut::new(buf));
                let result = match is_vectored {
                    true => reader.read_vectored(bufs),
                    false => reader.read(&mut bufs[0]),
                };
                let count = result.unwrap();
                if count == 0 {
                    break;
                }
                all.extend_from_slice(&[one[0], two[0]][..count]);
            }
            assert_eq!(all, b"abcdef");
            assert_eq!(reader.bytes.get_ref().capacity(), 0);
        }
    }
}

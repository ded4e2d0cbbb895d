//! A read buffer that is large under load and gone when idle.

use std::io::{self, Read};

/// The least that is worth a buffer, and the most that is read at once.
const LEAST: usize = 2 * 1024;
const MOST: usize = 128 * 1024;

/// After so many reads in a row that would have fitted into a quarter of it, the room shrinks.
const SHRINK_AFTER: u32 = 16;

/// Bytes that were read ahead of whoever takes them. A read that fills all the room there is
/// has the next one find four times as much; a row of small ones gives it back, so that a
/// connection that has become quiet holds no memory for the burst before.
#[derive(Debug)]
pub(crate) struct Ahead {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// How much the next read may take.
    room: usize,
    small_reads: u32,
}

impl Ahead {
    pub(crate) fn new() -> Self {
        Self { buffer: Vec::new(), start: 0, end: 0, room: LEAST, small_reads: 0 }
    }

    /// What was read and is not taken yet.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    pub(crate) fn has_unread(&self) -> bool {
        self.start < self.end
    }

    pub(crate) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// Reads once; for when nothing is unread.
    pub(crate) fn fill(&mut self, source: &mut dyn Read) -> io::Result<usize> {
        (self.start, self.end) = (0, 0);
        if self.buffer.len() != self.room {
            self.buffer = vec![0; self.room];
        }
        self.end = source.read(&mut self.buffer)?;
        self.adapt(self.end, self.room);
        Ok(self.end)
    }

    /// Reads through a buffer of the caller's, past this one if that is as large.
    pub(crate) fn read(&mut self, buf: &mut [u8], source: &mut dyn Read) -> io::Result<usize> {
        if self.unread().is_empty() {
            if buf.len() >= self.room {
                self.buffer = Vec::new();
                (self.start, self.end) = (0, 0);
                let count = source.read(buf)?;
                self.adapt(count, buf.len());
                return Ok(count);
            }
            self.fill(source)?;
        }
        let count = buf.len().min(self.end - self.start);
        buf[..count].copy_from_slice(&self.unread()[..count]);
        self.consume(count);
        Ok(count)
    }

    /// `count` bytes came where `asked` would have fitted.
    fn adapt(&mut self, count: usize, asked: usize) {
        if count == 0 {
            return;
        }
        if count == asked {
            self.room = (asked * 4).clamp(LEAST, MOST);
        }
        self.small_reads = if count < self.room / 4 { self.small_reads + 1 } else { 0 };
        if self.small_reads == SHRINK_AFTER {
            self.room = (self.room / 4).max(LEAST);
            self.small_reads = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Yields as much as it is asked for, up to a limit.
    struct Source {
        next: u8,
        limit: usize,
    }

    impl Read for Source {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let count = buf.len().min(self.limit);
            for byte in &mut buf[..count] {
                *byte = self.next;
                self.next = self.next.wrapping_add(1);
            }
            Ok(count)
        }
    }

    #[test]
    fn it_grows_with_a_burst_and_is_gone_after_it() {
        let mut ahead = Ahead::new();
        let mut buf = [0; LEAST];
        let mut source = Source { next: 0, limit: usize::MAX };
        for _ in 0..100 {
            ahead.read(&mut buf, &mut source).unwrap();
        }
        assert_eq!(ahead.buffer.len(), MOST);
        source.limit = 100;
        for _ in 0..1000 {
            ahead.read(&mut buf, &mut source).unwrap();
        }
        assert_eq!((ahead.room, ahead.buffer.capacity()), (LEAST, 0));
    }

    #[test]
    fn an_error_loses_nothing() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::TimedOut.into())
            }
        }
        let mut ahead = Ahead::new();
        let mut buf = [0; 16];
        assert!(ahead.read(&mut buf, &mut Broken).is_err());
        assert_eq!(ahead.read(&mut buf, &mut &b"abc"[..]).unwrap(), 3);
        assert_eq!(&buf[..3], b"abc");
    }

    proptest! {
        /// However the reads are cut on either side, every byte comes once and in order.
        #[test]
        fn no_byte_is_lost_or_moved(
            sizes in prop::collection::vec((1..40_000_usize, 1..20_000_usize), 1..40),
        ) {
            let mut ahead = Ahead::new();
            let mut source = Source { next: 0, limit: 0 };
            let mut expected = 0_u8;
            for (limit, asked) in sizes {
                source.limit = limit;
                let mut buf = vec![0; asked];
                let count = ahead.read(&mut buf, &mut source).unwrap();
                prop_assert!(count > 0);
                for byte in &buf[..count] {
                    prop_assert_eq!(*byte, expected);
                    expected = expected.wrapping_add(1);
                }
            }
        }
    }
}

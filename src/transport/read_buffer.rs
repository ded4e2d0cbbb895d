//! What was read and is not decoded yet: large under load, small when idle.

/// The least that is worth a buffer, and the most that is read at once.
const LEAST: usize = 2 * 1024;
const MOST: usize = 128 * 1024;

/// After so many reads in a row that would have fitted into a quarter of it, it shrinks.
const SHRINK_AFTER: u32 = 16;

/// Bytes between the socket and the decoder. A read that fills all the room there is has the next
/// one find four times as much; a row of small ones gives it back, and so does
/// [`ReadBuffer::relax`].
///
/// Most decoders leave no more than a few bytes undecoded (the header of a frame, a control frame). A codec of
/// the program's may leave many, and the buffer grows with them: to twice of what there is each time
/// that it is full, so that the time for it stays in proportion.
#[derive(Debug)]
pub(crate) struct ReadBuffer {
    bytes: Vec<u8>,
    /// Bytes before this were decoded.
    start: usize,
    /// Bytes before this were read.
    end: usize,
    /// How much it wants to hold.
    room: usize,
    small_reads: u32,
}

impl ReadBuffer {
    /// Begins with what was read already.
    pub(crate) fn new(read: Vec<u8>) -> Self {
        let end = read.len();
        Self { bytes: read, start: 0, end, room: LEAST, small_reads: 0 }
    }

    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Takes so many bytes out, all of which are there.
    #[inline(always)]
    pub(crate) fn take(&mut self, count: usize) -> &mut [u8] {
        let from = self.start;
        self.start += count;
        &mut self.bytes[from..self.start]
    }

    /// Takes up to so many bytes out.
    pub(crate) fn take_up_to(&mut self, count: usize) -> &mut [u8] {
        self.take(count.min(self.end - self.start))
    }

    /// Where the next bytes go; never empty.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        let (held, size) = (self.end - self.start, self.bytes.len());
        let is_full = self.end + LEAST / 2 > size;
        let is_tight = is_full && size < 2 * held;
        if is_tight || size < self.room || size > self.room.max(4 * held) {
            let mut bytes = vec![0; self.room.max(2 * held)];
            bytes[..held].copy_from_slice(self.unread());
            self.bytes = bytes;
            (self.start, self.end) = (0, held);
        } else if is_full || held <= self.start / 16 {
            // little is moved for what was taken, and short reads find the same memory in the cache
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, held);
        }
        &mut self.bytes[self.end..]
    }

    /// Adds bytes that came in another way.
    pub(crate) fn append(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let space = self.space();
            let count = space.len().min(bytes.len());
            space[..count].copy_from_slice(&bytes[..count]);
            self.end += count;
            bytes = &bytes[count..];
        }
    }

    /// So many bytes have come into the space.
    pub(crate) fn filled(&mut self, count: usize) {
        let asked = self.bytes.len() - self.end;
        self.end += count;
        self.adapt(count, asked);
    }

    /// `count` bytes came where `asked` would have fitted.
    fn adapt(&mut self, count: usize, asked: usize) {
        if count == 0 {
            return;
        }
        if count == asked {
            self.room = (self.room.max(LEAST) * 4).min(MOST);
        }
        self.small_reads = if count < self.room / 4 { self.small_reads + 1 } else { 0 };
        if self.small_reads == SHRINK_AFTER {
            self.room = (self.room / 4).max(LEAST);
            self.small_reads = 0;
        }
    }

    /// Whether it holds on to more memory than an idle connection should.
    pub(crate) fn is_large(&self) -> bool {
        self.bytes.len() > LEAST
    }

    /// The connection is idle: gives back what the last burst took.
    pub(crate) fn relax(&mut self) {
        self.room = LEAST;
        self.small_reads = 0;
        if self.start == self.end && self.is_large() {
            *self = Self::new(Vec::new());
        }
    }
}

impl Default for ReadBuffer {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(buffer: &mut ReadBuffer, most: usize) -> usize {
        let space = buffer.space();
        let count = space.len().min(most);
        buffer.filled(count);
        count
    }

    #[test]
    fn it_grows_with_a_burst_and_gives_it_back() {
        let mut buffer = ReadBuffer::new(Vec::new());
        for _ in 0..100 {
            let count = read(&mut buffer, usize::MAX);
            buffer.take(count);
        }
        assert_eq!(buffer.bytes.len(), MOST);
        for _ in 0..100 {
            let count = read(&mut buffer, 100);
            buffer.take(count);
        }
        assert_eq!(buffer.bytes.len(), LEAST);
    }

    #[test]
    fn an_idle_connection_gives_it_back_at_once() {
        let mut buffer = ReadBuffer::new(Vec::new());
        for _ in 0..10 {
            let count = read(&mut buffer, usize::MAX);
            buffer.take(count);
        }
        assert!(buffer.is_large());
        buffer.relax();
        buffer.space();
        assert!(!buffer.is_large());
    }

    #[test]
    fn what_waits_in_it_is_not_copied_with_each_read() {
        let (mut buffer, mut sizes) = (ReadBuffer::default(), Vec::new());
        for _ in 0..20_000 {
            read(&mut buffer, 100);
            sizes.push(buffer.bytes.len());
        }
        assert_eq!(buffer.unread().len(), 2_000_000);
        sizes.dedup();
        assert!(sizes.len() <= 30, "{sizes:?}");
        buffer.take(1_999_990);
        read(&mut buffer, 100);
        assert!(buffer.bytes.len() <= MOST, "given back");
    }

    proptest! {
        /// However it is filled and emptied, every byte comes once and in order.
        #[test]
        fn no_byte_is_lost_or_moved(
            begin in any::<u8>(),
            steps in prop::collection::vec((1..40_000_usize, 0..40_000_usize), 1..60),
        ) {
            let mut buffer = ReadBuffer::new((0..begin).collect());
            let (mut next, mut expected) = (begin, 0_u8);
            for (most, take) in steps {
                let space = buffer.space();
                prop_assert!(!space.is_empty());
                let count = most.min(space.len());
                for byte in &mut space[..count] {
                    *byte = next;
                    next = next.wrapping_add(1);
                }
                buffer.filled(count);
                for byte in buffer.take_up_to(take) {
                    prop_assert_eq!(*byte, expected);
                    expected = expected.wrapping_add(1);
                }
            }
            for byte in buffer.unread() {
                prop_assert_eq!(*byte, expected);
                expected = expected.wrapping_add(1);
            }
        }
    }
}

//! What is encoded and not written yet.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

/// A payload of this size is not copied when it goes out as it is.
pub(crate) const SHARED_FROM: usize = 16 * 1024;

/// An empty buffer of up to this size is kept.
const KEPT: usize = 4 * 1024;

/// How many pieces are offered to the socket at once.
pub(crate) const SLICES: usize = 8;

/// Bytes on their way to the socket, and a cursor that says how many of them it has taken. Bytes
/// are only ever appended, and leave it only by [`Output::advance`]: none is written twice.
///
/// Places in the stream are counted in bytes since the link began.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pieces: VecDeque<Piece>,
    /// How much of the first piece is taken.
    start: usize,
    /// How many bytes were encoded, and how many of them were taken.
    encoded: u64,
    taken: u64,
    /// An empty buffer, to be used again.
    spare: Vec<u8>,
}

#[derive(Debug)]
enum Piece {
    Copied(Vec<u8>),
    Shared(Bytes),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Copied(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl Output {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The place behind all that was encoded.
    pub(crate) fn encoded(&self) -> u64 {
        self.encoded
    }

    /// The place behind all that was taken.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.encoded == self.taken
    }

    fn tail(&mut self) -> &mut Vec<u8> {
        if !matches!(self.pieces.back(), Some(Piece::Copied(_))) {
            self.pieces.push_back(Piece::Copied(std::mem::take(&mut self.spare)));
        }
        match self.pieces.back_mut() {
            Some(Piece::Copied(bytes)) => bytes,
            // never: it was just put there
            _ => &mut self.spare,
        }
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.encoded += bytes.len() as u64;
        self.tail().extend_from_slice(bytes);
    }

    /// Appends a copy that the closure may change.
    pub(crate) fn append_changed(&mut self, bytes: &[u8], change: impl FnOnce(&mut [u8])) {
        self.encoded += bytes.len() as u64;
        let tail = self.tail();
        let from = tail.len();
        tail.extend_from_slice(bytes);
        change(&mut tail[from..]);
    }

    /// Appends without copying.
    pub(crate) fn append_shared(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.encoded += bytes.len() as u64;
            self.pieces.push_back(Piece::Shared(bytes));
        }
    }

    /// Takes everything out.
    pub(crate) fn take_all(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while !self.is_empty() {
            let count = self.first(usize::MAX).len();
            all.extend_from_slice(self.first(count));
            self.advance(count);
        }
        all
    }

    /// What comes next, piece by piece; returns how many pieces that are.
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES]) -> usize {
        let mut count = 0;
        let mut skip = self.start;
        for piece in &self.pieces {
            let bytes = &piece.bytes()[skip..];
            skip = 0;
            if bytes.is_empty() {
                continue;
            }
            slices[count] = IoSlice::new(bytes);
            count += 1;
            if count == SLICES {
                break;
            }
        }
        count
    }

    /// What comes next, up to so many bytes of it.
    pub(crate) fn first(&self, most: usize) -> &[u8] {
        let mut skip = self.start;
        for piece in &self.pieces {
            let bytes = &piece.bytes()[skip..];
            skip = 0;
            if !bytes.is_empty() {
                return &bytes[..bytes.len().min(most)];
            }
        }
        &[]
    }

    /// The next so many bytes were taken.
    pub(crate) fn advance(&mut self, mut count: usize) {
        self.taken += count as u64;
        while let Some(first) = self.pieces.front() {
            let left = first.bytes().len() - self.start;
            if count < left {
                self.start += count;
                return;
            }
            count -= left;
            self.start = 0;
            if let Some(Piece::Copied(mut bytes)) = self.pieces.pop_front() {
                if bytes.capacity() > self.spare.capacity() {
                    bytes.clear();
                    self.spare = bytes;
                }
            }
        }
    }

    /// Whether it holds on to more memory than an idle connection should.
    pub(crate) fn is_large(&self) -> bool {
        self.spare.capacity() > KEPT
    }

    /// Nothing is to be written for a while: gives back what a burst took.
    pub(crate) fn relax(&mut self) {
        if self.is_empty() {
            self.pieces = VecDeque::new();
            if self.spare.capacity() > KEPT {
                self.spare = Vec::new();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pending(output: &Output) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = output.slices(&mut slices);
        slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect()
    }

    #[test]
    fn a_burst_is_given_back() {
        let mut output = Output::new();
        output.append(&[0; 100_000]);
        output.advance(100_000);
        assert!(output.spare.capacity() >= 100_000, "kept while there is traffic");
        output.relax();
        assert_eq!(output.spare.capacity(), 0);
    }

    proptest! {
        /// However much is taken each time, every byte comes out once and in order.
        #[test]
        fn no_byte_is_lost_doubled_or_moved(
            steps in prop::collection::vec((0..3_u8, 0..50_usize, 0..80_usize), 1..60),
        ) {
            let (mut output, mut next, mut expected) = (Output::new(), 0_u8, Vec::new());
            let mut out = Vec::new();
            for (kind, size, take) in steps {
                let bytes: Vec<u8> = (0..size).map(|n| next.wrapping_add(n as u8)).collect();
                next = next.wrapping_add(size as u8);
                expected.extend_from_slice(&bytes);
                match kind {
                    0 => output.append(&bytes),
                    1 => output.append_shared(bytes.into()),
                    _ => output.append_changed(&vec![0; size], |copy| copy.copy_from_slice(&bytes)),
                }
                let offered = pending(&output);
                prop_assert!(offered.starts_with(output.first(7)));
                prop_assert_eq!(output.first(7).is_empty(), output.is_empty());
                let take = take.min(offered.len());
                out.extend_from_slice(&offered[..take]);
                output.advance(take);
                prop_assert_eq!(output.taken(), out.len() as u64);
            }
            while !output.is_empty() {
                let offered = pending(&output);
                output.advance(offered.len());
                out.extend(offered);
            }
            prop_assert_eq!(out, expected);
        }
    }
}

//! Compressed messages (RFC 7692 section 7.2), on the streams of flate2.
//!
//! A stream is made with the first compressed message in its direction, so a link on which nothing
//! is compressed has none. With context takeover it lives as long as the link, for every message
//! may refer to those before it; without, it is given back when the link is idle.

use bytes::Bytes;
use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};

use super::deflated_once::DeflatedOnce;
use crate::failure::{Failure, guarded};
use crate::message::{CloseCode, Message};
use crate::policy::{AgreedCompression, Compression};
use crate::wire::violations::{too_big, violation};

/// What a message ends with on this side, and is sent without (section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// How much is inflated at once. A message that is not longer is lent from there.
const INFLATED: usize = 16 * 1024;

/// An empty buffer of up to this size is kept for the next message.
const KEPT: usize = 16 * 1024;

/// An idle link keeps none that is larger than this.
const LARGE: usize = 4 * 1024;

/// More than what is left over when the output is full (zlib wants more than six bytes).
const SPARE: usize = 64;

/// Inflates one message after the other.
#[derive(Debug)]
pub(super) struct Inflater {
    takeover: bool,
    bits: u8,
    stream: Option<Decompress>,
    /// Empty, or [`INFLATED`] bytes long.
    buffer: Vec<u8>,
    /// How much of the buffer is inflated and was not handed on.
    held: usize,
    /// How long the message is so far.
    length: usize,
    /// Nothing has come of this message, or nothing since the peer has ended its stream: there is
    /// no block for the tail to end.
    is_between_blocks: bool,
}

impl Inflater {
    pub(super) fn new(agreed: AgreedCompression) -> Option<Self> {
        // a window that is larger than the peer's does no harm, and one of the default size can
        // be used again without allocating; the library has none of 8 bits
        let bits = if agreed.receive_takeover { agreed.receive_window_bits.max(9) } else { 15 };
        Some(Self {
            takeover: agreed.receive_takeover,
            bits,
            stream: None,
            buffer: Vec::new(),
            held: 0,
            length: 0,
            is_between_blocks: true,
        })
    }

    /// Inflates the next bytes of a message. What does not fit into the buffer is handed to
    /// `spill`, and what does is [`held`](Self::held).
    ///
    /// # Errors
    ///
    /// 1007 for what does not inflate, and 1009 as soon as the message is over the limit.
    pub(super) fn inflate(
        &mut self,
        mut input: &[u8],
        limit: usize,
        mut spill: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if self.buffer.is_empty() {
            self.buffer = vec![0; INFLATED];
        }
        let bits = self.bits;
        let stream =
            self.stream.get_or_insert_with(|| Decompress::new_with_window_bits(false, bits));
        loop {
            if self.held == self.buffer.len() {
                spill(&self.buffer)?;
                self.held = 0;
            }
            let (before, space) = (stream.total_in(), &mut self.buffer[self.held..]);
            let room = space.len();
            let begun = stream.total_out();
            let result = stream.decompress(input, space, FlushDecompress::None);
            let consumed = (stream.total_in() - before) as usize;
            let inflated = (stream.total_out() - begun) as usize;
            self.is_between_blocks &= consumed == 0;
            input = input.get(consumed..).unwrap_or_default();
            self.held += inflated;
            self.length += inflated;
            let excess = self.length.saturating_sub(limit);
            let status = match result {
                Ok(status) if excess == 0 => status,
                result => {
                    // the first violation counts, and not the one that a read happens to bring
                    // first: what came before this one may not be text
                    spill(&self.buffer[..self.held.saturating_sub(excess)])?;
                    return Err(match result {
                        Err(_) if excess == 0 => does_not_inflate(),
                        _ => too_big("an inflated message is", limit),
                    });
                }
            };
            if status == Status::StreamEnd {
                // section 7.2.3.4: another may follow, even inside of this message. Whoever ends a
                // stream has none to refer back to: it is how those flush who cannot otherwise
                stream.reset(false);
                self.is_between_blocks = true;
            } else if inflated < room {
                // all that can come of this
                return if input.is_empty() { Ok(()) } else { Err(does_not_inflate()) };
            }
            if input.is_empty() && status == Status::StreamEnd {
                return Ok(());
            }
        }
    }

    /// The message has come to its end.
    ///
    /// # Errors
    ///
    /// As for [`inflate`](Self::inflate).
    pub(super) fn finish(
        &mut self,
        limit: usize,
        spill: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if !self.is_between_blocks {
            self.inflate(&TAIL, limit, spill)?;
        }
        if !self.takeover {
            if let Some(stream) = &mut self.stream {
                stream.reset(false);
            }
        }
        (self.length, self.is_between_blocks) = (0, true);
        Ok(())
    }

    /// What is inflated and was not handed on; it is over with that.
    pub(super) fn take_held(&mut self) -> &[u8] {
        let held = std::mem::take(&mut self.held);
        &self.buffer[..held]
    }

    /// Whether there is something to be given back while the link is idle.
    pub(super) fn is_large(&self) -> bool {
        self.length == 0 && (!self.buffer.is_empty() || (!self.takeover && self.stream.is_some()))
    }

    /// The link is idle.
    pub(super) fn relax(&mut self) {
        if self.is_large() {
            self.buffer = Vec::new();
            if !self.takeover {
                self.stream = None;
            }
        }
    }
}

fn does_not_inflate() -> Failure {
    violation(CloseCode::INVALID_PAYLOAD, "compressed data that does not inflate")
}

/// Deflates one message after the other.
#[derive(Debug)]
pub(super) struct Deflater {
    compression: Compression,
    takeover: bool,
    bits: u8,
    stream: Option<Compress>,
    /// An empty buffer, to be used again.
    spare: Vec<u8>,
}

impl Deflater {
    /// `None` if nothing can be compressed so that the peer could inflate it.
    pub(super) fn new(agreed: AgreedCompression, compression: Compression) -> Option<Self> {
        agreed.can_send().then(|| Self {
            compression,
            takeover: agreed.send_takeover,
            bits: agreed.send_window_bits,
            stream: None,
            spare: Vec::new(),
        })
    }

    /// Deflates a message, with its kind in front; `None` if both are to go as they are.
    pub(super) fn deflate(&mut self, message: &Message, kind: Option<u8>) -> Option<Vec<u8>> {
        if self.wants(message) { self.compress(message, kind) } else { None }
    }

    /// The same for one that goes to many: what has come of it is theirs, too, if no context is kept.
    pub(super) fn deflate_once(
        &mut self,
        message: &Message,
        kind: Option<u8>,
        once: &DeflatedOnce,
    ) -> Option<Bytes> {
        if self.takeover {
            return self.deflate(message, kind).map(Bytes::from);
        }
        if !self.wants(message) {
            return None;
        }
        once.get_or_deflate(self.bits, kind, || {
            let deflated = self.compress(message, kind)?;
            let shared = Bytes::copy_from_slice(&deflated);
            self.put_back(deflated);
            Some(shared)
        })
    }

    /// Whether messages refer to those before them.
    pub(super) fn has_context(&self) -> bool {
        self.takeover
    }

    fn wants(&self, message: &Message) -> bool {
        let wants = guarded("compression closure", || self.compression.wants(message));
        wants.unwrap_or_else(|panic| {
            log::error!("{panic}");
            false
        })
    }

    fn compress(&mut self, message: &Message, kind: Option<u8>) -> Option<Vec<u8>> {
        let mut out = std::mem::take(&mut self.spare);
        out.reserve(message.len() / 4 + SPARE);
        let is_whole = self.run(kind, message.as_bytes(), &mut out);
        if !is_whole {
            // never, with these settings; what follows must not refer to half a message
            self.stream = None;
            self.takeover = false;
        }
        // without takeover nobody misses what was not sent
        let length = message.len() + usize::from(kind.is_some());
        let is_worth_it = self.takeover || out.len() < length;
        if is_whole && is_worth_it {
            return Some(out);
        }
        self.put_back(out);
        None
    }

    /// Returns whether all went well.
    fn run(&mut self, kind: Option<u8>, payload: &[u8], out: &mut Vec<u8>) -> bool {
        let (level, bits) = (flate2::Compression::new(self.compression.level), self.bits);
        let stream =
            self.stream.get_or_insert_with(|| Compress::new_with_window_bits(level, false, bits));
        if let Some(kind) = kind {
            // one byte only goes into the window, so nothing has to be said of the room for it
            let (before, flush) = (stream.total_in(), FlushCompress::None);
            if stream.compress_vec(&[kind], out, flush).is_err() || stream.total_in() == before {
                return false;
            }
        }
        let mut rest = payload;
        loop {
            let before = stream.total_in();
            if stream.compress_vec(rest, out, FlushCompress::Sync).is_err() {
                return false;
            }
            let consumed = (stream.total_in() - before) as usize;
            rest = rest.get(consumed..).unwrap_or_default();
            if out.len() < out.capacity() {
                break;
            }
            out.reserve(rest.len() / 4 + out.len() / 4 + SPARE);
        }
        if out.ends_with(&TAIL) {
            out.truncate(out.len() - TAIL.len());
        }
        if !self.takeover {
            stream.reset();
        }
        rest.is_empty()
    }

    /// Keeps a buffer for the next message.
    pub(super) fn put_back(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= KEPT {
            buffer.clear();
            self.spare = buffer;
        }
    }

    /// Whether there is something to be given back while the link is idle.
    pub(super) fn is_large(&self) -> bool {
        self.spare.capacity() > LARGE || (!self.takeover && self.stream.is_some())
    }

    /// The link is idle.
    pub(super) fn relax(&mut self) {
        self.spare = Vec::new();
        if !self.takeover {
            self.stream = None;
        }
    }
}

//! A message that comes in pieces.

use std::sync::Arc;

use crate::message::{Message, Pool};
use crate::sync::{Budget, Share};

/// How much memory may be taken ahead of the bytes that fill it; beyond half a megabyte, an eighth
/// of what has come, so that the time to gather a message stays in proportion to its length.
const AHEAD: usize = 64 * 1024;

/// Less room than this is not read to.
const WORTH_READING: usize = 16 * 1024;

/// A finished message keeps at most twice its own size alive, or this much.
const SLACK: usize = 4 * 1024;

/// The message whose pieces are coming, and the memory for it.
#[derive(Debug)]
pub(crate) struct Unfinished {
    message: Option<Assembly>,
    /// For that message, and for the one before it until that is delivered.
    share: Share,
    /// What waits elsewhere, and for that.
    held: usize,
    held_share: Share,
    pool: Arc<Pool>,
}

impl Unfinished {
    pub(super) fn new() -> Self {
        let (share, held_share) = (Share::default(), Share::default());
        Self { message: None, share, held: 0, held_share, pool: Pool::new() }
    }

    /// Where messages that come in pieces get their memory.
    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// What is unfinished, or not delivered yet, counts against this.
    pub(crate) fn within(&mut self, budget: &Budget) {
        (self.share, self.held_share) = (budget.share(), budget.share());
    }

    /// An empty share of what the messages count against.
    pub(crate) fn share(&self) -> Share {
        self.share.sibling()
    }

    /// Nothing more is decoded, after an error: lets go of what there is.
    pub(crate) fn abandon(&mut self) {
        self.message = None;
        self.share.shrink(0);
        self.held_share.shrink(0);
    }

    /// Every message that is whole was delivered.
    pub(crate) fn delivered(&mut self) {
        if self.message.is_none() {
            self.share.shrink(0);
        }
    }

    /// Every message that is whole is kept elsewhere from here on, and counts there.
    pub(crate) fn hand_over(&mut self, to: &mut Share) {
        if self.message.is_none() {
            to.take_over(&mut self.share);
        }
    }

    #[inline]
    pub(crate) fn is_begun(&self) -> bool {
        self.message.is_some()
    }

    /// How much of the message has come.
    pub(super) fn len(&self) -> usize {
        self.message.as_ref().map_or(0, Assembly::len)
    }

    pub(super) fn begin_text(&mut self) {
        self.message = Some(Assembly::text());
    }

    /// Of this length; 0 if that is not known.
    pub(super) fn begin_binary(&mut self, length: usize) {
        let bytes = self.pool.buffer(length).unwrap_or_default();
        self.message = Some(Assembly::Binary(Growing { bytes, filled: 0 }));
    }

    /// Of either kind: text if it turns out to be UTF-8.
    pub(super) fn begin_either(&mut self) {
        self.message = Some(Assembly::Either(Vec::new()));
    }

    /// Takes off this byte, if it came last.
    pub(super) fn strip(&mut self, byte: u8) {
        if let Some(Assembly::Either(bytes)) = &mut self.message {
            if bytes.last() == Some(&byte) {
                bytes.pop();
            }
        }
    }

    /// So many bytes wait elsewhere until it shows what message they are.
    #[inline]
    pub(super) fn hold(&mut self, bytes: usize) -> Result<(), Refused> {
        if bytes != self.held {
            if !self.held_share.covers(bytes) {
                return Err(Refused::NoMemory);
            }
            self.held_share.shrink(bytes);
            self.held = bytes;
        }
        Ok(())
    }

    /// Adds a piece, after which so many bytes are announced to follow.
    pub(super) fn push(&mut self, piece: &[u8], announced: usize) -> Result<(), Refused> {
        match &mut self.message {
            Some(message) => message.push(piece, announced, &mut self.share),
            None => Ok(()),
        }
    }

    /// Where the next bytes of a binary message may be read to, of so many that are announced; `None` if there is
    /// no room to be had.
    pub(super) fn space(&mut self, announced: usize) -> Option<&mut [u8]> {
        match &mut self.message {
            Some(Assembly::Binary(growing)) => growing.space(announced, &mut self.share),
            _ => None,
        }
    }

    /// So many have come there.
    pub(super) fn filled(&mut self, count: usize) -> &mut [u8] {
        match &mut self.message {
            Some(Assembly::Binary(growing)) => growing.filled(count),
            _ => &mut [],
        }
    }

    /// The message, now that all of it has come.
    pub(super) fn finish(&mut self) -> Result<Option<Message>, Refused> {
        self.message.take().map(|message| message.finish(&self.pool)).transpose()
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        match &self.message {
            None => 0,
            Some(Assembly::Text { text, .. }) => text.capacity(),
            Some(Assembly::Binary(growing)) => growing.bytes.capacity(),
            Some(Assembly::Either(bytes)) => bytes.capacity(),
        }
    }
}

/// Gathers the pieces of one message. It grows with what has come, never with what was announced,
/// and checks text as it comes (RFC 6455 section 8.1).
#[derive(Debug)]
enum Assembly {
    Text {
        text: String,
        cut: CutCharacter,
    },
    Binary(Growing),
    /// Text if it turns out to be UTF-8, otherwise binary.
    Either(Vec<u8>),
}

/// Bytes of which only the first are filled. What follows them keeps whatever it held: only room that is new is
/// written to before it is read to.
#[derive(Debug, Default)]
struct Growing {
    bytes: Vec<u8>,
    filled: usize,
}

impl Growing {
    fn push(&mut self, piece: &[u8]) {
        let (over, rest) = piece.split_at(piece.len().min(self.bytes.len() - self.filled));
        self.bytes[self.filled..][..over.len()].copy_from_slice(over);
        self.bytes.extend_from_slice(rest);
        self.filled += piece.len();
    }

    /// Room for the next of so many bytes that are announced, as much as has come already: `None` as long as
    /// that is not worth it.
    fn space(&mut self, announced: usize, share: &mut Share) -> Option<&mut [u8]> {
        let filled = self.filled;
        let least = announced.min(WORTH_READING);
        if self.bytes.len() - filled < least {
            if filled < WORTH_READING {
                return None;
            }
            if self.bytes.capacity() - filled < least {
                let more = announced.min(AHEAD.max(filled / 8));
                if !share.covers(filled.saturating_add(more)) {
                    return None;
                }
                self.bytes.reserve_exact(filled + more - self.bytes.len());
            }
            let end = announced.min(self.bytes.capacity() - filled).min(filled);
            self.bytes.resize(filled + end, 0);
        }
        let end = filled + announced.min(self.bytes.len() - filled);
        Some(&mut self.bytes[filled..end])
    }

    fn filled(&mut self, count: usize) -> &mut [u8] {
        let from = self.filled;
        self.filled += count;
        &mut self.bytes[from..self.filled]
    }
}

/// The start of a character whose rest is still to come.
#[derive(Debug, Default)]
struct CutCharacter {
    bytes: [u8; 4],
    length: usize,
}

/// Why a piece was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    NotUtf8,
    /// The memory that all sessions share is used up.
    NoMemory,
}

impl Assembly {
    fn text() -> Self {
        Self::Text { text: String::new(), cut: CutCharacter::default() }
    }

    fn len(&self) -> usize {
        match self {
            Self::Text { text, cut } => text.len() + cut.length,
            Self::Binary(growing) => growing.filled,
            Self::Either(bytes) => bytes.len(),
        }
    }

    /// Adds a piece, after which so many bytes are announced to follow. The memory for it is taken
    /// from `share`, which has to keep it until the message is delivered.
    fn push(&mut self, piece: &[u8], announced: usize, share: &mut Share) -> Result<(), Refused> {
        let (length, capacity, wanted) = match self {
            // with the rest of a character that was cut
            Self::Text { text, .. } => (text.len(), text.capacity(), piece.len() + 4),
            Self::Binary(growing) => (growing.filled, growing.bytes.capacity(), piece.len()),
            Self::Either(bytes) => (bytes.len(), bytes.capacity(), piece.len()),
        };
        let growth = growth(length, capacity, wanted, announced);
        if !share.covers(growth.map_or(capacity, |more| length.saturating_add(more))) {
            return Err(Refused::NoMemory);
        }
        if let Some(more) = growth {
            match self {
                Self::Binary(Growing { bytes, filled }) => {
                    bytes.reserve_exact(*filled + more - bytes.len());
                }
                Self::Either(bytes) => bytes.reserve_exact(more),
                Self::Text { text, .. } => text.reserve_exact(more),
            }
        }
        match self {
            Self::Binary(growing) => growing.push(piece),
            Self::Either(bytes) => bytes.extend_from_slice(piece),
            Self::Text { text, cut } => cut.push(piece, text)?,
        }
        Ok(())
    }

    /// The message, once all of it has come.
    fn finish(self, pool: &Arc<Pool>) -> Result<Message, Refused> {
        let is_loose = |length: usize, capacity| capacity > (2 * length).max(SLACK);
        match self {
            Self::Text { cut, .. } if cut.length > 0 => Err(Refused::NotUtf8),
            Self::Text { mut text, .. } => {
                if is_loose(text.len(), text.capacity()) {
                    text.shrink_to_fit();
                }
                Ok(Message::from(text))
            }
            Self::Binary(Growing { mut bytes, filled }) => {
                bytes.truncate(filled);
                if is_loose(bytes.len(), bytes.capacity()) {
                    bytes.shrink_to_fit();
                }
                Ok(Message::from(pool.share(bytes)))
            }
            Self::Either(bytes) => match String::from_utf8(bytes) {
                Ok(text) => Self::Text { text, cut: CutCharacter::default() }.finish(pool),
                Err(error) => {
                    let bytes = error.into_bytes();
                    Self::Binary(Growing { filled: bytes.len(), bytes }).finish(pool)
                }
            },
        }
    }
}

/// How much room to ask for so that `more` bytes fit, if there is too little.
fn growth(length: usize, capacity: usize, more: usize, announced: usize) -> Option<usize> {
    if capacity - length >= more {
        return None;
    }
    Some(more + announced.min(AHEAD.max(length / 8)))
}

impl CutCharacter {
    /// Moves what is complete to `text`.
    fn push(&mut self, mut piece: &[u8], text: &mut String) -> Result<(), Refused> {
        while self.length > 0 {
            let Some((byte, rest)) = piece.split_first() else { return Ok(()) };
            piece = rest;
            self.bytes[self.length] = *byte;
            self.length += 1;
            match std::str::from_utf8(&self.bytes[..self.length]) {
                Ok(character) => {
                    text.push_str(character);
                    self.length = 0;
                }
                Err(error) if error.error_len().is_some() => return Err(Refused::NotUtf8),
                Err(_) => {}
            }
        }
        let (whole, cut) = match simdutf8::compat::from_utf8(piece) {
            Ok(whole) => (whole, &[][..]),
            Err(error) if error.error_len().is_some() => return Err(Refused::NotUtf8),
            Err(error) => {
                let (whole, cut) = piece.split_at(error.valid_up_to());
                (simdutf8::basic::from_utf8(whole).unwrap_or_default(), cut)
            }
        };
        text.push_str(whole);
        // no more than three bytes: four would have been a character or an error
        self.bytes[..cut.len()].copy_from_slice(cut);
        self.length = cut.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bad_byte_is_noticed_in_the_piece_that_has_it() {
        let mut assembly = Assembly::text();
        assert_eq!(assembly.push("κ".as_bytes(), 100, &mut Share::default()), Ok(()));
        assert_eq!(
            assembly.push(&[0xe1], 100, &mut Share::default()),
            Ok(()),
            "this may become a character"
        );
        assert_eq!(assembly.push(b"x", 100, &mut Share::default()), Err(Refused::NotUtf8));
        let mut assembly = Assembly::text();
        assert_eq!(
            assembly.push(&[0xf4, 0x90], 100, &mut Share::default()),
            Err(Refused::NotUtf8),
            "over U+10FFFF"
        );
        let mut assembly = Assembly::text();
        assert_eq!(assembly.push(&[0xce], 0, &mut Share::default()), Ok(()));
        assert_eq!(
            assembly.finish(&Pool::new()),
            Err(Refused::NotUtf8),
            "half a character at the end"
        );
    }

    #[test]
    fn memory_is_taken_for_what_comes() {
        let mut assembly = Assembly::Binary(Growing::default());
        assembly.push(&[0; 10], usize::MAX / 2, &mut Share::default()).unwrap();
        let Assembly::Binary(growing) = &assembly else { unreachable!() };
        let capacity = growing.bytes.capacity();
        assert!(capacity <= AHEAD + 10, "{capacity}");
    }

    #[test]
    fn a_short_message_keeps_no_large_buffer() {
        let mut assembly = Assembly::Binary(Growing::default());
        assembly.push(&[0; 10], 1 << 20, &mut Share::default()).unwrap();
        let bytes = Vec::from(assembly.finish(&Pool::new()).unwrap().into_bytes());
        assert!(bytes.capacity() <= SLACK, "{}", bytes.capacity());
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_verdict(
            bytes in prop_oneof![
                "\\PC{0,40}".prop_map(String::into_bytes),
                prop::collection::vec(any::<u8>(), 0..20),
            ],
            sizes in prop::collection::vec(1..6_usize, 1..6),
        ) {
            let expected = std::str::from_utf8(&bytes).map_err(|_| Refused::NotUtf8).map(Message::from);
            let mut assembly = Assembly::text();
            let (mut rest, mut result) = (&bytes[..], Ok(()));
            for size in sizes.iter().cycle() {
                if rest.is_empty() || result.is_err() {
                    break;
                }
                let (piece, after) = rest.split_at((*size).min(rest.len()));
                result = assembly.push(piece, after.len(), &mut Share::default());
                rest = after;
                prop_assert!(result.is_err() || assembly.len() == bytes.len() - rest.len());
            }
            prop_assert_eq!(result.and_then(|()| assembly.finish(&Pool::new())), expected);
        }
    }
}

//! Memory that several messages share.

use std::ops::{Deref, Range};
use std::sync::Arc;

use bytes::Bytes;

/// How much text a block has room for, and how many bytes.
pub(super) const BLOCK: usize = 4 * 1024;

/// Where messages of middling length lie. Text is kept apart, so that each part of it is known to be text.
#[derive(Debug, Default)]
pub(super) struct Block {
    text: String,
    bytes: Vec<u8>,
}

impl Block {
    pub(super) fn has_room(&self, is_text: bool, length: usize) -> bool {
        let filled = if is_text { self.text.len() } else { self.bytes.len() };
        filled + length <= BLOCK
    }

    /// Returns where the text ends.
    pub(super) fn add_text(&mut self, text: &str) -> usize {
        self.text.reserve_exact(BLOCK - self.text.len());
        self.text.push_str(text);
        self.text.len()
    }

    /// Returns where they end.
    pub(super) fn add_bytes(&mut self, bytes: &[u8]) -> usize {
        self.bytes.reserve_exact(BLOCK - self.bytes.len());
        self.bytes.extend_from_slice(bytes);
        self.bytes.len()
    }

    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.bytes.clear();
    }

    /// All of its bytes.
    pub(super) fn share_bytes(self: &Arc<Self>) -> Bytes {
        if self.bytes.is_empty() {
            return Bytes::new();
        }
        Bytes::from_owner(BytesOf(Arc::clone(self)))
    }
}

struct BytesOf(Arc<Block>);

impl AsRef<[u8]> for BytesOf {
    fn as_ref(&self) -> &[u8] {
        &self.0.bytes
    }
}

/// Part of the text of a block, or all of it.
#[derive(Clone)]
pub(super) struct TextPart {
    block: Arc<Block>,
    at: Range<usize>,
}

impl TextPart {
    pub(super) fn new(block: &Arc<Block>, at: Range<usize>) -> Self {
        Self { block: Arc::clone(block), at }
    }

    /// Memory that another thread has filled is not touched for it.
    pub(super) fn len(&self) -> usize {
        self.at.len()
    }

    /// Takes off the first character, which has to be ASCII.
    pub(super) fn skip_first(&mut self) {
        self.at.start += 1;
    }
}

impl From<String> for TextPart {
    fn from(text: String) -> Self {
        let at = 0..text.len();
        Self { block: Arc::new(Block { text, bytes: Vec::new() }), at }
    }
}

impl Deref for TextPart {
    type Target = str;

    fn deref(&self) -> &str {
        self.block.text.get(self.at.clone()).unwrap_or_default()
    }
}

/// For [`Bytes::from_owner`].
impl AsRef<[u8]> for TextPart {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

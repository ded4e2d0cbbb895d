//! Memory that received messages are made of, used again.
//!
//! A message that goes through the mailbox is allocated on the thread that reads and freed on the
//! one that receives, which is what an allocator does worst. So messages of middling length share
//! a block, and blocks and large buffers come back when the last message in them is dropped.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};
use tungstenite::Utf8Bytes;

use super::payload::INLINE;
use super::{Message, MessageRef, Text};

/// The size of a block: how much memory one message may keep alive, if it is not longer itself.
const BLOCK: usize = 4 * 1024;

/// Longer messages have memory of their own.
const SHARING: usize = BLOCK / 4;

/// An idle connection keeps room to remember so many messages of a block.
const SMALL: usize = 32;

/// How many blocks are kept.
const BLOCKS: usize = 64;

/// Buffers of these sizes are kept, and how many of them.
const LEAST: usize = 16 * 1024;
const MOST: usize = 1024 * 1024;
const BUFFERS: usize = 4;

/// No shelf keeps more bytes than this.
const SHELF: usize = 1024 * 1024;

/// Memory of a link that comes back. Messages do not keep it alive.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    blocks: Shelf<BLOCKS>,
    buffers: Shelf<BUFFERS>,
    /// Whether something was taken since the connection was idle: what comes back later is not kept.
    is_in_use: AtomicBool,
}

/// Up to so many vectors, and so many bytes. Until the first comes it takes no memory.
#[derive(Debug, Default)]
struct Shelf<const PLACES: usize> {
    ends: OnceLock<Ends>,
    bytes: AtomicUsize,
}

type Ends = (Sender<Vec<u8>>, Receiver<Vec<u8>>);

impl<const PLACES: usize> Shelf<PLACES> {
    fn take(&self) -> Option<Vec<u8>> {
        let bytes = self.ends.get()?.1.try_recv().ok()?;
        self.bytes.fetch_sub(bytes.capacity(), Relaxed);
        Some(bytes)
    }

    /// If it is full there is enough.
    fn put(&self, bytes: Vec<u8>) {
        let size = bytes.capacity();
        let is_kept = self.bytes.fetch_add(size, Relaxed) + size <= SHELF
            && self.ends.get_or_init(|| bounded(PLACES)).0.try_send(bytes).is_ok();
        if !is_kept {
            self.bytes.fetch_sub(size, Relaxed);
        }
    }

    fn clear(&self) {
        while self.take().is_some() {}
    }
}

impl Pool {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    fn block(&self) -> Vec<u8> {
        self.is_in_use.store(true, Relaxed);
        let mut block = self.blocks.take().unwrap_or_else(|| Vec::with_capacity(BLOCK));
        block.clear();
        block
    }

    /// A buffer for so many bytes, if there is one that is not far too large; it holds what it held before.
    pub(crate) fn buffer(&self, length: usize) -> Option<Vec<u8>> {
        if !(LEAST..=MOST).contains(&length) {
            return None;
        }
        self.is_in_use.store(true, Relaxed);
        let fits = |buffer: &Vec<u8>| (length..=2 * length).contains(&buffer.capacity());
        self.buffers.take().filter(fits)
    }

    /// Shares what a buffer holds; with the last of it the buffer comes back.
    pub(crate) fn share(self: &Arc<Self>, bytes: Vec<u8>) -> Bytes {
        if bytes.capacity() != BLOCK && !(LEAST..=MOST).contains(&bytes.capacity()) {
            return bytes.into();
        }
        Bytes::from_owner(Borrowed { bytes, home: Arc::downgrade(self) })
    }

    /// Whether there is, or will be, something to be given back when the connection is idle.
    pub(crate) fn is_in_use(&self) -> bool {
        self.is_in_use.load(Relaxed)
    }

    /// The connection is idle: gives everything back.
    pub(crate) fn relax(&self) {
        self.is_in_use.store(false, Relaxed);
        self.blocks.clear();
        self.buffers.clear();
    }
}

/// Bytes that go home when nobody has them any more.
struct Borrowed {
    bytes: Vec<u8>,
    home: Weak<Pool>,
}

impl AsRef<[u8]> for Borrowed {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let Some(home) = self.home.upgrade().filter(|home| home.is_in_use()) else { return };
        let bytes = std::mem::take(&mut self.bytes);
        match bytes.capacity() {
            BLOCK => home.blocks.put(bytes),
            _ => home.buffers.put(bytes),
        }
    }
}

/// What was text before it was copied.
fn text(bytes: Bytes) -> Message {
    match Utf8Bytes::try_from(bytes) {
        Ok(text) => Message::Text(Text::shared(text)),
        Err(_) => Message::from(""),
    }
}

/// Makes messages of what is lent, in order: [`Maker::push`] puts them out through the closure,
/// and [`Maker::finish`] those that wait for their block to be full.
#[derive(Debug)]
pub(crate) struct Maker {
    pool: Arc<Pool>,
    block: Vec<u8>,
    /// The messages in the block: whether they are text, their link, and where they end.
    waiting: Vec<(bool, u32, usize)>,
}

impl Maker {
    pub(crate) fn new(pool: Arc<Pool>) -> Self {
        Self { pool, block: Vec::new(), waiting: Vec::new() }
    }

    #[inline]
    pub(crate) fn push(&mut self, message: MessageRef<'_>, out: impl FnMut(Message)) {
        let length = message.len();
        if length <= INLINE || length > SHARING {
            return self.push_alone(message, out);
        }
        if self.block.capacity() - self.block.len() < length {
            self.finish(out);
            self.block = self.pool.block();
        }
        self.block.extend_from_slice(message.as_bytes());
        let link = message.link().unwrap_or_default();
        self.waiting.push((message.is_text(), link, self.block.len()));
    }

    #[inline]
    fn push_alone(&mut self, message: MessageRef<'_>, mut out: impl FnMut(Message)) {
        if self.is_waiting() {
            self.finish(&mut out);
        }
        out(
            match message
                .lent_binary()
                .and_then(|bytes| Some((bytes, self.pool.buffer(bytes.len())?)))
            {
                Some((bytes, mut buffer)) => {
                    buffer.clear();
                    buffer.extend_from_slice(bytes);
                    let link = message.link().unwrap_or_default();
                    Message::from(self.pool.share(buffer)).on_link(link)
                }
                None => message.into_owned(),
            },
        );
    }

    /// Whether messages wait for their block to be full.
    #[inline]
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Puts out what waits.
    pub(crate) fn finish(&mut self, mut out: impl FnMut(Message)) {
        if self.waiting.is_empty() {
            return;
        }
        let block = self.pool.share(std::mem::take(&mut self.block));
        let mut from = 0;
        for (is_text, link, to) in self.waiting.drain(..) {
            let bytes = block.slice(from..to);
            from = to;
            let message = if is_text { text(bytes) } else { Message::from(bytes) };
            out(message.on_link(link));
        }
    }

    /// Whether it holds on to more memory than an idle connection should.
    pub(crate) fn is_large(&self) -> bool {
        self.waiting.capacity() > SMALL || self.pool.is_in_use()
    }

    /// The connection is idle.
    pub(crate) fn relax(&mut self) {
        self.waiting = Vec::new();
        self.pool.relax();
    }
}

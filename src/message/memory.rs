//! Memory that received messages are made of, used again.
//!
//! A message that goes through the mailbox is allocated on the thread that reads and freed on the
//! one that receives, which is what an allocator does worst. So messages of middling length are parts
//! of a block, which is filled again once nobody has any of them, and large buffers come back when their
//! message is dropped.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};

use super::block::{BLOCK, Block, TextPart};
use super::payload::INLINE;
use super::{Message, MessageRef};

/// Longer messages have memory of their own: no message keeps much more alive than it is long, or a block.
const SHARING: usize = BLOCK / 4;

/// An idle connection keeps room to remember so many messages of a block.
const SMALL: usize = 32;

/// How many blocks are looked after: about as many as the messages of a full mailbox are in.
const BLOCKS: usize = 256;

/// After so many misses one of them is forgotten.
const MISSES: u32 = 16;

/// Buffers of these sizes are kept, and how many of them.
const LEAST: usize = 16 * 1024;
const MOST: usize = 1024 * 1024;
const BUFFERS: usize = 4;

/// No more bytes of buffers are kept than this.
const ALL: usize = 1024 * 1024;

/// Large buffers of a link that come back. Messages do not keep it alive.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    /// Until the first comes they take no memory.
    buffers: OnceLock<Ends>,
    /// How many bytes they have.
    kept: AtomicUsize,
    /// Whether something was taken since the connection was idle: what comes back later is not kept.
    is_in_use: AtomicBool,
}

type Ends = (Sender<Vec<u8>>, Receiver<Vec<u8>>);

impl Pool {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A buffer for so many bytes, if there is one that is not far too large; it holds what it held before.
    pub(crate) fn buffer(&self, length: usize) -> Option<Vec<u8>> {
        if !(LEAST..=MOST).contains(&length) {
            return None;
        }
        self.is_in_use.store(true, Relaxed);
        let fits = |buffer: &Vec<u8>| (length..=2 * length).contains(&buffer.capacity());
        self.take().filter(fits)
    }

    fn take(&self) -> Option<Vec<u8>> {
        let bytes = self.buffers.get()?.1.try_recv().ok()?;
        self.kept.fetch_sub(bytes.capacity(), Relaxed);
        Some(bytes)
    }

    /// If there are enough it is let go of.
    fn put(&self, bytes: Vec<u8>) {
        let size = bytes.capacity();
        let is_kept = self.kept.fetch_add(size, Relaxed) + size <= ALL
            && self.buffers.get_or_init(|| bounded(BUFFERS)).0.try_send(bytes).is_ok();
        if !is_kept {
            self.kept.fetch_sub(size, Relaxed);
        }
    }

    /// Shares what a buffer holds; with the last of it the buffer comes back.
    pub(crate) fn share(self: &Arc<Self>, bytes: Vec<u8>) -> Bytes {
        if !(LEAST..=MOST).contains(&bytes.capacity()) {
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
        while self.take().is_some() {}
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
        home.put(std::mem::take(&mut self.bytes));
    }
}

/// Makes messages of what is lent, in order: [`Maker::push`] puts them out through the closure,
/// and [`Maker::finish`] those that wait for their block to be full.
#[derive(Debug)]
pub(crate) struct Maker {
    pool: Arc<Pool>,
    block: Block,
    /// The messages in the block: whether they are text, their link, and where they end.
    waiting: Vec<(bool, u32, usize)>,
    /// Where the block will be shared from, if there is such a place already: nobody else has it.
    place: Option<Arc<Block>>,
    /// Blocks of which messages are parts, or were.
    shared: VecDeque<Arc<Block>>,
    /// How much more often there was none among them that nobody needs than there was one.
    misses: u32,
}

impl Maker {
    pub(crate) fn new(pool: Arc<Pool>) -> Self {
        let (block, waiting, shared) = Default::default();
        Self { pool, block, waiting, place: None, shared, misses: 0 }
    }

    #[inline]
    pub(crate) fn push(&mut self, message: MessageRef<'_>, out: impl FnMut(Message)) {
        let (length, text) = (message.len(), message.as_text());
        if length <= INLINE || length > SHARING {
            return self.push_alone(message, out);
        }
        if !self.is_waiting() || !self.block.has_room(text.is_some(), length) {
            self.finish(out);
            self.begin();
        }
        let end = match text {
            Some(text) => self.block.add_text(text),
            None => self.block.add_bytes(message.as_bytes()),
        };
        self.waiting.push((text.is_some(), message.link().unwrap_or_default(), end));
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

    /// Another block: one that no message needs any more, if one is found at once.
    fn begin(&mut self) {
        for _ in 0..self.shared.len().min(2) {
            let Some(mut oldest) = self.shared.pop_front() else { break };
            if let Some(block) = Arc::get_mut(&mut oldest) {
                self.block = std::mem::take(block);
                self.place = Some(oldest);
                break;
            }
            self.shared.push_back(oldest);
        }
        self.misses = match self.place {
            Some(_) => self.misses.saturating_sub(1),
            None => (self.misses + 1).min(MISSES),
        };
        if self.misses >= MISSES && self.shared.len() == BLOCKS {
            // somebody needs it, perhaps for ever
            self.shared.pop_back();
        }
        self.block.clear();
    }

    /// Puts out what waits.
    pub(crate) fn finish(&mut self, mut out: impl FnMut(Message)) {
        if self.waiting.is_empty() {
            return;
        }
        let mut place = self.place.take().unwrap_or_default();
        let block = std::mem::take(&mut self.block);
        match Arc::get_mut(&mut place) {
            Some(place) => *place = block,
            None => place = Arc::new(block),
        }
        let bytes = place.share_bytes();
        let (mut text_end, mut bytes_end) = (0, 0);
        for (is_text, link, end) in self.waiting.drain(..) {
            let message = if is_text {
                let from = std::mem::replace(&mut text_end, end);
                Message::Text(TextPart::new(&place, from..end).into())
            } else {
                let from = std::mem::replace(&mut bytes_end, end);
                Message::from(bytes.slice(from..end))
            };
            out(message.on_link(link));
        }
        if self.shared.len() < BLOCKS {
            self.shared.push_back(place);
        }
    }

    /// Whether it holds on to more memory than an idle connection should.
    pub(crate) fn is_large(&self) -> bool {
        self.waiting.capacity() > SMALL || !self.shared.is_empty() || self.pool.is_in_use()
    }

    /// The connection is idle.
    pub(crate) fn relax(&mut self) {
        self.pool.relax();
        *self = Self::new(Arc::clone(&self.pool));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn make(maker: &mut Maker, messages: &[Message]) -> Vec<Message> {
        let mut made = Vec::new();
        for message in messages {
            let lent = match message.as_text() {
                Some(text) => MessageRef::text(text),
                None => MessageRef::binary(message.as_bytes()),
            };
            maker.push(lent.on_link(7), |message| made.push(message));
        }
        maker.finish(|message| made.push(message));
        made
    }

    fn texts(maker: &mut Maker, count: usize) -> Vec<Message> {
        make(maker, &vec![Message::from("x".repeat(SHARING)); count])
    }

    fn places(messages: &[Message]) -> Vec<*const u8> {
        messages.iter().map(|message| message.as_bytes().as_ptr()).collect()
    }

    #[test]
    fn memory_is_used_again_once_nobody_needs_it() {
        let mut maker = Maker::new(Pool::new());
        let first = texts(&mut maker, 4);
        let (kept, others) = (first[1].clone(), places(&texts(&mut maker, 4)));
        assert!(others.iter().all(|place| !places(&first).contains(place)), "all are needed");
        drop(first);
        for _ in 0..3 * BLOCKS {
            assert!(!places(&texts(&mut maker, 4)).contains(&kept.as_bytes().as_ptr()));
            assert!(maker.shared.len() <= 3, "{}", maker.shared.len());
        }
        assert_eq!(kept.len(), SHARING);
        assert!(kept.as_bytes().iter().all(|byte| *byte == b'x'));
    }

    #[test]
    fn what_a_program_keeps_is_not_looked_after_without_a_bound() {
        let mut maker = Maker::new(Pool::new());
        let kept: Vec<Message> = (0..2 * BLOCKS).flat_map(|_| texts(&mut maker, 4)).collect();
        assert_eq!((kept.len(), maker.shared.len()), (8 * BLOCKS, BLOCKS));
        assert!(maker.is_large());
        maker.relax();
        assert!(!maker.is_large());
        assert!(kept.iter().all(|message| *message == *"x".repeat(SHARING)));
    }

    #[test]
    fn what_a_program_keeps_does_not_end_that_memory_is_used_again() {
        let mut maker = Maker::new(Pool::new());
        let kept: Vec<Message> = (0..BLOCKS).flat_map(|_| texts(&mut maker, 1)).collect();
        for _ in 0..10 * BLOCKS {
            drop(texts(&mut maker, 4));
        }
        let free = maker.shared.iter().filter(|block| Arc::strong_count(block) == 1).count();
        assert!(free > BLOCKS / 8, "{free}");
        assert_eq!((kept.len(), maker.shared.len()), (BLOCKS, BLOCKS));
    }

    #[test]
    fn a_text_without_its_first_character_is_part_of_the_same_memory() {
        let mut maker = Maker::new(Pool::new());
        let mut made =
            make(&mut maker, &[Message::from("a".repeat(50)), Message::from("b".repeat(60))]);
        let place = made[1].as_bytes().as_ptr();
        made[1].skip_kind();
        assert_eq!(made[1], *"b".repeat(59));
        assert_eq!(made[1].as_bytes().as_ptr(), place.wrapping_add(1));
        assert_eq!(made.remove(1).into_bytes(), "b".repeat(59).as_bytes());
        assert_eq!(made[0], *"a".repeat(50));
    }

    proptest! {
        /// Whatever is lent comes out as it was, in order, whatever becomes of the messages before.
        #[test]
        fn messages_are_what_was_lent(
            rounds in prop::collection::vec(
                (prop::collection::vec((any::<bool>(), 0..3000_usize), 0..20), any::<usize>()),
                1..12,
            ),
        ) {
            let (mut maker, mut kept, mut number) = (Maker::new(Pool::new()), Vec::new(), 0);
            for (messages, keep) in rounds {
                let messages: Vec<Message> = messages
                    .into_iter()
                    .map(|(is_text, length)| {
                        number += 1;
                        let text = "é".repeat(length / 2) + &number.to_string();
                        if is_text { Message::from(text) } else { Message::from(text.into_bytes()) }
                    })
                    .collect();
                let made = make(&mut maker, &messages);
                prop_assert_eq!(&made, &messages);
                prop_assert!(made.iter().all(|message| message.link() == Some(7)));
                kept.extend(made.into_iter().zip(messages).skip(keep % 20));
                for (made, lent) in &kept {
                    prop_assert_eq!(made, lent);
                }
            }
        }
    }
}

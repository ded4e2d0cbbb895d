//! A queue of messages that knows how many bytes it holds.

use std::borrow::Borrow;
use std::collections::VecDeque;
use std::collections::vec_deque::IterMut;
use std::ops::Deref;

use crate::message::{Message, MessageRef};

/// Read like a [`VecDeque`], and changed only by what counts the bytes along.
#[derive(Debug)]
pub(super) struct ByteQueue<T> {
    items: VecDeque<T>,
    bytes: usize,
}

fn size(item: &impl Borrow<Message>) -> usize {
    item.borrow().len()
}

impl<T: Borrow<Message>> ByteQueue<T> {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push_back(&mut self, item: T) {
        self.bytes += size(&item);
        self.items.push_back(item);
    }

    pub(super) fn push_front(&mut self, item: T) {
        self.bytes += size(&item);
        self.items.push_front(item);
    }

    // not through `count_out`: each move of a message on the way to the program costs as much as its lock
    #[inline(always)]
    pub(super) fn pop_front(&mut self) -> Option<T> {
        // measured where it lies: taken apart for that, it would be put together again with writes of other widths than
        // the next copy reads with, and the processor would wait for them
        self.bytes -= size(self.items.front()?);
        self.items.pop_front()
    }

    pub(super) fn pop_back(&mut self) -> Option<T> {
        let item = self.items.pop_back();
        self.count_out(item)
    }

    pub(super) fn remove(&mut self, index: usize) -> Option<T> {
        let item = self.items.remove(index);
        self.count_out(item)
    }

    fn count_out(&mut self, item: Option<T>) -> Option<T> {
        self.bytes -= item.as_ref().map_or(0, size);
        item
    }

    /// Takes so many off its front.
    pub(super) fn split_front(&mut self, count: usize) -> Self {
        let mut front = Self::default();
        self.move_front(count, &mut front);
        front
    }

    /// Moves so many from its front to the end of another.
    pub(super) fn move_front(&mut self, count: usize, to: &mut Self) {
        if count == self.items.len() {
            return to.append(self);
        }
        let bytes: usize = self.items.range(..count).map(size).sum();
        self.bytes -= bytes;
        to.bytes += bytes;
        to.items.extend(self.items.drain(..count));
    }

    /// Takes those out for which this holds.
    pub(super) fn take_out(&mut self, is_meant: impl Fn(&T) -> bool) -> Self {
        if !self.items.iter().any(&is_meant) {
            return Self::default();
        }
        let (out, stay): (VecDeque<_>, _) =
            std::mem::take(self).items.into_iter().partition(is_meant);
        *self = Self::from(stay);
        Self::from(out)
    }

    /// What the other holds goes to its end.
    pub(super) fn append(&mut self, other: &mut Self) {
        self.bytes += std::mem::take(&mut other.bytes);
        if self.items.is_empty() {
            std::mem::swap(&mut self.items, &mut other.items);
        } else {
            self.items.append(&mut other.items);
        }
    }

    pub(super) fn clear(&mut self) {
        self.items.clear();
        self.bytes = 0;
    }

    pub(super) fn iter_mut(&mut self) -> IterMut<'_, T> {
        self.items.iter_mut()
    }

    /// Gives back what a burst took, if nothing is left.
    pub(super) fn relax(&mut self) {
        if self.items.is_empty() {
            self.items = VecDeque::new();
        }
    }
}

impl ByteQueue<Message> {
    /// Adds a message that lies in itself, and is written where it stays.
    #[inline(always)]
    pub(super) fn push_short(&mut self, message: &MessageRef<'_>) {
        self.bytes += message.len();
        let is_text = message.is_text();
        // `push_back` would put it together elsewhere, and copy it before its writes are done
        self.items.resize_with(self.items.len() + 1, || Message::empty(is_text));
        if let Some(last) = self.items.back_mut() {
            let link = message.link().unwrap_or_default();
            last.fill(message.as_text(), message.as_bytes(), link);
        }
    }
}

impl<T> Deref for ByteQueue<T> {
    type Target = VecDeque<T>;

    fn deref(&self) -> &VecDeque<T> {
        &self.items
    }
}

impl<T> Default for ByteQueue<T> {
    fn default() -> Self {
        Self { items: VecDeque::new(), bytes: 0 }
    }
}

impl<T: Borrow<Message>> From<VecDeque<T>> for ByteQueue<T> {
    fn from(items: VecDeque<T>) -> Self {
        let bytes = items.iter().map(size).sum();
        Self { items, bytes }
    }
}

impl<T> IntoIterator for ByteQueue<T> {
    type Item = T;
    type IntoIter = std::collections::vec_deque::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter()
    }
}

//! From bytes to items, in any protocol.

use std::io::{self, IoSliceMut};

use super::assembly::Unfinished;
use super::item::Item;
use super::{framed, tunnel, websocket};
use crate::failure::Failure;
use crate::policy::{AgreedCompression, MaxSizes};
use crate::sync::Budget;
use crate::transport::ReadBuffer;

/// As long as any header of a WebSocket's frame (RFC 6455 section 5.2), and a bit.
const NEXT_HEADER: usize = 16;

/// The reading side of any protocol.
#[derive(Debug)]
pub(crate) enum Decoder {
    WebSocket(websocket::Decoder),
    Framed(framed::Decoder),
    /// Boxed, so that the others stay small.
    Tunnel(Box<tunnel::Decoder>),
}

impl Decoder {
    /// The message whose pieces are coming, and what memory is taken for those that came.
    pub(crate) fn unfinished(&mut self) -> &mut Unfinished {
        match self {
            Self::WebSocket(decoder) => decoder.unfinished(),
            Self::Framed(decoder) => decoder.unfinished(),
            Self::Tunnel(decoder) => decoder.packets().unfinished(),
        }
    }

    /// What is unfinished, or not delivered yet, counts against this.
    pub(crate) fn within(&mut self, budget: &Budget) {
        self.unfinished().within(budget);
        if let Self::Tunnel(decoder) = self {
            decoder.frames().unfinished().within(budget);
        }
    }

    /// What may come from here on; a message that has begun is held to it too.
    pub(crate) fn set_limits(&mut self, limits: MaxSizes) {
        match self {
            Self::WebSocket(decoder) => decoder.set_limits(limits),
            Self::Framed(decoder) => decoder.set_limits(limits),
            Self::Tunnel(decoder) => {
                decoder.frames().set_limits(limits);
                decoder.packets().set_limits(limits);
            }
        }
    }

    /// The next item, or `None` if more bytes have to come first. Whatever there is of an
    /// unfinished message is kept.
    ///
    /// # Errors
    ///
    /// [`Failure::Protocol`] with the close code that the peer is to be told. Nothing can be
    /// decoded after it.
    #[inline(always)]
    pub(crate) fn decode<'a>(
        &'a mut self,
        buffer: &'a mut ReadBuffer,
    ) -> Result<Option<Item<'a>>, Failure> {
        match self {
            Self::WebSocket(decoder) => match decoder.short_message(buffer) {
                Some(short) => short.take(buffer).map(Some),
                None => decoder.decode(buffer),
            },
            Self::Framed(decoder) => Ok(decoder.decode(buffer)?.map(Item::Message)),
            Self::Tunnel(decoder) => decoder.decode(buffer),
        }
    }

    /// Reads once, no more than this: into the buffer, or what follows of a long frame to where its message
    /// has it, with the header of the next frame behind that.
    ///
    /// # Errors
    ///
    /// Those of `read`.
    pub(crate) fn read(
        &mut self,
        buffer: &mut ReadBuffer,
        most: usize,
        read: impl FnOnce(&mut [IoSliceMut<'_>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if let Self::WebSocket(decoder) = self {
            if let Some(space) = decoder.space().filter(|_| buffer.unread().is_empty()) {
                let (mut next, left) = ([0; NEXT_HEADER], most.saturating_sub(space.len()));
                let (most, next) = (most.min(space.len()), &mut next[..left.min(NEXT_HEADER)]);
                let count = read(&mut [&mut space[..most], &mut *next].map(IoSliceMut::new))?;
                decoder.filled(count.min(most));
                buffer.append(&next[..count.saturating_sub(most)]);
                return Ok(count);
            }
        }
        let space = buffer.space();
        let most = most.min(space.len());
        let count = read(&mut [IoSliceMut::new(&mut space[..most])])?;
        buffer.filled(count);
        Ok(count)
    }

    /// Messages may come compressed: a WebSocket's.
    pub(crate) fn compressed(&mut self, agreed: AgreedCompression) {
        match self {
            Self::WebSocket(decoder) => decoder.compressed(agreed),
            Self::Tunnel(decoder) => decoder.frames().compressed(agreed),
            Self::Framed(_) => {}
        }
    }

    /// Whether it holds on to memory that an idle link should give back with [`Decoder::relax`].
    pub(crate) fn is_large(&self) -> bool {
        match self {
            Self::WebSocket(decoder) => decoder.is_large(),
            Self::Tunnel(decoder) => decoder.is_large(),
            Self::Framed(_) => false,
        }
    }

    /// The link is idle.
    pub(crate) fn relax(&mut self) {
        match self {
            Self::WebSocket(decoder) => decoder.relax(),
            Self::Tunnel(decoder) => decoder.relax(),
            Self::Framed(_) => {}
        }
    }

    /// Whether more has come than whole messages, of framed TCP.
    pub(crate) fn is_inside_message(&self, buffer: &ReadBuffer) -> bool {
        let has_begun = matches!(self, Self::Framed(decoder) if decoder.is_inside_message());
        has_begun || !buffer.unread().is_empty()
    }

    /// What the end of the stream means at this point.
    pub(crate) fn end_of_stream(&self, buffer: &ReadBuffer) -> Failure {
        match self {
            Self::WebSocket(_) | Self::Tunnel(_) => Failure::ClosedAbnormally,
            Self::Framed(_) => {
                let inside_message = self.is_inside_message(buffer);
                Failure::EndOfStream { inside_message, cut_off: false }
            }
        }
    }
}

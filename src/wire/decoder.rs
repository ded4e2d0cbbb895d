//! From bytes to items, in either protocol.

use super::assembly::Unfinished;
use super::item::Item;
use super::{framed, websocket};
use crate::failure::Failure;
use crate::policy::{AgreedCompression, MaxSizes};
use crate::transport::ReadBuffer;

/// The reading side of either protocol.
#[derive(Debug)]
pub(crate) enum Decoder {
    WebSocket(websocket::Decoder),
    Framed(framed::Decoder),
}

impl Decoder {
    /// The message whose pieces are coming, and what memory is taken for those that came.
    pub(crate) fn unfinished(&mut self) -> &mut Unfinished {
        match self {
            Self::WebSocket(decoder) => decoder.unfinished(),
            Self::Framed(decoder) => decoder.unfinished(),
        }
    }

    /// What may come from here on; a message that has begun is held to it too.
    pub(crate) fn set_limits(&mut self, limits: MaxSizes) {
        match self {
            Self::WebSocket(decoder) => decoder.set_limits(limits),
            Self::Framed(decoder) => decoder.set_limits(limits),
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
        }
    }

    /// Messages may come compressed: a WebSocket's.
    pub(crate) fn compressed(&mut self, agreed: AgreedCompression) {
        if let Self::WebSocket(decoder) = self {
            decoder.compressed(agreed);
        }
    }

    /// Whether it holds on to memory that an idle link should give back with [`Decoder::relax`].
    pub(crate) fn is_large(&self) -> bool {
        matches!(self, Self::WebSocket(decoder) if decoder.is_large())
    }

    /// The link is idle.
    pub(crate) fn relax(&mut self) {
        if let Self::WebSocket(decoder) = self {
            decoder.relax();
        }
    }

    /// What the end of the stream means at this point.
    pub(crate) fn end_of_stream(&self, buffer: &ReadBuffer) -> Failure {
        match self {
            Self::WebSocket(_) => Failure::ClosedAbnormally,
            Self::Framed(decoder) => {
                let inside_message = !buffer.unread().is_empty() || decoder.is_inside_message();
                Failure::EndOfStream { inside_message, cut_off: false }
            }
        }
    }
}

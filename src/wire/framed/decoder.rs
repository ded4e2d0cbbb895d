//! From bytes to messages.

use std::fmt;
use std::io;

use super::splitter::{Found, Splitter, What, Wrong};
use crate::failure::Failure;
use crate::message::{CloseCode, Message, MessageRef};
use crate::policy::{Decode, Delimiter, Framing, FramingKind, MaxSizes};
use crate::transport::ReadBuffer;
use crate::wire::assembly::{Refused, Unfinished};

/// So much may wait for a codec without being counted: what one read brings, as with every framing.
pub(in crate::wire) const UNCOUNTED: usize = 128 * 1024;

/// The reading side of a framed stream. A message that lies whole in the buffer is lent from
/// there; what is longer is gathered, as soon as it shows how long it is.
pub(crate) struct Decoder {
    max_received: usize,
    limit: usize,
    kind: Kind,
    /// Whether what is UTF-8 is text.
    is_text: bool,
    /// Whether the peer can be told that a message is too large: by the end of a session, or by a
    /// WebSocket's close code.
    has_codes: bool,
    unfinished: Unfinished,
    /// What is still to come of a packet that has begun.
    rest: Option<Rest>,
    /// Of so many bytes it does not show what packet they begin with.
    asked: usize,
}

/// How packets are told from each other.
enum Kind {
    Raw,
    Delimited(Delimiter),
    Split(Splitter),
}

/// What is still to come of a packet: before the message, of the message, and after it.
struct Rest {
    head: usize,
    left: usize,
    tail: usize,
}

/// A whole message.
pub(crate) enum Whole {
    /// It lies in the buffer, with so much before and after it.
    Lent {
        head: usize,
        length: usize,
        tail: usize,
        is_text: bool,
    },
    Owned(Message),
}

impl Whole {
    #[inline]
    pub(crate) fn take(self, buffer: &mut ReadBuffer) -> MessageRef<'_> {
        match self {
            Self::Owned(message) => MessageRef::whole(message),
            Self::Lent { head, length, tail, is_text } => {
                let payload = &buffer.take(head + length + tail)[head..head + length];
                match is_text.then(|| simdutf8::basic::from_utf8(payload)) {
                    Some(Ok(text)) => MessageRef::text(text),
                    _ => MessageRef::binary(payload),
                }
            }
        }
    }
}

impl Decoder {
    pub(super) fn new(framing: &Framing, codec: Option<Box<dyn Decode>>, limits: MaxSizes) -> Self {
        let kind = match (&framing.kind, Splitter::new(framing, codec)) {
            (_, Some(splitter)) => Kind::Split(splitter),
            (FramingKind::Delimited(delimiter), None) => Kind::Delimited(delimiter.clone()),
            (_, None) => Kind::Raw,
        };
        let max_received = framing.max_received();
        Self {
            max_received,
            limit: max_received.min(limits.message),
            kind,
            is_text: framing.is_text(),
            has_codes: framing.has_kinds(),
            unfinished: Unfinished::new(),
            rest: None,
            asked: 0,
        }
    }

    /// As [`Decoder::set_limits`](crate::wire::Decoder::set_limits).
    pub(crate) fn set_limits(&mut self, limits: MaxSizes) {
        self.limit = self.max_received.min(limits.message);
        self.asked = 0;
    }

    /// The packets come in the messages of a WebSocket.
    pub(crate) fn on_websocket(mut self) -> Self {
        self.has_codes = true;
        self
    }

    pub(crate) fn unfinished(&mut self) -> &mut Unfinished {
        &mut self.unfinished
    }

    pub(crate) fn is_inside_message(&self) -> bool {
        self.unfinished.is_begun() || self.rest.is_some()
    }

    /// As [`Decoder::decode`](crate::wire::Decoder::decode).
    #[inline]
    pub(crate) fn decode<'a>(
        &mut self,
        buffer: &'a mut ReadBuffer,
    ) -> Result<Option<MessageRef<'a>>, Failure> {
        let Some(whole) = self.next(buffer)? else {
            let waiting = buffer.unread().len();
            self.unfinished.hold(waiting.saturating_sub(UNCOUNTED)).map_err(refused)?;
            return Ok(None);
        };
        Ok(Some(whole.take(buffer)))
    }

    /// Whether a message is whole, and which. What waits in the buffer is counted by the caller.
    pub(crate) fn next(&mut self, buffer: &mut ReadBuffer) -> Result<Option<Whole>, Failure> {
        loop {
            let arrived = buffer.unread().len();
            if let Some(rest) = &self.rest {
                if arrived == 0 && rest.head + rest.left + rest.tail > 0 {
                    return Ok(None);
                }
                match self.go_on(buffer)? {
                    None if self.rest.is_some() => return Ok(None),
                    // nothing of it was to be received
                    None => continue,
                    whole => return Ok(whole),
                }
            }
            if arrived == self.asked {
                return Ok(None);
            }
            let found = match &mut self.kind {
                Kind::Raw => {
                    let length = arrived.min(self.limit);
                    return Ok(Some(Whole::Lent {
                        head: 0,
                        length,
                        tail: 0,
                        is_text: self.is_text,
                    }));
                }
                Kind::Delimited(_) => return self.delimited(buffer),
                Kind::Split(splitter) => splitter.first(buffer.unread(), self.limit),
            };
            let Some(found) = found.map_err(|wrong| self.failure(wrong))? else {
                self.asked = arrived;
                return Ok(None);
            };
            self.asked = 0;
            self.unfinished.hold(0).map_err(refused)?;
            if let Some(whole) = self.begin(found, buffer) {
                return Ok(Some(whole));
            }
        }
    }

    /// A packet begins. If all of it is there nothing is gathered.
    #[inline]
    fn begin(&mut self, found: Found, buffer: &mut ReadBuffer) -> Option<Whole> {
        let Found { head, length, tail, is_text, what } = found;
        // not over the limit
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let is_text = is_text || self.is_text;
        let size = head.saturating_add(length).saturating_add(tail);
        let is_whole = size <= buffer.unread().len();
        match what {
            What::Payload if is_whole => return Some(Whole::Lent { head, length, tail, is_text }),
            What::Payload if is_text => self.unfinished.begin_either(),
            What::Payload => self.unfinished.begin_binary(length),
            What::Nothing => {}
            What::Instead(message) => {
                buffer.take_up_to(size);
                return Some(Whole::Owned(*message));
            }
        }
        self.rest = Some(Rest { head, left: length, tail });
        None
    }

    /// Goes on with a packet that comes in pieces.
    fn go_on(&mut self, buffer: &mut ReadBuffer) -> Result<Option<Whole>, Failure> {
        let Some(rest) = &mut self.rest else { return Ok(None) };
        rest.head -= buffer.take_up_to(rest.head).len();
        if rest.head == 0 {
            let piece = buffer.take_up_to(rest.left);
            rest.left -= piece.len();
            self.unfinished.push(piece, rest.left).map_err(refused)?;
        }
        if rest.head + rest.left == 0 {
            rest.tail -= buffer.take_up_to(rest.tail).len();
            if rest.tail == 0 {
                self.rest = None;
                return self.gathered();
            }
        }
        Ok(None)
    }

    fn delimited(&mut self, buffer: &mut ReadBuffer) -> Result<Option<Whole>, Failure> {
        let Kind::Delimited(delimiter) = &self.kind else { return Ok(None) };
        let (unread, size) = (buffer.unread(), delimiter.bytes.len());
        let strips = delimiter.ends_lines && !delimiter.is_kept;
        let kept = if delimiter.is_kept { size } else { 0 };
        let end = delimiter.find(unread);
        // the rest may be the beginning of a delimiter
        let length = end.unwrap_or((unread.len() + 1).saturating_sub(size));
        let fits = self.limit.saturating_sub(kept);
        let before = self.unfinished.len();
        let left = fits.saturating_sub(before);
        // one byte more than the limit may be a carriage return that belongs to the line feed
        let is_return = || strips && before <= fits && unread[left..length] == *b"\r";
        if length > left && !is_return() || kept > self.limit {
            let what = if delimiter.ends_lines { "a line" } else { "a message" };
            let reason = format!("{what} is over the limit of {} bytes", self.limit);
            return Err(self.failure(Wrong::TooLarge(reason)));
        }
        if end.is_some() && !self.unfinished.is_begun() {
            let line = &unread[..length];
            let returns = usize::from(strips && line.ends_with(b"\r"));
            let (length, tail) = (length + kept - returns, returns + size - kept);
            return Ok(Some(Whole::Lent { head: 0, length, tail, is_text: self.is_text }));
        }
        if !self.unfinished.is_begun() {
            self.unfinished.begin_either();
        }
        let tail = if end.is_some() { size } else { 0 };
        let piece = &*buffer.take(length + tail);
        let piece = &piece[..length + kept.min(tail)];
        self.unfinished.push(piece, 0).map_err(refused)?;
        if end.is_none() {
            return Ok(None);
        }
        if strips {
            self.unfinished.strip(b'\r');
        }
        self.gathered()
    }

    fn failure(&self, wrong: Wrong) -> Failure {
        match wrong {
            Wrong::TooLarge(reason) if self.has_codes => {
                Failure::Protocol { code: CloseCode::MESSAGE_TOO_BIG, reason }
            }
            Wrong::TooLarge(reason) | Wrong::Broken(reason) => Failure::Framing { reason },
        }
    }

    fn gathered(&mut self) -> Result<Option<Whole>, Failure> {
        Ok(self.unfinished.finish().map_err(refused)?.map(Whole::Owned))
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// Why a piece was not taken, without the close codes that it has on a WebSocket.
pub(in crate::wire) fn refused(why: Refused) -> Failure {
    match why {
        Refused::NoMemory => {
            let reason = "no memory for a message of this size";
            Failure::Io(io::Error::new(io::ErrorKind::OutOfMemory, reason))
        }
        Refused::NotUtf8 => Failure::Framing { reason: "text that is not UTF-8".into() },
    }
}

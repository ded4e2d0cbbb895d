//! From messages to bytes.

use std::fmt;
use std::io;

use super::head_lines;
use crate::failure::Failure;
use crate::message::Message;
use crate::policy::{Encode, Framing, FramingKind, MaxSizes, Sends};
use crate::sync::{caught, drop_theirs};
use crate::wire::output::{Output, SHARED_FROM};

/// What a codec has encoded is put together in a buffer that is kept up to this size.
const KEPT: usize = 4 * 1024;

/// The writing side of a framed stream.
pub(crate) struct Encoder {
    framing: Framing,
    /// What of the program's codec a peer with the same limits would receive.
    limit: usize,
    /// The program's, and what it has encoded last.
    codec: Option<(Box<dyn Encode>, Vec<u8>)>,
}

/// Why a message was not encoded: the program's codec has refused it, or panicked.
#[derive(Debug)]
pub(crate) struct Unencoded {
    pub(crate) why: String,
    pub(crate) has_panicked: bool,
}

impl From<Unencoded> for io::Error {
    fn from(unencoded: Unencoded) -> Self {
        Self::other(Failure::Framing { reason: unencoded.why })
    }
}

impl Encoder {
    pub(super) fn new(framing: &Framing, codec: Option<Box<dyn Encode>>, limits: MaxSizes) -> Self {
        Self {
            framing: framing.clone(),
            limit: framing.max_received().min(limits.message),
            codec: codec.map(|codec| (codec, Vec::new())),
        }
    }

    pub(crate) fn is_raw(&self) -> bool {
        matches!(self.framing.kind, FramingKind::Raw)
    }

    /// Encodes a message that fits the framing, as [`Framing::check`] says, behind its kind.
    pub(crate) fn message(
        &mut self,
        message: &Message,
        kind: Option<u8>,
        out: &mut Output,
    ) -> Result<(), Unencoded> {
        if let Some((codec, bytes)) = &mut self.codec {
            return encode(&mut **codec, bytes, message, kind, self.limit, out);
        }
        let payload = message.as_bytes();
        let length = payload.len() + usize::from(kind.is_some());
        match &self.framing.kind {
            FramingKind::Length(field) if field.sends() == Sends::Prefixed => {
                let (head, size) = field.head(length);
                out.append(&head[..size]);
            }
            FramingKind::ContentLength => out.append(head_lines::of(length).as_bytes()),
            _ => {}
        }
        if let Some(kind) = kind {
            out.append(&[kind]);
        }
        if payload.len() >= SHARED_FROM {
            out.append_shared(message.to_shared());
        } else {
            out.append(payload);
        }
        match &self.framing.kind {
            FramingKind::Delimited(delimiter) if !delimiter.is_kept => out.append(&delimiter.bytes),
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn is_large(&self) -> bool {
        self.codec.as_ref().is_some_and(|(_, bytes)| bytes.capacity() > KEPT)
    }

    /// The link is idle.
    pub(crate) fn relax(&mut self) {
        if let Some((_, bytes)) = &mut self.codec {
            // what was encoded last is still in there
            bytes.clear();
            bytes.shrink_to(KEPT);
        }
    }
}

/// Has the program's codec encode a message, behind its kind.
fn encode(
    codec: &mut dyn Encode,
    bytes: &mut Vec<u8>,
    message: &Message,
    kind: Option<u8>,
    limit: usize,
    out: &mut Output,
) -> Result<(), Unencoded> {
    let whole;
    let message = match kind {
        None => message,
        Some(kind) => {
            whole = Message::from([&[kind], message.as_bytes()].concat());
            &whole
        }
    };
    // not at the end of what waits to be written: whatever it does to this, that stays as it is
    bytes.clear();
    match caught(|| codec.encode(message, bytes).map_err(|error| error.to_string())) {
        Ok(Ok(())) if bytes.len() > limit => {
            let why =
                format!("the codec makes {} bytes of it, over the limit of {limit}", bytes.len());
            Err(Unencoded { why, has_panicked: false })
        }
        Ok(Ok(())) if bytes.len() >= SHARED_FROM => {
            out.append_shared(std::mem::take(bytes).into());
            Ok(())
        }
        Ok(Ok(())) => {
            out.append(bytes);
            Ok(())
        }
        Ok(Err(why)) => Err(Unencoded { why, has_panicked: false }),
        Err(message) => {
            let why = format!("the codec panicked: {message}");
            Err(Unencoded { why, has_panicked: true })
        }
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        drop_theirs("codec", self.codec.take());
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("framing", &self.framing).finish_non_exhaustive()
    }
}

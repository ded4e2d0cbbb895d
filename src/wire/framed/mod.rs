//! Messages on a plain byte stream: lines, lengths, what a codec says, or whatever a read yields.

mod decoder;
mod encoder;
mod head_lines;
mod splitter;
#[cfg(test)]
mod tests;

use crate::failure::Failure;
use crate::policy::{Framing, FramingKind, MaxSizes};
use crate::sync::caught;

pub(crate) use decoder::Decoder;
pub(super) use decoder::{UNCOUNTED, refused};
pub(crate) use encoder::{Encoder, Unencoded};

/// Both directions of one link.
///
/// # Errors
///
/// [`Failure::Framing`]: the program's code panicked.
pub(crate) fn halves(framing: &Framing, limits: MaxSizes) -> Result<(Decoder, Encoder), Failure> {
    let made = caught(|| match &framing.kind {
        FramingKind::Custom(make) => {
            let (decode, encode) = make();
            (Some(decode), Some(encode))
        }
        FramingKind::Packets(make) => (Some(make()), None),
        _ => (None, None),
    });
    let (decode, encode) = made.map_err(|message| Failure::Framing {
        reason: format!("what makes the codec panicked: {message}"),
    })?;
    Ok((Decoder::new(framing, decode, limits), Encoder::new(framing, encode, limits)))
}

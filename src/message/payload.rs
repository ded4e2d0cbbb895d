//! The bytes of a message.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use arrayvec::{ArrayString, ArrayVec};
use bytes::{Buf, Bytes};

use super::block::TextPart;

/// Payloads up to this length lie in the message itself: what costs most of a short message is to
/// allocate on the thread that reads and to free on the one that receives.
pub(crate) const INLINE: usize = 40;

/// Bytes that are cheap to clone: the payload of a binary message.
///
/// It derefs to `[u8]`, and is made from slices, vectors and [`Bytes`].
pub struct Payload {
    link: u32,
    bytes: Short<ArrayVec<u8, INLINE>, Bytes>,
}

/// UTF-8 that is cheap to clone: the payload of a text message.
///
/// It derefs to `str`, and is made from `&str` and `String`.
#[derive(Clone)]
pub struct Text {
    link: u32,
    text: Short<ArrayString<INLINE>, TextPart>,
}

#[derive(Clone)]
enum Short<I, S> {
    Inline(I),
    Shared(S),
}

impl Clone for Payload {
    fn clone(&self) -> Self {
        let bytes = match &self.bytes {
            // its own clone goes byte by byte
            Short::Inline(bytes) => return Self { link: self.link, ..Self::from(&bytes[..]) },
            Short::Shared(bytes) => Short::Shared(bytes.clone()),
        };
        Self { link: self.link, bytes }
    }
}

impl Payload {
    #[inline(always)]
    pub(super) fn fill(&mut self, with: &[u8], link: u32) {
        self.link = link;
        if let Short::Inline(bytes) = &mut self.bytes {
            // no more than fits: the caller has looked
            let _ = bytes.try_extend_from_slice(with);
        }
    }

    /// Takes off the first byte, of which there has to be one; a long payload is not copied.
    pub(super) fn skip_kind(&mut self) {
        match &mut self.bytes {
            Short::Inline(bytes) => drop(bytes.remove(0)),
            Short::Shared(bytes) => bytes.advance(1),
        }
    }

    pub(super) fn link(&self) -> u32 {
        self.link
    }

    pub(super) fn set_link(&mut self, link: u32) {
        self.link = link;
    }

    /// The payload as one allocation that others can share; a short one is copied.
    pub(crate) fn to_shared(&self) -> Bytes {
        match &self.bytes {
            Short::Inline(bytes) => Bytes::copy_from_slice(bytes),
            Short::Shared(bytes) => bytes.clone(),
        }
    }
}

impl Text {
    #[inline(always)]
    pub(super) fn fill(&mut self, with: &str, link: u32) {
        self.link = link;
        if let Short::Inline(text) = &mut self.text {
            let _ = text.try_push_str(with);
        }
    }

    #[inline(always)]
    pub(super) fn length(&self) -> usize {
        match &self.text {
            Short::Inline(text) => text.len(),
            Short::Shared(text) => text.len(),
        }
    }

    /// Takes off the first character, which has to be ASCII; a long text is not copied.
    pub(super) fn skip_kind(&mut self) {
        match &mut self.text {
            Short::Inline(text) => drop(text.remove(0)),
            Short::Shared(text) => text.skip_first(),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        match &self.text {
            Short::Inline(text) => text,
            Short::Shared(text) => text,
        }
    }

    pub(super) fn link(&self) -> u32 {
        self.link
    }

    pub(super) fn set_link(&mut self, link: u32) {
        self.link = link;
    }

    /// The text as one allocation that others can share; a short one is copied.
    pub(crate) fn to_shared(&self) -> Bytes {
        match &self.text {
            Short::Inline(text) => Bytes::copy_from_slice(text.as_bytes()),
            Short::Shared(text) => Bytes::from_owner(text.clone()),
        }
    }
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Short::Inline(bytes) => bytes,
            Short::Shared(bytes) => bytes,
        }
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl From<&[u8]> for Payload {
    fn from(bytes: &[u8]) -> Self {
        let bytes = match ArrayVec::try_from(bytes) {
            Ok(short) => Short::Inline(short),
            Err(_) => Short::Shared(Bytes::copy_from_slice(bytes)),
        };
        Self { link: 0, bytes }
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self { link: 0, bytes: Short::Shared(bytes.into()) }
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self { link: 0, bytes: Short::Shared(bytes) }
    }
}

impl From<Payload> for Bytes {
    fn from(payload: Payload) -> Self {
        match payload.bytes {
            Short::Inline(bytes) => Bytes::copy_from_slice(&bytes),
            Short::Shared(bytes) => bytes,
        }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        let text = match ArrayString::from(text) {
            Ok(short) => Short::Inline(short),
            Err(_) => Short::Shared(text.to_owned().into()),
        };
        Self { link: 0, text }
    }
}

impl From<TextPart> for Text {
    fn from(text: TextPart) -> Self {
        Self { link: 0, text: Short::Shared(text) }
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self { link: 0, text: Short::Shared(text.into()) }
    }
}

impl From<Text> for Bytes {
    fn from(text: Text) -> Self {
        match text.text {
            Short::Inline(text) => Bytes::copy_from_slice(text.as_bytes()),
            Short::Shared(text) => Bytes::from_owner(text),
        }
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.as_str().to_owned()
    }
}

impl Default for Payload {
    #[inline]
    fn default() -> Self {
        Self { link: 0, bytes: Short::Inline(ArrayVec::new_const()) }
    }
}

impl Default for Text {
    #[inline]
    fn default() -> Self {
        Self { link: 0, text: Short::Inline(ArrayString::new_const()) }
    }
}

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Payload {}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Text {}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialEq<[u8]> for Payload {
    fn eq(&self, other: &[u8]) -> bool {
        **self == *other
    }
}

impl Hash for Payload {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

/// The whole of it; the `Debug` of a [`Message`](crate::Message) shows the start only.
impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

/// The whole of it; the `Debug` of a [`Message`](crate::Message) shows the start only.
impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

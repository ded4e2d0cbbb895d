//! A length in the head of each packet.

/// How wide a length is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Prefix {
    /// One byte.
    U8,
    /// Two bytes.
    U16,
    /// Three bytes.
    U24,
    /// Four bytes.
    U32,
    /// Eight bytes.
    U64,
    /// Seven bits in each byte, the lowest first; the highest bit says that another follows. As
    /// in Protocol Buffers and MQTT; up to ten bytes.
    Varint,
}

/// A length in the head of each packet, for [`Framing::length_field`](crate::config::Framing::length_field).
///
/// A packet is what goes before the length, the length, and as many bytes as it says, plus the
/// [`adjustment`](Self::adjustment).
///
/// ```
/// use everlink::config::{Framing, LengthField, Prefix};
///
/// // MQTT: a byte that says which packet it is, then the length of the rest; received and sent whole
/// let mqtt = Framing::length_field(LengthField::new(Prefix::Varint).offset(1).strip(0));
/// // two bytes of signature, a length of all that, and a checksum of two bytes behind what it counts
/// let tracker = LengthField::new(Prefix::U16).offset(2).adjustment(-2).strip(0);
/// # let _ = (mqtt, tracker);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[must_use]
pub struct LengthField {
    width: Prefix,
    offset: usize,
    adjustment: i64,
    strip: Option<usize>,
    little_endian: bool,
    inclusive: bool,
}

/// How messages are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sends {
    /// Behind their length.
    Prefixed,
    /// They are packets themselves.
    AsTheyAre,
    /// Not at all: nobody knows the bytes that would have to go before.
    Nothing,
}

impl LengthField {
    /// First in each packet, big-endian, not counting itself, and not part of the message.
    pub fn new(width: Prefix) -> Self {
        let (offset, adjustment, strip) = (0, 0, None);
        Self { width, offset, adjustment, strip, little_endian: false, inclusive: false }
    }

    /// How many bytes go before the length. Default 0.
    pub fn offset(mut self, bytes: usize) -> Self {
        self.offset = bytes;
        self
    }

    /// How many more bytes follow the length than it says. Default 0. Less than none if the length
    /// counts what goes before it, too.
    pub fn adjustment(mut self, bytes: i64) -> Self {
        self.adjustment = bytes;
        self
    }

    /// How many bytes at the start of a packet are no part of the message. Default: all to the end of the
    /// length, so that the rest is the message.
    ///
    /// With 0 messages are packets: they are received and sent as they are, and one whose length is
    /// wrong is refused. With the default messages are sent behind their length, if that goes first.
    /// With everything else messages can only be received, since nobody knows what to put before
    /// them: [`send`](crate::Sender::send) refuses them.
    pub fn strip(mut self, bytes: usize) -> Self {
        self.strip = Some(bytes);
        self
    }

    /// The length is little-endian. Without effect on a varint.
    pub fn little_endian(mut self) -> Self {
        self.little_endian = true;
        self
    }

    /// The length counts itself.
    pub fn inclusive(mut self) -> Self {
        self.inclusive = true;
        self
    }

    pub(crate) fn sends(&self) -> Sends {
        match self.strip {
            Some(0) => Sends::AsTheyAre,
            None if self.offset == 0 => Sends::Prefixed,
            Some(bytes) if self.offset == 0 && Some(bytes) == self.fixed_width() => Sends::Prefixed,
            _ => Sends::Nothing,
        }
    }

    fn fixed_width(&self) -> Option<usize> {
        match self.width {
            Prefix::U8 => Some(1),
            Prefix::U16 => Some(2),
            Prefix::U24 => Some(3),
            Prefix::U32 => Some(4),
            Prefix::U64 => Some(8),
            Prefix::Varint => None,
        }
    }

    /// The longest message that has a length.
    pub(crate) fn most(&self) -> u64 {
        let most = match self.fixed_width() {
            Some(width) if width < 8 => (1 << (width * 8)) - 1,
            _ => u64::MAX,
        };
        let counted = if self.inclusive { self.fixed_width().unwrap_or(10) as i64 } else { 0 };
        match self.sends() {
            Sends::Prefixed => most.saturating_add_signed(self.adjustment.saturating_sub(counted)),
            Sends::AsTheyAre | Sends::Nothing => u64::MAX,
        }
    }

    /// How many bytes at the start of a packet are no part of the message, and how many are; `None` if
    /// its head is not there yet.
    pub(crate) fn first(&self, bytes: &[u8]) -> Result<Option<(usize, u64)>, String> {
        let Some(field) = bytes.get(self.offset..) else { return Ok(None) };
        let Some((said, width)) = self.read(field)? else { return Ok(None) };
        let counted = self.adjustment.saturating_sub(if self.inclusive { width as i64 } else { 0 });
        let Some(rest) = said.checked_add_signed(counted) else {
            return Err(format!("a length of {said} does not even hold itself"));
        };
        let head = self.offset + width;
        let strip = self.strip.unwrap_or(head);
        // in this order: without an overflow where it would not be one
        let payload = match strip.checked_sub(head) {
            Some(more) => rest.checked_sub(more as u64),
            None => rest.checked_add((head - strip) as u64),
        };
        match payload {
            Some(payload) => Ok(Some((strip, payload))),
            None => Err(format!("a length of {said} leaves no message")),
        }
    }

    /// The length, and how many bytes it takes.
    fn read(&self, bytes: &[u8]) -> Result<Option<(u64, usize)>, String> {
        let shift = |length: u64, byte: &u8| length << 8 | u64::from(*byte);
        if let Some(width) = self.fixed_width() {
            let Some(bytes) = bytes.get(..width) else { return Ok(None) };
            let length = if self.little_endian {
                bytes.iter().rev().fold(0, shift)
            } else {
                bytes.iter().fold(0, shift)
            };
            return Ok(Some((length, width)));
        }
        let mut length = 0;
        for (index, byte) in bytes.iter().enumerate() {
            // the tenth has room for one bit
            if index == 9 && *byte > 1 {
                return Err("a length of more than 64 bits".into());
            }
            length |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return Ok(Some((length, index + 1)));
            }
        }
        Ok(None)
    }

    /// What goes before a message of this length: the bytes, and how many they are. It fits, as
    /// [`LengthField::most`] says.
    pub(crate) fn head(&self, length: usize) -> ([u8; 10], usize) {
        let mut bytes = [0; 10];
        let length = length as u64;
        let said = |counted: usize| {
            let counted = if self.inclusive { counted as u64 } else { 0 };
            length.saturating_add(counted).saturating_add_signed(self.adjustment.saturating_neg())
        };
        if let Some(width) = self.fixed_width() {
            let said = said(width);
            if self.little_endian {
                bytes[..width].copy_from_slice(&said.to_le_bytes()[..width]);
            } else {
                bytes[..width].copy_from_slice(&said.to_be_bytes()[8 - width..]);
            }
            return (bytes, width);
        }
        // one that counts itself may be longer for it
        let width = (1..10).find(|width| said(*width) >> (7 * width) == 0).unwrap_or(10);
        let mut left = said(width);
        for byte in &mut bytes[..width] {
            *byte = (left & 0x7f) as u8 | 0x80;
            left >>= 7;
        }
        bytes[width - 1] &= 0x7f;
        (bytes, width)
    }

    /// So much waits until a length shows, or is a message in any case.
    pub(crate) fn least_packet(&self) -> u64 {
        let message = if self.sends() == Sends::Prefixed { self.least() } else { 0 };
        message.max(self.offset as u64)
    }

    /// Whether a message can be one that goes behind its length.
    pub(crate) fn least(&self) -> u64 {
        // a shorter one would have a length under zero
        let counted = if self.inclusive { self.fixed_width().unwrap_or(1) as i64 } else { 0 };
        u64::try_from(self.adjustment.saturating_sub(counted)).unwrap_or(0)
    }
}

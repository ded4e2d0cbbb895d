//! Codecs of the program's own: bytes to packets, and messages to bytes.

use std::error::Error as StdError;
use std::ops::Range;

use crate::message::Message;

/// Why a codec does not go on: any error, `"no packet begins so".into()` among them.
pub type CodecError = Box<dyn StdError + Send + Sync>;

/// Finds packets in what one link receives; see [`Framing::custom`](crate::config::Framing::custom).
///
/// A function of bytes is one.
pub trait Decode: Send {
    /// The first packet of what was received and is no part of an earlier packet; `None` if that does
    /// not show yet. It is called again when more has come, with the same bytes before it: once for
    /// each read, and a read brings what has come since the last one, up to the free room of a buffer that
    /// grows with the packet. So a peer that sends in one go costs few calls (4.7 MB of Redis' nested arrays:
    /// nine), and only one that sends byte by byte has each of them looked at again and again. So say how long a packet is as soon as that shows:
    /// it may be longer than what is there, and is then gathered without another call.
    ///
    /// # Errors
    ///
    /// In words: the link ends with [`Failure::Framing`](crate::Failure::Framing), and a client dials
    /// again.
    fn decode(&mut self, received: &[u8]) -> Result<Option<Packet>, CodecError>;
}

/// Makes bytes of the messages of one link; see [`Framing::custom`](crate::config::Framing::custom).
///
/// A function of a message and what it is appended to is one.
pub trait Encode: Send {
    /// Appends the message as the peer is to receive it. It is called once for each message and link,
    /// in the order in which they are sent, on the writer thread or on one that sends; nothing else is
    /// written meanwhile. So a `send` on the same connection in here waits for no room: without it that is
    /// refused with [`Error::Full`](crate::Error::Full).
    ///
    /// # Errors
    ///
    /// In words, which are logged: nothing is sent, and the message is handed back as
    /// [`Undelivered::Refused`](crate::failure::Undelivered::Refused).
    fn encode(&mut self, message: &Message, out: &mut Vec<u8>) -> Result<(), CodecError>;
}

impl<F> Decode for F
where
    F: FnMut(&[u8]) -> Result<Option<Packet>, CodecError> + Send,
{
    fn decode(&mut self, received: &[u8]) -> Result<Option<Packet>, CodecError> {
        self(received)
    }
}

impl<F> Encode for F
where
    F: FnMut(&Message, &mut Vec<u8>) -> Result<(), CodecError> + Send,
{
    fn encode(&mut self, message: &Message, out: &mut Vec<u8>) -> Result<(), CodecError> {
        self(message, out)
    }
}

/// Where a packet ends, and what of it is the message.
///
/// ```
/// use everlink::config::Packet;
///
/// // two bytes of head, five that are text, one of checksum
/// let packet = Packet::new(8).payload(2..7).text();
/// // what a peer sends to keep the connection alive, and nobody wants to know
/// let nothing = Packet::new(1).skipped();
/// # let _ = (packet, nothing);
/// ```
#[derive(Debug)]
#[must_use]
pub struct Packet {
    pub(crate) length: usize,
    pub(crate) content: Content,
    pub(crate) is_text: bool,
}

#[derive(Debug)]
pub(crate) enum Content {
    Nothing,
    Payload(Range<usize>),
    /// Boxed, so that a packet stays small: it is what each message costs.
    Message(Box<Message>),
}

impl Packet {
    /// One of this length, all of which is received, as a binary message. It may be longer than what
    /// has come.
    #[inline]
    pub fn new(length: usize) -> Self {
        Self { length, content: Content::Payload(0..length), is_text: false }
    }

    /// Only these bytes of it are received. They are not copied for that.
    #[inline]
    pub fn payload(mut self, range: Range<usize>) -> Self {
        self.content = Content::Payload(range);
        self
    }

    /// They are received as text if they are UTF-8.
    #[inline]
    pub fn text(mut self) -> Self {
        self.is_text = true;
        self
    }

    /// This is received for it, which is not in it as it is: unescaped or inflated. Such a packet has
    /// to be there whole.
    pub fn message(mut self, message: impl Into<Message>) -> Self {
        self.content = Content::Message(Box::new(message.into()));
        self
    }

    /// Nothing of it is received.
    #[inline]
    pub fn skipped(mut self) -> Self {
        self.content = Content::Nothing;
        self
    }
}

//! Where one message ends and the next begins.

use std::fmt;
use std::sync::Arc;

use super::codec::{CodecError, Decode, Encode, Packet};
use super::length_field::{LengthField, Prefix, Sends};
use crate::message::Message;

/// Makes what the two directions of one link need.
type Codec = dyn Fn() -> (Box<dyn Decode>, Box<dyn Encode>) + Send + Sync;

/// The same for what is sent as it is.
type Decoding = dyn Fn() -> Box<dyn Decode> + Send + Sync;

/// Where one message ends and the next begins: on a plain TCP connection, or in the binary messages
/// of a WebSocket.
///
/// | | a packet is | netty has |
/// | --- | --- | --- |
/// | [`lines`](Self::lines) | a line | `LineBasedFrameDecoder` |
/// | [`delimited`](Self::delimited) | what goes before a delimiter; with [`keep_delimiter`](Self::keep_delimiter) both | `DelimiterBasedFrameDecoder` |
/// | [`fixed`](Self::fixed) | so many bytes | `FixedLengthFrameDecoder` |
/// | [`length_prefixed`](Self::length_prefixed) | a length and what it counts | `LengthFieldPrepender`, `ProtobufVarint32FrameDecoder` |
/// | [`length_field`](Self::length_field) | the same with the length anywhere in a head | `LengthFieldBasedFrameDecoder` |
/// | [`content_length`](Self::content_length) | header lines with a `Content-Length`, and a body | |
/// | [`packets`](Self::packets), [`packets_with`](Self::packets_with) | what a function says | |
/// | [`custom`](Self::custom) | what a decoder finds and an encoder makes | `ByteToMessageCodec` |
/// | [`raw`](Self::raw) | whatever one read finds | no decoder at all |
///
/// ```
/// use everlink::config::{Framing, Prefix};
///
/// let lines = Framing::lines().max_length(8 * 1024);
/// // a 32-bit little-endian length that counts itself
/// let records = Framing::length_prefixed(Prefix::U32).little_endian().inclusive();
/// // AIS, NMEA and AT commands end with both
/// let sentences = Framing::delimited(b"\r\n");
/// # let _ = (lines, records, sentences);
/// ```
///
/// Whatever it is: what is announced or has come beyond [`max_length`](Self::max_length) or
/// [`Limits::message`](crate::config::Limits::message) ends the link with
/// [`Failure::Framing`](crate::Failure::Framing) before memory is taken for it, as does what is no packet;
/// a client dials again then. (In the messages of a WebSocket a packet over the limit is what a message
/// over it is there: [`Failure::Protocol`](crate::Failure::Protocol), told as 1009.) How the bytes arrive, whole or in pieces, makes no difference. The
/// [login hook](crate::ClientBuilder::login) receives and sends messages in the same framing.
#[derive(Clone)]
pub struct Framing {
    pub(crate) kind: FramingKind,
    max_length: usize,
    /// Whether each message comes behind a character that says its kind.
    has_kinds: bool,
    /// Whether what is UTF-8 is received as text, where the framing does not say.
    is_text: bool,
    /// Why an option can have no effect.
    misplaced: Option<&'static str>,
}

#[derive(Clone)]
pub(crate) enum FramingKind {
    Raw,
    Delimited(Delimiter),
    Fixed(usize),
    Length(LengthField),
    ContentLength,
    Packets(Arc<Decoding>),
    Custom(Arc<Codec>),
}

/// What ends a packet.
#[derive(Debug, Clone)]
pub(crate) struct Delimiter {
    pub(crate) bytes: Arc<[u8]>,
    /// Whether it is part of the message.
    pub(crate) is_kept: bool,
    /// Whether a carriage return before it belongs to it.
    pub(crate) ends_lines: bool,
}

impl Framing {
    /// Each message is a line, ended by a line feed; a carriage return before it is dropped. A line
    /// that is UTF-8 is received as text, any other (Latin-1, say) as a binary message. Either kind
    /// of message can be sent, unless it holds a line feed. A carriage return at the end of one is
    /// part of the line's end, for peers that want both, and is not received.
    #[must_use]
    pub fn lines() -> Self {
        let bytes = b"\n".as_slice().into();
        Self::new(FramingKind::Delimited(Delimiter { bytes, is_kept: false, ends_lines: true }))
    }

    /// Each message ends with these bytes, which are not received: `\0`, `\r\n`, `|`. A message that is
    /// UTF-8 is received as text, any other as a binary one. Either kind can be sent, unless the
    /// delimiter is in it.
    #[must_use]
    pub fn delimited(delimiter: impl AsRef<[u8]>) -> Self {
        let bytes = delimiter.as_ref().into();
        Self::new(FramingKind::Delimited(Delimiter { bytes, is_kept: false, ends_lines: false }))
    }

    /// Messages end with their delimiter, or their line feed, which is part of them: they are
    /// received and sent as they are. Lines and delimiters only, refused at the start elsewhere.
    #[must_use]
    pub fn keep_delimiter(mut self) -> Self {
        match &mut self.kind {
            FramingKind::Delimited(delimiter) => delimiter.is_kept = true,
            _ => self.misplaced = Some("keep_delimiter() can have no effect: there is none"),
        }
        self
    }

    /// Each message has this length, at least 1. Received messages are binary.
    #[must_use]
    pub fn fixed(length: usize) -> Self {
        Self::new(FramingKind::Fixed(length))
    }

    /// Each message follows its length, an unsigned number: big-endian and not counting itself
    /// unless said otherwise. Received messages are binary. Short for a
    /// [`length_field`](Self::length_field).
    #[must_use]
    pub fn length_prefixed(prefix: Prefix) -> Self {
        Self::length_field(LengthField::new(prefix))
    }

    /// Each packet says in its head how long it is. Received messages are binary.
    ///
    /// Many GPS trackers send two bytes of signature, a length, and so much with a checksum of two
    /// bytes behind it:
    ///
    /// ```
    /// use everlink::config::{Framing, LengthField, Prefix};
    ///
    /// let field = LengthField::new(Prefix::U8).offset(2).adjustment(2).strip(0);
    /// let tracker = Framing::length_field(field).max_length(1024);
    /// # let _ = tracker;
    /// ```
    #[must_use]
    pub fn length_field(field: LengthField) -> Self {
        Self::new(FramingKind::Length(field))
    }

    /// Each message follows header lines, one of which is `Content-Length: ` and its length, and an
    /// empty one: JSON-RPC as editors speak it (the Language Server Protocol). Other headers are not
    /// received, and not sent: SIP, RTSP and HTTP say in them what a message is, and need
    /// [`packets`](Self::packets). A message that is UTF-8 is received as text, any other as a binary one.
    /// Header lines of more than 8 KiB end the link.
    #[must_use]
    pub fn content_length() -> Self {
        Self::new(FramingKind::ContentLength)
    }

    /// The function says how long the first packet of these bytes is, or `None` if that does not show
    /// yet. Packets are received as they are, binary unless [`text`](Self::text) is asked for, and messages
    /// are sent as they are. This reads what a memcached server answers:
    ///
    /// ```
    /// use everlink::config::Framing;
    ///
    /// let memcached = Framing::packets(|received| {
    ///     let Some(end) = received.windows(2).position(|two| two == b"\r\n") else {
    ///         return Ok(None);
    ///     };
    ///     let line = std::str::from_utf8(&received[..end])?;
    ///     let mut words = line.split(' ');
    ///     Ok(Some(match (words.next(), words.nth(2)) {
    ///         // VALUE <key> <flags> <bytes>, the data, and CR LF behind both
    ///         (Some("VALUE"), Some(bytes)) => end + 2 + bytes.parse::<u16>()? as usize + 2,
    ///         _ => end + 2,
    ///     }))
    /// })
    /// .text();
    /// # let _ = memcached;
    /// ```
    ///
    /// It is called once for each packet, and again each time that more has come while it has said
    /// `None`. What is longer than what is there is gathered without another call. 0 and a panic end the link with
    /// [`Failure::Framing`](crate::Failure::Framing) as an error does, and so does more than the limit
    /// without an answer.
    #[must_use]
    pub fn packets<F>(first_length: F) -> Self
    where
        F: Fn(&[u8]) -> Result<Option<usize>, CodecError> + Send + Sync + 'static,
    {
        let first_length = Arc::new(first_length);
        Self::packets_with(move || {
            let first_length = Arc::clone(&first_length);
            move |received: &[u8]| first_length(received)
        })
    }

    /// [`packets`](Self::packets) with state: the outer closure makes a function for each link, before its
    /// first byte, and it goes on through [`start_tls`](crate::LoginSession::start_tls). A PostgreSQL server answers
    /// the very first request in one byte, and all others in packets with a length:
    ///
    /// ```
    /// use everlink::config::Framing;
    ///
    /// let postgres = Framing::packets_with(|| {
    ///     let mut is_first = true;
    ///     move |received| {
    ///         if std::mem::take(&mut is_first) {
    ///             return Ok(Some(1));
    ///         }
    ///         // the kind, and a length that counts itself
    ///         let length = received.get(1..5).map(|bytes| bytes.try_into().map(u32::from_be_bytes));
    ///         Ok(length.transpose()?.map(|length| 1 + length as usize))
    ///     }
    /// });
    /// # let _ = postgres;
    /// ```
    #[must_use]
    pub fn packets_with<F>(codec: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: FnMut(&[u8]) -> Result<Option<usize>, CodecError> + Send + 'static,
    {
        Self::new(FramingKind::Packets(Arc::new(move || {
            let mut first_length = codec();
            Box::new(move |received: &[u8]| {
                Ok::<_, CodecError>(first_length(received)?.map(Packet::new))
            })
        })))
    }

    /// A codec of the program's own. The closure makes a decoder and an encoder for each link, before
    /// its first byte: state begins anew. The two work on different threads; what they share they can keep in
    /// an [`Arc`]. Functions do for codecs without state, and closures that `move` theirs in. A codec goes on
    /// through [`start_tls`](crate::LoginSession::start_tls). This is a good part of STOMP:
    ///
    /// ```
    /// use everlink::Message;
    /// use everlink::config::{CodecError, Framing, Packet};
    ///
    /// fn decode(received: &[u8]) -> Result<Option<Packet>, CodecError> {
    ///     // a line feed between frames is a beat
    ///     if received.starts_with(b"\n") {
    ///         return Ok(Some(Packet::new(1).text()));
    ///     }
    ///     let end = received.iter().position(|byte| *byte == 0);
    ///     Ok(end.map(|end| Packet::new(end + 1).payload(0..end).text()))
    /// }
    ///
    /// fn encode(message: &Message, out: &mut Vec<u8>) -> Result<(), CodecError> {
    ///     out.extend_from_slice(message.as_bytes());
    ///     if message != "\n" {
    ///         out.push(0);
    ///     }
    ///     Ok(())
    /// }
    ///
    /// let stomp = Framing::custom(|| (decode, encode));
    /// # let _ = stomp;
    /// ```
    ///
    /// The limits hold for a packet as a whole, with what of it is not the message, both ways: a message of
    /// which the encoder makes more than the limit is handed back as
    /// [`Undelivered::Refused`](crate::failure::Undelivered::Refused). A codec that panics,
    /// that finds no packet in more than the limit, or that finds one of no bytes or with a payload outside
    /// of it ends the link with [`Failure::Framing`](crate::Failure::Framing). In a session that
    /// [`resume`](crate::ClientBuilder::resume)s the encoder gets each message behind one more character, and what
    /// the library says in such a session; the peer's decoder has to bring them as they were.
    #[must_use]
    pub fn custom<D, E>(codec: impl Fn() -> (D, E) + Send + Sync + 'static) -> Self
    where
        D: Decode + 'static,
        E: Encode + 'static,
    {
        Self::new(FramingKind::Custom(Arc::new(move || {
            let (decoder, encoder) = codec();
            (Box::new(decoder), Box::new(encoder))
        })))
    }

    /// Each read is a message, whatever it held, and each message is a write. **Boundaries
    /// are not kept**: TCP joins and cuts as it likes. Received messages are binary; an empty
    /// one sends nothing.
    ///
    /// What this cannot see, since it is how bytes happen to arrive together that makes a message:
    /// two beats in one read (`pingping` is no `ping`, and gets no answer), a beat with data before
    /// or behind it (`cam`, `ping` and `site` in one segment are the message `campingsite`), a beat
    /// that is cut in two. A peer may then miss an answer, and a beat of its own get through to the
    /// program as data. Beat on such a connection only with messages that travel alone, watch for
    /// silence with [`Heartbeat::listen`](crate::config::Heartbeat::listen), or use a framing that keeps
    /// boundaries. For the same reason there are no confirmations here.
    #[must_use]
    pub fn raw() -> Self {
        Self::new(FramingKind::Raw)
    }

    fn new(kind: FramingKind) -> Self {
        let is_text = matches!(kind, FramingKind::Delimited(_) | FramingKind::ContentLength);
        Self { kind, max_length: usize::MAX, has_kinds: false, is_text, misplaced: None }
    }

    /// Lengths are little-endian; lengths only, refused at the start elsewhere.
    #[must_use]
    pub fn little_endian(self) -> Self {
        self.with_field("little_endian() can have no effect: there is no length", |field| {
            field.little_endian()
        })
    }

    /// Lengths count themselves; lengths only, refused at the start elsewhere.
    #[must_use]
    pub fn inclusive(self) -> Self {
        self.with_field("inclusive() can have no effect: there is no length", |field| {
            field.inclusive()
        })
    }

    fn with_field(
        mut self,
        misplaced: &'static str,
        set: impl FnOnce(LengthField) -> LengthField,
    ) -> Self {
        match &mut self.kind {
            FramingKind::Length(field) => *field = set(*field),
            _ => self.misplaced = Some(misplaced),
        }
        self
    }

    /// Messages that are UTF-8 are received as text, as with [`lines`](Self::lines). Without effect where the
    /// codec says it of each packet.
    #[must_use]
    pub fn text(mut self) -> Self {
        self.is_text = true;
        self
    }

    /// Whether what is UTF-8 is received as text.
    pub(crate) fn is_text(&self) -> bool {
        self.is_text
    }

    /// What is wrong with the options where no message is longer than this, if anything is.
    pub(crate) fn check_options(&self, limit: usize) -> Result<(), &'static str> {
        let too_long = "each packet would be over the limit";
        match &self.kind {
            FramingKind::Fixed(0) => Err("packets of no bytes have no end"),
            FramingKind::Fixed(length) if *length > limit => Err(too_long),
            FramingKind::Length(field) if field.least_packet() > limit as u64 => Err(too_long),
            FramingKind::Delimited(delimiter) if delimiter.bytes.is_empty() => {
                Err("a delimiter of no bytes ends nothing")
            }
            FramingKind::Delimited(delimiter)
                if delimiter.is_kept && delimiter.bytes.len() > limit =>
            {
                Err(too_long)
            }
            _ => self.misplaced.map_or(Ok(()), Err),
        }
    }

    /// Why it cannot carry a session that resumes, if it cannot: what is said there has lengths of its
    /// own, and begins with a character that says what it is.
    pub(crate) fn check_session(&self) -> Result<(), &'static str> {
        match &self.kind {
            FramingKind::Raw => Err("a raw stream has no messages that a session could count"),
            // what is said in a session holds no control character, and no kind is one
            FramingKind::Delimited(Delimiter { bytes, is_kept: false, .. })
                if bytes.first().is_some_and(u8::is_ascii_control) =>
            {
                Ok(())
            }
            // the shortest of what is said has one byte
            FramingKind::Length(field)
                if field.sends() == Sends::Prefixed && field.least() <= 1 =>
            {
                Ok(())
            }
            FramingKind::ContentLength | FramingKind::Custom(_) => Ok(()),
            FramingKind::Delimited(_) => Err(
                "a session needs a delimiter that begins with a control character and is not kept",
            ),
            FramingKind::Fixed(_) | FramingKind::Length(_) | FramingKind::Packets(_) => {
                Err("a session has messages of its own, which are no such packets")
            }
        }
    }

    /// The longest message in bytes, both ways. [`Limits::message`](crate::config::Limits::message) holds as well.
    #[must_use]
    pub fn max_length(mut self, bytes: usize) -> Self {
        self.max_length = bytes;
        self
    }

    /// The same where each message comes behind the character that says its kind: in a session.
    /// What is said of the length of a message stays without it.
    pub(crate) fn with_kinds(mut self) -> Self {
        self.has_kinds = true;
        self
    }

    /// Whether there is a session, which can say why it ends.
    pub(crate) fn has_kinds(&self) -> bool {
        self.has_kinds
    }

    /// The longest message that can be sent, without its kind.
    pub(crate) fn limit(&self) -> usize {
        let most = match &self.kind {
            FramingKind::Length(field) => field.most().saturating_sub(u64::from(self.has_kinds)),
            FramingKind::Fixed(length) => *length as u64,
            _ => u64::MAX,
        };
        self.max_length.min(usize::try_from(most).unwrap_or(usize::MAX))
    }

    /// The longest message that is received, with its kind.
    pub(crate) fn max_received(&self) -> usize {
        self.max_length.saturating_add(usize::from(self.has_kinds))
    }

    /// Whether the answer to a beat can be told from the messages around it.
    pub(crate) fn keeps_boundaries(&self) -> bool {
        !matches!(self.kind, FramingKind::Raw)
    }

    /// What is wrong with a message that is to be sent, if anything is.
    pub(crate) fn check(&self, message: &Message) -> Result<(), &'static str> {
        let bytes = message.as_bytes();
        match &self.kind {
            _ if bytes.len() > self.limit() => Err("its length is over the limit of the framing"),
            FramingKind::Delimited(delimiter) => self.check_delimited(delimiter, bytes),
            FramingKind::Fixed(length) if bytes.len() != *length => {
                Err("it has not the length that all messages have")
            }
            FramingKind::Length(field) => match field.sends() {
                Sends::Prefixed if (bytes.len() as u64) < field.least() => {
                    Err("it is shorter than the adjustment of its length")
                }
                Sends::Prefixed => Ok(()),
                Sends::AsTheyAre => match field.first(bytes) {
                    Ok(Some((_, length))) if length == bytes.len() as u64 => Ok(()),
                    _ => Err("its length is not the one that it says"),
                },
                Sends::Nothing => Err("what goes before the length was stripped"),
            },
            _ => Ok(()),
        }
    }

    fn check_delimited(&self, delimiter: &Delimiter, bytes: &[u8]) -> Result<(), &'static str> {
        let wrong = match (delimiter.ends_lines, delimiter.is_kept) {
            (true, false) => "a line cannot hold a line feed",
            (true, true) => "a line has to end with its only line feed",
            (false, false) => "it cannot hold the delimiter",
            (false, true) => "it has to end with its only delimiter",
        };
        let end = match delimiter.is_kept {
            true => bytes.strip_suffix(&*delimiter.bytes).ok_or(wrong)?.len(),
            false => bytes.len(),
        };
        // its beginning may be at the end of the message
        if delimiter.find(bytes).is_some_and(|place| place < end)
            || !delimiter.is_kept && delimiter.begins_in(bytes)
        {
            return Err(wrong);
        }
        // it would come without, and a session promises the message as it was
        if delimiter.ends_lines && self.has_kinds && bytes.ends_with(b"\r") {
            return Err("a line of a session cannot end with a carriage return");
        }
        Ok(())
    }
}

impl Delimiter {
    /// Where it is first.
    #[inline]
    pub(crate) fn find(&self, bytes: &[u8]) -> Option<usize> {
        match &*self.bytes {
            [only] => bytes.iter().position(|byte| byte == only),
            all => bytes.windows(all.len()).position(|window| window == all),
        }
    }

    /// Whether it would be found earlier than behind these bytes, if it went there.
    fn begins_in(&self, bytes: &[u8]) -> bool {
        (1..self.bytes.len()).any(|begun| {
            let (begin, rest) = self.bytes.split_at(begun);
            bytes.ends_with(begin) && self.bytes.starts_with(rest)
        })
    }
}

impl fmt::Debug for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Framing")
            .field("kind", &self.kind)
            .field("max_length", &self.max_length)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for FramingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raw => f.write_str("Raw"),
            Self::Delimited(delimiter) => f.debug_tuple("Delimited").field(delimiter).finish(),
            Self::Fixed(length) => f.debug_tuple("Fixed").field(length).finish(),
            Self::Length(field) => f.debug_tuple("Length").field(field).finish(),
            Self::ContentLength => f.write_str("ContentLength"),
            Self::Packets(_) => f.write_str("Packets"),
            Self::Custom(_) => f.write_str("Custom"),
        }
    }
}

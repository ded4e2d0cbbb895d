//! Where one message ends and the next begins.

use crate::message::Message;

/// Where one message ends and the next begins on a plain TCP connection.
///
/// ```
/// use everlink::config::{Framing, Prefix};
///
/// let lines = Framing::lines().max_length(8 * 1024);
/// // a 32-bit little-endian length that counts itself
/// let records = Framing::length_prefixed(Prefix::U32).little_endian().inclusive();
/// # let _ = (lines, records);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Framing {
    pub(crate) kind: FramingKind,
    max_length: usize,
    /// Whether each message comes behind a character that says its kind.
    has_kinds: bool,
    /// An option that this kind does not have.
    misplaced: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FramingKind {
    Lines,
    Length(LengthPrefix),
    Raw,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LengthPrefix {
    pub(crate) size: usize,
    pub(crate) little_endian: bool,
    pub(crate) inclusive: bool,
}

/// The width of a length prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Prefix {
    /// Two bytes.
    U16,
    /// Four bytes.
    U32,
    /// Eight bytes.
    U64,
}

impl Framing {
    /// Each message is a line, ended by a line feed; a carriage return before it is dropped. A line
    /// that is UTF-8 is received as text, any other (Latin-1, say) as a binary message. Either kind
    /// of message can be sent, unless it holds a line feed. A carriage return at the end of one is
    /// part of the line's end, for peers that want both, and is not received.
    #[must_use]
    pub fn lines() -> Self {
        Self::new(FramingKind::Lines)
    }

    /// Each message follows its length, an unsigned number: big-endian and not counting itself
    /// unless said otherwise. Received messages are binary.
    #[must_use]
    pub fn length_prefixed(prefix: Prefix) -> Self {
        let size = match prefix {
            Prefix::U16 => 2,
            Prefix::U32 => 4,
            Prefix::U64 => 8,
        };
        let prefix = LengthPrefix { size, little_endian: false, inclusive: false };
        Self::new(FramingKind::Length(prefix))
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
        Self { kind, max_length: usize::MAX, has_kinds: false, misplaced: None }
    }

    /// Lengths are little-endian; length prefixes only, refused at the start elsewhere.
    #[must_use]
    pub fn little_endian(self) -> Self {
        self.with_prefix("little_endian", |prefix| prefix.little_endian = true)
    }

    /// Lengths count the prefix too; length prefixes only, refused at the start elsewhere.
    #[must_use]
    pub fn inclusive(self) -> Self {
        self.with_prefix("inclusive", |prefix| prefix.inclusive = true)
    }

    fn with_prefix(mut self, option: &'static str, set: impl FnOnce(&mut LengthPrefix)) -> Self {
        match &mut self.kind {
            FramingKind::Length(prefix) => set(prefix),
            FramingKind::Lines | FramingKind::Raw => self.misplaced = Some(option),
        }
        self
    }

    /// What is wrong with the options, if anything is.
    pub(crate) fn check_options(&self) -> Result<(), String> {
        match self.misplaced {
            Some(option) => {
                Err(format!("{option}() can have no effect: there is no length prefix"))
            }
            None => Ok(()),
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
        match self.kind {
            FramingKind::Length(LengthPrefix { size, inclusive, .. }) => {
                let most = if size == 8 { u64::MAX } else { (1 << (size * 8)) - 1 };
                let most = if inclusive { most - size as u64 } else { most };
                let most = most - u64::from(self.has_kinds);
                self.max_length.min(usize::try_from(most).unwrap_or(usize::MAX))
            }
            FramingKind::Lines | FramingKind::Raw => self.max_length,
        }
    }

    /// The longest message that is received, with its kind.
    pub(crate) fn max_received(&self) -> usize {
        self.max_length.saturating_add(usize::from(self.has_kinds))
    }

    /// Whether the answer to a beat can be told from the messages around it.
    pub(crate) fn keeps_boundaries(&self) -> bool {
        self.kind != FramingKind::Raw
    }

    /// What is wrong with a message that is to be sent, if anything is.
    pub(crate) fn check(&self, message: &Message) -> Result<(), &'static str> {
        if self.kind == FramingKind::Lines && message.as_bytes().contains(&b'\n') {
            return Err("a line cannot hold a line feed");
        }
        // it would come without, and a session promises the message as it was
        if self.kind == FramingKind::Lines && self.has_kinds && message.as_bytes().ends_with(b"\r")
        {
            return Err("a line of a session cannot end with a carriage return");
        }
        Ok(())
    }
}

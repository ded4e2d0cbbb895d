//! What a message of a session is.

use crate::failure::Failure;
use crate::message::{CloseCode, CloseFrame, MessageRef};
use crate::resume::{Counts, Impossible, Note};
use crate::wire::Protocol;

/// A message of the program's, which a session counts.
pub(crate) const COUNTED: u8 = b'm';

/// One that it does not count: a beat or its answer, or one for this link only.
pub(crate) const OUTSIDE: u8 = b'x';

/// A received message, counted where it counts, and without its kind.
#[derive(Debug)]
pub(crate) enum Sorted<'a> {
    /// It is the program's, or a beat.
    Message(MessageRef<'a>),
    /// The peer has counted up to this number.
    Report(u64),
    /// The peer wants a report.
    Ask,
    /// The session is over for the peer.
    End(CloseFrame),
    /// It needs no answer.
    Nothing,
}

/// Tells the counts of a message, and what it is.
///
/// # Errors
///
/// A [`Failure::Protocol`]: the peer cannot say this.
#[inline]
pub(crate) fn sort<'a>(
    message: MessageRef<'a>,
    counts: &Counts,
    protocol: &Protocol,
) -> Result<Sorted<'a>, Failure> {
    let violation = |Impossible| violation("a number that cannot be");
    match message.as_bytes().first() {
        Some(&COUNTED) => {
            let is_counted = counts.receive().map_err(violation)?;
            Ok(if is_counted { without_kind(message)? } else { Sorted::Nothing })
        }
        Some(&OUTSIDE) => without_kind(message),
        _ => match note(&message, protocol) {
            Some(Note::Report(received)) => {
                counts.report(received).map_err(violation)?;
                Ok(Sorted::Report(received))
            }
            Some(Note::Gap(numbers)) => {
                counts.skip(numbers).map_err(violation)?;
                Ok(Sorted::Nothing)
            }
            Some(Note::Ask) => Ok(Sorted::Ask),
            Some(Note::End(frame)) => {
                counts.peer_ended(&frame);
                Ok(Sorted::End(frame))
            }
            None => Err(self::violation("a message of no kind")),
        },
    }
}

fn without_kind(message: MessageRef<'_>) -> Result<Sorted<'_>, Failure> {
    match message.split_kind() {
        Some((_, message)) => Ok(Sorted::Message(message)),
        None => Err(violation("a message of no kind")),
    }
}

/// On framed TCP it is not said whether a message is text.
fn note(message: &MessageRef<'_>, protocol: &Protocol) -> Option<Note> {
    Note::parse(match protocol.is_websocket() {
        true => message.as_text()?,
        false => std::str::from_utf8(message.as_bytes()).ok()?,
    })
}

pub(super) fn violation(what: &str) -> Failure {
    Failure::Protocol { code: CloseCode::PROTOCOL_ERROR, reason: format!("in a session: {what}") }
}

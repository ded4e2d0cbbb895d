//! What else the ends of a session say about it.
//!
//! ```text
//! report = "r " n
//! ask    = "a"
//! gap    = "g " n
//! end    = "e " 4DIGIT [ " " reason ]
//! reason = UTF-8 without control characters (U+0000-001F, U+007F-009F), at most 123 bytes
//! ```
//!
//! A reason may be empty or end with a space; nothing else may.

use std::fmt;

use super::number;
use crate::message::{CloseCode, CloseFrame};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Note {
    /// Up to this number its sender has counted.
    Report(u64),
    /// Asks for a report.
    Ask,
    /// So many numbers that come next are empty: what had them will never come.
    Gap(u64),
    /// The session is over on purpose. The code is one that a close frame may carry.
    End(CloseFrame),
}

impl Note {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.split_once(' ') {
            Some(("r", rest)) => number::parse(rest).map(Self::Report),
            Some(("g", rest)) => number::parse(rest).map(Self::Gap),
            Some(("e", rest)) => end(rest).map(Self::End),
            None if text == "a" => Some(Self::Ask),
            _ => None,
        }
    }
}

fn end(text: &str) -> Option<CloseFrame> {
    let (code, reason) = text.split_once(' ').unwrap_or((text, ""));
    let code = number::parse(code).filter(|_| code.len() == 4)?;
    let code = CloseCode(u16::try_from(code).ok()?);
    let is_reason = reason.len() <= CloseFrame::MAX_REASON && !reason.contains(char::is_control);
    (code.is_sendable() && is_reason).then(|| CloseFrame::new(code, reason))
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Report(number) => write!(f, "r {number}"),
            Self::Ask => f.write_str("a"),
            Self::Gap(numbers) => write!(f, "g {numbers}"),
            Self::End(CloseFrame { code, reason }) if reason.is_empty() => write!(f, "e {code}"),
            Self::End(CloseFrame { code, reason }) => write!(f, "e {code} {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::number::MAX_NUMBER;
    use super::*;

    fn end(code: u16, reason: &str) -> Note {
        Note::End(CloseFrame::new(CloseCode(code), reason))
    }

    #[test]
    fn a_note_is_what_the_grammar_says() {
        let longest = "\u{e4}".repeat(61) + "a";
        for (text, note) in [
            ("a".to_owned(), Note::Ask),
            ("r 0".into(), Note::Report(0)),
            ("r 007".into(), Note::Report(7)),
            ("r 999999999999999".into(), Note::Report(MAX_NUMBER)),
            ("g 0".into(), Note::Gap(0)),
            ("g 12".into(), Note::Gap(12)),
            ("e 1000".into(), end(1000, "")),
            ("e 1000 ".into(), end(1000, "")),
            ("e 1000  two spaces ".into(), end(1000, " two spaces ")),
            (
                "e 4999 gr\u{fc}\u{df}e \u{a0}\u{2028}".into(),
                end(4999, "gr\u{fc}\u{df}e \u{a0}\u{2028}"),
            ),
            (format!("e 3000 {longest}"), end(3000, &longest)),
        ] {
            assert_eq!(Note::parse(&text), Some(note), "{text:?}");
        }
        for wrong in [
            String::new(),
            " ".into(),
            "A".into(),
            "a ".into(),
            "a\n".into(),
            "a 1".into(),
            "aa".into(),
            "r".into(),
            "r ".into(),
            "r1".into(),
            "r  1".into(),
            "r 1 ".into(),
            "r 1 2".into(),
            "r 1\n".into(),
            "r -1".into(),
            "r +1".into(),
            "r 1.0".into(),
            "r 1e3".into(),
            "r 0x1".into(),
            "r \u{661}".into(),
            "r 1000000000000000".into(),
            "r 0000000000000000".into(),
            "R 1".into(),
            "g".into(),
            "g ".into(),
            "g 1 1".into(),
            "g 1000000000000000".into(),
            "m".into(),
            "mhello".into(),
            "x".into(),
            "s new".into(),
            "e".into(),
            "e ".into(),
            "e1000".into(),
            "e  1000".into(),
            "e 100".into(),
            "e 01000".into(),
            "e 10000".into(),
            "e 1000x".into(),
            "e +100".into(),
            "e 1e3 ".into(),
            "e \u{661}00".into(),
            "e 1000\n".into(),
            "e 1000 \n".into(),
            "e 1000 a\0".into(),
            "e 1000 a\u{1f}b".into(),
            "e 1000 \u{7f}".into(),
            "e 1000 \u{80}".into(),
            "e 1000 \u{9f}".into(),
            format!("e 3000 {longest}b"),
            "e 0999".into(),
            "e 1004".into(),
            "e 1005".into(),
            "e 1006".into(),
            "e 1015".into(),
            "e 1016".into(),
            "e 2999".into(),
            "e 5000".into(),
        ] {
            assert_eq!(Note::parse(&wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            number in 0..=MAX_NUMBER,
            code in prop_oneof![1000..=1003_u16, 1007..=1014_u16, 3000..=4999_u16],
            reason in "[^\\p{Cc}]{0,30}",
        ) {
            for note in [Note::Report(number), Note::Gap(number), Note::Ask, end(code, &reason)] {
                prop_assert_eq!(Note::parse(&note.to_string()), Some(note));
            }
        }
    }
}

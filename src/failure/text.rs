//! Text of other people in errors and records: printable, on one line, and short.

use std::error::Error as StdError;
use std::fmt::{self, Display, Write};

/// How many characters of a peer's text are quoted.
const QUOTED: usize = 200;

/// How many characters of an error from elsewhere are shown: one of the program's own may be
/// long, one that a peer has a hand in (the names in a certificate) must not be endless.
const SHOWN: usize = 1000;

/// What a peer said, in quotation marks: escaped, and cut after 200 characters. The only way in
/// which an error of this crate repeats anything that came from outside.
pub(crate) fn quote(text: impl AsRef<[u8]>) -> String {
    let text = String::from_utf8_lossy(text.as_ref());
    let mut quoted = String::from('"');
    let mut characters = text.chars();
    for character in characters.by_ref().take(QUOTED) {
        quoted.extend(character.escape_debug());
    }
    quoted.push('"');
    if characters.next().is_some() {
        quoted.push_str("...");
    }
    quoted
}

/// Shows a value on one printable line, whatever it consists of, and cuts it when it is endless.
pub(crate) struct OneLine<T>(pub(crate) T);

impl<T: Display> Display for OneLine<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = Line { out: f, left: SHOWN, is_cut: false };
        let result = write!(line, "{}", self.0);
        if line.is_cut { f.write_str("...") } else { result }
    }
}

struct Line<'a, 'b> {
    out: &'a mut fmt::Formatter<'b>,
    left: usize,
    is_cut: bool,
}

impl Write for Line<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if self.left == 0 {
                self.is_cut = true;
                // ends the writing; nobody sees this error
                return Err(fmt::Error);
            }
            self.left -= 1;
            match character {
                // `escape_debug` would put a backslash before them
                '"' | '\'' | '\\' => self.out.write_char(character)?,
                other => write!(self.out, "{}", other.escape_debug())?,
            }
        }
        Ok(())
    }
}

/// An error and its sources, on one printable line. A source that is in what was said already is
/// not said again: many errors repeat theirs, as those of this crate do.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn StdError + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = OneLine(self.0).to_string();
        f.write_str(&said)?;
        let mut next = self.0.source();
        while let Some(source) = next {
            let words = OneLine(source).to_string();
            if !said.contains(&words) {
                write!(f, ": {words}")?;
                said.push_str(&words);
            }
            next = source.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_quote_is_printable_and_ends_after_200_characters() {
        assert_eq!(quote("plain"), "\"plain\"");
        assert_eq!(quote("a\"b\n\u{1b}[2J\u{202e}"), r#""a\"b\n\u{1b}[2J\u{202e}""#);
        assert_eq!(quote(b"\xff"), "\"\u{fffd}\"");
        let long = quote("x".repeat(60_000));
        assert_eq!(long, format!("\"{}\"...", "x".repeat(200)));
        assert!(!quote("x".repeat(200)).ends_with("..."));
    }

    #[test]
    fn one_line_leaves_plain_text_alone() {
        let text = "it's \"fine\": C:\\x";
        assert_eq!(OneLine(text).to_string(), text);
        assert_eq!(OneLine("a\nb\u{1b}[2J").to_string(), "a\\nb\\u{1b}[2J");
        assert_eq!(OneLine("x".repeat(60_000)).to_string().len(), SHOWN + "...".len());
    }

    proptest! {
        #[test]
        fn nothing_of_it_ends_a_line(text in any::<String>()) {
            for shown in [quote(&text), OneLine(&text).to_string()] {
                prop_assert!(!shown.contains(char::is_control));
                let hidden = ['\u{2028}', '\u{202e}'];
                prop_assert!(!shown.contains(hidden));
            }
        }
    }
}

//! What stands between the spaces of an offer or an answer.
//!
//! ```text
//! param  = " " name "=" value
//! name   = 1*( ALPHA / DIGIT / "-" / "_" )
//! value  = *VCHAR
//! n      = 1*15DIGIT
//! ```
//!
//! The fixed parameters come first and in their order. Others may follow, but none that has the
//! name of a fixed one: an end that would pass over a `has` begins its counting at another number
//! than the peer.

use std::iter::Peekable;
use std::str::Split;

use super::number;

/// The names of the fixed parameters.
const FIXED: [&str; 3] = ["attempt", "received", "has"];

pub(super) struct Words<'a>(Peekable<Split<'a, char>>);

impl<'a> Words<'a> {
    /// Those behind the `s`; `None` if the message begins with something else.
    pub(super) fn behind_s(text: &'a str) -> Option<Self> {
        Some(Self(text.strip_prefix("s ")?.split(' ').peekable()))
    }

    pub(super) fn word(&mut self) -> Option<&'a str> {
        self.0.next()
    }

    /// The value of the parameter that has to come here.
    pub(super) fn number(&mut self, name: &str) -> Option<u64> {
        let (found, value) = parameter(self.word()?)?;
        if found == name { number::parse(value) } else { None }
    }

    /// The value of a parameter that may come here: `Some(None)` if another word comes, or none.
    pub(super) fn optional(&mut self, name: &str) -> Option<Option<u64>> {
        let is_next = self.0.peek().and_then(|word| parameter(word));
        if is_next.is_some_and(|(found, _)| found == name) {
            self.number(name).map(Some)
        } else {
            Some(None)
        }
    }

    /// Passes each parameter that is left to `each`; `None` if something else is left.
    pub(super) fn others(self, mut each: impl FnMut(&str, &str)) -> Option<()> {
        for word in self.0 {
            let (name, value) = parameter(word)?;
            if FIXED.contains(&name) {
                return None;
            }
            each(name, value);
        }
        Some(())
    }
}

fn parameter(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let is_parameter = !name.is_empty()
        && name.bytes().all(in_name)
        && value.bytes().all(|byte| byte.is_ascii_graphic());
    is_parameter.then_some((name, value))
}

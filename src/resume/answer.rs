//! The server's first message on a link.
//!
//! ```text
//! answer = "s " token " received=" n [ " has=" n ] *param
//! ```

use std::fmt;

use super::words::Words;
use super::{Token, number};

/// What a server grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The session of this link: the one that the client has asked for, or a new one.
    pub(crate) token: Token,
    /// Up to this number the server has counted: 0 in a new session.
    pub(crate) received: u64,
    /// Up to this number it has what was sent, if it counts later than it decodes.
    pub(crate) has: Option<u64>,
    /// For how many seconds the session waits for its client, if the server says so: for display.
    pub(crate) window: Option<u64>,
}

impl Answer {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = Words::behind_s(text)?;
        let token = Token::parse(words.word()?)?;
        let received = words.number("received")?;
        let has = words.optional("has")?;
        let mut window = None;
        words.others(|name, value| {
            if name == "window" {
                window = window.or(number::parse(value));
            }
        })?;
        Some(Self { token, received, has, window })
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { token, received, has, window } = self;
        write!(f, "s {} received={received}", token.as_str())?;
        for (name, number) in [("has", has), ("window", window)] {
            if let Some(number) = number {
                write!(f, " {name}={number}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::number::MAX_NUMBER;
    use super::*;

    const TOKEN: &str = "abcdefghijklmnopqrstu-_9";

    fn answer(received: u64, has: Option<u64>, window: Option<u64>) -> Option<Answer> {
        Some(Answer { token: Token::parse(TOKEN).unwrap(), received, has, window })
    }

    #[test]
    fn an_answer_is_what_the_grammar_says() {
        for (text, expected) in [
            (format!("s {TOKEN} received=0"), answer(0, None, None)),
            (format!("s {TOKEN} received=000000000000012 has=13"), answer(12, Some(13), None)),
            (format!("s {TOKEN} received=1 window=120"), answer(1, None, Some(120))),
            (format!("s {TOKEN} received=1 x=1 window=2 y="), answer(1, None, Some(2))),
            (format!("s {TOKEN} received=1 has=1 window=0 window=9"), answer(1, Some(1), Some(0))),
            // it is for display: a word there is not worth a session
            (format!("s {TOKEN} received=1 window=soon"), answer(1, None, None)),
            (format!("s {TOKEN} received={MAX_NUMBER}"), answer(MAX_NUMBER, None, None)),
        ] {
            assert_eq!(Answer::parse(&text), expected, "{text:?}");
        }
        for wrong in [
            String::new(),
            "hello".into(),
            "s new".into(),
            "s new received=0".into(),
            TOKEN.into(),
            format!("s {TOKEN}"),
            format!("s{TOKEN} received=0"),
            format!("s {TOKEN} "),
            format!("s {TOKEN} received=0 "),
            format!("s {TOKEN} received=0\n"),
            format!("s {TOKEN}  received=0"),
            format!("s {TOKEN} attempt=1 received=0"),
            format!("s {TOKEN} received=0 attempt=1"),
            format!("s {TOKEN} window=1 received=0"),
            format!("s {TOKEN} has=1 received=1"),
            format!("s {TOKEN} received=1 window=1 has=1"),
            format!("s {TOKEN} received=1 has=1 has=1"),
            format!("s {TOKEN} received=1 has=x"),
            format!("s {TOKEN} received=1 received=2"),
            format!("s {TOKEN} received="),
            format!("s {TOKEN} received=+1"),
            format!("s {TOKEN} received=1000000000000000"),
            format!("s {TOKEN} received=1 window"),
            format!("s {} received=1", &TOKEN[..21]),
            format!("s {} received=1", "a".repeat(65)),
        ] {
            assert_eq!(Answer::parse(&wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        let shown = format!("{:?}", answer(1, Some(2), None));
        assert!(!shown.contains(&TOKEN[..8]) && shown.contains("received: 1"), "{shown}");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            token in "[a-zA-Z0-9_-]{22,64}",
            received in 0..=MAX_NUMBER,
            [has, window] in [prop::option::of(0..=MAX_NUMBER), prop::option::of(0..=MAX_NUMBER)],
            later in "( [a-z]{1,2}=[!-~]{0,9}){0,3}",
        ) {
            let answer = Answer { token: Token::parse(&token).unwrap(), received, has, window };
            prop_assert_eq!(Answer::parse(&format!("{answer}{later}")), Some(answer));
        }
    }
}

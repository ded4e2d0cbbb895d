//! The first message of a link, which is the client's.
//!
//! ```text
//! offer  = "s new" *param
//!        / "s " token " attempt=" n " received=" n [ " has=" n ] *param
//! ```

use std::fmt;

use super::Token;
use super::words::Words;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Offer {
    /// A session that can be resumed later.
    New,
    /// To go on with a session.
    Resume {
        token: Token,
        /// Grows with every offer of the session, from 1.
        attempt: u64,
        /// Up to this number the client has counted.
        received: u64,
        /// Up to this number it has what was sent, if it counts later than it decodes.
        has: Option<u64>,
    },
}

impl Offer {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = Words::behind_s(text)?;
        let offer = match words.word()? {
            "new" => Self::New,
            token => Self::Resume {
                token: Token::parse(token)?,
                attempt: words.number("attempt")?,
                received: words.number("received")?,
                has: words.optional("has")?,
            },
        };
        words.others(|_, _| ())?;
        Some(offer)
    }
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New => f.write_str("s new"),
            Self::Resume { token, attempt, received, has } => {
                write!(f, "s {} attempt={attempt} received={received}", token.as_str())?;
                has.map_or(Ok(()), |has| write!(f, " has={has}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::number::MAX_NUMBER;
    use super::*;

    const TOKEN: &str = "abcdefghijklmnopqrstu-_9";

    fn resume(attempt: u64, received: u64, has: Option<u64>) -> Option<Offer> {
        Some(Offer::Resume { token: Token::parse(TOKEN).unwrap(), attempt, received, has })
    }

    #[test]
    fn an_offer_is_what_the_grammar_says() {
        for (text, offer) in [
            ("s new".to_owned(), Some(Offer::New)),
            ("s new later=1 more= _-9=a=b;~!".into(), Some(Offer::New)),
            (format!("s {TOKEN} attempt=1 received=0"), resume(1, 0, None)),
            (format!("s {TOKEN} attempt=0 received=0 has=0"), resume(0, 0, Some(0))),
            (format!("s {TOKEN} attempt=007 received=2 has=3 x=y"), resume(7, 2, Some(3))),
            // whether the numbers can be is not the grammar's
            (format!("s {TOKEN} attempt=1 received=9 has=3"), resume(1, 9, Some(3))),
            (
                format!("s {TOKEN} attempt={MAX_NUMBER} received={MAX_NUMBER} window=1"),
                resume(MAX_NUMBER, MAX_NUMBER, None),
            ),
        ] {
            assert_eq!(Offer::parse(&text), offer, "{text:?}");
        }
        for wrong in [
            String::new(),
            "s".into(),
            "s ".into(),
            "snew".into(),
            "S new".into(),
            " s new".into(),
            "s  new".into(),
            "s New".into(),
            "s new ".into(),
            "s new\n".into(),
            "s new x".into(),
            "s new =1".into(),
            "s new x.y=1".into(),
            "s new x=1  y=2".into(),
            "s new x=1 ".into(),
            "s new x=\u{e4}".into(),
            "s new x=\t".into(),
            "s new x=\u{7f}".into(),
            "s new received=0".into(),
            format!("s {TOKEN}"),
            format!("s {TOKEN} attempt=1"),
            format!("s {TOKEN} received=1"),
            format!("s {TOKEN} received=1 attempt=1"),
            format!("s {TOKEN} received=1 has=1"),
            format!("s {TOKEN} x=1 attempt=1 received=1"),
            format!("s {TOKEN} attempt=1 x=1 received=1"),
            format!("s {TOKEN} attempt=1 has=1 received=1"),
            format!("s {TOKEN} attempt=1 received=1 x=1 has=1"),
            format!("s {TOKEN} attempt=1 received=1 received=1"),
            format!("s {TOKEN} attempt=1 received=1 has="),
            format!("s {TOKEN} attempt=1 received=1 has"),
            format!("s {TOKEN} attempt=1 received=1 "),
            format!("s {TOKEN} attempt=1 received=1\r"),
            format!("s {TOKEN}  attempt=1 received=1"),
            format!("s {TOKEN} attempt=1 received= 1"),
            format!("s {TOKEN} attempt=1 Received=1"),
            format!("s {TOKEN} attempt= received=1"),
            format!("s {TOKEN} attempt=-1 received=1"),
            format!("s {TOKEN} attempt=+1 received=1"),
            format!("s {TOKEN} attempt=1.0 received=1"),
            format!("s {TOKEN} attempt=\u{661} received=1"),
            format!("s {TOKEN} attempt=1 received=1000000000000000"),
            format!("s {TOKEN} attempt=0000000000000001 received=1"),
            format!("s {} attempt=1 received=1", &TOKEN[..21]),
            format!("s {} attempt=1 received=1", "a".repeat(65)),
            format!("s {TOKEN}+ attempt=1 received=1"),
        ] {
            assert_eq!(Offer::parse(&wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        let shown = format!("{:?}", resume(1, 2, None));
        assert!(!shown.contains(&TOKEN[..8]) && shown.contains("received: 2"), "{shown}");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            token in "[a-zA-Z0-9_-]{22,64}",
            [attempt, received] in [0..=MAX_NUMBER, 0..=MAX_NUMBER],
            has in prop::option::of(0..=MAX_NUMBER),
            later in "( [a-z]{1,2}=[!-~]{0,9}){0,3}",
        ) {
            let token = Token::parse(&token).unwrap();
            let offer = Offer::Resume { token, attempt, received, has };
            prop_assert_eq!(Offer::parse(&format!("{offer}{later}")), Some(offer));
            prop_assert_eq!(Offer::parse(&format!("s new{later}")), Some(Offer::New));
        }
    }
}

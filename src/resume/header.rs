//! The header of the opening handshake, both ways.
//!
//! ```text
//! offer  = ( "new" / token ";" OWS "received=" number ) *( ";" OWS name "=" value )
//! answer = token ";" OWS "window=" number [ ";" OWS "received=" number ]
//!          *( ";" OWS name "=" value )
//! token  = 22*64( ALPHA / DIGIT / "-" / "_" )
//! number = 1*18DIGIT
//! name   = 1*( ALPHA / DIGIT / "-" / "_" )        ; other than "window" and "received"
//! value  = *( VCHAR except ";" )
//! ```
//!
//! What does not fit is no header at all, nor is one that comes twice.

use http::header::{HeaderMap, HeaderName};

use super::Token;

/// `Everlink-Resume`.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("everlink-resume");

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Offer {
    /// A session that can be resumed later.
    New,
    /// To go on with a session, of which the client has received so many messages.
    Resume { token: Token, received: u64 },
}

/// What a server grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) token: Token,
    /// For how many seconds the session outlives its link.
    pub(crate) window: u64,
    /// The session goes on, and the server has received so many messages of it; `None` for a new
    /// one.
    pub(crate) received: Option<u64>,
}

impl Offer {
    /// Takes the offer out of a request.
    pub(crate) fn take(headers: &mut HeaderMap) -> Option<Self> {
        Self::parse(&take(headers)?)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = Parts::new(text);
        let first = parts.first()?;
        let offer = if first == "new" {
            Self::New
        } else {
            let token = Token::parse(first)?;
            Self::Resume { token, received: parts.number("received")? }
        };
        parts.are_others().then_some(offer)
    }

    /// The value of the header.
    pub(crate) fn value(&self) -> String {
        match self {
            Self::New => "new".into(),
            Self::Resume { token, received } => format!("{}; received={received}", token.as_str()),
        }
    }
}

impl Answer {
    /// Takes the answer out of a response.
    pub(crate) fn take(headers: &mut HeaderMap) -> Option<Self> {
        Self::parse(&take(headers)?)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = Parts::new(text);
        let token = Token::parse(parts.first()?)?;
        let window = parts.number("window")?;
        let received = match parts.is_next("received") {
            true => Some(parts.number("received")?),
            false => None,
        };
        parts.are_others().then_some(Self { token, window, received })
    }

    /// The value of the header.
    pub(crate) fn value(&self) -> String {
        let Self { token, window, received } = self;
        let mut value = format!("{}; window={window}", token.as_str());
        if let Some(received) = received {
            value += &format!("; received={received}");
        }
        value
    }
}

/// Removes the header wherever it stands; returns its value if there is one.
fn take(headers: &mut HeaderMap) -> Option<String> {
    let is_one = headers.get_all(&HEADER).iter().count() == 1;
    let value = headers.remove(&HEADER);
    let value = value.filter(|_| is_one)?;
    Some(value.to_str().ok()?.trim_matches([' ', '\t']).to_owned())
}

/// What stands between the semicolons.
struct Parts<'a>(std::iter::Peekable<std::str::Split<'a, char>>);

impl<'a> Parts<'a> {
    fn new(text: &'a str) -> Self {
        Self(text.split(';').peekable())
    }

    fn first(&mut self) -> Option<&'a str> {
        self.0.next()
    }

    fn is_next(&mut self, name: &str) -> bool {
        let named = |part: &&str| parameter(part).is_some_and(|(found, _)| found == name);
        self.0.peek().is_some_and(named)
    }

    /// The value of the parameter that has to come here.
    fn number(&mut self, name: &str) -> Option<u64> {
        let (_, value) = parameter(self.0.next()?).filter(|(found, _)| *found == name)?;
        let is_number =
            (1..=18).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_digit());
        if is_number { value.parse().ok() } else { None }
    }

    /// Whether all that is left is parameters that nobody knows yet.
    fn are_others(mut self) -> bool {
        self.0.all(|part| {
            parameter(part).is_some_and(|(name, value)| {
                let in_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
                !name.is_empty()
                    && name.bytes().all(in_name)
                    && !["window", "received"].contains(&name)
                    && value.bytes().all(|byte| byte.is_ascii_graphic())
            })
        })
    }
}

fn parameter(part: &str) -> Option<(&str, &str)> {
    part.trim_start_matches([' ', '\t']).split_once('=')
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    const TOKEN: &str = "abcdefghijklmnopqrstu-_9";

    fn token() -> Token {
        Token::parse(TOKEN).unwrap()
    }

    #[test]
    fn an_offer_is_what_the_grammar_says() {
        let resume = |received| Some(Offer::Resume { token: token(), received });
        for (text, offer) in [
            ("new".to_owned(), Some(Offer::New)),
            ("new;later=1; more=".into(), Some(Offer::New)),
            (format!("{TOKEN}; received=0"), resume(0)),
            (format!("{TOKEN};received=7"), resume(7)),
            (format!("{TOKEN};\t received=000000000000000007;x=y"), resume(7)),
            (format!("{TOKEN}; received=999999999999999999"), resume(999_999_999_999_999_999)),
        ] {
            assert_eq!(Offer::parse(&text), offer, "{text}");
        }
        for wrong in [
            String::new(),
            "New".into(),
            "new;".into(),
            "new; received=1".into(),
            "new; x".into(),
            "new ;x=1".into(),
            TOKEN.into(),
            format!("{TOKEN} ; received=1"),
            format!("{TOKEN}; received=1 "),
            format!("{TOKEN}; received= 1"),
            format!("{TOKEN}; Received=1"),
            format!("{TOKEN}; received="),
            format!("{TOKEN}; received=-1"),
            format!("{TOKEN}; received=+1"),
            format!("{TOKEN}; received=1000000000000000000"),
            format!("{TOKEN}; x=1; received=1"),
            format!("{TOKEN}; received=1; received=2"),
            format!("{TOKEN}; received=1; window=2"),
            format!("{TOKEN}, new; received=1"),
            format!("{}; received=1", &TOKEN[..21]),
            format!("{}; received=1", "a".repeat(65)),
            format!("{TOKEN}+; received=1"),
        ] {
            assert_eq!(Offer::parse(&wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn an_answer_is_what_the_grammar_says() {
        let answer = |window, received| Some(Answer { token: token(), window, received });
        for (text, expected) in [
            (format!("{TOKEN}; window=120"), answer(120, None)),
            (format!("{TOKEN};window=120;received=0"), answer(120, Some(0))),
            (format!("{TOKEN}; window=0; received=5; x=1"), answer(0, Some(5))),
        ] {
            assert_eq!(Answer::parse(&text), expected, "{text}");
        }
        for wrong in [
            TOKEN.to_owned(),
            "new".into(),
            format!("{TOKEN}; received=5"),
            format!("{TOKEN}; received=5; window=1"),
            // what could be taken for a new session
            format!("{TOKEN}; window=1; x=1; received=5"),
            format!("{TOKEN}; window=1; received="),
            format!("{TOKEN}; window=1; received"),
        ] {
            assert_eq!(Answer::parse(&wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_header_that_comes_twice_is_none_and_is_cut_all_the_same() {
        let mut headers = HeaderMap::new();
        headers.append(HEADER, HeaderValue::from_static("new"));
        assert_eq!(Offer::take(&mut headers.clone()), Some(Offer::New));
        headers.append(HEADER, HeaderValue::from_static("new"));
        assert_eq!(Offer::take(&mut headers), None);
        assert!(headers.is_empty());
        headers.append(HEADER, HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(Offer::take(&mut headers), None);
        assert!(headers.is_empty());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            token in "[a-zA-Z0-9_-]{22,64}",
            window in 0..1_000_000_000_000_000_000_u64,
            received in prop::option::of(0..1_000_000_000_000_000_000_u64),
        ) {
            let token = Token::parse(&token).unwrap();
            let answer = Answer { token: token.clone(), window, received };
            prop_assert_eq!(Answer::parse(&answer.value()), Some(answer.clone()));
            let offer = match received {
                None => Offer::New,
                Some(received) => Offer::Resume { token, received },
            };
            prop_assert_eq!(Offer::parse(&offer.value()), Some(offer.clone()));
        }

        #[test]
        fn arbitrary_text_is_no_panic(text in ".{0,100}", tail in "[;= a-z0-9]{0,40}") {
            let _ = (Offer::parse(&text), Answer::parse(&text));
            let text = format!("{TOKEN}{tail}");
            let _ = (Offer::parse(&text), Answer::parse(&text));
        }
    }
}

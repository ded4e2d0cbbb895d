//! What a session is known by.

use std::fmt;
use std::io;

use data_encoding::BASE64URL_NOPAD;
use rand::TryRng;
use rand::rngs::SysRng;

/// How many random bytes a token of ours is made of: 144 bits, in 24 letters.
const BYTES: usize = 18;

/// Whoever has it can take the session over, so it is a secret: `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Token(String);

impl Token {
    /// A new one, from the generator of the operating system.
    pub(crate) fn generate() -> io::Result<Self> {
        let mut bytes = [0; BYTES];
        SysRng.try_fill_bytes(&mut bytes).map_err(io::Error::other)?;
        Ok(Self(BASE64URL_NOPAD.encode(&bytes)))
    }

    /// 22 to 64 letters, digits, `-` and `_`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_token = (22..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        is_token.then(|| Self(text.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_are_not_shown() {
        let tokens: std::collections::HashSet<Token> =
            (0..1000).map(|_| Token::generate().unwrap()).collect();
        assert_eq!(tokens.len(), 1000);
        for token in tokens {
            assert_eq!(Token::parse(token.as_str()), Some(token.clone()));
            assert_eq!(format!("{token:?}"), "Token(..)");
        }
    }
}

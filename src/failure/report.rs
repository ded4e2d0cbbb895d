//! A failure in one line.

use std::error::Error as StdError;
use std::fmt;

use super::Failure;
use super::text::OneLine;

/// The failure and its sources.
pub(super) struct Report<'a>(pub(super) &'a Failure);

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut error: &dyn StdError = self.0;
        write!(f, "{}", OneLine(error))?;
        while let Some(source) = error.source() {
            write!(f, ": {}", OneLine(source))?;
            error = source;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_one_printable_line_whatever_the_sources_say() {
        let forged = "denied\n[ERROR root] forged\u{1b}[2J\u{202e}";
        let source = std::io::Error::other(forged);
        for failure in [
            Failure::Login { permanent: true, source: forged.into() },
            Failure::Request(forged.into()),
            Failure::Connector(std::io::Error::other(forged)),
            Failure::Dns { host: forged.into(), source },
            Failure::Panicked { place: "handler", message: forged.into() },
            Failure::Protocol { code: crate::CloseCode(1002), reason: forged.into() },
        ] {
            let lines = [failure.report().to_string(), failure.to_string()];
            for line in lines {
                let is_plain = |c: char| !c.is_control() && c != '\u{202e}';
                assert!(line.chars().all(is_plain), "{line:?}");
            }
        }
    }

    #[test]
    fn a_report_of_endless_words_ends() {
        let endless = "x".repeat(60_000);
        let failure = Failure::Login { permanent: false, source: endless.into() };
        assert!(failure.report().to_string().len() < 1100);
    }
}

//! An error with its sources, in one line.

use std::error::Error as StdError;
use std::fmt;

use super::Failure;
use super::text::OneLine;

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

impl Failure {
    /// The failure with its sources, on one line: for logs. Its `Display` is the same.
    pub fn report(&self) -> impl fmt::Display + '_ {
        Chain(self)
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
            Failure::Protocol { code: crate::message::CloseCode(1002), reason: forged.into() },
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
        assert!(failure.report().to_string().len() < 2200);
        assert!(failure.to_string().len() < 1100);
    }

    #[derive(Debug, thiserror::Error)]
    #[error("outer: {0}")]
    struct SaysItsSource(#[source] std::io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct LeavesItOut(#[source] std::io::Error);

    #[test]
    fn no_source_is_said_twice_and_none_is_left_out() {
        let inner = || std::io::Error::other("inner");
        for source in [
            Box::<dyn StdError + Send + Sync>::from(SaysItsSource(inner())),
            LeavesItOut(inner()).into(),
        ] {
            let failure = Failure::Login { permanent: false, source };
            assert_eq!(failure.to_string(), "login failed: outer: inner");
            assert_eq!(failure.report().to_string(), failure.to_string());
        }
    }
}

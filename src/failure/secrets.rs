//! What a peer was told in confidence, and may say back as its answer.

use std::fmt;

use super::text::quote;
use crate::message::CloseFrame;

/// A shorter secret is not looked for by itself: it would be found in any text.
const SHORTEST: usize = 4;

/// A shorter value of a header or of the query may be a word of a close frame's reason, which programs
/// compare: there it is not looked for.
const LONG: usize = 8;

/// What was sent to a peer and is nobody else's business. Whatever is shown of its answer is cleaned
/// of this: an echo service, or the port of something that speaks no HTTP, says back what it was
/// told. Shown nowhere.
#[derive(Default)]
pub(crate) struct Secrets {
    all: Vec<Vec<u8>>,
    /// What is looked for in the answer to the request only: parts of the path, and short values.
    of_answers: Vec<Vec<u8>>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

impl Secrets {
    pub(crate) fn add(&mut self, secret: impl AsRef<[u8]>) {
        if secret.as_ref().len() >= SHORTEST {
            self.all.push(secret.as_ref().to_vec());
        }
    }

    /// What may be a word, and is a secret only where the request is said back.
    pub(crate) fn add_of_answers(&mut self, part: impl AsRef<[u8]>) {
        if part.as_ref().len() >= SHORTEST {
            self.of_answers.push(part.as_ref().to_vec());
        }
    }

    /// The value of something that need not be secret.
    pub(crate) fn add_value(&mut self, value: impl AsRef<[u8]>) {
        if value.as_ref().len() >= LONG { self.add(value) } else { self.add_of_answers(value) }
    }

    /// What stands behind the scheme of an `Authorization` (`Bearer`), which is no secret.
    pub(crate) fn add_credentials(&mut self, value: &[u8]) {
        let space = value.iter().position(|byte| *byte == b' ');
        self.add(&value[space.map_or(0, |space| space + 1)..]);
    }

    /// The value of a header, and those of its pairs (cookies) by themselves.
    pub(crate) fn add_header(&mut self, value: &[u8]) {
        self.add_value(value);
        for pair in value.split(|byte| b"; ".contains(byte)) {
            if let Some(equals) = pair.iter().position(|byte| *byte == b'=') {
                self.add_value(&pair[equals + 1..]);
            }
        }
    }

    /// What the peer said, in quotation marks and cleaned: [`quote`].
    pub(crate) fn quote(&self, said: impl AsRef<[u8]>) -> String {
        quote(self.cleaned(said.as_ref()))
    }

    /// The text with three dots in place of each secret.
    pub(crate) fn clean(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.cleaned(text.as_bytes())).into_owned()
    }

    pub(crate) fn are_in(&self, said: &[u8]) -> bool {
        (0..said.len()).any(|at| self.at_start(&said[at..]).is_some())
    }

    /// What the peer's close frame says, its reason cleaned.
    pub(crate) fn clean_close(&self, frame: Option<&CloseFrame>) -> Option<CloseFrame> {
        let CloseFrame { code, reason } = frame?;
        let all: Vec<_> = self.all.iter().collect();
        let cleaned = replaced(reason.as_bytes(), |said| at_start(&all, said));
        Some(CloseFrame::new(*code, &String::from_utf8_lossy(&cleaned)))
    }

    fn cleaned(&self, said: &[u8]) -> Vec<u8> {
        replaced(said, |said| self.at_start(said))
    }

    fn at_start(&self, said: &[u8]) -> Option<usize> {
        let all: Vec<_> = self.all.iter().chain(&self.of_answers).collect();
        at_start(&all, said)
    }
}

/// With three dots in place of each secret; `find` says how long the one is that its text begins with.
fn replaced(mut said: &[u8], find: impl Fn(&[u8]) -> Option<usize>) -> Vec<u8> {
    let mut cleaned = Vec::with_capacity(said.len());
    while let Some(first) = said.first() {
        let length = find(said);
        match length {
            Some(_) => cleaned.extend_from_slice(b"..."),
            None => cleaned.push(*first),
        }
        said = &said[length.unwrap_or(1)..];
    }
    cleaned
}

/// The length of the secret that this begins with. One that is cut off at the end counts, too.
fn at_start(secrets: &[&Vec<u8>], said: &[u8]) -> Option<usize> {
    let common = |secret: &&Vec<u8>| {
        let length = secret.len().min(said.len());
        (length >= SHORTEST && secret[..length] == said[..length]).then_some(length)
    };
    secrets.iter().filter_map(common).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secrets(all: &[&str]) -> Secrets {
        let mut secrets = Secrets::default();
        all.iter().for_each(|secret| secrets.add(secret));
        secrets
    }

    #[test]
    fn each_secret_is_replaced_whole_and_where_it_is_cut_off() {
        let secrets = secrets(&["token=hunter2", "hunter2", "x"]);
        assert_eq!(secrets.clean("GET /?token=hunter2 HTTP/1.1"), "GET /?... HTTP/1.1");
        assert_eq!(secrets.clean("no hunter2, no hunter2x"), "no ..., no ...x");
        assert_eq!(secrets.clean("GET /?token=hun"), "GET /?...");
        assert_eq!(secrets.clean("nothing of it: tok"), "nothing of it: tok");
        assert_eq!(secrets.quote("a\nhunter2"), r#""a\n...""#);
        assert!(secrets.are_in(b"/hunter2/") && !secrets.are_in(b"/hunter/2x"));
        // a quote is cut after it was cleaned
        let late = format!("{}hunter2", "y".repeat(197));
        assert!(!secrets.quote(late).contains("hun"));
    }

    #[test]
    fn the_parts_of_a_header_are_secrets_by_themselves() {
        let mut secrets = Secrets::default();
        secrets.add_credentials(b"Bearer t0ken");
        secrets.add_header(b"a=first; b=second");
        assert_eq!(secrets.clean("t0ken, first and second"), "..., ... and ...");
        assert_eq!(secrets.clean("it wants a Bearer"), "it wants a Bearer");
    }

    #[test]
    fn a_reason_keeps_its_words_and_loses_what_was_told() {
        let mut secrets = secrets(&["hunter2"]);
        secrets.add_of_answers("session1");
        secrets.add_value("expired");
        secrets.add_value("opensesame");
        let shown = |reason: &str| {
            let frame = CloseFrame::new(1008.into(), reason);
            secrets.clean_close(Some(&frame)).map(|frame| frame.reason)
        };
        assert_eq!(shown("no hunter2, nor opensesame").as_deref(), Some("no ..., nor ..."));
        assert_eq!(shown("bad token opense").as_deref(), Some("bad token ..."));
        assert_eq!(shown("session1 expired").as_deref(), Some("session1 expired"));
        assert_eq!(secrets.clean_close(None), None);
    }

    proptest! {
        #[test]
        fn no_secret_is_left_wherever_it_stands(
            before in "[ab]{0,8}",
            secret in "[ab]{4,8}",
            after in "[ab]{0,8}",
        ) {
            let cleaned = secrets(&[&secret]).clean(&format!("{before}{secret}{after}"));
            prop_assert!(!cleaned.contains(&secret), "{cleaned}");
        }
    }
}

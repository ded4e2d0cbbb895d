//! What a peer was told in confidence, and may say back as its answer.

use super::text::quote;

/// A shorter secret is not looked for by itself: it would be found in any text.
const SHORTEST: usize = 4;

/// What was sent to a peer and is nobody else's business. Whatever is shown of its answer is cleaned
/// of this: an echo service, or the port of something that speaks no HTTP, says back what it was
/// told. Shown nowhere.
#[derive(Default)]
pub(crate) struct Secrets(Vec<Vec<u8>>);

impl Secrets {
    pub(crate) fn add(&mut self, secret: impl AsRef<[u8]>) {
        if secret.as_ref().len() >= SHORTEST {
            self.0.push(secret.as_ref().to_vec());
        }
    }

    /// What stands behind the scheme of an `Authorization` (`Bearer`), which is no secret.
    pub(crate) fn add_credentials(&mut self, value: &[u8]) {
        let space = value.iter().position(|byte| *byte == b' ');
        self.add(&value[space.map_or(0, |space| space + 1)..]);
    }

    /// The value of a header, and those of its pairs (cookies) by themselves.
    pub(crate) fn add_header(&mut self, value: &[u8]) {
        self.add(value);
        for pair in value.split(|byte| b"; ".contains(byte)) {
            if let Some(equals) = pair.iter().position(|byte| *byte == b'=') {
                self.add(&pair[equals + 1..]);
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

    fn cleaned(&self, mut said: &[u8]) -> Vec<u8> {
        let mut cleaned = Vec::with_capacity(said.len());
        while let Some(first) = said.first() {
            let length = self.at_start(said);
            match length {
                Some(_) => cleaned.extend_from_slice(b"..."),
                None => cleaned.push(*first),
            }
            said = &said[length.unwrap_or(1)..];
        }
        cleaned
    }

    /// The length of the secret that this begins with. One that is cut off at the end counts, too.
    fn at_start(&self, said: &[u8]) -> Option<usize> {
        let common = |secret: &Vec<u8>| {
            let length = secret.len().min(said.len());
            (length >= SHORTEST && secret[..length] == said[..length]).then_some(length)
        };
        self.0.iter().filter_map(common).max()
    }
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

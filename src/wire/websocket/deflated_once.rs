//! A message that goes to many, compressed once.

use std::sync::OnceLock;

use bytes::Bytes;

use crate::policy::SENDABLE_BITS;

const WINDOWS: usize = (*SENDABLE_BITS.end() - *SENDABLE_BITS.start()) as usize + 1;

/// One message as the links without context takeover of one [`Compression`](crate::policy::Compression)
/// send it, which differs with the window and with whether a kind goes in front. `None` in it: it does
/// not get smaller.
#[derive(Debug, Default)]
pub(crate) struct DeflatedOnce {
    forms: [[OnceLock<Option<Bytes>>; WINDOWS]; 2],
}

impl DeflatedOnce {
    /// What the first link has made of it that needs this form. Others wait for that one meanwhile,
    /// who would take as long.
    pub(super) fn get_or_deflate(
        &self,
        window_bits: u8,
        kind: Option<u8>,
        deflate: impl FnOnce() -> Option<Bytes>,
    ) -> Option<Bytes> {
        // what is published has one kind in all sessions that have kinds
        let forms = &self.forms[usize::from(kind.is_some())];
        let form = forms.get(usize::from(window_bits.wrapping_sub(*SENDABLE_BITS.start())));
        match form {
            Some(form) => form.get_or_init(deflate).clone(),
            // never: no link compresses with another window
            None => deflate(),
        }
    }
}

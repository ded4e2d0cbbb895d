//! Messages as they come.

use super::Client;
use crate::error::Error;
use crate::message::Message;

/// Messages as they come, from [`Client::iter`].
#[derive(Debug)]
#[must_use = "an iterator receives nothing until it is iterated over"]
pub struct Iter<'a> {
    pub(super) client: &'a Client,
}

impl Iterator for Iter<'_> {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        self.client
            .recv()
            .inspect_err(|error| {
                if matches!(error, Error::WouldWaitForever { .. }) {
                    log::error!("{}: no message to iterate over: {error}", self.client.name());
                }
            })
            .ok()
    }
}

impl<'a> IntoIterator for &'a Client {
    type Item = Message;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

//! Messages as they come.

use std::fmt;
use std::iter::FusedIterator;

use super::Message;

/// What messages can be received from.
pub(crate) trait Receive: Send + Sync + fmt::Debug {
    /// Waits for the next message; `None` if there is none any more.
    fn next(&self) -> Option<Message>;
}

/// Messages as they come, from [`Client::iter`](crate::Client::iter) and
/// [`Session::iter`](crate::Session::iter). It has ended for good when there is none any more.
#[derive(Debug)]
#[must_use = "an iterator receives nothing until it is iterated over"]
pub struct Iter<'a> {
    /// Until it has ended.
    from: Option<&'a dyn Receive>,
}

impl<'a> Iter<'a> {
    pub(crate) fn new(from: &'a impl Receive) -> Self {
        Self { from: Some(from) }
    }
}

impl Iterator for Iter<'_> {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        let message = self.from?.next();
        if message.is_none() {
            self.from = None;
        }
        message
    }
}

impl FusedIterator for Iter<'_> {}

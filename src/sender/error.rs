//! A message that was not accepted, and why.

use std::error::Error as StdError;
use std::fmt;

use crate::error::Error;
use crate::message::Message;

/// A message that was refused, and why. `?` turns it into the [`Error`].
///
/// ```
/// use everlink::{Error, SendError};
///
/// fn keep(refused: SendError, journal: &mut Vec<everlink::Message>) {
///     if matches!(refused.error, Error::Full) {
///         journal.push(refused.message);
///     }
/// }
/// ```
#[derive(Debug)]
pub struct SendError {
    /// The message, as it was given.
    pub message: Message,
    /// Why it was not accepted.
    pub error: Error,
}

/// Says why; the message is not shown.
impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl StdError for SendError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.error.source()
    }
}

impl From<SendError> for Error {
    fn from(refused: SendError) -> Self {
        refused.error
    }
}

impl From<SendError> for Message {
    fn from(refused: SendError) -> Self {
        refused.message
    }
}

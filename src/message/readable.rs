//! What can be read of a message, be it owned or lent.

use std::fmt;

/// The ways to read a type that has `as_text`, `as_bytes` and `len`.
macro_rules! readable {
    ($of:ty) => {
        #[cfg(feature = "serde")]
        impl $of {
            /// The value whose JSON this message holds, be it text or binary. It may borrow from the
            /// message.
            ///
            /// ```
            /// use everlink::Message;
            /// use serde::Deserialize;
            ///
            /// #[derive(Deserialize)]
            /// struct Tick<'a> {
            ///     symbol: &'a str,
            ///     price: f64,
            /// }
            ///
            /// let message = Message::from(r#"{"symbol":"BTC-EUR","price":1.5}"#);
            /// let tick: Tick = message.json()?;
            /// assert_eq!((tick.symbol, tick.price), ("BTC-EUR", 1.5));
            /// # Ok::<(), serde_json::Error>(())
            /// ```
            ///
            /// # Errors
            ///
            /// Those of [`serde_json::from_slice`]: it is no JSON, or JSON of something else.
            pub fn json<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
                match self.as_text() {
                    Some(text) => serde_json::from_str(text),
                    None => serde_json::from_slice(self.as_bytes()),
                }
            }
        }

        impl AsRef<[u8]> for $of {
            fn as_ref(&self) -> &[u8] {
                self.as_bytes()
            }
        }

        /// A text message that consists of this.
        impl PartialEq<str> for $of {
            fn eq(&self, text: &str) -> bool {
                self.as_text() == Some(text)
            }
        }

        impl PartialEq<&str> for $of {
            fn eq(&self, text: &&str) -> bool {
                self.as_text() == Some(*text)
            }
        }

        /// The whole text as it is, whatever it holds; of a binary message how long it is.
        impl std::fmt::Display for $of {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.as_text() {
                    Some(text) => f.pad(text),
                    None => write!(f, "{} bytes", self.len()),
                }
            }
        }

        /// Shows the kind, the length and the first few bytes: payloads can be large, and logs should
        /// not carry them whole.
        impl std::fmt::Debug for $of {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                $crate::message::readable::show(self.as_text(), self.as_bytes(), f)
            }
        }
    };
}

pub(super) use readable;

/// The start of a message, for `Debug`.
pub(super) fn show(text: Option<&str>, bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const SHOWN: usize = 32;
    match text {
        Some(text) if text.len() <= SHOWN => write!(f, "Text({text:?})"),
        Some(text) => {
            let start: String = text.chars().take(SHOWN).collect();
            write!(f, "Text({} bytes: {start:?}...)", text.len())
        }
        None if bytes.len() <= SHOWN => write!(f, "Binary(b\"{}\")", bytes.escape_ascii()),
        None => {
            let start = bytes[..SHOWN].escape_ascii();
            write!(f, "Binary({} bytes: b\"{start}\"...)", bytes.len())
        }
    }
}

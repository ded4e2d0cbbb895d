//! Messages that hold JSON.

use serde::{Deserialize, Serialize};
use serde_json::{Error, Value};

use super::{Message, MessageRef};

impl Message {
    /// A text message that holds this value as JSON.
    ///
    /// ```
    /// use everlink::Message;
    /// use serde::Serialize;
    ///
    /// #[derive(Serialize)]
    /// struct Subscribe<'a> {
    ///     op: &'a str,
    ///     symbols: &'a [&'a str],
    /// }
    ///
    /// let message = Message::from_json(&Subscribe { op: "subscribe", symbols: &["BTC-EUR"] })?;
    /// assert_eq!(message, r#"{"op":"subscribe","symbols":["BTC-EUR"]}"#);
    /// // what was put together by hand needs no `?`
    /// let message = Message::from(serde_json::json!({ "op": "ping" }));
    /// assert_eq!(message, r#"{"op":"ping"}"#);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`serde_json::to_string`]: the value refuses, or is a map whose keys are no strings.
    pub fn from_json<T: Serialize + ?Sized>(value: &T) -> Result<Self, Error> {
        serde_json::to_string(value).map(Into::into)
    }

    /// The value whose JSON this message holds, be it text or binary. It may borrow from the message.
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
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Error> {
        parse(self.as_text(), self.as_bytes())
    }
}

impl MessageRef<'_> {
    /// As [`Message::json`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Error> {
        parse(self.as_text(), self.as_bytes())
    }
}

fn parse<'a, T: Deserialize<'a>>(text: Option<&'a str>, bytes: &'a [u8]) -> Result<T, Error> {
    match text {
        Some(text) => serde_json::from_str(text),
        None => serde_json::from_slice(bytes),
    }
}

/// A text message that holds this as JSON.
impl From<Value> for Message {
    fn from(value: Value) -> Self {
        (&value).into()
    }
}

/// A text message that holds this as JSON.
impl From<&Value> for Message {
    fn from(value: &Value) -> Self {
        value.to_string().into()
    }
}

//! Events as records, for logs that machines read.

use log::kv::{Error, Value, VisitValue};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::Event;

/// A flat record: `event` (its [`name`](Event::name)), `client`, and the keys that its
/// [log record](crate#logging) has, those left out that do not apply. Times are in seconds. A cause is the
/// text `cause` and the word `kind`; what comes next is the word `next` (`redial`, `give_up`, `close`) and
/// the `delay` of a redial; of the server's answer there is the `subprotocol`, if one was agreed on; how the
/// session began is the word `session_start` (`none`, `new`, `resumed`, `replaced`). Messages and headers are
/// never part of it.
///
/// ```no_run
/// use everlink::Client;
///
/// let client = Client::builder("ws://localhost:9001")
///     // {"event":"connecting","client":1,"attempt":1,"endpoint":"ws://localhost:9001/"}
///     .on_event(|_, event| match serde_json::to_string(event) {
///         Ok(line) => eprintln!("{line}"),
///         Err(error) => eprintln!("{error}"),
///     })
///     .start()?;
/// # Ok::<(), everlink::Error>(())
/// ```
impl Serialize for Event {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut record = to.serialize_map(None)?;
        record.serialize_entry("event", self.name())?;
        record.serialize_entry("client", &self.client())?;
        for (key, value) in self.fields() {
            let mut entry = Entry { record: &mut record, key, result: Ok(()) };
            // the error is in the result
            let _ = value.visit(&mut entry);
            entry.result?;
        }
        record.end()
    }
}

/// Puts the value that it is shown into the record.
struct Entry<'r, M: SerializeMap> {
    record: &'r mut M,
    key: &'static str,
    result: Result<(), M::Error>,
}

impl<M: SerializeMap> Entry<'_, M> {
    fn put<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.result = self.record.serialize_entry(self.key, value);
        Ok(())
    }
}

impl<'v, M: SerializeMap> VisitValue<'v> for Entry<'_, M> {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), Error> {
        self.put(&value.to_string())
    }

    fn visit_null(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), Error> {
        self.put(&value)
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), Error> {
        self.put(&value)
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), Error> {
        self.put(&value)
    }
}

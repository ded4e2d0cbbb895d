//! What a server has counted as names and values.

use super::ServerStats;
use crate::link::stats::by_kind;
use crate::link::{Field, FieldValue};

impl ServerStats {
    /// Every field by its name, `disconnects` once for each kind: for log lines and exporters that need
    /// not know what there is.
    ///
    /// ```
    /// # let stats = everlink::ServerStats::default();
    /// for field in stats.fields() {
    ///     println!("{field}");
    /// }
    /// ```
    pub fn fields(&self) -> impl Iterator<Item = Field> + use<> {
        use FieldValue::{Now, Total};
        let single = |name, value| Field { name, label: None, value };
        [
            single("connections", Now(self.connections as u64)),
            single("sessions", Now(self.sessions as u64)),
            single("detached", Now(self.detached as u64)),
            single("detached_bytes", Now(self.detached_bytes as u64)),
            single("resumed", Total(self.resumed)),
            single("expired", Total(self.expired)),
            single("evicted", Total(self.evicted)),
            single("accepted", Total(self.accepted)),
            single("refused", Total(self.refused)),
            single("broadcasts_missed", Total(self.broadcasts_missed)),
            single("messages_sent", Total(self.messages_sent)),
            single("bytes_sent", Total(self.bytes_sent)),
            single("messages_received", Total(self.messages_received)),
            single("bytes_received", Total(self.bytes_received)),
        ]
        .into_iter()
        .chain(by_kind("disconnects", self.disconnects))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_field_is_forgotten_and_each_is_published() {
        let stats = ServerStats::default();
        let named: BTreeSet<String> = stats.fields().map(|field| field.name.to_owned()).collect();
        assert_eq!(named, crate::link::stats::fields_of(&stats));
        #[cfg(feature = "metrics")]
        assert_eq!(crate::metrics::of_server(stats.fields()).len(), stats.fields().count());
    }
}

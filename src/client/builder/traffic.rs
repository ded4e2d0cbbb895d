//! Settings of messages: how large, how many, how they are set off and what becomes of them.

use super::ClientBuilder;
use crate::policy::Unconfirmed;
use crate::settings::{client_setters, shared_setters};

impl ClientBuilder {
    shared_setters!();
    client_setters!();

    /// Has received messages come through a crossbeam channel, for `select!`: `receiver()` of
    /// the client or session is that channel. The inbox keeps its bounds. Each client or session
    /// has a thread more then, which hands messages over one by one; without it they are handed
    /// over in batches, which is several times as fast for small messages.
    pub fn channel(mut self) -> Self {
        self.settings.has_channel = true;
        self
    }

    /// How much may be written that the server has not confirmed yet, in a session that survives
    /// its connection ([`resume`](Self::resume)). It is kept beside the outbox's bounds; more
    /// waits in the outbox. At least 1 each; a message that is larger goes alone. Default: 4096
    /// messages, 4 MiB.
    pub fn unconfirmed(mut self, messages: usize, bytes: usize) -> Self {
        self.settings.unconfirmed = Some(Unconfirmed { messages, bytes });
        self
    }
}

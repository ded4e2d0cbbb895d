//! Settings of messages: how large, how many, how they are set off and what becomes of them.

use super::ClientBuilder;
use crate::policy::{Delivery, Framing, Unconfirmed};
use crate::settings::shared_setters;

impl ClientBuilder {
    shared_setters!();

    /// What becomes of messages that a dead link had taken. Default:
    /// [`Delivery::AtMostOnce`].
    ///
    /// On `tcp://` [`Delivery::AtLeastOnce`] needs a heartbeat with an answer and a framing that
    /// keeps boundaries.
    pub fn delivery(mut self, delivery: Delivery) -> Self {
        self.settings.chosen.add("delivery");
        self.settings.delivery = delivery;
        self
    }

    /// Asks the server for a session that survives its connection: then nothing is lost and
    /// nothing comes twice, in order, both ways, whatever happens to connections meanwhile. Default:
    /// false.
    ///
    /// It takes a server that offers it, like [`Server`](crate::Server) with
    /// [`ServerBuilder::resume`](crate::ServerBuilder::resume). With any other server this is an
    /// ordinary client, and the [`delivery`](Self::delivery) holds; it also says what becomes of
    /// messages in doubt when a session is over. [`Event::Connected`](crate::Event::Connected) says
    /// which it is. The login hook is called for a new session only, and what it sends belongs to
    /// that session.
    ///
    /// A session is over with a close frame, a violation of the protocol, a handler that panics,
    /// and when the server says so: it waits for its client only so long. With
    /// [`reconnect`](crate::Client::reconnect) it goes on.
    ///
    /// What goes over the wire and what is not guaranteed: [`resumption`](crate::resumption).
    pub fn resume(mut self, wanted: bool) -> Self {
        self.settings.chosen.add("resume");
        self.settings.resume = wanted;
        self
    }

    /// How much may be written that the server has not confirmed yet, in a session that survives
    /// its connection ([`resume`](Self::resume)). It is kept beside the outbox's bounds; more
    /// waits in the outbox. At least 1 each; a message that is larger goes alone. Default: 4096
    /// messages, 4 MiB.
    pub fn unconfirmed(mut self, messages: usize, bytes: usize) -> Self {
        self.settings.chosen.add("unconfirmed");
        self.settings.unconfirmed = Unconfirmed { messages, bytes };
        self
    }

    /// How messages are set off from each other on `tcp://`. Default: [`Framing::lines`].
    pub fn framing(mut self, framing: Framing) -> Self {
        self.settings.chosen.add("framing");
        self.settings.framing = framing;
        self
    }
}

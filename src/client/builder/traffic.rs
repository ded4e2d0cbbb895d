//! Settings of messages: how large, how many, how they are set off and what becomes of them.

use super::ClientBuilder;
use crate::policy::{Delivery, Framing};
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

    /// How messages are set off from each other on `tcp://`. Default: [`Framing::lines`].
    pub fn framing(mut self, framing: Framing) -> Self {
        self.settings.chosen.add("framing");
        self.settings.framing = framing;
        self
    }
}

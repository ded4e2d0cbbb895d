//! A connection that is ready for messages.

use crate::failure::{Failure, Secrets};
use crate::message::Message;
use crate::policy::{AgreedCompression, Heartbeat, MaxSizes};
use crate::sync::Budget;
use crate::transport::{Duplex, ReadBuffer};
use crate::wire::{Decoder, Encoder, Protocol};

/// A connection that is ready for messages.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) duplex: Duplex,
    pub(crate) protocol: Protocol,
    pub(crate) decoder: Decoder,
    pub(crate) encoder: Encoder,
    /// What was read and is not decoded yet.
    pub(crate) buffer: ReadBuffer,
    /// What was agreed on, if anything.
    pub(crate) compression: Option<AgreedCompression>,
    /// Messages that the login hook received and did not take.
    pub(crate) kept: Vec<Message>,
    /// The heartbeat that the login hook has chosen, if it has.
    pub(crate) heartbeat: Option<Heartbeat>,
    /// Secrets that were sent to the peer, and must not appear in what it says.
    pub(crate) secrets: Secrets,
    /// Whether our goodbye was said.
    pub(super) is_closed: bool,
}

impl Opened {
    /// `read` is what was read past the opening handshake.
    ///
    /// # Errors
    ///
    /// As for [`Protocol::halves`].
    pub(crate) fn new(
        duplex: Duplex,
        protocol: Protocol,
        limits: MaxSizes,
        read: Vec<u8>,
    ) -> Result<Self, Failure> {
        let (decoder, encoder) = protocol.halves(limits)?;
        Ok(Self {
            duplex,
            protocol,
            decoder,
            encoder,
            buffer: ReadBuffer::new(read),
            compression: None,
            kept: Vec::new(),
            heartbeat: None,
            secrets: Secrets::default(),
            is_closed: false,
        })
    }

    /// What has been received and is not delivered yet counts against this.
    pub(crate) fn within(mut self, budget: &Budget) -> Self {
        self.decoder.within(budget);
        self
    }

    /// The peer compresses, if this was agreed on.
    pub(crate) fn compressed(mut self, agreed: Option<AgreedCompression>) -> Self {
        if let Some(agreed) = agreed {
            self.decoder.compressed(agreed);
        }
        self.compression = agreed;
        self
    }
}

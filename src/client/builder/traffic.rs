//! Settings of messages: how large, how many, how they are set off and what becomes of them.

use std::time::Duration;

use super::Builder;
use crate::policy::{Delivery, Framing, Queue, Unconfirmed};

impl Builder {
    /// The largest message that may be sent or received, in bytes. A peer that goes over it is
    /// told so with close code 1009. Default 64 MiB.
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.settings.chosen.add("max_message_size");
        self.settings.limits.message = bytes;
        self
    }

    /// Offers to compress messages; see [`Compression`](crate::Compression) for what that does to
    /// secrets. Default: nothing is compressed, and nothing offered.
    #[cfg(feature = "deflate")]
    pub fn compression(mut self, compression: crate::Compression) -> Self {
        self.settings.chosen.add("compression");
        self.settings.compression = Some(compression);
        self
    }

    /// The largest frame that may be received, in bytes. Default 16 MiB.
    pub fn max_frame_size(mut self, bytes: usize) -> Self {
        self.settings.chosen.add("max_frame_size");
        self.settings.limits.frame = bytes;
        self
    }

    /// Sends messages of more than this many bytes as fragments of that size (RFC 6455 section
    /// 5.4), so that pings and pongs pass between them. Default: every message is one frame.
    pub fn fragment_size(mut self, bytes: usize) -> Self {
        self.settings.chosen.add("fragment_size");
        self.settings.fragment_size = Some(bytes);
        self
    }

    /// Whether a thread that sends may write to the socket itself, when the writer thread has
    /// nothing to do, the message is small (at most 16 KiB) and the write cannot block. It does
    /// so at most once for each time that something was received, so a burst is still written
    /// by the writer thread in large pieces. It saves an answer two switches of threads; without
    /// it sending never costs the caller a system call. Plain sockets on Linux only. Default:
    /// true.
    pub fn send_directly(mut self, allowed: bool) -> Self {
        self.settings.chosen.add("send_directly");
        self.settings.send_directly = allowed;
        self
    }

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
    /// **Not guaranteed**: that the program at the other end has processed what its inbox took;
    /// that a session survives a process, or goes on at another server (behind a load balancer
    /// that takes affinity); that a [`close`](crate::Client::close) during an outage is heard. What an outbox or an inbox drops,
    /// or what expires, is gone as ever.
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

    /// How long a message may wait in the outbox: what could not be written in that time is not
    /// written any more, and makes room for who wants to send. Default: for as long as it takes.
    /// [`Client::send_with`](crate::Client::send_with) says so for a single message.
    pub fn message_ttl(mut self, time: Duration) -> Self {
        self.settings.chosen.add("message_ttl");
        self.settings.message_ttl = Some(time);
        self
    }

    /// The bounds of the queue to be sent, which outlives links. Default: 8192 messages, 64
    /// MiB or a message of [`max_message_size`](Self::max_message_size) if that is more, wait when
    /// full.
    pub fn outbox(mut self, queue: Queue) -> Self {
        self.settings.chosen.add("outbox");
        self.settings.outbox = queue;
        self
    }

    /// The bounds of the queue of received messages. Default: 4096 messages, 1 MiB, and reading
    /// stops when it is full. Not used with [`on_message`](Self::on_message).
    pub fn inbox(mut self, queue: Queue) -> Self {
        self.settings.chosen.add("inbox");
        self.settings.inbox = queue;
        self
    }

    /// How messages are set off from each other on `tcp://`. Default: [`Framing::lines`].
    pub fn framing(mut self, framing: Framing) -> Self {
        self.settings.chosen.add("framing");
        self.settings.framing = framing;
        self
    }
}

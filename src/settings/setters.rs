//! The setters that both builders have, written once.

/// Setters of a builder with a field `settings`, for its `impl`.
macro_rules! shared_setters {
    () => {
        /// What it is called: the label of its metrics and a key of its log records. Default: a
        /// client's number, [`Client::id`](crate::Client::id), and a server's address.
        ///
        /// Two clients, or two servers, of one name share their metrics: counters add up, and gauges are
        /// those of the one that was started last.
        pub fn name(mut self, name: impl Into<String>) -> Self {
            self.settings.chosen.add("name");
            self.settings.name = Some(name.into());
            self
        }

        /// How long each step may take. Default: 5 s to close, 10 s for everything else. A value
        /// that is set again replaces the one before, whole.
        pub fn timeouts(mut self, timeouts: $crate::Timeouts) -> Self {
            self.settings.chosen.add("timeouts");
            self.settings.chosen.timeouts = timeouts;
            self
        }

        /// How large messages and frames may be. Default: messages of 64 MiB for a client and 1 MiB
        /// for a server, in frames of whatever size.
        pub fn limits(mut self, limits: $crate::Limits) -> Self {
            self.settings.chosen.add("limits");
            self.settings.chosen.limits = limits;
            self
        }

        /// What is set on sockets. Default: what the system chooses.
        pub fn socket(mut self, options: $crate::SocketOptions) -> Self {
            self.settings.chosen.add("socket");
            self.settings.chosen.socket = options;
            self.settings.socket = options;
            self
        }

        /// How the peer proves that it is alive. Default on a WebSocket: a ping after 20 s idle,
        /// death after 30 s of silence. On framed TCP, which has no pings of its own, there is no
        /// default: see [`Heartbeat`](crate::Heartbeat).
        pub fn heartbeat(mut self, heartbeat: $crate::Heartbeat) -> Self {
            self.settings.chosen.add("heartbeat");
            self.settings.chosen.heartbeat = Some(heartbeat);
            self
        }

        /// The bounds of the queue to be sent: a client's, which outlives links, or each session's.
        /// Default: 8192 messages and 64 MiB for a client, 1024 and 16 MiB for a session, or a
        /// message of [`Limits::message`](crate::Limits::message) if that is more; wait when full.
        pub fn outbox(mut self, queue: $crate::Queue) -> Self {
            self.settings.chosen.add("outbox");
            self.settings.chosen.outbox = Some(queue);
            self
        }

        /// The bounds of the queue of received messages: a client's, or each session's. Default:
        /// 4096 messages for a client, 64 for a session, 1 MiB, and reading stops when it is full.
        /// Without effect for a client with a handler.
        pub fn inbox(mut self, queue: $crate::Queue) -> Self {
            self.settings.chosen.add("inbox");
            self.settings.chosen.inbox = Some(queue);
            self
        }

        /// How much stack the threads have that run code of the program's: closures, its logger, its
        /// recorder of metrics ([which they are](crate::guide::threads)). At least 256 KiB. Default:
        /// as much as std gives, which is 2 MiB, or what `RUST_MIN_STACK` says. It is reserved, and takes
        /// memory only where it is used; less of it is for machines where address space is short.
        pub fn stack_size(mut self, bytes: usize) -> Self {
            self.settings.chosen.add("stack_size");
            self.settings.stack = bytes;
            self
        }

        /// Has received messages come through a crossbeam channel, for `select!`: `receiver()` of
        /// the client or session is that channel. The inbox keeps its bounds. Each client or session
        /// has a thread more then, which hands messages over one by one; without it they are handed
        /// over in batches, which is several times as fast for small messages.
        pub fn channel(mut self) -> Self {
            self.settings.chosen.add("channel");
            self.settings.has_channel = true;
            self
        }

        /// Compresses messages, if the peer does too; see [`Compression`](crate::Compression) for
        /// what that does to secrets. Default: nothing is compressed, and nothing offered.
        #[cfg(feature = "deflate")]
        pub fn compression(mut self, compression: $crate::Compression) -> Self {
            self.settings.chosen.add("compression");
            self.settings.compression = Some(compression);
            self
        }

        /// How many links may end with the same message under way, at least 1. Default 10.
        ///
        /// Some messages end the peer each time that they come: it closes with 1011, crashes, or
        /// something before it resets the connection. Where such a message is sent again on the next
        /// link ([`Delivery::AtLeastOnce`](crate::Delivery::AtLeastOnce), a session that resumes, and
        /// everywhere one that was cut off), nothing behind it would ever arrive. So the first message
        /// that the peer has not confirmed is counted when a link ends with an end of the stream, a
        /// reset or a close frame; not with the codes 1000, 1001, 1012 and 1013, which are about
        /// the peer itself, and not with a silence. Nor does a link count that ends before the peer
        /// has answered any ping: the message may not have come to the peer. At this limit the message is handed back,
        /// [`Undelivered::Poison`](crate::Undelivered::Poison), to [`on_dropped`](Self::on_dropped)
        /// and its receipt, and the rest goes on. `u32::MAX` never hands one back.
        ///
        /// A message that is always the first is not always the cause: a peer that answers a ping and
        /// resets each link before it confirms a message has one handed back after so many links.
        pub fn max_deliveries(mut self, limit: u32) -> Self {
            self.settings.chosen.add("max_deliveries");
            self.settings.max_deliveries = limit;
            self
        }

        /// Calls this with each accepted message that will not be sent any more, because the
        /// outbox's overflow policy took it out, its time to live was over, it was for a link that
        /// has ended, link after link has ended with it
        /// ([`max_deliveries`](Self::max_deliveries)), or its call has failed
        /// ([`Calls`](crate::Calls)): for who keeps a journal. It runs on the thread that found out, one that
        /// sends or one of the connection's own, perhaps on several at once, and should be quick. A
        /// panic in it is logged.
        ///
        /// It may send. A message for which there is no room in the very outbox that it is told of is
        /// then refused with [`Error::Full`](crate::Error::Full), whatever the overflow policy is, and
        /// comes back: to make room would be to drop the next message. It is never called inside
        /// itself.
        ///
        /// It is not called for what a link had taken that died, and that is not sent again: no copy of
        /// that is kept. How much it is at most says
        /// [`Event::Disconnected`](crate::Event::Disconnected), and a
        /// [receipt](crate::Sender::send_confirmed) tells of one message.
        ///
        /// What is left when a client closes is in
        /// [`CloseReport::undelivered`](crate::CloseReport::undelivered) instead.
        ///
        /// ```
        /// use everlink::{Client, Overflow, Queue};
        ///
        /// let client = Client::builder("ws://localhost:9001")
        ///     .outbox(Queue::new().messages(100).overflow(Overflow::DropOldest))
        ///     .on_dropped(|message, why| eprintln!("{message:?} will not be sent: {why}"));
        /// # let _ = client;
        /// ```
        pub fn on_dropped(
            mut self,
            callback: impl Fn($crate::Message, $crate::Undelivered) + Send + Sync + 'static,
        ) -> Self {
            self.settings.chosen.add("on_dropped");
            self.settings.on_dropped = Some(std::sync::Arc::new(callback));
            self
        }
    };
}

pub(crate) use shared_setters;

//! Where received messages go: into the program's channel or through its handler.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crossbeam_channel::{Receiver, Sender, TrySendError, select};

use crate::failure::{Failure, HANDLER, guarded};
use crate::message::Message;
use crate::policy::Overflow;
use crate::stats::Counters;

/// What the program does with a received message, on the reader thread.
pub(crate) type Handler = Box<dyn FnMut(Message) + Send>;

/// The receiving end of the program, as the reader sees it. One reader holds it at a time; it
/// outlives every link.
pub(crate) enum Inbox {
    Channel {
        sender: Sender<Message>,
        /// Only for dropping the oldest.
        receiver: Receiver<Message>,
        overflow: Overflow,
        counters: Arc<Counters>,
    },
    Handler {
        handler: Handler,
        /// Keeps the program's channel, on which nothing comes, connected until the end.
        _connected: Sender<Message>,
    },
}

impl Inbox {
    /// Delivers a message, waiting for room if that is the policy. Raising `abandon` ends the
    /// waiting and drops the message.
    ///
    /// # Errors
    ///
    /// The handler panicked.
    pub(crate) fn deliver(
        &mut self,
        message: Message,
        abandon: &Receiver<Infallible>,
    ) -> Result<(), Failure> {
        match self {
            Self::Handler { handler, .. } => guarded(HANDLER, || handler(message)),
            Self::Channel { sender, receiver, overflow, counters } => {
                let mut waiting = match sender.try_send(message) {
                    Ok(()) => return Ok(()),
                    Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => {
                        message
                    }
                };
                let dropped = || counters.inbox_dropped.fetch_add(1, Relaxed);
                match overflow {
                    Overflow::Wait => select! {
                        send(sender, waiting) -> _ => {}
                        recv(abandon) -> _ => { dropped(); }
                    },
                    Overflow::DropNewest | Overflow::Fail => {
                        dropped();
                    }
                    Overflow::DropOldest => {
                        while let Err(TrySendError::Full(back)) = sender.try_send(waiting) {
                            waiting = back;
                            if receiver.try_recv().is_ok() {
                                dropped();
                            }
                        }
                    }
                }
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Channel { .. } => "Channel",
            Self::Handler { .. } => "Handler",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::Signal;
    use crossbeam_channel::bounded;

    fn inbox(overflow: Overflow) -> (Inbox, Receiver<Message>, Arc<Counters>) {
        let (sender, receiver) = bounded(2);
        let counters = Arc::new(Counters::default());
        let inbox = Inbox::Channel {
            sender,
            receiver: receiver.clone(),
            overflow,
            counters: Arc::clone(&counters),
        };
        (inbox, receiver, counters)
    }

    #[test]
    fn each_policy_at_the_bound() {
        let quiet = Signal::new();
        for (overflow, kept) in
            [(Overflow::DropOldest, ["3", "4"]), (Overflow::DropNewest, ["0", "1"])]
        {
            let (mut inbox, receiver, counters) = inbox(overflow);
            for number in 0..5 {
                inbox.deliver(number.to_string().into(), quiet.raised()).unwrap();
            }
            let left: Vec<Message> = receiver.try_iter().collect();
            assert_eq!(left, kept.map(Message::from));
            assert_eq!(counters.inbox_dropped.load(Relaxed), 3);
        }
    }

    #[test]
    fn abandoning_ends_the_wait_and_counts_the_loss() {
        let (mut inbox, receiver, counters) = inbox(Overflow::Wait);
        let abandon = Signal::new();
        abandon.raise();
        for number in 0..3 {
            inbox.deliver(number.to_string().into(), abandon.raised()).unwrap();
        }
        assert_eq!(receiver.len(), 2);
        assert_eq!(counters.inbox_dropped.load(Relaxed), 1);
    }

    #[test]
    fn a_handler_that_panics_is_a_failure() {
        let handler = Box::new(|_| panic!("boom"));
        let mut inbox = Inbox::Handler { handler, _connected: bounded(0).0 };
        let failure = inbox.deliver("x".into(), Signal::new().raised()).unwrap_err();
        assert_eq!(failure.to_string(), "handler panicked: boom");
    }
}

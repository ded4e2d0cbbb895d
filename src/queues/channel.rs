//! Received messages as a crossbeam channel, for programs that select over several sources.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use crossbeam_channel::{Receiver, TryRecvError, bounded, never, select};

use crate::message::Message;
use crate::sync::threads::{Role, Threads};

/// What a receiver finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoMessage {
    /// Not yet.
    TimedOut,
    /// Not any more.
    Ended,
    /// The caller's own condition came true.
    Interrupted,
}

/// A thread that takes from the mailbox and offers what it has, one message at a time: nothing
/// tells a queue what was taken out of a channel, so only what stays in the mailbox can be held
/// within its bounds.
#[derive(Debug)]
pub(super) struct Channel {
    receiver: Receiver<Message>,
    /// How many messages the thread has in its hands: none or one.
    offered: Arc<AtomicUsize>,
}

impl Channel {
    /// `take` waits for the next message, until there will be none.
    pub(super) fn start(
        threads: &Threads,
        mut take: impl FnMut() -> Option<Message> + Send + 'static,
        abandoned: Receiver<Infallible>,
    ) -> io::Result<Self> {
        let (sender, receiver) = bounded(0);
        let offered = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&offered);
        let run = move || {
            while let Some(message) = take() {
                count.store(1, Relaxed);
                select! {
                    send(sender, message) -> sent => if sent.is_err() { return },
                    recv(abandoned) -> _ => return,
                }
                count.store(0, Relaxed);
            }
        };
        threads.start(Role::Inbox, run)?;
        Ok(Self { receiver, offered })
    }

    pub(super) fn receiver(&self) -> &Receiver<Message> {
        &self.receiver
    }

    pub(super) fn len(&self) -> usize {
        self.offered.load(Relaxed)
    }

    pub(super) fn recv(
        &self,
        deadline: Option<Instant>,
        interrupted: impl Fn() -> bool,
        alarm: impl Fn() -> Receiver<Infallible>,
    ) -> Result<Message, NoMessage> {
        loop {
            match self.receiver.try_recv() {
                Ok(message) => return Ok(message),
                Err(TryRecvError::Disconnected) => return Err(NoMessage::Ended),
                Err(TryRecvError::Empty) => {}
            }
            let alarm = alarm();
            if interrupted() {
                // what came in last was there before
                return self.receiver.try_recv().map_err(|_| NoMessage::Interrupted);
            }
            let timeout = deadline.map_or_else(never, crossbeam_channel::at);
            select! {
                recv(self.receiver) -> message => {
                    return message.map_err(|_| NoMessage::Ended);
                }
                recv(alarm) -> _ => {}
                recv(timeout) -> _ => {
                    return self.receiver.try_recv().map_err(|_| NoMessage::TimedOut);
                }
            }
        }
    }
}

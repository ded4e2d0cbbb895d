//! One live connection: a reader, a writer and a heartbeat thread that are born together, die
//! together and are joined together.
//!
//! Whoever notices death calls [`Shared::fail`]: the first cause is kept, the socket is hung
//! up, and the other two wake and end. The reader ends last: it first delivers what had already
//! arrived.

mod cause;
mod desk;
mod heartbeat;
mod lane;
mod liveness;
#[cfg(all(test, shuttle))]
mod model;
mod progress;
mod reader;
pub(crate) mod stats;
mod suspension;
mod writer;

use std::convert::Infallible;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::link::stats::Counters;
use crate::message::CloseFrame;
use crate::queues::inbox::{Inbox, Mailbox};
use crate::queues::outbox::{Outbox, Shortcut};
use crate::settings::Settings;
use crate::sync::Signal;
use crate::sync::threads;
use crate::transport::{Duplex, Hangup};
use crate::wire::{Decoder, Protocol};
use crossbeam_channel::{Receiver, Sender, bounded, select};

use crate::sync::Mutex;
use cause::Cause;
use desk::Desk;
use lane::Lane;
use liveness::Liveness;
use progress::Progress;
pub use stats::Stats;
use writer::Pen;

/// Where the inbox is between two readers. Empty while a reader holds it.
pub(crate) type InboxSlot = Arc<Mutex<Option<Inbox>>>;

/// What a link needs from its owner.
pub(crate) struct Parts {
    pub(crate) duplex: Duplex,
    pub(crate) decoder: Decoder,
    pub(crate) protocol: Protocol,
    pub(crate) settings: Arc<Settings>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) inbox: InboxSlot,
    /// The mailbox behind the inbox, where a reader may wait for the program.
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) counters: Arc<Counters>,
    /// The number of the client or session: its threads are named and marked with it.
    pub(crate) owner: u64,
    pub(crate) thread_prefix: String,
    /// No other link follows: with this one the outbox shuts and the inbox ends.
    pub(crate) only: bool,
}

/// What the three threads share.
struct Shared {
    protocol: Protocol,
    only: bool,
    settings: Arc<Settings>,
    outbox: Arc<Outbox>,
    counters: Arc<Counters>,
    hangup: Arc<dyn Hangup>,
    mailbox: Arc<Mailbox>,
    lane: Lane,
    desk: Desk<Box<Pen>>,
    liveness: Liveness,
    progress: Progress,
    cause: Cause,
    /// Raised when the peer has said goodbye, or has no business to any more.
    goodbye: Signal,
    /// Raised when the link dies.
    died: Signal,
    /// Raised when nobody wants what the reader still has to deliver.
    abandoned: Signal,
    /// One notice a stall, so nothing piles up.
    stalls: Sender<Duration>,
}

impl Shared {
    /// The link is dead, and this is why unless somebody said so before.
    fn fail(&self, cause: Failure) {
        // the peer has ended the stream, or has been told why we do: everyone else gets a reset
        let civil = matches!(
            cause,
            Failure::Closed(_)
                | Failure::ClosedAbnormally
                | Failure::EndOfStream { .. }
                | Failure::Protocol { .. }
        );
        if !civil {
            self.hangup.reset_when_dropped();
        }
        self.cause.record(cause);
        self.died.raise();
        self.hangup.hang_up();
        if self.only {
            self.outbox.shut();
        }
        self.outbox.link_lost();
    }

    /// An answer has come that confirms everything up to this number.
    fn confirmed(&self, number: Option<u64>) {
        if let Some(number) = number {
            self.outbox.confirmed(number);
            if self.outbox.wants_confirmation().0 {
                // there may be something more to ask
                self.outbox.ring();
            }
        }
    }

    fn silent(&self, silence: Duration) -> Failure {
        let unanswered = self.counters.unanswered_pings.load(Relaxed);
        Failure::HeartbeatTimeout { silence, unanswered }
    }

    fn is_dead(&self) -> bool {
        self.died.is_raised()
    }
}

impl Shortcut for Shared {
    fn write_one(&self) -> bool {
        writer::write_now(self, |writer| writer.write_one())
    }
}

/// The owner's end of a live connection.
pub(crate) struct Link {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    reader_ended: Receiver<Infallible>,
    stalls: Receiver<Duration>,
}

/// How a link ended.
pub(crate) struct Ended {
    pub(crate) cause: Arc<Failure>,
    /// Messages written after the last answered ping.
    pub(crate) unconfirmed: u64,
}

impl Ended {
    /// Whether both sides said goodbye, after one of them had begun.
    pub(crate) fn is_clean(&self) -> bool {
        matches!(*self.cause, Failure::Closed(_) | Failure::EndOfStream { inside_message: false })
    }
}

impl Link {
    /// Starts the three threads.
    ///
    /// # Errors
    ///
    /// [`Failure::Thread`] if one could not be started; the others are gone then.
    pub(crate) fn start(parts: Parts) -> Result<Self, Failure> {
        let Parts { duplex, decoder, protocol, settings, outbox, inbox, counters, .. } = parts;
        let Duplex { reader, writer, hangup } = duplex;
        let (owner, prefix) = (parts.owner, parts.thread_prefix);
        let (stall_sender, stalls) = bounded(1);
        let shared = Arc::new(Shared {
            protocol,
            only: parts.only,
            lane: Lane::new(),
            desk: Desk::new(),
            liveness: Liveness::new(),
            progress: Progress::new(Arc::clone(&counters)),
            cause: Cause::new(),
            goodbye: Signal::new(),
            died: Signal::new(),
            abandoned: Signal::new(),
            stalls: stall_sender,
            settings,
            outbox,
            counters,
            hangup,
            mailbox: parts.mailbox,
        });
        if shared.settings.send_directly {
            // weak, for the link holds the outbox
            let link: Weak<dyn Shortcut> = Arc::downgrade(&shared) as _;
            shared.outbox.offer_shortcut(link);
        }
        let (reader_alive, reader_ended) = bounded(0);
        let mut link = Self { shared, threads: Vec::with_capacity(3), reader_ended, stalls };

        let shared = Arc::clone(&link.shared);
        link.spawn(&prefix, "reader", threads::PROGRAM_STACK, move || {
            threads::belong_to(owner);
            reader::run(&shared, decoder, reader, &inbox);
            drop(reader_alive);
        })?;
        let shared = Arc::clone(&link.shared);
        link.spawn(&prefix, "writer", threads::OWN_STACK, move || {
            writer::run(&shared, writer);
        })?;
        let shared = Arc::clone(&link.shared);
        link.spawn(&prefix, "heartbeat", threads::OWN_STACK, move || {
            heartbeat::run(&shared);
        })?;
        Ok(link)
    }

    fn spawn(
        &mut self,
        prefix: &str,
        role: &str,
        stack: usize,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), Failure> {
        match threads::spawn(prefix, role, stack, run) {
            Ok(thread) => {
                self.threads.push(thread);
                Ok(())
            }
            Err(error) => {
                self.shared.fail(Failure::Interrupted);
                self.shared.abandoned.raise();
                self.shared.mailbox.look_again();
                self.join();
                Err(Failure::Thread(error))
            }
        }
    }

    /// A handle for others who may end the link.
    pub(crate) fn handle(&self) -> Handle {
        Handle { shared: Arc::clone(&self.shared) }
    }

    /// Disconnects when the reader has delivered all that had arrived. Only then does
    /// [`Link::bury`] not wait for the program.
    pub(crate) fn reader_ended(&self) -> &Receiver<Infallible> {
        &self.reader_ended
    }

    /// Yields how long the reader has been waiting for the program, once for each such wait.
    pub(crate) fn stalls(&self) -> &Receiver<Duration> {
        &self.stalls
    }

    /// Joins the three threads of a dead link.
    pub(crate) fn bury(mut self) -> Ended {
        self.join();
        let cause = self.handle().cause();
        let unconfirmed = self.shared.counters.unconfirmed.load(Relaxed);
        // no link dies without a cause, unless one of its threads has a bug and panics
        let cause = cause.unwrap_or_else(|| Arc::new(Failure::ClosedAbnormally));
        Ended { cause, unconfirmed }
    }

    fn join(&mut self) {
        for thread in self.threads.drain(..) {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if thread.join().is_err() {
                log::error!("{name} panicked: please report this as a bug of everlink");
            }
        }
    }
}

/// What can be done to a link from anywhere.
#[derive(Clone)]
pub(crate) struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    /// Disconnects when the link dies.
    pub(crate) fn died(&self) -> &Receiver<Infallible> {
        self.shared.died.raised()
    }

    /// Starts the closing handshake once everything queued is written.
    pub(crate) fn close_after_data(&self, frame: CloseFrame) {
        self.shared.lane.close_after_data(frame);
        self.shared.outbox.ring();
    }

    /// Starts the closing handshake ahead of everything queued.
    pub(crate) fn close_now(&self, frame: CloseFrame) {
        self.shared.lane.close_now(Some(frame));
        self.shared.outbox.ring();
    }

    /// Says beforehand why the link will die.
    pub(crate) fn expect(&self, cause: Failure) {
        self.shared.cause.record(cause);
    }

    /// Ends the link for a reason of the owner's.
    pub(crate) fn kill(&self, cause: Failure) {
        self.shared.fail(cause);
    }

    /// Drops what the reader still has to deliver.
    pub(crate) fn abandon(&self) {
        self.shared.abandoned.raise();
        self.shared.mailbox.look_again();
    }

    /// Why the link has died, or is about to.
    pub(crate) fn cause(&self) -> Option<Arc<Failure>> {
        self.shared.cause.get()
    }

    /// Waits for the end of the link.
    pub(crate) fn wait_until(&self, deadline: Instant) {
        select! {
            recv(self.died()) -> _ => {}
            recv(crossbeam_channel::at(deadline)) -> _ => {}
        }
    }
}

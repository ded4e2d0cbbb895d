//! One live connection: a reader, a writer and a heartbeat thread that are born together, die
//! together and are joined together.
//!
//! What they share, each with its reason:
//!
//! | what | why |
//! | --- | --- |
//! | [`Life`]: a lock, its condition and one signal | how far the link has come and why it ends |
//! | [`ControlSlots`]: a lock | what goes out ahead of data; filled by all, emptied by whoever writes |
//! | [`Handoff`]: a lock and its condition | the pen, lent while the writer sleeps |
//! | [`PingLedger`]: a lock | which pings are out; the writer asks, the reader hears the answer |
//! | [`Liveness`]: four atomics | since when the peer is silent; hot, so without a lock |
//! | the outbox and its doorbell, the mailbox | they outlive the link |
//! | a channel for a few [`Notice`]s | the manager selects on it |
//!
//! Locks are held for a few lines, none while another of them is taken but [`Life`]'s, which is
//! innermost: the mailbox asks it how much room there is.
//!
//! Whoever notices death calls [`Shared::fail`]: the cause is kept, the socket is hung up, and the
//! other two wake and end.

mod asking;
mod control;
mod farewell;
mod handle;
mod handoff;
mod heartbeat;
mod journal;
pub(crate) mod life;
mod liveness;
#[cfg(all(test, shuttle))]
mod model;
mod pen;
mod pings;
mod reader;
mod session;
mod suspension;
mod writer;

use std::convert::Infallible;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use control::ControlSlots;
pub(crate) use handle::Handle;
use handoff::Handoff;
use life::Life;
use liveness::Liveness;
use pen::Pen;
use pings::PingLedger;

use crate::failure::{Failure, Manner, Secrets};
use crate::message::{CloseFrame, Message};
use crate::policy::{AgreedCompression, MaxSizes};
use crate::queues::inbox::{Inbox, Mailbox};
use crate::queues::outbox::{Outbox, Shortcut};
use crate::resume::Counts;
use crate::settings::Settings;
use crate::stats::Counters;
use crate::sync::threads::{self, Role, Threads};
use crate::sync::{Budget, Mutex};
use crate::transport::{Duplex, Hangup, ReadBuffer};
use crate::wire::{Decoder, Protocol};

/// Where the inbox is between two readers. Empty while a reader holds it.
pub(crate) type InboxSlot = Arc<Mutex<Option<Inbox>>>;

/// A connection that is ready for messages.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) duplex: Duplex,
    pub(crate) protocol: Protocol,
    pub(crate) decoder: Decoder,
    /// What was read and is not decoded yet.
    pub(crate) buffer: ReadBuffer,
    /// What was agreed on, if anything.
    pub(crate) compression: Option<AgreedCompression>,
    /// What the login hook has received and left to the program.
    pub(crate) kept: Vec<Message>,
    /// What the peer was told in confidence.
    pub(crate) secrets: Secrets,
}

impl Opened {
    /// `read` is what was read past the opening handshake.
    pub(crate) fn new(duplex: Duplex, protocol: Protocol, limits: MaxSizes, read: Vec<u8>) -> Self {
        let (decoder, buffer) = (protocol.decoder(limits), ReadBuffer::new(read));
        Self {
            duplex,
            protocol,
            decoder,
            buffer,
            compression: None,
            kept: Vec::new(),
            secrets: Secrets::default(),
        }
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

/// Whose link it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Another link may follow: outbox and inbox outlive this one.
    Client,
    /// With the link the outbox shuts and the inbox ends, unless it carries a session that may go
    /// on; a handler may answer until it returns.
    Session,
}

/// What a link needs from its owner.
pub(crate) struct Parts {
    pub(crate) opened: Opened,
    pub(crate) settings: Arc<Settings>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) inbox: InboxSlot,
    /// The mailbox behind the inbox, where a reader may wait for the program.
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) counters: Arc<Counters>,
    /// What the session has counted that this link carries on, if there is one.
    pub(crate) session: Option<Arc<Counts>>,
    pub(crate) owner: Owner,
    /// The number of the client or session: its threads are named and marked with it.
    pub(crate) id: u64,
    /// The number of the link, for messages that are received on it.
    pub(crate) link: u32,
}

/// What the three threads share.
struct Shared {
    protocol: Protocol,
    owner: Owner,
    link: u32,
    settings: Arc<Settings>,
    outbox: Arc<Outbox>,
    mailbox: Arc<Mailbox>,
    counters: Arc<Counters>,
    session: Option<Arc<Counts>>,
    hangup: Arc<dyn Hangup>,
    life: Arc<Life>,
    control: ControlSlots,
    pen: Handoff<Box<Pen>>,
    liveness: Liveness,
    pings: PingLedger,
    /// Each is said once for each time that it happens, and a full channel takes no more: nothing
    /// piles up.
    notices: Sender<Notice>,
    id: u64,
    name: String,
}

impl Shared {
    /// The link is dead, and this is why unless that was noted before.
    fn fail(&self, cause: Failure) {
        let Some(cause) = self.life.die(cause) else { return };
        if matches!(*cause, Failure::HeartbeatTimeout { .. }) && self.pings.is_waiting() {
            // the last one: no beat follows that could find it unanswered
            self.counters.heartbeat_misses.fetch_add(1, Relaxed);
        }
        match cause.manner() {
            Manner::Orderly => self.hangup.hang_up(),
            // what was written and has not arrived is taken back, and a peer that is stuck in a
            // write learns at once that nobody reads
            Manner::Broken => {
                self.hangup.reset_when_dropped();
                self.hangup.hang_up();
            }
            Manner::Aborted => self.hangup.reset(),
        }
        if self.is_all_there_is() {
            self.outbox.shut();
        }
        self.outbox.link_lost();
        self.mailbox.look_again();
    }

    /// The time for closing is over.
    fn end_close(&self, frame: CloseFrame) {
        let frame = self.protocol.is_websocket().then_some(frame);
        self.fail(Failure::ClosedHere(frame));
    }

    fn silent(&self, silence: Duration) -> Failure {
        let unanswered = self.counters.unanswered_pings.load(Relaxed);
        Failure::HeartbeatTimeout { silence, unanswered }
    }

    /// The program has been busy for so long, and nothing is read meanwhile.
    fn stalled(&self, time: Duration) {
        self.log_stalled(time);
        let _ = self.notices.try_send(Notice::Stalled(time));
    }

    /// Says once that a peer which is alive does not confirm what somebody wants confirmed: it has
    /// not answered for so long after it was asked, and what it was asked has gone out. `listening`
    /// is how long this side has been reading what comes, if that is not since the beginning.
    fn look_for_confirmations(&self, limit: Duration, listening: Option<Duration>) {
        let is_long = |waiting: &Duration| *waiting >= limit;
        let Some(waiting) = self.pings.waiting().filter(is_long) else { return };
        if listening.is_some_and(|time| time < limit) {
            return;
        }
        let Some(pen) = self.pen.try_take() else { return };
        let is_drained = pen.is_drained();
        self.pen.put(pen);
        if is_drained && self.outbox.is_left_unconfirmed() {
            self.log_unconfirmed(waiting);
            let _ = self.notices.try_send(Notice::Unconfirmed(waiting));
        }
    }

    /// The connection is idle: gives back what a burst took.
    fn relax(&self) {
        self.mailbox.relax();
        self.outbox.relax();
        if let Some(mut pen) = self.pen.try_take() {
            pen.relax();
            self.pen.put(pen);
        }
    }
}

impl Shortcut for Shared {
    fn write_one(&self) -> bool {
        writer::write_now(self, |pen| writer::write_one(self, pen))
    }
}

/// The owner's end of a live connection. Dropping it ends the link and joins its threads.
pub(crate) struct Link {
    shared: Arc<Shared>,
    compression: Option<AgreedCompression>,
    threads: Vec<JoinHandle<()>>,
    notices: Receiver<Notice>,
}

/// What the owner is told while the link lives.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Notice {
    /// The program has received nothing for so long.
    Stalled(Duration),
    /// The peer has confirmed nothing for so long.
    Unconfirmed(Duration),
}

/// How a link ended.
pub(crate) struct Ended {
    pub(crate) cause: Arc<Failure>,
    /// Messages written after the last answered ping.
    pub(crate) unconfirmed: u64,
    /// Whether both sides said goodbye.
    pub(crate) is_clean: bool,
    /// Whether any ping was answered on it.
    pub(crate) is_answered: bool,
}

impl Link {
    /// Starts the three threads.
    ///
    /// # Errors
    ///
    /// [`Failure::Thread`] if one could not be started; the others are gone then.
    pub(crate) fn start(parts: Parts) -> Result<Self, Failure> {
        let Parts { opened, settings, outbox, inbox, mailbox, counters, .. } = parts;
        let (owner, session, id, link) = (parts.owner, parts.session, parts.id, parts.link);
        let Opened { duplex, protocol, decoder, buffer, compression: agreed, kept, secrets } =
            opened;
        let mut encoder = protocol.encoder();
        if let (Some(agreed), Some(compression)) = (agreed, &settings.compression) {
            encoder.compressed(agreed, compression.clone());
        }
        let Duplex { reader, writer, hangup } = duplex;
        let (notice_sender, notices) = bounded(4);
        let threads = Threads::of(id, settings.stack_size());
        let shared = Arc::new(Shared {
            protocol,
            owner,
            link,
            control: ControlSlots::default(),
            pen: Handoff::new(),
            liveness: Liveness::new(),
            pings: PingLedger::new(Arc::clone(&counters)),
            life: Arc::new(Life::new()),
            notices: notice_sender,
            settings,
            outbox,
            mailbox,
            counters,
            session,
            hangup,
            id,
            name: threads::thread_prefix(id),
        });
        if shared.settings.socket().sends_directly() {
            // weak, for the link holds the outbox
            let link: Weak<dyn Shortcut> = Arc::downgrade(&shared) as _;
            shared.outbox.offer_shortcut(link);
        }
        shared.outbox.link_started();
        let mut link =
            Self { shared, compression: agreed, threads: Vec::with_capacity(3), notices };
        let shared = Arc::clone(&link.shared);
        let work = Box::new(reader::Work { decoder, buffer, half: reader, kept, secrets });
        link.spawn(&threads, Role::Reader, move || {
            reader::run(&shared, work, &inbox);
        })?;
        let shared = Arc::clone(&link.shared);
        link.spawn(&threads, Role::Writer, move || {
            let pen = Box::new(Pen::new(writer, encoder));
            writer::run(&shared, pen);
        })?;
        let shared = Arc::clone(&link.shared);
        link.spawn(&threads, Role::Heartbeat, move || {
            heartbeat::run(&shared);
        })?;
        Ok(link)
    }

    fn spawn(
        &mut self,
        threads: &Threads,
        role: Role,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), Failure> {
        // the threads that run already end when the link is dropped
        let thread = threads.spawn(role, run).map_err(Failure::Thread)?;
        self.threads.push(thread);
        Ok(())
    }

    /// A handle for others who may end the link. It keeps nothing of it alive.
    pub(crate) fn handle(&self) -> Handle {
        Handle { life: Arc::clone(&self.shared.life), shared: Arc::downgrade(&self.shared) }
    }

    /// How messages are compressed, if they are.
    pub(crate) fn compression(&self) -> Option<AgreedCompression> {
        self.compression
    }

    /// Its owner has counted it: from here on messages are delivered.
    pub(crate) fn announce(&self) {
        self.shared.life.announce();
    }

    /// What there is to tell the program.
    pub(crate) fn notices(&self) -> &Receiver<Notice> {
        &self.notices
    }

    /// Disconnects when the reader has delivered all that had come. Only a handler that is running
    /// can hold that up once the link is dead.
    pub(crate) fn read(&self) -> &Receiver<Infallible> {
        self.shared.life.read()
    }

    /// How a dead link ended, as far as is known.
    pub(crate) fn ended(&self) -> Ended {
        // no link dies without a cause, unless one of its threads has a bug and panics
        let cause = self.shared.life.cause();
        let cause = cause.unwrap_or_else(|| Arc::new(Failure::ClosedAbnormally));
        let unconfirmed = self.shared.counters.unconfirmed.load(Relaxed);
        let is_clean = self.shared.life.ask(|state| state.is_clean());
        let is_answered = self.shared.pings.is_answered();
        Ended { cause, unconfirmed, is_clean, is_answered }
    }

    /// Joins the three threads of a dead link.
    pub(crate) fn bury(mut self) -> Ended {
        self.join();
        self.ended()
    }

    fn join(&mut self) {
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.life.leave();
        self.shared.fail(Failure::Interrupted);
        self.join();
    }
}

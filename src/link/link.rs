//! The owner's end of a link.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, bounded};

use super::beats::Beats;
use super::control::ControlSlots;
use super::frame_writer::FrameWriter;
use super::handle::Handle;
use super::heartbeat;
use super::intake::Intake;
use super::life::Life;
use super::liveness::Liveness;
use super::opened::Opened;
use super::pings::PingLedger;
use super::reader::{self, InboxSlot};
use super::shared::{Notice, Shared};
use super::writer::Writer;
use crate::failure::Failure;
use crate::policy::{AgreedCompression, Delivery};
use crate::queues::mailbox::Mailbox;
use crate::queues::outbox::{Outbox, Shortcut};
use crate::resume::Counts;
use crate::settings::Settings;
use crate::stats::Counters;
use crate::sync::threads::{Role, Threads};
use crate::transport::Duplex;

/// What the reader does, for the thread that calls it: it returns once the link is dead.
pub(crate) type Reading = Box<dyn FnOnce() + Send>;

/// What a link needs from its owner.
pub(crate) struct Parts {
    pub(crate) opened: Opened,
    pub(crate) settings: Arc<Settings>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) inbox: InboxSlot,
    /// The mailbox behind the inbox, where a reader may wait for the program.
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) counters: Arc<Counters>,
    /// The counts of the session that this link carries, if there is one.
    pub(crate) session: Option<Arc<Counts>>,
    /// The number of the client or session: its threads are named and marked with it.
    pub(crate) id: u64,
    /// The number of the link, for messages that are received on it.
    pub(crate) link: u32,
}

/// The owner's end of a live connection. Dropping it ends the link and joins its threads.
pub(crate) struct Link {
    shared: Arc<Shared>,
    compression: Option<AgreedCompression>,
    threads: Vec<JoinHandle<()>>,
    notices: Receiver<Notice>,
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
        let threads = Threads::of(parts.id, parts.settings.stack_size());
        let (mut link, reading) = Self::start_two(parts)?;
        // on an error the link is dropped, which ends the threads that run already
        link.threads.push(threads.spawn(Role::Reader, reading).map_err(Failure::Thread)?);
        Ok(link)
    }

    /// Starts writer and heartbeat; the caller's thread is to be the reader.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    pub(crate) fn start_two(parts: Parts) -> Result<(Self, Reading), Failure> {
        let Parts { opened, settings, outbox, inbox, mailbox, counters, .. } = parts;
        let (session, id, link) = (parts.session, parts.id, parts.link);
        let Opened { duplex, protocol, decoder, mut encoder, buffer, .. } = opened;
        let (kept, secrets, heartbeat) = (opened.kept, opened.secrets, opened.heartbeat);
        let agreed = opened.compression;
        if let (Some(agreed), Some(compression)) = (agreed, &settings.compression) {
            encoder.compressed(agreed, compression.clone());
        }
        if let (Some(counts), Some(heartbeat)) = (&session, &heartbeat) {
            counts.beats_so(heartbeat.clone());
        }
        let learnt = heartbeat.or_else(|| session.as_ref()?.heartbeat());
        let Duplex { reader, writer: half, hangup } = duplex;
        let (notice_sender, notices) = bounded(4);
        let threads = Threads::of(id, settings.stack_size());
        let shared = Arc::new(Shared {
            protocol,
            link,
            intake: Intake::default(),
            farewell: OnceLock::new(),
            control: ControlSlots::default(),
            liveness: Liveness::new(),
            beats: Beats::new(learnt.unwrap_or_else(|| settings.heartbeat().clone())),
            pings: PingLedger::new(Arc::clone(&counters)),
            life: Arc::new(Life::new()),
            notices: notice_sender,
            settings,
            outbox,
            mailbox,
            counters,
            first: session.as_ref().map_or(0, |counts| counts.at()),
            session,
            hangup,
            id,
        });
        let writer = Arc::new(Writer::new(Arc::clone(&shared)));
        if shared.settings.socket().sends_directly() {
            // weak, for it holds the outbox
            let shortcut: Weak<dyn Shortcut> = Arc::downgrade(&writer) as _;
            shared.outbox.offer_shortcut(shortcut);
        }
        shared.outbox.link_started(link);
        let [reads, writes, beats] = [(); 3].map(|()| Arc::clone(&shared));
        let beating = Arc::clone(&writer);
        let work = Box::new(reader::Work { decoder, buffer, half: reader, kept, secrets });
        let frames = Box::new(FrameWriter::new(writes, half, encoder));
        let tasks: [(Role, Box<dyn FnOnce() + Send>); 2] = [
            (Role::Writer, Box::new(move || writer.run(frames))),
            (Role::Heartbeat, Box::new(move || heartbeat::run(&beats, &beating))),
        ];
        let mut link =
            Self { shared, compression: agreed, threads: Vec::with_capacity(3), notices };
        for (role, task) in tasks {
            // as above
            link.threads.push(threads.spawn(role, task).map_err(Failure::Thread)?);
        }
        Ok((link, Box::new(move || reader::run(&reads, work, &inbox))))
    }

    /// A handle for others who may end the link. It keeps nothing of it alive.
    pub(crate) fn handle(&self) -> Handle {
        Handle::new(&self.shared)
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

    /// Disconnects when the reader has delivered everything that had come. Once the link is dead, only a
    /// running handler can delay that.
    pub(crate) fn read(&self) -> &Receiver<Infallible> {
        self.shared.life.read()
    }

    /// How a dead link ended, as far as is known.
    pub(crate) fn ended(&self) -> Ended {
        // no link dies without a cause, unless one of its threads has a bug and panics
        let cause = self.shared.life.cause();
        let cause = cause.unwrap_or_else(|| Arc::new(Failure::ClosedAbnormally));
        let unconfirmed = self.shared.counters.unconfirmed.count();
        let is_clean = match &self.shared.session {
            None => self.shared.life.is_clean(),
            Some(counts) => counts.is_ended() && counts.is_over(),
        };
        // where nothing answers and the program confirms, no more can be known of a link
        let is_blind =
            !self.shared.has_pings() && self.shared.settings.delivery() == Delivery::UntilConfirmed;
        let is_answered = is_blind || self.shared.pings.is_answered();
        Ended { cause, unconfirmed, is_clean, is_answered }
    }

    /// Joins the three threads of a dead link.
    pub(crate) fn join(mut self) -> Ended {
        self.join_threads();
        self.ended()
    }

    fn join_threads(&mut self) {
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.life.leave();
        self.shared.fail(Failure::Interrupted);
        self.join_threads();
    }
}

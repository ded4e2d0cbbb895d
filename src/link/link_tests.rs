//! A link without threads and without a socket, and what its parts do with each other.

use super::beats::Beats;
use std::io::{self, Write};
use std::sync::atomic::AtomicBool as Flag;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::bounded;

use super::control::ControlSlots;
use super::intake::Intake;
use super::life::Life;
use super::liveness::Liveness;
use super::pings::PingLedger;
use super::shared::Shared;
use crate::policy::{Delivery, Heartbeat, Queue};
use crate::queues::mailbox::Mailbox;
use crate::queues::outbox::Outbox;
use crate::settings::Settings;
use crate::stats::Counters;
use crate::sync::Mutex;
use crate::transport::{Hangup, WriteHalf};
use crate::wire::Protocol;

/// What the threads of a link share, with room for so many messages in the outbox.
pub(super) fn shared(protocol: Protocol, messages: usize) -> Arc<Shared> {
    let limits = Queue::new().messages(messages);
    let outbox = Outbox::new(limits, usize::MAX, None, Delivery::AtMostOnce, true);
    let counters = Arc::new(Counters::default());
    Arc::new(Shared {
        protocol,
        link: 1,
        settings: Arc::new(Settings::default()),
        outbox: Arc::new(outbox),
        mailbox: Arc::new(Mailbox::new(Queue::new().messages(1))),
        counters: Arc::clone(&counters),
        session: None,
        first: 0,
        hangup: Arc::new(NoSocket),
        life: Arc::new(Life::new()),
        intake: Intake::default(),
        farewell: OnceLock::new(),
        control: ControlSlots::default(),
        liveness: Liveness::new(),
        beats: Beats::new(Heartbeat::default()),
        pings: PingLedger::new(counters),
        notices: bounded(4).0,
        id: 1,
    })
}

#[derive(Debug)]
pub(super) struct NoSocket;

impl Hangup for NoSocket {
    fn hang_up(&self) {}
}

/// Instead of a socket: what was written.
#[derive(Debug, Clone, Default)]
pub(super) struct Wire {
    pub(super) written: Arc<Mutex<Vec<u8>>>,
    /// It takes nothing without being waited for.
    pub(super) is_full: Arc<Flag>,
}

impl Write for Wire {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.written.lock().extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl WriteHalf for Wire {
    fn set_write_timeout(&mut self, _: Option<Duration>) -> io::Result<()> {
        Ok(())
    }

    fn try_write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.is_full.load(Relaxed) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.write(buf)
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(not(shuttle))]
mod tests {
    use tungstenite::protocol::Role;

    use super::super::close_request::CloseRequest;
    use super::super::delivery;
    use super::super::frame_writer::FrameWriter;
    use super::*;
    use crate::failure::Failure;
    use crate::message::{CloseCode, CloseFrame, MessageRef, Pool};
    use crate::policy::Framing;
    use crate::queues::batch::Batch;
    use crate::queues::inbox::Inbox;
    use crate::queues::terms::{Terms, WaitFor};
    use crate::sync::Share;

    #[test]
    fn a_full_socket_loses_no_reply_where_each_message_needs_a_write_of_its_own() {
        let protocol = Protocol::Framed(Framing::raw());
        let (shared, wire) = (shared(protocol.clone(), 10), Wire::default());
        let half = Box::new(wire.clone());
        let mut frames = FrameWriter::new(Arc::clone(&shared), half, protocol.encoder());
        for reply in ["first", "second"] {
            shared.control.reply(reply.into());
        }
        shared.outbox.push("message".into(), Terms::default(), WaitFor::Ever).unwrap();
        wire.is_full.store(true, Relaxed);
        // a thread that sends, and does not wait
        assert!(!frames.write_one().is_ok_and(|is_all| is_all));
        wire.is_full.store(false, Relaxed);
        frames.write().unwrap();
        let written = String::from_utf8(wire.written.lock().clone()).unwrap();
        assert_eq!(written, "firstsecondmessage");
    }

    #[test]
    fn a_reset_that_the_writer_is_told_of_explains_the_end_of_the_stream() {
        let reset = || Failure::Io(io::ErrorKind::ConnectionReset.into());
        let is_reset = |life: &Life| matches!(&*life.cause().unwrap(), Failure::Io(_));
        let life = Life::new();
        life.peer_ends(Failure::ClosedAbnormally, None);
        life.note(Failure::Io(io::ErrorKind::BrokenPipe.into()));
        assert!(!is_reset(&life), "a broken pipe comes of the end");
        life.note(reset());
        assert!(is_reset(&life));
        life.note(Failure::ClosedAbnormally);
        assert!(is_reset(&life));
        let life = Life::new();
        let end = Failure::EndOfStream { inside_message: false, cut_off: false };
        life.peer_ends(end, None);
        life.note(reset());
        life.reach(super::super::life::OurDirection::Closed);
        assert!(is_reset(&life) && !life.is_clean());
    }

    #[test]
    fn a_dead_link_decodes_nothing_for_an_inbox_that_is_full_for_good() {
        let shared = shared(Protocol::WebSocket(Role::Client), 10);
        let inbox = Inbox::Mailbox(Arc::clone(&shared.mailbox));
        let mut batch = Batch::new(Pool::new(), Share::default());
        let mut deliver = || {
            (0..3).for_each(|number: u32| batch.push(MessageRef::text(&number.to_string())));
            delivery::deliver(&shared, &inbox, &mut batch, &mut 0)
        };
        shared.close(CloseRequest::after_data(CloseFrame::new(CloseCode::NORMAL, "")));
        assert!(deliver().is_ok(), "the peer's close frame may follow");
        shared.end_close();
        assert!(deliver().is_err());
    }
}

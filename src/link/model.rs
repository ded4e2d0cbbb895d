//! Outbox, frame writer, mailbox and the life of a link under shuttle, which runs each model with many ways of
//! interleaving its threads and calls a deadlock what waits for ever.
//!
//! ```text
//! RUSTFLAGS="--cfg shuttle" cargo test --release --lib model
//! ```

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};

use shuttle::thread;
use tungstenite::protocol::Role;

use super::close_request::CloseRequest;
use super::frame_writer::FrameWriter;
use super::life::{Life, OurDirection, Parting};
use super::link_tests::{self, Wire};
use super::shared::Shared;
use super::writer::Writer;
use crate::failure::Failure;
use crate::message::{CloseCode, CloseFrame, Message, MessageRef, Pool};
use crate::policy::{MaxSizes, Queue};
use crate::queues::NoMessage;
use crate::queues::batch::Batch;
use crate::queues::inbox::Inbox;
use crate::queues::mailbox::Mailbox;
use crate::queues::outbox::{Outbox, Shortcut};
use crate::queues::terms::{Refused, Terms, WaitFor};
use crate::sync::Mutex;
use crate::transport::ReadBuffer;
use crate::wire::{Item, Protocol};

const RUNS: usize = 20_000;

fn check(model: impl Fn() + Send + Sync + 'static) {
    let model = Arc::new(model);
    let again = Arc::clone(&model);
    shuttle::check_random(move || model(), RUNS);
    // rare orders first
    shuttle::check_pct(move || again(), RUNS, 3);
}

/// A link with its writer, and instead of a socket what was written.
struct Link {
    shared: Arc<Shared>,
    writer: Arc<Writer>,
    outbox: Arc<Outbox>,
    wire: Wire,
}

impl Link {
    fn new(messages: usize) -> Arc<Self> {
        let shared = link_tests::shared(Protocol::WebSocket(Role::Server), messages);
        let outbox = Arc::clone(&shared.outbox);
        let writer = Arc::new(Writer::new(Arc::clone(&shared)));
        let shortcut: Weak<dyn Shortcut> = Arc::<Writer>::downgrade(&writer) as _;
        outbox.offer_shortcut(shortcut);
        Arc::new(Self { shared, writer, outbox, wire: Wire::default() })
    }

    /// The writer thread, until the link has ended its stream.
    fn run(&self) {
        let (half, encoder) = (Box::new(self.wire.clone()), self.shared.protocol.encoder());
        let frames = FrameWriter::new(Arc::clone(&self.shared), half, encoder);
        self.writer.run(Box::new(frames));
    }

    fn start(self: &Arc<Self>) -> thread::JoinHandle<()> {
        let link = Arc::clone(self);
        thread::spawn(move || link.run())
    }

    /// What the peer finds in what was written: messages, and the names of control frames.
    fn peer_finds(&self) -> Vec<String> {
        let limits = MaxSizes { message: 100, frame: 100 };
        let mut decoder = Protocol::WebSocket(Role::Client).decoder(limits);
        let mut buffer = ReadBuffer::new(self.wire.written.lock().clone());
        let mut found = Vec::new();
        while let Some(item) = decoder.decode(&mut buffer).expect("what was written is sound") {
            found.push(match item {
                Item::Message(message) => message.as_text().expect("a text").to_owned(),
                Item::Ping(_) => "ping".into(),
                Item::Pong(_) => "pong".into(),
                Item::Close(_) => "close".into(),
            });
        }
        found
    }
}

fn send(link: &Link, text: &str) -> Result<(), Refused> {
    let pushed = link.outbox.push(text.into(), Terms::default(), WaitFor::Ever);
    pushed.map_err(|(_, refused)| refused)
}

/// Senders and the writer, with room for so many messages: everything is written once, each
/// sender's in order, and nobody sleeps for ever.
fn everything_is_written(room: usize, is_full: bool) {
    const SENDERS: usize = 2;
    const EACH: usize = 3;
    let link = Link::new(room);
    link.wire.is_full.store(is_full, Relaxed);
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let link = Arc::clone(&link);
            thread::spawn(move || {
                for number in 0..EACH {
                    send(&link, &format!("{sender}{number}")).expect("there will be room");
                    // as if an answer had come: the next may take the shortcut
                    link.outbox.heard();
                }
            })
        })
        .collect();
    let writer = link.start();
    for sender in senders {
        sender.join().expect("no sender panics");
    }
    // before the writer is woken to stop: a message for which nobody woke it would show here
    link.outbox.wait_written(WaitFor::Ever).expect("everything is written");
    link.shared.part(Parting::End);
    writer.join().expect("the writer does not panic");
    let found = link.peer_finds();
    for sender in 0..SENDERS {
        let name = sender.to_string();
        let own: Vec<&String> = found.iter().filter(|text| text.starts_with(&name)).collect();
        let expected: Vec<String> = (0..EACH).map(|number| format!("{name}{number}")).collect();
        assert_eq!(own, expected.iter().collect::<Vec<_>>());
    }
}

#[test]
fn everything_is_written_once_and_in_order() {
    check(|| everything_is_written(100, false));
}

#[test]
fn what_a_full_socket_does_not_take_at_once_the_writer_goes_on_with() {
    check(|| everything_is_written(100, true));
}

#[test]
fn senders_that_wait_for_room_get_it() {
    check(|| everything_is_written(1, false));
}

#[test]
fn a_sender_that_waits_is_told_of_the_end() {
    check(|| {
        let link = Link::new(1);
        let sender = {
            let link = Arc::clone(&link);
            thread::spawn(move || (0..3).map(|_| send(&link, "x")).collect::<Vec<_>>())
        };
        let closer = {
            let link = Arc::clone(&link);
            thread::spawn(move || {
                link.outbox.shut();
                link.outbox.link_lost();
            })
        };
        let results = sender.join().expect("no sender panics");
        closer.join().expect("nor does who closes");
        let accepted = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(
            results.iter().filter(|result| **result == Err(Refused::Shut)).count(),
            3 - accepted
        );
        assert!(accepted <= 1);
        assert_eq!(link.outbox.drain().len(), accepted);
    });
}

#[test]
fn a_flush_ends_with_the_confirmation_or_with_the_end() {
    check(|| {
        let link = Link::new(10);
        send(&link, "x").expect("there is room");
        let flush = {
            let link = Arc::clone(&link);
            thread::spawn(move || link.outbox.flush(WaitFor::Ever))
        };
        let closer = {
            let link = Arc::clone(&link);
            thread::spawn(move || link.outbox.shut())
        };
        let mut batch = Default::default();
        link.outbox.take(&mut batch, 64);
        link.outbox.written(batch.into_iter());
        link.outbox.confirmed(1);
        closer.join().expect("nobody panics");
        let result = flush.join().expect("nobody panics");
        assert!(matches!(result, Ok(()) | Err(Refused::Unconfirmed(1))), "{result:?}");
    });
}

#[test]
fn an_answer_never_overtakes_the_pong_before_it() {
    check(|| {
        let link = Link::new(10);
        let writer = link.start();
        // the reader: a ping, and a text that the handler answers
        link.shared.control.pong(b"");
        link.outbox.ring();
        send(&link, "answer").expect("there is room");
        link.outbox.wait_written(WaitFor::Ever).expect("it is written");
        link.shared.part(Parting::End);
        writer.join().expect("the writer does not panic");
        assert_eq!(link.peer_finds(), ["pong", "answer"]);
    });
}

#[test]
fn a_close_never_overtakes_what_was_sent_before_it() {
    check(|| {
        let link = Link::new(10);
        let writer = link.start();
        // wakes the writer for something else
        link.shared.control.pong(b"");
        link.outbox.ring();
        send(&link, "last").expect("there is room");
        link.shared.close(CloseRequest::after_data(CloseFrame::new(CloseCode::NORMAL, "")));
        link.shared.life.wait_reached(OurDirection::Closed, None);
        link.shared.part(Parting::End);
        writer.join().expect("the writer does not panic");
        assert_eq!(link.peer_finds(), ["pong", "last", "close"]);
    });
}

fn goodbye() -> Failure {
    let frame = CloseFrame { code: CloseCode::GOING_AWAY, reason: String::new() };
    Failure::Closed(Some(frame))
}

#[test]
fn the_first_cause_wins_and_a_goodbye_explains_a_broken_write() {
    check(|| {
        let life = Arc::new(Life::new());
        let first = Arc::new(Mutex::new(None));
        let failures = [
            Failure::Io(std::io::ErrorKind::BrokenPipe.into()),
            goodbye(),
            Failure::HeartbeatTimeout { silence: std::time::Duration::ZERO, unanswered: 0 },
        ];
        let threads: Vec<_> = failures
            .into_iter()
            .enumerate()
            .map(|(number, failure)| {
                let (life, first) = (Arc::clone(&life), Arc::clone(&first));
                thread::spawn(move || {
                    // the order in which they come is the order of this lock
                    let mut first = first.lock();
                    first.get_or_insert(number);
                    life.note(failure);
                    life.cause().expect("there is one from here on")
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("nobody panics");
        }
        let kept = life.cause().expect("there is one");
        let first = (*first.lock()).expect("one was first");
        match first {
            0 => assert!(matches!(&*kept, Failure::Closed(_) | Failure::Io(_)), "{kept:?}"),
            1 => assert!(matches!(&*kept, Failure::Closed(_)), "{kept:?}"),
            _ => assert!(matches!(&*kept, Failure::HeartbeatTimeout { .. }), "{kept:?}"),
        }
    });
}

#[test]
fn a_link_dies_once_and_everybody_who_waits_is_told() {
    check(|| {
        let life = Arc::new(Life::new());
        let spawn = |act: fn(&Life) -> usize| {
            let life = Arc::clone(&life);
            thread::spawn(move || act(&life))
        };
        let dying = [
            // the owner closes and the time for that is over
            spawn(|life| {
                life.close(CloseRequest::urgent(None));
                usize::from(life.die(Failure::ClosedHere(None)).is_some())
            }),
            // the reader hears a goodbye, and has it answered
            spawn(|life| {
                life.peer_ends(goodbye(), Some(None));
                life.wait_reached(OurDirection::Closed, None);
                usize::from(life.die(Failure::ClosedAbnormally).is_some())
            }),
            // the writer answers, and meets a broken socket
            spawn(|life| {
                life.closing_here();
                life.reach(OurDirection::Closed);
                usize::from(life.die(Failure::Io(std::io::ErrorKind::BrokenPipe.into())).is_some())
            }),
        ];
        let waiting = spawn(|life| {
            life.wait_closed();
            usize::from(life.is_dead())
        });
        let deaths: usize = dying.into_iter().map(|thread| thread.join().expect("no panic")).sum();
        assert_eq!(deaths, 1);
        assert_eq!(waiting.join().expect("no panic"), 1);
        let kept = life.cause().expect("there is one");
        assert!(matches!(&*kept, Failure::Closed(_) | Failure::ClosedHere(_)), "{kept:?}");
    });
}

#[test]
fn a_reader_that_waits_for_the_program_gives_everything_up_at_the_end() {
    check(|| {
        let mailbox = Arc::new(Mailbox::new(Queue::new().messages(1)));
        let life = Arc::new(Life::new());
        let reader = {
            let (mailbox, life) = (Arc::clone(&mailbox), Arc::clone(&life));
            thread::spawn(move || {
                let mut batch = Batch::new(Pool::new(), crate::sync::Share::default());
                (0..3).for_each(|number: u32| batch.push(MessageRef::text(&number.to_string())));
                let inbox = Inbox::Mailbox(mailbox);
                inbox.deliver(&mut batch, || life.room(false));
                inbox.ring();
            })
        };
        let killer = {
            let (mailbox, life) = (Arc::clone(&mailbox), Arc::clone(&life));
            thread::spawn(move || {
                life.die(goodbye());
                mailbox.wake_all();
            })
        };
        let recv = || mailbox.recv(None, || false, crossbeam_channel::never);
        let first = recv();
        reader.join().expect("no panic");
        killer.join().expect("no panic");
        mailbox.end();
        let received = [first, recv(), recv()].map(|message| message.expect("all are there"));
        assert_eq!(received, ["0", "1", "2"].map(Message::from));
        assert_eq!(recv(), Err(NoMessage::Ended));
        assert_eq!(mailbox.dropped(), 0);
    });
}

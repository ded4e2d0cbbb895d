//! Outbox, pen, mailbox and the life of a link under shuttle, which runs each model with many ways of
//! interleaving its threads and calls a deadlock what waits for ever.
//!
//! ```text
//! RUSTFLAGS="--cfg shuttle" cargo test --release --lib model
//! ```

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use shuttle::thread;

use super::control::ControlSlots;
use super::handoff::Handoff;
use super::life::{Life, Ours};
use crate::failure::Failure;
use crate::message::{CloseCode, CloseFrame, Message, MessageRef, Pool};
use crate::policy::{Delivery, Queue};
use crate::queues::inbox::{Batch, Inbox, Mailbox, NoMessage, Room};
use crate::queues::outbox::{Outbox, Patience, Refused, Shortcut, Terms};
use crate::sync::Mutex;

const RUNS: usize = 20_000;

fn check(model: impl Fn() + Send + Sync + 'static) {
    let model = Arc::new(model);
    let again = Arc::clone(&model);
    shuttle::check_random(move || model(), RUNS);
    // rare orders first
    shuttle::check_pct(move || again(), RUNS, 3);
}

/// A link without a socket: what is written is noted.
struct Link {
    outbox: Arc<Outbox>,
    control: ControlSlots,
    /// What was written. Whoever holds it is the one who writes.
    pen: Handoff<Vec<Message>>,
    stop: Mutex<bool>,
}

impl Link {
    fn new(messages: usize) -> Arc<Self> {
        let limits = Queue::new().messages(messages);
        let outbox = Outbox::new(limits, usize::MAX, None, Delivery::AtMostOnce, true);
        let link = Arc::new(Self {
            outbox: Arc::new(outbox),
            control: ControlSlots::default(),
            pen: Handoff::new(),
            stop: Mutex::new(false),
        });
        let shortcut: Weak<dyn Shortcut> = Arc::<Self>::downgrade(&link) as _;
        link.outbox.offer_shortcut(shortcut);
        link
    }

    fn write(&self, written: &mut Vec<Message>, bytes: usize) -> bool {
        let mut batch = VecDeque::new();
        self.outbox.take(&mut batch, bytes);
        // in this order: see `ControlSlots`
        let pongs = self.control.take(false).pongs;
        written.extend(pongs.into_iter().map(|_| Message::from("pong")));
        written.extend(batch.iter().map(|entry| entry.message.clone()));
        let any = !batch.is_empty();
        self.outbox.written(batch.into_iter());
        any
    }

    /// The writer thread, until it is told to stop.
    fn run(&self) -> Vec<Message> {
        let mut written = Vec::new();
        loop {
            while self.write(&mut written, 64) {}
            if *self.stop.lock() {
                return written;
            }
            self.pen.put(written);
            self.outbox.doorbell().wait(None);
            written = self.pen.take();
        }
    }

    fn stop(&self) {
        *self.stop.lock() = true;
        self.outbox.ring();
    }
}

impl Shortcut for Link {
    fn write_one(&self) -> bool {
        let Some(mut written) = self.pen.try_take() else { return false };
        self.write(&mut written, 1);
        self.pen.put(written);
        self.outbox.is_quiet()
    }
}

fn send(link: &Link, text: &str) -> Result<(), Refused> {
    let pushed = link.outbox.push(text.into(), Terms::default(), Patience::Forever);
    pushed.map_err(|(_, refused)| refused)
}

/// Senders and the writer, with room for so many messages: everything is written once, each
/// sender's in order, and nobody sleeps for ever.
fn everything_is_written(room: usize) {
    const SENDERS: usize = 2;
    const EACH: usize = 3;
    let link = Link::new(room);
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
    let writer = {
        let link = Arc::clone(&link);
        thread::spawn(move || link.run())
    };
    for sender in senders {
        sender.join().expect("no sender panics");
    }
    // before the writer is woken to stop: a message for which nobody woke it would show here
    link.outbox.wait_written(None).expect("everything is written");
    link.stop();
    let written = writer.join().expect("the writer does not panic");
    for sender in 0..SENDERS {
        let name = sender.to_string();
        let texts = written.iter().filter_map(Message::as_text);
        let own: Vec<&str> = texts.filter(|text| text.starts_with(&name)).collect();
        let expected: Vec<String> = (0..EACH).map(|number| format!("{name}{number}")).collect();
        assert_eq!(own, expected);
    }
}

#[test]
fn everything_is_written_once_and_in_order() {
    check(|| everything_is_written(100));
}

#[test]
fn senders_that_wait_for_room_get_it() {
    check(|| everything_is_written(1));
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
            thread::spawn(move || link.outbox.flush(None))
        };
        let closer = {
            let link = Arc::clone(&link);
            thread::spawn(move || link.outbox.shut())
        };
        let mut written = Vec::new();
        link.write(&mut written, 64);
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
        let writer = {
            let link = Arc::clone(&link);
            thread::spawn(move || link.run())
        };
        // the reader: a ping, and a text that the handler answers
        link.control.pong(b"");
        link.outbox.ring();
        send(&link, "answer").expect("there is room");
        link.outbox.wait_written(None).expect("it is written");
        link.stop();
        let written = writer.join().expect("the writer does not panic");
        assert_eq!(written, ["pong", "answer"].map(Message::from));
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
                life.leave();
                usize::from(life.die(Failure::ClosedHere(None)).is_some())
            }),
            // the reader hears a goodbye, and has it answered
            spawn(|life| {
                life.peer_ends(goodbye());
                life.wait(None, |state| state.ours > Ours::Open);
                usize::from(life.die(Failure::ClosedAbnormally).is_some())
            }),
            // the writer answers, and meets a broken socket
            spawn(|life| {
                life.wait(None, |state| state.is_leaving);
                life.closing_here(None);
                life.closed_here();
                usize::from(life.die(Failure::Io(std::io::ErrorKind::BrokenPipe.into())).is_some())
            }),
        ];
        let waiting = spawn(|life| usize::from(life.wait(None, |_| false)));
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
                Inbox::Mailbox(mailbox).deliver(&mut batch, || {
                    let is_over = life.ask(|state| state.is_dead);
                    if is_over { Room::Beyond } else { Room::Within }
                });
            })
        };
        let killer = {
            let (mailbox, life) = (Arc::clone(&mailbox), Arc::clone(&life));
            thread::spawn(move || {
                life.die(goodbye());
                mailbox.look_again();
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

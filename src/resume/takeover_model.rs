//! One link takes over from another under shuttle: whatever the threads of the old one are doing,
//! each message gets into the inbox once and in order, and each leaves the outbox once and in
//! order. How to run it: the models of `link`.

use std::collections::VecDeque;
use std::sync::Arc;

use shuttle::thread::{self, JoinHandle};

use super::Counts;
use crate::message::{Message, MessageRef, Pool};
use crate::policy::{Delivery, Queue, Unconfirmed};
use crate::queues::batch::Batch;
use crate::queues::inbox::Inbox;
use crate::queues::mailbox::{Mailbox, Room};
use crate::queues::outbox::Outbox;
use crate::queues::terms::{Terms, WaitFor};
use crate::sync::{Condvar, Mutex};

const RUNS: usize = 20_000;
const COUNT: u64 = 4;

fn check(model: impl Fn() + Send + Sync + 'static) {
    let model = Arc::new(model);
    let again = Arc::clone(&model);
    shuttle::check_random(move || model(), RUNS);
    shuttle::check_pct(move || again(), RUNS, 3);
}

/// Whether a link is dead.
type Death = Arc<Mutex<bool>>;

fn reader(mailbox: &Arc<Mailbox>, counts: &Arc<Counts>, death: &Death) -> JoinHandle<()> {
    let (mailbox, counts, death) = (Arc::clone(mailbox), Arc::clone(counts), Arc::clone(death));
    thread::spawn(move || {
        let inbox = Inbox::Mailbox(mailbox);
        let room = || if *death.lock() { Room::Beyond } else { Room::Within };
        inbox.wait_for_room(room);
        // what the peer sends on this link begins behind what it was told
        while counts.received() < COUNT && !*death.lock() {
            let number = counts.received();
            counts.receive();
            let mut batch = Batch::new(Pool::new(), crate::sync::Share::default());
            batch.push(MessageRef::text(&number.to_string()));
            inbox.deliver(&mut batch, room);
        }
    })
}

#[test]
fn what_an_old_link_has_counted_is_in_the_inbox_before_the_next_begins() {
    check(|| {
        let mailbox = Arc::new(Mailbox::new(Queue::new().messages(1)));
        let counts = Arc::new(Counts::default());
        let program = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || {
                let recv = || mailbox.recv(None, || false, crossbeam_channel::never);
                (0..COUNT).map(|_| recv().expect("it comes")).collect::<Vec<_>>()
            })
        };
        for is_last in [false, false, true] {
            let death = Death::default();
            let link = reader(&mailbox, &counts, &death);
            if !is_last {
                *death.lock() = true;
                mailbox.wake_all();
            }
            link.join().expect("no panic");
        }
        let received = program.join().expect("no panic");
        let expected: Vec<Message> = (0..COUNT).map(|n| Message::from(n.to_string())).collect();
        assert_eq!(received, expected);
        assert_eq!(counts.received(), COUNT);
    });
}

/// The peer, who receives whatever is written.
#[derive(Default)]
struct Peer {
    received: Mutex<Vec<Message>>,
    came: Condvar,
}

fn writer(
    outbox: &Arc<Outbox>,
    counts: &Arc<Counts>,
    peer: &Arc<Peer>,
    death: &Death,
) -> JoinHandle<()> {
    let (outbox, counts) = (Arc::clone(outbox), Arc::clone(counts));
    let (peer, death) = (Arc::clone(peer), Arc::clone(death));
    thread::spawn(move || {
        let mut encoded = VecDeque::new();
        loop {
            let mut batch = VecDeque::new();
            outbox.take(&mut batch, 1);
            let Some(mut entry) = batch.pop_front() else {
                if *death.lock() {
                    break;
                }
                outbox.doorbell().wait(None);
                continue;
            };
            entry.position = counts.send();
            let message = entry.message.clone();
            encoded.push_back(entry);
            if *death.lock() {
                // half of it went out
                break;
            }
            peer.received.lock().push(message);
            peer.came.notify_all();
            outbox.written(encoded.drain(..));
        }
        outbox.restore_begun(&mut encoded);
    })
}

/// Reports come on the link's other thread.
fn reports(
    outbox: &Arc<Outbox>,
    counts: &Arc<Counts>,
    peer: &Arc<Peer>,
    death: &Death,
) -> JoinHandle<()> {
    let (outbox, counts) = (Arc::clone(outbox), Arc::clone(counts));
    let (peer, death) = (Arc::clone(peer), Arc::clone(death));
    thread::spawn(move || {
        let received = peer.received.lock().len() as u64;
        if !*death.lock() {
            assert!(counts.report(received));
            outbox.confirmed(received);
        }
    })
}

#[test]
fn what_a_peer_lacks_leaves_the_outbox_once_and_first() {
    check(|| {
        let outbox = Outbox::new(Queue::new(), usize::MAX, None, Delivery::AtMostOnce, true);
        outbox.begin_session(Unconfirmed { messages: 2, bytes: 1000 }, Vec::new());
        let (outbox, counts) = (Arc::new(outbox), Arc::new(Counts::default()));
        let peer = Arc::new(Peer::default());
        let program = {
            let outbox = Arc::clone(&outbox);
            thread::spawn(move || {
                for number in 0..COUNT {
                    let message = number.to_string().into();
                    outbox.push(message, Terms::default(), WaitFor::Ever).expect("room");
                }
            })
        };
        for is_last in [false, true] {
            let death = Death::default();
            let link = writer(&outbox, &counts, &peer, &death);
            let other = reports(&outbox, &counts, &peer, &death);
            if is_last {
                // who waits for the next asks again and again
                let mut received = peer.received.lock();
                while (received.len() as u64) < COUNT {
                    let count = received.len() as u64;
                    drop(received);
                    counts.report(count);
                    outbox.confirmed(count);
                    received = peer.received.lock();
                    if received.len() as u64 == count {
                        received = peer.came.wait(received);
                    }
                }
            }
            *death.lock() = true;
            outbox.link_lost();
            link.join().expect("no panic");
            other.join().expect("no panic");
            outbox.detached();
            let has = peer.received.lock().len() as u64;
            assert!(counts.is_possible(has));
            counts.resume(has);
            outbox.resumed(has);
        }
        program.join().expect("no panic");
        let received = peer.received.lock().clone();
        let expected: Vec<Message> = (0..COUNT).map(|n| Message::from(n.to_string())).collect();
        assert_eq!(received, expected);
        assert!(!outbox.is_left());
    });
}

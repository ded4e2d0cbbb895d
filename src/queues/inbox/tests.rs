use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Instant;

use super::*;
use crate::message::{Message, Pool};
use crate::policy::{Overflow, Queue};
use crate::queues::NoMessage;
use crate::sync::threads::{LEAST_STACK, Threads};
use crate::sync::{Budget, Share};

fn mailbox(overflow: Overflow) -> (Inbox, Arc<Mailbox>) {
    mailbox_of(Queue::new().messages(2).overflow(overflow))
}

fn mailbox_of(limits: Queue) -> (Inbox, Arc<Mailbox>) {
    let mailbox = Arc::new(Mailbox::new(limits));
    (Inbox::Mailbox(Arc::clone(&mailbox)), mailbox)
}

fn batch(messages: impl IntoIterator<Item = String>) -> Batch {
    let mut batch = Batch::new(Pool::new(), Share::default());
    messages.into_iter().for_each(|text| batch.push(MessageRef::text(&text)));
    batch
}

fn numbers(range: std::ops::Range<u32>) -> Batch {
    batch(range.map(|number| number.to_string()))
}

fn sized(sizes: &[usize]) -> Batch {
    batch(sizes.iter().map(|size| "x".repeat(*size)))
}

fn push(mailbox: &Mailbox, mut batch: Batch) -> bool {
    let (messages, share) = batch.finish();
    mailbox.push(messages, share, || Room::Within)
}

fn recv(mailbox: &Mailbox, deadline: Option<Instant>) -> Result<Message, NoMessage> {
    mailbox.recv(deadline, || false, crossbeam_channel::never)
}

fn receive_all(mailbox: &Mailbox) -> Vec<Message> {
    std::iter::from_fn(|| recv(mailbox, Some(Instant::now())).ok()).collect()
}

#[test]
fn each_policy_at_the_bound() {
    for (overflow, kept) in [(Overflow::DropOldest, ["3", "4"]), (Overflow::DropNewest, ["0", "1"])]
    {
        let (inbox, mailbox) = mailbox(overflow);
        inbox.deliver(&mut numbers(0..5), || Room::Within);
        assert_eq!(receive_all(&mailbox), kept.map(Message::from));
        assert_eq!(mailbox.dropped(), 3);
    }
}

#[test]
fn bytes_bound_it_too_and_a_huge_message_passes_alone() {
    let limits = Queue::new().bytes(10).overflow(Overflow::DropNewest);
    let mailbox = Mailbox::new(limits);
    let put = |sizes: &[usize]| push(&mailbox, sized(sizes));
    put(&[100, 1]);
    assert_eq!((mailbox.len(), mailbox.dropped()), (1, 1));
    assert_eq!(receive_all(&mailbox).len(), 1);
    put(&[4, 5, 6, 7]);
    assert_eq!((mailbox.len(), mailbox.dropped()), (3, 2));
}

#[test]
fn the_channel_holds_one_message_beside_what_the_bounds_allow() {
    let limits = Queue::new().messages(100).bytes(1000).overflow(Overflow::DropNewest);
    let mailbox = Arc::new(Mailbox::new(limits));
    mailbox.open_channel(&Threads::of(0, LEAST_STACK)).unwrap();
    let receiver = mailbox.receiver();
    for _ in 0..20 {
        push(&mailbox, sized(&[600]));
    }
    // what the channel offers has left the mailbox at one moment or another
    let received: Vec<Message> =
        std::iter::from_fn(|| receiver.recv_timeout(std::time::Duration::from_millis(300)).ok())
            .collect();
    assert!(received.len() <= 3, "{} messages of 600 bytes", received.len());
    assert_eq!(received.len() as u64 + mailbox.dropped(), 20);
    mailbox.abandon();
    assert!(receiver.recv().is_err(), "the channel disconnects");
}

#[test]
fn what_was_taken_to_the_front_counts_until_it_is_received() {
    let limits = Queue::new().messages(16).overflow(Overflow::DropNewest);
    let mailbox = Mailbox::new(limits);
    let mut next = 0..;
    let mut received = Vec::new();
    for _ in 0..40 {
        let fill: Vec<u32> = next.by_ref().take(20).collect();
        let kept = 16 - mailbox.len();
        push(&mailbox, batch(fill.iter().map(u32::to_string)));
        assert!(mailbox.len() <= 16, "{} are in it", mailbox.len());
        // those of the front that were received are made up for at the next advance
        assert!(mailbox.len() > 16 - kept.min(4) - 4);
        for _ in 0..3 {
            received.push(recv(&mailbox, None).unwrap());
        }
    }
    let numbers: Vec<u32> =
        received.iter().map(|message| message.as_text().unwrap().parse().unwrap()).collect();
    assert!(numbers.is_sorted_by(|one, two| one < two), "{numbers:?}");
}

#[test]
fn a_reader_that_waits_is_let_go_and_told_what_becomes_of_the_rest() {
    for (room, left, dropped) in [(Room::None, 2, 1), (Room::Beyond, 3, 0)] {
        let (inbox, mailbox) = mailbox(Overflow::Wait);
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let reader = std::thread::spawn(move || {
            let room = || if over.load(SeqCst) { room } else { Room::Within };
            inbox.deliver(&mut numbers(0..3), room);
        });
        is_over.store(true, SeqCst);
        mailbox.wake_all();
        reader.join().unwrap();
        assert_eq!((mailbox.len(), mailbox.dropped()), (left, dropped));
    }
}

#[test]
fn a_reader_that_waits_goes_on_when_there_is_room() {
    for as_channel in [false, true] {
        let (inbox, mailbox) = mailbox(Overflow::Wait);
        if as_channel {
            mailbox.open_channel(&Threads::of(0, LEAST_STACK)).unwrap();
        }
        let reader =
            std::thread::spawn(move || inbox.deliver(&mut numbers(0..100), || Room::Within));
        let mut received = Vec::new();
        while received.len() < 100 {
            received.push(recv(&mailbox, None).unwrap());
        }
        reader.join().unwrap();
        let sent = (0..100).map(|number: u32| Message::from(number.to_string()));
        assert_eq!(received, sent.collect::<Vec<_>>());
        mailbox.abandon();
    }
}

#[test]
fn the_end_reaches_whoever_waits_behind_what_is_left() {
    for as_channel in [false, true] {
        let (inbox, mailbox) = mailbox(Overflow::Wait);
        inbox.deliver(&mut numbers(0..1), || Room::Within);
        if as_channel {
            mailbox.open_channel(&Threads::of(0, LEAST_STACK)).unwrap();
        }
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| (recv(&mailbox, None), recv(&mailbox, None)));
            mailbox.end();
            assert_eq!(waiting.join().unwrap(), (Ok("0".into()), Err(NoMessage::Ended)));
        });
    }
}

/// Whoever waits is woken by the last of a burst, and by many messages before that.
#[test]
fn a_receiver_that_waits_is_woken_once_for_a_burst() {
    let (inbox, mailbox) = mailbox_of(Queue::new().messages(100));
    let (tell, told) = std::sync::mpsc::channel();
    let receiver = std::thread::spawn(move || {
        while let Ok(message) = mailbox.recv(None, || false, crossbeam_channel::never) {
            tell.send(message.to_string()).unwrap();
        }
    });
    let patience = std::time::Duration::from_secs(20);
    let arrives = || told.recv_timeout(patience).unwrap();
    // it may not wait yet, and then needs no bell
    inbox.deliver(&mut numbers(0..1), || Room::Within);
    inbox.ring();
    assert_eq!(arrives(), "0");
    inbox.deliver(&mut numbers(1..2), || Room::Within);
    inbox.ring();
    assert_eq!(arrives(), "1");
    // a quarter of the room
    inbox.deliver(&mut numbers(2..30), || Room::Within);
    assert_eq!(arrives(), "2");
    let Inbox::Mailbox(mailbox) = &inbox else { unreachable!() };
    mailbox.end();
    receiver.join().unwrap();
}

/// One waits; another takes the first of many before they are rung for, and has its hands full with it.
#[test]
fn who_takes_many_to_the_front_wakes_another_that_waits() {
    let (inbox, mailbox) = mailbox_of(Queue::new().messages(100));
    let (tell, told) = std::sync::mpsc::channel();
    let waiting = Arc::clone(&mailbox);
    let receiver = std::thread::spawn(move || tell.send(recv(&waiting, None).unwrap().to_string()));
    while !mailbox.has_receiver_waiting() {
        std::thread::yield_now();
    }
    inbox.deliver(&mut numbers(0..10), || Room::Within);
    assert_eq!(recv(&mailbox, Some(Instant::now())).unwrap(), "0");
    inbox.ring();
    assert_eq!(told.recv_timeout(std::time::Duration::from_secs(20)).unwrap(), "1");
    receiver.join().unwrap().unwrap();
}

/// The same for a program that waits for the descriptor.
#[cfg(unix)]
#[test]
fn what_is_left_at_the_front_keeps_the_descriptor_readable() {
    let (inbox, mailbox) = mailbox_of(Queue::new().messages(100));
    let readable = mailbox.readable().unwrap();
    let is_readable = || {
        let mut waits = [rustix::event::PollFd::new(&readable, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut waits, Some(&rustix::time::Timespec::default())).unwrap() > 0
    };
    let take = || recv(&mailbox, Some(Instant::now()));
    assert_eq!(take(), Err(NoMessage::TimedOut));
    inbox.deliver(&mut numbers(0..2), || Room::Within);
    assert_eq!(take().unwrap(), "0");
    inbox.ring();
    assert!(is_readable());
    assert_eq!(take().unwrap(), "1");
    assert_eq!(take(), Err(NoMessage::TimedOut));
    assert!(!is_readable());
}

/// What the program has taken makes room at once, though it was taken from the front.
#[test]
fn what_was_received_is_no_longer_counted_where_messages_are_thrown_away() {
    for overflow in [Overflow::DropNewest, Overflow::Fail] {
        for limits in [Queue::new().messages(100), Queue::new().messages(1000).bytes(10_000)] {
            let (inbox, mailbox) = mailbox_of(limits.overflow(overflow));
            let deliver = |count| inbox.deliver(&mut sized(&vec![100; count]), || Room::Within);
            deliver(100);
            for _ in 0..24 {
                mailbox.next().or_else(|| recv(&mailbox, None).ok()).unwrap();
            }
            deliver(24);
            assert_eq!((mailbox.len(), mailbox.dropped()), (100, 0));
            deliver(1);
            assert_eq!((mailbox.len(), mailbox.dropped()), (100, 1));
        }
    }
}

/// A program that takes little and then nothing for long: what there is room for comes in.
#[test]
fn a_reader_that_waits_takes_the_room_that_there_is() {
    let limits = [Queue::new().messages(100), Queue::new().messages(1000).bytes(10_000)];
    // taken while the reader waits for half of the room, and after that
    for (limits, is_late) in limits.into_iter().flat_map(|limits| [(limits, false), (limits, true)])
    {
        let (inbox, mailbox) = mailbox_of(limits);
        inbox.deliver(&mut sized(&[100; 100]), || Room::Within);
        recv(&mailbox, None).unwrap();
        let reader = std::thread::spawn(move || {
            inbox.deliver(&mut sized(&[100; 6]), || Room::Within);
        });
        while !mailbox.has_reader_waiting(is_late) {
            std::thread::yield_now();
        }
        for _ in 0..5 {
            mailbox.next().expect("a part of them is at the front");
        }
        reader.join().unwrap();
        assert_eq!(mailbox.len(), 100);
    }
}

/// Where it is the memory of all that is short: the reader waits for as much as it needs, and does not look again and
/// again.
#[test]
fn a_reader_that_waits_for_memory_waits_until_something_is_received() {
    let budget = Budget::exact(10_000);
    let mailbox = Arc::new(Mailbox::new(Queue::new()).within(&budget));
    let inbox = Inbox::Mailbox(Arc::clone(&mailbox));
    inbox.deliver(&mut sized(&[3000; 3]), || Room::Within);
    assert_eq!(mailbox.len(), 3);
    let reader = std::thread::spawn(move || inbox.deliver(&mut sized(&[3000]), || Room::Within));
    let deadline = Instant::now() + std::time::Duration::from_secs(20);
    while !mailbox.has_reader_waiting(true) {
        assert!(Instant::now() < deadline, "it looks again and again");
        std::thread::yield_now();
    }
    recv(&mailbox, None).unwrap();
    reader.join().unwrap();
    assert_eq!(mailbox.len(), 3);
}

/// Whoever waits for room hears that the bounds do not count any more, at any time.
#[test]
fn a_reader_that_waits_is_told_of_the_end() {
    for is_late in [false, true] {
        let (inbox, mailbox) = mailbox(Overflow::Wait);
        let is_over = Arc::new(AtomicBool::new(false));
        let is_over_there = Arc::clone(&is_over);
        let room = move || if is_over_there.load(SeqCst) { Room::Beyond } else { Room::Within };
        let reader = std::thread::spawn(move || inbox.deliver(&mut numbers(0..5), room));
        while !mailbox.has_reader_waiting(is_late) {
            std::thread::yield_now();
        }
        is_over.store(true, SeqCst);
        mailbox.wake_all();
        reader.join().unwrap();
        assert_eq!(mailbox.len(), 5);
    }
}

#[test]
fn who_finds_nothing_has_not_received() {
    let mailbox = Mailbox::new(Queue::new());
    assert_eq!(mailbox.next(), None);
    assert!(!mailbox.is_received_here_alone());
    push(&mailbox, numbers(0..2));
    assert_eq!(recv(&mailbox, None).unwrap(), "0");
    assert!(mailbox.is_received_here_alone());
}

#[test]
fn an_idle_mailbox_holds_no_memory() {
    let limits = Queue::new().messages(100_000);
    let mailbox = Mailbox::new(limits);
    push(&mailbox, numbers(0..50_000));
    receive_all(&mailbox);
    mailbox.relax();
    assert_eq!(mailbox.capacity(), 0);
    // it was idle before all was received
    assert!(push(&mailbox, numbers(0..50_000)));
    mailbox.relax();
    assert!(mailbox.capacity() > 0);
    // and whoever brings a few more looks again, when it is idle again
    assert!(push(&mailbox, numbers(0..2)));
    mailbox.relax();
    receive_all(&mailbox);
    assert_eq!(mailbox.capacity(), 0);
    assert!(!push(&mailbox, numbers(0..2)));
}

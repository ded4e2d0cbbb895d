//! What a session keeps, from one link to the next and when it is over.

use std::collections::VecDeque;
use std::sync::Arc;

use super::*;
use crate::policy::{Queue, Undelivered};
use crate::sync::Mutex;

type Lost = Arc<Mutex<Vec<(String, Undelivered)>>>;

/// An outbox with room for so many messages, and what its program is told.
fn outbox(messages: usize, delivery: Delivery) -> (Outbox, Lost) {
    let lost = Lost::default();
    let tells = Arc::clone(&lost);
    let limits = Queue::new().messages(messages).overflow(Overflow::DropOldest);
    let outbox = Outbox::new(limits, usize::MAX, None, delivery, true);
    let tell: OnDropped = Arc::new(move |message, why| {
        tells.lock().push((message.as_text().unwrap_or("?").to_owned(), why));
    });
    let outbox = outbox.telling(Some(tell));
    outbox.begin_session(Unconfirmed { messages: 10, bytes: 1000 }, Vec::new());
    outbox.link_started(1);
    (outbox, lost)
}

fn push(outbox: &Outbox, text: &str, this_link: bool) {
    let terms = Terms { this_link, ..Terms::default() };
    outbox.push(text.into(), terms, WaitFor::Nothing).unwrap();
}

/// Takes everything, and gives numbers from this one on to what has none yet.
fn encode(outbox: &Outbox, mut next: u64) -> VecDeque<Entry> {
    let mut batch = VecDeque::new();
    outbox.take(&mut batch, usize::MAX);
    for entry in batch.iter_mut().filter(|entry| entry.position == 0 && !entry.is_outside()) {
        entry.position = next;
        next += 1;
    }
    batch
}

fn numbered(batch: &VecDeque<Entry>) -> Vec<(u64, &str)> {
    batch.iter().map(|entry| (entry.position, entry.message.as_text().unwrap_or("?"))).collect()
}

#[test]
fn a_beat_that_was_cut_off_takes_no_message_along() {
    let (outbox, lost) = outbox(10, Delivery::AtMostOnce);
    push(&outbox, "one", false);
    push(&outbox, "beat", true);
    push(&outbox, "two", false);
    // all of them are encoded when the link dies, and none has gone out whole
    outbox.restore_begun(&mut encode(&outbox, 1));
    outbox.detached();
    assert_eq!(*lost.lock(), [("beat".into(), Undelivered::LinkEnded)]);
    assert_eq!(outbox.resumed(0, 0), 2);
    outbox.link_started(1);
    assert_eq!(numbered(&encode(&outbox, 3)), [(1, "one"), (2, "two")]);
}

#[test]
fn what_was_in_doubt_stays_so_in_the_next_session() {
    let (outbox, lost) = outbox(1, Delivery::AtLeastOnce);
    push(&outbox, "one", false);
    outbox.written(encode(&outbox, 1).into_iter());
    outbox.detached();
    assert_eq!(outbox.end_session(false), 1);
    // in this one it is known what the peer has, but not what it had from the one before
    outbox.begin_session(Unconfirmed { messages: 10, bytes: 1000 }, Vec::new());
    push(&outbox, "two", false);
    assert_eq!(*lost.lock(), [("one".into(), Undelivered::Lost)]);
}

#[test]
fn what_was_sent_again_is_in_no_doubt_while_the_peer_is_known_to_lack_it() {
    let (outbox, lost) = outbox(1, Delivery::AtLeastOnce);
    push(&outbox, "one", false);
    outbox.written(encode(&outbox, 1).into_iter());
    outbox.detached();
    assert_eq!(outbox.resumed(0, 0), 1);
    assert_eq!(outbox.end_session(false), 0);
    push(&outbox, "two", false);
    assert_eq!(*lost.lock(), [("one".into(), Undelivered::Dropped)]);
}

#[test]
fn what_is_sent_again_takes_no_room_from_what_is_new() {
    let (outbox, lost) = outbox(4, Delivery::AtMostOnce);
    for text in ["1", "2", "3", "4"] {
        push(&outbox, text, false);
    }
    outbox.written(encode(&outbox, 1).into_iter());
    for text in ["5", "6", "7", "8"] {
        push(&outbox, text, false);
    }
    outbox.detached();
    assert_eq!(outbox.resumed(0, 0), 4);
    outbox.link_started(1);
    push(&outbox, "9", false);
    assert_eq!(*lost.lock(), [("5".into(), Undelivered::Dropped)], "the oldest that is new");
    let batch = encode(&outbox, 5);
    assert_eq!(numbered(&batch)[..5], [(1, "1"), (2, "2"), (3, "3"), (4, "4"), (5, "6")]);
}

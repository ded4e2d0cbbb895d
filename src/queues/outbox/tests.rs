use super::*;
use crate::error::Error;
use crate::policy::Queue;
use crate::policy::Undelivered;
use crate::queues::question::{Lasts, Unanswered};
use crate::queues::receipt::Receipt;
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

fn outbox(messages: usize, overflow: Overflow) -> Outbox {
    let limits = Queue::new().messages(messages).overflow(overflow);
    Outbox::new(limits, usize::MAX, None, Delivery::AtMostOnce, true)
}

fn push(outbox: &Outbox, text: &str, wait: WaitFor) -> Result<(), Refused> {
    outbox.push(text.into(), Terms::default(), wait).map_err(|(_, refused)| refused)
}

fn fill(outbox: &Outbox, numbers: std::ops::Range<u32>) {
    for number in numbers {
        push(outbox, &number.to_string(), WaitFor::Nothing).unwrap();
    }
}

fn texts(messages: Vec<Message>) -> Vec<String> {
    messages.iter().map(|message| message.as_text().unwrap_or("?").to_owned()).collect()
}

fn depth(outbox: &Outbox) -> (usize, usize) {
    let tally = outbox.tally();
    (tally.waiting, tally.waiting_bytes)
}

fn counts(outbox: &Outbox) -> [u64; 3] {
    let tally = outbox.tally();
    [tally.dropped, tally.expired, tally.resent]
}

/// Takes one message and writes it.
fn write_one(outbox: &Outbox) -> Option<Message> {
    let mut batch = VecDeque::new();
    outbox.take(&mut batch, 1);
    let message = batch.front().map(|entry| entry.message.clone());
    outbox.written(batch.into_iter());
    message
}

#[test]
fn each_policy_at_the_bound() {
    let full = outbox(2, Overflow::Fail);
    fill(&full, 0..2);
    assert_eq!(push(&full, "2", WaitFor::Ever), Err(Refused::Full));
    assert_eq!(texts(full.drain()), ["0", "1"]);

    let oldest = outbox(2, Overflow::DropOldest);
    fill(&oldest, 0..5);
    assert_eq!((counts(&oldest)[0], texts(oldest.drain())), (3, vec!["3".into(), "4".into()]));

    let newest = outbox(2, Overflow::DropNewest);
    fill(&newest, 0..5);
    assert_eq!((counts(&newest)[0], texts(newest.drain())), (3, vec!["0".into(), "1".into()]));
}

#[test]
fn bytes_bound_it_too() {
    let limits = Queue::new().bytes(10).overflow(Overflow::Fail);
    let small = Outbox::new(limits, 100, None, Delivery::AtMostOnce, true);
    let huge = push(&small, "12345678901", WaitFor::Nothing);
    assert_eq!(huge, Err(Refused::TooLarge { size: 11, limit: 10 }));
    push(&small, "123456", WaitFor::Nothing).unwrap();
    assert_eq!(push(&small, "12345", WaitFor::Nothing), Err(Refused::Full));
    push(&small, "1234", WaitFor::Nothing).unwrap();
    assert_eq!(depth(&small), (2, 10));
}

#[test]
fn waiting_ends_with_room_with_the_deadline_and_with_the_end() {
    let outbox = Arc::new(outbox(1, Overflow::Wait));
    fill(&outbox, 0..1);
    let soon = WaitFor::timeout(Duration::from_millis(10));
    assert_eq!(push(&outbox, "late", soon), Err(Refused::TimedOut));
    let push_elsewhere = |text: &'static str| {
        let outbox = Arc::clone(&outbox);
        std::thread::spawn(move || push(&outbox, text, WaitFor::Ever))
    };
    let waiter = push_elsewhere("next");
    write_one(&outbox);
    assert_eq!(waiter.join().unwrap(), Ok(()));
    let waiter = push_elsewhere("never");
    outbox.shut();
    assert_eq!(waiter.join().unwrap(), Err(Refused::Shut));
    assert_eq!(texts(outbox.drain()), ["next"]);
}

#[test]
fn what_has_expired_is_in_nobodys_way() {
    let push = |outbox: &Outbox, text: &str, ttl: Option<u64>, wait| {
        let expires = ttl.map(|millis| Instant::now() + Duration::from_millis(millis));
        outbox.push(text.into(), Terms { expires, ..Terms::default() }, wait)
    };
    for overflow in [Overflow::Fail, Overflow::DropOldest, Overflow::DropNewest] {
        let outbox = outbox(3, overflow);
        push(&outbox, "lasting", None, WaitFor::Nothing).unwrap();
        push(&outbox, "stale", Some(0), WaitFor::Nothing).unwrap();
        push(&outbox, "lasting too", Some(1 << 30), WaitFor::Nothing).unwrap();
        push(&outbox, "fresh", Some(1 << 30), WaitFor::Nothing).unwrap();
        assert_eq!(counts(&outbox), [0, 1, 0], "{overflow:?}");
        assert_eq!(depth(&outbox), (3, "lastinglasting toofresh".len()));
        assert_eq!(texts(outbox.drain()), ["lasting", "lasting too", "fresh"]);
    }
    // nobody has to say so to who waits already
    let outbox = outbox(1, Overflow::Wait);
    push(&outbox, "soon stale", Some(20), WaitFor::Nothing).unwrap();
    push(&outbox, "fresh", None, WaitFor::Ever).unwrap();
    assert_eq!(texts(outbox.drain()), ["fresh"]);
    // what a link gives back expires as well
    push(&outbox, "soon stale", Some(20), WaitFor::Nothing).unwrap();
    let mut batch = VecDeque::new();
    outbox.take(&mut batch, 1);
    outbox.restore(&mut batch);
    push(&outbox, "fresh", None, WaitFor::Ever).unwrap();
    assert_eq!(texts(outbox.drain()), ["fresh"]);
}

#[test]
fn nobody_waits_for_a_client_that_gave_up() {
    let outbox = outbox(1, Overflow::Wait);
    outbox.set_given_up(Some(Arc::new(crate::failure::Failure::ClosedAbnormally)));
    fill(&outbox, 0..1);
    assert_eq!(push(&outbox, "1", WaitFor::Ever), Err(Refused::NobodyDrains));
}

#[test]
fn every_receipt_learns_what_became_of_its_message() {
    let outbox = outbox(3, Overflow::DropOldest);
    let send = |expires: Option<Instant>| {
        let receipt = Receipt::new(1);
        let terms = Terms { receipt: Some(receipt.clone()), expires, ..Terms::default() };
        outbox.push("x".into(), terms, WaitFor::Nothing).unwrap();
        receipt
    };
    let outcome = |receipt: &Receipt| match receipt.wait(Duration::ZERO) {
        Ok(()) => "confirmed".into(),
        Err(error) => error.to_string(),
    };
    let confirmed = send(None);
    write_one(&outbox);
    outbox.confirmed(1);
    let lost = send(None);
    write_one(&outbox);
    assert_eq!(outcome(&lost), "timed out");
    outbox.link_buried();
    let expired = send(Some(Instant::now()));
    assert!(write_one(&outbox).is_none());
    let dropped = send(None);
    let closed = [send(None), send(None), send(None)];
    outbox.shut();
    assert_eq!(outbox.drain().len(), 3);
    assert!(confirmed.is_confirmed() && !lost.is_confirmed());
    assert_eq!(outcome(&confirmed), "confirmed");
    for (receipt, undelivered) in [
        (&lost, Undelivered::Lost),
        (&expired, Undelivered::Expired),
        (&dropped, Undelivered::Dropped),
        (&closed[0], Undelivered::Closed),
    ] {
        let error = receipt.wait(Duration::ZERO).unwrap_err();
        assert!(matches!(error, Error::Undelivered(why) if why == undelivered), "{error:?}");
    }
    assert_eq!(counts(&outbox), [1, 1, 0]);
}

#[test]
fn what_a_dead_link_had_written_is_in_doubt_whatever_takes_it_out() {
    let limits = Queue::new().messages(2).overflow(Overflow::DropOldest);
    let outbox = Outbox::new(limits, usize::MAX, None, Delivery::AtLeastOnce, true);
    let send = |expires: Option<Instant>| {
        let receipt = Receipt::new(1);
        let terms = Terms { receipt: Some(receipt.clone()), expires, ..Terms::default() };
        outbox.push("x".into(), terms, WaitFor::Nothing).unwrap();
        assert!(write_one(&outbox).is_some());
        receipt
    };
    let soon = Instant::now() + Duration::from_millis(50);
    let receipts = [send(None), send(Some(soon))];
    outbox.link_buried();
    // the first has to make room, and the time of the second ends
    push(&outbox, "y", WaitFor::Nothing).unwrap();
    while Instant::now() < soon {
        std::thread::park_timeout(soon.saturating_duration_since(Instant::now()));
    }
    assert_eq!(write_one(&outbox).unwrap().as_text(), Some("y"));
    for receipt in receipts {
        let error = receipt.wait(Duration::ZERO).unwrap_err();
        assert!(matches!(error, Error::Undelivered(Undelivered::Lost)), "{error:?}");
    }
    // dropped, not expired
    assert_eq!(counts(&outbox), [2, 0, 0]);
}

#[test]
fn flush_counts_what_is_not_confirmed() {
    let outbox = outbox(10, Overflow::Wait);
    let now = || WaitFor::Until(Instant::now());
    assert_eq!(outbox.flush(now()), Ok(()));
    fill(&outbox, 0..3);
    assert_eq!(outbox.flush(now()), Err(Refused::Unconfirmed(3)));
    write_one(&outbox);
    write_one(&outbox);
    outbox.confirmed(1);
    assert_eq!(outbox.flush(now()), Err(Refused::Unconfirmed(2)));
    write_one(&outbox);
    outbox.confirmed(3);
    assert_eq!(outbox.flush(now()), Ok(()));
}

proptest! {
    /// Whatever dies in between: without confirmations every message is written at most
    /// once, and in order; with them, first arrivals are in order and nothing is missing.
    #[test]
    fn order_survives_any_row_of_links(
        delivery in prop::sample::select(vec![Delivery::AtMostOnce, Delivery::AtLeastOnce]),
        steps in prop::collection::vec((0..6_usize, 0..6_usize, 0..200_usize), 1..60),
    ) {
        let limits = Queue::new().messages(10_000).overflow(Overflow::Fail);
        let outbox = Outbox::new(limits, usize::MAX, None, delivery, true);
        let (mut pushed, mut arrived) = (0_u32, Vec::new());
        for (written, confirmed, budget) in steps {
            fill(&outbox, pushed..pushed + 3);
            pushed += 3;
            let mut batch = VecDeque::new();
            outbox.take(&mut batch, budget);
            let whole: Vec<Entry> = batch.drain(..written.min(batch.len())).collect();
            arrived.extend(whole.iter().map(|entry| entry.message.clone()));
            let last = whole.get(confirmed.min(whole.len()).wrapping_sub(1));
            let number = last.map(|entry| entry.number);
            outbox.written(whole.into_iter());
            if let Some(number) = number {
                outbox.confirmed(number);
            }
            outbox.restore(&mut batch);
            outbox.link_buried();
        }
        arrived.extend(outbox.drain());
        let numbers: Vec<u32> = texts(arrived).iter().map(|text| text.parse().unwrap()).collect();
        let mut firsts = Vec::new();
        for number in &numbers {
            if !firsts.contains(number) {
                firsts.push(*number);
            }
        }
        prop_assert_eq!(&firsts, &(0..pushed).collect::<Vec<_>>());
        if delivery == Delivery::AtMostOnce {
            prop_assert_eq!(numbers, firsts);
        }
        prop_assert_eq!(depth(&outbox), (0, 0));
    }
}

#[test]
fn who_flushes_is_woken_by_a_drop() {
    let outbox = Arc::new(outbox(2, Overflow::DropOldest));
    fill(&outbox, 0..2);
    let flushing = {
        let outbox = Arc::clone(&outbox);
        std::thread::spawn(move || outbox.flush(WaitFor::Ever))
    };
    while outbox.lock().eager == 0 {
        std::thread::yield_now();
    }
    fill(&outbox, 2..4);
    assert_eq!(flushing.join().unwrap(), Err(Refused::Unconfirmed(2)));
}

#[test]
fn receipts_and_gaps_of_a_peer_that_confirms_nothing_are_bounded() {
    let outbox = outbox(2, Overflow::DropOldest);
    let receipt = || Terms { receipt: Some(Receipt::new(1)), ..Terms::default() };
    let first = Receipt::new(1);
    let terms = Terms { receipt: Some(first.clone()), ..Terms::default() };
    outbox.push("x".into(), terms, WaitFor::Nothing).unwrap();
    let mut batch = VecDeque::new();
    for number in 0..70_000 {
        outbox.take(&mut batch, 1);
        outbox.written(batch.drain(..));
        for _ in 0..=number % 2 {
            let pushed = outbox.push("x".into(), receipt(), WaitFor::Nothing);
            if let Err((message, refused)) = pushed {
                assert_eq!(refused, Refused::Full);
                outbox.push(message, Terms::default(), WaitFor::Nothing).unwrap();
            }
        }
    }
    assert_eq!(outbox.lock().backlog.confirmations().receipts(), 64 * 1024);
    assert!(matches!(first.wait(Duration::ZERO), Err(Error::Timeout)));
}

#[test]
fn a_flush_is_awaited_before_anything_is_written() {
    let outbox = outbox(1, Overflow::Wait);
    fill(&outbox, 0..1);
    assert!(!outbox.is_confirmation_awaited());
    std::thread::scope(|scope| {
        let flush = scope.spawn(|| outbox.flush(WaitFor::Ever));
        while !outbox.is_confirmation_awaited() {
            std::thread::yield_now();
        }
        assert_eq!(outbox.wants_confirmation(), (false, false));
        outbox.shut();
        assert_eq!(flush.join().unwrap(), Err(Refused::Unconfirmed(1)));
    });
    assert!(!outbox.is_confirmation_awaited());
}

#[test]
fn what_is_withdrawn_is_not_written_wherever_it_is() {
    let limits = Queue::new().messages(4);
    let outbox = Outbox::new(limits, usize::MAX, None, Delivery::AtLeastOnce, true);
    let ask = |text: &str| {
        let question = Arc::new(Question::new(Lasts::UntilAnswered));
        let terms = Terms { question: Some(Arc::clone(&question)), ..Terms::default() };
        outbox.push(text.into(), terms, WaitFor::Nothing).unwrap();
        question
    };
    let give_up = |question: &Question| assert!(question.fail(Unanswered::NotConnected));
    let [kept, taken, marked, queued] = ["kept", "taken", "marked", "queued"].map(ask);
    assert!(write_one(&outbox).is_some());
    let mut batch = VecDeque::new();
    outbox.take(&mut batch, 1);
    [&queued, &kept, &taken, &marked].into_iter().for_each(|question| give_up(question));
    outbox.withdraw(&queued);
    // makes room at once
    push(&outbox, "room", WaitFor::Nothing).unwrap();
    outbox.withdraw(&kept);
    outbox.withdraw(&taken);
    outbox.restore(&mut batch);
    outbox.link_buried();
    assert_eq!(write_one(&outbox).unwrap().as_text(), Some("room"));
    let tally = outbox.tally();
    assert_eq!((tally.dropped, tally.waiting, tally.waiting_bytes), (4, 1, 4));
    // before it is accepted, too
    let early = Arc::new(Question::new(Lasts::UntilAnswered));
    give_up(&early);
    outbox.withdraw(&early);
    let terms = Terms { question: Some(early), ..Terms::default() };
    outbox.push("early".into(), terms, WaitFor::Nothing).unwrap();
    assert!(write_one(&outbox).is_none());
}

#[test]
fn what_is_withdrawn_is_not_handed_back() {
    for clears in [false, true] {
        let outbox = outbox(4, Overflow::Fail);
        let question = Arc::new(Question::new(Lasts::UntilAnswered));
        let terms = Terms { question: Some(Arc::clone(&question)), ..Terms::default() };
        outbox.push("a call".into(), terms, WaitFor::Nothing).unwrap();
        fill(&outbox, 0..1);
        question.fail(Unanswered::NotConnected);
        let left = if clears { outbox.clear() } else { outbox.drain() };
        assert_eq!(texts(left), ["0"]);
        assert_eq!(counts(&outbox)[0], 1);
    }
}

#[test]
fn what_has_expired_is_told_before_a_sender_waits() {
    let (told, telling) = std::sync::mpsc::channel();
    let on_dropped: OnDropped = Arc::new(move |message, why| told.send((message, why)).unwrap());
    let outbox = Arc::new(outbox(2, Overflow::Wait).telling(Some(on_dropped)));
    fill(&outbox, 0..1);
    let expires = Some(Instant::now());
    outbox.push("stale".into(), Terms { expires, ..Terms::default() }, WaitFor::Nothing).unwrap();
    let size = "x".repeat(outbox.limits.bytes);
    let waiter = {
        let outbox = Arc::clone(&outbox);
        // there is room for one more, but not for one so large
        std::thread::spawn(move || push(&outbox, &size, WaitFor::Ever))
    };
    let told = telling.recv_timeout(Duration::from_secs(30)).unwrap();
    assert_eq!(told, ("stale".into(), Undelivered::Expired));
    outbox.shut();
    assert_eq!(waiter.join().unwrap(), Err(Refused::Shut));
}

#[test]
#[cfg(not(shuttle))]
fn a_message_sent_directly_takes_at_most_four_locks() {
    let server = crate::Server::bind("127.0.0.1:0", |session| {
        for message in &session {
            let _ = session.send(message);
        }
    });
    let server = server.unwrap();
    let client = crate::Client::connect(format!("ws://{}", server.local_addr())).unwrap();
    let mut most = 0;
    for _ in 0..200 {
        let before = crate::sync::ASKED.get();
        client.send("x").unwrap();
        most = most.max(crate::sync::ASKED.get() - before);
        client.recv().unwrap();
    }
    // the outbox three times, and once what writes
    assert_eq!(most, 4);
}

#[test]
fn what_was_for_a_link_only_and_was_cut_off_is_not_in_the_way_of_what_is_sent_again() {
    let outbox = outbox(10, Overflow::Fail);
    outbox.begin_session(Unconfirmed { messages: 10, bytes: 1000 }, Vec::new());
    outbox.link_started(1);
    push(&outbox, "1", WaitFor::Nothing).unwrap();
    let only = Terms { this_link: true, ..Terms::default() };
    outbox.push("only".into(), only, WaitFor::Nothing).unwrap();
    push(&outbox, "2", WaitFor::Nothing).unwrap();
    // all of it is encoded, and nothing has come out whole
    let mut begun = VecDeque::new();
    outbox.take(&mut begun, 1000);
    for (entry, position) in begun.iter_mut().zip([1, 0, 2]) {
        entry.position = position;
    }
    outbox.restore_begun(&mut begun);
    outbox.link_lost();
    outbox.detached();
    assert_eq!(outbox.resumed(0, 0), 2);
    let mut again = VecDeque::new();
    outbox.take(&mut again, 1000);
    let again: Vec<_> = again.iter().map(|entry| (entry.position, &entry.message)).collect();
    assert_eq!(again, [(1, &"1".into()), (2, &"2".into())]);
    assert_eq!(outbox.tally().dropped, 1);
}

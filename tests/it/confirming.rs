//! Where the program confirms: room, time, and questions whose answers confirm them.

use std::thread;
use std::time::Instant;

use crate::support::*;
use crossbeam_channel::unbounded;
use everlink::config::{Backoff, Delivery, Queue, Resume, SendOptions, Timeouts};
use everlink::failure::Undelivered;
use everlink::{Calls, CallsInOrder, Client, ClientBuilder, Error, Server};

/// To a listener, with an outbox of so many messages.
fn confirming(listener: &Listener, messages: usize) -> ClientBuilder {
    let builder = listener.client().delivery(Delivery::UntilConfirmed);
    builder.outbox(Queue::new().messages(messages)).backoff(Backoff::fixed(ms(1)))
}

fn send(client: &Client, numbers: std::ops::Range<u64>) {
    for number in numbers {
        client.send_with(number.to_string(), SendOptions::new().key(number)).unwrap();
    }
}

fn expect(peer: &mut Peer, numbers: std::ops::Range<u64>) {
    for number in numbers {
        assert_eq!(next_text(peer), number.to_string());
    }
}

/// With others a sender is woken for a quarter of the outbox; here nothing says that there will be one.
#[test]
fn who_waits_for_room_takes_the_first_there_is() {
    for up_to in [false, true] {
        let listener = Listener::new();
        let client = confirming(&listener, 8).start().unwrap();
        let mut peer = listener.accept();
        send(&client, 1..9);
        expect(&mut peer, 1..9);
        client.wait_sent(PATIENCE).unwrap();
        thread::scope(|scope| {
            let sending = scope.spawn(|| {
                let options = SendOptions::new().timeout(PATIENCE);
                client.send_with("9", options)
            });
            // it is asleep by then, as a rule; awake it would take the room without being woken
            thread::sleep(ms(50));
            match up_to {
                true => client.sender().confirm_up_to(1),
                false => assert!(client.sender().confirm(1)),
            }
            sending.join().unwrap().unwrap();
        });
        expect(&mut peer, 9..10);
    }
}

#[test]
fn nothing_is_confirmed_that_was_never_written() {
    let listener = Listener::new();
    let client = confirming(&listener, 100).start().unwrap();
    // nobody answers the opening handshake yet
    let receipts: Vec<_> = (1..4).map(|n| client.send_confirmed(n.to_string()).unwrap()).collect();
    client.sender().confirm_up_to(u64::MAX);
    assert!(!client.sender().confirm(1));
    assert_eq!(client.sender().confirmed_up_to(), 0);
    let mut peer = listener.accept();
    expect(&mut peer, 1..4);
    client.wait_sent(PATIENCE).unwrap();
    assert_eq!(client.stats().outbox_messages, 3);
    reset(peer);
    let mut peer = listener.accept();
    expect(&mut peer, 1..4);
    client.wait_sent(PATIENCE).unwrap();
    client.sender().confirm_up_to(3);
    for receipt in receipts {
        receipt.wait(PATIENCE).unwrap();
    }
    assert_eq!((client.sender().confirmed_up_to(), client.stats().outbox_messages), (3, 0));
}

/// The writer holds many, and the peer reads nothing.
#[test]
fn an_unknown_key_is_no_message_that_the_writer_holds() {
    let listener = Listener::new();
    let client = confirming(&listener, 1000).start().unwrap();
    let peer = listener.accept();
    for number in 0..60 {
        client.send_with(vec![7; 300_000], SendOptions::new().key(number)).unwrap();
    }
    for key in 100..200 {
        assert!(!client.sender().confirm(key), "{key}");
    }
    drop(peer);
}

/// Long before it is given up, and while nothing is written that would show it.
#[test]
fn what_expires_is_told_to_whoever_waits_for_it() {
    fn has_expired<T: std::fmt::Debug>(result: Result<T, Error>) {
        let is_it = matches!(result, Err(Error::Undelivered(Undelivered::Expired)));
        assert!(is_it, "{result:?}");
    }
    let (told, dropped) = unbounded();
    let client = Client::builder("ws://127.0.0.1:1")
        .backoff(Backoff::fixed(PATIENCE))
        .on_dropped(move |message, why| told.send((message.to_string(), why)).unwrap())
        .start()
        .unwrap();
    let brief = || SendOptions::new().ttl(ms(60));
    let begun = Instant::now();
    let calls: Calls<u64, String> = Calls::new();
    has_expired(calls.ask_with(client.sender(), 1, "1", brief()).unwrap().wait());
    let in_order: CallsInOrder<String> = CallsInOrder::new();
    has_expired(in_order.ask_with(client.sender(), "2", brief()).unwrap().wait());
    let receipt = client.sender().send_confirmed_with("3", brief()).unwrap();
    has_expired(receipt.wait(PATIENCE));
    client.send_with("4", brief()).unwrap();
    let flushed = client.flush(PATIENCE);
    assert!(matches!(flushed, Err(Error::Unconfirmed { count: 1, .. })), "{flushed:?}");
    client.send_with("5", brief()).unwrap();
    client.wait_sent(PATIENCE).unwrap();
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
    client.send_with("6", SendOptions::new().ttl(ms(1))).unwrap();
    // its time passes: nobody is told before somebody looks
    thread::sleep(ms(2));
    assert!(client.close().undelivered.is_empty());
    let told: Vec<_> = dropped.try_iter().collect();
    let expected = ["1", "2", "3", "4", "5", "6"].map(|it| (it.to_owned(), Undelivered::Expired));
    assert_eq!(told, expected);
}

#[test]
fn a_question_takes_no_room_once_it_is_answered_or_given_up() {
    let listener = Listener::new();
    let (told, dropped) = unbounded();
    let client = confirming(&listener, 4)
        .on_dropped(move |message, why| told.send((message.to_string(), why)).unwrap())
        .start()
        .unwrap();
    let mut peer = listener.accept();
    let calls: Calls<u64, String> = Calls::new();
    for key in 1..5 {
        let answer = calls.call(client.sender(), key, key.to_string(), ms(20));
        assert!(matches!(answer, Err(Error::Timeout)), "{answer:?}");
    }
    expect(&mut peer, 1..5);
    for key in 5..20 {
        let asked = calls.ask(client.sender(), key, key.to_string()).unwrap();
        expect(&mut peer, key..key + 1);
        assert!(calls.complete(&key, "yes".into()).is_none());
        asked.wait().unwrap();
    }
    client.flush(PATIENCE).unwrap();
    assert_eq!((client.stats().outbox_messages, client.sender().confirmed_up_to()), (0, 19));
    // the peer may have those that were given up, and had the others
    let told: Vec<_> = dropped.try_iter().collect();
    assert_eq!(told, ["1", "2", "3", "4"].map(|it| (it.to_owned(), Undelivered::Lost)));
    reset(peer);
    let mut peer = listener.accept();
    send(&client, 20..21);
    expect(&mut peer, 20..21);
}

#[test]
fn a_question_that_ends_unwritten_makes_room_however_it_ends() {
    let client =
        Client::builder("ws://127.0.0.1:1").outbox(Queue::new().messages(1)).start().unwrap();
    let calls: Calls<u64, String> = Calls::new();
    for how in 0..3 {
        let asked = calls.ask(client.sender(), 1, "?").unwrap();
        match how {
            0 => calls.fail_all(),
            1 => assert!(calls.complete(&1, "yes".into()).is_none()),
            _ => assert!(calls.end(&1)),
        }
        drop(asked);
        client.try_send("there is room").unwrap_or_else(|error| panic!("{how}: {error}"));
        assert_eq!(client.clear_outbox(), ["there is room"]);
    }
}

#[test]
fn poison_in_between_does_not_hold_up_what_is_confirmed() {
    let listener = Listener::new();
    let client = confirming(&listener, 100).max_deliveries(1).start().unwrap();
    let mut peer = listener.accept();
    send(&client, 1..5);
    expect(&mut peer, 1..5);
    client.wait_sent(PATIENCE).unwrap();
    for key in [1, 3, 4] {
        assert!(client.sender().confirm(key));
    }
    assert_eq!(client.sender().confirmed_up_to(), 1);
    reset(peer);
    let _peer = listener.accept();
    client.wait_connected(PATIENCE).unwrap();
    assert_eq!((client.stats().outbox_messages, client.sender().confirmed_up_to()), (0, 4));
}

#[test]
fn what_cannot_be_sent_again_as_the_program_makes_it_is_handed_back() {
    let listener = Listener::new();
    let (told, dropped) = unbounded();
    let client = confirming(&listener, 100)
        .limits(everlink::config::Limits::new().message(10))
        .on_resend(|message| match message.as_text() {
            Some("1") => "longer than what may be sent".into(),
            Some("2") => panic!("on purpose"),
            _ => message.clone(),
        })
        .on_dropped(move |message, why| told.send((message.to_string(), why)).unwrap())
        .start()
        .unwrap();
    let mut peer = listener.accept();
    send(&client, 1..4);
    expect(&mut peer, 1..4);
    client.wait_sent(PATIENCE).unwrap();
    reset(peer);
    // the panic ends one link
    drop(listener.accept());
    let mut peer = listener.accept();
    expect(&mut peer, 3..4);
    // they were written once
    let told: Vec<_> = dropped.iter().take(2).collect();
    assert_eq!(told, ["1", "2"].map(|it| (it.to_owned(), Undelivered::Lost)));
}

#[test]
fn in_a_session_no_question_in_order_is_for_one_link_only() {
    let server = Server::builder().resume(Resume::within(PATIENCE));
    let server = server.bind("127.0.0.1:0", echo_all).unwrap();
    let calls: CallsInOrder<String> = CallsInOrder::new();
    let answers = calls.clone();
    let client = Client::builder(format!("ws://{}", server.local_addr()))
        .resume(Resume::new())
        .on_message(move |_, message| drop(answers.complete(message.link(), message.to_string())))
        .connect()
        .unwrap();
    let now = SendOptions::new().this_link_only();
    let refused = calls.ask_with(client.sender(), "1?", now).unwrap_err();
    assert!(matches!(refused.error, Error::Unsendable { .. }), "{refused:?}");
    assert_eq!(calls.call(client.sender(), "2?", PATIENCE).unwrap(), "2?");
}

#[test]
fn receipts_without_end_are_refused_and_none_is_called_lost() {
    let client = Client::builder("ws://127.0.0.1:1")
        .delivery(Delivery::AtLeastOnce)
        .outbox(Queue::new().messages(100_000))
        .timeouts(Timeouts::new().close(ms(1)))
        .start()
        .unwrap();
    let first = client.send_confirmed("x").unwrap();
    let mut count = 1;
    let error = loop {
        match client.send_confirmed("x") {
            Ok(_) => count += 1,
            Err(error) => break error.error,
        }
    };
    assert!(matches!(error, Error::Full), "{error:?}");
    assert_eq!(count, 65_536);
    client.try_send("without one").unwrap();
    assert!(matches!(first.wait(ms(1)), Err(Error::Timeout)));
}

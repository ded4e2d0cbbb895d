//! A message that the peer finds too large (close code 1009): the sender is told which, and it is
//! neither tried again and again nor given up for.

use std::sync::Arc;

use crate::support::*;
use everlink::config::{Delivery, Limits};
use everlink::failure::{Decision, Undelivered};
use everlink::{Client, Error, Event, Failure, Server, State};

const LIMIT: usize = 64 << 10;

/// A server that takes messages up to a limit, and hands on how long each is.
fn server() -> (Server, crossbeam_channel::Receiver<usize>) {
    let (sender, sizes) = crossbeam_channel::unbounded();
    let server = Server::builder()
        .limits(Limits::new().message(LIMIT))
        .bind("127.0.0.1:0", move |session| {
            for message in session.iter() {
                sender.send(message.len()).unwrap();
            }
        })
        .unwrap();
    (server, sizes)
}

fn told(watch: &Watch) -> (usize, Option<usize>) {
    watch.until(|event| match event {
        Event::MessageTooLarge { size, message, .. } => {
            Some((*size, message.as_ref().map(|message| message.len())))
        }
        _ => None,
    })
}

#[test]
fn the_sender_is_told_which_message_was_too_large_and_the_others_arrive() {
    for (delivery, size) in [
        (Delivery::AtLeastOnce, LIMIT + 1),
        (Delivery::AtLeastOnce, 20 << 20),
        (Delivery::AtMostOnce, LIMIT + 1),
        (Delivery::AtMostOnce, 20 << 20),
    ] {
        let (server, sizes) = server();
        let (builder, watch) = watch(
            Client::builder(format!("ws://{}", server.local_addr()))
                .backoff(everlink::config::Backoff::fixed(ms(1)))
                .delivery(delivery),
        );
        let client = builder.start().unwrap();
        client.send("first").unwrap();
        client.flush(PATIENCE).unwrap();
        let receipt = client.send_confirmed(vec![0; size]).unwrap();
        let (too_large, message) = told(&watch);
        assert_eq!(too_large, size, "{delivery:?}");
        assert!(message.is_none_or(|message| message == size));
        if delivery == Delivery::AtLeastOnce {
            assert!(message.is_some(), "it is handed back");
        }
        let outcome = receipt.wait(PATIENCE);
        assert!(matches!(outcome, Err(Error::Undelivered(Undelivered::TooLarge))), "{outcome:?}");
        // and life goes on
        watch.connected();
        client.send("second").unwrap();
        client.flush(PATIENCE).unwrap();
        assert_eq!(client.state(), State::Connected);
        let arrived = [(); 2].map(|()| sizes.recv_timeout(PATIENCE).unwrap());
        assert_eq!(arrived, [5, 6], "{delivery:?}, {size}");
        let again =
            watch.rest().iter().filter(|event| matches!(event, Event::GaveUp { .. })).count();
        assert_eq!((again, client.stats().connects), (0, 2));
        let stats = client.stats();
        assert_eq!(
            stats.accepted,
            stats.passed_on + stats.outbox_messages as u64 + stats.outbox_dropped,
            "{stats:#?}"
        );
    }
}

#[test]
fn several_that_are_too_large_go_one_by_one_and_none_of_the_others_with_them() {
    let (server, sizes) = server();
    let (builder, watch) = watch(
        Client::builder(format!("ws://{}", server.local_addr()))
            .backoff(everlink::config::Backoff::fixed(ms(1)))
            .delivery(Delivery::AtLeastOnce),
    );
    let client = builder.start().unwrap();
    for size in [1, LIMIT, LIMIT + 1, 2, 3 * LIMIT, LIMIT - 1, 2 * LIMIT, 3] {
        client.send(vec![0; size]).unwrap();
    }
    let mut refused: Vec<usize> = (0..3).map(|_| told(&watch).0).collect();
    refused.sort_unstable();
    assert_eq!(refused, [LIMIT + 1, 2 * LIMIT, 3 * LIMIT]);
    // what is lost of it was said before, and nothing else is
    let _ = client.flush(PATIENCE);
    let mut arrived = std::collections::BTreeSet::new();
    while arrived.len() < 5 {
        arrived.insert(sizes.recv_timeout(PATIENCE).unwrap());
    }
    assert_eq!(arrived.into_iter().collect::<Vec<_>>(), [1, 2, 3, LIMIT - 1, LIMIT]);
}

#[test]
fn the_program_may_still_give_up_for_it() {
    let (server, _sizes) = server();
    let (builder, watch) =
        watch(Client::builder(format!("ws://{}", server.local_addr())).decide(|_, failure| {
            match failure {
                Failure::Closed(Some(frame)) if frame.code.0 == 1009 => Decision::GiveUp,
                other => other.decision(),
            }
        }));
    let client = builder.start().unwrap();
    client.send(vec![0; LIMIT + 1]).unwrap();
    let cause: Arc<Failure> = watch.gave_up();
    assert!(matches!(&*cause, Failure::Closed(Some(frame)) if frame.code.0 == 1009), "{cause:?}");
}

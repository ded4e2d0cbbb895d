//! Questions and answers find each other by their key.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Instant;

use crate::support::bare::{self, next_text_frame};
use crate::support::*;
use everlink::config::{Delivery, SendOptions};
use everlink::{Calls, Client, Error, Event, Server};

/// Answers "KEY question" with "KEY echo of question", unless it is to be silent.
fn server() -> Server {
    Server::bind("127.0.0.1:0", |session| {
        for message in &session {
            let text = message.as_text().unwrap();
            let (key, question) = text.split_once(' ').unwrap();
            if question == "hang up" {
                return;
            }
            if question != "silence" {
                session.send(format!("{key} echo of {question}")).unwrap();
            }
        }
    })
    .unwrap()
}

fn client(server: &Server, calls: &Calls<u64, String>) -> Client {
    let answers = calls.clone();
    Client::builder(format!("ws://{}", server.local_addr()))
        .on_message(move |_, message| {
            let (key, value) = message.as_text().unwrap().split_once(' ').unwrap();
            answers.complete(&key.parse().unwrap(), value.to_owned());
        })
        .connect()
        .unwrap()
}

#[test]
fn each_question_gets_its_answer() {
    let (server, calls) = (server(), Calls::new());
    let client = client(&server, &calls);
    thread::scope(|scope| {
        for key in 0..20_u64 {
            let (calls, client) = (&calls, &client);
            scope.spawn(move || {
                let question = format!("{key} {key}?");
                let answer = calls.call(client.sender(), key, question, PATIENCE).unwrap();
                assert_eq!(answer, format!("echo of {key}?"));
            });
        }
    });
    assert!(calls.is_empty());
    assert_eq!(calls.complete(&7, "late".into()), Some("late".into()));
}

#[test]
fn a_call_without_an_answer_ends() {
    let (server, calls) = (server(), Calls::with_their_link());
    let client = client(&server, &calls);
    let sender = client.sender();
    let error = calls.call(sender, 1, "1 silence", ms(30)).unwrap_err();
    assert!(matches!(error, Error::Timeout), "{error:?}");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| calls.call(sender, 2, "2 silence", PATIENCE));
        eventually("a call that waits", || match calls.len() {
            1 => Ok(()),
            count => Err(count),
        });
        let error = calls.call(sender, 2, "2 again", PATIENCE).unwrap_err();
        assert!(matches!(error, Error::KeyInUse), "{error:?}");
        // the link dies, and with it what was asked on it
        client.send("3 hang up").unwrap();
        let error = waiting.join().unwrap().unwrap_err();
        assert!(matches!(error, Error::NotConnected), "{error:?}");
    });
    assert!(calls.is_empty());
    client.close();
    let error = calls.call(sender, 4, "4 late", PATIENCE).unwrap_err();
    assert!(matches!(error, Error::Closed), "{error:?}");
    assert!(calls.is_empty());
}

/// Whoever is next with a key is not disturbed by whoever had it before.
#[test]
fn a_key_is_free_once_its_answer_has_come() {
    let server = server();
    let calls: Calls<u64, String> = Calls::new();
    let client = client(&server, &calls);
    let next = Arc::new(AtomicU64::new(0));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (calls, sender, next) = (calls.clone(), client.sender().clone(), Arc::clone(&next));
            thread::spawn(move || {
                for _ in 0..2000 {
                    let number = next.fetch_add(1, SeqCst);
                    match calls.call(&sender, 7, format!("7 question {number}"), PATIENCE) {
                        Ok(answer) => assert_eq!(answer, format!("echo of question {number}")),
                        Err(Error::KeyInUse) => thread::yield_now(),
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        })
        .collect();
    for caller in callers {
        caller.join().unwrap();
    }
    assert!(calls.is_empty());
}

/// An answer that comes as the time is over is with one of the two who could have it.
#[test]
fn an_answer_at_the_deadline_is_not_lost() {
    let server = server();
    let calls: Calls<u64, String> = Calls::new();
    let client = client(&server, &calls);
    let mut both = [0, 0];
    for round in 0..2000_u64 {
        let (asking, sender) = (calls.clone(), client.sender().clone());
        let time = ms(1);
        let asked =
            thread::spawn(move || asking.call(&sender, round, format!("{round} silence"), time));
        while calls.is_empty() && !asked.is_finished() {
            thread::yield_now();
        }
        // at about the deadline
        let due = Instant::now() + time + std::time::Duration::from_micros(round % 100);
        while Instant::now() < due {
            std::hint::spin_loop();
        }
        let left = calls.complete(&round, "late".to_owned());
        let answer = asked.join().unwrap();
        match (&answer, &left) {
            (Ok(_), None) => both[0] += 1,
            (Err(Error::Timeout), Some(_)) => both[1] += 1,
            other => panic!("round {round}: {other:?}"),
        }
    }
    println!("{} in time, {} too late", both[0], both[1]);
}

fn is_in_vain<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::WouldWaitForever { .. })), "{result:?}");
}

#[test]
fn what_a_handler_would_wait_for_itself_for_is_an_error_at_once() {
    let server = server();
    let (tell, told) = crossbeam_channel::unbounded();
    let client = Client::builder(format!("ws://{}", server.local_addr()))
        .on_message(move |sender, _| {
            let (begun, calls) = (Instant::now(), Calls::<u64, String>::new());
            let receipt = sender.send_confirmed("1 a").unwrap();
            let results = [
                calls.call(sender, 1, "1 silence", PATIENCE).map(drop),
                sender.flush(PATIENCE),
                receipt.wait(PATIENCE),
                // the writer does that
                sender.wait_sent(PATIENCE),
            ];
            let _ = tell.send((results, begun.elapsed(), calls.is_empty()));
        })
        .connect()
        .unwrap();
    client.send("0 go").unwrap();
    let (results, took, is_empty) = told.recv_timeout(PATIENCE).expect("the handler returns");
    let [call, flush, receipt, sent] = results;
    is_in_vain(call);
    is_in_vain(flush);
    is_in_vain(receipt);
    sent.unwrap();
    assert!(took < PATIENCE / 3 && is_empty, "{took:?}");
    // on a thread of the program's own all that works
    client.flush(PATIENCE).unwrap();
    client.close();
}

#[test]
fn a_client_with_a_handler_receives_nowhere_else() {
    let server = server();
    let client = Client::builder(format!("ws://{}", server.local_addr()))
        .on_message(|_, _| {})
        .connect()
        .unwrap();
    let error = client.recv().unwrap_err();
    assert!(error.to_string().contains("on_message()"), "{error}");
    is_in_vain(client.recv_timeout(PATIENCE));
    is_in_vain(client.try_recv());
    assert_eq!(client.iter().count() + (&client).into_iter().count(), 0);
    client.close();
}

#[test]
fn a_callback_that_no_link_can_come_before_does_not_wait_for_one() {
    let listener = Listener::new();
    let (give, given) = crossbeam_channel::bounded::<Client>(1);
    let (tell, told) = crossbeam_channel::unbounded();
    let builder = listener.client().on_event(move |_, event| {
        if !matches!(event, Event::Disconnected { .. }) {
            return;
        }
        let (begun, client) = (Instant::now(), given.recv().unwrap());
        client.send("queued").unwrap();
        let calls = Calls::<u64, String>::new();
        let results = [
            client.wait_connected(PATIENCE),
            client.recv().map(drop),
            client.recv_timeout(PATIENCE).map(drop),
            client.flush(PATIENCE),
            client.wait_sent(PATIENCE),
            calls.call(client.sender(), 1, "1 a", PATIENCE).map(drop),
        ];
        let nothing = client.try_recv().unwrap();
        let _ = tell.send((results, begun.elapsed(), nothing));
    });
    let client = builder.start().unwrap();
    give.send(client.clone()).unwrap();
    reset(listener.accept());
    let (results, took, nothing) = told.recv_timeout(PATIENCE).expect("the callback returns");
    results.into_iter().for_each(is_in_vain);
    assert!(took < PATIENCE / 3 && nothing.is_none(), "{took:?}");
    client.close();
}

#[test]
fn a_call_on_the_one_thread_that_receives_is_an_error() {
    let (tell, told) = crossbeam_channel::unbounded();
    let asking = Server::bind("127.0.0.1:0", move |session| {
        let calls = Calls::<u64, String>::new();
        for _ in &session {
            let begun = Instant::now();
            let result = calls.call(session.sender(), 1, "1 what?", PATIENCE);
            let _ = tell.send((result, begun.elapsed()));
        }
    })
    .unwrap();
    let client = Client::connect(format!("ws://{}", asking.local_addr())).unwrap();
    client.send("go").unwrap();
    let (result, took) = told.recv_timeout(PATIENCE).expect("the call returns");
    is_in_vain(result);
    assert!(took < PATIENCE / 3, "{took:?}");
    // the same on the other side
    client.recv_timeout(PATIENCE).unwrap();
    let calls = Calls::<u64, String>::new();
    is_in_vain(calls.call(client.sender(), 1, "1 what?", PATIENCE));
    assert!(calls.is_empty());
    client.close();
    // of a link that the caller has asked nothing about
    let words = Error::NotConnected.to_string();
    assert!(words.starts_with("not connected") && !words.contains("message"), "{words}");
}

#[test]
fn a_thread_may_begin_to_receive_while_another_calls() {
    let (server, calls) = (server(), Calls::<u64, String>::new());
    let client = Client::connect(format!("ws://{}", server.local_addr())).unwrap();
    // this thread has received, as programs do with a greeting
    client.send("0 hello").unwrap();
    client.recv_timeout(PATIENCE).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            while calls.is_empty() {
                thread::yield_now();
            }
            for message in client.iter().take(1) {
                let (key, value) = message.as_text().unwrap().split_once(' ').unwrap();
                calls.complete(&key.parse().unwrap(), value.to_owned());
            }
        });
        let answer = calls.call(client.sender(), 7, "7 what?", PATIENCE).unwrap();
        assert_eq!(answer, "echo of what?");
    });
    client.close();
}

#[test]
fn a_call_that_failed_before_it_was_written_is_not_executed_later() {
    let (listener, calls) = (Listener::new(), Calls::<u64, String>::new());
    // nobody answers the opening handshake yet
    let client = listener.client().start().unwrap();
    thread::scope(|scope| {
        let asked: Vec<_> = (0..3_u64)
            .map(|key| {
                let (calls, sender) = (&calls, client.sender());
                scope.spawn(move || calls.call(sender, key, format!("{key} pay"), PATIENCE))
            })
            .collect();
        eventually("three that are queued", || match client.stats().outbox_messages {
            3 => Ok(()),
            count => Err(count),
        });
        calls.fail_all();
        // whether the callers have noticed or not
        client.send("the next").unwrap();
        let mut stream = bare::upgrade(&listener);
        assert_eq!(next_text_frame(&mut stream), "the next");
        for call in asked {
            assert!(matches!(call.join().unwrap(), Err(Error::NotConnected)));
        }
    });
    eventually("the outbox is empty", || match client.stats().outbox_messages {
        0 => Ok(()),
        count => Err(count),
    });
}

#[test]
fn a_call_that_failed_with_its_link_is_not_sent_again() {
    let (listener, calls) = (Listener::new(), Calls::<u64, String>::with_their_link());
    let client = listener.client().delivery(Delivery::AtLeastOnce).start().unwrap();
    let mut stream = bare::upgrade(&listener);
    thread::scope(|scope| {
        let asked = scope.spawn(|| calls.call(client.sender(), 1, "1 pay", PATIENCE));
        assert_eq!(next_text_frame(&mut stream), "1 pay");
        client.send("what is not a call").unwrap();
        drop(stream);
        assert!(matches!(asked.join().unwrap(), Err(Error::NotConnected)));
        let mut stream = bare::upgrade(&listener);
        assert_eq!(next_text_frame(&mut stream), "what is not a call");
    });
}

#[test]
fn a_call_can_be_for_this_link_only() {
    let (listener, calls) = (Listener::new(), Calls::<u64, String>::new());
    let client = listener.client().start().unwrap();
    let now = SendOptions::new().this_link_only();
    let call = calls.call_with(client.sender(), 1, "1 now", now, PATIENCE);
    assert!(matches!(call, Err(Error::NotConnected)), "{call:?}");
    assert!(calls.is_empty());
}

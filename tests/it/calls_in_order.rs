//! Where answers have no key, each goes to the oldest question.

use std::io::Write;
use std::net::TcpStream;
use std::thread;

use crate::support::bare::{self, TEXT, frame, next_text_frame};
use crate::support::*;
use everlink::config::{Backoff, Delivery, Overflow, Queue, Resume, SendOptions};
use everlink::{CallsInOrder, Client, ClientBuilder, Error, Server, Waiting};

type Table = CallsInOrder<String>;

fn answering(builder: ClientBuilder, calls: &Table) -> ClientBuilder {
    let answers = calls.clone();
    builder
        .on_message(move |_, message| drop(answers.complete(message.link(), message.to_string())))
}

fn say(stream: &mut TcpStream, text: &str) {
    stream.write_all(&frame(TEXT, text.as_bytes())).unwrap();
}

fn answer(waiting: &Waiting<String>) -> String {
    waiting.wait_timeout(PATIENCE).unwrap()
}

fn is_not_connected<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::NotConnected)), "{result:?}");
}

#[test]
fn the_order_of_asking_is_that_on_the_wire_whichever_threads_ask() {
    let (server, calls) = (echo_server(), Table::new());
    let client = answering(Client::builder(format!("ws://{}", server.local_addr())), &calls);
    let client = client.connect().unwrap();
    thread::scope(|scope| {
        for asker in 0..6 {
            let (calls, client) = (&calls, &client);
            scope.spawn(move || {
                for round in 0..300 {
                    let questions = [0, 1, 2].map(|part| format!("{asker} {round} {part}"));
                    let asked = questions
                        .each_ref()
                        .map(|question| calls.ask(client.sender(), question.clone()).unwrap());
                    // in any order
                    for index in [(round + 1) % 3, (round + 2) % 3, round % 3] {
                        assert_eq!(answer(&asked[index]), questions[index]);
                    }
                }
            });
        }
    });
    assert!(calls.is_empty());
}

#[test]
fn a_written_question_that_is_given_up_takes_its_answer() {
    let (listener, calls) = (Listener::new(), Table::new());
    let client = listener.client().start().unwrap();
    let mut stream = bare::upgrade(&listener);
    let [one, two] = ["1?", "2?"].map(|question| calls.ask(client.sender(), question).unwrap());
    assert_eq!(
        (next_text_frame(&mut stream), next_text_frame(&mut stream)),
        ("1?".into(), "2?".into())
    );
    drop(one);
    assert_eq!(calls.len(), 1);
    assert_eq!(calls.complete(Some(1), "one".into()), Some("one".into()));
    assert_eq!(calls.complete(Some(1), "two".into()), None);
    assert_eq!(answer(&two), "two");
    // nobody has asked
    assert_eq!(calls.complete(Some(1), "three".into()), Some("three".into()));
    // whoever fails them all
    let three = calls.ask(client.sender(), "3?").unwrap();
    let four = calls.ask(client.sender(), "4?").unwrap();
    assert_eq!(next_text_frame(&mut stream), "3?");
    calls.fail_all();
    is_not_connected(three.wait());
    is_not_connected(four.wait());
    assert!(calls.is_empty());
    assert_eq!(calls.complete(None, "three".into()), Some("three".into()));
}

#[test]
fn a_question_that_was_never_written_takes_none() {
    let (listener, calls) = (Listener::new(), Table::new());
    let queue = Queue::new().messages(3).overflow(Overflow::DropOldest);
    let client = answering(listener.client().outbox(queue), &calls).start().unwrap();
    let ask = |text: &str| calls.ask(client.sender(), text).unwrap();
    let [cleared, given_up, dropped, one, two, three] =
        ["cleared", "given up", "dropped", "1?", "2?", "3?"].map(|text| {
            let asked = ask(text);
            match text {
                "cleared" => assert_eq!(client.clear_outbox(), ["cleared"]),
                "given up" => return None,
                _ => {}
            }
            Some(asked)
        });
    assert!(given_up.is_none() && cleared.unwrap().wait().is_err());
    assert!(matches!(dropped.unwrap().wait(), Err(Error::Undelivered(_))));
    let mut stream = bare::upgrade(&listener);
    for question in ["1?", "2?", "3?"] {
        assert_eq!(next_text_frame(&mut stream), question);
        say(&mut stream, question);
    }
    for (waiting, question) in [one, two, three].iter().zip(["1?", "2?", "3?"]) {
        assert_eq!(answer(waiting.as_ref().unwrap()), question);
    }
}

/// At whichever moment they give up.
#[test]
fn nobody_gets_the_answer_to_another_question() {
    let (server, calls) = (echo_server(), Table::new());
    let client = answering(Client::builder(format!("ws://{}", server.local_addr())), &calls);
    let client = client.connect().unwrap();
    thread::scope(|scope| {
        for asker in 0..4_u64 {
            let (calls, client) = (&calls, &client);
            scope.spawn(move || {
                let mut in_time = 0;
                for round in 0..1500_u64 {
                    let question = format!("{asker} {round}");
                    let patience = std::time::Duration::from_micros(round % 150);
                    match calls.call(client.sender(), question.clone(), patience) {
                        Ok(answer) => {
                            in_time += 1;
                            assert_eq!(answer, question);
                        }
                        Err(Error::Timeout) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                println!("{in_time} in time");
            });
        }
    });
    let last = calls.call(client.sender(), "the last", PATIENCE);
    assert_eq!(last.unwrap(), "the last");
}

#[test]
fn what_was_written_fails_with_its_link_and_the_rest_goes_on() {
    for delivery in [Delivery::AtMostOnce, Delivery::AtLeastOnce] {
        let (listener, calls) = (Listener::new(), Table::new());
        let builder = answering(listener.client(), &calls).delivery(delivery);
        let (builder, events) = watch(builder.backoff(Backoff::fixed(ms(0))));
        let client = builder.start().unwrap();
        let mut stream = bare::upgrade(&listener);
        events.connected();
        let ask = |text: &str| calls.ask(client.sender(), text).unwrap();
        let [one, two] = ["1?", "2?"].map(ask);
        assert_eq!(next_text_frame(&mut stream), "1?");
        say(&mut stream, "one");
        assert_eq!(answer(&one), "one");
        assert_eq!(next_text_frame(&mut stream), "2?");
        drop(stream);
        is_not_connected(two.wait_timeout(PATIENCE));
        events.disconnected();
        // there is no link until the listener answers
        let [three, four] = ["3?", "4?"].map(ask);
        let now = SendOptions::new().this_link_only();
        let refused = calls.ask_with(client.sender(), "now?", now).unwrap_err();
        assert!(matches!(refused.error, Error::NotConnected), "{refused:?}");
        let mut stream = bare::upgrade(&listener);
        for question in ["3?", "4?"] {
            assert_eq!(next_text_frame(&mut stream), question);
            say(&mut stream, question);
        }
        assert_eq!((answer(&three), answer(&four)), ("3?".into(), "4?".into()));
    }
}

#[test]
fn an_answer_of_a_link_that_is_gone_is_for_no_question_on_the_next() {
    let (listener, calls) = (Listener::new(), Table::new());
    // what is received waits until this thread takes it
    let client = listener.client().backoff(Backoff::fixed(ms(0))).start().unwrap();
    let mut stream = bare::upgrade(&listener);
    let one = calls.ask(client.sender(), "1?").unwrap();
    assert_eq!(next_text_frame(&mut stream), "1?");
    say(&mut stream, "one");
    drop(stream);
    is_not_connected(one.wait_timeout(PATIENCE));
    let mut stream = bare::upgrade(&listener);
    let two = calls.ask(client.sender(), "2?").unwrap();
    assert_eq!(next_text_frame(&mut stream), "2?");
    say(&mut stream, "two");
    for taken in [Some("one"), None] {
        let message = client.recv_timeout(PATIENCE).unwrap();
        let left = calls.complete(message.link(), message.to_string());
        assert_eq!(left.as_deref(), taken);
    }
    assert_eq!(answer(&two), "two");
}

#[test]
fn a_question_may_have_several_answers() {
    let (listener, calls) = (Listener::new(), Table::new());
    let client = listener.client().start().unwrap();
    let mut stream = bare::upgrade(&listener);
    let asked = ["1?", "2?", "3?"].map(|question| {
        let asked = calls.ask(client.sender(), question).unwrap();
        assert_eq!(next_text_frame(&mut stream), question);
        asked
    });
    assert_eq!(calls.add(None, "a".into()), None);
    assert_eq!(calls.add(None, "b".into()), None);
    assert!(calls.end(None));
    assert_eq!(calls.add(None, "c".into()), None);
    assert_eq!(calls.complete(None, "d".into()), None);
    assert!(calls.end(None));
    assert!(!calls.end(None));
    let answers = asked.map(|asked| asked.collect::<Result<Vec<_>, _>>().unwrap());
    assert_eq!(answers, [vec!["a", "b"], vec!["c", "d"], vec![]]);
}

#[test]
fn a_table_is_for_one_connection_at_a_time() {
    let (server, calls) = (echo_server(), Table::new());
    let url = format!("ws://{}", server.local_addr());
    let client = answering(Client::builder(&url), &calls).connect().unwrap();
    let other = answering(Client::builder(&url), &calls).connect().unwrap();
    let asked = {
        let nobody = Client::builder("ws://127.0.0.1:1").start().unwrap();
        let asked = calls.ask(nobody.sender(), "1?").unwrap();
        let refused = calls.ask(client.sender(), "1?").unwrap_err();
        assert!(matches!(refused.error, Error::Unsendable { .. }), "{refused:?}");
        nobody.close();
        asked
    };
    assert!(matches!(asked.wait(), Err(Error::Closed)));
    // of that one nothing comes any more
    for client in [&client, &other, &client] {
        assert_eq!(calls.call(client.sender(), "2?", PATIENCE).unwrap(), "2?");
    }
}

#[test]
fn a_question_that_is_refused_leaves_the_table_free() {
    let (server, calls) = (echo_server(), Table::new());
    let url = format!("ws://{}", server.local_addr());
    let client = answering(Client::builder(&url), &calls).connect().unwrap();
    let full =
        Client::builder("ws://127.0.0.1:1").outbox(Queue::new().messages(1)).start().unwrap();
    full.try_send("all there is room for").unwrap();
    for _ in 0..3 {
        let refused = calls.ask(full.sender(), "1?").unwrap_err();
        assert!(matches!(refused.error, Error::Full), "{refused:?}");
    }
    assert_eq!(calls.call(client.sender(), "2?", PATIENCE).unwrap(), "2?");
}

#[test]
fn in_a_resumed_session_the_questions_go_on_in_their_order() {
    let server =
        Server::builder().resume(Resume::within(PATIENCE)).bind("127.0.0.1:0", |session| {
            let mut questions = Vec::new();
            for message in &session {
                questions.push(message);
                // only when all are there
                if questions.len() == 4 {
                    questions.drain(..).for_each(|question| session.send(question).unwrap());
                }
            }
        });
    let proxy = everlink::chaos::FaultProxy::start(server.as_ref().unwrap().local_addr()).unwrap();
    let calls = Table::new();
    let builder = Client::builder(format!("ws://{}", proxy.address())).resume(Resume::new());
    let builder = answering(builder, &calls).backoff(Backoff::fixed(ms(10)));
    let (builder, events) = watch(builder);
    let client = builder.start().unwrap();
    events.connected();
    let ask = |text: &str| calls.ask(client.sender(), text).unwrap();
    let [one, two] = ["1?", "2?"].map(ask);
    client.flush(PATIENCE).unwrap();
    proxy.cut(everlink::chaos::Cut::Reset);
    events.disconnected();
    let [three, four] = ["3?", "4?"].map(ask);
    for (waiting, question) in [one, two, three, four].iter().zip(["1?", "2?", "3?", "4?"]) {
        assert_eq!(answer(waiting), question);
    }
}

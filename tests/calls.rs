//! Questions and answers find each other by their key.

mod support;

use std::thread;

use everlink::{Calls, Client, Error, Event, Server};
use support::*;

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
    let (answers, pending) = (calls.clone(), calls.clone());
    Client::builder(&format!("ws://{}", server.local_addr()))
        .on_message(move |_, message| {
            let (key, value) = message.as_text().unwrap().split_once(' ').unwrap();
            answers.complete(&key.parse().unwrap(), value.to_owned());
        })
        .on_event(move |event| {
            if matches!(event, Event::Disconnected { .. }) {
                pending.fail_all();
            }
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
    let (server, calls) = (server(), Calls::new());
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

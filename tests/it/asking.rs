//! A question is asked without waiting, and whatever ends it wakes who waits.

use std::hash::{Hash, Hasher};
use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Instant;

use crate::support::bare::{self, TEXT, frame, next_text_frame};
use crate::support::*;
use everlink::chaos::{Cut, FaultProxy};
use everlink::config::{Backoff, Delivery, Overflow, Queue, Resume, SendOptions, Timeouts};
use everlink::failure::{Decision, Undelivered};
use everlink::{Calls, Client, ClientBuilder, Error, Event, Server, Waiting};

type Table = Calls<u64, String>;

/// A client that hands "KEY answer" in, and "KEY+answer" as one that others follow.
fn answering(builder: ClientBuilder, calls: &Table) -> ClientBuilder {
    let answers = calls.clone();
    builder.on_message(move |_, message| {
        let text = message.as_text().unwrap();
        let at = text.find([' ', '+']).unwrap();
        let (key, value) = (text[..at].parse().unwrap(), text[at + 1..].to_owned());
        let _ = match &text[at..=at] {
            " " => answers.complete(&key, value),
            _ => answers.add(&key, value),
        };
    })
}

fn say(stream: &mut TcpStream, text: &str) {
    stream.write_all(&frame(TEXT, text.as_bytes())).unwrap();
}

fn is_not_connected<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::NotConnected)), "{result:?}");
}

#[test]
fn questions_are_asked_together_and_answered_in_any_order() {
    let (listener, calls) = (Listener::new(), Table::new());
    let client = answering(listener.client(), &calls).start().unwrap();
    let mut stream = bare::upgrade(&listener);
    let asked: Vec<Waiting<String>> =
        (0..3).map(|key| calls.ask(client.sender(), key, format!("{key}?")).unwrap()).collect();
    assert_eq!(calls.len(), 3);
    for (key, waiting) in asked.iter().enumerate() {
        assert_eq!(next_text_frame(&mut stream), format!("{key}?"));
        assert!(matches!(waiting.try_wait(), Ok(None)), "nobody has answered");
    }
    assert!(matches!(asked[0].wait_timeout(ms(10)), Err(Error::Timeout)));
    for key in [2, 0, 1] {
        say(&mut stream, &format!("{key} answer {key}"));
    }
    let deadline = Instant::now() + PATIENCE;
    for (key, waiting) in asked.iter().enumerate() {
        assert_eq!(waiting.wait_deadline(deadline).unwrap(), format!("answer {key}"));
        assert!(matches!(waiting.try_wait(), Err(Error::NoMoreAnswers)));
        assert!(matches!(waiting.wait(), Err(Error::NoMoreAnswers)));
    }
    assert!(calls.is_empty());
}

#[test]
fn a_question_that_is_given_up_before_it_was_written_makes_room() {
    let (listener, calls) = (Listener::new(), Table::new());
    let lost = Arc::new(Mutex::new(Vec::new()));
    let losing = Arc::clone(&lost);
    let builder = listener.client().outbox(Queue::new().messages(1));
    let builder = builder.on_dropped(move |message, why| {
        losing.lock().unwrap().push((message.to_string(), why));
    });
    // nobody answers the opening handshake yet
    let client = builder.start().unwrap();
    let one = calls.ask(client.sender(), 1, "1?").unwrap();
    // no room: it does not wait, and the message comes back
    let refused = calls.ask(client.sender(), 2, "2?").unwrap_err();
    assert!(matches!(refused.error, Error::Full), "{refused:?}");
    assert_eq!(refused.message, "2?");
    let patient = SendOptions::new().timeout(ms(10));
    let refused = calls.ask_with(client.sender(), 2, "2?", patient).unwrap_err();
    assert!(matches!(refused.error, Error::Timeout), "{refused:?}");
    drop(one);
    assert!(calls.is_empty());
    assert_eq!(*lost.lock().unwrap(), [("1?".to_owned(), Undelivered::Withdrawn)]);
    client.try_send("the next").unwrap();
    let mut stream = bare::upgrade(&listener);
    assert_eq!(next_text_frame(&mut stream), "the next");
}

#[test]
fn the_answer_to_a_question_that_was_given_up_comes_back() {
    let (listener, calls) = (Listener::new(), Table::new());
    let client = listener.client().start().unwrap();
    let mut stream = bare::upgrade(&listener);
    let one = calls.ask(client.sender(), 1, "1?").unwrap();
    let refused = calls.ask(client.sender(), 1, "again?").unwrap_err();
    assert!(matches!(refused.error, Error::KeyInUse), "{refused:?}");
    assert_eq!(next_text_frame(&mut stream), "1?");
    drop(one);
    assert_eq!(calls.complete(&1, "late".into()), Some("late".into()));
    assert_eq!(calls.add(&1, "late".into()), Some("late".into()));
    assert!(!calls.end(&1));
    // the key is free
    let one = calls.ask(client.sender(), 1, "1 again?").unwrap();
    assert_eq!(calls.complete(&1, "yes".into()), None);
    assert_eq!(one.wait().unwrap(), "yes");
}

#[test]
fn a_question_may_have_several_answers() {
    let (listener, calls) = (Listener::new(), Table::with_their_link());
    let client = answering(listener.client(), &calls).start().unwrap();
    let mut stream = bare::upgrade(&listener);
    let [one, two, three, four] =
        [1, 2, 3, 4].map(|key| calls.ask(client.sender(), key, format!("{key}?")).unwrap());
    for key in 1..=4 {
        assert_eq!(next_text_frame(&mut stream), format!("{key}?"));
    }
    for answer in ["1+a", "2+x", "1+b", "1 c", "4+cut"] {
        say(&mut stream, answer);
    }
    let answers: Result<Vec<_>, _> = one.collect();
    assert_eq!(answers.unwrap(), ["a", "b", "c"]);
    // no last one, and none at all
    assert!(calls.end(&2) && calls.end(&3));
    let answers: Result<Vec<_>, _> = two.collect();
    assert_eq!(answers.unwrap(), ["x"]);
    assert_eq!(three.count(), 0);
    // the link dies before the last
    let mut four = four;
    assert_eq!(four.next().unwrap().unwrap(), "cut");
    drop(stream);
    is_not_connected(four.next().unwrap());
    assert!(four.next().is_none());
}

#[test]
fn every_thread_that_waits_wakes_when_the_client_ends() {
    for drops in [false, true] {
        let (listener, calls) = (Listener::new(), Table::new());
        let client = answering(listener.client(), &calls).start().unwrap();
        let mut stream = bare::upgrade(&listener);
        let asked: Vec<_> =
            (0..3).map(|key| calls.ask(client.sender(), key, format!("{key}?")).unwrap()).collect();
        thread::scope(|scope| {
            let waiting: Vec<_> =
                asked.iter().map(|waiting| scope.spawn(|| waiting.wait())).collect();
            for key in 0..3 {
                assert_eq!(next_text_frame(&mut stream), format!("{key}?"));
            }
            // the questions do not keep the client
            let closing =
                scope.spawn(move || if drops { drop(client) } else { drop(client.close()) });
            let (first, body) = bare::read_frame(&mut stream).unwrap();
            assert_eq!(first, bare::CLOSE);
            stream.write_all(&frame(bare::CLOSE, &body)).unwrap();
            drop(stream);
            for waiting in waiting {
                let result = waiting.join().unwrap();
                assert!(matches!(result, Err(Error::Closed)), "{result:?}");
            }
            closing.join().unwrap();
        });
        assert!(calls.is_empty());
        let error = asked[0].try_wait().unwrap_err();
        assert!(matches!(error, Error::Closed), "{error:?}");
    }
}

#[test]
fn who_waits_wakes_when_the_session_is_over() {
    let (tell, told) = crossbeam_channel::unbounded();
    // an ordinary one, one that can be resumed and was closed for good, and one whose time is over
    for (resumes, closes) in [(false, false), (false, true), (true, true), (true, false)] {
        let tell = tell.clone();
        let builder = Server::builder().timeouts(Timeouts::new().close(ms(300)));
        let builder = if resumes { builder.resume(Resume::within(ms(1000))) } else { builder };
        // the handler waits, and the session is not at its end before it returns
        let server = builder.bind("127.0.0.1:0", move |session| {
            let calls = Table::new();
            let receiver = session.clone();
            thread::spawn(move || receiver.iter().count());
            let asked = calls.ask(session.sender(), 1, "1?").unwrap();
            tell.send(asked.wait()).unwrap();
        });
        let proxy = FaultProxy::start(server.as_ref().unwrap().local_addr()).unwrap();
        let builder = Client::builder(format!("ws://{}", proxy.address()));
        let builder = if resumes { builder.resume(Resume::new()) } else { builder };
        // it does not come back
        let client = builder.decide(|_, _| Decision::GiveUp).connect().unwrap();
        assert_eq!(client.recv().unwrap(), "1?");
        if closes {
            drop(client.close())
        } else {
            proxy.cut(Cut::Reset)
        }
        let result = told.recv_timeout(PATIENCE).expect("the handler goes on");
        assert!(matches!(result, Err(Error::Closed)), "{result:?}");
    }
}

#[test]
fn who_waits_while_the_client_has_given_up_is_told_and_can_go_on() {
    let (listener, calls) = (Listener::new(), Table::new());
    let builder = answering(listener.client(), &calls).backoff(Backoff::fixed(ms(0)));
    let (builder, events) = watch(builder.max_attempts(1));
    let client = builder.start().unwrap();
    let one = calls.ask(client.sender(), 1, "1?").unwrap();
    let waiting = thread::spawn(move || (one.wait(), one));
    drop(listener.accept_raw());
    events.gave_up();
    let (result, one) = waiting.join().unwrap();
    assert!(matches!(result, Err(Error::GaveUp(_))), "{result:?}");
    // one that is asked now, too
    let two = calls.ask(client.sender(), 2, "2?").unwrap();
    assert!(matches!(two.wait(), Err(Error::GaveUp(_))));
    client.reconnect().unwrap();
    let mut stream = bare::upgrade(&listener);
    assert_eq!(next_text_frame(&mut stream), "1?");
    assert_eq!(next_text_frame(&mut stream), "2?");
    say(&mut stream, "1 yes");
    say(&mut stream, "2 yes");
    assert_eq!(one.wait().unwrap(), "yes");
    assert_eq!(two.wait().unwrap(), "yes");
}

#[test]
fn who_waits_is_told_that_the_question_will_not_be_written() {
    let (listener, calls) = (Listener::new(), Table::new());
    let oldest = Queue::new().messages(1).overflow(Overflow::DropOldest);
    let client = listener.client().outbox(oldest).start().unwrap();
    let told = |waiting: Waiting<String>, why| {
        let result = waiting.wait_timeout(PATIENCE);
        assert!(matches!(result, Err(Error::Undelivered(of)) if of == why), "{result:?}");
    };
    let dropped = calls.ask(client.sender(), 1, "1?").unwrap();
    let stale = SendOptions::new().ttl(ms(0));
    let expired = calls.ask_with(client.sender(), 2, "2?", stale).unwrap();
    told(dropped, Undelivered::Dropped);
    let cleared = calls.ask(client.sender(), 3, "3?").unwrap();
    told(expired, Undelivered::Expired);
    assert_eq!(client.clear_outbox(), ["3?"]);
    told(cleared, Undelivered::Cleared);

    let newest = Queue::new().messages(1).overflow(Overflow::DropNewest);
    let client = listener.client().outbox(newest).start().unwrap();
    let _first = calls.ask(client.sender(), 1, "1?").unwrap();
    told(calls.ask(client.sender(), 2, "2?").unwrap(), Undelivered::Dropped);
}

#[test]
fn a_question_ends_with_its_link_or_goes_on_as_the_table_says() {
    for delivery in [Delivery::AtMostOnce, Delivery::AtLeastOnce] {
        let (listener, until_answered) = (Listener::new(), Table::new());
        let with_link = Table::with_their_link();
        let builder = answering(listener.client(), &until_answered).delivery(delivery);
        let client = builder.start().unwrap();
        let mut stream = bare::upgrade(&listener);
        client.wait_connected(PATIENCE).unwrap();
        let sender = client.sender();
        let now = SendOptions::new().this_link_only();
        let ended = [
            with_link.ask(sender, 1, "ends").unwrap(),
            until_answered.ask_with(sender, 1, "only now", now).unwrap(),
        ];
        let going_on = until_answered.ask(sender, 2, "goes on").unwrap();
        for question in ["ends", "only now", "goes on"] {
            assert_eq!(next_text_frame(&mut stream), question);
        }
        drop(stream);
        for waiting in ended {
            is_not_connected(waiting.wait_timeout(PATIENCE));
        }
        // not written yet, so it goes with the next link
        let next = with_link.ask(sender, 2, "the next").unwrap();
        let mut stream = bare::upgrade(&listener);
        if delivery == Delivery::AtLeastOnce {
            assert_eq!(next_text_frame(&mut stream), "goes on");
        }
        assert_eq!(next_text_frame(&mut stream), "the next");
        assert!(matches!(next.try_wait(), Ok(None)));
        say(&mut stream, "2 at last");
        assert_eq!(going_on.wait_timeout(PATIENCE).unwrap(), "at last");
    }
}

#[test]
fn what_was_asked_is_failed_before_the_end_of_the_link_is_told() {
    let (listener, calls) = (Listener::new(), Table::with_their_link());
    let (give, given) = crossbeam_channel::bounded::<Waiting<String>>(1);
    let (tell, told) = crossbeam_channel::bounded(1);
    let client = listener.client().on_event(move |_, event| {
        if matches!(event, Event::Disconnected { .. }) {
            let _ = tell.send(given.recv().unwrap().try_wait());
        }
    });
    let client = client.start().unwrap();
    let mut stream = bare::upgrade(&listener);
    let asked = calls.ask(client.sender(), 1, "1?").unwrap();
    assert_eq!(next_text_frame(&mut stream), "1?");
    give.send(asked).unwrap();
    drop(stream);
    is_not_connected(told.recv_timeout(PATIENCE).unwrap());
}

#[test]
fn in_a_resumed_session_a_question_goes_on_and_ends_with_the_session() {
    let answer = Arc::new(Mutex::new(Vec::new()));
    let sessions = Arc::clone(&answer);
    let server = Server::builder()
        .resume(Resume::within(PATIENCE))
        .bind("127.0.0.1:0", move |session| {
            sessions.lock().unwrap().push(session.clone());
            for message in &session {
                if message == "2?" {
                    // the session is over, with no answer
                    return session.abort();
                }
            }
        })
        .unwrap();
    let proxy = FaultProxy::start(server.local_addr()).unwrap();
    let calls = Table::with_their_link();
    let builder = Client::builder(format!("ws://{}", proxy.address())).resume(Resume::new());
    let builder = answering(builder, &calls).backoff(Backoff::fixed(ms(10)));
    let (builder, events) = watch(builder);
    let client = builder.start().unwrap();
    events.connected();
    let one = calls.ask(client.sender(), 1, "1?").unwrap();
    client.flush(PATIENCE).unwrap();
    proxy.cut(Cut::Reset);
    events.disconnected();
    events.connected();
    assert!(matches!(one.try_wait(), Ok(None)));
    answer.lock().unwrap()[0].send("1 yes").unwrap();
    assert_eq!(one.wait_timeout(PATIENCE).unwrap(), "yes");
    let two = calls.ask(client.sender(), 2, "2?").unwrap();
    is_not_connected(two.wait_timeout(PATIENCE));
}

#[test]
fn a_handler_asks_and_others_wait() {
    let (listener, calls) = (Listener::new(), Table::new());
    let (tell, told) = crossbeam_channel::unbounded();
    let answers = calls.clone();
    let client = listener.client().on_message(move |sender, message| match message.as_text() {
        Some("go") => {
            let waiting = answers.ask(sender, 1, "1?").unwrap();
            let in_vain = waiting.wait();
            assert!(matches!(in_vain, Err(Error::WouldWaitForever { .. })), "{in_vain:?}");
            assert!(matches!(waiting.try_wait(), Ok(None)));
            tell.send(waiting).unwrap();
        }
        answer => drop(answers.complete(&1, answer.unwrap().to_owned())),
    });
    let _client = client.start().unwrap();
    let mut stream = bare::upgrade(&listener);
    say(&mut stream, "go");
    assert_eq!(next_text_frame(&mut stream), "1?");
    let waiting = told.recv_timeout(PATIENCE).unwrap();
    say(&mut stream, "yes");
    assert_eq!(waiting.wait_timeout(PATIENCE).unwrap(), "yes");
}

#[test]
fn a_wait_on_the_one_thread_that_receives_is_an_error_and_the_question_stays() {
    let server = Server::bind("127.0.0.1:0", |session| {
        for message in &session {
            let _ = session.send(message);
        }
    });
    let server = server.unwrap();
    let client = Client::connect(format!("ws://{}", server.local_addr())).unwrap();
    client.send("hello").unwrap();
    client.recv().unwrap();
    let calls = Table::new();
    let one = calls.ask(client.sender(), 1, "1?").unwrap();
    let in_vain = one.wait_timeout(PATIENCE);
    assert!(matches!(in_vain, Err(Error::WouldWaitForever { .. })), "{in_vain:?}");
    // so it receives
    calls.complete(&1, client.recv().unwrap().to_string());
    assert_eq!(one.wait().unwrap(), "1?");
}

/// A key that panics when it is hashed on a thread that is to panic, and a value that does so when it is
/// dropped.
#[derive(PartialEq, Eq)]
struct Bad(u64, Arc<()>);

impl Hash for Bad {
    fn hash<H: Hasher>(&self, state: &mut H) {
        assert!(self.0 != 13, "of no luck");
        self.0.hash(state);
    }
}

struct Bomb(bool);

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(!self.0 || thread::panicking(), "it goes off");
    }
}

#[test]
fn a_panic_of_the_programs_code_leaves_the_table_as_it_was() {
    let client = Client::builder("ws://127.0.0.1:1").start().unwrap();
    let calls = Calls::<Bad, Bomb>::new();
    let key = |number| Bad(number, Arc::default());
    let one = calls.ask(client.sender(), key(1), "1?").unwrap();
    let bad = thread::scope(|scope| {
        let bad = || calls.ask(client.sender(), key(13), "13?").map(drop);
        let asked = scope.spawn(bad).join().is_err();
        let dropped = scope.spawn(|| drop(calls.complete(&key(2), Bomb(true)))).join().is_err();
        let two = calls.ask(client.sender(), key(2), "2?").unwrap();
        assert!(calls.complete(&key(2), Bomb(true)).is_none());
        asked && dropped && scope.spawn(move || drop(two)).join().is_err()
    });
    assert!(bad);
    assert_eq!(calls.len(), 1);
    assert!(calls.complete(&key(1), Bomb(false)).is_none());
    assert!(one.wait().is_ok());
}

#[test]
fn questions_that_are_given_up_leave_nothing_behind() {
    let client = Client::builder("ws://127.0.0.1:1").start().unwrap();
    let calls = Calls::<Bad, String>::new();
    let many = Arc::new(());
    let stays = calls.ask(client.sender(), Bad(1, Arc::clone(&many)), "1?").unwrap();
    for number in 100..5_000 {
        drop(calls.ask(client.sender(), Bad(number, Arc::clone(&many)), "?").unwrap());
    }
    assert!(Arc::strong_count(&many) < 200, "{} keys", Arc::strong_count(&many));
    assert_eq!((calls.len(), client.stats().outbox_messages), (1, 1));
    calls.fail_all();
    is_not_connected(stays.wait());
}

/// An answer that nobody took may use the table that it came through when it is dropped.
#[test]
fn answers_that_nobody_takes_are_dropped_without_a_lock() {
    struct Uses(Calls<u64, Self>);
    impl Drop for Uses {
        fn drop(&mut self) {
            self.0.len();
        }
    }
    let client = Client::builder("ws://127.0.0.1:1").start().unwrap();
    let calls = Calls::<u64, Uses>::new();
    let (done, ended) = mpsc::channel();
    thread::spawn(move || {
        // so many that the table looks for those that nobody waits for
        for key in 0..200 {
            let asked = calls.ask(client.sender(), key, "?").unwrap();
            assert!(calls.add(&key, Uses(calls.clone())).is_none());
            drop(asked);
        }
        done.send(()).unwrap();
    });
    ended.recv_timeout(PATIENCE).expect("no deadlock");
}

//! Topics: who is in them, what comes to them, and who hears of that.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use crossbeam_channel::{Receiver, unbounded};
use everlink::config::{
    CodecError, Framing, Heartbeat, Packet, Queue, Resume, SlowSession, SocketOptions,
};
use everlink::{Client, Error, Failure, Message, Presence, Server, ServerBuilder, Session};
use socket2::SockRef;

use crate::support::bare;
use crate::support::resumed::{next, resuming_server, serve_with, text};
use crate::support::speaker::Speaker;
use crate::support::*;

/// A server whose handlers receive until the end, and its sessions as they begin.
fn serve(builder: ServerBuilder) -> (Server, Receiver<Session>) {
    init_log();
    serve_with(builder, |session| session.iter().for_each(drop))
}

fn connect(server: &Server, sessions: &Receiver<Session>) -> (Client, Session) {
    let client = Client::connect(format!("ws://{}", server.local_addr())).unwrap();
    (client, next(sessions))
}

fn recv(client: &Client) -> String {
    text(&client.recv_timeout(PATIENCE).unwrap())
}

fn ids(sessions: &[Session]) -> Vec<u64> {
    sessions.iter().map(Session::id).collect()
}

#[test]
fn what_is_published_in_a_topic_comes_to_its_members_and_to_nobody_else() {
    let (server, sessions) = serve(Server::builder());
    let [(a, one), (b, two), (c, three)] = [(); 3].map(|()| connect(&server, &sessions));
    assert!(one.join("weather").unwrap() && two.join("weather").unwrap());
    assert!(!one.join("weather").unwrap(), "it is there already");
    assert!(three.join("sports").unwrap() && one.join("sports").unwrap());
    assert_eq!(one.topics(), ["sports", "weather"]);
    assert_eq!(ids(&server.members("weather")), [one.id(), two.id()]);
    assert_eq!(server.stats().topics, 2);

    assert_eq!(server.publish("weather", "rain"), 2);
    assert_eq!([recv(&a), recv(&b)], ["rain", "rain"]);
    let handle = server.handle();
    assert_eq!(handle.publish_where("sports", "1:0", |other| other.id() != one.id()), 1);
    assert_eq!(recv(&c), "1:0");
    // nobody has to be a member to publish
    assert_eq!(two.publish("sports", "2:0"), 2);
    assert_eq!([recv(&a), recv(&c)], ["2:0", "2:0"]);
    assert_eq!(two.publish_where("weather", "sun", |other| other.id() != two.id()), 1);
    assert_eq!(recv(&a), "sun");

    assert!(one.leave("weather") && !one.leave("weather") && !one.leave("nothing"));
    assert_eq!(one.topics(), ["sports"]);
    assert_eq!((server.publish("weather", "snow"), server.publish("nothing", "")), (1, 0));
    assert_eq!(recv(&b), "snow");
    // all are the topic that needs no joining
    assert_eq!(server.broadcast("to all"), 3);
    assert_eq!([recv(&a), recv(&b), recv(&c)], ["to all"; 3]);
    let stats = server.stats();
    assert_eq!((stats.published, stats.broadcasts_missed), (7, 0));
}

#[test]
fn a_handler_publishes_in_the_topics_of_its_session() {
    let handler = |session: Session| {
        for message in &session {
            match message.as_text().unwrap_or_default().split_once(' ') {
                Some(("join", topic)) => drop(session.join(topic)),
                _ => session.topics().iter().for_each(|topic| {
                    session.publish(topic, message.clone());
                }),
            }
        }
    };
    let server = Server::bind("127.0.0.1:0", handler).unwrap();
    let clients = [(); 3].map(|()| Client::connect(format!("ws://{}", server.local_addr())));
    let clients = clients.map(Result::unwrap);
    clients.iter().for_each(|client| client.send("join lobby").unwrap());
    eventually("three members", || match server.members("lobby").len() {
        3 => Ok(()),
        count => Err(count),
    });
    clients[1].send("hello").unwrap();
    assert_eq!(clients.each_ref().map(recv), ["hello"; 3]);
}

#[test]
fn a_bound_that_would_be_broken_is_said_to_be() {
    let refused = |result: Result<bool, Error>| match result {
        Err(error @ Error::TopicRefused { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    let (server, sessions) = serve(Server::builder().max_topics(3).max_topic_bytes(600));
    let (_a, one) = connect(&server, &sessions);
    let (_b, two) = connect(&server, &sessions);
    let long = |letter: &str| letter.repeat(255);
    assert!(refused(one.join("")).contains("1 to 255 bytes"));
    assert!(refused(one.join(&"x".repeat(256))).contains("1 to 255 bytes"));
    // characters of two bytes
    assert!(refused(one.join(&"é".repeat(128))).contains("1 to 255 bytes"));
    assert!(one.join(&long("a")).unwrap() && one.join(&long("b")).unwrap());
    assert!(refused(one.join(&long("c"))).contains("max_topic_bytes"));
    // a name that is there already takes nothing
    assert!(two.join(&long("a")).unwrap());
    assert!(one.join(&"c".repeat(90)).unwrap());
    assert!(refused(one.join("d")).contains("max_topics"));
    assert!(!one.join(&long("a")).unwrap(), "where it is, it stays");
    assert!(refused(two.join("d")).contains("max_topic_bytes"));
    // the last who leaves takes the name along
    assert!(one.leave(&long("a")));
    assert!(refused(two.join(&long("c"))).contains("max_topic_bytes"));
    assert!(two.leave(&long("a")) && two.join(&long("c")).unwrap());

    for (builder, name) in [
        (Server::builder().max_topics(0), "max_topics"),
        (Server::builder().max_topic_bytes(254), "max_topic_bytes"),
    ] {
        match builder.bind("127.0.0.1:0", drop) {
            Err(Error::InvalidSetting { setting, .. }) => assert_eq!(setting, name),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_ended_session_is_in_no_topic_and_joins_none() {
    let (heard, presence) = unbounded();
    let (server, sessions) = serve(Server::builder().on_presence(move |session, topic, what| {
        let _ = heard.send((session.id(), topic.to_owned(), what));
    }));
    let (client, session) = connect(&server, &sessions);
    for topic in ["b", "a"] {
        session.join(topic).unwrap();
        // who has joined has been told of, too
        assert_eq!(presence.try_recv().unwrap(), (session.id(), topic.into(), Presence::Joined));
    }
    client.close();
    for topic in ["a", "b"] {
        let left = presence.recv_timeout(PATIENCE).unwrap();
        assert_eq!(left, (session.id(), topic.into(), Presence::Left));
    }
    assert!(matches!(session.join("a"), Err(Error::Closed)));
    assert!(!session.leave("a") && session.topics().is_empty());
    assert!(server.members("a").is_empty());
    assert_eq!((server.publish("a", "x"), server.stats().topics), (0, 0));
    assert!(presence.is_empty());
}

#[test]
fn after_the_shutdown_nobody_is_in_any_topic() {
    let (server, sessions) = serve(Server::builder());
    let (_client, session) = connect(&server, &sessions);
    session.join("a").unwrap();
    assert!(server.shutdown(PATIENCE).drained);
    assert!(matches!(session.join("b"), Err(Error::Closed)));
    assert_eq!((server.publish("a", "x"), server.broadcast("x")), (0, 0));
    assert!(server.members("a").is_empty() && session.topics().is_empty());
    assert_eq!(server.stats().topics, 0);
}

/// What a closure was told, replayed: nobody joins twice, nor leaves where he is not.
#[derive(Default)]
struct Told {
    there: BTreeSet<(u64, String)>,
    wrong: Vec<String>,
    count: usize,
}

impl Told {
    fn hear(&mut self, session: u64, topic: &str, presence: Presence) {
        let member = (session, topic.to_owned());
        let is_news = match presence {
            Presence::Joined => self.there.insert(member),
            _ => self.there.remove(&member),
        };
        if !is_news {
            self.wrong.push(format!("{session} {topic} {presence:?}"));
        }
        self.count += 1;
    }
}

#[test]
fn the_program_hears_of_joins_and_leaves_in_order_and_one_at_a_time() {
    const TOPICS: [&str; 3] = ["a", "b", "c"];
    let (told, is_telling) = (Arc::new(Mutex::new(Told::default())), AtomicBool::new(false));
    let hears = Arc::clone(&told);
    let (server, sessions) =
        serve(Server::builder().on_presence(move |session, topic, presence| {
            if is_telling.swap(true, SeqCst) {
                // a panic in here would be caught
                hears.lock().unwrap().wrong.push("two at once".into());
            }
            hears.lock().unwrap().hear(session.id(), topic, presence);
            // no lock is held: this looks at the table
            let _ = (session.topics(), session.server().members(topic));
            is_telling.store(false, SeqCst);
        }));
    let clients: Vec<_> = (0..8).map(|_| connect(&server, &sessions)).collect();
    let (begin, changes) = (Barrier::new(16), AtomicUsize::new(0));
    thread::scope(|scope| {
        // two threads for each session, which get in each other's way
        for (index, (_, session)) in clients.iter().chain(&clients).enumerate() {
            let (begin, changes) = (&begin, &changes);
            scope.spawn(move || {
                begin.wait();
                for round in 0..200 {
                    let topic = TOPICS[(index + round) % TOPICS.len()];
                    let has_changed = match (index + round) % 2 {
                        0 => session.join(topic).unwrap_or(false),
                        _ => session.leave(topic),
                    };
                    changes.fetch_add(usize::from(has_changed), SeqCst);
                    if round == 150 && index % 4 == 0 {
                        session.abort();
                    }
                }
            });
        }
    });
    let members = |topic: &str| -> BTreeSet<_> {
        server.members(topic).iter().map(|member| (member.id(), topic.to_owned())).collect()
    };
    eventually("who is there and who was told of to be the same", || {
        let told = told.lock().unwrap();
        assert!(told.wrong.is_empty(), "{:?}", told.wrong);
        let there: BTreeSet<_> = TOPICS.iter().flat_map(|topic| members(topic)).collect();
        if told.there == there { Ok(()) } else { Err((told.there.clone(), there)) }
    });
    assert!(told.lock().unwrap().count >= changes.load(SeqCst));
    drop(clients);
    eventually("the end of all", || match told.lock().unwrap().there.len() {
        0 => Ok(()),
        left => Err(left),
    });
    assert!(told.lock().unwrap().wrong.is_empty());
    assert_eq!(server.stats().topics, 0);
}

#[test]
fn a_presence_closure_may_publish_join_leave_and_panic() {
    let (heard, presence) = unbounded();
    let (server, sessions) = serve(Server::builder().on_presence(move |session, topic, what| {
        let _ = heard.send((topic.to_owned(), what));
        session.server().publish("news", format!("{topic} {what:?}"));
        match topic {
            // whoever is in one is in the other; heard of after this has returned
            "a" if what == Presence::Joined => assert!(session.join("b").unwrap()),
            "a" => assert!(session.leave("b")),
            "panic" => panic!("at {what:?}"),
            _ => {}
        }
        let _ = heard.send((format!("{topic} done"), what));
    }));
    let (client, session) = connect(&server, &sessions);
    assert!(session.join("news").unwrap() && session.join("panic").unwrap());
    assert!(session.join("a").unwrap());
    assert_eq!(session.topics(), ["a", "b", "news", "panic"]);
    assert!(session.leave("panic") && session.leave("a"));
    let (joined, left) = (Presence::Joined, Presence::Left);
    let expected = [
        ("news", joined),
        ("news done", joined),
        ("panic", joined),
        ("a", joined),
        ("a done", joined),
        ("b", joined),
        ("b done", joined),
        ("panic", left),
        ("a", left),
        ("a done", left),
        ("b", left),
        ("b done", left),
    ];
    let told: Vec<_> = presence.try_iter().collect();
    let told: Vec<_> = told.iter().map(|(topic, what)| (topic.as_str(), *what)).collect();
    assert_eq!(told, expected);
    for (topic, what) in expected.iter().filter(|(topic, _)| !topic.contains("done")) {
        assert_eq!(recv(&client), format!("{topic} {what:?}"));
    }
}

#[test]
fn a_session_without_a_connection_stays_in_its_topics_and_gets_later_what_is_published() {
    let (heard, presence) = unbounded();
    let builder = resuming_server().on_presence(move |_, _, what| {
        let _ = heard.send(what);
    });
    let (server, sessions) = serve(builder);
    let client = Speaker::new(server.local_addr());
    let session = next(&sessions);
    session.join("news").unwrap();
    let mut kept = client.reset();
    eventually("the loss", || if session.is_connected() { Err(()) } else { Ok(()) });
    assert_eq!((server.publish("news", "one"), server.publish("news", "two")), (1, 1));
    let mut client = Speaker::resume(server.local_addr(), &mut kept);
    assert_eq!([client.recv(), client.recv()], ["one", "two"]);
    assert_eq!(session.topics(), ["news"]);
    server.publish("news", "three");
    assert_eq!(client.recv(), "three");
    assert_eq!(presence.try_iter().collect::<Vec<_>>(), [Presence::Joined]);
    drop(server);
    assert_eq!(presence.recv_timeout(PATIENCE), Ok(Presence::Left));
}

#[test]
fn a_session_whose_client_does_not_come_back_leaves() {
    let (heard, presence) = unbounded();
    let builder = Server::builder().resume(Resume::within(ms(1000)));
    let (server, sessions) = serve(builder.on_presence(move |_, _, what| {
        let _ = heard.send(what);
    }));
    let client = Speaker::new(server.local_addr());
    let session = next(&sessions);
    session.join("news").unwrap();
    drop(client.reset());
    assert_eq!(presence.recv_timeout(PATIENCE), Ok(Presence::Joined));
    assert_eq!(presence.recv_timeout(PATIENCE), Ok(Presence::Left));
    assert!(server.members("news").is_empty());
    assert!(matches!(session.join("news"), Err(Error::Closed)));
}

/// One that does not read, and takes little.
fn mute(server: &Server) -> TcpStream {
    let stream = bare::open(server.local_addr());
    SockRef::from(&stream).set_recv_buffer_size(2048).unwrap();
    stream
}

/// Little room for each session.
fn narrow() -> ServerBuilder {
    Server::builder()
        .outbox(Queue::new().messages(8))
        .socket(SocketOptions::new().send_buffer(4096))
}

#[test]
fn a_slow_member_misses_what_is_published_or_is_ended() {
    for slow in [SlowSession::Miss, SlowSession::Disconnect] {
        let (server, sessions) = serve(narrow().slow_session(slow));
        let _stuck = mute(&server);
        let stuck = next(&sessions);
        let (client, session) = connect(&server, &sessions);
        stuck.join("feed").unwrap();
        session.join("feed").unwrap();
        let mut missed = 0;
        while missed < 3 {
            let queued = server.publish("feed", vec![7; 16 * 1024]);
            assert_eq!(client.recv_timeout(PATIENCE).unwrap().len(), 16 * 1024);
            missed += 2 - queued;
        }
        let (counted, all) = (stuck.stats().broadcasts_missed, server.stats().broadcasts_missed);
        assert_eq!(session.stats().broadcasts_missed, 0);
        match slow {
            SlowSession::Miss => {
                assert_eq!((counted, all), (3, 3));
                assert!(stuck.failure().is_none());
            }
            _ => {
                // from its end on it misses nothing any more
                assert!(counted >= 1 && counted == all, "{counted} {all}");
                assert!(matches!(stuck.failure().as_deref(), Some(Failure::TooSlow)));
                eventually("one member", || match server.members("feed").len() {
                    1 => Ok(()),
                    count => Err(count),
                });
            }
        }
    }
}

/// Each message is published when the one before has come to all who read.
#[test]
fn members_who_do_not_read_keep_nobody_waiting() {
    const READERS: usize = 180;
    const MUTE: usize = 20;
    const ROUNDS: u8 = 40;
    let (server, sessions) = serve(narrow());
    let _stuck: Vec<_> = (0..MUTE).map(|_| mute(&server)).collect();
    let stuck: Vec<_> = (0..MUTE).map(|_| next(&sessions)).collect();
    let mut readers: Vec<_> = (0..READERS).map(|_| bare::open(server.local_addr())).collect();
    let reading: Vec<_> = (0..READERS).map(|_| next(&sessions)).collect();
    stuck.iter().chain(&reading).for_each(|member| assert!(member.join("feed").unwrap()));
    let mut header = [0; 4];
    for round in 0..ROUNDS {
        assert!(server.publish("feed", vec![round; 8 * 1024]) >= READERS);
        for reader in &mut readers {
            reader.read_exact(&mut header).unwrap();
            assert_eq!(header, [0x82, 126, 0x20, 0]);
            let mut payload = vec![0; 8 * 1024];
            reader.read_exact(&mut payload).unwrap();
            assert!(payload.iter().all(|byte| *byte == round), "out of order");
        }
    }
    let missed = |session: &Session| session.stats().broadcasts_missed;
    assert!(reading.iter().all(|session| missed(session) == 0));
    assert!(stuck.iter().all(|session| missed(session) > 0));
}

/// Members come and go meanwhile: each gets a row without a hole.
#[test]
fn what_one_thread_publishes_comes_in_that_order_to_each_member() {
    let (server, sessions) = serve(Server::builder().outbox(Queue::new().messages(100_000)));
    let clients: Vec<_> = (0..4).map(|_| connect(&server, &sessions)).collect();
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..2000 {
                server.publish("feed", number.to_string());
            }
            is_done.store(true, SeqCst);
            // to all: nothing comes behind it
            server.broadcast("end");
        });
        for (client, session) in &clients {
            let is_done = &is_done;
            scope.spawn(move || {
                while !is_done.load(SeqCst) {
                    session.join("feed").unwrap();
                    session.leave("feed");
                }
            });
            scope.spawn(move || {
                let numbers = std::iter::from_fn(|| match recv(client).as_str() {
                    "end" => None,
                    number => Some(number.parse::<u32>().unwrap()),
                });
                assert!(numbers.is_sorted_by(|a, b| a < b), "out of order");
            });
        }
    });
}

#[test]
fn topics_that_nobody_is_in_any_more_are_gone() {
    let (server, sessions) = serve(Server::builder().max_topics(5000).max_topic_bytes(5000 * 4));
    let (_client, session) = connect(&server, &sessions);
    // there is room for all of them once
    for _ in 0..3 {
        for number in 0..5000 {
            assert!(session.join(&format!("{number:04}")).unwrap());
        }
        assert_eq!((server.stats().topics, session.topics().len()), (5000, 5000));
        for number in 0..5000 {
            assert!(session.leave(&format!("{number:04}")));
        }
        assert_eq!(server.stats().topics, 0);
    }
}

/// What a publish comes to is the same for all, whatever each of them has agreed on.
#[cfg(feature = "deflate")]
#[test]
fn members_who_compress_in_different_ways_get_the_same() {
    use std::collections::BTreeMap;

    use everlink::config::{Compression, Limits};

    for fragment in [usize::MAX, 10_000] {
        let builder = resuming_server()
            .compression(Compression::new())
            .limits(Limits::new().fragment(fragment));
        let (server, sessions) = serve(builder);
        let url = format!("ws://{}", server.local_addr());
        let alone = || Compression::new().no_receive_takeover();
        let clients = [
            Client::builder(&url),
            Client::builder(&url).compression(Compression::new()),
            Client::builder(&url).compression(alone()),
            Client::builder(&url).compression(alone()),
            Client::builder(&url).compression(alone().receive_window_bits(9)),
            Client::builder(&url).compression(alone()).resume(Resume::new()),
            Client::builder(&url).compression(alone()).resume(Resume::new()),
        ]
        .map(|builder| builder.connect().unwrap());
        let mut agreed = BTreeMap::new();
        for _ in &clients {
            let session = next(&sessions);
            let compression = session.compression();
            let sent = compression.map(|agreed| (agreed.send_takeover, agreed.send_window_bits));
            *agreed.entry(sent).or_insert(0) += 1;
            session.join("feed").unwrap();
        }
        let expected = [(None, 1), (Some((false, 9)), 1), (Some((false, 15)), 4)];
        assert_eq!(agreed, expected.into_iter().chain([(Some((true, 15)), 1)]).collect());
        let mut random = vec![0; 50_000];
        random.iter_mut().enumerate().for_each(|(n, byte)| *byte = (n * n % 251) as u8);
        let texts = [10, 200, 5000, 100_000, 1_000_000].map(|size| "tick κ ".repeat(size / 8));
        let messages = texts.map(everlink::Message::from).into_iter().chain([random.into()]);
        for message in messages {
            assert_eq!(server.publish("feed", message.clone()), clients.len());
            for client in &clients {
                assert!(client.recv_timeout(PATIENCE).unwrap() == message, "{}", message.len());
            }
        }
    }
}

/// To wake a writer for each member costs more than to write.
#[cfg(target_os = "linux")]
#[test]
fn who_publishes_writes_to_members_whose_writer_sleeps() {
    fn lines(received: &[u8]) -> Result<Option<Packet>, CodecError> {
        let end = received.iter().position(|byte| *byte == b'\n');
        Ok(end.map(|end| Packet::new(end + 1).payload(0..end)))
    }
    let (writers, wrote) = unbounded();
    let framing = Framing::custom(move || {
        let writers = writers.clone();
        let encode = move |message: &Message, out: &mut Vec<u8>| {
            let _ = writers.send(thread::current().id());
            out.extend_from_slice(message.as_bytes());
            out.push(b'\n');
            Ok(())
        };
        (lines, encode)
    });
    let (server, sessions) = serve(Server::builder().framing(framing).heartbeat(Heartbeat::off()));
    let mut member = bare::connect(server.local_addr());
    next(&sessions).join("news").unwrap();
    let mut number = 0;
    let mut publish = || {
        number = (number + 1) % 10;
        assert_eq!(server.publish("news", number.to_string()), 1);
        let mut line = [0; 2];
        member.read_exact(&mut line).unwrap();
        wrote.recv_timeout(PATIENCE).unwrap()
    };
    eventually("the writer sleeps", || match publish() {
        writer if writer == thread::current().id() => Ok(()),
        writer => Err(writer),
    });
    // nothing was received meanwhile, so an answer would be left to the writer
    for _ in 0..3 {
        assert_eq!(publish(), thread::current().id());
    }
}

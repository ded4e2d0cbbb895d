//! A heartbeat that is changed while the link is up, pings of the program's own, and what there is to know of a
//! link without either.

use std::io::{BufRead, BufReader};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::*;
use crossbeam_channel::unbounded;
use everlink::chaos::{Cut, FaultProxy};
use everlink::config::{Backoff, Delivery, Framing, Heartbeat, Resume, SendOptions};
use everlink::failure::Undelivered;
use everlink::{Client, ClientBuilder, Error, Event, Server, Session, State};
use tungstenite::Message;

fn lines(listener: &Listener) -> ClientBuilder {
    Client::builder(format!("tcp://{}", listener.address()))
        .framing(Framing::lines())
        .backoff(Backoff::fixed(ms(1)))
}

/// Time passes in which nothing happens: that is what is tested.
fn pass(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        thread::park_timeout(until.saturating_duration_since(Instant::now()));
    }
}

#[test]
fn a_limit_that_gets_shorter_gives_the_peer_its_time() {
    let server = echo_server();
    let url = format!("ws://{}", server.local_addr());
    let (builder, events) = watch(Client::builder(url).heartbeat(Heartbeat::off()));
    let client = builder.start().unwrap();
    events.connected();
    pass(ms(1500));
    client.set_heartbeat(Heartbeat::every(ms(100)).dead_after(ms(1000))).unwrap();
    eventually("pings", || match client.stats().pings_sent {
        15.. => Ok(()),
        other => Err(other),
    });
    assert!(events.rest().is_empty());
    // one that answers nothing
    let listener = Listener::new();
    let (builder, events) = watch(listener.client().heartbeat(Heartbeat::every(PATIENCE)));
    let client = builder.start().unwrap();
    let _peer = listener.accept();
    events.connected();
    pass(ms(700));
    let set = Instant::now();
    client.set_heartbeat(Heartbeat::listen(ms(500))).unwrap();
    // again and again, which gives it no more
    for _ in 0..5 {
        client.set_heartbeat(Heartbeat::listen(ms(500))).unwrap();
    }
    events.disconnected();
    assert!(set.elapsed() >= ms(500), "{:?}", set.elapsed());
}

#[test]
fn a_limit_that_gets_longer_holds_for_a_read_that_has_begun() {
    let listener = Listener::new();
    let brisk = Heartbeat::every(ms(100)).dead_after(ms(700));
    let (builder, events) = watch(listener.client().heartbeat(brisk));
    let client = builder.start().unwrap();
    let _peer = listener.accept();
    events.connected();
    pass(ms(200));
    client.set_heartbeat(Heartbeat::every(PATIENCE)).unwrap();
    pass(ms(1200));
    assert_eq!(client.state(), State::Connected);
    assert!(events.rest().is_empty());
}

#[test]
fn a_heartbeat_that_is_set_again_and_again_beats_all_the_same() {
    let listener = Listener::new();
    let client = listener.client().heartbeat(Heartbeat::off()).on_message(|sender, _| {
        let beat = Heartbeat::every(ms(100)).dead_after(PATIENCE);
        sender.set_heartbeat(beat.message("beat", |_| false)).unwrap();
    });
    let _client = client.start().unwrap();
    let mut peer = listener.accept();
    peer.get_ref().set_read_timeout(Some(ms(20))).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let mut beats = 0;
    while beats < 3 {
        assert!(Instant::now() < deadline, "{beats} beats");
        peer.send(Message::text("every 100")).unwrap();
        if let Ok(Message::Text(text)) = peer.read() {
            assert_eq!(text.as_str(), "beat");
            beats += 1;
        }
    }
}

#[test]
fn every_ping_of_many_is_answered() {
    let listener = Listener::new();
    let client = listener.client().heartbeat(Heartbeat::off()).start().unwrap();
    let peer = listener.accept();
    client.wait_connected(PATIENCE).unwrap();
    thread::scope(|scope| {
        let pings: Vec<_> = (0..100)
            .map(|_| {
                thread::park_timeout(ms(3));
                scope.spawn(|| client.ping(PATIENCE))
            })
            .collect();
        // from here on it reads, and answers
        scope.spawn(|| echo(peer));
        for ping in pings {
            ping.join().unwrap().unwrap();
        }
        client.close();
    });
}

#[test]
fn a_heartbeat_that_confirms_nothing_is_refused_where_that_is_needed() {
    let listener = Listener::new();
    let (tell, told) = unbounded();
    let client = lines(&listener)
        .heartbeat(Heartbeat::ping_pong())
        .delivery(Delivery::AtLeastOnce)
        .login(move |login| {
            let refused = login.set_heartbeat(Heartbeat::off());
            tell.send(refused.map_err(|error| error.to_string())).unwrap();
            Ok(())
        })
        .start()
        .unwrap();
    let _stream = listener.accept_raw();
    client.wait_connected(PATIENCE).unwrap();
    let refused = told.recv_timeout(PATIENCE).unwrap().unwrap_err();
    assert!(refused.contains("no confirmations"), "{refused}");
    let refused = client.set_heartbeat(Heartbeat::listen(PATIENCE));
    assert!(
        matches!(refused, Err(Error::InvalidSetting { setting: "heartbeat", .. })),
        "{refused:?}"
    );
    client.set_heartbeat(Heartbeat::ping_pong().interval(ms(500))).unwrap();
}

#[test]
fn a_heartbeat_that_was_learnt_in_a_session_goes_on_with_it() {
    let beat = |word: &'static str| Heartbeat::every(ms(50)).message(word, |_| false);
    let beat = move |word| beat(word).dead_after(PATIENCE);
    let (heard, beats) = unbounded();
    let (tell, sessions) = unbounded();
    let server = Server::builder().resume(Resume::new()).heartbeat(Heartbeat::every(PATIENCE));
    let server = server.bind("127.0.0.1:0", move |session: Session| {
        tell.send(session.clone()).unwrap();
        for message in &session {
            heard.send((message.link(), message.to_string())).unwrap();
        }
    });
    let server = server.unwrap();
    let proxy = FaultProxy::start(server.local_addr()).unwrap();
    let builder = Client::builder(format!("ws://{}", proxy.address()))
        .resume(Resume::new())
        .backoff(Backoff::fixed(ms(1)))
        .login(move |login| login.set_heartbeat(beat("learnt at login")));
    let (builder, events) = watch(builder);
    let client = builder.start().unwrap();
    let next = |link: u32, word: &str| {
        let is_meant = |(at, said): &(Option<u32>, String)| *at == Some(link) && said == word;
        while !is_meant(&beats.recv_timeout(PATIENCE).expect("a beat")) {}
    };
    events.connected();
    next(1, "learnt at login");
    proxy.cut(Cut::Reset);
    events.disconnected();
    events.connected();
    next(2, "learnt at login");
    client.set_heartbeat(beat("learnt later")).unwrap();
    // the server's end, too
    let session = sessions.recv_timeout(PATIENCE).unwrap();
    session.set_heartbeat(Heartbeat::every(ms(50)).dead_after(PATIENCE).always()).unwrap();
    proxy.cut(Cut::Reset);
    events.disconnected();
    events.connected();
    next(3, "learnt later");
    let before = session.stats().pings_sent;
    eventually("pings of the server", || match session.stats().pings_sent {
        sent if sent >= before + 3 => Ok(()),
        other => Err(other),
    });
}

#[test]
fn a_message_is_poison_where_nothing_answers_pings_too() {
    for heartbeat in [Heartbeat::off(), Heartbeat::listen(PATIENCE)] {
        let listener = Listener::new();
        let (tell, dropped) = unbounded();
        let client = lines(&listener)
            .heartbeat(heartbeat)
            .delivery(Delivery::UntilConfirmed)
            .max_deliveries(3)
            .on_dropped(move |message, why| tell.send((message.to_string(), why)).unwrap())
            .start()
            .unwrap();
        let receive = || {
            let mut stream = BufReader::new(listener.accept_raw());
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            (stream, line)
        };
        let number = |key| SendOptions::new().key(key);
        client.send_with("poison", number(1)).unwrap();
        client.send_with("2", number(2)).unwrap();
        for _ in 0..3 {
            let (stream, line) = receive();
            assert_eq!(line, "poison\n");
            drop(stream);
        }
        let poison = dropped.recv_timeout(PATIENCE).unwrap();
        assert_eq!(poison, ("poison".into(), Undelivered::Poison));
        assert_eq!(receive().1, "2\n");
    }
}

#[test]
fn a_callback_waits_only_for_what_ends_by_itself() {
    use everlink::Calls;
    let listener = Listener::new();
    let (tell, told) = unbounded();
    let calls: Calls<u64, String> = Calls::with_their_link();
    let ended = calls.clone();
    let client = listener.client().on_event(move |client, event| {
        let Event::Connected { link: 1, .. } = event else { return };
        let sender = client.sender();
        let receipt = sender.send_confirmed("x").unwrap();
        let waiting = calls.ask(sender, 1, "1?").unwrap();
        let results = vec![
            waiting.wait().map(drop),
            calls.call(sender, 2, "2?", Duration::MAX).map(drop),
            client.flush(Duration::MAX),
            client.wait_sent(Duration::MAX),
            client.ping(Duration::MAX).map(drop),
            receipt.wait(Duration::MAX),
        ];
        drop(waiting);
        tell.send((results, client.ping(PATIENCE))).unwrap();
    });
    let client = client.start().unwrap();
    let peer = listener.accept();
    thread::scope(|scope| {
        scope.spawn(|| echo(peer));
        let (results, ping) = told.recv_timeout(PATIENCE).expect("no wait without end");
        for (index, result) in results.into_iter().enumerate() {
            let is_refused = matches!(result, Err(Error::WouldWaitForever { .. }));
            assert!(is_refused, "{index}: {result:?}");
        }
        ping.unwrap();
        assert!(ended.is_empty());
        assert!(client.close().ended);
    });
}

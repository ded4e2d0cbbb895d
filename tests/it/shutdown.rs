//! Closing, from every state and every thread, within its bound.

use std::io::{Read, Write};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::bare::{TEXT, frame, upgrade};
use crate::support::*;
use everlink::config::{Backoff, Timeouts};
use everlink::{Client, ClientBuilder, Error, Event, SendError, State};
use tungstenite::Message;

/// Closes and returns how long that took.
fn timed_close(client: &Client) -> Duration {
    let begun = Instant::now();
    let report = client.close();
    let time = begun.elapsed();
    assert!(report.ended, "threads are left: {:?}", everlink_threads());
    assert_eq!(client.state(), State::Closed);
    assert!(matches!(client.send("late"), Err(SendError { error: Error::Closed, .. })));
    while client.try_recv().is_ok() {}
    assert!(matches!(client.recv(), Err(Error::Closed)));
    time
}

#[test]
fn while_a_name_lookup_hangs() {
    let (hold, held) = crossbeam_channel::bounded::<()>(0);
    let (looking, looks) = mpsc::channel();
    let client = Client::builder("ws://hangs.test")
        .resolver(move |_: &str, _| {
            let _ = looking.send(());
            let _ = held.recv();
            Err(std::io::ErrorKind::NotFound.into())
        })
        .start()
        .unwrap();
    looks.recv_timeout(PATIENCE).unwrap();
    let begun = Instant::now();
    let report = client.close();
    assert!(begun.elapsed() < CLOSE_BOUND * 2, "{:?}", begun.elapsed());
    assert!(!report.ended, "its thread is still there");
    drop(hold);
    eventually("it ends", || if client.close().ended { Ok(()) } else { Err(everlink_threads()) });
}

fn done() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    Ok(())
}

/// Clients without a link whose own code hangs until a channel is dropped, by what it is.
fn hanging(
    url: &str,
    held: &crossbeam_channel::Receiver<()>,
) -> Vec<(&'static str, ClientBuilder)> {
    let hang = || {
        let held = held.clone();
        move || {
            let _ = held.recv();
            done()
        }
    };
    let refused = || Client::builder("ws://127.0.0.1:1");
    let (token, request, login, decide) = (hang(), hang(), hang(), hang());
    let (backoff, connector, event) = (hang(), hang(), hang());
    vec![
        ("token", Client::builder(url).bearer_auth_with(move || Ok(format!("{:?}", token())))),
        ("request", Client::builder(url).on_request(move |_| request())),
        ("login", Client::builder(url).login(move |_| login())),
        (
            "decide",
            refused().decide(move |_, failure| {
                let _ = decide();
                failure.decision()
            }),
        ),
        (
            "backoff",
            refused().backoff(Backoff::custom(move |_| {
                let _ = backoff();
                ms(1)
            })),
        ),
        (
            "connector",
            refused().connector(move |_: &str, _: u16| {
                let _ = connector();
                Err(std::io::ErrorKind::Other.into())
            }),
        ),
        ("event", refused().on_event(move |_, _| drop(event()))),
    ]
}

#[test]
fn without_a_link_nothing_that_hangs_holds_close_up_and_a_second_one_returns_at_once() {
    let listener = Listener::new();
    let url = listener.url();
    let server = thread::spawn(move || {
        // the login alone gets so far
        let peer = listener.accept();
        (peer, listener)
    });
    let (hold, held) = crossbeam_channel::bounded::<()>(0);
    let mut clients = Vec::new();
    for (what, builder) in hanging(&url, &held) {
        let client = builder.timeouts(Timeouts::new().close(PATIENCE)).start().unwrap();
        client.send("x").unwrap();
        // long enough to be there; if not, it hangs nowhere and ends
        thread::sleep(ms(100));
        let begun = Instant::now();
        client.close();
        let first = begun.elapsed();
        assert!(first < CLOSE_BOUND * 3, "{what}: {first:?}");
        let begun = Instant::now();
        client.close();
        drop(client.clone());
        assert!(begun.elapsed() < CLOSE_BOUND / 2, "{what}: {:?} for the second", begun.elapsed());
        clients.push((what, client));
    }
    drop(hold);
    for (what, client) in clients {
        eventually(what, || if client.close().ended { Ok(()) } else { Err(everlink_threads()) });
        let begun = Instant::now();
        drop(client);
        assert!(begun.elapsed() < CLOSE_BOUND, "{what}: {:?} for the drop", begun.elapsed());
    }
    drop(server.join().unwrap());
}

#[test]
#[cfg(feature = "deflate")]
fn after_a_close_that_ended_no_thread_is_left_and_nothing_that_a_closure_captured() {
    let server = echo_server();
    let address = server.local_addr();
    for round in 0..20 {
        let captured = std::sync::Arc::new(());
        let hold = || {
            let held = std::sync::Arc::clone(&captured);
            move || {
                drop(std::sync::Arc::clone(&held));
                done()
            }
        };
        let (resolver, token, request, login) = (hold(), hold(), hold(), hold());
        let (decide, backoff, event, message) = (hold(), hold(), hold(), hold());
        let (dropped, only_if) = (hold(), hold());
        let client = Client::builder("ws://server.test")
            .resolver(move |_: &str, _| {
                let _ = resolver();
                Ok(vec![address])
            })
            .bearer_auth_with(move || {
                let _ = token();
                Ok("token".into())
            })
            .on_request(move |_| request())
            .login(move |_| login())
            .decide(move |_, failure| {
                let _ = decide();
                failure.decision()
            })
            .backoff(Backoff::custom(move |_| {
                let _ = backoff();
                ms(1)
            }))
            .on_event(move |_, _| drop(event()))
            .on_message(move |_, _| drop(message()))
            .on_dropped(move |_, _| drop(dropped()))
            .compression(everlink::config::Compression::new().only_if(move |_| {
                let _ = only_if();
                true
            }))
            .start()
            .unwrap();
        if round % 2 == 0 {
            client.wait_connected(PATIENCE).unwrap();
            client.send("x").unwrap();
        }
        let (sender, threads) = (client.sender().clone(), format!("everlink-{}-", client.id()));
        let report = client.close();
        assert!(report.ended, "{report:?}");
        let handles = std::sync::Arc::strong_count(&captured);
        assert_eq!(handles, 1, "closures of round {round} are left, with handles to the client");
        // the kernel shows a thread for a moment that is joined already
        eventually("no thread", || {
            let left = everlink_threads();
            if left.iter().any(|name| name.starts_with(&threads)) { Err(left) } else { Ok(()) }
        });
        drop((client, sender));
    }
}

#[test]
fn while_connecting_to_a_black_hole() {
    if !alone("shutdown::while_connecting_to_a_black_hole") {
        return;
    }
    // a full backlog drops further attempts to connect
    let listener =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    listener.bind(&any.into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let fill: Vec<_> = (0..4)
        .map(|_| thread::spawn(move || std::net::TcpStream::connect_timeout(&address, ms(300))))
        .collect();
    let fill: Vec<_> = fill.into_iter().filter_map(|thread| thread.join().unwrap().ok()).collect();
    let client = Client::builder(format!("ws://{address}")).start().unwrap();
    eventually("the thread that connects", || {
        let threads = everlink_threads();
        let opens = format!("everlink-{}-op", client.id());
        let is_there = threads.iter().any(|name| name.starts_with(&opens));
        if is_there || !cfg!(target_os = "linux") { Ok(()) } else { Err(threads) }
    });
    let time = timed_close(&client);
    assert!(time < CLOSE_BOUND, "{time:?}");
    drop(fill);
}

#[test]
fn while_the_opening_handshake_hangs() {
    let listener = Listener::new();
    let client = listener.client().start().unwrap();
    let mut stream = listener.accept_raw();
    read_head(&mut stream);
    let time = timed_close(&client);
    assert!(time < CLOSE_BOUND, "{time:?}");
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the connection is gone too");
}

#[test]
fn while_the_login_waits() {
    let listener = Listener::new();
    let builder = listener.client().login(|session| {
        session.send("hello")?;
        session.recv().map(|_| ()).map_err(Into::into)
    });
    let client = builder.start().unwrap();
    let mut peer = listener.accept();
    assert_eq!(next_text(&mut peer), "hello");
    let time = timed_close(&client);
    assert!(time < CLOSE_BOUND, "{time:?}");
}

#[test]
fn while_backing_off_and_after_giving_up() {
    let address = Listener::new().address();
    let url = format!("ws://{address}");
    let (builder, backing_off) =
        watch(Client::builder(&url).backoff(Backoff::fixed(PATIENCE * 100)));
    let client = builder.start().unwrap();
    client.send("one").unwrap();
    client.send("two").unwrap();
    backing_off.attempt_failed();
    let begun = Instant::now();
    let report = client.close();
    assert!(begun.elapsed() < CLOSE_BOUND && report.ended);
    let unsent: Vec<_> =
        report.undelivered.iter().filter_map(|message| message.as_text()).collect();
    assert_eq!(unsent, ["one", "two"], "close hands back what was never written");
    assert!(client.close().undelivered.is_empty());

    let (builder, gave_up) = watch(Client::builder(&url).max_attempts(1));
    let client = builder.start().unwrap();
    gave_up.gave_up();
    let time = timed_close(&client);
    assert!(time < CLOSE_BOUND, "{time:?}");
}

#[test]
fn connected_with_a_peer_that_answers() {
    let listener = Listener::new();
    let (builder, watch) = watch(listener.client());
    let client = builder.start().unwrap();
    let mut peer = listener.accept();
    watch.connected();
    let server = thread::spawn(move || {
        let mut texts = Vec::new();
        loop {
            match peer.read() {
                Ok(Message::Text(text)) => texts.push(text.as_str().to_owned()),
                Ok(Message::Close(frame)) => return (texts, frame, read_to_end(&mut peer)),
                Ok(_) => {}
                Err(error) => panic!("{error}"),
            }
        }
    });
    for number in 0..1000 {
        client.send(number.to_string()).unwrap();
    }
    let report = client.close_with(4000, "done").unwrap();
    assert!(report.ended && report.undelivered.is_empty(), "{report:?}");
    let (texts, frame, _) = server.join().unwrap();
    assert_eq!(texts.len(), 1000, "everything queued is sent first");
    let frame = frame.expect("a close frame");
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (4000, "done"));
    let clean = watch.until(|event| match event {
        Event::Closed { clean, undelivered, .. } => Some((*clean, *undelivered)),
        _ => None,
    });
    assert_eq!(clean, (true, 0));
}

#[test]
fn connected_with_a_peer_that_does_not_answer() {
    let listener = Listener::new();
    let (builder, watch) = watch(listener.client().timeouts(Timeouts::new().close(ms(200))));
    let client = builder.start().unwrap();
    let _peer = listener.accept();
    watch.connected();
    let time = timed_close(&client);
    assert!((ms(200)..ms(200) + CLOSE_BOUND).contains(&time), "{time:?}");
    let clean = watch.until(|event| match event {
        Event::Closed { clean, .. } => Some(*clean),
        _ => None,
    });
    assert!(!clean);
}

#[test]
fn connected_with_a_peer_that_goes_on_sending() {
    let listener = Listener::new();
    let (builder, watch) = watch(listener.client().timeouts(Timeouts::new().close(ms(200))));
    let client = builder.start().unwrap();
    let mut peer = listener.accept();
    watch.connected();
    let server = thread::spawn(move || while peer.send("more".into()).is_ok() {});
    let time = timed_close(&client);
    assert!(time < ms(200) + CLOSE_BOUND, "{time:?}");
    server.join().unwrap();
}

#[test]
fn both_sides_at_the_same_time() {
    let listener = Listener::new();
    for _ in 0..20 {
        let (builder, watch) = watch(listener.client());
        let client = builder.start().unwrap();
        let mut peer = listener.accept();
        watch.connected();
        let server = thread::spawn(move || {
            let _ = peer.close(None);
            read_to_end(&mut peer);
        });
        let begun = Instant::now();
        assert!(client.close().ended);
        assert!(begun.elapsed() < ms(1000), "{:?}", begun.elapsed());
        server.join().unwrap();
    }
}

#[test]
fn a_close_frame_that_must_not_be_sent_is_refused_and_closes_nothing() {
    let listener = Listener::new();
    let client = listener.client().start().unwrap();
    let mut peer = listener.accept();
    for (code, reason) in [(1005, ""), (1006, ""), (999, ""), (2000, ""), (1000, &*"x".repeat(124))]
    {
        let error = client.close_with(code, reason).unwrap_err();
        assert!(matches!(error, Error::InvalidClose { .. }), "{error:?}");
    }
    client.send("still open").unwrap();
    assert_eq!(next_text(&mut peer), "still open");
}

#[test]
fn the_last_handle_closes_and_sends_what_is_queued() {
    let listener = Listener::new();
    let client = listener.client().start().unwrap();
    let mut peer = listener.accept();
    client.wait_connected(PATIENCE).unwrap();
    let other = client.clone();
    let sender = client.sender().clone();
    drop(client);
    other.send("one").unwrap();
    assert_eq!(next_text(&mut peer), "one");
    other.send("two").unwrap();
    let server = thread::spawn(move || {
        assert_eq!(next_text(&mut peer), "two");
        read_to_end(&mut peer).map(|frame| u16::from(frame.code))
    });
    drop(other);
    assert_eq!(server.join().unwrap(), Some(1000));
    assert!(matches!(sender.send("late"), Err(SendError { error: Error::Closed, .. })));
}

#[test]
fn a_handler_may_close_or_drop_the_last_handle() {
    for drops in [false, true] {
        let listener = Listener::new();
        let (give, given) = mpsc::channel::<Client>();
        let builder = listener.client().on_message(move |sender, _| {
            let client = given.recv_timeout(PATIENCE).unwrap();
            assert!(matches!(sender.send("bye"), Ok(())));
            if drops {
                drop(client);
            } else {
                let report = client.close();
                assert!(!report.ended);
            }
        });
        let (builder, watch) = watch(builder);
        let client = builder.start().unwrap();
        let mut peer = listener.accept();
        watch.connected();
        give.send(client).unwrap();
        peer.send("go".into()).unwrap();
        assert_eq!(next_text(&mut peer), "bye");
        read_to_end(&mut peer);
        drop(peer);
        watch.until(|event| matches!(event, Event::Closed { .. }).then_some(()));
    }
}

#[test]
fn an_event_callback_may_close_or_drop_the_last_handle() {
    let listener = Listener::new();
    let (give, given) = mpsc::channel::<Client>();
    let (said, heard) = mpsc::channel();
    let builder = listener.client().on_event(move |_, event| match event {
        Event::Connected { .. } => drop(given.recv_timeout(PATIENCE).unwrap()),
        Event::Closed { .. } => said.send(()).unwrap(),
        _ => {}
    });
    give.send(builder.start().unwrap()).unwrap();
    read_to_end(&mut listener.accept());
    heard.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn a_handler_that_does_not_return_holds_close_up_no_longer_than_its_bound() {
    let listener = Listener::new();
    let (hold, held) = crossbeam_channel::bounded::<()>(0);
    let (entered, enters) = mpsc::channel();
    let builder =
        listener.client().timeouts(Timeouts::new().close(ms(100))).on_message(move |_, _| {
            entered.send(()).unwrap();
            let _ = held.recv();
        });
    let client = builder.start().unwrap();
    let mut peer = listener.accept();
    peer.send("go".into()).unwrap();
    enters.recv_timeout(PATIENCE).unwrap();
    let begun = Instant::now();
    let report = client.close();
    assert!(begun.elapsed() < ms(100) + CLOSE_BOUND * 2, "{:?}", begun.elapsed());
    assert!(!report.ended);
    drop(hold);
}

#[test]
fn calls_from_many_threads_during_outages_all_return() {
    let listener = Listener::new();
    let client = listener.client().start().unwrap();
    let callers: Vec<_> = (0..8)
        .map(|number| {
            let client = client.clone();
            thread::spawn(move || {
                for _ in 0..200 {
                    match number % 4 {
                        0 => drop(client.send_timeout("x", ms(1))),
                        1 => drop(client.recv_timeout(ms(1))),
                        2 => drop(client.stats()),
                        _ => drop(client.reconnect()),
                    }
                }
            })
        })
        .collect();
    let server = thread::spawn(move || while listener.is_dialed_within(ms(300)) {});
    for caller in callers {
        caller.join().unwrap();
    }
    assert!(client.close().ended);
    server.join().unwrap();
}

/// A client whose handler is busy with the first of a thousand messages, until it is released.
struct Busy {
    client: Client,
    events: Watch,
    listener: Listener,
    release: crossbeam_channel::Sender<()>,
    calls: crossbeam_channel::Receiver<()>,
    peer: Option<std::net::TcpStream>,
}

fn busy_handler() -> Busy {
    let listener = Listener::new();
    let (release, released) = crossbeam_channel::bounded::<()>(0);
    let (called, calls) = crossbeam_channel::unbounded();
    let builder = listener.client().timeouts(Timeouts::new().close(ms(200)));
    let (builder, events) = watch(builder);
    let builder = builder.on_message(move |_, _| {
        let _ = called.send(());
        let _ = released.recv();
    });
    let client = builder.start().unwrap();
    let mut peer = upgrade(&listener);
    peer.write_all(&frame(TEXT, b"x").repeat(1000)).unwrap();
    calls.recv_timeout(PATIENCE).unwrap();
    Busy { client, events, listener, release, calls, peer: Some(peer) }
}

impl Busy {
    /// The same, with a link that has died, which only a write can notice.
    fn dead(mut self) -> Self {
        if let Some(peer) = self.peer.take() {
            socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        }
        self.client.send("x").unwrap();
        self.events.disconnected();
        self
    }
}

#[test]
fn after_close_a_handler_is_not_called_again() {
    close_beside(busy_handler());
}

#[test]
fn after_close_a_handler_gets_nothing_of_a_dead_link_either() {
    close_beside(busy_handler().dead());
}

fn close_beside(busy: Busy) {
    let Busy { client, release, calls, .. } = busy;
    assert!(!client.close().ended, "the handler has not returned");
    drop(release);
    let ours = format!("everlink-{}-", client.id());
    eventually("the end of its threads", || {
        let threads = everlink_threads();
        if threads.iter().any(|name| name.starts_with(&ours)) { Err(threads) } else { Ok(()) }
    });
    assert_eq!(calls.try_iter().count(), 0, "more calls");
}

#[test]
fn after_reconnect_only_the_call_that_runs_is_waited_for() {
    let Busy { client, listener, release, calls, peer, .. } = busy_handler();
    client.reconnect().unwrap();
    // what was written and is not read takes nothing along: the old link is reset
    let _ = std::io::copy(&mut peer.unwrap(), &mut std::io::sink());
    drop(release);
    let mut peer = upgrade(&listener);
    assert_eq!(calls.try_iter().count(), 0, "more calls for the old link");
    peer.write_all(&frame(TEXT, b"new")).unwrap();
    calls.recv_timeout(PATIENCE).unwrap();
    client.close();
}

#[test]
fn a_reconnect_does_not_wait_for_what_a_dead_link_has_left_to_a_handler() {
    let Busy { client, listener, release, calls, .. } = busy_handler().dead();
    client.reconnect().unwrap();
    let is_dialed = (0..100).any(|_| {
        // one call more, for the wish may not have been heard yet
        let _ = release.try_send(());
        listener.is_dialed_within(ms(20))
    });
    assert!(is_dialed, "{} calls, and no attempt", calls.try_iter().count());
    drop(release);
    client.close();
}

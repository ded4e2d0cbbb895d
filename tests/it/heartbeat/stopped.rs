//! A process that is stopped: the peer's, or this end's. Only Unix has the signals for it.
#![cfg(unix)]

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::detection;
use crate::support::*;
use everlink::Client;
use everlink::config::Heartbeat;
use rustix::process::{Pid, Signal, kill_process};
use tungstenite::Message;

/// Not a test of its own: the other side of the next test, in a process of its own.
#[test]
fn child_echo_server() {
    if std::env::var_os("EVERLINK_TEST_CHILD").is_none() {
        return;
    }
    let listener = Listener::new();
    println!("\nlistening on {}", listener.address());
    loop {
        let peer = listener.accept();
        thread::spawn(move || echo(peer));
    }
}

/// Another process, of which one has an address; it ends with this.
struct OtherProcess {
    child: Child,
    url: String,
}

impl OtherProcess {
    fn echo_server() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "heartbeat::stopped::child_echo_server", "--nocapture"])
            .env("EVERLINK_TEST_CHILD", "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = std::io::BufReader::new(child.stdout.take().unwrap());
        let address = std::io::BufRead::lines(output)
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("listening on ").map(str::to_owned))
            .expect("the child says where it listens");
        Self { child, url: format!("ws://{address}") }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for OtherProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The peer's kernel still acknowledges everything; only the process is stopped.
fn stopped_peer(busy: bool) {
    let server = OtherProcess::echo_server();
    let limit = ms(1500);
    let builder = Client::builder(&server.url)
        .heartbeat(Heartbeat::every(ms(300)).dead_after(limit))
        .backoff(everlink::config::Backoff::fixed(ms(10)));
    let (builder, watch) = watch(builder);
    let client = builder.connect().unwrap();
    let stop = Arc::new(everlink_test_flag::Flag::default());
    let traffic = busy.then(|| {
        let (client, stop) = (client.clone(), Arc::clone(&stop));
        thread::spawn(move || {
            while !stop.is_set() {
                let _ = client.send_timeout(vec![7; 1000], ms(10));
                while let Ok(Some(_)) = client.try_recv() {}
            }
        })
    });
    watch.connected();
    client.send("warm").unwrap();
    client.recv_timeout(PATIENCE).unwrap();
    server.signal(Signal::STOP);
    let time = detection(&client, &watch, Instant::now());
    // what was under way when the peer stopped may still have come in
    assert!(time >= limit - ms(300), "{time:?} is too early");
    assert!(time <= limit + limit / 10, "{time:?} is over {limit:?} + 10 %");
    server.signal(Signal::CONT);
    watch.connected();
    stop.set();
    if let Some(traffic) = traffic {
        traffic.join().unwrap();
    }
}

mod everlink_test_flag {
    use std::sync::atomic::{AtomicBool, Ordering};

    #[derive(Default)]
    pub struct Flag(AtomicBool);

    impl Flag {
        pub fn set(&self) {
            self.0.store(true, Ordering::SeqCst);
        }

        pub fn is_set(&self) -> bool {
            self.0.load(Ordering::SeqCst)
        }
    }
}

#[test]
fn a_stopped_peer_is_declared_dead_while_idle() {
    stopped_peer(false);
}

#[test]
fn a_stopped_peer_is_declared_dead_while_sending() {
    stopped_peer(true);
}

/// Not a test of its own: the client of the next one, in a process of its own.
#[test]
fn child_client() {
    let Ok(url) = std::env::var("EVERLINK_TEST_CHILD_URL") else { return };
    let limit =
        std::env::var("EVERLINK_TEST_CHILD_LIMIT").map_or(900, |text| text.parse().unwrap());
    let every = Heartbeat::every(ms((limit / 3).min(300))).dead_after(ms(limit));
    let heartbeat = match std::env::var("EVERLINK_TEST_CHILD_BEAT").as_deref() {
        Ok("listen") => Heartbeat::listen(ms(limit)),
        Ok("message") => every.message("beat", |_| false),
        _ => every,
    };
    let client = Client::builder(&url)
        .heartbeat(heartbeat)
        .backoff(everlink::config::Backoff::fixed(ms(10)))
        .connect()
        .unwrap();
    for message in &client {
        client.send(message).unwrap();
    }
}

/// A client in another process, which echoes.
fn client_elsewhere(listener: &Listener, limit: Duration, beat: &str) -> OtherProcess {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "heartbeat::stopped::child_client"])
        .env("EVERLINK_TEST_CHILD_URL", listener.url())
        .env("EVERLINK_TEST_CHILD_LIMIT", limit.as_millis().to_string())
        .env("EVERLINK_TEST_CHILD_BEAT", beat)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    OtherProcess { child, url: String::new() }
}

#[test]
fn who_was_held_up_gives_its_peer_no_less_time_than_the_limit() {
    let listener = Listener::new();
    let child = client_elsewhere(&listener, PATIENCE, "ping");
    let mut peer = listener.accept();
    peer.send("first".into()).unwrap();
    assert_eq!(next_text(&mut peer), "first");
    child.signal(Signal::STOP);
    thread::park_timeout(ms(1500));
    child.signal(Signal::CONT);
    // this end is slow, too, as all are on a machine that has too much to do: longer than a few
    // beats, far less than the limit
    thread::park_timeout(ms(2500));
    peer.send("second".into()).expect("the link is still up");
    assert_eq!(next_text(&mut peer), "second");
    assert!(!listener.is_dialed_within(ms(50)), "it is another link");
}

#[test]
fn a_process_that_was_held_up_asks_before_it_gives_a_peer_up() {
    let listener = Listener::new();
    let child = client_elsewhere(&listener, ms(900), "ping");
    let mut peer = listener.accept();
    peer.send("first".into()).unwrap();
    assert_eq!(next_text(&mut peer), "first");
    let hold_up = || {
        child.signal(Signal::STOP);
        // far beyond the limit; nothing happens meanwhile that could be waited for
        thread::park_timeout(ms(3000));
        child.signal(Signal::CONT);
    };
    hold_up();
    loop {
        match peer.read().expect("the link is still up") {
            Message::Ping(_) => break,
            other => assert!(other.is_pong(), "{other:?}"),
        }
    }
    peer.send("second".into()).unwrap();
    assert_eq!(next_text(&mut peer), "second");

    // now the peer says nothing any more
    hold_up();
    let asked = Instant::now();
    let mut stream = peer.get_ref();
    // to the end of the stream, or its reset
    let _ = std::io::copy(&mut stream, &mut std::io::sink());
    let time = asked.elapsed();
    assert!(time < ms(5000), "{time:?}");
    drop(listener.accept());
}

#[test]
fn a_process_that_was_held_up_reads_what_waits_before_it_gives_a_peer_up() {
    let rounds = ["listen", "message", "ping"].map(|beat| {
        thread::spawn(move || {
            let listener = Listener::new();
            let child = client_elsewhere(&listener, ms(900), beat);
            let mut peer = listener.accept();
            let says = |peer: &mut Peer, text: &str| {
                peer.send(text.into()).unwrap_or_else(|error| panic!("{beat}, {text}: {error}"));
            };
            let echoed = |peer: &mut Peer, text: &str| {
                // answers pings meanwhile, and takes beats
                let echo = |peer: &mut Peer| peer.read().is_ok_and(|echo| echo != text.into());
                while echo(peer) {}
                assert!(peer.can_read(), "{beat}, {text}: the link is still up");
            };
            // less than a second behind the limit, and more
            for time in [ms(1700), ms(1700), ms(1700), ms(3000)] {
                says(&mut peer, "before");
                echoed(&mut peer, "before");
                child.signal(Signal::STOP);
                says(&mut peer, "meanwhile");
                thread::park_timeout(time);
                child.signal(Signal::CONT);
                echoed(&mut peer, "meanwhile");
            }
            if beat == "listen" {
                // nothing waits, and nothing can be asked: the peer has its time again, also if that is
                // over before anybody could listen
                for _ in 0..2 {
                    child.signal(Signal::STOP);
                    thread::park_timeout(ms(3000));
                    child.signal(Signal::CONT);
                    thread::park_timeout(ms(100));
                }
                says(&mut peer, "late");
                echoed(&mut peer, "late");
            }
            assert!(!listener.is_dialed_within(ms(50)), "{beat}: it is another link");
        })
    });
    for round in rounds {
        round.join().unwrap();
    }
}

//! A thousand sessions at once, and a process without descriptors. Alone in its file: both
//! tests want the whole process, so they are one.
#![cfg(target_os = "linux")]

mod support;

use std::net::TcpStream;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use everlink::config::Heartbeat;
use everlink::{Client, Failure, Server};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use support::*;

const SESSIONS: usize = 1000;
const SILENT: usize = 100;

#[test]
fn a_thousand_sessions_are_beaten_and_the_silent_ones_removed() {
    init_log();
    let limit = Duration::from_secs(4);
    let (said, heard) = mpsc::channel();
    let server = Server::builder()
        .max_connections(SESSIONS + 10)
        .heartbeat(Heartbeat::every(Duration::from_secs(1)).dead_after(limit))
        .bind("127.0.0.1:0", move |session| {
            for _ in session.iter() {}
            let _ = said.send(session.failure());
        })
        .unwrap();
    let url = format!("ws://{}", server.local_addr());
    let connect = || {
        let stream = TcpStream::connect(server.local_addr()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        tungstenite::client(url.as_str(), stream).unwrap().0
    };
    // nine hundred answer their pings from the start, each on a small thread; a hundred, which
    // come last, do nothing any more
    let answering: Vec<_> = (0..SESSIONS - SILENT)
        .map(|_| {
            let mut client = connect();
            let read = move || {
                while client.read().is_ok() {}
                let _ = client.flush();
            };
            thread::Builder::new().stack_size(64 * 1024).spawn(read).unwrap()
        })
        .collect();
    let silent: Vec<_> = (0..SILENT).map(|_| connect()).collect();
    let begun = Instant::now();
    eventually("a thousand sessions", || match server.stats().sessions {
        SESSIONS => Ok(()),
        count => Err(count),
    });
    for number in 0..SILENT {
        let cause = heard.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            panic!("only {number} silent sessions were noticed: {:?}", server.stats())
        });
        let Some(Failure::HeartbeatTimeout { silence, unanswered, .. }) = cause.as_deref() else {
            panic!("{cause:?}")
        };
        assert!(*silence <= limit + limit / 10, "noticed after {silence:?}");
        assert!(*unanswered >= 2, "{unanswered} pings");
    }
    let time = begun.elapsed();
    assert!(time <= limit + limit / 10 + Duration::from_secs(1), "the last after {time:?}");
    eventually("the end of the silent sessions", || match server.stats().sessions {
        count if count == SESSIONS - SILENT => Ok(()),
        count => Err(count),
    });
    let sessions = server.sessions();
    for session in &sessions {
        assert!(session.stats().last_round_trip.is_some(), "{:?} was not beaten", session.stats());
    }
    drop(sessions);

    no_descriptors(&server, &url);

    let report = server.shutdown(PATIENCE);
    assert!(report.drained && report.stuck == 0, "{report:?}");
    for thread in answering {
        thread.join().unwrap();
    }
    assert_eq!(everlink_threads(), [""; 0]);
    drop(silent);
}

/// Without descriptors accepting fails, and goes on when there are some again.
fn no_descriptors(server: &Server, url: &str) {
    let before = getrlimit(Resource::Nofile);
    // this end of two connections that will wait in the backlog: one descriptor at the other end
    // was set aside when the accept began
    let new_socket = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let waiting = [new_socket(), new_socket()];
    let names = std::fs::read_dir("/proc/self/fd").unwrap();
    let numbers = names.filter_map(|name| name.ok()?.file_name().to_str()?.parse::<u64>().ok());
    let current = numbers.max().map(|number| number + 1);
    setrlimit(Resource::Nofile, Rlimit { current, maximum: before.maximum }).unwrap();
    let files: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    for socket in &waiting {
        socket.connect(&server.local_addr().into()).unwrap();
    }
    let cpu = || rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let begun = cpu();
    thread::park_timeout(Duration::from_millis(500));
    let spent = cpu() - begun;
    let accepted = server.stats().accepted;
    setrlimit(Resource::Nofile, before).unwrap();
    drop(files);
    assert!(accepted <= SESSIONS as u64 + 1, "there was a descriptor left");
    assert!(spent.tv_sec == 0 && spent.tv_nsec < 400_000_000, "spinning took {spent:?}");
    let client = Client::connect(url).expect("it accepts again");
    client.close();
    drop(waiting);
}

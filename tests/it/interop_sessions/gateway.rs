//! Behind a gateway that ends WebSocket on both of its sides: it answers pings and close frames by itself, and closes
//! links with whatever code. Nothing of that says anything about a session.

use std::thread;

use crossbeam_channel::unbounded;
use everlink::config::{Backoff, Resume};
use everlink::{Client, Event, Failure, Server, Session, SessionStart};

use super::heartbeat;
use super::workload::{From, Workload};
use crate::support::peers::{Program, python};
use crate::support::resumed::keep;
use crate::support::{PATIENCE, init_log, ms, watch};

/// With which the gateway closes; the first ones are those of a restart.
const CODES: [u16; 12] = [1000, 1001, 1012, 1013, 1011, 1014, 1008, 1002, 1003, 1007, 3000, 4000];

#[test]
fn a_session_goes_on_however_a_gateway_closes() {
    init_log();
    let Some(mut command) = python("websockets", "gateway.py") else { return };
    let (began, sessions) = unbounded();
    let server = Server::builder()
        .resume(Resume::within(PATIENCE))
        .heartbeat(heartbeat())
        .bind("127.0.0.1:0", move |session: Session| {
            let _ = began.send(session.clone());
            keep(&session);
        })
        .unwrap();
    let mut gateway = Program::start(command.arg(format!("ws://{}", server.local_addr())));
    let builder = Client::builder(gateway.line())
        .resume(Resume::new())
        .heartbeat(heartbeat())
        .backoff(Backoff::fixed(ms(5)));
    let (builder, events) = watch(builder);
    let client = builder.connect().unwrap();
    let session = sessions.recv_timeout(PATIENCE).unwrap();
    let work = Workload { count: 3_000, seed: 1, keeps_kinds: true };
    let (closed, is_closed) = unbounded::<()>();
    let start = || {
        events.until(|event| match event {
            Event::Connected { session, .. } => Some(*session),
            Event::GaveUp { cause, .. } => panic!("gave up: {cause}"),
            _ => None,
        })
    };
    assert_eq!(start(), SessionStart::New);
    let received = thread::scope(|scope| {
        let serving = scope.spawn(|| {
            work.exchange(From::Server, session.sender(), || {}, || session.recv_timeout(PATIENCE))
        });
        let dialing = scope.spawn(|| {
            let wait = || {
                let _ = is_closed.recv();
            };
            work.exchange(From::Client, client.sender(), wait, || client.recv_timeout(PATIENCE))
        });
        let closing = scope.spawn(move || {
            let _closed = closed;
            for code in CODES {
                gateway.tell(code);
                let start = start();
                assert!(matches!(start, SessionStart::Resumed { .. }), "{code}: {start:?}");
            }
            gateway
        });
        let gateway = closing.join().expect("each link is followed by another");
        let received = [serving, dialing].map(|side| side.join().expect("nothing panics"));
        client.close();
        drop(gateway);
        received
    });
    for received in received {
        let received = received.unwrap();
        assert!(received.is_exact(work), "{received:?}");
    }
    assert!(session.recv_timeout(PATIENCE).is_err() && sessions.is_empty(), "more than was sent");
    let failure = session.failure();
    let is_ended = matches!(failure.as_deref(), Some(Failure::Closed(Some(f))) if f.code.0 == 1000);
    assert!(is_ended, "{failure:?}");
    let (ours, theirs) = (client.stats(), session.stats());
    assert_eq!((ours.replaced, ours.in_doubt, ours.resumed), (0, 0, CODES.len() as u64));
    assert_eq!(theirs.resumed, ours.resumed);
}

//! Sessions survive their connection: nothing lost, nothing twice, in order, both ways.

mod support;

use std::thread;

use everlink::chaos::Cut;
use everlink::{Event, SessionStart};
use support::resumed::*;
use support::*;

#[test]
fn a_cut_connection_loses_nothing_and_the_handler_does_not_notice() {
    let pair = Pair::new();
    let session = pair.session();
    for round in 0..20 {
        let how = [Cut::Reset, Cut::EndOfStream][round % 2];
        for number in 0..10 {
            pair.client.send(format!("{round}-{number}")).unwrap();
            session.send(format!("{round}-{number}")).unwrap();
        }
        resumed(pair.cut(how));
        for number in 0..10 {
            let expected = format!("{round}-{number}");
            let at_server = session.recv_timeout(PATIENCE).unwrap();
            assert_eq!(at_server.as_text(), Some(&*expected), "at the server");
            let at_client = pair.client.recv_timeout(PATIENCE).unwrap();
            assert_eq!(at_client.as_text(), Some(&*expected), "at the client");
        }
    }
    assert_eq!(session.failure().map(|cause| cause.to_string()), None);
    assert_eq!(pair.client.stats().resumed, 20);
    assert_eq!(session.stats().resumed, 20);
    assert_eq!(pair.server.stats().resumed, 20);
    assert!(pair.sessions.try_recv().is_err(), "there is one session");
}

#[test]
fn the_torture_of_both_ways_at_once() {
    const COUNT: u64 = 20_000;
    let pair = Pair::new();
    let session = pair.session();
    pair.client.flush(PATIENCE).unwrap();
    pair.proxy.set(everlink::chaos::Faults::none().cut_within(300_000)).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            (0..COUNT).for_each(|n| pair.client.send(format!("{n} from the client")).unwrap())
        });
        scope.spawn(|| {
            (0..COUNT).for_each(|n| session.send(format!("{n} from the server")).unwrap())
        });
        scope.spawn(|| {
            let mut row = Row::default();
            while row.len() < COUNT {
                row.take(number(&session.recv_timeout(PATIENCE).unwrap()));
            }
            row.check(COUNT);
        });
        let mut row = Row::default();
        while row.len() < COUNT {
            row.take(number(&pair.client.recv_timeout(PATIENCE).unwrap()));
        }
        row.check(COUNT);
    });
    eprintln!("{} cuts, {:?}", pair.proxy.cuts(), pair.client.stats());
    let starts = pair.events.rest().into_iter().filter_map(|event| match event {
        Event::Connected { session, .. } => Some(session),
        _ => None,
    });
    assert!(starts.into_iter().all(|start| matches!(start, SessionStart::Resumed { .. })));
}

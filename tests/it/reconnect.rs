//! Losing a link and making the next one.

use std::net::TcpListener;
use std::thread;
use std::time::Instant;

use crate::support::*;
use everlink::config::Backoff;
use everlink::failure::{Decision, Next};
use everlink::{Client, Error, Event, Failure, State};
use tungstenite::protocol::CloseFrame;

/// What a client says of a link that ends like this, and whether it comes back.
fn ending(end: impl FnOnce(Peer)) -> (std::sync::Arc<Failure>, bool) {
    let listener = Listener::new();
    let (builder, watch) = watch(listener.client());
    let client = builder.start().unwrap();
    let peer = listener.accept();
    watch.connected();
    end(peer);
    let (cause, next) = watch.until(|event| match event {
        Event::Disconnected { cause, next, .. } => Some((cause.clone(), *next)),
        _ => None,
    });
    let comes_back = matches!(next, Next::Redial { .. });
    if comes_back {
        drop(listener.accept());
        watch.connected();
    } else {
        watch.gave_up();
        assert_eq!(client.state(), State::GaveUp);
    }
    (cause, comes_back)
}

#[test]
fn a_reset_is_noticed_and_redialed() {
    let (cause, comes_back) = ending(reset);
    assert!(matches!(&*cause, Failure::Io(_)), "{cause:?}");
    assert!(comes_back);
}

#[test]
fn a_reset_inside_a_frame_too() {
    let (cause, comes_back) = ending(|mut peer| {
        std::io::Write::write_all(peer.get_mut(), b"\x81\x7dhalf").unwrap();
        reset(peer);
    });
    assert!(matches!(&*cause, Failure::Io(_)), "{cause:?}");
    assert!(comes_back);
}

#[test]
fn an_end_of_stream_without_a_close_frame_is_abnormal() {
    let (cause, comes_back) = ending(drop);
    assert!(matches!(&*cause, Failure::ClosedAbnormally), "{cause:?}");
    assert!(comes_back);
    let (cause, comes_back) = ending(|mut peer| {
        std::io::Write::write_all(peer.get_mut(), b"\x81\x7dhalf").unwrap();
    });
    assert!(matches!(&*cause, Failure::ClosedAbnormally), "{cause:?}");
    assert!(comes_back);
}

#[test]
fn a_close_frame_is_answered_once_and_told_with_its_reason() {
    for (code, comes_back) in [
        (1000, true),
        (1001, true),
        (1011, true),
        (1012, true),
        (1013, true),
        (4321, true),
        (1008, false),
        (3000, false),
    ] {
        let (cause, came_back) = ending(|mut peer| {
            let frame = CloseFrame { code: code.into(), reason: "because".into() };
            peer.close(Some(frame.clone())).unwrap();
            let answer = read_to_end(&mut peer).expect("the close frame is answered");
            assert_eq!(answer, frame);
        });
        let Failure::Closed(Some(frame)) = &*cause else { panic!("{code}: {cause:?}") };
        assert_eq!((frame.code.0, frame.reason.as_str()), (code, "because"));
        assert_eq!(came_back, comes_back, "{code}");
    }
    let (cause, comes_back) = ending(|mut peer| {
        peer.close(None).unwrap();
        read_to_end(&mut peer);
    });
    assert!(matches!(&*cause, Failure::Closed(None)), "{cause:?}");
    assert!(comes_back);
}

#[test]
fn a_violation_is_told_to_the_peer_and_permanent() {
    for (bytes, code) in [
        (&b"\x81\x02\xc3\x28"[..], 1007),
        (b"\xc1\x00", 1002),
        (b"\x83\x00", 1002),
        (b"\x82\x7f\x00\x00\x00\x01\x00\x00\x00\x00", 1009),
        (b"\x88\x01\x00", 1002),
    ] {
        let (cause, comes_back) = ending(|mut peer| {
            std::io::Write::write_all(peer.get_mut(), bytes).unwrap();
            let told = read_to_end(&mut peer).expect("a close frame");
            assert_eq!(u16::from(told.code), code);
        });
        let Failure::Protocol { code: seen, .. } = &*cause else { panic!("{cause:?}") };
        assert_eq!(seen.0, code);
        assert!(!comes_back);
    }
}

#[test]
fn a_goodbye_is_heard_even_if_the_peer_is_gone_before_we_answer() {
    let listener = Listener::new();
    let (builder, watch) = watch(listener.client());
    let client = builder.start().unwrap();
    for _ in 0..20 {
        let mut peer = listener.accept();
        watch.connected();
        // something is always being written
        let sends = thread::spawn({
            let client = client.clone();
            move || (0..200).try_for_each(|_| client.send("x"))
        });
        peer.send("last words".into()).unwrap();
        let _ = peer.close(Some(CloseFrame { code: 1012.into(), reason: "".into() }));
        drop(peer);
        let cause = watch.disconnected();
        // a reset of the peer's kernel can erase a goodbye that it had already sent
        assert!(
            matches!(&*cause, Failure::Closed(Some(frame)) if frame.code.0 == 1012)
                || matches!(&*cause, Failure::Io(_)),
            "{cause:?}"
        );
        if matches!(&*cause, Failure::Closed(_)) {
            assert_eq!(client.recv().unwrap().as_text(), Some("last words"));
        }
        sends.join().unwrap().unwrap();
        while client.try_recv().unwrap().is_some() {}
    }
}

#[test]
fn what_is_queued_survives_outages_in_order() {
    let listener = Listener::new();
    let client = listener.client().start().unwrap();
    let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
    let sends = thread::spawn({
        let client = client.clone();
        move || {
            let running = || stopped.try_recv() == Err(crossbeam_channel::TryRecvError::Empty);
            let mut numbers = (0_u64..).take_while(|_| running());
            numbers.try_fold(0, |_, number| client.send(number.to_string()).map(|()| number + 1))
        }
    });
    let mut seen: Vec<u64> = Vec::new();
    for _ in 0..5 {
        let mut peer = listener.accept();
        seen.extend((0..100).map(|_| next_text(&mut peer).parse::<u64>().unwrap()));
        reset(peer);
    }
    let mut peer = listener.accept();
    drop(stop);
    let total = sends.join().unwrap().unwrap();
    // what a dead link had taken may be lost, the end of this one is not
    client.send("end").unwrap();
    loop {
        match next_text(&mut peer).as_str() {
            "end" => break,
            number => seen.push(number.parse().unwrap()),
        }
    }
    assert!(seen.is_sorted_by(|a, b| a < b), "reordered or sent twice");
    // the peer can be faster than the client's own bookkeeping
    client.wait_sent(PATIENCE).unwrap();
    let stats = client.stats();
    assert_eq!(stats.messages_sent, total + 1, "each was written once: {stats:?}");
}

#[test]
fn after_the_last_attempt_the_program_decides() {
    let address = Listener::new().address();
    let (builder, watch) = watch(
        Client::builder(format!("ws://{address}")).backoff(Backoff::fixed(ms(1))).max_attempts(3),
    );
    let client = builder.start().unwrap();
    let (cause, attempts) = watch.until(|event| match event {
        Event::GaveUp { cause, attempts, .. } => Some((cause.clone(), *attempts)),
        _ => None,
    });
    assert!(matches!(&*cause, Failure::Connect { .. }), "{cause:?}");
    assert_eq!(attempts, 3);
    assert_eq!(client.state(), State::GaveUp);
    // it stays usable: it queues, and it says that nothing will come
    client.send("later").unwrap();
    assert!(matches!(client.recv(), Err(Error::GaveUp(_))));
    assert!(matches!(client.wait_connected(PATIENCE), Err(Error::GaveUp(_))));

    let listener = TcpListener::bind(address).expect("the port is still free");
    client.reconnect().unwrap();
    // at once, not when the manager gets round to it
    assert_ne!(client.state(), State::GaveUp);
    assert!(client.try_recv().unwrap().is_none());
    let mut peer = tungstenite::accept(listener.accept().unwrap().0).unwrap();
    client.wait_connected(PATIENCE).unwrap();
    assert_eq!(next_text(&mut peer), "later");
    peer.send("hello again".into()).unwrap();
    assert_eq!(client.recv().unwrap().as_text(), Some("hello again"));
}

#[test]
fn reconnect_cuts_a_backoff_short_and_replaces_a_live_link() {
    let listener = Listener::new();
    let builder = listener.client().backoff(Backoff::fixed(PATIENCE * 100));
    let (builder, watch) = watch(builder);
    let client = builder.start().unwrap();
    reset(listener.accept());
    watch.disconnected();
    client.reconnect().unwrap();
    let mut peer = listener.accept();
    watch.connected();

    client.reconnect().unwrap();
    // at once, not when the old link is gone
    assert_ne!(client.state(), State::Connected);
    let farewell = read_to_end(&mut peer).expect("the old link is closed politely");
    assert_eq!(u16::from(farewell.code), 1000);
    drop(peer);
    let cause = watch.disconnected();
    assert!(matches!(&*cause, Failure::ReconnectRequested), "{cause:?}");
    drop(listener.accept());
    watch.connected();
    client.close();
    assert!(matches!(client.reconnect(), Err(Error::Closed)));
}

#[test]
fn a_wish_for_a_new_link_that_meets_the_end_of_the_old_one_is_not_lost() {
    let listener = Listener::new();
    let builder = listener.client().backoff(Backoff::fixed(PATIENCE * 100));
    let client = builder.start().unwrap();
    for _ in 0..100 {
        let peer = listener.accept();
        client.wait_connected(PATIENCE).unwrap();
        reset(peer);
        client.reconnect().unwrap();
    }
}

#[test]
fn any_number_of_wishes_for_a_new_link_make_one_attempt() {
    let listener = Listener::new();
    let builder = listener.client().backoff(Backoff::fixed(PATIENCE * 100));
    let (builder, watch) = watch(builder);
    let client = builder.start().unwrap();
    let held = listener.accept_raw();
    for _ in 0..50 {
        client.reconnect().unwrap();
    }
    drop(held);
    watch.attempt_failed();
    drop(listener.accept_raw());
    watch.attempt_failed();
    assert!(!listener.is_dialed_within(ms(300)), "{:?}", watch.rest());
    assert_eq!(client.state(), State::BackingOff);
}

#[test]
fn the_end_of_a_link_is_told_at_once_while_a_handler_runs_that_the_redial_waits_for() {
    let listener = Listener::new();
    let (arrived, has_arrived) = crossbeam_channel::bounded(1);
    let (release, released) = crossbeam_channel::bounded::<()>(0);
    let (builder, watch) = watch(listener.client().on_message(move |_, _| {
        let _ = arrived.send(());
        let _ = released.recv();
    }));
    let begun = Instant::now();
    let client = builder.start().unwrap();
    let mut peer = listener.accept();
    watch.connected();
    peer.send("x".into()).unwrap();
    has_arrived.recv_timeout(PATIENCE).unwrap();
    reset(peer);
    eventually("the death of the link", || {
        client.send("x").unwrap();
        let state = client.state();
        if state == State::Disconnected { Ok(()) } else { Err(state) }
    });
    let lived = begun.elapsed();
    let uptime = watch.until(|event| match event {
        Event::Disconnected { uptime, .. } => Some(*uptime),
        _ => None,
    });
    assert!(uptime <= lived, "a slow program does not make a link look stable: {uptime:?}");
    assert!(!listener.is_dialed_within(ms(100)), "the program is not done with the old link");
    assert_eq!(client.state(), State::Disconnected, "nothing is counting");
    drop(release);
    let _peer = listener.accept();
    watch.connected();
}

#[test]
fn a_link_that_flaps_does_not_reset_the_backoff_and_a_stable_one_does() {
    let delays = |stable_after| {
        let listener = Listener::new();
        let (builder, watch) = watch(
            listener
                .client()
                .backoff(Backoff::custom(|retry| ms(u64::from(retry))))
                .stable_after(stable_after),
        );
        let _client = builder.start().unwrap();
        let mut delays = Vec::new();
        for _ in 0..4 {
            reset(listener.accept());
            delays.push(watch.until(|event| match event {
                Event::Disconnected { next: Next::Redial { delay, .. }, .. } => Some(*delay),
                _ => None,
            }));
        }
        delays
    };
    assert_eq!(delays(PATIENCE), [ms(1), ms(2), ms(3), ms(4)]);
    assert_eq!(delays(ms(0)), [ms(1); 4]);
}

#[test]
fn a_link_that_never_gets_stable_counts_as_a_failed_attempt() {
    let listener = Listener::new();
    let (builder, watch) = watch(listener.client().max_attempts(2));
    let _client = builder.start().unwrap();
    reset(listener.accept());
    watch.disconnected();
    reset(listener.accept());
    watch.gave_up();
}

#[test]
fn the_program_can_decide_otherwise() {
    let listener = Listener::new();
    let (builder, watch) = watch(listener.client().decide(|_, failure| match failure {
        Failure::Rejected { status, .. } if status.as_u16() == 404 => Decision::RetryAfter(ms(200)),
        Failure::Closed(Some(frame)) if frame.code.0 == 1000 => Decision::GiveUp,
        other => other.decision(),
    }));
    let client = builder.start().unwrap();
    drop(listener.answer("HTTP/1.1 404 Not yet\r\n\r\n"));
    let next = watch.until(|event| match event {
        Event::AttemptFailed { next, .. } => Some(*next),
        _ => None,
    });
    assert!(matches!(next, Next::Redial { delay, .. } if delay == ms(200)), "{next:?}");
    let mut peer = listener.accept();
    peer.close(Some(CloseFrame { code: 1000.into(), reason: "".into() })).unwrap();
    read_to_end(&mut peer);
    drop(peer);
    watch.gave_up();
    assert!(client.recv().is_err());
}

#[test]
fn a_policy_that_panics_ends_it_with_that_cause() {
    let listener = Listener::new();
    let (builder, first) = watch(listener.client().decide(|_, _| panic!("undecided")));
    let _client = builder.start().unwrap();
    reset(listener.accept());
    assert_eq!(first.gave_up().to_string(), "decision function panicked: undecided");

    let backoff = Backoff::custom(|_| panic!("no patience"));
    let (builder, second) = watch(listener.client().backoff(backoff));
    let _client = builder.start().unwrap();
    reset(listener.accept());
    assert_eq!(second.gave_up().to_string(), "backoff panicked: no patience");

    let (builder, third) =
        watch(listener.client().on_request(|request| {
            if request.attempt() == 1 { panic!("no request") } else { Ok(()) }
        }));
    let _client = builder.start().unwrap();
    assert_eq!(third.attempt_failed().to_string(), "request closure panicked: no request");
    drop(listener.accept());
}

#[test]
fn the_connected_event_tells_attempts_and_downtime() {
    let address = Listener::new().address();
    let (builder, watch) =
        watch(Client::builder(format!("ws://{address}")).backoff(Backoff::fixed(ms(5))));
    let client = builder.start().unwrap();
    watch.attempt_failed();
    watch.attempt_failed();
    let listener = TcpListener::bind(address).expect("the port is still free");
    let server = thread::spawn(move || tungstenite::accept(listener.accept().unwrap().0).unwrap());
    let Event::Connected { attempts, downtime, .. } = watch.connected() else { unreachable!() };
    assert!(attempts >= 3, "{attempts}");
    assert!(downtime >= ms(10), "{downtime:?}");
    let stats = client.stats();
    assert_eq!((stats.connects, stats.reconnects), (1, 0));
    assert!(stats.uptime.is_some() && stats.total_downtime >= downtime, "{stats:?}");
    drop(server.join().unwrap());
}

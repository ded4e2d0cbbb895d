//! How sessions end, byte by byte, as the server says and hears it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use crate::support::bare::*;
use crate::support::resumed::{keep, next, resuming_server, serve, text};
use crate::support::speaker::*;
use crate::support::*;
use crossbeam_channel::{Receiver, bounded, unbounded};
use everlink::config::{Limits, Resume, Timeouts};
use everlink::{Error, Failure, Server, Session};

fn begin(address: SocketAddr, sessions: &Receiver<Session>) -> (Speaker, Session) {
    let client = Speaker::new(address);
    (client, next(sessions))
}

fn over(session: &Session) -> Arc<Failure> {
    let mut cause = None;
    eventually("the end", || {
        cause = session.failure();
        cause.clone().map(drop).ok_or(())
    });
    cause.unwrap()
}

fn closed(code: u16) -> [Said; 2] {
    [Said::Close(Some(code)), Said::End(End::InOrder)]
}

/// What is said to a client that asks for a session which is over, up to the code of the end; twice, for that may be
/// lost as well.
fn says_again(address: SocketAddr, kept: &mut Kept, counted: u64, end: &str) {
    for _ in 0..2 {
        let mut client = Speaker::to(address);
        client.claim(&kept.offer(), kept);
        assert_eq!(client.counted, Some(counted), "{}", client.answer);
        assert_eq!(client.hear(), Said::Text(format!("r {counted}")));
        assert_eq!(client.hear(), Said::text(end));
        client.report();
        // whatever it sends again is passed over, also what is large
        client.send(&"x".repeat(5000));
        let code = end[2..6].parse().unwrap();
        assert_eq!(client.end(code), closed(code), "{end}");
    }
}

fn is_forgotten(address: SocketAddr, kept: &mut Kept) {
    let mut client = Speaker::to(address);
    client.claim(&kept.offer(), kept);
    assert_eq!(client.counted, None, "it is over");
}

#[test]
fn an_end_is_answered_at_once_and_as_often_as_it_is_asked_for() {
    let (server, sessions) = serve(resuming_server());
    let address = server.local_addr();
    let (mut client, session) = begin(address, &sessions);
    client.send("a");
    client.send("b");
    client.say("g 3");
    let rest = client.end(1000);
    assert_eq!(rest[..2], [Said::text("r 5"), Said::text("e 1000")]);
    assert_eq!(rest[2..], closed(1000));
    // what came before it is received
    assert_eq!([(); 2].map(|()| text(&session.recv_timeout(PATIENCE).unwrap())), ["a", "b"]);
    assert!(matches!(session.recv(), Err(Error::Closed)));
    let cause = over(&session);
    assert!(matches!(&*cause, Failure::Closed(Some(frame)) if frame.code.0 == 1000), "{cause}");
    says_again(address, &mut client.kept, 5, "e 1000");
    // of another purpose, or with numbers that cannot be, it is no more known than any other
    for (path, numbers) in [("/other", "received=0"), ("/", "received=1")] {
        let mut other = Speaker::at(address, path, "everlink.1");
        let offer = format!("s {} attempt=99 {numbers}", client.kept.token);
        other.claim(&offer, &client.kept);
        assert_eq!(other.counted, None);
    }
    // nor is an offer that is late
    let mut late = Speaker::to(address);
    let offer = format!("s {} attempt=2 received=0", client.kept.token);
    late.claim(&offer, &client.kept);
    assert_eq!(late.counted, None);
    assert_eq!(server.stats().sessions, 0);
}

#[test]
fn what_is_queued_goes_before_the_end_of_a_program_and_not_before_an_answer() {
    let builder = Server::builder().resume(Resume::within(PATIENCE).unconfirmed(2, 1 << 20));
    let (server, sessions) = serve(builder);
    for closes in [true, false] {
        let (mut client, session) = begin(server.local_addr(), &sessions);
        for number in 0..4 {
            session.send(number.to_string()).unwrap();
        }
        let two = |client: &mut Speaker| [(); 2].map(|()| client.hear_unasked());
        assert_eq!(two(&mut client), ["m0", "m1"].map(Said::text));
        if !closes {
            let mut rest = client.end(4321);
            rest.retain(|said| *said != Said::text("a"));
            assert_eq!(rest[..2], [Said::text("r 0"), Said::text("e 4321")]);
            over(&session);
            continue;
        }
        let closing = thread::spawn(move || session.close_with(4000, "enough \u{e9}").unwrap());
        client.kept.received = 2;
        client.report();
        assert_eq!(two(&mut client), ["m2", "m3"].map(Said::text));
        client.kept.received = 4;
        assert_eq!(client.hear_unasked(), Said::text("r 0"));
        assert_eq!(client.hear(), Said::text("e 4000 enough \u{e9}"));
        assert!(client.is_quiet(ms(50)), "the close frame waits for the answer");
        assert_eq!(client.end(4000), closed(4000));
        closing.join().unwrap();
    }
}

/// Which end the server says, how many messages it has counted by then, and whether they get through.
fn ends(how: &str) -> (Server, Speaker, Receiver<Session>) {
    let how = how.to_owned();
    let (go, wait) = bounded::<()>(0);
    let (sender, sessions) = unbounded();
    let server = resuming_server().limits(Limits::new().message(6000)).bind(
        "127.0.0.1:0",
        move |session: Session| {
            let _ = sender.send(session.clone());
            assert_eq!(text(&session.recv_timeout(PATIENCE).unwrap()), "go");
            session.send("last words").unwrap();
            match &*how {
                "panic" => panic!("a test"),
                "close" => session.close_with(4000, "bye now").unwrap(),
                "return" => {}
                _ => keep(&session),
            }
            let _ = &wait;
        },
    );
    let server = server.unwrap();
    let mut client = Speaker::new(server.local_addr());
    client.send("go");
    assert_eq!(client.recv(), "last words");
    drop(go);
    (server, client, sessions)
}

#[test]
fn each_end_of_the_servers_has_its_code_and_waits_for_its_answer() {
    for (how, end) in [
        ("return", "e 1000"),
        ("close", "e 4000 bye now"),
        ("panic", "e 1011"),
        ("large", "e 1009"),
    ] {
        for is_answered in [true, false] {
            let (server, mut client, sessions) = ends(how);
            let session = next(&sessions);
            if how == "large" {
                client.send(&"x".repeat(6001));
            }
            assert_eq!(client.hear_end(), Said::text(end), "{how}");
            if is_answered {
                let rest = client.end(end[2..6].parse().unwrap());
                let code = if how == "large" { 1009 } else { 1000 };
                assert_eq!(rest.last(), Some(&Said::End(End::InOrder)), "{how} {rest:?}");
                assert_eq!(rest.len(), 2, "{how} {rest:?}");
                assert!(matches!(rest[0], Said::Close(Some(_))), "{how} {rest:?} {code}");
                over(&session);
                says_again(server.local_addr(), &mut client.kept, 1, end);
                continue;
            }
            // the answer does not come: it is said again, with what was not confirmed before it
            let mut kept = client.reset();
            kept.received = if how == "large" { 1 } else { 0 };
            for _ in 0..2 {
                let mut client = Speaker::resume(server.local_addr(), &mut kept);
                assert_eq!(client.counted, Some(1), "{how}");
                if how != "large" {
                    assert_eq!(client.hear(), Said::text("mlast words"), "{how}");
                }
                assert_eq!(client.hear_unasked(), Said::text("r 1"), "{how}");
                assert_eq!(client.hear(), Said::text(end), "{how}");
                client.reset();
            }
        }
    }
}

#[test]
fn a_client_that_sends_what_is_too_large_again_reads_the_end() {
    let (server, mut client, _sessions) = ends("large");
    let large = format!("m{}", "x".repeat(1 << 20));
    let _ = client.try_say(&large);
    assert_eq!(client.hear_end(), Said::text("e 1009"));
    let mut kept = client.reset();
    let mut client = Speaker::resume(server.local_addr(), &mut kept);
    let _ = client.try_say(&large);
    assert_eq!([client.hear(), client.hear()], ["r 1", "e 1009"].map(Said::text));
    let rest = client.end(1009);
    assert_eq!(rest.last(), Some(&Said::End(End::InOrder)), "{rest:?}");
}

#[test]
fn a_shutdown_says_so_and_waits_for_the_answer() {
    let (server, mut client, sessions) = ends("");
    let session = next(&sessions);
    let shutting_down = thread::spawn(move || server.shutdown(PATIENCE));
    assert_eq!(client.hear_end(), Said::text("e 1001 server going down"));
    assert!(client.is_quiet(ms(50)));
    assert_eq!(client.end(1001)[1], Said::End(End::InOrder));
    let report = shutting_down.join().unwrap();
    assert!(report.drained, "{report:?}");
    over(&session);
}

#[test]
fn a_client_that_has_not_reported_is_told_nothing_of_a_shutdown() {
    let (server, sessions) = serve(resuming_server());
    let mut client = Speaker::to(server.local_addr());
    client.offer("s new");
    let begun = std::time::Instant::now();
    let report = server.shutdown(PATIENCE);
    assert!(report.drained && begun.elapsed() < PATIENCE / 3, "{report:?}");
    assert!(matches!(&client.rest()[..], [Said::End(_)] | [Said::Close(_), Said::End(_)]));
    assert!(sessions.is_empty());
}

#[test]
fn ends_that_cross_are_both_said_and_the_token_is_kept() {
    let (server, sessions) = serve(resuming_server());
    let address = server.local_addr();
    let (mut client, session) = begin(address, &sessions);
    client.send("a");
    assert_eq!(text(&session.recv_timeout(PATIENCE).unwrap()), "a");
    let closing = thread::spawn({
        let session = session.clone();
        move || session.close_with(4000, "").unwrap()
    });
    // its end is on its way while the server's is
    client.report();
    assert_eq!(client.hear_unasked(), Said::text("r 1"));
    client.say("e 4001");
    let mut kept = client.reset();
    closing.join().unwrap();
    over(&session);
    // it has not read the server's: that is said again
    for _ in 0..2 {
        let mut client = Speaker::resume(address, &mut kept);
        assert_eq!(client.counted, Some(1), "{}", client.answer);
        assert_eq!(client.hear(), Said::text("r 1"));
        assert!(matches!(client.hear(), Said::Text(end) if end.starts_with("e 400")));
        client.reset();
    }
}

#[test]
fn after_its_end_a_server_counts_nothing_also_on_the_next_link() {
    let (server, mut client, sessions) = ends("return");
    let session = next(&sessions);
    assert_eq!(client.hear_unasked(), Said::text("r 1"));
    assert_eq!(client.hear(), Said::text("e 1000"));
    client.send("late");
    let mut kept = client.reset();
    let mut client = Speaker::resume(server.local_addr(), &mut kept);
    assert_eq!(client.counted, Some(1));
    client.send("again");
    client.say("a");
    let said: Vec<Said> = [(); 2].map(|()| client.hear()).to_vec();
    assert!(said.contains(&Said::text("r 1")), "{said:?}");
    let end = client.end(1000);
    assert!(end.iter().all(|said| !matches!(said, Said::Text(text) if text == "r 2")), "{end:?}");
    over(&session);
    says_again(server.local_addr(), &mut kept, 1, "e 1000");
}

#[test]
fn what_came_before_an_end_that_is_answered_is_confirmed() {
    let (server, sessions) = serve(resuming_server());
    for received in [3, 1] {
        let (mut client, session) = begin(server.local_addr(), &sessions);
        let receipts: Vec<_> =
            ["0", "1", "2"].map(|text| session.send_confirmed(text).unwrap()).into();
        // it reads them, and does not say so
        let mut heard = 0;
        while heard < 3 {
            heard +=
                usize::from(matches!(client.hear(), Said::Text(text) if text.starts_with('m')));
        }
        let closing = thread::spawn(move || session.close_with(1000, "").unwrap());
        assert_eq!(client.hear_end(), Said::text("e 1000"));
        client.kept.received = received;
        client.end(1000);
        closing.join().unwrap();
        let known: Vec<_> = receipts.iter().map(|receipt| receipt.wait(PATIENCE).is_ok()).collect();
        assert_eq!(known, [0, 1, 2].map(|number| number < received), "{received}");
    }
}

#[test]
fn a_close_frame_ends_the_link_and_not_the_session() {
    let (server, sessions) = serve(resuming_server());
    for code in [1000, 1001, 1002, 1008, 1011] {
        let (mut client, session) = begin(server.local_addr(), &sessions);
        client.write(&masked(CLOSE, &close_body(code, "bye")));
        assert_eq!(client.rest(), closed(code));
        eventually("the loss", || if session.is_connected() { Err(()) } else { Ok(()) });
        assert!(session.failure().is_none(), "{code}");
        let client = Speaker::resume(server.local_addr(), &mut client.kept);
        assert_eq!(client.counted, Some(0));
    }
}

#[test]
fn each_violation_is_answered_by_1002_and_the_session_is_forgotten() {
    let (server, sessions) = serve(resuming_server());
    let address = server.local_addr();
    let letter = |letter: u8, rest: &str| masked(BINARY, &[&[letter], rest.as_bytes()].concat());
    let said = |text: &str| masked(TEXT, text.as_bytes());
    let violations = [
        ("an empty message", said("")),
        ("an empty binary message", masked(BINARY, b"")),
        ("an unknown letter", said("zebra")),
        ("a letter in upper case", said("Mx")),
        ("a letter that is not ASCII", said("\u{e9}")),
        ("a binary report", letter(b'r', " 0")),
        ("a binary question", letter(b'a', "")),
        ("a binary gap", letter(b'g', " 1")),
        ("a binary end", letter(b'e', " 1000")),
        ("an offer in the middle", said("s new")),
        ("an answer in the middle", said(&format!("s {} received=0", "x".repeat(22)))),
        ("a binary offer in the middle", letter(b's', " new")),
        ("a report above what was written", said("r 2")),
        ("a report below zero", said("r -1")),
        ("a report of 16 digits", said("r 1000000000000000")),
        ("a question with more", said("a ")),
        ("a gap beyond the numbers", said("g 999999999999999")),
        ("an end of three digits", said("e 100")),
        ("an end with a code that no close frame may have", said("e 1006")),
        ("an end with a control character", said("e 1000 a\u{7f}")),
        ("a reserved bit", vec![0xc1, 0x81, 0, 0, 0, 0, b'm']),
        ("a frame without a mask", frame(TEXT, b"mx")),
    ];
    for (what, bytes) in violations {
        let (mut client, session) = begin(address, &sessions);
        session.send("0").unwrap();
        client.send("a");
        assert_eq!(text(&session.recv_timeout(PATIENCE).unwrap()), "a");
        assert_eq!(client.recv(), "0");
        client.write(&bytes);
        let rest = client.rest();
        let is_end = |said: &Said| matches!(said, Said::Text(text) if text.starts_with('e'));
        assert!(!rest.iter().any(is_end), "{what}: {rest:?}");
        assert!(rest.ends_with(&closed(1002)), "{what}: {rest:?}");
        let cause = over(&session);
        assert!(matches!(&*cause, Failure::Protocol { code, .. } if code.0 == 1002), "{cause}");
        is_forgotten(address, &mut client.kept);
    }
}

#[test]
fn the_first_message_after_each_answer_is_a_report() {
    let (server, sessions) = serve(resuming_server());
    let address = server.local_addr();
    for wrong in ["m", "mx", "x", "a", "g 1", "g 0", "e 1000", "s new", "r 1"] {
        let mut client = Speaker::to(address);
        client.offer("s new");
        client.say(wrong);
        assert_eq!(client.rest(), closed(1002), "{wrong}");
        is_forgotten(address, &mut client.kept);
        assert!(sessions.is_empty(), "{wrong}");

        let (client, session) = begin(address, &sessions);
        let mut kept = client.reset();
        let mut client = Speaker::to(address);
        client.claim(&kept.offer(), &kept);
        assert_eq!(client.counted, Some(0));
        client.say(wrong);
        assert_eq!(client.rest(), closed(1002), "resumed, {wrong}");
        over(&session);
        is_forgotten(address, &mut kept);
    }
}

#[test]
fn what_a_link_begins_with_is_an_offer_or_the_end_of_it() {
    let (server, sessions) = serve(resuming_server().timeouts(Timeouts::new().handshake(ms(400))));
    let address = server.local_addr();
    let unknown = "x".repeat(22);
    let long = format!("s new x={}", "y".repeat(5000));
    for wrong in [
        "",
        "s",
        "s ",
        "S new",
        "s new ",
        "s  new",
        "s new x",
        "hello",
        "r 0",
        "m",
        "a",
        "e 1000",
        "s new\n",
        &format!("s {unknown}"),
        &format!("s {unknown} received=0 attempt=1"),
        &format!("s {} attempt=1 received=0", &unknown[1..]),
        &format!("s {unknown} attempt=1000000000000000 received=0"),
        &long,
    ] {
        let mut client = Speaker::to(address);
        client.say(wrong);
        let rest = client.rest();
        let code = if wrong == long { 1009 } else { 1002 };
        assert_eq!(rest, closed(code), "{wrong:?}");
    }
    let mut client = Speaker::to(address);
    client.write(&masked(BINARY, b"s new"));
    assert_eq!(client.close_code(), Some(1002));
    // nor is it waited for without end, whatever trickles in
    for answered in [false, true] {
        let mut client = Speaker::to(address);
        if answered {
            client.offer("s new");
        }
        let begun = std::time::Instant::now();
        client.write(&masked(TEXT, b"s new")[..7]);
        let rest = client.rest();
        assert!(begun.elapsed() < PATIENCE / 3, "{rest:?}");
    }
    assert!(sessions.is_empty());
    // in fragments, the first of them empty, it is one as well
    let mut client = Speaker::to(address);
    client.write(&masked(0x01, b""));
    client.write(&masked(PING, b""));
    client.write(&masked(0x80, b"s new"));
    assert!(matches!(client.hear(), Said::Text(answer) if answer.starts_with("s ")));
    client.report();
    assert!(next(&sessions).failure().is_none());
}

#[test]
fn a_reason_that_an_end_cannot_carry_is_refused() {
    let (server, sessions) = serve(resuming_server());
    let (mut client, session) = begin(server.local_addr(), &sessions);
    for wrong in ["a\nb", "\u{0}", "\u{7f}", "\u{85}"] {
        let refused = session.close_with(4000, wrong);
        assert!(matches!(refused, Err(Error::InvalidClose { .. })), "{wrong:?}: {refused:?}");
    }
    assert!(client.is_quiet(ms(50)));
    client.send("still here");
    assert_eq!(text(&session.recv_timeout(PATIENCE).unwrap()), "still here");
}

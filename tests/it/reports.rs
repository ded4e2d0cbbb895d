//! What users of other libraries of this kind have reported of them, tried on this one.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use crate::support::bare::{BINARY, CLOSE, TEXT, close_body, frame, read_frame, upgrade};
use crate::support::*;
use everlink::config::{Backoff, Timeouts};
use everlink::failure::Decision;
use everlink::{Client, Event};

/// A program that a server starts and that outlives it must not keep the port, nor a connection
/// that the peer is waiting to see ended.
#[test]
#[cfg(target_os = "linux")]
fn a_child_process_inherits_no_socket() {
    let server = echo_server();
    let address = server.local_addr();
    let client = Client::connect(format!("ws://{address}")).unwrap();
    client.send("hello").unwrap();
    client.recv_timeout(PATIENCE).unwrap();
    let mut child = std::process::Command::new("cat")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // its own program runs, and what was to be closed before that is
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    input.write_all(b"!").unwrap();
    output.read_exact(&mut [0]).unwrap();
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap();
    let opened: Vec<String> = descriptors
        .map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap().display().to_string())
        .collect();
    assert!(!opened.iter().any(|name| name.starts_with("socket:")), "{opened:?}");
    client.close();
    drop(server);
    // the child lives, and the port is free
    drop(everlink::Server::bind(address, echo_all).unwrap());
    drop(input);
    child.wait().unwrap();
}

/// Closing while the reader is inside a message that never ends: the peer hears of it at once, and
/// the end of its stream is the end of the wait.
#[test]
fn closing_inside_a_message_does_not_wait_for_the_rest_of_it() {
    let listener = Listener::new();
    let client = listener.client().timeouts(Timeouts::new().close(PATIENCE)).start().unwrap();
    let mut peer = upgrade(&listener);
    client.wait_connected(PATIENCE).unwrap();
    let mut half = frame(BINARY, &[7; 1000]);
    half.truncate(500);
    peer.write_all(&half).unwrap();
    let begun = Instant::now();
    let closing = thread::spawn(move || client.close());
    assert_eq!(read_frame(&mut peer), Ok((CLOSE, close_body(1000, ""))));
    drop(peer);
    let report = closing.join().unwrap();
    assert!(
        report.ended && begun.elapsed() < PATIENCE / 2,
        "{report:?} after {:?}",
        begun.elapsed()
    );
}

/// The name has moved, and somebody still accepts connections at the old place: every attempt
/// looks the name up again, also when the last one got as far as the login.
#[test]
fn a_name_is_looked_up_again_although_its_old_address_accepts() {
    let (old, new) = (Listener::new(), Listener::new());
    let place = Arc::new(Mutex::new(old.address()));
    let looked_up = Arc::clone(&place);
    let client = Client::builder("ws://moves.test")
        .resolver(move |_: &str, _| Ok(vec![*looked_up.lock().unwrap()]))
        .backoff(Backoff::fixed(ms(1)))
        .login(|session| {
            session.send("who are you")?;
            session.recv()?;
            Ok(())
        })
        .start()
        .unwrap();
    let stale = thread::spawn(move || {
        // nobody is at home there: it accepts, and hangs up at the login
        for _ in 0..3 {
            let mut peer = old.accept();
            next_text(&mut peer);
        }
        old
    });
    let old = stale.join().unwrap();
    *place.lock().unwrap() = new.address();
    drop(old);
    let mut peer = new.accept();
    assert_eq!(next_text(&mut peer), "who are you");
    peer.send("at home".into()).unwrap();
    client.wait_connected(PATIENCE).unwrap();
}

/// One lookup that never answers is not the end of it.
#[test]
fn a_lookup_that_never_answers_does_not_stand_in_the_way_for_ever() {
    let (hold, held) = crossbeam_channel::bounded::<()>(0);
    let listener = Listener::new();
    let address = listener.address();
    let lookups = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&lookups);
    let client = Client::builder("ws://hangs.test")
        .timeouts(Timeouts::new().dns(ms(30)))
        .backoff(Backoff::fixed(ms(1)))
        .resolver(move |_: &str, _| -> std::io::Result<Vec<SocketAddr>> {
            // the first three hang
            if count.fetch_add(1, SeqCst) < 3 {
                let _ = held.recv();
            }
            Ok(vec![address])
        })
        .start()
        .unwrap();
    let _peer = listener.accept();
    client.wait_connected(PATIENCE).unwrap();
    assert_eq!(lookups.load(SeqCst), 4);
    drop(hold);
}

/// Nor may lookups pile up while none answers.
#[test]
fn lookups_that_never_answer_do_not_pile_up() {
    let (hold, held) = crossbeam_channel::bounded::<()>(0);
    let lookups = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&lookups);
    let (builder, watch) = watch(
        Client::builder("ws://hangs.test")
            .timeouts(Timeouts::new().dns(ms(10)))
            .backoff(Backoff::fixed(ms(1)))
            .resolver(move |_: &str, _| -> std::io::Result<Vec<SocketAddr>> {
                count.fetch_add(1, SeqCst);
                let _ = held.recv();
                Err(std::io::ErrorKind::NotFound.into())
            }),
    );
    let client = builder.start().unwrap();
    for _ in 0..30 {
        watch.attempt_failed();
    }
    assert_eq!(lookups.load(SeqCst), 4);
    drop(hold);
    client.close();
}

/// Whoever hears of the end and closes, or closes twice, must not wait for itself.
#[test]
fn closing_in_a_callback_and_twice_waits_for_nothing() {
    let listener = Listener::new();
    let (said, heard) = crossbeam_channel::unbounded();
    let client = Arc::new(Mutex::new(None::<Client>));
    let theirs = Arc::clone(&client);
    let builder =
        listener.client().timeouts(Timeouts::new().close(PATIENCE)).on_event(move |_, event| {
            if let Event::Disconnected { .. } = event {
                let client = theirs.lock().unwrap();
                let client = client.as_ref().unwrap();
                client.close();
                client.close();
                said.send(()).unwrap();
            }
        });
    let mut place = client.lock().unwrap();
    *place = Some(builder.start().unwrap());
    let mut peer = upgrade(&listener);
    place.as_ref().unwrap().wait_connected(PATIENCE).unwrap();
    drop(place);
    let begun = Instant::now();
    peer.write_all(&frame(CLOSE, &close_body(4001, "go"))).unwrap();
    heard.recv_timeout(PATIENCE).unwrap();
    let client = client.lock().unwrap().take().unwrap();
    assert!(client.close().ended);
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
}

/// A server that turns a login down with a close frame, while the hook waits for its word.
#[test]
fn a_close_frame_during_the_login_is_what_the_login_fails_with() {
    let listener = Listener::new();
    let builder = listener.client().decide(|_, failure| {
        match failure.close_frame().map(|frame| frame.code.0) {
            Some(4401) => Decision::GiveUp,
            _ => failure.decision(),
        }
    });
    let (builder, watch) = watch(builder);
    let client = builder
        .login(|session| {
            session.send("let me in")?;
            session.recv()?;
            Ok(())
        })
        .start()
        .unwrap();
    let mut peer = upgrade(&listener);
    assert_eq!(read_frame(&mut peer), Ok((TEXT, b"let me in".to_vec())));
    peer.write_all(&frame(CLOSE, &close_body(4401, "who are you"))).unwrap();
    let cause = watch.gave_up();
    let close = cause.close_frame().unwrap();
    assert_eq!((close.code.0, &*close.reason), (4401, "who are you"));
    // and it was answered
    assert_eq!(read_frame(&mut peer), Ok((CLOSE, close_body(4401, "who are you"))));
    assert!(client.close().ended);
}

/// The login is judged by what ended the link, like anything else.
#[test]
fn a_login_that_is_refused_for_good_or_is_too_large_is_not_tried_again() {
    for code in [1008, 1009] {
        let listener = Listener::new();
        let (builder, watch) = watch(listener.client());
        let client = builder
            .login(|session| {
                session.send("let me in")?;
                session.recv()?;
                Ok(())
            })
            .start()
            .unwrap();
        let mut peer = upgrade(&listener);
        peer.write_all(&frame(CLOSE, &close_body(code, ""))).unwrap();
        assert_eq!(watch.gave_up().close_frame().unwrap().code.0, code);
        client.close();
    }
}

/// A message that the framing cannot carry is not sent during the login either, nor as a beat.
#[test]
fn what_a_framing_cannot_carry_is_refused_at_login_and_as_a_beat() {
    let listener = Listener::new();
    let (said, heard) = crossbeam_channel::unbounded();
    let client = Client::builder(listener.url().replace("ws", "tcp"))
        .heartbeat(
            everlink::config::Heartbeat::every(ms(20))
                .dead_after(PATIENCE)
                .message_with(|| "a\nb".into(), |_| false),
        )
        .login(move |session| {
            let error = session.send("two\nlines").expect_err("accepted").to_string();
            said.send(error).unwrap();
            session.send("one line")?;
            Ok(())
        })
        .start()
        .unwrap();
    let mut peer = listener.accept_raw();
    assert!(heard.recv_timeout(PATIENCE).unwrap().contains("line feed"));
    client.send("last").unwrap();
    let mut received = [0; 14];
    peer.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"one line\nlast\n");
    peer.set_read_timeout(Some(ms(100))).unwrap();
    assert!(peer.read(&mut [0]).is_err(), "a beat");
    client.close();
}

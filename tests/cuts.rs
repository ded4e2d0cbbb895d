//! A recorded session, cut at every byte: one cause, the right one, and nothing left over.

mod support;

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;

use everlink::failure::{Decision, HandshakeError};
use everlink::{Event, Failure, Server, Session};
use support::bare::*;
use support::*;

/// How the stream ends at the cut.
const ENDS: [bool; 2] = [true, false];

fn end(stream: TcpStream, in_order: bool) {
    if in_order {
        stream.shutdown(Shutdown::Write).expect("it is open");
        // the other side ends its own
        let _ = std::io::copy(&mut &stream, &mut std::io::sink());
    } else {
        socket2::SockRef::from(&stream)
            .set_linger(Some(std::time::Duration::ZERO))
            .expect("linger");
    }
}

/// What comes behind the opening handshake, with the place behind its close frame.
fn session(frame: fn(u8, &[u8]) -> Vec<u8>) -> Vec<u8> {
    [
        frame(TEXT, b"hello"),
        frame(PING, b"1"),
        frame(0x01, "κό".as_bytes()),
        frame(PONG, b""),
        frame(0x80, "σμε".as_bytes()),
        frame(BINARY, &[7; 300]),
        frame(CLOSE, &close_body(4000, "end")),
    ]
    .concat()
}

#[test]
fn a_client_whose_server_is_cut_off_at_any_byte_says_so_once() {
    let frames = session(frame);
    for in_order in ENDS {
        // the key of the answer is another each time, its length is not
        let answer_length = upgraded(REQUEST).len();
        for cut in 0..=answer_length + frames.len() {
            let listener = Listener::new();
            let (builder, watch) = watch(listener.client().decide(|_, _| Decision::GiveUp));
            let client = builder.start().unwrap();
            let mut stream = listener.accept_raw();
            let request = read_head(&mut stream);
            let bytes = [upgraded(&request).as_bytes(), &frames].concat();
            stream.write_all(&bytes[..cut]).unwrap();
            end(stream, in_order);
            let cause = watch.gave_up();
            let place = format!("cut at {cut} of {}, in order: {in_order}: {cause:?}", bytes.len());
            match &*cause {
                Failure::Handshake(HandshakeError::Eof | HandshakeError::Io(_)) => {
                    assert!(cut < answer_length || !in_order, "{place}");
                }
                Failure::ClosedAbnormally => {
                    assert!(in_order && (answer_length..bytes.len()).contains(&cut), "{place}");
                }
                // a reset takes with it what was not read
                Failure::Io(_) => assert!(!in_order && cut >= answer_length, "{place}"),
                Failure::Closed(Some(frame)) => {
                    assert!(frame.code.0 == 4000 && cut == bytes.len(), "{place}");
                }
                _ => panic!("{place}"),
            }
            drop(client);
            let ends = watch.rest().into_iter().filter(|event| {
                matches!(event, Event::Disconnected { .. } | Event::AttemptFailed { .. })
            });
            assert_eq!(ends.count(), 0, "there is one cause: {place}");
        }
    }
    eventually("the end of all threads", || {
        let left = everlink_threads();
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}

#[test]
fn a_server_whose_client_is_cut_off_at_any_byte_says_so_once() {
    let (said, causes) = mpsc::channel();
    let handler = move |session: Session| {
        while session.recv().is_ok() {}
        said.send(session).unwrap();
    };
    let server = Server::bind("127.0.0.1:0", handler).unwrap();
    let bytes = [REQUEST.as_bytes(), &session(masked)].concat();
    for in_order in ENDS {
        for cut in 0..=bytes.len() {
            let mut stream = connect(server.local_addr());
            stream.write_all(&bytes[..cut]).unwrap();
            end(stream, in_order);
            if cut < REQUEST.len() || !in_order {
                continue;
            }
            let session = causes.recv_timeout(PATIENCE).unwrap();
            let cause = session.failure().unwrap();
            let place = format!("cut at {cut} of {}: {cause:?}", bytes.len());
            match &*cause {
                Failure::ClosedAbnormally => assert!(cut < bytes.len(), "{place}"),
                Failure::Closed(Some(frame)) => {
                    assert!(frame.code.0 == 4000 && cut == bytes.len(), "{place}");
                }
                _ => panic!("{place}"),
            }
        }
        eventually("the end of all sessions", || {
            let left = server.stats().connections;
            if left == 0 { Ok(()) } else { Err(left) }
        });
        while causes.try_recv().is_ok() {}
    }
    drop(server);
}

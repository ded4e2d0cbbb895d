//! What links rely on, of every kind of socket that there is on this system.

use std::io::{self, IoSliceMut, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::polled::PolledSocket;
use super::{Duplex, Hangup, ReadHalf, WriteHalf};

const PATIENCE: Duration = Duration::from_secs(20);

type Make = fn(TcpStream) -> Duplex;

const KINDS: &[(&str, Make)] = &[
    #[cfg(any(target_os = "linux", target_os = "android"))]
    ("blocking", |stream| of(super::socket::Socket::new(stream))),
    ("polled", |stream| of(PolledSocket::new(stream))),
];

fn of(socket: impl ReadHalf + WriteHalf + Hangup + Clone + 'static) -> Duplex {
    let reader = Box::new(socket.clone());
    Duplex { reader, writer: Box::new(socket.clone()), hangup: Arc::new(socket) }
}

/// Does this with a connection of each kind, and its peer.
fn each(test: impl Fn(&str, Duplex, TcpStream)) {
    for (kind, make) in KINDS {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        test(kind, make(listener.accept().unwrap().0), peer);
    }
}

/// Calls this on another thread, has it run into its wait, and does something; what the call returns then.
fn woken<T: Send + 'static>(
    call: impl FnOnce() -> T + Send + 'static,
    by: impl FnOnce(),
) -> (T, Duration) {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(call()));
    // whether it waits already makes no difference to what has to happen, only to what is tested
    let early = told.recv_timeout(Duration::from_millis(30));
    assert_eq!(early.err(), Some(mpsc::RecvTimeoutError::Timeout), "it waits");
    let begun = Instant::now();
    by();
    (told.recv_timeout(PATIENCE).expect("it is woken"), begun.elapsed())
}

/// Writes until that fails; how, and how long the last call took.
fn write_on(writer: &mut dyn WriteHalf) -> (io::Error, Duration) {
    loop {
        let begun = Instant::now();
        if let Err(error) = writer.write(&[7; 16 * 1024]) {
            return (error, begun.elapsed());
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

#[test]
fn what_a_full_read_has_left_is_read_without_waiting() {
    each(|kind, mut duplex, mut peer| {
        let reader = &mut duplex.reader;
        let (mut one, mut two) = ([0; 4], [0; 2]);
        peer.write_all(b"abcdefghij").unwrap();
        let mut bufs = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
        // all of it is there, as on loopback it comes at once
        let count = reader.read_vectored(&mut bufs).unwrap();
        assert_eq!((count, &one, &two), (6, b"abcd", b"ef"), "{kind}");
        let mut bufs = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
        assert_eq!(reader.read_buffered_vectored(&mut bufs).unwrap(), 4, "{kind}");
        assert_eq!(&one, b"ghij", "{kind}");
        // it was not filled: nothing is asked
        peer.write_all(b"klmn").unwrap();
        assert_eq!(reader.read_buffered(&mut one).unwrap(), 0, "{kind}");
        reader.read_exact(&mut one).unwrap();
        // it was, and nothing is left
        assert_eq!(reader.read_buffered(&mut one).unwrap(), 0, "{kind}");
        peer.write_all(b"op").unwrap();
        reader.read_exact(&mut two).unwrap();
        drop(peer);
        assert_eq!(reader.read_buffered(&mut one).unwrap(), 0, "{kind}: the end says `read`");
        assert_eq!(reader.read(&mut one).unwrap(), 0, "{kind}");
    });
}

#[test]
fn hanging_up_wakes_a_read_and_what_had_come_can_be_read_first() {
    each(|kind, duplex, mut peer| {
        let Duplex { mut reader, hangup, writer } = duplex;
        let read = move || {
            let result = reader.read(&mut [0; 8]);
            (result.ok(), reader)
        };
        let ((count, mut reader), took) = woken(read, || hangup.hang_up());
        assert_eq!(count, Some(0), "{kind}");
        assert!(took < PATIENCE / 4, "{kind}: {took:?}");
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0, "{kind}: and so is the next");
        assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0, "{kind}: the peer is told");
        drop(writer);
    });
    each(|kind, duplex, mut peer| {
        let Duplex { mut reader, hangup, mut writer } = duplex;
        peer.write_all(b"come").unwrap();
        let mut buffer = [0; 8];
        assert_eq!(reader.read(&mut buffer[..1]).unwrap(), 1);
        hangup.hang_up();
        assert_eq!(reader.read(&mut buffer).unwrap(), 3, "{kind}");
        assert_eq!(&buffer[..3], b"ome");
        assert_eq!(reader.read(&mut buffer).unwrap(), 0, "{kind}");
        writer.write(b"x").expect_err(kind);
    });
}

#[test]
fn hanging_up_wakes_a_write() {
    each(|kind, duplex, peer| {
        let Duplex { reader, hangup, mut writer } = duplex;
        let ((error, _), took) = woken(move || write_on(&mut *writer), || hangup.hang_up());
        assert!(!is_timeout(&error), "{kind}: {error}");
        assert!(took < PATIENCE / 4, "{kind}: {took:?}");
        drop((reader, peer));
    });
}

#[test]
fn a_timeout_is_neither_early_nor_without_end_however_short_it_is() {
    each(|kind, duplex, peer| {
        let Duplex { mut reader, mut writer, hangup } = duplex;
        for micros in [0, 1, 300, 999, 1_001, 20_400] {
            let timeout = Duration::from_micros(micros);
            reader.set_read_timeout(Some(timeout)).unwrap();
            writer.set_write_timeout(Some(timeout)).unwrap();
            let begun = Instant::now();
            let error = reader.read(&mut [0]).unwrap_err();
            for (error, took) in [(error, begun.elapsed()), write_on(&mut *writer)] {
                assert!(is_timeout(&error), "{kind}, {timeout:?}: {error}");
                assert!(took >= timeout && took < PATIENCE / 4, "{kind}: {took:?} of {timeout:?}");
            }
        }
        drop((hangup, peer));
    });
}

#[test]
fn a_socket_is_as_it_was_after_a_timeout() {
    each(|kind, duplex, mut peer| {
        let Duplex { mut reader, mut writer, hangup } = duplex;
        reader.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        assert!(is_timeout(&reader.read(&mut [0]).unwrap_err()), "{kind}");
        reader.set_read_timeout(None).unwrap();
        peer.write_all(b"whole").unwrap();
        let mut came = [0; 5];
        reader.read_exact(&mut came).unwrap();
        assert_eq!(&came, b"whole", "{kind}");
        writer.write_all(b"too").unwrap();
        writer.finish().unwrap();
        let mut heard = Vec::new();
        peer.read_to_end(&mut heard).unwrap();
        assert_eq!(heard, b"too", "{kind}");
        // that direction alone has ended
        peer.write_all(b"!").unwrap();
        assert_eq!(reader.read(&mut came).unwrap(), 1, "{kind}");
        drop(hangup);
    });
}

/// Under wine it is one: `tests/systems.rs`.
#[test]
fn a_reset_wakes_a_read_and_is_no_end_of_the_stream() {
    each(|kind, duplex, mut peer| {
        let Duplex { mut reader, hangup, writer } = duplex;
        let reading = move || (reader.read(&mut [0; 8]).map_err(|error| error.kind()), reader);
        let ((result, reader), took) = woken(reading, || hangup.reset());
        assert!(!matches!(result, Ok(1..)), "{kind}: {result:?}");
        assert!(took < PATIENCE / 4, "{kind}: {took:?}");
        drop((reader, writer, hangup));
        let kind_of_end = peer.read(&mut [0; 8]).map_err(|error| error.kind());
        assert_eq!(kind_of_end, Err(io::ErrorKind::ConnectionReset), "{kind}");
    });
    each(|kind, duplex, mut peer| {
        let Duplex { reader, hangup, mut writer } = duplex;
        let writing = move || (write_on(&mut *writer).0, writer);
        let ((error, writer), _) = woken(writing, || hangup.reset());
        assert!(!is_timeout(&error), "{kind}: {error}");
        drop((reader, writer, hangup));
        let end = io::copy(&mut peer, &mut io::sink()).map_err(|error| error.kind());
        assert_eq!(end, Err(io::ErrorKind::ConnectionReset), "{kind}");
    });
}

//! The proxy itself: each fault is what it says, and nothing is left behind.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use crate::support::{PATIENCE, eventually, ms};
use everlink::chaos::{Cut, Direction, FaultProxy, Faults};

/// Echoes bytes on every connection until it ends.
fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let _ = io::copy(&mut &stream, &mut &stream);
                let _ = stream.shutdown(Shutdown::Write);
            });
        }
    });
    address
}

fn connect(proxy: &FaultProxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn echo(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(bytes)?;
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back)?;
    Ok(back)
}

fn proxy() -> FaultProxy {
    FaultProxy::start(echo_server()).unwrap()
}

#[test]
fn without_faults_it_forwards_and_passes_the_end_on() {
    let proxy = proxy();
    let mut stream = connect(&proxy);
    let megabyte: Vec<u8> = (0..1 << 20).map(|index| index as u8).collect();
    let writer = {
        let (mut stream, bytes) = (stream.try_clone().unwrap(), megabyte.clone());
        thread::spawn(move || {
            stream.write_all(&bytes).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        })
    };
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    assert!(back == megabyte, "{} bytes came back", back.len());
    writer.join().unwrap();
    eventually("the connection leaves", || match proxy.connections() {
        0 => Ok(()),
        left => Err(left),
    });
}

#[test]
fn refused_is_refused_and_the_same_port_comes_back() {
    let proxy = proxy();
    proxy.set(Faults::none().refuse()).unwrap();
    let error = TcpStream::connect(proxy.address()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    proxy.set(Faults::none()).unwrap();
    assert_eq!(echo(&mut connect(&proxy), b"back").unwrap(), b"back");
}

#[test]
fn mute_accepts_and_says_nothing() {
    let proxy = proxy();
    proxy.set(Faults::none().mute()).unwrap();
    let mut stream = connect(&proxy);
    stream.write_all(b"anybody?").unwrap();
    stream.set_read_timeout(Some(ms(50))).unwrap();
    let error = stream.read(&mut [0]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error:?}");
}

#[test]
fn a_connection_is_cut_where_it_should_be_and_as_it_should_be() {
    for how in [Cut::Reset, Cut::EndOfStream, Cut::Silence] {
        let proxy = proxy();
        proxy.set(Faults::none().cut_after(how, 20)).unwrap();
        let mut stream = connect(&proxy);
        // 10 there and 10 back
        assert_eq!(echo(&mut stream, b"0123456789").unwrap(), b"0123456789");
        if how == Cut::Silence {
            stream.set_read_timeout(Some(ms(50))).unwrap();
        }
        let read = stream.read(&mut [0]);
        let kind = read.as_ref().map_err(io::Error::kind).copied();
        match how {
            Cut::Reset => assert_eq!(kind, Err(ErrorKind::ConnectionReset)),
            Cut::EndOfStream => assert_eq!(kind, Ok(0)),
            Cut::Silence => {
                assert!(matches!(kind, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)));
            }
        }
        assert_eq!(proxy.cuts(), 1);
    }
}

#[test]
fn a_reset_in_the_middle_of_writes_is_a_reset() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let flood = thread::spawn(move || {
        for stream in listener.incoming().flatten().take(100) {
            thread::spawn(move || while (&stream).write_all(&[7; 1000]).is_ok() {});
        }
    });
    let proxy = FaultProxy::start(address).unwrap();
    for round in 0..100 {
        // which only reads: a write of its own could take the error away
        let mut stream = connect(&proxy);
        stream.read_exact(&mut vec![0; 10_000 * (1 + round % 7)]).unwrap();
        proxy.cut(Cut::Reset);
        let end = io::copy(&mut stream.take(1 << 28), &mut io::sink());
        assert_eq!(end.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset), "{round}");
    }
    flood.join().unwrap();
}

#[test]
fn cutting_by_hand_ends_a_connection_that_is_stuck_in_a_write() {
    let proxy = proxy();
    let mut stream = connect(&proxy);
    stream.set_write_timeout(Some(ms(50))).unwrap();
    // nobody reads the echo, so it all fills up
    while stream.write_all(&[0; 64 * 1024]).is_ok() {}
    proxy.cut(Cut::Reset);
    let gone = stream.read_to_end(&mut Vec::new());
    assert!(gone.is_err() || stream.write_all(b"x").is_err(), "{gone:?}");
    eventually("the connection leaves", || match proxy.connections() {
        0 => Ok(()),
        left => Err(left),
    });
}

#[test]
fn a_stalled_direction_holds_everything_and_loses_nothing() {
    let proxy = proxy();
    let mut stream = connect(&proxy);
    assert_eq!(echo(&mut stream, b"one").unwrap(), b"one");
    proxy.set(Faults::none().stall(Direction::ToClient)).unwrap();
    stream.write_all(b"two").unwrap();
    stream.set_read_timeout(Some(ms(50))).unwrap();
    assert!(stream.read(&mut [0]).is_err());
    proxy.set(Faults::none()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut back = [0; 3];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"two");
}

#[test]
fn delay_and_throttle_take_their_time() {
    let proxy = proxy();
    let mut stream = connect(&proxy);
    proxy.set(Faults::none().delay(ms(40))).unwrap();
    let begun = Instant::now();
    echo(&mut stream, b"there and back").unwrap();
    assert!(begun.elapsed() >= ms(80), "{:?}", begun.elapsed());

    proxy.set(Faults::none().throttle(10_000)).unwrap();
    let begun = Instant::now();
    echo(&mut stream, &[0; 2000]).unwrap();
    assert!(begun.elapsed() >= ms(150), "{:?}", begun.elapsed());
}

#[test]
fn one_bit_is_changed_and_single_bytes_stay_in_order() {
    let proxy = proxy();
    let faults = Faults::none().single_bytes().corrupt_after(Direction::ToClient, 3);
    proxy.set(faults).unwrap();
    let mut stream = connect(&proxy);
    assert_eq!(echo(&mut stream, b"abcdef").unwrap(), b"abctef");
    assert_eq!(echo(&mut stream, b"abcdef").unwrap(), b"abcdef");
}

#[test]
fn a_seed_repeats_its_places_and_cuts_are_counted() {
    let lengths = |seed| -> Vec<usize> {
        let proxy = FaultProxy::with_seed(echo_server(), seed).unwrap();
        proxy.set(Faults::none().cut_within(5000).at_most(5)).unwrap();
        let lengths = (0..6).map(|_| {
            let mut stream = connect(&proxy);
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            (0..5000).take_while(|_| echo(&mut stream, b"x").is_ok()).count()
        });
        let lengths = lengths.collect();
        assert_eq!(proxy.cuts(), 5);
        lengths
    };
    let first = lengths(1);
    assert_eq!(first.last(), Some(&5000), "the sixth is not cut: {first:?}");
    assert_eq!(first, lengths(1));
    assert_ne!(first, lengths(2));
}

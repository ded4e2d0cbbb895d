//! What the sockets of this system do by themselves, without the library: where these fail, so do tests of
//! the library, and it is not its fault. Under wine 8 both end in order.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let theirs = listener.accept().unwrap().0;
    theirs.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    (ours, theirs)
}

#[test]
fn a_linger_time_of_zero_makes_a_drop_a_reset() {
    let (ours, mut theirs) = pair();
    socket2::SockRef::from(&ours).set_linger(Some(Duration::ZERO)).unwrap();
    drop(ours);
    let end = theirs.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::ConnectionReset));
}

#[test]
fn a_drop_with_something_unread_is_a_reset() {
    let (ours, mut theirs) = pair();
    theirs.write_all(b"unread").unwrap();
    ours.peek(&mut [0; 6]).unwrap();
    drop(ours);
    let end = theirs.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::ConnectionReset));
}

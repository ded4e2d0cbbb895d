//! Threads that send may write past an idle writer: never waiting, never out of order.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::support::{Listener, Peer, echo, next_text, watch};
use everlink::config::{Delivery, SocketOptions, Writes};
use everlink::transport::{Connect, Duplex, Hangup, ReadHalf, WriteHalf};
use tungstenite::Message;

/// A TCP connection that notes which threads write to it.
#[derive(Debug, Clone)]
struct Noted {
    stream: Arc<TcpStream>,
    writers: Arc<Mutex<Vec<String>>>,
}

impl Noted {
    fn note(&self) {
        let name = thread::current().name().unwrap_or("?").to_owned();
        self.writers.lock().unwrap().push(name);
    }
}

impl Read for Noted {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self.stream).read(buf)
    }
}

impl Write for Noted {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.note();
        (&*self.stream).write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ReadHalf for Noted {
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.stream.set_read_timeout(timeout)
    }
}

impl WriteHalf for Noted {
    fn set_write_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.stream.set_write_timeout(timeout)
    }

    /// One byte at a time, so that every direct write is finished by the writer thread.
    fn try_write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.note();
        match self.writers.lock().unwrap().len() % 2 {
            0 => (&*self.stream).write(&buf[..1]),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }
}

impl Hangup for Noted {
    fn hang_up(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

#[derive(Debug)]
struct Connector(Arc<Mutex<Vec<String>>>);

impl Connect for Connector {
    fn connect(&self, host: &str, port: u16) -> io::Result<Duplex> {
        let stream = Arc::new(TcpStream::connect((host, port))?);
        let noted = Noted { stream, writers: Arc::clone(&self.0) };
        Ok(Duplex::new(noted.clone(), noted.clone(), noted))
    }
}

/// Sends numbers one after the other, each after the echo of the last; returns who wrote.
fn who_writes(writes: Writes) -> Vec<String> {
    let listener = Listener::new();
    let writers = Arc::default();
    let client = listener
        .client()
        .connector(Connector(Arc::clone(&writers)))
        .socket(SocketOptions::new().writes(writes));
    let server = thread::spawn(move || echo(listener.accept()));
    let client = client.connect().unwrap();
    writers.lock().unwrap().clear();
    for number in 0..200 {
        client.send(number.to_string()).unwrap();
        assert_eq!(client.recv().unwrap().as_text(), Some(&*number.to_string()));
    }
    let seen = writers.lock().unwrap().clone();
    client.close();
    server.join().unwrap();
    seen
}

#[test]
fn an_answer_is_written_by_whoever_sends_it_unless_that_is_switched_off() {
    let me = thread::current().name().unwrap().to_owned();
    assert!(who_writes(Writes::Direct).contains(&me), "nobody wrote directly");
    assert!(!who_writes(Writes::WriterThread).contains(&me), "somebody wrote directly");
}

#[test]
fn a_sender_never_waits_for_a_socket_that_is_full_and_nothing_is_reordered() {
    const COUNT: usize = 3000;
    let listener = Listener::new();
    let (builder, watch) = watch(listener.client());
    let client = builder.start().unwrap();
    let mut peer = listener.accept();
    watch.connected();
    let padding = "x".repeat(8000);
    for number in 0..COUNT {
        // something was received, so the next may go directly; the peer reads none of them
        peer.send("more".into()).unwrap();
        client.recv().unwrap();
        client.send(format!("{number} {padding}")).unwrap();
    }
    for number in 0..COUNT {
        let text = next_text(&mut peer);
        assert_eq!(text, format!("{number} {padding}"));
    }
    client.close();
}

#[test]
fn many_threads_that_send_while_answers_come_keep_each_its_order() {
    const THREADS: usize = 4;
    const COUNT: usize = 2000;
    for delivery in [Delivery::AtMostOnce, Delivery::AtLeastOnce] {
        let listener = Listener::new();
        let client = listener.client().delivery(delivery);
        let server = thread::spawn(move || echo(listener.accept()));
        let client = client.connect().unwrap();
        thread::scope(|scope| {
            for sender in 0..THREADS {
                let client = &client;
                scope.spawn(move || {
                    for number in 0..COUNT {
                        client.send(format!("{sender} {number}")).unwrap();
                    }
                });
            }
            let mut next = [0; THREADS];
            for _ in 0..THREADS * COUNT {
                let message = client.recv().unwrap();
                let (sender, number) = message.as_text().unwrap().split_once(' ').unwrap();
                let next = &mut next[sender.parse::<usize>().unwrap()];
                assert_eq!(number.parse::<usize>().unwrap(), *next, "of sender {sender}");
                *next += 1;
            }
        });
        client.close();
        server.join().unwrap();
    }
}

#[test]
fn a_large_message_leaves_the_direct_way_to_the_writer() {
    let listener = Listener::new();
    let client = listener.client();
    let server = thread::spawn(move || {
        let mut peer: Peer = listener.accept();
        for _ in 0..20 {
            assert_eq!(next_text(&mut peer).len(), 1 << 20);
            peer.send(Message::text("ok")).unwrap();
        }
    });
    let client = client.connect().unwrap();
    for _ in 0..20 {
        client.send("x".repeat(1 << 20)).unwrap();
        assert_eq!(client.recv().unwrap().as_text(), Some("ok"));
    }
    server.join().unwrap();
    drop(client);
}

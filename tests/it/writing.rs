//! Every byte once: transports that take what they like, and break where they like.
#![cfg(feature = "tls")]

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use crate::support::bare::*;
use crate::support::*;
use everlink::config::{Delivery, Framing, Heartbeat, Timeouts, Tls};
use everlink::transport::{Duplex, Hangup, ReadHalf, WriteHalf};
use everlink::{Client, Failure, rustls};

/// A connection of the program's own make.
#[derive(Debug)]
struct Own {
    stream: TcpStream,
    /// How many bytes a write without waiting takes, every other time; `None` for a transport that
    /// cannot write without waiting.
    bites: Option<usize>,
    is_stuck: bool,
    /// How many bytes it takes before it breaks.
    left: Arc<AtomicUsize>,
}

impl Own {
    fn duplex(stream: TcpStream, bites: Option<usize>, left: usize) -> Duplex {
        let left = Arc::new(AtomicUsize::new(left));
        let half = |stream: &TcpStream| Self {
            stream: stream.try_clone().unwrap(),
            bites,
            is_stuck: false,
            left: Arc::clone(&left),
        };
        Duplex::new(half(&stream), half(&stream), half(&stream))
    }

    fn write_up_to(&mut self, buf: &[u8], most: usize) -> io::Result<usize> {
        let most = most.min(self.left.load(SeqCst)).min(buf.len());
        if most == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = self.stream.write(&buf[..most])?;
        self.left.fetch_sub(count, SeqCst);
        Ok(count)
    }
}

impl Read for Own {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buf)
    }
}

impl Write for Own {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_up_to(buf, usize::MAX)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ReadHalf for Own {
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.stream.set_read_timeout(timeout)
    }
}

impl WriteHalf for Own {
    fn set_write_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.stream.set_write_timeout(timeout)
    }

    fn try_write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.is_stuck = !self.is_stuck;
        match self.bites {
            Some(bites) if !self.is_stuck => self.write_up_to(buf, bites),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }
}

impl Hangup for Own {
    fn hang_up(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

#[test]
fn every_byte_goes_out_once_however_a_transport_bites() {
    for (framing, is_lines) in [(Framing::lines(), true), (Framing::raw(), false)] {
        for bites in [Some(1), Some(3), None] {
            let listener = Listener::new();
            let address = listener.address();
            let client = Client::builder("tcp://here:1")
                .framing(framing.clone())
                .heartbeat(Heartbeat::off())
                // the peer does not end its stream
                .timeouts(Timeouts::new().close(ms(50)))
                .connector(move |_: &str, _| {
                    Ok(Own::duplex(TcpStream::connect(address)?, bites, usize::MAX))
                })
                .connect()
                .unwrap();
            let mut stream = listener.accept_raw();
            let mut expected = String::new();
            for number in 0..50 {
                client.send(format!("hello {number}")).unwrap();
                expected += &format!("hello {number}");
                if is_lines {
                    expected.push('\n');
                }
                // an answer now and then: the next message may go out directly
                stream.write_all(b"go\n").unwrap();
                client.recv_timeout(PATIENCE).unwrap();
            }
            client.wait_sent(PATIENCE).unwrap();
            let report = client.close();
            assert!(report.undelivered.is_empty(), "{bites:?}: {report:?}");
            let mut came = String::new();
            stream.read_to_string(&mut came).unwrap();
            assert_eq!(came, expected, "{framing:?}, {bites:?} at a time");
        }
    }
}

/// A message that may have arrived is not sent again, at most once: over a link that breaks after
/// any number of bytes.
fn nothing_comes_twice(breaks: impl Iterator<Item = usize>, tls: Option<&Certificate>) {
    for left in breaks {
        let listener = Listener::new();
        let address = listener.address();
        let mut lefts = [left, usize::MAX].into_iter();
        let lefts = std::sync::Mutex::new(move || lefts.next().unwrap_or(usize::MAX));
        let builder = match tls {
            None => Client::builder("ws://localhost"),
            Some(certificate) => Client::builder("wss://localhost")
                .tls(Tls::new().root_certificate_der(&certificate.der)),
        };
        let config = tls.map(|certificate| Arc::clone(&certificate.config));
        let client = builder
            .delivery(Delivery::AtMostOnce)
            .backoff(everlink::config::Backoff::fixed(ms(1)))
            .connector(move |_: &str, _| {
                let left = lefts.lock().unwrap()();
                Ok(Own::duplex(TcpStream::connect(address)?, None, left))
            })
            .start()
            .unwrap();
        let reading = thread::spawn(move || {
            let mut came = Vec::new();
            while came.last().is_none_or(|text| text != "last") {
                let socket = listener.accept_raw();
                let mut stream: Box<dyn Duplexed> = match &config {
                    None => Box::new(socket),
                    Some(config) => {
                        let connection = rustls::ServerConnection::new(Arc::clone(config));
                        Box::new(rustls::StreamOwned::new(connection.unwrap(), socket))
                    }
                };
                let Some(request) = head(&mut stream) else { continue };
                if stream.write_all(upgraded(&request).as_bytes()).is_err() {
                    continue;
                }
                while let Some((first, payload)) = frame_of(&mut *stream) {
                    if first == TEXT {
                        came.push(String::from_utf8(payload).unwrap());
                        if came.last().is_some_and(|text| text == "last") {
                            break;
                        }
                    }
                }
            }
            came
        });
        for number in 0..20 {
            client.send(number.to_string().repeat(200)).unwrap();
        }
        // that one may be lost with the first link too
        while !reading.is_finished() {
            client.send("last").unwrap();
            thread::park_timeout(ms(5));
        }
        let mut came = reading.join().unwrap();
        let all = came.len();
        came.dedup();
        assert_eq!(came.len(), all, "broken after {left} bytes");
    }
}

#[test]
fn a_message_that_may_have_arrived_is_not_sent_again() {
    nothing_comes_twice((200..5000).step_by(97), None);
}

#[test]
fn nor_is_one_whose_records_were_half_on_their_way() {
    let key = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    let der = key.cert.der().to_vec();
    let chain = vec![key.cert.der().clone()];
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, private.unwrap())
        .unwrap();
    let certificate = Certificate { der, config: Arc::new(config) };
    nothing_comes_twice((700..6000).step_by(131), Some(&certificate));
}

struct Certificate {
    der: Vec<u8>,
    config: Arc<rustls::ServerConfig>,
}

trait Duplexed: Read + Write {}

impl<T: Read + Write> Duplexed for T {}

/// A request, unless the stream breaks before its end.
fn head(stream: &mut dyn Duplexed) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if !matches!(stream.read(&mut byte), Ok(1)) {
            return None;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

/// The next frame, unless the stream ends, in whatever way.
fn frame_of(stream: &mut dyn Duplexed) -> Option<(u8, Vec<u8>)> {
    /// Ends like a plain one.
    struct Plain<'a>(&'a mut dyn Duplexed);

    impl Read for Plain<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            Ok(self.0.read(buf).unwrap_or(0))
        }
    }
    read_frame(&mut Plain(stream)).ok()
}

/// A connection that is reset. The reader finds the end of the stream, and only then the thread that
/// writes is told of the reset, once.
#[derive(Debug, Clone)]
struct Reset {
    stream: Arc<TcpStream>,
    /// Whether a write without waiting comes as far as to be told.
    is_direct: bool,
    /// How often the end of the stream was asked for, and whether the connection was hung up.
    state: Arc<(Mutex<(usize, bool)>, Condvar)>,
    is_told: Arc<AtomicBool>,
}

impl Read for Reset {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let (state, changed) = &*self.state;
        let mut state = state.lock().unwrap();
        if state.0 > 0 {
            state.0 += 1;
            changed.notify_all();
            drop(changed.wait_while(state, |state| !state.1).unwrap());
            return Ok(0);
        }
        drop(state);
        let count = (&*self.stream).read(buf)?;
        self.state.0.lock().unwrap().0 += usize::from(count == 0);
        Ok(count)
    }
}

impl Write for Reset {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.state.0.lock().unwrap().0 == 0 {
            return (&*self.stream).write(buf);
        }
        let is_news = !self.is_told.swap(true, SeqCst);
        let kind = if is_news { io::ErrorKind::ConnectionReset } else { io::ErrorKind::BrokenPipe };
        Err(kind.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ReadHalf for Reset {
    fn set_read_timeout(&mut self, _: Option<Duration>) -> io::Result<()> {
        Ok(())
    }
}

impl WriteHalf for Reset {
    fn set_write_timeout(&mut self, _: Option<Duration>) -> io::Result<()> {
        Ok(())
    }

    fn try_write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.is_direct { self.write(buf) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    fn finish(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }
}

impl Hangup for Reset {
    fn hang_up(&self) {
        self.state.0.lock().unwrap().1 = true;
        self.state.1.notify_all();
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

#[test]
fn a_reset_is_the_cause_also_where_only_the_writer_is_told_of_it() {
    for is_direct in [false, true] {
        let (listener, state) = (Listener::new(), Arc::<(Mutex<_>, Condvar)>::default());
        let (address, shared) = (listener.address(), Arc::clone(&state));
        let builder = Client::builder("ws://here:1").heartbeat(Heartbeat::off());
        let (builder, watch) = watch(builder.connector(move |_: &str, _| {
            let reset = Reset {
                stream: Arc::new(TcpStream::connect(address)?),
                is_direct,
                state: Arc::clone(&shared),
                is_told: Arc::default(),
            };
            Ok(Duplex::new(reset.clone(), reset.clone(), reset))
        }));
        let client = builder.decide(|_, _| everlink::failure::Decision::GiveUp).start().unwrap();
        let peer = listener.accept();
        client.wait_connected(PATIENCE).unwrap();
        peer.get_ref().shutdown(Shutdown::Write).unwrap();
        // once for what is the end to the reader, and once more: it has said so by then
        drop(state.1.wait_while(state.0.lock().unwrap(), |state| state.0 < 2).unwrap());
        client.send("x").unwrap();
        let cause = watch.gave_up();
        let is_reset = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionReset;
        assert!(matches!(&*cause, Failure::Io(error) if is_reset(error)), "{cause:?}");
        drop((client, peer));
    }
}

//! A transport of the program's own: TLS by the system (OpenSSL, Schannel, Security framework) in place of
//! rustls. It connects, says "hello", and prints what comes for ten seconds.
//!
//! ```sh
//! cargo run -- echo.websocket.org
//! ```
//!
//! Two threads use one TLS connection, and neither may hold it while it waits for the socket. So TLS works on
//! two buffers ([`Buffers`]), and the halves carry bytes between those and the socket.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use everlink::Client;
use everlink::transport::{Duplex, Hangup, ReadHalf, Reason, WriteHalf};
use native_tls::{HandshakeError, TlsConnector, TlsStream};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let host = std::env::args().nth(1).unwrap_or_else(|| "echo.websocket.org".into());
    let tls = TlsConnector::new()?;
    // `ws`, for the library knows nothing of this TLS
    let client = Client::builder(format!("ws://{host}:443/"))
        .connector(move |host: &str, port: u16| connect(&tls, host, port))
        .connect()?;
    client.send("hello")?;
    while let Ok(message) = client.recv_timeout(Duration::from_secs(10)) {
        println!("{message}");
    }
    Ok(())
}

/// What TLS reads and writes in place of the socket.
#[derive(Debug, Default)]
struct Buffers {
    received: VecDeque<u8>,
    to_send: Vec<u8>,
    /// The socket has no more.
    has_ended: bool,
}

impl Read for Buffers {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.received.is_empty() && !self.has_ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.received.read(buf)
    }
}

impl Write for Buffers {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.to_send.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Connects, and agrees on keys.
fn connect(tls: &TlsConnector, host: &str, port: u16) -> io::Result<Duplex> {
    let mut socket = TcpStream::connect((host, port))?;
    socket.set_nodelay(true)?;
    // the library waits no longer than its timeout anyway; this has the thread end, too
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut result = tls.connect(host, Buffers::default());
    let session = loop {
        let mut unfinished = match result {
            Ok(session) => break session,
            Err(HandshakeError::WouldBlock(unfinished)) => unfinished,
            Err(HandshakeError::Failure(error)) => return Err(io::Error::other(error)),
        };
        let buffers = unfinished.get_mut();
        socket.write_all(&std::mem::take(&mut buffers.to_send))?;
        if buffers.received.is_empty() {
            receive(&mut socket, buffers)?;
        }
        result = unfinished.handshake();
    };
    let session = Arc::new(Mutex::new(session));
    let reader = Reader { socket: socket.try_clone()?, session: Arc::clone(&session) };
    let writer = Writer { socket: socket.try_clone()?, session, pending: Vec::new() };
    Ok(Duplex::new(reader, writer, Ends(socket)))
}

/// Waits for bytes from the socket.
fn receive(socket: &mut TcpStream, buffers: &mut Buffers) -> io::Result<()> {
    let mut bytes = [0; 16 * 1024];
    let count = socket.read(&mut bytes)?;
    buffers.has_ended = count == 0;
    buffers.received.extend(&bytes[..count]);
    Ok(())
}

type Session = Arc<Mutex<TlsStream<Buffers>>>;

fn lock(session: &Session) -> MutexGuard<'_, TlsStream<Buffers>> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct Reader {
    socket: TcpStream,
    session: Session,
}

impl Read for Reader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match lock(&self.session).read(buf) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
        // without the lock: the writer goes on meanwhile
        let mut fresh = Buffers::default();
        receive(&mut self.socket, &mut fresh)?;
        let mut session = lock(&self.session);
        session.get_mut().has_ended = fresh.has_ended;
        session.get_mut().received.append(&mut fresh.received);
        match session.read(buf) {
            // half a record is no data, and the peer is alive all the same
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(Reason::NoDataYet.into())
            }
            result => result,
        }
    }
}

impl ReadHalf for Reader {
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.socket.set_read_timeout(timeout)
    }

    /// What is here already is delivered together with what was read.
    fn read_buffered(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match lock(&self.session).read(buf) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            result => result,
        }
    }

    /// Reading can have TLS answer, to a change of keys say: the writer's flush sends that.
    fn wants_write(&mut self) -> bool {
        !lock(&self.session).get_ref().to_send.is_empty()
    }
}

#[derive(Debug)]
struct Writer {
    socket: TcpStream,
    session: Session,
    /// Records on their way to the socket.
    pending: Vec<u8>,
}

impl Writer {
    fn drain(&mut self) -> io::Result<()> {
        self.pending.append(&mut lock(&self.session).get_mut().to_send);
        while !self.pending.is_empty() {
            let count = self.socket.write(&self.pending)?;
            self.pending.drain(..count);
            if count > 0 && !self.pending.is_empty() {
                // a peer that takes a large message slowly is alive
                return Err(Reason::Advanced.into());
            }
        }
        Ok(())
    }
}

impl Write for Writer {
    /// What is encrypted counts as written; if the socket does not take it now, it goes first next time.
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.drain()?;
        let count = lock(&self.session).write(buf)?;
        // the next call meets the error, or goes on
        let _ = self.drain();
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.drain()
    }
}

impl WriteHalf for Writer {
    fn set_write_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.socket.set_write_timeout(timeout)
    }

    fn say_goodbye(&mut self) -> io::Result<()> {
        // the answer is the reader's
        let _ = lock(&self.session).shutdown();
        self.drain()
    }

    fn finish(&mut self) -> io::Result<()> {
        self.say_goodbye()?;
        self.socket.shutdown(Shutdown::Write)
    }
}

#[derive(Debug)]
struct Ends(TcpStream);

impl Hangup for Ends {
    fn hang_up(&self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use everlink::config::{Heartbeat, Tls};
    use everlink::{Server, Session};
    use native_tls::Certificate;

    use super::*;

    #[test]
    fn the_systems_tls_carries_a_link_and_its_ends() -> Result<(), Box<dyn std::error::Error>> {
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let tls = Tls::new()
            .identity_pem(key.cert.pem().as_bytes(), key.signing_key.serialize_pem().as_bytes());
        let server = Server::builder().tls(tls).bind("127.0.0.1:0", |session: Session| {
            for message in &session {
                let _ = session.send(message);
            }
        })?;
        let root = Certificate::from_der(key.cert.der())?;
        let tls = TlsConnector::builder().add_root_certificate(root).build()?;
        let client = Client::builder(format!("ws://localhost:{}", server.local_addr().port()))
            .heartbeat(Heartbeat::every(Duration::from_millis(100)))
            .connector(move |host: &str, port: u16| connect(&tls, host, port))
            .connect()?;
        for length in [0, 1, 1000, 300_000, 1_000_000] {
            let text = "x".repeat(length);
            client.send(text.as_str())?;
            assert_eq!(client.recv_timeout(Duration::from_secs(10))?, text.as_str());
        }
        client.flush(Duration::from_secs(5))?;
        client.reconnect()?;
        client.send("again")?;
        assert_eq!(client.recv_timeout(Duration::from_secs(10))?, "again");
        assert!(client.close().ended);
        Ok(())
    }
}

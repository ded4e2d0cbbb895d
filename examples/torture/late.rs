//! Offers that come late: what a client has sent on a connection that it has given up reaches the server again,
//! when the client has long had another one.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// So many late connections are open at once, the oldest of which is given up.
const OPEN: usize = 8;

/// Stands between the client and what leads to the server, and remembers the beginning of each connection that is
/// over.
#[derive(Debug)]
pub struct Recorder {
    address: SocketAddr,
    is_framed: bool,
    offers: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// How many offers came late, and to how many of them the server did not say what they asked for.
#[derive(Debug, Default)]
pub struct Late {
    repeated: AtomicU64,
    refused: AtomicU64,
}

impl Late {
    pub fn repeated(&self) -> u64 {
        self.repeated.load(SeqCst)
    }

    pub fn refused(&self) -> u64 {
        self.refused.load(SeqCst)
    }
}

impl Recorder {
    /// `is_framed` for offers behind a prefix of two bytes, otherwise they are of a WebSocket.
    pub fn start(next: SocketAddr, is_framed: bool) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, offers) = (listener.local_addr()?, Arc::default());
        let found = Arc::clone(&offers);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let found = Arc::clone(&found);
                thread::spawn(move || relay(client, next, is_framed, &found));
            }
        });
        Ok(Self { address, is_framed, offers })
    }

    /// Where the client connects to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Repeats what was recorded, in any order, until it is done.
    pub fn repeat(&self, server: SocketAddr, seed: u64, late: &Late, done: &AtomicBool) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut open = VecDeque::new();
        while !done.load(SeqCst) {
            thread::sleep(Duration::from_millis(random.u64(5..60)));
            let offers = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
            // the latest more often than others
            let most = if random.bool() { 2 } else { 1000 };
            let back = random.usize(..offers.len().clamp(1, most));
            let Some(offer) = offers.iter().nth_back(back).cloned() else { continue };
            drop(offers);
            // the server may be full of them
            let Ok((stream, answer)) = ask(server, &offer) else { continue };
            late.repeated.fetch_add(1, SeqCst);
            let is_refused =
                !token(&offer, self.is_framed).is_some_and(|token| has(&answer, &token));
            late.refused.fetch_add(u64::from(is_refused), SeqCst);
            open.push_back(stream);
            open.drain(..open.len().saturating_sub(OPEN));
        }
    }
}

/// Passes a connection on, and remembers its offer when it is over.
fn relay(client: TcpStream, next: SocketAddr, is_framed: bool, found: &Mutex<Vec<Vec<u8>>>) {
    let Ok(server) = TcpStream::connect(next) else { return };
    let (Ok(from), Ok(to)) = (server.try_clone(), client.try_clone()) else { return };
    thread::spawn(move || pass(from, to, |_| {}));
    let mut begun = Vec::new();
    pass(client, server, |bytes| {
        if end_of_offer(&begun, is_framed).is_none() {
            begun.extend_from_slice(bytes);
        }
    });
    if let Some(end) = end_of_offer(&begun, is_framed) {
        begun.truncate(end);
        found.lock().unwrap_or_else(PoisonError::into_inner).push(begun);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, mut seen: impl FnMut(&[u8])) {
    let _ = (from.set_nodelay(true), to.set_nodelay(true));
    let mut buffer = [0; 16 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            Ok(count) => {
                seen(&buffer[..count]);
                if to.write_all(&buffer[..count]).is_ok() {
                    continue;
                }
            }
            Err(_) => {}
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
        return;
    }
}

/// Sends an offer on a connection of its own; returns that with what comes of it.
fn ask(server: SocketAddr, offer: &[u8]) -> io::Result<(TcpStream, Vec<u8>)> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(offer)?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    while !has(&answer, b" received=") {
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => answer.extend_from_slice(&buffer[..count]),
        }
    }
    Ok((stream, answer))
}

/// Where the offer ends, if it has come whole: a head and a masked frame of less than 126 bytes, or a prefix of two
/// bytes and what it counts.
fn end_of_offer(bytes: &[u8], is_framed: bool) -> Option<usize> {
    let end = match is_framed {
        true => 2 + usize::from(u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?])),
        false => {
            let frame = bytes.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
            frame + 6 + usize::from(*bytes.get(frame + 1)? & 0x7f)
        }
    };
    (bytes.len() >= end).then_some(end)
}

/// The session's, if the offer names one.
fn token(offer: &[u8], is_framed: bool) -> Option<Vec<u8>> {
    let text: Vec<u8> = match is_framed {
        true => offer[2..].to_vec(),
        false => {
            let frame = offer.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
            let (mask, masked) = (&offer[frame + 2..frame + 6], &offer[frame + 6..]);
            masked.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()
        }
    };
    let token = text.split(|byte| *byte == b' ').nth(1)?;
    (token != b"new").then(|| token.to_vec())
}

fn has(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

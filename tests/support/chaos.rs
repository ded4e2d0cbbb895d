//! A proxy that cuts connections at random byte positions.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

/// Forwards to a server and cuts each connection after a random number of bytes, until it has
/// cut often enough: with a reset, an end of stream, or by falling silent. Where it cuts is
/// where it cuts: inside a handshake, a header, a payload.
#[derive(Debug)]
pub struct Cutter {
    address: SocketAddr,
    cuts: Arc<AtomicU32>,
}

#[derive(Debug, Clone, Copy)]
enum Cut {
    Reset,
    EndOfStream,
    Silence,
}

impl Cutter {
    /// Cuts `most` times, after 1 to `within` bytes from the client each; the seed makes the
    /// places repeatable.
    pub fn start(server: SocketAddr, most: u32, within: usize, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let cuts = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&cuts);
        thread::spawn(move || {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut silent = Vec::new();
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                let Ok(server) = TcpStream::connect(server) else { continue };
                let number = counted.load(SeqCst);
                let budget = if number < most { random.usize(1..within) } else { usize::MAX };
                let cut = match random.u8(0..10) {
                    0..4 => Cut::Reset,
                    4..8 => Cut::EndOfStream,
                    _ => Cut::Silence,
                };
                if let Some(held) = forward(client, server, budget, cut) {
                    silent.push(held);
                }
                counted.fetch_add(u32::from(budget != usize::MAX), SeqCst);
            }
        });
        Self { address, cuts }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn cuts(&self) -> u32 {
        self.cuts.load(SeqCst)
    }
}

/// Serves one connection to its end; returns the socket of a client that is to hear nothing
/// more.
fn forward(
    mut client: TcpStream,
    mut server: TcpStream,
    mut budget: usize,
    cut: Cut,
) -> Option<TcpStream> {
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (mut from, mut to) = (server.try_clone().ok()?, client.try_clone().ok()?);
    let back = thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
    });
    let mut buffer = [0; 4096];
    while budget > 0 {
        let room = buffer.len().min(budget);
        let Ok(count @ 1..) = client.read(&mut buffer[..room]) else { break };
        if server.write_all(&buffer[..count]).is_err() {
            break;
        }
        budget -= count;
    }
    // the server sees an end either way, so that it can serve the next connection; before the
    // answers stop, what it is about to say may or may not get through
    let silence = budget == 0 && matches!(cut, Cut::Silence);
    if budget == 0 && matches!(cut, Cut::Reset) {
        let _ = SockRef::from(&client).set_linger(Some(Duration::ZERO));
    }
    let held = silence.then(|| client.try_clone().ok()).flatten();
    let _ = server.shutdown(Shutdown::Both);
    if !silence {
        let _ = client.shutdown(Shutdown::Both);
    }
    let _ = back.join();
    held
}

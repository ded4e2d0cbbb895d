//! What `AtLeastOnce` costs against `AtMostOnce`, and sessions that can be resumed against
//! `AtLeastOnce`, in one run.
//!
//! ```text
//! cargo run --release --example delivery_cost
//! ```
//!
//! Sends 1 KiB messages to a peer that only reads, until it has read them all: the first two to one
//! on tungstenite, the others to this crate's own server. Prints medians of interleaved rounds and
//! their ratio.

use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use everlink::config::{Delivery, Resume};
use everlink::{Client, ClientBuilder, Server, Session};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const SIZE: usize = 1024;
const COUNT: usize = 200_000;
const ROUNDS: usize = 9;

fn main() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let Ok(mut socket) = tungstenite::accept(stream) else { continue };
            let mut count = 0;
            while let Ok(message) = socket.read() {
                count += usize::from(message.is_binary());
                if count == COUNT && message.is_binary() && socket.send("done".into()).is_err() {
                    break;
                }
            }
        }
    });
    let server = Server::builder().resume(Resume::new()).bind("127.0.0.1:0", read)?;
    let own = server.local_addr();
    let mut times = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        let with = |delivery| move |builder: ClientBuilder| builder.delivery(delivery);
        times[0].push(send(address, with(Delivery::AtMostOnce))?);
        times[1].push(send(address, with(Delivery::AtLeastOnce))?);
        times[2].push(send(own, with(Delivery::AtLeastOnce))?);
        times[3].push(send(own, |builder| builder.resume(Resume::new()))?);
    }
    let rates = times.map(|mut times| {
        times.sort();
        COUNT as f64 / times[ROUNDS / 2].as_secs_f64()
    });
    let row = |names: [&str; 2], rates: [f64; 2]| {
        let [first, second] = rates;
        println!("1 KiB messages | {}, 1/s | {}, 1/s | ratio", names[0], names[1]);
        println!("send | {first:.0} | {second:.0} | {:.2}", second / first);
    };
    row(["AtMostOnce", "AtLeastOnce"], [rates[0], rates[1]]);
    row(["AtLeastOnce to a Server", "resumable"], [rates[2], rates[3]]);
    Ok(())
}

/// Reads them all, and says so.
fn read(session: Session) {
    if session.iter().take(COUNT).count() == COUNT {
        let _ = session.send("done");
        session.iter().for_each(drop);
    }
}

fn send(
    address: SocketAddr,
    prepare: impl FnOnce(ClientBuilder) -> ClientBuilder,
) -> Result<Duration> {
    let client = prepare(Client::builder(format!("ws://{address}"))).connect()?;
    let begun = Instant::now();
    for _ in 0..COUNT {
        // each with a payload of its own, as a program has them: clones of one would have all
        // threads count the references of that one
        client.send(vec![7; SIZE])?;
    }
    client.recv()?;
    Ok(begun.elapsed())
}

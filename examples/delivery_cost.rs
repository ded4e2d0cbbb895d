//! What `AtLeastOnce` costs against `AtMostOnce`, in one run.
//!
//! ```text
//! cargo run --release --example delivery_cost
//! ```
//!
//! Sends 1 KiB messages to a peer that only reads, until it has read them all; prints medians of
//! interleaved rounds and their ratio.

use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use everlink::{Client, Delivery};

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
    let mut times = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        times[0].push(send(address, Delivery::AtMostOnce)?);
        times[1].push(send(address, Delivery::AtLeastOnce)?);
    }
    let rates = times.map(|mut times| {
        times.sort();
        COUNT as f64 / times[ROUNDS / 2].as_secs_f64()
    });
    println!("1 KiB messages | AtMostOnce, 1/s | AtLeastOnce, 1/s | ratio");
    println!("send | {:.0} | {:.0} | {:.2}", rates[0], rates[1], rates[1] / rates[0]);
    Ok(())
}

fn send(address: SocketAddr, delivery: Delivery) -> Result<Duration> {
    let client = Client::builder(&format!("ws://{address}")).delivery(delivery).connect()?;
    let begun = Instant::now();
    for _ in 0..COUNT {
        // each with a payload of its own, as a program has them: clones of one would have all
        // threads count the references of that one
        client.send(vec![7; SIZE])?;
    }
    client.recv()?;
    Ok(begun.elapsed())
}
